//! Sources of events: whether what they tell takes effect.

use std::time::Duration;

use larder::Larder;
use larder::events::SourceStats;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::settings::HealthLimits;

/// It is asked of memory alone.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn watch(health: &mut Health, larder: &Larder, limits: &HealthLimits) {
    let slot = health.add("sources", "component", false);
    let judge = Judge::new(InARow { worse: limits.fails_after, better: limits.recovers_after });
    let late = Look::bad(State::Degraded, "it is not known how the sources of events are", "this is a fault of larder", Vec::new());
    let larder = larder.clone();
    let look = move || {
        let sources = larder.sources();
        async move { judge_sources(&sources) }
    };
    health.spawn(look_on(slot, judge, (EVERY, limits.probe_timeout), late, look));
}

/// One that was stopped is as it should be.
pub(super) fn judge_sources(sources: &[SourceStats]) -> Look {
    let followed = || sources.iter().filter(|source| !source.ended);
    let observed = followed().map(|source| Observed::new("connected", u64::from(source.connected), "boolean").of(&source.name)).collect();
    let troubles: Vec<String> = followed()
        .filter_map(|source| {
            let why = source.trouble.as_ref()?;
            let waiting = if source.connected { "its events wait" } else { "it is tried again" };
            Some(format!("events of {} do not take effect now, {waiting}: {why}", source.name))
        })
        .collect();
    if troubles.is_empty() {
        return Look::healthy(observed);
    }
    Look::bad(State::Degraded, troubles.join("; "), "see to what it says; nothing is lost meanwhile", observed)
}
