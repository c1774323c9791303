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

/// Windows that the shared pool has after a change was undone, to learn again what was evicted and what was read often.
const SETTLES: u32 = 20;

/// How much of what a window says of the shared pool is believed from then on. Both ways alike: a bias that took in only what lies above it
/// would climb with chance, and every window would count as a loss.
const TELLS: f64 = 1.0 / 16.0;

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
    /// Windows since all were put together again.
    together_for: u32,
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
        self.together_for = if is_apart { 0 } else { self.together_for.saturating_add(1) };
        if !self.is_touched {
            self.bias = Some(self.bias.map_or(ahead, |bias| (bias + ahead) / 2.0));
        } else if self.together_for > SETTLES {
            // Before, the pool lies below since it fills, and that is the change's account.
            self.bias = self.bias.map(|bias| bias + (ahead - bias) * TELLS);
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
        // What is in force now has lost nothing yet, also where it is apart as well.
        (self.stretch, self.promised) = ((0.0, 0.0), 0.0);
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
    fn chance_is_no_loss_and_what_is_undone_is_not_undone_twice() {
        let mut account = Account::default();
        account.take(window(0.5), false);
        account.begin();
        (0..3).for_each(|_| account.take(window(0.3), true));
        assert!(account.has_fallen(FILL));
        account.undone();
        assert!(!account.has_fallen(FILL), "what is in force again did not do that");
        (0..SETTLES).for_each(|_| account.take(window(0.5), false));
        let before = account.gained;
        // As often a point above as below.
        (0..1_000).for_each(|n| account.take(window(if n % 2 == 0 { 0.51 } else { 0.49 }), false));
        assert!((account.gained - before).abs() < 50.0 && account.bias().abs() < 0.001, "{account:?}");
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
