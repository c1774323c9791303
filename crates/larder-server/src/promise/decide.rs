//! How much of their size the pools of memory may use, from what is read of the process: told the time and the readings, and nothing else.
//!
//! ```text
//!   share of the pools
//!    1 ──────────┐                                        ┌──── grows a little at a time, after a calm while
//!                └─ above the high mark, or under pressure: shrinks, waits for the effect, shrinks again
//!    least ──────────────────────────────────────────────────── never below
//!
//!   resident: ....... low mark ....... high mark ... budget
//!             grows    |   stays as it is   |  shrinks
//! ```
//!
//! What pools let go of goes back to the allocator, which may keep it: then the process stays as large as it was, and uses anew what it
//! kept. So once enough was let go of, and the process does not grow any more, it is left at that: to empty the pools would gain nothing.

use std::time::Duration;

/// Of the budget: above this pools shrink.
const HIGH: f64 = 0.95;
/// Below this they may grow again.
const LOW: f64 = 0.85;
/// What shrinking aims at.
const AIM: f64 = 0.90;

/// The least and the most that one step takes from the pools, as shares of their size.
const STEP_LEAST: f64 = 1.0 / 64.0;
const STEP_MOST: f64 = 1.0 / 8.0;
/// What one step gives back.
const STEP_BACK: f64 = 1.0 / 32.0;

/// The least share of their size that pools keep: a cache without memory would only move the load to what stands behind it.
pub const SHARE_LEAST: f64 = 1.0 / 8.0;

/// How long the effect of a step is waited for.
const SETTLES: Duration = Duration::from_secs(2);
/// How long it has been calm before a step back.
const CALM: Duration = Duration::from_secs(30);
/// And between two of them.
const CALM_BETWEEN: Duration = Duration::from_secs(5);

/// Of the last ten seconds, the share in which somebody, or everybody, waited for memory, from which on that is pressure.
const SOME_MAX: f64 = 10.0;
const FULL_MAX: f64 = 2.0;
/// Pressure that others make is not for a process to answer that uses less than this of its budget.
const BLAMED_FROM: f64 = 0.5;

/// How often somebody waits for memory, in percent of the last ten seconds, as the kernel tells it (PSI).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some task did.
    pub some: f64,
    /// All of them did.
    pub full: f64,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Bytes of the process that are resident.
    pub resident: u64,
    /// Bytes that it may have.
    pub budget: u64,
    /// Bytes that the pools have when nothing is taken from them.
    pub pools: u64,
    /// Whether somebody waits for memory, where that is told.
    pub pressure: Option<Pressure>,
}

/// Why the share is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Why {
    /// All is well.
    #[default]
    Calm,
    /// The process comes near its budget.
    Large,
    /// Somebody waits for memory.
    Pressed,
    /// It comes near its budget, and enough was let go of: the allocator has it.
    Kept,
    /// Nothing more can be taken from the pools.
    Least,
}

impl Why {
    /// `calm`, `large`, `pressed`, `kept` or `least`.
    pub fn name(self) -> &'static str {
        match self {
            Why::Calm => "calm",
            Why::Large => "large",
            Why::Pressed => "pressed",
            Why::Kept => "kept",
            Why::Least => "least",
        }
    }
}

/// What was decided before.
#[derive(Clone, Debug)]
pub struct Keeper {
    share: f64,
    why: Why,
    /// When the share was changed last, and since when it is calm.
    changed: Option<Duration>,
    calm_since: Option<Duration>,
    /// How large the process was when it was last found to have grown, and what was let go of since.
    grown_to: u64,
    let_go: f64,
}

impl Default for Keeper {
    fn default() -> Self {
        Keeper { share: 1.0, why: Why::Calm, changed: None, calm_since: None, grown_to: 0, let_go: 0.0 }
    }
}

impl Keeper {
    /// The share that was decided last, and why.
    pub fn standing(&self) -> (f64, Why) {
        (self.share, self.why)
    }

    /// The share of their size that pools may use from now on. `now` is counted from any moment, and never goes back.
    pub fn decide(&mut self, now: Duration, seen: &Seen) -> f64 {
        let of_budget = seen.resident as f64 / (seen.budget.max(1)) as f64;
        let is_pressed = seen.pressure.is_some_and(|it| it.some >= SOME_MAX || it.full >= FULL_MAX) && of_budget >= BLAMED_FROM;
        if of_budget > HIGH || is_pressed {
            self.calm_since = None;
            self.shrink(now, seen, of_budget > HIGH);
        } else {
            self.let_go = 0.0;
            self.grown_to = 0;
            if self.share >= 1.0 || of_budget < LOW {
                self.calm(now);
            } else {
                // Between the marks it stays: what is given back here would be taken again a moment later.
                self.calm_since = None;
            }
        }
        self.share
    }

    fn shrink(&mut self, now: Duration, seen: &Seen, is_large: bool) {
        if self.changed.is_some_and(|changed| now.saturating_sub(changed) < SETTLES) {
            return;
        }
        let budget = seen.budget as f64;
        if seen.resident > self.grown_to.saturating_add(seen.budget / 64) {
            (self.grown_to, self.let_go) = (seen.resident, 0.0);
        }
        let excess = (seen.resident as f64 - budget * AIM).max(0.0);
        if is_large && self.let_go > excess * 1.5 {
            self.why = Why::Kept;
            return;
        }
        if self.share <= SHARE_LEAST {
            self.why = Why::Least;
            return;
        }
        let pools = seen.pools.max(1) as f64;
        let step = if is_large { (excess / pools).clamp(STEP_LEAST, STEP_MOST) } else { STEP_LEAST };
        let share = (self.share - step).max(SHARE_LEAST);
        self.let_go += (self.share - share) * pools;
        self.share = share;
        self.changed = Some(now);
        self.why = if is_large { Why::Large } else { Why::Pressed };
    }

