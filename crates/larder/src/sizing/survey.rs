//! How many keys there are and what they weigh, in bounded memory: exact up to a bound, and beyond it estimated from the keys of the
//! lowest hashes (Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", RANDOM '02).

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::Access;

/// Keys that are counted one by one. Of more, half as many to all of them are kept, and the numbers are off by 0.3 %.
pub const SURVEYED_MAX: usize = 1 << 18;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Survey {
    /// By hash: what it weighed when it was read last.
    keys: HashMap<u64, u32, FixedState>,
    /// Hashes up to here are kept.
    up_to: u64,
    reads: u64,
    load_us: u64,
    most: usize,
}

impl Default for Survey {
    fn default() -> Self {
        Survey::of_at_most(SURVEYED_MAX)
    }
}

impl Survey {
    fn of_at_most(most: usize) -> Self {
        Survey { keys: HashMap::default(), up_to: u64::MAX, reads: 0, load_us: 0, most }
    }

    /// Takes in a read.
    pub fn read(&mut self, access: Access) {
        self.reads += 1;
        self.load_us = self.load_us.saturating_add(access.cost_us.into());
        if access.hash <= self.up_to {
            self.keys.insert(access.hash, access.bytes);
            if self.keys.len() > self.most {
                self.halve();
            }
        }
    }

    fn halve(&mut self) {
        let mut hashes: Vec<u64> = self.keys.keys().copied().collect();
        let (_, middle, _) = hashes.select_nth_unstable(self.most / 2);
        self.up_to = *middle;
        self.keys.retain(|hash, _| *hash <= *middle);
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// How long loading would have taken had every read missed, in seconds.
    pub fn load_seconds(&self) -> f64 {
        self.load_us as f64 / 1e6
    }

    /// Of how many keys.
    pub fn keys(&self) -> f64 {
        self.keys.len() as f64 / share_up_to(self.up_to)
    }

    /// What they weigh together, in bytes.
    pub fn bytes(&self) -> f64 {
        self.keys.values().map(|bytes| f64::from(*bytes)).sum::<f64>() / share_up_to(self.up_to)
    }

    /// Which shares of the keys and of their bytes have a hash up to this one. `None` where none has.
    pub(crate) fn shares(&self, up_to: u64) -> Option<(f64, f64)> {
        if up_to > self.up_to {
            // More than are known one by one: so many that the share is what it was meant to be.
            return Some((share_up_to(up_to), share_up_to(up_to)));
        }
        let (mut keys, mut bytes) = (0.0, 0.0);
        for (_, weight) in self.keys.iter().filter(|(hash, _)| **hash <= up_to) {
            keys += 1.0;
            bytes += f64::from(*weight);
        }
        (keys > 0.0).then(|| (keys / self.keys(), bytes / self.bytes()))
    }
}

/// The share of all hashes that are not above this one.
pub(super) fn share_up_to(hash: u64) -> f64 {
    (hash as f64 + 1.0) / (u64::MAX as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surveyed(keys: u64, most: usize) -> Survey {
        let mut survey = Survey::of_at_most(most);
        (0..2 * keys).for_each(|n| survey.read(Access::numbered(n % keys, 100, 10)));
        survey
    }

    #[test]
    fn few_keys_are_counted_and_many_are_estimated_in_bounded_memory() {
        let few = surveyed(1_000, 4_096);
        assert_eq!((few.keys(), few.bytes(), few.reads(), few.load_seconds()), (1_000.0, 100_000.0, 2_000, 0.02));
        let many = surveyed(100_000, 4_096);
        assert!(many.keys.len() <= 4_096);
        assert!((many.keys() / 100_000.0 - 1.0).abs() < 0.05, "{}", many.keys());
        assert!((many.bytes() / 10_000_000.0 - 1.0).abs() < 0.05, "{}", many.bytes());
    }

    #[test]
    fn the_shares_of_a_sample_are_what_was_really_chosen() {
        let survey = surveyed(1_000, 4_096);
        let (keys, bytes) = survey.shares(u64::MAX / 10).expect("a tenth of them");
        assert!((keys - 0.1).abs() < 0.03 && (keys * 1_000.0).fract() == 0.0, "{keys}");
        assert!((keys - bytes).abs() < 1e-9, "all are of one size");
        assert_eq!(survey.shares(0), None);
        assert_eq!(survey.shares(u64::MAX), Some((1.0, 1.0)));
    }
}
