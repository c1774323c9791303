//! `larder demo`: the cache's main job on real data, and the proof that it does it.
//!
//! Real market bars arrive, real features and predictions are computed from them and cached, readers read them as real
//! traffic would, and every single read is checked against the newest bar and model release that the cache had
//! acknowledged before the read began. The same workload can be run on conventional caches for comparison.
//!
//! ```text
//! market ── replay ──> feed ──(source, invalidate, acknowledge)──> world
//!                                     │                              │
//!                                     v                              v
//! workload ── key ──> reader ──> DemoCache ──(miss)──> source ── features, model
//!                        │
//!                        └──> staleness, histogram ──> report ──> print
//! ```
//!
//! Nothing here but the implementations of `cache::DemoCache` knows which cache is run: larder in this process, or a fleet of
//! servers over one Redis, or one of the conventional caches.

mod cache;
mod embedded;
mod features;
mod fleet;
mod histogram;
mod horizon;
mod keyspace;
mod larder_cache;
mod market;
mod model;
mod naive;
mod print;
mod progress;
mod report;
mod run;
mod source;
mod staleness;
mod workload;
mod world;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use crate::serve::BindError;
use crate::serve::ServeError;
use cache::DemoCache;
use embedded::{Embedded, EmbeddedError};
use fleet::{Fleet, FleetCache, FleetError};
use larder_cache::LarderCache;
use market::{Market, MarketError};
use naive::{NaiveCache, OnUpdate};
pub(crate) use print::{count, percent, plural};
use progress::Progress;
use report::{DemoOutcome, DemoReport};
use run::{Extent, Live, RunError, Settings, Stage};

/// Time to live under delete-on-update: only a backstop there, as such caches commonly have.
const DELETE_BACKSTOP: Duration = Duration::from_secs(60);

/// Readers of the cache in this process, which answer in a microsecond or so.
const READERS: u64 = 256;
/// Readers of servers over HTTP: enough to keep two cores busy; more would only wait for each other.
const READERS_OVER_HTTP: u64 = 48;

/// What `larder demo` can be asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How long to run, for each cache
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Run until so many reads were checked, however long it takes
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    reads: Option<u64>,
    /// Run the same workload on a TTL alone and on naive delete-on-update as well
    #[arg(long)]
    compare: bool,
    /// Print one JSON object. Whoever parses the command line sets this.
    #[arg(skip)]
    pub json: bool,
    /// Run over several servers that are one cache, at this Redis; "spawn" brings one of its own
    #[arg(long, value_name = "URL", conflicts_with = "compare")]
    redis: Option<String>,
    /// Servers over that Redis
    #[arg(long, value_name = "N", default_value_t = 3, requires = "redis", value_parser = clap::value_parser!(u8).range(2..=32))]
    instances: u8,
    /// Tasks that read at once [default: 256, or 48 over Redis]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    readers: Option<u64>,
    /// Bars that arrive each second, over all symbols
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    bars_per_second: u32,
    /// Time to live under TTL alone, in milliseconds [default: the mean time between two bars of a symbol]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    ttl_ms: Option<u64>,
    /// Decides hot keys, reads, arrivals and latencies
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

impl DemoArgs {
    fn settings(&self) -> Settings {
        Settings {
            extent: self.reads.map_or_else(|| Extent::For(Duration::from_secs(self.seconds)), Extent::Reads),
            readers: self.readers.unwrap_or(if self.redis.is_some() { READERS_OVER_HTTP } else { READERS }),
            bars_per_second: f64::from(self.bars_per_second),
            seed: self.seed,
            ..Settings::default()
        }
    }

    /// Whoever has nothing but a time to live sets it to how often the data change, so that is the default: shorter
    /// would hardly cache, longer would be worse still.
    fn time_to_live(&self, market: &Market) -> Duration {
        self.ttl_ms
            .map_or_else(|| Duration::from_secs_f64(market.symbols().len() as f64 / f64::from(self.bars_per_second)), Duration::from_millis)
    }
}

/// A demo that could not be finished.
#[derive(Debug)]
pub enum DemoError {
    /// The bundled data are damaged.
    Market(MarketError),
    /// A run failed.
    Run(RunError),
    /// The folder for temporary files cannot be used.
    Folder(io::Error),
    /// larder cannot be opened or closed.
    Cache(larder::Error),
    /// No loopback address can be listened on.
    Listen(BindError),
    /// larder's server did not end in order.
    Serve(ServeError),
    /// The servers over one Redis cannot be started or ended.
    Fleet(FleetError),
    /// A part of the demo itself broke.
    Broke(JoinError),
    /// The results cannot be written.
    Output(io::Error),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Market(error) => write!(f, "the bundled market data cannot be read: {error}"),
            Self::Run(error) => write!(f, "the demo stopped: {error}"),
            Self::Folder(error) => write!(f, "the demo needs a temporary folder: {error}; TMPDIR says where to look for one"),
            Self::Cache(error) => write!(f, "the demo's cache cannot be opened or closed: {error}"),
            Self::Listen(error) => write!(f, "the demo's cache cannot be served on a loopback port: {error}"),
            Self::Serve(error) => write!(f, "the demo's server did not end in order: {error}"),
            Self::Fleet(error) => error.fmt(f),
            Self::Broke(error) => write!(f, "the demo's server broke: {error}"),
            Self::Output(error) => write!(f, "the results cannot be written: {error}"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Market(error) => Some(error),
            Self::Run(error) => Some(error),
            Self::Folder(error) | Self::Output(error) => Some(error),
            Self::Listen(error) => Some(error),
            Self::Cache(error) => Some(error),
            Self::Serve(error) => Some(error),
            Self::Fleet(error) => Some(error),
            Self::Broke(error) => Some(error),
        }
    }
}

