//! The cache's numbers, as JSON. Times are in microseconds, sizes in bytes; the members are named so.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::Uri;
use larder::events::EventStats;
use larder::tier::{BreakerState, TierState};
use larder::{BackingStats, Latencies, NamespaceStats, SharedLogStats, Stats};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::problem::Problem;
use crate::promise::Standing as Process;
use window::Window;

pub mod window;

/// Everything that the cache says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The stretch of time in which things were counted. Sizes and states are those of now.
    pub window: Window,
    /// All namespaces together.
    pub total: Namespace,
    /// Each namespace, by name; `other` last.
    pub namespaces: Vec<Namespace>,
    /// The memory of all pools.
    pub memory: Memory,
    /// The backing tier; null where there is none.
    pub backing: Option<Backing>,
    /// The invalidation log.
    pub log: Log,
    /// The freshness index.
    pub index: Index,
    /// Events.
    pub events: Events,
    /// Names that were invalidated, by kind and then by where that came from; without those of which there were none.
    pub invalidations: BTreeMap<String, BTreeMap<String, u64>>,
    /// What killed entries for nothing: they were loaded again with the same content.
    pub needless: Needless,
    /// The server.
    pub server: Server,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// All reads.
    pub requests: u64,
    /// Reads that were answered without a load.
    pub hits: u64,
    /// Reads that had to load, or found nothing.
    pub misses: u64,
    /// Reads that ended with an error.
    pub errors: u64,
    /// Hits over requests; null before the first. Hits, misses and errors are all there is.
    pub hit_rate: Option<f64>,
    /// Misses over requests.
    pub miss_rate: Option<f64>,
    /// Errors over requests.
    pub error_rate: Option<f64>,
    /// What each tier did for them.
    pub tiers: Tiers,
    /// Entries in memory.
    pub entries: u64,
    /// Bytes in memory, keys and bookkeeping included.
    pub bytes: u64,
    /// Every counter, by name.
    pub counts: BTreeMap<String, u64>,
    /// How long reads and loads took.
    pub latencies: NamespaceLatencies,
}

/// The tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiers {
    /// The memory of this process.
    pub memory: TierCounts,
    /// The backing tier.
    pub backing: TierCounts,
}

/// What a tier did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierCounts {
    /// Reads that it answered.
    pub hits: u64,
    /// Times that it was asked in vain.
    pub misses: u64,
    /// Entries that were put into it.
    pub sets: u64,
}

/// How long a namespace's reads took, by how they were answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceLatencies {
    /// All reads. Of those from memory the ones that were timed stand for all.
    pub total: Latency,
    /// All hits, likewise.
    pub hit: Latency,
    /// From memory; one in 64 is timed.
    pub hit_memory: Latency,
    /// All other hits: from the backing tier, past their time, or of a remembered absence.
    pub hit_backing: Latency,
    /// With a load, or not at all.
    pub miss: Latency,
    /// With an error.
    pub error: Latency,
    /// The loaders alone.
    pub load: Latency,
}

/// How long something took; all null where nothing was timed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// Their mean.
    pub mean_us: Option<f64>,
    /// The median.
    pub p50_us: Option<f64>,
    /// What nine in ten did not exceed.
    pub p90_us: Option<f64>,
    /// What 99 in a hundred did not exceed.
    pub p99_us: Option<f64>,
    /// What 999 in a thousand did not exceed.
    pub p99_9_us: Option<f64>,
}

/// The memory of all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that may be used.
    pub capacity_bytes: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Entries held.
    pub entries: u64,
}

/// The backing tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Its name, such as `disk`.
    pub name: String,
    /// Why it cannot be used; null where it can.
    pub degraded: Option<String>,
    /// Whether it is asked at all: `closed` where it is, `open` where it failed too often, `half_open` while it is tried.
    pub breaker: String,
    /// Live entries.
    pub entries: u64,
    /// Bytes of the live entries.
    pub bytes: u64,
    /// Bytes on the disk, garbage and journals included.
    pub bytes_on_disk: u64,
    /// Writes waiting.
    pub queued: u64,
    /// Bytes waiting.
    pub queued_bytes: u64,
    /// Entries removed to make room.
    pub evicted: u64,
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Writes that were not taken.
    pub shed: u64,
    /// Stores refused because a newer record was in place.
    pub outranked: u64,
    /// Records that could not be read.
    pub unreadable: u64,
    /// Failed operations.
    pub errors: u64,
}

