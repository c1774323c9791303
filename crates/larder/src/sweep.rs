//! The sweeper: gives back the room of entries that are expired or stale, in small steps.
//!
//! Nothing depends on it but room: readers judge every entry themselves. It goes through memory entry by entry (the
//! engine's own `retain` would hold a shard's lock for its whole pass), a few hundred at a time, and through the backing
//! tier by pages; soon after an invalidation of more than single keys, and now and then anyway. On the way it samples
//! stamps for the estimate of false misses.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::{Larder, Shared};
use crate::entry::Slot;
use crate::error::Result;
use crate::freshness::Index;
use crate::key::is_reserved;
use crate::metrics::Count;
use crate::position::Stamp;
use crate::sync::{AtomicU64, Ordering};
use crate::tier::Keep;
use crate::tier::memory::{Pool, PoolKey};

/// The least time between two rounds: where invalidations never end, neither would the sweeping.
const GAP: Duration = Duration::from_secs(1);

/// Entries of memory looked at in one step: some tens of microseconds.
const MEMORY_STEP: usize = 256;

/// Records of the backing tier looked at in one step.
const BACKING_STEP: usize = 256;

/// The pause after each step, which bounds the sweeper to a small share of a core.
const PAUSE: Duration = Duration::from_millis(2);

/// Steps through the backing tier in an ordinary round; after a large invalidation it goes to the end.
const BACKING_STEPS_A_ROUND: usize = 4;

/// One entry in so many gives its stamp to the estimate of false misses.
const SAMPLE_ONE_IN: usize = 64;
const SAMPLES_MAX: usize = 1024;

/// From this rate of false misses on, the log recommends a larger index.
const FALSE_MISSES_TO_MENTION: f64 = 0.01;

/// See the head of this file.
pub(crate) struct Sweeper {
    every: Duration,
    wake: Arc<Notify>,
    task: Mutex<Option<AbortHandle>>,
    false_miss_rate: AtomicU64,
}

/// What a sweep gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Entries in memory that were looked at.
    pub examined: u64,
    /// Entries that left memory because their time was over.
    pub expired: u64,
    /// Entries that left memory because they had been invalidated.
    pub invalidated: u64,
    /// Records of the backing tier that were looked at.
    pub backing_examined: u64,
    /// Records that left the backing tier.
    pub backing_removed: u64,
    /// Bytes of keys and records that left the backing tier.
    pub backing_removed_bytes: u64,
}

impl Sweeper {
    pub(crate) fn new(every: Duration) -> Self {
        Sweeper { every, wake: Arc::new(Notify::new()), task: Mutex::new(None), false_miss_rate: AtomicU64::new(0) }
    }

