//! The slow origin behind the cache: a database and a model server in one.
//!
//! A load reads the world *first*, then takes its time, then returns. That is what a real query does, and it is the
//! moment in which a change can overtake a load.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::features::Features;
use super::horizon::Horizon;
use super::keyspace::{Key, KeyId, Keyspace, Kind};
use super::model::Prediction;
use super::world::{AsOf, World};

/// What the demo caches.
///
/// Values are compared for equality with recomputed ones, so a cache must give back every bit of a number.
pub trait DemoValue: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The value of the key as of some bar and release.
    fn compute(world: &World, key: &Key, as_of: AsOf) -> Self;

    /// What it was made from.
    fn as_of(&self) -> AsOf;
}

impl DemoValue for Features {
    fn compute(world: &World, key: &Key, as_of: AsOf) -> Self {
        let market = world.market();
        let closes = market.window(key.symbol, as_of.bar, key.horizon.stride(), Horizon::WINDOW);
        Self::over(market.name(key.symbol), key.horizon, as_of.bar, &closes)
    }

    fn as_of(&self) -> AsOf {
        AsOf { bar: self.bar, release: None }
    }
}

impl DemoValue for Prediction {
    fn compute(world: &World, key: &Key, as_of: AsOf) -> Self {
        let (Kind::Prediction(model), Some(release)) = (key.kind, as_of.release) else {
            unreachable!("{} is not the key of a prediction", key.name);
        };
        Self::from_features(model.line(), release, &Features::compute(world, key, as_of))
    }

    fn as_of(&self) -> AsOf {
        AsOf { bar: self.bar, release: Some(self.release) }
    }
}

/// Where values come from when the cache has none.
#[derive(Debug)]
pub struct Source {
    world: Arc<World>,
    keyspace: Arc<Keyspace>,
    latency: RangeInclusive<Duration>,
    seed: u64,
    loads: AtomicU64,
    /// For each key, whether it was computed since the last change to what it hangs on.
    computed: Box<[AtomicBool]>,
}

impl Source {
    /// A source whose loads take somewhere within `latency`, drawn from `seed`.
    pub fn new(world: Arc<World>, keyspace: Arc<Keyspace>, latency: RangeInclusive<Duration>, seed: u64) -> Self {
        let computed = keyspace.keys().iter().map(|_| AtomicBool::new(false)).collect();
        Self { world, keyspace, latency, seed, loads: AtomicU64::new(0), computed }
    }

    /// Loads the value of a key.
    pub async fn load<V: DemoValue>(self: Arc<Self>, key: KeyId) -> V {
        let key = self.keyspace.key(key);
        let latency = self.draw_latency(self.loads.fetch_add(1, Ordering::Relaxed));
        // Marked before the world is read: a change that this load misses finds the mark and counts its value.
        self.computed[key.id.index()].store(true, Ordering::Release);
        let value = V::compute(&self.world, key, self.world.current(key));
        // The wait stands for a slow query or model, and lies between reading the source and answering on purpose.
        tokio::time::sleep(latency).await;
        value
    }

    fn draw_latency(&self, load: u64) -> Duration {
        let (shortest, longest) = (*self.latency.start(), *self.latency.end());
        let share = fastrand::Rng::with_seed(self.seed.wrapping_add(load)).f64();
        shortest + longest.saturating_sub(shortest).mul_f64(share)
    }

    /// How many loads have begun.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// After a change: how many of these keys had been computed, and so hold what the change made wrong. They are not
    /// counted again until they are computed again.
    pub fn superseded(&self, keys: &[KeyId]) -> u64 {
        let was_computed = |key: &&KeyId| self.computed[key.index()].swap(false, Ordering::AcqRel);
        keys.iter().filter(was_computed).map(|_| 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::market::Market;
    use super::*;

    fn source(latency: RangeInclusive<Duration>) -> Arc<Source> {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let keyspace = Arc::new(Keyspace::of(&market));
        let place = market.place_after_days(5_000);
        let world = Arc::new(World::starting_at(market, place, Instant::now()));
        Arc::new(Source::new(world, keyspace, latency, 7))
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_answers_with_what_it_read_before_the_wait() {
        let source = source(Duration::from_millis(50)..=Duration::from_millis(50));
        let (key, symbol) = (source.keyspace.keys()[0].id, source.keyspace.keys()[0].symbol);
        let load = tokio::spawn(Arc::clone(&source).load::<Features>(key));
        while source.loads() == 0 {
            tokio::task::yield_now().await;
        }
        source.world.bar_arrived(symbol);
        let value = load.await.expect("the load does not panic");
        assert_eq!(value.bar, 5_000);
        assert_eq!(source.world.current(source.keyspace.key(key)).bar, 5_001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_the_keys_that_were_computed() {
        let source = source(Duration::ZERO..=Duration::ZERO);
        let first = source.keyspace.keys()[0].clone();
        let keys = source.keyspace.of_symbol(first.symbol);
        assert_eq!(source.superseded(keys), 0);
        Arc::clone(&source).load::<Features>(first.id).await;
        Arc::clone(&source).load::<Prediction>(keys[1]).await;
        assert_eq!(source.superseded(keys), 2);
        assert_eq!(source.superseded(keys), 0);
    }

    #[test]
    fn latencies_fill_their_range_and_can_be_repeated() {
        let (shortest, longest) = (Duration::from_micros(200), Duration::from_millis(5));
        let source = source(shortest..=longest);
        let drawn: Vec<Duration> = (0..1_000).map(|load| source.draw_latency(load)).collect();
        assert!(drawn.iter().all(|latency| (shortest..=longest).contains(latency)));
        let mean = drawn.iter().sum::<Duration>() / 1_000;
        assert!((2_300..2_900).contains(&mean.as_micros()), "mean {mean:?}");
        assert_eq!(drawn, (0..1_000).map(|load| source.draw_latency(load)).collect::<Vec<_>>());
    }

    #[test]
    fn every_value_can_be_computed_from_the_bundled_data() {
        let source = source(Duration::ZERO..=Duration::ZERO);
        for key in source.keyspace.keys() {
            let as_of = source.world.current(key);
            match key.kind {
                Kind::Features => {
                    let features = Features::compute(&source.world, key, as_of);
                    assert_eq!(features.as_of(), as_of);
                    assert!(features.rsi_14.is_some_and(|rsi| (0.0..=100.0).contains(&rsi)), "{features:?}");
                }
                Kind::Prediction(_) => {
                    let prediction = Prediction::compute(&source.world, key, as_of);
                    assert_eq!(prediction.as_of(), as_of);
                    assert!(prediction.score.abs() <= 1.0 && prediction.expected_return.is_finite());
                }
            }
        }
    }
}
