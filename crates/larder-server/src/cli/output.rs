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

/// `1 name`, `2 names`, `2 entries`.
pub fn plural(number: u64, unit: &str) -> String {
    let number_shown = crate::demo::count(number);
    match unit.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u'])) {
        _ if number == 1 => format!("{number_shown} {unit}"),
        Some(stem) => format!("{number_shown} {stem}ies"),
        None => format!("{number_shown} {unit}s"),
    }
}
