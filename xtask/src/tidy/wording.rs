//! Rules about single words: some promise work that nobody does, some name nothing, some wait for luck.

use super::Violation;
use super::source::{Source, is_word, whole_words};
use super::tree::{File, Tree};

/// In code. Clippy knows these too, but only where it compiles, under the features it compiles with.
const UNFINISHED_CODE: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// In comments as in code.
const UNFINISHED_NOTES: [&str; 3] = ["FIXME", "TODO", "XXX"];

/// Nothing is left for later in the code: what is missing is an issue, or it is done.
pub fn unfinished(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, source) in tree.rust() {
        for word in UNFINISHED_CODE {
            found.extend(words_in(file, source, &source.code, word, "finish it, or take it out"));
        }
        for word in UNFINISHED_NOTES {
            for text in [&source.code, &source.comments] {
                found.extend(words_in(file, source, text, word, "do it now or open an issue; a note in the code is lost"));
            }
        }
    }
    found
}

/// The lints forbid it in what is compiled; this sees every file.
pub fn no_unsafe(tree: &Tree) -> Vec<Violation> {
    let advice = "write it without; DECISIONS.md says why";
    tree.rust().flat_map(|(file, source)| words_in(file, source, &source.code, "unsafe", advice)).collect()
}

/// The calls that pass time by waiting.
const SLEEPS: [&str; 3] = ["thread::sleep", "time::sleep", "time::sleep_until"];

/// A test that sleeps is slow on a good day and wrong on a bad one.
pub fn no_sleep(tree: &Tree) -> Vec<Violation> {
    let advice = "wait for the condition itself, or drive a manual clock: a test that sleeps is slow or wrong";
    let mut found = Vec::new();
    for (file, source) in tree.rust().filter(|(file, _)| file.path.starts_with("crates/")) {
        for call in SLEEPS {
            let in_tests = whole_words(&source.code, call).filter(|&offset| file.is_test() || source.is_test(offset));
            found.extend(in_tests.map(|offset| violation(file, source, offset, call, advice)));
        }
    }
    found
}

/// Names that say nothing about what is held: the reader must open the thing to learn what it is.
const EMPTY_NAMES: [&str; 9] = ["manager", "managers", "helper", "helpers", "util", "utils", "common", "misc", "stuff"];

/// The keywords that are followed by a name of the author's choice.
const DECLARATIONS: [&str; 6] = ["struct", "enum", "trait", "type", "union", "mod"];

/// Things are named for what they hold.
pub fn empty_names(tree: &Tree) -> Vec<Violation> {
    let of_files = tree.rust().flat_map(|(file, _)| file_names(file));
    let declared = tree.rust().flat_map(|(file, source)| declared_names(file, source));
    of_files.chain(declared).collect()
}

fn file_names(file: &File) -> impl Iterator<Item = Violation> + '_ {
    let parts = file.path.trim_end_matches(".rs").split('/');
    parts.filter(|part| is_empty_name(part)).map(|part| Violation::new(&file.path, 1, name_advice(part)))
}

fn declared_names<'a>(file: &'a File, source: &'a Source) -> impl Iterator<Item = Violation> + 'a {
    DECLARATIONS.into_iter().flat_map(move |keyword| {
        whole_words(&source.code, keyword).filter_map(move |offset| {
            let after = source.code[offset + keyword.len()..].strip_prefix(' ')?;
            let name = &after[..after.find(|letter| !is_word(letter)).unwrap_or(after.len())];
            is_empty_name(name).then(|| Violation::new(&file.path, source.line_of(offset), name_advice(name)))
        })
    })
}

/// Whether the last word of `name`, in `snake_case` or `CamelCase`, is an empty one.
fn is_empty_name(name: &str) -> bool {
    let word = name.rsplit(['_', '-']).next().unwrap_or(name);
    let last_word = word.rfind(char::is_uppercase).map_or(word, |capital| &word[capital..]);
    EMPTY_NAMES.contains(&last_word.to_lowercase().as_str())
}

fn name_advice(name: &str) -> String {
    format!("`{name}` could hold anything: name it for what it holds, or move its parts to where they belong")
}

fn words_in<'a>(file: &'a File, source: &'a Source, text: &'a str, word: &'a str, advice: &'a str) -> impl Iterator<Item = Violation> + 'a {
    whole_words(text, word).map(move |offset| violation(file, source, offset, word, advice))
}

fn violation(file: &File, source: &Source, offset: usize, word: &str, advice: &str) -> Violation {
    Violation::new(&file.path, source.line_of(offset), format!("`{word}`: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_empty_by_their_last_word() {
        for name in ["CacheManager", "Helper", "string_utils", "common", "TestHelpers", "cache-common"] {
            assert!(is_empty_name(name), "{name}");
        }
        for name in ["Position", "Managed", "manager_of_leases", "Utility", "Commons", "uncommon"] {
            assert!(!is_empty_name(name), "{name}");
        }
    }
}
