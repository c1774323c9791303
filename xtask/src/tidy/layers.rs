//! Rules about who may know whom. The compiler lets every module of a crate see every other; the architecture does
//! not, and these tables are where it says so.

use std::collections::BTreeSet;

use super::Violation;
use super::imports::{Import, imports, module_of, re_exports};
use super::source::{Source, whole_words};
use super::tree::{File, Tree};

const LIBRARY: &str = "crates/larder/src/";
const LIBRARY_ROOT: &str = "crates/larder/src/lib.rs";
const TIERS: &str = "crates/larder/src/tier/";

/// The files, with the folders beside them, that hold values and decisions about them.
const VALUES: [&str; 13] =
    ["access", "clock", "config", "entry", "error", "freshness", "key", "metrics", "name", "pattern", "position", "record", "sizing"];

/// The modules that act: they wait, write, spawn, and use the values to decide.
const ACTORS: [&str; 8] = ["tier", "log", "cache", "namespace", "read", "write", "fill", "invalidate"];

/// The values that are handed the time: all but the clock, which is where it comes from, and the metrics, which measure.
fn is_timeless(value: &str) -> bool {
    VALUES.contains(&value) && !matches!(value, "clock" | "metrics")
}

/// What a timeless value may not call.
const IMPURE: [&str; 7] = ["Instant::now", "SystemTime::now", "std::fs", "std::net", "std::process", "thread::spawn", "tokio::spawn"];

/// Values do not import actors; a tier does not import another tier.
pub fn layers(tree: &Tree) -> Vec<Violation> {
    let exports = re_exports(tree, LIBRARY_ROOT);
    let tiers: BTreeSet<String> = tree.rust().filter_map(|(file, _)| tier_of(&file.path)).collect();
    let mut found = Vec::new();
    for (file, source) in tree.rust().filter(|(file, _)| file.path.starts_with(LIBRARY)) {
        for Import { offset, path } in imports(file, source) {
            let through_root = if path.len() == 1 { exports.get(&path[0]) } else { None };
            let path = through_root.unwrap_or(&path);
            if let Some(advice) = value_knows_actor(file, path).or_else(|| tier_knows_tier(file, path, &tiers)) {
                found.push(Violation::new(&file.path, source.line_of(offset), advice));
            }
        }
    }
    found
}

fn value_knows_actor(file: &File, path: &[String]) -> Option<String> {
    let value = module_of(&file.path).into_iter().next().filter(|module| VALUES.contains(&module.as_str()))?;
    let actor = path.first().filter(|module| ACTORS.contains(&module.as_str()))?;
    Some(format!("`{value}` holds values and may not know `{actor}`, which acts on them: pass in what it needs"))
}

fn tier_knows_tier(file: &File, path: &[String], tiers: &BTreeSet<String>) -> Option<String> {
    let own = tier_of(&file.path)?;
    let [parent, other, ..] = path else { return None };
    if parent != "tier" || *other == own || !tiers.contains(other) {
        return None;
    }
    Some(format!("tiers do not know each other: `{own}` may not name `{other}`; what both need belongs in tier.rs"))
}

/// The tier that a file belongs to: `tier/disk.rs` and `tier/disk/queue.rs` to `disk`.
fn tier_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix(TIERS)?;
    inside.trim_end_matches(".rs").split('/').next().map(str::to_owned)
}

/// Decisions about values are functions of their arguments: no clock, no file, no task. Their tests may do as they like.
pub fn pure_values(tree: &Tree) -> Vec<Violation> {
    let of_a_timeless_value = |file: &File| {
        let module = module_of(&file.path).into_iter().next();
        file.path.starts_with(LIBRARY) && module.is_some_and(|module| is_timeless(&module))
    };
    let files = tree.rust().filter(|(file, _)| of_a_timeless_value(file) && !file.is_test());
    files.flat_map(|(file, source)| impure_calls(file, source)).collect()
}

fn impure_calls<'a>(file: &'a File, source: &'a Source) -> impl Iterator<Item = Violation> + 'a {
    IMPURE.into_iter().flat_map(move |call| {
        let outside_tests = whole_words(&source.code, call).filter(|&offset| !source.is_test(offset));
        let advice = format!("`{call}` in a value file: take its result as an argument and let the caller act");
        outside_tests.map(move |offset| Violation::new(&file.path, source.line_of(offset), advice.clone()))
    })
}

/// What is public only for macros or tests is hidden behind two underscores, and not for the program either.
pub fn public_surface(tree: &Tree) -> Vec<Violation> {
    let program = tree.rust().filter(|(file, _)| file.path.starts_with("crates/larder-server/"));
    let advice = "the program uses only what every user of the library may: make it public, or do without";
    let hidden = program.flat_map(|(file, source)| {
        let offsets = source.code.match_indices("larder::__").map(|(offset, _)| offset);
        offsets.map(move |offset| Violation::new(&file.path, source.line_of(offset), advice))
    });
    hidden.collect()
}
