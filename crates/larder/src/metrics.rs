//! What the cache counts. One list names every counter, so that whoever adds one, exports one or looks for one has a
//! single place to go.
//!
//! Counting must not cost what a hit costs. Each thread has a stripe of its own for as long as it lives, so a counter is a
//! load and a store without a locked instruction; threads beyond the stripes share the last one and pay for it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::analytics::{Sketches, Sketching, is_chosen};
use crate::clock::Millis;
use crate::entry::Meta;
use crate::freshness::StaleBy;
use crate::hot_keys::HotKeys;
use crate::needless::Graves;
use crate::sizing::live::{Recorded, Tap};
use crate::sync::{AtomicU64, Ordering};

mod histogram;

pub(crate) use histogram::Histogram;
pub use histogram::Latencies;

/// Stripes of a counter set; the last is shared by all threads that found no other free.
pub(crate) const STRIPES: usize = 16;
const SHARED_STRIPE: usize = STRIPES - 1;

/// Of so many memory hits one is timed.
pub(crate) const SAMPLE_ONE_IN: u64 = 64;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident => $field:ident,)+) => {
        /// One counter of a namespace.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count { $($name),+ }

        const COUNTS: usize = [$(Count::$name),+].len();

        /// What happened in a namespace since it was opened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl Counts {
            fn read(counter: impl Fn(Count) -> u64) -> Self {
                Counts { $($field: counter(Count::$name),)+ }
            }

            /// Every counter with its name, in the order of this list.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),+].into_iter()
            }

            /// The names of all counters, in the order of this list.
            pub const NAMES: [&'static str; COUNTS] = [$(stringify!($field)),+];

            /// Sets a counter by its name; `false` where there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($field) => self.$field = value,)+
                    _ => return false,
                }
                true
            }

            /// Adds another's numbers.
            pub fn add(&mut self, other: &Counts) {
                $(self.$field += other.$field;)+
            }

            /// What was counted since `earlier`; nothing, where a counter went back.
            pub fn since(&self, earlier: &Counts) -> Counts {
                Counts { $($field: self.$field.saturating_sub(earlier.$field),)+ }
            }
        }
    };
}

counts! {
    /// Reads answered by a fresh entry in memory.
    HitMemory => hits_memory,
    /// Reads answered by a fresh record of the backing tier.
    HitBacking => hits_backing,
    /// Reads answered by an entry whose time was over, as its policy allows. Never by an invalidated one.
    HitStale => hits_stale,
    /// Of these, how many were answered by the backing tier's.
    HitStaleBacking => hits_stale_backing,
    /// Reads answered by "there is no such thing", remembered from a loader.
    HitNegative => hits_negative,
    /// Answers that said that they could not be verified, because a log that others append to was not heard for too long.
    /// Reads that return the value alone do not look, and are not counted here.
    Unverified => unverified,
    /// Reads that found nothing.
    MissAbsent => misses_absent,
    /// Reads that found an entry whose time was over.
    MissExpired => misses_expired,
    /// Reads that found an entry which had been invalidated.
    MissInvalidated => misses_invalidated,
    /// Of the reads that found an invalidated entry: its key was, or something was put there.
    StaleKey => stale_by_key,
    /// One of its tags was.
    StaleTag => stale_by_tag,
    /// A pattern that its key matches was.
    StalePattern => stale_by_pattern,
    /// Its namespace was, or a pattern was widened to that.
    StaleNamespace => stale_by_namespace,
    /// Everything was.
    StaleEverything => stale_by_everything,
    /// Something it was computed from was.
    StaleSource => stale_by_source,
    /// The log began a new epoch, and what happened meanwhile is not known.
    StaleEpoch => stale_by_epoch,
    /// Reads for which the backing tier was asked and had nothing that may be served. What memory missed is
    /// [`misses_memory`](Counts::misses_memory).
    MissBacking => misses_backing,
    /// Reads that ended with an error. They are neither hits nor misses.
    Error => errors,
    /// Values put from outside, fills included.
    Put => puts,
    /// Entries that were put into memory: put, filled, loaded, or brought from the backing tier.
    SetMemory => sets_memory,
    /// Records that were given to the backing tier, and that it took.
    SetBacking => sets_backing,
    /// Keys removed from outside.
    Remove => removes,
    /// Loads that returned a value or "no such thing".
    LoadOk => loads_ok,
    /// Loads that returned an error or panicked.
    LoadError => loads_error,
    /// Loads that did not finish in time.
    LoadTimeout => loads_timeout,
    /// Reads that waited for a load that another had begun.
    LoadJoined => loads_joined,
    /// Loaded values, fills and updates that were not kept, because something they depend on was invalidated meanwhile.
    LoadDropped => loads_dropped,
    /// Entries whose content was looked at and found the same, so that they live on without an append.
    Unchanged => unchanged,
    /// Entries that were invalidated and then loaded again, as far as their content could be compared.
    ReloadInvalidated => reloads_invalidated,
    /// Of these, the ones with the same content: they were killed for nothing.
    Needless => invalidated_needlessly,
    /// Entries that expired and were then loaded again, as far as their content could be compared.
    ReloadExpired => reloads_expired,
    /// Of these, the ones with the same content: they could have lived longer.
    ExpiredNeedlessly => expired_needlessly,
    /// Entries that left memory to make room.
    Evicted => evicted,
    /// Entries that left memory because their time was over.
    Expired => expired,
    /// Entries that left memory because they were invalidated.
    Invalidated => invalidated,
    /// Entries that left memory because a newer one took their place.
    Replaced => replaced,
    /// Values that memory did not take because they are too large for a share of it.
    TooLarge => too_large,
    /// Writes to the backing tier that it did not take.
    BackingShed => backing_shed,
    /// Failed operations of the backing tier that a read or write went on without.
    BackingError => backing_errors,
}

