//! How much of their size the pools of memory may use, from what is read of the process: told the time and the readings, and nothing else.
//!
//! ```text
//!   resident: ... half ........ low mark ... aim ... high mark ... budget
//!                  | pools may grow by what is left to the aim |
//!                  |              |        stays as it is      | shrinks: what is too much, waits for the effect, shrinks again
//!   after that:    grows back a little at a time, from a calm while below the low mark on
//!                                  | .. try .. |    pools that are full may have a little more, seldom
//! ```
//!
//! What may be used is bounded before the mark is reached: a process that is filled in seconds would else be far above it before pools
//! that are half empty had anything to evict.
//!
//! What pools let go of goes back to the allocator, which may keep it: then the process stays as large as it was, and uses anew what it
//! kept. So once enough was let go of, and the process does not grow any more, it is left at that: to empty the pools would gain nothing.
//! And what they had while the process was not too large they may have again.
//!
//! What others had and gave back, connections say, the allocator may keep as well. A process that had a crowd once would then stay between
//! the marks for ever, and its pools small, beside memory that nobody uses. That it is there nobody tells, so it is tried: pools
//! that are full get a little more after a long while, and if that made the process too large, the next while is twice as long.

use std::time::Duration;

/// Of the budget: above this pools shrink.
const HIGH: f64 = 0.95;
/// What shrinking aims at, and growing.
const AIM: f64 = 0.90;
/// Below this what was taken is given back.
const LOW: f64 = 0.85;
/// From this on what pools may grow by is bounded.
const BOUNDED_FROM: f64 = 0.5;

/// What an entry takes of the process, beside what it weighs: the allocator's own, and tables that grow.
const WEIGHT_GROWS: f64 = 1.25;

/// The least that one step takes, and what one gives back, as shares of the budget; and the most, as a share of what pools have.
const STEP_LEAST: f64 = 1.0 / 64.0;
const STEP_BACK: f64 = 1.0 / 32.0;
const STEP_MOST: f64 = 1.0 / 8.0;

/// Bounds are multiples of this share of the budget, and go up by two of them: what swings by less is left alone.
const GRAIN: f64 = 1.0 / 128.0;

/// The least that pools keep, as a share of their size or of the budget, whichever is less: a cache without memory would only move the load
/// to what stands behind it.
const LEAST: f64 = 1.0 / 8.0;

/// How long the effect of a step is waited for.
const SETTLES: Duration = Duration::from_secs(2);
/// How long it has been calm before a step back.
const CALM: Duration = Duration::from_secs(30);
/// And between two of them.
const CALM_BETWEEN: Duration = Duration::from_secs(5);

/// Up to this share of the budget more is tried: with what a step takes it stays clear of the high mark.
const TRY_BELOW: f64 = 0.92;
/// How long it has been quiet before more is tried, and how long at most, when that went badly.
const TRY_AFTER: Duration = Duration::from_secs(120);
const TRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

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
    /// Bytes that the pools may have when nothing is taken from them.
    pub pools: u64,
    /// Bytes that they have.
    pub used: u64,
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
    /// Pools have all that there is for them before it comes near.
    Bounded,
    /// Somebody waits for memory.
    Pressed,
    /// It comes near its budget, and enough was let go of: the allocator has it.
    Kept,
    /// Nothing more can be taken from the pools.
    Least,
}

impl Why {
    /// `calm`, `large`, `bounded`, `pressed`, `kept` or `least`.
    pub fn name(self) -> &'static str {
        match self {
            Why::Calm => "calm",
            Why::Large => "large",
            Why::Bounded => "bounded",
            Why::Pressed => "pressed",
            Why::Kept => "kept",
            Why::Least => "least",
        }
    }
}

/// What was decided before. Bytes are those of pools.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    /// What pools may use; nothing, while they may use all.
    may_use: Option<f64>,
    why: Why,
    /// What shrinking has left, while it was not given back.
    ceiling: Option<f64>,
    /// The most that they had while the process was not too large.
    proven: f64,
    /// When it shrank or grew back last, and since when it is calm.
    changed: Option<Duration>,
    calm_since: Option<Duration>,
    /// Since when it is neither large nor pressed, how long that has to last before more is tried, and whether it was.
    quiet_since: Option<Duration>,
    try_after: Option<Duration>,
    tried: bool,
    /// How large the process was when it was last found to have grown, and what was let go of since.
    grown_to: u64,
    let_go: f64,
}

impl Keeper {
    /// Why what was decided last is so.
    pub fn why(&self) -> Why {
        self.why
    }

