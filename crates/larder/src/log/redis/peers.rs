//! Tells apart what other instances appended from what comes back of this one's own: the stream says only at which position.
//!
//! An own append is known by its answer, which may come before the stream brings it or after. So what is not known to be own is
//! counted as a peer's only once its answer would have come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::APPEND_TIMEOUT;
use crate::invalidations::{InvalidationCounters, InvalidationOrigin, Kinds, kinds_of};
use crate::name::Name;

/// When an append has long been answered, or given up.
const SURE_AFTER: Duration = APPEND_TIMEOUT.saturating_mul(2);

/// Positions that are remembered on either side: many more than are on their way at any time.
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
    /// Own ones that the stream has not brought.
    own: BTreeSet<u64>,
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
        let is_own = seen.own.remove(&seq);
        if !is_own {
            seen.brought.insert(seq, (now, kinds_of(names)));
            self.count_first_if(&mut seen, |brought, _| brought > REMEMBERED_MAX);
        }
        is_own
    }

    /// Something own was appended at a position. Returns whether the stream brought it before.
    pub(super) fn own(&self, generation: u32, seq: u64) -> bool {
        let mut seen = self.seen.lock();
        self.enter(&mut seen, generation);
        let was_brought = seen.brought.remove(&seq).is_some();
        if !was_brought {
            seen.own.insert(seq);
            if seen.own.len() > REMEMBERED_MAX {
                seen.own.pop_first();
            }
        }
        was_brought
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
        peers.own(1, 1);
        peers.brought(1, 1, &names, begun);
        peers.brought(1, 2, &names, begun);
        peers.brought(1, 3, &names, begun + SURE_AFTER / 2);
        assert_eq!(counted(&peers, begun), 0, "their answers may still come");
        peers.own(1, 2);
        assert_eq!(counted(&peers, begun + SURE_AFTER), 0);
        assert_eq!(counted(&peers, begun + SURE_AFTER * 2), 1);
        peers.own(1, 4);
        peers.brought(2, 4, &names, begun);
        peers.brought(3, 4, &names, begun);
        assert_eq!(counted(&peers, begun), 2, "another generation's positions are others, and those of the last are certain");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let (peers, begun) = (Peers::new(Arc::default()), Instant::now());
        let names = Names::new().tag("t").check().unwrap();
        for seq in 0..3 * REMEMBERED_MAX as u64 {
            peers.own(1, 2 * seq);
            peers.brought(1, 2 * seq + 1, &names, begun);
        }
        let seen = peers.seen.lock();
        assert_eq!((seen.own.len(), seen.brought.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        let counted = peers.counters.read().get(InvalidationKind::Tag, InvalidationOrigin::Peer);
        assert_eq!(counted, 2 * REMEMBERED_MAX as u64, "what there is no room for counts at once");
    }
}
