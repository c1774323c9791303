//! Every rule of the protocol that an instance keeps, taken away: the checker that finds nothing wrong with larder must
//! find something wrong without the rule. A checker that stays silent checks nothing.
//!
//! Most rules are missed by the mixed workload itself. Where it would take too long, a scenario is staged for the rule;
//! the same checker judges it. Each scenario is played with the rule in force as well, and then nothing may be found.

#[path = "history/driver.rs"]
mod driver;
#[path = "mutations/staged.rs"]
mod staged;

use std::sync::Arc;

use driver::{Plan, play, seeds};
use larder::Mutation;
use larder_testkit::history::{History, Promise, World, check};

/// The most seeds that a fault may take to be found. Those that are met between the turns of tasks take one; the two that are met
/// between two instructions of threads take about ten, of 50 ms each.
const SEEDS_MAX: u64 = 400;

/// Plays a seed, with a rule taken away or with none.
type Scenario = fn(u64, Option<Mutation>) -> (Arc<World>, History);

/// What shows that a rule is missing. A new rule without a scenario does not compile.
fn scenario_for(mutation: Mutation) -> Scenario {
    match mutation {
        Mutation::TailBeforeIndex
        | Mutation::EpochNotAdopted
        | Mutation::LossUnnoticed
        | Mutation::CheckpointLate
        | Mutation::GuardByOwnIndex
        | Mutation::IndexUnasked => {
            unreachable!("a log of one process has no such rule; tests/chaos takes it away where several share one")
        }
        Mutation::EventsForgotten => unreachable!("no rule of freshness; tests/sources takes it away"),
        Mutation::FinishUnfenced => unreachable!("no rule of freshness; tests/shared/election.rs takes it away"),
        Mutation::ChangeWithoutGuard => unreachable!("no rule of freshness; tests/shared/change.rs takes it away"),
        Mutation::RestoreStampsAnew | Mutation::HoldsUnasked => unreachable!("no rule of reads; tests/backup takes it away"),
        Mutation::HitUnchecked | Mutation::StampAfterLoad | Mutation::JoinersDoNotCheck | Mutation::OwnAppendsLate => mixed,
        Mutation::UpdateWithoutCheck | Mutation::UpdateStampLate => mixed,
        Mutation::RestampAfterCheck | Mutation::PublishBeforeRecord => staged::race,
        Mutation::ForgetWithoutFloor => staged::crowd,
        Mutation::PositionsUsedAgain => staged::reopen,
    }
}

/// Plays a scenario with a rule taken away until the checker complains that a read was given older data.
fn is_caught(mutation: Mutation) {
    let scenario = scenario_for(mutation);
    let mut operations = 0;
    for seed in seeds(1)[0]..seeds(1)[0] + SEEDS_MAX {
        let (world, history) = scenario(seed, Some(mutation));
        operations += history.changes.len() + history.reads.len();
        // Only what a reader was given counts: that positions are out of order is a symptom, not the harm.
        if let Some(violation) = check(&world, &history).into_iter().find(|violation| violation.promise != Promise::Order) {
            println!("{mutation:?}: caught with seed {seed} after {operations} operations: {violation}");
            let (world, history) = scenario(seed, None);
            let violations = check(&world, &history);
            assert!(violations.is_empty(), "{mutation:?} is off, and yet (LARDER_SEED={seed}): {}", violations[0]);
            return;
        }
    }
    panic!("{mutation:?} was not caught within {operations} operations");
}

/// The mixed workload, where tasks take turns as the seed says.
fn mixed(seed: u64, mutation: Option<Mutation>) -> (Arc<World>, History) {
    play(&Plan { seed, clients: 8, operations: 4_000, workers: None, disk: false, mutation })
}

#[test]
fn a_hit_that_does_not_check_the_names() {
    is_caught(Mutation::HitUnchecked);
}

#[test]
fn a_stamp_taken_after_the_load() {
    is_caught(Mutation::StampAfterLoad);
}

#[test]
fn joiners_that_do_not_check() {
    is_caught(Mutation::JoinersDoNotCheck);
}

#[test]
fn own_appends_that_come_late() {
    is_caught(Mutation::OwnAppendsLate);
}

#[test]
fn an_update_that_does_not_ask_the_log() {
    is_caught(Mutation::UpdateWithoutCheck);
}

#[test]
fn an_update_stamped_after_its_change() {
    is_caught(Mutation::UpdateStampLate);
}

#[test]
fn a_restamp_to_what_came_after_the_check() {
    is_caught(Mutation::RestampAfterCheck);
}

#[test]
fn a_position_published_before_its_names() {
    is_caught(Mutation::PublishBeforeRecord);
}

#[test]
fn an_index_that_forgets() {
    is_caught(Mutation::ForgetWithoutFloor);
}

#[test]
fn positions_handed_out_again() {
    is_caught(Mutation::PositionsUsedAgain);
}
