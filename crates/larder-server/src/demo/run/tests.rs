//! Whole runs over caches of known quality: the driver must find the stale reads of those that serve them, and none
//! in those that cannot.
//!
//! They run on a paused clock in one thread: a run takes no real time, and the same seed gives the same run.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use larder::Position;

use super::super::cache::{Answer, HeldTo, Served, Told};
use super::super::features::Features;
use super::super::keyspace::{Key, KeyId, Kind};
use super::super::market::SymbolId;
use super::super::model::{ModelId, Prediction};
use super::super::naive::{NaiveCache, OnUpdate};
use super::super::seed;
use super::super::source::DemoValue;
use super::*;

/// Loads every value anew: never stale, never fast.
struct NoCache;

impl DemoCache for NoCache {
    type Held<V: DemoValue> = Box<V>;
    type Error = Infallible;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Box<Features>>, Infallible> {
        let value = Box::new(Arc::clone(source).load(key.id).await);
        Ok(Answer { value, served: Served::Loaded })
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Box<Prediction>>, Infallible> {
        let value = Box::new(Arc::clone(source).load(key.id).await);
        Ok(Answer { value, served: Served::Loaded })
    }

    async fn on_bar(&self, _: SymbolId) -> Result<Told, Infallible> {
        Ok(Told::everyone(1))
    }

    async fn on_model(&self, _: ModelId) -> Result<Told, Infallible> {
        Ok(Told::everyone(1))
    }
}

/// The rule that larder stands on, in its smallest form: a value is stamped with the number of invalidations that its
/// names had seen *before* its load began, and is stale once there are more.
///
/// It shows that a cache which hits nearly always can pass the check, so what the baselines fail is not the check.
#[derive(Default)]
struct Stamped {
    invalidated: Mutex<Invalidated>,
    features: Mutex<HashMap<KeyId, (Stamp, Arc<Features>)>>,
    predictions: Mutex<HashMap<KeyId, (Stamp, Arc<Prediction>)>>,
    /// Set to take the stamp after the load, which is the mistake that this cache is otherwise free of.
    stamp_too_late: AtomicBool,
}

type Stamp = (u64, u64);

#[derive(Default)]
struct Invalidated {
    symbols: HashMap<SymbolId, u64>,
    models: HashMap<ModelId, u64>,
}

impl Stamped {
    fn stamp(&self, key: &Key) -> Stamp {
        let invalidated = self.invalidated.lock().expect("no test panics inside");
        let of_symbol = invalidated.symbols.get(&key.symbol).copied();
        let of_model = match key.kind {
            Kind::Features => None,
            Kind::Prediction(model) => invalidated.models.get(&model).copied(),
        };
        (of_symbol.unwrap_or(0), of_model.unwrap_or(0))
    }

    async fn read<V: DemoValue>(
        &self,
        entries: &Mutex<HashMap<KeyId, (Stamp, Arc<V>)>>,
        key: &Key,
        source: &Arc<Source>,
    ) -> Result<Answer<Arc<V>>, Infallible> {
        let before = self.stamp(key);
        let held = entries.lock().expect("no test panics inside").get(&key.id).cloned();
        if let Some((stamp, value)) = held
            && stamp == before
        {
            return Ok(Answer { value, served: Served::Memory });
        }
        let value = Arc::new(Arc::clone(source).load::<V>(key.id).await);
        let stamp = if self.stamp_too_late.load(Ordering::Relaxed) { self.stamp(key) } else { before };
        entries.lock().expect("no test panics inside").insert(key.id, (stamp, Arc::clone(&value)));
        Ok(Answer { value, served: Served::Loaded })
    }
}

impl DemoCache for Stamped {
    type Held<V: DemoValue> = Arc<V>;
    type Error = Infallible;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Features>>, Infallible> {
        self.read(&self.features, key, source).await
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Prediction>>, Infallible> {
        self.read(&self.predictions, key, source).await
    }

    async fn on_bar(&self, symbol: SymbolId) -> Result<Told, Infallible> {
        *self.invalidated.lock().expect("no test panics inside").symbols.entry(symbol).or_default() += 1;
        Ok(Told::everyone(1))
    }

    async fn on_model(&self, model: ModelId) -> Result<Told, Infallible> {
        *self.invalidated.lock().expect("no test panics inside").models.entry(model).or_default() += 1;
        Ok(Told::everyone(1))
    }
}

/// Two instances that are read by turns, of which one is told of bars. The other obeys when a change is settled, or is only
/// said to.
struct Pair {
    told: Stamped,
    other: Stamped,
    /// Bars that the other has not heard of.
    pending: Mutex<Vec<SymbolId>>,
    obeys: bool,
    reads: AtomicUsize,
}

impl Pair {
    fn new(obeys: bool) -> Self {
        Self { told: Stamped::default(), other: Stamped::default(), pending: Mutex::default(), obeys, reads: AtomicUsize::new(0) }
    }

