//! Entries that lived too short or too long.

use larder::analytics::Rollup;

use super::{Code, Finding, LOADS_WITNESSES, Subject, WITNESSES, bytes, count, duration, measure, next_round, percent, share};

/// From this share of loads on that bring back what had expired, the time to live is too short: most of its loads are for nothing.
const UNCHANGED: f64 = 0.7;

/// From this share on of loads after an invalidation that bring back the same, too much is invalidated.
const NEEDLESS: f64 = 0.3;

/// An entry that is kept for so many times the time in which it is read is kept for too long.
const UNREAD: f64 = 4.0;

/// From this share of entries on that would be judged stale for nothing, a larger index pays for itself.
const FALSE_MISSES: f64 = 0.01;

/// Expired, loaded again, and the same.
pub fn ttl_too_short(subject: &Subject) -> Option<Finding> {
    let counts = &subject.window.counts;
    let (compared, unchanged) = (counts.reloads_expired, counts.expired_needlessly);
    let part = share(unchanged, compared);
    if compared < LOADS_WITNESSES || part < UNCHANGED {
        return None;
    }
    let age = subject.window.sketches.age_expired.percentile(0.5).map(|age| age.as_secs_f64());
    let longer = age.map_or_else(
        || "give it a longer one".to_owned(),
        |age| format!("entries live about {}; try {}", duration(age), duration(next_round((1.0 / (1.0 - part)).clamp(2.0, 10.0) * age))),
    );
    Some(
        subject
            .finding(Code::TtlTooShort, "the time to live is too short", unchanged as f64 * subject.load_seconds())
            .evidence(format!(
                "of {} entries that expired and were loaded again, {} ({}) had the same content",
                count(compared),
                count(unchanged),
                percent(part)
            ))
            .effect(format!("{} brought nothing new", subject.cost_of(unchanged)))
            .advice(format!("raise `ttl` of namespace {:?}: {longer}; or invalidate by event and let it live long", subject.name)),
    )
}

/// Kept long after the last read, while others had to go.
pub fn ttl_too_long(subject: &Subject) -> Option<Finding> {
    let sketches = &subject.window.sketches;
    let (left, evicted) = (sketches.age_unread.count(), subject.window.counts.evicted);
    if left < WITNESSES || evicted < LOADS_WITNESSES || sketches.age_expired.count() < LOADS_WITNESSES {
        return None;
    }
    let unread = sketches.age_unread.percentile(0.5)?.as_secs_f64();
    let life = sketches.age_expired.percentile(0.5)?.as_secs_f64();
    let read_for = (life - unread).max(life * 0.01);
    if life < UNREAD * read_for {
        return None;
    }
    let waste = unread / life;
    let memory = subject.window.bytes_sum as f64 / subject.whole.samples.max(1) as f64 * waste;
    Some(
        subject
            .finding(Code::TtlTooLong, "the time to live is too long", evicted as f64 * subject.load_seconds() * waste)
            .evidence(format!(
                "half of the entries that left had not been read for {} or more, and live {}; {} were evicted to make room",
                duration(unread),
                duration(life),
                count(evicted)
            ))
            .effect(format!("about {} of memory hold what is not read again", bytes(memory)))
            .advice(format!("lower `ttl` of namespace {:?} to about {}", subject.name, duration(next_round(2.0 * read_for)))),
    )
}

/// Invalidated, loaded again, and the same.
pub fn over_invalidation(subject: &Subject) -> Option<Finding> {
    let counts = &subject.window.counts;
    let (compared, needless) = (counts.reloads_invalidated, counts.invalidated_needlessly);
    let part = share(needless, compared);
    if compared < LOADS_WITNESSES || part < NEEDLESS {
        return None;
    }
    let worst = |kind: &str| {
        let of = subject.whole.measures.iter().filter_map(|(name, n)| Some((name.strip_prefix(kind)?, *n)));
        of.max_by_key(|(_, n)| *n)
    };
    let (rule, tag) = (worst("needless.rule."), worst("needless.tag."));
    let by = match (rule, tag) {
        (Some((rule, n)), _) => format!("; most by rule {rule:?} ({})", count(n)),
        (None, Some((tag, n))) => format!("; most by tag {tag:?} ({})", count(n)),
        (None, None) => String::new(),
    };
    let advice = match rule {
        Some((rule, _)) => format!("give rule {rule:?} a condition (`when`), or names that say more closely what depends on the event"),
        None => "use narrower tags, or write with `put_if_changed` (If-Changed over HTTP), which invalidates only what changed".to_owned(),
    };
    Some(
        subject
            .finding(Code::OverInvalidation, "entries are invalidated for nothing", needless as f64 * subject.load_seconds())
            .evidence(format!(
                "of {} entries that were invalidated and loaded again, {} ({}) had the same content{by}",
                count(compared),
                count(needless),
                percent(part)
            ))
            .effect(format!("{} brought nothing new", subject.cost_of(needless)))
            .advice(advice),
    )
}

/// Entries judged stale though nothing they depend on was invalidated.
pub fn false_misses(whole: &Rollup) -> Option<Finding> {
    let entries: u64 = whole.namespaces.values().map(|window| window.entries_sum).sum();
    let rate = share(measure(whole, "gauge.false_miss_entries"), entries);
    if entries < WITNESSES || rate < FALSE_MISSES {
        return None;
    }
    let total = whole.total();
    let misses = (total.counts.misses_invalidated as f64 * rate).round();
    let load = total.load.mean().map_or(0.0, |mean| mean.as_secs_f64());
    Some(Finding {
        code: Code::FalseMisses,
        namespace: None,
        title: "the freshness index is too small".into(),
        evidence: format!("about {} of the entries in memory would be judged stale though nothing they depend on changed", percent(rate)),
        effect: format!("about {} loads for nothing", count(misses as u64)),
        advice: "double `index` until the estimate is under 1 %".into(),
        weight: misses * load,
    })
}
