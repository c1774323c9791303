//! A run: servers over one Redis, clients that talk to them, faults that shake both, and quiet moments in which everything must be
//! right and what was recorded is checked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use larder_testkit::chaos::account::{Account, Course, gather};
use larder_testkit::chaos::report::Part;
use larder_testkit::chaos::site::{Site, Topology};
use larder_testkit::chaos::{Fault, Fleet, History, Mischief, Moment, Read};
use larder_testkit::history::{Found, Promise};
use larder_testkit::redis::StartError;
use larder_testkit::wait;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::OPERATION_MAX;
use super::client::{Client, Seen};
use super::double::{Double, Flaw};
use super::fleet::{SERVERS, Servers, Up, queued};
use super::wire::{Asked, Connection, Reply};

/// How often things are broken between two quiet moments.
const STRIKES: usize = 8;

/// What a run is made of.
pub struct Plan {
    pub seed: u64,
    /// Clients of each server.
    pub clients: usize,
    /// How long a client waits, on average, between two requests.
    pub pause: Duration,
    /// How long it goes on. It ends with a quiet moment.
    pub length: Duration,
    /// What may be broken.
    pub faults: &'static [Fault],
    /// What stands between the clients and the first server, and is to be caught.
    pub flaw: Option<Flaw>,
    /// Whether to say how it goes.
    pub tells: bool,
}

