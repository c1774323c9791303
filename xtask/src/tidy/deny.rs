//! Rules about what we depend on, by the lists in `deny.toml`: under which licences, and that nothing is there in two versions unless
//! that was argued for. cargo-deny checks the same and more where it is installed.

use std::collections::BTreeMap;

use super::Violation;
use super::tree::{File, Tree};

const LISTS: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";

/// Every licence of what is built here is one of those that are allowed, or leaves the choice of one.
pub fn licences(tree: &Tree) -> Vec<Violation> {
    let Some(lists) = tree.files.iter().find(|file| file.path == LISTS) else { return Vec::new() };
    let allowed = listed(lists, "allow = [");
    let is_allowed = |licence: &str| allowed.iter().any(|(_, allowed)| *allowed == licence);
    let mut found = BTreeMap::new();
    // `name v1.2.3 (where)|licence`; packages of our own have a folder where others have nothing.
    for (package, licence) in tree.licences.lines().filter_map(|line| line.split_once('|')) {
        let licence = licence.trim_end_matches(" (*)");
        if package.contains("(proc-macro)") || !package.contains(" (") {
            let words = Words::of(licence);
            if words.is_none_or(|mut words| !(words.either(&is_allowed) && words.left.is_empty())) {
                found.insert(package, licence);
            }
        }
    }
    let advice = |(package, licence): (&str, &str)| {
        Violation::new(LISTS, 1, format!("{package} is under `{licence}`, which is not allowed: do without it, or argue for the licence"))
    };
    found.into_iter().map(advice).collect()
}

/// The older versions of what is locked twice are listed, and nothing else is.
pub fn duplicates(tree: &Tree) -> Vec<Violation> {
    let file = |path: &str| tree.files.iter().find(|file| file.path == path);
    let (Some(lists), Some(lock)) = (file(LISTS), file(LOCK)) else { return Vec::new() };
    let listed = listed(lists, "skip = [");
    let mut locked: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    let mut name = "";
    for (number, line) in lock.lines() {
        if let Some(text) = line.strip_prefix("name = ") {
            name = text.trim_matches('"');
        } else if let Some(text) = line.strip_prefix("version = \"") {
            locked.entry(name).or_default().push((number, text.trim_end_matches('"').split('+').next().unwrap_or(text)));
        }
    }
    let mut found = Vec::new();
    // Cargo writes versions from the oldest to the newest, which needs no leave.
    let older = || {
        locked
            .iter()
            .flat_map(|(name, versions)| versions.iter().rev().skip(1).map(move |(line, version)| (*line, format!("{name}@{version}"))))
    };
    for (line, one) in older().filter(|(_, one)| !listed.iter().any(|(_, listed)| listed == one)) {
        found.push(Violation::new(
            LOCK,
            line,
            format!("{one} is there in a newer version as well: do without one, or list it in deny.toml"),
        ));
    }
    for (line, one) in listed.iter().filter(|(_, listed)| !older().any(|(_, one)| one == *listed)) {
        found.push(Violation::new(LISTS, *line, format!("{one} is no older version of anything that is locked: take it off the list")));
    }
    found
}

/// The first text in quotes of each line of a list.
fn listed<'a>(file: &'a File, begins: &str) -> Vec<(usize, &'a str)> {
    let lines = file.lines().skip_while(|(_, line)| !line.starts_with(begins)).skip(1).take_while(|(_, line)| !line.starts_with(']'));
    lines.filter_map(|(number, line)| Some((number, line.split('"').nth(1)?))).collect()
}

/// A licence expression (SPDX), from left to right.
struct Words<'a> {
    left: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// Nothing where there is no licence at all.
    fn of(expression: &'a str) -> Option<Self> {
        let spaced = expression.split_inclusive(['(', ')', '/', ' ']).flat_map(|part| {
            let (word, sign) = part.split_at(part.len() - usize::from(part.ends_with(['(', ')', '/', ' '])));
            [word, sign]
        });
        let mut left: Vec<&str> = spaced.map(str::trim).filter(|word| !word.is_empty()).collect();
        left.reverse();
        (!left.is_empty()).then_some(Words { left })
    }

    fn takes(&mut self, wanted: &[&str]) -> bool {
        let is_it = self.left.last().is_some_and(|word| wanted.contains(word));
        if is_it {
            self.left.pop();
        }
        is_it
    }

    /// Whether one of several is allowed. The slash is how it was written before SPDX.
    fn either(&mut self, is_allowed: &impl Fn(&str) -> bool) -> bool {
        let mut found = self.all(is_allowed);
        while self.takes(&["OR", "/"]) {
            found |= self.all(is_allowed);
        }
        found
    }

    fn all(&mut self, is_allowed: &impl Fn(&str) -> bool) -> bool {
        let mut found = self.one(is_allowed);
        while self.takes(&["AND"]) {
            found &= self.one(is_allowed);
        }
        found
    }

    fn one(&mut self, is_allowed: &impl Fn(&str) -> bool) -> bool {
        if self.takes(&["("]) {
            let found = self.either(is_allowed);
            return self.takes(&[")"]) && found;
        }
        let Some(licence) = self.left.pop() else { return false };
        // An exception allows more than the licence does.
        if self.takes(&["WITH"]) {
            self.left.pop();
        }
        is_allowed(licence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_has_them() {
        let allowed = |expression: &str| {
            let is_allowed = |licence: &str| ["MIT", "Apache-2.0", "ISC"].contains(&licence);
            Words::of(expression).is_some_and(|mut words| words.either(&is_allowed) && words.left.is_empty())
        };
        let good =
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "Apache-2.0 AND ISC", "Apache-2.0 WITH LLVM-exception OR X", "(X OR MIT) AND (ISC)"];
        good.iter().for_each(|expression| assert!(allowed(expression), "{expression}"));
        let bad = ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND X", "MIT MIT", "(MIT", "MIT AND", "X OR"];
        bad.iter().for_each(|expression| assert!(!allowed(expression), "{expression}"));
    }
}
