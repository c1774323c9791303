//! The servers of a run: processes of the program, as a user starts them, that are killed, paused and looked at.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use axum::http::Method;
use larder_testkit::chaos::site::Site;
use larder_testkit::chaos::{Chronicle, Fleet, History, Life, Moment};
use larder_testkit::history::World;
use larder_testkit::port::Port;
use larder_testkit::process::Running;
use larder_testkit::program;
use larder_testkit::wait;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::wire::{Asked, Connection, NoAnswer};

/// How many there are.
pub const SERVERS: usize = 2;

/// One that lives for ever and whose tags come with each put; one that is strict; one whose entries expire.
pub const NAMESPACES: [&str; 3] = ["plain", "strict", "aged"];
pub const SYMBOLS: usize = 4;
pub const PARTS: usize = 3;

/// The server that refuses what it cannot guarantee, in all namespaces.
const STRICT: usize = 1;

/// The limit of promise G3 in this run.
const MAX_STALENESS: Duration = Duration::from_millis(500);

/// How long a server may take to end in order.
const END_MAX: Duration = Duration::from_secs(20);

/// How long a server that is looked at may take to answer.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How often a server is looked at while clients are at work.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server in one of its lives.
pub struct Up {
    pub life: Life,
    pub addr: SocketAddr,
    /// Odd while it is paused.
    pauses: AtomicU64,
    /// Nothing once it was killed.
    process: Mutex<Option<Running>>,
    /// Held while it is down, too, if the next life is to have the same.
    port: Arc<Port>,
}

impl Up {
    /// Tells, when it is called twice, whether the server stood still at any time in between.
    pub fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Acquire)
    }

    /// Its process, if it has one.
    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().expect("nobody panics with it")
    }

    /// Ends it in order, as a supervisor does.
    pub fn end(&self) {
        let mut process = self.process().take().expect("it was not killed");
        assert!(process.end(END_MAX), "server {:?} does not end", self.life);
    }
}

/// Whether a server was paused since it was asked how often it had been.
pub fn was_paused(before: u64, now: u64) -> bool {
    before != now || now % 2 == 1
}

/// All servers, and what their clients have in common.
pub struct Servers {
    pub world: World,
    pub chronicle: Chronicle,
    /// Whether the clients of this stretch are to end.
    pub over: AtomicBool,
    /// The latest position that each server gave for a change, handed to the readers of the others.
    pub board: Mutex<[Option<String>; SERVERS]>,
    program: PathBuf,
    urls: Vec<String>,
    /// Nothing while one is down. It is taken away before the process is killed, so that whoever finds the same life before and
    /// after it has connected is connected to that life.
    up: Vec<RwLock<Option<Arc<Up>>>>,
    folder: TempDir,
    runtime: Handle,
}

impl Servers {
    pub fn start(program: &Path, site: &Site, runtime: &Handle) -> Self {
        let servers = Servers {
            world: World::new(&NAMESPACES, SYMBOLS, PARTS),
            chronicle: Chronicle::begin(),
            over: AtomicBool::new(false),
            board: Mutex::default(),
            program: program.to_owned(),
            urls: (0..SERVERS).map(|server| site.url(server)).collect(),
            up: (0..SERVERS).map(|_| RwLock::default()).collect(),
            folder: tempfile::tempdir().expect("temporary files can be written"),
            runtime: runtime.clone(),
        };
        for server in 0..SERVERS {
            servers.put(server, Some(servers.launch(server, None)));
        }
        servers
    }

    pub fn now(&self) -> Moment {
        self.chronicle.now()
    }

    /// A server, unless it is down.
    pub fn up(&self, server: usize) -> Option<Arc<Up>> {
        self.up[server].read().expect("nobody panics with it").clone()
    }

    /// A server is there from now on, or is not, and the one that was.
    fn put(&self, server: usize, up: Option<Arc<Up>>) -> Option<Arc<Up>> {
        std::mem::replace(&mut *self.up[server].write().expect("nobody panics with it"), up)
    }

    /// Whether a life goes on.
    pub fn lives(&self, life: Life) -> bool {
        life.instance < SERVERS && self.up(life.instance).is_some_and(|up| up.life == life)
    }

    /// A server for a moment, with nothing in memory.
    pub fn newcomer(&self) -> Arc<Up> {
        self.launch(SERVERS, None)
    }

    /// Whether a namespace is strict on a server, and its limit.
    pub fn strict(server: usize, namespace: &str) -> Option<u64> {
        (server == STRICT || namespace == "strict").then_some(MAX_STALENESS.as_nanos() as u64)
    }

    /// Starts a server, and returns when it listens. Its log is shown if it does not.
    fn launch(&self, server: usize, port: Option<Arc<Port>>) -> Arc<Up> {
        let life = self.chronicle.begin_life(server);
        let port = port.unwrap_or_else(|| Arc::new(Port::reserve().expect("there is a free port")));
        let addr: SocketAddr = (Ipv4Addr::LOCALHOST, port.number()).into();
        let [config, log] = ["toml", "log"].map(|kind| self.folder.path().join(format!("{server}.{kind}")));
        std::fs::write(&config, self.config(server, addr)).expect("temporary files can be written");
        let process = program::serve(&self.program, &config, (&log, "error"), addr);
        Arc::new(Up { life, addr, pauses: AtomicU64::new(0), process: Mutex::new(Some(process)), port })
    }

