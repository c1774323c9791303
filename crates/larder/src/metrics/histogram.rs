//! A histogram of durations: logarithmic buckets, sixteen to each doubling, so a percentile is off by at most 3 %.

use std::sync::OnceLock;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sync::{AtomicU64, Ordering};

/// Buckets to each doubling.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The last doubling ends after a year: how old an entry grows is counted here, too, and how many bytes are read.
const DOUBLINGS: u64 = 52;
const BUCKETS: usize = (STEPS * DOUBLINGS) as usize;

/// Durations, counted by bucket. Without memory until one is.
pub(crate) struct Histogram {
    buckets: OnceLock<Box<[AtomicU64]>>,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram { buckets: OnceLock::new(), sum_ns: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, took: Duration) {
        let ns = took.as_nanos() as u64;
        self.bucket(ns).fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Counts the same amount many times; ages in nanoseconds and bytes are so large that the sum of all may not fit, and stays at the
    /// largest number then.
    pub(crate) fn record_many(&self, amount: u64, times: u64) {
        self.bucket(amount).fetch_add(times, Ordering::Relaxed);
        let more = |sum: u64| Some(sum.saturating_add(amount.saturating_mul(times)));
        // The closure always gives a sum, so this cannot fail.
        let _before = self.sum_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn bucket(&self, ns: u64) -> &AtomicU64 {
        &self.buckets.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect())[bucket_of(ns)]
    }

    pub(crate) fn read(&self) -> Latencies {
        self.gather(|counter| counter.load(Ordering::Relaxed))
    }

    /// What was counted since the last time; then it is empty.
    pub(crate) fn drain(&self) -> Latencies {
        self.gather(|counter| counter.swap(0, Ordering::Relaxed))
    }

    fn gather(&self, take: impl Fn(&AtomicU64) -> u64) -> Latencies {
        let Some(buckets) = self.buckets.get() else { return Latencies::default() };
        let buckets: Vec<u64> = buckets.iter().map(&take).collect();
        let count = buckets.iter().sum();
        let sum_ns = take(&self.sum_ns);
        if count == 0 { Latencies::default() } else { Latencies { count, sum_ns, buckets } }
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
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    count: u64,
    sum_ns: u64,
    buckets: Vec<u64>,
}

impl Latencies {
    /// Some that took the same: for tests, and for what was timed elsewhere.
    pub fn of(each: Duration, n: u64) -> Self {
        let histogram = Histogram::new();
        if n > 0 {
            histogram.record(each);
        }
        let mut latencies = histogram.read();
        latencies.buckets.iter_mut().for_each(|bucket| *bucket *= n);
        Latencies { count: n, sum_ns: latencies.sum_ns.saturating_mul(n), ..latencies }
    }

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
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| *own += other);
    }

    /// These and others together.
    pub(crate) fn and<const N: usize>(mut self, others: [&Latencies; N]) -> Latencies {
        others.into_iter().for_each(|other| self.add(other));
        self
    }

