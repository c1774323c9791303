//! Writes across the tiers: put, fill, update, remove, touch. Each appends to the log first where the protocol says so,
//! and stores under the position it got.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::codec::Value;
use crate::config::check_ttl;
use crate::entry::{Cached, Entry, Meta};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Stale, StaleBy};
use crate::invalidations::{InvalidationKind, InvalidationOrigin};
use crate::item::Item;
use crate::key::check_key;
use crate::lineage::{moved_meanwhile, settle_nothing};
use crate::log::{Append, Appended, Durability, EntryWrite, Guard, OnConflict};
use crate::lookup::{Answer, Freshness, Source};
use crate::metrics::Count;
use crate::mutation::Mutation;
use crate::name::Name;
use crate::position::{Position, Receipt, Stamp};
use crate::read::loader::Loading;
use crate::spans;
use crate::task;
use crate::tier::{Action, Outcome, Wait, Write};
use crate::view::{Made, View};

/// What became of an [`update`](crate::Namespace::update).
#[derive(Clone, Debug)]
pub struct Updated<V> {
    /// The value that the change returned.
    pub value: Cached<V>,
    /// Where the change stands in the log.
    pub receipt: Receipt,
    /// Whether the value was stored. `false`: something it depends on was invalidated by somebody else while the source
    /// was being changed, so whether it is current cannot be known; the next read loads it.
    pub stored: bool,
}

impl<V: Value> View<V> {
    /// Step 7: append the key, then store under the position it got.
    pub(crate) async fn put(&self, key: &[u8], item: Item<V>) -> Result<Receipt> {
        if item.claims.is_empty() && self.waits_for_nothing() {
            return self.put_at_once(key, item);
        }
        // In a box, so that puts into memory do not carry its states about.
        Box::pin(self.put_waiting(key, item)).await
    }

    /// Whether nothing that a put does can have to be waited for: there is memory alone.
    pub(crate) fn waits_for_nothing(&self) -> bool {
        self.shared.log.is_in_memory() && (self.shared.tier.is_none() || !self.space.policy.backing)
    }

    /// The same in one go, without a future for each of its steps: half of what a put into memory cost was moving those about.
    pub(crate) fn put_at_once(&self, key: &[u8], mut item: Item<V>) -> Result<Receipt> {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let since = self.shared.index.latest();
        settle_nothing(key, &mut item);
        let made = self.make(key, item, since, 0)?;
        let _putting = self.shared.turns.putting(key);
        let appended = self.shared.append_put_at_once(key)?;
        self.space.metrics.count(Count::Put);
        if self.shared.index.judge(made.entry.meta.named(key), appended.stamp).is_some() {
            self.space.metrics.count(Count::LoadDropped);
        } else {
            self.keep_in_memory(key, made, appended.stamp);
        }
        Ok(receipt(appended, 1))
    }

    async fn put_waiting(&self, key: &[u8], mut item: Item<V>) -> Result<Receipt> {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let since = self.shared.index.latest();
        // Everything that can be refused is refused before the append takes effect.
        self.settle_current(key, &mut item).await?;
        let made = self.make(key, item, since, 0)?;
        self.put_settled(key, made, since).await
    }

    /// The same for one that was found current after `since`.
    pub(crate) async fn put_settled(&self, key: &[u8], made: Made<V>, since: Stamp) -> Result<Receipt> {
        let writes = self.entry_write(key, &made).into_iter().collect();
        let guard = self.guard_of_sources([&made], since)?;
        let _putting = self.shared.turns.putting(key);
        let appended = self.append_put(vec![Name::Key(key.into())], self.shared.put_durability, guard, writes).await?;
        if appended.conflict {
            return Err(moved_meanwhile(made.entry.meta.sources()));
        }
        self.space.metrics.count(Count::Put);
        self.put_made(key, made, &appended).await?;
        Ok(receipt(appended, 1))
    }

