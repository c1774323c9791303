//! Why there is no history, or no answer from it, in words that say what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no history, or no answer from it.
#[derive(Debug)]
#[non_exhaustive]
pub enum HistoryError {
    /// There is no such file.
    NotThere(PathBuf),
    /// It was written by a later version, and is left as it is.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that this program knows.
        known: u32,
    },
    /// It is a database of another program's.
    Foreign(PathBuf),
    /// Another process writes to it.
    Locked(PathBuf),
    /// The file cannot be reached.
    File(PathBuf, io::Error),
    /// What is stored is not what was written.
    Damaged(String),
    /// SQLite says no.
    Database(rusqlite::Error),
    /// Nobody writes any more.
    Closed,
    /// More steps than an answer has.
    TooMany {
        /// The most that it has.
        most: usize,
    },
    /// A moment that no calendar has.
    Calendar,
    /// No time zone of this name.
    UnknownZone(String),
}

impl HistoryError {
    /// Whether the file is of no use any more.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            HistoryError::Damaged(_) => true,
            HistoryError::Database(error) => error.sqlite_error_code().is_some_and(|code| matches!(code, DatabaseCorrupt | NotADatabase)),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for HistoryError {
    fn from(error: rusqlite::Error) -> Self {
        HistoryError::Database(error)
    }
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryError::NotThere(path) => write!(f, "there is no history at {}", path.display()),
            HistoryError::Newer { path, found, known } => write!(
                f,
                "{} is a history of version {found}, and this program knows versions up to {known}; it is left as it is",
                path.display()
            ),
            HistoryError::Foreign(path) => write!(f, "{} is a database, but none of larder's; it is left as it is", path.display()),
            HistoryError::Locked(path) => write!(f, "another process writes its history to {}", path.display()),
            HistoryError::File(path, error) => write!(f, "{}: {error}", path.display()),
            HistoryError::Damaged(what) => write!(f, "the history is damaged: {what}"),
            HistoryError::Database(error) => write!(f, "the history cannot be used: {error}"),
            HistoryError::Closed => f.write_str("the history is closed"),
            HistoryError::TooMany { most } => write!(f, "more than {most} steps; take longer ones, or a shorter time"),
            HistoryError::Calendar => f.write_str("a moment outside of the calendar"),
            HistoryError::UnknownZone(name) => write!(f, "no time zone is called \"{name}\"; Europe/Berlin is one"),
        }
    }
}

impl std::error::Error for HistoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HistoryError::File(_, error) => Some(error),
            HistoryError::Database(error) => Some(error),
            _ => None,
        }
    }
}
