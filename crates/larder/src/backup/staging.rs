//! What keeps readers from seeing half of a restore, across the end of the process: the hold, and the file that remembers it.
//!
//! ```text
//!   position appended -> hold in the index -> DATA/restoring on stable storage -> entries written ... all on stable storage
//!     -> "restored" appended -> DATA/restoring removed -> hold let go
//! ```
//!
//! A process that ends anywhere in between finds the file when it opens, and holds again. It is removed only once everything is there, so
//! after it is gone there is nothing to hold. It says of what the restore is, and by what it judged: another one, let go in the end, would
//! show what this one left half done, or took for fresh for want of knowing better. Of another epoch than the one in force it means
//! nothing: all that was written is stale.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::RestoreOptions;
use super::manifest::Manifest;
use crate::cache::{Larder, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Hold, Index, Named};
use crate::key::RESERVED;
use crate::log::{Append, Appended};
use crate::name::{Name, Names};
use crate::position::{Position, Stamp};

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Staging {
    running: AtomicBool,
    /// Whether the one that runs writes, or is about to.
    writing: AtomicBool,
    /// Where it is remembered, if anything outlives the process.
    file: Option<PathBuf>,
    /// What the hold in force is of, where that is known.
    of: Mutex<Option<Of>>,
    /// The position of the hold in force, where the file says so.
    at: Mutex<Option<Position>>,
}

/// What a restore judges entries by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Judged {
    LogInForce,
    Archive,
    /// As far as it went: later it may know more.
    LogOfThen {
        last: u64,
    },
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Judged::LogInForce => write!(f, "the log in force"),
            Judged::Archive => write!(f, "the archive alone"),
            Judged::LogOfThen { last } => write!(f, "the log of then up to position {last}"),
        }
    }
}

/// What a restore is of: one that goes on has the same. What it does with what is there, and with spans of time, may be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Of {
    backup: String,
    /// Another backup that got its name is another.
    taken_at_ms: u64,
    pattern: Option<String>,
    rename: Vec<(String, String)>,
    /// Who knows more would leave in place what the one before wrote and should not have.
    judged: Judged,
}

impl Of {
    pub(super) fn restore(options: &RestoreOptions, newest: &Manifest, judged: Judged) -> Self {
        let (mut rename, pattern) = (options.rename.clone(), options.pattern.clone());
        rename.sort_unstable();
        Of { backup: newest.name.clone(), taken_at_ms: newest.taken_at_ms, pattern, rename, judged }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " from the backup \"{}\"", self.backup)?;
        self.pattern.iter().try_for_each(|pattern| write!(f, " matching \"{pattern}\""))?;
        self.rename.iter().try_for_each(|(from, to)| write!(f, ", \"{from}\" as \"{to}\""))
    }
}

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Remembered {
    position: String,
    /// Absent: not known, and any goes on.
    of: Option<Of>,
    /// Absent: all.
    namespaces: Option<Vec<Vec<u8>>>,
}

impl Staging {
    pub(crate) fn new(data: Option<PathBuf>) -> Self {
        Staging { file: data.map(|data| data.join("restoring")), ..Staging::default() }
    }

