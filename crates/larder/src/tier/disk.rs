//! The disk tier: records in an embedded store (fjall), for a process that keeps its backing tier on its own disk.
//!
//! ```text
//!   write ----> queue ----> writer's thread ----> store
//!   get   --1-> queue            |  owns the ledger: counters, eviction, expiry
//!         --2-> store            |  brings a failed store back
//!                                reclaim's thread: measures, compacts
//! ```
//!
//! The store blocks, sometimes for long, so nothing here touches it on a runtime's worker: writes go through a bounded
//! queue to one thread, and reads that the queue cannot answer run on the runtime's blocking pool.
//!
//! | file | holds |
//! |---|---|
//! | `disk/queue.rs` | what is accepted and not stored yet |
//! | `disk/writer.rs` | the writer's thread, and recovery |
//! | `disk/ledger.rs` | every change to the store, with its counters |
//! | `disk/reclaim.rs` | giving space back |
//! | `disk/store.rs`, `disk/layout.rs` | the database, and what lies where in it |
//! | `disk/format.rs` | the folder |
//! | `disk/recent.rs` | what was read lately |

mod format;
mod layout;
mod ledger;
mod queue;
mod recent;
mod reclaim;
mod shared;
mod store;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, atomic::Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::format::Folder;
use self::layout::Stored;
use self::ledger::{Ledger, Victim};
use self::queue::{Errand, Lookup, Offer};
use self::shared::Shared;
use self::store::Store;
use self::writer::Writer;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::tier::{Action, Compacted, Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};

/// How long dropping a tier that was not closed waits for its threads.
const DROP_MAX: Duration = Duration::from_secs(10);

/// How a [`DiskTier`] is set up. Make one with [`DiskOptions::new`] and change what should differ.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The folder; created if it is missing. One tier uses it at a time.
    pub path: PathBuf,
    /// Bytes of keys and encoded records to keep at most; beyond it the oldest are evicted. On a disk that has less room
    /// the tier keeps itself to about half of what it takes and what is free together. 10 GiB unless changed.
    ///
    /// The disk takes more than that: up to half as much again and 32 MiB for garbage, and up to 192 MiB of journals; one with less than
    /// 256 MiB is too small.
    pub capacity_bytes: u64,
    /// Bytes of accepted writes that wait to be stored, at most; they are in memory. 32 MiB unless changed.
    pub queue_bytes: usize,
    /// How long a write that must not be shed waits for room in the queue before it fails. 2 seconds unless changed.
    pub room_wait: Duration,
    /// Bytes of the store's blocks kept in memory. 32 MiB unless changed.
    pub block_cache_bytes: u64,
    /// How often expired records are looked for and space is reclaimed. 1 second unless changed.
    pub upkeep_interval: Duration,
    /// How long the disk may stay full of the tier's own files, so that not even deleting works, before the tier gives up
    /// its entries and starts anew. A disk that others have filled is waited for. 30 seconds unless changed.
    pub discard_after: Duration,
    /// Where the time comes from. [`Clock::system`] unless changed.
    pub clock: Clock,
    /// Bytes gathered in memory before the store writes a table. For tests, which want many tables soon; takes effect in a
    /// new folder only.
    #[doc(hidden)]
    pub memtable_bytes: u64,
}

impl DiskOptions {
    /// The defaults, for a tier in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        DiskOptions {
            path: path.into(),
            capacity_bytes: 10 << 30,
            queue_bytes: 32 << 20,
            room_wait: Duration::from_secs(2),
            block_cache_bytes: 32 << 20,
            upkeep_interval: Duration::from_secs(1),
            discard_after: Duration::from_secs(30),
            clock: Clock::system(),
            memtable_bytes: 16 << 20,
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: &'static str| Err(Error::new(ErrorKind::InvalidConfig, message));
        if self.capacity_bytes == 0 {
            return wrong("the disk tier's capacity is zero; leave the tier out instead");
        }
        if self.queue_bytes == 0 {
            return wrong("the disk tier's queue has no room for anything");
        }
        if self.upkeep_interval.is_zero() {
            return wrong("the disk tier's upkeep interval is zero");
        }
        Ok(())
    }
}

/// The embedded backing tier. See the [module](self).
///
/// What is written is never lost silently: a write that is not stored was refused, shed or evicted, and is counted in
/// [`TierStats`]. When the store fails, for example because the disk is full, the tier says so in its
/// [state](Tier::state), takes no writes, keeps those it has accepted, answers reads as well as it can, and tries by
/// itself to work again.
///
/// Its operations need a Tokio runtime (with its timer for [`Wait::Accepted`] and [`Wait::Durable`]).
pub struct DiskTier {
    shared: Arc<Shared>,
    room_wait: Duration,
    threads: Mutex<Option<Threads>>,
}

