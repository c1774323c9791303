//! Over-invalidation, measured: entries that were invalidated, and then loaded again with the same content. They were killed for
//! nothing; which tags and rules do that is worth knowing. Those that expired, and came back the same, could have lived longer.
//!
//! An entry that dies so leaves its fingerprint behind, in one of a fixed number of graves, and a load of its key looks there. A grave
//! that another key took first is forgotten, so the counts are lower bounds: exact while no more keys than there are graves wait for
//! their load. Of what they are a share of is counted beside them, and under the same bound.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::Value;
use crate::entry::{Entry, Slot};
use crate::freshness::{Stale, StaleBy};
use crate::metrics::Count;
use crate::view::View;

/// Graves of a namespace. There are none before the first death.
const GRAVES: usize = 2_048;

/// Tags and rules that are counted apart; the rest go under [`OTHER`].
const APART_MAX: usize = 256;

/// What is not counted apart.
const OTHER: &str = "(other)";

/// How often entries were killed for nothing, by what killed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needless {
    /// By tag, for entries that died of one. Tags beyond the first 256 are counted as `(other)`.
    pub tags: BTreeMap<String, u64>,
    /// By the rule of the event that invalidated them, for events that this instance carried out of late.
    pub rules: BTreeMap<String, u64>,
}

impl Needless {
    /// Those since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Needless) -> Needless {
        Needless { tags: since(&self.tags, &earlier.tags), rules: since(&self.rules, &earlier.rules) }
    }

    pub(crate) fn count_tag(&mut self, tag: &[u8]) {
        count(&mut self.tags, &tag.escape_ascii().to_string());
    }

    pub(crate) fn count_rule(&mut self, rule: &str) {
        count(&mut self.rules, rule);
    }
}

fn since(now: &BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(name, n): (&String, &u64)| (name.clone(), n.saturating_sub(earlier.get(name).copied().unwrap_or(0)));
    now.iter().map(more).filter(|(_, n)| *n > 0).collect()
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    let name = if counts.contains_key(name) || counts.len() < APART_MAX { name } else { OTHER };
    *counts.entry(name.to_owned()).or_default() += 1;
}

/// What is left of an entry.
struct Grave {
    key: u64,
    fingerprint: u128,
    died: Death,
}

/// What an entry died of.
enum Death {
    /// Its time was over.
    Expired,
    Invalidated {
        tag: Option<Box<[u8]>>,
        /// The position of the invalidation.
        at: u64,
    },
}

/// Those of one namespace.
#[derive(Default)]
pub(crate) struct Graves(Mutex<Vec<Option<Grave>>>);

impl Graves {
    fn bury(&self, grave: Grave) {
        let mut graves = self.0.lock();
        if graves.is_empty() {
            graves.resize_with(GRAVES, || None);
        }
        let place = place(grave.key);
        let before = graves[place].replace(grave);
        drop(graves);
        drop(before);
    }

    fn dig(&self, key: u64) -> Option<Grave> {
        let mut graves = self.0.lock();
        graves.get_mut(place(key))?.take_if(|grave| grave.key == key)
    }
}

fn place(key: u64) -> usize {
    key as usize % GRAVES
}

impl dyn Slot {
    /// Leaves behind what a later load is compared with.
    pub(crate) fn bury(&self, key: &[u8], stale: Stale) {
        // What ended with its epoch, and what never was a value, says nothing about an invalidation.
        if stale.by == StaleBy::Epoch || self.is_negative() {
            return;
        }
        let meta = self.meta();
        let tag = if let StaleBy::Tag(at) = stale.by { meta.tags.get(at).cloned() } else { None };
        let died = Death::Invalidated { tag, at: stale.at };
        meta.metrics.graves.bury(Grave { key: xxh3_64(key), fingerprint: self.fingerprint(), died });
    }

    /// The same for one whose time was over.
    pub(crate) fn bury_expired(&self, key: &[u8]) {
        if !self.is_negative() {
            self.meta().metrics.graves.bury(Grave { key: xxh3_64(key), fingerprint: self.fingerprint(), died: Death::Expired });
        }
    }
}

impl<V: Value> View<V> {
    /// Compares what was loaded with what was there before it died.
    pub(crate) fn dig(&self, key: &[u8], loaded: &Entry<V>) {
        let metrics = &self.space.metrics;
        let Some(grave) = metrics.graves.dig(xxh3_64(key)) else { return };
        let same = grave.fingerprint == loaded.fingerprint();
        match grave.died {
            Death::Expired => {
                metrics.count(Count::ReloadExpired);
                if same {
                    metrics.count(Count::ExpiredNeedlessly);
                }
            }
            Death::Invalidated { tag, at } => {
                metrics.count(Count::ReloadInvalidated);
                if same {
                    self.count_needless(tag.as_deref(), at);
                }
            }
        }
    }

    fn count_needless(&self, tag: Option<&[u8]>, at: u64) {
        self.space.metrics.count(Count::Needless);
        let rules = self.shared.events.rules_at(self.shared.index.epoch(), at);
        let mut needless = self.shared.needless.lock();
        if let Some(tag) = tag {
            needless.count_tag(tag);
        }
        rules.iter().for_each(|rule| needless.count_rule(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_apart_has_an_end() {
        let mut needless = Needless::default();
        for n in 0..APART_MAX + 10 {
            needless.count_tag(n.to_string().as_bytes());
        }
        needless.count_tag(b"0");
        assert_eq!(needless.tags.len(), APART_MAX + 1);
        assert_eq!((needless.tags["0"], needless.tags[OTHER]), (2, 10));
    }

    #[test]
    fn a_grave_is_of_one_key() {
        let graves = Graves::default();
        assert!(graves.dig(1).is_none());
        let grave = |key| Grave { key, fingerprint: key.into(), died: Death::Expired };
        graves.bury(grave(1));
        graves.bury(grave(2));
        graves.bury(grave(1 + GRAVES as u64));
        assert!(graves.dig(1).is_none(), "another key took its grave");
        assert_eq!(graves.dig(2).map(|grave| grave.fingerprint), Some(2));
        assert!(graves.dig(2).is_none(), "a load is compared once");
    }
}
