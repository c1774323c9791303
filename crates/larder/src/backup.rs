//! Backup and restore: nothing lost, nothing resurrected.
//!
//! # What a backup is
//!
//! A *cut* at one position: every entry that was live there, and that nobody replaced, dropped or invalidated while the backup was
//! being taken; nothing that reflects a later change; and the freshness index as it was at the end. Writers are not stopped for it.
//! What changed under way is left out instead of being caught up with: whoever changed it appended a name, so a restore would find it
//! dead anyway. Where others write to the tier it is a scan, which the manifest calls `fuzzy`; the stamps make it exact all the same.
//!
//! # Why nothing comes back that was invalidated
//!
//! Entries keep their stamps, and a restore judges each by the index in force, as a read does. In the epoch that the backup was taken
//! in that is all there is to it. In another epoch the stamps mean nothing by themselves, and what was invalidated between the end of
//! the backup and the end of its epoch is known to the log of that time alone. With [that log](RestoreOptions::log_of_then) entries are
//! judged by all it has; without it a restore is refused, unless it is told to
//! [accept](RestoreOptions::accept_unknown_invalidations) what cannot be known: then they are judged by the archive's own index. Either
//! way they get the *first* position of the epoch in force, which is before everything that was invalidated in it.
//!
//! # All or nothing
//!
//! What is restored is written where it belongs, and readers do not see it yet: the index holds the namespaces
//! under way, which is an invalidation that can be taken back. Held entries are misses; what is loaded or put meanwhile is newer than
//! the hold, and served. When all of it is written, and on stable storage, the hold is let go in one step. It is remembered in the data
//! folder, so that a process that ends under way opens with it, until the restore is run again, or
//! [given up](crate::Larder::abandon_restore). Instances that share a tier share the hold, too: it is in their log, and what was written
//! under it says so, so all of them see all of it at once. Any of them can run the restore again, or give it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::Instrument;

use crate::cache::Larder;
use crate::error::{Error, ErrorKind, Result};

mod archive;
mod chain;
mod cut;
mod difference;
mod frame;
mod judge;
mod manifest;
mod place;
mod restore;
mod retention;
mod seal;
mod source;
mod staging;
mod verify;
mod writer;

pub use difference::{Difference, diff};
pub use manifest::{FileSeal, IndexSeal, Manifest, NamespaceCount, Parent, read_manifest};
pub use place::{BACKUP_NAME_LEN_MAX, FolderPlace, MANIFEST, Place, check_backup_name, is_file_of_backup};
pub use restore::{NamespaceRestored, Restored};
pub use retention::{Pruned, Retention, prune};
pub use seal::{Encryption, KeySeal, NotOpened, Opener, Sealer, Unsealed};
pub use verify::{Verified, verify};

pub(crate) use staging::Staging;
#[cfg(feature = "redis")]
pub(crate) use staging::Told;

/// Who looks on while something long is done. Asked between small steps, and never waited for.
pub trait Watch: Send + Sync {
    /// How far it is, of how much where that is known.
    fn at(&self, doing: &str, done: u64, of: Option<u64>);

    /// Whether it is to stop. It stops where nothing is left half done that counts.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody.
impl Watch for () {
    fn at(&self, _doing: &str, _done: u64, _of: Option<u64>) {}
}

/// What to back up, and how.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The name of the backup: see [`check_backup_name`].
    pub name: String,
    /// The namespaces to take; empty: all.
    pub namespaces: Vec<String>,
    /// A backup in the same place and of the same epoch to stand on: only what came or changed since is taken. An entry whose life alone
    /// was changed by a [`touch`](crate::Namespace::touch) did not.
    pub parent: Option<String>,
    /// What seals its files, all but the manifest: see [`Sealer`].
    pub sealer: Option<Arc<dyn Sealer>>,
    /// How long to rest after each mebibyte or so, for readers' sake.
    pub pause: Duration,
}

impl BackupOptions {
    /// A full backup of everything.
    pub fn new(name: impl Into<String>) -> Self {
        BackupOptions { name: name.into(), namespaces: Vec::new(), parent: None, sealer: None, pause: Duration::from_millis(1) }
    }
}

/// What becomes of an entry where there is one of its key already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Present {
    /// The one that reflects more stays. The default.
    #[default]
    KeepNewer,
    /// The one from the backup takes its place. What was put or loaded since the restore began stays.
    Replace,
    /// The one that is there stays, if it is live.
    KeepPresent,
}

