//! The handle of a cache, and what all its parts share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tracing::Instrument;

use crate::analytics::Sketches;
use crate::backup::Staging;
use crate::bell::Bell;
use crate::builder::{Builder, FolderLock};
use crate::clock::Clock;
use crate::codec::Value;
use crate::config::Mode;
use crate::config::Policy;
use crate::election::OwnDuties;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::freshness::{Index, NameHashes, Named};
use crate::gate::WriteGate;
use crate::health::probes::Probes;
use crate::invalidations::InvalidationCounters;
use crate::key::{check_namespace, namespace_of};
use crate::log::{Append, Appended, Durability, Log, Spread};
use crate::metrics::{Count, NamespaceStats};
use crate::mutation::{Mutation, Mutations};
use crate::namespace::Namespace;
use crate::needless::Needless;
use crate::optimize::{Sizer, SizingMode};
use crate::origin::sources_of;
use crate::position::{Position, Receipt, Stamp};
use crate::raw::Raw;
use crate::read::Look;
use crate::record::Record;
use crate::space::Space;
use crate::spans;
use crate::stats::Stats;
use crate::sweep::Sweeper;
use crate::sync::Ordering;
use crate::tier::Tier;
use crate::tier::breaker::Breaker;
use crate::tier::memory::{Pool, Query};
use crate::turns::Turns;
use crate::view::View;
use crate::warm_up::Warmer;

/// How long opening waits for Redis before it goes on without.
#[cfg(feature = "redis")]
const FIRST_CONTACT: Duration = Duration::from_secs(3);

/// The least share of their sizes that pools can be squeezed to.
const SQUEEZED_LEAST: f64 = 1.0 / 64.0;

/// A cache. Cloning the handle is cheap; all clones are the same cache.
///
/// Everything it does in the background ends with [`close`](Self::close), or with the last handle.
#[derive(Clone)]
pub struct Larder(pub(crate) Arc<Shared>);

/// See the head of this file.
pub(crate) struct Shared {
    pub(crate) index: Arc<Index>,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) tier: Option<Arc<dyn Tier>>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) mode: Mode,
    pub(crate) backing_timeout: Duration,
    pub(crate) pool: Arc<Pool>,
    spaces: ArcSwap<Spaces>,
    /// The right to add one.
    opening: Mutex<()>,
    /// Keys of namespaces that nobody configured or opened.
    others: Arc<Space>,
    default_policy: Policy,
    pub(crate) invalidation_durability: Durability,
    pub(crate) put_durability: Durability,
    pub(crate) runtime: Handle,
    own_runtime: Mutex<Option<Runtime>>,
    pub(crate) sweeper: Sweeper,
    /// Looks at what other sizes of memory would do, if it is to.
    pub(crate) sizer: Option<Sizer>,
    pub(crate) probes: Probes,
    /// Fills memory at the start, if it is to.
    pub(crate) warmer: Option<Warmer>,
    pub(crate) events: Events,
    pub(crate) needless: Mutex<Needless>,
    pub(crate) turns: Turns,
    /// Who does what is due, where nobody shares it.
    pub(crate) duties: OwnDuties,
    pub(crate) invalidations: Arc<InvalidationCounters>,
    /// Woken by every append, for reads that wait for a position.
    appended: Arc<Bell>,
    closed: AtomicBool,
    /// Whether values may be put.
    pub(crate) writes: WriteGate,
    pub(crate) mutations: Mutations,
    pub(crate) staging: Staging,
    /// Held until closed.
    folder: Mutex<Option<FolderLock>>,
}

/// The namespaces by name. Copied when one is added, so that readers take no lock, which all threads would have to write to.
pub(crate) type Spaces = HashMap<Box<[u8]>, Arc<Space>, foldhash::fast::RandomState>;

