//! `cargo xtask fuzz`: what the Redis door is sent, at random, for as long as one likes. The loops themselves are tests of the program;
//! those that look for new paths through the code are in `fuzz/`, for cargo-fuzz.

use crate::command::Command;
use crate::failure::Failure;
use crate::process;

/// The command.
pub const COMMAND: Command = Command {
    name: "fuzz",
    arguments: "--minutes N [OPTIONS]",
    summary: "Send the Redis door anything, and compare it with Redis.",
    details: "Each of these for N minutes, one after the other (`--only NAME` for one alone):\n\
              parser        any bytes are read as a slow parser reads them, cut at every byte\n\
              execution     any commands in any order are answered in the protocol\n\
              differential  commands at random are answered as a real Redis answers them\n\
              The seed (`--seed S`) makes what is sent. Where a nightly toolchain and cargo-fuzz are\n\
              installed, `cargo +nightly fuzz run parser` (or `execution`) looks for new paths itself.",
    run,
};

/// The loops, by what they are called here and in the tests.
const LOOPS: [(&str, &str); 3] = [
    ("parser", "parser::tests::any_bytes_for_as_long_as_one_likes"),
    ("execution", "execution::any_commands_for_as_long_as_one_likes"),
    ("differential", "random::commands_at_random_for_as_long_as_one_likes"),
];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    minutes: &'a str,
    seed: Option<&'a str>,
    only: Option<&'a str>,
}

/// Runs the loops.
///
/// # Errors
/// For arguments that mean nothing, and when something is found.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let asked = parse(arguments)?;
    for (name, test) in LOOPS.iter().filter(|(name, _)| asked.only.is_none_or(|only| only == *name)) {
        println!("fuzz: {name}");
        // Optimised: how much is tried is what counts.
        let mut command = process::cargo(&["test", "--release", "--package", "larder-server", "--test", "resp", "--"])?;
        command.args([test, "--exact", "--ignored", "--nocapture"]).env("LARDER_MINUTES", asked.minutes);
        if let Some(seed) = asked.seed {
            command.env("LARDER_SEED", seed);
        }
        process::run(&mut command)?;
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Asked<'_>, Failure> {
    let (mut minutes, mut seed, mut only) = (None, None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().ok_or_else(|| Failure::new(format!("{argument} needs a value")))?;
        let (place, is_right) = match argument.as_str() {
            "--minutes" => (&mut minutes, value.parse::<f64>().is_ok_and(|minutes| minutes > 0.0)),
            "--seed" => (&mut seed, value.parse::<u64>().is_ok()),
            "--only" => (&mut only, LOOPS.iter().any(|(name, _)| name == value)),
            other => return Err(Failure::new(format!("`{other}` is none of --minutes N, --seed S, --only NAME"))),
        };
        if !is_right {
            return Err(Failure::new(format!("{argument} does not take `{value}`; `cargo xtask help fuzz` says what it takes")));
        }
        *place = Some(value.as_str());
    }
    let minutes = minutes.ok_or_else(|| Failure::new("--minutes N says for how long"))?;
    Ok(Asked { minutes, seed, only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read_and_slips_are_told() {
        let all = words("--minutes 0.5 --only parser --seed 7");
        assert_eq!(parse(&all), Ok(Asked { minutes: "0.5", seed: Some("7"), only: Some("parser") }));
        for (wrong, told) in [
            ("", "--minutes N"),
            ("--minutes", "needs a value"),
            ("--minutes 0", "does not take `0`"),
            ("--minutes 1 --only all", "does not take `all`"),
            ("--hours 1", "none of"),
        ] {
            let failure = parse(&words(wrong)).expect_err("it is wrong").to_string();
            assert!(failure.contains(told), "{wrong}: {failure}");
        }
    }
}