impl Counts {
    /// All reads: hits, misses, and errors.
    pub fn requests(&self) -> u64 {
        self.hits() + self.misses() + self.errors
    }

    /// Reads that were answered without a load.
    pub fn hits(&self) -> u64 {
        self.hits_memory + self.hits_backing + self.hits_stale + self.hits_negative
    }

    /// Reads that had to load, or found nothing.
    pub fn misses(&self) -> u64 {
        self.misses_absent + self.misses_expired + self.misses_invalidated
    }

    /// Hits of memory, those included that it answered with an entry past its time or with "there is no such thing".
    pub fn hits_of_memory(&self) -> u64 {
        self.hits_memory + self.hits_negative + self.hits_stale.saturating_sub(self.hits_stale_backing)
    }

    /// Hits of the backing tier.
    pub fn hits_of_backing(&self) -> u64 {
        self.hits_backing + self.hits_stale_backing
    }

    /// Reads that memory did not answer. Those of the backing tier are counted: `misses_backing`.
    pub fn misses_memory(&self) -> u64 {
        self.requests() - self.hits_of_memory()
    }
}

impl From<StaleBy> for Count {
    fn from(by: StaleBy) -> Self {
        match by {
            StaleBy::Key => Count::StaleKey,
            StaleBy::Tag(_) => Count::StaleTag,
            StaleBy::Pattern => Count::StalePattern,
            StaleBy::Namespace => Count::StaleNamespace,
            StaleBy::Everything => Count::StaleEverything,
            StaleBy::Source(_) => Count::StaleSource,
            StaleBy::Epoch => Count::StaleEpoch,
        }
    }
}

/// By name, and without those that are zero, so that what one version wrote is read by another that counts more or less.
impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.iter().filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut counts = Counts::default();
        for (name, n) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            counts.set(&name, n);
        }
        Ok(counts)
    }
}

/// The metrics of one namespace.
pub(crate) struct NamespaceMetrics {
    stripes: [Stripe; STRIPES],
    /// Whether what leaves memory is in a backing tier.
    pub(crate) is_backed: bool,
    /// Entries and bytes in memory.
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// How long reads took, by how they were answered.
    pub(crate) hit_memory: Histogram,
    pub(crate) hit_backing: Histogram,
    pub(crate) miss: Histogram,
    pub(crate) error: Histogram,
    pub(crate) load: Histogram,
    /// Which keys there are, and what becomes of them.
    pub(crate) sketching: Sketching,
    /// The keys that are read most.
    pub(crate) hot_keys: HotKeys,
    /// What is left of entries that were invalidated.
    pub(crate) graves: Graves,
    /// Where reads are recorded for the sizing of memory, if they are, and as whose.
    pub(crate) tap: Option<(Arc<Tap>, u16)>,
}

#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

/// One thread's counters of one namespace.
pub(crate) struct Tally<'a> {
    counters: &'a [AtomicU64; COUNTS],
    shared: bool,
}

impl Tally<'_> {
    #[inline]
    pub(crate) fn add(&self, count: Count, n: u64) {
        let counter = &self.counters[count as usize];
        if self.shared {
            counter.fetch_add(n, Ordering::Relaxed);
        } else {
            // No other thread writes to this stripe while this one lives.
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        }
    }

    /// Whether the next memory hit is one of those that are timed.
    #[inline]
    pub(crate) fn samples_next_hit(&self) -> bool {
        self.counters[Count::HitMemory as usize].load(Ordering::Relaxed).is_multiple_of(SAMPLE_ONE_IN)
    }
}

