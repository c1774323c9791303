//! Flights under a scheduler that tries interleavings: one leader at a time, nobody waits for ever (the scheduler reports
//! a deadlock), and whoever finds no flight finds the value.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::atomic::AtomicUsize;

use super::*;
use crate::sync::Ordering;

const SCHEDULES: usize = 3_000;
const DEPTH: usize = 3;
const KEY: &[u8] = b"k";

/// What a leader does with its lease.
#[derive(Clone, Copy, PartialEq)]
enum Leader {
    /// The value into memory, then the end of the flight: the order that the head of the file asks for.
    StoreThenEnd,
    /// The broken order.
    EndThenStore,
    /// The loader panics, or its runtime is shut down.
    Loses,
    /// The caller stops waiting before the load began.
    GivesUp,
}

/// Memory and the flights, as a read sees them.
struct Scene {
    fills: Arc<Fills<u32>>,
    stored: AtomicUsize,
    leading: AtomicUsize,
    loads: AtomicUsize,
}

impl Scene {
    fn new() -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Scene { fills: Arc::new(Fills::new()), stored: zero(), leading: zero(), loads: zero() })
    }

    /// A read with a loader, as `read.rs` has it: memory, then join or lead, then memory again for a leader.
    /// Returns whether it got the value.
    fn read(&self, leader: Leader) -> bool {
        loop {
            if self.stored.load(Ordering::Acquire) == 1 {
                return true;
            }
            match self.fills.join_or_lead(KEY) {
                Part::Join(flight) => match block_on(flight.landing()) {
                    Some(landed) => return landed.is_ok(),
                    None => continue,
                },
                Part::Lead(lease) => return self.lead(lease, leader),
            }
        }
    }

    fn lead(&self, lease: Lease<u32>, leader: Leader) -> bool {
        assert_eq!(self.leading.fetch_add(1, Ordering::AcqRel), 0, "two lead at once");
        let there = self.stored.load(Ordering::Acquire) == 1;
        let landed = Ok(Landed { entry: None, stamp: Stamp(1), source: if there { Source::Memory } else { Source::Loader } });
        let loads = there || matches!(leader, Leader::StoreThenEnd | Leader::EndThenStore);
        if loads && !there {
            assert_eq!(self.loads.fetch_add(1, Ordering::AcqRel), 0, "what was loaded is loaded again");
        }
        if loads && leader != Leader::EndThenStore {
            self.stored.store(1, Ordering::Release);
        }
        self.leading.fetch_sub(1, Ordering::AcqRel);
        match leader {
            _ if there => lease.end(landed),
            Leader::StoreThenEnd => lease.end(landed),
            Leader::EndThenStore => {
                lease.end(landed);
                self.stored.store(1, Ordering::Release);
            }
            Leader::Loses => drop(lease),
            Leader::GivesUp => lease.give_up(),
        }
        loads
    }
}

fn readers(leaders: [Leader; 3]) {
    let scene = Scene::new();
    let readers = leaders.map(|leader| {
        let scene = scene.clone();
        shuttle::thread::spawn(move || scene.read(leader))
    });
    let got = readers.map(|reader| reader.join().expect("a failed reader has ended the test"));
    for (leader, got) in leaders.into_iter().zip(got) {
        // Whoever loads itself has the value, unless it joined a load that was lost.
        let may_go_without = leaders.contains(&Leader::Loses) || leader == Leader::GivesUp;
        assert!(got || may_go_without, "a reader was left without an answer");
    }
    assert_eq!(scene.fills.len(), 0, "a flight was left behind");
}

fn check(leaders: [Leader; 3]) {
    shuttle::check_random(move || readers(leaders), SCHEDULES);
    shuttle::check_pct(move || readers(leaders), SCHEDULES, DEPTH);
}

#[test]
fn of_readers_that_come_at_once_one_loads_and_all_are_answered() {
    check([Leader::StoreThenEnd; 3]);
}

#[test]
fn a_lost_lease_wakes_all_who_wait() {
    check([Leader::StoreThenEnd, Leader::Loses, Leader::StoreThenEnd]);
}

#[test]
fn a_flight_that_is_given_up_fails_nobody_else() {
    check([Leader::GivesUp, Leader::StoreThenEnd, Leader::GivesUp]);
}

#[test]
#[should_panic(expected = "loaded again")]
fn a_leader_that_ends_its_flight_before_it_stores_is_found() {
    shuttle::check_random(|| readers([Leader::EndThenStore; 3]), SCHEDULES);
}
