//! The read, top to bottom: names checked, memory, join or lead the load, backing tier, loader, store.
//!
//! ```text
//!   get / lookup / get_or_load
//!     1  memory, the quick way      quiet by the clock and stamped at or past `latest`: return
//!     2  memory, looking closer     expired? invalidated? else re-stamp to what was applied before the check
//!     3  the key's flight           with a loader: join the load under way, or lead one
//!     4  backing tier               applied first, then the record; judged by its own stamp
//!     5  loader                     latest first, then the source; stored stamped so
//! ```
//!
//! Numbers in comments are steps of the protocol, as the project's freshness document counts them.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Instrument;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Millis;
use crate::codec::Value;
use crate::entry::{Cached, Entry, Meta, Negative, Slot, Times};
use crate::error::{Error, ErrorKind, Result};
use crate::fill::{Ended, Flight, Landed, Lease, Part};
use crate::fleet::Turn;
use crate::freshness::{Named, Stale};
use crate::item::Item;
use crate::lookup::{Answer, Freshness, Lookup, Miss, Source};
use crate::metrics::Count;
use crate::mutation::Mutation;
use crate::position::Stamp;
use crate::record::Record;
use crate::spans;
use crate::task;
use crate::tier::memory::{Inserted, Query};
use crate::tier::{Tier, TierFuture, Wait};
use crate::view::View;

/// What memory knows of a key.
enum Memory<V> {
    Fresh(Arc<Entry<V>>),
    /// There is no such thing, a loader said.
    Negative,
    /// Past its time, and within a window in which it may still be served.
    Aged(Arc<Entry<V>>),
    Gone(Miss),
}

/// An entry of the backing tier that may be served.
struct Backed<V> {
    entry: Arc<Entry<V>>,
    aged: bool,
}

impl<V: Value> View<V> {
    /// (1) Memory, the quick way: see [`Look`].
    #[inline(always)]
    pub(crate) fn quick_hit(&self, query: &Query<'_>) -> Option<Arc<Entry<V>>> {
        Look { shared: &self.shared, space: &self.space }.quick_hit(query)
    }

    /// See [`Look::uncounted_hit`].
    #[inline(always)]
    pub(crate) fn uncounted_hit(&self, query: &Query<'_>) -> Option<Arc<Entry<V>>> {
        Look { shared: &self.shared, space: &self.space }.uncounted_hit(query)
    }

    /// See [`Look::is_unverified`].
    pub(crate) fn is_unverified(&self) -> bool {
        Look { shared: &self.shared, space: &self.space }.is_unverified()
    }

    /// For reads that cannot ask the source themselves.
    pub(crate) fn verified(&self) -> Result<()> {
        if !self.is_unverified() {
            return Ok(());
        }
        let limit = self.space.max_staleness;
        let message =
            format!("the shared log was not heard for more than {limit:?}, and the namespace is strict: what is cached may be old");
        Err(Error::new(ErrorKind::Unverified, message))
    }

    /// (2) Memory, looking closer.
    fn in_memory(&self, key: &[u8], now: Millis) -> Memory<V> {
        let query = self.space.pool().query(key);
        let Some(slot) = self.space.pool().get(query) else { return Memory::Gone(Miss::Absent) };
        let times = slot.meta().times();
        if now >= times.expires_at {
            if self.space.pool().remove_entry(query, slot.as_ref(), Count::Expired) {
                slot.bury_expired(key);
            }
            return Memory::Gone(Miss::Expired);
        }
        if let Err(stale) = self.verify(key, slot.meta()) {
            // What a restore holds back is not gone: it comes into sight when all of it is there.
            let is_gone = !self.shared.index.is_held(key, slot.meta().stamp());
            if is_gone && self.space.pool().remove_entry(query, slot.as_ref(), Count::Invalidated) {
                slot.bury(key, stale);
            }
            return Memory::Gone(Miss::Invalidated(stale.by));
        }
        if slot.is_negative() {
            return if now < times.fresh_until { Memory::Negative } else { Memory::Gone(Miss::Expired) };
        }
        let Some(entry) = self.typed_entry(key, slot) else { return Memory::Gone(Miss::Absent) };
        if now >= times.fresh_until {
            return Memory::Aged(entry);
        }
        if entry.meta.life.sliding && entry.meta.is_due(now) {
            entry.meta.renew(entry.meta.life.ttl, now);
        }
        Memory::Fresh(entry)
    }