/// What a builder has made ready.
pub(crate) struct Parts {
    pub(crate) index: Arc<Index>,
    pub(crate) log: Log,
    pub(crate) appended: Arc<Bell>,
    pub(crate) clock: Clock,
    pub(crate) tier: Option<Arc<dyn Tier>>,
    pub(crate) mode: Mode,
    pub(crate) backing_timeout: Duration,
    pub(crate) memory: u64,
    pub(crate) namespaces: Vec<(String, Policy)>,
    pub(crate) default_policy: Policy,
    pub(crate) durability: (Durability, Durability),
    pub(crate) runtime: Handle,
    pub(crate) mutations: Mutations,
    pub(crate) folder: Option<FolderLock>,
    pub(crate) staging: Staging,
    pub(crate) sweep_every: Duration,
    pub(crate) sizing: SizingMode,
    pub(crate) probing: Option<(Duration, Duration)>,
    pub(crate) warmer: Option<Warmer>,
    pub(crate) events: Events,
    pub(crate) invalidations: Arc<InvalidationCounters>,
}

impl Larder {
    /// Begins to describe a cache. Without a data folder it is in memory only.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::Larder;
    /// let larder = Larder::builder().memory(64 << 20).build().await?;
    /// let greetings = larder.namespace::<String>("greetings")?;
    /// let greeting = greetings.get_or_load("en", || async { Ok::<_, std::io::Error>("hello".to_string()) }).await?;
    /// assert_eq!(*greeting, "hello");
    /// larder.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn assemble(parts: Parts) -> Result<Self> {
        let pool = Arc::new(Pool::new(parts.memory, parts.clock.clone(), parts.index.notices.clone()));
        let sizer = Sizer::new(parts.sizing, parts.memory);
        let mut spaces = Spaces::default();
        for (name, policy) in parts.namespaces {
            check_namespace(&name)?;
            let part = sizer.as_ref().map(|sizer| sizer.admit(policy.own_pool));
            let space = Space::new(&name, policy, &pool, parts.tier.is_some(), part);
            let space = space.map_err(|error| error.during("configure", name.as_bytes()))?;
            spaces.insert(name.into_bytes().into_boxed_slice(), Arc::new(space));
        }
        let others =
            Arc::new(Space::new("other", parts.default_policy.clone(), &pool, parts.tier.is_some(), sizer.as_ref().map(Sizer::rest))?);
        let probes = Probes::new(parts.probing, parts.tier.is_some());
        let shared = Arc::new(Shared {
            index: parts.index,
            log: parts.log,
            clock: parts.clock,
            tier: parts.tier,
            breaker: Arc::new(Breaker::new()),
            mode: parts.mode,
            backing_timeout: parts.backing_timeout,
            pool,
            spaces: ArcSwap::from_pointee(spaces),
            opening: Mutex::new(()),
            others,
            default_policy: parts.default_policy,
            invalidation_durability: parts.durability.0,
            put_durability: parts.durability.1,
            runtime: parts.runtime,
            own_runtime: Mutex::new(None),
            sweeper: Sweeper::new(parts.sweep_every),
            sizer,
            probes,
            warmer: parts.warmer,
            events: parts.events,
            needless: Mutex::default(),
            turns: Turns::new(),
            duties: OwnDuties::default(),
            invalidations: parts.invalidations,
            appended: parts.appended,
            closed: AtomicBool::new(false),
            writes: WriteGate::default(),
            mutations: parts.mutations,
            staging: parts.staging,
            folder: Mutex::new(parts.folder),
        });
        shared.staging.take_up(&shared)?;
        crate::sweep::start(&shared);
        crate::optimize::start(&shared);
        #[cfg(feature = "redis")]
        if let Log::Redis(log) = &shared.log {
            shared.runtime.spawn(forget_what_is_replaced(Arc::downgrade(&shared), log.replaced()));
        }
        Ok(Larder(shared))
    }

    /// Keeps the runtime that only this cache uses alive for as long as the cache.
    pub(crate) fn own(&self, runtime: Runtime) {
        *self.0.own_runtime.lock() = Some(runtime);
    }

    /// A namespace, for one type of value. The first call decides the type; the policy is the configured one, or the
    /// default.
    ///
    /// Keys given to the result are without the namespace: `get("AAPL:5m")` reads `features:AAPL:5m`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is no single segment, or a codec that the type does not fit;
    /// [`ErrorKind::WrongType`] when the namespace is open for another type.
    pub fn namespace<V: Value>(&self, name: &str) -> Result<Namespace<V>> {
        let space = self.0.open_space(name)?;
        let typed = space.open::<V>()?;
        Ok(Namespace::new(View { shared: self.0.clone(), space, typed: Some(typed) }))
    }

    /// Values as encoded bytes under whole keys, in any namespace: what servers and tools use.
    pub fn raw(&self) -> Raw {
        Raw::new(self.clone())
    }

    /// Waits until this instance has applied a position, so that reads which follow see what happened there (promise G4).
    ///
    /// # Errors
    /// [`ErrorKind::UnknownPosition`] for a position of another epoch; [`ErrorKind::NotReached`] when `deadline` passes
    /// first.
    pub async fn reach(&self, position: Position, deadline: Duration) -> Result<()> {
        let index = &self.0.index;
        let unknown = || Error::new(ErrorKind::UnknownPosition, format!("{position} belongs to another life of the log"));
        if !self.0.log.is_shared() {
            index.stamp_of(position).ok_or_else(unknown)?;
        }
        // Where others append, even the epoch may be one that this instance has still to hear of.
        let reached = self.0.appended.until(|| index.has_applied(position));
        let late = |_| Error::new(ErrorKind::NotReached, format!("position {position} was not reached within {deadline:?}"));
        let reached = tokio::time::timeout(deadline, reached).await.map_err(late);
        if reached.is_err() && index.stamp_of(position).is_none() { Err(unknown()) } else { reached }
    }

    /// Waits until every instance that shares the log has applied a change, or the deadline has passed, and says who has not.
    /// A log of this process alone has nobody else.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownPosition`] for a change that is still [queued](Receipt::is_queued);
    /// [`ErrorKind::LogUnavailable`], [`ErrorKind::NotReached`] when Redis does not answer; `NotReached` also for as long as
    /// `max_staleness` after Redis lost its list of instances, or was new: one that has yet to say that it is there may be
    /// serving what it had before.
    pub async fn applied_everywhere(&self, receipt: &Receipt, deadline: Duration) -> Result<Spread> {
        self.0.log.applied_everywhere(receipt, deadline).await
    }

    /// The last position that this instance has applied.
    pub fn position(&self) -> Position {
        self.0.raw_view(b"position").begin_fill()
    }

    /// The clock that times to live are counted by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What the cache has counted, and how full it is.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.0)
    }

    /// Gives the shared memory pool another size, in bytes, while it is in use. A smaller one evicts at once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] below 64 KiB.
    pub fn resize_memory(&self, bytes: u64) -> Result<()> {
        crate::builder::check_memory(bytes)?;
        self.0.pool.resize(bytes);
        self.0.sizer.iter().for_each(|sizer| sizer.resized(0, bytes));
        Ok(())
    }

    /// Lets all pools of memory use this share of their sizes, from a 64th to 1, and evicts at once what is more than that:
    /// for a process that comes
    /// near the memory it may have. The sizes stay what they are, also for whoever gives them out ([`SizingMode::Auto`]), which waits
    /// until they are used whole again.
    ///
    /// Pools evict under a lock for each of their parts, so a large step is better taken in many small ones.
    pub fn squeeze_memory(&self, share: f64) {
        let share = if share.is_nan() { 1.0 } else { share.clamp(SQUEEZED_LEAST, 1.0) };
        // The right to open a namespace: a pool that is made meanwhile has the share that this leaves.
        let _no_new_pools = self.0.opening.lock();
        self.0.pools().iter().for_each(|pool| pool.squeeze(share));
    }

    /// Gives a namespace's own pool another size.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] below 64 KiB, or where the namespace has no pool of its own.
    pub fn resize_namespace(&self, name: &str, bytes: u64) -> Result<()> {
        crate::builder::check_memory(bytes)?;
        let space = self.0.open_space(name)?;
        if space.policy.own_pool.is_none() {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("the namespace \"{name}\" has no memory of its own")));
        }
        space.pool().resize(bytes);
        self.0.sizer.iter().for_each(|sizer| sizer.resized(crate::optimize::group_of(&space), bytes));
        Ok(())
    }

    /// Refuses writes from now on, with [`ErrorKind::Maintenance`], until [`open_writes`](Self::open_writes) is called: puts, fills,
    /// updates, changes and touches, of all handles of this cache in this process. Those under way go on; returns when they have ended,
    /// or after `limit`, and how many there still are.
    ///
    /// Invalidations, removals and events are accepted all the while, since what is stale must be so at once. Reads are answered, and
    /// load: what they load is kept in memory, and not handed to the backing tier, which is left as it is but for what is removed from
    /// it. Other processes that share the log and the tier are not concerned.
    pub async fn close_writes(&self, limit: Duration) -> u64 {
        self.refuse_writes();
        self.writes_drained(limit).await
    }

    /// Waits for writes under way to end, for `limit` at most, and while they are refused: who takes writes again ends the wait. Returns
    /// how many there still are.
    pub async fn writes_drained(&self, limit: Duration) -> u64 {
        if tokio::time::timeout(limit, self.0.writes.drained()).await.is_err() {
            tracing::debug!("writes were still under way when the time for them was over");
        }
        self.0.writes.under_way()
    }

    /// The same, without waiting for those under way.
    pub fn refuse_writes(&self) {
        self.0.writes.close();
    }

    /// How many writes are under way.
    pub fn writes_under_way(&self) -> u64 {
        self.0.writes.under_way()
    }

    /// Takes writes again.
    pub fn open_writes(&self) {
        self.0.writes.open();
    }

    /// Whether writes are taken.
    pub fn takes_writes(&self) -> bool {
        !self.0.writes.is_closed()
    }

    /// Waits until everything accepted so far is on stable storage.
    ///
    /// # Errors
    /// [`ErrorKind::Tier`] when the backing tier cannot.
    pub async fn flush(&self) -> Result<()> {
        match &self.0.tier {
            Some(tier) => tier.flush().await,
            None => Ok(()),
        }
    }

    /// Writes what is queued, closes the log, stops all background work, and lets go of the data folder. Later appends and
    /// writes fail with [`ErrorKind::Closed`]; what is in memory can still be read.
    ///
    /// # Errors
    /// The first of what could not be closed in order. Nothing acknowledged under [`Durability::Fsync`] depends on it.
    pub async fn close(&self) -> Result<()> {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.0.sweeper.stop();
        self.0.sizer.iter().for_each(Sizer::stop);
        self.0.probes.stop();
        self.0.warmer.iter().for_each(Warmer::stop);
        self.0.events.stop_following().await;
        let shared = self.0.clone();
        // In a task of its own: a caller that stops waiting must not leave the log open.
        let closing = self.0.runtime.spawn(async move {
            if let Some(warmer) = &shared.warmer {
                warmer.record_last(&shared).await;
            }
            let tier = match &shared.tier {
                Some(tier) => tier.close().await,
                None => Ok(()),
            };
            tier.and(close_log(&shared).await)?;
            // Others may open it from here on, though handles are left. What could not be closed keeps it until they are gone.
            drop(shared.folder.lock().take());
            Ok(())
        });
        closing.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime was shut down before the cache was closed")))
    }
}