impl NamespaceMetrics {
    pub(crate) fn new(is_backed: bool) -> Self {
        NamespaceMetrics {
            is_backed,
            stripes: std::array::from_fn(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            hit_memory: Histogram::new(),
            hit_backing: Histogram::new(),
            miss: Histogram::new(),
            error: Histogram::new(),
            sketching: Sketching::default(),
            load: Histogram::new(),
            hot_keys: HotKeys::default(),
            graves: Graves::default(),
            tap: None,
        }
    }

    /// Has its reads recorded.
    pub(crate) fn recorded_by(self, tap: Option<(Arc<Tap>, u16)>) -> Self {
        NamespaceMetrics { tap, ..self }
    }

    /// Counts one.
    #[inline]
    pub(crate) fn count(&self, count: Count) {
        self.add(count, 1);
    }

    #[inline]
    pub(crate) fn add(&self, count: Count, n: u64) {
        self.tally().add(count, n);
    }

    /// This thread's own counters. A memory hit asks for them once, to decide whether it is timed and to count itself.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_> {
        let stripe = own_stripe();
        Tally { counters: &self.stripes[stripe].0, shared: stripe == SHARED_STRIPE }
    }

    /// Counts reads of a key for the keys that are read most, now and in this window.
    pub(crate) fn count_reads(&self, key: impl FnOnce() -> SmallVec<[u8; 32]>, reads: u64, meta: Option<&Meta>, now: Millis) {
        if let Some((key, reads)) = self.hot_keys.count(key, reads, now) {
            self.sketching.read(&key, reads, meta.map_or(0, |meta| meta.encoded_len));
        }
    }

    /// Notes a read for the distance between reads of a key: see [`Sketching::followed`].
    pub(crate) fn follow(&self, hash: u64, weight: Option<u32>, now: Millis) -> bool {
        let recorded = self.record(hash, weight.unwrap_or(0), true);
        self.sketching.followed(hash, weight, now, self.entries.load(Ordering::Relaxed)) || recorded
    }

    /// Whether reads of a key may be of interest to anybody who looks at one key in so many.
    pub(crate) fn follows(&self, hash: u64) -> bool {
        is_chosen(hash) || self.tap.as_ref().is_some_and(|(tap, _)| tap.wants(hash))
    }

    /// Records a read, or that an entry came into memory, for the sizing of it. Returns whether such reads are wanted.
    pub(crate) fn record(&self, hash: u64, weight: u32, is_read: bool) -> bool {
        let Some((tap, group)) = self.tap.as_ref().filter(|(tap, _)| tap.wants(hash)) else { return false };
        tap.record(Recorded { hash, weight, group: *group, is_read });
        true
    }

    /// What was gathered since the last time.
    pub(crate) fn drain_sketches(&self, now: Millis) -> Sketches {
        self.sketching.drain(self.counts().requests(), self.entries.load(Ordering::Relaxed), now)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts::read(|count| self.stripes.iter().map(|stripe| stripe.0[count as usize].load(Ordering::Relaxed)).sum())
    }

    /// What was counted, and how long reads took.
    pub(crate) fn stats(&self, name: &str) -> NamespaceStats {
        NamespaceStats {
            name: name.into(),
            counts: self.counts(),
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            hit_memory: self.hit_memory.read(),
            hit_backing: self.hit_backing.read(),
            miss: self.miss.read(),
            error: self.error.read(),
            load: self.load.read(),
        }
    }
}

/// What a namespace has done, and how fast.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NamespaceStats {
    /// The namespace, or `other` for all keys outside the configured ones.
    pub name: String,
    /// What was counted.
    pub counts: Counts,
    /// Entries in memory.
    pub entries: u64,
    /// Bytes in memory, keys and bookkeeping included.
    pub bytes: u64,
    /// Reads answered from memory; one in 64 is timed.
    pub hit_memory: Latencies,
    /// All other hits: reads answered from the backing tier, by an entry past its time, or by "there is no such thing".
    pub hit_backing: Latencies,
    /// Reads that had to load, or found nothing.
    pub miss: Latencies,
    /// Reads that ended with an error.
    pub error: Latencies,
    /// The loaders alone.
    pub load: Latencies,
}

impl NamespaceStats {
    /// How long hits took: of memory's quick ones those that were timed stand for all. Where so few were counted that none was timed,
    /// they are left out.
    pub fn hit_latencies(&self) -> Latencies {
        self.hit_memory.scaled_to(self.counts.hits_memory).and([&self.hit_backing])
    }

    /// How long all reads took: hits, as [`hit_latencies`](Self::hit_latencies) has them, misses, and errors.
    pub fn total_latencies(&self) -> Latencies {
        self.hit_latencies().and([&self.miss, &self.error])
    }

