//! Sizing memory while the cache runs: what each namespace would do with other sizes, whether it should have memory of its own, and, where
//! that is asked for, giving bytes to who gains most from them.
//!
//! ```text
//!   reads of one key in many --> Tap --(every quarter second, on a thread that may block)--> Live: caches in small
//!                                                                                              |
//!   window ends: measured hits, curves --> now, all together, each apart: which gains most? <--'
//!                                              | a point or more
//!                                              v
//!                                        pools resized, a trial begins --> a window settles, the next is measured
//!                                              ^                                 | less than was predicted
//!                                              '---------- undone, and why ------'
//! ```
//!
//! What would have been without the change is not known, as the world goes on: it is taken from the caches in small that still run as it
//! was before, corrected by how far off they were then.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::cache::{Larder, Shared};
use crate::config::MEMORY_BYTES_MIN;
use crate::error::{Error, ErrorKind, Result};
use crate::sizing::live::{ENOUGH, Live, Tap};
use crate::sizing::partition::{Claim, give_out};
use crate::sizing::{Curve, advise_ttl};
use crate::space::{Part, Space};
use crate::tier::memory::Pool;

mod account;
mod report;

use account::{Account, Window};
pub use report::{Decision, NamespaceSizing, Sizing};

/// How often what was recorded is taken in.
const DRAIN_EVERY: Duration = Duration::from_millis(250);

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// The share of one core that this may take; with more, fewer keys are recorded.
const SHARE_OF_A_CORE: f64 = 0.01;

/// Entries that all memory should hold in small: enough that the smallest of the sizes has a few dozen.
const ENTRIES_IN_SMALL: u64 = 4_096;

/// What an entry is taken to weigh before any is known.
const ENTRY_BYTES: u64 = 1_024;

/// One key in so many is recorded at least.
const ONE_IN_MAX: u64 = 4_096;

/// Namespaces that are looked at by themselves; more are one together.
const GROUPS_MAX: usize = 32;

/// What a change has to gain, as a share of all reads by what they are worth: less is within the error of the reckoning.
const GAIN_MIN: f64 = 0.01;

/// Windows in a row in which it has to: what turns around every few minutes would have turned around before it paid.
const WINDOWS_BEFORE: u32 = 3;

/// A loss that is larger than this, and than chance, ends a trial at once, its first window past, and whatever came of it before: what
/// was true of the reads then is not true of these.
const LOSS_MAX: f64 = 0.02;

/// The part of what was predicted that must have come of it.
const EFFECT_MIN: f64 = 0.25;

/// Windows without a change after one was undone; twice as many after each more.
const HOLD_WINDOWS: u32 = 8;

const DECISIONS_KEPT: usize = 32;

/// Whether memory is looked at, and given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizingMode {
    /// Nothing is recorded, and it costs nothing.
    #[default]
    Off,
    /// Curves are made, and advice is given.
    Observe,
    /// Bytes are moved between pools, and namespaces are given pools of their own or put back, as that gains.
    Auto,
}

/// See the head of this file.
pub(crate) struct Sizer {
    mode: SizingMode,
    tap: Arc<Tap>,
    /// The memory that each group but the first has by itself, if it does. Of its own, so that who opens a namespace does not wait for
    /// entries that are moved.
    admitted: Mutex<Vec<Option<u64>>>,
    /// Taken before `admitted`, and before any pool's own lock.
    state: Mutex<State>,
    task: Mutex<Option<AbortHandle>>,
}

struct State {
    live: Live,
    budget: u64,
    layout: Layout,
    /// Reads and hits of memory by group, when the window began.
    before: Vec<(u64, u64)>,
    /// What a load takes, by group, in microseconds, as the window began.
    costs: Vec<u32>,
    trial: Option<Trial>,
    /// How far what was measured lay above what was reckoned, before the last change.
    bias: f64,
    account: Account,
    /// Windows in which nothing is changed.
    hold: u32,
    /// Windows in a row in which a change would have gained enough.
    agreed: u32,
    undone: u32,
    decisions: VecDeque<Decision>,
    /// What part of a core it may take at most.
    share_max: f64,
    spent: Duration,
    since: Instant,
    window_began: Instant,
}

/// How memory is given out: bytes by group, the first of which is what is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    is_apart: bool,
    bytes: Vec<u64>,
}

impl Layout {
    fn bytes_of(&self, group: usize) -> u64 {
        self.bytes.get(group).copied().unwrap_or(0)
    }
}

