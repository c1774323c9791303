//! Conflation: of many changes to one name within a window the first is made at once and the last at the window's end.
//!
//! ```text
//!   change   |1  2 3      |      4  |        |5
//!   window   |------------|---------|--------|----
//!   made     |1           |3        |4       |5       2 waits, and is told what 3 was told
//! ```
//!
//! Whoever waits is told when the change was made that covers his: an event that is acknowledged has taken effect.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::template::Rendered;
use crate::error::Result;
use crate::log::Mark;
use crate::position::Receipt;

/// Windows that are over are looked for when there are so many more.
const TIDY_EVERY: usize = 1_024;

/// Events that are remembered with the change at a window's end, at most; those beyond are remembered on their own.
const MARKS_MAX: usize = 4_096;

/// What the waiting are told.
pub(super) type Told = oneshot::Receiver<Result<Receipt>>;

#[derive(Default)]
pub(super) struct Windows(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    windows: HashMap<Rendered, Window>,
    tidy_at: usize,
}

struct Window {
    until: Instant,
    /// Who waits for its end. Empty: nothing changed since it began.
    waiting: Vec<oneshot::Sender<Result<Receipt>>>,
    /// Events that have taken effect with that change.
    marks: Vec<Mark>,
}

/// What to do at a window's end.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) waiting: Vec<oneshot::Sender<Result<Receipt>>>,
    pub(super) marks: Vec<Mark>,
}

/// What to do about a change.
pub(super) enum Turn {
    /// Make it.
    Now,
    /// Wait. The first who waits for a window's end sees to it, and is told when that is.
    Later {
        told: Told,
        end: Option<Instant>,
        /// Whether the event is remembered with the change.
        remembered: bool,
    },
}

impl Windows {
    /// `whole` is the event's mark where this name is all that it changes.
    pub(super) fn turn(&self, name: &Rendered, whole: Option<Mark>, time: Duration, now: Instant) -> Turn {
        let mut inner = self.0.lock();
        if inner.windows.len() >= inner.tidy_at {
            inner.windows.retain(|_, window| window.until > now || !window.waiting.is_empty());
            inner.tidy_at = inner.windows.len() + TIDY_EVERY;
        }
        match inner.windows.get_mut(name) {
            Some(window) if window.until > now || !window.waiting.is_empty() => {
                let (told, receiver) = oneshot::channel();
                window.waiting.push(told);
                let whole = whole.filter(|_| window.marks.len() < MARKS_MAX);
                window.marks.extend(whole);
                let end = (window.waiting.len() == 1).then_some(window.until);
                Turn::Later { told: receiver, end, remembered: whole.is_some() }
            }
            _ => {
                inner.windows.insert(name.clone(), Window { until: now + time, waiting: Vec::new(), marks: Vec::new() });
                Turn::Now
            }
        }
    }

    /// A window is over: those who waited for it, and another one begins. What comes from now on waits for that one, since it
    /// may have happened after the change that is about to be made.
    pub(super) fn end(&self, name: &Rendered, time: Duration, now: Instant) -> Ended {
        let mut inner = self.0.lock();
        let Some(window) = inner.windows.get_mut(name) else { return Ended::default() };
        window.until = now + time;
        Ended { waiting: std::mem::take(&mut window.waiting), marks: std::mem::take(&mut window.marks) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::event::Event;
    use super::super::template::{Filled, Template};
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    fn name(text: &str) -> Rendered {
        match Template::parse("tag:{x}").unwrap().fill(&Event::new("t", json!({ "x": text }))).unwrap() {
            Filled::Names(mut names) => names.remove(0),
            Filled::Without(_) => unreachable!("it is there"),
        }
    }

    #[tokio::test]
    async fn the_first_goes_at_once_and_the_last_is_not_lost() {
        let (windows, begin) = (Windows::default(), Instant::now());
        let (at, whole) = (|ms| begin + Duration::from_millis(ms), Some(Mark(1)));
        assert!(matches!(windows.turn(&name("a"), whole, TIME, at(0)), Turn::Now));
        assert!(
            matches!(windows.turn(&name("a"), whole, TIME, at(5)), Turn::Later { end: Some(end), remembered: true, .. } if end == at(20))
        );
        assert!(matches!(windows.turn(&name("a"), whole, TIME, at(6)), Turn::Later { end: None, .. }));
        assert!(matches!(windows.turn(&name("b"), None, TIME, at(6)), Turn::Now), "another name has a window of its own");
        assert!(matches!(windows.turn(&name("a"), whole, TIME, at(30)), Turn::Later { end: None, .. }), "its end is late, and yet to come");
        let ended = windows.end(&name("a"), TIME, at(31));
        assert_eq!((ended.waiting.len(), ended.marks.len()), (3, 3));
        assert!(
            matches!(windows.turn(&name("a"), whole, TIME, at(32)), Turn::Later { end: Some(end), remembered: true, .. } if end == at(51))
        );
        assert_eq!(windows.end(&name("a"), TIME, at(51)).waiting.len(), 1);
        assert!(matches!(windows.turn(&name("a"), whole, TIME, at(100)), Turn::Now));
    }

    #[tokio::test]
    async fn windows_that_are_over_are_forgotten() {
        let (windows, begin) = (Windows::default(), Instant::now());
        for n in 0..10 * TIDY_EVERY as u64 {
            assert!(matches!(windows.turn(&name(&n.to_string()), None, TIME, begin + TIME * n as u32), Turn::Now));
        }
        assert!(windows.0.lock().windows.len() <= TIDY_EVERY + 1);
    }
}
