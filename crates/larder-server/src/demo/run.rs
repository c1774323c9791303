//! One run of the demo over one cache: readers, feeds and releases side by side, and what came of it.
//!
//! ```text
//! feed lanes   bar -> world (source first) -> cache.on_bar -> acknowledged
//! releases     retrain -> world -> cache.on_model -> acknowledged
//! readers      expected := acknowledged -> cache read -> verdict, latency, tally
//! ```

mod feed;
mod reader;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::cache::DemoCache;
use super::keyspace::Keyspace;
use super::market::Market;
use super::report::DemoReport;
use super::source::Source;
use super::workload::Workload;
use super::world::World;
pub use feed::FeedTally;
pub use reader::ReaderTally;

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// After this time.
    For(Duration),
    /// After this many reads.
    Reads(u64),
}

/// How a run is played.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When it is over.
    pub extent: Extent,
    /// Tasks that read.
    pub readers: u64,
    /// How long a reader rests after each read; `None` reads as fast as the machine can.
    pub rest: Option<Duration>,
    /// Bars that arrive each second, over all symbols, at random moments.
    pub bars_per_second: f64,
    /// Feeds side by side, each with its own symbols.
    pub lanes: usize,
    /// Model releases each second, at random moments.
    pub releases_per_second: f64,
    /// How long the source takes to answer; the runtime's timers round it up to a whole millisecond.
    pub source_latency: RangeInclusive<Duration>,
    /// Days of trading that have happened when the run begins.
    pub history_days: usize,
    /// Decides hot keys, reads, arrivals and latencies.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extent: Extent::For(Duration::from_secs(10)),
            readers: 128,
            rest: None,
            bars_per_second: 200.0,
            lanes: 4,
            releases_per_second: 4.0,
            source_latency: Duration::from_micros(200)..=Duration::from_millis(5),
            // Twenty years: enough for the quarterly window of every symbol that still trades.
            history_days: 5_000,
            seed: 42,
        }
    }
}

/// A world of its own for one run, and what reads it.
#[derive(Debug)]
pub struct Stage {
    /// The data it plays.
    pub market: Arc<Market>,
    /// The keys read.
    pub keyspace: Arc<Keyspace>,
    /// The truth.
    pub world: Arc<World>,
    /// Where values come from.
    pub source: Arc<Source>,
    workload: Workload,
    /// Where in the market's bars the replay begins.
    place: usize,
}

impl Stage {
    /// Sets the stage at the beginning of the replay.
    pub fn set(market: &Arc<Market>, settings: &Settings, now: Instant) -> Self {
        let keyspace = Arc::new(Keyspace::of(market));
        let place = market.place_after_days(settings.history_days);
        let world = Arc::new(World::starting_at(Arc::clone(market), place, now));
        let latency = settings.source_latency.clone();
        let source = Source::new(Arc::clone(&world), Arc::clone(&keyspace), latency, settings.seed);
        let workload = Workload::over(&keyspace, settings.seed);
        Self { market: Arc::clone(market), keyspace, world, source: Arc::new(source), workload, place }
    }
}

/// What a run has done so far, for those who watch it.
#[derive(Debug, Default)]
pub struct Live {
    /// Reads checked.
    pub reads: AtomicU64,
    /// Reads answered by a tier.
    pub hits: AtomicU64,
    /// Reads found stale.
    pub stale: AtomicU64,
    /// Bars that arrived.
    pub bars: AtomicU64,
    /// Model releases.
    pub releases: AtomicU64,
}

impl Live {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// A run that could not be finished.
#[derive(Debug)]
pub enum RunError {
    /// The cache failed a read.
    Read {
        /// The name of the key.
        key: String,
        /// What the cache said.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The cache failed an invalidation.
    Invalidate {
        /// The symbol or model line.
        subject: String,
        /// What the cache said.
        error: Box<dyn Error + Send + Sync>,
    },
    /// A part of the demo itself broke.
    Task(JoinError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { key, error } => write!(f, "reading {key}: {error}"),
            Self::Invalidate { subject, error } => {
                write!(f, "invalidating what depends on {subject}: {error}")
            }
            Self::Task(error) => write!(f, "a task of the demo broke: {error}"),
        }
    }
}

impl Error for RunError {}

/// Plays the demo over a cache that is empty, on a stage freshly set.
///
/// # Errors
/// The first failure of the cache ends the run.
pub async fn run<C: DemoCache>(
    mode: &str,
    cache: &Arc<C>,
    stage: &Arc<Stage>,
    settings: &Settings,
    live: &Arc<Live>,
) -> Result<DemoReport, RunError> {
    let began = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let mut feeds = JoinSet::new();
    for lane in 0..settings.lanes {
        let feed = feed::Feed::new(cache, stage, live, &stopped, settings.seed, lane);
        feeds.spawn(feed.play_bars(settings.bars_per_second, settings.lanes));
    }
    let releases = feed::Feed::new(cache, stage, live, &stopped, settings.seed, settings.lanes);
    feeds.spawn(releases.play_releases(settings.releases_per_second));
    let mut readers = JoinSet::new();
    for number in 0..settings.readers {
        let until = reader::Until::of(settings, number, began);
        let reader = reader::Reader::new(&cache.for_reader(number), stage, live, settings.seed.wrapping_add(number));
        readers.spawn(reader.read_until(until, settings.rest, stopped.clone()));
    }
    drop(stopped);

    let read = join::<ReaderTally>(&mut readers, &stop, ReaderTally::merge).await;
    let elapsed = began.elapsed();
    stop.send_replace(true);
    let fed = join::<FeedTally>(&mut feeds, &stop, FeedTally::merge).await;
    // A feed that fails stops the readers, so its error is the cause where there are both.
    let (fed, read) = (fed?, read?);
    Ok(DemoReport::of(mode, settings, stage, elapsed, &read, &fed))
}

/// Waits for all tasks and merges what they tell; the first failure stops everyone.
async fn join<T: Default + 'static>(
    tasks: &mut JoinSet<Result<T, RunError>>,
    stop: &watch::Sender<bool>,
    merge: impl Fn(&mut T, T),
) -> Result<T, RunError> {
    let mut all = T::default();
    let mut failed = None;
    while let Some(ended) = tasks.join_next().await {
        match ended.map_err(RunError::Task).and_then(|result| result) {
            Ok(one) => merge(&mut all, one),
            Err(error) => {
                stop.send_replace(true);
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(all), Err)
}
