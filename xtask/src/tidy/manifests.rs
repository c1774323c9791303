//! Rules about `Cargo.toml`, `Cargo.lock` and what cargo makes of them. It reads TOML line by line, which is enough for
//! the tables that these rules ask about, and knows nothing of the rest of the language.

use super::Violation;
use super::tree::{File, Tree};

const LIBRARY: &str = "crates/larder/Cargo.toml";
const PROGRAM: &str = "crates/larder-server/Cargo.toml";

/// What only the program, the tests or a feature may need: whoever embeds the library must not pay for it.
const NOT_FOR_THE_LIBRARY: [&str; 9] =
    ["axum", "clap", "hyper", "toml", "redis", "tracing-subscriber", "larder-testkit", "proptest", "shuttle"];

/// The features that break or slow the library on purpose.
const TEST_FEATURES: [&str; 2] = ["test-mutations", "shuttle"];

/// Every crate takes the workspace's lints, or it would be the one without them.
pub fn workspace_lints(tree: &Tree) -> Vec<Violation> {
    let takes_them = |file: &File| tables(file).iter().any(|table| table.name == "lints" && table.value("workspace") == Some("true"));
    let advice = "add `[lints]` with `workspace = true`";
    packages(tree).filter(|file| !takes_them(file)).map(|file| Violation::new(&file.path, 1, advice)).collect()
}

/// Without `harness = false` cargo runs a bench under the test harness, which finds no test in it and is content.
pub fn bench_harness(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in packages(tree) {
        let tables = tables(file);
        let folder = format!("{}benches/", file.path.trim_end_matches("Cargo.toml"));
        let benches = tree.rust().filter_map(|(bench, _)| bench.path.strip_prefix(&folder)?.strip_suffix(".rs"));
        for bench in benches.filter(|bench| !bench.contains('/')) {
            let is_it = |table: &&Table| table.name == "bench" && table.value("name") == Some(&format!("\"{bench}\""));
            if tables.iter().find(is_it).and_then(|table| table.value("harness")) != Some("false") {
                let advice = format!("declare `[[bench]]` with `name = \"{bench}\"` and `harness = false`, or it measures nothing");
                found.push(Violation::new(&file.path, 1, advice));
            }
        }
    }
    found
}

/// `cargo test` leaves out a test whose features are off without a word, so some pass must turn them on.
pub fn gated_tests(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for manifest in packages(tree) {
        let tables = tables(manifest);
        let in_table = |table: &str, key: &str| tables.iter().find(|found| found.name == table)?.value(key);
        let package = in_table("package", "name").unwrap_or_default().trim_matches('"');
        let on_by_default = in_table("features", "default").unwrap_or_default();
        let is_run = |gate: &Gate| {
            let runs = |selection: &&[&str]| selects(selection, package, gate);
            on_by_default.contains(&format!("\"{}\"", gate.feature)) || tree.extra_passes.iter().any(runs)
        };
        let gates = gates_in_manifest(manifest, &tables).into_iter().chain(gates_in_sources(tree, manifest));
        for gate in gates.filter(|gate| !is_run(gate)) {
            let advice = format!("no pass runs this with `{}` on: add one to EXTRA_PASSES in xtask/src/test.rs", gate.feature);
            found.push(Violation::new(&gate.path, gate.line, advice));
        }
    }
    found
}

/// A place where a test is made to depend on a feature.
struct Gate {
    path: String,
    line: usize,
    feature: String,
    /// The `--test` that it belongs to; none for the tests beside the code.
    target: Option<String>,
}

/// Whether a pass that selects `selection` runs what is behind `gate`.
fn selects(selection: &[&str], package: &str, gate: &Gate) -> bool {
    let has = |option: &str, value: &str| selection.windows(2).any(|pair| pair == [option, value]);
    let target = gate.target.as_deref().map_or_else(|| selection.contains(&"--lib"), |name| has("--test", name));
    has("--package", package) && has("--features", &gate.feature) && (target || selection.contains(&"--tests"))
}

fn gates_in_manifest(manifest: &File, tables: &[Table]) -> Vec<Gate> {
    let mut gates = Vec::new();
    for table in tables.iter().filter(|table| table.name == "test") {
        let features = table.value("required-features").unwrap_or_default().split('"').skip(1).step_by(2);
        let target = table.value("name").unwrap_or_default().trim_matches('"');
        gates.extend(features.map(|feature| Gate {
            path: manifest.path.clone(),
            line: table.line,
            feature: feature.to_owned(),
            target: Some(target.to_owned()),
        }));
    }
    gates
}

