//! Reads: the memory hit (step 3), the backing tier (step 4), the load (step 5), the joiners (step 6).

use super::super::mutation::Mutation;
use super::super::op::{FlightStage, Held, Need, Op, Origin, ReadStage};
use super::super::state::{At, Key, Record, Stamp, Versions};
use super::Turn;

/// What a flight is, whatever its stage: its key, what its leader may not miss, and whether it may be joined.
type Lead = (Key, Need, bool);

impl Turn<'_> {
    /// A read begins, and looks in memory. What it may not miss is what was promised at this moment.
    pub(super) fn begin_read(&mut self, at: At, key: Key, asked: Versions) -> Option<Op> {
        let need = self.need(at, key, asked);
        let held = self.instance(at).memory[usize::from(key)];
        let Some(record) = held else {
            return Some(self.join_or_lead(at, key, need));
        };
        let latest = self.instance(at).latest();
        // Step 3: "if stamp >= latest, fresh".
        let beyond_doubt = record.stamp.epoch == latest.epoch && record.stamp.position >= latest.position;
        if beyond_doubt || self.lacks(Mutation::MemoryUnchecked) {
            self.answer(at, key, need, record.data);
            return None;
        }
        if record.stamp.epoch != latest.epoch {
            return Some(self.join_or_lead(at, key, need));
        }
        Some(Op::Read { key, need, stage: ReadStage::Held(Held { record, in_place: true }) })
    }

    /// G4: "waits for the tail to reach p, or bypasses memory". A read that waits is one that begins later. The
    /// bypass goes past the backing tier too, and shares no load: this instance cannot judge either, because its index
    /// does not yet know p.
    pub(super) fn begin_read_at_least(&mut self, at: At, key: Key) -> Option<Op> {
        let receipt = self.state.receipt.expect("enabled only after a write has returned");
        let applied = self.instance(at).applied();
        let reached = applied.epoch == receipt.stamp.epoch && applied.position >= receipt.stamp.position;
        if reached || self.lacks(Mutation::AtLeastIgnored) {
            return self.begin_read(at, key, receipt.change);
        }
        let need = self.need(at, key, receipt.change);
        if self.lacks(Mutation::AtLeastSkipsMemoryOnly) {
            return Some(self.join_or_lead(at, key, need));
        }
        Some(Op::Flight { key, need, shared: false, stage: FlightStage::BeforeSource })
    }

    pub(super) fn advance_read(&mut self, at: At, key: Key, need: Need, stage: ReadStage) -> Option<Op> {
        let re_stamp_from = if self.lacks(Mutation::RestampToLatest) { self.instance(at).latest() } else { self.instance(at).applied() };
        let measured_late = self.lacks(Mutation::RestampAppliedAfterCheck);
        let next = match stage {
            // Step 3: "a := applied first ..."
            ReadStage::Held(held) if !measured_late => ReadStage::Measured(held, re_stamp_from),
            // Step 3: "... then check the names".
            ReadStage::Held(held) | ReadStage::Measured(held, _) => {
                if !self.judge(at, key, held.record.stamp) {
                    return Some(self.join_or_lead(at, key, need));
                }
                let mark = if let ReadStage::Measured(_, mark) = stage { Some(mark) } else { None };
                ReadStage::Clean(held, mark)
            }
            ReadStage::Clean(held, None) => ReadStage::Clean(held, Some(re_stamp_from)),
            // Step 3: "if fresh, raise the stamp of that same entry object to max(stamp, a)".
            ReadStage::Clean(held, Some(mark)) => {
                self.re_stamp(at, key, held, mark);
                self.answer(at, key, need, held.record.data);
                return None;
            }
            ReadStage::Joined(_) => unreachable!("a joiner is advanced by the load it waits for"),
        };
        Some(Op::Read { key, need, stage: next })
    }

    fn re_stamp(&mut self, at: At, key: Key, held: Held, mark: Stamp) {
        let whatever = self.lacks(Mutation::RestampWhateverIsThere);
        if let Some(entry) = &mut self.instance(at).memory[usize::from(key)]
            && (held.in_place || whatever)
        {
            entry.stamp.raise(mark);
        }
    }

    /// Step 6: share the load in flight, if there is one; else lead one, which asks the backing tier first.
    fn join_or_lead(&mut self, at: At, key: Key, need: Need) -> Op {
        let theirs =
            |place: &Option<(At, Op)>| matches!(place, Some((a, Op::Flight { key: k, shared: true, .. })) if *a == at && *k == key);
        if self.state.ops.iter().any(theirs) {
            let arrival = self.instance(at).latest();
            return Op::Read { key, need, stage: ReadStage::Joined(arrival) };
        }
        let tiered = self.config.scenario.has_backing_tier();
        let stage = if tiered { FlightStage::BeforeTier } else { FlightStage::BeforeSource };
        Op::Flight { key, need, shared: true, stage }
    }

    pub(super) fn advance_flight(&mut self, slot: usize, at: At, lead: Lead, stage: FlightStage) {
        let key = lead.0;
        let applied = self.instance(at).applied();
        let latest = self.instance(at).latest();
        let source = self.state.source.of(self.config.scenario.names_of(key));
        let next = match stage {
            // Step 4: "h := applied before the read".
            FlightStage::BeforeTier => FlightStage::AskTier(applied),
            FlightStage::AskTier(mark) => match self.state.tier[usize::from(key)] {
                Some(record) if record.stamp.epoch == applied.epoch => FlightStage::TierFound(mark, record),
                _ => FlightStage::BeforeSource,
            },
            // Step 4: "check the record's names against the index with the record's own stamp".
            FlightStage::TierFound(_, record) if !self.judge(at, key, record.stamp) => FlightStage::BeforeSource,
            FlightStage::TierFound(_, record) if self.lacks(Mutation::TierMarkAfterCheck) => FlightStage::TierClean(record),
            FlightStage::TierFound(mark, record) => FlightStage::Ready(self.raised(record, mark), Origin::Tier),
            FlightStage::TierClean(record) => FlightStage::Ready(self.raised(record, applied), Origin::Tier),
            // Step 5: "s := latest before the loader runs".
            FlightStage::BeforeSource if self.lacks(Mutation::StampAfterSource) => FlightStage::Unstamped(source),
            FlightStage::BeforeSource => FlightStage::AskSource(latest),
            FlightStage::AskSource(stamp) => FlightStage::Ready(Record { stamp, data: source }, Origin::Source),
            FlightStage::Unstamped(data) => FlightStage::Ready(Record { stamp: latest, data }, Origin::Source),
            FlightStage::Ready(record, origin) => return self.land(slot, at, lead, record, origin),
        };
        let (key, need, shared) = lead;
        self.state.ops[slot] = Some((at, Op::Flight { key, need, shared, stage: next }));
    }

    /// The load is over: its value goes into memory, the leader answers, and every joiner answers or loads again. The
    /// backing tier is written afterwards (step 5: "in both tiers stamped s").
    fn land(&mut self, slot: usize, at: At, lead: Lead, record: Record, origin: Origin) {
        let (key, need, shared) = lead;
        self.store_in_memory(at, key, record);
        self.answer(at, key, need, record.data);
        let behind = origin == Origin::Source && self.config.scenario.has_backing_tier();
        // The slot is given up before the joiners move: one that loads again must not join the load that is over.
        self.state.ops[slot] = behind.then_some((at, Op::Store { key, record, memory_first: false }));
        if shared {
            self.answer_joiners(at, key, record);
        }
    }

    fn answer_joiners(&mut self, at: At, key: Key, record: Record) {
        let joined = self.state.ops.map(|place| match place {
            Some((a, Op::Read { key: k, need, stage: ReadStage::Joined(arrival) })) if (a, k) == (at, key) => Some((need, arrival)),
            _ => None,
        });
        let (content, again): (Vec<_>, Vec<_>) = joined
            .iter()
            .enumerate()
            .filter_map(|(slot, waiting)| waiting.map(|(need, arrival)| (slot, need, arrival)))
            .partition(|(_, _, arrival)| self.joiner_may_take(at, key, record.stamp, *arrival));
        for (slot, need, _) in content {
            self.state.ops[slot] = None;
            self.answer(at, key, need, record.data);
        }
        for (slot, need, _) in again {
            let op = self.join_or_lead(at, key, need);
            self.state.ops[slot] = Some((at, op));
        }
    }

    /// Step 6: "no name of the result was invalidated in (s, latest at its own arrival]". The index knows only the last
    /// position of a name. If that lies past the arrival there may still be another within, so any position past s
    /// sends a joiner back, unless the window is empty.
    fn joiner_may_take(&self, at: At, key: Key, stamp: Stamp, arrival: Stamp) -> bool {
        let window_is_empty = arrival.epoch == stamp.epoch && arrival.position <= stamp.position;
        if window_is_empty || self.lacks(Mutation::JoinersUnchecked) {
            return true;
        }
        if self.lacks(Mutation::JoinersAskLastOnly) && arrival.epoch == stamp.epoch {
            let index = &self.state.instances[usize::from(at)].index;
            let last = index.last_of(self.config.scenario.names_of(key));
            return last <= stamp.position || last > arrival.position;
        }
        self.judge(at, key, stamp)
    }

    fn judge(&self, at: At, key: Key, stamp: Stamp) -> bool {
        self.state.instances[usize::from(at)].judges_fresh(self.config.scenario.names_of(key), stamp)
    }

    /// Whatever was in place is replaced, whatever its stamp: an older value put over a newer one is stale by its own
    /// stamp, which costs a miss and no more.
    pub(super) fn store_in_memory(&mut self, at: At, key: Key, record: Record) {
        self.instance(at).memory[usize::from(key)] = Some(record);
        for (place, op) in self.state.ops.iter_mut().flatten() {
            let Op::Read { key: theirs, stage, .. } = op else { continue };
            if (*place, *theirs) != (at, key) {
                continue;
            }
            if let ReadStage::Held(held) | ReadStage::Measured(held, _) | ReadStage::Clean(held, _) = stage {
                held.in_place = false;
            }
        }
    }

    fn need(&mut self, at: At, key: Key, asked: Versions) -> Need {
        let names = self.config.scenario.names_of(key);
        let instance = self.instance(at);
        Need { returned: instance.returned.of(names), heard: instance.heard.of(names), asked: asked.of(names) }
    }

    /// Step 4: "stamped max(h, record stamp)". An `h` of another epoch says nothing about this record.
    fn raised(&self, mut record: Record, mut mark: Stamp) -> Record {
        if self.lacks(Mutation::MarkOutlivesEpoch) {
            mark.epoch = record.stamp.epoch;
        }
        record.stamp.raise(mark);
        record
    }
}
