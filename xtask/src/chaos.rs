//! `cargo xtask chaos`: several instances over a Redis that breaks, for as long as one likes. The runs themselves are elsewhere:
//! that of the library in the test kit, that of the program beside the program.

use std::process::Command as Process;

use crate::command::Command;
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "chaos",
    arguments: "--minutes N [OPTIONS]",
    summary: "Break the Redis under several instances, and check every promise.",
    details: "Half of the time goes to a single server behind a bad network, a quarter each to Sentinel and to\n\
              Cluster (`--only KIND` for one alone). With --http it is two processes of `larder serve` over a\n\
              single server, driven from outside, that are killed and paused as well. At the end it prints a\n\
              table; what was violated stands above it, with the history that led there, and makes the command\n\
              fail. The seed (`--seed S`) makes the schedule of the faults and of each client; the threads go\n\
              their own way.",
    run,
};

/// Runs it optimised: the number of operations is what counts.
///
/// # Errors
/// When it does not build, Redis is not installed, or a promise was broken.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    process::run(&mut prepared(arguments)?)
}

fn prepared(arguments: &[String]) -> Result<Process, Failure> {
    if !arguments.iter().any(|argument| argument == "--http") {
        let mut command = process::cargo(&["run", "--release", "--package", "larder-testkit", "--example", "chaos", "--"])?;
        command.args(arguments);
        return Ok(command);
    }
    // A test and no program: cargo builds `larder` for tests, and tells them where it is.
    let words = ["test", "--release", "--package", "larder-server", "--test", "outside", "--"];
    let mut command = process::cargo(&words)?;
    command.args(["for_as_long_as_one_likes", "--exact", "--ignored", "--nocapture"]);
    let mut rest = arguments.iter().filter(|argument| *argument != "--http");
    let mut minutes = false;
    while let Some(argument) = rest.next() {
        let value = rest.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")))?;
        let is_right = match argument.as_str() {
            "--minutes" => value.parse::<f64>().is_ok_and(|minutes| minutes > 0.0),
            "--seed" => value.parse::<u64>().is_ok(),
            other => return Err(Failure::new(format!("`{other}` does not go with --http; --minutes N and --seed S do"))),
        };
        if !is_right {
            return Err(Failure::new(format!("{argument}: `{value}` is not a number that it takes")));
        }
        minutes |= argument == "--minutes";
        command.env(if argument == "--minutes" { "LARDER_MINUTES" } else { "LARDER_SEED" }, value);
    }
    if minutes { Ok(command) } else { Err(Failure::new("for how many minutes? --minutes says")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &str) -> Result<Process, Failure> {
        prepared(&arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_run_from_outside_is_told_what_the_other_is() {
        let command = given("--minutes 2.5 --http --seed 7").expect("this is how it is called");
        let told: Vec<_> = command.get_envs().map(|(name, value)| (name.to_str(), value.and_then(|value| value.to_str()))).collect();
        assert_eq!(told, [(Some("LARDER_MINUTES"), Some("2.5")), (Some("LARDER_SEED"), Some("7"))]);
        assert!(command.get_args().any(|word| word == "for_as_long_as_one_likes"));
        let library = given("--minutes 2 --only single").expect("the example judges its arguments");
        assert!(library.get_args().any(|word| word == "--only") && library.get_envs().next().is_none());
    }

    #[test]
    fn what_it_cannot_do_from_outside_it_says() {
        for (arguments, part) in [
            ("--http", "--minutes says"),
            ("--http --minutes", "needs a value"),
            ("--http --minutes soon", "not a number"),
            ("--http --minutes 0", "not a number"),
            ("--http --minutes 1 --only cluster", "does not go with --http"),
        ] {
            let failure = given(arguments).err().unwrap_or_else(|| panic!("{arguments} is refused"));
            assert!(failure.to_string().contains(part), "{arguments}: {failure}");
        }
    }
}
