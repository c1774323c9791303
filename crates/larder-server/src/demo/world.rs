//! The ground truth that reads are checked against: which bar of each symbol and which release of each model line is
//! the newest, and which the cache has been told of.
//!
//! ```text
//! a bar arrives:   current := n   ->   cache.on_bar(..) returns   ->   acknowledged := n   ->   all obey   ->   settled := n
//! a read begins:   expected := acknowledged ...... the value is stale iff its bar < expected
//! a load runs:     reads current
//! ```
//!
//! Where one cache has many instances, a read that names no position can be held only to what every instance was known to
//! obey when it began: its expected is `settled`.
//!
//! Only what was acknowledged *before* a read began is held against it: a cache cannot know of a change whose
//! invalidation has not returned. Histories are numbers, not lists: the closes themselves stay in the market.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::keyspace::{Key, Kind};
use super::market::{Market, SymbolId};
use super::model::ModelId;

/// What a value was made from, or what it should have been made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The newest bar.
    pub bar: u64,
    /// The model's release, for what depends on a model.
    pub release: Option<u64>,
}

/// How many of the latest acknowledgements of each track keep their time, to tell how long a stale value had been
/// superseded. Values further behind are reported as behind by at least this many.
const TIMES_KEPT: u64 = 1_024;

/// One thing that changes by steps: the bars of a symbol, or the releases of a line.
#[derive(Debug)]
struct Track {
    current: AtomicU64,
    acknowledged: AtomicU64,
    settled: AtomicU64,
    /// When the latest steps were acknowledged, in nanoseconds since the world began, at `step % TIMES_KEPT`.
    times: Box<[AtomicU64]>,
}