    fn next(&self) -> &Stamped {
        if self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { &self.told } else { &self.other }
    }
}

impl DemoCache for Pair {
    type Held<V: DemoValue> = Arc<V>;
    type Error = Infallible;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Features>>, Infallible> {
        self.next().features(key, source).await
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> Result<Answer<Arc<Prediction>>, Infallible> {
        self.next().prediction(key, source).await
    }

    async fn on_bar(&self, symbol: SymbolId) -> Result<Told, Infallible> {
        self.told.on_bar(symbol).await?;
        self.pending.lock().expect("no test panics inside").push(symbol);
        Ok(Told { invalidations: 1, unsettled: Some("00000000000000ab-1".parse().expect("it is a position")) })
    }

    async fn on_model(&self, model: ModelId) -> Result<Told, Infallible> {
        self.told.on_model(model).await?;
        self.other.on_model(model).await
    }

    async fn settle(&self, _: Position) -> Result<bool, Infallible> {
        let pending = std::mem::take(&mut *self.pending.lock().expect("no test panics inside"));
        for symbol in pending.into_iter().filter(|_| self.obeys) {
            self.other.on_bar(symbol).await?;
        }
        Ok(true)
    }

    fn held_to(&self) -> HeldTo {
        HeldTo::Settled
    }
}

/// Every call fails, or only the invalidations.
struct Broken {
    reads_too: bool,
}

impl DemoCache for Broken {
    type Held<V: DemoValue> = Box<V>;
    type Error = io::Error;