/// The `feature = "..."` in the test code of the package.
fn gates_in_sources(tree: &Tree, manifest: &File) -> Vec<Gate> {
    const CONDITION: &str = "feature = \"";
    let folder = manifest.path.trim_end_matches("Cargo.toml");
    let mut gates = Vec::new();
    for (file, source) in tree.rust().filter(|(file, _)| file.path.starts_with(folder)) {
        let target = file.path[folder.len()..].strip_prefix("tests/").map(|path| path.trim_end_matches(".rs").to_owned());
        for (at, _) in source.code.match_indices(CONDITION) {
            let is_negated = source.code[..at].ends_with("not(");
            if is_negated || !(file.is_test() || source.is_test(at)) {
                continue;
            }
            let feature = file.text[at + CONDITION.len()..].split('"').next().unwrap_or_default();
            gates.push(Gate { path: file.path.clone(), line: source.line_of(at), feature: feature.to_owned(), target: target.clone() });
        }
    }
    gates
}

/// What the library pulls in is what its users pull in.
pub fn dependencies(tree: &Tree) -> Vec<Violation> {
    let depended_on = tree.library_dependencies.lines().filter_map(|line| line.split_whitespace().next());
    let mut unwanted: Vec<&str> = depended_on.filter(|name| NOT_FOR_THE_LIBRARY.contains(name)).collect();
    unwanted.sort_unstable();
    unwanted.dedup();
    let advice = |name: &str| format!("the library depends on `{name}`: move that to the program, or behind a feature that is off");
    unwanted.into_iter().map(|name| Violation::new(LIBRARY, 1, advice(name))).collect()
}

/// A cache that is broken on purpose must not be served.
pub fn test_features(tree: &Tree) -> Vec<Violation> {
    let is_on = |feature: &&str| {
        let line = format!("larder feature \"{feature}\"");
        tree.program_features.lines().any(|built| built.starts_with(&line))
    };
    let advice = |feature: &str| format!("the program is built with `{feature}`: take it out of its dependencies");
    TEST_FEATURES.into_iter().filter(is_on).map(|feature| Violation::new(PROGRAM, 1, advice(feature))).collect()
}

/// A lock file that was written behind a mirror, or with a patched dependency, builds on that machine only.
pub fn lock_sources(tree: &Tree) -> Vec<Violation> {
    const CRATES_IO: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";
    let locks = tree.files.iter().filter(|file| file.name() == "Cargo.lock");
    let foreign = locks.flat_map(|file| {
        let sources = file.lines().filter_map(|(number, line)| Some((number, line.strip_prefix("source = ")?)));
        sources.filter(|(_, source)| *source != CRATES_IO).map(move |(number, source)| (file, number, source))
    });
    let advice = |source: &str| format!("{source} is not crates.io: lock the dependency again without a mirror or a patch");
    foreign.map(|(file, number, source)| Violation::new(&file.path, number, advice(source))).collect()
}

/// The manifests of packages: not that of the workspace alone.
fn packages(tree: &Tree) -> impl Iterator<Item = &File> {
    let manifests = tree.files.iter().filter(|file| file.name() == "Cargo.toml");
    manifests.filter(|file| tables(file).iter().any(|table| table.name == "package"))
}

/// A `[table]`, or one of several `[[tables]]`, of a manifest.
struct Table<'a> {
    name: &'a str,
    line: usize,
    entries: Vec<(&'a str, &'a str)>,
}

impl Table<'_> {
    /// The value of `key` as it is written, quotes included.
    fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }
}

fn tables(file: &File) -> Vec<Table<'_>> {
    let mut tables: Vec<Table> = Vec::new();
    for (number, line) in file.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.starts_with('[') && line.ends_with(']') {
            let name = line.trim_start_matches('[').trim_end_matches(']').trim();
            tables.push(Table { name, line: number, entries: Vec::new() });
        } else if let (Some((key, value)), Some(table)) = (line.split_once('='), tables.last_mut())
            && !line.starts_with('#')
        {
            table.entries.push((key.trim(), value.trim()));
        }
    }
    tables
}
