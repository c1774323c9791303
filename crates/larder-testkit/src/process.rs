//! The child processes of the fixtures: found, started, stopped and continued, killed. It knows nothing of what they are.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::wait;

/// How long a signal may take to stop a process. It takes microseconds, on a machine that is not out of processors.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Where the program is, if it is in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A running child; killed when dropped, also by a panic. It is killed as well when our own process dies without
/// dropping anything, on systems that have `setpriv`.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a program with the arguments and the environment of this command; what it prints goes to the end of the log.
    ///
    /// # Errors
    ///
    /// When there is no such program, or the system has no room for it.
    pub fn start(program: &Command, log: &File) -> io::Result<Self> {
        let mut command = dying_with_us(Path::new(program.get_program()));
        command.args(program.get_args()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        spawn_from_lasting_thread(command).map(Running)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        // Where its state cannot be asked it is as good as gone.
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Stops it from running (`SIGSTOP`), and returns when it is stopped. Stopping one that is stopped does nothing.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn stop(&self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::STOP)?;
        // A signal is only on its way when `kill` returns.
        if wait::until(STOP_MAX, || self.is_stopped()) { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        // That it is stopped is not consumed by looking, so that the next look sees it as well.
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.0)), look), Ok(Some(status)) if status.stopped())
    }

    /// Lets it go on (`SIGCONT`). One that is not stopped goes on anyway.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn go_on(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), Signal::CONT)?)
    }

    /// Asks it to end (`SIGTERM`), and waits; `false` if it has not ended within the limit.
    pub fn end(&mut self, limit: Duration) -> bool {
        // It fails only where it has ended already.
        kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        self.wait(limit)
    }

    /// Waits until it has ended by itself; `false` if it has not within the limit.
    pub fn wait(&mut self, limit: Duration) -> bool {
        wait::until(limit, || self.has_ended())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// A child whose pipes and end are its starter's to see to; killed when dropped, also by a panic.
#[derive(Debug)]
pub struct Killed(Child);

impl Killed {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When there is no such program, or the system has no room for it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Killed)
    }
}

impl Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Killed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Both fail only where it has ended already. A stopped process is killed like any other.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// A command that runs the program such that the kernel kills it when the thread that started it ends. Without `unsafe` only
/// a program in between can ask for that; it then becomes the wanted one, under the same process number.
fn dying_with_us(program: &Path) -> Command {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    const DIE_WITH_PARENT: [&str; 2] = ["--pdeathsig", "KILL"];
    let setpriv = SETPRIV.get_or_init(|| {
        let found = find("setpriv")?;
        let mut trial = Command::new(&found);
        trial.args(DIE_WITH_PARENT).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success()).then_some(found)
    });
    let Some(setpriv) = setpriv else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(DIE_WITH_PARENT).arg("--").arg(program);
    command
}

/// Starts the child from a thread that lasts as long as our process, because the kernel takes the end of the starting
/// *thread* for our death: a server started from a thread that only helps to set up would die with it.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, to_do) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in to_do {
                // Nobody who asks goes away before the answer.
                drop(reply.send(command.spawn()));
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    starter.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}
