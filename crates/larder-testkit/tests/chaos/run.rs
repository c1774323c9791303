//! A run: instances of larder over one Redis, clients that use them, faults that shake them, and quiet moments in which
//! everything must be right and what was recorded is checked.

#[path = "client.rs"]
mod client;
#[path = "fleet.rs"]
mod fleet;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::Client;
use fleet::{Instances, open};
use larder::{Larder, Mutation, Names};
use larder_testkit::chaos::account::{Account, Course, gather};
use larder_testkit::chaos::report::Part;
use larder_testkit::chaos::site::{Site, Topology};
use larder_testkit::chaos::{Fault, History, Life, Mischief, Read};
use larder_testkit::history::{Found, Promise, World};
use larder_testkit::redis::StartError;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub use fleet::INSTANCES;
use fleet::{NAMESPACES, PARTS, SYMBOLS, Seen, found, place};

/// How long any operation may take: its own time-outs are well below.
pub const OPERATION_MAX: Duration = Duration::from_secs(5);

/// How often things are broken between two quiet moments.
const STRIKES: usize = 8;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topology: Topology,
    pub seed: u64,
    /// Clients of each instance.
    pub clients: usize,
    /// How long a client waits, on average, between two operations.
    pub pause: Duration,
    /// How long it goes on. It ends with a quiet moment.
    pub length: Duration,
    /// What may be broken.
    pub faults: Vec<Fault>,
    /// The rule that is taken away from all instances.
    pub mutation: Option<Mutation>,
    /// Whether to say how it goes.
    pub tells: bool,
}

/// Plays a plan to its end, or with a rule taken away until that is seen.
///
/// # Errors
/// When Redis is not installed, or does not come up.
pub fn play(plan: &Plan) -> Result<Part, StartError> {
    let site = Site::start(plan.topology, INSTANCES)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().enable_io().build();
    let runtime = runtime.expect("a test may start threads");
    let world = Arc::new(World::new(&NAMESPACES, SYMBOLS, PARTS));
    let fleet = Arc::new(Instances::start(&site, world, plan.mutation, runtime.handle()));
    let mut mischief = Mischief::new(&site, &*fleet, INSTANCES, plan.seed);
    let mut account = Account::default();
    let course = Course { length: plan.length, until_violated: plan.mutation.is_some(), tells: plan.tells };
    course.follow(&plan.topology.to_string(), &mut account, |account, number, until| {
        let mut history = stretch(plan, number, until, &runtime, &fleet, &mut mischief, &mut account.part);
        history.join(runtime.block_on(quiet(&fleet, &mut account.part)));
        history.join(fleet.chronicle.take_notes());
        // Only what a reader was given counts against a missing rule: that positions are out of order is a symptom.
        let counts = |promise| plan.mutation.is_none() || promise != Promise::Order;
        account.settle(&fleet.world, history, fleet.now(), counts, |life| fleet.running(life.instance).life == life);
    });
    let mut part = account.part;
    part.damage.join(mischief.damage());
    part.violations.extend(part.damage.unrecovered.iter().map(|what| format!("Liveness: {what}")));
    runtime.block_on(fleet.close());
    drop(fleet);
    runtime.shutdown_timeout(OPERATION_MAX);
    Ok(part)
}

/// Clients work while things are broken.
fn stretch(
    plan: &Plan,
    round: u64,
    until: Instant,
    runtime: &Runtime,
    fleet: &Arc<Instances>,
    mischief: &mut Mischief<'_>,
    part: &mut Part,
) -> History {
    fleet.over.store(false, Ordering::Release);
    let clients: Vec<JoinHandle<_>> = (0..INSTANCES * plan.clients)
        .map(|number| {
            let rng = fastrand::Rng::with_seed(plan.seed ^ (number as u64 + 1) << 32 ^ round << 8);
            runtime.spawn(Client::new(fleet.clone(), number % INSTANCES, rng, plan.pause).work())
        })
        .collect();
    let observers: Vec<JoinHandle<_>> = (0..INSTANCES).map(|number| runtime.spawn(fleet.clone().observe(number))).collect();
    // With a rule taken away the first violation ends the run, so it is looked for often.
    let strikes = if plan.mutation.is_some() { 2 } else { STRIKES };
    mischief.strike_until(until, strikes, &plan.faults);
    fleet.over.store(true, Ordering::Release);
    gather(runtime, part, clients, observers)
}

/// All is quiet: nothing is queued, all have applied everything, and what each tier has is read.
async fn quiet(fleet: &Arc<Instances>, part: &mut Part) -> History {
    let mut history = History::default();
    let mut complain = |what: String| part.violations.push(format!("Liveness: when all was quiet, {what}"));
    let settled = tokio::time::timeout(OPERATION_MAX, async {
        while larder_testkit::chaos::Fleet::unrecovered(&**fleet).is_some() {
            tokio::task::yield_now().await;
        }
    });
    if settled.await.is_err() {
        complain("not all instances had recovered".to_owned());
        return history;
    }
    let running: Vec<_> = (0..INSTANCES).map(|number| fleet.running(number)).collect();
    for running in &running {
        let asked = fleet.now();
        if running.shared().queued == 0 {
            history.drained.push((running.life, asked, fleet.now()));
        }
    }
    let receipt = match running[0].larder.invalidate(Names::new().tag("nobody has it")).await {
        Ok(receipt) if !receipt.is_queued() => receipt,
        other => {
            complain(format!("an invalidation was not appended: {other:?}"));
            return history;
        }
    };
    for running in &running {
        if let Err(error) = running.larder.reach(receipt.position(), OPERATION_MAX).await {
            complain(format!("instance {:?} did not reach {}: {error}", running.life, receipt.position()));
        }
        // A connection may drop once more while all else is quiet; what waits is then written on the next.
        let flushed = tokio::time::timeout(OPERATION_MAX, async {
            while running.larder.flush().await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        if flushed.await.is_err() {
            complain(format!("instance {:?} did not write what waits: {:?}", running.life, running.larder.stats().backing));
        }
    }
    let newcomer_life = fleet.chronicle.begin_life(INSTANCES);
    let newcomer = open(fleet.world_url(), INSTANCES, &fleet.settings).await;
    for (life, larder) in running.iter().map(|running| (running.life, &running.larder)).chain([(newcomer_life, &newcomer)]) {
        history.join(read_everything(fleet, life, larder).await);
    }
    drop(newcomer.close().await);
    part.quiet += 1;
    history
}

/// Every key, from memory and past it.
async fn read_everything(fleet: &Instances, life: Life, larder: &Larder) -> History {
    let mut history = History::default();
    for (subject, of) in fleet.world.subjects().iter().enumerate() {
        let space = larder.namespace::<Seen>(of.namespace).expect("every name is a namespace");
        let mut note = |began, found, claims, what| {
            let ended = fleet.now();
            history.reads.push(Read { life, began, ended, subject, at_least: None, claims, strict: None, quiet: true, found, what });
        };
        let began = fleet.now();
        if let Ok(peeked) = space.peek(of.key()).await {
            let claims = peeked.as_ref().and_then(|answer| answer.position).map(place);
            note(began, peeked.map_or(Found::Nothing, |answer| found(&answer.value)), claims, "a last peek");
        }
        let began = fleet.now();
        if let Ok(got) = space.get(of.key()).await {
            note(began, got.as_deref().map_or(Found::Nothing, found), None, "a last get");
        }
    }
    history
}
