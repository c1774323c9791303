//! A circuit breaker: a tier that keeps failing is left alone for a while, so that a read does not wait for it each time.
//!
//! ```text
//!   closed --(failures in a row)--> open --(pause over)--> half-open --(one success)--> closed
//!                                    ^                         |
//!                                    +-------(failure)---------+
//! ```
//!
//! The idea is from Nygard, *Release It!*; half-open lets one operation through, as most implementations do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;

/// How long it stays open, the first time and at most: whoever waits for the tier's return waits no longer.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The state of a tier's circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Operations go through.
    #[default]
    Closed,
    /// Operations fail at once.
    Open,
    /// One operation is let through, to see whether the tier works again.
    HalfOpen,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Whether `state` is another than that of a tier that works. Operations of one that does ask this alone: they read it on every
    /// core, and with a lock each they waited for each other.
    is_troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    pause: Duration,
    /// When it opened, or let the last probe through.
    opened: Option<Instant>,
    probing: bool,
}

impl State {
    /// Of a tier that works.
    const WORKING: State = State { failures: 0, pause: PAUSE_MIN, opened: None, probing: false };
}

/// The right to one operation. One that is dropped unsaid leaves the tier's state as it is, but for a probe's, which may be
/// tried again.
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Breaker { is_troubled: AtomicBool::new(false), state: Mutex::new(State::WORKING) }
    }

    /// Whether an operation may be tried at this moment.
    pub(crate) fn admit(&self, now: impl FnOnce() -> Instant) -> Option<Permit<'_>> {
        let usual = Some(Permit { breaker: self, probe: false });
        if !self.is_troubled.load(Ordering::Acquire) {
            return usual;
        }
        let mut state = self.state.lock();
        let Some(opened) = state.opened else { return usual };
        if state.probing || now().saturating_duration_since(opened) < state.pause {
            return None;
        }
        state.probing = true;
        Some(Permit { breaker: self, probe: true })
    }

    pub(crate) fn state(&self) -> BreakerState {
        let state = self.state.lock();
        match (state.opened, state.probing) {
            (None, _) => BreakerState::Closed,
            (Some(_), true) => BreakerState::HalfOpen,
            (Some(_), false) => BreakerState::Open,
        }
    }
}

impl Permit<'_> {
    /// Whether it is for the one operation by which is seen whether the tier works again.
    pub(crate) fn is_trial(&self) -> bool {
        self.probe
    }

    pub(crate) fn succeeded(self) {
        // A failure at this very moment comes after this success: which of them was first nobody can tell.
        if !self.breaker.is_troubled.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.breaker.state.lock();
        // What was begun before it opened says nothing about now.
        if state.opened.is_none() || self.probe {
            *state = State::WORKING;
            self.breaker.is_troubled.store(false, Ordering::Release);
        }
    }

    pub(crate) fn failed(self, now: Instant) {
        let mut state = self.breaker.state.lock();
        self.breaker.is_troubled.store(true, Ordering::Release);
        state.failures = state.failures.saturating_add(1);
        if self.probe {
            state.pause = (state.pause * 2).min(PAUSE_MAX);
            state.opened = Some(now);
        } else if state.opened.is_none() && state.failures >= FAILURES_MAX {
            state.opened = Some(now);
            tracing::warn!("the backing tier failed {FAILURES_MAX} times in a row; reads go on without it for a while");
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.admit(|| now).unwrap().failed(now);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        (0..FAILURES_MAX - 1).for_each(|_| fail(&breaker, start));
        breaker.admit(|| start).unwrap().succeeded();
        (0..FAILURES_MAX).for_each(|_| fail(&breaker, start));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.admit(|| start).is_none());
        let later = start + PAUSE_MIN;
        let probe = breaker.admit(|| later).unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.admit(|| later).is_none(), "one is enough to see");
        probe.failed(later);
        assert!(breaker.admit(|| later + PAUSE_MIN).is_none(), "and it waits longer each time");
        breaker.admit(|| later + PAUSE_MAX).unwrap().succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_was_given_up_can_be_repeated() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        (0..FAILURES_MAX).for_each(|_| fail(&breaker, start));
        drop(breaker.admit(|| start + PAUSE_MIN).unwrap());
        assert!(breaker.admit(|| start + PAUSE_MIN).is_some());
    }

    #[test]
    fn what_began_before_it_opened_does_not_close_it() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        let slow = breaker.admit(|| start).unwrap();
        (0..FAILURES_MAX).for_each(|_| fail(&breaker, start));
        slow.succeeded();
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
