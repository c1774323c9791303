//! The demo over the real cache: what each read is attributed to, what each update reaches, and whole runs.

use std::time::Duration;

use tokio::time::Instant;

use super::super::keyspace::Kind;
use super::super::report::DemoReport;
use super::super::run::{Extent, Settings, Stage, run};
use super::super::seed;
use super::*;

fn market() -> Arc<Market> {
    Arc::new(Market::bundled().expect("the bundled files parse"))
}

/// A cache over a folder of its own, with so little memory that the disk has to serve.
async fn larder(folder: &tempfile::TempDir) -> Larder {
    let builder = Larder::builder().data(folder.path()).memory(64 << 10);
    let builder = LarderCache::policies().into_iter().fold(builder, |builder, (name, policy)| builder.namespace(name, policy));
    builder.build().await.expect("the folder is new and writable")
}

fn quick(seed: u64) -> Settings {
    Settings { source_latency: Duration::ZERO..=Duration::ZERO, seed, ..Settings::default() }
}

async fn served(cache: &LarderCache, stage: &Stage, key: &Key) -> Served {
    match key.kind {
        Kind::Features => cache.features(key, &stage.source).await.expect("the source does not fail").served,
        Kind::Prediction(_) => cache.prediction(key, &stage.source).await.expect("the source does not fail").served,
    }
}

#[tokio::test]
async fn a_read_says_who_answered_it() {
    let (folder, market) = (tempfile::tempdir().expect("a folder"), market());
    let larder = larder(&folder).await;
    let stage = Stage::set(&market, &quick(1), Instant::now());
    let cache = LarderCache::over(&larder, &market).expect("the namespaces open");
    let key = &stage.keyspace.keys()[0];
    assert_eq!(served(&cache, &stage, key).await, Served::Loaded);
    assert_eq!(served(&cache, &stage, key).await, Served::Memory);
    larder.flush().await.expect("the disk takes it");
    // Another 769 entries do not fit into 64 KiB beside it.
    for other in &stage.keyspace.keys()[1..] {
        served(&cache, &stage, other).await;
    }
    let mut of_disk = 0;
    for other in stage.keyspace.keys() {
        of_disk += u32::from(served(&cache, &stage, other).await == Served::Backing);
    }
    assert!(of_disk > 300, "most of what was evicted is on disk, not {of_disk}");
    larder.close().await.expect("it closes");
}

#[tokio::test]
async fn a_read_that_waited_for_anothers_load_joined_it() {
    let (folder, market) = (tempfile::tempdir().expect("a folder"), market());
    let larder = larder(&folder).await;
    let slow = Settings { source_latency: Duration::from_millis(200)..=Duration::from_millis(200), ..quick(1) };
    let stage = Stage::set(&market, &slow, Instant::now());
    let cache = LarderCache::over(&larder, &market).expect("the namespaces open");
    let key = &stage.keyspace.keys()[0];
    let (first, second) = tokio::join!(served(&cache, &stage, key), served(&cache, &stage, key));
    assert_eq!([first, second], [Served::Loaded, Served::Joined]);
    assert_eq!(stage.source.loads(), 1);
    larder.close().await.expect("it closes");
}

/// Each way of naming an update, alone, reaches every key that hangs on the subject, and no other.
#[tokio::test]
async fn an_update_reaches_exactly_what_hangs_on_it() {
    let (folder, market) = (tempfile::tempdir().expect("a folder"), market());
    let larder = larder(&folder).await;
    let stage = Stage::set(&market, &quick(1), Instant::now());
    let cache = LarderCache::over(&larder, &market).expect("the namespaces open");
    let symbol = market.symbols().nth(3).expect("there are 22");
    let model = ModelId::all().nth(2).expect("there are six");
    // By tag, then by pattern, for each of the two.
    for turn in 0..4 {
        for key in stage.keyspace.keys() {
            served(&cache, &stage, key).await;
        }
        let concerned = if turn < 2 {
            assert_eq!(cache.on_bar(symbol).await.expect("the log takes it"), Told::everyone(1));
            stage.keyspace.of_symbol(symbol)
        } else {
            assert_eq!(cache.on_model(model).await.expect("the log takes it"), Told::everyone(1));
            stage.keyspace.of_model(model)
        };
        for key in stage.keyspace.keys() {
            let loaded = served(&cache, &stage, key).await == Served::Loaded;
            assert_eq!(loaded, concerned.contains(&key.id), "{} in turn {turn}", key.name);
        }
    }
    larder.close().await.expect("it closes");
}

async fn play(settings: &Settings) -> DemoReport {
    let (folder, market) = (tempfile::tempdir().expect("a folder"), market());
    let larder = larder(&folder).await;
    let stage = Arc::new(Stage::set(&market, settings, Instant::now()));
    let cache = Arc::new(LarderCache::over(&larder, &market).expect("the namespaces open"));
    let report = run("larder", &cache, &stage, settings, &Arc::default()).await.expect("larder does not fail");
    larder.close().await.expect("it closes");
    report
}

/// On real threads and a real disk, with bars so frequent that they overtake many of the loads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_stale() {
    let settings = Settings {
        extent: Extent::Reads(40_000),
        readers: 64,
        bars_per_second: 1_000.0,
        releases_per_second: 50.0,
        source_latency: Duration::ZERO..=Duration::from_millis(3),
        ..Settings::default()
    };
    let report = play(&Settings { seed: seed(), ..settings }).await;
    assert_eq!((report.reads_checked, report.stale_reads, report.wrong_values), (40_000, 0, 0), "{report:#?}");
    assert!(report.bars > 0 && report.invalidations == report.bars + report.model_releases, "{report:#?}");
    assert!(report.hits.memory > 0 && report.hits.disk > 0, "both tiers served: {report:#?}");
    assert!(report.values_verified > 0 && report.loads < report.reads_checked, "{report:#?}");
}
