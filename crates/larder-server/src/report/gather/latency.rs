//! How long reads took, all of them together.

use std::time::Duration;

use larder::Latencies;
use larder::analytics::Window;

/// Durations with weights. A memory hit is timed once in 64, everything slower always: they are put together by how many each stands
/// for.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// What durations are shorter than, and how many they are, from the shortest.
    buckets: Vec<(Duration, f64)>,
    sum_seconds: f64,
    weight: f64,
}

impl Spread {
    /// All reads of a window.
    pub fn of_reads(window: &Window) -> Self {
        let mut spread = Spread::of_hits(window);
        spread.add(&window.miss, window.miss.count());
        spread
    }

    /// The reads that were answered without a load.
    pub fn of_hits(window: &Window) -> Self {
        let mut spread = Spread::default();
        let backing = window.hit_backing.count();
        spread.add(&window.hit_memory, window.hits().saturating_sub(backing).max(window.hit_memory.count()));
        spread.add(&window.hit_backing, backing);
        spread
    }

    /// Adds samples that stand for `weight` of them.
    fn add(&mut self, samples: &Latencies, weight: u64) {
        if samples.count() == 0 {
            return;
        }
        let each = weight as f64 / samples.count() as f64;
        self.buckets.extend(samples.buckets().map(|(end, n)| (end, n as f64 * each)));
        self.buckets.sort_unstable_by_key(|(end, _)| *end);
        self.sum_seconds += samples.sum().as_secs_f64() * each;
        self.weight += weight as f64;
    }

    /// The mean in seconds; `None` where there were none.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum_seconds / self.weight)
    }

    /// What a share `quantile` of them did not exceed, in seconds and to 6 %; `None` where there were none.
    pub fn percentile(&self, quantile: f64) -> Option<f64> {
        let rank = self.weight * quantile;
        let mut seen = 0.0;
        let bucket = self.buckets.iter().find(|(_, n)| {
            seen += n;
            seen >= rank
        });
        // Rounding may leave the last rank a little above the sum.
        bucket.or(self.buckets.last()).map(|(end, _)| end.as_secs_f64())
    }
}
