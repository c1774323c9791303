//! Who did what, from where, to which names, and what came of it: lines of JSON that can be added to and not changed without that being
//! seen. Values are never in it.
//!
//! ```text
//!   door --begin--> Slot          room in the queue, or a refusal: what cannot be recorded is not done
//!        --end----> Written       the record is on its way; the answer waits until it is written
//!                     |
//!   queue.rs (bounded) ──> writer.rs (a thread) ──> files.rs  DATA/audit/audit-N.jsonl, head
//!                                                   chain.rs  each line has the hash of the line before
//!   verify.rs, search.rs: reading.rs line by line, in bounded memory; they need no server
//! ```
//!
//! A record is made when its operation has ended, since it says what came of it. Its place in the queue is taken before, so that an
//! operation that was carried out is never one that there was no room to record. A client that goes away, and a panic, leave a record
//! that says that the end is not known. What was answered is on the disk; what was not may be missing after `kill -9`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use larder::Clock;
use parking_lot::Mutex;

use queue::{NoRoom, Queue};

mod chain;
mod files;
mod queue;
mod reading;
pub mod record;
pub mod search;
pub mod verify;
mod writer;

pub use queue::{Retired, Slot, Standing, Written};
pub use record::{Class, Decision, Name, Outcome, Record};

/// What is recorded beside whatever is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What is administration.
    Admin,
    /// And removals, invalidations and events.
    #[default]
    Changes,
    /// And reads and writes.
    All,
}

/// What to do with an operation that cannot be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Refuse,
    /// It is carried out and counted, and health says so.
    Warn,
}

/// How the audit log is kept.
#[derive(Clone)]
pub struct AuditSettings {
    /// Where.
    pub folder: PathBuf,
    /// What is recorded.
    pub level: Level,
    /// What to do with what cannot be.
    pub on_failure: OnFailure,
    /// Where there is one, names are told by their hash under this secret (HMAC-SHA-256).
    pub name_secret: Option<Vec<u8>>,
    /// Whether a record is on stable storage before its operation is answered, or only with the operating system. Default: it is.
    pub is_durable: bool,
    /// Records that wait to be written; with more, operations are as `on_failure` says. Default 4,096.
    pub queue_max: usize,
    /// A file with more bytes is followed by another. Default 64 MiB.
    pub file_bytes_max: u64,
    /// So is one that is older. Default a day.
    pub file_age_max: Duration,
    /// Files whose last record is older are removed. Default a year.
    pub keep: Duration,
    /// So are the oldest while all of them have more bytes. Default 4 GiB.
    pub bytes_max: u64,
}

/// Without the secret.
impl fmt::Debug for AuditSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuditSettings { folder, level, on_failure, .. } = self;
        f.debug_struct("AuditSettings")
            .field("folder", folder)
            .field("level", level)
            .field("on_failure", on_failure)
            .finish_non_exhaustive()
    }
}

impl AuditSettings {
    /// In this folder, with the defaults.
    pub fn new(folder: PathBuf) -> Self {
        AuditSettings {
            folder,
            level: Level::default(),
            on_failure: OnFailure::default(),
            name_secret: None,
            is_durable: true,
            queue_max: 4_096,
            file_bytes_max: 64 << 20,
            file_age_max: Duration::from_secs(86_400),
            keep: Duration::from_secs(365 * 86_400),
            bytes_max: 4 << 30,
        }
    }
}

/// Why something is not recorded.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuditError {
    /// The folder or a file in it cannot be used.
    File(PathBuf, io::Error),
    /// Another process writes to the folder.
    Locked(PathBuf),
    /// The log cannot be written, and what cannot be recorded is refused.
    Failing(String),
    /// So many records wait to be written that there is no room for one more.
    Full(usize),
    /// Nobody writes any more.
    Closed,
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditError::File(path, error) => write!(f, "the audit log at {} cannot be used: {error}", path.display()),
            AuditError::Locked(path) => write!(f, "another process writes the audit log at {}", path.display()),
            AuditError::Failing(why) => write!(f, "the audit log cannot be written, so nothing is done that belongs into it: {why}"),
            AuditError::Full(most) => write!(f, "{most} records wait to be written to the audit log, which is the most that may"),
            AuditError::Closed => f.write_str("the audit log is closed"),
        }
    }
}

impl std::error::Error for AuditError {}

/// See the head of this file.
pub struct Audit {
    queue: Arc<Queue>,
    level: Level,
    on_failure: OnFailure,
    clock: Clock,
    folder: PathBuf,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the log, or begins one. What a killed process left half written is put aside, and that is recorded.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(settings: AuditSettings, clock: Clock) -> Result<Arc<Self>, AuditError> {
        let queue = Arc::new(Queue::new(settings.queue_max));
        let (level, on_failure) = (settings.level, settings.on_failure);
        let failed = |error| AuditError::File(settings.folder.clone(), error);
        let writer = writer::Writer::open(&settings, clock.clone(), queue.clone())?;
        let thread = std::thread::Builder::new().name("larder-audit".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        Ok(Arc::new(Audit { queue, level, on_failure, clock, folder: settings.folder, writer: Mutex::new(Some(thread)) }))
    }

    /// Whether operations of a class are recorded.
    pub fn wants(&self, class: Class) -> bool {
        class.level() <= self.level
    }

    /// An operation begins: its record as it would be if nobody came to know its end. Nothing where such operations are not recorded.
    ///
    /// # Errors
    /// When it cannot be recorded, and must not be carried out therefore.
    pub fn begin(&self, class: Class, record: impl FnOnce() -> Record) -> Result<Option<Slot>, AuditError> {
        if !self.wants(class) {
            return Ok(None);
        }
        match (Queue::reserve(&self.queue, || self.now(record())), self.on_failure) {
            (Ok(slot), _) => Ok(Some(slot)),
            (Err(NoRoom::Closed), _) => Err(AuditError::Closed),
            (Err(why), OnFailure::Warn) => {
                self.queue.lose();
                tracing::debug!(?why, "an operation is not recorded");
                Ok(None)
            }
            (Err(NoRoom::Failing(why)), OnFailure::Refuse) => Err(AuditError::Failing(why)),
            (Err(NoRoom::Full(most)), OnFailure::Refuse) => Err(AuditError::Full(most)),
        }
    }

    /// Something was refused. Of very many in a second only their number is recorded: whoever is refused must not be able to fill the disk,
    /// or to have what is older removed to make room. It is not waited for, since nothing was done.
    pub fn refused(&self, record: impl FnOnce() -> Record) {
        Queue::refused(&self.queue, || self.now(record()));
    }

    /// Records have the time at which their operation began.
    fn now(&self, record: Record) -> Record {
        Record { at_ms: self.clock.now_ms(), ..record }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.queue.standing()
    }

    /// What to do with what cannot be recorded.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Has files removed whose time is over, as happens once a minute anyway.
    ///
    /// # Errors
    /// When one cannot be removed, or nobody writes any more.
    pub async fn retire(&self) -> Result<Retired, AuditError> {
        let answer = self.queue.ask_to_retire().await.map_err(|_| AuditError::Closed)?;
        answer.map_err(|error| AuditError::File(self.folder.clone(), error))
    }

    /// Writes what waits, and ends. What cannot be written then goes to the program's own log, line by line.
    pub fn close(&self) {
        self.queue.close();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the audit log panicked");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
