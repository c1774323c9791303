//! Giving back the room of entries that are expired or stale, in small steps: the sweeper, which goes round by itself, and a clean-up of
//! everything, which somebody asks for.
//!
//! Nothing depends on it but room: readers judge every entry themselves. It goes through memory entry by entry (the
//! engine's own `retain` would hold a shard's lock for its whole pass), a few hundred at a time, and through the backing
//! tier by pages; soon after an invalidation of more than single keys, and now and then anyway. On the way it samples
//! stamps for the estimate of false misses.
//!
//! ```text
//!   clean-up:  memory, 256 entries a step ──> backing tier, 256 records a step ──> compaction, a bounded part a step
//!              each step: a pause before it, a word to who looks on after it, and an end there if that is asked for
//! ```
//!
//! A clean-up may be dropped or stopped after any step: what was removed is removed, and nothing is half done.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::{Larder, Shared};
use crate::entry::Slot;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Index;
use crate::key::is_reserved;
use crate::metrics::Count;
use crate::position::Stamp;
use crate::sync::{AtomicU64, Ordering};
use crate::tier::Keep;
use crate::tier::memory::{Pool, PoolKey};

mod tally;

pub(crate) use tally::Cause;
pub use tally::{GivenBack, Swept, SweptNamespace, SweptTier};

/// The least time between two rounds: where invalidations never end, neither would the sweeping.
const GAP: Duration = Duration::from_secs(1);

/// Entries of memory looked at in one step: some tens of microseconds.
const MEMORY_STEP: usize = 256;

/// Records of the backing tier looked at in one step.
const BACKING_STEP: usize = 256;

/// The pause after each step, which bounds the sweeper to a small share of a core.
const PAUSE: Duration = Duration::from_millis(2);

/// Parts of one compaction at most; the next clean-up goes on.
const COMPACTION_PARTS_MAX: u32 = 4_096;

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

/// What a clean-up is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SweepPart {
    /// Entries of memory are looked at.
    Memory,
    /// Records of the backing tier are.
    Backing,
    /// The backing tier gives back what removed records still take of its disk.
    Compaction,
}

/// One small step of a clean-up, as who looks on is told of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SweepStep<'a> {
    /// What it was of.
    pub part: SweepPart,
    /// Entries or records that were looked at in this step: a few hundred at most, but for what a shared tier sends at once.
    pub examined: u64,
    /// Those that this part has looked at, this step's included.
    pub done: u64,
    /// About how many it has to look at, where that is known.
    pub of: Option<u64>,
    /// What was given back up to here.
    pub so_far: &'a Swept,
    /// Where another clean-up can go on if this one is stopped now.
    pub cursor: SweepCursor,
}

/// Where a clean-up goes on that was stopped: in the backing tier at the place where it was, or from the beginning. Memory is soon gone
/// through, in an order that is not the same the next time, so a clean-up that was stopped there begins anew.
///
/// Its text is opaque; the empty text is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepCursor(Place);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    /// The backing tier, from this place of its own on.
    Backing(Box<[u8]>),
    /// Everything was looked at; what is left is the compaction.
    Compaction,
}

impl SweepCursor {
    /// From the beginning.
    pub fn start() -> Self {
        SweepCursor::default()
    }
}

impl fmt::Display for SweepCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Start => Ok(()),
            Place::Compaction => f.write_str("c"),
            Place::Backing(place) => {
                f.write_str("b")?;
                place.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for SweepCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::InvalidKey, "the cursor of a clean-up is given back as it was got");
        let place = match text.as_bytes() {
            [] => Place::Start,
            b"c" => Place::Compaction,
            [b'b', digits @ ..] if digits.len().is_multiple_of(2) && digits.len() <= 2 * crate::KEY_LEN_MAX => {
                let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or_else(bad);
                let bytes = digits.as_chunks::<2>().0.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?));
                Place::Backing(bytes.collect::<Result<_>>()?)
            }
            _ => return Err(bad()),
        };
        Ok(SweepCursor(place))
    }
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
        // Nobody looks on, so it does not stop.
        let mut going = Going::quietly(&shared, PAUSE);
        going.through_memory().await;
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
        match going.through_backing(from.take(), steps).await {
            Ok(next) => from = next,
            Err(error) => tracing::debug!(%error, "the sweep of the backing tier stopped early"),
        }
        drop(going);
        drop(shared);
        tokio::time::sleep(GAP).await;
    }
}

