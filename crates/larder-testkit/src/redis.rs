//! Real Redis servers for tests: child processes on loopback ports and in folders of their own, ended with the fixture.
//!
//! - [`Server`]: one `redis-server`, to be killed, restarted, paused.
//! - [`SentinelSet`]: a master, two replicas and three sentinels, which fail over.
//! - [`Cluster`]: three masters and three replicas, which fail over and hand slots to each other.
//! - [`Certificates`]: an authority for a moment, for servers and clients that speak TLS.
//!
//! The fixtures talk to their servers with a small blocking client of their own ([`Connection`]), so that what they
//! arrange depends on no client library that may be under test. They block: a test that is async starts them
//! before, or hands them to a blocking thread.
//!
//! Where a program that a fixture needs is not installed, the test skips and says so:
//!
//! ```
//! use larder_testkit::redis::{Server, ServerOptions, or_skip};
//!
//! let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
//! assert_eq!(server.command(&["PING"]).expect("an answer").text(), "PONG");
//! ```

mod cluster;
mod command;
mod sentinel;
mod server;
mod tls;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

pub use cluster::{Cluster, Migration, SLOTS, slot_of};
pub use command::{CommandError, Connection, Reply};
pub use sentinel::SentinelSet;
pub use server::{AppendOnly, Server, ServerOptions, version};
pub use tls::{Certificates, Tls};

use crate::process;

/// Why a fixture did not start.
#[derive(Debug)]
pub enum StartError {
    /// This program is not in `PATH`. The test that needs it skips: see [`or_skip`].
    NotInstalled(&'static str),
    /// Everything is here, and yet it did not start; the text says what was tried and ends with the server's own log.
    Failed(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NotInstalled(program) => write!(f, "{program} is not installed; `cargo xtask setup` brings it"),
            StartError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for StartError {}

/// The fixture, or nothing where its program is not installed; then the reason is on standard error, with the test's name.
///
/// # Panics
///
/// If the fixture failed to start though its program is here: that is no reason to skip.
pub fn or_skip<T>(started: Result<T, StartError>) -> Option<T> {
    match started {
        Ok(fixture) => Some(fixture),
        Err(error @ StartError::NotInstalled(_)) => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Past the test harness, which shows what is printed only if the test fails; and in one piece.
            drop(std::io::stderr().write_all(format!("SKIPPED: {test}: {error}\n").as_bytes()));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Where a program is.
fn installed(program: &'static str) -> Result<PathBuf, StartError> {
    process::find(program).ok_or(StartError::NotInstalled(program))
}
