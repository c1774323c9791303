//! Reuse distance: how many bytes of other entries are read between two reads of the same key. A memory of that size would have had it.
//!
//! By spatial sampling of fixed size (Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST '15): only keys are followed
//! whose hash lies below a threshold, which is lowered where they become too many; what lies between two reads of such a key is what
//! was read of the others that are followed, in proportion. It is a sum over what was last read after it, kept in a tree over the order of
//! last reads (Fenwick, "A new data structure for cumulative frequency tables", 1994).
//!
//! ```text
//!   keys by hash      0 ....... threshold ....... chosen at all: one key in 16, or in up to 1,024 of many
//!                     followed  not any more, there are too many
//!
//!   order of reads    slot 1    slot 2    slot 3    slot 4
//!                     A 100     -         B 300     C 50        read A: 350 bytes, times 1 / the share of keys followed
//! ```
//!
//! A hit of memory pays nothing for keys that are not chosen, and for a chosen one at most once in a tick of the clock: the reads between,
//! which are of the shortest distances, are known by their number alone, and counted as distance zero. That is the correction which the
//! paper calls SHARDS-adj.

use std::collections::BTreeMap;

use crate::clock::Millis;

/// Of so many keys one is chosen at most: the fewer keys a namespace has, the more of them it needs to say anything.
const CHOSEN_ONE_IN: u64 = 16;
const CHOSEN_BELOW: u64 = u64::MAX / CHOSEN_ONE_IN;

/// Of so many keys one is chosen at least. Noting a read is a microsecond where nothing of it is in the processor's cache, as when the
/// keys are very many, and hits are to pay no more than a few nanoseconds for it.
const CHOSEN_ONE_IN_MAX: u64 = 1_024;

/// How many keys are enough, between the two.
const WANTED: u64 = 256;

/// Keys that are followed at most. With 2,048 the paper's miss ratios are off by 0.01 to 0.02.
const FOLLOWED_MAX: usize = 2_048;

/// With fewer, chance would say more than the reads: then nothing is said.
const FOLLOWED_MIN: usize = 32;

/// Slots of the order for each key: when the last is taken, all keys move up, which this makes seldom. Not more, since a read of a tree
/// that is no larger than its keys demand finds more of it in the processor's cache.
const SLOTS_PER_KEY: usize = 4;
const SLOTS_MIN: usize = 256;

/// A key that was not read for so long is forgotten, so that others can be followed in its place.
const FORGOTTEN_AFTER_MS: Millis = 24 * 60 * 60 * 1_000;

/// Below which hash keys are chosen in a namespace of so many entries.
pub(super) fn chosen_below(entries: u64) -> u64 {
    u64::MAX / (entries / WANTED).clamp(CHOSEN_ONE_IN, CHOSEN_ONE_IN_MAX)
}

/// Whether a key of this hash may be followed.
pub(crate) fn is_chosen(hash: u64) -> bool {
    hash < CHOSEN_BELOW
}

/// A read of a key that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes of others since its last one; `None` for the first.
    pub(super) distance: Option<u64>,
    /// For how many reads it stands.
    pub(super) stands_for: u64,
}

/// See the head of this file.
pub(super) struct Reuse {
    /// By hash, so that the last is the one to go.
    followed: BTreeMap<u64, Place>,
    /// Hashes below it are followed.
    threshold: u64,
    sums: Sums,
    /// The slot of the next read.
    next: usize,
    /// Reads that were said, in the number that they stand for.
    said: u64,
}

#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    bytes: u64,
    read_at: Millis,
}

impl Default for Reuse {
    fn default() -> Self {
        Reuse::below(CHOSEN_BELOW)
    }
}

impl Reuse {
    fn below(threshold: u64) -> Self {
        Reuse { followed: BTreeMap::new(), threshold, sums: Sums::new(SLOTS_MIN), next: 0, said: 0 }
    }

    /// Takes in a read of a key. Of one that missed, the size is not known (`None`): it counts as what it had before, until it is
    /// [stored](Self::sized). Returns nothing for keys that are not followed. Keys are chosen [below](chosen_below) a hash, which is
    /// another as a namespace grows.
    pub(super) fn read(&mut self, hash: u64, bytes: Option<u64>, now: Millis, below: u64) -> Option<Read> {
        // Not for a little: each time, keys are given up.
        if self.threshold / 5 * 4 > below {
            self.lower(below);
        }
        if hash >= self.threshold {
            return None;
        }
        let stands_for = u64::MAX / self.threshold;
        self.said += stands_for;
        let slot = self.next_slot();
        let Some(place) = self.followed.get_mut(&hash) else {
            let bytes = bytes.unwrap_or(0);
            self.sums.add(slot, bytes);
            self.followed.insert(hash, Place { slot, bytes, read_at: now });
            if self.followed.len() > FOLLOWED_MAX
                && let Some(last) = self.followed.last_key_value().map(|(last, _)| *last)
            {
                self.lower(last);
            }
            return Some(Read { distance: None, stands_for });
        };
        let distance = self.sums.after(place.slot).saturating_mul(stands_for);
        self.sums.sub(place.slot, place.bytes);
        *place = Place { slot, bytes: bytes.unwrap_or(place.bytes), read_at: now };
        self.sums.add(slot, place.bytes);
        Some(Read { distance: Some(distance), stands_for })
    }