    /// Many puts at one position, with one append and one write to the backing tier.
    pub(crate) async fn put_many(&self, items: Vec<(Box<[u8]>, Item<V>)>) -> Result<Receipt> {
        let _let_in = self.shared.writes.enter()?;
        let stamp = self.shared.index.latest();
        let mut made = Vec::with_capacity(items.len());
        for (key, mut item) in items {
            check_key(&key)?;
            self.settle_current(&key, &mut item).await?;
            let item = self.make(&key, item, stamp, 0).map_err(|error| error.during("put_many", &key))?;
            made.push((key, item));
        }
        let names: Vec<Name> = made.iter().map(|(key, _)| Name::Key(key.clone())).collect();
        let count = names.len();
        let entry_writes = made.iter().filter_map(|(key, made)| self.entry_write(key, made)).collect();
        let guard = self.guard_of_sources(made.iter().map(|(_, made)| made), stamp)?;
        let _putting: Vec<_> = made.iter().map(|(key, _)| self.shared.turns.putting(key)).collect();
        let appended = self.append_put(names, self.shared.put_durability, guard, entry_writes).await?;
        if appended.conflict {
            return Err(moved_meanwhile(made.first().map_or(&[], |(_, made)| made.entry.meta.sources())));
        }
        self.space.metrics.add(Count::Put, count as u64);
        let mut writes = Vec::with_capacity(count);
        for (key, made) in made {
            let write = self.keep_in_memory(&key, made, appended.stamp);
            if appended.wrote_entries {
                self.space.metrics.add(Count::SetBacking, u64::from(write.is_some()));
            } else {
                writes.extend(write);
            }
        }
        self.hand_to_backing(writes, self.put_wait()).await?;
        Ok(receipt(appended, count))
    }

    pub(crate) async fn put_made(&self, key: &[u8], made: Made<V>, appended: &Appended) -> Result<bool> {
        let wait = if appended.wrote_entries { None } else { Some(self.put_wait()) };
        self.store(key, made, appended.stamp, wait).await
    }

    /// The entry's own write, where the log can do it in one step with the append.
    pub(crate) fn entry_write(&self, key: &[u8], made: &Made<V>) -> Option<EntryWrite> {
        if !self.space.policy.backing || !self.shared.log.writes_entries() {
            return None;
        }
        // The stamp is the append's to give; this one is only of the right epoch.
        let record = self.record_of(made, made.entry.meta.stamp())?;
        Some(EntryWrite { key: key.into(), expires_at: record.expires_at, record: Some(record.encode()) })
    }

    fn put_wait(&self) -> Wait {
        match self.shared.put_durability {
            Durability::Os => Wait::Accepted,
            Durability::Fsync => Wait::Durable,
        }
    }

    /// The position that a fill of any key, begun now, must carry: taken *before* its source is read.
    pub(crate) fn begin_fill(&self) -> Position {
        loop {
            // Fails only while another epoch is being adopted, and then the next try has its position.
            if let Some(position) = self.shared.index.latest_position() {
                return position;
            }
        }
    }

    /// Step 5 for loaders that run elsewhere: no append; stored with the position that was taken before the source was
    /// read. False if something it depends on was invalidated since.
    pub(crate) async fn fill(&self, key: &[u8], begun: Position, mut item: Item<V>) -> Result<bool> {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let index = &self.shared.index;
        let unknown = || {
            Error::new(
                ErrorKind::UnknownPosition,
                format!("{begun} is not a position of the log in force; read again and fill with the new one"),
            )
        };
        let stamp = index.stamp_of(begun).filter(|stamp| *stamp <= index.latest()).ok_or_else(unknown)?;
        let outdated = self.settle(key, &mut item).await?;
        let made = self.make(key, item, stamp, 0)?;
        self.space.metrics.count(Count::Put);
        if outdated.is_some() {
            self.space.metrics.count(Count::LoadDropped);
            return Ok(false);
        }
        self.dig(key, &made.entry);
        self.store(key, made, stamp, Some(Wait::Accepted)).await
    }

    /// Step 8 for a source that was changed, or read, elsewhere: stored unless anything that the entry depends on was invalidated
    /// since a position that was taken before. False: it was, and nothing was done.
    ///
    /// A conflict refuses the append instead of letting it take effect without a value. What conflicts may be a newer value of the key,
    /// which is right and must stay; and what else was invalidated is stale already. There is nothing left for an append to do.
    pub(crate) async fn put_since(&self, key: &[u8], begun: Position, mut item: Item<V>) -> Result<Option<Receipt>> {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let index = &self.shared.index;
        let since = index.stamp_of(begun);
        if since.is_some_and(|since| since > index.latest()) {
            let message = format!("{begun} is ahead of the log in force; only a position that was handed out can be put since");
            return Err(Error::new(ErrorKind::UnknownPosition, message));
        }
        let outdated = self.settle(key, &mut item).await?;
        // Of another epoch: what was invalidated since is not known, so something may have been.
        let Some(since) = since.filter(|_| outdated.is_none()) else {
            self.space.metrics.count(Count::LoadDropped);
            return Ok(None);
        };
        let made = self.make(key, item, since, 0)?;
        let guard = Guard { on_conflict: OnConflict::Refuse, ..self.guard_of(key, &made.entry.meta, since) };
        let guard = (!self.shared.mutations.on(Mutation::ChangeWithoutGuard)).then_some(guard);
        let writes = self.entry_write(key, &made).into_iter().collect();
        let _putting = self.shared.turns.putting(key);
        let appended = self.append_put(vec![Name::Key(key.into())], self.shared.put_durability, guard, writes).await?;
        if appended.conflict {
            self.space.metrics.count(Count::LoadDropped);
            return Ok(None);
        }
        self.space.metrics.count(Count::Put);
        let stored = self.put_made(key, made, &appended).await?;
        Ok(stored.then(|| receipt(appended, 1)))
    }

