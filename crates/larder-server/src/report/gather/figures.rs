//! The figures of a report: each is one line here, and shows in every form.

use std::time::Duration;

use larder::analytics::Window;

use super::{Summed, invalidations, loads, mean, rate, saved, seconds};
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
    Number(fn(&Summed) -> u64),
    /// How long something took in all namespaces together.
    Time(fn(&Window) -> Option<Duration>),
    /// Something that may not exist, as a rate of nothing.
    Measure(fn(&Summed) -> Option<f64>),
}

impl Value {
    /// The figure's value.
    pub fn of(&self, sum: &Summed) -> Option<f64> {
        match self {
            Value::Number(number) => Some(number(sum) as f64),
            Value::Time(time) => seconds(time(&sum.total)),
            Value::Measure(measure) => measure(sum),
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
    count("requests", "reads", None, |sum| sum.total.requests()),
    Definition {
        name: "hit_rate",
        title: "hit rate",
        unit: Unit::Share,
        more_is_better: Some(true),
        least: Least::Share(0.005),
        value: Value::Measure(|sum| rate(sum.total.hits(), sum.total.requests())),
    },
    Definition {
        name: "error_rate",
        title: "error rate",
        unit: Unit::Share,
        more_is_better: Some(false),
        least: Least::Share(0.001),
        value: Value::Measure(|sum| rate(sum.total.counts.errors, sum.total.requests())),
    },
    time("read_mean", "mean read", |total| total.total_latencies().mean()),
    time("read_p50", "median read", |total| total.total_latencies().percentile(0.5)),
    time("read_p99", "read, 99 in 100 under", |total| total.total_latencies().percentile(0.99)),
    time("read_p99_9", "read, 999 in 1,000 under", |total| total.total_latencies().percentile(0.999)),
    time("hit_mean", "mean hit", |total| total.hit_latencies().mean()),
    time("miss_mean", "mean miss", |total| total.miss.mean()),
    count("loads", "loads", None, |sum| loads(&sum.total)),
    count("loads_avoided", "loads avoided", Some(true), |sum| sum.total.hits()),
    Definition {
        name: "load_time_saved",
        title: "load time saved",
        unit: Unit::Seconds,
        more_is_better: Some(true),
        least: Least::Relative(0.05),
        value: Value::Measure(|sum| {
            let saved: Vec<f64> = sum.rollup.namespaces.values().filter_map(|window| saved(window, None)).collect();
            (!saved.is_empty()).then(|| saved.iter().sum())
        }),
    },
    count("puts", "writes", None, |sum| sum.total.counts.puts),
    count("invalidations", "names invalidated", None, |sum| invalidations(sum).values().sum()),
    count("invalidated", "entries invalidated", None, |sum| sum.total.counts.invalidated),
    count("evicted", "entries evicted", Some(false), |sum| sum.total.counts.evicted),
    Definition {
        name: "memory",
        title: "memory in use",
        unit: Unit::Bytes,
        more_is_better: None,
        least: Least::Relative(0.05),
        value: Value::Measure(|sum| (sum.rollup.samples > 0).then(|| mean(sum.total.bytes_sum, sum.rollup.samples))),
    },
];

const fn time(name: &'static str, title: &'static str, value: fn(&Window) -> Option<Duration>) -> Definition {
    Definition { name, title, unit: Unit::Seconds, more_is_better: Some(false), least: Least::Relative(0.1), value: Value::Time(value) }
}

const fn count(name: &'static str, title: &'static str, more_is_better: Option<bool>, number: fn(&Summed) -> u64) -> Definition {
    Definition { name, title, unit: Unit::Count, more_is_better, least: Least::Relative(0.05), value: Value::Number(number) }
}
