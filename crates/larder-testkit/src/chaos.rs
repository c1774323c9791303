//! Several instances of a cache over one Redis, in a world that breaks: what goes wrong, and whether the promises held.
//!
//! It knows no cache. Whoever drives one writes down what its instances did and saw ([`History`]), lets a [`Mischief`] break
//! things by a seeded schedule, and has the history [checked](check()).
//!
//! # What binds a read
//!
//! As in [`history`](crate::history) only definite violations are reported, and the age of a value is seen from the value
//! alone. What is new is that there is no common order of what happens on two instances, but where a promise makes one. A
//! read on an instance must reflect a change
//!
//! - **G1** that had returned on this instance before the read began, whether the log has it or it was queued;
//! - **G2** at a position which the instance was seen to have applied before the read began, and what the log had before the
//!   instance was even started;
//! - **G3** that was in the log for longer than the limit when the read began, if the namespace is strict;
//! - **G4** at a position that the read was told to see; and the answer must reflect what it *claims* to;
//! - **G5** that was in the log at all, once everything is quiet.
//!
//! A change that failed binds nobody. One that was queued is in the log, at the latest, when its instance was seen with an
//! empty queue afterwards; if the instance was killed before that, it binds nobody else.
//!
//! # Epochs
//!
//! Positions of two epochs are not ordered, but the epochs are: they never come back. Where a change of the one had returned
//! before a change of the other began, all of the first came before all of the second. What was appended to a master that
//! was deposed is an exception, so it counts in its own epoch only, unless replicas had it (see [`Change::durable`]).

pub mod account;
pub mod aim;
mod chronicle;
pub mod fault;
mod judge;
pub mod report;
pub mod site;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

pub use chronicle::Chronicle;
pub use fault::{Fault, Fleet, Mischief};
pub use judge::check;

use crate::history::Found;

/// One life of one instance: after it was killed it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    /// Which instance.
    pub instance: usize,
    /// Which of its lives.
    pub number: u64,
}

/// A position, as whoever knows no cache has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The epoch.
    pub epoch: u64,
    /// The number within it.
    pub number: u64,
}

/// Why a text is not a [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position is written as a hexadecimal number, a dash and a number")
    }
}

impl std::error::Error for NoPlace {}

/// Reads what caches write: `6f1c0a52b7d3e984-1742`.
impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (epoch, number) = text.split_once('-').ok_or(NoPlace)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| NoPlace)?;
        Ok(Place { epoch, number: number.parse().map_err(|_| NoPlace)? })
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log has it, at this position.
    Logged(Place),
    /// It took effect on its instance, and waits to be appended.
    Queued,
    /// It failed: it may have taken effect or not.
    Failed,
}

/// A moment, by the clock of the history and by the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// A ticket: unique, and in the order of what threads see of each other.
    pub ticket: u64,
    /// Nanoseconds since the run began.
    pub ns: u64,
}

/// Something that makes older data of some keys stale.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it was made.
    pub life: Life,
    /// When it began. The ticket is also the name of what a put wrote.
    pub began: Moment,
    /// When it returned.
    pub ended: Moment,
    /// What became of it.
    pub standing: Standing,
    /// Whether it cannot be lost by a failover, if it is in the log.
    pub durable: bool,
    /// The numbers of the subjects it covers.
    pub subjects: Vec<usize>,
    /// The world's counters before the append began.
    pub floor: Vec<u64>,
    /// What it was, for people.
    pub what: String,
}

/// What one read of one key returned.
#[derive(Clone, Debug)]
pub struct Read {
    /// Where it was made.
    pub life: Life,
    /// When it began.
    pub began: Moment,
    /// When it returned.
    pub ended: Moment,
    /// The number of the subject that was read.
    pub subject: usize,
    /// The position it was told to see.
    pub at_least: Option<Place>,
    /// The position that the answer claims to reflect.
    pub claims: Option<Place>,
    /// The limit in nanoseconds, in a strict namespace.
    pub strict: Option<u64>,
    /// Whether nothing else was going on.
    pub quiet: bool,
    /// What it found.
    pub found: Found,
    /// What kind of read it was, for people.
    pub what: &'static str,
}

/// What the instances did, in one stretch between two quiet moments.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The changes.
    pub changes: Vec<Change>,
    /// The reads.
    pub reads: Vec<Read>,
    /// An instance was seen to have applied a position, at this ticket.
    pub applied: Vec<(Life, u64, Place)>,
    /// An instance was seen with nothing queued: it was asked after the first moment, and had answered at the second.
    pub drained: Vec<(Life, Moment, Moment)>,
    /// When lives began that did in this stretch.
    pub born: HashMap<Life, Moment>,
    /// What was broken when, for people.
    pub faults: Vec<(Moment, String)>,
}

impl History {
    /// Takes in another client's part.
    pub fn join(&mut self, other: History) {
        self.changes.extend(other.changes);
        self.reads.extend(other.reads);
        self.applied.extend(other.applied);
        self.drained.extend(other.drained);
        self.born.extend(other.born);
        self.faults.extend(other.faults);
    }

    /// How many reads found something that could be judged.
    pub fn judged(&self) -> usize {
        self.reads.iter().filter(|read| read.found != Found::Nothing).count()
    }

    /// What the next stretch must know of this one, after a quiet moment: for each subject, what wrote the values that may still
    /// be around, and the last that is asked of them.
    pub fn remainder(self, subjects: usize) -> History {
        let mut kept: Vec<Change> = Vec::new();
        let mut by_end = self.changes;
        by_end.sort_by_key(|change| change.ended);
        let mut covered = vec![0usize; subjects];
        for change in by_end.into_iter().rev() {
            // The floors only grow, so the last few of a subject ask for all that the others do; a put is known by itself.
            if change.subjects.iter().any(|subject| covered[*subject] < KEPT_PER_SUBJECT) {
                change.subjects.iter().for_each(|subject| covered[*subject] += 1);
                kept.push(change);
            }
        }
        let mut drained: HashMap<Life, (Moment, Moment)> = HashMap::new();
        for (life, asked, answered) in self.drained {
            let last = drained.entry(life).or_insert((asked, answered));
            *last = (asked, answered).max(*last);
        }
        let drained = drained.into_iter().map(|(life, (asked, answered))| (life, asked, answered)).collect();
        History { changes: kept, drained, born: self.born, ..History::default() }
    }
}

/// Changes of a subject that a stretch hands on to the next.
const KEPT_PER_SUBJECT: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_caches_write_it() {
        assert_eq!("6f1c0a52b7d3e984-1742".parse(), Ok(Place { epoch: 0x6f1c_0a52_b7d3_e984, number: 1742 }));
        for text in ["", "7", "-7", "ab-", "xy-7", "ab-7-00"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}
