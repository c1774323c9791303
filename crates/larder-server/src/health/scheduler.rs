//! Jobs: whether the last run of each went well, and whether it is known how they stand.

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::jobs::{Jobs, View, troubles};
use crate::settings::HealthLimits;

pub(super) fn watch(health: &mut Health, jobs: Jobs, limits: &HealthLimits) {
    let slot = health.add("scheduler", "component", false);
    // A run that failed does not come and go.
    let judge = Judge::new(InARow { worse: limits.fails_after, better: 1 });
    let late = Look::bad(State::Degraded, "it is not known how the jobs are", "this is a fault of larder", Vec::new());
    let look = move || {
        let look = judge_jobs(&jobs.views());
        async move { look }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every, limits.probe_timeout), late, look));
}

pub(super) fn judge_jobs(views: &[View]) -> Look {
    let last_ok = |view: &View| Some(Observed::new("lastSuccess", view.last_ok_ms? / 1_000, "s").of(&view.definition.name));
    let observed = views.iter().filter_map(last_ok).collect();
    let troubles = troubles(views);
    let Some(first) = troubles.keys().next() else { return Look::healthy(observed) };
    let advice = format!("larder jobs show {first} says more; larder jobs run {first} tries it again");
    let what: Vec<String> = troubles.iter().map(|(job, why)| format!("{job}: {why}")).collect();
    Look::bad(State::Degraded, what.join("; "), advice, observed)
}
