//! How well reads do: their hit rate and mean latency, over a window that slides, where it has enough of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use larder::{Larder, NamespaceStats};
use parking_lot::Mutex;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on, ms};
use crate::demo::percent;
use crate::settings::HealthLimits;

/// Looks to a window: it slides by a sixth of itself.
const STEPS: u32 = 6;

/// What the states go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) requests_min: u64,
    pub(super) hit_rate_min: f64,
    pub(super) latency_max: Duration,
}

pub(super) fn watch(health: &mut Health, larder: &Larder, limits: &HealthLimits) {
    let slot = health.add("performance", "component", false);
    let judge = Judge::new(InARow { worse: limits.windows, better: limits.windows });
    let wanted = Wanted { requests_min: limits.requests_min, hit_rate_min: limits.hit_rate_min, latency_max: limits.latency_max };
    let late = Look::bad(
        State::Degraded,
        format!("the counters could not be read within {:?}", limits.probe_timeout),
        "the log's disk may hang, or the process gets no processor time",
        Vec::new(),
    );
    let (larder, windows) = (larder.clone(), Arc::new(Mutex::new(VecDeque::new())));
    let look = move || {
        let (larder, windows) = (larder.clone(), windows.clone());
        // The log's part of them is under the lock that a write to a disk that hangs would hold.
        let reading = tokio::task::spawn_blocking(move || {
            let now = larder.stats().total;
            let mut windows = windows.lock();
            let then: NamespaceStats = windows.front().cloned().unwrap_or_else(|| now.clone());
            let window = Window::between(&then, &now);
            windows.push_back(now);
            let too_many = windows.len().saturating_sub(STEPS as usize);
            windows.drain(..too_many);
            window
        });
        async move {
            match reading.await {
                Ok(window) => judge_window(window, wanted),
                Err(_) => Look::bad(State::Degraded, "reading the counters panicked", "this is a fault of larder", Vec::new()),
            }
        }
    };
    health.spawn(look_on(slot, judge, (limits.window / STEPS, limits.probe_timeout), late, look));
}

/// Reads between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) mean: Duration,
}

impl Window {
    pub(super) fn between(then: &NamespaceStats, now: &NamespaceStats) -> Self {
        let counts = now.counts.since(&then.counts);
        let (memory, backing, miss) =
            (now.hit_memory.since(&then.hit_memory), now.hit_backing.since(&then.hit_backing), now.miss.since(&then.miss));
        // Of hits in memory a share is timed; all count as much as these.
        let in_memory = memory.mean().unwrap_or_default().as_nanos() * u128::from(counts.hits_memory);
        let timed = u128::from(counts.hits_memory + backing.count() + miss.count());
        let all = in_memory + backing.sum().as_nanos() + miss.sum().as_nanos();
        let mean = Duration::from_nanos(all.checked_div(timed).and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0));
        Window { requests: counts.requests(), hits: counts.hits(), mean }
    }
}

/// Too few reads say nothing, which is no fault.
pub(super) fn judge_window(window: Window, wanted: Wanted) -> Look {
    let Window { requests, hits, mean } = window;
    let mut observed = vec![Observed::new("requests", requests, "requests")];
    if requests < wanted.requests_min.max(1) {
        return Look::healthy(observed);
    }
    let hit_rate = hits as f64 / requests as f64;
    observed.push(Observed::new("hitRate", hit_rate, "ratio"));
    observed.push(Observed::new("meanLatency", ms(mean), "ms"));
    let mut what = Vec::new();
    let mut advice = Vec::new();
    if hit_rate < wanted.hit_rate_min {
        what.push(format!("{} of reads hit, less than {}", percent(hit_rate), percent(wanted.hit_rate_min)));
        advice.push("larder stats says whether misses were never there, expired or invalidated: see to memory, times to live, or what invalidates so much");
    }
    if mean > wanted.latency_max {
        what.push(format!("a read takes {:.1} ms in the mean, more than {:.1} ms", ms(mean), ms(wanted.latency_max)));
        advice.push("larder stats tells the time of hits, the backing tier and loads apart: see to the slowest");
    }
    if what.is_empty() { Look::healthy(observed) } else { Look::bad(State::Degraded, what.join("; "), advice.join("; "), observed) }
}
