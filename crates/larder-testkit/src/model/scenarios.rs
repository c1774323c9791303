//! The scenarios: those that the protocol must survive, each in two sizes, and for each mutation the one that shows it.

use super::mutation::Mutation;
use super::scenario::What::{Crash, FailOver, FallBehind, Forget, Invalidate, Put, Read, ReadAtLeast, Update};
use super::scenario::{Plan, Scenario, What};
use super::state::{Key, Names};

/// How much of a scenario is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// All of them together in seconds: part of every test run.
    Quick,
    /// All of them together in minutes: for `cargo xtask model`.
    Large,
}

const K: Key = 0;
const L: Key = 1;

const READ_K: What = Read(K);
const READ_L: What = Read(L);
const READ_K_AT_LEAST: What = ReadAtLeast(K);
const UPDATE_K: What = Update(K);
const PUT_K: What = Put(K);
const INVALIDATE_K: What = Invalidate(Names::K);
const INVALIDATE_L: What = Invalidate(Names::L);
const INVALIDATE_T: What = Invalidate(Names::T);

const fn once(what: What) -> Plan {
    Plan::once(what)
}

const fn twice(what: What) -> Plan {
    Plan::times(2, what)
}

const fn times(times: u8, what: What) -> Plan {
    Plan::times(times, what)
}

/// What the whole protocol must survive without a violation. The names are the same in both sizes.
pub fn scenarios(size: Size) -> Vec<Scenario> {
    match size {
        Size::Quick => quick(),
        Size::Large => large(),
    }
}

#[rustfmt::skip]
fn quick() -> Vec<Scenario> {
    vec![
        Scenario::new("joiners", &[times(3, READ_K), twice(INVALIDATE_K)]),
        Scenario::new("update", &[twice(READ_K), once(UPDATE_K), once(INVALIDATE_K)]),
        Scenario::new("update-update", &[once(READ_K), twice(UPDATE_K)]).instances(2),
        Scenario::new("key-update-crash", &[once(READ_K), once(UPDATE_K), once(INVALIDATE_K), once(Crash)]).instances(2),
        Scenario::new("tag-update-crash", &[once(READ_K), once(UPDATE_K), once(INVALIDATE_T), once(Crash)]).tagged(K).instances(2),
        Scenario::new("put-put", &[once(READ_K), twice(PUT_K)]).instances(2),
        Scenario::new("two-keys", &[times(3, READ_K), once(INVALIDATE_K), once(INVALIDATE_L)]),
        Scenario::new("shared-tag", &[once(READ_K), once(READ_L), once(INVALIDATE_K), once(INVALIDATE_T)]).tagged(K).tagged(L),
        Scenario::new("three-instances", &[once(READ_K), twice(INVALIDATE_K)]).instances(3),
        Scenario::new("forgetting", &[twice(READ_K), twice(INVALIDATE_K), once(Forget)]),
        Scenario::new("fall-behind", &[once(READ_K), twice(INVALIDATE_K), once(FallBehind)]).instances(2),
        Scenario::new("at-least", &[twice(READ_K), once(READ_K_AT_LEAST), once(INVALIDATE_K)]).instances(2),
        Scenario::new("failover", &[once(READ_K), twice(INVALIDATE_K), once(FailOver)]).instances(2),
        Scenario::new("failover-crash", &[twice(READ_K), once(INVALIDATE_K), once(FailOver), once(Crash)]).instances(2),
        Scenario::new("two-failovers", &[once(READ_K), twice(INVALIDATE_K), twice(FailOver)]).instances(2).memory_only(),
    ]
}