/// The invalidation log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The last position.
    pub position: String,
    /// Appends since the start.
    pub appends: u64,
    /// Waits for stable storage.
    pub syncs: u64,
    /// Why it takes no appends; null where it does.
    pub failed: Option<String>,
    /// What is known of the instances that share it; null where it is this server's own.
    pub shared: Option<SharedLog>,
}

/// A log that is shared with other instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLog {
    /// What this instance is called.
    pub instance: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Why it is not.
    pub trouble: Option<String>,
    /// How long ago it was last heard.
    pub unheard_for_ms: u64,
    /// Positions that are known of and not applied here yet.
    pub behind: u64,
    /// Changes that wait to be told to it.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Changes that were refused, because the queue was full or the namespace is strict.
    pub refused: u64,
    /// Times that the log was taken up anew.
    pub connects: u64,
    /// Epochs adopted since the start; each is a cold start.
    pub epochs: u64,
    /// Times that a snapshot was read, because the stream no longer had what came next.
    pub resyncs: u64,
    /// Checkpoints of the log that this server wrote, so that its stream has an end.
    pub checkpoints: u64,
    /// Invalidations taken from the inbox, where other programs put them.
    pub inbox_taken: u64,
    /// What came there and was none.
    pub inbox_rejected: u64,
}

/// The freshness index.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Its size.
    pub bytes: u64,
    /// Pattern shapes in use.
    pub shapes: u64,
    /// Globs in use.
    pub globs: u64,
    /// Names that were widened.
    pub widened: u64,
    /// The estimated share of entries that miss for no reason.
    pub false_miss_rate: f64,
}

/// How many entries were killed for nothing, by what killed them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Needless {
    /// By tag.
    pub tags: BTreeMap<String, u64>,
    /// By the rule of the event that did it.
    pub rules: BTreeMap<String, u64>,
}

/// What events did since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that came.
    pub received: u64,
    /// Of these, how many had been carried out before.
    pub duplicates: u64,
    /// Events that no rule and no handler was for.
    pub unmatched: u64,
    /// Events that could not be understood, or whose values cannot stand in a name.
    pub refused: u64,
    /// Events that did not take effect, because the log could not take them.
    pub failed: u64,
    /// Names that were invalidated.
    pub names: u64,
    /// Names that were put off, so that one invalidation covers several.
    pub conflated: u64,
    /// Dead letters there are.
    pub dead: u64,
    /// Dead letters that were dropped because there were too many.
    pub dead_dropped: u64,
    /// Requests that were refused because they were not signed as they should be.
    pub unsigned: u64,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Requests under way, this one included.
    pub requests_under_way: u64,
    /// The memory of the process, and what it may have.
    pub process: Process,
}

/// `GET /v1/stats?since=`.
///
/// # Errors
/// See [`Problem`].
pub async fn show(State(app): State<Shared>, uri: Uri) -> Result<Answer<Document>, Problem> {
    let (stats, window) = app.windows.show(&app.larder, window::asked(&uri)?);
    let events = events(stats.events, app.intake.unsigned());
    let server = Server { requests_under_way: app.gate.under_way() as u64, process: app.upkeep.promise.standing() };
    Ok(Answer(document(window, stats, events, server)))
}

fn invalidations(stats: &Stats) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut by_kind: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (kind, origin, n) in stats.invalidations.iter().filter(|(.., n)| *n > 0) {
        by_kind.entry(kind.name().into()).or_default().insert(origin.name().into(), n);
    }
    by_kind
}

fn events(stats: EventStats, unsigned: u64) -> Events {
    let EventStats { received, duplicates, unmatched, refused, failed, names, conflated, dead, dead_dropped, .. } = stats;
    Events { received, duplicates, unmatched, refused, failed, names, conflated, dead, dead_dropped, unsigned }
}

