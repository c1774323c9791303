//! The figures of a report: each is one line here, and shows in every form.

use larder::analytics::Rollup;

use super::latency::Spread;
use super::{errors, invalidations, loads, mean, rate, saved};
use crate::report::Unit;

/// A figure: what it is, and how it comes from what was recorded.
pub struct Definition {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub more_is_better: Option<bool>,
    pub least: Least,
    pub value: Value,
}

/// How a figure is taken from what was recorded.
pub enum Value {
    /// A number of things: none of them is zero, as long as anything was recorded.
    Number(fn(&Rollup) -> u64),
    /// Something that may not exist, as a rate of nothing.
    Measure(fn(&Rollup) -> Option<f64>),
}

impl Value {
    /// The figure's value.
    pub fn of(&self, rollup: &Rollup) -> Option<f64> {
        match self {
            Value::Number(number) => Some(number(rollup) as f64),
            Value::Measure(measure) => measure(rollup),
        }
    }
}

/// The smallest change that is worth being told.
pub enum Least {
    /// As a difference of shares.
    Share(f64),
    /// As a part of what it was.
    Relative(f64),
}

/// All figures, in the order in which they are shown.
pub const FIGURES: [Definition; 17] = [
    count("requests", "reads", None, |rollup| rollup.total().requests()),
    Definition {
        name: "hit_rate",
        title: "hit rate",
        unit: Unit::Share,
        more_is_better: Some(true),
        least: Least::Share(0.005),
        value: Value::Measure(|rollup| {
            let total = rollup.total();
            rate(total.hits(), total.requests())
        }),
    },
    Definition {
        name: "error_rate",
        title: "error rate",
        unit: Unit::Share,
        more_is_better: Some(false),
        least: Least::Share(0.001),
        value: Value::Measure(|rollup| rate(errors(rollup).values().sum(), rollup.total().requests())),
    },
    seconds("read_mean", "mean read", |rollup| Spread::of_reads(&rollup.total()).mean()),
    seconds("read_p50", "median read", |rollup| Spread::of_reads(&rollup.total()).percentile(0.5)),
    seconds("read_p99", "read, 99 in 100 under", |rollup| Spread::of_reads(&rollup.total()).percentile(0.99)),
    seconds("read_p99_9", "read, 999 in 1,000 under", |rollup| Spread::of_reads(&rollup.total()).percentile(0.999)),
    seconds("hit_mean", "mean hit", |rollup| Spread::of_hits(&rollup.total()).mean()),
    seconds("miss_mean", "mean miss", |rollup| rollup.total().miss.mean().map(|mean| mean.as_secs_f64())),
    count("loads", "loads", None, |rollup| loads(&rollup.total())),
    count("loads_avoided", "loads avoided", Some(true), |rollup| rollup.total().hits()),
    Definition {
        name: "load_time_saved",
        title: "load time saved",
        unit: Unit::Seconds,
        more_is_better: Some(true),
        least: Least::Relative(0.05),
        value: Value::Measure(|rollup| {
            let saved: Vec<f64> = rollup.namespaces.values().filter_map(|window| saved(window, None)).collect();
            (!saved.is_empty()).then(|| saved.iter().sum())
        }),
    },
    count("puts", "writes", None, |rollup| rollup.total().counts.puts),
    count("invalidations", "names invalidated", None, |rollup| invalidations(rollup).values().sum()),
    count("invalidated", "entries invalidated", None, |rollup| rollup.total().counts.invalidated),
    count("evicted", "entries evicted", Some(false), |rollup| rollup.total().counts.evicted),
    Definition {
        name: "memory",
        title: "memory in use",
        unit: Unit::Bytes,
        more_is_better: None,
        least: Least::Relative(0.05),
        value: Value::Measure(|rollup| (rollup.samples > 0).then(|| mean(rollup.total().bytes_sum, rollup.samples))),
    },
];

const fn seconds(name: &'static str, title: &'static str, value: fn(&Rollup) -> Option<f64>) -> Definition {
    Definition { name, title, unit: Unit::Seconds, more_is_better: Some(false), least: Least::Relative(0.1), value: Value::Measure(value) }
}

const fn count(name: &'static str, title: &'static str, more_is_better: Option<bool>, number: fn(&Rollup) -> u64) -> Definition {
    Definition { name, title, unit: Unit::Count, more_is_better, least: Least::Relative(0.05), value: Value::Number(number) }
}
