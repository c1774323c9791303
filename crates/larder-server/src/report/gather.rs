//! From what was recorded to the numbers of a report. Everything is merged first and divided last: no average is averaged.

use std::collections::BTreeMap;
use std::time::Duration;

use larder::analytics::{Ranking, Rollup, Window};

use super::findings;
use super::period::{Frame, Period, PeriodError, millis};
use super::trend;
use super::{Covered, Figure, KeyLine, NamespaceLine, Part, Peak, Point, Report, Unit};
use figures::{FIGURES, Least};

mod figures;

/// Keys that a report names.
const KEYS_SHOWN: usize = 10;

/// The history takes a sample each minute.
const MINUTE_MS: u64 = 60_000;

/// A bucket with fewer reads than this share of the mean one says nothing about a rate.
const READS_TO_COUNT: f64 = 0.1;

/// What the history has of two periods: rollups in the order of time, each within one bucket of the report; best of all one for each.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Of the period.
    pub now: Vec<Rollup>,
    /// Of the one before.
    pub before: Vec<Rollup>,
    /// Which keys there were in the period, where the rollups do not say so themselves: of the hours that it touches.
    pub keys: Rollup,
    /// The instances that they are from.
    pub instances: Vec<String>,
}

/// Makes the report of a frame.
///
/// # Errors
/// When the calendar ends within the frame.
pub fn gather(frame: &Frame, namespace: Option<&str>, mut recorded: Recorded) -> Result<Report, PeriodError> {
    if let Some(namespace) = namespace {
        let keep = |rollup: &mut Rollup| rollup.namespaces.retain(|name, _| name == namespace);
        recorded.now.iter_mut().chain(&mut recorded.before).chain([&mut recorded.keys]).for_each(keep);
    }
    let now = Stretch::new(frame, &frame.period, &recorded.now, &recorded.keys)?;
    let before = Stretch::new(frame, &frame.before, &recorded.before, &Rollup::default())?;
    let parts = |of: fn(&Summed) -> BTreeMap<String, u64>| parts(&of(&now.whole), &of(&before.whole));
    let total = &now.whole.total;
    let reads = total.requests();
    let load_us = total.load.sum().as_micros() as u64;
    Ok(Report {
        kind: frame.kind,
        zone: frame.zone().iana_name().unwrap_or("local").to_owned(),
        namespace: namespace.map(str::to_owned),
        period: now.covered(&frame.period),
        before: before.covered(&frame.before),
        instances: recorded.instances,
        figures: figures(&now, &before),
        namespaces: namespaces(&now.whole.rollup, &before.whole.rollup),
        peaks: peaks(&now.points),
        misses: parts(misses),
        removals: parts(removals),
        invalidations: parts(invalidations),
        errors: parts(errors),
        hot_keys: keys(&total.sketches.hot_reads, 1.0, Some(reads)),
        costly_keys: keys(&total.sketches.hot_cost, 0.001, Some(load_us)),
        largest: keys(&total.sketches.largest, 1.0, None),
        findings: findings::find(&now.whole.rollup, &before.whole.rollup),
        series: now.points,
        series_before: before.points,
    })
}

/// What was recorded, and all namespaces of it together: summed once, since every figure asks for it.
pub struct Summed {
    pub rollup: Rollup,
    pub total: Window,
}

impl Summed {
    fn new(rollup: Rollup) -> Self {
        Summed { total: rollup.total(), rollup }
    }
}

/// A period with its buckets.
struct Stretch {
    whole: Summed,
    buckets: Vec<Option<Rollup>>,
    points: Vec<Point>,
    recorded_ms: u64,
}

impl Stretch {
    fn new(frame: &Frame, period: &Period, recorded: &[Rollup], keys: &Rollup) -> Result<Self, PeriodError> {
        let edges = frame.edges(period)?;
        let begins: Vec<u64> = edges.iter().map(millis).collect();
        let mut buckets: Vec<Option<Rollup>> = vec![None; edges.len() - 1];
        let (mut whole, mut recorded_ms) = (Rollup::default(), 0);
        for rollup in recorded {
            let bucket = begins.partition_point(|begin| *begin <= rollup.start_ms);
            // What began a moment before the period, because a minute was cut late, belongs to its first bucket.
            let Some(bucket) = buckets.get_mut(bucket.saturating_sub(1)) else { continue };
            bucket.get_or_insert_default().then(rollup);
            whole.then(rollup);
            // An hour of which minutes are missing has as many samples as there were minutes.
            recorded_ms += rollup.samples * MINUTE_MS;
        }
        let points = edges.iter().zip(edges.iter().skip(1)).zip(&buckets).map(|((from, to), bucket)| {
            let at = if frame.is_by_day() { from.strftime("%Y-%m-%d") } else { from.strftime("%Y-%m-%dT%H:%M%:z") }.to_string();
            let point = bucket.as_ref().map_or_else(Point::default, point);
            Point { at, at_ms: millis(from), end_ms: millis(to), ..point }
        });
        let points = points.collect();
        for (name, window) in &mut whole.namespaces {
            if let Some(keys) = keys.namespaces.get(name) {
                window.sketches.add(&keys.sketches);
            }
        }
        Ok(Stretch { whole: Summed::new(whole), buckets, points, recorded_ms })
    }

