//! The check is seen to find what it must, and nothing else.

use super::*;

const HERE: Life = Life { instance: 0, number: 0 };
const THERE: Life = Life { instance: 1, number: 0 };

/// Subject 0 is made of items 2 (its own), 0 and 1.
fn world() -> World {
    World::new(&["n"], 1, 1)
}

fn at(ticket: u64) -> Moment {
    Moment { ticket, ns: ticket * 1_000_000 }
}

fn place(epoch: u64, number: u64) -> Place {
    Place { epoch, number }
}

/// A change of the own item, made there.
fn change(began: u64, ended: u64, standing: Standing) -> Change {
    let floor = vec![0, 0, 1];
    Change { life: THERE, began: at(began), ended: at(ended), standing, durable: true, subjects: vec![0], floor, what: "a change".into() }
}

/// A read here that found what was there before the change.
fn old(began: u64) -> Read {
    let found = Found::Loaded(vec![0, 0, 0]);
    let (began, ended) = (at(began), at(began + 1));
    Read { life: HERE, began, ended, subject: 0, at_least: None, claims: None, strict: None, quiet: false, found, what: "a read" }
}

fn broken(history: &History) -> Vec<Promise> {
    check(&world(), history).into_iter().map(|violation| violation.promise).collect()
}

fn with(changes: Vec<Change>, read: Read) -> History {
    History { changes, reads: vec![read], ..History::default() }
}

#[test]
fn a_change_elsewhere_binds_only_where_a_promise_says_so() {
    let logged = || vec![change(1, 2, Standing::Logged(place(9, 5)))];
    assert_eq!(broken(&with(logged(), old(3))), [], "nobody was told");
    assert_eq!(broken(&with(logged(), Read { life: THERE, ..old(3) })), [Promise::G1]);
    assert_eq!(broken(&with(logged(), Read { at_least: Some(place(9, 5)), ..old(3) })), [Promise::G4]);
    assert_eq!(broken(&with(logged(), Read { at_least: Some(place(9, 4)), ..old(3) })), []);
    assert_eq!(broken(&with(logged(), Read { claims: Some(place(9, 6)), ..old(3) })), [Promise::Claim]);
    assert_eq!(broken(&with(logged(), Read { quiet: true, ..old(3) })), [Promise::G5]);
    assert_eq!(broken(&with(logged(), Read { strict: Some(10_000_000), ..old(13) })), [Promise::G3]);
    assert_eq!(broken(&with(logged(), Read { strict: Some(10_000_000), ..old(12) })), [], "not longer ago than the limit");
    let applied = |ticket, number| History { applied: vec![(HERE, ticket, place(9, number))], ..with(logged(), old(5)) };
    assert_eq!(broken(&applied(4, 5)), [Promise::G2]);
    assert_eq!(broken(&applied(4, 4)), [], "not yet");
    assert_eq!(broken(&applied(6, 5)), [], "after the read began");
    let born = |ticket| History { born: [(HERE, at(ticket))].into(), ..with(logged(), old(9)) };
    assert_eq!((broken(&born(3)), broken(&born(1))), (vec![Promise::G2], vec![]));
}

#[test]
fn what_is_queued_binds_others_once_it_was_seen_to_arrive() {
    let history = |drained: Vec<(Life, Moment, Moment)>| History {
        drained,
        ..with(vec![change(1, 2, Standing::Queued)], Read { quiet: true, ..old(9) })
    };
    assert_eq!(broken(&history(vec![])), []);
    assert_eq!(broken(&history(vec![(THERE, at(1), at(3))])), [], "the queue was looked at before");
    assert_eq!(broken(&history(vec![(THERE, at(3), at(4))])), [Promise::G5]);
    assert_eq!(broken(&history(vec![(HERE, at(3), at(4))])), [], "that was another's");
    let own = with(vec![change(1, 2, Standing::Queued)], Read { life: THERE, ..old(3) });
    assert_eq!(broken(&own), [Promise::G1], "here it takes effect at once");
    assert_eq!(broken(&with(vec![change(1, 2, Standing::Failed)], Read { quiet: true, ..old(9) })), []);
}