/// What the time that an entry spent in the archive counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// It counts: an entry ends when it would have ended. The default.
    #[default]
    Keep,
    /// It does not: an entry has what was left of its life when the backup was taken.
    Shift,
    /// An entry begins a new life, as its namespace's policy has it now.
    Ignore,
}

/// What to restore, and how.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// The backup. Those that it stands on are restored with it.
    pub name: String,
    /// The namespaces to restore, by their names in the backup; empty: all.
    pub namespaces: Vec<String>,
    /// A pattern of keys to restore, as they are in the backup.
    pub pattern: Option<String>,
    /// Namespaces that get another name: from, to.
    pub rename: Vec<(String, String)>,
    /// What becomes of entries of keys that have one.
    pub present: Present,
    /// What the time in the archive counts for.
    pub ttl: Ttl,
    /// Counts, and changes nothing.
    pub dry_run: bool,
    /// The folder of the log of the epoch in which the backup was taken, or the data folder it is in: of a machine that is gone, say. It is
    /// locked meanwhile, so that no process goes on with it.
    pub log_of_then: Option<std::path::PathBuf>,
    /// Goes on where it cannot be known what was invalidated after the backup.
    pub accept_unknown_invalidations: bool,
    /// What opens those of its backups that are encrypted.
    pub opener: Option<Arc<dyn Opener>>,
}

impl RestoreOptions {
    /// All of a backup, as it was.
    pub fn new(name: impl Into<String>) -> Self {
        RestoreOptions { name: name.into(), ..RestoreOptions::default() }
    }
}

impl Larder {
    /// Takes a backup while the cache serves, and returns what its manifest says. See the head of [`backup`](crate::backup).
    ///
    /// When its future is dropped it is cancelled, and removes by itself what it wrote.
    ///
    /// What it holds is bounded, whatever the cache holds: a few mebibytes, one segment of 64 MiB (two where it is sealed), and the index.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for names; [`ErrorKind::UnknownPosition`] for a parent of another epoch, or when the epoch ends
    /// under way; [`ErrorKind::Overloaded`] while a restore is under way; [`ErrorKind::Backup`] when the place fails;
    /// [`ErrorKind::Cancelled`]. Then there is no such backup.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use std::sync::Arc;
    /// use larder::backup::{BackupOptions, FolderPlace, RestoreOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path();
    /// let larder = larder::Larder::builder().build().await?;
    /// let raw = larder.raw();
    /// raw.put("a:1", bytes::Bytes::from("one")).await?;
    /// raw.put("a:2", bytes::Bytes::from("two")).await?;
    /// let place = Arc::new(FolderPlace::new(folder));
    /// let manifest = larder.backup(place.clone(), &BackupOptions::new("monday"), Arc::new(())).await?;
    /// assert_eq!(manifest.entries, 2);
    ///
    /// raw.remove(["a:2"]).await?;
    /// let restored = larder.restore(place, &RestoreOptions::new("monday"), Arc::new(())).await?;
    /// assert_eq!((restored.restored, restored.dead_invalidated), (1, 1), "what was invalidated since stays dead");
    /// # larder.close().await }
    /// ```
    pub async fn backup(&self, place: Arc<dyn Place>, options: &BackupOptions, watch: Arc<dyn Watch>) -> Result<Manifest> {
        let (shared, options) = (self.0.clone(), options.clone());
        to_its_end(watch, |watch| async move { cut::take(&shared, place, &options, watch).await }).await
    }

    /// Restores a backup, once all of it was verified. Readers see all of it at once, or nothing. See the head of
    /// [`backup`](crate::backup).
    ///
    /// When it was interrupted, by an error, by being cancelled, by its future being dropped, or by the end of the process, the namespaces
    /// under way are held as if they had been invalidated, and it can be run again.
    ///
    /// # Errors
    /// [`ErrorKind::BadArchive`], [`ErrorKind::UnknownFormat`]: the archive; nothing was touched. [`ErrorKind::Sealed`]: it is encrypted,
    /// and nothing that was given opens it; nothing was touched. [`ErrorKind::UnknownPosition`]: it
    /// cannot be known what was invalidated since; nothing was touched. [`ErrorKind::Overloaded`]: another restore is under way, or was
    /// interrupted, or the same was and judged by another log of then or none: see [`abandon_restore`](Self::abandon_restore).
    /// [`ErrorKind::Tier`], [`ErrorKind::LogUnavailable`], [`ErrorKind::Cancelled`]: it was interrupted.
    pub async fn restore(&self, place: Arc<dyn Place>, options: &RestoreOptions, watch: Arc<dyn Watch>) -> Result<Restored> {
        let (larder, options) = (self.clone(), options.clone());
        to_its_end(watch, |watch| async move { restore::restore(&larder, place, &options, watch).await }).await
    }

