//! What a run of the demo found, as `--json` prints it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run::{FeedTally, ReaderTally, Settings, Stage};

/// Reads answered without a load, by the tier that answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitsByTier {
    /// Answered from memory.
    pub memory: u64,
    /// Answered from disk.
    pub disk: u64,
    /// Answered from Redis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redis: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a run over several instances found beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetReport {
    /// Servers that were one cache.
    pub instances: u64,
    /// Reads checked on another instance than the one that was told of the changes.
    pub cross_instance_reads_checked: u64,
    /// Changes that every instance was seen to obey.
    pub changes_settled: u64,
    /// How long after an invalidation was acknowledged half of the other instances were seen to obey it, in microseconds.
    pub propagation_p50_us: f64,
    /// The same for 99 of 100.
    pub propagation_p99_us: f64,
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoReport {
    /// Which cache was run.
    pub mode: String,
    /// How long it ran.
    pub seconds: f64,
    /// The seed of the run.
    pub seed: u64,
    /// Symbols in the market.
    pub symbols: u64,
    /// Keys that could be read.
    pub keys: u64,
    /// Tasks that read.
    pub readers: u64,
    /// The first day replayed.
    pub replayed_from: Option<String>,
    /// The last day replayed.
    pub replayed_to: Option<String>,
    /// Bars that arrived.
    pub bars: u64,
    /// Models that were released.
    pub model_releases: u64,
    /// Invalidations that the cache made of them.
    pub invalidations: u64,
    /// Computed values that they made wrong.
    pub entries_made_stale: u64,
    /// Reads checked against the newest bar and release.
    pub reads_checked: u64,
    /// Reads that were answered with what the cache had been told is superseded.
    pub stale_reads: u64,
    /// Of these, the ones made from a superseded bar.
    pub stale_by_bar: u64,
    /// Of these, the ones made by a superseded model release. A read can be both.
    pub stale_by_release: u64,
    /// The most bars that a read was behind.
    pub worst_lag_bars: u64,
    /// The most releases that a read was behind.
    pub worst_lag_releases: u64,
    /// The longest, in milliseconds, that a value which was served had been known to be superseded.
    pub worst_superseded_ms: f64,
    /// Values recomputed from the source's data and compared bit by bit.
    pub values_verified: u64,
    /// Of these, the ones that differed.
    pub wrong_values: u64,
    /// Reads answered without waiting for a load.
    pub hits: HitsByTier,
    /// Their share of all reads.
    pub hit_rate: f64,
    /// Reads that shared a load which another had begun.
    pub joined: u64,
    /// Loads that the source was asked for.
    pub loads: u64,
    /// Reads that cost the source nothing.
    pub loads_avoided: u64,
    /// Reads in each second.
    pub reads_per_second: f64,
    /// The latency that half of the reads stayed within, in microseconds.
    pub p50_us: f64,
    /// The latency that 99 of 100 reads stayed within, in microseconds.
    pub p99_us: f64,
    /// Where the cache had several instances, what was found beside.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetReport>,
}

impl DemoReport {
    /// Sums a run up.
    pub fn of(mode: &str, settings: &Settings, stage: &Stage, elapsed: Duration, read: &ReaderTally, fed: &FeedTally) -> Self {
        let staleness = &read.staleness;
        let loads = stage.source.loads();
        let micros = |share| read.latency.quantile(share).map_or(0.0, |latency| latency.as_secs_f64() * 1e6);
        Self {
            mode: mode.to_owned(),
            seconds: elapsed.as_secs_f64(),
            seed: settings.seed,
            symbols: stage.market.symbols().len() as u64,
            keys: stage.keyspace.keys().len() as u64,
            readers: settings.readers,
            replayed_from: fed.first_day.map(|day| day.to_string()),
            replayed_to: fed.last_day.map(|day| day.to_string()),
            bars: fed.bars,
            model_releases: fed.releases,
            invalidations: fed.invalidations,
            entries_made_stale: fed.entries_made_stale,
            reads_checked: staleness.reads_checked,
            stale_reads: staleness.stale_reads,
            stale_by_bar: staleness.stale_by_bar,
            stale_by_release: staleness.stale_by_release,
            worst_lag_bars: staleness.worst_lag_bars,
            worst_lag_releases: staleness.worst_lag_releases,
            worst_superseded_ms: staleness.worst_superseded.as_secs_f64() * 1e3,
            values_verified: read.values_verified,
            wrong_values: read.wrong_values,
            hits: HitsByTier { memory: read.memory, disk: read.backing, redis: 0 },
            hit_rate: share(read.memory + read.backing, staleness.reads_checked),
            joined: read.joined,
            loads,
            loads_avoided: staleness.reads_checked.saturating_sub(loads),
            reads_per_second: staleness.reads_checked as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            fleet: None,
        }
    }

    /// The same of a run over several instances, whose tier behind memory is Redis.
    #[must_use]
    pub fn over(mut self, fleet: FleetReport) -> Self {
        self.hits.redis = std::mem::take(&mut self.hits.disk);
        self.fleet = Some(fleet);
        self
    }

    /// Stale reads as a share of all.
    pub fn stale_share(&self) -> f64 {
        share(self.stale_reads, self.reads_checked)
    }
}

/// A part of a whole; nothing of nothing is nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Everything that one call of `larder demo` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoOutcome {
    /// The run that was asked for.
    #[serde(flatten)]
    pub main: DemoReport,
    /// The same workload over the baselines, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<DemoReport>,
}

impl DemoOutcome {
    /// All runs, the main one first.
    pub fn reports(&self) -> impl Iterator<Item = &DemoReport> {
        std::iter::once(&self.main).chain(&self.compared)
    }

    /// Whether the main run kept its promise: it was read (everywhere, where there are several instances), no read was stale
    /// and no value wrong.
    pub fn holds(&self) -> bool {
        let DemoReport { reads_checked, stale_reads, wrong_values, .. } = self.main;
        let was_read_elsewhere = self.main.fleet.as_ref().is_none_or(|fleet| fleet.cross_instance_reads_checked > 0);
        reads_checked > 0 && was_read_elsewhere && stale_reads == 0 && wrong_values == 0
    }
}
