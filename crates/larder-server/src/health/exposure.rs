//! Doors that are open to more than this machine without access control or TLS. Somebody said that this is wanted, and it stays degraded
//! all the same: whoever watches the server need not be the one who said so.

use super::judge::{InARow, Judge};
use super::{Health, Look, State, look_on};
use crate::exposure::{ADVICE, Exposed};
use crate::settings::HealthLimits;

pub(super) fn watch(health: &mut Health, exposed: &[Exposed], limits: &HealthLimits) {
    let slot = health.add("exposure", "system", false);
    let judge = Judge::new(InARow { worse: 1, better: 1 });
    let what = exposed.iter().map(Exposed::to_string).collect::<Vec<_>>().join("; ");
    let found = Look::bad(State::Degraded, what, ADVICE, Vec::new());
    let late = found.clone();
    let look = move || {
        let found = found.clone();
        async move { found }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every, limits.probe_timeout), late, look));
}
