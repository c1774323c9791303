//! What the handle and the tier's two threads share: the queue, the open store, the counts, the state.
//!
//! Lock order: the queue's lock and the store's are never held together, nor across anything that can block.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use super::DiskOptions;
use super::layout::{Counters, Stored};
use super::ledger::Tally;
use super::queue::Queue;
use super::recent::Recent;
use super::reclaim::Reclaim;
use super::store::{OpenError, Sizes, Store};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::tier::{TierState, TierStats};

/// How long a store that is to be closed is waited for while readers still use it.
const READERS_MAX: Duration = Duration::from_secs(5);
const READERS_POLL: Duration = Duration::from_millis(1);

pub(super) struct Shared {
    pub(super) store_path: PathBuf,
    pub(super) sizes: Sizes,
    pub(super) capacity_bytes: u64,
    pub(super) upkeep_interval: Duration,
    pub(super) discard_after: Duration,
    pub(super) clock: Clock,
    pub(super) queue: Queue,
    pub(super) counts: Counts,
    pub(super) recent: Recent,
    pub(super) reclaim: Mutex<Reclaim>,
    pub(super) warnings: Seldom,
    /// None while it is being reopened, and after it was closed.
    store: RwLock<Option<Arc<Store>>>,
    state: watch::Sender<TierState>,
    /// Wakes the thread that reclaims space.
    bell: (Mutex<()>, Condvar),
    /// Why the writer could not finish, if it could not.
    failure: Mutex<Option<Error>>,
}

/// Numbers that anyone may read at any time.
#[derive(Debug, Default)]
pub(super) struct Counts {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// See [`Counters::stored`].
    pub(super) stored: AtomicU64,
    pub(super) bytes_on_disk: AtomicU64,
    /// What entries may take at present: the capacity, or less on a small disk.
    pub(super) bound: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) outranked: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Shared {
    /// Opens the store, starting anew where what is there cannot be read.
    pub(super) fn open(store_path: PathBuf, options: &DiskOptions) -> Result<Self> {
        let sizes = Sizes { block_cache_bytes: options.block_cache_bytes, memtable_bytes: options.memtable_bytes };
        let counts = Counts::default();
        let store = open_or_discard(&store_path, sizes, &counts).map_err(|error| open_error(error, &store_path))?;
        let shared = Shared {
            store_path,
            sizes,
            capacity_bytes: options.capacity_bytes,
            upkeep_interval: options.upkeep_interval,
            discard_after: options.discard_after,
            clock: options.clock.clone(),
            queue: Queue::new(options.queue_bytes),
            counts,
            recent: Recent::new(options.capacity_bytes),
            reclaim: Mutex::default(),
            warnings: Seldom::default(),
            store: RwLock::new(Some(Arc::new(store))),
            state: watch::Sender::new(TierState::Healthy),
            bell: Default::default(),
            failure: Mutex::default(),
        };
        shared.measure();
        Ok(shared)
    }

    pub(super) fn store(&self) -> Option<Arc<Store>> {
        self.store.read().clone()
    }

    pub(super) fn set_store(&self, store: Arc<Store>) {
        let old = self.store.write().replace(store);
        // Outside the lock, because the last holder of an old generation deletes its files.
        drop(old);
    }

    /// Lets go of the store, waiting for those who read from it. False if they did not finish in time.
    pub(super) fn close_store(&self) -> bool {
        let Some(mut store) = self.store.write().take() else { return true };
        let polls = READERS_MAX.as_millis() / READERS_POLL.as_millis();
        for _ in 0..polls {
            match Arc::try_unwrap(store) {
                Ok(store) => {
                    drop(store);
                    return true;
                }
                Err(shared) => store = shared,
            }
            thread::sleep(READERS_POLL);
        }
        false
    }

    /// Takes over what the writer's ledger says.
    pub(super) fn publish(&self, counters: Counters, tally: Tally) {
        self.counts.entries.store(counters.entries, Ordering::Relaxed);
        self.counts.bytes.store(counters.bytes, Ordering::Relaxed);
        self.counts.stored.store(counters.stored, Ordering::Relaxed);
        self.counts.evicted.fetch_add(tally.evicted, Ordering::Relaxed);
        self.counts.expired.fetch_add(tally.expired, Ordering::Relaxed);
        self.counts.outranked.fetch_add(tally.outranked, Ordering::Relaxed);
        self.counts.unreadable.fetch_add(tally.unreadable, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> TierStats {
        let (queued, queued_bytes) = self.queue.depth();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TierStats {
            entries: read(&self.counts.entries),
            bytes: read(&self.counts.bytes),
            bytes_on_disk: read(&self.counts.bytes_on_disk),
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            evicted: read(&self.counts.evicted),
            expired: read(&self.counts.expired),
            shed: read(&self.counts.shed),
            outranked: read(&self.counts.outranked),
            unreadable: read(&self.counts.unreadable),
            errors: read(&self.counts.errors),
            ..TierStats::default()
        }
    }

    /// Counts writes that were not taken, and says so now and then.
    pub(super) fn shed(&self, writes: usize, why: &str) {
        self.counts.shed.fetch_add(writes as u64, Ordering::Relaxed);
        self.warnings.warn(self.clock.now_ms(), || format!("the disk tier sheds writes: {why}"));
    }

    /// The record that stored bytes hold, if it can be read and its time is not over.
    pub(super) fn decode(&self, stored: Stored) -> Option<Record> {
        if stored.expires_at <= self.clock.now_ms() {
            return None;
        }
        match Record::decode(stored.record) {
            Ok(record) => Some(record),
            Err(why) => {
                self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
                self.warnings.warn(self.clock.now_ms(), || format!("a record of the disk tier cannot be read ({why:?}); it is a miss"));
                None
            }
        }
    }

    pub(super) fn state(&self) -> TierState {
        self.state.borrow().clone()
    }

    pub(super) fn watch_state(&self) -> watch::Receiver<TierState> {
        self.state.subscribe()
    }

    pub(super) fn set_state(&self, state: TierState) {
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// Brings up to date what the tier takes and what it may take.
    pub(super) fn measure(&self) {
        let on_disk = folder_bytes(&self.store_path);
        self.counts.bytes_on_disk.store(on_disk, Ordering::Relaxed);
        // Where the free space is unknown, the capacity alone bounds.
        let free = free_bytes(&self.store_path).map_or(u64::MAX, |(free, _)| free);
        self.counts.bound.store(bound(self.capacity_bytes, on_disk, free), Ordering::Relaxed);
    }

    /// Waits for the bell, for at most the upkeep interval. False once the tier is stopping.
    pub(super) fn await_bell(&self) -> bool {
        let mut bell = self.bell.0.lock();
        if !self.queue.is_stopping() {
            self.bell.1.wait_for(&mut bell, self.upkeep_interval);
        }
        !self.queue.is_stopping()
    }

    pub(super) fn stop(&self) {
        self.queue.stop();
        // Under the lock, so that the bell cannot ring between the other thread's look and its wait.
        let _bell = self.bell.0.lock();
        self.bell.1.notify_all();
    }

    pub(super) fn set_failure(&self, error: Error) {
        // The first one explains those that follow.
        self.failure.lock().get_or_insert(error);
    }

    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }
}

/// Opens the store; what cannot be read back is given up, because a cache can load again and must not refuse to start.
pub(super) fn open_or_discard(path: &Path, sizes: Sizes, counts: &Counts) -> Result<Store, OpenError> {
    match Store::open(path, sizes) {
        Err(OpenError::Damaged(why)) => {
            counts.errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                target: "larder::disk",
                "the disk tier in {} is damaged and starts anew, empty; its entries will be loaded again: {why}", path.display()
            );
            fs::remove_dir_all(path).map_err(|error| OpenError::System(error.into()))?;
            Store::open(path, sizes)
        }
        outcome => outcome,
    }
}

fn open_error(error: OpenError, path: &Path) -> Error {
    let path = path.display();
    match error {
        OpenError::Locked => Error::new(ErrorKind::Locked, format!("the disk tier in {path} is in use by another process")),
        OpenError::Version(error) => {
            let message = format!("the database in {path} has an unknown version; nothing was changed");
            Error::new(ErrorKind::UnknownFormat, message).with_source(error)
        }
        OpenError::Damaged(why) => Error::new(ErrorKind::Tier, format!("the disk tier in {path} cannot be read: {why}")),
        OpenError::System(error) => Error::new(ErrorKind::Tier, format!("the disk tier in {path} cannot be opened")).with_source(error),
    }
}

/// What journals may take of the disk: two sealed ones and the active one.
const JOURNALS_BYTES: u64 = 192 << 20;

/// What entries may take: of the space that is the tier's or free, half of what journals leave, because garbage and
/// compactions need the other half when all comes at once; a fifth of all on a disk so small that journals would leave
/// nothing. The tier's own evictions do not change that sum, so the bound does not oscillate.
fn bound(capacity: u64, on_disk: u64, free: u64) -> u64 {
    let room = on_disk.saturating_add(free);
    capacity.min((room.saturating_sub(JOURNALS_BYTES) / 2).max(room / 5))
}

/// Free and used bytes of the file system.
pub(super) fn free_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    let blocks = |count: u64| count.saturating_mul(stat.f_frsize);
    Ok((blocks(stat.f_bavail), blocks(stat.f_blocks.saturating_sub(stat.f_bfree))))
}

