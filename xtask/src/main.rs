//! The project's own commands: `cargo xtask COMMAND`. Only the dispatch is here; each command is a file of its own.
//!
//! Standard library only, so that the first command on a fresh machine builds in seconds. It may not depend on the
//! crates it checks: a project that does not compile can still be formatted, tidied and explained.

mod bench;
mod chaos;
mod ci;
mod clients;
mod command;
mod docs;
mod failure;
mod fuzz;
mod help;
mod model;
mod process;
mod setup;
mod suggest;
mod terminal;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{} {failure}", terminal::stderr().red("error:"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let Some((name, rest)) = arguments.split_first() else {
        return help::run(&[]);
    };
    if matches!(name.as_str(), "-h" | "--help") {
        return help::run(rest);
    }
    let command = command::find(name)?;
    // Whatever stands after `--` belongs to the tool that the command runs, its `--help` too.
    let own_arguments = rest.iter().take_while(|argument| *argument != "--");
    if own_arguments.into_iter().any(|argument| matches!(argument.as_str(), "-h" | "--help")) {
        return help::run(std::slice::from_ref(name));
    }
    (command.run)(rest)
}
