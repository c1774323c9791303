//! Latencies by logarithmic buckets: small, mergeable, and within 1 % at any scale.
//!
//! Each power of two is cut into 64 equal buckets, so that a bucket is at most 1/64 as wide as its values are large;
//! its middle is then at most 0.8 % off. Below 128 ns every nanosecond has its own.

use std::time::Duration;

/// The logarithm of the buckets in each power of two.
const FINENESS: u32 = 6;
/// Buckets for all of `u64`.
const BUCKETS: usize = ((64 - FINENESS as usize) << FINENESS) + (1 << FINENESS);

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The duration that this share of all lies at or below; `None` while nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut passed = 0;
        let reached = self.counts.iter().position(|count| {
            passed += count;
            passed >= rank
        })?;
        Some(Duration::from_nanos(middle(reached)))
    }
}

fn bucket(nanos: u64) -> usize {
    let shift = nanos.max(1).ilog2().saturating_sub(FINENESS);
    ((shift as usize) << FINENESS) + usize::try_from(nanos >> shift).expect("at most 7 bits are left")
}

fn middle(bucket: usize) -> u64 {
    let shift = (bucket >> FINENESS).saturating_sub(1);
    let leading = bucket - (shift << FINENESS);
    ((leading as u64) << shift) + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::properties;
    use super::*;

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn the_extremes_have_buckets() {
        for nanos in [0, 1, 63, 64, 127, 128, 129, u64::MAX - 1, u64::MAX] {
            assert!(bucket(nanos) < BUCKETS, "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_known_durations() {
        let mut histogram = Histogram::default();
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = histogram.quantile(share).expect("it is not empty").as_secs_f64() * 1e6;
            assert!((found / micros - 1.0_f64).abs() < 0.01, "{share}: {found}");
        }
    }

    proptest! {
        #![proptest_config(properties())]

        #[test]
        fn a_value_comes_back_within_a_hundredth(nanos: u64) {
            let error = middle(bucket(nanos)).abs_diff(nanos) as f64;
            prop_assert!(error <= 0.01 * nanos as f64);
        }

        #[test]
        fn buckets_are_in_order(nanos in 0..u64::MAX) {
            prop_assert!(bucket(nanos) <= bucket(nanos + 1));
        }

        #[test]
        fn quantiles_agree_with_sorting(mut nanos in proptest::collection::vec(0..10_000_000_000_u64, 1..200), share in 0.0..=1.0_f64) {
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            for (place, &each) in nanos.iter().enumerate() {
                let side = if place % 2 == 0 { &mut left } else { &mut right };
                side.record(Duration::from_nanos(each));
            }
            left.merge(&right);
            nanos.sort_unstable();
            let rank = ((share * nanos.len() as f64).ceil() as usize).max(1);
            let expected = nanos[rank - 1] as f64;
            let found = left.quantile(share).expect("it is not empty").as_nanos() as f64;
            prop_assert!((found - expected).abs() <= 0.01 * expected, "found {found}, expected {expected}");
        }
    }
}
