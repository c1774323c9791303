//! Which of the crate's own modules a file names, in `use` lines and in paths alike. Absolute in the answer: `super`
//! and `self` are resolved by the file's place. It sees text only, so a path that a macro builds escapes it.

use std::collections::BTreeMap;

use super::source::{Source, is_word, matching, whole_words};
use super::tree::{File, Tree};

/// A path that a file names, from the crate's root: `["tier", "disk", "Disk"]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// Where the path begins.
    pub offset: usize,
    /// Its segments. A glob ends it, since what it brings is not written down.
    pub path: Vec<String>,
}

/// The module that the file at `path` is, from the root of its crate: `crates/larder/src/tier/disk.rs` is `tier`, `disk`.
pub fn module_of(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside).trim_end_matches(".rs");
    match inside {
        "lib" | "main" => Vec::new(),
        _ => inside.split('/').map(str::to_owned).collect(),
    }
}

/// Every path of `file` that begins with `crate`, `self` or `super`, and every `use`, resolved.
pub fn imports(file: &File, source: &Source) -> Vec<Import> {
    let code = &source.code;
    let inline = inline_modules(code);
    let mut found = Vec::new();
    for start in path_starts(code) {
        let mut module = module_of(&file.path);
        module.extend(inline.iter().filter(|inner| inner.contains(start)).map(|inner| inner.name.clone()));
        let paths = branches(&code[start..]).into_iter().map(|path| resolve(&module, &path));
        found.extend(paths.map(|path| Import { offset: start, path }));
    }
    found
}

/// What the crate's root re-exports, by name: `Larder` is `cache::Larder`. With it nobody reaches a forbidden module by
/// way of the root.
pub fn re_exports(tree: &Tree, root: &str) -> BTreeMap<String, Vec<String>> {
    let lib = tree.rust().filter(|(file, _)| file.path == root);
    let paths = lib.flat_map(|(file, source)| imports(file, source)).map(|import| import.path);
    paths.filter_map(|path| Some((path.last()?.clone(), path))).collect()
}

/// Where paths begin: after `use`, and at `crate::`, `self::` and `super::` elsewhere.
fn path_starts(code: &str) -> Vec<usize> {
    let rooted = ["crate", "self", "super"]
        .into_iter()
        .flat_map(|word| whole_words(code, word).filter(move |&at| code[at + word.len()..].starts_with("::") && !continues(&code[..at])));
    let used = whole_words(code, "use").map(|at| at + "use".len()).filter(|&at| code[at..].starts_with(' '));
    let mut starts: Vec<usize> = rooted.chain(used.map(|at| at + 1)).collect();
    starts.sort_unstable();
    starts
}

/// Whether what follows `before` is not the beginning of its path, or one that its `use` has found already.
fn continues(before: &str) -> bool {
    before.ends_with("::") || before.strip_suffix(' ').is_some_and(|before| before.ends_with("use"))
}

/// The paths of a tree such as `crate::{a::{b, c as d}, e}` at the beginning of `text`, one for each leaf.
fn branches(text: &str) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.starts_with('{') {
            let end = matching(rest, 0, '{', '}').unwrap_or(rest.len());
            let leaves = split_at_top_level(rest.get(1..end).unwrap_or_default());
            let inner = leaves.into_iter().flat_map(branches);
            return inner.map(|leaf| path.iter().cloned().chain(leaf).collect()).collect();
        }
        let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        if length > 0 {
            path.push(rest[..length].to_owned());
        }
        match rest[length..].strip_prefix("::") {
            Some(after) if length > 0 => rest = after,
            _ => break,
        }
    }
    if path.is_empty() { Vec::new() } else { vec![path] }
}

/// The parts of `group` between the commas that are in no inner group.
fn split_at_top_level(group: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_separator = |letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    group.split(is_separator).collect()
}

/// `path` as seen from the root, when it is written in `module`. A path without `crate`, `self` or `super` may begin
/// with another crate's name; it is taken for a child, which forbids nothing that it should not.
fn resolve(module: &[String], path: &[String]) -> Vec<String> {
    let mut absolute = module.to_vec();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" => absolute.clear(),
            "self" => {}
            "super" => {
                absolute.pop();
            }
            _ => break,
        }
        rest = after;
    }
    absolute.extend_from_slice(rest);
    absolute
}

/// A module that is written inside its parent's file.
struct InlineModule {
    name: String,
    begin: usize,
    end: usize,
}

impl InlineModule {
    fn contains(&self, offset: usize) -> bool {
        (self.begin..self.end).contains(&offset)
    }
}

fn inline_modules(code: &str) -> Vec<InlineModule> {
    whole_words(code, "mod").filter_map(|at| inline_module(code, at + "mod".len())).collect()
}

/// The module whose name begins, after a blank, at `at`; none if its body is in another file.
fn inline_module(code: &str, at: usize) -> Option<InlineModule> {
    let after = code[at..].strip_prefix(' ')?;
    let name = &after[..after.find(|letter| !is_word(letter))?];
    let begin = at + 1 + name.len();
    let opens = begin + code[begin..].find(|letter: char| !letter.is_whitespace())?;
    if !code[opens..].starts_with('{') {
        return None;
    }
    Some(InlineModule { name: name.to_owned(), begin, end: matching(code, opens, '{', '}')? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(path: &str, text: &str) -> Vec<String> {
        let file = File::new(path, text);
        let source = file.source.as_ref().expect("the path ends in .rs");
        imports(&file, source).into_iter().map(|import| import.path.join("::")).collect()
    }

    #[test]
    fn groups_are_unfolded() {
        let text = "use crate::{key::{Key, Tag as T}, tier::disk};\n";
        assert_eq!(imported("crates/larder/src/read.rs", text), ["key::Key", "key::Tag", "tier::disk"]);
    }

    #[test]
    fn super_and_self_are_resolved_by_place() {
        let text = "use super::memory::Memory;\nuse self::queue;\nfn f() { super::disk::open(); crate::log::append::<u8>(); }\n";
        let expected = ["tier::memory::Memory", "tier::disk::queue", "tier::disk::open", "log::append"];
        assert_eq!(imported("crates/larder/src/tier/disk.rs", text), expected);
    }

    #[test]
    fn an_inline_module_is_one_level_deeper() {
        let text = "mod tests {\n    use super::*;\n    use super::super::tier;\n}\nuse super::log;\n";
        assert_eq!(imported("crates/larder/src/key.rs", text), ["key", "tier", "log"]);
    }

    #[test]
    fn the_words_alone_are_no_path() {
        let text = "pub(crate) fn f(&self) -> Self { self.g(); }\nimpl Trait for crate_name::X {}\n";
        assert_eq!(imported("crates/larder/src/key.rs", text), [""; 0]);
    }

    #[test]
    fn re_exports_are_known_by_their_name() {
        let tree = Tree::with_files([File::new("crates/larder/src/lib.rs", "mod cache;\npub use cache::{Larder, Lookup};\n")]);
        let exports = re_exports(&tree, "crates/larder/src/lib.rs");
        assert_eq!(exports.get("Larder").map(|path| path.join("::")).as_deref(), Some("cache::Larder"));
    }
}