    /// See [`Look::verify`].
    fn verify(&self, key: &[u8], meta: &Meta) -> Result<(), Stale> {
        Look { shared: &self.shared, space: &self.space }.verify(key, meta)
    }

    /// The entry as one of this view's values. Bytes that were stored where values are read take the value's form for
    /// good, so that they are decoded once.
    fn typed_entry(&self, key: &[u8], slot: Arc<dyn Slot>) -> Option<Arc<Entry<V>>> {
        let decoded = self.typed.is_some() && !slot.clone().into_any().is::<Entry<V>>();
        let entry = self.own_form(key, slot)?;
        if decoded {
            self.space.pool().insert(self.space.pool().query(key), entry.clone());
        }
        Some(entry)
    }

    /// Whether the backing tier can have what memory has not. Every entry goes to memory and to the tier together, so where
    /// memory's was invalidated a tier of this process alone has nothing newer, and a visit would cost more than the miss.
    fn worth_a_visit(&self, missed: Miss) -> bool {
        !matches!(missed, Miss::Invalidated(_)) || self.shared.tier.as_ref().is_some_and(|tier| tier.is_shared())
    }

    /// (4) The backing tier. A tier that fails is a miss, counted and logged: a read that the loader can answer must not
    /// fail because a cache did.
    async fn in_backing(&self, key: &[u8]) -> Option<Backed<V>> {
        let tier = self.shared.tier.as_ref().filter(|_| self.space.policy.backing)?;
        // Step 4: before the read, so that it covers nothing the record could have missed.
        let applied = self.shared.index.applied();
        match self.one_in_time(tier, key).await {
            Ok(record) => self.found_in_backing(record.and_then(|record| self.admit(key, record, applied))),
            Err(error) => {
                self.backing_failed(&error);
                None
            }
        }
    }

    /// What the backing tier had, once it was asked.
    fn found_in_backing(&self, found: Option<Backed<V>>) -> Option<Backed<V>> {
        if found.is_none() {
            self.space.metrics.count(Count::MissBacking);
        }
        found
    }

    /// A tier's record of a key, without a timer where the tier has one that is as good.
    pub(crate) async fn one_in_time(&self, tier: &Arc<dyn Tier>, key: &[u8]) -> Result<Option<Record>> {
        let span = spans::tier("get", tier.name(), &self.space.name);
        if span.is_none() {
            return self.one_untold(tier, key).await;
        }
        spans::with_key(&span, key);
        let reading = async {
            let found = self.one_untold(tier, key).await;
            spans::read(&found);
            found
        };
        reading.instrument(span).await
    }

    async fn one_untold(&self, tier: &Arc<dyn Tier>, key: &[u8]) -> Result<Option<Record>> {
        let is_in_time = tier.reads_within().is_some_and(|most| most <= self.shared.backing_timeout);
        if is_in_time { self.unless_broken(tier.get(key)).await } else { self.in_time(tier.get(key)).await }
    }

    /// Waits for the backing tier no longer than the limit: to a reader, a tier that hangs is one that fails.
    pub(crate) async fn in_time<T>(&self, operation: TierFuture<'_, T>) -> Result<T> {
        self.unless_broken(self.within_limit(operation)).await
    }

