//! What keeps readers from seeing half of a restore, across the end of the process: the hold, and the file that remembers it.
//!
//! ```text
//!   position appended -> hold in the index -> DATA/restoring on stable storage -> entries written ... all on stable storage
//!     -> "restored" appended -> DATA/restoring removed -> hold let go
//! ```
//!
//! A process that ends anywhere in between finds the file when it opens, and holds again. It is removed only once everything is there,
//! so after it is gone there is nothing to hold. It says of what the restore is: another one, let go in the end, would show what this one
//! left half done. Of another epoch than the one in force it means nothing: all that was written is stale.

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
    /// Where it is remembered, if anything outlives the process.
    file: Option<PathBuf>,
    /// What the hold in force is of, where that is known.
    of: Mutex<Option<Of>>,
}

/// What a restore is of: one that goes on has the same. What it does with what is there, and with spans of time, may be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Of {
    backup: String,
    /// Another backup that got its name is another.
    taken_at_ms: u64,
    pattern: Option<String>,
    rename: Vec<(String, String)>,
}

impl Of {
    pub(super) fn restore(options: &RestoreOptions, newest: &Manifest) -> Self {
        let (mut rename, pattern) = (options.rename.clone(), options.pattern.clone());
        rename.sort_unstable();
        Of { backup: newest.name.clone(), taken_at_ms: newest.taken_at_ms, pattern, rename }
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
                None => return self.forget(),
            },
            // Damaged: whatever was being restored, it is as old as this at least.
            _ => Hold { below: shared.index.latest(), namespaces: None },
        };
        tracing::warn!(
            namespaces = %shown(&hold),
            "a restore was interrupted: what is older than it in these namespaces counts as invalidated until it is run again or given up"
        );
        *self.of.lock() = of;
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

    fn forget(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
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
        let before = shared.index.held();
        let of_before = shared.staging.of.lock().clone();
        if let Some(before) = &before {
            let covers = match (&namespaces, &before.namespaces) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(now), Some(before)) => before.iter().all(|name| now.contains(name)),
            };
            if !covers || of_before.as_ref().is_some_and(|before| *before != of) {
                let what = of_before.map_or(String::new(), |of| {
                    let pattern = of.pattern.map_or(String::new(), |pattern| format!(" matching \"{pattern}\""));
                    let rename = of.rename.iter().map(|(from, to)| format!(", \"{from}\" as \"{to}\"")).collect::<String>();
                    format!(" from the backup \"{}\"{pattern}{rename}", of.backup)
                });
                // Letting go in the end would show what that one left half done.
                let message =
                    format!("a restore of {}{what} was interrupted: run the same again, or give it up, before another", shown(before));
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
        }
        // Nobody waits for this name. It is there so that every stamp of what is restored is below `latest`: see `freshness/holds.rs`.
        let appended = self.append(b"restore").await?;
        let hold = Hold { below: appended.stamp, namespaces };
        shared.index.hold(Some(hold.clone()));
        let of_before = shared.staging.of.lock().replace(of.clone());
        let remembering = {
            let (shared, position) = (shared.clone(), appended.position);
            super::blocking(move || shared.staging.remember(&hold, position, of)).await
        };
        if remembering.is_err() {
            // Nothing was written yet; what a restore before this one left is held as it was.
            shared.index.hold(before);
            *shared.staging.of.lock() = of_before;
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

    /// Lets all of it be seen, once it is on stable storage.
    pub(super) async fn publish(self) -> Result<()> {
        if let Some(tier) = &self.shared.tier {
            tier.flush().await?;
        }
        // After the last entry: a backup whose position is before this one may have missed some of them.
        self.append(RESTORED).await?;
        self.let_go().await
    }

    /// Lets go of what is held.
    pub(super) async fn let_go(&self) -> Result<()> {
        let shared = self.shared.clone();
        super::blocking(move || shared.staging.forget()).await?;
        self.shared.index.hold(None);
        *self.shared.staging.of.lock() = None;
        // Those who were told of keys, that they are not there, must ask again.
        self.shared.index.notices.lost();
        Ok(())
    }
}

/// The name that is appended when a restore is complete.
const RESTORED: &[u8] = b"restored";

/// Whether a restore was completed since: what it brought has stamps of before.
pub(super) fn restored_since(index: &Index, since: Stamp) -> bool {
    let key = [RESERVED, RESTORED].concat();
    index.judge_for_good(Named::of(&key, &index.hashes(&key, &[])), since).is_some()
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
