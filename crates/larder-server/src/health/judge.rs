//! When a component changes its state: after so many looks in a row that found it worse, or better. It is told the time.

use std::time::SystemTime;

use super::{Look, Reason, State};

/// Looks in a row that a change takes, for the worse and for the better. One for the worse shows what is wrong at once; more for
/// the better keep what comes and goes from coming and going in the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InARow {
    pub worse: u32,
    pub better: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Judge {
    in_a_row: InARow,
    known: Option<Known>,
    /// Looks in a row that found it worse than it is called, and better.
    worse: u32,
    better: u32,
}

#[derive(Debug)]
struct Known {
    state: State,
    since: SystemTime,
    reason: Option<Reason>,
}

impl Judge {
    pub fn new(in_a_row: InARow) -> Self {
        Judge { in_a_row, known: None, worse: 0, better: 0 }
    }

    /// What the first look finds holds at once.
    pub fn take(&mut self, look: &Look, at: SystemTime) {
        let Some(known) = &mut self.known else {
            self.known = Some(Known { state: look.state, since: at, reason: look.reason.clone() });
            return;
        };
        self.worse = if look.state > known.state { self.worse + 1 } else { 0 };
        self.better = if look.state < known.state { self.better + 1 } else { 0 };
        if self.worse >= self.in_a_row.worse || self.better >= self.in_a_row.better {
            (self.worse, self.better) = (0, 0);
            (known.state, known.since) = (look.state, at);
        }
        if look.state == known.state {
            known.reason.clone_from(&look.reason);
        }
    }

    pub fn state(&self) -> State {
        self.known.as_ref().map_or(State::Healthy, |known| known.state)
    }

    pub fn since(&self) -> SystemTime {
        self.known.as_ref().map_or(SystemTime::UNIX_EPOCH, |known| known.since)
    }

    /// Why it is not healthy: what the last look said that found it as it is called.
    pub fn reason(&self) -> Option<&Reason> {
        self.known.as_ref()?.reason.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn states(in_a_row: InARow, looks: &[State]) -> Vec<State> {
        let mut judge = Judge::new(in_a_row);
        let look = |state| if state == State::Healthy { Look::healthy(Vec::new()) } else { Look::bad(state, "w", "a", Vec::new()) };
        let told = |(second, state): (u64, &State)| {
            judge.take(&look(*state), SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(judge.reason().is_some(), judge.state() != State::Healthy);
            judge.state()
        };
        looks.iter().enumerate().map(|(second, state)| (second as u64, state)).map(told).collect()
    }

    #[test]
    fn it_takes_looks_in_a_row_both_ways() {
        use State::{Degraded as D, Healthy as H, Unhealthy as U};
        assert_eq!(states(InARow { worse: 1, better: 2 }, &[H, D, H, D, H, H]), [H, D, D, D, D, H]);
        assert_eq!(states(InARow { worse: 3, better: 3 }, &[H, D, D, H, D, D, D, H, H, H]), [H, H, H, H, H, H, D, D, D, H]);
        assert_eq!(states(InARow { worse: 2, better: 2 }, &[D, U, U, D, H]), [D, D, U, U, H], "what is better twice is better");
        assert_eq!(states(InARow { worse: 2, better: 2 }, &[U]), [U], "the first look holds at once");
    }

    #[test]
    fn it_says_since_when() {
        let mut judge = Judge::new(InARow { worse: 1, better: 1 });
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for (second, since) in [(1, 1), (2, 1)] {
            judge.take(&Look::healthy(Vec::new()), at(second));
            assert_eq!(judge.since(), at(since));
        }
        for second in [3, 4] {
            judge.take(&Look::bad(State::Degraded, format!("found at {second}"), "a", Vec::new()), at(second));
            assert_eq!(judge.since(), at(3));
            assert_eq!(judge.reason().map(|reason| reason.what.clone()), Some(format!("found at {second}")), "the latest there is");
        }
    }
}
