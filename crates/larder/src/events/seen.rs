//! Which events were carried out already, by source and identifier: as many as fit a bounded window.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::event::Event;

/// Events that are remembered: a second of the busiest feed, or an hour of most. 3 MiB.
const WINDOW: usize = 65_536;

/// See the head of this file.
pub(super) struct Seen {
    /// Drawn at random, so that nobody can prepare two events that look like one.
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Seen { seed: fastrand::u64(..), inner: Mutex::default() }
    }

    fn hash(&self, event: &Event) -> u128 {
        // The length between them, so that no other pair reads the same.
        let text = [event.source().len().to_le_bytes().as_slice(), event.source().as_bytes(), event.id().as_bytes()].concat();
        xxh3_128_with_seed(&text, self.seed)
    }

    pub(super) fn has(&self, event: &Event) -> bool {
        self.inner.lock().known.contains(&self.hash(event))
    }

    /// An event took effect.
    pub(super) fn add(&self, event: &Event) {
        let hash = self.hash(event);
        let mut inner = self.inner.lock();
        if inner.known.insert(hash) {
            inner.order.push_back(hash);
        }
        if inner.order.len() > WINDOW
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn event(source: &str, id: &str) -> Event {
        Event::new("t", Json::Null).from(source).with_id(id)
    }

    #[test]
    fn an_event_is_known_by_source_and_identifier() {
        let seen = Seen::new();
        seen.add(&event("ab", "c"));
        assert!(seen.has(&event("ab", "c")));
        assert!(!seen.has(&event("a", "bc")));
        assert!(!seen.has(&event("ab", "d")));
    }

    #[test]
    fn the_window_is_bounded() {
        let seen = Seen::new();
        (0..=WINDOW).for_each(|n| seen.add(&event("s", &n.to_string())));
        assert!(!seen.has(&event("s", "0")));
        assert!(seen.has(&event("s", "1")));
        assert_eq!(seen.inner.lock().known.len(), WINDOW);
    }
}
