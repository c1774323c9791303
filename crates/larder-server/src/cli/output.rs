//! How commands answer: JSON for programs, words for people. Nothing else prints.

use std::io::{self, IsTerminal, Write};

use serde_json::Value as Json;

use super::failure::Failure;

/// The voice of one command.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether a program listens.
    pub json: bool,
}

impl Output {
    /// A result: the object for programs, or the text for people.
    pub fn say(self, json: &Json, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { line(&json.to_string()) } else { line(&text()) }
    }

    /// What is only of interest to a person, and no part of the result.
    pub fn remark(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }
}

/// A line of the result.
pub fn line(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(Failure::output)
}

/// A value as it is, so that it can be redirected into a file; on a terminal its last line is ended, and what is no text
/// stays off it.
pub fn value(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let watched = stdout.is_terminal();
    if watched && std::str::from_utf8(bytes).is_err() {
        let what = format!("the value is {} bytes that are no text", bytes.len());
        return Err(Failure::new(what).hint("redirect it into a file: larder get KEY > FILE, or use --json"));
    }
    stdout.write_all(bytes).map_err(Failure::output)?;
    if watched && !bytes.ends_with(b"\n") {
        line("")?;
    }
    stdout.flush().map_err(Failure::output)
}

/// Whether what is printed may have colours: somebody looks at it, and does not mind.
pub fn has_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text in a colour of the terminal's, if it is to have one.
pub fn coloured(text: &str, colour: Option<&str>) -> String {
    colour.map_or_else(|| text.to_owned(), |colour| format!("\u{1b}[{colour}m{text}\u{1b}[0m"))
}

/// A text that came from outside, such that a terminal takes it for text and nothing else.
pub fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// `1 name`, `2 names`, `2 entries`.
pub fn plural(number: u64, unit: &str) -> String {
    let number_shown = crate::demo::count(number);
    match unit.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u'])) {
        _ if number == 1 => format!("{number_shown} {unit}"),
        Some(stem) => format!("{number_shown} {stem}ies"),
        None => format!("{number_shown} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_does_not_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}d\u{e4}"), "a\\u{1b}[31mb\\nc\\u{202e}d\u{e4}");
    }
}