impl From<MarketError> for DemoError {
    fn from(error: MarketError) -> Self {
        Self::Market(error)
    }
}

impl From<RunError> for DemoError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<FleetError> for DemoError {
    fn from(error: FleetError) -> Self {
        Self::Fleet(error)
    }
}

impl From<EmbeddedError> for DemoError {
    fn from(error: EmbeddedError) -> Self {
        match error {
            EmbeddedError::Folder(error) => Self::Folder(error),
            EmbeddedError::Cache(error) => Self::Cache(error),
            EmbeddedError::Listen(error) => Self::Listen(error),
            EmbeddedError::Serve(error) => Self::Serve(error),
            EmbeddedError::Broke(error) => Self::Broke(error),
        }
    }
}

/// How a demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reads were checked, and none was stale or wrong.
    Held,
    /// The promise was broken, or nothing was read.
    Broken,
    /// It was stopped before it could say.
    Interrupted,
}

/// Runs the demo and prints what it found, until `stopped` is ready.
///
/// # Errors
/// Whatever keeps it from coming to a verdict.
pub async fn demonstrate(args: &DemoArgs, stopped: impl Future<Output = ()>) -> Result<Verdict, DemoError> {
    let market = Arc::new(Market::bundled()?);
    let stopped = std::pin::pin!(stopped);
    let outcome = match &args.redis {
        None => in_this_process(&market, args, stopped).await?,
        Some(redis) => over_redis(&market, redis, args, stopped).await?,
    };
    let Some(outcome) = outcome else { return Ok(Verdict::Interrupted) };
    say(&shown(&outcome, args))?;
    Ok(if outcome.holds() { Verdict::Held } else { Verdict::Broken })
}

/// Over larder in this process; nothing if it was stopped before its end.
async fn in_this_process(
    market: &Arc<Market>,
    args: &DemoArgs,
    stopped: impl Future<Output = ()>,
) -> Result<Option<DemoOutcome>, DemoError> {
    let embedded = Embedded::open().await?;
    if !args.json {
        say(&print::opening(&args.settings(), market, embedded::MEMORY_BYTES, embedded.addr()))?;
    }
    let played = tokio::select! {
        outcome = play_all(market, &embedded, args) => Some(outcome),
        () = stopped => None,
    };
    let closed = embedded.close().await;
    let outcome = played.transpose()?;
    closed?;
    Ok(outcome)
}