impl Track {
    fn starting_at(step: u64) -> Self {
        Self {
            current: AtomicU64::new(step),
            acknowledged: AtomicU64::new(step),
            settled: AtomicU64::new(step),
            times: (0..TIMES_KEPT).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn advance(&self) -> u64 {
        self.current.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    fn settle(&self, step: u64) {
        self.settled.fetch_max(step, Ordering::Release);
    }

    /// The time goes in before the step, so that whoever sees the step sees its time.
    fn acknowledge(&self, step: u64, nanos: u64) {
        self.time(step).store(nanos, Ordering::Relaxed);
        self.acknowledged.fetch_max(step, Ordering::Release);
    }

    /// When the step after `held` was acknowledged; for one too long ago, when the oldest kept was.
    fn superseded_at(&self, held: u64) -> u64 {
        let oldest_kept = self.acknowledged().saturating_sub(TIMES_KEPT - 1);
        self.time((held + 1).max(oldest_kept)).load(Ordering::Relaxed)
    }

    fn time(&self, step: u64) -> &AtomicU64 {
        &self.times[usize::try_from(step % TIMES_KEPT).expect("TIMES_KEPT is small")]
    }
}

/// The market as far as it has happened, and the models as far as they were released.
#[derive(Debug)]
pub struct World {
    market: Arc<Market>,
    began: Instant,
    symbols: Vec<Track>,
    models: Vec<Track>,
}

impl World {
    /// A world in which the bars before `place` (of [`Market::bars`]) have happened and each line has its first
    /// release, all of it acknowledged.
    pub fn starting_at(market: Arc<Market>, place: usize, now: Instant) -> Self {
        let mut happened = vec![0; market.symbols().len()];
        for bar in &market.bars()[..place] {
            happened[bar.symbol.index()] += 1;
        }
        Self {
            market,
            began: now,
            symbols: happened.into_iter().map(Track::starting_at).collect(),
            models: ModelId::all().map(|_| Track::starting_at(1)).collect(),
        }
    }

    /// The market it plays.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// The next bar of the symbol is there: the source has changed. Returns its number.
    pub fn bar_arrived(&self, symbol: SymbolId) -> u64 {
        self.symbols[symbol.index()].advance()
    }

    /// The invalidation for that bar has returned.
    pub fn bar_acknowledged(&self, symbol: SymbolId, bar: u64, now: Instant) {
        self.symbols[symbol.index()].acknowledge(bar, self.nanos(now));
    }

    /// Every instance obeys the invalidation for that bar.
    pub fn bar_settled(&self, symbol: SymbolId, bar: u64) {
        self.symbols[symbol.index()].settle(bar);
    }

    /// The line was retrained: the source has changed. Returns the release.
    pub fn model_released(&self, model: ModelId) -> u64 {
        self.models[model.index()].advance()
    }

    /// The invalidation for that release has returned.
    pub fn model_acknowledged(&self, model: ModelId, release: u64, now: Instant) {
        self.models[model.index()].acknowledge(release, self.nanos(now));
    }

    /// Every instance obeys the invalidation for that release.
    pub fn model_settled(&self, model: ModelId, release: u64) {
        self.models[model.index()].settle(release);
    }

    /// What a load of the key that reads the source now would find.
    pub fn current(&self, key: &Key) -> AsOf {
        self.at(key, Track::current)
    }

    /// The oldest that a read of the key which begins now may return.
    pub fn acknowledged(&self, key: &Key) -> AsOf {
        self.at(key, Track::acknowledged)
    }

    /// The oldest that a read of the key may return which begins now, at any instance.
    pub fn settled(&self, key: &Key) -> AsOf {
        self.at(key, Track::settled)
    }

    fn at(&self, key: &Key, step: impl Fn(&Track) -> u64) -> AsOf {
        let release = match key.kind {
            Kind::Features => None,
            Kind::Prediction(model) => Some(step(&self.models[model.index()])),
        };
        AsOf { bar: step(&self.symbols[key.symbol.index()]), release }
    }

    /// For how long, at `now`, the cache had known that a bar after this one exists.
    pub fn bar_superseded_for(&self, symbol: SymbolId, bar: u64, now: Instant) -> Duration {
        self.since(self.symbols[symbol.index()].superseded_at(bar), now)
    }

    /// For how long, at `now`, the cache had known that a release after this one exists.
    pub fn release_superseded_for(&self, model: ModelId, release: u64, now: Instant) -> Duration {
        self.since(self.models[model.index()].superseded_at(release), now)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn since(&self, nanos: u64, now: Instant) -> Duration {
        Duration::from_nanos(self.nanos(now).saturating_sub(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyspace::Keyspace;
    use super::*;

    fn world(days: usize) -> (World, Keyspace, Instant) {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let keyspace = Keyspace::of(&market);
        let now = Instant::now();
        (World::starting_at(Arc::clone(&market), market.place_after_days(days), now), keyspace, now)
    }

    #[test]
    fn history_is_there_at_the_start() {
        let (world, keyspace, _) = world(5_000);
        let key = &keyspace.keys()[1];
        assert_eq!(world.current(key), AsOf { bar: 5_000, release: Some(1) });
        assert_eq!(world.acknowledged(key), world.current(key));
        assert_eq!(world.current(&keyspace.keys()[0]).release, None);
    }

    #[test]
    fn a_change_counts_once_it_is_acknowledged() {
        let (world, keyspace, now) = world(100);
        let key = &keyspace.keys()[1];
        let Kind::Prediction(model) = key.kind else { panic!("the second key is a prediction") };
        let bar = world.bar_arrived(key.symbol);
        let release = world.model_released(model);
        assert_eq!(world.current(key), AsOf { bar: 101, release: Some(2) });
        assert_eq!(world.acknowledged(key), AsOf { bar: 100, release: Some(1) });
        world.bar_acknowledged(key.symbol, bar, now);
        world.model_acknowledged(model, release, now);
        assert_eq!(world.acknowledged(key), world.current(key));
        assert_eq!(world.settled(key), AsOf { bar: 100, release: Some(1) });
        world.bar_settled(key.symbol, bar);
        world.model_settled(model, release);
        assert_eq!(world.settled(key), world.current(key));
    }

    #[test]
    fn an_older_acknowledgement_takes_nothing_back() {
        let (world, keyspace, now) = world(100);
        let key = &keyspace.keys()[0];
        let (first, second) = (world.bar_arrived(key.symbol), world.bar_arrived(key.symbol));
        world.bar_acknowledged(key.symbol, second, now);
        world.bar_acknowledged(key.symbol, first, now);
        assert_eq!(world.acknowledged(key).bar, second);
    }

    #[test]
    fn the_time_since_a_bar_was_superseded_is_that_of_the_next_bar() {
        let (world, keyspace, began) = world(100);
        let symbol = keyspace.keys()[0].symbol;
        for second in 1..=3 {
            let bar = world.bar_arrived(symbol);
            world.bar_acknowledged(symbol, bar, began + Duration::from_secs(second));
        }
        let now = began + Duration::from_secs(10);
        assert_eq!(world.bar_superseded_for(symbol, 100, now), Duration::from_secs(9));
        assert_eq!(world.bar_superseded_for(symbol, 102, now), Duration::from_secs(7));
        // Far behind: the oldest time still kept stands in, and understates.
        for _ in 0..TIMES_KEPT {
            let bar = world.bar_arrived(symbol);
            world.bar_acknowledged(symbol, bar, began + Duration::from_secs(5));
        }
        assert_eq!(world.bar_superseded_for(symbol, 100, now), Duration::from_secs(5));
    }
}