    fn calm(&mut self, now: Duration) {
        let since = *self.calm_since.get_or_insert(now);
        if self.share >= 1.0 {
            self.why = Why::Calm;
            return;
        }
        let is_long = now.saturating_sub(since) >= CALM;
        let is_settled = self.changed.is_none_or(|changed| now.saturating_sub(changed) >= CALM_BETWEEN);
        if is_long && is_settled {
            self.share = (self.share + STEP_BACK).min(1.0);
            self.changed = Some(now);
            self.why = Why::Calm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn seen(resident: u64) -> Seen {
        Seen { resident: resident * MIB, budget: 1_000 * MIB, pools: 800 * MIB, pressure: None }
    }

    /// Decides once a second, and gives the share after each.
    fn run(keeper: &mut Keeper, from: u64, trace: impl IntoIterator<Item = Seen>) -> Vec<f64> {
        (from..).zip(trace).map(|(second, seen)| keeper.decide(Duration::from_secs(second), &seen)).collect()
    }

    #[test]
    fn below_the_marks_nothing_is_taken() {
        let mut keeper = Keeper::default();
        let shares = run(&mut keeper, 0, (0..100).map(|n| seen(n * 9)));
        assert!(shares.iter().all(|share| *share == 1.0), "{shares:?}");
        assert_eq!(keeper.standing(), (1.0, Why::Calm));
    }

    #[test]
    fn a_process_that_grows_is_held_below_its_budget() {
        // What it would be if pools were never shrunk; and what follows from the share, at once.
        let mut keeper = Keeper::default();
        let mut share = 1.0;
        for second in 0..300u64 {
            let resident = 200 + (second * 10).min((800.0 * share) as u64);
            share = keeper.decide(Duration::from_secs(second), &seen(resident));
            assert!(resident <= 1_000, "{resident} MiB in second {second}");
        }
        assert!((0.7..0.97).contains(&share), "{share}");
    }

    #[test]
    fn what_the_allocator_keeps_does_not_empty_the_pools() {
        let mut keeper = Keeper::default();
        // Whatever is let go of, the process stays as large as it was.
        let shares = run(&mut keeper, 0, std::iter::repeat_n(seen(990), 120));
        let (share, why) = keeper.standing();
        assert_eq!(why, Why::Kept);
        assert!((0.7..0.95).contains(&share), "90 MiB too many of 800, and half as much again: {shares:?}");
        // It grows on: more has to go.
        run(&mut keeper, 120, std::iter::repeat_n(seen(1_050), 10));
        assert!(keeper.standing().0 < share);
    }

    #[test]
    fn it_never_takes_everything() {
        let mut keeper = Keeper::default();
        let shares = run(&mut keeper, 0, (0..600).map(|n| seen(2_000 + n * 50)));
        assert_eq!(shares.last(), Some(&SHARE_LEAST));
        assert_eq!(keeper.standing().1, Why::Least);
        assert!(shares.windows(2).all(|pair| pair[0] - pair[1] <= STEP_MOST + 1e-9), "no step is large");
        let changes = shares.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes <= 8, "the effect of each is waited for: {changes}");
    }

    #[test]
    fn it_grows_back_slowly_after_a_calm_while_and_does_not_swing() {
        let mut keeper = Keeper::default();
        run(&mut keeper, 0, std::iter::repeat_n(seen(990), 60));
        let low = keeper.standing().0;
        assert!(low < 0.95);
        // Between the marks it stays for ever.
        assert!(run(&mut keeper, 60, std::iter::repeat_n(seen(900), 600)).iter().all(|share| *share == low));
        let shares = run(&mut keeper, 660, std::iter::repeat_n(seen(500), 300));
        assert_eq!(shares[29], low, "not before it was calm for a while");
        assert!(shares[31] > low && shares.windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] <= STEP_BACK + 1e-9));
        assert_eq!(shares.last(), Some(&1.0));
        // A single spike begins the wait anew.
        run(&mut keeper, 960, std::iter::repeat_n(seen(990), 60));
        let low = keeper.standing().0;
        let spiky = (0..200).map(|n| seen(if n % 20 == 0 { 900 } else { 500 }));
        assert!(run(&mut keeper, 1_020, spiky).iter().all(|share| *share == low));
    }

    #[test]
    fn pressure_shrinks_before_the_budget_is_reached_unless_others_make_it() {
        let pressed = |resident, some, full| Seen { pressure: Some(Pressure { some, full }), ..seen(resident) };
        let mut keeper = Keeper::default();
        run(&mut keeper, 0, std::iter::repeat_n(pressed(700, 25.0, 0.0), 10));
        assert!(keeper.standing().0 < 1.0 && keeper.standing().1 == Why::Pressed);
        let mut keeper = Keeper::default();
        run(&mut keeper, 0, std::iter::repeat_n(pressed(700, 3.0, 2.5), 4));
        assert!(keeper.standing().0 < 1.0, "all of them waited");
        for calm in [pressed(700, 5.0, 0.5), pressed(300, 90.0, 50.0)] {
            let mut keeper = Keeper::default();
            run(&mut keeper, 0, std::iter::repeat_n(calm, 100));
            assert_eq!(keeper.standing().0, 1.0, "{calm:?}");
        }
    }
}