impl Larder {
    /// Sweeps everything once, now: for those who want the room back at a time of their own. It does not pause between its steps;
    /// [`clean_up`](Self::clean_up) does.
    ///
    /// # Errors
    /// [`ErrorKind::Tier`] when the backing tier fails; memory has been swept by then.
    pub async fn sweep(&self) -> Result<Swept> {
        let mut going = Going::quietly(&self.0, Duration::ZERO);
        going.through_memory().await;
        going.through_backing(None, usize::MAX).await?;
        Ok(going.swept)
    }

    /// Cleans up: takes what is expired or stale out of memory and of the backing tier, a shared one included, and then has the backing
    /// tier give back what removed records still take of its disk. In small steps with a pause before each, so that it takes a small
    /// share of a core and holds no lock for long, and minutes where there are millions of entries.
    ///
    /// Who looks on is told of each step, and ends it by answering `false`. It may also be dropped, at any moment. What it gave back up
    /// to where it ended is in the answer, beside what ended it, if that was the backing tier.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Larder, SweepCursor};
    /// let larder = Larder::builder().build().await?;
    /// let (swept, ended) = larder.clean_up(SweepCursor::start(), |step| step.done < 1_000_000).await;
    /// assert_eq!(swept.examined, 0);
    /// ended
    /// # }
    /// ```
    pub async fn clean_up(&self, from: SweepCursor, on_step: impl FnMut(&SweepStep<'_>) -> bool + Send) -> (Swept, Result<()>) {
        let mut going = Going { shared: self.0.clone(), pause: PAUSE, on_step, is_stopped: false, swept: Swept::default() };
        if from.0 == Place::Start {
            going.through_memory().await;
        }
        let place = match from.0 {
            Place::Start => Some(None),
            Place::Backing(place) => Some(Some(place)),
            Place::Compaction => None,
        };
        let mut ended = Ok(());
        if let Some(place) = place
            && !going.is_stopped
        {
            ended = going.through_backing(place, usize::MAX).await.map(drop);
        }
        if ended.is_ok() && !going.is_stopped {
            ended = going.through_compaction().await;
        }
        (going.swept, ended)
    }
}

/// A sweep on its way.
struct Going<F> {
    shared: Arc<Shared>,
    pause: Duration,
    on_step: F,
    is_stopped: bool,
    swept: Swept,
}

impl Going<fn(&SweepStep<'_>) -> bool> {
    fn quietly(shared: &Arc<Shared>, pause: Duration) -> Self {
        Going { shared: shared.clone(), pause, on_step: |_| true, is_stopped: false, swept: Swept::default() }
    }
}

impl<F: FnMut(&SweepStep<'_>) -> bool + Send> Going<F> {
    /// After each step. The pause comes behind the word, so that who stops it does not wait.
    async fn stepped(&mut self, part: SweepPart, (examined, done, of): (u64, u64, Option<u64>), place: Place) {
        let step = SweepStep { part, examined, done, of, so_far: &self.swept, cursor: SweepCursor(place) };
        self.is_stopped = !(self.on_step)(&step);
        match (self.is_stopped, self.pause.is_zero()) {
            (true, _) => {}
            (false, true) => tokio::task::yield_now().await,
            (false, false) => tokio::time::sleep(self.pause).await,
        }
    }

    async fn through_memory(&mut self) {
        let shared = self.shared.clone();
        let pools = shared.pools();
        let of = Some(pools.iter().map(|pool| pool.len() as u64).sum());
        let mut sample = Sample::default();
        for pool in pools {
            let mut entries = pool.iter();
            loop {
                let now = shared.clock.refresh();
                let before = self.swept.examined;
                for (key, slot) in entries.by_ref().take(MEMORY_STEP) {
                    sample.take(slot.as_ref());
                    self.swept.examined += 1;
                    match sweep_one(&shared.index, &pool, &key, slot.as_ref(), now) {
                        Some(cause) => self.swept.left_memory(&shared.space_of(key.bytes()).name, cause, slot.meta().weight.into()),
                        None => slot.meta().metrics.sketching.seen(xxh3_64(key.bytes())),
                    }
                }
                let examined = self.swept.examined - before;
                if examined > 0 {
                    self.stepped(SweepPart::Memory, (examined, self.swept.examined, of), Place::Start).await;
                }
                if self.is_stopped {
                    return;
                }
                if examined < MEMORY_STEP as u64 {
                    break;
                }
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
    }

    /// Up to `steps` pages of the backing tier. Returns where to go on.
    async fn through_backing(&mut self, mut from: Option<Box<[u8]>>, steps: usize) -> Result<Option<Box<[u8]>>> {
        let Some(tier) = self.shared.tier.clone() else { return Ok(None) };
        let of = Some(tier.stats().entries).filter(|entries| *entries > 0 && !tier.is_shared());
        let verdicts = Arc::new(Verdicts::default());
        let keep = verdicts.clone().keep(&self.shared);
        for _ in 0..steps {
            let page = tier.sweep(from.take(), BACKING_STEP, keep.clone()).await?;
            self.swept.backing_examined += page.examined;
            self.swept.backing_removed += page.removed;
            self.swept.backing_removed_bytes += page.removed_bytes;
            let mut causes = std::mem::take(&mut *verdicts.0.lock());
            for gone in page.gone {
                // One that nobody was asked about could not be read, or was past its time.
                let unasked = if gone.is_unreadable { Cause::Unreadable } else { Cause::Expired };
                let cause = causes.remove(&gone.key).unwrap_or(unasked);
                self.swept.left_backing(&self.shared.space_of(&gone.key).name, cause, gone.bytes);
            }
            from = page.next;
            let place = from.clone().map_or(Place::Compaction, Place::Backing);
            self.stepped(SweepPart::Backing, (page.examined, self.swept.backing_examined, of), place).await;
            if from.is_none() || self.is_stopped {
                break;
            }
        }
        Ok(from)
    }

    async fn through_compaction(&mut self) -> Result<()> {
        let Some(tier) = self.shared.tier.clone() else { return Ok(()) };
        for part in 0..COMPACTION_PARTS_MAX {
            let compacted = tier.compact(part).await?;
            self.swept.compacted_bytes += compacted.freed_bytes;
            self.stepped(SweepPart::Compaction, (0, u64::from(part) + 1, None), Place::Compaction).await;
            if !compacted.is_more || self.is_stopped {
                break;
            }
        }
        Ok(())
    }
}

/// Why the records of one page were turned down, by key: the tier says which of them really went.
#[derive(Default)]
struct Verdicts(Mutex<HashMap<Box<[u8]>, Cause>>);

impl Verdicts {
    fn keep(self: Arc<Self>, shared: &Arc<Shared>) -> Keep {
        let shared = shared.clone();
        Arc::new(move |key, record| {
            let cause = if shared.clock.now_ms() >= record.expires_at {
                Cause::Expired
            } else if is_reserved(key) || shared.fresh_for_good(key, record).is_some() {
                // A probe judges by itself what it wrote, and no invalidation is about it.
                return true;
            } else if record.epoch != shared.index.epoch() {
                Cause::Orphaned
            } else {
                Cause::Invalidated
            };
            self.0.lock().insert(key.into(), cause);
            false
        })
    }
}

/// Takes out one entry if its time is over or it is stale. It is not re-stamped: that is for readers to do.
fn sweep_one(index: &Index, pool: &Pool, key: &PoolKey, slot: &dyn Slot, now: u64) -> Option<Cause> {
    let meta = slot.meta();
    let query = pool.query(key.bytes());
    if now >= meta.times().expires_at {
        let removed = pool.remove_entry(query, slot, Count::Expired);
        if removed {
            slot.bury_expired(key.bytes());
        }
        return removed.then_some(Cause::Expired);
    }
    let stale = (meta.stamp() < index.latest()).then(|| index.judge_for_good(meta.named(key.bytes()), meta.stamp())).flatten()?;
    let removed = pool.remove_entry(query, slot, Count::Invalidated);
    if removed {
        slot.bury(key.bytes(), stale);
    }
    removed.then_some(Cause::Invalidated)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for place in [Place::Start, Place::Backing(b"a:\x00\xff".as_slice().into()), Place::Backing(Box::default()), Place::Compaction] {
            let cursor = SweepCursor(place);
            assert_eq!(cursor.to_string().parse::<SweepCursor>().unwrap(), cursor);
        }
        for bad in ["x", "b6", "bzz", "cc", "b\u{e4}\u{e4}"] {
            assert!(bad.parse::<SweepCursor>().is_err(), "{bad}");
        }
    }
}
