//! Cuts the life of a cache into windows.

use std::collections::{BTreeMap, HashMap};

use super::{Rollup, Sketches, Window};
use crate::cache::Larder;
use crate::events::EventStats;
use crate::metrics::NamespaceStats;
use crate::stats::Stats;
use crate::tier::TierStats;

/// Cuts the life of a cache into windows: each [`cut`](Self::cut) is what happened since the one before. Several recorders of a cache
/// do not disturb each other, nor the counters they read, except for the [sketches](super::Sketches), which are given to whoever comes
/// first.
///
/// The measures of the cache as a whole are sums. Those that did not move are left out. Their names:
///
/// | Name | What |
/// |---|---|
/// | `appends`, `syncs` | appends to the log, and waits for stable storage |
/// | `invalidations.KIND.ORIGIN` | names that were invalidated: see [`Invalidations`](crate::Invalidations) for kinds and origins |
/// | `widened` | names that were widened, for want of a shape or a glob |
/// | `needless.tag.TAG`, `needless.rule.RULE` | entries killed for nothing, by what killed them: see [`Needless`](crate::Needless), which has an end |
/// | `events.received`, `.duplicates`, `.unmatched`, `.refused`, `.failed`, `.names`, `.conflated`, `.dead_dropped` | see [`EventStats`] |
/// | `backing.evicted`, `.expired`, `.shed`, `.outranked`, `.unreadable`, `.errors` | see [`TierStats`] |
/// | `gauge.memory_capacity_bytes`, `gauge.false_miss_entries` | the memory that may be used, and about how many entries would be judged stale for nothing: as sums over samples |
/// | `log.refused`, `.connects`, `.epochs`, `.resyncs`, `.checkpoints`, `.inbox_taken`, `.inbox_rejected` | of a log that is shared: see [`SharedLogStats`](crate::SharedLogStats) |
pub struct Recorder {
    larder: Larder,
    before: Stats,
    begun_ms: u64,
}

impl Recorder {
    /// Begins now.
    pub fn new(larder: &Larder, now_ms: u64) -> Self {
        Recorder { larder: larder.clone(), before: larder.stats(), begun_ms: now_ms }
    }

    /// What happened since the last cut. `now_ms` is the time of day in milliseconds since 1970; a clock that was set back in between makes
    /// a window without length.
    pub fn cut(&mut self, now_ms: u64) -> Rollup {
        let now = self.larder.stats();
        let mut sketches: HashMap<String, Sketches> = self.larder.0.drain_sketches().into_iter().collect();
        let mut rollup = Rollup { start_ms: self.begun_ms, end_ms: now_ms.max(self.begun_ms), samples: 1, ..Rollup::default() };
        for stats in &now.namespaces {
            let before = self.before.namespaces.iter().find(|before| before.name == stats.name);
            let window = Window { sketches: sketches.remove(&stats.name).unwrap_or_default(), ..Window::between(before, stats) };
            if window != Window::default() {
                rollup.namespaces.insert(stats.name.clone(), window);
            }
        }
        let before = sums(&self.before);
        for (name, value) in sums(&now) {
            let value = value.saturating_sub(before.get(&name).copied().unwrap_or(0));
            if value > 0 {
                rollup.measures.insert(name, value);
            }
        }
        let falsely = now.index.false_miss_rate * now.total.entries as f64;
        for (name, value) in [("gauge.memory_capacity_bytes", now.memory.capacity), ("gauge.false_miss_entries", falsely.round() as u64)] {
            rollup.measures.insert(name.into(), value);
        }
        rollup.measures.retain(|_, value| *value > 0);
        (self.before, self.begun_ms) = (now, now_ms);
        rollup
    }
}

/// The sums of a cache as a whole, by the names that are documented above.
fn sums(stats: &Stats) -> BTreeMap<String, u64> {
    let EventStats { received, duplicates, unmatched, refused, failed, names, conflated, dead_dropped, dead: _ } = stats.events;
    let own = [
        ("appends", stats.log.appends),
        ("syncs", stats.log.syncs),
        ("widened", stats.index.widened),
        ("events.received", received),
        ("events.duplicates", duplicates),
        ("events.unmatched", unmatched),
        ("events.refused", refused),
        ("events.failed", failed),
        ("events.names", names),
        ("events.conflated", conflated),
        ("events.dead_dropped", dead_dropped),
    ];
    let backing = stats.backing.iter().flat_map(|backing| {
        let TierStats { evicted, expired, shed, outranked, unreadable, errors, .. } = backing.stats;
        [
            ("backing.evicted", evicted),
            ("backing.expired", expired),
            ("backing.shed", shed),
            ("backing.outranked", outranked),
            ("backing.unreadable", unreadable),
            ("backing.errors", errors),
        ]
    });
    let shared = stats.log.shared.iter().flat_map(|log| {
        [
            ("log.refused", log.refused),
            ("log.connects", log.connects),
            ("log.epochs", log.epochs),
            ("log.resyncs", log.resyncs),
            ("log.checkpoints", log.checkpoints),
            ("log.inbox_taken", log.inbox_taken),
            ("log.inbox_rejected", log.inbox_rejected),
        ]
    });
    let named = own.into_iter().chain(backing).chain(shared).map(|(name, n)| (name.to_owned(), n));
    let invalidations = stats.invalidations.iter().map(|(kind, origin, n)| (format!("invalidations.{}.{}", kind.name(), origin.name()), n));
    let tags = stats.needless.tags.iter().map(|(tag, n)| (format!("needless.tag.{tag}"), *n));
    let rules = stats.needless.rules.iter().map(|(rule, n)| (format!("needless.rule.{rule}"), *n));
    named.chain(invalidations).chain(tags).chain(rules).collect()
}

impl Window {
    fn between(before: Option<&NamespaceStats>, now: &NamespaceStats) -> Self {
        let nothing = NamespaceStats::default();
        let since = now.since(before.unwrap_or(&nothing));
        Window {
            counts: since.counts,
            entries: now.entries,
            bytes: now.bytes,
            entries_sum: now.entries,
            bytes_sum: now.bytes,
            hit_memory: since.hit_memory,
            hit_backing: since.hit_backing,
            miss: since.miss,
            error: since.error,
            load: since.load,
            sketches: Sketches::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_is_what_happened_since_the_one_before() {
        let larder = Larder::builder().build().await.unwrap();
        let numbers = larder.namespace::<u32>("numbers").unwrap();
        let mut recorder = Recorder::new(&larder, 1_000);
        numbers.put("a", 1).await.unwrap();
        assert!(numbers.get("a").await.unwrap().is_some());
        let first = recorder.cut(61_000);
        assert_eq!((first.start_ms, first.end_ms, first.samples), (1_000, 61_000, 1));
        assert_eq!((first.namespaces["numbers"].counts.puts, first.namespaces["numbers"].counts.hits_memory), (1, 1));
        assert_eq!(first.measures["appends"], 1);
        assert!(numbers.get("b").await.unwrap().is_none());
        let second = recorder.cut(121_000);
        assert_eq!((second.namespaces["numbers"].counts.puts, second.namespaces["numbers"].counts.misses_absent), (0, 1));
        assert_eq!(second.namespaces["numbers"].entries, 1, "what is held counts, whatever happened");
        assert!(!second.measures.contains_key("appends"), "what did not move is left out");
        assert_eq!(recorder.cut(100_000).end_ms, 121_000, "a clock that was set back");
        larder.close().await.unwrap();
    }
}
