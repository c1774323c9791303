//! Writes: append (step 1), put (step 7), update (step 8), invalidate (step 9).

use super::super::mutation::Mutation;
use super::super::op::{Op, WriteStage};
use super::super::state::{Appended, At, Key, Names, Receipt, Record, Stamp, Versions};
use super::Turn;

impl Turn<'_> {
    /// Step 9: "the caller changes the source first".
    pub(super) fn begin_invalidation(&mut self, names: Names) -> Op {
        self.state.source.bump(names);
        let stage = WriteStage::Changed { since: None, data: self.state.source.of(names) };
        Op::Write { names, value_of: None, stage }
    }

    /// Step 8: "s0 := latest", before anything else.
    pub(super) fn begin_update(&mut self, at: At, key: Key) -> Op {
        let stage = if self.lacks(Mutation::UpdateMarkAfterChange) {
            WriteStage::Unmarked(self.change(key))
        } else {
            WriteStage::Marked(self.instance(at).latest())
        };
        Op::Write { names: Names::of_key(key), value_of: Some(key), stage }
    }

    /// Step 7: "append the key -> p". The value of a put has no source behind it: what the log puts last is the truth,
    /// so the truth changes in the same step. A put *beside* a writer of the source is not promised anything.
    pub(super) fn begin_put(&mut self, at: At, key: Key) -> Op {
        let names = Names::of_key(key);
        let data = self.change(key);
        if self.lacks(Mutation::BarePut) {
            return Op::Write { names, value_of: Some(key), stage: WriteStage::Changed { since: None, data } };
        }
        let receipt = self.append(at, names, data);
        Op::Write { names, value_of: Some(key), stage: WriteStage::Appended { receipt, store: Some(data) } }
    }

    pub(super) fn advance_write(&mut self, at: At, names: Names, value_of: Option<Key>, stage: WriteStage) -> Option<Op> {
        let next = match stage {
            // Step 8: "run change (it changes the source and returns the value)".
            WriteStage::Marked(since) => {
                let key = value_of.expect("only an update takes s0");
                WriteStage::Changed { since: Some(since), data: self.change(key) }
            }
            WriteStage::Unmarked(data) => {
                let late = self.instance(at).latest();
                WriteStage::Changed { since: Some(late), data }
            }
            // Step 1, and for an update the question of step 8 in the same breath.
            WriteStage::Changed { since, data } => {
                let store = match (value_of, since) {
                    (Some(key), Some(since)) => self.nobody_wrote_since(at, key, since).then_some(data),
                    // Only a bare put comes here with a value and nothing to ask about it.
                    (Some(_), None) => Some(data),
                    (None, _) => None,
                };
                WriteStage::Appended { receipt: self.append(at, names, data), store }
            }
            WriteStage::Appended { receipt, store } => {
                self.return_from_write(at, names, receipt);
                let (key, data) = (value_of?, store?);
                let record = Record { stamp: receipt.stamp, data };
                return Some(Op::Store { key, record, memory_first: true });
            }
        };
        Some(Op::Write { names, value_of, stage: next })
    }

    /// Changes the source under the key. Returns the value: all that an entry of the key depends on, as it is now.
    fn change(&mut self, key: Key) -> Versions {
        self.state.source.bump(Names::of_key(key));
        self.state.source.of(self.config.scenario.names_of(key))
    }

    /// Step 8: "if any name of the entry was invalidated in (s0, p) by someone else, do not store the value". Asked of
    /// the log's table, just before the own append goes in.
    fn nobody_wrote_since(&mut self, at: At, key: Key, since: Stamp) -> bool {
        let names = self.config.scenario.names_of(key);
        if self.lacks(Mutation::UpdateUnchecked) {
            return true;
        }
        if self.lacks(Mutation::UpdateAsksOwnIndex) {
            return self.instance(at).judges_fresh(names, since);
        }
        since.epoch == self.state.log.epoch && self.state.log.table().last_of(names) <= since.position
    }

    fn append(&mut self, at: At, names: Names, source: Versions) -> Receipt {
        let change = source.of(names);
        self.state.announced.raise(change);
        let position = self.state.log.append(Appended { names, change });
        // A connected instance is in the log's epoch. Only one that the mutated step 11 left behind is not, and it labels
        // what it gets with the epoch it believes in.
        Receipt { stamp: Stamp { epoch: self.instance(at).epoch, position }, change }
    }

    /// Step 1: "put them in the own index, raise latest, return". From here on G1 holds for this write. A receipt of an
    /// epoch that has ended is not put anywhere: its position means nothing in the index of another.
    fn return_from_write(&mut self, at: At, names: Names, receipt: Receipt) {
        let same_epoch = receipt.stamp.epoch == self.instance(at).epoch;
        let indexed = same_epoch || self.lacks(Mutation::ReceiptOutlivesEpoch);
        if indexed && !self.lacks(Mutation::OwnAppendsNotIndexed) {
            self.enter(at, names, receipt.stamp.position);
        }
        self.instance(at).returned.raise(receipt.change);
        if self.config.scenario.hands_over_receipts() {
            self.state.receipt = Some(receipt);
        }
    }

    /// The value goes into memory, then into the backing tier: apart from the append, and unconditionally.
    pub(super) fn advance_store(&mut self, at: At, key: Key, record: Record, memory_first: bool) -> Option<Op> {
        if memory_first {
            self.store_in_memory(at, key, record);
            let tiered = self.config.scenario.has_backing_tier();
            return tiered.then_some(Op::Store { key, record, memory_first: false });
        }
        self.state.tier[usize::from(key)] = Some(record);
        None
    }
}
