//! A cache in small: the engine of the memory tier, with keys for which only their hash and their weight are kept.

use foldhash::fast::FixedState;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

/// Bytes that a pool reckons with for an entry when it decides how many keys it remembers that have left.
const ITEM_BYTES: u64 = 1_024;

/// How many entries a pool of this size is told that it will have. Said once, for the pool and for what stands for it: the engine
/// remembers half as many keys that it evicted, and takes back for good what is asked for again among them.
pub(crate) fn estimated_items(capacity: u64) -> usize {
    (capacity / ITEM_BYTES).clamp(64, 1 << 20) as usize
}

/// See the head of this file.
pub(crate) struct Miniature {
    engine: Cache<u64, u32, ByWeight, FixedState, DefaultLifecycle<u64, u32>>,
    /// The size that it stands for.
    pub(crate) bytes: u64,
    /// Reads that it did not answer, and what they cost in microseconds.
    pub(crate) misses: u64,
    pub(crate) missed_us: u64,
}

impl Miniature {
    /// Of a cache of this size, in small by this factor.
    pub(crate) fn new(bytes: u64, scale: f64) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(scaled(bytes, scale))
            // Rounded up: with none at all no key would be taken back.
            .estimated_items_capacity(((estimated_items(bytes) as f64 * scale).ceil() as usize).max(2))
            .build()
            .expect("all that the builder asks for is given");
        let engine = Cache::with_options(options, ByWeight, FixedState::default(), DefaultLifecycle::default());
        Miniature { engine, bytes, misses: 0, missed_us: 0 }
    }

    /// A read of a key, which is stored if it was not there. Returns whether it was.
    pub(crate) fn read(&mut self, hash: u64, weight: u32, cost_us: u32) -> bool {
        let is_hit = self.store(hash, weight);
        if !is_hit {
            self.misses += 1;
            self.missed_us = self.missed_us.saturating_add(cost_us.into());
        }
        is_hit
    }

    /// A read that found nothing to be stored: what is loaded comes by itself.
    pub(crate) fn look(&mut self, hash: u64, cost_us: u32) {
        if self.engine.get(&hash).is_none() {
            self.misses += 1;
            self.missed_us = self.missed_us.saturating_add(cost_us.into());
        }
    }

    /// What comes in without having been read.
    pub(crate) fn put(&mut self, hash: u64, weight: u32) {
        self.store(hash, weight);
    }

    /// By a guard, as the pool does it, and not by `insert`: that evicts before the new entry is there and not after, which in a cache of
    /// a hundred entries is four points of hits.
    fn store(&mut self, hash: u64, weight: u32) -> bool {
        match self.engine.get_ref_or_guard(&hash) {
            Ok(there) if *there == weight => return true,
            Ok(_) => {}
            Err(guard) => {
                guard.insert(weight);
                return false;
            }
        }
        if let Some(mut there) = self.engine.get_mut(&hash) {
            *there = weight;
        }
        true
    }

    /// How many entries it holds.
    pub(crate) fn len(&self) -> usize {
        self.engine.len()
    }
}

fn scaled(bytes: u64, scale: f64) -> u64 {
    ((bytes as f64 * scale).round() as u64).max(1)
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<u64, u32> for ByWeight {
    fn weight(&self, _hash: &u64, weight: &u32) -> u64 {
        (*weight).into()
    }
}
