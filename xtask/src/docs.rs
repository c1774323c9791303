//! `cargo xtask docs`: builds the documentation with every warning an error, so that no link in it is dead.

use crate::command::{Command, takes_none};
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "docs",
    arguments: "",
    summary: "Build the documentation; a warning is an error.",
    details: "The library, the test kit and the tooling go to target/doc, the program's insides to\n\
              target/program/doc.",
    run,
};

/// Builds the documentation of all crates.
///
/// # Errors
/// When one does not build or has a warning.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    takes_none(COMMAND.name, arguments)?;
    process::run(&mut strict(&["doc", "--workspace", "--exclude", "larder-server", "--no-deps"])?)?;
    // The library and the program are both called `larder`, so in one folder each overwrites the other's pages, in an
    // order nobody chose. The program therefore goes to a folder of its own; the shared build folder spares it from
    // compiling the dependencies once more. (A cargo older than that setting ignores it, and only takes longer.)
    let program = ["doc", "--package", "larder-server", "--no-deps", "--document-private-items"];
    process::run(strict(&program)?.args(["--target-dir", "target/program"]).env("CARGO_BUILD_BUILD_DIR", "target"))
}

/// A cargo command under which rustdoc's warnings are errors.
fn strict(arguments: &[&str]) -> Result<std::process::Command, Failure> {
    let mut command = process::cargo(arguments)?;
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(command)
}
