//! Whether the audit log is written.

use std::sync::Arc;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::audit::{Audit, OnFailure, Standing};
use crate::settings::HealthLimits;

pub(super) fn watch(health: &mut Health, audit: Arc<Audit>, limits: &HealthLimits) {
    let slot = health.add("audit", "system", false);
    let judge = Judge::new(InARow { worse: 1, better: 1 });
    let late = Look::bad(State::Degraded, "it is not known how the audit log is", "this is a fault of larder", Vec::new());
    let look = move || {
        let look = judge_standing(&audit.standing(), audit.on_failure());
        async move { look }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every, limits.probe_timeout), late, look));
}

pub(super) fn judge_standing(standing: &Standing, on_failure: OnFailure) -> Look {
    let Standing { written, waiting, lost, failing } = standing;
    let observed = [("recordsWritten", *written), ("recordsWaiting", *waiting as u64), ("recordsLost", *lost)];
    let observed = observed.into_iter().map(|(what, number)| Observed::new(what, number, "records")).collect();
    let advice = "make room where [audit] has its folder; what waits is written then";
    match (failing, on_failure) {
        (Some(why), OnFailure::Refuse) => {
            let what = format!("the audit log cannot be written, and what belongs into it is refused: {why}");
            Look::bad(State::Unhealthy, what, advice, observed)
        }
        (Some(why), OnFailure::Warn) => {
            let what = format!("the audit log cannot be written, and what belongs into it is done without ({lost} so far): {why}");
            Look::bad(State::Degraded, what, advice, observed)
        }
        (None, _) if *lost > 0 => {
            let what = format!("{lost} operations are not in the audit log, since they came while it could not be written");
            Look::bad(State::Degraded, what, "on_failure = \"refuse\" would have refused them; a restart begins to count anew", observed)
        }
        (None, _) => Look::healthy(observed),
    }
}
