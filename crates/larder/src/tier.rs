//! The backing tier: what stands behind memory, and the one part of the cache that can be substituted.
//!
//! A tier keeps records by key and knows nothing of freshness: it never sees the index, and whoever reads from it
//! judges what it gets. So a tier may lose records (that is a miss) and may serve old ones (the judge sees their
//! stamp), and the only promise it has to keep is not to lose an *accepted* write silently.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::position::Position;
use crate::record::Record;

pub(crate) mod breaker;
pub mod disk;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

pub use breaker::BreakerState;

/// What a tier's operations return.
pub type TierFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One change to a tier.
#[derive(Clone, Debug)]
pub struct Write {
    /// The whole key, namespace included.
    pub key: Box<[u8]>,
    /// What becomes of it.
    pub action: Action,
}

/// What a [`Write`] does to its key.
#[derive(Clone, Debug)]
pub enum Action {
    /// Keep this record, unless the one in place [outranks](Record::outranks) it.
    Store(Arc<Record>),
    /// Forget the key.
    Remove,
    /// Forget the key, unless its record is of the position's epoch and newer: a removal that was decided at a position may
    /// arrive after somebody's later put.
    RemoveUpTo(Position),
}

/// What the caller of [`Tier::write`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: where the queue has no room the writes are shed, counted, and reported so. For fills, whose value can
    /// be loaded again.
    No,
    /// Room in the queue. For puts: they are accepted or refused, never dropped.
    Accepted,
    /// That the writes are on stable storage.
    Durable,
}

/// What became of the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They will be seen by every later read of this tier, and stored soon.
    Accepted,
    /// They are on stable storage.
    Durable,
    /// They were not taken, because the queue is full or the tier is out of order. Counted.
    Shed,
}

impl Outcome {
    /// `accepted`, `durable` or `shed`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Durable => "durable",
            Outcome::Shed => "shed",
        }
    }
}

/// Whether a tier can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierState {
    /// Reads and writes work.
    Healthy,
    /// It does not take writes (and perhaps answers no reads) for this reason; it tries by itself to recover.
    Degraded(String),
}

/// What a tier can say of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Live entries, as far as the tier knows.
    pub entries: u64,
    /// Bytes of keys and records of the live entries.
    pub bytes: u64,
    /// Bytes the tier takes on the disk, garbage and journals included.
    pub bytes_on_disk: u64,
    /// Writes waiting in the queue.
    pub queued: u64,
    /// Bytes waiting in the queue.
    pub queued_bytes: u64,
    /// Entries removed to keep the bound.
    pub evicted: u64,
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Writes shed because the queue was full or the tier out of order.
    pub shed: u64,
    /// Records of a restore that were accepted and given up, because they could not be written however often it was tried.
    pub lost: u64,
    /// Stores refused because the record in place outranked them.
    pub outranked: u64,
    /// Records that could not be read (unknown version, damage) and were treated as misses.
    pub unreadable: u64,
    /// Failed operations of the store below.
    pub errors: u64,
}

impl TierStats {
    /// Leaves of what is counted only what came since `earlier`. Sizes stay.
    pub(crate) fn keep_since(&mut self, earlier: &TierStats) {
        self.evicted = self.evicted.saturating_sub(earlier.evicted);
        self.expired = self.expired.saturating_sub(earlier.expired);
        self.shed = self.shed.saturating_sub(earlier.shed);
        self.lost = self.lost.saturating_sub(earlier.lost);
        self.outranked = self.outranked.saturating_sub(earlier.outranked);
        self.unreadable = self.unreadable.saturating_sub(earlier.unreadable);
        self.errors = self.errors.saturating_sub(earlier.errors);
    }
}

/// Some keys of a tier, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<Box<[u8]>>,
    /// Where to go on, or `None` at the end.
    pub next: Option<Box<[u8]>>,
}

/// One bounded step of [`Tier::sweep`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepPage {
    /// Where to go on, or `None` at the end.
    pub next: Option<Box<[u8]>>,
    /// Records looked at.
    pub examined: u64,
    /// Records removed.
    pub removed: u64,
    /// Bytes of keys and records removed.
    pub removed_bytes: u64,
    /// Each of those removed, where the tier can tell: for who counts by namespace and by cause.
    pub gone: Vec<Gone>,
}