/// A change whose effect is yet to be measured.
struct Trial {
    before: Layout,
    predicted: f64,
    windows: u32,
}

/// A group in this window.
struct Seen {
    spaces: Vec<Arc<Space>>,
    reads: f64,
    hits: f64,
    cost_us: u32,
}

impl Sizer {
    pub(crate) fn new(mode: SizingMode, memory: u64) -> Option<Self> {
        if mode == SizingMode::Off {
            return None;
        }
        let one_in = (memory / ENTRY_BYTES / ENTRIES_IN_SMALL).clamp(1, ONE_IN_MAX);
        let up_to = u64::MAX / one_in;
        let now = Instant::now();
        let state = State {
            live: Live::new(memory, up_to, &[true]),
            budget: memory,
            layout: Layout { is_apart: false, bytes: vec![memory] },
            before: Vec::new(),
            costs: Vec::new(),
            trial: None,
            bias: 0.0,
            account: Account::default(),
            hold: 0,
            agreed: 0,
            undone: 0,
            decisions: VecDeque::new(),
            share_max: SHARE_OF_A_CORE,
            spent: Duration::ZERO,
            since: now,
            window_began: now,
        };
        Some(Sizer { mode, tap: Arc::new(Tap::new(up_to)), admitted: Mutex::default(), state: Mutex::new(state), task: Mutex::new(None) })
    }

    /// The part that a new namespace takes; `own` is the memory that it has by itself.
    pub(crate) fn admit(&self, own: Option<u64>) -> Part {
        let mut admitted = self.admitted.lock();
        if admitted.len() + 1 >= GROUPS_MAX {
            return self.rest();
        }
        admitted.push(own);
        Part { tap: self.tap.clone(), group: admitted.len() as u16, may_part: self.mode == SizingMode::Auto }
    }

    /// Somebody gave the shared pool, or a namespace's own, another size.
    pub(crate) fn resized(&self, group: usize, bytes: u64) {
        let mut state = self.state.lock();
        self.take_in(&mut state);
        let Some(before) = state.layout.bytes.get_mut(group) else { return };
        let before = std::mem::replace(before, bytes);
        state.budget = (state.budget - before.min(state.budget)).saturating_add(bytes);
        state.live = state.live.anew(state.budget, self.tap.up_to());
        state.trial = None;
    }

    /// Takes in the namespaces that have come.
    fn take_in(&self, state: &mut State) {
        let admitted = self.admitted.lock();
        for own in admitted.iter().skip(state.live.groups() - 1) {
            state.budget = state.budget.saturating_add(own.unwrap_or(0));
            state.layout.bytes.push(own.unwrap_or(0));
            state.live.add(own.is_none(), state.budget);
        }
    }

    /// What keys outside of all namespaces belong to.
    pub(crate) fn rest(&self) -> Part {
        Part { tap: self.tap.clone(), group: 0, may_part: false }
    }

    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Takes in what was recorded.
    fn drain(&self, shared: &Shared, state: &mut State) {
        let began = Instant::now();
        self.take_in(state);
        let (recorded, lost) = self.tap.drain();
        if state.costs.len() < state.live.groups() {
            state.costs = self.seen(shared, state).iter().map(|seen| seen.cost_us).collect();
        }
        for one in recorded {
            state.live.take(one, state.costs.get(usize::from(one.group)).copied().unwrap_or(0));
        }
        state.spent += began.elapsed();
        let all = state.since.elapsed();
        let is_dear = all > WINDOW / 4 && state.spent.as_secs_f64() > all.as_secs_f64() * state.share_max;
        if lost || is_dear {
            self.lower(state);
        }
        self.watch(shared, state);
        if all > WINDOW {
            (state.spent, state.since) = (Duration::ZERO, Instant::now());
        }
    }

    /// Records half as many keys, which the caches in small begin anew with.
    fn lower(&self, state: &mut State) {
        let up_to = (self.tap.up_to() / 2).max(u64::MAX / ONE_IN_MAX);
        if up_to == self.tap.up_to() {
            return;
        }
        self.tap.lower(up_to);
        state.live = state.live.anew(state.budget, up_to);
        state.trial = None;
        (state.spent, state.since) = (Duration::ZERO, Instant::now());
    }

