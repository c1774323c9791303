//! The program `larder` as a user starts it: in a process of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Running;
use crate::wait;

/// How long it may take until it listens. It takes milliseconds.
const START_MAX: Duration = Duration::from_secs(30);

/// A command that runs it with these arguments. What is set where the tests run must not decide what they find.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let set = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("LARDER_"));
    set.for_each(|name| {
        command.env_remove(name);
    });
    command.args(arguments);
    command
}

/// Serves with a configuration by which it listens on an address, and returns when it does. What it logs at this level goes to the end of
/// a file.
///
/// # Panics
/// Where it does not listen in time, with what it said.
pub fn serve(program: impl AsRef<OsStr>, config: &Path, (log, level): (&Path, &str), addr: SocketAddr) -> Running {
    let said = File::options().create(true).append(true).open(log).expect("temporary files can be written");
    let mut command = command(program, &["serve", "--config"]);
    command.arg(config).env("LARDER_LOG", level);
    let mut process = Running::start(&command, &said).expect("the program was built for this test");
    let mut ended = false;
    let listens = wait::until(START_MAX, || {
        ended = process.has_ended();
        ended || TcpStream::connect(addr).is_ok()
    });
    let told = || std::fs::read_to_string(log).unwrap_or_default();
    assert!(listens && !ended, "larder does not listen on {addr}; it said:\n{}", told());
    process
}