/// Plays a plan to its end, or with a double until that is caught.
///
/// # Errors
/// When Redis is not installed, or does not come up.
pub fn play(plan: &Plan) -> Result<Part, StartError> {
    let site = Site::start(Topology::Single, SERVERS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().enable_io().build();
    let runtime = runtime.expect("a test may start threads");
    let servers = Arc::new(Servers::start(Path::new(env!("CARGO_BIN_EXE_larder")), &site, runtime.handle()));
    let mut mischief = Mischief::new(&site, &*servers, SERVERS, plan.seed);
    let mut account = Account::default();
    let course = Course { length: plan.length, until_violated: plan.flaw.is_some(), tells: plan.tells };
    course.follow("over HTTP", &mut account, |account, number, until| {
        let mut history = stretch(plan, number, until, &runtime, &servers, &mut mischief, &mut account.part);
        history.join(quiet(&runtime, &servers, &mut account.part));
        history.join(servers.chronicle.take_notes());
        // What a double answers from memory may claim whatever it likes; that it is old is for the reads to show.
        let counts = |promise| plan.flaw.is_none() || promise != Promise::Order;
        account.settle(&servers.world, history, servers.now(), counts, |life| servers.lives(life));
    });
    let mut part = account.part;
    part.damage.join(mischief.damage());
    part.violations.extend(part.damage.unrecovered.iter().map(|what| format!("Liveness: {what}")));
    (0..SERVERS).for_each(|server| servers.up(server).expect("the last fault is over").end());
    runtime.shutdown_timeout(OPERATION_MAX);
    Ok(part)
}

/// Clients work while things are broken.
fn stretch(
    plan: &Plan,
    number: u64,
    until: Instant,
    runtime: &Runtime,
    servers: &Arc<Servers>,
    mischief: &mut Mischief<'_>,
    part: &mut Part,
) -> History {
    servers.over.store(false, Ordering::Release);
    let clients: Vec<JoinHandle<_>> = (0..SERVERS * plan.clients)
        .map(|client| {
            let mut rng = fastrand::Rng::with_seed(plan.seed ^ (client as u64 + 1) << 32 ^ number << 8);
            let server = client % SERVERS;
            let double = plan.flaw.filter(|_| server == 0).map(|flaw| Double::new(flaw, rng.fork()));
            runtime.spawn(Client::new(servers.clone(), server, rng, plan.pause, double).work())
        })
        .collect();
    let observers: Vec<JoinHandle<_>> = (0..SERVERS).map(|server| runtime.spawn(servers.clone().observe(server))).collect();
    mischief.strike_until(until, STRIKES, plan.faults);
    servers.over.store(true, Ordering::Release);
    gather(runtime, part, clients, observers)
}

/// All is quiet: nothing is queued, all have applied everything, and what each server and Redis have is read.
fn quiet(runtime: &Runtime, servers: &Servers, part: &mut Part) -> History {
    let mut history = History::default();
    let mut complain = |what: String| part.violations.push(format!("Liveness: when all was quiet, {what}"));
    if !wait::until(OPERATION_MAX, || servers.unrecovered().is_none()) {
        complain(format!("not all servers had recovered: {:?}", servers.unrecovered()));
        return history;
    }
    let all: Vec<Arc<Up>> = (0..SERVERS).map(|server| servers.up(server).expect("it has recovered")).collect();
    for up in &all {
        // What waits to be written to Redis is what a last reader is to find there.
        let written = wait::until(OPERATION_MAX, || {
            let asked = servers.now();
            let stats = runtime.block_on(servers.stats(up)).unwrap_or_default();
            if queued(&stats) == Some(0) {
                history.drained.push((up.life, asked, servers.now()));
            }
            stats["backing"]["queued"] == 0
        });
        if !written {
            complain(format!("server {:?} did not write what waits", up.life));
        }
    }
    let Some(position) = wait::until_some(OPERATION_MAX, || runtime.block_on(mark(&all[0]))) else {
        complain("an invalidation was not appended".to_owned());
        return history;
    };
    let newcomer = servers.newcomer();
    for up in all.iter().chain([&newcomer]) {
        match runtime.block_on(read_everything(servers, up, &position)) {
            Ok(read) => history.join(read),
            Err(why) => complain(format!("server {:?} did not answer: {why}", up.life)),
        }
    }
    newcomer.end();
    part.quiet += 1;
    history
}

/// Invalidates what nobody has, and gives its position.
async fn mark(up: &Up) -> Option<String> {
    let mut connection = Connection::open(up.addr, up.life, OPERATION_MAX).await.ok()?;
    let asked = Asked::post("/v1/invalidations", &json!({ "tags": ["nobody has it"] }));
    let reply = connection.ask(asked, OPERATION_MAX).await.ok()?;
    let receipt = reply.json();
    receipt["position"].as_str().filter(|_| reply.status == StatusCode::OK).map(str::to_owned)
}

/// Asks until it is not refused for the moment: on a machine that is busy a strict server may not have heard the log for a while.
async fn answered(servers: &Servers, connection: &mut Connection, asked: Asked) -> Result<(Moment, Reply), String> {
    let first = Instant::now();
    loop {
        let began = servers.now();
        let reply = connection.ask(asked.clone(), OPERATION_MAX).await.map_err(|why| format!("{why:?}"))?;
        let for_now = matches!(reply.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        if !for_now || first.elapsed() > OPERATION_MAX {
            return Ok((began, reply));
        }
    }
}

/// Every key, as of a position.
async fn read_everything(servers: &Servers, up: &Up, position: &str) -> Result<History, String> {
    let mut history = History::default();
    let mut connection = Connection::open(up.addr, up.life, OPERATION_MAX).await.map_err(|why| format!("{why:?}"))?;
    for (subject, of) in servers.world.subjects().iter().enumerate() {
        // The first may bring it into memory, where the second finds it.
        for what in ["a last read", "the read after it"] {
            let asked = Asked::entry(Method::GET, &of.whole_key()).header("larder-at-least", position);
            let (began, reply) = answered(servers, &mut connection, asked).await?;
            let found = match reply.status {
                StatusCode::OK => Seen::of(&reply.body).ok_or_else(|| format!("{:?} is what nobody put", reply.body))?.found(),
                StatusCode::NOT_FOUND => Found::Nothing,
                _ => return Err(format!("{reply:?}")),
            };
            let claims = reply.header("larder-position").filter(|_| found != Found::Nothing).and_then(|text| text.parse().ok());
            let (life, at_least, ended) = (up.life, position.parse().ok(), servers.now());
            history.reads.push(Read { life, began, ended, subject, at_least, claims, strict: None, quiet: true, found, what });
        }
    }
    Ok(history)
}