    /// Adds another namespace's numbers: for totals. Histograms merge exactly.
    pub fn add(&mut self, other: &NamespaceStats) {
        self.counts.add(&other.counts);
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.hit_memory.add(&other.hit_memory);
        self.hit_backing.add(&other.hit_backing);
        self.miss.add(&other.miss);
        self.error.add(&other.error);
        self.load.add(&other.load);
    }

    /// What happened since `earlier`; entries and bytes are those of now.
    pub fn since(&self, earlier: &NamespaceStats) -> NamespaceStats {
        NamespaceStats {
            name: self.name.clone(),
            counts: self.counts.since(&earlier.counts),
            entries: self.entries,
            bytes: self.bytes,
            hit_memory: self.hit_memory.since(&earlier.hit_memory),
            hit_backing: self.hit_backing.since(&earlier.hit_backing),
            miss: self.miss.since(&earlier.miss),
            error: self.error.since(&earlier.error),
            load: self.load.since(&earlier.load),
        }
    }

    /// All reads.
    pub fn requests(&self) -> u64 {
        self.counts.requests()
    }

    /// Reads that were answered without a load.
    pub fn hits(&self) -> u64 {
        self.counts.hits()
    }

    /// Hits over requests; `None` before the first.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.requests() > 0).then(|| self.hits() as f64 / self.requests() as f64)
    }
}

thread_local! {
    /// The stripe this thread counts in. It has no destructor, so that reading it is one load; giving the stripe back is
    /// the lease's.
    static OWN_STRIPE: Cell<usize> = const { Cell::new(UNASSIGNED) };
    static LEASE: Lease = const { Lease(Cell::new(SHARED_STRIPE)) };
}

/// The stripe of this thread: its own, unless more threads live than there are stripes, or it is about to end.
#[inline]
pub(crate) fn own_stripe() -> usize {
    let stripe = OWN_STRIPE.get();
    if stripe < STRIPES { stripe } else { assign() }
}

/// No stripe's number.
const UNASSIGNED: usize = usize::MAX;

/// Stripes that no living thread has. The lock's hand-over makes one owner's counts visible to the next.
static FREE: Mutex<[bool; SHARED_STRIPE]> = Mutex::new([true; SHARED_STRIPE]);

/// A thread's stripe for as long as it lives.
struct Lease(Cell<usize>);

/// Gives this thread a stripe; a thread that is ending, when its lease is over, the shared one.
#[cold]
fn assign() -> usize {
    let take = |lease: &Lease| {
        let mut free = FREE.lock();
        let stripe = free.iter().position(|free| *free).unwrap_or(SHARED_STRIPE);
        if stripe < SHARED_STRIPE {
            free[stripe] = false;
        }
        lease.0.set(stripe);
        stripe
    };
    let stripe = LEASE.try_with(take).unwrap_or(SHARED_STRIPE);
    OWN_STRIPE.set(stripe);
    stripe
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before another thread can take it: what this one still counts while it ends goes to the shared stripe.
        OWN_STRIPE.set(SHARED_STRIPE);
        if self.0.get() < SHARED_STRIPE {
            FREE.lock()[self.0.get()] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_count_is_lost_whatever_threads_come_and_go() {
        let metrics = Arc::new(NamespaceMetrics::new(true));
        for _ in 0..3 {
            let threads: Vec<_> = (0..2 * STRIPES)
                .map(|_| {
                    let metrics = metrics.clone();
                    std::thread::spawn(move || (0..1_000).for_each(|_| metrics.count(Count::HitMemory)))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        assert_eq!(metrics.counts().hits_memory, 3 * 2 * STRIPES as u64 * 1_000);
        assert_eq!(metrics.counts().iter().map(|(_, n)| n).sum::<u64>(), 96_000, "and no other counter moved");
    }

    #[test]
    fn a_thread_that_ends_still_counts() {
        thread_local!(static LAST: std::cell::OnceCell<CountsWhenDropped> = const { std::cell::OnceCell::new() });
        struct CountsWhenDropped(Arc<NamespaceMetrics>);
        impl Drop for CountsWhenDropped {
            fn drop(&mut self) {
                self.0.count(Count::HitMemory);
            }
        }
        // Whichever of the two is dropped first: a destructor may count before its thread's stripe is given back, or after.
        for count_first in [false, true] {
            let metrics = Arc::new(NamespaceMetrics::new(true));
            let counting = metrics.clone();
            let thread = move || {
                if count_first {
                    counting.count(Count::HitMemory);
                }
                LAST.with(|last| assert!(last.set(CountsWhenDropped(counting.clone())).is_ok()));
                counting.count(Count::HitMemory);
            };
            std::thread::spawn(thread).join().unwrap();
            assert_eq!(metrics.counts().hits_memory, 2 + u64::from(count_first));
        }
    }
}
