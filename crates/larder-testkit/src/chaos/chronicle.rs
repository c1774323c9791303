//! What is written down of a run beside what its clients do: the time, which lives begin, and what is broken when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{History, Life, Moment};
use crate::history::Ticket;

/// See the head of this file.
#[derive(Debug)]
pub struct Chronicle {
    ticket: Ticket,
    began: Instant,
    /// How many lives there were.
    lives: AtomicU64,
    notes: Mutex<History>,
}

impl Chronicle {
    /// The run begins now.
    pub fn begin() -> Self {
        Chronicle { ticket: Ticket::default(), began: Instant::now(), lives: AtomicU64::new(0), notes: Mutex::default() }
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        Moment { ticket: self.ticket.take(), ns: self.began.elapsed().as_nanos() as u64 }
    }

    /// A life of an instance begins: before it can know anything, so this comes before it is started.
    pub fn begin_life(&self, instance: usize) -> Life {
        let (number, born) = (self.lives.fetch_add(1, Ordering::Relaxed), self.now());
        let life = Life { instance, number };
        self.notes().born.insert(life, born);
        life
    }

    /// Something was broken or mended.
    pub fn note(&self, what: String) {
        let now = self.now();
        self.notes().faults.push((now, what));
    }

    /// What was noted since this was last called.
    pub fn take_notes(&self) -> History {
        std::mem::take(&mut *self.notes())
    }

    /// A note that a thread which then panicked has made is still one.
    fn notes(&self) -> MutexGuard<'_, History> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