    fn covered(&self, period: &Period) -> Covered {
        let (from, to) = period.millis();
        let covered = if to > from { self.recorded_ms as f64 / (to - from) as f64 } else { 0.0 };
        Covered { from: period.from.to_string(), to: period.to.to_string(), covered: covered.min(1.0) }
    }
}

fn point(rollup: &Rollup) -> Point {
    let total = rollup.total();
    let reads = total.total_latencies();
    let (requests, hits) = (total.requests(), total.hits());
    Point {
        recorded: true,
        requests,
        hits,
        hit_rate: rate(hits, requests),
        mean_seconds: seconds(reads.mean()),
        p50_seconds: seconds(reads.percentile(0.5)),
        p99_seconds: seconds(reads.percentile(0.99)),
        loads: loads(&total),
        errors: total.counts.errors,
        invalidated: total.counts.invalidated,
        bytes: mean(total.bytes_sum, rollup.samples),
        ..Point::default()
    }
}

fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(sum: u64, samples: u64) -> f64 {
    rate(sum, samples).unwrap_or(0.0)
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}

fn loads(window: &Window) -> u64 {
    window.counts.loads_ok + window.counts.loads_error + window.counts.loads_timeout
}

fn figures(now: &Stretch, before: &Stretch) -> Vec<Figure> {
    let pairs: Vec<(&Rollup, &Rollup)> =
        before.buckets.iter().zip(&now.buckets).filter_map(|(before, now)| before.as_ref().zip(now.as_ref())).collect();
    let stretches: Vec<(Summed, Summed)> = pairs
        .chunks_exact(trend::stretch(pairs.len()))
        .map(|pairs| (merged(pairs.iter().map(|pair| pair.0)), merged(pairs.iter().map(|pair| pair.1))))
        .collect();
    let figure = |figure: &figures::Definition| {
        let value = |stretch: &Stretch| if stretch.recorded_ms == 0 { None } else { figure.value.of(&stretch.whole) };
        let (now, before) = (value(now), value(before));
        let pairs: Vec<(f64, f64)> =
            stretches.iter().filter_map(|(before, now)| figure.value.of(before).zip(figure.value.of(now))).collect();
        let least = match figure.least {
            Least::Share(share) => share,
            // Of what a stretch has, not of what the whole period has.
            Least::Relative(part) => part * pairs.iter().map(|(before, _)| before).sum::<f64>() / pairs.len().max(1) as f64,
        };
        Figure {
            name: figure.name.to_owned(),
            title: figure.title.to_owned(),
            unit: figure.unit,
            now,
            before,
            more_is_better: figure.more_is_better,
            change: trend::compare(&pairs, least),
        }
    };
    FIGURES.iter().map(figure).collect()
}

fn merged<'a>(rollups: impl Iterator<Item = &'a Rollup>) -> Summed {
    let mut merged = Rollup::default();
    rollups.for_each(|rollup| merged.then(rollup));
    Summed::new(merged)
}

fn namespaces(now: &Rollup, before: &Rollup) -> Vec<NamespaceLine> {
    let mut lines: Vec<NamespaceLine> = now
        .namespaces
        .iter()
        .map(|(name, window)| {
            let earlier = before.namespaces.get(name);
            let reads = window.total_latencies();
            NamespaceLine {
                name: name.clone(),
                requests: window.requests(),
                hit_rate: rate(window.hits(), window.requests()),
                hit_rate_before: earlier.and_then(|window| rate(window.hits(), window.requests())),
                p50_seconds: seconds(reads.percentile(0.5)),
                p99_seconds: seconds(reads.percentile(0.99)),
                loads: loads(window),
                load_mean_seconds: seconds(window.load.mean()),
                saved_seconds: saved(window, earlier),
                keys: window.sketches.keys.estimate(),
                bytes: mean(window.bytes_sum, now.samples),
                errors: window.counts.errors,
            }
        })
        .collect();
    lines.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
    lines
}

/// About how long the hits of a namespace would have taken to load. Where nothing was loaded, as in a period of hits alone, what loads
/// took in the period before stands in.
fn saved(window: &Window, before: Option<&Window>) -> Option<f64> {
    let mean = window.load.mean().or_else(|| before?.load.mean())?;
    Some(window.hits() as f64 * mean.as_secs_f64())
}

