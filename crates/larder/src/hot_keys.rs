//! Hot keys: those of a namespace that are read most, estimated in fixed memory.
//!
//! One memory hit in 64 is counted as 64, and one slower read in 16 as 16, as [`Most`] has it. Two take turns, so that what was hot
//! yesterday is forgotten: each is filled for a while, and what is asked for is the sum of both.
//!
//! It must not cost what a read costs: one read in a millisecond is counted, for itself and for those that were not, and whoever finds
//! them locked goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::analytics::Most;
use crate::clock::Millis;

/// Keys that are told apart by rank.
pub const HOT_KEYS_MAX: usize = 512;

/// Keys that keep their reads when there are too many: more than are told, as the last of them are seldom the right ones.
type Reads = Most<{ 2 * HOT_KEYS_MAX }>;

/// How long a turn takes.
const TURN_MS: Millis = 10 * 60 * 1_000;

/// Of so many reads that memory did not answer the quick way one is counted.
const SLOW_ONE_IN: u64 = 16;

/// A key that is read much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The whole key.
    pub key: Box<[u8]>,
    /// About how often it was read in the last ten to twenty minutes.
    pub reads: u64,
}

/// See the head of this file. Without memory until something is counted.
#[derive(Default)]
pub(crate) struct HotKeys {
    turns: Mutex<Option<Box<Turns>>>,
    /// When a read was counted last, plus one; zero before the first.
    counted: AtomicU64,
    /// Reads since then that were to be counted, and were not.
    left_out: AtomicU64,
}

struct Turns {
    current: Reads,
    before: Reads,
    ends: Millis,
}

impl HotKeys {
    /// Counts reads of a key, unless one was counted in this millisecond: which is then the one to be counted is chance, so that keys
    /// are counted in proportion all the same.
    /// Returns the key and how many reads it was counted with, if it was.
    pub(crate) fn count(&self, key: impl FnOnce() -> SmallVec<[u8; 32]>, reads: u64, now: Millis) -> Option<(SmallVec<[u8; 32]>, u64)> {
        if self.counted.swap(now.saturating_add(1), Ordering::Relaxed) == now.saturating_add(1) {
            self.left_out.fetch_add(reads, Ordering::Relaxed);
            return None;
        }
        let mut turns = self.turns.try_lock()?;
        let reads = reads + self.left_out.swap(0, Ordering::Relaxed);
        let turns = turns.get_or_insert_with(|| {
            Box::new(Turns { current: Reads::default(), before: Reads::default(), ends: now.saturating_add(TURN_MS) })
        });
        turns.go_on(now);
        let key = key();
        turns.current.add(&key, reads);
        Some((key, reads))
    }

    /// For how many reads one that was not answered the quick way is to be counted, if it is: one of several.
    pub(crate) fn samples_slow() -> Option<u64> {
        (fastrand::u64(..SLOW_ONE_IN) == 0).then_some(SLOW_ONE_IN)
    }

    /// The hottest, first.
    pub(crate) fn list(&self, now: Millis) -> Vec<HotKey> {
        let mut turns = self.turns.lock();
        let Some(turns) = turns.as_mut() else { return Vec::new() };
        turns.go_on(now);
        let mut reads: HashMap<&[u8], u64> = HashMap::new();
        for (key, count) in turns.current.iter().chain(turns.before.iter()) {
            *reads.entry(key).or_default() += count;
        }
        let mut hot: Vec<HotKey> = reads.into_iter().map(|(key, reads)| HotKey { key: key.into(), reads }).collect();
        // By key where reads are equal, so that two lists of the same are the same.
        hot.sort_unstable_by(|a, b| b.reads.cmp(&a.reads).then_with(|| a.key.cmp(&b.key)));
        hot.truncate(HOT_KEYS_MAX);
        hot
    }
}

impl Turns {
    fn go_on(&mut self, now: Millis) {
        if now < self.ends {
            return;
        }
        // After a long silence what is in the other one is old, too.
        let silent = now >= self.ends.saturating_add(TURN_MS);
        let current = std::mem::take(&mut self.current);
        self.before = if silent { Reads::default() } else { current };
        self.ends = now.saturating_add(TURN_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Ranks of a Zipf distribution over so many keys.
    fn zipf(random: &mut fastrand::Rng, sums: &[f64]) -> usize {
        let at = random.f64() * sums[sums.len() - 1];
        sums.partition_point(|sum| *sum < at)
    }

    #[test]
    fn nearly_all_of_the_hundred_hottest_are_found() {
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=100_000)
            .map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        let (hot, mut exact) = (HotKeys::default(), HashMap::<usize, u64>::new());
        for now in 0..400_000 {
            let rank = zipf(&mut random, &sums);
            *exact.entry(rank).or_default() += 1;
            // Within one turn; the clock only has to go on.
            hot.count(|| format!("n:{rank}").as_bytes().into(), 1, now % TURN_MS);
        }
        let mut by_count: Vec<(u64, usize)> = exact.into_iter().map(|(rank, count)| (count, rank)).collect();
        by_count.sort_unstable_by(|a, b| b.cmp(a));
        let truth: HashSet<Vec<u8>> = by_count[..100].iter().map(|(_, rank)| format!("n:{rank}").into_bytes()).collect();
        let found = hot.list(0).into_iter().take(100).filter(|hot| truth.contains(&*hot.key)).count();
        assert!(found >= 97, "only {found} of the hundred");
    }

    #[test]
    fn one_read_in_a_millisecond_stands_for_all() {
        let hot = HotKeys::default();
        for now in [5, 5, 5, 6] {
            hot.count(|| b"k".as_slice().into(), 64, now);
        }
        assert_eq!(hot.list(6)[0].reads, 4 * 64);
    }

    #[test]
    fn what_was_hot_is_forgotten() {
        let hot = HotKeys::default();
        assert!(hot.list(0).is_empty());
        hot.count(|| b"old".as_slice().into(), 1000, 0);
        hot.count(|| b"new".as_slice().into(), 10, TURN_MS);
        let keys = |now| hot.list(now).into_iter().map(|hot| (hot.key.to_vec(), hot.reads)).collect::<Vec<_>>();
        assert_eq!(keys(TURN_MS), [(b"old".to_vec(), 1000), (b"new".to_vec(), 10)]);
        assert_eq!(keys(2 * TURN_MS), [(b"new".to_vec(), 10)]);
        assert!(keys(9 * TURN_MS).is_empty(), "a long silence");
    }
}
