//! A real PostgreSQL server for tests: a child process on a loopback port and in a folder of its own, to be killed and started
//! again, and ended with the fixture.
//!
//! It refuses to run as root, so where the tests do it runs as the user `postgres`, whom Debian's package brings.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::port::Port;
use crate::process::{self, Running};
use crate::redis::StartError;
use crate::wait;

/// How long a server may take until it answers, what it has to recover included.
const START_MAX: Duration = Duration::from_secs(60);

/// Where Debian keeps its versions, out of `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A `postgres` of the newest version that is installed, with a database `larder` of a user `larder` who needs no password. All
/// methods take `&self`, so that threads of a test can share one.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    user: Option<User>,
    port: Port,
    // Before the folder, so that it is killed before the folder is taken away.
    running: Mutex<Option<Running>>,
    folder: TempDir,
}

impl Postgres {
    /// Makes a database and starts its server; returns when it answers.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not come up in a minute; then the text has the end of its log.
    pub fn start() -> Result<Self, StartError> {
        let failed = |what: &str, error: io::Error| StartError::Failed(format!("{what}: {error}"));
        let programs = programs()?;
        let user = if rustix::process::geteuid().is_root() { Some(User::find("postgres")?) } else { None };
        let folder = tempfile::Builder::new().prefix("postgres").tempdir().map_err(|e| failed("no place for PostgreSQL to run", e))?;
        let port = Port::reserve().map_err(|e| failed("no port for PostgreSQL", e))?;
        let server = Postgres { programs, user, port, running: Mutex::new(None), folder };
        server.make_database().map_err(|e| failed("the folder of a database cannot be made", e))?;
        server.launch().map_err(StartError::Failed)?;
        Ok(server)
    }

    /// The port of 127.0.0.1 that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `postgres://larder@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        format!("postgres://larder@127.0.0.1:{}/postgres", self.port())
    }

    /// Kills the server (`SIGKILL`), and returns when it is gone. One that is down stays so.
    pub fn kill(&self) {
        // Dropping it kills it and waits. Its own children notice, and end.
        drop(self.running().take());
    }

    /// Kills it if it runs, and starts it again with the data that it left behind. Returns when it answers.
    ///
    /// # Panics
    ///
    /// If it does not come up again.
    pub fn restart(&self) {
        self.kill();
        self.launch().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        self.running().as_mut().is_some_and(|running| !running.has_ended())
    }

    /// Makes it another history of the same data, as a replica that is promoted begins one: then what was known may be lost.
    ///
    /// # Panics
    ///
    /// If it does not come up again.
    pub fn promote(&self) {
        self.kill();
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").expect("its folder can be written");
        if let Some(user) = &self.user {
            chown(signal, Some(user.uid), Some(user.gid)).expect("root gives its files away");
        }
        self.launch().unwrap_or_else(|reason| panic!("{reason}"));
        let promoted = self.command("pg_ctl").args(["promote", "-w", "-D"]).arg(self.data()).stdout(Stdio::null()).status();
        assert!(promoted.is_ok_and(|status| status.success()), "a standby can be promoted");
    }

    fn make_database(&self) -> io::Result<()> {
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o711))?;
        fs::create_dir(self.data())?;
        self.open_log()?;
        if let Some(user) = &self.user {
            for path in [self.data(), self.log_file()] {
                chown(path, Some(user.uid), Some(user.gid))?;
            }
        }
        let mut initdb = self.command("initdb");
        initdb.args(["-U", "larder", "--auth", "trust", "--no-sync", "--no-instructions", "--locale", "C", "-E", "UTF8", "-D"]);
        let output = initdb.arg(self.data()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\nshared_buffers = 16MB\n",
            self.port()
        );
        fs::write(self.data().join("postgresql.auto.conf"), settings)
    }

    /// Starts the server and waits until it answers. One that was killed may have left children that still have its memory; then
    /// it is tried again.
    fn launch(&self) -> Result<(), String> {
        let outcome = wait::until_some(START_MAX, || match self.launch_once() {
            Err(log) if log.contains("shared memory block") || log.contains("lock file") => None,
            other => Some(other),
        });
        outcome.unwrap_or_else(|| Err("what a server left behind did not go away".to_owned())).map_err(|log| {
            let lines: Vec<&str> = log.lines().collect();
            format!("PostgreSQL does not come up; its log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
        })
    }

    fn launch_once(&self) -> Result<(), String> {
        let read_log = || fs::read_to_string(self.log_file()).unwrap_or_default();
        let begins = read_log().len();
        let log = self.open_log().map_err(|error| error.to_string())?;
        let mut server = match &self.user {
            None => Command::new(self.programs.join("postgres")),
            Some(user) => user.command(&self.programs.join("postgres"))?,
        };
        server.arg("-D").arg(self.data());
        let mut running = Running::start(&server, &log).map_err(|error| error.to_string())?;
        let mut has_ended = false;
        let settled = wait::until(START_MAX, || {
            has_ended = running.has_ended();
            has_ended || self.answers()
        });
        if settled && !has_ended {
            *self.running() = Some(running);
            return Ok(());
        }
        Err(read_log().split_off(begins))
    }

    fn answers(&self) -> bool {
        let mut ready = self.command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-d", "postgres", "-U", "larder", "-p"]).arg(self.port().to_string());
        ready.status().is_ok_and(|status| status.success())
    }

    /// One of PostgreSQL's programs, as the user that the server is.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.stdin(Stdio::null()).current_dir("/");
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log_file())
    }

    /// A test that panicked while it held the lock leaves a process that is as good as before.
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another user than the one that runs the tests.
#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// By name, as the system lists it.
    fn find(name: &str) -> Result<Self, StartError> {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = users.lines().find_map(|line| {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
            Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        found.ok_or_else(|| StartError::Failed(format!("there is no user {name} to run a program as that refuses to be run by root")))
    }

    /// A command that becomes this user, and then the program. To be killed with us is asked for once more: the kernel forgets it where
    /// a process becomes another user.
    fn command(&self, program: &Path) -> Result<Command, String> {
        let setpriv = process::find("setpriv").ok_or("without setpriv PostgreSQL cannot be run as another user")?;
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL"]);
        command.args([format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]);
        command.arg("--").arg(program);
        Ok(command)
    }
}

/// Where the programs of the newest version are.
fn programs() -> Result<PathBuf, StartError> {
    let is_whole = |folder: &Path| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin"))).filter(|(_, folder)| is_whole(folder))
    });
    let in_path = || process::find("postgres").and_then(|program| program.parent().map(Path::to_owned)).filter(|folder| is_whole(folder));
    versions.max().map(|(_, folder)| folder).or_else(in_path).ok_or(StartError::NotInstalled("postgresql"))
}
