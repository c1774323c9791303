//! What giving memory out has gained and lost, beside one pool for all that was never touched; and whether another change may be tried.
//!
//! ```text
//!   each window: hits that were counted - hits of the cache in small that everybody shares = ahead or behind
//!
//!   a change is made      once it would have paid, since it looked good, for filling all memory anew: what it costs if it is wrong;
//!                         and, after one that was, only if what is lost stays below half a point of all reads even so
//!   it is undone          once it has fallen behind the best that it was by a quarter of that
//! ```
//!
//! To wait until something would have paid for its cost before it is bought is how skis are rented. Against reads that turn around whenever
//! it is bought that is not enough: so losses are kept within a share of all reads, which grows as they come.
//!
//! Everything here is in what loads cost, microseconds, and told from outside.

/// Of all reads, by what they are worth, what may be lost in all.
const LOST_MAX: f64 = 0.005;

/// The part of filling all memory anew by which a change may fall behind the best that it was.
const FALL_MAX: f64 = 0.25;

/// A shared pool that is not further behind what it should be than this counts as one that was never touched.
const TELLS: f64 = 0.005;

/// What is borne.
#[derive(Debug)]
struct Limits {
    /// How often a change would have to have paid for filling memory.
    pays: f64,
    lost: f64,
    fall: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { pays: 1.0, lost: LOST_MAX, fall: FALL_MAX }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Account {
    limits: Limits,
    /// How far what is counted lies above what the cache in small says, where nothing was ever changed.
    bias: Option<f64>,
    whole: f64,
    gained: f64,
    is_touched: bool,
    was_wrong: bool,
    /// What the change in force has gained, and the most that it had.
    stretch: (f64, f64),
    /// What would have been gained by a change, since it looks good.
    promised: f64,
}

/// A window, of all that share or would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The share of reads that hit.
    pub(super) measured: f64,
    /// The share that would in one pool, by the cache in small.
    pub(super) together: f64,
    /// What all reads are worth.
    pub(super) whole: f64,
}

impl Account {
    /// How far what is counted lies above what the cache in small says.
    pub(super) fn bias(&self) -> f64 {
        self.bias.unwrap_or(0.0)
    }

    /// Takes in a window.
    pub(super) fn take(&mut self, window: Window, is_apart: bool) {
        let ahead = window.measured - window.together;
        self.whole += window.whole;
        // A pool that is still filling after a change lies below, and that is the change's account.
        if !self.is_touched || !is_apart && ahead >= self.bias() - TELLS {
            self.bias = Some(self.bias.map_or(ahead, |bias| (bias + ahead) / 2.0));
        }
        if self.is_touched {
            let gained = (ahead - self.bias()) * window.whole;
            self.gained += gained;
            if is_apart {
                self.stretch.0 += gained;
                self.stretch.1 = self.stretch.1.max(self.stretch.0);
            }
        }
    }

    /// A change looks good by so much of a window's reads; or none does. Whether it may be made where filling memory costs `fill`.
    pub(super) fn pays(&mut self, promised: Option<f64>, fill: f64) -> bool {
        self.promised = promised.map_or(0.0, |more| self.promised + more);
        self.promised >= fill * self.limits.pays && (!self.was_wrong || self.gained - fill >= -self.limits.lost * self.whole)
    }

    /// It is made.
    pub(super) fn begin(&mut self) {
        self.is_touched = true;
        (self.stretch, self.promised) = ((0.0, 0.0), 0.0);
    }

    /// It is undone.
    pub(super) fn undone(&mut self) {
        self.was_wrong = true;
        self.promised = 0.0;
    }

    /// Whether the change in force has lost too much.
    pub(super) fn has_fallen(&self, fill: f64) -> bool {
        self.stretch.1 - self.stretch.0 > fill * self.limits.fall
    }

    /// One that bears everything, as a canary.
    #[cfg(test)]
    pub(super) fn reckless() -> Self {
        Account { limits: Limits { pays: 0.0, lost: f64::INFINITY, fall: f64::INFINITY }, ..Account::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILL: f64 = 1_000.0;

    /// A window of 1,000 reads that hit so often, where half would in one pool.
    fn window(measured: f64) -> Window {
        Window { measured, together: 0.5, whole: 1_000.0 }
    }

    #[test]
    fn a_change_is_made_once_it_would_have_paid_for_itself_in_a_row() {
        let mut account = Account::default();
        assert!((0..9).all(|_| !account.pays(Some(100.0), FILL)));
        assert!(!account.pays(None, FILL), "it does not look good any more");
        assert!((0..9).all(|_| !account.pays(Some(100.0), FILL)) && account.pays(Some(100.0), FILL));
        account.begin();
        assert!(!account.pays(Some(100.0), FILL));
    }

    #[test]
    fn after_one_that_was_wrong_what_is_lost_stays_within_half_a_point_of_all_reads() {
        let mut account = Account::default();
        account.take(window(0.51), false);
        account.begin();
        (0..3).for_each(|_| account.take(window(0.41), true));
        assert!(account.has_fallen(FILL), "300 of them hit less");
        account.undone();
        // The pool fills again.
        (0..10).for_each(|_| account.take(window(0.46), false));
        assert!((account.gained + 800.0).abs() < 1e-6 && (account.bias() - 0.01).abs() < 1e-9, "{account:?}");
        let mut windows = 14;
        while !account.pays(Some(5_000.0), FILL) {
            account.take(window(0.51), false);
            windows += 1;
        }
        assert_eq!(windows, 360, "1,800 of 360,000");
    }

    #[test]
    fn what_gains_and_then_turns_is_undone_before_all_of_it_is_lost() {
        let mut account = Account::default();
        account.take(window(0.5), false);
        account.begin();
        (0..20).for_each(|_| account.take(window(0.7), true));
        assert!(!account.has_fallen(FILL));
        (0..2).for_each(|_| account.take(window(0.4), true));
        assert!(!account.has_fallen(FILL));
        account.take(window(0.4), true);
        assert!(account.has_fallen(FILL));
        let mut reckless = Account::reckless();
        assert!(reckless.pays(Some(0.1), FILL));
        reckless.begin();
        (0..90).for_each(|_| reckless.take(window(0.0), true));
        assert!(!reckless.has_fallen(FILL));
    }
}
