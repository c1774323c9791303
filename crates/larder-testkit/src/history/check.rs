//! The check of a recorded history. See the head of [`history`](super) for why what it reports is definite.
//!
//! For each subject the changes that cover it stand in two orders: by when they returned, and by position. In both, the
//! floors are summed up from the front, so that a read is judged by one binary search in each.

use std::collections::HashMap;
use std::fmt;

use super::{Change, Found, History, Read, World};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// A read that begins after a change returned never returns older data.
    G1,
    /// A read on an instance that had applied a change never returns older data.
    G2,
    /// In a strict namespace, no read returns what was invalidated longer ago than the limit.
    G3,
    /// A read at a position sees what happened up to there.
    G4,
    /// When all is quiet, no tier serves data older than the last change.
    G5,
    /// An answer reflects every change up to the position it claims.
    Claim,
    /// Positions are handed out once, in the order of the operations.
    Order,
    /// A value was written by somebody, for that key.
    Origin,
    /// Nothing hangs, nothing fails that need not, and everything recovers by itself.
    Liveness,
}

/// One broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What happened, for people.
    pub story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.story)
    }
}

/// Everything in a history that no cache which keeps its promises could have done.
pub fn check(world: &World, history: &History) -> Vec<Violation> {
    let mut violations = out_of_order(&history.changes);
    let puts: HashMap<u64, &Change> = history.changes.iter().map(|change| (change.began, change)).collect();
    let subjects: Vec<Covering> = (0..world.subjects().len()).map(|subject| Covering::of(world, subject, &history.changes)).collect();
    violations.extend(history.reads.iter().filter_map(|read| judge(world, &subjects[read.subject], &puts, read)));
    violations
}

/// Positions against the order in which operations followed one another.
fn out_of_order(changes: &[Change]) -> Vec<Violation> {
    let mut by_beginning: Vec<&Change> = changes.iter().collect();
    by_beginning.sort_by_key(|change| change.began);
    let mut by_end = by_beginning.clone();
    by_end.sort_by_key(|change| change.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<&Change> = None;
    let mut violations = Vec::new();
    for change in by_beginning {
        while let Some(before) = ended.next_if(|before| before.ended < change.began) {
            if highest.is_none_or(|highest| highest.position < before.position) {
                highest = Some(before);
            }
        }
        if let Some(before) = highest.filter(|before| before.position >= change.position) {
            let story = format!("{} got a position that is not above that of {}, which had returned", shown(change), shown(before));
            violations.push(Violation { promise: Promise::Order, story });
        }
    }
    let mut positions: HashMap<u64, &Change> = HashMap::new();
    for change in changes {
        if let Some(other) = positions.insert(change.position, change) {
            let story = format!("{} and {} have one position", shown(change), shown(other));
            violations.push(Violation { promise: Promise::Order, story });
        }
    }
    violations
}

/// The changes that cover one subject.
struct Covering<'a> {
    by_end: Vec<(u64, Summed<'a>)>,
    by_position: Vec<(u64, Summed<'a>)>,
}

/// What a number of changes ask of a value together.
#[derive(Clone)]
struct Summed<'a> {
    /// The highest count of each of the subject's items, and the change that asks for it.
    floor: [(u64, &'a Change); 3],
    /// The change at the highest position.
    last: &'a Change,
}

impl<'a> Covering<'a> {
    fn of(world: &World, subject: usize, changes: &'a [Change]) -> Self {
        let covering: Vec<&Change> = changes.iter().filter(|change| change.subjects.contains(&subject)).collect();
        let items = world.subjects()[subject].items;
        Covering {
            by_end: summed(covering.clone(), items, |change| change.ended),
            by_position: summed(covering, items, |change| change.position),
        }
    }

    /// What all changes that had returned before `moment` ask for.
    fn ended_before(&self, moment: u64) -> Option<&Summed<'a>> {
        let count = self.by_end.partition_point(|(ended, _)| *ended < moment);
        count.checked_sub(1).map(|at| &self.by_end[at].1)
    }

    /// What all changes up to a position ask for.
    fn up_to(&self, position: u64) -> Option<&Summed<'a>> {
        let count = self.by_position.partition_point(|(at, _)| *at <= position);
        count.checked_sub(1).map(|at| &self.by_position[at].1)
    }
}

fn summed<'a>(mut changes: Vec<&'a Change>, items: [usize; 3], order: impl Fn(&Change) -> u64) -> Vec<(u64, Summed<'a>)> {
    changes.sort_by_key(|change| order(change));
    let mut sums: Vec<(u64, Summed<'a>)> = Vec::with_capacity(changes.len());
    for change in changes {
        let own = Summed { floor: items.map(|item| (change.floor[item], change)), last: change };
        let sum = match sums.last() {
            None => own,
            Some((_, before)) => Summed {
                floor: std::array::from_fn(|at| if before.floor[at].0 > own.floor[at].0 { before.floor[at] } else { own.floor[at] }),
                last: if before.last.position > change.position { before.last } else { change },
            },
        };
        sums.push((order(change), sum));
    }
    sums
}

fn judge(world: &World, covering: &Covering<'_>, puts: &HashMap<u64, &Change>, read: &Read) -> Option<Violation> {
    let at_once = if read.quiet { Promise::G5 } else { Promise::G1 };
    let asked = [
        (at_once, covering.ended_before(read.began)),
        (Promise::G4, read.at_least.and_then(|position| covering.up_to(position))),
        (Promise::Claim, read.claims.and_then(|position| covering.up_to(position))),
    ];
    if let Found::Put(began) = read.found
        && !puts.get(&began).is_some_and(|put| put.subjects.contains(&read.subject))
    {
        let story = format!("{} found a value of a put that nobody made there", told(world, read));
        return Some(Violation { promise: Promise::Origin, story });
    }
    let broken = asked.into_iter().filter_map(|(promise, asked)| Some((promise, older_than(asked?, puts, &read.found)?))).next();
    broken.map(|(promise, change)| Violation { promise, story: format!("{}, older than {}", told(world, read), shown(change)) })
}

/// The change that what was found does not reflect.
fn older_than<'a>(asked: &Summed<'a>, puts: &HashMap<u64, &Change>, found: &Found) -> Option<&'a Change> {
    match found {
        Found::Nothing => None,
        Found::Absent { by } => {
            let (floor, change) = asked.floor[0];
            (!(floor..=*by).any(World::is_absent_at)).then_some(change)
        }
        Found::Loaded(counts) => asked.floor.iter().zip(counts).find(|((floor, _), count)| *count < floor).map(|((_, change), _)| *change),
        Found::Put(began) => puts.get(began).filter(|put| put.position < asked.last.position).map(|_| asked.last),
    }
}

