//! Which keys are hottest: those that were read most, as far as that is told apart, and behind them those that were read last.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::cache::Shared;
use crate::clock::Millis;

/// Entries looked at in one step, and the pause after it: as the sweeper's, a small share of a core.
const STEP: usize = 256;
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// How hot a key is: its reads of the last minutes, where it is among the most read of its namespace, and when it was read last.
type Heat = (u64, Millis);

/// The hottest keys of memory that the backing tier can have, the hottest first.
pub(super) async fn hottest(shared: &Shared, most: usize, pause: Duration) -> Vec<Box<[u8]>> {
    let now = shared.clock.refresh();
    let mut reads: HashMap<Box<[u8]>, u64> = HashMap::new();
    for space in shared.all_spaces() {
        reads.extend(space.metrics.hot_keys.list(now).into_iter().map(|hot| (hot.key, hot.reads)));
    }
    let mut hottest = Hottest { most, heap: BinaryHeap::new() };
    for pool in shared.pools() {
        let mut entries = pool.iter();
        loop {
            let mut left = STEP;
            for (key, slot) in entries.by_ref().take(STEP) {
                left -= 1;
                let meta = slot.meta();
                if meta.metrics.is_backed && !slot.is_negative() {
                    let heat = (reads.get(key.bytes()).copied().unwrap_or(0), meta.read_at());
                    hottest.offer(heat, key.bytes());
                }
            }
            if left > 0 {
                break;
            }
            if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
        }
    }
    hottest.into_keys()
}

/// So many at most, the least hot of which goes when a hotter one comes.
struct Hottest {
    most: usize,
    heap: BinaryHeap<Reverse<(Heat, Box<[u8]>)>>,
}

impl Hottest {
    fn offer(&mut self, heat: Heat, key: &[u8]) {
        if self.heap.len() >= self.most {
            let is_hotter = self.heap.peek().is_some_and(|Reverse((least, _))| heat > *least);
            if !is_hotter {
                return;
            }
            self.heap.pop();
        }
        self.heap.push(Reverse((heat, key.into())));
    }

    fn into_keys(self) -> Vec<Box<[u8]>> {
        // Sorted by what is reversed: the hottest come first.
        self.heap.into_sorted_vec().into_iter().map(|Reverse((_, key))| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_are_kept_and_come_first() {
        let mut hottest = Hottest { most: 3, heap: BinaryHeap::new() };
        for (key, heat) in [("never", (0, 0)), ("late", (0, 9)), ("much", (7, 1)), ("early", (0, 2)), ("more", (8, 0)), ("later", (0, 10))]
        {
            hottest.offer(heat, key.as_bytes());
        }
        let keys = hottest.into_keys();
        assert_eq!(keys, ["more", "much", "later"].map(|key| Box::<[u8]>::from(key.as_bytes())));
    }
}