/// What has to end before the folder is free again.
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Disconnected when all threads have ended.
    ended: mpsc::Receiver<()>,
    _folder: Folder,
}

impl DiskTier {
    /// Opens the tier in its folder, creating it if it is empty. Blocks, for a second or so where much is to be read back.
    ///
    /// A database that cannot be read back is given up and begun anew: what a cache holds can be loaded again.
    ///
    /// # Errors
    /// - [`ErrorKind::UnknownFormat`] where the folder is not the tier's, or of another version; nothing was changed.
    /// - [`ErrorKind::Locked`] where another tier uses it.
    /// - [`ErrorKind::InvalidConfig`] where an option makes no sense.
    /// - [`ErrorKind::Tier`] where the operating system refuses something.
    pub fn open(options: DiskOptions) -> Result<Self> {
        options.check()?;
        let folder = Folder::take(&options.path)?;
        let shared = Arc::new(Shared::open(folder.store(), &options)?);
        let store = shared.store().expect("a tier that was just opened has its store");
        let ledger = Ledger::open(store).map_err(|trouble| {
            Error::new(ErrorKind::Tier, format!("the disk tier in {} cannot be read: {trouble:?}", options.path.display()))
        })?;
        let (alive, ended) = mpsc::channel();
        let threads = Mutex::new(Some(Threads { handles: Vec::new(), ended, _folder: folder }));
        // From here on dropping the tier ends its threads, also where only one could be started.
        let tier = DiskTier { shared, room_wait: options.room_wait, threads };
        let (writer, reclaimer) = (Writer::new(tier.shared.clone(), ledger), tier.shared.clone());
        tier.spawn("larder-disk-writer", alive.clone(), move || writer.run())?;
        tier.spawn("larder-disk-reclaim", alive, move || reclaim::run(&reclaimer))?;
        Ok(tier)
    }

    fn spawn(&self, name: &str, alive: mpsc::Sender<()>, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let run = move || {
            // Dropped at the end, whichever way that is reached.
            let _alive = alive;
            run();
        };
        let failed = |error| Error::new(ErrorKind::Tier, "the disk tier could not start a thread").with_source(error);
        let handle = thread::Builder::new().name(name.into()).spawn(run).map_err(failed)?;
        if let Some(threads) = &mut *self.threads.lock() {
            threads.handles.push(handle);
        }
        Ok(())
    }

    /// Follows the tier's state; for those who want to hear of a change rather than ask.
    pub fn watch_state(&self) -> watch::Receiver<TierState> {
        self.shared.watch_state()
    }

