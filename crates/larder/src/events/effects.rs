//! Which rules the latest positions of the log came from, so that what an invalidation did can be laid to a rule.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::position::{Epoch, Position};

/// Positions that are remembered. An entry that an older one invalidated is laid to no rule.
const REMEMBERED: usize = 4_096;

/// The names of rules.
type Rules = BTreeSet<Box<str>>;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Effects(Mutex<BTreeMap<(u64, u64), Rules>>);

impl Effects {
    /// Remembers which rules a position came from. Several events may share one, where their names were put off.
    pub(super) fn note(&self, position: Position, rules: &[String]) {
        let mut effects = self.0.lock();
        let there = effects.entry((position.epoch.0, position.seq)).or_default();
        for rule in rules.iter().filter(|rule| !there.contains(rule.as_str())).collect::<Vec<_>>() {
            there.insert(rule.as_str().into());
        }
        while effects.len() > REMEMBERED {
            effects.pop_first();
        }
    }

    pub(super) fn rules_at(&self, epoch: Epoch, seq: u64) -> Vec<Box<str>> {
        self.0.lock().get(&(epoch.0, seq)).map_or_else(Vec::new, |rules| rules.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let effects = Effects::default();
        let at = |seq| Position { epoch: Epoch(1), seq };
        for seq in 1..=REMEMBERED as u64 + 5 {
            effects.note(at(seq), &["a".into()]);
        }
        effects.note(at(100), &["b".into(), "a".into()]);
        assert!(effects.rules_at(Epoch(1), 5).is_empty());
        assert_eq!(effects.rules_at(Epoch(1), 6), [Box::from("a")]);
        assert_eq!(effects.rules_at(Epoch(1), 100), [Box::from("a"), Box::from("b")]);
        assert!(effects.rules_at(Epoch(2), 100).is_empty());
    }
}
