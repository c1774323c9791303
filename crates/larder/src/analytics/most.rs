//! The keys with the most of something within a window, in memory that does not grow with the keys.
//!
//! Amounts that add up are kept as in Misra and Gries, "Finding repeated elements" (1982): when there are too many keys, the amount of the
//! largest that has no place is taken from all. So an amount is never too large, and too small by no more than all amounts over
//! the number of keys that are kept; and where there are fewer keys than that, it is exact. An amount costs the same however large it is,
//! which those sketches do not offer that count by one (HeavyKeeper, count-min with decay).

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{RANKED_MAX, Ranked, Ranking};

type Amounts = HashMap<Box<[u8]>, u64, RandomState>;

/// The keys whose amounts add up to the most; so many keep an amount when there are too many.
#[derive(Default)]
pub(crate) struct Most<const KEPT: usize>(Amounts);

impl<const KEPT: usize> Most<KEPT> {
    /// Keys there may be before some have to go: twice as many, so that it costs each addition little.
    const HELD_MAX: usize = 2 * KEPT;

    pub(crate) fn add(&mut self, key: &[u8], amount: u64) {
        if amount == 0 {
            return;
        }
        match self.0.get_mut(key) {
            Some(sum) => *sum = sum.saturating_add(amount),
            None => {
                self.0.insert(key.into(), amount);
                self.make_room();
            }
        }
    }

    /// The keys that are held, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.0.iter().map(|(key, amount)| (&**key, *amount))
    }

    fn make_room(&mut self) {
        if self.0.len() <= Self::HELD_MAX {
            return;
        }
        let mut amounts: Vec<u64> = self.0.values().copied().collect();
        let (_, largest_without, _) = amounts.select_nth_unstable_by(KEPT, |a, b| b.cmp(a));
        let taken = *largest_without;
        self.0.retain(|_, amount| {
            *amount = amount.saturating_sub(taken);
            *amount > 0
        });
    }

    pub(super) fn drain(&mut self) -> Ranking {
        ranking(std::mem::take(&mut self.0))
    }
}

/// The keys of which the largest single amount counts.
#[derive(Default)]
pub(super) struct Largest(Amounts);

impl Largest {
    /// Returns the amount that another has to exceed from now on.
    pub(super) fn add(&mut self, key: &[u8], amount: u64) -> u64 {
        match self.0.get_mut(key) {
            Some(largest) => *largest = amount.max(*largest),
            None => drop(self.0.insert(key.into(), amount)),
        }
        if self.0.len() <= 2 * RANKED_MAX {
            return 0;
        }
        let mut amounts: Vec<u64> = self.0.values().copied().collect();
        let (_, smallest, _) = amounts.select_nth_unstable_by(RANKED_MAX - 1, |a, b| b.cmp(a));
        let smallest = *smallest;
        self.0.retain(|_, amount| *amount >= smallest);
        smallest
    }

    pub(super) fn drain(&mut self) -> Ranking {
        ranking(std::mem::take(&mut self.0))
    }
}

fn ranking(amounts: Amounts) -> Ranking {
    Ranking::new(amounts.into_iter().map(|(key, amount)| Ranked { key, amount }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: usize = 256;

    fn amounts(ranking: &Ranking) -> Vec<(&[u8], u64)> {
        ranking.iter().map(|ranked| (&*ranked.key, ranked.amount)).collect()
    }

    #[test]
    fn few_keys_are_counted_exactly_and_once() {
        let mut most = Most::<KEPT>::default();
        for (key, amount) in [("a", 2), ("b", 5), ("a", 4), ("c", 0)] {
            most.add(key.as_bytes(), amount);
        }
        assert_eq!(amounts(&most.drain()), [(b"a".as_slice(), 6), (b"b", 5)]);
        assert!(most.drain().is_empty());
    }

    #[test]
    fn among_many_keys_the_large_ones_are_found_and_never_overstated() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut most, mut exact) = (Most::<KEPT>::default(), HashMap::<u32, u64>::new());
        for _ in 0..200_000 {
            // One read in two is of ten keys.
            let key = if random.bool() { random.u32(..10) } else { random.u32(10..50_000) };
            *exact.entry(key).or_default() += 1;
            most.add(&key.to_be_bytes(), 1);
            assert!(most.0.len() <= 2 * KEPT);
        }
        let ranking = most.drain();
        for (rank, ranked) in ranking.iter().enumerate() {
            let key = u32::from_be_bytes(ranked.key[..].try_into().unwrap());
            assert!(ranked.amount <= exact[&key] && ranked.amount + 200_000 / KEPT as u64 >= exact[&key]);
            assert!(rank >= 10 || key < 10, "{key} is the {rank}th");
        }
    }

    #[test]
    fn of_sizes_the_largest_stay() {
        let mut largest = Largest::default();
        let mut floor = 0;
        for n in 0..10_000u64 {
            let size = n * 7_919 % 10_000;
            if size > floor {
                floor = largest.add(&n.to_be_bytes(), size).max(floor);
            }
            assert!(largest.0.len() <= 2 * RANKED_MAX);
        }
        largest.add(&1u64.to_be_bytes(), 3);
        let found: Vec<u64> = largest.drain().iter().map(|ranked| ranked.amount).collect();
        assert_eq!(found, (10_000 - RANKED_MAX as u64..10_000).rev().collect::<Vec<_>>());
    }
}