    /// What each group has done since the window began.
    fn seen(&self, shared: &Shared, state: &State) -> Vec<Seen> {
        let empty = || Seen { spaces: Vec::new(), reads: 0.0, hits: 0.0, cost_us: 0 };
        let mut seen: Vec<Seen> = std::iter::repeat_with(empty).take(state.live.groups()).collect();
        let (mut loads, mut took) = (vec![0u64; seen.len()], vec![Duration::ZERO; seen.len()]);
        for space in shared.all_spaces() {
            let group = group_of(&space);
            let Some(one) = seen.get_mut(group) else { continue };
            let (counts, load) = (space.metrics.counts(), space.metrics.load.read());
            one.reads += counts.requests() as f64;
            one.hits += counts.hits_of_memory() as f64;
            loads[group] += load.count();
            took[group] += load.sum();
            one.spaces.push(space);
        }
        let mean = |loads: u64, took: Duration| (loads > 0).then(|| took.as_secs_f64() * 1e6 / loads as f64);
        // Who loads by itself outside is taken to be as the others, and where nobody is timed all are alike.
        let usual = mean(loads.iter().sum(), took.iter().sum()).unwrap_or(1_000.0);
        for (group, one) in seen.iter_mut().enumerate() {
            one.cost_us = mean(loads[group], took[group]).unwrap_or(usual).clamp(1.0, f64::from(u32::MAX)) as u32;
            let (reads, hits) = state.before.get(group).copied().unwrap_or_default();
            (one.reads, one.hits) = ((one.reads - reads as f64).max(0.0), (one.hits - hits as f64).max(0.0));
        }
        seen
    }

    /// Ends the window: sees what came of the last change, and makes the next.
    fn end_window(&self, shared: &Shared, state: &mut State) {
        let seen = self.seen(shared, state);
        let (recorded, window) = state.together_now(&seen);
        let counted: Vec<(f64, u32)> = seen.iter().map(|one| (one.reads, one.cost_us)).collect();
        let says_something = state.live.end_window(&counted);
        let totals = |n: usize, one: &Seen| {
            let (reads, hits) = state.before.get(n).copied().unwrap_or_default();
            (reads + one.reads as u64, hits + one.hits as u64)
        };
        state.before = seen.iter().enumerate().map(|(n, one)| totals(n, one)).collect();
        state.costs = seen.iter().map(|one| one.cost_us).collect();
        state.window_began = Instant::now();
        let worth = |of: fn(&Seen) -> f64| seen.iter().map(|one| of(one) * f64::from(one.cost_us)).sum::<f64>();
        let whole = worth(|one| one.reads);
        if !says_something || self.mode != SizingMode::Auto || whole <= 0.0 {
            return;
        }
        let measured = worth(|one| one.hits) / whole;
        if shared.pool.is_squeezed() {
            // What is measured now is of other sizes than those that were given out, so nothing follows from it, for or against a change.
            state.trial = None;
            state.agreed = 0;
            return;
        }
        if recorded >= ENOUGH {
            state.account.take(window, state.layout.is_apart);
        }
        // What memory holds, loaded anew: what a change costs that is wrong.
        let entries: usize = self.pools(shared, &seen).map(|pool| pool.len()).sum();
        let fill = entries as f64 * whole / seen.iter().map(|one| one.reads).sum::<f64>().max(1.0);
        if state.layout.is_apart && state.account.has_fallen(fill) {
            let before = state.trial.take().map_or_else(|| state.best(&seen, false), |trial| trial.before);
            let without = window.together + state.account.bias();
            self.undo(shared, state, &seen, before, ("it has come to lose", window.measured, without));
        } else if state.trial.is_some() {
            self.judge(shared, state, &seen, measured);
        } else if state.hold > 0 {
            state.hold -= 1;
        } else {
            self.change(shared, state, &seen, (measured, whole, fill));
        }
    }

    /// The shared pool, and all others.
    fn pools<'a>(&self, shared: &'a Shared, seen: &'a [Seen]) -> impl Iterator<Item = &'a Arc<Pool>> {
        std::iter::once(&shared.pool).chain(seen.iter().flat_map(|one| &one.spaces).filter_map(|space| space.own_pool()))
    }