#[test]
fn an_epoch_that_was_over_counts_for_one_that_came_later() {
    let history = |durable| {
        let first = Change { durable, ..change(1, 2, Standing::Logged(place(8, 70))) };
        let second = Change { floor: vec![0, 0, 0], ..change(3, 4, Standing::Logged(place(9, 1))) };
        History { applied: vec![(HERE, 5, place(9, 1))], ..with(vec![first, second], old(6)) }
    };
    assert_eq!(broken(&history(true)), [Promise::G2]);
    assert_eq!(broken(&history(false)), [], "it may have been lost in between");
}

#[test]
fn a_put_is_older_than_what_came_after_it() {
    let found = |put: Change, changed: Change| {
        let began = put.began.ticket;
        broken(&with(vec![put, changed], Read { quiet: true, found: Found::Put(began), ..old(9) }))
    };
    let logged = |began, ended, number| change(began, ended, Standing::Logged(place(9, number)));
    assert_eq!(found(logged(1, 2, 1), logged(3, 4, 2)), [Promise::G5]);
    assert_eq!(found(logged(1, 5, 2), logged(3, 4, 1)), [], "the later position wins");
    assert_eq!(found(change(1, 5, Standing::Queued), logged(3, 4, 1)), [], "both were under way");
    assert_eq!(found(change(1, 2, Standing::Failed), logged(3, 4, 1)), [], "it may come late");
    let nobody = with(vec![], Read { found: Found::Put(1), ..old(9) });
    assert_eq!(broken(&nobody), [Promise::Origin]);
}

#[test]
fn positions_follow_the_order_of_operations_within_an_epoch() {
    let order = |first: Change, second: Change| broken(&History { changes: vec![first, second], ..History::default() });
    let logged = |began, ended, epoch, number| change(began, ended, Standing::Logged(place(epoch, number)));
    assert_eq!(order(logged(1, 2, 9, 5), logged(3, 4, 9, 4)), [Promise::Order]);
    assert_eq!(order(logged(1, 2, 9, 5), logged(3, 4, 8, 4)), []);
    assert_eq!(order(logged(1, 4, 9, 5), logged(2, 3, 9, 4)), []);
    assert_eq!(order(logged(1, 4, 9, 5), logged(2, 3, 9, 5)), [Promise::Order]);
}

/// Of a master that was deposed, and whose last changes nobody must have, an epoch is over when the next one begins.
#[test]
fn what_a_deposed_master_still_takes_does_not_make_its_epoch_the_later_one() {
    let history = |late_is_durable: bool, asked: Place| {
        let harmless = |began, ended, standing| Change { floor: vec![0, 0, 0], ..change(began, ended, standing) };
        let first = harmless(1, 2, Standing::Logged(place(8, 1)));
        let second = change(3, 4, Standing::Logged(place(9, 1)));
        let late = Change { durable: late_is_durable, ..harmless(5, 6, Standing::Logged(place(8, 2))) };
        with(vec![first, second, late], Read { at_least: Some(asked), ..old(7) })
    };
    assert_eq!(broken(&history(false, place(8, 2))), [], "the change of epoch 9 is not one of before it");
    assert_eq!(broken(&history(true, place(8, 2))), [Promise::G4], "a log that goes back to an epoch is no log");
    assert_eq!(broken(&history(false, place(9, 1))), [Promise::G4]);
}

#[test]
fn a_read_need_not_know_the_future() {
    let later = change(7, 8, Standing::Logged(place(8, 70)));
    let after = Change { floor: vec![0, 0, 0], ..change(9, 10, Standing::Logged(place(9, 1))) };
    assert_eq!(broken(&with(vec![later, after], Read { at_least: Some(place(9, 0)), ..old(3) })), []);
}
