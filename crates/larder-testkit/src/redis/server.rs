//! One Redis server, a child process that can be killed, paused and started again. Sentinels are servers to it, too: it knows
//! how a process lives, not what several of them agree upon.
//!
//! ```text
//!   start ──▶ up ──pause──▶ paused ──resume──▶ up
//!             │ kill, shutdown (also of a paused one)
//!             ▼
//!            down ──restart──▶ up, on the same ports; with its data or without
//! ```

mod config;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

pub use config::{AppendOnly, ServerOptions};
pub(super) use config::{OWN_PASSWORD, OWN_USER};

use super::{CommandError, Connection, Reply, StartError, installed};
use crate::port::Port;
use crate::process::Running;
use crate::wait;

/// How long a server may take until it answers. It takes 20 ms; a machine that is busy with all other tests may need more.
const START_MAX: Duration = Duration::from_secs(30);

/// How long a command of the fixtures may take.
const COMMAND_MAX: Duration = Duration::from_secs(5);

/// How long an orderly shutdown may take: it waits for its replicas for ten seconds.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// How often to try other ports, on systems where a port cannot be reserved.
const PORT_ATTEMPTS: usize = 8;

/// How far above its port a node of a cluster talks to the others, which is Redis' own default.
const BUS_DISTANCE: u16 = 10_000;

/// A `redis-server` on ports of 127.0.0.1 and in a temporary folder of its own, which both stay its own while it is down. It
/// ends when this is dropped, also by a panic, and where the system allows also when our process is killed.
///
/// All methods take `&self`, so that threads of a test can share one.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    kind: Kind,
    ports: Ports,
    // Before the folder, so that it is killed before the folder is taken away.
    running: Mutex<Option<Running>>,
    folder: TempDir,
}

/// What kind of server it is: that decides its configuration.
#[derive(Debug)]
enum Kind {
    Data(Box<ServerOptions>),
    /// With these lines of configuration.
    Sentinel(Vec<String>),
}

#[derive(Debug)]
struct Ports {
    plain: Port,
    _bus: Option<Port>,
    tls: Option<Port>,
}

/// How an attempt to start failed.
enum Failed {
    /// Somebody else has the port.
    PortTaken,
    Otherwise(String),
}

impl Server {
    /// Starts a server and returns when it answers.
    ///
    /// # Errors
    ///
    /// When `redis-server` is not installed, or does not come up in half a minute; then the text has the end of its log.
    pub fn start(options: ServerOptions) -> Result<Self, StartError> {
        Server::start_as(Kind::Data(Box::new(options)))
    }

    /// Starts a sentinel with these lines of configuration.
    pub(super) fn start_sentinel(lines: Vec<String>) -> Result<Self, StartError> {
        Server::start_as(Kind::Sentinel(lines))
    }

    fn start_as(kind: Kind) -> Result<Self, StartError> {
        let program = installed("redis-server")?;
        let failed = |error: io::Error| StartError::Failed(format!("a Redis server has no place to run: {error}"));
        let folder = tempfile::Builder::new().prefix("redis").tempdir().map_err(failed)?;
        let ports = Ports::for_kind(&kind).map_err(failed)?;
        let mut server = Server { program, kind, ports, running: Mutex::new(None), folder };
        for _ in 0..PORT_ATTEMPTS {
            match server.configure().map_err(failed).map(|()| server.launch())? {
                Ok(()) => return Ok(server),
                Err(Failed::PortTaken) => server.ports = Ports::for_kind(&server.kind).map_err(failed)?,
                Err(Failed::Otherwise(reason)) => return Err(StartError::Failed(reason)),
            }
        }
        Err(StartError::Failed(format!("{PORT_ATTEMPTS} free ports were taken before a Redis server had them")))
    }

    /// The port for plain TCP.
    pub fn port(&self) -> u16 {
        self.ports.plain.number()
    }

