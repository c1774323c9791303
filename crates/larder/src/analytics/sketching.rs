//! What a namespace gathers for the sketches of a window, until it is drained.
//!
//! Everything here is bounded, and has no memory until something happens. A hit of memory that is not sampled touches none of it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::cardinality::Registers;
use super::most::{Largest, Most};
use super::reuse::{self, Reuse};
use super::{RANKED_MAX, Ranking, Sketches};
use crate::clock::Millis;
use crate::metrics::{Count, Histogram, Latencies};

/// Keys of a ranking that keep their amount when there are too many of them.
const KEPT: usize = 4 * RANKED_MAX;

/// See the head of this file.
pub(crate) struct Sketching {
    keys: Registers,
    reads: Mutex<Most<KEPT>>,
    bytes: Mutex<Most<KEPT>>,
    cost: Mutex<Most<KEPT>>,
    largest: Mutex<Largest>,
    /// Sizes up to here are not among the largest.
    largest_floor: AtomicU64,
    age_expired: Histogram,
    age_evicted: Histogram,
    age_invalidated: Histogram,
    age_unread: Histogram,
    reuse: Mutex<Option<Box<Reuse>>>,
    reuse_bytes: Histogram,
    /// All reads there were when it was drained last.
    requests_before: AtomicU64,
}

impl Default for Sketching {
    fn default() -> Self {
        Sketching {
            keys: Registers::default(),
            reads: Mutex::default(),
            bytes: Mutex::default(),
            cost: Mutex::default(),
            largest: Mutex::default(),
            largest_floor: AtomicU64::new(0),
            age_expired: Histogram::new(),
            age_evicted: Histogram::new(),
            age_invalidated: Histogram::new(),
            age_unread: Histogram::new(),
            reuse: Mutex::default(),
            reuse_bytes: Histogram::new(),
            requests_before: AtomicU64::new(0),
        }
    }
}

impl Sketching {
    /// An entry came into memory.
    pub(crate) fn came(&self, key: &[u8], hash: u64, encoded_len: u32, weight: u32) {
        self.keys.insert_hash(hash);
        let len = u64::from(encoded_len);
        if len > self.largest_floor.load(Ordering::Relaxed) {
            let floor = self.largest.lock().add(key, len);
            self.largest_floor.fetch_max(floor, Ordering::Relaxed);
        }
        if reuse::is_chosen(hash)
            && let Some(reuse) = self.reuse.lock().as_mut()
        {
            reuse.sized(hash, weight.into());
        }
    }

    /// A key was there, or was asked for in vain.
    pub(crate) fn seen(&self, hash: u64) {
        self.keys.insert_hash(hash);
    }

    /// A key was read so often, of which its value has so many bytes.
    pub(crate) fn read(&self, key: &[u8], reads: u64, encoded_len: u32) {
        self.reads.lock().add(key, reads);
        self.bytes.lock().add(key, reads.saturating_mul(encoded_len.into()));
    }

    /// A key was loaded, in so many microseconds.
    pub(crate) fn loaded(&self, key: &[u8], took_us: u64) {
        self.cost.lock().add(key, took_us);
    }

    /// A read of any key, for the distance between reads, in a namespace of so many entries; what was found weighs so much in memory.
    /// Returns whether reads of it are followed.
    pub(crate) fn followed(&self, hash: u64, weight: Option<u32>, now: Millis, entries: u64) -> bool {
        if !reuse::is_chosen(hash) {
            return false;
        }
        let below = reuse::chosen_below(entries);
        let read = self.reuse.lock().get_or_insert_default().read(hash, weight.map(u64::from), now, below);
        if let Some((distance, stands_for)) = read.and_then(|read| Some((read.distance?, read.stands_for))) {
            self.reuse_bytes.record_many(distance, stands_for);
        }
        read.is_some()
    }

    /// An entry left memory that was made then, and last read then.
    pub(crate) fn left(&self, why: Count, created_at: Millis, read_at: Millis, now: Millis) {
        let ages = match why {
            Count::Expired => &self.age_expired,
            Count::Evicted => &self.age_evicted,
            Count::Invalidated => &self.age_invalidated,
            // What was replaced lives on.
            _ => return,
        };
        let since = |then: Millis| now.saturating_sub(then).saturating_mul(1_000_000);
        ages.record_many(since(created_at), 1);
        self.age_unread.record_many(since(created_at.max(read_at)), 1);
    }

    /// How long what left since the last time had not been read.
    pub(crate) fn unread(&self) -> Latencies {
        self.age_unread.read()
    }

    /// What was gathered since the last time, when there had been so many reads in all, and there are so many entries.
    pub(crate) fn drain(&self, requests: u64, entries: u64, now: Millis) -> Sketches {
        let reads = requests.saturating_sub(self.requests_before.swap(requests, Ordering::Relaxed));
        let mut followed = self.reuse.lock();
        let said = followed.as_mut().and_then(|reuse| reuse.end_window(now, reuse::chosen_below(entries)));
        if followed.as_ref().is_some_and(|reuse| reuse.is_empty()) {
            *followed = None;
        }
        drop(followed);
        match said {
            // What was not said is nearer than a tick of the clock, or of keys that are read more than those that were chosen.
            Some(said) => self.reuse_bytes.record_many(0, reads.saturating_sub(said)),
            None => drop(self.reuse_bytes.drain()),
        }
        let mut sketches = Sketches {
            keys: self.keys.drain(),
            hot_reads: self.reads.lock().drain(),
            hot_bytes: self.bytes.lock().drain(),
            hot_cost: self.cost.lock().drain(),
            largest: Ranking::default(),
            age_expired: self.age_expired.drain(),
            age_evicted: self.age_evicted.drain(),
            age_invalidated: self.age_invalidated.drain(),
            age_unread: self.age_unread.drain(),
            reuse_bytes: self.reuse_bytes.drain(),
        };
        let mut largest = self.largest.lock();
        sketches.largest = largest.drain();
        self.largest_floor.store(0, Ordering::Relaxed);
        sketches
    }
}