    /// Those since `earlier`; none, where they became fewer.
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets: Vec<u64> = self.buckets.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect();
        let count = buckets.iter().sum();
        if count == 0 { Latencies::default() } else { Latencies { count, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns), buckets } }
    }

    /// The same spread over another number of times: what a sample says of all that it was taken from. None stay none, whatever they
    /// stand for.
    #[must_use]
    pub fn scaled_to(&self, count: u64) -> Latencies {
        if self.count == 0 || count == 0 {
            return Latencies::default();
        }
        let scale = |n: u64| (u128::from(n) * u128::from(count) / u128::from(self.count)) as u64;
        let (mut seen, mut given) = (0, 0);
        // By running sums, so that what is lost by rounding one bucket is given to the next, and all add up to `count`.
        let share = |n: &u64| {
            seen += n;
            let share = scale(seen) - given;
            given += share;
            share
        };
        let buckets = self.buckets.iter().map(share).collect();
        let sum_ns = u128::from(self.sum_ns) * u128::from(count) / u128::from(self.count);
        Latencies { count, sum_ns: u64::try_from(sum_ns).unwrap_or(u64::MAX), buckets }
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The buckets that hold any, from the shortest to the longest: what all in it are shorter than, and how many they are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let held = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        held.map(|(bucket, n)| (Duration::from_nanos(end_of(bucket)), *n))
    }

    /// For keeping, in few bytes: the sum in nanoseconds, then for each bucket that holds any, in order, how many empty ones lie
    /// before it and how many it holds; each a LEB128 number. Nothing, where there are none.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.count == 0 {
            return bytes;
        }
        write_number(&mut bytes, self.sum_ns);
        let mut next = 0;
        for (bucket, n) in self.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            write_number(&mut bytes, (bucket - next) as u64);
            write_number(&mut bytes, *n);
            next = bucket + 1;
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` where it is something else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Latencies::default());
        }
        let sum_ns = read_number(&mut bytes)?;
        // No longer than needed: whoever reads a history holds many at once.
        let (mut count, mut buckets) = (0u64, Vec::new());
        let mut next = 0;
        while !bytes.is_empty() {
            let bucket = usize::try_from(read_number(&mut bytes)?).ok()?.checked_add(next)?;
            let n = read_number(&mut bytes)?;
            if bucket >= BUCKETS {
                return None;
            }
            buckets.resize(bucket + 1, 0);
            buckets[bucket] = n;
            count = count.checked_add(n)?;
            next = bucket + 1;
        }
        (count > 0).then_some(Latencies { count, sum_ns, buckets })
    }
}

/// What all durations in a bucket are shorter than.
fn end_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match doubling.checked_sub(1) {
        None => step + 1,
        Some(doubling) => (STEPS + step + 1) << doubling,
    }
}

fn write_number(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Equal are those whose buckets hold the same, however many empty ones are written out.
impl PartialEq for Latencies {
    fn eq(&self, other: &Self) -> bool {
        self.sum_ns == other.sum_ns && self.count == other.count && self.buckets().eq(other.buckets())
    }
}

impl Eq for Latencies {}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Latencies::from_bytes(&bytes).ok_or_else(|| D::Error::custom("no histogram"))
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
        assert_eq!(twice.since(&latencies), latencies);
        assert_eq!(latencies.since(&twice), Latencies::default());
    }

    #[test]
    fn a_sample_stands_for_all_that_it_was_taken_from() {
        let histogram = Histogram::new();
        [10, 10, 1_000].into_iter().for_each(|ns| histogram.record(Duration::from_nanos(ns)));
        let all = histogram.read().scaled_to(100);
        assert_eq!((all.count(), all.mean(), all.percentile(0.5)), (100, Some(Duration::from_nanos(340)), Some(Duration::from_nanos(10))));
        assert_eq!(all.buckets().map(|(_, n)| n).collect::<Vec<_>>(), [66, 34]);
        assert_eq!(Latencies::default().scaled_to(100), Latencies::default());
        assert_eq!(all.scaled_to(0), Latencies::default());
    }

    #[test]
    fn what_is_drained_is_given_once() {
        let histogram = Histogram::new();
        assert_eq!(histogram.drain(), Latencies::default());
        histogram.record_many(u64::MAX / 2, 3);
        let drained = histogram.drain();
        assert_eq!((drained.count(), drained.sum()), (3, Duration::from_nanos(u64::MAX)), "a sum that does not fit");
        assert_eq!(histogram.drain(), Latencies::default());
        let mut twice = drained.clone();
        twice.add(&drained);
        assert_eq!(twice.sum(), drained.sum());
    }

    #[test]
    fn buckets_say_what_all_in_them_are_shorter_than() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(end_of(bucket)), bucket + 1);
            assert_eq!(bucket_of(end_of(bucket) - 1), bucket);
        }
        let histogram = Histogram::new();
        [3, 3, 40].into_iter().for_each(|ns| histogram.record(Duration::from_nanos(ns)));
        let read: Vec<(u128, u64)> = histogram.read().buckets().map(|(end, n)| (end.as_nanos(), n)).collect();
        assert_eq!(read, [(4, 2), (42, 1)]);
    }

    #[test]
    fn it_is_kept_in_few_bytes_and_read_again() {
        assert_eq!(Latencies::from_bytes(&[]), Some(Latencies::default()));
        let histogram = Histogram::new();
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let bits = random.u32(1..45);
            histogram.record(Duration::from_nanos(random.u64(..1 << bits)));
        }
        let latencies = histogram.read();
        let bytes = latencies.to_bytes();
        assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
        assert_eq!(Latencies::from_bytes(&bytes), Some(latencies));
        for bad in [&[1][..], &[1, 2], &[1, 0x80], &[1, 0, 0], &[0xff; 12], &[1, 0xff, 0xff, 1, 1]] {
            assert_eq!(Latencies::from_bytes(bad), None, "{bad:?}");
        }
    }
}