    /// Does not ask a tier that failed too often of late, and tells the breaker what came of it.
    async fn unless_broken<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(permit) = self.shared.breaker.admit(Instant::now) else {
            return Err(Error::new(ErrorKind::Tier, "the backing tier failed too often and is left alone for a moment"));
        };
        let outcome = operation.await;
        match &outcome {
            Ok(_) => permit.succeeded(),
            Err(_) => permit.failed(Instant::now()),
        }
        outcome
    }

    /// The same for writes that are only taken into a queue: that they are says nothing about the tier behind it, so the
    /// breaker does not hear of them.
    pub(crate) async fn within_limit<T>(&self, operation: TierFuture<'_, T>) -> Result<T> {
        let limit = self.shared.backing_timeout;
        let late = |_| Err(Error::new(ErrorKind::Tier, format!("the backing tier did not answer within {limit:?}")));
        tokio::time::timeout(limit, operation).await.unwrap_or_else(late)
    }

    pub(crate) fn backing_failed(&self, error: &Error) {
        self.space.metrics.count(Count::BackingError);
        tracing::debug!(%error, "the backing tier failed; the read goes on without it");
    }

    /// Step 4: a record is judged by its own stamp; a fresh one comes into memory with what was applied before the read.
    fn admit(&self, key: &[u8], record: Record, applied: Stamp) -> Option<Backed<V>> {
        let now = self.shared.clock.now_ms();
        if now >= record.expires_at || record.negative {
            return None;
        }
        let (stamp, hashes) = self.shared.fresh_stamp(key, &record)?;
        let aged = now >= record.fresh_until;
        let entry = self.entry_of(key, record, stamp.max(applied), hashes).inspect_err(|e| self.could_not_read(key, e)).ok()?;
        self.put_in_memory(key, entry.clone());
        Some(Backed { entry, aged })
    }

    /// Puts an entry into memory, unless what is there is newer.
    pub(crate) fn put_in_memory(&self, key: &[u8], entry: Arc<dyn Slot>) {
        if self.space.pool().insert(self.space.pool().query(key), entry) == Inserted::Yes {
            self.space.metrics.count(Count::SetMemory);
        }
    }

    /// Reads without a loader.
    pub(crate) async fn lookup(&self, key: &[u8]) -> Result<Lookup<V>> {
        let ask = Ask::new(key);
        self.verified().map_err(|error| self.failed(error, ask).during("get", key))?;
        let missed = match self.in_memory(key, self.shared.clock.now_ms()) {
            Memory::Fresh(entry) => return Ok(self.hit(entry, Source::Memory, ask)),
            Memory::Negative => {
                self.negative(ask);
                return Ok(Lookup::NotFound);
            }
            Memory::Aged(entry) => return Ok(self.aged(entry, Source::Memory, ask)),
            Memory::Gone(miss) => miss,
        };
        crate::key::check_key(key)?;
        let backed = if self.worth_a_visit(missed) { self.in_backing(key).await } else { None };
        Ok(match backed {
            Some(Backed { entry, aged: false }) => self.hit(entry, Source::Backing, ask),
            Some(Backed { entry, aged: true }) => self.aged(entry, Source::Backing, ask),
            None => self.missed(missed, ask),
        })
    }

    /// Reads with a loader.
    pub(crate) async fn load(&self, key: &[u8], loader: Loading<V>) -> Result<Option<Answer<V>>> {
        crate::key::check_key(key)?;
        let ask = Ask::new(key);
        if self.is_unverified() {
            // Neither memory nor a load that began before this read came: only the source is known to be current.
            return self.load_alone(key, loader, ask).await;
        }
        let mut loader = Some(loader);
        // Step 6: what was invalidated up to here, this read must see; what comes while it waits, it need not.
        let arrival = self.shared.index.latest();
        loop {
            let now = self.shared.clock.now_ms();
            let (missed, old) = match self.in_memory(key, now) {
                Memory::Fresh(entry) => {
                    if entry.meta.wants_refresh(now) {
                        self.load_behind(key, loader.take());
                    }
                    return Ok(self.hit(entry, Source::Memory, ask).into_answer());
                }
                Memory::Negative => {
                    self.negative(ask);
                    return Ok(None);
                }
                Memory::Aged(entry) if within(&entry.meta, entry.meta.life.stale_while_revalidate, now) => {
                    self.load_behind(key, loader.take());
                    return Ok(Some(self.stale(entry, Source::Memory, ask)));
                }
                Memory::Aged(entry) => (Miss::Expired, Some(entry)),
                Memory::Gone(miss) => (miss, None),
            };
            let (flight, leads) = match self.fills().join_or_lead(key) {
                Part::Join(flight) => (flight, false),
                Part::Lead(lease) => {
                    let flight = lease.flight();
                    let loader = loader.take().expect("a caller leads once: what a leader gets, it returns");
                    let before = if old.is_some() || !self.worth_a_visit(missed) { Before::Loader } else { Before::Tiers };
                    self.spawn_load(lease, loader, before);
                    (flight, true)
                }
            };
            let landed = match self.wait(key, flight, old.as_ref()).await {
                Waited::Landed(Some(landed)) => landed,
                // Only a load of many keys is given up before it begins, and this caller had joined it.
                Waited::Landed(None) => continue,
                Waited::Soft(entry) => return Ok(Some(self.stale(entry, Source::Memory, ask))),
            };
            match landed {
                // Step 6. A leader's stamp was taken after it arrived, so only joiners can fail here, and at most once or
                // twice: the next load they find began after they came.
                Ok(landed) if !leads && !self.serves(key, &landed, arrival) => continue,
                Ok(landed) => return Ok(self.landed(landed, missed, leads, ask)),
                Err(error) => return self.fall_back(error, old, ask).map(Some),
            }
        }
    }

    /// Step 6: whether a load that began at its stamp may answer a read that began at `arrival`.
    fn serves(&self, key: &[u8], landed: &Landed<V>, arrival: Stamp) -> bool {
        if landed.stamp >= arrival || self.shared.mutations.on(Mutation::JoinersDoNotCheck) {
            return true;
        }
        let index = &self.shared.index;
        match &landed.entry {
            Some(entry) => index.judge(entry.meta.named(key), landed.stamp).is_none(),
            None => index.judge(Named::of(key, &self.hashes_of_nothing(key)), landed.stamp).is_none(),
        }
    }

    /// Waits for a flight; with an old value at hand that may still be served, no longer than the soft limit.
    async fn wait(&self, key: &[u8], flight: Arc<Flight<V>>, old: Option<&Arc<Entry<V>>>) -> Waited<V> {
        if let (Some(old), Some(soft)) = (old, self.space.policy.load_soft_timeout) {
            match tokio::time::timeout(soft, flight.clone().landing()).await {
                Ok(ended) => return Waited::Landed(ended),
                Err(_) if self.is_servable(key, old, |times| times.expires_at) => return Waited::Soft(old.clone()),
                // It was invalidated meanwhile, or its windows are over: it is no answer any more.
                Err(_) => {}
            }
        }
        Waited::Landed(flight.landing().await)
    }

    /// Whether an entry past its time may still be served, up to a moment of its life.
    fn is_servable(&self, key: &[u8], old: &Entry<V>, until: impl Fn(Times) -> Millis) -> bool {
        self.shared.clock.now_ms() < until(old.meta.times()) && self.verify(key, &old.meta).is_ok()
    }

    /// A load failed: an old value in its stale-if-error window answers instead.
    fn fall_back(&self, error: Error, old: Option<Arc<Entry<V>>>, ask: Ask<'_>) -> Result<Answer<V>> {
        // It may have been invalidated while the load ran: then it is no answer any more.
        let usable = old.filter(|old| {
            let window = old.meta.life.stale_if_error;
            self.is_servable(ask.key, old, |times| times.fresh_until.saturating_add(window))
        });
        if let Some(old) = usable {
            tracing::debug!(%error, "a load failed; the old value is served instead");
            return Ok(self.stale(old, Source::Memory, ask));
        }
        Err(self.failed(error, ask))
    }

    /// Loads a key again while its readers have what they need.
    fn load_behind(&self, key: &[u8], loader: Option<Loading<V>>) {
        if let (Some(loader), Part::Lead(lease)) = (loader, self.fills().join_or_lead(key)) {
            self.spawn_load(lease, loader, Before::Loader);
        }
    }

    fn fills(&self) -> &Arc<crate::fill::Fills<V>> {
        &self.typed.as_ref().expect("only typed views load").fills
    }

    /// The flight's task.
    fn spawn_load(&self, lease: Lease<V>, loader: Loading<V>, before: Before) {
        let (view, span) = (self.clone(), spans::load(&self.space.name, lease.key()));
        let flying = async move {
            let key: Box<[u8]> = lease.key().into();
            if before == Before::Tiers
                && let Some(landed) = view.landed_meanwhile(&key).await
            {
                spans::outcome("not needed");
                return lease.end(Ok(landed));
            }
            let turn = match view.turn_in_fleet(&key).await {
                Turn::Load(turn) => turn,
                Turn::Landed(landed) => {
                    spans::outcome("loaded elsewhere");
                    return lease.end(Ok(landed));
                }
            };
            let outcome = view.run_loader_in_time(&key, loader).await;
            lease.end(outcome.map_err(|error| error.during("get_or_load", &key)));
            view.end_turn(&key, turn).await;
        };
        drop(task::spawn(&self.shared.runtime, flying.instrument(span)));
    }

    /// What makes a load unnecessary: another one ended between this caller's miss and its lead, or the backing tier has
    /// a fresh record.
    pub(crate) async fn landed_meanwhile(&self, key: &[u8]) -> Option<Landed<V>> {
        let now = self.shared.clock.now_ms();
        if let Memory::Fresh(entry) = self.in_memory(key, now) {
            return Some(Landed { stamp: entry.meta.stamp(), entry: Some(entry), source: Source::Memory });
        }
        let backed = self.in_backing(key).await.filter(|backed| !backed.aged)?;
        Some(Landed { stamp: backed.entry.meta.stamp(), entry: Some(backed.entry), source: Source::Backing })
    }

    /// What is there and was not invalidated, past its time or not, without counting as a read: for those who compare it.
    pub(crate) async fn current_entry(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        match self.in_memory(key, self.shared.clock.now_ms()) {
            Memory::Fresh(entry) | Memory::Aged(entry) => Some(entry),
            Memory::Gone(missed) if self.worth_a_visit(missed) => self.in_backing(key).await.map(|backed| backed.entry),
            Memory::Negative | Memory::Gone(_) => None,
        }
    }

    /// (5) The loader, for no longer than it may take.
    async fn run_loader_in_time(&self, key: &[u8], loader: Loading<V>) -> Result<Landed<V>> {
        let limit = self.space.policy.load_timeout;
        let landed = tokio::time::timeout(limit, self.run_loader(key, loader)).await.unwrap_or_else(|_| Err(self.timed_out(limit)));
        match &landed {
            Ok(Landed { entry, stamp, .. }) => {
                spans::loaded(entry.as_ref().map(|entry| entry.meta.encoded_len), self.shared.index.position_of(*stamp));
            }
            Err(error) => spans::failed(error),
        }
        landed
    }

    /// The loader.
    async fn run_loader(&self, key: &[u8], loader: Loading<V>) -> Result<Landed<V>> {
        let Asked { item, stamp, took } = self.ask_source(key, loader).await?;
        self.keep_loaded(key, item, stamp, took).await
    }

    /// Asks the source, once there is a place for one more load.
    pub(crate) async fn ask_source(&self, key: &[u8], loader: Loading<V>) -> Result<Asked<V>> {
        let _turn = self.space.loads.acquire().await.map_err(|_| Error::new(ErrorKind::Closed, "the cache was closed"))?;
        // Step 5: before the loader runs. Whatever is invalidated from here on may be missing from what it reads.
        let mut stamp = self.shared.index.latest();
        let begun = Instant::now();
        let loaded = loader.await;
        if self.shared.mutations.on(Mutation::StampAfterLoad) {
            stamp = self.shared.index.latest();
        }
        let took = begun.elapsed();
        self.space.metrics.load.record(took);
        self.space.metrics.sketching.loaded(key, took.as_micros() as u64);
        let item = loaded.map_err(|e| {
            self.space.metrics.count(Count::LoadError);
            Error::new(ErrorKind::Load, "the loader failed").with_source(e)
        })?;
        self.space.metrics.count(Count::LoadOk);
        Ok(Asked { item, stamp, took })
    }

    /// Loads past the tiers, for a read at a position that this instance did not reach.
    pub(crate) async fn load_past(&self, key: &[u8], loader: Loading<V>) -> Result<Cached<V>> {
        let answer = self.load_alone(key, loader, Ask::new(key)).await?;
        Ok(answer.expect("this loader always finds something").value)
    }

    /// Loads past the tiers and past other loads, for reads that neither may answer.
    async fn load_alone(&self, key: &[u8], loader: Loading<V>, ask: Ask<'_>) -> Result<Option<Answer<V>>> {
        let (view, owned, span) = (self.clone(), Box::<[u8]>::from(key), spans::load(&self.space.name, key));
        let task = task::spawn(&self.shared.runtime, async move { view.run_loader_in_time(&owned, loader).await }.instrument(span));
        let gone = |_| Error::new(ErrorKind::LoadPanicked, "the loader panicked, or its runtime was shut down");
        let ended = task.await.map_err(gone).and_then(|ended| ended);
        let landed = ended.map_err(|error| self.failed(error, ask))?;
        Ok(self.landed(landed, Miss::Absent, true, ask))
    }

    /// Stores what a loader returned. What is stale by now is not kept, and still answers those who waited for it.
    pub(crate) async fn keep_loaded(&self, key: &[u8], item: Option<Item<V>>, stamp: Stamp, took: Duration) -> Result<Landed<V>> {
        let Some(mut item) = item else {
            match self.make_negative(key, stamp) {
                Some(meta) => self.put_in_memory(key, Arc::new(Negative { meta })),
                None => drop(self.space.pool().remove_up_to(self.space.pool().query(key), stamp, Count::Replaced)),
            }
            // What the tier has is older than the answer that there is nothing, unless somebody has put it since.
            if let Some(known_at) = self.shared.index.position_of(stamp) {
                self.forget_in_backing(vec![key.into()], known_at).await;
            }
            return Ok(Landed { entry: None, stamp, source: Source::Loader });
        };
        let outdated = self.settle(key, &mut item).await?;
        let made = self.make(key, item, stamp, u32::try_from(took.as_micros()).unwrap_or(u32::MAX))?;
        let entry = made.entry.clone();
        if let Some(outdated) = outdated {
            self.space.metrics.count(Count::LoadDropped);
            // What moved while it was loaded makes no difference to who came before. What had moved before that, the loader should
            // have seen: it reads a source that lags.
            let moved_meanwhile = self.shared.index.judge(entry.meta.named(key), stamp).is_some();
            return if moved_meanwhile { Ok(Landed { entry: Some(entry), stamp, source: Source::Loader }) } else { Err(outdated) };
        }
        self.dig(key, &entry);
        self.store(key, made, stamp, Some(Wait::No)).await?;
        Ok(Landed { entry: Some(entry), stamp, source: Source::Loader })
    }

    pub(crate) fn timed_out(&self, limit: Duration) -> Error {
        self.space.metrics.count(Count::LoadTimeout);
        Error::new(ErrorKind::LoadTimeout, format!("the loader did not finish within {limit:?}"))
    }
}

/// A read under way.
#[derive(Clone, Copy)]
struct Ask<'a> {
    key: &'a [u8],
    started: Instant,
}

impl<'a> Ask<'a> {
    fn new(key: &'a [u8]) -> Self {
        Ask { key, started: Instant::now() }
    }
}

/// Where a load begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// With another look at the tiers.
    Tiers,
    /// With the loader: what the tiers have is known, and is not what is wanted.
    Loader,
}

/// What the source answered.
pub(crate) struct Asked<V> {
    /// `None`: there is no such thing.
    pub(crate) item: Option<Item<V>>,
    /// Taken before it was asked (step 5).
    pub(crate) stamp: Stamp,
    pub(crate) took: Duration,
}

enum Waited<V> {
    Landed(Ended<V>),
    /// The soft limit passed.
    Soft(Arc<Entry<V>>),
}

/// Whether an entry past its time is within a window behind it.
fn within(meta: &Meta, window: u64, now: Millis) -> bool {
    now < meta.times().fresh_until.saturating_add(window)
}

pub(crate) mod current;
pub(crate) mod loader;
mod look;
mod many;
mod outcome;
pub(crate) mod quick;

use loader::Loading;
pub(crate) use look::Look;
