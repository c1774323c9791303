//! Tells apart what other instances appended from what comes back of this one's own: the stream says only at which position.
//!
//! An own append is known by its answer, which may come before the stream brings it or after. So what is not known to be own is
//! counted as a peer's only once its answer would have come.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::APPEND_TIMEOUT;
use crate::invalidations::{InvalidationCounters, InvalidationOrigin, Kinds, kinds_of};
use crate::name::Name;

/// When an append has long been answered, or given up.
const SURE_AFTER: Duration = APPEND_TIMEOUT.saturating_mul(2);

/// Groups of one side and positions of the other that are remembered: many more than are on their way at any time.
const REMEMBERED_MAX: usize = 16_384;

/// See the head of this file.
pub(super) struct Peers {
    counters: Arc<InvalidationCounters>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Positions begin anew with each.
    generation: u32,
    /// Own ones that the stream may have yet to bring: groups, from their first to their last.
    own: VecDeque<(u64, u64)>,
    /// Those that it brought, and that are not known to be own: when, and what is there.
    brought: BTreeMap<u64, (Instant, Kinds)>,
}

impl Peers {
    pub(super) fn new(counters: Arc<InvalidationCounters>) -> Self {
        Peers { counters, seen: Mutex::default() }
    }

    pub(super) fn counters(&self) -> &InvalidationCounters {
        &self.counters
    }

    /// The stream brought what stands at a position. Returns whether that is known to be own.
    pub(super) fn brought(&self, generation: u32, seq: u64, names: &[Name], now: Instant) -> bool {
        let mut seen = self.seen.lock();
        self.enter(&mut seen, generation);
        // It brings them in their order.
        while seen.own.front().is_some_and(|(_, last)| *last < seq) {
            seen.own.pop_front();
        }
        let is_own = seen.own.front().is_some_and(|(first, _)| *first <= seq);
        if !is_own {
            seen.brought.insert(seq, (now, kinds_of(names)));
            self.count_first_if(&mut seen, |brought, _| brought > REMEMBERED_MAX);
        }
        is_own
    }

    /// A group of this one's own was appended. Returns which of its positions the stream brought before.
    pub(super) fn own(&self, generation: u32, first: u64, count: u64) -> HashSet<u64> {
        let mut seen = self.seen.lock();
        self.enter(&mut seen, generation);
        let mut brought = seen.brought.split_off(&first);
        let mut behind = brought.split_off(&(first + count));
        seen.brought.append(&mut behind);
        if (brought.len() as u64) < count {
            let at = seen.own.partition_point(|(other, _)| *other < first);
            seen.own.insert(at, (first, first + count - 1));
            if seen.own.len() > REMEMBERED_MAX {
                seen.own.pop_front();
            }
        }
        brought.into_keys().collect()
    }

    /// Counts what is certain to be a peer's by now.
    pub(super) fn settle(&self, now: Instant) {
        self.count_first_if(&mut self.seen.lock(), |_, at| now.saturating_duration_since(at) >= SURE_AFTER);
    }

    fn enter(&self, seen: &mut Seen, generation: u32) {
        if seen.generation != generation {
            self.count_first_if(seen, |_, _| true);
            *seen = Seen { generation, ..Seen::default() };
        }
    }

    /// Counts those that were brought first as long as that is to be, told how many there are and when the first was brought.
    fn count_first_if(&self, seen: &mut Seen, is_to_be: impl Fn(usize, Instant) -> bool) {
        while let Some(first) =
            seen.brought.first_entry().map(|first| *first.key()).filter(|seq| is_to_be(seen.brought.len(), seen.brought[seq].0))
            && let Some((_, kinds)) = seen.brought.remove(&first)
        {
            self.counters.add(&kinds, InvalidationOrigin::Peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invalidations::InvalidationKind;
    use crate::name::Names;

    #[test]
    fn what_is_own_is_no_peers_whichever_way_it_is_heard_of_first() {
        let (peers, begun) = (Peers::new(Arc::default()), Instant::now());
        let names = Names::new().tag("t").check().unwrap();
        let counted = |peers: &Peers, at| {
            peers.settle(at);
            peers.counters.read().get(InvalidationKind::Tag, InvalidationOrigin::Peer)
        };
        peers.own(1, 1, 1);
        peers.brought(1, 1, &names, begun);
        peers.brought(1, 2, &names, begun);
        peers.brought(1, 3, &names, begun + SURE_AFTER / 2);
        assert_eq!(counted(&peers, begun), 0, "their answers may still come");
        assert_eq!(peers.own(1, 2, 1), HashSet::from([2]));
        assert_eq!(counted(&peers, begun + SURE_AFTER), 0);
        assert_eq!(counted(&peers, begun + SURE_AFTER * 2), 1);
        peers.own(1, 4, 1);
        peers.brought(2, 4, &names, begun);
        peers.brought(3, 4, &names, begun);
        assert_eq!(counted(&peers, begun), 2, "another generation's positions are others, and those of the last are certain");
    }

    #[test]
    fn a_group_that_the_stream_has_brought_a_part_of_is_own_as_a_whole() {
        let (peers, begun) = (Peers::new(Arc::default()), Instant::now());
        let names = Names::new().tag("t").check().unwrap();
        assert!((4..7).all(|seq| !peers.brought(1, seq, &names, begun)));
        assert_eq!(peers.own(1, 5, 5), HashSet::from([5, 6]));
        assert!((7..10).all(|seq| peers.brought(1, seq, &names, begun)));
        assert!(!peers.brought(1, 10, &names, begun));
        peers.settle(begun + SURE_AFTER);
        assert_eq!(peers.counters.read().get(InvalidationKind::Tag, InvalidationOrigin::Peer), 2, "4 and 10");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let (peers, begun) = (Peers::new(Arc::default()), Instant::now());
        let names = Names::new().tag("t").check().unwrap();
        for seq in 0..3 * REMEMBERED_MAX as u64 {
            peers.own(1, (1 << 30) + seq, 1);
            peers.brought(1, seq, &names, begun);
        }
        let seen = peers.seen.lock();
        assert_eq!((seen.own.len(), seen.brought.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        let counted = peers.counters.read().get(InvalidationKind::Tag, InvalidationOrigin::Peer);
        assert_eq!(counted, 2 * REMEMBERED_MAX as u64, "what there is no room for counts at once");
    }
}
