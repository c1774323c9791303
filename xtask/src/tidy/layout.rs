//! Rules about how files are laid out: what they open with, what they are called, how long and wide they are.

use super::Violation;
use super::source::Source;
use super::tree::{File, Tree};

/// More than this does not fit one head. Split where the sentence in the file's `//!` has an "and".
const FILE_LINES_MAX: usize = 700;

/// The width rustfmt is set to; rustfmt itself leaves comments alone.
const LINE_COLUMNS_MAX: usize = 140;

/// Every Rust file opens with its purpose.
pub fn purpose(tree: &Tree) -> Vec<Violation> {
    let silent = tree.rust().filter(|(file, _)| {
        let opening = file.text.lines().next().and_then(|line| line.strip_prefix("//!"));
        opening.is_none_or(|purpose| purpose.trim().is_empty())
    });
    let advice = "open the file with `//!`: what it is, and what it may not know";
    silent.map(|(file, _)| Violation::new(&file.path, 1, advice)).collect()
}

/// A module with children is `foo.rs` beside `foo/`, so that the tree lists names and not twelve files called `mod.rs`.
pub fn no_mod_rs(tree: &Tree) -> Vec<Violation> {
    let modules = tree.rust().filter(|(file, _)| file.name() == "mod.rs");
    let advice = |path: &str| format!("rename it to {}.rs, beside the folder", path.trim_end_matches("/mod.rs"));
    modules.map(|(file, _)| Violation::new(&file.path, 1, advice(&file.path))).collect()
}

/// Source files stay readable in one sitting.
pub fn file_length(tree: &Tree) -> Vec<Violation> {
    let sources = tree.rust().filter(|(file, _)| file.path.contains("/src/"));
    let counted = sources.map(|(file, _)| (file, file.text.lines().count()));
    let too_long = counted.filter(|(_, lines)| *lines > FILE_LINES_MAX);
    let advice = |lines| format!("{lines} lines, of {FILE_LINES_MAX} at most: move what has its own purpose to its own file");
    too_long.map(|(file, lines)| Violation::new(&file.path, FILE_LINES_MAX + 1, advice(lines))).collect()
}

/// Lines fit beside their neighbour. Not counted are the insides of strings, nor, in prose, tables, code and links,
/// which cannot be broken.
pub fn line_width(tree: &Tree) -> Vec<Violation> {
    let rust = tree.rust().flat_map(|(file, source)| wide_rust_lines(file, source));
    let prose = tree.with_extension("md").flat_map(wide_prose_lines);
    rust.chain(prose).collect()
}

fn wide_rust_lines<'a>(file: &'a File, source: &'a Source) -> impl Iterator<Item = Violation> + 'a {
    file.lines().zip(source.literals.lines()).filter_map(|((number, line), literals)| {
        let is_unbreakable = line.contains("://") || is_table_in_comment(line);
        let in_strings = literals.trim().chars().count();
        let columns = line.chars().count().saturating_sub(in_strings);
        too_wide(file, number, columns).filter(|_| !is_unbreakable)
    })
}

fn is_table_in_comment(line: &str) -> bool {
    let comment = line.trim_start().strip_prefix("//");
    comment.is_some_and(|comment| comment.trim_start_matches(['/', '!', ' ']).starts_with('|'))
}

fn wide_prose_lines(file: &File) -> impl Iterator<Item = Violation> + '_ {
    let mut in_code = false;
    file.lines().filter_map(move |(number, line)| {
        in_code ^= line.trim_start().starts_with("```");
        let is_table = line.trim_start().starts_with('|');
        let has_link = line.contains("](") || line.contains("://");
        too_wide(file, number, line.chars().count()).filter(|_| !in_code && !is_table && !has_link)
    })
}

fn too_wide(file: &File, number: usize, columns: usize) -> Option<Violation> {
    let advice = || format!("{columns} columns, of {LINE_COLUMNS_MAX} at most: break the line");
    (columns > LINE_COLUMNS_MAX).then(|| Violation::new(&file.path, number, advice()))
}

/// Blanks that nobody sees make differences that everybody sees.
pub fn white_space(tree: &Tree) -> Vec<Violation> {
    let ours = ["rs", "toml", "md", "sh", "yml", "yaml"].into_iter().flat_map(|extension| tree.with_extension(extension));
    ours.flat_map(|file| stray_blanks(file).chain(bad_end(file))).collect()
}

fn stray_blanks(file: &File) -> impl Iterator<Item = Violation> + '_ {
    // Not `lines()`, which would swallow the carriage return of a Windows line end.
    (1..).zip(file.text.split('\n')).filter_map(|(number, line)| {
        let advice = if line.contains('\t') {
            "replace the tab by blanks"
        } else if line.ends_with(char::is_whitespace) {
            "take away the blanks at the end of the line"
        } else {
            return None;
        };
        Some(Violation::new(&file.path, number, advice))
    })
}

fn bad_end(file: &File) -> Option<Violation> {
    let advice = if file.text.is_empty() {
        "the file is empty: remove it"
    } else if !file.text.ends_with('\n') {
        "end the last line with a newline"
    } else if file.text.ends_with("\n\n") {
        "end the file with one newline, not with blank lines"
    } else {
        return None;
    };
    Some(Violation::new(&file.path, file.text.lines().count().max(1), advice))
}
