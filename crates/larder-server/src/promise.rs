//! Memory is a promise: the process stays below what it may have, or gives back what it can before the kernel takes more.
//!
//! ```text
//!   readings.rs   resident, limit of the control group, pressure ──┐
//!   the cache     sizes of its pools ──────────────────────────────┼──> decide.rs ──> share ──> Larder::squeeze_memory, in small steps
//!   [process]     the budget ──────────────────────────────────────┘
//! ```
//!
//! The budget covers all that the process has: pools, index, queues, connections, the allocator's own. Of these the pools can give back
//! at once what they have; the others have bounds of their own, and what they take is told, so that who sets the budget can see what of it
//! is left for pools. Where memory is given out automatically (`sizing = "auto"`) that goes on deciding about the sizes, and waits while
//! they are not used whole: each is decided by one.

use std::sync::Arc;
use std::time::Duration;

use larder::Larder;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::config::units::roughly;
use decide::{Keeper, Pressure, Seen, Why};
use readings::Readings;

pub mod decide;
pub mod readings;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);

/// What pools let go of at once, and the pause after it: what they evict in one go holds their locks, some tenths of a millisecond for
/// this. Not less: at each change of size the engine forgets a little of what it remembers of evicted keys.
const STEP_BYTES: u64 = 4 << 20;
const PAUSE: Duration = Duration::from_millis(4);

/// So often in a row nothing bounds the process before pools get all of their size back: a limit that cannot be read for a moment, while a
/// container is given another, is not one that is gone.
const UNBOUNDED_TICKS: u32 = 20;

/// Of the limit of a control group, the part that is the budget where none is given: its page cache and the kernel's own count as well.
const OF_LIMIT: f64 = 0.9;

/// What the process may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Bytes, where somebody says.
    pub bytes: Option<u64>,
    /// Whether the limit of the control group counts as well.
    pub obeys_group: bool,
}

/// What the process has, may have, and of what it is made up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Bytes that are resident.
    pub resident: u64,
    /// Bytes that it may have; null where nothing bounds it.
    pub budget: Option<u64>,
    /// What its control group may have, if that is bounded.
    pub group_limit: Option<u64>,
    /// How much somebody waits for memory, in percent of the last ten seconds; null where that is not told.
    pub pressure_some: Option<f64>,
    /// How much everybody does.
    pub pressure_full: Option<f64>,
    /// The share of their size that pools may use.
    pub share: f64,
    /// Why: `calm`, `large`, `bounded`, `pressed`, `kept` or `least`.
    pub why: String,
    /// Bytes of entries in pools.
    pub pools: u64,
    /// Bytes of the freshness index.
    pub index: u64,
    /// Bytes of writes that wait.
    pub queues: u64,
    /// What is resident beside: connections, histograms, the engine of the disk, what the allocator keeps.
    pub rest: u64,
}

/// See the head of this file.
pub struct Promise {
    larder: Larder,
    readings: Readings,
    settings: BudgetSettings,
    /// What decides, and the share that it decided last.
    keeper: Mutex<(Keeper, f64)>,
    began: Instant,
}

impl Promise {
    /// One that is kept by [`keep`](Self::keep).
    pub fn new(larder: Larder, readings: Readings, settings: BudgetSettings) -> Arc<Self> {
        let promise = Promise { larder, readings, settings, keeper: Mutex::new((Keeper::default(), 1.0)), began: Instant::now() };
        promise.warn_if_it_cannot_hold();
        Arc::new(promise)
    }

    /// What the process may have: what somebody said, and most of what its control group may, whichever is less.
    pub fn budget(&self) -> Option<u64> {
        let group = self.readings.limit().filter(|_| self.settings.obeys_group).map(|limit| (limit as f64 * OF_LIMIT) as u64);
        [self.settings.bytes, group].into_iter().flatten().min()
    }

    /// Looks again and again, and does what follows; for as long as it is polled.
    pub async fn keep(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut used, mut unbounded) = (1.0_f64, 0);
        loop {
            ticks.tick().await;
            unbounded = if self.budget().is_some() { 0 } else { UNBOUNDED_TICKS.min(unbounded + 1) };
            if unbounded == UNBOUNDED_TICKS && used < 1.0 {
                self.give_all_back();
                used = 1.0;
                self.larder.squeeze_memory(used);
            }
            let Some(wanted) = self.look() else { continue };
            let memory = self.larder.stats().memory;
            let asked = memory.asked_bytes.max(1) as f64;
            // What nobody uses is taken at once, and costs nothing; so does what is given back.
            used = if wanted < used { used.min((memory.bytes as f64 / asked).max(wanted)) } else { wanted };
            self.larder.squeeze_memory(used);
            while used > wanted {
                sleep(PAUSE).await;
                used = (used - STEP_BYTES as f64 / asked).max(wanted);
                self.larder.squeeze_memory(used);
            }
        }
    }

    /// Looks once, and gives the share that pools may use; nothing where nothing bounds the process, or it cannot be read.
    pub fn look(&self) -> Option<f64> {
        let (budget, resident) = (self.budget()?, self.readings.resident()?);
        let stats = self.larder.stats();
        let (pools, used) = (stats.memory.asked_bytes, stats.memory.bytes);
        let seen = Seen { resident, budget, pools, used, pressure: self.readings.pressure() };
        let (share, before, why) = {
            let (keeper, last) = &mut *self.keeper.lock();
            let before = keeper.why();
            *last = keeper.decide(self.began.elapsed(), &seen);
            (*last, before, keeper.why())
        };
        if before != why {
            let (resident, budget) = (roughly(resident), roughly(budget));
            match why {
                Why::Calm => tracing::info!(%resident, %budget, share, "there is memory again; pools may grow"),
                _ => tracing::warn!(%resident, %budget, share, why = why.name(), "the process comes near the memory it may have"),
            }
        }
        Some(share)
    }

    /// There is no limit any more: what was decided under the last one is of no use for another.
    fn give_all_back(&self) {
        tracing::info!("nothing bounds the memory of the process any more; pools are used whole");
        *self.keeper.lock() = (Keeper::default(), 1.0);
    }

    /// What it has and may have.
    pub fn standing(&self) -> Standing {
        let stats = self.larder.stats();
        let (share, why) = {
            let (keeper, share) = &*self.keeper.lock();
            (*share, keeper.why())
        };
        let pressure = self.readings.pressure();
        let resident = self.readings.resident().unwrap_or(0);
        let queues = stats.backing.map_or(0, |backing| backing.stats.queued_bytes);
        let (pools, index) = (stats.memory.bytes, stats.index.bytes as u64);
        Standing {
            resident,
            budget: self.budget(),
            group_limit: self.readings.limit(),
            pressure_some: pressure.map(|Pressure { some, .. }| some),
            pressure_full: pressure.map(|Pressure { full, .. }| full),
            share,
            why: why.name().to_owned(),
            pools,
            index,
            queues,
            rest: resident.saturating_sub(pools + index + queues),
        }
    }

    /// At the start: pools and index that alone are more than the budget will not be used whole.
    fn warn_if_it_cannot_hold(&self) {
        let stats = self.larder.stats();
        let fixed = stats.memory.asked_bytes + stats.index.bytes as u64;
        if let Some(budget) = self.budget().filter(|budget| *budget < fixed) {
            let (budget, fixed) = (roughly(budget), roughly(fixed));
            tracing::warn!(%budget, %fixed, "memory and index alone are more than the process may have; memory will not be used whole");
        }
    }
}

#[cfg(test)]
mod tests;