    fn config(&self, server: usize, addr: SocketAddr) -> String {
        let url = &self.urls[server % SERVERS];
        let mode = if server == STRICT { "strict" } else { "available" };
        // So little that there are queues which are full, and streams which have gone on.
        let queue = if server == STRICT { "1 MiB" } else { "8000 B" };
        let ms = MAX_STALENESS.as_millis();
        let tags = r#"tags = ["symbol:{1}", "part:{2}"]"#;
        format!(
            r#"
memory = "128 KiB"
index = "32 KiB"

[http]
listen = "{addr}"
head_timeout = "5m"

[redis]
url = "{url}"
instance = "server-{server}"
mode = "{mode}"
max_staleness = "{ms}ms"
heartbeat = "50ms"
connect_timeout = "400ms"
operation_timeout = "400ms"
stream_len = 300
queue_bytes = "{queue}"

[namespaces.strict]
mode = "strict"
{tags}

[namespaces.aged]
ttl = "300ms"
stale_while_revalidate = "100ms"
{tags}
"#
        )
    }

    /// What a server says of itself, asked over a connection of its own.
    pub async fn stats(&self, up: &Up) -> Option<Value> {
        let mut connection = Connection::open(up.addr, up.life, LOOK_MAX).await.ok()?;
        stats(&mut connection).await
    }

    /// Looks at a server again and again: whether it has something queued.
    pub async fn observe(self: Arc<Self>, server: usize) -> History {
        let mut history = History::default();
        let mut connection: Option<Connection> = None;
        while !self.over.load(Ordering::Acquire) {
            if let Ok(Some(mut connected)) = self.connected(server, connection.take()).await {
                let asked = self.now();
                if let Some(stats) = stats(&mut connected).await {
                    if queued(&stats) == Some(0) {
                        history.drained.push((connected.life, asked, self.now()));
                    }
                    connection = Some(connected);
                }
            }
            wait::pass(LOOK_EVERY).await;
        }
        history
    }

    /// A connection to a server as it is now: the one that there is, or another. Nothing while the server is down or stands still.
    ///
    /// # Errors
    /// When it takes none though it lives.
    pub async fn connected(&self, server: usize, there: Option<Connection>) -> Result<Option<Connection>, String> {
        let Some(up) = self.up(server) else { return Ok(None) };
        if let Some(there) = there.filter(|there| there.life == up.life && there.is_open()) {
            return Ok(Some(there));
        }
        match Connection::open(up.addr, up.life, LOOK_MAX).await {
            Ok(opened) => Ok(Some(opened).filter(|_| self.lives(up.life))),
            Err(NoAnswer::Broken(why)) if self.lives(up.life) => Err(why),
            Err(_) => Ok(None),
        }
    }
}

async fn stats(connection: &mut Connection) -> Option<Value> {
    let reply = connection.ask(Asked::new(Method::GET, "/v1/stats"), LOOK_MAX).await.ok()?;
    reply.status.is_success().then(|| reply.json())
}

/// Changes of a server that wait to be told to the others.
pub fn queued(stats: &Value) -> Option<u64> {
    stats["log"]["shared"]["queued"].as_u64()
}

impl Fleet for Servers {
    fn kill(&self, server: usize) {
        // Two faults at once may want the same.
        let Some(up) = self.put(server, None) else { return };
        drop(up.process().take());
        // Now and then it comes back elsewhere, as in a cluster of machines.
        let port = (up.life.number % 2 == 0).then(|| up.port.clone());
        self.put(server, Some(self.launch(server, port)));
    }

    fn can_pause(&self) -> bool {
        true
    }

    fn pause(&self, server: usize, time: Duration) {
        let Some(up) = self.up(server) else { return };
        up.pauses.fetch_add(1, Ordering::AcqRel);
        up.process().as_ref().into_iter().for_each(|process| drop(process.stop()));
        // Not longer than it lives: another fault may kill it.
        let was_killed = wait::until(time, || up.process().is_none());
        if !was_killed {
            up.process().as_ref().into_iter().for_each(|process| drop(process.go_on()));
        }
        up.pauses.fetch_add(1, Ordering::AcqRel);
    }

    fn unrecovered(&self) -> Option<String> {
        (0..SERVERS).find_map(|server| {
            let Some(up) = self.up(server) else { return Some(format!("server {server} is down")) };
            let stats = self.runtime.block_on(self.stats(&up)).unwrap_or_default();
            let shared = &stats["log"]["shared"];
            let heard = shared["unheard_for_ms"].as_u64().is_some_and(|ms| u128::from(ms) < MAX_STALENESS.as_millis());
            let is_well = shared["connected"] == true && queued(&stats) == Some(0) && heard;
            (!is_well).then(|| format!("server {server}: {shared}"))
        })
    }

    fn note(&self, what: String) {
        self.chronicle.note(what);
    }
}
