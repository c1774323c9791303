//! Counters, gauges and latencies as the JSON encoding of OTLP has them. Namespaces are as few as there are in the statistics, where
//! those that nobody configured are one.

use std::time::{Duration, SystemTime};

use larder::{Counts, Latencies, NamespaceStats, Stats};
use serde_json::{Value as Json, json};

use super::encode::{Resource, attribute, nanos, scope};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// What latencies are sorted by: they are the same at all times, so that what was told can be added up.
const BOUNDS_S: [f64; 10] = [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1e-1, 1.0, 10.0];

/// A request to `/v1/metrics`.
pub fn request(resource: &Resource, stats: &Stats, dropped: u64, times: (SystemTime, SystemTime)) -> Json {
    let points = |value: &dyn Fn(&NamespaceStats) -> u64| -> Vec<Json> {
        stats.namespaces.iter().map(|one| number(&[("larder.namespace", &one.name)], value(one), times)).collect()
    };
    let mut metrics: Vec<Json> = Counts::NAMES
        .iter()
        .map(|name| sum(&format!("larder.{name}"), &points(&|one| one.counts.iter().find(|(own, _)| own == name).map_or(0, |(_, n)| n))))
        .collect();
    metrics.push(gauge("larder.entries", "{entry}", &points(&|one| one.entries)));
    metrics.push(gauge("larder.bytes", "By", &points(&|one| one.bytes)));
    let alone = |value: u64| [number(&[], value, times)];
    metrics.push(gauge("larder.memory.capacity", "By", &alone(stats.memory.capacity)));
    metrics.push(sum("larder.log.appends", &alone(stats.log.appends)));
    metrics.push(sum("larder.events.received", &alone(stats.events.received)));
    metrics.push(sum("larder.otlp.spans_dropped", &alone(dropped)));
    if let Some(shared) = &stats.log.shared {
        metrics.push(gauge("larder.log.behind", "{position}", &alone(shared.behind)));
        metrics.push(gauge("larder.log.queued", "{name}", &alone(shared.queued)));
        metrics.push(gauge("larder.log.unheard", "ms", &alone(u64::try_from(shared.unheard_for.as_millis()).unwrap_or(u64::MAX))));
    }
    if let Some(backing) = &stats.backing {
        metrics.push(gauge("larder.backing.queued", "By", &alone(backing.stats.queued_bytes)));
        metrics.push(sum("larder.backing.errors", &alone(backing.stats.errors)));
    }
    metrics.push(latencies(stats, times));
    json!({ "resourceMetrics": [{ "resource": resource.json(), "scopeMetrics": [{ "scope": scope(), "metrics": metrics }] }] })
}

fn sum(name: &str, points: &[Json]) -> Json {
    json!({ "name": name, "unit": "1", "sum": { "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points } })
}

fn gauge(name: &str, unit: &str, points: &[Json]) -> Json {
    json!({ "name": name, "unit": unit, "gauge": { "dataPoints": points } })
}

fn number(attributes: &[(&str, &str)], value: u64, times: (SystemTime, SystemTime)) -> Json {
    let mut point = point(attributes, times);
    point["asInt"] = value.to_string().into();
    point
}

fn point(attributes: &[(&str, &str)], (began, now): (SystemTime, SystemTime)) -> Json {
    let attributes: Vec<Json> = attributes.iter().map(|(key, value)| attribute(key, &json!(value))).collect();
    json!({ "attributes": attributes, "startTimeUnixNano": nanos(began), "timeUnixNano": nanos(now) })
}

/// How long reads took, by namespace and by how they were answered. Of hits in memory one in 64 is timed.
fn latencies(stats: &Stats, times: (SystemTime, SystemTime)) -> Json {
    let of = |one: &NamespaceStats| {
        let kinds = [("hit_memory", &one.hit_memory), ("hit_backing", &one.hit_backing), ("miss", &one.miss), ("load", &one.load)];
        kinds.map(|(kind, latencies)| histogram(&[("larder.namespace", &one.name), ("larder.answer", kind)], latencies, times))
    };
    let points: Vec<Json> = stats.namespaces.iter().flat_map(of).collect();
    json!({ "name": "larder.duration", "unit": "s", "histogram": { "aggregationTemporality": CUMULATIVE, "dataPoints": points } })
}

fn histogram(attributes: &[(&str, &str)], latencies: &Latencies, times: (SystemTime, SystemTime)) -> Json {
    let mut counts = [0u64; BOUNDS_S.len() + 1];
    for (end, n) in latencies.buckets() {
        counts[BOUNDS_S.iter().position(|bound| end <= Duration::from_secs_f64(*bound)).unwrap_or(BOUNDS_S.len())] += n;
    }
    let mut point = point(attributes, times);
    point["count"] = latencies.count().to_string().into();
    point["sum"] = latencies.sum().as_secs_f64().into();
    point["explicitBounds"] = json!(BOUNDS_S);
    point["bucketCounts"] = counts.iter().map(ToString::to_string).collect();
    point
}
