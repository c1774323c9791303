//! `cargo xtask model`: searches the freshness protocol's model for a stale read. The model itself is in the test kit.

use crate::command::Command;
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "model",
    arguments: "[--quick]",
    summary: "Search the freshness protocol's model for a stale read.",
    details: "Without arguments the bound is large and the search takes minutes; with --quick it is the bound\n\
              that the tests use. Any argument is passed on to the searcher, which explains its own.",
    run,
};

/// Runs the model's searcher, optimised: the number of states is what counts.
///
/// # Errors
/// When it does not build, or finds a violation.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut command = process::cargo(&["run", "--release", "--package", "larder-testkit", "--bin", "larder-model", "--"])?;
    process::run(command.args(arguments))
}