    fn lower(&mut self, threshold: u64) {
        self.threshold = threshold;
        for place in self.followed.split_off(&threshold).into_values() {
            self.sums.sub(place.slot, place.bytes);
        }
    }

    /// A key has another size from now on.
    pub(super) fn sized(&mut self, hash: u64, bytes: u64) {
        if let Some(place) = self.followed.get_mut(&hash) {
            self.sums.sub(place.slot, place.bytes);
            place.bytes = bytes;
            self.sums.add(place.slot, bytes);
        }
    }

    fn next_slot(&mut self) -> usize {
        if self.next == self.sums.slots() {
            let mut places: Vec<&mut Place> = self.followed.values_mut().collect();
            places.sort_unstable_by_key(|place| place.slot);
            self.sums = Sums::new((SLOTS_PER_KEY * places.len()).max(SLOTS_MIN));
            self.next = places.len();
            for (slot, place) in places.into_iter().enumerate() {
                place.slot = slot;
                self.sums.add(slot, place.bytes);
            }
        }
        self.next += 1;
        self.next - 1
    }

    /// Ends a window. Returns for how many reads those that were said in it stand, if there were keys enough to say anything.
    pub(super) fn end_window(&mut self, now: Millis, below: u64) -> Option<u64> {
        let said = std::mem::take(&mut self.said);
        let enough = self.followed.len() >= FOLLOWED_MIN;
        let gone: Vec<u64> = self
            .followed
            .iter()
            .filter(|(_, place)| place.read_at.saturating_add(FORGOTTEN_AFTER_MS) <= now)
            .map(|(hash, _)| *hash)
            .collect();
        for place in gone.into_iter().filter_map(|hash| self.followed.remove(&hash)).collect::<Vec<_>>() {
            self.sums.sub(place.slot, place.bytes);
        }
        if self.followed.len() < FOLLOWED_MAX / 4 {
            // There are fewer keys than there were: of those that come in, the first read tells nothing.
            self.threshold = self.threshold.saturating_mul(2).min(below).max(self.threshold);
        }
        enough.then_some(said)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }
}

/// Bytes by slot, whose running sums cost the logarithm of the slots.
struct Sums {
    tree: Vec<u64>,
    total: u64,
}

impl Sums {
    fn new(slots: usize) -> Self {
        Sums { tree: vec![0; slots + 1], total: 0 }
    }

    fn slots(&self) -> usize {
        self.tree.len() - 1
    }

    fn add(&mut self, slot: usize, bytes: u64) {
        self.total += bytes;
        let mut at = slot + 1;
        while at < self.tree.len() {
            self.tree[at] += bytes;
            at += at & at.wrapping_neg();
        }
    }

    fn sub(&mut self, slot: usize, bytes: u64) {
        self.total -= bytes;
        let mut at = slot + 1;
        while at < self.tree.len() {
            self.tree[at] -= bytes;
            at += at & at.wrapping_neg();
        }
    }

    /// What lies behind a slot.
    fn after(&self, slot: usize) -> u64 {
        let (mut at, mut up_to) = (slot + 1, 0);
        while at > 0 {
            up_to += self.tree[at];
            at -= at & at.wrapping_neg();
        }
        self.total - up_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys, each read for itself.
    fn of_all() -> Reuse {
        Reuse::below(u64::MAX)
    }

    #[test]
    fn a_distance_is_the_bytes_of_others_in_between() {
        let mut reuse = of_all();
        let mut read = |hash, bytes| reuse.read(hash, bytes, 0, u64::MAX).unwrap().distance;
        assert_eq!(read(1, Some(100)), None);
        assert_eq!(read(2, Some(300)), None);
        assert_eq!(read(3, None), None);
        assert_eq!(read(1, Some(100)), Some(300), "what missed has no bytes yet");
        assert_eq!(read(1, Some(100)), Some(0));
        assert_eq!(read(2, Some(300)), Some(100), "each other key counts once");
        reuse.sized(3, 50);
        assert_eq!(reuse.read(1, None, 0, u64::MAX).unwrap().distance, Some(300));
        assert_eq!(reuse.read(2, None, 0, u64::MAX).unwrap().distance, Some(100));
        assert_eq!(reuse.read(3, None, 0, u64::MAX).unwrap().distance, Some(400));
        assert_eq!(reuse.read(1, None, 0, u64::MAX).unwrap().distance, Some(350));
    }

    #[test]
    fn it_is_what_a_list_of_last_reads_says() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut reuse = of_all();
        let mut list: Vec<(u64, u64)> = Vec::new();
        for _ in 0..20_000 {
            let (hash, bytes) = (random.u64(..500).pow(2) / 500, random.u64(1..1_000));
            let at = list.iter().position(|(other, _)| *other == hash);
            let expected = at.map(|at| list[at + 1..].iter().map(|(_, bytes)| bytes).sum());
            at.map(|at| list.remove(at));
            list.push((hash, bytes));
            assert_eq!(reuse.read(hash, Some(bytes), 0, u64::MAX), Some(Read { distance: expected, stands_for: 1 }));
        }
    }