    /// The share of their size that pools may use from now on. `now` is counted from any moment, and never goes back.
    pub fn decide(&mut self, now: Duration, seen: &Seen) -> f64 {
        let (budget, resident, used) = (seen.budget.max(1) as f64, seen.resident as f64, seen.used as f64);
        let is_large = resident > budget * HIGH;
        let is_pressed = seen.pressure.is_some_and(|it| it.some >= SOME_MAX || it.full >= FULL_MAX) && resident >= budget * BLAMED_FROM;
        if is_large || is_pressed {
            (self.calm_since, self.quiet_since) = (None, None);
            if std::mem::take(&mut self.tried) {
                self.try_after = Some((self.try_after.unwrap_or(TRY_AFTER) * 2).min(TRY_AFTER_MAX));
            }
            self.shrink(now, seen, is_large);
        } else {
            (self.let_go, self.grown_to) = (0.0, 0);
            self.proven = self.proven.max(used);
            self.quiet_since.get_or_insert(now);
            if resident < budget * LOW {
                self.calm(now, seen);
            } else {
                self.calm_since = None;
                self.try_more(now, seen);
            }
        }
        let pools = seen.pools.max(1) as f64;
        let wanted = self.bound(seen).min(self.ceiling.unwrap_or(pools)).min(pools);
        let before = self.may_use.unwrap_or(pools).min(pools);
        let grain = budget * GRAIN;
        if wanted < before || wanted >= before + 2.0 * grain || wanted >= pools {
            self.may_use = (wanted < pools).then_some(wanted);
        }
        let may_use = self.may_use.unwrap_or(pools).min(pools);
        if matches!(self.why, Why::Calm | Why::Bounded) {
            self.why = if may_use < pools && used + 2.0 * grain >= may_use { Why::Bounded } else { Why::Calm };
        }
        may_use / pools
    }

    /// What pools may use so that the process does not come to the mark: what they had without that, or what they have and what is left.
    fn bound(&self, seen: &Seen) -> f64 {
        let (budget, resident) = (seen.budget.max(1) as f64, seen.resident as f64);
        if resident < budget * BOUNDED_FROM {
            return f64::INFINITY;
        }
        let left = (budget * AIM - resident).max(0.0) / WEIGHT_GROWS;
        let grain = budget * GRAIN;
        let bytes = (seen.used as f64 + left).max(self.proven);
        ((bytes / grain).ceil() * grain).max(least(seen))
    }

    fn shrink(&mut self, now: Duration, seen: &Seen, is_large: bool) {
        if self.changed.is_some_and(|changed| now.saturating_sub(changed) < SETTLES) {
            return;
        }
        let (budget, used) = (seen.budget as f64, seen.used as f64);
        if seen.resident > self.grown_to.saturating_add(seen.budget / 64) {
            (self.grown_to, self.let_go) = (seen.resident, 0.0);
        }
        let excess = (seen.resident as f64 - budget * AIM).max(0.0);
        if is_large && self.let_go > excess * 1.5 {
            self.why = Why::Kept;
            return;
        }
        // From what they have, not from what they may: to take what they do not use would change nothing.
        let from = self.may_use.map_or(used, |may_use| may_use.min(used)).min(seen.pools as f64);
        if from <= least(seen) {
            self.ceiling = Some(least(seen));
            self.proven = least(seen);
            self.why = Why::Least;
            return;
        }
        let step = if is_large { excess.max(budget * STEP_LEAST).min(from * STEP_MOST) } else { budget * STEP_LEAST };
        let ceiling = (from - step).max(least(seen));
        self.let_go += from - ceiling;
        (self.ceiling, self.proven) = (Some(ceiling), ceiling);
        self.changed = Some(now);
        self.why = if is_large { Why::Large } else { Why::Pressed };
    }

    /// Between the marks: whether the allocator has kept what others gave back.
    fn try_more(&mut self, now: Duration, seen: &Seen) {
        let (budget, used) = (seen.budget as f64, seen.used as f64);
        let Some(may_use) = self.may_use.filter(|may_use| used + 2.0 * budget * GRAIN >= *may_use) else { return };
        let since = self.quiet_since.max(self.changed).unwrap_or(now);
        let is_long = now.saturating_sub(since) >= self.try_after.unwrap_or(TRY_AFTER);
        if is_long && seen.resident as f64 <= budget * TRY_BELOW {
            let more = may_use + budget * STEP_LEAST;
            self.proven = self.proven.max(more);
            self.ceiling = self.ceiling.map(|ceiling| ceiling.max(more)).filter(|ceiling| *ceiling < seen.pools as f64);
            (self.changed, self.tried) = (Some(now), true);
            self.why = Why::Bounded;
        }
    }