    /// Does now what the tier's threads do from time to time: removes all that has expired, keeps the bound, reclaims
    /// space. For tests that drive the clock.
    #[doc(hidden)]
    pub async fn upkeep(&self) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        self.shared.queue.send(Errand::Upkeep { done })?;
        heard(outcome.await)?;
        let shared = self.shared.clone();
        blocking(move || reclaim::step(&shared)).await
    }

    async fn get_one(&self, key: &[u8]) -> Result<Option<Record>> {
        self.shared.queue.check_open()?;
        match self.shared.queue.lookup(key) {
            Lookup::Gone => return Ok(None),
            Lookup::Record(record) => return Ok(self.unless_expired(&record)),
            Lookup::Unknown => {}
        }
        let Some(store) = self.shared.store() else { return Ok(None) };
        let (shared, key) = (self.shared.clone(), Box::from(key));
        blocking(move || read(&shared, &store, &key)).await?
    }

    async fn get_all(&self, keys: Vec<Box<[u8]>>) -> Result<Vec<Option<Record>>> {
        self.shared.queue.check_open()?;
        let mut found = Vec::with_capacity(keys.len());
        let mut unknown = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            let lookup = self.shared.queue.lookup(&key);
            match lookup {
                Lookup::Record(record) => found.push(self.unless_expired(&record)),
                Lookup::Gone => found.push(None),
                Lookup::Unknown => {
                    found.push(None);
                    unknown.push((place, key));
                }
            }
        }
        let Some(store) = self.shared.store().filter(|_| !unknown.is_empty()) else { return Ok(found) };
        let shared = self.shared.clone();
        blocking(move || {
            for (place, key) in unknown {
                found[place] = read(&shared, &store, &key)?;
            }
            Ok(found)
        })
        .await?
    }

    fn unless_expired(&self, record: &Record) -> Option<Record> {
        (record.expires_at > self.shared.clock.now_ms()).then(|| record.clone())
    }

    async fn write_all(&self, mut writes: Vec<Write>, wait: Wait) -> Result<Outcome> {
        let too_large = self.refuse_too_large(&mut writes);
        let count = writes.len();
        let (mut waiter, stored) = (wait == Wait::Durable).then(oneshot::channel).unzip();
        let offer = match wait {
            Wait::No => self.shared.queue.offer(writes, &mut waiter)?,
            Wait::Accepted | Wait::Durable => self.offer_patiently(writes, waiter).await?,
        };
        match offer {
            Offer::Taken(taken) => {
                self.shared.counts.outranked.fetch_add(taken.outranked, Ordering::Relaxed);
            }
            Offer::Full(_) => {
                self.shared.shed(count, "its queue is full");
                return Ok(Outcome::Shed);
            }
            Offer::OutOfOrder => {
                self.shared.shed(count, "it is out of order");
                return Ok(Outcome::Shed);
            }
        }
        if let Some(stored) = stored {
            heard(stored.await)?;
        }
        Ok(match wait {
            _ if too_large => Outcome::Shed,
            Wait::Durable => Outcome::Durable,
            Wait::No | Wait::Accepted => Outcome::Accepted,
        })
    }

    /// A record that would push out half of all others is not kept; neither is what it was to replace.
    fn refuse_too_large(&self, writes: &mut [Write]) -> bool {
        let size_max = self.shared.capacity_bytes / 2;
        let mut refused = 0;
        for write in writes {
            if let Action::Store(record) = &write.action
                && (write.key.len() + record.encoded_len()) as u64 > size_max
            {
                write.action = Action::Remove;
                refused += 1;
            }
        }
        if refused > 0 {
            self.shared.shed(refused, "a record is larger than half of its capacity");
        }
        refused > 0
    }

    /// Offers again whenever there may be room, for as long as a caller may be kept waiting.
    async fn offer_patiently(&self, mut writes: Vec<Write>, mut waiter: Option<queue::Waiter>) -> Result<Offer> {
        let deadline = tokio::time::Instant::now() + self.room_wait;
        loop {
            let room = self.shared.queue.room();
            tokio::pin!(room);
            // Before the offer, so that room made between the two is heard of.
            room.as_mut().enable();
            match self.shared.queue.offer(writes, &mut waiter)? {
                Offer::Full(back) => writes = back,
                settled => return Ok(settled),
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                let message = format!(
                    "the disk tier's queue stayed full for {:?}: its disk does not keep up with {} writes waiting; nothing was written",
                    self.room_wait,
                    self.shared.queue.depth().0
                );
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
        }
    }

    async fn page_of_keys(&self, prefix: &[u8], from: Option<Box<[u8]>>, limit: usize) -> Result<KeyPage> {
        let Some(store) = self.readable()? else { return Ok(KeyPage::default()) };
        let (shared, range) = (self.shared.clone(), layout::record_range(prefix, from.as_deref()));
        blocking(move || {
            let (mut page, now) = (KeyPage::default(), shared.clock.now_ms());
            for pair in store.range(range.0, range.1) {
                let (key, value) = pair.map_err(|error| read_error(&shared, error))?;
                let key = layout::user_key(&key);
                if Stored::decode(copied(&value)).expires_at <= now {
                    continue;
                }
                if page.keys.len() == limit.max(1) {
                    page.next = Some(key.into());
                    break;
                }
                page.keys.push(key.into());
            }
            Ok(page)
        })
        .await?
    }

    async fn sweep_page(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> Result<SweepPage> {
        let Some(store) = self.readable()? else { return Ok(SweepPage::default()) };
        let (shared, range) = (self.shared.clone(), layout::record_range(b"", from.as_deref()));
        let (mut page, victims) = blocking(move || look_for_victims(&shared, &store, range, limit, &keep)).await??;
        if !victims.is_empty() {
            let (done, outcome) = oneshot::channel();
            self.shared.queue.send(Errand::Remove { victims, done })?;
            heard(outcome.await)?.into_iter().for_each(|gone| page.remove(gone));
        }
        Ok(page)
    }

    /// The store, for reading all of it; none while there is none, or while everything is about to be forgotten.
    fn readable(&self) -> Result<Option<Arc<Store>>> {
        self.shared.queue.check_open()?;
        let clearing = self.shared.queue.is_clearing();
        Ok(self.shared.store().filter(|_| !clearing))
    }

    async fn finish(&self) -> Result<()> {
        self.shared.stop();
        let Some(threads) = self.threads.lock().take() else { return Ok(()) };
        let shared = self.shared.clone();
        blocking(move || {
            threads.handles.into_iter().for_each(join);
            if !shared.close_store() {
                tracing::warn!(target: "larder::disk", "reads that do not end keep the disk tier's files open");
            }
        })
        .await?;
        self.shared.take_failure().map_or(Ok(()), Err)
    }
}

impl Tier for DiskTier {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> TierFuture<'a, Option<Record>> {
        Box::pin(self.get_one(key))
    }

    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>> {
        Box::pin(self.get_all(keys))
    }

    fn write(&self, writes: Vec<Write>, wait: Wait) -> TierFuture<'_, Outcome> {
        Box::pin(self.write_all(writes, wait))
    }

    fn keys<'a>(&'a self, prefix: &'a [u8], from: Option<Box<[u8]>>, limit: usize) -> TierFuture<'a, KeyPage> {
        Box::pin(self.page_of_keys(prefix, from, limit))
    }

    fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> TierFuture<'_, SweepPage> {
        Box::pin(self.sweep_page(from, limit, keep))
    }

    fn compact(&self, part: u32) -> TierFuture<'_, Compacted> {
        let shared = self.shared.clone();
        Box::pin(async move {
            shared.queue.check_open()?;
            blocking(move || reclaim::part(&shared, part)).await?
        })
    }

    fn clear(&self) -> TierFuture<'_, ()> {
        Box::pin(async {
            let (waiter, done) = oneshot::channel();
            self.shared.queue.clear(waiter)?;
            heard(done.await)
        })
    }

    fn flush(&self) -> TierFuture<'_, ()> {
        Box::pin(async {
            let (waiter, done) = oneshot::channel();
            self.shared.queue.flush(waiter)?;
            heard(done.await)
        })
    }

    fn state(&self) -> TierState {
        self.shared.state()
    }

    fn stats(&self) -> TierStats {
        self.shared.stats()
    }

    fn close(&self) -> TierFuture<'_, ()> {
        Box::pin(self.finish())
    }
}

