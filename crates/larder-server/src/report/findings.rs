//! What would make the cache better: each finding with its evidence, its effect in numbers, and the setting to change.
//!
//! A finding that is not one costs trust, so each has a least number of witnesses below which it is silent, and thresholds that a
//! healthy cache stays clear of.

use larder::analytics::{Rollup, Window};
use serde::{Deserialize, Serialize};

use super::words::{bytes, count, duration, next_round, percent};

mod freshness;
mod load;
mod memory;

/// Something that could be better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is, for programs.
    pub code: Code,
    /// The namespace, where it is about one.
    pub namespace: Option<String>,
    /// What it is, in a line.
    pub title: String,
    /// What it is concluded from, in numbers.
    pub evidence: String,
    /// What it costs, in numbers.
    pub effect: String,
    /// What to change: the setting, and to what.
    pub advice: String,
    /// How much it matters, for the order: about the seconds that it cost.
    pub weight: f64,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Entries expired, and were loaded again unchanged.
    TtlTooShort,
    /// Entries were kept long after their last read, while others were evicted.
    TtlTooLong,
    /// Entries were invalidated, and loaded again unchanged.
    OverInvalidation,
    /// The hit rate is under its target, and memory would raise it.
    MemoryTooSmall,
    /// The hit rate is under its target, and memory would not help.
    LowHitRate,
    /// Many readers waited for the same load.
    Stampedes,
    /// Values are too large for memory, or a few take much of it.
    OversizedValues,
    /// More went wrong than should.
    Errors,
    /// Loads take long.
    SlowLoads,
    /// Reads take long.
    SlowReads,
    /// One key has a large share of all reads.
    HotKey,
    /// The freshness index is too small.
    FalseMisses,
}

/// A namespace, or all, in a period.
struct Subject<'a> {
    /// The namespace.
    name: &'a str,
    window: &'a Window,
    whole: &'a Rollup,
}

/// Reads, loads or entries that a share has to be of, so that it says anything: with 1,000 a rate is known to about three points.
const WITNESSES: u64 = 1_000;

/// Fewer loads can be compared than reads: with 100 a share is known to about ten points.
const LOADS_WITNESSES: u64 = 100;

/// Looks for all of them.
pub fn find(now: &Rollup, before: &Rollup) -> Vec<Finding> {
    let subjects = now.namespaces.iter().map(|(name, window)| Subject { name, window, whole: now });
    let mut findings: Vec<Finding> = subjects
        .flat_map(|subject| {
            [
                freshness::ttl_too_short(&subject),
                freshness::ttl_too_long(&subject),
                freshness::over_invalidation(&subject),
                memory::hit_rate(&subject),
                memory::oversized(&subject),
                memory::hot_key(&subject),
                load::stampedes(&subject),
                load::errors(&subject),
                load::slow_loads(&subject, before),
                load::slow_reads(&subject),
            ]
        })
        .chain([freshness::false_misses(now), load::other_errors(now)])
        .flatten()
        .collect();
    findings.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| (a.code, &a.namespace).cmp(&(b.code, &b.namespace))));
    findings
}

impl Subject<'_> {
    fn measure(&self, name: &str) -> u64 {
        measure(self.whole, name)
    }

    /// The mean load in seconds; zero where nothing was loaded.
    fn load_seconds(&self) -> f64 {
        self.window.load.mean().map_or(0.0, |mean| mean.as_secs_f64())
    }

    fn finding(&self, code: Code, title: impl Into<String>, weight: f64) -> Finding {
        let (evidence, effect, advice) = (String::new(), String::new(), String::new());
        Finding { code, namespace: Some(self.name.to_owned()), title: title.into(), evidence, effect, advice, weight }
    }

    /// What so many loads cost.
    fn cost_of(&self, loads: u64) -> String {
        match self.load_seconds() {
            0.0 => format!("{} loads", count(loads)),
            mean => format!("{} loads, about {} of loading", count(loads), duration(loads as f64 * mean)),
        }
    }
}

impl Finding {
    fn evidence(self, evidence: impl Into<String>) -> Self {
        Finding { evidence: evidence.into(), ..self }
    }

    fn effect(self, effect: impl Into<String>) -> Self {
        Finding { effect: effect.into(), ..self }
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Finding { advice: advice.into(), ..self }
    }
}

fn measure(rollup: &Rollup, name: &str) -> u64 {
    rollup.measures.get(name).copied().unwrap_or(0)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
