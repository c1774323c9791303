//! History: what happened in the cache, minute by minute, kept in SQLite for years, and asked for by reports.
//!
//! ```text
//!   Recorder::cut --> historian --> writer --> store --> minute, hour, day, month      (schema.rs: what is where)
//!   (the library)     each minute   a thread   one transaction a minute
//!                                                            |
//!   other instances <-- fleet over Redis --> absorbed        '--> History::buckets --> reports
//! ```
//!
//! All of it is in universal time, and sums: whoever shows a rate divides, whoever shows a day has a time zone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::analytics::Rollup;
use parking_lot::Mutex;
use rusqlite::Connection;

mod cover;
mod fault;
mod fields;
mod fleet;
mod fold;
mod historian;
mod parcels;
mod rows;
mod schema;
mod span;
mod step;
mod store;
mod writer;

pub use fault::HistoryError;
pub use fleet::Fleet;
pub use historian::{Historian, Running, wall_ms};
pub use span::Span;
pub use step::{BUCKETS_MAX, Step, zone};
pub use store::{Opened, Pruned, Store};
pub use writer::{Pruner, Writer};

use fold::{Reader, Wanted};

/// Connections that are kept open for the next who reads.
const IDLE_MAX: usize = 4;

/// What happened, as far back as it is kept. A cheap handle on what a server writes, or on a file that is only read.
///
/// Its answers are read from a file: whoever may not block asks from a thread that may.
#[derive(Clone)]
pub struct History(Arc<Source>);

enum Source {
    /// Readers have connections of their own, and never wait for who writes.
    File { path: PathBuf, idle: Mutex<Vec<Connection>> },
    /// What is in memory has one connection.
    Memory(Arc<Mutex<Store>>),
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

/// How long each level is kept. The next longer one is kept at least as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Minutes, and which keys there were in an hour. Default 14 days.
    pub minutes: Duration,
    /// Hours. Default two years.
    pub hours: Duration,
    /// Days. Default ten years.
    pub days: Duration,
    /// Months, and which minutes there were. Default ten years.
    pub months: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Retention { minutes: days(14), hours: days(730), days: days(3_653), months: days(3_653) }
    }
}

/// Tables that are kept for the same time, each with the column that says when, and the level that is made up from them.
type Tables = (&'static [(&'static str, &'static str)], Option<Span>, u64);

impl Retention {
    /// What is kept where there is no file: what fits some megabytes of memory.
    pub(crate) fn in_memory(self) -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Retention { minutes: self.minutes.min(days(1)), hours: self.hours.min(days(14)), days: self.days, months: self.months }
    }

    fn parts(&self) -> [Tables; 5] {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        const TIME: &str = "start_ms";
        [
            (&[("minute", TIME), ("minute_measure", TIME)], Some(Span::Hour), ms(self.minutes)),
            (&[("hour_sketch", TIME)], Some(Span::Day), ms(self.minutes)),
            (&[("hour", TIME), ("hour_measure", TIME)], Some(Span::Day), ms(self.hours)),
            (&[("day", TIME), ("day_measure", TIME), ("day_sketch", TIME)], Some(Span::Month), ms(self.days)),
            (&[("month", TIME), ("month_measure", TIME), ("month_sketch", TIME), ("presence", "hour_ms")], None, ms(self.months)),
        ]
    }
}

impl History {
    /// Opens a file to read it alone, whether a server writes to it or not.
    ///
    /// # Errors
    /// When there is none, or it is no history, or one of a later version.
    pub fn read_only(path: &Path) -> Result<History, HistoryError> {
        let first = store::open_read_only(path)?;
        Ok(History(Arc::new(Source::File { path: path.into(), idle: Mutex::new(vec![first]) })))
    }

