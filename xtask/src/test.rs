//! `cargo xtask test`: every test of the project by one command, which also brings what the tests need. It may not
//! succeed without having run a test: a filter that matches nothing is an error, as is a pass that lost its tests.

use crate::command::Command;
use crate::failure::Failure;
use crate::{process, setup, terminal, workspace};

/// The command.
pub const COMMAND: Command = Command {
    name: "test",
    arguments: "[ARGS]",
    summary: "Install what the tests need, then run them all.",
    details: "Uses cargo-nextest where it is installed, else `cargo test`; then the doc tests, then the passes\n\
              that need a build of their own. ARGS go to the test runner and narrow the run to it alone:\n\
              `cargo xtask test -p larder freshness`. A randomised test takes its seed from LARDER_SEED.",
    run,
};

/// Tests that need features which the workspace's pass leaves off.
pub struct ExtraPass {
    /// What the heading says.
    pub title: &'static str,
    /// The file that the pass is about, from the root; without it there is nothing to run.
    pub file: &'static str,
    /// What to build, as cargo's `test` and `clippy` both take it.
    pub selection: &'static [&'static str],
    /// Which of its tests to run; all, where it is empty.
    pub filter: &'static str,
    /// What is said to cargo about how to build it, where it is run.
    pub built: &'static [&'static str],
    /// Features that are linted together with it: one pass of the library without Redis is enough.
    pub linted_with: &'static [&'static str],
    /// Whether the workspace's pass has these features on, because the testkit turns them on: then its tests are run there, and linted.
    pub run_with_workspace: bool,
}

/// All of them. Tidy checks that no test behind a feature is missing here, and CI lints each as it is built here.
pub const EXTRA_PASSES: [ExtraPass; 2] = [
    ExtraPass {
        title: "tests that break the protocol on purpose, and those of optional features",
        file: "crates/larder/src/mutation.rs",
        selection: &["--package", "larder", "--features", "test-mutations", "--features", "ndarray", "--lib"],
        filter: "",
        built: &[],
        linted_with: &[],
        run_with_workspace: true,
    },
    ExtraPass {
        title: "scheduler tests",
        file: "crates/larder/src/freshness/schedules.rs",
        selection: &["--package", "larder", "--features", "shuttle", "--features", "test-mutations", "--lib"],
        // The primitives of the scheduler work under it alone, so all other tests of the library would fail.
        filter: "schedules",
        // All tests beside the code are built for these few, and all dependencies anew, which takes longer than they gain by it.
        built: &["--config", "profile.dev.opt-level=0"],
        linted_with: &["--features", "ndarray"],
        run_with_workspace: false,
    },
];

/// The extra passes whose file `exists`.
pub fn extra_passes(exists: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static ExtraPass> {
    EXTRA_PASSES.iter().filter(move |pass| exists(pass.file))
}

/// One call of a test runner.
#[derive(Debug, PartialEq, Eq)]
struct Pass {
    title: &'static str,
    arguments: Vec<String>,
    /// Nextest fails by itself when it runs nothing; the tests that `cargo test` ran have to be counted.
    counted_by_us: bool,
}

/// Runs all tests, or those that the arguments select.
///
/// # Errors
/// When a test fails or does not build, or a pass ran no test at all.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    setup::prepare()?;
    let root = workspace::root()?;
    let has_nextest = process::read(&mut process::cargo(&["nextest", "--version"])?).is_ok();
    for pass in passes(arguments, has_nextest, |file| root.join(file).is_file()) {
        terminal::heading(pass.title);
        perform(&pass)?;
    }
    Ok(())
}

/// The passes of a run, in order.
fn passes(arguments: &[String], has_nextest: bool, exists: impl Fn(&str) -> bool) -> Vec<Pass> {
    let workspace = workspace_pass(arguments, has_nextest);
    if !arguments.is_empty() {
        return vec![workspace];
    }
    let doc_tests = counted_pass("doc tests", &["test", "--workspace", "--doc"]);
    let filter = |pass: &'static ExtraPass| Some(pass.filter).filter(|filter| !filter.is_empty());
    let words = |pass: &'static ExtraPass| {
        let whole = ["test"].into_iter().chain(pass.built.iter().copied()).chain(pass.selection.iter().copied());
        whole.chain(filter(pass)).collect::<Vec<_>>()
    };
    let extra = extra_passes(exists).filter(|pass| !pass.run_with_workspace).map(|pass| counted_pass(pass.title, &words(pass)));
    [workspace, doc_tests].into_iter().chain(extra).collect()
}