    /// Holds again what was held when the process ended.
    pub(crate) fn take_up(&self, shared: &Shared) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = match fs::read(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.map_err(|e| failed("read", file, e))?,
        };
        let remembered: Option<Remembered> = serde_json::from_slice(&bytes).ok();
        let of = remembered.as_ref().and_then(|remembered| remembered.of.clone());
        let position = remembered.as_ref().and_then(|remembered| remembered.position.parse::<Position>().ok());
        let hold = match (remembered, position) {
            (Some(remembered), Some(position)) => match shared.index.stamp_of(position) {
                Some(below) => {
                    let namespaces = remembered.namespaces.map(|names| names.into_iter().map(Vec::into_boxed_slice).collect());
                    Hold { below, namespaces }
                }
                None => return self.forget(Some(position)),
            },
            // Damaged: whatever was being restored, it is as old as this at least.
            _ => Hold { below: shared.index.latest(), namespaces: None },
        };
        tracing::warn!(
            namespaces = %shown(&hold),
            "a restore was interrupted: what is older than it in these namespaces counts as invalidated until it is run again or given up"
        );
        (*self.of.lock(), *self.at.lock()) = (of, position);
        shared.index.hold(Some(hold));
        Ok(())
    }

    fn remember(&self, hold: &Hold, position: Position, of: Of) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let namespaces = hold.namespaces.as_ref().map(|names| names.iter().map(|name| name.to_vec()).collect());
        let bytes = serde_json::to_vec(&Remembered { position: position.to_string(), of: Some(of), namespaces });
        let bytes = bytes.map_err(|e| Error::new(ErrorKind::Backup, "a restore cannot be remembered").with_source(e))?;
        let part = file.with_extension("part");
        let write = || {
            fs::write(&part, bytes)?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, file)?;
            self.sync_folder()
        };
        write().map_err(|e| failed("write", file, e))
    }

    /// Removes the file, unless it is of another hold than the one at this position.
    fn forget(&self, at: Option<Position>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let there = fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
        let there = there.and_then(|there| there.position.parse::<Position>().ok());
        if there.is_some() && at.is_some() && there != at {
            tracing::warn!(file = %file.display(), "it remembers another restore than the one that ended, and stays");
            return Ok(());
        }
        match fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", file, e)),
            _ => self.sync_folder().map_err(|e| failed("remove", file, e)),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.file.as_deref().and_then(std::path::Path::parent) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn failed(what: &str, file: &std::path::Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Backup, format!("cannot {what} {}", file.display())).with_source(e)
}

fn shown(hold: &Hold) -> String {
    match &hold.namespaces {
        None => "all".into(),
        Some(names) => names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>().join(", "),
    }
}

/// The one restore that runs. Dropped before it is [done](Self::publish), it leaves the hold.
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.staging.writing.store(false, Ordering::Release);
        self.shared.staging.running.store(false, Ordering::Release);
    }
}

impl Running {
    /// Makes sure that it is the only one.
    pub(super) fn begin(shared: &Arc<Shared>) -> Result<Self> {
        if shared.staging.running.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Overloaded, "another restore is under way, and one at a time is all there can be"));
        }
        Ok(Running { shared: shared.clone() })
    }

    /// Takes these namespaces out of sight for a restore, and returns the position below which they are.
    pub(super) async fn hold(&self, namespaces: Option<Vec<Box<[u8]>>>, of: Of) -> Result<(Stamp, Position)> {
        let shared = &self.shared;
        // Before its name is appended: whoever sees that it does not write is before that name, or after it ended.
        shared.staging.writing.store(true, Ordering::SeqCst);
        // What was written in an epoch that is over is stale, and in nobody's way.
        let before = shared.index.held().filter(|before| before.below.generation() == shared.index.latest().generation());
        let of_before = before.as_ref().and_then(|_| shared.staging.of.lock().clone());
        if let Some(before) = &before {
            let covers = match (&namespaces, &before.namespaces) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(now), Some(before)) => before.iter().all(|name| now.contains(name)),
            };
            if !covers || of_before.as_ref().is_some_and(|before| *before != of) {
                let what = of_before.as_ref().map_or(String::new(), Of::to_string);
                // Letting go in the end would show what that one left half done.
                let message = match of_before.filter(|before| covers && Of { judged: of.judged, ..before.clone() } == of) {
                    Some(Of { judged, .. }) => format!(
                        "a restore of {}{what} was interrupted, which judged what is stale by {judged}; this one would by {}, and would \
                         show what that one wrote: run it as it was, or give it up first",
                        shown(before),
                        of.judged
                    ),
                    None => {
                        format!("a restore of {}{what} was interrupted: run the same again, or give it up, before another", shown(before))
                    }
                };
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
        }
        // Nobody waits for this name. It is there so that every stamp of what is restored is below `latest`: see `freshness/holds.rs`.
        let appended = self.append(BEGUN).await?;
        let hold = Hold { below: appended.stamp, namespaces };
        shared.index.hold(Some(hold.clone()));
        let of_before = shared.staging.of.lock().replace(of.clone());
        let at_before = shared.staging.at.lock().replace(appended.position);
        let remembering = {
            let (shared, position) = (shared.clone(), appended.position);
            super::blocking(move || shared.staging.remember(&hold, position, of)).await
        };
        if remembering.is_err() {
            // Nothing was written yet; what a restore before this one left is held as it was.
            shared.index.hold(before);
            (*shared.staging.of.lock(), *shared.staging.at.lock()) = (of_before, at_before);
        }
        remembering.map(|()| (appended.stamp, appended.position))
    }

    /// Appends a name of our own.
    async fn append(&self, name: &[u8]) -> Result<Appended> {
        let shared = &self.shared;
        let append = Append {
            names: vec![Name::Key([RESERVED, name].concat().into())],
            marks: Vec::new(),
            durability: shared.invalidation_durability,
            guard: None,
            writes: Vec::new(),
            mode: shared.mode,
            is_put: false,
        };
        let appended = shared.append(append).await?;
        if appended.queued {
            let message = "the log that is shared with others cannot be reached: nothing that is restored is seen";
            return Err(Error::new(ErrorKind::LogUnavailable, message));
        }
        Ok(appended)
    }

    /// Lets all of it be seen that was written below the hold, once it is on stable storage.
    pub(super) async fn publish(self, below: Stamp) -> Result<()> {
        if let Some(tier) = &self.shared.tier {
            tier.flush().await?;
        }
        // After the last entry: a backup whose position is before this one may have missed some of them.
        let appended = self.append(RESTORED).await?;
        if appended.stamp.generation() != below.generation() {
            return Err(epoch_ended());
        }
        self.let_go().await
    }

    /// Lets go of what is held.
    pub(super) async fn let_go(&self) -> Result<()> {
        let shared = self.shared.clone();
        let at = *shared.staging.at.lock();
        super::blocking(move || shared.staging.forget(at)).await?;
        self.shared.index.hold(None);
        (*self.shared.staging.of.lock(), *self.shared.staging.at.lock()) = (None, None);
        // Those who were told of keys, that they are not there, must ask again.
        self.shared.index.notices.lost();
        Ok(())
    }
}