fn misses(sum: &Summed) -> BTreeMap<String, u64> {
    let counts = &sum.total.counts;
    let by = [
        ("invalidated by its key", counts.stale_by_key),
        ("invalidated by a tag", counts.stale_by_tag),
        ("invalidated by a pattern", counts.stale_by_pattern),
        ("invalidated by its namespace", counts.stale_by_namespace),
        ("invalidated with everything", counts.stale_by_everything),
        ("invalidated by a source", counts.stale_by_source),
        ("not known since a new epoch", counts.stale_by_epoch),
    ];
    let told: u64 = by.iter().map(|(_, n)| n).sum();
    let mut misses = named(by);
    let others = [
        ("not there", counts.misses_absent),
        ("expired", counts.misses_expired),
        ("invalidated", counts.misses_invalidated.saturating_sub(told)),
    ];
    misses.extend(named(others));
    misses
}

fn removals(sum: &Summed) -> BTreeMap<String, u64> {
    let counts = &sum.total.counts;
    named([
        ("evicted to make room", counts.evicted),
        ("expired", counts.expired),
        ("invalidated", counts.invalidated),
        ("replaced by a newer one", counts.replaced),
        ("too large to be taken", counts.too_large),
    ])
}

fn invalidations(sum: &Summed) -> BTreeMap<String, u64> {
    let of = sum.rollup.measures.iter().filter_map(|(name, n)| Some((name.strip_prefix("invalidations.")?.split_once('.')?, *n)));
    of.map(|((kind, origin), n)| (format!("{kind}, {}", origin_in_words(origin)), n)).collect()
}

fn origin_in_words(origin: &str) -> &str {
    match origin {
        "call" => "by a call",
        "event" => "by an event",
        "content" => "by changed content",
        "moved" => "by a source that moved",
        "inbox" => "from the inbox",
        "peer" => "from another instance",
        other => other,
    }
}

fn errors(sum: &Summed) -> BTreeMap<String, u64> {
    let counts = &sum.total.counts;
    let measure = |name: &str| sum.rollup.measures.get(name).copied().unwrap_or(0);
    named([
        ("reads that ended with an error", counts.errors),
        ("loads that failed", counts.loads_error),
        ("loads that took too long", counts.loads_timeout),
        ("operations of the backing tier", counts.backing_errors),
        ("writes the backing tier did not take", counts.backing_shed),
        ("invalidations that were refused", measure("log.refused")),
        ("events that failed", measure("events.failed")),
    ])
}

fn named<const N: usize>(parts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    parts.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect()
}

fn parts(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> Vec<Part> {
    let mut names: Vec<&String> = now.keys().chain(before.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |parts: &BTreeMap<String, u64>, name| parts.get(name).copied().unwrap_or(0);
    let mut parts: Vec<Part> =
        names.into_iter().map(|name| Part { name: name.clone(), now: of(now, name), before: of(before, name) }).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.now));
    parts
}

fn keys(ranking: &Ranking, unit: f64, whole: Option<u64>) -> Vec<KeyLine> {
    let line = |ranked: &larder::analytics::Ranked| KeyLine {
        key: String::from_utf8_lossy(&ranked.key).escape_debug().to_string(),
        amount: ranked.amount as f64 * unit,
        // Reads are counted by samples, which may add up to a little more than there were.
        share: whole.and_then(|whole| rate(ranked.amount, whole)).map(|share| share.min(1.0)),
    };
    ranking.iter().take(KEYS_SHOWN).map(line).collect()
}

/// When numbers were at their extremes. A period in which a number never moved has no peak of it.
fn peaks(points: &[Point]) -> Vec<Peak> {
    let recorded: Vec<&Point> = points.iter().filter(|point| point.recorded).collect();
    if recorded.len() < 2 {
        return Vec::new();
    }
    let reads = recorded.iter().map(|point| point.requests).sum::<u64>() as f64 / recorded.len() as f64;
    let busy = |point: &&Point| point.requests > 0 && point.requests as f64 >= READS_TO_COUNT * reads;
    let peak = |title: &str, unit, value: &dyn Fn(&Point) -> Option<f64>, sign: f64| {
        let values = recorded.iter().filter_map(|point| Some((value(point)?, *point)));
        let (value, point) = values.clone().max_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)))?;
        let moved = values.into_iter().any(|(other, _)| other != value);
        moved.then(|| Peak { title: title.to_owned(), unit, value, at: point.at.clone() })
    };
    let rate = |point: &Point| Some(point.requests as f64 / ((point.end_ms - point.at_ms) as f64 / 1e3));
    [
        peak("most reads a second", Unit::Count, &rate, 1.0),
        peak("lowest hit rate", Unit::Share, &|point| point.hit_rate.filter(|_| busy(&point)), -1.0),
        peak("slowest reads (p99)", Unit::Seconds, &|point| point.p99_seconds.filter(|_| busy(&point)), 1.0),
        peak("most entries invalidated", Unit::Count, &|point| Some(point.invalidated as f64), 1.0),
        peak("most memory", Unit::Bytes, &|point| Some(point.bytes), 1.0),
        peak("most errors", Unit::Count, &|point| Some(point.errors as f64), 1.0),
    ]
    .into_iter()
    .flatten()
    .collect()
}