    #[test]
    fn the_keys_that_are_followed_have_an_end_and_stand_for_the_others() {
        let (keys, bytes) = (100_000u64, 10);
        // Round and round: each read has all other keys before it.
        let hash = |key: u64| xxhash_rust::xxh3::xxh3_64(&key.to_be_bytes());
        let mut reuse = Reuse::default();
        let mut read = |key| reuse.read(hash(key), Some(bytes), 0, CHOSEN_BELOW);
        assert!((0..keys).filter_map(&mut read).all(|read| read.distance.is_none()));
        assert!(reuse.followed.len() <= FOLLOWED_MAX && reuse.followed.len() > FOLLOWED_MAX / 2);
        let before = reuse.end_window(0, CHOSEN_BELOW).unwrap();
        assert!(before > 0);
        let reads: Vec<Read> = (0..keys).filter_map(|key| reuse.read(hash(key), Some(bytes), 0, CHOSEN_BELOW)).collect();
        let all: u64 = reads.iter().map(|read| read.stands_for).sum();
        assert_eq!(reuse.end_window(0, CHOSEN_BELOW), Some(all));
        assert!(all.abs_diff(keys) < keys / 20, "{all} reads for {keys}");
        for distance in reads.iter().filter_map(|read| read.distance) {
            assert!(distance.abs_diff(keys * bytes) < keys * bytes / 20, "{distance}");
        }
    }

    #[test]
    fn of_more_entries_fewer_are_chosen() {
        let one_in = |entries| u64::MAX / chosen_below(entries);
        assert_eq!([0, 4_096, 25_600, 65_536, 10_000_000].map(one_in), [16, 16, 100, 256, 1_024]);
        let mut reuse = Reuse::default();
        assert!((0..100).all(|n| reuse.read(n * (CHOSEN_BELOW / 100), Some(1), 0, chosen_below(0)).is_some()));
        assert!(reuse.read(0, Some(1), 0, chosen_below(4_500)).is_some());
        assert_eq!(reuse.followed.len(), 100, "not for a little");
        assert!(reuse.read(0, Some(1), 0, chosen_below(8_192)).is_some());
        assert_eq!((reuse.followed.len(), reuse.sums.total), (51, 51), "half of them are given up");
        assert!(reuse.read(CHOSEN_BELOW - 2, Some(1), 0, chosen_below(8_192)).is_none());
        assert!(reuse.end_window(0, chosen_below(0)).is_some());
        assert!(reuse.read(CHOSEN_BELOW - 2, Some(1), 0, chosen_below(0)).is_some(), "there are fewer entries again");
    }

    #[test]
    fn who_was_not_read_for_a_day_makes_room() {
        let mut reuse = Reuse::default();
        assert!((0..FOLLOWED_MAX as u64 + 1).all(|hash| reuse.read(hash * 1_000, Some(1), 0, CHOSEN_BELOW).is_some()));
        assert_eq!(reuse.threshold, FOLLOWED_MAX as u64 * 1_000);
        assert!(reuse.end_window(FORGOTTEN_AFTER_MS - 1, CHOSEN_BELOW).is_some());
        assert!(!reuse.is_empty());
        assert!(reuse.end_window(FORGOTTEN_AFTER_MS, CHOSEN_BELOW).is_some(), "it counts in the window that it was in");
        assert!(reuse.is_empty());
        assert_eq!((reuse.threshold, reuse.sums.total), (FOLLOWED_MAX as u64 * 2_000, 0), "more are let in");
        assert!((0..64).all(|_| reuse.end_window(FORGOTTEN_AFTER_MS, CHOSEN_BELOW).is_none()), "too few to say anything");
        assert_eq!(reuse.threshold, CHOSEN_BELOW);
    }
}