    /// What came of the last change: undone where it is not what was predicted.
    fn judge(&self, shared: &Shared, state: &mut State, seen: &[Seen], measured: f64) {
        let Some(mut trial) = state.trial.take() else { return };
        trial.windows += 1;
        let without = state.value(&trial.before, seen) + state.bias;
        let effect = measured - without;
        // In the first window entries were on their way.
        if trial.windows < 2 {
            state.trial = Some(trial);
            return;
        }
        let undo = effect < trial.predicted * EFFECT_MIN;
        if let Some(last) = state.decisions.back_mut() {
            last.measured = Some(effect);
        }
        if undo {
            let why = format!("it was to gain {:.2} points", trial.predicted * 100.0);
            self.undo(shared, state, seen, trial.before, (&why, measured, without));
        }
    }

    /// Puts everything back as it was, and leaves it alone for a while.
    fn undo(&self, shared: &Shared, state: &mut State, seen: &[Seen], before: Layout, (why, measured, without): (&str, f64, f64)) {
        let told = format!(
            "{why}, and {:.2} % of reads hit, by what their loads cost, where without it about {:.2} % would have",
            measured * 100.0,
            without * 100.0
        );
        tracing::info!(told, "the last change of memory is undone");
        if let Some(last) = state.decisions.back_mut() {
            last.measured = Some(measured - without);
            last.undone = Some(told);
        }
        self.apply(shared, state, seen, before);
        state.trial = None;
        state.account.undone();
        state.hold = HOLD_WINDOWS << state.undone.min(6);
        state.undone += 1;
    }

    /// While namespaces are apart: whether the reads of this window up to now would do much better together. Not only at its end, since
    /// what reads are of can change at any moment, and each moment costs.
    fn watch(&self, shared: &Shared, state: &mut State) {
        // Not in the first window: what was given room has to fill it.
        let is_settling = state.trial.as_ref().is_some_and(|trial| trial.windows == 0);
        if !state.layout.is_apart || state.live.sharing_now().0 < ENOUGH || is_settling || shared.pool.is_squeezed() {
            return;
        }
        let seen = self.seen(shared, state);
        let (recorded, window) = state.together_now(&seen);
        if window.whole <= 0.0 {
            return;
        }
        let (measured, without) = (window.measured, window.together + state.bias.max(state.account.bias()));
        // Three deviations of what is counted, at most.
        let chance = 1.5 / recorded.sqrt();
        if measured < without - LOSS_MAX - chance {
            let before = state.trial.take().map_or_else(|| state.best(&seen, false), |trial| trial.before);
            self.undo(shared, state, &seen, before, ("what is read has changed", measured, without));
        }
    }

    /// Gives memory out anew if that gains enough.
    fn change(&self, shared: &Shared, state: &mut State, seen: &[Seen], (measured, whole, fill): (f64, f64, f64)) {
        let now = state.value(&state.layout, seen);
        let options = [state.best(seen, false), state.best(seen, true)];
        let valued = options.into_iter().map(|layout| (state.value(&layout, seen), layout));
        let Some((best, layout)) = valued.max_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        let is_good = best - now >= GAIN_MIN;
        state.agreed = if is_good { state.agreed + 1 } else { 0 };
        let pays = state.account.pays(is_good.then_some((best - now) * whole), fill);
        if state.agreed < WINDOWS_BEFORE || !pays {
            return;
        }
        state.agreed = 0;
        // A pool that still fills after the last change is not how good sharing is.
        let (predicted, bias) = (best - now, (measured - now).max(state.account.bias()));
        let what = told(&layout, seen);
        tracing::info!(predicted, what, "memory is given out anew");
        let before = state.layout.clone();
        self.apply(shared, state, seen, layout);
        state.account.begin();
        state.trial = Some(Trial { before, predicted, windows: 0 });
        state.bias = bias;
        if state.decisions.len() == DECISIONS_KEPT {
            state.decisions.pop_front();
        }
        state.decisions.push_back(Decision { at_ms: shared.clock.now_ms(), what, predicted, measured: None, undone: None });
    }

