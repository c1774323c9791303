//! A histogram of durations: logarithmic buckets, sixteen to each doubling, so a percentile is off by at most 3 %.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// Buckets to each doubling.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The first bucket of the last doubling reaches over an hour.
const DOUBLINGS: u64 = 38;
const BUCKETS: usize = (STEPS * DOUBLINGS) as usize;

/// Durations, counted by bucket.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, took: Duration) {
        let ns = took.as_nanos() as u64;
        self.buckets[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latencies {
        let buckets: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Latencies { count: buckets.iter().sum(), sum_ns: self.sum_ns.load(Ordering::Relaxed), buckets }
    }
}

/// Durations under sixteen nanoseconds have a bucket each, all others share one with those within a sixteenth.
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doubling = ns.ilog2() - STEP_BITS;
    let step = ns >> doubling & (STEPS - 1);
    (u64::from(doubling + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match doubling.checked_sub(1) {
        None => step,
        Some(doubling) => ((STEPS + step) << doubling) + (1 << doubling) / 2,
    }
}

/// How long something took, over many times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    count: u64,
    sum_ns: u64,
    buckets: Vec<u64>,
}

impl Latencies {
    /// How many were timed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; `None` where there were none.
    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.sum_ns / self.count))
    }

    /// The duration that a share `quantile` of all (0.5, 0.99) did not exceed, to 3 %. `None` where there were none.
    pub fn percentile(&self, quantile: f64) -> Option<Duration> {
        let rank = (self.count as f64 * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        bucket.map(|bucket| Duration::from_nanos(middle_of(bucket)))
    }

    /// Adds others: exactly, since all share their buckets.
    pub fn add(&mut self, other: &Latencies) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| *own += other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_within_three_percent_of_its_middle() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let bits = rng.u32(1..41);
            let ns = rng.u64(..1 << bits);
            let middle = middle_of(bucket_of(ns)) as f64;
            assert!((middle - ns as f64).abs() <= 0.032 * ns as f64 + 0.5, "{ns} is in the bucket around {middle}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_known_spread() {
        let histogram = Histogram::new();
        (1..=1_000).for_each(|us| histogram.record(Duration::from_micros(us)));
        let latencies = histogram.read();
        for (quantile, us) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let found = latencies.percentile(quantile).unwrap().as_secs_f64() * 1e6;
            assert!((found - us).abs() <= 0.032 * us, "p{quantile}: {found} us");
        }
        assert_eq!(latencies.mean(), Some(Duration::from_nanos(500_500)));
        let mut twice = latencies.clone();
        twice.add(&latencies);
        assert_eq!((twice.count(), twice.percentile(0.5)), (2_000, latencies.percentile(0.5)));
        assert_eq!(Latencies::default().percentile(0.5), None);
    }
}
