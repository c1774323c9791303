//! How a read ends: what it is answered with, and what it is counted, timed and gathered as.

use super::*;
use crate::hot_keys::HotKeys;

impl<V: Value> View<V> {
    pub(super) fn landed(&self, landed: Landed<V>, missed: Miss, leads: bool, ask: Ask<'_>) -> Option<Answer<V>> {
        if landed.source != Source::Loader {
            // Who joined got it from the leader, which is from memory.
            let source = if leads { landed.source } else { Source::Memory };
            return landed.entry.and_then(|entry| self.hit(entry, source, ask).into_answer());
        }
        self.count_miss(missed, landed.entry.as_ref().map(|entry| &entry.meta), ask);
        if !leads {
            self.space.metrics.count(Count::LoadJoined);
        }
        landed.entry.map(|entry| self.answer(entry, Source::Loader, Freshness::Fresh))
    }

    pub(super) fn hit(&self, entry: Arc<Entry<V>>, source: Source, ask: Ask<'_>) -> Lookup<V> {
        let (count, histogram) = match source {
            Source::Memory => (Count::HitMemory, &self.space.metrics.hit_memory),
            _ => (Count::HitBacking, &self.space.metrics.hit_backing),
        };
        let tally = self.space.metrics.tally();
        if source != Source::Memory || tally.samples_next_hit() {
            histogram.record(ask.started.elapsed());
        }
        tally.add(count, 1);
        self.gather(Some(&entry.meta), ask);
        Lookup::Hit(self.answer(entry, source, Freshness::Fresh))
    }

    /// Past its time, without a loader to load it again: an answer within its window, a miss beyond.
    pub(super) fn aged(&self, entry: Arc<Entry<V>>, source: Source, ask: Ask<'_>) -> Lookup<V> {
        if within(&entry.meta, entry.meta.life.stale_while_revalidate, self.shared.clock.now_ms()) {
            return Lookup::Stale(self.stale(entry, source, ask));
        }
        self.missed(Miss::Expired, ask)
    }

    pub(super) fn stale(&self, entry: Arc<Entry<V>>, source: Source, ask: Ask<'_>) -> Answer<V> {
        self.space.metrics.count(Count::HitStale);
        if source == Source::Backing {
            self.space.metrics.count(Count::HitStaleBacking);
        }
        self.space.metrics.hit_backing.record(ask.started.elapsed());
        self.gather(Some(&entry.meta), ask);
        self.answer(entry, source, Freshness::Stale)
    }

    /// There is no such thing, it is remembered.
    pub(super) fn negative(&self, ask: Ask<'_>) {
        self.space.metrics.count(Count::HitNegative);
        self.space.metrics.hit_backing.record(ask.started.elapsed());
        self.gather(None, ask);
    }

    pub(super) fn missed(&self, miss: Miss, ask: Ask<'_>) -> Lookup<V> {
        self.count_miss(miss, None, ask);
        Lookup::Miss(miss)
    }

    /// A miss, and what was loaded then.
    fn count_miss(&self, miss: Miss, loaded: Option<&Meta>, ask: Ask<'_>) {
        self.space.metrics.count(match miss {
            Miss::Absent => Count::MissAbsent,
            Miss::Expired => Count::MissExpired,
            Miss::Invalidated(by) => {
                self.space.metrics.count(by.into());
                Count::MissInvalidated
            }
        });
        self.space.metrics.miss.record(ask.started.elapsed());
        self.gather(loaded, ask);
    }

    /// A read that ends with this error.
    pub(super) fn failed(&self, error: Error, ask: Ask<'_>) -> Error {
        self.space.metrics.count(Count::Error);
        self.space.metrics.error.record(ask.started.elapsed());
        self.gather(None, ask);
        error
    }

    /// What is gathered of every read that was not answered the quick way, once it is known what it got.
    fn gather(&self, got: Option<&Meta>, ask: Ask<'_>) {
        let (metrics, now, hash) = (&self.space.metrics, self.shared.clock.now_ms(), xxh3_64(ask.key));
        match got {
            Some(meta) => meta.read_now(now),
            None => metrics.sketching.seen(hash),
        }
        if metrics.follows(hash) {
            let followed = metrics.follow(hash, got.map(|meta| meta.weight), now);
            got.into_iter().for_each(|meta| meta.noted(now, followed));
        }
        if let Some(reads) = HotKeys::samples_slow() {
            metrics.count_reads(|| ask.key.into(), reads, got, now);
        }
    }

    pub(crate) fn answer(&self, entry: Arc<Entry<V>>, source: Source, freshness: Freshness) -> Answer<V> {
        let age = Duration::from_millis(self.shared.clock.now_ms().saturating_sub(entry.meta.created_at));
        let position = self.shared.index.position_of(entry.meta.stamp());
        // What comes from the source itself needs nobody's word.
        let unheard = freshness == Freshness::Fresh && source != Source::Loader && self.shared.log.unheard_for() > self.space.max_staleness;
        if unheard {
            self.space.metrics.count(Count::Unverified);
        }
        let freshness = if unheard { Freshness::Unverified } else { freshness };
        Answer { value: Cached(entry), source, freshness, age, position }
    }
}
