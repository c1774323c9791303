//! What keeps readers from seeing half of a restore, across the end of the process: the hold, and the file that remembers it.
//!
//! ```text
//!   position appended -> hold in the index -> DATA/restoring on stable storage -> entries written ... all on stable storage
//!     -> DATA/restoring removed -> hold let go
//! ```
//!
//! A process that ends anywhere in between finds the file when it opens, and holds again. It is removed only once everything is there,
//! so after it is gone there is nothing to hold. Of another epoch than the one in force it means nothing: all that was written is stale.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::cache::{Larder, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Hold;
use crate::key::RESERVED;
use crate::log::Append;
use crate::name::{Name, Names};
use crate::position::{Position, Stamp};

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Staging {
    running: AtomicBool,
    /// Where it is remembered, if anything outlives the process.
    file: Option<PathBuf>,
}

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Remembered {
    position: String,
    /// Absent: all.
    namespaces: Option<Vec<Vec<u8>>>,
}

impl Staging {
    pub(crate) fn new(data: Option<PathBuf>) -> Self {
        Staging { running: AtomicBool::new(false), file: data.map(|data| data.join("restoring")) }
    }

    /// Holds again what was held when the process ended.
    pub(crate) fn take_up(&self, shared: &Shared) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = match fs::read(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.map_err(|e| failed("read", file, e))?,
        };
        let remembered: Option<Remembered> = serde_json::from_slice(&bytes).ok();
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
        shared.index.hold(Some(hold));
        Ok(())
    }

    fn remember(&self, hold: &Hold, position: Position) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let namespaces = hold.namespaces.as_ref().map(|names| names.iter().map(|name| name.to_vec()).collect());
        let bytes = serde_json::to_vec(&Remembered { position: position.to_string(), namespaces });
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

    /// Takes these namespaces out of sight, and returns the position below which they are.
    pub(super) async fn hold(&self, namespaces: Option<Vec<Box<[u8]>>>) -> Result<(Stamp, Position)> {
        let shared = &self.shared;
        let before = shared.index.held();
        if let Some(before) = &before {
            let covers = match (&namespaces, &before.namespaces) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(now), Some(before)) => before.iter().all(|name| now.contains(name)),
            };
            if !covers {
                // Letting go in the end would show what that one left half done.
                let message = format!("a restore of {} was interrupted: run it again, or give it up, before another", shown(before));
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
        }
        // Nobody waits for this name. It is there so that every stamp of what is restored is below `latest`: see `freshness/holds.rs`.
        let name = Name::Key([RESERVED, b"restore"].concat().into());
        let append = Append {
            names: vec![name],
            marks: Vec::new(),
            durability: shared.invalidation_durability,
            guard: None,
            writes: Vec::new(),
            mode: shared.mode,
            is_put: false,
        };
        let appended = shared.append(append).await?;
        if appended.queued {
            return Err(Error::new(
                ErrorKind::LogUnavailable,
                "the log that is shared with others cannot be reached: nothing was restored",
            ));
        }
        let hold = Hold { below: appended.stamp, namespaces };
        shared.index.hold(Some(hold.clone()));
        let remembering = {
            let (shared, position) = (shared.clone(), appended.position);
            super::blocking(move || shared.staging.remember(&hold, position)).await
        };
        if remembering.is_err() {
            // Nothing was written yet; what a restore before this one left is held as it was.
            shared.index.hold(before);
        }
        remembering.map(|()| (appended.stamp, appended.position))
    }

    /// Lets all of it be seen, once it is on stable storage.
    pub(super) async fn publish(self) -> Result<()> {
        if let Some(tier) = &self.shared.tier {
            tier.flush().await?;
        }
        self.let_go().await
    }

    /// Lets go of what is held.
    pub(super) async fn let_go(&self) -> Result<()> {
        let shared = self.shared.clone();
        super::blocking(move || shared.staging.forget()).await?;
        self.shared.index.hold(None);
        // Those who were told of keys, that they are not there, must ask again.
        self.shared.index.notices.lost();
        Ok(())
    }
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
