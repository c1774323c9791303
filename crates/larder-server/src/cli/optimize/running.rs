//! What a running server has found, in words and plots.

use larder::sizing::{Curve, TtlAdvice, TtlReason};
use larder::{NamespaceSizing, Sizing, SizingMode};

use crate::cli::output::plain;
use crate::config::units::{roughly, show_time};
use crate::demo::{count, percent};
use crate::optimize::plot::{Marks, Style, plot};

/// A curve for all together and one for each namespace, with what is marked in it.
pub fn panels(sizing: &Sizing, target: f64) -> Vec<(String, Curve, Marks)> {
    let marks = |bytes| Marks { bytes: Some(bytes), hit_ratio: Some(target) };
    let all = ("all that share".to_owned(), sizing.together.clone(), marks(sizing.shared_bytes));
    let one = |one: &NamespaceSizing| (plain(&one.name), one.curve.clone(), marks(one.bytes));
    std::iter::once(all).chain(sizing.namespaces.iter().map(one)).collect()
}

/// All of it; with plots if there is a style for them.
pub fn told(sizing: &Sizing, target: f64, style: Option<Style>) -> String {
    let mut text = head(sizing, target);
    for one in &sizing.namespaces {
        text += &format!("\n\n{}", namespace(one, target));
    }
    for decision in &sizing.decisions {
        let measured =
            decision.measured.map_or_else(|| "its effect is yet to be measured".to_owned(), |by| format!("measured {}", points(by)));
        let undone = decision.undone.as_ref().map_or_else(String::new, |why| format!("; UNDONE, as {why}"));
        text += &format!("\n\nchanged  {}: predicted {}, {measured}{undone}", plain(&decision.what), points(decision.predicted));
    }
    if let Some(style) = style {
        for (title, curve, marks) in panels(sizing, target) {
            text += &format!("\n\n{}", plot(&title, &curve, marks, style).trim_end());
        }
    }
    text
}

fn head(sizing: &Sizing, target: f64) -> String {
    let mode = match sizing.mode {
        SizingMode::Auto => "given out to who gains most",
        _ => "looked at, and left as it is",
    };
    let layout = if sizing.is_apart { "each namespace has its own part" } else { "namespaces share it" };
    let mut text = format!("memory  {}, {mode}; {layout}; {} of keys followed", roughly(sizing.budget), percent(sizing.sampled));
    if sizing.together.reads == 0 {
        return text + "\n        too little was read up to now to say more: two windows of a minute are needed";
    }
    text += &match sizing.together.size_for(target) {
        Some(bytes) => format!("\nshared  {} would reach {}", roughly(bytes), percent(target)),
        None => format!("\nshared  no size up to {} reaches {}", roughly(sizing.budget), percent(target)),
    };
    let verb = if sizing.advises_apart { "would gain" } else { "is not worth it:" };
    text + &format!("\n        memory of its own for each {verb} {}", points(sizing.apart_gain))
}

fn namespace(one: &NamespaceSizing, target: f64) -> String {
    let has = match one.own_bytes {
        Some(bytes) => format!("{} of its own", roughly(bytes)),
        None => format!("{} of the shared memory", roughly(one.bytes)),
    };
    let mut text = format!("{}  {has}; apart it would get {}", plain(&one.name), roughly(one.advised_bytes));
    if one.curve.reads > 0 {
        let reach = one.curve.size_for(target).map_or_else(|| "nothing reaches".to_owned(), |bytes| format!("{} reaches", roughly(bytes)));
        text += &format!(
            "\n    of {} reads {} hit; {reach} {}\n    a tenth more: {}, a tenth less: {}",
            count(one.curve.reads),
            percent(one.curve.at(one.bytes).hit_ratio),
            percent(target),
            points(one.gain.hit_ratio),
            points(one.loss.hit_ratio)
        );
    }
    one.ttl.iter().for_each(|advice| text += &format!("\n    {}", ttl(advice)));
    text
}

fn ttl(advice: &TtlAdvice) -> String {
    let time = |ms| show_time(std::time::Duration::from_millis(ms));
    let (now, better) = (time(advice.ttl_ms), time(advice.advised_ms));
    match advice.reason {
        TtlReason::ReloadedUnchanged => format!(
            "ttl {better} and not {now}: {} of what expires is loaded again the same; about {} fewer loads",
            percent(advice.unchanged),
            count(advice.loads_saved.max(0.0) as u64)
        ),
        TtlReason::ReloadedChanged => format!(
            "ttl {better} and not {now}: only {} of what expires is the same when it is loaded again; about {} more loads, and fresher values",
            percent(advice.unchanged),
            count((-advice.loads_saved).max(0.0) as u64)
        ),
        _ => format!(
            "ttl {better} and not {now}: {} of what expires is not read again; it would be held {} shorter",
            percent(advice.unread),
            percent(advice.held_less)
        ),
    }
}

fn points(share: f64) -> String {
    format!("{:+.2} points", share * 100.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sizing() -> Sizing {
        let curve = json!({
            "points": [{ "bytes": 65_536, "hit_ratio": 0.1, "saved_ratio": 0.1 }, { "bytes": 4 << 20, "hit_ratio": 0.9, "saved_ratio": 0.9 }],
            "reads": 1_000, "keys": 0, "bytes": 0, "load_seconds": 1.0, "sampled": 0.5,
        });
        let step = json!({ "bytes": 1, "hit_ratio": 0.0123, "saved_ratio": 0.0, "load_seconds": 0.0 });
        let ttl = json!({
            "reason": "reloaded_unchanged", "ttl_ms": 60_000, "advised_ms": 120_000, "unchanged": 0.95, "unread": 0.0,
            "loads_saved": 500.0, "held_less": -1.0,
        });
        let told = json!({
            "mode": "auto", "budget": 4 << 20, "sampled": 0.5, "is_apart": true, "shared_bytes": 65_536, "together": curve,
            "apart_gain": 0.05, "advises_apart": true,
            "namespaces": [{
                "name": "a\u{1b}b", "own_bytes": 1 << 20, "bytes": 1 << 20, "advised_bytes": 2 << 20, "curve": curve, "gain": step,
                "loss": step, "ttl": ttl,
            }],
            "decisions": [{ "at_ms": 1, "what": "all share", "predicted": 0.05, "measured": -0.01, "undone": "it was worse" }],
        });
        serde_json::from_value(told).expect("as a server tells it")
    }

    #[test]
    fn it_is_told_with_what_to_do_and_what_became_of_it() {
        let text = told(&sizing(), 0.8, None);
        for part in [
            "4.0 MiB, given out to who gains most; each namespace has its own part; 50.00 % of keys followed",
            "would gain +5.00 points",
            "1.0 MiB of its own; apart it would get 2.0 MiB",
            "a tenth more: +1.23 points",
            "ttl 2m and not 1m: 95.00 % of what expires is loaded again the same; about 500 fewer loads",
            "UNDONE, as it was worse",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let style = Style { width: 80, unicode: false, colours: false };
        let plots = told(&sizing(), 0.8, Some(style));
        assert_eq!(plots.matches("100 %").count(), 2, "{plots}");
        assert!(!plots.contains('\u{1b}'), "{plots}");
        assert_eq!(panels(&sizing(), 0.8).len(), 2);
    }
}
