//! The database below the tier: opening it, reading it, and telling its failures apart.
//!
//! Entries live in one keyspace per *generation*. Clearing the tier makes the next generation and deletes the old one,
//! which frees its files at once. The engine's own `clear` is not used: an empty memtable after it can keep old journals
//! alive for good (fjall issue 288). Of several generations found when opening, the highest is the one in force: a clear
//! counts from the moment its generation exists.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{error, fs, thread};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::layout::{self, Stored};

/// What the store below is told about resources.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) block_cache_bytes: u64,
    pub(super) memtable_bytes: u64,
}

/// The least the engine allows. Journals are what is read back when opening, so small means quick.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;

/// Small tables make small compactions: the engine's one worker is busy with one for a second or two, not for ten, and
/// flushes wait no longer.
const TABLE_BYTES: u64 = 16 << 20;

/// Tables made while reclaiming space are smaller still, because the first level may keep as much as one table.
const PART_TABLE_BYTES: u64 = 2 << 20;

/// Files kept open: the tables of about 8 GiB.
const OPEN_FILES_MAX: usize = 512;

/// Sealed memtables and first-level tables from which on commits wait. The engine would block *inside* a commit at 4 and
/// at 30, without ever looking whether its worker still lives (fjall issue 257), so this code never lets it come to that.
const SEALED_MAX: usize = 3;
const FIRST_LEVEL_MAX: usize = 20;

/// How long a backlog may last before the engine counts as stuck, and how often it is looked at.
const STALL_MAX: Duration = Duration::from_secs(30);
const STALL_POLL: Duration = Duration::from_millis(2);
const NUDGE_AFTER: Duration = Duration::from_secs(2);

/// The database, opened.
pub(super) struct Store {
    // Dropped in this order: the database waits for its worker, which must not find the keyspace gone.
    entries: Keyspace,
    database: Database,
    generation: u64,
    sizes: Sizes,
}

/// Why a change could not be made.
#[derive(Debug)]
pub(super) enum Trouble {
    Engine(fjall::Error),
    /// There is no open store, since one could not be reopened.
    Closed,
    /// Flushes and compactions did not get on for [`STALL_MAX`].
    Stuck,
}

impl From<fjall::Error> for Trouble {
    fn from(error: fjall::Error) -> Self {
        Trouble::Engine(error)
    }
}

/// Why the database could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Another handle still holds it.
    Locked,
    /// It was written by an unknown version of the engine.
    Version(fjall::Error),
    /// What is there cannot be read back.
    Damaged(String),
    /// The operating system refused something; another try may succeed.
    System(fjall::Error),
}

impl Store {
    /// Opens the database at `path`, creating it if there is none.
    pub(super) fn open(path: &Path, sizes: Sizes) -> Result<Self, OpenError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            if !path.try_exists()? {
                create(path, sizes)?;
            }
            open_existing(path, sizes)
        }));
        match opened {
            Ok(Ok(store)) => Ok(store),
            Ok(Err(error)) => Err(sort_open_error(error)),
            // The engine asserts in places what a damaged file can make false.
            Err(panic) => Err(OpenError::Damaged(format!("the engine panicked: {}", panic_text(panic.as_ref())))),
        }
    }

    /// The same database with a new, empty generation in force. Readers of the old one finish undisturbed; its files go
    /// when the last of them does.
    pub(super) fn next_generation(&self) -> fjall::Result<Self> {
        let generation = self.generation + 1;
        let entries = keyspace(&self.database, generation, self.sizes)?;
        self.database.delete_keyspace(self.entries.clone())?;
        Ok(Store { entries, database: self.database.clone(), generation, sizes: self.sizes })
    }

    pub(super) fn get(&self, key: &[u8]) -> fjall::Result<Option<Stored>> {
        let value = self.entries.get(layout::record_key(key))?;
        // Copied, because the engine's slice would keep the whole block alive for as long as the record is used.
        Ok(value.map(|value| Stored::decode(Bytes::copy_from_slice(&value))))
    }

    /// The value of one of the tier's own keys.
    pub(super) fn get_raw(&self, key: &[u8]) -> fjall::Result<Option<fjall::Slice>> {
        self.entries.get(key)
    }

    /// The pairs of a range, in order.
    pub(super) fn range(&self, start: Vec<u8>, end: Vec<u8>) -> impl Iterator<Item = fjall::Result<fjall::KvPair>> + use<> {
        self.entries.range(start..end).map(fjall::Guard::into_inner)
    }

    pub(super) fn batch(&self) -> OwnedWriteBatch {
        // To the operating system, so that a killed process loses nothing that was committed.
        self.database.batch().durability(Some(PersistMode::Buffer))
    }

    pub(super) fn entries(&self) -> &Keyspace {
        &self.entries
    }

    /// Puts everything committed on stable storage.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }

    /// Fails if the engine has given up, as it does when a flush or compaction in its own thread failed.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }

    /// Whether a commit has to wait for flushes and compactions to catch up.
    fn backlogged(&self) -> bool {
        self.entries.sealed_memtable_count() >= SEALED_MAX || self.entries.l0_table_count() >= FIRST_LEVEL_MAX
    }

    /// Waits until a commit would not block inside the engine.
    pub(super) fn await_room(&self) -> Result<(), Trouble> {
        // The engine leaves this to its worker, and while that compacts the memtable would grow and grow.
        if self.entries.tree.active_memtable().size() >= self.sizes.memtable_bytes {
            self.rotate()?;
        }
        if !self.backlogged() {
            return Ok(());
        }
        let since = Instant::now();
        let mut nudged = since;
        while self.backlogged() {
            self.check()?;
            if since.elapsed() > STALL_MAX {
                return Err(Trouble::Stuck);
            }
            if nudged.elapsed() > NUDGE_AFTER && self.database.outstanding_flushes() == 0 {
                // After some crashes memtables wait for a flush that nobody asked for; the next flush takes them along.
                self.rotate()?;
                nudged = Instant::now();
            }
            thread::sleep(STALL_POLL);
        }
        Ok(())
    }

    /// Asks for the memtable to be written out.
    pub(super) fn rotate(&self) -> fjall::Result<()> {
        self.entries.rotate_memtable().map(drop)
    }

    pub(super) fn unflushed(&self) -> usize {
        self.entries.sealed_memtable_count()
    }

    /// Bytes of the tables, garbage included, journals not.
    pub(super) fn table_bytes(&self) -> u64 {
        self.entries.disk_space()
    }

    pub(super) fn journals(&self) -> usize {
        self.database.journal_count()
    }

    /// Rewrites all tables into one run without garbage. Holds up the engine's worker for as long as it takes.
    pub(super) fn compact_whole(&self) -> fjall::Result<()> {
        self.entries.tree.major_compact(TABLE_BYTES, self.watermark()).map_err(Into::into)
    }

    /// Pushes one bounded part of the upper levels down, where deletions meet what they delete. False if nothing is left
    /// that can be pushed.
    pub(super) fn compact_part(&self) -> fjall::Result<bool> {
        loop {
            let (before, others) = (self.shape(), self.database.compactions_completed());
            // Levels this small are always too full, so the engine's own choice of "the cheapest merge that helps" is made
            // again and again until nearly everything is at the bottom; deletions of the size of one table may stay above.
            let eager =
                Leveled::default().with_l0_threshold(1).with_table_target_size(PART_TABLE_BYTES).with_level_ratio_policy(vec![0.01]);
            self.entries.tree.compact(Arc::new(eager), self.watermark())?;
            if self.shape() != before {
                return Ok(true);
            }
            if self.database.active_compactions() == 0 && self.database.compactions_completed() == others {
                return Ok(false);
            }
            // What the engine's worker is compacting looks as if there were nothing to do: look again when it is done.
            thread::sleep(STALL_POLL);
        }
    }

    /// What every compaction changes something of: bytes, deletions, tables of each level.
    fn shape(&self) -> (u64, u64, [Option<usize>; 7]) {
        let tree = &self.entries.tree;
        (self.entries.disk_space(), tree.tombstone_count(), std::array::from_fn(|level| tree.level_table_count(level)))
    }

    /// Deletes the files of tables that compactions have replaced. The engine does that when it rotates a memtable, and only
    /// for what is older than the newest write; an idle store has neither, and would keep them for ever.
    pub(super) fn release_files(&self) -> Result<(), Trouble> {
        self.await_room()?;
        let mut batch = self.batch();
        batch.insert(&self.entries, layout::NUDGE_KEY, "");
        batch.commit()?;
        Ok(self.rotate()?)
    }

    /// Where the tables are.
    pub(super) fn folder(&self) -> &Path {
        self.entries.path()
    }

    /// Versions below this sequence number are seen by no reader.
    fn watermark(&self) -> u64 {
        self.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc()
    }
}