impl Shared {
    /// The space of a name, opened with the default policy if nobody did before.
    fn open_space(&self, name: &str) -> Result<Arc<Space>> {
        check_namespace(name)?;
        if let Some(space) = self.spaces.load().get(name.as_bytes()) {
            return Ok(space.clone());
        }
        let _one_at_a_time = self.opening.lock();
        let spaces = self.spaces.load_full();
        if let Some(space) = spaces.get(name.as_bytes()) {
            return Ok(space.clone());
        }
        let policy = self.default_policy.clone();
        let part = self.sizer.as_ref().map(|sizer| sizer.admit(policy.own_pool));
        let space = Arc::new(Space::new(name, policy, &self.pool, self.tier.is_some(), part)?);
        let mut more = Spaces::clone(&spaces);
        more.insert(name.as_bytes().into(), space.clone());
        self.spaces.store(Arc::new(more));
        Ok(space)
    }

    /// The space that a whole key belongs to.
    pub(crate) fn space_of(&self, key: &[u8]) -> Arc<Space> {
        self.spaces.load().get(namespace_of(key)).unwrap_or(&self.others).clone()
    }

    /// A fresh value in memory that needs nothing to be waited for, under a whole key: nothing is cloned on the way, and no lock taken
    /// but the pool's own.
    #[inline]
    pub(crate) fn quick_hit(&self, key: &[u8]) -> Option<Arc<Entry<Bytes>>> {
        let spaces = self.spaces.load();
        let name = namespace_of(key);
        let (space, query) = match (spaces.get(name), key.split_at_checked(name.len() + 1)) {
            (Some(space), Some((prefix, rest))) => (space, Query::new(prefix, space.prefix_hash, rest)),
            (space, _) => {
                let space = space.unwrap_or(&self.others);
                (space, space.pool().query(key))
            }
        };
        Look { shared: self, space }.checked_hit(key, &query)
    }

