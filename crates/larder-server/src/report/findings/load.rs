//! Loads: too many at once, too slow, or in error.

use larder::analytics::Rollup;

use super::{Code, Finding, LOADS_WITNESSES, Subject, WITNESSES, count, duration, measure, percent, share};

/// Readers that wait for one load on average, from which on it is a stampede.
const WAITING: f64 = 1.0;

/// The error rate of the seed system, from which on it is told.
const ERROR_RATE: f64 = 0.01;

/// Loads that take longer than this at the 99th percentile are felt by people.
const LOAD_P99_SECONDS: f64 = 1.0;

/// Loads that take so many times as long as in the period before are told, however fast they are.
const SLOWER: f64 = 2.0;

/// The mean of all reads that the seed system calls slow.
const READ_SECONDS: f64 = 0.01;

/// Many readers waited for the same load.
pub fn stampedes(subject: &Subject) -> Option<Finding> {
    let counts = &subject.window.counts;
    let loads = counts.loads_ok + counts.loads_error + counts.loads_timeout;
    let each = share(counts.loads_joined, loads);
    if counts.loads_joined < WITNESSES || each < WAITING {
        return None;
    }
    let waited = counts.loads_joined as f64 * subject.load_seconds() / 2.0;
    Some(
        subject
            .finding(Code::Stampedes, "many readers wait for the same load", waited)
            .evidence(format!("{} readers joined {} loads: {each:.1} for each", count(counts.loads_joined), count(loads)))
            .effect(format!("they waited about {} in sum; without coalescing each would have loaded", duration(waited)))
            .advice(format!(
                "set `stale_while_revalidate` or `refresh_ahead` for namespace {:?}, so that nobody waits for what is read all the time",
                subject.name
            )),
    )
}

/// Loads that fail.
pub fn errors(subject: &Subject) -> Option<Finding> {
    let counts = &subject.window.counts;
    let failed = counts.loads_error + counts.loads_timeout;
    let loads = failed + counts.loads_ok;
    let (of_loads, of_reads) = (share(failed, loads), share(failed, subject.window.requests()));
    if loads < LOADS_WITNESSES || of_loads < ERROR_RATE {
        return None;
    }
    Some(
        subject
            .finding(Code::Errors, "loads fail", failed as f64 * subject.load_seconds().max(0.1))
            .evidence(format!(
                "{} of {} loads failed ({}): {} with an error, {} out of time",
                count(failed),
                count(loads),
                percent(of_loads),
                count(counts.loads_error),
                count(counts.loads_timeout)
            ))
            .effect(format!("{} of all reads were concerned", percent(of_reads)))
            .advice(if counts.loads_timeout > counts.loads_error {
                format!("see to the source's latency, or raise `load_timeout` of namespace {:?}", subject.name)
            } else {
                format!("see to the source; `stale_if_error` of namespace {:?} serves what there was meanwhile", subject.name)
            }),
    )
}

/// The backing tier and events.
pub fn other_errors(whole: &Rollup) -> Option<Finding> {
    let total = whole.total();
    let parts = [
        ("operations of the backing tier", total.counts.backing_errors),
        ("writes that the backing tier did not take", total.counts.backing_shed),
        ("invalidations that were refused", measure(whole, "log.refused")),
        ("events that failed", measure(whole, "events.failed")),
    ];
    let failed: u64 = parts.iter().map(|(_, n)| n).sum();
    let asked = total.requests() + total.counts.puts + measure(whole, "appends");
    let rate = share(failed, asked);
    if asked < WITNESSES || rate < ERROR_RATE {
        return None;
    }
    let (worst, most) = parts.iter().max_by_key(|(_, n)| *n)?;
    Some(Finding {
        code: Code::Errors,
        namespace: None,
        title: "the cache's own operations fail".into(),
        evidence: format!("{} failed ({} of all operations); most: {} {worst}", count(failed), percent(rate), count(*most)),
        effect: "reads went on without the backing tier, and its entries were loaded again".into(),
        advice: "see `larder health`: the connection to the backing tier, its disk, its memory".into(),
        weight: failed as f64 * 0.1,
    })
}

/// Loads that take long, or much longer than before.
pub fn slow_loads(subject: &Subject, before: &Rollup) -> Option<Finding> {
    let load = &subject.window.load;
    if load.count() < LOADS_WITNESSES {
        return None;
    }
    let p99 = load.percentile(0.99)?.as_secs_f64();
    let mean = load.mean()?.as_secs_f64();
    let earlier = before.namespaces.get(subject.name).map(|window| &window.load).filter(|load| load.count() >= LOADS_WITNESSES);
    let slower = earlier.and_then(|load| load.mean()).filter(|before| mean > SLOWER * before.as_secs_f64() && mean > READ_SECONDS);
    if p99 < LOAD_P99_SECONDS && slower.is_none() {
        return None;
    }
    let than = slower.map_or_else(String::new, |before| format!("; in the period before the mean was {}", duration(before.as_secs_f64())));
    let costly = subject.window.sketches.hot_cost.iter().next();
    let costly = costly.map_or_else(String::new, |key| {
        format!("; the dearest key is {:?} with {}", key.key.escape_ascii().to_string(), duration(key.amount as f64 / 1e6))
    });
    Some(
        subject
            .finding(Code::SlowLoads, "loads are slow", load.sum().as_secs_f64())
            .evidence(format!("{} loads: mean {}, 99 in 100 under {}{than}{costly}", count(load.count()), duration(mean), duration(p99)))
            .effect(format!("readers waited {} for loads in sum", duration(load.sum().as_secs_f64())))
            .advice(format!(
                "see to the loader; `refresh_ahead` and `stale_while_revalidate` of namespace {:?} take the wait from readers",
                subject.name
            )),
    )
}

/// Reads that are slow on average, though loads are not the reason.
pub fn slow_reads(subject: &Subject) -> Option<Finding> {
    let hits = subject.window.hits();
    let mean = subject.window.hit_latencies().mean()?.as_secs_f64();
    if hits < WITNESSES || mean < READ_SECONDS {
        return None;
    }
    let backing = share(subject.window.counts.hits_backing, hits);
    Some(
        subject
            .finding(Code::SlowReads, "hits are slow", hits as f64 * mean)
            .evidence(format!(
                "the mean of {} hits is {}; {} were answered by the backing tier",
                count(hits),
                duration(mean),
                percent(backing)
            ))
            .effect(format!("readers waited {} for hits in sum", duration(hits as f64 * mean)))
            .advice("raise `memory` so that the backing tier is asked less; see to its latency (`larder health`)"),
    )
}
