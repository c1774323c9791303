//! A server on a free port, and a client so plain that it can send what no library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use larder::{Builder, Larder};
use larder_server::access::Door;
use larder_server::backup::BackupSettings;
use larder_server::backup::runs::Backups;
use larder_server::cleanup::Cleaner;
use larder_server::health::Watched;
use larder_server::jobs::schedule::Schedule;
use larder_server::jobs::{self, Definition, JobSettings, Missed, Pace, Works};
use larder_server::serve::{Serve, ServeError};
use larder_server::settings::{Guards, HttpLimits, RespSettings, UpkeepSettings, Webhooks};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server in this process, and the cache that it serves.
pub struct Server {
    pub addr: SocketAddr,
    pub resp: Option<SocketAddr>,
    pub larder: Larder,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<JoinHandle<Result<(), ServeError>>>,
    /// Where its backups are.
    _backups: tempfile::TempDir,
}

impl Server {
    pub fn start(cache: Builder, limits: HttpLimits) -> Self {
        Self::start_draining(cache, limits, PATIENCE)
    }

    /// One that gives open requests so long to end.
    pub fn start_draining(cache: Builder, limits: HttpLimits, drain: Duration) -> Self {
        Self::start_guarded(cache, limits, drain, Webhooks::default())
    }

    /// One that takes events of these senders alone.
    pub fn guarded(webhooks: Webhooks) -> Self {
        Self::start_guarded(Larder::builder(), HttpLimits::default(), PATIENCE, webhooks)
    }

    fn start_guarded(cache: Builder, limits: HttpLimits, drain: Duration, webhooks: Webhooks) -> Self {
        Self::start_behind(cache, (limits, drain), webhooks, Door::open())
    }

    /// One that lets in who this door does, over HTTP and for clients of Redis.
    pub fn behind(cache: Builder, webhooks: Webhooks, door: Arc<Door>) -> Self {
        Self::start_behind(cache, (HttpLimits::default(), PATIENCE), webhooks, door)
    }

    /// One that looks after itself so, and is there for clients of Redis as well.
    pub fn looked_after(cache: Builder, upkeep: UpkeepSettings) -> Self {
        let resp = Some(([127, 0, 0, 1], 0).into());
        Self::start_with(cache, (HttpLimits::default(), PATIENCE), Webhooks::default(), Door::open(), (resp, upkeep))
    }

    fn start_behind(cache: Builder, limits: (HttpLimits, Duration), webhooks: Webhooks, door: Arc<Door>) -> Self {
        let resp = door.is_guarded().then_some(([127, 0, 0, 1], 0).into());
        Self::start_with(cache, limits, webhooks, door, (resp, UpkeepSettings::default()))
    }

    fn start_with(
        cache: Builder,
        (limits, drain): (HttpLimits, Duration),
        webhooks: Webhooks,
        door: Arc<Door>,
        (resp, upkeep): (Option<SocketAddr>, UpkeepSettings),
    ) -> Self {
        let backups = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (larder, bound) = runtime.block_on(async {
            let larder = cache.build().await.unwrap();
            let serve = Serve {
                larder: larder.clone(),
                http: ([127, 0, 0, 1], 0).into(),
                limits,
                webhooks,
                guards: Guards::default(),
                audit: None,
                resp: RespSettings { listen: resp, threads: 1, ..RespSettings::default() },
                door,
                is_strict: false,
                watched: Watched::default(),
                drain,
                history: None,
                upkeep,
                cleaner: Cleaner::of(&larder),
                jobs: Some(leap_days(&larder).await),
                backups: Some(Backups::new(larder.clone(), BackupSettings::in_folder(backups.path()))),
            };
            (larder, serve.bind().await.unwrap())
        });
        let (addr, resp) = (bound.http_addr(), bound.resp_addr());
        let ended = runtime.spawn(bound.run_until(async {
            if stopped.await.is_err() {
                // The test is over, and the runtime with it.
                std::future::pending::<()>().await;
            }
        }));
        Server { addr, resp, larder, runtime: Some(runtime), stop: Some(stop), ended: Some(ended), _backups: backups }
    }

    /// In memory, with the limits that a server has unless told otherwise.
    pub fn plain() -> Self {
        Self::start(Larder::builder(), HttpLimits::default())
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::to(self.addr, method, path)
    }

    pub fn get(&self, key: &str) -> Reply {
        self.request("GET", &format!("/v1/entries/{key}")).send()
    }

    pub fn put(&self, key: &str) -> Request {
        self.request("PUT", &format!("/v1/entries/{key}"))
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path).header("content-type", "application/json").body(body.to_string()).send()
    }

    /// Begins to stop.
    pub fn begin_stop(&mut self) {
        self.stop.take().expect("once").send(()).expect("it runs until it is told to stop");
    }

    /// How it ended, after [`begin_stop`](Self::begin_stop).
    pub fn wait(&mut self) -> Result<(), ServeError> {
        let ended = self.ended.take().expect("once");
        let runtime = self.runtime.as_ref().expect("until it is dropped");
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await }).expect("it ends in time").expect("it does not panic")
    }
}

/// A job that is due on leap days, so that nothing of it begins by itself in a test.
async fn leap_days(larder: &Larder) -> jobs::Running {
    let schedule = Schedule::parse("0 0 29 2 *", "UTC").expect("a schedule");
    let cleanup = Definition { missed: Missed::Skip, ..Definition::new("cleanup", schedule) };
    let settings = JobSettings { jobs: vec![cleanup], runs_kept: 20, ..JobSettings::default() };
    jobs::Running::begin(larder, None, &settings, Works::built_in(&Cleaner::of(larder), None), Pace::default()).await.expect("they begin")
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not waited for: a test that failed is not to hang as well.
        self.runtime.take().expect("only here").shutdown_background();
    }
}

/// A request to be.
pub struct Request {
    addr: SocketAddr,
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// To a server wherever it runs.
    pub fn to(addr: SocketAddr, method: &str, path: &str) -> Self {
        Request { addr, head: format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.head += &format!("{name}: {}\r\n", value.as_ref());
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn send(self) -> Reply {
        let Request { addr, head, body } = self;
        let mut connection = connect(addr);
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        connection.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        read_reply(&mut connection)
    }

    /// Sends the head, announcing a body of this length, and returns when the server asks for it: by then it has let the
    /// request in.
    pub fn send_head(self, body_len: usize) -> TcpStream {
        let mut connection = connect(self.addr);
        write!(connection, "{}content-length: {body_len}\r\nexpect: 100-continue\r\n\r\n", self.head).unwrap();
        let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        connection.read_exact(&mut asked).unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100"), "{}", asked.escape_ascii());
        connection
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Reads all there is; the request asked for the connection to be closed.
pub fn read_reply(connection: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let head = std::str::from_utf8(&bytes[..end]).expect("our heads are ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).expect("a status");
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: Vec<_> = lines.map(|line| header(line).expect("a header")).collect();
    assert!(!headers.iter().any(|(name, _)| name == "transfer-encoding"), "every answer has its length");
    Reply { status, headers, body: bytes[end + 4..].to_vec() }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(found, _)| found == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands there twice");
        value
    }

    pub fn json(&self) -> Value {
        assert!(self.header("content-type").is_some_and(|media| media.ends_with("json")), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body.escape_ascii()))
    }

    /// Asserts that it is this problem, and gives it.
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!((self.status, &problem["type"]), (status, &format!("urn:larder:problem:{slug}").into()), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }
}