/// Bytes that the files of a folder take, as the file system counts them: a journal's preallocated hole takes none.
pub(super) fn folder_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // Files come and go while this runs; what cannot be looked at counts as nothing.
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Warnings that would otherwise come a thousand times a second: one in ten seconds, with the number left out.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    next_ms: AtomicU64,
    left_out: AtomicU64,
}

const WARN_EVERY_MS: u64 = 10_000;

impl Seldom {
    pub(super) fn warn(&self, now_ms: u64, message: impl FnOnce() -> String) {
        let next = self.next_ms.load(Ordering::Relaxed);
        let due = now_ms >= next;
        let mine = due && self.next_ms.compare_exchange(next, now_ms + WARN_EVERY_MS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            tracing::warn!(target: "larder::disk", left_out, "{}", message());
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_leaves_room_and_stays_where_it_is() {
        const MB: u64 = 1 << 20;
        assert_eq!(bound(100, 0, u64::MAX), 100);
        assert_eq!(bound(10_000 * MB, 792 * MB, 300 * MB), 450 * MB);
        // Evicting moves bytes from one to the other and changes nothing.
        assert_eq!(bound(10_000 * MB, 92 * MB, 1_000 * MB), 450 * MB);
        assert_eq!(bound(10_000 * MB, 100 * MB, 0), 20 * MB);
    }

    #[test]
    fn a_folder_counts_its_blocks_and_not_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("inner/file"), vec![1u8; 100_000]).unwrap();
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let bytes = folder_bytes(dir.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(folder_bytes(&dir.path().join("missing")), 0);
    }
}
