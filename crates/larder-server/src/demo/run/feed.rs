//! The feeds: bars and releases at random moments, each told to the source first, then to the cache, then acknowledged.
//!
//! Moments are drawn as a Poisson process, because that is how updates come: sometimes two in a breath, so that the
//! second overtakes the loads that the first set off.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::super::cache::{DemoCache, Told};
use super::super::market::{Bar, Day, Replay};
use super::super::model::ModelId;
use super::{Live, RunError, Stage};

/// Longer than any run: the gap of a feed whose rate is zero.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What the feeds did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedTally {
    /// Bars that arrived.
    pub bars: u64,
    /// Models that were released.
    pub releases: u64,
    /// Invalidations that the cache made of them.
    pub invalidations: u64,
    /// Computed values that they made wrong.
    pub entries_made_stale: u64,
    /// The first day played.
    pub first_day: Option<Day>,
    /// The last day played (the latest of all lanes).
    pub last_day: Option<Day>,
}

impl FeedTally {
    /// Adds another feed's counts.
    pub fn merge(&mut self, other: Self) {
        self.bars += other.bars;
        self.releases += other.releases;
        self.invalidations += other.invalidations;
        self.entries_made_stale += other.entries_made_stale;
        self.first_day = [self.first_day, other.first_day].into_iter().flatten().min();
        self.last_day = self.last_day.max(other.last_day);
    }
}

/// One task that feeds.
pub struct Feed<C> {
    cache: Arc<C>,
    stage: Arc<Stage>,
    live: Arc<Live>,
    stopped: watch::Receiver<bool>,
    random: fastrand::Rng,
    lane: usize,
    tally: FeedTally,
}

impl<C: DemoCache> Feed<C> {
    /// The feed of one lane, with dice of its own.
    pub fn new(cache: &Arc<C>, stage: &Arc<Stage>, live: &Arc<Live>, stopped: &watch::Receiver<bool>, seed: u64, lane: usize) -> Self {
        // Readers use the seeds that follow the run's own; the feeds stay clear of them.
        let random = fastrand::Rng::with_seed(!seed.wrapping_add(lane as u64));
        let (cache, stage, live) = (Arc::clone(cache), Arc::clone(stage), Arc::clone(live));
        Self { cache, stage, live, stopped: stopped.clone(), random, lane, tally: FeedTally::default() }
    }

    /// Plays the bars of its lane until it is told to stop.
    pub async fn play_bars(mut self, bars_per_second: f64, lanes: usize) -> Result<FeedTally, RunError> {
        let replay = Replay::new(Arc::clone(&self.stage.market), self.stage.place, self.lane, lanes);
        let of_lane = self.stage.market.symbols().filter(|symbol| symbol.index() % lanes == self.lane).count();
        let rate = bars_per_second * of_lane as f64 / self.stage.market.symbols().len() as f64;
        let mut due = Instant::now();
        for bar in replay {
            due += self.gap(rate);
            if self.stopped_before(due).await {
                break;
            }
            self.bar(bar).await?;
        }
        Ok(self.tally)
    }

    /// Releases models until it is told to stop.
    pub async fn play_releases(mut self, releases_per_second: f64) -> Result<FeedTally, RunError> {
        let models: Vec<ModelId> = ModelId::all().collect();
        let mut due = Instant::now();
        loop {
            due += self.gap(releases_per_second);
            if self.stopped_before(due).await {
                return Ok(self.tally);
            }
            let model = models[self.random.usize(..models.len())];
            self.release(model).await?;
        }
    }

    async fn bar(&mut self, bar: Bar) -> Result<(), RunError> {
        let number = self.stage.world.bar_arrived(bar.symbol);
        self.tally.entries_made_stale += self.stage.source.superseded(self.stage.keyspace.of_symbol(bar.symbol));
        let told = self.cache.on_bar(bar.symbol).await.map_err(|error| self.failed(self.stage.market.name(bar.symbol), error))?;
        self.stage.world.bar_acknowledged(bar.symbol, number, Instant::now());
        self.tally.bars += 1;
        self.tally.invalidations += told.invalidations;
        self.tally.first_day.get_or_insert(bar.day);
        self.tally.last_day = self.tally.last_day.max(Some(bar.day));
        Live::add(&self.live.bars, 1);
        if self.settles(told).await.map_err(|error| self.failed(self.stage.market.name(bar.symbol), error))? {
            self.stage.world.bar_settled(bar.symbol, number);
        }
        Ok(())
    }

    async fn release(&mut self, model: ModelId) -> Result<(), RunError> {
        let release = self.stage.world.model_released(model);
        self.tally.entries_made_stale += self.stage.source.superseded(self.stage.keyspace.of_model(model));
        let told = self.cache.on_model(model).await.map_err(|error| self.failed(&model.line().to_string(), error))?;
        self.stage.world.model_acknowledged(model, release, Instant::now());
        self.tally.releases += 1;
        self.tally.invalidations += told.invalidations;
        Live::add(&self.live.releases, 1);
        if self.settles(told).await.map_err(|error| self.failed(&model.line().to_string(), error))? {
            self.stage.world.model_settled(model, release);
        }
        Ok(())
    }

    /// Whether every instance obeys what the cache was told; waits until they do.
    async fn settles(&self, told: Told) -> Result<bool, C::Error> {
        match told.unsettled {
            None => Ok(true),
            Some(position) => self.cache.settle(position).await,
        }
    }

    fn failed(&self, subject: &str, error: C::Error) -> RunError {
        RunError::Invalidate { subject: subject.to_owned(), error: Box::new(error) }
    }

    /// The time to the next event of a Poisson process.
    fn gap(&mut self, per_second: f64) -> Duration {
        let seconds = -(1.0 - self.random.f64()).ln() / per_second;
        Duration::try_from_secs_f64(seconds).map_or(NEVER, |gap| gap.min(NEVER))
    }

    async fn stopped_before(&mut self, due: Instant) -> bool {
        tokio::select! {
            biased;
            // An error means that the run itself is gone, which is as good as a stop.
            _ = self.stopped.wait_for(|stopped| *stopped) => true,
            () = sleep_until(due) => false,
        }
    }
}
