//! The quick look: a fresh entry in memory that needs no closer one.
//!
//! By reference, and not as a part of the view, so that who reads many namespaces through one handle needs no view of each.

use super::*;
use crate::cache::Shared;
use crate::entry::typed;
use crate::metrics::{SAMPLE_ONE_IN, Tally};
use crate::space::Space;

/// Where to look.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) space: &'a Space,
}

/// See [`Look::uncounted_hit`].
struct Uncounted<V>(std::marker::PhantomData<V>);

/// See [`Look::checked_hit`].
struct Checked<V>(std::marker::PhantomData<V>);

impl Look<'_> {
    /// (1) Memory, the quick way: one comparison with the clock, one with the log. `None` says nothing yet.
    #[inline(always)]
    pub(crate) fn quick_hit<V: Send + Sync + 'static>(self, query: &Query<'_>) -> Option<Arc<Entry<V>>> {
        if self.space.strict.is_some() && self.is_unverified() {
            return None;
        }
        let tally = self.space.metrics.tally();
        if tally.samples_next_hit() {
            return self.timed_hit(query, tally, |slot, began| self.quiet_entry(query, slot, began));
        }
        let began = self.now_and_latest();
        let entry = self.quiet_entry(query, self.space.pool().get_for::<V>(query)?, began)?;
        tally.add(Count::HitMemory, 1);
        Some(entry)
    }

    /// The quick way without anything that is counted, timed or gathered: what a hit would cost then is for the bench to tell.
    pub(crate) fn uncounted_hit<V: Send + Sync + 'static>(self, query: &Query<'_>) -> Option<Arc<Entry<V>>> {
        if self.space.strict.is_some() && self.is_unverified() {
            return None;
        }
        let (now, latest) = self.now_and_latest();
        // Another type, so that the engine's search has one caller for each and can become a part of it.
        let entry = typed::<V>(self.space.pool().get_for::<Uncounted<V>>(query)?)?;
        let quiet = entry.meta.stamp() >= latest && (entry.meta.quiet_at(now) || !entry.meta.is_due(now));
        quiet.then_some(entry)
    }

    /// One hit of many, which is timed and sampled. In a function of its own, so that the others need no room for the time.
    #[cold]
    #[inline(never)]
    fn timed_hit<V: Send + Sync + 'static>(
        self,
        query: &Query<'_>,
        tally: Tally<'_>,
        check: impl FnOnce(Arc<dyn Slot>, (Millis, Stamp)) -> Option<Arc<Entry<V>>>,
    ) -> Option<Arc<Entry<V>>> {
        let (started, began) = (Instant::now(), self.now_and_latest());
        let entry = check(self.space.pool().get(*query)?, began)?;
        tally.add(Count::HitMemory, 1);
        self.space.metrics.hit_memory.record(started.elapsed());
        self.space.metrics.count_reads(|| query.to_bytes(), SAMPLE_ONE_IN, Some(&entry.meta), began.0);
        Some(entry)
    }

    /// The quick way for those who wait for nothing: where something was appended since the entry was last known to be fresh, its
    /// names are checked here and now. Among puts that is so for most hits. What is found to be stale, or is due, is left to those
    /// who look closer.
    #[inline]
    pub(crate) fn checked_hit<V: Send + Sync + 'static>(self, key: &[u8], query: &Query<'_>) -> Option<Arc<Entry<V>>> {
        if self.space.strict.is_some() && self.is_unverified() {
            return None;
        }
        let tally = self.space.metrics.tally();
        if tally.samples_next_hit() {
            return self.timed_hit(query, tally, |slot, began| self.checked_entry(key, query, slot, began));
        }
        let began = self.now_and_latest();
        let entry = self.checked_entry(key, query, self.space.pool().get_for::<Checked<V>>(query)?, began)?;
        tally.add(Count::HitMemory, 1);
        Some(entry)
    }

    #[inline(always)]
    fn checked_entry<V: Send + Sync + 'static>(
        self,
        key: &[u8],
        query: &Query<'_>,
        slot: Arc<dyn Slot>,
        (now, latest): (Millis, Stamp),
    ) -> Option<Arc<Entry<V>>> {
        let entry = typed::<V>(slot)?;
        if entry.meta.stamp() < latest && self.verify(key, &entry.meta).is_err() {
            return None;
        }
        if !entry.meta.quiet_at(now) && !self.is_only_followed(query, &entry.meta, now) {
            return None;
        }
        entry.meta.read_now(now);
        Some(entry)
    }

    /// The time and `latest`. A hit takes them before it looks: what is appended while it looks, it need not see, and having
    /// found the entry it has nothing to wait for.
    #[inline(always)]
    fn now_and_latest(self) -> (Millis, Stamp) {
        (self.shared.clock.now_ms(), self.shared.index.latest())
    }

    /// What memory has, if it is a value of this type that needs no closer look.
    #[inline(always)]
    fn quiet_entry<V: Send + Sync + 'static>(
        self,
        query: &Query<'_>,
        slot: Arc<dyn Slot>,
        (now, latest): (Millis, Stamp),
    ) -> Option<Arc<Entry<V>>> {
        let entry = typed::<V>(slot)?;
        // Step 3: when this read began, nothing at all had been appended since the entry was last known to be fresh.
        let quiet = entry.meta.stamp() >= latest && (entry.meta.quiet_at(now) || self.is_only_followed(query, &entry.meta, now));
        if !quiet {
            return None;
        }
        entry.meta.read_now(now);
        Some(entry)
    }

    /// Whether a hit was to look closer only because reads of its key are followed; then this one was noted.
    #[cold]
    #[inline(never)]
    fn is_only_followed(self, query: &Query<'_>, meta: &Meta, now: Millis) -> bool {
        if meta.is_due(now) {
            return false;
        }
        let followed = self.space.metrics.follow(xxh3_64(&query.to_bytes()), Some(meta.weight), now);
        meta.noted(now, followed);
        true
    }

    /// Step 3: whether anything the entry depends on was invalidated since its stamp. `applied` is taken before the check
    /// and becomes the new stamp after it: taken later, it could cover an invalidation that the check did not see; and
    /// `latest` may be ahead of what is in the index in order.
    pub(crate) fn verify(self, key: &[u8], meta: &Meta) -> Result<(), Stale> {
        let index = &self.shared.index;
        let stamp = meta.stamp();
        if stamp >= index.latest() || self.shared.mutations.on(Mutation::HitUnchecked) {
            return Ok(());
        }
        let applied = index.applied();
        if let Some(stale) = index.judge(meta.named(key), stamp) {
            return Err(stale);
        }
        if self.shared.mutations.on(Mutation::RestampAfterCheck) {
            // Waits a moment for an append, so that a test meets in seconds what a processor meets in days.
            let checked = index.latest();
            (0..500).take_while(|_| index.latest() == checked).for_each(|_| std::thread::yield_now());
            meta.restamp(index.latest());
        }
        meta.restamp(applied);
        Ok(())
    }

    /// Promise G3: whether a strict read that begins now must not be answered from what this instance knows, because a log
    /// that others append to was not heard for too long.
    #[inline(never)]
    pub(crate) fn is_unverified(self) -> bool {
        self.space.strict.is_some_and(|limit| self.shared.log.unheard_for() > limit)
    }
}
