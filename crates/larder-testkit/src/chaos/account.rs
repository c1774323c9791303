//! The course of a run and what came of it: stretches in which things break, a quiet moment after each, and the check of what
//! was written down. It knows no cache.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::report::{Part, Tally};
use super::{History, Life, Moment, Standing, check};
use crate::history::{Promise, World};

/// Stories of violations that are kept; the others are counted.
const STORIES_MAX: usize = 10;

/// How long a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Until then, and to the end of the stretch that is under way; there is at least one.
    pub length: Duration,
    /// Whether it ends as soon as something was violated.
    pub until_violated: bool,
    /// Whether it says on standard error how it goes.
    pub tells: bool,
}

impl Course {
    /// Plays stretch after stretch. Each is given its number and when to end; it has to be [settled](Account::settle).
    pub fn follow(self, name: &str, account: &mut Account, mut stretch: impl FnMut(&mut Account, u64, Instant)) {
        let began = Instant::now();
        for number in 0.. {
            stretch(account, number, began + self.length);
            let (operations, violations) = (account.part.tally.total(), account.part.violations.len());
            if self.tells {
                eprintln!("{:>5} s  {name}  {operations} operations, {violations} violations", began.elapsed().as_secs());
            }
            if began.elapsed() >= self.length || (self.until_violated && violations > 0) {
                return;
            }
        }
    }
}

/// What a run was so far, and what its next stretch must know of those before.
#[derive(Debug, Default)]
pub struct Account {
    /// What it was.
    pub part: Part,
    past: History,
    /// Up to which ticket queued changes were counted.
    counted: u64,
}

impl Account {
    /// Checks a stretch that ended `now` in a quiet moment, and counts it. Only violations of promises that count are kept; a
    /// change that was queued has to have arrived, unless the life in which it was made is over.
    pub fn settle(
        &mut self,
        world: &World,
        stretch: History,
        now: Moment,
        counts: impl Fn(Promise) -> bool,
        is_alive: impl Fn(Life) -> bool,
    ) {
        let Account { part, past, counted } = self;
        past.join(stretch);
        part.judged += past.judged() as u64;
        for violation in check(world, past).into_iter().filter(|violation| counts(violation.promise)) {
            let story = part.violations.len() < STORIES_MAX;
            part.violations.push(if story { violation.to_string() } else { format!("{:?}", violation.promise) });
        }
        let queued = past.changes.iter().filter(|change| change.standing == Standing::Queued && change.began.ticket > *counted);
        for change in queued {
            let arrived = past.drained.iter().any(|(life, asked, _)| *life == change.life && *asked > change.ended);
            let alive = is_alive(change.life);
            part.queued[0] += 1;
            part.queued[1] += u64::from(arrived);
            part.queued[2] += u64::from(!arrived && !alive);
            if !arrived && alive {
                part.violations.push(format!("Liveness: {} was queued and never arrived", change.what));
            }
        }
        *counted = now.ticket;
        *past = std::mem::take(past).remainder(world.subjects().len());
    }
}

/// What a client returns: what it wrote down, how its operations went, and what must not have been.
pub type Told = (History, Tally, Vec<String>);

/// Waits for the clients and observers of a stretch, and counts what they say.
///
/// # Panics
/// If one of them panicked.
pub fn gather(runtime: &Runtime, part: &mut Part, clients: Vec<JoinHandle<Told>>, observers: Vec<JoinHandle<History>>) -> History {
    let mut history = History::default();
    for client in clients {
        let (own, tally, violations) = runtime.block_on(client).expect("a client that panicked says why");
        history.join(own);
        part.tally.join(tally);
        part.violations.extend(violations);
    }
    for observer in observers {
        history.join(runtime.block_on(observer).expect("an observer does not panic"));
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::Change;

    const LIFE: Life = Life { instance: 0, number: 0 };

    fn at(ticket: u64) -> Moment {
        Moment { ticket, ns: ticket }
    }

    fn queued() -> Change {
        let (standing, what) = (Standing::Queued, "a change".to_owned());
        Change { life: LIFE, began: at(1), ended: at(2), standing, durable: true, subjects: vec![0], floor: vec![0, 0, 1], what }
    }

    fn settled(drained: Vec<(Life, Moment, Moment)>, is_alive: bool) -> Part {
        let mut account = Account::default();
        let world = World::new(&["n"], 1, 1);
        let stretch = History { changes: vec![queued()], drained, ..History::default() };
        account.settle(&world, stretch, at(9), |_| true, |_| is_alive);
        // What the next stretch is handed on is not counted again.
        account.settle(&world, History::default(), at(10), |_| true, |_| is_alive);
        account.part
    }

    #[test]
    fn what_was_queued_arrives_or_dies_with_its_instance() {
        let arrived = settled(vec![(LIFE, at(3), at(4))], true);
        assert_eq!((arrived.queued, arrived.violations.len()), ([1, 1, 0], 0));
        let looked_at_before = settled(vec![(LIFE, at(1), at(4))], true);
        assert_eq!((looked_at_before.queued, looked_at_before.violations.len()), ([1, 0, 0], 1));
        assert!(looked_at_before.violations[0].contains("never arrived"), "{:?}", looked_at_before.violations);
        let died = settled(vec![], false);
        assert_eq!((died.queued, died.violations.len()), ([1, 0, 1], 0));
    }

    #[test]
    fn a_course_has_a_stretch_and_ends_with_what_it_was_to_find() {
        let mut played = 0;
        let course = Course { length: Duration::ZERO, until_violated: false, tells: false };
        course.follow("a test", &mut Account::default(), |_, _, _| played += 1);
        assert_eq!(played, 1);
        let course = Course { length: Duration::from_secs(60), until_violated: true, tells: false };
        course.follow("a test", &mut Account::default(), |account, number, _| {
            if number == 2 {
                account.part.violations.push("found".to_owned());
            }
            played += 1;
        });
        assert_eq!(played, 4);
    }
}