    /// After an invalidation that may have made many entries stale.
    pub(crate) fn wake_soon(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(crate) fn false_miss_rate(&self) -> f64 {
        f64::from_bits(self.false_miss_rate.load(Ordering::Relaxed))
    }
}

/// Starts the task. It holds the cache only while it works, so that it ends with the last handle.
pub(crate) fn start(shared: &Arc<Shared>) {
    let (weak, wake, every) = (Arc::downgrade(shared), shared.sweeper.wake.clone(), shared.sweeper.every);
    let task = shared.runtime.spawn(rounds(weak, wake, every));
    *shared.sweeper.task.lock() = Some(task.abort_handle());
}

async fn rounds(weak: Weak<Shared>, wake: Arc<Notify>, every: Duration) {
    let mut from = None;
    loop {
        let woken = tokio::time::timeout(every, wake.notified()).await.is_ok();
        let Some(shared) = weak.upgrade() else { return };
        sweep_memory(&shared, PAUSE).await;
        // What many share is not swept by each of them all the time: there, records expire by themselves, and stale ones are
        // overwritten or make room.
        let shared_tier = shared.tier.as_ref().is_some_and(|tier| tier.is_shared());
        let steps = if shared_tier {
            0
        } else if woken {
            usize::MAX
        } else {
            BACKING_STEPS_A_ROUND
        };
        match sweep_backing(&shared, from.take(), steps).await {
            Ok((_, next)) => from = next,
            Err(error) => tracing::debug!(%error, "the sweep of the backing tier stopped early"),
        }
        drop(shared);
        tokio::time::sleep(GAP).await;
    }
}

impl Larder {
    /// Sweeps everything once, now: for those who want the room back at a time of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Tier`](crate::ErrorKind::Tier) when the backing tier fails; memory has been swept by then.
    pub async fn sweep(&self) -> Result<Swept> {
        let mut swept = sweep_memory(&self.0, Duration::ZERO).await;
        let (backing, _) = sweep_backing(&self.0, None, usize::MAX).await?;
        swept.backing_examined = backing.backing_examined;
        swept.backing_removed = backing.backing_removed;
        swept.backing_removed_bytes = backing.backing_removed_bytes;
        Ok(swept)
    }
}

async fn sweep_memory(shared: &Shared, pause: Duration) -> Swept {
    let mut swept = Swept::default();
    let mut sample = Sample::default();
    for pool in shared.pools() {
        let mut entries = pool.iter();
        loop {
            let now = shared.clock.refresh();
            let mut left = MEMORY_STEP;
            for (key, slot) in entries.by_ref().take(MEMORY_STEP) {
                left -= 1;
                sample.take(slot.as_ref());
                swept.examined += 1;
                match sweep_one(&shared.index, &pool, &key, slot.as_ref(), now) {
                    Some(Count::Expired) => swept.expired += 1,
                    Some(_) => swept.invalidated += 1,
                    None => slot.meta().metrics.sketching.seen(xxh3_64(key.bytes())),
                }
            }
            if left > 0 {
                break;
            }
            if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
        }
    }
    let rate = sample.false_miss_rate(&shared.index);
    shared.sweeper.false_miss_rate.store(rate.to_bits(), Ordering::Relaxed);
    if rate > FALSE_MISSES_TO_MENTION {
        tracing::warn!(
            rate,
            "the freshness index is too small for the names that are invalidated: entries are reloaded without need; give it more bytes"
        );
    }
    swept
}

/// Takes out one entry if its time is over or it is stale. It is not re-stamped: that is for readers to do.
fn sweep_one(index: &Index, pool: &Pool, key: &PoolKey, slot: &dyn Slot, now: u64) -> Option<Count> {
    let meta = slot.meta();
    let query = pool.query(key.bytes());
    if now >= meta.times().expires_at {
        let removed = pool.remove_entry(query, slot, Count::Expired);
        if removed {
            meta.bury_expired(key.bytes());
        }
        return removed.then_some(Count::Expired);
    }
    let stale = (meta.stamp() < index.latest()).then(|| index.judge_for_good(meta.named(key.bytes()), meta.stamp())).flatten()?;
    let removed = pool.remove_entry(query, slot, Count::Invalidated);
    if removed {
        meta.bury(key.bytes(), stale);
    }
    removed.then_some(Count::Invalidated)
}

/// Up to `steps` pages of the backing tier. Returns where to go on.
async fn sweep_backing(shared: &Arc<Shared>, mut from: Option<Box<[u8]>>, steps: usize) -> Result<(Swept, Option<Box<[u8]>>)> {
    let mut swept = Swept::default();
    let Some(tier) = &shared.tier else { return Ok((swept, None)) };
    let keep: Keep = {
        let shared = shared.clone();
        Arc::new(move |key, record| {
            // A probe judges by itself what it wrote, and no invalidation is about it.
            shared.clock.now_ms() < record.expires_at && (is_reserved(key) || shared.fresh_for_good(key, record).is_some())
        })
    };
    for _ in 0..steps {
        let page = tier.sweep(from.take(), BACKING_STEP, keep.clone()).await?;
        swept.backing_examined += page.examined;
        swept.backing_removed += page.removed;
        swept.backing_removed_bytes += page.removed_bytes;
        from = page.next;
        if from.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((swept, from))
}

/// Stamps of entries on the way.
#[derive(Default)]
struct Sample {
    seen: usize,
    stamps: Vec<Stamp>,
    names: usize,
}

impl Sample {
    fn take(&mut self, slot: &dyn Slot) {
        self.seen += 1;
        if self.seen.is_multiple_of(SAMPLE_ONE_IN) && self.stamps.len() < SAMPLES_MAX {
            self.stamps.push(slot.meta().stamp());
            self.names += slot.meta().hashes.len();
        }
    }

    fn false_miss_rate(&self, index: &Index) -> f64 {
        let names = self.names as f64 / self.stamps.len().max(1) as f64 + index.stats().shapes as f64;
        index.false_miss_rate(&self.stamps, names)
    }
}