#[rustfmt::skip]
fn large() -> Vec<Scenario> {
    vec![
        Scenario::new("joiners", &[times(4, READ_K), twice(INVALIDATE_K)]),
        Scenario::new("update", &[times(3, READ_K), once(UPDATE_K), once(INVALIDATE_K)]),
        Scenario::new("update-update", &[twice(READ_K), twice(UPDATE_K)]).instances(2),
        Scenario::new("key-update-crash", &[twice(READ_K), once(UPDATE_K), once(INVALIDATE_K), once(Crash)]).instances(2),
        Scenario::new("tag-update-crash", &[twice(READ_K), once(UPDATE_K), once(INVALIDATE_T), once(Crash)]).tagged(K).instances(2),
        Scenario::new("put-put", &[twice(READ_K), twice(PUT_K)]).instances(2),
        Scenario::new("two-keys", &[times(3, READ_K), once(INVALIDATE_K), once(INVALIDATE_L)]).instances(2).memory_only(),
        Scenario::new("shared-tag", &[twice(READ_K), once(READ_L), once(INVALIDATE_K), once(INVALIDATE_T)]).tagged(K).tagged(L),
        Scenario::new("three-instances", &[once(READ_K), once(UPDATE_K), once(INVALIDATE_K)]).instances(3),
        Scenario::new("forgetting", &[twice(READ_K), twice(INVALIDATE_K), once(Forget)]).instances(2),
        Scenario::new("fall-behind", &[twice(READ_K), twice(INVALIDATE_K), once(FallBehind)]).instances(2),
        Scenario::new("at-least", &[once(READ_K), once(READ_K_AT_LEAST), once(UPDATE_K), once(INVALIDATE_K)]).instances(2),
        Scenario::new("failover", &[once(READ_K), once(UPDATE_K), once(INVALIDATE_K), once(FailOver)]).instances(2),
        Scenario::new("failover-crash", &[once(READ_K), once(UPDATE_K), once(INVALIDATE_K), once(FailOver), once(Crash)]).instances(2),
        Scenario::new("two-failovers", &[twice(READ_K), twice(INVALIDATE_K), twice(FailOver)]).instances(2).memory_only(),
    ]
}

/// A small scenario in which the protocol without this breaks a promise.
#[rustfmt::skip]
pub fn broken_by(mutation: Mutation) -> Scenario {
    use Mutation::*;
    let name = mutation.row().name;
    match mutation {
        StampAfterSource | JoinersUnchecked | OwnAppendsNotIndexed | MemoryUnchecked =>
            Scenario::new(name, &[twice(READ_K), once(INVALIDATE_K)]).memory_only(),
        JoinersAskLastOnly =>
            Scenario::new(name, &[twice(READ_K), twice(INVALIDATE_K)]).memory_only(),
        // The second key is what raises `latest`, so that the entry under the first is looked at twice.
        RestampToLatest | RestampAppliedAfterCheck =>
            Scenario::new(name, &[times(3, READ_K), once(INVALIDATE_K), once(INVALIDATE_L)]).memory_only(),
        RestampWhateverIsThere =>
            Scenario::new(name, &[times(3, READ_K), once(UPDATE_K), once(INVALIDATE_L)]).memory_only(),
        AppliedBeforeIndex =>
            Scenario::new(name, &[twice(READ_K), once(INVALIDATE_K)]).instances(2).memory_only(),
        TierMarkAfterCheck =>
            Scenario::new(name, &[times(3, READ_K), once(INVALIDATE_K)]).instances(2),
        UpdateUnchecked | UpdateMarkAfterChange =>
            Scenario::new(name, &[once(READ_K), twice(UPDATE_K)]).memory_only(),
        UpdateAsksOwnIndex =>
            Scenario::new(name, &[once(READ_K), twice(UPDATE_K)]).instances(2).memory_only(),
        BarePut =>
            Scenario::new(name, &[once(READ_K), twice(PUT_K)]).memory_only(),
        IndexForgets =>
            Scenario::new(name, &[twice(READ_K), once(INVALIDATE_K), once(Forget)]).memory_only(),
        PairBelowFloor =>
            Scenario::new(name, &[twice(READ_K), twice(INVALIDATE_K), once(Forget)]).memory_only(),
        PositionsReused | LateDetectorKeepsEpoch =>
            Scenario::new(name, &[twice(READ_K), twice(INVALIDATE_K), once(FailOver)]).instances(2).memory_only(),
        ReceiptOutlivesEpoch =>
            Scenario::new(name, &[twice(READ_K), times(3, INVALIDATE_K), once(FailOver)]).memory_only(),
        // The read at a lost position loads without asking the tier: that puts a record of the new epoch there.
        MarkOutlivesEpoch =>
            Scenario::new(name, &[once(READ_K), once(READ_K_AT_LEAST), twice(INVALIDATE_K), once(FailOver)]),
        StarterTrustsTheLog =>
            Scenario::new(name, &[once(READ_K), once(INVALIDATE_K), once(FailOver), once(Crash)]),
        AtLeastIgnored | AtLeastSkipsMemoryOnly =>
            Scenario::new(name, &[once(READ_K), once(READ_K_AT_LEAST), once(INVALIDATE_K)]).instances(2),
    }
}
