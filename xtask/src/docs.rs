//! `cargo xtask docs`: builds the documentation with every warning an error, so that no link in it is dead.

use crate::command::{Command, takes_none};
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "docs",
    arguments: "",
    summary: "Build the documentation; a warning is an error.",
    details: "What is public goes to target/doc, the insides of all crates to target/insides/doc.",
    run,
};

/// Builds the documentation of all crates.
///
/// # Errors
/// When one does not build or has a warning.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    takes_none(COMMAND.name, arguments)?;
    // The program `larder` would overwrite the pages of the library, which has the same name; there is nothing in it but a call of its own
    // library. Both runs are of the same crates, so that the second has nothing to compile.
    let crates = ["doc", "--workspace", "--lib", "--bin", "xtask", "--no-deps"];
    process::run(&mut strict(&crates)?)?;
    // In a folder of its own, with the shared build folder. (A cargo older than that setting ignores it, and only takes longer.)
    let insides = ["--document-private-items", "--target-dir", "target/insides"];
    process::run(strict(&crates)?.args(insides).env("CARGO_BUILD_BUILD_DIR", "target"))
}

/// A cargo command under which rustdoc's warnings are errors.
fn strict(arguments: &[&str]) -> Result<std::process::Command, Failure> {
    let mut command = process::cargo(arguments)?;
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(command)
}