    /// What a store writes, also while it does.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn of(store: &Arc<Mutex<Store>>) -> Result<History, HistoryError> {
        let path = store.lock().path().map(Path::to_owned);
        match path {
            Some(path) => Self::read_only(&path),
            None => Ok(History(Arc::new(Source::Memory(store.clone())))),
        }
    }

    /// What happened, one rollup for each step from the first moment to the last, also where nothing is known: those have no samples.
    /// All instances are merged. Sums are exact as far back as minutes are kept, and after that wherever a step begins and ends with
    /// what is kept ([`finest`](Self::finest)); what does not counts for the step that its middle is in.
    ///
    /// # Errors
    /// When there are too many steps, or the file cannot be read.
    pub fn buckets(&self, query: &Query) -> Result<Vec<Rollup>, HistoryError> {
        self.merged(&query.step.stretches(query.from_ms, query.to_ms)?, query)
    }

    /// The same, one rollup for each stretch between two moments that follow each other: for who has a calendar of its own. The query's
    /// moments and step are not looked at.
    ///
    /// # Errors
    /// As [`buckets`](Self::buckets).
    pub fn between(&self, edges_ms: &[u64], query: &Query) -> Result<Vec<Rollup>, HistoryError> {
        let stretches: Vec<(u64, u64)> = edges_ms.iter().copied().zip(edges_ms.iter().copied().skip(1)).collect();
        self.merged(&stretches, query)
    }

    fn merged(&self, stretches: &[(u64, u64)], query: &Query) -> Result<Vec<Rollup>, HistoryError> {
        if stretches.len() > BUCKETS_MAX {
            return Err(HistoryError::TooMany { most: BUCKETS_MAX });
        }
        self.read(|db| {
            let reader = Reader::new(db)?;
            let instances = fold::instances(db)?;
            let named = |wanted: &String| instances.iter().find(|(_, name)| *name == wanted).map(|(number, _)| *number);
            let wanted = Wanted {
                detail: query.detail,
                namespaces: (!query.namespaces.is_empty()).then(|| reader.namespaces().numbers_of(&query.namespaces)),
                instances: (!query.instances.is_empty()).then(|| query.instances.iter().filter_map(named).collect()),
            };
            stretches.iter().map(|stretch| reader.bucket(*stretch, &wanted)).collect()
        })
    }

    /// For which stretches there is anything, by instance, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn coverage(&self, from_ms: u64, to_ms: u64) -> Result<Vec<Covered>, HistoryError> {
        self.read(|db| {
            let names = fold::instances(db)?;
            let mut covered = Vec::new();
            for (number, hours) in fold::minutes_by_instance(db, from_ms, to_ms)? {
                let instance = names.get(&number).ok_or_else(|| HistoryError::Damaged(format!("no instance has the number {number}")))?;
                let stretch = |(from_ms, to_ms)| Covered { instance: instance.clone(), from_ms, to_ms };
                covered.extend(fold::stretches(&hours).into_iter().map(stretch));
            }
            Ok(covered)
        })
    }

    /// The first moment that is known of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn earliest(&self) -> Result<Option<u64>, HistoryError> {
        Ok(self.read(fold::extent)?.map(|(earliest, _)| earliest))
    }

    /// The end of what is known.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn latest(&self) -> Result<Option<u64>, HistoryError> {
        Ok(self.read(fold::extent)?.map(|(_, latest)| latest))
    }

    /// The names of all namespaces that there is history of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn namespaces(&self) -> Result<Vec<String>, HistoryError> {
        self.read(|db| Ok(rows::Names::read(db, "namespace")?.into_names()))
    }

    /// The names of all instances that there is history of. Of those that have the same, each is followed by its own identity.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn instances(&self) -> Result<Vec<String>, HistoryError> {
        self.read(|db| {
            let known: BTreeMap<i64, String> = fold::instances(db)?;
            Ok(known.into_values().collect())
        })
    }

    /// The finest level at which everything since this moment is kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn finest(&self, from_ms: u64) -> Result<Span, HistoryError> {
        self.read(|db| Ok(Reader::new(db)?.levels().finest_since(from_ms)))
    }

    /// Reads with one view of the database, whatever is written meanwhile.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, HistoryError>) -> Result<T, HistoryError> {
        match &*self.0 {
            Source::Memory(store) => read(store.lock().db()),
            Source::File { path, idle } => {
                // Not within the condition of a match: the lock would be held while the file is opened.
                let waiting = idle.lock().pop();
                let db = match waiting {
                    Some(db) => db,
                    None => store::open_read_only(path)?,
                };
                let view = db.unchecked_transaction()?;
                let answer = read(&view)?;
                view.finish()?;
                let mut idle = idle.lock();
                if idle.len() < IDLE_MAX {
                    idle.push(db);
                }
                Ok(answer)
            }
        }
    }

    /// Lets go of the connections to a file that is another by now.
    fn forget_connections(&self) {
        if let Source::File { idle, .. } = &*self.0 {
            let old = std::mem::take(&mut *idle.lock());
            drop(old);
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::File { path, .. } => write!(f, "History({})", path.display()),
            Source::Memory(_) => f.write_str("History(in memory)"),
        }
    }
}

#[cfg(test)]
mod tests;