    /// What the log must answer together with an append: whether anything that an entry depends on was invalidated since.
    pub(crate) fn guard_of(&self, key: &[u8], meta: &Meta, since: Stamp) -> Guard {
        let sources = meta.sources().iter().map(|source| source.name.clone());
        let keys = std::iter::once(key.into()).chain(sources).collect();
        Guard { keys, hashes: meta.hashes.clone(), since, on_conflict: OnConflict::Append }
    }

    /// Step 8: the safe write-through.
    ///
    /// Runs in a task of its own: a caller that stops waiting between the change of the source and the append must not
    /// leave the cache believing the old value.
    pub(crate) async fn update(&self, key: &[u8], change: Loading<V>) -> Result<Updated<V>> {
        check_key(key)?;
        let (view, key): (Self, Box<[u8]>) = (self.clone(), key.into());
        let task = task::spawn(&self.shared.runtime, async move { view.change_and_append(&key, change).await });
        task.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::LoadPanicked, "the change panicked, or its runtime was shut down")))
    }

    async fn change_and_append(&self, key: &[u8], change: Loading<V>) -> Result<Updated<V>> {
        // Before the source is changed: a change that is refused has not begun.
        let _let_in = self.shared.writes.enter()?;
        let since = self.shared.index.latest();
        // In a task of its own, so that a panic ends there: the change's, and those of everything of the caller's that runs
        // after the source may have changed.
        let (view, owned) = (self.clone(), Box::<[u8]>::from(key));
        let changing = async move {
            let item = change.await.map_err(|e| {
                Error::new(ErrorKind::Load, "the change failed; the key was invalidated, since the source may have changed").with_source(e)
            })?;
            let mut item = item.expect("a change always finds something");
            let outdated = view.settle(&owned, &mut item).await?;
            Ok((view.make(&owned, item, since, 0)?, outdated.is_none()))
        };
        let changed = task::spawn(&self.shared.runtime, changing).await;
        let since = if self.shared.mutations.on(Mutation::UpdateStampLate) { self.shared.index.latest() } else { since };
        let panicked = "the change panicked; the key was invalidated, since the source may have changed";
        match changed.unwrap_or_else(|_| Err(Error::new(ErrorKind::LoadPanicked, panicked))) {
            Ok((made, current)) => self.append_changed(key, made, since, current).await,
            Err(error) => self.remove(vec![key.into()], InvalidationOrigin::Call).await.and(Err(error)),
        }
    }

    /// Appends what the source was found or made to be, and stores it unless it is known not to be current.
    pub(crate) async fn append_changed(&self, key: &[u8], made: Made<V>, since: Stamp, current: bool) -> Result<Updated<V>> {
        let guard = self.guard_of(key, &made.entry.meta, since);
        let writes = self.entry_write(key, &made).into_iter().collect();
        let _putting = self.shared.turns.putting(key);
        let appended = self.append_put(vec![Name::Key(key.into())], self.shared.invalidation_durability, Some(guard), writes).await?;
        self.space.metrics.count(Count::Put);
        let value = Cached(made.entry.clone());
        let certain = current && !appended.conflict || self.shared.mutations.on(Mutation::UpdateWithoutCheck);
        if !certain {
            self.space.metrics.count(Count::LoadDropped);
        }
        let stored = certain && self.put_made(key, made, &appended).await?;
        Ok(Updated { value, receipt: receipt(appended, 1), stored })
    }

    /// Stores an entry in both tiers under a stamp. False, and nothing stored, if it is stale by now: a later change of
    /// something it depends on is in the index before that change is stored anywhere, so an older value never takes the
    /// place of a newer one, whatever order they come in.
    ///
    /// Without `wait` the backing tier has it already.
    pub(crate) async fn store(&self, key: &[u8], made: Made<V>, stamp: Stamp, wait: Option<Wait>) -> Result<bool> {
        if self.shared.index.judge(made.entry.meta.named(key), stamp).is_some() {
            self.space.metrics.count(Count::LoadDropped);
            return Ok(false);
        }
        let write = self.keep_in_memory(key, made, stamp);
        match wait {
            // What was loaded is kept here alone while the backing tier is to be left as it is. Counted as a write while it is handed over:
            // whoever closes the gate, waits, and then flushes, has a load that was just let by on the disk, and none after that.
            Some(Wait::No) => {
                if let Ok(_let_in) = self.shared.writes.enter() {
                    self.hand_to_backing(write.into_iter().collect(), Wait::No).await?;
                }
            }
            Some(wait) => self.hand_to_backing(write.into_iter().collect(), wait).await?,
            None => self.space.metrics.add(Count::SetBacking, u64::from(write.is_some())),
        }
        Ok(true)
    }

    /// Into memory; what is left to do is the write to the backing tier.
    fn keep_in_memory(&self, key: &[u8], made: Made<V>, stamp: Stamp) -> Option<Write> {
        if made.entry.meta.stamp().generation() != stamp.generation() {
            // An epoch ended since its names were hashed: no invalidation of the new one would find them.
            self.space.metrics.count(Count::LoadDropped);
            return None;
        }
        made.entry.meta.restamp(stamp);
        let backed = self.space.policy.backing && self.shared.tier.is_some();
        let record = backed.then(|| self.record_of(&made, stamp)).flatten();
        self.put_in_memory(key, made.entry);
        record.map(|record| Write { key: key.into(), action: Action::Store(Arc::new(record)) })
    }

    /// To the backing tier. What it sheds is counted; what it refuses outright is an error for puts, and nothing to a fill,
    /// whose value is in memory and can be loaded again.
    async fn hand_to_backing(&self, writes: Vec<Write>, wait: Wait) -> Result<()> {
        let Some(tier) = self.shared.tier.as_ref().filter(|_| !writes.is_empty()) else { return Ok(()) };
        let count = writes.len() as u64;
        let sets = writes.iter().filter(|write| matches!(write.action, Action::Store(_))).count() as u64;
        let span = spans::tier("write", tier.name(), &self.space.name);
        span.record("keys", writes.len());
        let writing = async {
            let writing = tier.write(writes, wait);
            // Puts wait for as long as it takes.
            let outcome = if wait == Wait::No { self.within_limit(writing).await } else { writing.await };
            outcome.inspect(|outcome| spans::outcome(outcome.name())).inspect_err(spans::failed)
        };
        match writing.instrument(span).await {
            Ok(Outcome::Shed) => {
                self.space.metrics.add(Count::BackingShed, count);
                // A tier that is out of order degrades the cache to memory; only what was to be durable fails for it.
                let lost = || Error::new(ErrorKind::Tier, "the value is in memory only: the backing tier takes no writes now");
                if wait == Wait::Durable { Err(lost()) } else { Ok(()) }
            }
            Ok(Outcome::Accepted | Outcome::Durable) => {
                self.space.metrics.add(Count::SetBacking, sets);
                Ok(())
            }
            Err(error) if wait == Wait::No => {
                self.backing_failed(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Appends the key, and takes it out of both tiers.
    pub(crate) async fn remove(&self, keys: Vec<Box<[u8]>>, origin: InvalidationOrigin) -> Result<Receipt> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let names = keys.iter().map(|key| Name::Key(key.clone())).collect();
        let writes = if self.shared.log.writes_entries() { keys.iter().cloned().map(EntryWrite::removal).collect() } else { Vec::new() };
        let appended = self.shared.append(self.append_of(names, self.shared.invalidation_durability, None, writes)).await?;
        self.space.metrics.add(Count::Remove, keys.len() as u64);
        keys.iter().for_each(|_| self.shared.invalidations.count_one(InvalidationKind::Key, origin));
        let count = keys.len();
        self.purge(keys, &appended).await;
        Ok(receipt(appended, count))
    }

    /// Gives back the room of keys that were invalidated. That they are gone for readers does not depend on it.
    pub(crate) async fn purge(&self, keys: Vec<Box<[u8]>>, appended: &Appended) {
        for key in &keys {
            // Not what was put since.
            if let Some(slot) = self.space.pool().remove_up_to(self.space.pool().query(key), appended.stamp, Count::Invalidated) {
                slot.bury(key, Stale { by: StaleBy::Key, at: appended.stamp.seq() });
            }
        }
        // While the append is queued, the others may still put there what is newer than it.
        if !appended.wrote_entries && !appended.queued {
            self.forget_in_backing(keys, appended.position).await;
        }
    }

    /// Gives back the tier's room of keys that it has no current record of, as was known at a position.
    pub(crate) async fn forget_in_backing(&self, keys: Vec<Box<[u8]>>, known_at: Position) {
        let writes = keys.into_iter().map(|key| Write { key, action: Action::RemoveUpTo(known_at) }).collect();
        if self.space.policy.backing
            && let Err(error) = self.hand_to_backing(writes, Wait::No).await
        {
            self.backing_failed(&error);
        }
    }

    /// Starts the life of a fresh entry anew, without an append: its content has not changed. False where there is none.
    pub(crate) async fn touch(&self, key: &[u8], ttl: Option<Duration>) -> Result<bool> {
        ttl.map_or(Ok(()), check_ttl)?;
        let _let_in = self.shared.writes.enter()?;
        // Not one past its time that is still served: that must not live on for ever by being touched.
        let Some(Cached(entry)) = self.lookup(key).await?.fresh() else { return Ok(false) };
        let ttl = match ttl {
            Some(ttl) => ttl.as_millis() as u64,
            None => self.space.policy.life(&Default::default(), self.shared.clock.now_ms())?.ttl,
        };
        self.renew(key, &entry, ttl).await?;
        Ok(true)
    }

    /// Has an entry that was just found current live for another `ttl` milliseconds from now, in both tiers. Its stamp stays.
    pub(crate) async fn renew(&self, key: &[u8], entry: &Entry<V>, ttl: u64) -> Result<()> {
        let now = self.shared.clock.refresh();
        entry.meta.renew(ttl, now);
        // Bytes read out of a namespace of values are a copy; the entry itself is what lives longer.
        let there = self.space.pool().peek(self.space.pool().query(key));
        if let Some(slot) = there.filter(|slot| !slot.is_negative() && slot.fingerprint() == entry.fingerprint()) {
            slot.meta().renew(ttl, now);
        }
        self.write_back(key, entry).await
    }

    /// Writes to the backing tier what was changed about an entry other than its value.
    pub(crate) async fn write_back(&self, key: &[u8], entry: &Entry<V>) -> Result<()> {
        if !self.space.policy.backing || self.shared.tier.is_none() {
            return Ok(());
        }
        // While writes are refused the tier is left as it is: there the entry ends sooner, which costs a load.
        let Ok(_let_in) = self.shared.writes.enter() else { return Ok(()) };
        let encoded = self.encode(&entry.value)?;
        let record = self.record_of_encoded(&entry.meta, entry.meta.stamp(), encoded);
        let writes = record.map(|record| Write { key: key.into(), action: Action::Store(Arc::new(record)) });
        self.hand_to_backing(writes.into_iter().collect(), Wait::Accepted).await
    }

    /// Without a load, without counting as a use, and without bringing anything into memory.
    pub(crate) async fn peek(&self, key: &[u8]) -> Result<Option<Answer<V>>> {
        check_key(key)?;
        self.verified()?;
        let now = self.shared.clock.refresh();
        if let Some(slot) = self.space.pool().peek(self.space.pool().query(key)) {
            let meta = slot.meta();
            let served = now < meta.times().fresh_until && self.shared.index.judge(meta.named(key), meta.stamp()).is_none();
            if served {
                let entry = self.own_form(key, slot);
                return Ok(entry.map(|entry| self.answer(entry, Source::Memory, Freshness::Fresh)));
            }
        }
        let Some(tier) = self.shared.tier.as_ref().filter(|_| self.space.policy.backing) else { return Ok(None) };
        let Some(record) = self.one_in_time(tier, key).await? else { return Ok(None) };
        let fresh = self.shared.fresh_stamp(key, &record).filter(|_| now < record.fresh_until && !record.negative);
        let Some((stamp, hashes)) = fresh else { return Ok(None) };
        let entry = self.entry_of(key, record, stamp, hashes)?;
        Ok(Some(self.answer(entry, Source::Backing, Freshness::Fresh)))
    }

    /// An append of keys where values are put.
    async fn append_put(
        &self,
        names: Vec<Name>,
        durability: Durability,
        guard: Option<Guard>,
        writes: Vec<EntryWrite>,
    ) -> Result<Appended> {
        self.shared.append(Append { is_put: true, ..self.append_of(names, durability, guard, writes) }).await
    }

    fn append_of(&self, names: Vec<Name>, durability: Durability, guard: Option<Guard>, writes: Vec<EntryWrite>) -> Append {
        Append { names, marks: Vec::new(), durability, guard, writes, mode: self.space.mode, is_put: false }
    }
}

pub(crate) fn receipt(appended: Appended, names: usize) -> Receipt {
    Receipt { position: appended.position, names, widened: appended.widened, queued: appended.queued }
}
