//! What a time to live should be: longer where what expires is loaded again and is the same, shorter where what expires was not read any
//! more.
//!
//! Changes of a source are taken to come at random: if a share `u` of what is loaded again after a life of `t` is the same, a life of
//! `t ln(v) / ln(u)` leaves a share `v` the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metrics::{Counts, Latencies};

/// Entries that expired and were loaded again, without which nothing is said; and those that expired.
const ENOUGH: u64 = 100;

/// A life is made longer where more than this share of what expires comes back the same, and so long that this share still does.
const SAME: f64 = 0.9;

/// More of what expires than this is not read again: then it was there for nothing in the end.
const UNREAD: f64 = 0.8;

/// By so much a time is made longer or shorter at most: more would be a guess.
const FACTOR_MAX: f64 = 4.0;

/// Less of a change is not worth the telling.
const FACTOR_MIN: f64 = 1.25;

/// Why another time is advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TtlReason {
    /// What expires is loaded again and is the same.
    ReloadedUnchanged,
    /// What expires had changed long before.
    ReloadedChanged,
    /// What expires is not read any more.
    NeverReadAgain,
}

/// A time to live that is advised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TtlAdvice {
    /// Why.
    pub reason: TtlReason,
    /// The time to live now, in milliseconds.
    pub ttl_ms: u64,
    /// The one that is advised.
    pub advised_ms: u64,
    /// The share of what was loaded again after it expired that had the same content.
    pub unchanged: f64,
    /// The share of what expired that was not loaded again.
    pub unread: f64,
    /// Loads that would have been saved, in the reads that this was made from; negative for those that there would have been beside.
    pub loads_saved: f64,
    /// By which share the time that expired entries were held would have been shorter; negative for longer.
    pub held_less: f64,
}

/// What the counters and ages of a stretch of time say of a time to live. `unread_for` is how long what left had not been read. `None`
/// where they say nothing, or that it is right.
pub fn advise_ttl(ttl: Duration, counts: &Counts, unread_for: &Latencies) -> Option<TtlAdvice> {
    let (expired, reloaded) = (counts.expired, counts.reloads_expired);
    if expired.max(reloaded) < ENOUGH || ttl.is_zero() {
        return None;
    }
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let (unchanged, unread) = (share(counts.expired_needlessly, reloaded), share(expired.saturating_sub(reloaded), expired));
    let advice = |reason, factor: f64, loads_saved: f64| {
        let factor = factor.clamp(1.0 / FACTOR_MAX, FACTOR_MAX);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let advised_ms = ((ttl_ms as f64 * factor) as u64).max(1);
        let differs = factor >= FACTOR_MIN || factor <= 1.0 / FACTOR_MIN;
        let held_less = 1.0 - factor;
        differs.then_some(TtlAdvice { reason, ttl_ms, advised_ms, unchanged, unread, loads_saved, held_less })
    };
    if expired >= ENOUGH && unread >= UNREAD {
        // The tenth that was read last before its end keeps its life; for the others it was over by then.
        let idle = unread_for.percentile(0.1)?.as_secs_f64();
        let factor = 1.0 - idle / ttl.as_secs_f64();
        return if factor < 1.0 { advice(TtlReason::NeverReadAgain, factor, 0.0) } else { None };
    }
    if reloaded < ENOUGH {
        return None;
    }
    // Of none that changed, one is reckoned to have: there is no life without end.
    let same = unchanged.min(1.0 - 1.0 / (reloaded as f64 + 1.0)).max(1.0 / (reloaded as f64 + 1.0));
    let factor = (SAME.ln() / same.ln()).clamp(1.0 / FACTOR_MAX, FACTOR_MAX);
    // Lives that are so much longer end so much less often.
    let loads_saved = reloaded as f64 * (1.0 - 1.0 / factor);
    match unchanged {
        SAME.. => advice(TtlReason::ReloadedUnchanged, factor, loads_saved),
        ..0.5 => advice(TtlReason::ReloadedChanged, factor, loads_saved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(expired: u64, reloads_expired: u64, expired_needlessly: u64) -> Counts {
        Counts { expired, reloads_expired, expired_needlessly, ..Counts::default() }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_comes_back_the_same_may_live_longer() {
        let advice = advise_ttl(MINUTE, &counts(1_000, 1_000, 950), &Latencies::default()).expect("it is far from right");
        assert_eq!(advice.reason, TtlReason::ReloadedUnchanged);
        // ln 0.9 / ln 0.95
        assert!((advice.advised_ms as f64 / 60_000.0 - 2.054).abs() < 0.01, "{advice:?}");
        assert!((advice.loads_saved - 513.0).abs() < 1.0, "{advice:?}");
        let never = advise_ttl(MINUTE, &counts(1_000, 1_000, 1_000), &Latencies::default()).expect("nothing ever changes");
        assert_eq!(never.advised_ms, 240_000, "no longer than four times");
    }

    #[test]
    fn what_has_changed_may_live_shorter() {
        let advice = advise_ttl(MINUTE, &counts(1_000, 1_000, 100), &Latencies::default()).expect("it is far from right");
        assert_eq!((advice.reason, advice.advised_ms), (TtlReason::ReloadedChanged, 15_000));
        assert!(advice.loads_saved < 0.0);
        assert_eq!(advise_ttl(MINUTE, &counts(1_000, 1_000, 700), &Latencies::default()), None, "it is about right");
    }

    #[test]
    fn what_nobody_reads_any_more_need_not_live_so_long() {
        let unread = Latencies::of(Duration::from_secs(45), 1_000);
        let advice = advise_ttl(MINUTE, &counts(1_000, 50, 50), &unread).expect("it is far from right");
        assert_eq!(advice.reason, TtlReason::NeverReadAgain);
        assert!((13_000..=17_000).contains(&advice.advised_ms) && (advice.held_less - 0.75).abs() < 0.05, "{advice:?}");
        let read_to_the_end = Latencies::of(Duration::from_millis(10), 1_000);
        assert_eq!(advise_ttl(MINUTE, &counts(1_000, 50, 50), &read_to_the_end), None);
    }

    #[test]
    fn of_little_nothing_is_said() {
        assert_eq!(advise_ttl(MINUTE, &counts(99, 99, 99), &Latencies::default()), None);
        assert_eq!(advise_ttl(Duration::ZERO, &counts(1_000, 1_000, 1_000), &Latencies::default()), None);
        assert_eq!(advise_ttl(MINUTE, &counts(1_000, 0, 0), &Latencies::default()), None, "no ages");
    }
}