    /// The address for plain TCP.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The port for TLS, where [`ServerOptions::tls`] is set.
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.tls.as_ref().map(Port::number)
    }

    /// The Unix socket, where [`ServerOptions::unix_socket`] is set.
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.options().filter(|options| options.unix_socket).map(|_| config::socket(self.folder.path()))
    }

    /// `redis://127.0.0.1:PORT`, with the password where [`ServerOptions::password`] is set.
    pub fn url(&self) -> String {
        match self.options().and_then(|options| options.password.as_deref()) {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port()),
            None => format!("redis://127.0.0.1:{}", self.port()),
        }
    }

    /// The folder where it keeps its data: the append-only file, the snapshot.
    pub fn data_folder(&self) -> PathBuf {
        config::data_folder(self.folder.path())
    }

    /// What it has logged since it was first started.
    pub fn log(&self) -> String {
        // One that cannot be read is as good as empty: it is for people who look for a reason.
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Runs one command over a connection of its own, as a user who may do everything, and waits 5 s for each part of
    /// the reply.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, and when the answer is an error.
    pub fn command<W: AsRef<[u8]>>(&self, words: &[W]) -> Result<Reply, CommandError> {
        self.command_within(COMMAND_MAX, words)
    }

    /// The same with another limit.
    ///
    /// # Errors
    ///
    /// As for [`Server::command`].
    pub fn command_within<W: AsRef<[u8]>>(&self, limit: Duration, words: &[W]) -> Result<Reply, CommandError> {
        self.connect(limit)?.command(words)
    }

    /// A connection to keep, for a transaction or a subscription, as a user who may do everything.
    ///
    /// # Errors
    ///
    /// When the server does not answer in time.
    pub fn connect(&self, limit: Duration) -> Result<Connection, CommandError> {
        let mut connection = Connection::open(self.address(), limit)?;
        if matches!(self.kind, Kind::Data(_)) {
            connection.command(&["AUTH", OWN_USER, OWN_PASSWORD])?;
        }
        Ok(connection)
    }

    /// A field of `INFO`, such as `role` or `connected_clients`; nothing if it is not there or the server does not answer.
    pub fn info(&self, field: &str) -> Option<String> {
        self.command(&["INFO", "everything"]).ok()?.field(field)
    }

    /// Whether its process is there; it may be paused.
    pub fn is_running(&self) -> bool {
        self.running().as_mut().is_some_and(|running| !running.has_ended())
    }

    /// Whether its process is there and is not paused.
    pub fn is_up(&self) -> bool {
        self.running().as_mut().is_some_and(|running| !running.has_ended() && !running.is_stopped())
    }

    /// Stops the process (`SIGSTOP`): its connections stay, and nobody answers on them. It is stopped when this returns.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn pause(&self) {
        self.running().as_ref().expect("only a running server can be paused").stop().expect("a child can be stopped");
    }

    /// Lets a paused process go on (`SIGCONT`). It then works on whatever it was sent meanwhile.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn resume(&self) {
        self.running().as_ref().expect("only a running server can go on").go_on().expect("a child can be continued");
    }

    /// Kills the process (`SIGKILL`), and returns when it is gone. What is left of its data is what the append-only file has.
    /// One that is down stays so.
    pub fn kill(&self) {
        // Dropping it kills it and waits.
        drop(self.running().take());
    }

    /// Shuts it down as an operator would, with a snapshot of its data, and returns when it is gone. One that is down stays so.
    ///
    /// # Panics
    ///
    /// If it does not end in 20 s.
    pub fn shutdown(&self) {
        let Some(mut running) = self.running().take() else { return };
        // The answer is that the connection ends.
        drop(self.command_within(SHUTDOWN_MAX, &["SHUTDOWN", "SAVE"]));
        assert!(running.wait(SHUTDOWN_MAX), "a Redis server did not shut down; its log:\n{}", self.log_end());
    }

    /// Kills it if it runs, and starts it again on the same ports and in the same configuration, with the data that it left
    /// behind or with none. Its place in a cluster it keeps in both cases. Returns when it answers.
    ///
    /// # Panics
    ///
    /// If it does not come up again.
    pub fn restart(&self, keep_data: bool) {
        self.kill();
        if !keep_data {
            fs::remove_dir_all(self.data_folder()).expect("a server that is down lets its data go");
            fs::create_dir(self.data_folder()).expect("a folder can be made where one was");
        }
        match self.launch() {
            Ok(()) => {}
            Err(Failed::PortTaken) => panic!("port {} was taken while its server was down", self.port()),
            Err(Failed::Otherwise(reason)) => panic!("{reason}"),
        }
    }

    fn options(&self) -> Option<&ServerOptions> {
        match &self.kind {
            Kind::Data(options) => Some(options),
            Kind::Sentinel(_) => None,
        }
    }

    /// Writes the configuration. Only once: sentinels, and servers told by sentinels, write what they learn into it.
    fn configure(&self) -> io::Result<()> {
        let folder = self.folder.path();
        fs::create_dir_all(self.data_folder())?;
        let lines = match &self.kind {
            Kind::Data(options) => config::of_server(options, folder, self.port(), self.tls_port()),
            Kind::Sentinel(lines) => config::of_sentinel(lines, folder, self.port()),
        };
        fs::write(self.config_file(), lines.join("\n") + "\n")
    }

    /// Starts the process and waits until it answers.
    fn launch(&self) -> Result<(), Failed> {
        let otherwise = |error: io::Error| Failed::Otherwise(format!("redis-server cannot be run: {error}"));
        let log_begins = fs::metadata(self.log_file()).map_or(0, |file| file.len());
        let log = self.open_log().map_err(otherwise)?;
        let mut command = Command::new(&self.program);
        command.arg(self.config_file());
        if let Kind::Sentinel(_) = self.kind {
            command.arg("--sentinel");
        }
        let mut running = Running::start(&command, &log).map_err(otherwise)?;
        let mut has_ended = false;
        let is_settled = wait::until(START_MAX, || {
            has_ended = running.has_ended();
            has_ended || self.answers()
        });
        if is_settled && !has_ended {
            *self.running() = Some(running);
            return Ok(());
        }
        if has_ended && self.log().get(log_begins as usize..).is_some_and(|log| log.contains("Address already in use")) {
            return Err(Failed::PortTaken);
        }
        let what = if has_ended { "ended by itself" } else { "does not answer" };
        Err(Failed::Otherwise(format!("a Redis server on port {} {what}; its log:\n{}", self.port(), self.log_end())))
    }

    /// Whether it is ready. An error is an answer, too, but for the one that says that it reads its data.
    fn answers(&self) -> bool {
        match self.command_within(Duration::from_secs(1), &["PING"]) {
            Ok(_) => true,
            Err(CommandError::Refused(error)) => !error.starts_with("LOADING"),
            Err(CommandError::Unanswered(_)) => false,
        }
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log_file())
    }

    /// The last lines of the log, for a failure's text.
    fn log_end(&self) -> String {
        const LINES: usize = 30;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("redis.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A test that panicked while it held the lock leaves a process that is as good as before.
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ports {
    fn for_kind(kind: &Kind) -> io::Result<Self> {
        let Kind::Data(options) = kind else {
            return Ok(Ports { plain: Port::reserve()?, _bus: None, tls: None });
        };
        let tls = options.tls.as_ref().map(|_| Port::reserve()).transpose()?;
        if options.cluster_node_timeout.is_some() {
            let (plain, bus) = Port::reserve_pair(BUS_DISTANCE)?;
            return Ok(Ports { plain, _bus: Some(bus), tls });
        }
        Ok(Ports { plain: Port::reserve()?, _bus: None, tls })
    }
}

/// The version of the `redis-server` in `PATH`: major and minor. For a test of something that older ones do not have, and
/// skips there.
///
/// # Errors
///
/// When it is not installed, or does not say.
pub fn version() -> Result<(u32, u32), StartError> {
    static VERSION: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let program = installed("redis-server")?;
    let version = VERSION.get_or_init(|| ask_version(&program));
    version.ok_or_else(|| StartError::Failed("redis-server does not say its version".to_owned()))
}

/// Of `Redis server v=7.0.15 sha=...`.
fn ask_version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split("v=").nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