/// The tests of the workspace, but the doc tests, which nextest cannot run and which thus have a pass of their own.
fn workspace_pass(arguments: &[String], has_nextest: bool) -> Pass {
    let mut words: Vec<&str> = if has_nextest { vec!["nextest", "run"] } else { vec!["test"] };
    // Cargo takes `--workspace` for stronger than `--package`, so it is left out where a package is asked for.
    let names_package = |word: &String| matches!(word.as_str(), "-p" | "--package" | "--workspace") || word.starts_with("--package=");
    if !arguments.iter().any(names_package) {
        words.push("--workspace");
    }
    if arguments.is_empty() {
        // Examples have none. They are linted with everything else, and building them takes as long as a few of the tests.
        words.push("--tests");
    }
    let arguments = words.into_iter().map(str::to_owned).chain(arguments.iter().cloned()).collect();
    Pass { title: "tests", arguments, counted_by_us: !has_nextest }
}

fn counted_pass(title: &'static str, arguments: &[&str]) -> Pass {
    Pass { title, arguments: arguments.iter().map(|&word| word.to_owned()).collect(), counted_by_us: true }
}

fn perform(pass: &Pass) -> Result<(), Failure> {
    let words: Vec<&str> = pass.arguments.iter().map(String::as_str).collect();
    let mut command = process::cargo(&words)?;
    if !pass.counted_by_us {
        // Nextest's default today; said aloud for the older ones that knew the variable but let an empty run pass.
        return process::run(command.env("NEXTEST_NO_TESTS", "fail"));
    }
    let mut executed = 0;
    process::run_observed(&mut command, |line| executed += tests_executed(line).unwrap_or(0))?;
    if executed == 0 {
        return Err(Failure::new(format!("no test was executed ({}): check the filter, or where the tests went", pass.title)));
    }
    Ok(())
}

/// How many tests were executed, if `line` is the line with which the standard test harness closes:
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`.
fn tests_executed(line: &str) -> Option<u64> {
    let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |label: &str| counts.split("; ").find_map(|part| part.strip_suffix(label)).and_then(|number| number.parse::<u64>().ok());
    Some(count(" passed")? + count(" failed")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn command_lines(arguments: &str, has_nextest: bool, has_extras: bool) -> Vec<String> {
        let passes = passes(&words(arguments), has_nextest, |_| has_extras);
        passes.iter().map(|pass| pass.arguments.join(" ")).collect()
    }

    #[test]
    fn a_whole_run_has_the_workspace_the_doc_tests_and_the_extra_passes() {
        let shuttle = "test --config profile.dev.opt-level=0 --package larder --features shuttle --features test-mutations \
                       --lib schedules";
        assert_eq!(command_lines("", true, true), ["nextest run --workspace --tests", "test --workspace --doc", shuttle]);
        assert_eq!(command_lines("", false, false), ["test --workspace --tests", "test --workspace --doc"]);
    }

    #[test]
    fn arguments_narrow_the_run_to_the_runner() {
        assert_eq!(command_lines("freshness", true, true), ["nextest run --workspace freshness"]);
        assert_eq!(command_lines("freshness -- --nocapture", false, true), ["test --workspace freshness -- --nocapture"]);
        assert_eq!(command_lines("-p larder freshness", true, true), ["nextest run -p larder freshness"]);
        assert_eq!(command_lines("--package=larder", false, true), ["test --package=larder"]);
    }

    #[test]
    fn only_nextest_is_trusted_to_notice_an_empty_run() {
        let counted = |has_nextest| passes(&[], has_nextest, |_| true).iter().map(|pass| pass.counted_by_us).collect::<Vec<_>>();
        assert_eq!(counted(true), [false, true, true]);
        assert_eq!(counted(false), [true; 3]);
    }

    #[test]
    fn closing_lines_are_counted_and_others_are_not() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s\n";
        assert_eq!(tests_executed(ok), Some(3));
        let failed = "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(tests_executed(failed), Some(3));
        let nothing = "test result: ok. 0 passed; 0 failed; 4 ignored; 0 measured; 9 filtered out; finished in 0.00s";
        assert_eq!(tests_executed(nothing), Some(0));
        assert_eq!(tests_executed("running 3 tests"), None);
        assert_eq!(tests_executed("test result: all was well"), None);
    }
}
