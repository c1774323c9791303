//! Certificates that this server uses, and when they run out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder::Larder;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::moment;
use crate::settings::HealthLimits;
use crate::tls::{Tls, TlsError, x509};

const DAY_S: u64 = 24 * 60 * 60;

/// A file of certificates, as it was when it was read: those for Redis when the server started, its own again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The setting that names it.
    pub setting: &'static str,
    /// When the first of those in it runs out; or why that is not known.
    pub runs_out: Result<SystemTime, String>,
}

impl Certificate {
    /// Reads the certificates of a PEM file.
    pub fn of(setting: &'static str, pem: &[u8]) -> Self {
        Certificate { setting, runs_out: x509::runs_out(pem) }
    }
}

/// By the cache's clock, which a test can set.
pub(super) fn watch(health: &mut Health, larder: &Larder, (fixed, tls): (Vec<Certificate>, Option<Arc<Tls>>), limits: &HealthLimits) {
    let slot = health.add("certificates", "system", false);
    let judge = Judge::new(InARow { worse: 1, better: 1 });
    let late = Look::bad(State::Degraded, "it is not known when certificates run out", "this is a fault of larder", Vec::new());
    let (left_min, clock) = (limits.certificate_left, larder.clock().clone());
    let look = move || {
        let renewed = tls.iter().flat_map(|tls| tls.certificates()).collect::<Vec<_>>();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock.refresh());
        let refused = tls.as_ref().and_then(|tls| tls.refused());
        let look = judge_all(&[fixed.as_slice(), &renewed].concat(), refused.as_ref(), now, left_min);
        async move { look }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every, limits.probe_timeout), late, look));
}

pub(super) fn judge_all(certificates: &[Certificate], refused: Option<&TlsError>, now: SystemTime, left_min: Duration) -> Look {
    let mut observed = Vec::new();
    let (mut state, mut what) = (State::Healthy, Vec::new());
    for Certificate { setting, runs_out } in certificates {
        let (this, words) = match runs_out {
            Err(why) => (State::Degraded, format!("when {setting} runs out cannot be read: {why}")),
            Ok(at) => {
                let left = at.duration_since(now).ok();
                let seconds = left.map_or(0, |left| left.as_secs());
                observed.push(Observed::new("timeLeft", seconds, "s").of(*setting));
                let ms = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
                let when = moment::date_and_time(ms);
                match left {
                    None => (State::Unhealthy, format!("the certificate {setting} ran out on {when} UTC")),
                    Some(left) if left < left_min => {
                        (State::Degraded, format!("the certificate {setting} runs out in {} days, on {when} UTC", seconds / DAY_S))
                    }
                    Some(_) => continue,
                }
            }
        };
        state = state.max(this);
        what.push(words);
    }
    if let Some(refused) = refused {
        state = state.max(State::Degraded);
        what.push(format!("a new certificate was refused, and the one before is in use: {refused}"));
    }
    if what.is_empty() {
        return Look::healthy(observed);
    }
    let advice = "renew it: those of [tls] are read again by themselves and on SIGHUP, those for Redis when the server starts";
    Look::bad(state, what.join("; "), advice, observed)
}
