//! Every rule that a running instance keeps, taken away from all instances: a run must see it. One that stays silent checks
//! nothing.

use std::time::Duration;

use larder::Mutation;
use larder_testkit::chaos::Fault;
use larder_testkit::chaos::site::Topology;
use larder_testkit::redis::or_skip;

use super::run::{Plan, play};

/// How long a fault may take to be found. Most take one stretch, of two seconds or two strikes; what depends on where a line of the table
/// falls takes some ten seconds in the middle, and once in a few hundred runs a minute.
const LENGTH: Duration = Duration::from_secs(240);

/// What must happen for a rule to matter. A new rule without an answer does not compile.
fn faults_for(mutation: Mutation) -> &'static [Fault] {
    match mutation {
        Mutation::HitUnchecked | Mutation::StampAfterLoad | Mutation::JoinersDoNotCheck | Mutation::OwnAppendsLate => &[],
        Mutation::UpdateWithoutCheck | Mutation::UpdateStampLate | Mutation::RestampAfterCheck => &[],
        Mutation::ForgetWithoutFloor | Mutation::TailBeforeIndex => &[],
        Mutation::GuardByOwnIndex => &[],
        // So that instances begin with a checkpoint, not with what they had.
        Mutation::CheckpointLate => &[Fault::InstanceKilled, Fault::HeldLong],
        Mutation::EpochNotAdopted | Mutation::LossUnnoticed => &[Fault::Flushed, Fault::KilledLosing, Fault::LogKeyDeleted],
        Mutation::PublishBeforeRecord | Mutation::PositionsUsedAgain => {
            unreachable!("only a log of one process has this rule; tests/mutations takes it away")
        }
        Mutation::IndexUnasked => unreachable!("it breaks nothing; tests/shared/checkpoints.rs has the log answer with it"),
        Mutation::EventsForgotten => unreachable!("no rule of freshness; tests/sources takes it away"),
        Mutation::FinishUnfenced => unreachable!("no rule of freshness; tests/shared/election.rs takes it away"),
        Mutation::ChangeWithoutGuard => unreachable!("no rule of freshness; tests/shared/change.rs takes it away"),
        Mutation::RestoreStampsAnew | Mutation::HoldsUnasked => unreachable!("no rule of reads; tests/backup takes it away"),
    }
}

fn is_caught(mutation: Mutation) {
    let seed = super::seed();
    println!("LARDER_SEED={seed}");
    let plan = Plan {
        topology: Topology::Single,
        seed,
        clients: 16,
        pause: Duration::from_millis(4),
        length: LENGTH,
        faults: faults_for(mutation).to_vec(),
        mutation: Some(mutation),
        tells: false,
    };
    let Some(part) = or_skip(play(&plan)) else { return };
    let operations = part.tally.total();
    let Some(violation) = part.violations.iter().find(|violation| !violation.starts_with("Liveness")) else {
        panic!("LARDER_SEED={seed}: {mutation:?} was not caught within {operations} operations: {:?}", part.violations);
    };
    println!("{mutation:?}: caught within {operations} operations: {violation}");
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
fn a_restamp_to_what_came_after_the_check() {
    is_caught(Mutation::RestampAfterCheck);
}

#[test]
fn a_tail_that_is_ahead_of_the_index() {
    is_caught(Mutation::TailBeforeIndex);
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
fn an_index_that_forgets() {
    is_caught(Mutation::ForgetWithoutFloor);
}

#[test]
fn an_epoch_that_is_not_adopted() {
    is_caught(Mutation::EpochNotAdopted);
}

#[test]
fn a_loss_that_nobody_notices() {
    is_caught(Mutation::LossUnnoticed);
}

#[test]
fn a_checkpoint_that_claims_more_than_it_has() {
    is_caught(Mutation::CheckpointLate);
}

#[test]
fn a_guard_that_only_asks_an_index_that_lags() {
    is_caught(Mutation::GuardByOwnIndex);
}
