//! What the protocol promises, as checks: three on every answer of a read, one on every state at rest.
//!
//! G3 (bounded staleness) is about the clock and is not modelled: there is no time here.

use std::fmt;

use super::op::Need;
use super::scenario::Scenario;
use super::state::{At, Key, State, Versions};

/// A promise of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Promise {
    /// On one instance, a read that begins after a write returned never returns older data.
    G1,
    /// On any instance, a read that begins after it applied a position never returns data older than its change.
    G2,
    /// A read at a position never returns data older than its change.
    G4,
    /// When all is quiet, no instance and no tier serves data older than the last change announced.
    G5,
}

impl Promise {
    /// All that the model checks.
    pub const ALL: [Promise; 4] = [Promise::G1, Promise::G2, Promise::G4, Promise::G5];
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where data that breaks a promise was served from, or would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// It was a read's answer.
    Answer,
    /// The instance's memory would serve it.
    FromMemory,
    /// The instance would take it from the backing tier.
    FromTier,
}

/// A promise, and how it was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which promise.
    pub promise: Promise,
    /// On which instance.
    pub at: At,
    /// Under which key.
    pub key: Key,
    /// What was served.
    pub data: Versions,
    /// What may not be missing from it.
    pub need: Versions,
    /// Where it was served from.
    pub served: Served,
}

/// Checks a read's answer against what it may not miss.
pub fn check_answer(at: At, key: Key, data: Versions, need: Need) -> impl Iterator<Item = Broken> {
    let measures = [(Promise::G1, need.returned), (Promise::G2, need.heard), (Promise::G4, need.asked)];
    measures.into_iter().filter(move |(_, need)| data.lacks(*need)).map(move |(promise, need)| Broken {
        promise,
        at,
        key,
        data,
        need,
        served: Served::Answer,
    })
}

/// Checks a state in which nothing is in flight and every tail has caught up. In any other state there is nothing
/// to check.
///
/// The measure is the last change *announced*: a writer that dies between its change and its append is outside of what
/// the protocol promises.
pub fn check_rest(scenario: &Scenario, state: &State) -> Option<Broken> {
    if !at_rest(scenario, state) {
        return None;
    }
    for at in scenario.each_instance() {
        for key in scenario.each_key() {
            if let Some(broken) = check_key_at_rest(scenario, state, at, key) {
                return Some(broken);
            }
        }
    }
    None
}

fn at_rest(scenario: &Scenario, state: &State) -> bool {
    let caught_up = |at: At| {
        let instance = &state.instances[usize::from(at)];
        instance.run == state.log.run && instance.applied >= state.log.head && !instance.tail_half_done
    };
    state.ops.iter().all(Option::is_none) && scenario.each_instance().all(caught_up)
}

fn check_key_at_rest(scenario: &Scenario, state: &State, at: At, key: Key) -> Option<Broken> {
    let instance = &state.instances[usize::from(at)];
    let names = scenario.names_of(key);
    let need = state.announced.of(names);
    let places = [(Served::FromMemory, instance.memory[usize::from(key)]), (Served::FromTier, state.tier[usize::from(key)])];
    places.into_iter().find_map(|(served, record)| {
        let record = record?;
        let stale = instance.judges_fresh(names, record.stamp) && record.data.lacks(need);
        stale.then_some(Broken { promise: Promise::G5, at, key, data: record.data, need, served })
    })
}

#[cfg(test)]
mod tests {
    use super::super::op::Op;
    use super::super::scenario::{Plan, What};
    use super::super::state::{Names, Record, Stamp};
    use super::*;

    fn versions(k: u8) -> Versions {
        let mut versions = Versions::default();
        (0..k).for_each(|_| versions.bump(Names::K));
        versions
    }

    fn promises(data: Versions, need: Need) -> Vec<Promise> {
        check_answer(0, 0, data, need).map(|broken| broken.promise).collect()
    }

    #[test]
    fn a_planted_answer_breaks_exactly_the_promise_it_is_older_than() {
        let (old, new) = (versions(1), versions(2));
        assert_eq!(promises(old, Need { returned: new, ..Need::default() }), [Promise::G1]);
        assert_eq!(promises(old, Need { heard: new, ..Need::default() }), [Promise::G2]);
        assert_eq!(promises(old, Need { asked: new, ..Need::default() }), [Promise::G4]);
        assert_eq!(promises(new, Need { returned: new, heard: new, asked: new }), []);
    }

    #[test]
    fn a_planted_record_breaks_g5_only_at_rest_and_only_where_it_would_be_served() {
        let scenario = Scenario::new("canary", &[Plan::once(What::Read(0))]);
        let old = Record { stamp: Stamp::default(), data: versions(1) };
        let mut state = State { announced: versions(2), ..scenario.start() };
        state.tier[0] = Some(old);
        assert_eq!(check_rest(&scenario, &state).map(|broken| broken.served), Some(Served::FromTier));

        state.instances[0].memory[0] = Some(old);
        assert_eq!(check_rest(&scenario, &state).map(|broken| broken.served), Some(Served::FromMemory));

        let mut busy = state;
        busy.ops[0] = Some((0, Op::Store { key: 0, record: old, memory_first: false }));
        assert_eq!(check_rest(&scenario, &busy), None, "an operation is still in flight");

        state.instances[0].index.raise(Names::K, 1, false);
        assert_eq!(check_rest(&scenario, &state), None, "the index knows that both are stale");
    }
}
