//! The tail of the log (step 2), the snapshot that stands in for it (step 10), and the index's own forgetting.

use super::super::mutation::Mutation;
use super::super::state::{At, Names};
use super::Turn;

impl Turn<'_> {
    /// Step 2: "put the names in the index, *then* raise applied", one half at a time.
    pub(super) fn tail(&mut self, at: At) {
        let first_half = !self.instance(at).tail_half_done;
        let applied_first = self.lacks(Mutation::AppliedBeforeIndex);
        if first_half != applied_first {
            let applied = self.instance(at).applied;
            let position = if applied_first { applied } else { applied + 1 };
            // A mutated step 11 may leave an instance waiting for a position that its log has lost.
            if let Some(entry) = self.state.log.entry(position) {
                self.enter(at, entry.names, position);
            }
        } else {
            self.raise_applied(at);
        }
        self.instance(at).tail_half_done = first_half;
    }

    /// From here on G2 holds for this position.
    fn raise_applied(&mut self, at: At) {
        let position = self.instance(at).applied + 1;
        let entry = self.state.log.entry(position);
        let instance = self.instance(at);
        instance.applied = position;
        if let Some(entry) = entry {
            instance.heard.raise(entry.change);
        }
    }

    /// Names go into the index, and `latest` is never behind it.
    pub(super) fn enter(&mut self, at: At, names: Names, position: u8) {
        let below_floor = self.lacks(Mutation::PairBelowFloor);
        let instance = self.instance(at);
        instance.index.raise(names, position, below_floor);
        instance.latest = instance.latest.max(position);
    }

    /// The bounded index gives up a pair.
    pub(super) fn forget(&mut self, at: At, name: usize) {
        let raise_floor = !self.lacks(Mutation::IndexForgets);
        self.instance(at).index.forget(name, raise_floor);
    }

    /// Step 10: "read one atomic snapshot, then set applied = head". Memory is kept: stamps of the same epoch stay
    /// comparable, and those of another are stale.
    pub(super) fn take_snapshot(&mut self, at: At) {
        let log = self.state.log;
        let instance = self.instance(at);
        instance.epoch = log.epoch;
        instance.run = log.run;
        instance.index = log.table();
        instance.applied = log.head;
        instance.latest = log.head;
        instance.tail_half_done = false;
        instance.heard.raise(log.changes());
    }
}
