//! The pool under a scheduler that tries interleavings: of two writers the later position wins, and the gauges end at
//! what is there.

use std::sync::Arc;

use super::tests::{entry, number_of};
use super::*;
use crate::position::Stamp;

/// Random ones alone: the engine spins on its lock, which the unfair schedules of `check_pct` would let it do for ever.
const SCHEDULES: usize = 4_000;

/// Tries them. A namespace's counters are made on the stack of whoever opens it, and those of the scheduler take many times the room
/// of the processor's.
fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    shuttle::Runner::new(shuttle::scheduler::RandomScheduler::new(SCHEDULES), config).run(run);
}

/// Writers of stamps 1 and 2, one who takes out what it found, and one who makes both leave for want of room.
fn writers(put: fn(&Pool, u64, &Arc<NamespaceMetrics>), evicts: bool) {
    let (pool, metrics) = (Arc::new(Pool::new(64 << 10, Clock::manual(), Arc::default())), Arc::new(NamespaceMetrics::new(true)));
    let mut threads: Vec<_> = [1, 2]
        .into_iter()
        .map(|seq| {
            let (pool, metrics) = (pool.clone(), metrics.clone());
            shuttle::thread::spawn(move || put(&pool, seq, &metrics))
        })
        .collect();
    if evicts {
        let (pool, metrics) = (pool.clone(), metrics.clone());
        threads.push(shuttle::thread::spawn(move || {
            for filler in 0..3 {
                let name = format!("filler{filler}");
                pool.insert(pool.query(name.as_bytes()), entry(1, 30 << 10, &metrics));
            }
        }));
    }
    let remover = {
        let pool = pool.clone();
        shuttle::thread::spawn(move || {
            let query = pool.query(b"k");
            let found = pool.peek(query).filter(|found| found.meta().stamp() == Stamp::new(1, 1));
            found.is_some_and(|found| pool.remove_entry(query, found.as_ref(), Count::Expired))
        })
    };
    threads.into_iter().for_each(|thread| thread.join().expect("a failed writer has ended the test"));
    remover.join().expect("a failed remover has ended the test");
    let last = pool.peek(pool.query(b"k")).map(|slot| number_of(&slot));
    assert!(last == Some(2) || (evicts && last.is_none()), "the older of two writers won: {last:?}");
    let there: Vec<_> = pool.iter().map(|(_, slot)| u64::from(slot.meta().weight)).collect();
    let gauges = (metrics.entries.load(Ordering::Relaxed), metrics.bytes.load(Ordering::Relaxed));
    assert_eq!(gauges, (there.len() as u64, there.iter().sum()), "the gauges are not what is there");
    assert_eq!(gauges, (pool.len() as u64, pool.weight()));
}

fn insert(pool: &Pool, seq: u64, metrics: &Arc<NamespaceMetrics>) {
    pool.insert(pool.query(b"k"), entry(seq, 100, metrics));
}

#[test]
fn the_later_position_wins_and_the_gauges_are_what_is_there() {
    check(|| writers(insert, false));
}

#[test]
fn the_gauges_are_what_is_there_while_others_make_room() {
    check(|| writers(insert, true));
}

#[test]
#[should_panic(expected = "the older of two writers won")]
fn a_writer_that_makes_way_for_itself_is_found() {
    let carelessly = |pool: &Pool, seq: u64, metrics: &Arc<NamespaceMetrics>| {
        let query = pool.query(b"k");
        if seq == 1 {
            // Random schedules are even ones; this makes the older writer come late in some of them.
            (0..20).for_each(|_| drop(pool.peek(query)));
        }
        pool.remove(query, Count::Replaced);
        insert(pool, seq, metrics);
    };
    check(move || writers(carelessly, false));
}
