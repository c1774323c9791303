//! `cargo xtask ci`: everything that is checked before a change is taken. CI runs this command and nothing beside it.

use std::time::{Duration, Instant};

use crate::command::{Command, takes_none};
use crate::failure::Failure;
use crate::terminal::{self, Paint, readable};
use crate::{docs, process, test, tidy, workspace};

/// The command.
pub const COMMAND: Command = Command {
    name: "ci",
    arguments: "",
    summary: "All that CI checks: format, clippy, tidy, docs, tests.",
    details: "Cheapest first; it stops at the first failure and always ends with a table of the stages.",
    run,
};

/// One thing that is checked.
struct Stage {
    name: &'static str,
    run: fn() -> Result<(), Failure>,
}

/// The stages, cheapest first. The last is the very command that the README names.
const STAGES: [Stage; 5] = [
    Stage { name: "fmt", run: || process::run(&mut process::cargo(&["fmt", "--all", "--check"])?) },
    Stage { name: "clippy", run: clippy },
    Stage { name: "tidy", run: || tidy::run(&[]) },
    Stage { name: "docs", run: || docs::run(&[]) },
    Stage { name: "test", run: || test::run(&[]) },
];

/// Lints everything as it ships, with the features that the test kit turns on; and then the library with what tests build besides, and
/// without all else, which sees that it can be built so.
fn clippy() -> Result<(), Failure> {
    let root = workspace::root()?;
    let extra = test::extra_passes(|file| root.join(file).is_file()).filter(|pass| !pass.run_with_workspace);
    let extra = extra.map(|pass| [pass.selection, pass.linted_with, &["--tests"]].concat());
    for selection in std::iter::once(vec!["--workspace", "--all-targets"]).chain(extra) {
        process::run(process::cargo(&["clippy"])?.args(selection).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Runs the stages.
///
/// # Errors
/// When a stage fails; the later ones are not run.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    takes_none(COMMAND.name, arguments)?;
    let outcomes = run_until_failure(&STAGES);
    terminal::heading("summary");
    print!("{}", table(&STAGES, &outcomes, terminal::stdout()));
    match outcomes.into_iter().find_map(|outcome| outcome.result.err()) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// How a stage went.
struct StageOutcome {
    took: Duration,
    result: Result<(), Failure>,
}

fn run_until_failure(stages: &[Stage]) -> Vec<StageOutcome> {
    let mut outcomes = Vec::new();
    for stage in stages {
        terminal::heading(stage.name);
        let begun = Instant::now();
        let result = (stage.run)();
        let outcome = StageOutcome { took: begun.elapsed(), result };
        println!("{}", terminal::stdout().dim(&format!("{} took {}", stage.name, readable(outcome.took))));
        let failed = outcome.result.is_err();
        outcomes.push(outcome);
        if failed {
            break;
        }
    }
    outcomes
}

/// One row a stage; those that were not reached say so, lest a short table look like a whole one.
fn table(stages: &[Stage], outcomes: &[StageOutcome], paint: Paint) -> String {
    let mut rows = paint.bold(&format!("{:<8}{:>9}  {}", "stage", "seconds", "result")) + "\n";
    for (position, stage) in stages.iter().enumerate() {
        let (seconds, result) = match outcomes.get(position) {
            Some(StageOutcome { took, result: Ok(()) }) => (in_seconds(*took), paint.green("ok")),
            Some(StageOutcome { took, result: Err(_) }) => (in_seconds(*took), paint.red("failed")),
            None => ("-".to_owned(), paint.dim("not run")),
        };
        rows += &format!("{:<8}{seconds:>9}  {result}\n", stage.name);
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    rows + &format!("{:<8}{:>9}\n", "total", in_seconds(total))
}

fn in_seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILING: [Stage; 3] = [
        Stage { name: "first", run: || Ok(()) },
        Stage { name: "second", run: || Err(Failure::new("planted")) },
        Stage { name: "third", run: || panic!("a stage after a failed one was run") },
    ];

    #[test]
    fn the_first_failure_ends_the_run_and_the_table_says_so() {
        let outcomes = run_until_failure(&FAILING);
        assert_eq!(outcomes.len(), 2);
        let table = table(&FAILING, &outcomes, Paint::PLAIN);
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows[1][..], ["first", "0.0", "ok"]);
        assert_eq!(rows[2][..], ["second", "0.0", "failed"]);
        assert_eq!(rows[3][..], ["third", "-", "not", "run"]);
        assert_eq!(rows[4][..], ["total", "0.0"]);
    }

    #[test]
    fn the_stages_are_the_promised_ones_and_tests_come_last() {
        assert_eq!(STAGES.map(|stage| stage.name), ["fmt", "clippy", "tidy", "docs", "test"]);
    }
}
