//! Memory, the backing tier and the log: what the cache's own probes found last, and when the server counts as started.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder::{Larder, Part, Probe, Probed};

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, Slot, State, ms};
use crate::settings::HealthLimits;

/// How often the probes' results are looked at, which costs three loads from memory.
const EVERY: Duration = Duration::from_millis(100);

struct Watching {
    part: Part,
    slot: Arc<Slot>,
    judge: Judge,
    /// The last run that was taken.
    runs: u64,
}

/// What the states go by.
#[derive(Clone, Copy)]
pub(super) struct Going {
    pub(super) is_strict: bool,
    pub(super) behind_max: u64,
}

pub(super) fn watch(health: &mut Health, larder: &Larder, limits: &HealthLimits, is_strict: bool) {
    let in_a_row = InARow { worse: limits.fails_after, better: limits.recovers_after };
    let is_shared = larder.stats().log.shared.is_some();
    let watching = |Probed { part, .. }: Probed, health: &mut Health| {
        let kind = if part == Part::Backing { "datastore" } else { "component" };
        // A log that is shared is away for all servers at once: were they all to say so, nobody would be left to answer what can
        // be answered without it. Where nothing can be, because the cache is strict, it is needed.
        let needed = match part {
            Part::Log => !is_shared || is_strict,
            Part::Memory => true,
            _ => false,
        };
        Watching { part, slot: health.add(part.name(), kind, needed), judge: Judge::new(in_a_row), runs: 0 }
    };
    let mut all: Vec<Watching> = larder.probes().into_iter().map(|probed| watching(probed, health)).collect();
    if all.is_empty() {
        health.started.store(true, Ordering::Release);
        return;
    }
    let (larder, started) = (larder.clone(), health.started.clone());
    let going = Going { is_strict, behind_max: limits.log_behind_max };
    health.spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let probed = larder.probes();
            for watching in &mut all {
                let last = probed.iter().find(|probed| probed.part == watching.part).and_then(|probed| probed.last.as_ref());
                if let Some(probe) = last.filter(|probe| probe.runs > watching.runs) {
                    watching.runs = probe.runs;
                    let look = look(watching.part, probe, going);
                    watching.judge.take(&look, probe.at);
                    watching.slot.publish(&watching.judge, look, probe.at);
                }
            }
            if !started.load(Ordering::Acquire) && has_started(&probed, is_strict) {
                started.store(true, Ordering::Release);
            }
        }
    });
}

/// Each part was probed, and nothing of the log is missing here. A server that goes on while its log is away has started when it
/// found that out: whoever starts servers anew that take too long would else do so for as long as Redis is away.
pub(super) fn has_started(probed: &[Probed], is_strict: bool) -> bool {
    let in_place = |part: Part, probe: &Probe| match part {
        Part::Log if probe.trouble.is_none() => probe.log.is_none_or(|log| log.behind == 0),
        Part::Log => !is_strict && probe.log.is_some_and(|log| log.unheard_for.is_some()),
        _ => true,
    };
    probed.iter().all(|Probed { part, last, .. }| last.as_ref().is_some_and(|probe| in_place(*part, probe)))
}

pub(super) fn look(part: Part, probe: &Probe, Going { is_strict, behind_max }: Going) -> Look {
    let mut observed = vec![Observed::new("responseTime", ms(probe.took), "ms")];
    if let Some(log) = probe.log {
        observed.push(Observed { what: "position", id: None, value: log.position.to_string().into(), unit: None });
        observed.push(Observed::new("lag", log.behind, "positions"));
        observed.extend(log.unheard_for.map(|unheard| Observed::new("unconfirmedFor", ms(unheard), "ms")));
    }
    let is_shared = probe.log.is_some_and(|log| log.unheard_for.is_some());
    let state = match part {
        Part::Memory => State::Unhealthy,
        Part::Log if is_strict || !is_shared => State::Unhealthy,
        _ => State::Degraded,
    };
    if let Some(trouble) = &probe.trouble {
        return Look::bad(state, &trouble.what, &trouble.advice, observed);
    }
    match probe.log.map(|log| log.behind).filter(|behind| *behind > behind_max) {
        Some(behind) => Look::bad(
            State::Degraded,
            format!("this server is {behind} positions behind the log, more than {behind_max}"),
            "see whether it has processor time and a good way to Redis; reads may be older than they should meanwhile",
            observed,
        ),
        None => Look::healthy(observed),
    }
}