    async fn features(&self, key: &Key, source: &Arc<Source>) -> io::Result<Answer<Box<Features>>> {
        if self.reads_too {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(Answer { value: Box::new(Arc::clone(source).load(key.id).await), served: Served::Loaded })
    }

    async fn prediction(&self, key: &Key, source: &Arc<Source>) -> io::Result<Answer<Box<Prediction>>> {
        if self.reads_too {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(Answer { value: Box::new(Arc::clone(source).load(key.id).await), served: Served::Loaded })
    }

    async fn on_bar(&self, _: SymbolId) -> io::Result<Told> {
        Err(io::Error::other("the log is gone"))
    }

    async fn on_model(&self, _: ModelId) -> io::Result<Told> {
        Err(io::Error::other("the log is gone"))
    }
}

/// 60,000 reads in about two seconds of the paused clock, among some 2,000 bars and 100 releases. A bar of a symbol
/// follows the last within 22 ms on average and a load takes 2 to 20 ms, so thousands of loads are overtaken.
fn settings(seed: u64) -> Settings {
    Settings {
        extent: Extent::Reads(60_000),
        readers: 64,
        rest: Some(Duration::from_millis(1)),
        bars_per_second: 1_000.0,
        releases_per_second: 50.0,
        source_latency: Duration::from_millis(2)..=Duration::from_millis(20),
        seed,
        ..Settings::default()
    }
}

async fn play<C: DemoCache>(settings: &Settings, cache: impl FnOnce(&Stage) -> C) -> DemoReport {
    let market = Arc::new(Market::bundled().expect("the bundled files parse"));
    let stage = Arc::new(Stage::set(&market, settings, Instant::now()));
    let cache = Arc::new(cache(&stage));
    let report = run("test", &cache, &stage, settings, &Arc::default()).await.expect("the cache does not fail");
    assert_eq!(report.wrong_values, 0, "{report:#?}");
    assert!(report.values_verified > 0 && report.bars > 0 && report.model_releases > 0, "{report:#?}");
    report
}

fn naive(on_update: OnUpdate) -> impl FnOnce(&Stage) -> NaiveCache {
    move |stage| NaiveCache::new(Arc::clone(&stage.keyspace), on_update, Duration::from_secs(1))
}

#[tokio::test(start_paused = true)]
async fn deleting_on_update_serves_stale_reads() {
    let settings = settings(seed());
    let report = play(&settings, naive(OnUpdate::Delete)).await;
    assert_eq!(report.reads_checked, 60_000);
    assert!(report.stale_reads > 100, "{report:#?}");
    assert!(report.stale_by_bar > 0 && report.stale_by_release > 0, "{report:#?}");
    assert!(report.worst_lag_bars > 0 && report.worst_superseded_ms > 0.0, "{report:#?}");
    assert_eq!(report.invalidations, report.bars + report.model_releases);
    assert!(report.entries_made_stale > report.invalidations, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_alone_serves_more() {
    let settings = settings(seed());
    let ttl = play(&settings, naive(OnUpdate::Ignore)).await;
    let delete = play(&settings, naive(OnUpdate::Delete)).await;
    assert!(ttl.stale_reads > 2 * delete.stale_reads, "{ttl:#?}\n{delete:#?}");
    assert!(ttl.hit_rate > delete.hit_rate, "{ttl:#?}\n{delete:#?}");
    assert_eq!(ttl.invalidations, 0);
}

#[tokio::test(start_paused = true)]
async fn no_cache_serves_none() {
    let settings = Settings { extent: Extent::Reads(20_000), ..settings(seed()) };
    let report = play(&settings, |_| NoCache).await;
    assert_eq!((report.reads_checked, report.stale_reads), (20_000, 0), "{report:#?}");
    assert_eq!((report.loads, report.loads_avoided, report.hit_rate), (20_000, 0, 0.0), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_stamp_taken_before_the_load_serves_none_though_it_hits() {
    let settings = Settings { bars_per_second: 300.0, ..settings(seed()) };
    let report = play(&settings, |_| Stamped::default()).await;
    assert_eq!((report.reads_checked, report.stale_reads), (60_000, 0), "{report:#?}");
    assert!(report.hit_rate > 0.3, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_stamp_taken_after_the_load_is_found_out() {
    let settings = settings(seed());
    let cache = |_: &Stage| Stamped { stamp_too_late: AtomicBool::new(true), ..Stamped::default() };
    let report = play(&settings, cache).await;
    assert!(report.stale_reads > 100, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_does_not_obey_is_found_out() {
    let settings = Settings { bars_per_second: 300.0, ..settings(seed()) };
    let report = play(&settings, |_| Pair::new(true)).await;
    assert_eq!((report.reads_checked, report.stale_reads), (60_000, 0), "{report:#?}");
    let report = play(&settings, |_| Pair::new(false)).await;
    assert!(report.stale_by_bar > 1_000 && report.stale_by_release == 0, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let settings = Settings { extent: Extent::Reads(5_000), ..settings(seed()) };
    let first = play(&settings, |_| Stamped::default()).await;
    assert_eq!(first, play(&settings, |_| Stamped::default()).await);
    let other = Settings { seed: settings.seed.wrapping_add(1_000_003), ..settings };
    assert_ne!(first, play(&other, |_| Stamped::default()).await);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_on_time() {
    let settings = Settings { extent: Extent::For(Duration::from_secs(3)), ..settings(seed()) };
    let report = play(&settings, naive(OnUpdate::Delete)).await;
    assert!((3.0..3.1).contains(&report.seconds), "{report:#?}");
    assert!(report.bars.abs_diff(3_000) < 400, "a rate of 1,000 a second was asked for: {report:#?}");
}

/// On real threads, where the order of things is not arranged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_do_not_make_a_right_cache_look_stale() {
    let settings = Settings {
        extent: Extent::Reads(200_000),
        rest: None,
        source_latency: Duration::ZERO..=Duration::from_millis(1),
        bars_per_second: 500.0,
        ..settings(seed())
    };
    let report = play(&settings, |_| Stamped::default()).await;
    assert_eq!((report.reads_checked, report.stale_reads), (200_000, 0), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_cache_ends_the_run_with_its_reason() {
    let settings = settings(seed());
    let market = Arc::new(Market::bundled().expect("the bundled files parse"));
    for (reads_too, expected) in [(true, "the disk is gone"), (false, "the log is gone")] {
        let stage = Arc::new(Stage::set(&market, &settings, Instant::now()));
        let broken = Arc::new(Broken { reads_too });
        let error = run("test", &broken, &stage, &settings, &Arc::default()).await.expect_err("the cache fails");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