    pub(crate) fn raw_view(self: &Arc<Self>, key: &[u8]) -> View<Bytes> {
        View { shared: self.clone(), space: self.space_of(key), typed: None }
    }

    /// The same for one caller again and again, who keeps it: as long as keys are of one namespace no handle is cloned. A count of
    /// handles that two threads change with every put is a cache line that they take from each other.
    pub(crate) fn raw_view_again<'v>(self: &Arc<Self>, kept: &'v mut Option<View<Bytes>>, key: &[u8]) -> &'v View<Bytes> {
        let spaces = self.spaces.load();
        let space = spaces.get(namespace_of(key)).unwrap_or(&self.others);
        if kept.as_ref().is_some_and(|view| !Arc::ptr_eq(&view.space, space)) {
            *kept = None;
        }
        kept.get_or_insert_with(|| View { shared: self.clone(), space: space.clone(), typed: None })
    }

    /// Step 4: the stamp of a tier's record and the hashes of its names, unless something it depends on was invalidated after it.
    pub(crate) fn fresh_stamp(&self, key: &[u8], record: &Record) -> Option<(Stamp, NameHashes)> {
        let is_held = |stamp| self.index.is_held(key, stamp) || self.is_held_by_others(record);
        self.fresh_for_good(key, record).filter(|(stamp, _)| !is_held(*stamp))
    }

    /// Whether a restore that is not over wrote it where others read it.
    pub(crate) fn is_held_by_others(&self, record: &Record) -> bool {
        record.is_held() && !self.mutations.on(Mutation::HoldsUnasked)
    }

    /// The same for those who see what is [held](crate::freshness::Hold), too.
    pub(crate) fn fresh_for_good(&self, key: &[u8], record: &Record) -> Option<(Stamp, NameHashes)> {
        let stamp = self.index.stamp_of_record(Position { epoch: record.epoch, seq: record.seq })?;
        let sources = sources_of(record.origin.as_deref());
        let hashes = self.index.hashes_from(key, &record.tags, sources);
        let stale = self.index.judge_for_good(Named { key, hashes: &hashes, sources }, stamp);
        stale.is_none().then_some((stamp, hashes))
    }

    /// Gives a log that is elsewhere a moment to be taken up, so that a cache usually opens in its place in the fleet.
    pub(crate) async fn first_contact(&self) {
        #[cfg(feature = "redis")]
        if let Log::Redis(log) = &self.log
            && !log.first_contact(FIRST_CONTACT).await
        {
            tracing::warn!("Redis cannot be reached; the cache works without it, and takes its place in the fleet when it can");
        }
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        // Told on every way out: an append whose caller stops waiting for its sync has taken effect all the same.
        let _told = Told(&self.appended);
        let span = spans::append(append.names.len());
        let appending = async {
            let appended = self.log.append(append).await;
            spans::appended(&appended);
            appended
        };
        appending.instrument(span).await
    }

    /// The same for a put of a key, where the log is [in memory](Log::is_in_memory).
    pub(crate) fn append_put_at_once(&self, key: &[u8]) -> Result<Appended> {
        let _told = Told(&self.appended);
        let span = spans::append(1);
        if span.is_none() {
            // Nobody listens, and asking what the current span is costs more than the append.
            return self.log.append_put_at_once(key);
        }
        span.in_scope(|| {
            let appended = self.log.append_put_at_once(key);
            spans::appended(&appended);
            appended
        })
    }

    /// Waits until everything is here that others had appended to the log when this was called, but not for longer than `limit`.
    pub(crate) async fn caught_up(&self, limit: Duration) {
        let asked = tokio::time::Instant::now();
        let heard = self.appended.until(|| self.log.unheard_for() <= asked.elapsed());
        if tokio::time::timeout(limit, heard).await.is_err() {
            tracing::debug!("the log was not heard in time; events that others carried out may take effect twice");
        }
    }

    /// All pools: the shared one, and the namespaces' own.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let spaces = self.spaces.load();
        let own = spaces.values().chain([&self.others]).filter_map(|space| space.own_pool().cloned());
        std::iter::once(self.pool.clone()).chain(own).collect()
    }

    /// Every namespace, and what stands for those that nobody configured or opened.
    pub(crate) fn all_spaces(&self) -> Vec<Arc<Space>> {
        self.spaces.load().values().cloned().chain([self.others.clone()]).collect()
    }

    /// The namespaces that the backing tier does not have. `None`: also all that nobody configured or opened.
    pub(crate) fn unbacked(&self) -> Option<Vec<Box<[u8]>>> {
        let spaces = self.spaces.load();
        let unbacked = || spaces.iter().filter(|(_, space)| !space.policy.backing).map(|(name, _)| name.clone()).collect();
        self.others.policy.backing.then(unbacked)
    }

    /// Takes out of memory what the backing tier has, too: others have replaced it there.
    pub(crate) fn forget_copies(&self) {
        self.forget_in_memory(|key, _| self.space_of(key).policy.backing);
    }

    /// Takes some entries out of memory, by key and stamp.
    pub(crate) fn forget_in_memory(&self, is_meant: impl Fn(&[u8], Stamp) -> bool) {
        for pool in self.pools() {
            for (key, slot) in pool.iter() {
                if is_meant(key.bytes(), slot.meta().stamp()) {
                    pool.remove_entry(pool.query(key.bytes()), slot.as_ref(), Count::Replaced);
                }
            }
        }
    }

    /// How many entries memory holds, of all namespaces.
    pub(crate) fn entries_in_memory(&self) -> u64 {
        let spaces = self.spaces.load();
        spaces.values().chain([&self.others]).map(|space| space.metrics.entries.load(Ordering::Relaxed)).sum()
    }

    /// What was gathered of each namespace since the last time, by name.
    pub(crate) fn drain_sketches(&self) -> Vec<(String, Sketches)> {
        let now = self.clock.now_ms();
        let spaces = self.all_spaces();
        let drained = |space: &Arc<Space>| space.metrics.drain_sketches(now);
        spaces.iter().map(|space| (space.name.to_string(), drained(space))).collect()
    }

    pub(crate) fn namespace_stats(&self) -> Vec<NamespaceStats> {
        let mut stats: Vec<_> = self.spaces.load().values().map(|space| space.metrics.stats(&space.name)).collect();
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats.push(self.others.metrics.stats(&self.others.name));
        stats
    }
}

async fn close_log(shared: &Arc<Shared>) -> Result<()> {
    #[cfg(feature = "redis")]
    if let Log::Redis(log) = &shared.log {
        return log.close().await;
    }
    let closing = shared.clone();
    let log = shared.runtime.spawn_blocking(move || closing.log.close_blocking()).await;
    log.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime was shut down before the log was closed")))
}

/// Until the cache is gone.
#[cfg(feature = "redis")]
async fn forget_what_is_replaced(shared: std::sync::Weak<Shared>, replaced: Arc<tokio::sync::Notify>) {
    loop {
        replaced.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.forget_copies();
    }
}

/// Wakes those who wait for a position.
struct Told<'a>(&'a Bell);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sweeper.stop();
        self.sizer.iter().for_each(Sizer::stop);
        self.probes.stop();
        self.warmer.iter().for_each(Warmer::stop);
        if let Some(runtime) = self.own_runtime.get_mut().take() {
            // The last handle may be dropped on the runtime's own thread, where waiting for it would be for ever.
            runtime.shutdown_background();
        }
    }
}