    /// Gives memory out so. First from those that get less, so that there is no more than there is.
    fn apply(&self, shared: &Shared, state: &mut State, seen: &[Seen], layout: Layout) {
        let pools = |group: usize| seen[group].spaces.iter().filter_map(|space| space.own_pool().cloned());
        if !layout.is_apart && state.layout.is_apart {
            resize(&shared.pool, layout.bytes_of(0).max(shared.pool.size()));
            seen.iter().flat_map(|one| &one.spaces).filter(|space| space.may_part()).for_each(|space| space.rejoin());
        }
        if layout.is_apart {
            // Their entries move before the shared pool shrinks, or they would be evicted by that.
            for (group, one) in seen.iter().enumerate().filter(|(group, _)| layout.bytes_of(*group) > 0) {
                let to_part = one.spaces.iter().filter(|space| space.may_part() && !space.is_parted());
                to_part.for_each(|space| space.part(layout.bytes_of(group)));
            }
        }
        let own = (1..seen.len()).flat_map(|group| pools(group).map(move |pool| (pool, group)));
        let all = std::iter::once((shared.pool.clone(), 0)).chain(own).map(|(pool, group)| (pool, layout.bytes_of(group)));
        let mut sized: Vec<(Arc<Pool>, u64)> = all.filter(|(_, bytes)| *bytes > 0).collect();
        sized.sort_by_key(|(pool, bytes)| *bytes > pool.size());
        sized.iter().for_each(|(pool, bytes)| resize(pool, *bytes));
        state.layout = layout;
    }
}

/// By halves, so that no lock of the engine is held while all is evicted at once. Not in smaller steps: the engine rounds down how many
/// evicted keys it remembers at each, and once that is none it stays none, whatever the size.
fn resize(pool: &Pool, bytes: u64) {
    let mut size = pool.size();
    while size / 2 > bytes {
        size /= 2;
        pool.resize(size);
    }
    pool.resize(bytes);
}

/// What a group claims: the first, all that share, unless they are apart.
fn claim(state: &State, seen: &[Seen], group: usize, is_apart: bool) -> Claim {
    let curve = if group == 0 && !is_apart { state.live.together() } else { state.live.curve(group) };
    let policy = seen[group].spaces.iter().filter(|_| group > 0).map(|space| &space.policy).next();
    let least = MEMORY_BYTES_MIN.max(state.budget / 256);
    let min = policy.and_then(|policy| policy.own_pool_min).unwrap_or(least).min(state.budget);
    let max = policy.and_then(|policy| policy.own_pool_max).unwrap_or(u64::MAX).max(min);
    Claim { curve, min, max }
}

impl State {
    /// How many reads were recorded in this window of those that share or would, and what came of them all beside one pool.
    fn together_now(&self, seen: &[Seen]) -> (f64, Window) {
        let (recorded, missed_us) = self.live.sharing_now();
        let sharing = || seen.iter().filter(|one| one.spaces.iter().all(|space| space.policy.own_pool.is_none()));
        let worth = |of: fn(&Seen) -> f64| sharing().map(|one| of(one) * f64::from(one.cost_us)).sum::<f64>();
        let whole = worth(|one| one.reads);
        let of_all = |worth: f64| if whole > 0.0 { worth / whole } else { 0.0 };
        (recorded, Window { measured: of_all(worth(|one| one.hits)), together: 1.0 - of_all(missed_us), whole })
    }

    /// The best of all ways to give memory out to those that are apart, and to all others together.
    fn best(&self, seen: &[Seen], is_apart: bool) -> Layout {
        let is_fixed = |group: usize| seen[group].spaces.iter().any(|space| space.policy.own_pool.is_some());
        let units: Vec<usize> = (0..seen.len()).filter(|group| *group == 0 || is_apart || is_fixed(*group)).collect();
        let claims: Vec<Claim> = units.iter().map(|group| claim(self, seen, *group, is_apart)).collect();
        let mut bytes = vec![0; seen.len()];
        for (group, given) in units.iter().zip(give_out(&claims, self.budget)) {
            bytes[*group] = given;
        }
        Layout { is_apart, bytes }
    }

    /// The share of all reads, by what they are worth, that hits in a layout.
    fn value(&self, layout: &Layout, seen: &[Seen]) -> f64 {
        let (mut value, mut whole) = (0.0, 0.0);
        for group in 0..seen.len() {
            let bytes = layout.bytes_of(group);
            if group > 0 && bytes == 0 {
                continue;
            }
            let claim = claim(self, seen, group, layout.is_apart);
            value += claim.value(bytes);
            whole += claim.whole();
        }
        if whole > 0.0 { value / whole } else { 0.0 }
    }
}

/// The group that a namespace belongs to.
pub(crate) fn group_of(space: &Space) -> usize {
    space.metrics.tap.as_ref().map_or(0, |(_, group)| usize::from(*group))
}

fn told(layout: &Layout, seen: &[Seen]) -> String {
    let parts = layout.bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0).map(|(group, bytes)| {
        let name = seen[group].spaces.first().filter(|_| group > 0).map_or("shared", |space| &*space.name);
        format!("{name} {bytes}")
    });
    let parts: Vec<String> = parts.collect();
    let how = if layout.is_apart { "each namespace has its own memory" } else { "all share" };
    format!("{how}; bytes: {}", parts.join(", "))
}

