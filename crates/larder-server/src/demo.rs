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
//! Nothing here but the implementations of [`cache::DemoCache`] knows which cache is run.

mod cache;
mod features;
mod histogram;
mod horizon;
mod keyspace;
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
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use cache::DemoCache;
use market::{Market, MarketError};
use naive::{NaiveCache, OnUpdate};
use progress::Progress;
use report::{DemoOutcome, DemoReport};
use run::{Extent, Live, RunError, Settings, Stage};

/// Time to live under delete-on-update: only a backstop there, as such caches commonly have.
const DELETE_BACKSTOP: Duration = Duration::from_secs(60);

/// What `larder demo` can be asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How long to run, for each cache
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Run the same workload on a TTL alone and on naive delete-on-update as well
    #[arg(long)]
    compare: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Tasks that read at once
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    readers: u64,
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
            extent: Extent::For(Duration::from_secs(self.seconds)),
            readers: self.readers,
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
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Market(error) => write!(f, "the bundled market data cannot be read: {error}"),
            Self::Run(error) => write!(f, "the demo stopped: {error}"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Market(error) => Some(error),
            Self::Run(error) => Some(error),
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

/// Runs a cache on a stage made for it, showing progress.
async fn play<C: DemoCache>(mode: &str, stage: &Arc<Stage>, cache: C, settings: &Settings) -> Result<DemoReport, DemoError> {
    let live = Arc::new(Live::default());
    let progress = Progress::show(mode, settings.extent, &live);
    let report = run::run(mode, &Arc::new(cache), stage, settings, &live).await;
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
        reports.push(play(mode, &stage, cache, &settings).await?);
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
fn properties() -> proptest::test_runner::Config {
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
    }

    #[test]
    fn what_cannot_run_is_refused() {
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
