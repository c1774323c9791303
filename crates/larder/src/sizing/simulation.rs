//! Caches of several sizes, run in small over the same reads.

use super::miniature::Miniature;
use super::survey::share_up_to;
use super::{Access, Curve, Point, Survey};
use crate::config::MEMORY_BYTES_MIN;

/// Sizes at once.
pub const SIZES_MAX: usize = 256;

/// The least entries that a cache in small has room for, as far as there are keys enough: with fewer it is another policy. The engine keeps
/// three entries in a hundred for what is new, which in a cache of hundreds are too few to prove themselves; and where hits begin at a
/// certain size, as for loops, that size drowns in chance.
pub const ENTRIES_MIN: u64 = 2_048;

/// The most, whatever sample is asked for: it bounds the memory that this takes to a few megabytes for each size.
pub const ENTRIES_MAX: u64 = 32_768;

/// See the head of this file.
pub struct Simulation {
    runs: Vec<Run>,
    /// The highest threshold: hashes above it are of no interest to any.
    up_to: u64,
    reads: u64,
    keys: f64,
    bytes: f64,
    load_seconds: f64,
}

struct Run {
    cache: Miniature,
    /// Hashes up to here are followed.
    up_to: u64,
    /// The share of all keys that these are.
    keys: f64,
}

impl Simulation {
    /// Of caches of these sizes over the reads that were surveyed, which follows this share of all keys (see [`ENTRIES_MIN`] and
    /// [`ENTRIES_MAX`]). At most [`SIZES_MAX`] sizes are run.
    ///
    /// With a share of 1 every key is followed, and it is no estimate any more.
    pub fn new(survey: &Survey, sizes: &[u64], sample: f64) -> Self {
        let mut sizes: Vec<u64> = sizes.iter().copied().filter(|bytes| *bytes > 0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes.truncate(SIZES_MAX);
        let entry = survey.bytes() / survey.keys().max(1.0);
        let run = |bytes: u64| {
            let entries = (bytes as f64 / entry.max(1.0)).min(survey.keys()).max(1.0);
            let least = (ENTRIES_MIN as f64 / entries).max(sample);
            let rate = if sample >= 1.0 { 1.0 } else { least.min(ENTRIES_MAX as f64 / entries).min(1.0) };
            let up_to = if rate >= 1.0 { u64::MAX } else { (u64::MAX as f64 * rate) as u64 };
            let (keys, scale) = survey.shares(up_to)?;
            Some(Run { cache: Miniature::new(bytes, scale), up_to, keys })
        };
        let runs: Vec<Run> = sizes.into_iter().filter_map(run).collect();
        let up_to = runs.iter().map(|run| run.up_to).max().unwrap_or(0);
        Simulation { runs, up_to, reads: survey.reads(), keys: survey.keys(), bytes: survey.bytes(), load_seconds: survey.load_seconds() }
    }

    /// Takes in a read. They must be those that were surveyed, in their order.
    #[inline]
    pub fn read(&mut self, access: Access) {
        if access.hash > self.up_to {
            return;
        }
        for run in self.runs.iter_mut().filter(|run| access.hash <= run.up_to) {
            run.cache.read(access.hash, access.bytes, access.cost_us);
        }
    }

    /// What came of it.
    pub fn curve(&self) -> Curve {
        let points = self.runs.iter().map(|run| {
            // By the keys that were really followed, and not by how many there should have been: see the head of the parent.
            let misses = run.cache.misses as f64 / run.keys;
            let missed_seconds = run.cache.missed_us as f64 / 1e6 / run.keys;
            let hit_ratio = hit_share(misses, self.reads as f64);
            let saved_ratio = if self.load_seconds > 0.0 { hit_share(missed_seconds, self.load_seconds) } else { hit_ratio };
            Point { bytes: run.cache.bytes, hit_ratio, saved_ratio }
        });
        Curve {
            points: points.collect(),
            reads: self.reads,
            keys: self.keys.round() as u64,
            bytes: self.bytes.round() as u64,
            load_seconds: self.load_seconds,
            sampled: self.runs.last().map_or(0.0, |run| share_up_to(run.up_to)),
        }
    }

    /// How many entries are held for it, of all sizes.
    pub fn held(&self) -> usize {
        self.runs.iter().map(|run| run.cache.len()).sum()
    }
}

fn hit_share(missed: f64, all: f64) -> f64 {
    if all <= 0.0 { 0.0 } else { (1.0 - missed / all).clamp(0.0, 1.0) }
}

/// So many sizes that are worth a look for keys that weigh so much together, from a two-hundredth of it, or what a pool has at least, to
/// all: each larger than the one before by the same factor.
pub fn sizes_of(bytes: u64, count: usize) -> Vec<u64> {
    let (largest, count) = (bytes.max(2 * MEMORY_BYTES_MIN) as f64, count.clamp(2, SIZES_MAX));
    let span = (largest / MEMORY_BYTES_MIN as f64).min(200.0);
    let factor = span.powf(1.0 / (count - 1) as f64);
    (0..count).rev().map(|n| (largest / factor.powi(n as i32)).round() as u64).collect()
}

#[cfg(test)]
mod tests;
