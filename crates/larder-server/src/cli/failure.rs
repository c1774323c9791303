//! Why a command could not be carried out: one readable line, and what to do about it.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The question could not be asked or answered.
const FAILED: u8 = 2;

/// Why a command could not be carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    /// What to do about it.
    hint: Option<String>,
    /// Whether anyone is there to read it.
    silent: bool,
}

impl Failure {
    /// Says what went wrong.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, silent: false }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What was to be printed could not be. Nothing is said where the reader has left (`larder keys | head`).
    pub fn output(error: io::Error) -> Self {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        Self { silent, ..Self::new(format!("the output cannot be written: {error}")) }
    }

    /// Says it on stderr.
    pub fn report(&self) -> ExitCode {
        if !self.silent {
            eprintln!("{self}");
        }
        FAILED.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "larder: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n        {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_and_what_to_do() {
        let failure = Failure::new("no server").hint("start one");
        assert_eq!(failure.to_string(), "larder: no server\n        start one");
        assert!(Failure::output(io::ErrorKind::BrokenPipe.into()).silent);
        assert!(!Failure::output(io::ErrorKind::StorageFull.into()).silent);
    }
}
