//! Describing a cache, checking the description, and opening it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::backup::Staging;
use crate::bell::Bell;
use crate::cache::{Larder, Parts};
use crate::clock::Clock;
use crate::config::{MAX_STALENESS, MEMORY_BYTES_MIN, Mode, Policy};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Events, Rule};
use crate::invalidations::InvalidationCounters;
use crate::log::{Durability, LocalLog, Log, LogOptions};
use crate::mutation::Mutations;
use crate::optimize::SizingMode;
use crate::tier::Tier;
use crate::tier::disk::{DiskOptions, DiskTier};
use crate::warm_up::{WarmUp, Warmer};

/// A segment of the log this long is followed by a checkpoint.
const LOG_SEGMENT_BYTES: u64 = 32 << 20;

/// Times that probes may be given: shorter ones would find fault with a thread that waits its turn.
const PROBE_TIMES: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);

/// The description of a cache: see [`Larder::builder`].
#[must_use]
pub struct Builder {
    data: Option<PathBuf>,
    memory: u64,
    disk_bytes: u64,
    index_bytes: usize,
    durability: (Durability, Durability),
    default_policy: Policy,
    namespaces: Vec<(String, Policy)>,
    clock: Clock,
    tier: Option<Arc<dyn Tier>>,
    backing_timeout: Duration,
    sweep_every: Duration,
    probe_every: Option<Duration>,
    probe_timeout: Duration,
    mode: Mode,
    max_staleness: Duration,
    rules: Vec<Rule>,
    sizing: SizingMode,
    warm_up: Option<WarmUp>,
    #[cfg(feature = "redis")]
    redis: Option<crate::RedisOptions>,
    /// How far this machine's wall clock is off, for tests, in milliseconds.
    #[cfg(feature = "redis")]
    wall_clock_off: i64,
    mutations: Mutations,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            data: None,
            memory: 256 << 20,
            disk_bytes: 10 << 30,
            index_bytes: 16 << 20,
            durability: (Durability::Fsync, Durability::Os),
            default_policy: Policy::default(),
            namespaces: Vec::new(),
            clock: Clock::system(),
            tier: None,
            backing_timeout: Duration::from_secs(1),
            sweep_every: Duration::from_secs(5),
            probe_every: None,
            probe_timeout: Duration::from_secs(2),
            mode: Mode::default(),
            max_staleness: MAX_STALENESS,
            rules: Vec::new(),
            sizing: SizingMode::Off,
            warm_up: None,
            #[cfg(feature = "redis")]
            redis: None,
            #[cfg(feature = "redis")]
            wall_clock_off: 0,
            mutations: Mutations::default(),
        }
    }

    /// Keeps entries and the log in this folder, which is made if need be and belongs to one process at a time. Default:
    /// none, the cache is in memory only.
    pub fn data(mut self, folder: impl AsRef<Path>) -> Self {
        self.data = Some(folder.as_ref().into());
        self
    }

    /// Bytes of the shared memory pool, keys and bookkeeping included. Default 256 MiB.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Bytes of entries that the disk tier keeps before it evicts. Default 10 GiB.
    pub fn disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = bytes;
        self
    }

    /// Bytes of the freshness index, rounded up to a power of two. Reckon with 28 for each distinct name that is
    /// invalidated within the life of an entry; too small makes needless misses, never stale answers. Default 16 MiB.
    pub fn index_bytes(mut self, bytes: usize) -> Self {
        self.index_bytes = bytes;
        self
    }

    /// When invalidations, removals and updates return. Default [`Durability::Fsync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability.0 = durability;
        self
    }

    /// When puts return. Default [`Durability::Os`]: a put survives the end of the process once its record is written
    /// behind, and after a machine crash the cache starts cold. With [`Durability::Fsync`] a put returns when its record
    /// is on stable storage.
    pub fn put_durability(mut self, durability: Durability) -> Self {
        self.durability.1 = durability;
        self
    }

    /// The policy of namespaces that have none of their own.
    pub fn default_policy(mut self, policy: Policy) -> Self {
        self.default_policy = policy;
        self
    }

    /// Gives a namespace a policy. A second one for the same name takes the place of the first.
    pub fn namespace(mut self, name: impl Into<String>, policy: Policy) -> Self {
        self.namespaces.push((name.into(), policy));
        self
    }

    /// Adds a rule for events. Rules of one's own for a type take the place of the built-in ones.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Counts times to live by this clock. Default [`Clock::system`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Puts a backing tier of your own in the place of the disk.
    pub fn backing_tier(mut self, tier: Arc<dyn Tier>) -> Self {
        self.tier = Some(tier);
        self
    }

    /// How long a read waits for the backing tier, and a load for handing over its value, before they go on without it: a
    /// tier that hangs is then slow, and no more. Default 1 s.
    pub fn backing_timeout(mut self, timeout: Duration) -> Self {
        self.backing_timeout = timeout;
        self
    }

    /// How often expired and stale entries are swept out anyway; after large invalidations it happens at once. Default 5 s.
    pub fn sweep_every(mut self, period: Duration) -> Self {
        self.sweep_every = period;
        self
    }

    /// Has memory, the backing tier and the log really used this often, in the background: written, read, compared and removed,
    /// under keys of the cache's own. What came of it, [`Larder::probes`] tells. A probe of a disk waits until it has what was
    /// written, so reckon with two `fsync`s. Default: never.
    pub fn probe_every(mut self, period: Duration) -> Self {
        self.probe_every = Some(period);
        self
    }

    /// How long a probe may take before the part that it is of counts as out of order. Default 2 s.
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Whether it is looked at what other sizes of memory would do ([`Larder::sizing`]), and memory is given out to who gains most from
    /// it. Default [`SizingMode::Off`].
    pub fn sizing(mut self, mode: SizingMode) -> Self {
        self.sizing = mode;
        self
    }

    /// Has memory filled from the backing tier at the start, with what was read most before the last end: see [`WarmUp`]. The cache can be
    /// used meanwhile; [`Larder::warmed_up`] waits for it. Default: memory starts empty, and nothing is recorded.
    pub fn warm_up(mut self, how: WarmUp) -> Self {
        self.warm_up = Some(how);
        self
    }

    /// Keeps entries and the log in Redis or Valkey, in the place of the disk: all instances that name the same server and
    /// prefix are one cache. The server need not be there yet; until it is, the cache does what [`mode`](Self::mode) says.
    /// Times to live are then counted by the server's clock.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, options: crate::RedisOptions) -> Self {
        self.redis = Some(options);
        self
    }

    /// What the cache does while the log that it shares with others cannot be heard; a namespace's policy may say otherwise.
    /// Default [`Mode::Available`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// For how long after the shared log was last heard memory counts as verified. Default 1 s; the log is heard every
    /// heartbeat or two.
    pub fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Pretends that this machine's wall clock is off by so many milliseconds.
    #[cfg(all(feature = "test-mutations", feature = "redis"))]
    #[doc(hidden)]
    pub fn wall_clock_off(mut self, ms: i64) -> Self {
        self.wall_clock_off = ms;
        self
    }

    #[cfg(feature = "test-mutations")]
    #[doc(hidden)]
    pub fn mutation(mut self, mutation: crate::Mutation) -> Self {
        self.mutations = Mutations::only(mutation);
        self
    }

    /// Opens the cache. Its tasks run on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] and the like for settings that make no sense, or outside a tokio runtime;
    /// [`ErrorKind::Locked`] when another process has the folder; [`ErrorKind::UnknownFormat`] when another version of
    /// larder wrote it (nothing is touched then); [`ErrorKind::Tier`], [`ErrorKind::LogUnavailable`] when files cannot be
    /// read or written.
    pub async fn build(self) -> Result<Larder> {
        let no_runtime = |_| Error::new(ErrorKind::InvalidConfig, "build runs inside a tokio runtime; build_blocking brings its own");
        let runtime = tokio::runtime::Handle::try_current().map_err(no_runtime)?;
        let opening = {
            let runtime = runtime.clone();
            runtime.clone().spawn_blocking(move || self.open(runtime))
        };
        let parts =
            opening.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime was shut down while the cache opened")))?;
        let larder = Larder::assemble(parts)?;
        larder.0.first_contact().await;
        // Not before: they would find out of reach what is on its way.
        crate::health::probes::start(&larder.0);
        crate::warm_up::start(&larder.0);
        Ok(larder)
    }

    /// Opens the cache for callers that are not async, with a runtime of its own.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    ///
    /// # Panics
    /// If it is called inside a tokio runtime.
    pub fn build_blocking(self) -> Result<Larder> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("larder").enable_all().build();
        let runtime = runtime.map_err(|e| Error::new(ErrorKind::InvalidConfig, "cannot start the cache's threads").with_source(e))?;
        let larder = runtime.block_on(self.build())?;
        larder.own(runtime);
        Ok(larder)
    }

    fn open(self, runtime: tokio::runtime::Handle) -> Result<Parts> {
        check_memory(self.memory)?;
        check_probes(self.probe_every, self.probe_timeout)?;
        self.warm_up.as_ref().map_or(Ok(()), |how| how.check(self.data.as_deref()))?;
        self.default_policy.check()?;
        let (mode, max_staleness) = (self.mode, self.max_staleness);
        let resolved = |policy: Policy| Policy {
            mode: policy.mode.or(Some(mode)),
            max_staleness: policy.max_staleness.or(Some(max_staleness)),
            ..policy
        };
        let mut parts = self.open_log_and_tier(runtime)?;
        parts.default_policy = resolved(parts.default_policy);
        parts.namespaces = parts.namespaces.into_iter().map(|(name, policy)| (name, resolved(policy))).collect();
        Ok(parts)
    }

    fn open_log_and_tier(self, runtime: tokio::runtime::Handle) -> Result<Parts> {
        #[cfg(feature = "redis")]
        if let Some(options) = self.redis.clone() {
            return self.open_redis(&options, runtime);
        }
        let folder = self.data.as_deref().map(take_folder).transpose()?;
        let (log, index) = match &self.data {
            None => LocalLog::in_memory(self.index_bytes, self.mutations),
            Some(data) => LocalLog::open(&LogOptions {
                folder: data.join("log"),
                index_bytes: self.index_bytes,
                segment_bytes: LOG_SEGMENT_BYTES,
                os_appends: [self.durability.0, self.durability.1].contains(&Durability::Os),
                mutations: self.mutations,
            })?,
        };
        let tier = match (self.tier.clone(), &self.data) {
            (Some(tier), _) => Some(tier),
            (None, None) => None,
            (None, Some(data)) => {
                let options =
                    DiskOptions { capacity_bytes: self.disk_bytes, clock: self.clock.clone(), ..DiskOptions::new(data.join("disk")) };
                Some(Arc::new(DiskTier::open(options)?) as Arc<dyn Tier>)
            }
        };
        let clock = self.clock.clone();
        self.parts(runtime, (Log::Local(log), index), (tier, folder), (clock, Arc::default(), Arc::default()))
    }

    #[cfg(feature = "redis")]
    fn open_redis(self, options: &crate::RedisOptions, runtime: tokio::runtime::Handle) -> Result<Parts> {
        options.check()?;
        let strict = |policy: &Policy| policy.mode.unwrap_or(self.mode) == Mode::Strict;
        let too_soon = |policy: &Policy| strict(policy) && policy.max_staleness.unwrap_or(self.max_staleness) <= options.heartbeat * 2;
        if too_soon(&self.default_policy) || self.namespaces.iter().any(|(_, policy)| too_soon(policy)) {
            let message = "the log is heard every heartbeat or two: strict reads need a max_staleness of more than two heartbeats";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        if self.data.is_some() {
            let message = "a cache keeps its entries in a folder or in Redis, not in both: leave one out";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let clock = Clock::following(self.wall_clock_off);
        let told: Arc<Bell> = Arc::default();
        let link = Arc::new(crate::remote::link::Link::new(options.clone()));
        let invalidations: Arc<InvalidationCounters> = Arc::default();
        let parts = (clock.clone(), told.clone(), invalidations.clone());
        let policies = self.namespaces.iter().map(|(_, policy)| policy).chain([&self.default_policy]);
        let verified_for = policies.filter_map(|policy| policy.max_staleness).fold(self.max_staleness, Duration::max);
        let sizes = (self.index_bytes, verified_for);
        let (log, index) = crate::log::RedisLog::start(options, link.clone(), sizes, parts, &runtime, self.mutations);
        let tier = self.tier.clone().unwrap_or_else(|| {
            Arc::new(crate::tier::redis::RedisTier::start(
                link,
                index.clone(),
                clock.clone(),
                crate::remote::entries_prefix(&options.prefix),
                &runtime,
            ))
        });
        self.parts(runtime, (Log::Redis(log), index), (Some(tier), None), (clock, told, invalidations))
    }

    fn parts(
        self,
        runtime: tokio::runtime::Handle,
        (log, index): (Log, Arc<crate::freshness::Index>),
        (tier, folder): (Option<Arc<dyn Tier>>, Option<FolderLock>),
        (clock, appended, invalidations): (Clock, Arc<Bell>, Arc<InvalidationCounters>),
    ) -> Result<Parts> {
        let events = Events::new(self.rules, self.data.as_ref().map(|data| data.join("dead-letters")))?;
        Ok(Parts {
            index,
            log,
            appended,
            clock,
            tier,
            mode: self.mode,
            backing_timeout: self.backing_timeout,
            memory: self.memory,
            namespaces: self.namespaces,
            default_policy: self.default_policy,
            durability: self.durability,
            runtime,
            mutations: self.mutations,
            folder,
            warmer: self.warm_up.and_then(|how| Warmer::new(how, self.data.as_deref())),
            staging: Staging::new(self.data),
            sweep_every: self.sweep_every,
            sizing: self.sizing,
            probing: self.probe_every.map(|every| (every, self.probe_timeout)),
            events,
            invalidations,
        })
    }
}

/// The data folder, which is this process's alone until this is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Not left to the closing of the file: a process that is just being started may hold a copy of it for a moment. Should
        // unlocking fail, closing does it then.
        drop(self.0.unlock());
    }
}

/// Makes the folder, and takes it for this process: two that write one log would each hand out the same positions.
fn take_folder(folder: &Path) -> Result<FolderLock> {
    let failed = |what: &str, e: std::io::Error| Error::new(ErrorKind::Tier, format!("cannot {what} {}", folder.display())).with_source(e);
    std::fs::create_dir_all(folder).map_err(|e| failed("make the folder", e))?;
    let lock = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(|e| failed("write in", e))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::Locked, format!("{} is in use by another process", folder.display())))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(failed("lock", e)),
    }
}

fn check_probes(every: Option<Duration>, timeout: Duration) -> Result<()> {
    let sound = |time: Duration| PROBE_TIMES.contains(&time);
    if every.is_some_and(|every| !sound(every)) || !sound(timeout) {
        return Err(Error::new(ErrorKind::InvalidConfig, "probes come, and are waited for, between 10 ms and an hour"));
    }
    Ok(())
}

pub(crate) fn check_memory(bytes: u64) -> Result<()> {
    if bytes < MEMORY_BYTES_MIN {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("the memory tier has at least 64 KiB, not {bytes} bytes")));
    }
    Ok(())
}
