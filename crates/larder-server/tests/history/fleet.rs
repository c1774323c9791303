//! Three caches over a Redis, each with a history of its own: any of them tells what all did, once, also when it was away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::analytics::Rollup;
use larder::{Larder, ParcelBounds, RedisOptions};
use larder_server::history::{Detail, Fleet, Historian, History, Query, Retention, Step, Store, Writer};
use larder_testkit::redis::{Server as Redis, ServerOptions, or_skip};
use larder_testkit::wait;
use parking_lot::Mutex;

const JUNE: u64 = 1_780_272_000_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// A cache and its history, told the time.
struct Instance {
    larder: Larder,
    historian: Historian,
    fleet: Fleet,
    writer: Writer,
    history: History,
}

impl Instance {
    async fn start(redis: &str, path: &Path, now_ms: u64) -> Instance {
        let larder = Larder::builder().redis(RedisOptions::parse(redis).expect("an address")).build().await.expect("it opens");
        let (mut store, _) = Store::open(path).expect("it opens");
        store.ships();
        store.set_name(&path.file_stem().expect("a name").to_string_lossy()).expect("it is written");
        let store = Arc::new(Mutex::new(store));
        let history = History::of(&store).expect("it is there");
        let writer = Writer::start(store, history.clone(), Retention::default()).expect("a thread");
        let (historian, fleet) = (Historian::new(&larder, writer.clone(), now_ms), Fleet::new(&larder, writer.clone()));
        Instance { larder, historian, fleet, writer, history }
    }

    async fn put(&self, n: u64) {
        let bars = self.larder.namespace::<u64>("bars").expect("a namespace");
        for key in 0..n {
            bars.put(&key.to_string(), key).await.expect("it is stored");
        }
    }

    async fn end(self) {
        let Instance { larder, historian, fleet, writer, .. } = self;
        drop((historian, fleet));
        writer.close().await;
        larder.close().await.expect("it closes");
    }

    fn minutes(&self, instances: &[&str]) -> Vec<Rollup> {
        let instances = instances.iter().map(|name| (*name).to_owned()).collect();
        let query = Query {
            from_ms: JUNE,
            to_ms: JUNE + HOUR_MS,
            step: Step::Minute,
            namespaces: Vec::new(),
            instances,
            detail: Detail::Latencies,
        };
        self.history.buckets(&query).expect("it is answered")
    }

    fn told(&self) -> (u64, u64) {
        let query = Query { step: Step::Whole, ..self.query() };
        let found = self.history.buckets(&query).expect("it is answered").remove(0);
        (found.samples, found.total().counts.puts)
    }

    fn query(&self) -> Query {
        let (from_ms, to_ms) = (JUNE, JUNE + HOUR_MS);
        Query { from_ms, to_ms, step: Step::Minute, namespaces: Vec::new(), instances: Vec::new(), detail: Detail::Sketches }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_tell_of_each_other_also_after_one_was_away() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    let url = format!("redis://{}", redis.address());
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| folder.path().join(format!("{name}.db"))).collect();
    let mut all = Vec::new();
    for path in &paths {
        all.push(Instance::start(&url, path, JUNE).await);
    }
    for minute in 1..=3 {
        for (instance, n) in all.iter_mut().zip(1..) {
            instance.put(n * 10u64.pow(minute as u32 - 1)).await;
            assert!(instance.historian.look(JUNE + minute * MINUTE_MS).await);
        }
    }
    // An invalidation of everything is no reason to forget what happened.
    all[0].larder.invalidate(larder::Names::new().everything()).await.expect("it is carried out");
    for _ in 0..2 {
        for instance in &all {
            instance.fleet.exchange(JUNE + 5 * MINUTE_MS).await;
        }
    }
    for instance in &all {
        assert_eq!(instance.told(), (3, 6 * 111), "each tells of all, and of each once");
        assert_eq!(instance.history.instances().expect("it is answered").len(), 3);
    }
    // What one tells of all is what each tells of itself, side by side.
    let own: Vec<Vec<Rollup>> = all.iter().zip(["a", "b", "c"]).map(|(instance, name)| instance.minutes(&[name])).collect();
    let mut expected = own[0].clone();
    own[1..].iter().for_each(|other| expected.iter_mut().zip(other).for_each(|(own, other)| own.beside(other)));
    assert!(all.iter().all(|instance| instance.minutes(&[]) == expected));

    // One is away while the others go on, and comes back in the minute in which it went.
    all.remove(2).end().await;
    for instance in &mut all {
        instance.put(1_000).await;
        assert!(instance.historian.look(JUNE + 4 * MINUTE_MS).await);
        instance.fleet.exchange(JUNE + 6 * MINUTE_MS).await;
    }
    let mut back = Instance::start(&url, &paths[2], JUNE + 2 * MINUTE_MS).await;
    back.put(7).await;
    assert!(back.historian.look(JUNE + 4 * MINUTE_MS).await);
    back.fleet.exchange(JUNE + 6 * MINUTE_MS).await;
    all.push(back);
    for instance in &all {
        instance.fleet.exchange(JUNE + 7 * MINUTE_MS).await;
        assert_eq!(instance.told(), (4, 6 * 111 + 2_000 + 7));
    }
    for instance in all {
        instance.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_told_is_told_later_and_the_place_for_it_is_bounded() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    let url = format!("redis://{}", redis.address());
    let folder = tempfile::tempdir().expect("a folder");
    let mut a = Instance::start(&url, &folder.path().join("a.db"), JUNE).await;
    a.put(5).await;
    assert!(a.historian.look(JUNE + MINUTE_MS).await);
    let connected = |larder: &Larder| larder.stats().log.shared.is_some_and(|shared| shared.connected);
    assert!(wait::until(Duration::from_secs(20), || connected(&a.larder)));
    a.fleet.exchange(JUNE + MINUTE_MS).await;
    let bounds = ParcelBounds { parcels_max: 3, life: Duration::from_secs(60) };
    let parcel = |name: u32| larder::Parcel { name: name.to_string(), bytes: vec![1].into() };
    let parcels: Vec<larder::Parcel> = (0..10).map(parcel).collect();
    assert!(a.larder.ship("other", &parcels, bounds).await.expect("Redis is there"));
    let kept = a.larder.shipped("other", 0).await.expect("Redis is there");
    assert_eq!(kept.iter().map(|(_, parcel)| parcel.name.as_str()).collect::<Vec<_>>(), ["7", "8", "9"]);
    assert!(a.larder.ship("other", &[parcel(8)], bounds).await.expect("Redis is there"));
    let news = a.larder.shipped("other", kept[2].0).await.expect("Redis is there");
    assert_eq!(news.iter().map(|(_, parcel)| parcel.name.as_str()).collect::<Vec<_>>(), ["8"], "what was shipped again is told again");
    assert_eq!(a.larder.senders().await.expect("Redis is there").len(), 2);
    // What somebody else puts there is not taken for history.
    a.fleet.exchange(JUNE + 2 * MINUTE_MS).await;
    assert_eq!(a.told(), (1, 5));
    // Without Redis it goes on by itself, and says so once.
    drop(redis);
    assert!(wait::until(Duration::from_secs(20), || !connected(&a.larder)));
    a.put(2).await;
    assert!(a.historian.look(JUNE + 2 * MINUTE_MS).await);
    a.fleet.exchange(JUNE + 3 * MINUTE_MS).await;
    assert_eq!(a.told(), (2, 7));
    let Instance { historian, fleet, writer, .. } = a;
    drop((historian, fleet));
    writer.close().await;
}