/// Starts the task. It holds the cache only while it works, so that it ends with the last handle.
pub(crate) fn start(shared: &Arc<Shared>) {
    let Some(sizer) = &shared.sizer else { return };
    let task = shared.runtime.spawn(rounds(Arc::downgrade(shared)));
    *sizer.task.lock() = Some(task.abort_handle());
}

async fn rounds(weak: Weak<Shared>) {
    loop {
        tokio::time::sleep(DRAIN_EVERY).await;
        let Some(shared) = weak.upgrade() else { return };
        let runtime = shared.runtime.clone();
        let round = runtime.spawn_blocking(move || {
            let Some(sizer) = &shared.sizer else { return };
            let mut state = sizer.state.lock();
            sizer.drain(&shared, &mut state);
            if state.window_began.elapsed() >= WINDOW {
                sizer.end_window(&shared, &mut state);
            }
        });
        if let Err(error) = round.await {
            tracing::warn!(%error, "the sizing of memory panicked, and is left alone from now on");
            return;
        }
    }
}

impl Larder {
    /// What other sizes of memory would do, for each namespace and for all together, and what was changed because of it. Curves are of
    /// the last few minutes, and empty until the second. `None` where the builder was not told to look:
    /// [`Builder::sizing`](crate::Builder::sizing).
    ///
    /// It takes in what was recorded, which may be some milliseconds of work.
    pub fn sizing(&self) -> Option<Sizing> {
        let sizer = self.0.sizer.as_ref()?;
        let mut state = sizer.state.lock();
        sizer.drain(&self.0, &mut state);
        Some(sizer.report(&self.0, &state))
    }

    /// Ends the window for which reads are gathered now, and not at the end of its minute: what can be seen by then is acted on, if memory
    /// is given out automatically. It blocks while entries are moved.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] where sizing is off.
    pub fn optimize(&self) -> Result<Sizing> {
        let off = || Error::new(ErrorKind::InvalidConfig, "nothing is recorded for the sizing of memory; see Builder::sizing");
        let sizer = self.0.sizer.as_ref().ok_or_else(off)?;
        let mut state = sizer.state.lock();
        sizer.drain(&self.0, &mut state);
        sizer.end_window(&self.0, &mut state);
        Ok(sizer.report(&self.0, &state))
    }
}

impl Sizer {
    fn report(&self, shared: &Shared, state: &State) -> Sizing {
        let seen = self.seen(shared, state);
        let apart = state.best(&seen, true);
        let gain = state.value(&apart, &seen) - state.value(&state.best(&seen, false), &seen);
        let namespaces = seen.iter().enumerate().flat_map(|(group, one)| {
            let (apart, curve) = (&apart, state.live.curve(group));
            one.spaces.iter().filter(move |_| group > 0).map(move |space| {
                let own =
                    if space.policy.own_pool.is_some() || state.layout.is_apart { space.own_pool().map(|pool| pool.size()) } else { None };
                let counts = space.metrics.counts();
                let ttl = space.policy.ttl.and_then(|ttl| advise_ttl(ttl, &counts, &space.metrics.sketching.unread()));
                namespace_of(space, own, apart.bytes_of(group), &curve, ttl)
            })
        });
        Sizing {
            mode: self.mode,
            budget: state.budget,
            sampled: state.live.rate(),
            is_apart: state.layout.is_apart,
            shared_bytes: shared.pool.size(),
            together: state.live.together(),
            apart_gain: gain,
            advises_apart: gain >= GAIN_MIN,
            namespaces: namespaces.collect(),
            decisions: state.decisions.iter().cloned().collect(),
        }
    }
}

fn namespace_of(space: &Space, own: Option<u64>, advised: u64, curve: &Curve, ttl: Option<crate::sizing::TtlAdvice>) -> NamespaceSizing {
    let bytes = own.unwrap_or_else(|| space.metrics.bytes.load(crate::sync::Ordering::Relaxed));
    NamespaceSizing {
        name: space.name.to_string(),
        own_bytes: own,
        bytes,
        advised_bytes: advised,
        gain: curve.gain(bytes),
        loss: curve.loss(bytes),
        curve: curve.clone(),
        ttl,
    }
}

#[cfg(test)]
mod tests;
