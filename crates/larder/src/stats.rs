//! What the cache says of itself, gathered at one moment.

use std::time::Duration;

use crate::cache::Shared;
use crate::events::EventStats;
use crate::invalidations::Invalidations;
use crate::metrics::NamespaceStats;
use crate::needless::Needless;
use crate::position::Position;
use crate::tier::{BreakerState, TierState, TierStats};

/// What the cache says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Each namespace, by name; `other` last.
    pub namespaces: Vec<NamespaceStats>,
    /// All namespaces together.
    pub total: NamespaceStats,
    /// The memory of all pools.
    pub memory: MemoryStats,
    /// The backing tier, if there is one.
    pub backing: Option<BackingStats>,
    /// The invalidation log.
    pub log: LogStats,
    /// The freshness index.
    pub index: IndexStats,
    /// Events.
    pub events: EventStats,
    /// What killed entries for nothing.
    pub needless: Needless,
    /// What was invalidated.
    pub invalidations: Invalidations,
}

/// The memory of all pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes that may be used.
    pub capacity: u64,
    /// Bytes that were asked for: more than that while memory is [squeezed](crate::Larder::squeeze_memory).
    pub asked_bytes: u64,
    /// Bytes in use, keys and bookkeeping included.
    pub bytes: u64,
    /// Entries held, negative ones included.
    pub entries: u64,
}

/// The backing tier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackingStats {
    /// Its name, such as `disk`.
    pub name: &'static str,
    /// Whether it can be used.
    pub state: TierState,
    /// What it has counted.
    pub stats: TierStats,
    /// Whether reads are let through to it.
    pub breaker: BreakerState,
}

/// The invalidation log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// The last position that was applied here.
    pub position: Position,
    /// Appends since the start.
    pub appends: u64,
    /// Times that appends were waited for on stable storage; fewer than appends, where they came at once.
    pub syncs: u64,
    /// Why the log takes no appends, if it does not.
    pub failed: Option<String>,
    /// What a log that is shared with other instances says of itself.
    pub shared: Option<SharedLogStats>,
}

/// A log that is shared with other instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedLogStats {
    /// What this instance is called where instances are listed.
    pub instance: String,
    /// Whether the log can be reached.
    pub connected: bool,
    /// Why not, the last time it could not.
    pub trouble: Option<String>,
    /// For how long nothing was heard of it.
    pub unheard_for: Duration,
    /// Positions that this instance knows of and has not applied yet.
    pub behind: u64,
    /// Names that wait to be appended.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Invalidations refused because the queue was full, the namespace strict, or a checkpoint of the log overdue.
    pub refused: u64,
    /// Times that the log was verified and taken up anew.
    pub connects: u64,
    /// Epochs adopted since the start: each is a cold start.
    pub epochs: u64,
    /// Times that a snapshot was read because the stream no longer had what was next.
    pub resyncs: u64,
    /// Checkpoints that this instance wrote, so that the stream has an end.
    pub checkpoints: u64,
    /// What was read from the inbox, and how much of it was no invalidation.
    pub inbox_taken: u64,
    /// See `inbox_taken`.
    pub inbox_rejected: u64,
}

impl SharedLogStats {
    fn keep_since(&mut self, earlier: &SharedLogStats) {
        self.refused = self.refused.saturating_sub(earlier.refused);
        self.connects = self.connects.saturating_sub(earlier.connects);
        self.epochs = self.epochs.saturating_sub(earlier.epochs);
        self.resyncs = self.resyncs.saturating_sub(earlier.resyncs);
        self.checkpoints = self.checkpoints.saturating_sub(earlier.checkpoints);
        self.inbox_taken = self.inbox_taken.saturating_sub(earlier.inbox_taken);
        self.inbox_rejected = self.inbox_rejected.saturating_sub(earlier.inbox_rejected);
    }
}

/// The freshness index.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct IndexStats {
    /// The table's size.
    pub bytes: usize,
    /// Pattern shapes in use, of 64.
    pub shapes: usize,
    /// Globs in use, of 1,024.
    pub globs: usize,
    /// Names that were widened since the start, for want of a shape or a glob.
    pub widened: u64,
    /// The estimated share of entries in memory that would be judged stale though nothing they depend on was
    /// invalidated. Above 0.01 a larger index (`index_bytes`) pays for itself.
    pub false_miss_rate: f64,
}

impl Stats {
    /// What happened since `earlier`: everything that is counted, and how long it took. Sizes, states and the like are those of now.
    #[must_use]
    pub fn since(&self, earlier: &Stats) -> Stats {
        let mut since = self.clone();
        for namespace in &mut since.namespaces {
            if let Some(before) = earlier.namespaces.iter().find(|before| before.name == namespace.name) {
                *namespace = namespace.since(before);
            }
        }
        since.total = self.total.since(&earlier.total);
        if let (Some(backing), Some(before)) = (&mut since.backing, &earlier.backing) {
            backing.stats.keep_since(&before.stats);
        }
        since.log.appends = self.log.appends.saturating_sub(earlier.log.appends);
        since.log.syncs = self.log.syncs.saturating_sub(earlier.log.syncs);
        if let (Some(shared), Some(before)) = (&mut since.log.shared, &earlier.log.shared) {
            shared.keep_since(before);
        }
        since.index.widened = self.index.widened.saturating_sub(earlier.index.widened);
        since.events = self.events.since(&earlier.events);
        since.needless = self.needless.since(&earlier.needless);
        since.invalidations = self.invalidations.since(&earlier.invalidations);
        since
    }
    pub(crate) fn of(shared: &Shared) -> Self {
        let namespaces = shared.namespace_stats();
        let mut total = NamespaceStats { name: "total".into(), ..NamespaceStats::default() };
        namespaces.iter().for_each(|namespace| total.add(namespace));
        let pools = shared.pools();
        let memory = MemoryStats {
            capacity: pools.iter().map(|pool| pool.capacity()).sum(),
            asked_bytes: pools.iter().map(|pool| pool.size()).sum(),
            bytes: pools.iter().map(|pool| pool.weight()).sum(),
            entries: pools.iter().map(|pool| pool.len() as u64).sum(),
        };
        let backing = shared.tier.as_ref().map(|tier| BackingStats {
            name: tier.name(),
            state: tier.state(),
            stats: tier.stats(),
            breaker: shared.breaker.state(),
        });
        let (log, index) = (shared.log.stats(), shared.index.stats());
        Stats {
            namespaces,
            total,
            memory,
            backing,
            log: LogStats {
                position: Position { epoch: shared.index.epoch(), seq: log.head },
                appends: log.appends,
                syncs: log.syncs,
                failed: log.failed,
                shared: log.shared,
            },
            index: IndexStats {
                bytes: index.bytes,
                shapes: index.shapes,
                globs: index.globs,
                widened: index.widened,
                false_miss_rate: shared.sweeper.false_miss_rate(),
            },
            events: shared.events.stats(),
            needless: shared.needless.lock().clone(),
            invalidations: shared.invalidations.read(),
        }
    }
}
