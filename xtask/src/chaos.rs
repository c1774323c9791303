//! `cargo xtask chaos`: several instances over a Redis that breaks, for as long as one likes. The run itself is in the test kit.

use crate::command::Command;
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "chaos",
    arguments: "--minutes N [--seed S]",
    summary: "Break the Redis under several instances, and check every promise.",
    details: "Half of the time goes to a single server behind a bad network, a quarter each to Sentinel and to\n\
              Cluster (`--only KIND` for one alone). At the end it prints a table; what was violated stands above\n\
              it, with the history that led there, and makes the command fail. The seed makes the schedule of\n\
              the faults and of each client; the threads go their own way.",
    run,
};

/// Runs it optimised: the number of operations is what counts.
///
/// # Errors
/// When it does not build, Redis is not installed, or a promise was broken.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut command = process::cargo(&["run", "--release", "--package", "larder-testkit", "--example", "chaos", "--"])?;
    process::run(command.args(arguments))
}