fn document(window: Window, stats: Stats, events: Events, server: Server) -> Document {
    let Stats { memory, log, index, .. } = &stats;
    Document {
        window,
        total: (&stats.total).into(),
        namespaces: stats.namespaces.iter().map(Namespace::from).collect(),
        memory: Memory { capacity_bytes: memory.capacity, bytes: memory.bytes, entries: memory.entries },
        log: Log {
            position: log.position.to_string(),
            appends: log.appends,
            syncs: log.syncs,
            failed: log.failed.clone(),
            shared: log.shared.as_ref().map(SharedLog::from),
        },
        index: Index {
            bytes: index.bytes as u64,
            shapes: index.shapes as u64,
            globs: index.globs as u64,
            widened: index.widened,
            false_miss_rate: index.false_miss_rate,
        },
        backing: stats.backing.clone().map(Backing::from),
        events,
        invalidations: invalidations(&stats),
        needless: Needless { tags: stats.needless.tags.clone(), rules: stats.needless.rules.clone() },
        server,
    }
}

impl From<&NamespaceStats> for Namespace {
    fn from(stats: &NamespaceStats) -> Self {
        let counts = &stats.counts;
        let rate = |n: u64| (stats.requests() > 0).then(|| n as f64 / stats.requests() as f64);
        Namespace {
            name: stats.name.clone(),
            requests: stats.requests(),
            hits: stats.hits(),
            misses: counts.misses(),
            errors: counts.errors,
            hit_rate: stats.hit_rate(),
            miss_rate: rate(counts.misses()),
            error_rate: rate(counts.errors),
            tiers: Tiers {
                memory: TierCounts { hits: counts.hits_of_memory(), misses: counts.misses_memory(), sets: counts.sets_memory },
                backing: TierCounts { hits: counts.hits_of_backing(), misses: counts.misses_backing, sets: counts.sets_backing },
            },
            entries: stats.entries,
            bytes: stats.bytes,
            counts: stats.counts.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            latencies: NamespaceLatencies {
                total: (&stats.total_latencies()).into(),
                hit: (&stats.hit_latencies()).into(),
                hit_memory: (&stats.hit_memory).into(),
                hit_backing: (&stats.hit_backing).into(),
                miss: (&stats.miss).into(),
                error: (&stats.error).into(),
                load: (&stats.load).into(),
            },
        }
    }
}

impl From<&Latencies> for Latency {
    fn from(latencies: &Latencies) -> Self {
        let us = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        let percentile = |quantile| latencies.percentile(quantile).map(us);
        Latency {
            count: latencies.count(),
            mean_us: latencies.mean().map(us),
            p50_us: percentile(0.5),
            p90_us: percentile(0.9),
            p99_us: percentile(0.99),
            p99_9_us: percentile(0.999),
        }
    }
}

impl From<&SharedLogStats> for SharedLog {
    fn from(stats: &SharedLogStats) -> Self {
        SharedLog {
            instance: stats.instance.clone(),
            connected: stats.connected,
            trouble: stats.trouble.clone(),
            unheard_for_ms: u64::try_from(stats.unheard_for.as_millis()).unwrap_or(u64::MAX),
            behind: stats.behind,
            queued: stats.queued,
            queued_bytes: stats.queued_bytes,
            refused: stats.refused,
            connects: stats.connects,
            epochs: stats.epochs,
            resyncs: stats.resyncs,
            checkpoints: stats.checkpoints,
            inbox_taken: stats.inbox_taken,
            inbox_rejected: stats.inbox_rejected,
        }
    }
}

/// A breaker's state, as it is written.
fn breaker_text(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Closed => "closed",
    }
}

impl From<BackingStats> for Backing {
    fn from(BackingStats { name, state, stats, breaker, .. }: BackingStats) -> Self {
        Backing {
            name: name.into(),
            degraded: match state {
                TierState::Healthy => None,
                TierState::Degraded(reason) => Some(reason),
            },
            breaker: breaker_text(breaker).into(),
            entries: stats.entries,
            bytes: stats.bytes,
            bytes_on_disk: stats.bytes_on_disk,
            queued: stats.queued,
            queued_bytes: stats.queued_bytes,
            evicted: stats.evicted,
            expired: stats.expired,
            shed: stats.shed,
            outranked: stats.outranked,
            unreadable: stats.unreadable,
            errors: stats.errors,
        }
    }
}
