//! From the section `[health]` to when what is found counts as how.

use std::time::Duration;

use super::Typed;
use super::document::Givens;
use super::fault::Fault;
use super::value::Value;
use crate::settings::HealthLimits;

/// Times that a probe, or a window, can have.
const TIMES: [&str; 3] = ["probe_every", "probe_timeout", "window"];
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3_600);

/// What the section says, and what is wrong with it.
pub fn of(givens: &Givens, faults: &mut Vec<Fault>) -> HealthLimits {
    for name in TIMES {
        if let Some(given) = givens.get(name)
            && let Value::Time(time) = given.value
            && !(SHORTEST..=LONGEST).contains(&time)
        {
            faults.push(Fault::new(&given.place, format!("health.{name}: found {}; it is from 100ms to 1h", given.value)));
        }
    }
    let (degraded, unhealthy) = (givens.get("disk_free_degraded"), givens.get("disk_free_unhealthy"));
    if let (Some(degraded), Some(unhealthy)) = (degraded, unhealthy)
        && let (Value::Size(low), Value::Size(least)) = (&degraded.value, &unhealthy.value)
        && low < least
    {
        let what =
            format!("health.disk_free_degraded: found {}; it is no less than disk_free_unhealthy ({})", degraded.value, unhealthy.value);
        faults.push(Fault::new(&degraded.place, what));
    }
    let typed = Typed(givens);
    let count = |name: &str| u32::try_from(typed.number(name)).unwrap_or(u32::MAX);
    HealthLimits {
        probes: typed.flag("probes"),
        probe_every: typed.time("probe_every"),
        probe_timeout: typed.time("probe_timeout"),
        fails_after: count("fails_after"),
        recovers_after: count("recovers_after"),
        log_behind_max: typed.number("log_behind_max"),
        disk_free_degraded: typed.number("disk_free_degraded"),
        disk_free_unhealthy: typed.number("disk_free_unhealthy"),
        certificate_left: typed.time("certificate_left"),
        hit_rate_min: typed.share("hit_rate_min"),
        latency_max: typed.time("latency_max"),
        requests_min: typed.number("requests_min"),
        window: typed.time("window"),
        windows: count("windows"),
    }
}
