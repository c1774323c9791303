//! Recorded histories: what concurrent clients of a cache did and saw, and whether the cache kept its promises.
//!
//! Clients only write down; the [check](check()) judges afterwards, when everything is known. It knows no cache: a history is
//! made of changes, reads, and one clock of [`Ticket`]s that orders where each began and ended. Whoever drives a cache
//! turns its operations into these.
//!
//! # Why only definite violations are reported
//!
//! The [`World`] is the source: a counter for each item, which only grows. A loaded value carries the counters that its
//! loader read, so how old it is can be seen from the value alone, and no guess about interleavings is needed:
//!
//! - A change remembers the counters as they were *before* its append began (its `floor`). Whatever is loaded after the
//!   append reads counters at least as high. So a read that began after the change had returned and found a lower one
//!   was given data older than the change: there is no order of events in which that is right.
//! - A change that had not returned when a read began binds it only where the read was told to see it: by its
//!   `at_least` (G4), or by the position that the answer itself claims to reflect.
//! - The value of a *put* says nothing about the source: two writers may bump a counter in one order and put in the
//!   other, and what they read of other items may be old by the time they put. Such a value is therefore known by the
//!   put that wrote it, and its age is that put's position in the log, as its receipt says: the later position wins
//!   everywhere. A read that began after a later change of the key had returned must not find it. While two puts are
//!   both under way either may be seen.
//! - Finding nothing is never wrong. Finding "there is no such thing" is wrong if the source has said otherwise at
//!   every moment since the floor.
//! - An operation that failed binds nobody, since it may have taken effect or not.
//!
//! Positions come from the cache under test, so they are checked as well: each is handed out once, and an append that
//! began after another had returned has the higher one.

mod check;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

pub use check::{Promise, Violation, check};
pub use world::{Selection, Subject, World};

/// The clock of a history: every beginning and every end of an operation takes one number.
#[derive(Debug, Default)]
pub struct Ticket(AtomicU64);

impl Ticket {
    /// The next number. Sequentially consistent, so that numbers agree with what threads see of each other.
    pub fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Something that makes older data of some keys stale: an invalidation, a removal, a put, an update.
#[derive(Clone, Debug)]
pub struct Change {
    /// When it began. Unique, so it is also the name of what a put wrote.
    pub began: u64,
    /// When it returned.
    pub ended: u64,
    /// Its position in the log.
    pub position: u64,
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
    /// When it began.
    pub began: u64,
    /// When it returned.
    pub ended: u64,
    /// The number of the subject that was read.
    pub subject: usize,
    /// The position it was told to see.
    pub at_least: Option<u64>,
    /// The position that the answer claims to reflect.
    pub claims: Option<u64>,
    /// Whether nothing else was going on: promise G5 is at stake, not G1.
    pub quiet: bool,
    /// What it found.
    pub found: Found,
    /// What kind of read it was, for people.
    pub what: &'static str,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// "There is no such thing"; the subject's own counter stood here when the read returned.
    Absent {
        /// The counter.
        by: u64,
    },
    /// A value that a loader or an update made of these counters of the subject's items.
    Loaded(Vec<u64>),
    /// A value that the put which began here wrote.
    Put(u64),
}

/// What one client did, in its order; of several clients, when they are joined.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The changes that returned without an error.
    pub changes: Vec<Change>,
    /// The reads.
    pub reads: Vec<Read>,
}

impl History {
    /// Takes in another client's part.
    pub fn join(&mut self, other: History) {
        self.changes.extend(other.changes);
        self.reads.extend(other.reads);
    }

    /// How many reads found something that could be judged.
    pub fn judged(&self) -> usize {
        self.reads.iter().filter(|read| read.found != Found::Nothing).count()
    }
}
