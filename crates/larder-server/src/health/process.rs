//! Whether the process stays below the memory that it may have, where something bounds it.

use std::sync::Arc;

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::config::units::roughly;
use crate::promise::{Promise, Standing};
use crate::settings::HealthLimits;

pub(super) fn watch(health: &mut Health, promise: Arc<Promise>, limits: &HealthLimits) {
    let slot = health.add("process", "system", false);
    let judge = Judge::new(InARow { worse: 1, better: limits.recovers_after });
    let late = Look::bad(State::Degraded, "the memory of the process cannot be read", "look at /proc/self/status", Vec::new());
    let look = move || {
        let promise = promise.clone();
        async move { judge_standing(&promise.standing()) }
    };
    health.spawn(look_on(slot, judge, (limits.probe_every, limits.probe_timeout), late, look));
}

fn judge_standing(standing: &Standing) -> Look {
    let Standing { resident, budget, share, why, pools, index, queues, rest, pressure_some, .. } = standing;
    let bytes = [
        ("resident", Some(*resident)),
        ("budget", *budget),
        ("pools", Some(*pools)),
        ("index", Some(*index)),
        ("queues", Some(*queues)),
        ("rest", Some(*rest)),
    ];
    let mut observed: Vec<Observed> =
        bytes.into_iter().filter_map(|(what, bytes)| bytes.map(|bytes| Observed::new(what, bytes, "bytes"))).collect();
    observed.push(Observed::new("poolShare", *share, "1"));
    observed.extend(pressure_some.map(|some| Observed::new("pressure", some, "percent")));
    let advice = "give the process more memory, or the pools less (memory, own_memory): then it is sized for what it has";
    let Some(budget) = budget else { return Look::healthy(observed) };
    let (has, may) = (roughly(*resident), roughly(*budget));
    if *resident > *budget && why == "least" {
        let what = format!("the process has {has} of the {may} that it may have, and its pools have nothing left to give");
        return Look::bad(State::Unhealthy, what, advice, observed);
    }
    // A bound that nothing has come to yet holds nothing up.
    if *share < 1.0 && why != "calm" {
        let why = if why == "pressed" { "somebody waits for memory".to_owned() } else { format!("the process has {has} of {may}") };
        let what = format!("pools use {:.0} % of their size: {why}", share * 100.0);
        return Look::bad(State::Degraded, what, advice, observed);
    }
    Look::healthy(observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_are_not_used_whole_are_told_and_none_left_is_worse() {
        let of = |resident, share, why: &str| {
            judge_standing(&Standing { resident, budget: Some(1_000), share, why: why.to_owned(), ..Standing::default() })
        };
        assert_eq!((of(900, 1.0, "calm").state, of(600, 0.9, "calm").state), (State::Healthy, State::Healthy));
        let squeezed = of(960, 0.5, "large");
        assert_eq!(squeezed.state, State::Degraded);
        assert!(squeezed.reason.expect("there is one").what.contains("50 % of their size"));
        assert_eq!(of(1_100, 0.125, "least").state, State::Unhealthy);
        assert!(of(500, 0.9, "pressed").reason.expect("there is one").what.contains("waits for memory"));
    }
}