/// Made beside and renamed: a creation that is cut short leaves nothing that looks like a database.
fn create(path: &Path, sizes: Sizes) -> fjall::Result<()> {
    let mut new = PathBuf::from(path);
    new.set_extension("new");
    if new.try_exists()? {
        fs::remove_dir_all(&new)?;
    }
    let database = open_database(&new, sizes)?;
    drop(keyspace(&database, 0, sizes)?);
    drop(database);
    fs::rename(&new, path)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn open_existing(path: &Path, sizes: Sizes) -> fjall::Result<Store> {
    let database = open_database(path, sizes)?;
    let mut generations: Vec<u64> = database.list_keyspace_names().iter().filter_map(|name| generation_of(name)).collect();
    generations.sort_unstable();
    // The engine takes a list of keyspaces that is gone for an empty one.
    let generation = generations.pop().ok_or(fjall::Error::Unrecoverable)?;
    let entries = keyspace(&database, generation, sizes)?;
    for old in generations {
        database.delete_keyspace(keyspace(&database, old, sizes)?)?;
    }
    Ok(Store { entries, database, generation, sizes })
}

fn open_database(path: &Path, sizes: Sizes) -> fjall::Result<Database> {
    Database::builder(path)
        // A second worker would spin whenever the first one compacts: it takes compaction requests and puts them back.
        .worker_threads(1)
        .cache_size(sizes.block_cache_bytes)
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .max_cached_files(Some(OPEN_FILES_MAX))
        // Values come compressed where that pays.
        .journal_compression(CompressionType::None)
        .open()
}

fn keyspace(database: &Database, generation: u64, sizes: Sizes) -> fjall::Result<Keyspace> {
    database.keyspace(&format!("entries-{generation}"), || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(sizes.memtable_bytes)
            .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
    })
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("entries-")?.parse().ok()
}

fn sort_open_error(error: fjall::Error) -> OpenError {
    use io::ErrorKind::{AlreadyExists, InvalidData, NotFound, UnexpectedEof};
    match (&error, io_cause(&error).map(io::Error::kind)) {
        (fjall::Error::Locked, _) => OpenError::Locked,
        (fjall::Error::InvalidVersion(_), _) => OpenError::Version(error),
        // Files that are cut short, are missing, or stand where none should.
        (_, Some(UnexpectedEof | InvalidData | NotFound | AlreadyExists)) => OpenError::Damaged(error.to_string()),
        (_, Some(_)) => OpenError::System(error),
        (_, None) => OpenError::Damaged(error.to_string()),
    }
}

/// The operating system's error below an engine's error, if there is one.
pub(super) fn io_cause<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Whether an error means that there is no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