/// Over several servers that are one cache; nothing if it was stopped before its end.
async fn over_redis(
    market: &Arc<Market>,
    redis: &str,
    args: &DemoArgs,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<DemoOutcome>, DemoError> {
    // Dropped half started, it kills what was.
    let fleet = tokio::select! {
        fleet = Fleet::start(redis, args.instances.into()) => fleet?,
        () = &mut stopped => return Ok(None),
    };
    let addrs = fleet.addrs();
    if !args.json {
        say(&print::opening_of_fleet(&args.settings(), market, embedded::MEMORY_BYTES, &addrs, &fleet.redis()))?;
    }
    let played = tokio::select! {
        outcome = play_over(market, &addrs, args) => Some(outcome),
        () = stopped => None,
    };
    let ended = fleet.stop().await;
    let outcome = played.transpose()?;
    ended?;
    Ok(outcome)
}

async fn play_over(market: &Arc<Market>, addrs: &[SocketAddr], args: &DemoArgs) -> Result<DemoOutcome, DemoError> {
    let settings = args.settings();
    let stage = Arc::new(Stage::set(market, &settings, Instant::now()));
    let cache = Arc::new(FleetCache::over(addrs, market));
    let report = play("larder", &stage, &cache, &settings).await?;
    Ok(DemoOutcome { main: report.over(cache.report()), compared: Vec::new() })
}

fn say(text: &str) -> Result<(), DemoError> {
    writeln!(io::stdout(), "{text}").map_err(DemoError::Output)
}

/// larder, then the baselines if they were asked for.
async fn play_all(market: &Arc<Market>, embedded: &Embedded, args: &DemoArgs) -> Result<DemoOutcome, DemoError> {
    let settings = args.settings();
    let stage = Arc::new(Stage::set(market, &settings, Instant::now()));
    let cache = LarderCache::over(embedded.larder(), market).map_err(DemoError::Cache)?;
    let main = play("larder", &stage, &Arc::new(cache), &settings).await?;
    let compared = if args.compare { baselines(market, args).await? } else { Vec::new() };
    Ok(DemoOutcome { main, compared })
}

/// Runs a cache on a stage made for it, showing progress.
async fn play<C: DemoCache>(mode: &str, stage: &Arc<Stage>, cache: &Arc<C>, settings: &Settings) -> Result<DemoReport, DemoError> {
    let live = Arc::new(Live::default());
    let progress = Progress::show(mode, settings.extent, &live);
    let report = run::run(mode, cache, stage, settings, &live).await;
    drop(progress);
    Ok(report?)
}

/// The same workload over the conventional caches.
async fn baselines(market: &Arc<Market>, args: &DemoArgs) -> Result<Vec<DemoReport>, DemoError> {
    let modes = [("TTL only", OnUpdate::Ignore, args.time_to_live(market)), ("delete on update", OnUpdate::Delete, DELETE_BACKSTOP)];
    let settings = args.settings();
    let mut reports = Vec::new();
    for (mode, on_update, time_to_live) in modes {
        let stage = Arc::new(Stage::set(market, &settings, Instant::now()));
        let cache = NaiveCache::new(Arc::clone(&stage.keyspace), on_update, time_to_live);
        reports.push(play(mode, &stage, &Arc::new(cache), &settings).await?);
    }
    Ok(reports)
}

/// What the demo prints, as the arguments ask for it.
fn shown(outcome: &DemoOutcome, args: &DemoArgs) -> String {
    if args.json {
        let json = serde_json::to_string_pretty(outcome);
        json.expect("a report has only finite numbers, texts and lists")
    } else {
        print::outcome(outcome)
    }
}

/// The seed of a randomised test: `LARDER_SEED` if it is set, else a new one. Tests say it when they fail.
#[cfg(test)]
fn seed() -> u64 {
    let seed = match std::env::var("LARDER_SEED") {
        Ok(text) => text.parse().expect("LARDER_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    // The harness shows this when the test fails, and only then.
    eprintln!("LARDER_SEED={seed}");
    seed
}

/// Property tests draw from the same seed, which repeats a failure, so that no file of failures is needed.
#[cfg(test)]
pub(crate) fn properties() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(line: &[&str]) -> Result<DemoArgs, clap::Error> {
        let command = DemoArgs::augment_args(Command::new("demo").no_binary_name(true));
        command.clone().debug_assert();
        DemoArgs::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    #[test]
    fn the_default_time_to_live_is_a_bars() {
        let market = Market::bundled().expect("the bundled files parse");
        let args = parse(&[]).expect("everything has a default");
        assert_eq!(args.time_to_live(&market), Duration::from_millis(110));
        let args = parse(&["--ttl-ms", "50", "--seconds", "3"]).expect("both are in range");
        assert_eq!(args.time_to_live(&market), Duration::from_millis(50));
        assert_eq!(args.settings().extent, Extent::For(Duration::from_secs(3)));
        let args = parse(&["--reads", "1000000"]).expect("it is in range");
        assert_eq!(args.settings().extent, Extent::Reads(1_000_000));
        assert_eq!(args.settings().readers, READERS);
        let args = parse(&["--redis", "spawn"]).expect("three servers unless told otherwise");
        assert_eq!((args.settings().readers, args.instances), (READERS_OVER_HTTP, 3));
    }

    #[test]
    fn what_cannot_run_is_refused() {
        assert_eq!(parse(&["--instances", "3"]).expect_err("of what").kind(), clap::error::ErrorKind::MissingRequiredArgument);
        assert_eq!(parse(&["--redis", "spawn", "--compare"]).expect_err("over HTTP").kind(), clap::error::ErrorKind::ArgumentConflict);
        for line in [["--seconds", "0"], ["--readers", "0"], ["--bars-per-second", "0"], ["--ttl-ms", "0"]] {
            let error = parse(&line).expect_err("zero makes no sense");
            assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation, "{line:?}");
        }
    }

    /// The arguments, the baselines and both ways to print, on the real clock as a user runs them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_baselines_are_played_and_shown() {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let mut args = parse(&["--seconds", "1", "--bars-per-second", "1000"]).expect("both are in range");
        args.seed = seed();
        let mut reports = baselines(&market, &args).await.expect("the baselines cannot fail");
        for report in &reports {
            assert!(report.stale_reads > 0, "{report:#?}");
            assert!(report.stale_reads < report.reads_checked, "{report:#?}");
            assert_eq!(report.wrong_values, 0, "{report:#?}");
        }
        let outcome = DemoOutcome { main: reports.remove(0), compared: reports };
        assert!(!outcome.holds());
        assert!(shown(&outcome, &args).contains("STALE READS"));
        args.json = true;
        let json: serde_json::Value = serde_json::from_str(&shown(&outcome, &args)).expect("it is one object");
        assert_eq!(json["stale_reads"], outcome.main.stale_reads);
        assert_eq!(json["compared"][0]["mode"], "delete on update");
    }
}