    /// Gives up a restore that was interrupted: what it wrote, and everything else of those namespaces that is as old, is invalidated
    /// for good. Returns whether there was one. It goes on to its end when its future is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`]; [`ErrorKind::Overloaded`] while a restore is running.
    pub async fn abandon_restore(&self) -> Result<bool> {
        let larder = self.clone();
        to_its_end(Arc::new(()), |_| async move { staging::abandon(&larder).await }).await
    }
}

fn cannot_read(place: &dyn Place, name: &str, file: &str, e: std::io::Error) -> Error {
    match e.kind() {
        // There, and not what it should be.
        std::io::ErrorKind::FileTooLarge => {
            Error::new(ErrorKind::BadArchive, format!("{name}/{file} is larger than it says")).with_source(e)
        }
        std::io::ErrorKind::NotFound if file == MANIFEST => {
            Error::new(ErrorKind::NotFound, format!("there is no backup \"{name}\" in {}", place.describe()))
        }
        std::io::ErrorKind::NotFound => Error::new(ErrorKind::BadArchive, format!("{name}/{file} is missing (at byte 0)")),
        _ => Error::new(ErrorKind::Backup, format!("{name}/{file} cannot be read from {}", place.describe())).with_source(e),
    }
}

fn cannot_write(place: &dyn Place, name: &str, what: &str, e: std::io::Error) -> Error {
    let message = match e.kind() {
        std::io::ErrorKind::AlreadyExists => format!("there is a backup \"{name}\" in {} already, or the rest of one", place.describe()),
        _ => format!("{name}/{what} cannot be written to {}", place.describe()),
    };
    Error::new(ErrorKind::Backup, message).with_source(e)
}

fn cancelled(what: &str) -> Error {
    Error::new(ErrorKind::Cancelled, format!("the {what} was cancelled"))
}

/// Who looked on, or went away.
struct Waited {
    watch: Arc<dyn Watch>,
    is_over: AtomicBool,
}

impl Watch for Waited {
    fn at(&self, doing: &str, done: u64, of: Option<u64>) {
        self.watch.at(doing, done, of);
    }

    fn is_cancelled(&self) -> bool {
        self.is_over.load(Ordering::Acquire) || self.watch.is_cancelled()
    }
}

/// Tells that nobody waits any more when it is dropped.
struct Waiting(Arc<Waited>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// Does work as a task of its own. When its caller goes away it is cancelled and not dropped: it holds the place, or the only restore there
/// may be, until no thread of its writes any more, and removes what it leaves half done.
async fn to_its_end<T, W>(watch: Arc<dyn Watch>, work: impl FnOnce(Arc<dyn Watch>) -> W) -> Result<T>
where
    T: Send + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    let waiting = Waiting(Arc::new(Waited { watch, is_over: AtomicBool::new(false) }));
    let ended = |e: tokio::task::JoinError| match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(e) => Err(Error::new(ErrorKind::Closed, "the runtime was shut down meanwhile").with_source(e)),
    };
    let (waited, work) = (waiting.0.clone(), work(waiting.0.clone()));
    let to_the_end = async move {
        let done = work.await;
        if waited.is_over.load(Ordering::Acquire) {
            match &done {
                Ok(_) => tracing::info!("work on backups that nobody waits for any more was done"),
                Err(error) => tracing::warn!(%error, "work on backups that nobody waits for any more came to its end"),
            }
        }
        done
    };
    tokio::spawn(to_the_end.in_current_span()).await.unwrap_or_else(ended)
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |e| Err(Error::new(ErrorKind::Closed, "the runtime was shut down meanwhile").with_source(e));
    tokio::task::spawn_blocking(run).await.unwrap_or_else(ended)
}