/// The name that is appended when a restore begins to write.
const BEGUN: &[u8] = b"restore";

/// The name that is appended when a restore is complete.
const RESTORED: &[u8] = b"restored";

/// Whether a restore was begun or completed since: what it brought has stamps of before, also where it was never completed.
pub(super) fn restored_since(index: &Index, since: Stamp) -> bool {
    [BEGUN, RESTORED].into_iter().any(|name| {
        let key = [RESERVED, name].concat();
        index.judge_for_good(Named::of(&key, &index.hashes(&key, &[])), since).is_some()
    })
}

/// What a backup that is taken now may lack, and whoever stands on it would take for known: what a restore has still to write, under stamps
/// of before. Where that one is never completed, nothing tells.
pub(super) fn check_no_restore(shared: &Shared) -> Result<()> {
    if shared.staging.writing.load(Ordering::SeqCst) {
        return Err(Error::new(
            ErrorKind::Overloaded,
            "a restore is under way, and a backup would have half of it: take one when it is over",
        ));
    }
    Ok(())
}

pub(super) fn epoch_ended() -> Error {
    let message = "the log began another epoch while the backup was restored, so what was written is stale; run it again";
    Error::new(ErrorKind::UnknownPosition, message)
}

/// See [`Larder::abandon_restore`].
pub(super) async fn abandon(larder: &Larder) -> Result<bool> {
    let running = Running::begin(&larder.0)?;
    let Some(hold) = larder.0.index.held() else { return Ok(false) };
    let texts: Option<Vec<&str>> =
        hold.namespaces.as_ref().and_then(|names| names.iter().map(|name| std::str::from_utf8(name).ok()).collect());
    let names = match texts.filter(|names| names.iter().all(|name| crate::key::check_namespace(name).is_ok())) {
        Some(names) => names.into_iter().fold(Names::new(), |all, name| all.namespace(name).key(name)),
        None => Names::new().everything(),
    };
    let receipt = larder.invalidate(names).await?;
    if receipt.is_queued() {
        return Err(Error::new(ErrorKind::LogUnavailable, "the log that is shared with others cannot be reached: nothing was given up"));
    }
    running.let_go().await?;
    Ok(true)
}