    fn calm(&mut self, now: Duration, seen: &Seen) {
        (self.tried, self.try_after) = (false, None);
        let since = *self.calm_since.get_or_insert(now);
        let Some(ceiling) = self.ceiling else {
            self.why = Why::Calm;
            return;
        };
        let is_long = now.saturating_sub(since) >= CALM;
        let is_settled = self.changed.is_none_or(|changed| now.saturating_sub(changed) >= CALM_BETWEEN);
        if is_long && is_settled {
            let ceiling = ceiling + seen.budget as f64 * STEP_BACK;
            self.ceiling = (ceiling < seen.pools as f64).then_some(ceiling);
            self.changed = Some(now);
            self.why = Why::Calm;
        }
    }
}

/// What pools keep in any case.
fn least(seen: &Seen) -> f64 {
    seen.pools.min(seen.budget) as f64 * LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Of a budget of 1,000 MiB and pools of 800.
    fn seen(resident: u64, used: u64) -> Seen {
        Seen { resident: resident * MIB, budget: 1_000 * MIB, pools: 800 * MIB, used: used * MIB, pressure: None }
    }

    /// Decides once a second, and gives the share after each.
    fn run(keeper: &mut Keeper, from: u64, trace: impl IntoIterator<Item = Seen>) -> Vec<f64> {
        (from..).zip(trace).map(|(second, seen)| keeper.decide(Duration::from_secs(second), &seen)).collect()
    }

    /// A process that is filled: what is used grows by so much a second as far as it may, and takes more of the process than it weighs.
    fn fill(seen: impl Fn(u64, u64) -> Seen, a_second: u64, weight: f64) -> (u64, f64, Keeper) {
        let (mut keeper, mut share, mut used, mut largest) = (Keeper::default(), 1.0, 0u64, 0);
        for second in 0..300 {
            let pools = seen(0, 0).pools / MIB;
            used = (used + a_second).min((pools as f64 * share) as u64);
            // What was let go of stays with the process.
            largest = largest.max(50 + (used as f64 * weight) as u64);
            share = keeper.decide(Duration::from_secs(second), &seen(largest, used));
        }
        (largest, share, keeper)
    }

    #[test]
    fn what_fits_is_used_whole() {
        for a_second in [1, 20, 200] {
            let (largest, share, keeper) = fill(|resident, used| Seen { pools: 700 * MIB, ..seen(resident, used) }, a_second, 1.1);
            assert_eq!((share, keeper.why()), (1.0, Why::Calm), "{a_second} MiB a second, {largest} MiB");
        }
    }

    #[test]
    fn a_process_that_is_filled_stays_below_its_budget_whatever_the_pools_might_have() {
        for (pools, a_second, weight) in [(800, 10, 1.3), (800, 200, 1.3), (4_000, 80, 1.1), (4_000, 300, 1.2), (100_000, 100, 1.2)] {
            let (largest, share, keeper) = fill(|resident, used| Seen { pools: pools * MIB, ..seen(resident, used) }, a_second, weight);
            assert!((850..=1_000).contains(&largest), "{pools} MiB of pools, {a_second} a second: {largest} MiB");
            assert!(share < 1.0 && keeper.why() != Why::Calm, "{share}, {keeper:?}");
        }
    }

    #[test]
    fn what_the_allocator_keeps_does_not_empty_the_pools() {
        let mut keeper = Keeper::default();
        // Whatever is let go of, the process stays as large as it was.
        let mut used = 700;
        for second in 0..120 {
            let share = keeper.decide(Duration::from_secs(second), &seen(990, used));
            used = used.min((800.0 * share) as u64);
        }
        assert_eq!(keeper.why(), Why::Kept);
        assert!((450..620).contains(&used), "90 MiB too many, and half as much again, in steps: {used} MiB");
        // It grows on: more has to go.
        let before = used;
        for second in 120..130 {
            let share = keeper.decide(Duration::from_secs(second), &seen(1_050, used));
            used = used.min((800.0 * share) as u64);
        }
        assert!(used < before);
    }

    #[test]
    fn pools_that_were_emptied_may_fill_again_though_the_process_kept_the_memory() {
        let mut keeper = Keeper::default();
        run(&mut keeper, 0, std::iter::repeat_n(seen(900, 600), 10));
        // A large invalidation: what is used goes, and what is resident stays.
        let shares = run(&mut keeper, 10, std::iter::repeat_n(seen(900, 50), 100));
        assert!(shares.iter().all(|share| *share >= 600.0 / 800.0), "{shares:?}");
    }

    #[test]
    fn it_never_takes_everything_and_waits_for_the_effect_of_each_step() {
        let (mut keeper, mut used, mut changes) = (Keeper::default(), 700, Vec::new());
        for second in 0..600 {
            let share = keeper.decide(Duration::from_secs(second), &seen(2_000 + second * 50, used));
            let now = used.min((800.0 * share) as u64);
            if now < used {
                changes.push((second, used - now));
                used = now;
            }
        }
        assert_eq!((keeper.why(), used), (Why::Least, 100));
        assert!(changes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 2), "{changes:?}");
        assert!(changes.iter().all(|(_, taken)| *taken <= 700 / 8 + 1), "{changes:?}");
    }

    #[test]
    fn it_grows_back_slowly_after_a_calm_while_and_does_not_swing() {
        let mut keeper = Keeper::default();
        let low = *run(&mut keeper, 0, std::iter::repeat_n(seen(990, 700), 3)).last().unwrap();
        assert!(low < 0.85, "{low}");
        // Between the marks it stays for ever.
        assert!(run(&mut keeper, 60, std::iter::repeat_n(seen(900, 500), 600)).iter().all(|share| *share == low));
        let shares = run(&mut keeper, 660, std::iter::repeat_n(seen(400, 300), 300));
        assert_eq!(shares[29], low, "not before it was calm for a while");
        assert!(shares[40] > low && shares.windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] < 0.05), "{shares:?}");
        assert_eq!(shares.last(), Some(&1.0));
        // What comes and goes begins the wait anew.
        let low = *run(&mut keeper, 1_000, std::iter::repeat_n(seen(990, 700), 3)).last().unwrap();
        let spiky = (0..200).map(|n| if n % 20 == 0 { seen(900, 300) } else { seen(400, 300) });
        assert!(run(&mut keeper, 1_020, spiky).iter().all(|share| *share <= low));
    }

    /// A process with a crowd of connections, for a while; what that had the allocator keeps, and pools may take of it.
    #[test]
    fn what_others_gave_back_and_the_allocator_kept_is_not_lost_to_pools_for_ever() {
        let (mut keeper, mut share, mut used, mut resident) = (Keeper::default(), 1.0_f64, 600_u64, 700_u64);
        let mut step = |second: u64, is_crowded: bool| {
            used = (used + 20).min((800.0 * share) as u64);
            // Of what a crowd had, 210 MiB of 290 are kept, and taken by pools first.
            resident = if is_crowded { resident.max(290 + used) } else { resident.min(910).max(100 + used) };
            share = keeper.decide(Duration::from_secs(second), &seen(resident, used));
            used
        };
        let alone = (0..60).map(|second| step(second, false)).last().unwrap();
        let crowded = (60..120).map(|second| step(second, true)).last().unwrap();
        let soon = (120..230).map(|second| step(second, false)).last().unwrap();
        assert!(alone >= 750 && crowded < 650 && soon <= crowded + 16, "{alone}, {crowded}, {soon}");
        let after = (230..4_000).map(|second| step(second, false)).last().unwrap();
        assert!(after >= 790, "{after}");
    }

    #[test]
    fn what_is_tried_and_makes_the_process_too_large_is_tried_ever_less_often() {
        let (mut keeper, mut share, mut used, mut largest) = (Keeper::default(), 1.0_f64, 600_u64, 0);
        let mut shrunk = Vec::new();
        for second in 0..40_000 {
            // Nothing is kept: all that pools take the process has more, and a wave of others comes on top of it.
            let wave = if second % 1_000 < 20 { 40 } else { 0 };
            let before = used;
            used = (used + 20).min((800.0 * share) as u64);
            if used < before {
                shrunk.push(second);
            }
            largest = largest.max(290 + used + wave);
            share = keeper.decide(Duration::from_secs(second), &seen(290 + used + wave, used));
        }
        assert!((900..=1_000).contains(&largest) && shrunk.len() < 100, "{largest} MiB, {shrunk:?}");
    }

    #[test]
    fn pressure_shrinks_before_the_budget_is_reached_unless_others_make_it() {
        let pressed = |resident, some, full| Seen { pressure: Some(Pressure { some, full }), ..seen(resident, 600) };
        for (some, full) in [(25.0, 0.0), (3.0, 2.5)] {
            let mut keeper = Keeper::default();
            let shares = run(&mut keeper, 0, std::iter::repeat_n(pressed(700, some, full), 10));
            assert!(shares.last().is_some_and(|share| *share < 0.75) && keeper.why() == Why::Pressed, "{shares:?}");
        }
        for calm in [pressed(700, 5.0, 0.5), pressed(300, 90.0, 50.0)] {
            let mut keeper = Keeper::default();
            let shares = run(&mut keeper, 0, std::iter::repeat_n(calm, 100));
            assert!(shares.iter().all(|share| *share > 0.9), "{calm:?}: {shares:?}");
        }
    }
}