impl Drop for DiskTier {
    /// Writes what is queued, as closing does, but waits no longer than a few seconds and tells nobody of a failure.
    fn drop(&mut self) {
        self.shared.stop();
        let Some(threads) = self.threads.get_mut().take() else { return };
        match threads.ended.recv_timeout(DROP_MAX) {
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                threads.handles.into_iter().for_each(join);
                self.shared.close_store();
            }
            // They end by themselves, and the folder stays locked by the store until then.
            _ => tracing::warn!(target: "larder::disk", "the disk tier was dropped while it was busy; close it to wait for it"),
        }
    }
}

fn read(shared: &Shared, store: &Store, key: &[u8]) -> Result<Option<Record>> {
    let stored = store.get(key).map_err(|error| read_error(shared, error).during("get", key))?;
    let record = stored.and_then(|stored| shared.decode(stored));
    if record.is_some() {
        shared.recent.mark(key);
    }
    Ok(record)
}

fn look_for_victims(
    shared: &Shared,
    store: &Store,
    range: (Vec<u8>, Vec<u8>),
    limit: usize,
    keep: &Keep,
) -> Result<(SweepPage, Vec<Victim>)> {
    let (mut page, mut victims) = (SweepPage::default(), Vec::new());
    for pair in store.range(range.0, range.1) {
        let (key, value) = pair.map_err(|error| read_error(shared, error))?;
        let key = layout::user_key(&key);
        if page.examined == limit.max(1) as u64 {
            page.next = Some(key.into());
            break;
        }
        page.examined += 1;
        let stored = Stored::decode(copied(&value));
        let ticket = stored.ticket;
        // What has expired or cannot be read is turned down without asking.
        let is_expired = stored.expires_at <= shared.clock.now_ms();
        let decoded = shared.decode(stored);
        if !decoded.as_ref().is_some_and(|record| keep(key, record)) {
            victims.push(Victim { key: key.into(), ticket, is_unreadable: decoded.is_none() && !is_expired });
        }
    }
    Ok((page, victims))
}

fn copied(value: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(value)
}

fn read_error(shared: &Shared, error: fjall::Error) -> Error {
    shared.counts.errors.fetch_add(1, Ordering::Relaxed);
    Error::new(ErrorKind::Tier, "the disk tier could not be read").with_source(error)
}

fn join(handle: JoinHandle<()>) {
    if handle.join().is_err() {
        // The panic itself was reported by the hook, and the writer's by its guard.
        tracing::error!(target: "larder::disk", "a thread of the disk tier had panicked");
    }
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let panicked = |error| Error::new(ErrorKind::Tier, "the disk tier could not be read").with_source(error);
    tokio::task::spawn_blocking(run).await.map_err(panicked)
}

/// What the writer answered; one that is gone answers nothing.
fn heard<T>(answer: std::result::Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
    answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the disk tier was closed meanwhile")))
}
