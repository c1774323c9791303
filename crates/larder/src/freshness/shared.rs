//! What the index is asked for where the log is shared with other instances: own appends come ahead of what others appended
//! before, and there are times without a log.

use super::*;

impl Index {
    /// Enters a group of what this instance appended to a log it shares with others, and lets readers know at once (step 1): the hashes
    /// of single names, and all names of those appends that have others, too, each with its position; `last` is the group's last one.
    /// What others appended before may come later, by [`apply`](Self::apply), so only `latest` is raised. Returns the generation in
    /// force, since the epoch may have been adopted anew after the append was sent, and of which appends how many names were widened.
    /// `None`, and nothing done, if the epoch was left: then everything that the names were meant for is stale anyway.
    ///
    /// The answer to an append may come after positions were made up here, because the log was held for lost. Entries may have
    /// been checked and stamped with those before the names were here, so that the real position would be too low for them:
    /// the names get another made-up one, past all. Also past the stamps that the callers are told: what they store under them is
    /// stale, since the log could not know what was queued here before it answered.
    pub(crate) fn enter_own<'a>(
        &self,
        epoch: Epoch,
        singles: impl Iterator<Item = (NameHash, u64)> + Clone,
        others: impl Iterator<Item = (&'a [Name], u64)>,
        last: u64,
    ) -> Option<(u32, Vec<(u64, usize)>)> {
        // A line out of many megabytes is seldom at hand; all of them are fetched in little more than the time of one.
        let fetch = |(hash, _): (NameHash, u64)| self.lines[hash.line(self.lines.len() - 1)].floor.load(Ordering::Relaxed);
        std::hint::black_box(singles.clone().map(fetch).fold(0, u64::wrapping_add));
        let _one_writer = self.writer.lock();
        let era = *self.era.read();
        if epoch != era.epoch {
            return None;
        }
        let made_up = era.provisional_past.is_some().then(|| {
            self.seen.fetch_max(last, Ordering::AcqRel);
            self.next_made_up().seq()
        });
        singles.for_each(|(hash, seq)| self.raise(hash, made_up.unwrap_or(seq)));
        let seed = self.seed.load(Ordering::Acquire);
        let enter = |names: &[Name], seq| {
            let other = names.iter().filter(|name| matches!(name, Name::Pattern(_) | Name::Everything));
            other.filter(|name| self.record_one(name, made_up.unwrap_or(seq), seed)).count()
        };
        let widened: Vec<_> = others.map(|(names, seq)| (seq, enter(names, seq))).filter(|(_, widened)| *widened > 0).collect();
        self.widened.fetch_add(widened.iter().map(|(_, widened)| *widened as u64).sum(), Ordering::Relaxed);
        self.latest.fetch_max(Stamp::new(era.generation, made_up.unwrap_or(last)).0, Ordering::AcqRel);
        Some((era.generation, widened))
    }

    /// A position past all that any entry here can be stamped with. Only once the era says that positions are made up: from then
    /// on no record can bring a higher one.
    fn next_made_up(&self) -> Stamp {
        let latest = self.latest();
        let past = latest.seq().max(self.seen.load(Ordering::Acquire));
        Stamp::new(latest.generation(), (past + 1).min(SEQ_MAX))
    }

    /// Enters what the shared log holds at the next position, in its order (step 2). False if that cannot be done in this
    /// generation any more: positions were made up here, or the epoch was left.
    pub(crate) fn apply(&self, names: &[Name], stamp: Stamp) -> bool {
        let _one_writer = self.writer.lock();
        if stamp.generation() != self.latest().generation() || self.era.read().provisional_past.is_some() {
            return false;
        }
        if self.mutations.on(Mutation::TailBeforeIndex) {
            self.latest.fetch_max(stamp.0, Ordering::AcqRel);
            self.applied.fetch_max(stamp.0, Ordering::AcqRel);
            // A moment for readers: what a processor meets in days, a test meets in seconds.
            (0..64).for_each(|_| std::thread::yield_now());
        }
        let widened = self.record_locked(names, stamp.seq());
        self.widened.fetch_add(widened as u64, Ordering::Relaxed);
        self.latest.fetch_max(stamp.0, Ordering::AcqRel);
        self.applied.fetch_max(stamp.0, Ordering::AcqRel);
        true
    }

    /// Enters names at a position of this process's own making, past all that it has seen, because the shared log cannot be
    /// reached. From here on, nothing of this generation can be told to others or hear of them, and it ends with
    /// [`adopt`](Self::adopt). Returns the guard's answer, too, which nothing can come between.
    pub(crate) fn enter_provisionally(&self, names: &[Name], guard: impl FnOnce() -> bool) -> (Stamp, bool) {
        let _one_writer = self.writer.lock();
        let mut era = self.era.write();
        if era.provisional_past.is_none() {
            (era.provisional_past, era.applied_before) = (Some(self.latest().seq()), self.applied().seq());
        }
        drop(era);
        let conflict = guard();
        let stamp = self.next_made_up();
        self.record_locked(names, stamp.seq());
        self.latest.fetch_max(stamp.0, Ordering::AcqRel);
        self.applied.fetch_max(stamp.0, Ordering::AcqRel);
        (stamp, conflict)
    }

    /// The generation, and the epoch it stands for.
    pub(crate) fn era(&self) -> (u32, Epoch) {
        let era = self.era.read();
        (era.generation, era.epoch)
    }

    /// The shapes in use.
    pub(crate) fn shapes_in_use(&self) -> impl Iterator<Item = Shape> + '_ {
        self.shapes[..self.shape_count.load(Ordering::Acquire)].iter().map(|shape| Shape(shape.load(Ordering::Acquire)))
    }

    /// Gives the generation in force another epoch's name without making anything stale: for the tests that must catch it.
    pub(crate) fn relabel(&self, epoch: Epoch) {
        let _one_writer = self.writer.lock();
        let mut era = self.era.write();
        self.seed.store(seed_of(epoch), Ordering::Release);
        *era = Era { epoch, provisional_past: None, ..*era };
    }

    /// Whether positions were made up here since the epoch was adopted.
    pub(crate) fn is_provisional(&self) -> bool {
        self.era.read().provisional_past.is_some()
    }

    /// Takes in a snapshot of the log of this very epoch, taken at a later position than this instance has applied (step
    /// 10), without making anything stale that is not. False if the epoch is another.
    pub(crate) fn merge(&self, snapshot: &Snapshot) -> bool {
        let _one_writer = self.writer.lock();
        let era = *self.era.read();
        if era.epoch != snapshot.epoch || era.provisional_past.is_some() {
            return false;
        }
        snapshot.merge_into(self);
        self.raise_everything(snapshot.everything);
        let stamp = Stamp::new(era.generation, snapshot.head);
        self.latest.fetch_max(stamp.0, Ordering::AcqRel);
        self.applied.fetch_max(stamp.0, Ordering::AcqRel);
        self.notices.lost();
        true
    }
}

/// How the names of an epoch are hashed, for a log whose authoritative table is elsewhere.
pub(crate) struct NameHasher(u64);

impl NameHasher {
    pub(crate) fn of(epoch: Epoch) -> Self {
        NameHasher(seed_of(epoch))
    }

    pub(crate) fn key(&self, key: &[u8]) -> NameHash {
        hash_key(key, self.0)
    }

    pub(crate) fn tag(&self, tag: &[u8]) -> NameHash {
        hash_tag(tag, self.0)
    }

    pub(crate) fn projection<'a>(&self, shape: Shape, literals: impl Iterator<Item = &'a [u8]>) -> NameHash {
        hash_projection(shape, literals, self.0)
    }
}
