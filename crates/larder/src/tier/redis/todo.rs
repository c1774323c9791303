//! What is to be done to a key, where several writes of it wait: one that does what they would do one after the other.

use std::sync::Arc;

use crate::position::{Epoch, Position, SEQ_MAX};
use crate::record::Record;
use crate::tier::Action;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Todo {
    action: Action,
    /// For a record that is stored: what is in place does not count up to here, since it is removed before.
    upto: Option<Position>,
}

impl Todo {
    pub(super) fn of(action: &Action) -> Self {
        Todo { action: action.clone(), upto: None }
    }

    /// This, and then another.
    pub(super) fn then(&self, next: &Action) -> Self {
        match (&self.action, next) {
            (Action::Store(first), Action::Store(record)) if first.outranks(record) => self.clone(),
            (_, Action::Store(record)) => {
                let own = Position { epoch: record.epoch, seq: record.seq };
                let removed = match self.action {
                    Action::Store(_) => self.upto,
                    Action::RemoveUpTo(position) => Some(position),
                    Action::Remove => Some(Position { seq: SEQ_MAX, ..own }),
                };
                // A removal up to less than its own stamp leaves nothing that the record would not replace.
                let upto = removed.filter(|upto| upto.epoch == own.epoch && upto.seq > own.seq);
                Todo { action: next.clone(), upto }
            }
            (Action::Store(record), Action::RemoveUpTo(position)) if record.is_past(*position) => self.clone(),
            // What was removed whatever it is need not be compared.
            (Action::Remove, Action::RemoveUpTo(_)) => self.clone(),
            (_, Action::RemoveUpTo(position)) => {
                let before = match &self.action {
                    Action::RemoveUpTo(before) => Some(*before),
                    _ => self.upto,
                };
                let further = before.filter(|before| before.epoch == position.epoch && before.seq > position.seq);
                Todo::of(&Action::RemoveUpTo(further.unwrap_or(*position)))
            }
            (_, Action::Remove) => Todo::of(next),
        }
    }

    pub(super) fn record(&self) -> Option<&Arc<Record>> {
        match &self.action {
            Action::Store(record) => Some(record),
            Action::Remove | Action::RemoveUpTo(_) => None,
        }
    }

    pub(super) fn action(&self) -> &Action {
        &self.action
    }

    pub(super) fn upto(&self) -> Option<Position> {
        self.upto
    }

    /// The epoch in which it was decided.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match &self.action {
            Action::Store(record) => Some(record.epoch),
            Action::RemoveUpTo(position) => Some(position.epoch),
            Action::Remove => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record(epoch: u64, seq: u64, value: u8) -> Record {
        Record {
            epoch: Epoch(epoch),
            seq,
            created_at: 0,
            fresh_until: 0,
            expires_at: 0,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            load_cost_us: 0,
            fingerprint: u128::from(value),
            codec: 0,
            compression: 0,
            negative: false,
            raw_len: 0,
            held: Default::default(),
            tags: Default::default(),
            media: None,
            origin: None,
            payload: Bytes::new(),
        }
    }

    /// What a store does, one write after the other.
    fn done(place: Option<Record>, todo: &Todo) -> Option<Record> {
        match (&todo.action, place) {
            (Action::Remove, _) => None,
            (Action::RemoveUpTo(position), Some(there)) if there.is_past(*position) => Some(there),
            (Action::RemoveUpTo(_), _) => None,
            (Action::Store(record), Some(there)) => {
                let is_kept = todo.upto.map_or_else(|| there.outranks(record), |upto| there.is_past(upto));
                Some(if is_kept { there } else { (**record).clone() })
            }
            (Action::Store(record), None) => Some((**record).clone()),
        }
    }

    fn any_action() -> impl Strategy<Value = Action> {
        let position = || (1u64..3, 1u64..6).prop_map(|(epoch, seq)| Position { epoch: Epoch(epoch), seq });
        prop_oneof![
            4 => (position(), any::<u8>()).prop_map(|(at, value)| Action::Store(Arc::new(record(at.epoch.0, at.seq, value)))),
            2 => position().prop_map(Action::RemoveUpTo),
            1 => Just(Action::Remove),
        ]
    }

    proptest! {
        /// In one epoch: of two nobody can tell which is newer, and only what is of the one in force is sent.
        #[test]
        fn one_that_stands_for_several_does_what_they_do(
            place in proptest::option::of((1u64..6, any::<u8>())),
            actions in proptest::collection::vec(any_action(), 1..6),
        ) {
            let of_one = |action: &Action| match action {
                Action::Store(record) => record.epoch.0 == 1,
                Action::RemoveUpTo(position) => position.epoch.0 == 1,
                Action::Remove => true,
            };
            let actions: Vec<Action> = actions.into_iter().filter(of_one).collect();
            let Some((first, others)) = actions.split_first() else { return Ok(()) };
            let place = place.map(|(seq, value)| record(1, seq, value));
            let one_by_one = actions.iter().fold(place.clone(), |place, action| done(place, &Todo::of(action)));
            let together = others.iter().fold(Todo::of(first), |todo, action| todo.then(action));
            prop_assert_eq!(done(place, &together), one_by_one, "{:?}", together);
        }
    }
}
