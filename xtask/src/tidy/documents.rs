//! Rules about what the project says: links that lead somewhere, commands that exist, a change log that is kept, and
//! nothing that is true on one machine only.

use std::collections::BTreeSet;

use super::Violation;
use super::source::is_word;
use super::tree::{File, Tree};

/// A link to a file of the project leads to one. Links to the web are not followed: a test must not need it.
pub fn links(tree: &Tree) -> Vec<Violation> {
    let folders: BTreeSet<&str> = tree.paths.iter().flat_map(|path| folders_of(path)).collect();
    let exists = |path: &str| tree.paths.contains(path) || folders.contains(path);
    let mut found = Vec::new();
    for file in tree.with_extension("md") {
        for (number, line) in prose_lines(file) {
            for target in targets(line) {
                let Some(path) = local_path(file, target) else { continue };
                if !exists(&path) {
                    found.push(Violation::new(&file.path, number, format!("there is no `{path}`: mend the link `{target}`")));
                }
            }
        }
    }
    found
}

fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(path.match_indices('/').map(|(end, _)| &path[..end]))
}

/// The lines that are not inside a fenced block.
fn prose_lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    file.lines().filter(move |(_, line)| {
        in_code ^= line.trim_start().starts_with("```");
        !in_code
    })
}

/// What the links of a line point at: `[text](target)`, and `[label]: target` at its beginning.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.match_indices("](").filter_map(|(at, opening)| {
        let after = &line[at + opening.len()..];
        Some(&after[..after.find([')', ' '])?])
    });
    let is_definition = line.starts_with('[') && !line.starts_with("[^");
    let definition = line.split_once("]: ").filter(|(label, _)| is_definition && !label.contains(']'));
    inline.chain(definition.and_then(|(_, target)| target.split_whitespace().next()))
}

/// The path from the root that `target`, in `file`, means; none when it leads to the web or stays in the file.
fn local_path(file: &File, target: &str) -> Option<String> {
    let path = target.split('#').next().filter(|path| !path.is_empty())?;
    if path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = file.path.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whoever types what a document, a workflow or CI's script says must get what it promises.
pub fn commands(tree: &Tree) -> Vec<Violation> {
    const CALL: &str = "cargo xtask ";
    let is_typed_from =
        |file: &&File| [".md", ".yml", ".yaml", ".sh"].iter().any(|end| file.path.ends_with(end)) || file.path.starts_with(".ci/");
    let mut found = Vec::new();
    for file in tree.files.iter().filter(is_typed_from) {
        for (number, line) in file.lines() {
            let called = line.match_indices(CALL).map(|(at, _)| first_word(&line[at + CALL.len()..]));
            // What does not begin with a small letter is no command: `cargo xtask COMMAND` stands for any of them.
            let called = called.filter(|name| name.starts_with(|letter: char| letter.is_lowercase()));
            for name in called.filter(|name| !tree.commands.contains(name)) {
                let advice = format!("there is no `cargo xtask {name}`: `cargo xtask help` lists what there is");
                found.push(Violation::new(&file.path, number, advice));
            }
        }
    }
    found
}

fn first_word(text: &str) -> &str {
    &text[..text.find(|letter| !is_word(letter) && letter != '-').unwrap_or(text.len())]
}

/// What changes for users is written down while it changes.
pub fn changelog(tree: &Tree) -> Vec<Violation> {
    const CHANGELOG: &str = "CHANGELOG.md";
    let log = tree.files.iter().find(|file| file.path == CHANGELOG);
    if log.is_some_and(|file| file.text.lines().any(|line| line.trim_end() == "## [Unreleased]")) {
        return Vec::new();
    }
    vec![Violation::new(CHANGELOG, 1, "keep a section `## [Unreleased]`: what users will notice goes there with the change")]
}

/// Folders that exist where the author sits: the heads of absolute paths.
const MACHINE_FOLDERS: [&str; 5] = ["/home/", "/root/", "/work/", "/Users/", "C:\\Users\\"];

/// The one file that must name them.
const MAY_NAME_THEM: [&str; 1] = ["xtask/src/tidy/documents.rs"];

/// A path of somebody's machine is wrong on every other, and says more about that machine than it should.
pub fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let files = tree.files.iter().filter(|file| !MAY_NAME_THEM.contains(&file.path.as_str()));
    let lines = files.flat_map(|file| file.lines().map(move |(number, line)| (file, number, line)));
    let found = lines.filter_map(|(file, number, line)| {
        let folder = MACHINE_FOLDERS.into_iter().find(|folder| begins_a_path(line, folder))?;
        let advice = format!("`{folder}` is a folder of one machine: use a path from the root, or a temporary folder");
        Some(Violation::new(&file.path, number, advice))
    });
    found.collect()
}

/// Whether `folder` stands in `line` as the head of a path: `target/work/` and `example.org/home/` are other things.
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| is_word(letter) || "-.~*})]>".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_wherever_they_stand() {
        let found = |line| targets(line).collect::<Vec<_>>();
        assert_eq!(found("See [a](A.md) and [b](docs/b.md#part \"title\")."), ["A.md", "docs/b.md#part"]);
        assert_eq!(found("[label]: ../C.md"), ["../C.md"]);
        assert_eq!(found("[^note]: no link"), [""; 0]);
        assert_eq!(found("an array[0](call"), [""; 0]);
    }

    #[test]
    fn targets_are_taken_from_the_file_that_names_them() {
        let file = File::new("docs/guide/start.md", "");
        assert_eq!(local_path(&file, "../../README.md#start").as_deref(), Some("README.md"));
        assert_eq!(local_path(&file, "./next.md").as_deref(), Some("docs/guide/next.md"));
        assert_eq!(local_path(&file, "#here"), None);
        assert_eq!(local_path(&file, "https://example.org/a.md"), None);
    }

    #[test]
    fn a_machine_folder_is_the_head_of_a_path() {
        for line in ["cd /work/x", "\"/home/me\"", "file:///root/.cargo", "=/work/a"] {
            assert!(MACHINE_FOLDERS.iter().any(|folder| begins_a_path(line, folder)), "{line}");
        }
        for line in ["target/work/x", "https://example.org/home/", "a/root/b", "{dir}/work/x"] {
            assert!(!MACHINE_FOLDERS.iter().any(|folder| begins_a_path(line, folder)), "{line}");
        }
    }
}
