//! The index under a scheduler that tries interleavings: one writer, readers that judge and re-stamp, another epoch that
//! is adopted meanwhile. A reader must never find fresh what was invalidated, and published, before it began.

use std::sync::Arc;

use super::*;
use crate::name::Names;

/// More names than a line has pairs, so that names are lost to the floor.
const KEYS: u64 = 9;

/// Schedules of each test.
const SCHEDULES: usize = 3_000;

/// How many points of preemption the scheduler of `check_pct` is to place.
const DEPTH: usize = 3;

fn key(number: u64) -> Vec<u8> {
    format!("k{number}").into_bytes()
}

/// The key that position `seq` of the plan invalidates. Some are invalidated again after they were lost.
fn victim(seq: u64) -> u64 {
    seq * 5 % KEYS
}

/// The order in which the writer does its work.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    RecordThenPublish,
    PublishThenRecord,
}

/// An index of one line.
fn one_line(mutations: Mutations) -> Arc<Index> {
    Arc::new(Index::new(LINE_BYTES, Epoch(7), mutations))
}

fn invalidate(index: &Index, number: u64, seq: u64, order: Order) {
    let names = Names::new().key(key(number)).check().expect("these are keys");
    if order == Order::PublishThenRecord {
        index.publish(seq);
    }
    index.record(&names, seq);
    index.publish(seq);
}

/// An entry as memory has it: what its data reflects, and the stamp that reads raise.
struct Seen {
    number: u64,
    reflects: u64,
    stamp: Stamp,
}

/// A memory hit, as step 3 has it.
fn hit(index: &Index, entry: &mut Seen) -> bool {
    if entry.stamp >= index.latest() {
        return true;
    }
    let applied = index.applied();
    let bytes = key(entry.number);
    if index.judge(Named::of(&bytes, &index.hashes(&bytes, &[])), entry.stamp).is_some() {
        return false;
    }
    entry.stamp = entry.stamp.max(applied);
    true
}

fn readers_beside_a_writer(mutations: Mutations, order: Order) {
    let index = one_line(mutations);
    let filled = KEYS + 2;
    (1..filled).for_each(|seq| invalidate(&index, victim(seq), seq, Order::RecordThenPublish));
    let writer = {
        let index = index.clone();
        shuttle::thread::spawn(move || (filled..filled + 4).for_each(|seq| invalidate(&index, victim(seq), seq, order)))
    };
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let index = index.clone();
            shuttle::thread::spawn(move || {
                // Entries of names that the writer invalidates next, last, and that were lost to the floor before.
                for number in [victim(filled + reader), victim(filled + 3)] {
                    let since = index.latest();
                    let mut entry = Seen { number, reflects: since.seq(), stamp: since };
                    for _ in 0..3 {
                        let published = index.latest().seq();
                        if hit(&index, &mut entry) {
                            let missed = (entry.reflects + 1..=published).find(|seq| victim(*seq) == number);
                            assert_eq!(missed, None, "k{number} of {} was served at {published}", entry.reflects);
                        }
                    }
                }
                // And some that are stale from the start: lost to the floor before, or thrown out of the line meanwhile.
                for seq in [2, 4, 5] {
                    let mut old = Seen { number: victim(seq), reflects: seq - 1, stamp: Stamp::new(1, seq - 1) };
                    assert!(!hit(&index, &mut old), "an invalidation was forgotten");
                }
            })
        })
        .collect();
    writer.join().expect("the writer asserts nothing");
    readers.into_iter().for_each(|reader| reader.join().expect("a failed reader has ended the test"));
}

#[test]
fn no_reader_finds_fresh_what_was_published_as_invalidated_before_it_began() {
    let run = || readers_beside_a_writer(Mutations::default(), Order::RecordThenPublish);
    shuttle::check_random(run, SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, DEPTH);
}

#[test]
#[should_panic(expected = "was served at")]
fn a_writer_that_publishes_first_is_found() {
    shuttle::check_random(|| readers_beside_a_writer(Mutations::default(), Order::PublishThenRecord), SCHEDULES);
}

#[cfg(feature = "test-mutations")]
#[test]
#[should_panic(expected = "was forgotten")]
fn an_index_that_forgets_without_a_floor_is_found() {
    let forgetful = || readers_beside_a_writer(Mutations::only(Mutation::ForgetWithoutFloor), Order::RecordThenPublish);
    shuttle::check_random(forgetful, SCHEDULES);
}

/// Re-stamping to an `applied` that is read after the check covers what the check did not see.
#[test]
#[should_panic(expected = "covers an invalidation")]
fn a_reader_that_restamps_to_what_was_applied_after_its_check_is_found() {
    let run = || {
        let index = one_line(Mutations::default());
        let writer = {
            let index = index.clone();
            shuttle::thread::spawn(move || (1..=2).for_each(|seq| invalidate(&index, 3 - seq, seq, Order::RecordThenPublish)))
        };
        let (bytes, stamp) = (key(1), Stamp::new(1, 0));
        let fresh = index.judge(Named::of(&bytes, &index.hashes(&bytes, &[])), stamp).is_none();
        let late = index.applied();
        writer.join().expect("the writer asserts nothing");
        let restamped = if fresh { stamp.max(late) } else { stamp };
        let still = index.judge(Named::of(&bytes, &index.hashes(&bytes, &[])), restamped);
        assert!(still.is_some(), "the new stamp covers an invalidation that the check did not see");
    };
    // Random schedules rarely let one thread wait for long.
    shuttle::check_pct(run, SCHEDULES, DEPTH);
}

/// While another epoch is adopted, whose table knows nothing of this one, what was invalidated before stays stale.
#[test]
fn adopting_an_epoch_brings_nothing_back() {
    let run = || {
        let index = one_line(Mutations::default());
        invalidate(&index, 1, 1, Order::RecordThenPublish);
        let adopter = {
            let index = index.clone();
            shuttle::thread::spawn(move || index.adopt(&Snapshot::empty(Epoch(8))))
        };
        let readers: Vec<_> = (0..2)
            .map(|number| {
                let index = index.clone();
                shuttle::thread::spawn(move || {
                    // k0 is fresh in the old epoch, k1 is stale in it; in the new one both are stale.
                    for _ in 0..2 {
                        let adopted = index.applied().generation() > 1;
                        let mut entry = Seen { number, reflects: 0, stamp: Stamp::new(1, 0) };
                        let fresh = hit(&index, &mut entry);
                        assert!(!fresh || (number == 0 && !adopted), "k{number} came back with the other epoch");
                        assert_eq!(entry.stamp.generation(), 1, "what is of the old epoch is not re-stamped into the new");
                    }
                })
            })
            .collect();
        adopter.join().expect("the adopter asserts nothing");
        readers.into_iter().for_each(|reader| reader.join().expect("a failed reader has ended the test"));
        let after = index.latest();
        assert_eq!(
            (after, index.applied(), index.epoch()),
            (Stamp::new(3, 0), Stamp::new(3, 0), Epoch(8)),
            "one generation was only for the change"
        );
        invalidate(&index, 0, 1, Order::RecordThenPublish);
        let bytes = key(0);
        assert!(index.judge(Named::of(&bytes, &index.hashes(&bytes, &[])), after).is_some(), "the new epoch's invalidations count");
    };
    shuttle::check_random(run, SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, DEPTH);
}
