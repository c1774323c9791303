//! Whether the server is under maintenance: somebody asked for it, so it is no fault, and it does not do all that it should.

use std::sync::Arc;
use std::time::Duration;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::config::units::show_time;
use crate::maintenance::{Maintenance, Standing};
use crate::settings::HealthLimits;

/// How often it is looked at, where others are probed less often: it costs nothing.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn watch(health: &mut Health, maintenance: Arc<Maintenance>, limits: &HealthLimits) {
    let slot = health.add("maintenance", "component", false);
    let judge = Judge::new(InARow { worse: 1, better: 1 });
    let late = Look::bad(State::Degraded, "it is not known whether it is on", "this is a fault of larder", Vec::new());
    let look = move || {
        let look = judge_standing(&maintenance.standing());
        async move { look }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every.min(EVERY), limits.probe_timeout), late, look));
}

fn judge_standing(standing: &Standing) -> Look {
    let Standing { on: true, left_ms, by, reason, writes_under_way, .. } = standing else { return Look::healthy(Vec::new()) };
    let left = Duration::from_millis(left_ms.unwrap_or_default());
    let observed = vec![Observed::new("timeLeft", left.as_secs(), "s"), Observed::new("writesUnderWay", *writes_under_way, "writes")];
    let told = |text: &Option<String>, word: &str| text.as_deref().filter(|text| !text.is_empty()).map(|text| format!("{word}{text}"));
    let (by, why) = (told(by, ", asked for by ").unwrap_or_default(), told(reason, ": ").unwrap_or_default());
    let what = format!("the server takes no writes for another {}{by}{why}", show_time(Duration::from_secs(left.as_secs().max(1))));
    Look::bad(State::Degraded, what, "it comes back by itself; `larder maintenance off` ends it now", observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_why_and_for_how_long_is_told() {
        assert_eq!(judge_standing(&Standing::default()).state, State::Healthy);
        let on =
            Standing { on: true, left_ms: Some(90_000), by: Some("ada".into()), reason: Some("a new disk".into()), ..Standing::default() };
        let look = judge_standing(&on);
        let reason = look.reason.expect("there is one").what;
        assert_eq!(
            (look.state, reason.as_str()),
            (State::Degraded, "the server takes no writes for another 1m 30s, asked for by ada: a new disk")
        );
    }
}