/// A record that a sweep removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its whole key.
    pub key: Box<[u8]>,
    /// Bytes of key and record.
    pub bytes: u64,
    /// Whether it went because it could not be read, and nobody was asked.
    pub is_unreadable: bool,
}

impl SweepPage {
    /// Adds one that was removed.
    pub fn remove(&mut self, gone: Gone) {
        self.removed += 1;
        self.removed_bytes += gone.bytes;
        self.gone.push(gone);
    }
}

/// What one bounded part of a [compaction](Tier::compact) achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the disk that were given back.
    pub freed_bytes: u64,
    /// Whether there is another part to be done.
    pub is_more: bool,
}

/// Decides whether a sweep keeps a record.
pub type Keep = Arc<dyn Fn(&[u8], &Record) -> bool + Send + Sync>;

/// A backing tier.
pub trait Tier: Send + Sync + 'static {
    /// The name that metrics and answers use, such as `disk`.
    fn name(&self) -> &'static str;

    /// Whether others write to it, so that it may have something newer than this process knows. Default: it is this
    /// process's own.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether [`sweep`](Self::sweep) goes through the keys in the order of their bytes, so that it can begin at any of them.
    /// Default: it does. Otherwise the place where a sweep goes on means something to the tier alone.
    fn is_ordered(&self) -> bool {
        true
    }

    /// Whether it takes the mark of a [hold](Record::held) from what it answers once that is over, so that restores may write it.
    /// Default: it does not, and they do not.
    fn knows_holds(&self) -> bool {
        false
    }

    /// How long a read takes at most, where the tier sees to that itself: readers whose own limit is not shorter then need no
    /// timer beside its. Default: it does not.
    fn reads_within(&self) -> Option<Duration> {
        None
    }

    /// The record of a key. An accepted write is seen, also while it waits in a queue.
    fn get<'a>(&'a self, key: &'a [u8]) -> TierFuture<'a, Option<Record>>;

    /// The records of many keys, in their order.
    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>>;

    /// Changes some keys; writes of one call to one key apply in order.
    fn write(&self, writes: Vec<Write>, wait: Wait) -> TierFuture<'_, Outcome>;

    /// Up to `limit` keys that start with `prefix`, from `from` (inclusive) on. Keys whose writes are still queued may be
    /// missing or still there.
    fn keys<'a>(&'a self, prefix: &'a [u8], from: Option<Box<[u8]>>, limit: usize) -> TierFuture<'a, KeyPage>;

    /// Looks at up to `limit` records from `from` (inclusive) on, and removes those that `keep` turns down, unless they
    /// were replaced meanwhile.
    fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> TierFuture<'_, SweepPage>;

    /// Gives back the room that removed records still take, one bounded part at a time; `part` counts from 0, where a compaction begins.
    /// Default: there is none to give back.
    fn compact(&self, _part: u32) -> TierFuture<'_, Compacted> {
        Box::pin(std::future::ready(Ok(Compacted::default())))
    }

    /// Takes the right to load a key for `life`, unless somebody has it. Default: everybody gets it, as nobody else is there.
    fn lease<'a>(&'a self, _key: &'a [u8], _token: u64, _life: Duration) -> TierFuture<'a, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Gives the right back, if it still is the one that was taken with this token.
    fn release<'a>(&'a self, _key: &'a [u8], _token: u64) -> TierFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Forgets everything.
    fn clear(&self) -> TierFuture<'_, ()>;

    /// Returns once all writes accepted before are on stable storage.
    fn flush(&self) -> TierFuture<'_, ()>;

    /// Whether it can be used.
    fn state(&self) -> TierState;

    /// What it can say of itself. May be a moment old, costs little.
    fn stats(&self) -> TierStats;

    /// Writes what is queued, and stops. Later operations fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    fn close(&self) -> TierFuture<'_, ()>;
}
