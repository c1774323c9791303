//! History: what happened in the cache, minute by minute, kept in SQLite for years, and asked for by reports.

use std::fmt;
use std::path::{Path, PathBuf};

use larder::analytics::Rollup;

mod step;

pub use step::{BUCKETS_MAX, Step, zone};

/// What happened, as far back as it is kept. A cheap handle on what the server writes, or on a file that is only read.
///
/// Its answers are read from a file: whoever may not block asks from a thread that may.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// From this moment on, in milliseconds since 1970.
    pub from_ms: u64,
    /// Up to this moment, which is not in it any more.
    pub to_ms: u64,
    /// In which steps.
    pub step: Step,
    /// Of these namespaces alone; all, if there are none.
    pub namespaces: Vec<String>,
    /// Of these instances alone; all, if there are none.
    pub instances: Vec<String>,
    /// How much is told of each step.
    pub detail: Detail,
}

/// How much an answer tells of each step: each of these with what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What was counted, sizes and measures.
    Counts,
    /// How long it took.
    Latencies,
    /// Which keys there were. Minutes have none of them; an hour has.
    Sketches,
}

/// A stretch without a gap for which there are minutes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The instance.
    pub instance: String,
    /// Its first moment.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
}

/// The levels at which history is kept, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Minutes.
    Minute,
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
    /// Months of UTC.
    Month,
}

impl History {
    /// Opens a file to read it alone, whether a server writes to it or not.
    ///
    /// # Errors
    /// When there is none, or it is no history, or one of a later version.
    pub fn read_only(path: &Path) -> Result<History, HistoryError> {
        Ok(History { path: path.into() })
    }

    /// What happened, one rollup for each step from the first moment to the last, also where nothing is known: those have no samples.
    /// All instances are merged. Sums are exact as far back as minutes are kept, and after that wherever a step begins and ends with
    /// what is kept ([`finest`](Self::finest)).
    ///
    /// # Errors
    /// When there are too many steps, or the file cannot be read.
    pub fn buckets(&self, query: &Query) -> Result<Vec<Rollup>, HistoryError> {
        Err(HistoryError::NotThere(self.path.join(query.step.to_string())))
    }

    /// For which stretches there is anything, by instance, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn coverage(&self, from_ms: u64, to_ms: u64) -> Result<Vec<Covered>, HistoryError> {
        Err(HistoryError::NotThere(self.path.join(format!("{from_ms}-{to_ms}"))))
    }

    /// The first moment that is known of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn earliest(&self) -> Result<Option<u64>, HistoryError> {
        Err(HistoryError::NotThere(self.path.clone()))
    }

    /// The end of what is known.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn latest(&self) -> Result<Option<u64>, HistoryError> {
        Err(HistoryError::NotThere(self.path.clone()))
    }

    /// The names of all namespaces that there is history of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn namespaces(&self) -> Result<Vec<String>, HistoryError> {
        Err(HistoryError::NotThere(self.path.clone()))
    }

    /// The names of all instances that there is history of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn instances(&self) -> Result<Vec<String>, HistoryError> {
        Err(HistoryError::NotThere(self.path.clone()))
    }

    /// The finest level at which everything since this moment is kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn finest(&self, _from_ms: u64) -> Result<Span, HistoryError> {
        Err(HistoryError::NotThere(self.path.clone()))
    }
}

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum HistoryError {
    /// There is no such file.
    NotThere(PathBuf),
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

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryError::NotThere(path) => write!(f, "there is no history at {}", path.display()),
            HistoryError::TooMany { most } => write!(f, "more than {most} steps; take longer ones, or a shorter time"),
            HistoryError::Calendar => f.write_str("a moment outside of the calendar"),
            HistoryError::UnknownZone(name) => write!(f, "no time zone is called \"{name}\"; Europe/Berlin is one"),
        }
    }
}

impl std::error::Error for HistoryError {}
