//! The memory that there is, and what it is used for.

use super::{Code, Finding, LOADS_WITNESSES, Subject, WITNESSES, bytes, count, percent, share};

/// The hit rate that is asked for, as in the seed of this project.
const HIT_RATE_TARGET: f64 = 0.8;

/// What more memory has to bring at least to be advised: under this the estimate's own error would be advice.
const GAIN: f64 = 0.02;

/// A single entry of this share of all memory is too large: it drives out thousands of others.
const LARGE: f64 = 0.02;

/// From this share of all reads on a key is one of its own.
const HOT: f64 = 0.25;

/// A hit rate under the target: with the memory that would reach it, or with the reason why none would.
pub fn hit_rate(subject: &Subject) -> Option<Finding> {
    let window = subject.window;
    let (requests, hits) = (window.requests(), window.hits());
    let rate = share(hits, requests);
    if requests < WITNESSES || rate >= HIT_RATE_TARGET {
        return None;
    }
    let counts = &window.counts;
    let short = ((HIT_RATE_TARGET - rate) * requests as f64).round() as u64;
    let weight = short as f64 * subject.load_seconds();
    let evidence = format!(
        "hit rate {} of {} reads (target {}); misses: {} not there, {} expired, {} invalidated; {} evicted",
        percent(rate),
        count(requests),
        percent(HIT_RATE_TARGET),
        count(counts.misses_absent),
        count(counts.misses_expired),
        count(counts.misses_invalidated),
        count(counts.evicted)
    );
    let effect = format!("{} more than at the target", subject.cost_of(short));
    if let Some((size, reached)) = size_for(subject, rate) {
        let held = window.bytes_sum as f64 / subject.whole.samples.max(1) as f64;
        let finding = subject.finding(Code::MemoryTooSmall, "more memory would raise the hit rate", weight);
        let advice = format!(
            "raise `memory` so that namespace {:?} has about {} (it has {}): about {} of its reads would then hit",
            subject.name,
            bytes(size),
            bytes(held),
            percent(reached)
        );
        return Some(finding.evidence(evidence).effect(effect).advice(advice));
    }
    let (why, advice) = reason(subject);
    let finding = subject.finding(Code::LowHitRate, format!("the hit rate is low, because {why}"), weight);
    Some(finding.evidence(evidence).effect(effect).advice(advice))
}

/// Why most of the misses were, where more memory is not what is missing, and what to do about it.
fn reason(subject: &Subject) -> (&'static str, String) {
    let (counts, name) = (&subject.window.counts, subject.name);
    let misses = subject.window.requests() - subject.window.hits() - counts.errors;
    // A key is new once. What was not there and is not new had left: the sweeper may have been before the reader.
    let new = subject.window.sketches.keys.estimate().min(counts.misses_absent);
    let gone = counts.evicted + counts.expired + counts.invalidated;
    let of = |found: u64, left: u64| found as f64 + (counts.misses_absent - new) as f64 * share(left, gone);
    let (expired, invalidated) = (of(counts.misses_expired, counts.expired), of(counts.misses_invalidated, counts.invalidated));
    if new * 2 > misses {
        ("most misses are of keys that are new", "warm the cache before, share entries between keys, or do not cache these".to_owned())
    } else if invalidated > expired {
        ("entries are invalidated before they are read again", "invalidate less at a time: see what does it under Invalidations".to_owned())
    } else {
        (
            "entries expire before they are read again",
            format!("raise `ttl` of namespace {name:?}, or set `stale_while_revalidate`, so that nobody waits for what has just expired"),
        )
    }
}

/// The bytes that would reach the target, or most of what memory can do, and the hit rate with them. `None` where entries were hardly
/// ever evicted, or more room would not help.
fn size_for(subject: &Subject, rate: f64) -> Option<(f64, f64)> {
    let window = subject.window;
    let reuse = &window.sketches.reuse_bytes;
    if window.counts.evicted < LOADS_WITNESSES || reuse.count() < LOADS_WITNESSES {
        return None;
    }
    let held = window.bytes_sum as f64 / subject.whole.samples.max(1) as f64;
    let (counts, requests) = (&window.counts, window.requests() as f64);
    // Some of what is read again within a size will have expired or been invalidated by then: as much as of the misses now.
    let kept = share(counts.misses_absent, counts.misses());
    let (mut more, mut reached) = (0.0, (held, rate));
    for (end, n) in reuse.buckets().map(|(end, n)| (end.as_nanos() as f64, n as f64)).filter(|(end, _)| *end > held) {
        more += n;
        reached = (end, (rate + kept * more / requests).min(1.0));
        if reached.1 >= HIT_RATE_TARGET {
            break;
        }
    }
    (reached.1 >= rate + GAIN).then_some(reached)
}

/// Values that memory does not take, and entries that take much of it.
pub fn oversized(subject: &Subject) -> Option<Finding> {
    let refused = subject.window.counts.too_large;
    let capacity = subject.measure("gauge.memory_capacity_bytes") as f64 / subject.whole.samples.max(1) as f64;
    let largest = subject.window.sketches.largest.iter().next();
    let size = largest.map_or(0.0, |largest| largest.amount as f64);
    let large = capacity > 0.0 && size > LARGE * capacity;
    if refused == 0 && !large {
        return None;
    }
    let key = largest.map(|largest| largest.key.escape_ascii().to_string());
    let key = key.map_or_else(String::new, |key| format!("the largest entry is {key:?} with {}", bytes(size)));
    let effect = if refused > 0 {
        format!("{} values were not kept in memory, and are fetched or loaded at each read", count(refused))
    } else {
        format!("it takes {} of all memory, and drives out what is read", percent(size / capacity))
    };
    Some(
        subject
            .finding(Code::OversizedValues, "values are too large for the memory", refused as f64 * subject.load_seconds().max(0.001))
            .evidence(if refused > 0 { format!("{} values were refused; {key}", count(refused)) } else { key })
            .effect(effect)
            .advice(format!(
                "split such values, set `compression` for namespace {:?}, or give it a `memory` of its own that is large enough",
                subject.name
            )),
    )
}

/// One key with a large share of all reads.
pub fn hot_key(subject: &Subject) -> Option<Finding> {
    let requests = subject.window.requests();
    let hottest = subject.window.sketches.hot_reads.iter().next()?;
    let part = share(hottest.amount, requests);
    if requests < WITNESSES || part < HOT || subject.window.sketches.keys.estimate() < 10 {
        return None;
    }
    let key = hottest.key.escape_ascii().to_string();
    Some(
        subject
            .finding(Code::HotKey, "one key has a large share of the reads", 0.0)
            .evidence(format!("{key:?} has about {} of {} reads", percent(part.min(1.0)), count(requests)))
            .effect("when it expires or is invalidated, that share of the reads waits for one load")
            .advice(format!(
                "set `refresh_ahead` or `stale_while_revalidate` for namespace {:?}; keep the value in the caller where it can bear the age",
                subject.name
            )),
    )
}
