//! A long piece of work as those see it who wait for it: how far it is, and that it may be told to stop.
//!
//! One side works and calls [`Progress::at`] after each small step; the other side reads [`Progress::now`] or calls
//! [`Progress::cancel`]. Nothing is pushed, so work never waits for somebody who looks on, and a slow onlooker misses steps, not the end.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How far a piece of work is, shared by who does it and who looks on.
#[derive(Debug, Default)]
pub struct Progress {
    now: Mutex<Step>,
    cancelled: AtomicBool,
}

/// Where a piece of work is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is being done, in a few words: `sweeping memory`.
    pub doing: String,
    /// How much of it is done, in whatever it counts: entries, bytes.
    pub done: u64,
    /// How much there is, where that is known.
    pub of: Option<u64>,
}

impl Progress {
    /// Tells how far the work is.
    pub fn at(&self, doing: &str, done: u64, of: Option<u64>) {
        let mut now = self.now.lock();
        if now.doing != doing {
            doing.clone_into(&mut now.doing);
        }
        (now.done, now.of) = (done, of);
    }

    /// How far it is.
    pub fn now(&self) -> Step {
        self.now.lock().clone()
    }

    /// Tells the work to stop at its next step. It cannot be taken back.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether it was told to. Work asks after each step, and stops where nothing is left half done.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_on_sees_the_last_step_and_can_stop_the_work() {
        let progress = Progress::default();
        assert_eq!((progress.now(), progress.is_cancelled()), (Step::default(), false));
        progress.at("sweeping memory", 1, Some(2));
        progress.at("sweeping memory", 2, Some(2));
        assert_eq!(progress.now(), Step { doing: "sweeping memory".to_owned(), done: 2, of: Some(2) });
        progress.cancel();
        assert!(progress.is_cancelled());
    }
}
