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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::schedule::Schedule;
    use crate::jobs::{Definition, Outcome, Run};

    fn view(name: &str, outcome: Outcome) -> View {
        let schedule = Schedule::parse("0 2 * * *", "UTC").expect("a schedule");
        // 2026-11-27 02:00 UTC.
        let mut run = Run::begun(name, (1, 1_795_744_800_000, true), None, "a", 1_795_744_800_000);
        run.end(outcome, Some("no room"), 1_795_744_801_000);
        View {
            definition: Definition::new(name, schedule),
            paused: false,
            running: None,
            last: Some(run),
            last_ok_ms: Some(1_795_658_400_000),
            next_ms: Vec::new(),
            trouble: None,
            counts: vec![0; Outcome::ALL.len()],
        }
    }

    #[test]
    fn what_failed_or_was_missed_is_told_with_what_to_do() {
        let well = [Outcome::Ok, Outcome::Cancelled, Outcome::Overlapped, Outcome::Running].map(|outcome| view("cleanup", outcome));
        assert_eq!(judge_jobs(&well).state, State::Healthy);
        let look = judge_jobs(&[view("analyze", Outcome::Failed), view("cleanup", Outcome::Ok), view("optimize", Outcome::Missed)]);
        let reason = look.reason.expect("it says why");
        assert_eq!(look.state, State::Degraded);
        let what = "analyze: the run of 2026-11-27 02:00:00 failed: no room; optimize: the run of 2026-11-27 02:00:00 was missed: no room";
        assert_eq!(reason.what, what);
        assert_eq!(reason.advice, "larder jobs show analyze says more; larder jobs run analyze tries it again");
        assert_eq!(look.observed.len(), 3);
        let unknown = View { trouble: Some("Redis cannot be reached".to_owned()), ..view("cleanup", Outcome::Ok) };
        assert!(
            judge_jobs(&[unknown]).reason.expect("it says why").what.contains("it is not known how it stands: Redis cannot be reached")
        );
    }
}
