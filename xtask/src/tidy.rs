//! `cargo xtask tidy`: the house style as a test. Every rule is one line of [`RULES`]; a rule sees the whole tree as
//! text and says what is wrong where, and what to do. Rules may not read files or run programs: the tree does that.

mod deny;
mod documents;
mod imports;
mod layers;
mod layout;
mod manifests;
mod source;
mod tree;
mod wording;

#[cfg(test)]
mod canaries;

use crate::command::Command;
use crate::failure::Failure;
use crate::terminal;
use tree::Tree;

/// The command.
pub const COMMAND: Command = Command {
    name: "tidy",
    arguments: "[--rules]",
    summary: "Check the house style that no other tool checks.",
    details: "Prints every violation at once, as `path:line: rule: message`. --rules lists what is checked.",
    run,
};

/// Something that the house style asks for and a program can see.
struct Rule {
    /// How a violation names it.
    name: &'static str,
    /// What it asks for, as `--rules` lists it.
    asks: &'static str,
    /// Finds the violations.
    check: fn(&Tree) -> Vec<Violation>,
}

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    line: usize,
    message: String,
}

impl Violation {
    /// A violation in line `line`, counted from 1, of the file `path`; `message` says what to do.
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

/// Every rule. To add one: write its check, its line here, and its canary in `canaries.rs` (a test insists).
#[rustfmt::skip] // One rule, one line: it is a table.
const RULES: [Rule; 24] = [
    Rule { name: "purpose", asks: "every .rs file opens with `//!`", check: layout::purpose },
    Rule { name: "no-mod-rs", asks: "`foo.rs` beside `foo/`, never `foo/mod.rs`", check: layout::no_mod_rs },
    Rule { name: "file-length", asks: "no source file is over 700 lines", check: layout::file_length },
    Rule { name: "line-width", asks: "no line is over 140 columns, but for strings, tables and links", check: layout::line_width },
    Rule { name: "white-space", asks: "no tabs, no trailing blanks, one newline at the end", check: layout::white_space },
    Rule { name: "unfinished", asks: "nothing is left to do in the code", check: wording::unfinished },
    Rule { name: "no-unsafe", asks: "no `unsafe`", check: wording::no_unsafe },
    Rule { name: "no-sleep", asks: "no test sleeps", check: wording::no_sleep },
    Rule { name: "empty-names", asks: "nothing is called Manager, Helper, Util or Common", check: wording::empty_names },
    Rule { name: "layers", asks: "values do not know the tiers; tiers do not know each other", check: layers::layers },
    Rule { name: "pure-values", asks: "value files read no clock, open nothing, spawn nothing", check: layers::pure_values },
    Rule { name: "public-surface", asks: "the program uses the library's public API only", check: layers::public_surface },
    Rule { name: "workspace-lints", asks: "every crate takes the workspace's lints", check: manifests::workspace_lints },
    Rule { name: "bench-harness", asks: "every bench is declared with `harness = false`", check: manifests::bench_harness },
    Rule { name: "gated-tests", asks: "every test behind a feature has a pass that runs it", check: manifests::gated_tests },
    Rule { name: "dependencies", asks: "the library depends on nothing of the program's", check: manifests::dependencies },
    Rule { name: "test-features", asks: "no test-only feature reaches the program", check: manifests::test_features },
    Rule { name: "lock-sources", asks: "every locked dependency comes from crates.io", check: manifests::lock_sources },
    Rule { name: "licences", asks: "every licence of what is built is allowed by deny.toml", check: deny::licences },
    Rule { name: "duplicates", asks: "nothing is locked in two versions that deny.toml does not list", check: deny::duplicates },
    Rule { name: "links", asks: "links to local files lead somewhere", check: documents::links },
    Rule { name: "commands", asks: "every `cargo xtask` command that is named exists", check: documents::commands },
    Rule { name: "changelog", asks: "CHANGELOG.md has an Unreleased section", check: documents::changelog },
    Rule { name: "machine-paths", asks: "nothing names a folder of one developer's machine", check: documents::machine_paths },
];

/// Checks the tree against every rule, or lists the rules.
///
/// # Errors
/// When a rule is broken, or the tree cannot be read.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [] => check(&Tree::read()?),
        [only] if only == "--rules" => {
            list_rules();
            Ok(())
        }
        [other, ..] => Err(Failure::new(format!("`cargo xtask tidy` takes --rules or nothing, and was given `{other}`"))),
    }
}

fn check(tree: &Tree) -> Result<(), Failure> {
    let violations = violations(tree);
    for (rule, violation) in &violations {
        let rule = terminal::stdout().red(rule);
        println!("{}:{}: {rule}: {}", violation.path, violation.line, violation.message);
    }
    match violations.len() {
        0 => {
            println!("tidy: {} rules, {} files, nothing to say", RULES.len(), tree.files.len());
            Ok(())
        }
        1 => Err(Failure::new("tidy found 1 violation; the line above says what to do")),
        several => Err(Failure::new(format!("tidy found {several} violations; each line above says what to do"))),
    }
}

/// What breaks which rule, in the order in which somebody would go through the tree to mend it.
fn violations(tree: &Tree) -> Vec<(&'static str, Violation)> {
    let broken = |rule: &'static Rule| (rule.check)(tree).into_iter().map(|violation| (rule.name, violation));
    let mut violations: Vec<_> = RULES.iter().flat_map(broken).collect();
    violations.sort_by(|(_, one), (_, other)| one.cmp(other));
    violations
}

fn list_rules() {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    for rule in &RULES {
        println!("{}{}  {}", terminal::stdout().bold(rule.name), " ".repeat(width - rule.name.len()), rule.asks);
    }
}