fn shown(change: &Change) -> String {
    format!("[{}..{}] {} at position {}", change.began, change.ended, change.what, change.position)
}

fn told(world: &World, read: &Read) -> String {
    let Read { began, ended, what, found, at_least, claims, .. } = read;
    let key = world.subjects()[read.subject].whole_key();
    format!("[{began}..{ended}] {what} of {key} (at least {at_least:?}, claims {claims:?}) returned {found:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subject 0 is made of items 2 (its own), 0 and 1.
    fn world() -> World {
        World::new(&["n"], 1, 1)
    }

    fn change(began: u64, ended: u64, position: u64, floor: [u64; 3]) -> Change {
        let [own, symbol, part] = floor;
        Change { began, ended, position, subjects: vec![0], floor: vec![symbol, part, own], what: "a change".into() }
    }

    fn read(began: u64, found: Found) -> Read {
        Read { began, ended: began + 1, subject: 0, at_least: None, claims: None, quiet: false, found, what: "a read" }
    }

    fn broken(changes: Vec<Change>, reads: Vec<Read>) -> Vec<Promise> {
        check(&world(), &History { changes, reads }).into_iter().map(|violation| violation.promise).collect()
    }

    #[test]
    fn what_was_loaded_before_a_change_that_returned_is_older() {
        let changes = vec![change(1, 3, 1, [1, 0, 0])];
        assert_eq!(broken(changes.clone(), vec![read(4, Found::Loaded(vec![0, 9, 9]))]), [Promise::G1]);
        assert_eq!(broken(changes.clone(), vec![Read { quiet: true, ..read(4, Found::Loaded(vec![0, 9, 9])) }]), [Promise::G5]);
        assert_eq!(broken(changes.clone(), vec![read(4, Found::Loaded(vec![1, 0, 0])), read(4, Found::Nothing)]), []);
        assert_eq!(broken(changes, vec![read(2, Found::Loaded(vec![0, 0, 0]))]), [], "the change had not returned");
    }

    #[test]
    fn an_earlier_change_is_not_forgotten_for_a_later_one() {
        let changes = vec![change(1, 2, 1, [5, 0, 0]), change(3, 4, 2, [0, 5, 0])];
        assert_eq!(broken(changes, vec![read(5, Found::Loaded(vec![4, 5, 0]))]), [Promise::G1]);
    }

    #[test]
    fn a_position_binds_before_the_change_has_returned() {
        let changes = vec![change(1, 9, 1, [1, 0, 0])];
        let old = || read(2, Found::Loaded(vec![0, 0, 0]));
        assert_eq!(broken(changes.clone(), vec![Read { at_least: Some(1), ..old() }]), [Promise::G4]);
        assert_eq!(broken(changes.clone(), vec![Read { claims: Some(1), ..old() }]), [Promise::Claim]);
        assert_eq!(broken(changes, vec![Read { claims: Some(0), at_least: Some(0), ..old() }]), []);
    }

    #[test]
    fn of_two_puts_the_later_position_wins() {
        let changes = vec![change(1, 5, 2, [1, 0, 0]), change(2, 3, 1, [2, 0, 0])];
        assert_eq!(broken(changes.clone(), vec![read(4, Found::Put(2)), read(4, Found::Put(1))]), [], "both are under way or just were");
        assert_eq!(broken(changes.clone(), vec![read(6, Found::Put(1))]), []);
        assert_eq!(broken(changes, vec![read(6, Found::Put(2))]), [Promise::G1]);
        assert_eq!(broken(vec![], vec![read(6, Found::Put(2))]), [Promise::Origin]);
    }

    #[test]
    fn absence_must_have_been_true_since_the_floor() {
        let changes = || vec![change(1, 2, 1, [4, 0, 0])];
        assert_eq!(broken(changes(), vec![read(3, Found::Absent { by: 6 })]), [Promise::G1]);
        assert_eq!(broken(changes(), vec![read(3, Found::Absent { by: 7 })]), []);
    }

    #[test]
    fn positions_follow_the_order_of_operations() {
        assert_eq!(broken(vec![change(1, 2, 5, [0; 3]), change(3, 4, 4, [0; 3])], vec![]), [Promise::Order]);
        assert_eq!(broken(vec![change(1, 4, 5, [0; 3]), change(2, 3, 4, [0; 3])], vec![]), []);
        assert_eq!(broken(vec![change(1, 4, 5, [0; 3]), change(2, 3, 5, [0; 3])], vec![]), [Promise::Order]);
    }
}
