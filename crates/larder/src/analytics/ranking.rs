//! The keys with the largest amounts: of reads, of bytes, of time.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

/// Keys that a ranking keeps.
pub const RANKED_MAX: usize = 64;

/// A key and its amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// The whole key.
    pub key: Box<[u8]>,
    /// Reads, bytes or microseconds, as the ranking has it.
    pub amount: u64,
}

/// The keys with the largest amounts, the largest first, at most [`RANKED_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking(Vec<Ranked>);

impl Ranking {
    /// Ranks keys, each of which comes once.
    pub fn new(keys: impl IntoIterator<Item = Ranked>) -> Self {
        let mut ranking = Ranking(keys.into_iter().collect());
        ranking.settle();
        ranking
    }

    /// The keys, the largest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Ranked> {
        self.0.iter()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in another ranking whose amounts add up: reads and time. A key that one of the two had no room for counts with what the
    /// other says, so that the sum is a lower bound.
    pub fn add(&mut self, other: &Ranking) {
        self.merge(other, |own, other| own + other);
    }

    /// Takes in another ranking of which the larger amount counts: sizes.
    pub fn add_largest(&mut self, other: &Ranking) {
        self.merge(other, u64::max);
    }

    fn merge(&mut self, other: &Ranking, both: impl Fn(u64, u64) -> u64) {
        // Looked up by hash: a year of hours has hundreds of thousands of such pairs to compare.
        let mut theirs: HashMap<&[u8], u64, RandomState> = other.0.iter().map(|ranked| (&*ranked.key, ranked.amount)).collect();
        for own in &mut self.0 {
            if let Some(amount) = theirs.remove(&*own.key) {
                own.amount = both(own.amount, amount);
            }
        }
        self.0.extend(other.0.iter().filter(|ranked| theirs.contains_key(&*ranked.key)).cloned());
        self.settle();
    }

    fn settle(&mut self) {
        // By key where amounts are equal, so that the order of merging does not matter to what is shown.
        self.0.sort_unstable_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.key.cmp(&b.key)));
        self.0.truncate(RANKED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(amounts: &[(&str, u64)]) -> Ranking {
        Ranking::new(amounts.iter().map(|(key, amount)| Ranked { key: key.as_bytes().into(), amount: *amount }))
    }

    #[test]
    fn amounts_add_up_or_the_larger_counts() {
        let mut reads = ranking(&[("a", 5), ("b", 7)]);
        let mut sizes = reads.clone();
        let other = ranking(&[("a", 4), ("c", 1)]);
        reads.add(&other);
        assert_eq!(reads, ranking(&[("a", 9), ("b", 7), ("c", 1)]));
        sizes.add_largest(&other);
        assert_eq!(sizes, ranking(&[("b", 7), ("a", 5), ("c", 1)]));
    }

    #[test]
    fn only_the_largest_are_kept() {
        let keys: Vec<String> = (0..200).map(|n| format!("{n:03}")).collect();
        let all = Ranking::new(keys.iter().enumerate().map(|(n, key)| Ranked { key: key.as_bytes().into(), amount: n as u64 / 2 }));
        assert_eq!(all.iter().len(), RANKED_MAX);
        assert_eq!(all.iter().map(|ranked| ranked.amount).next(), Some(99));
        assert!(all.iter().all(|ranked| ranked.amount >= 68));
    }
}
