//! Tells apart what other instances appended from what comes back of this one's own: the stream says only at which position.
//!
//! An own append is known by its answer, which may come before the stream brings it or after. Until then it is taken for a peer's, and
//! taken back.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::invalidations::{InvalidationCounters, InvalidationOrigin};
use crate::name::Name;

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
    /// Those that it brought, and that were not known to be own.
    brought: BTreeSet<u64>,
}

impl Seen {
    fn of(&mut self, generation: u32) -> &mut Self {
        if self.generation != generation {
            *self = Seen { generation, ..Seen::default() };
        }
        self
    }
}

impl Peers {
    pub(super) fn new(counters: Arc<InvalidationCounters>) -> Self {
        Peers { counters, seen: Mutex::default() }
    }

    pub(super) fn counters(&self) -> &InvalidationCounters {
        &self.counters
    }

    /// The stream brought what stands at a position.
    pub(super) fn brought(&self, generation: u32, seq: u64, names: &[Name]) {
        let mut seen = self.seen.lock();
        let seen = seen.of(generation);
        if !seen.own.remove(&seq) {
            remember(&mut seen.brought, seq);
            self.counters.count(names, InvalidationOrigin::Peer);
        }
    }

    /// Own names were appended at a position.
    pub(super) fn own(&self, generation: u32, seq: u64, names: &[Name]) {
        let mut seen = self.seen.lock();
        let seen = seen.of(generation);
        if seen.brought.remove(&seq) {
            self.counters.not_of_a_peer(names);
        } else {
            remember(&mut seen.own, seq);
        }
    }
}

fn remember(positions: &mut BTreeSet<u64>, seq: u64) {
    positions.insert(seq);
    if positions.len() > REMEMBERED_MAX {
        positions.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invalidations::InvalidationKind;
    use crate::name::Names;

    #[test]
    fn what_is_own_is_no_peers_whichever_way_it_is_heard_of_first() {
        let peers = Peers::new(Arc::default());
        let names = Names::new().tag("t").check().unwrap();
        let counted = |peers: &Peers| {
            peers.brought(1, 99, &[]);
            peers.counters.read().get(InvalidationKind::Tag, InvalidationOrigin::Peer)
        };
        peers.own(1, 1, &names);
        peers.brought(1, 1, &names);
        assert_eq!(counted(&peers), 0);
        peers.brought(1, 2, &names);
        peers.own(1, 2, &names);
        peers.brought(1, 3, &names);
        assert_eq!(counted(&peers), 1);
        peers.own(1, 4, &names);
        peers.brought(2, 4, &names);
        assert_eq!(counted(&peers), 2, "another generation's positions are others");
        (0..3 * REMEMBERED_MAX as u64).for_each(|seq| peers.own(3, seq, &names));
        assert_eq!(peers.seen.lock().own.len(), REMEMBERED_MAX);
    }
}
