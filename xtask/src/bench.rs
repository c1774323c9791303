//! `cargo xtask bench`: runs the library's benches, those that need the testkit's fixtures, and the program's. Only those: the test
//! harness of the library is no bench.

use crate::command::Command;
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "bench",
    arguments: "[FILTER]",
    summary: "Run the benches, or those whose name contains FILTER.",
    details: "Trust ratios of one run more than times: a busy machine slows everything alike. What follows\n\
              FILTER goes to the bench program too.",
    run,
};

/// Runs the benches.
///
/// # Errors
/// When they do not build or fail.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    // One after the other: built together, the library's would be built with the features that the testkit turns on.
    for package in ["larder", "larder-testkit", "larder-server"] {
        let mut command = process::cargo(&["bench", "--package", package, "--bench", "*", "--"])?;
        process::run(command.args(arguments))?;
    }
    Ok(())
}
