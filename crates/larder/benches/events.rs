//! The scenario of the system that larder grew out of: quotes arrive, and what was computed from older ones must go.
//!
//! 500 symbols, 200,000 cached features and predictions, 2,000 events a second, while readers read and load again what is gone.
//! Reported is how long an event takes from the call until no reader gets anything older, and every read is checked against the
//! last event whose call had returned when the read began. In the end exactly those entries are gone, or younger than the last
//! event of their symbol, that a plain model says.
//!
//! `cargo bench -p larder --bench events`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder::events::Event;
use larder::{Larder, Namespace, Policy};
use serde_json::json;

const SYMBOLS: usize = 500;
const FEATURES_EACH: usize = 300;
const PREDICTIONS_EACH: usize = 100;
const EVENTS_A_SECOND: u64 = 2_000;
const SECONDS: u64 = 10;
const READERS: usize = 2;

/// What the source says of each symbol: how many quotes it has had, and how many of these the cache was told of for certain.
struct World {
    quotes: Vec<AtomicU64>,
    told: Vec<AtomicU64>,
    over: AtomicBool,
    reads: AtomicU64,
    stale: AtomicU64,
    loads: AtomicU64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime to measure in");
    runtime.block_on(run());
}

async fn run() {
    let policy = || Policy::default().tag("symbol:{1}");
    let builder = Larder::builder().memory(1 << 30).namespace("features", policy()).namespace("prediction", policy());
    let larder = builder.build().await.expect("a cache in memory opens");
    let spaces = [larder.namespace::<u64>("features"), larder.namespace::<u64>("prediction")].map(|space| space.expect("the type fits"));
    let counts = || (0..SYMBOLS).map(|_| AtomicU64::new(0)).collect();
    let world = Arc::new(World {
        quotes: counts(),
        told: counts(),
        over: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        stale: AtomicU64::new(0),
        loads: AtomicU64::new(0),
    });
    let keys = all_keys();
    for (space, _, key) in &keys {
        spaces[*space].put(key, 0).await.expect("puts into memory succeed");
    }
    let readers: Vec<_> = (0..READERS).map(|seed| tokio::spawn(read(world.clone(), spaces.clone(), seed as u64))).collect();
    let mut took = feed(&larder, &world).await;
    world.over.store(true, Ordering::Release);
    for reader in readers {
        reader.await.expect("a reader does not panic");
    }
    let wrong = count_wrong(&spaces, &world, &keys).await;
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>12} {:>8} {:>10} {:>8}",
        "events", "p50, ms", "p99, ms", "max, ms", "reads", "stale", "loads", "wrong"
    );
    println!(
        "{:>10} {:>10.3} {:>10.3} {:>10.3} {:>12} {:>8} {:>10} {:>8}",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        world.reads.load(Ordering::Relaxed),
        world.stale.load(Ordering::Relaxed),
        world.loads.load(Ordering::Relaxed),
        wrong
    );
    assert_eq!((world.stale.load(Ordering::Relaxed), wrong), (0, 0), "a read was stale, or an entry lives or died that should not");
}

/// Namespace, symbol and key of every entry.
fn all_keys() -> Vec<(usize, usize, String)> {
    let of = |symbol: usize| {
        let features = (0..FEATURES_EACH).map(move |n| (0, symbol, format!("SYM{symbol}:f{n}")));
        features.chain((0..PREDICTIONS_EACH).map(move |n| (1, symbol, format!("SYM{symbol}:h{n}:v1"))))
    };
    (0..SYMBOLS).flat_map(of).collect()
}

/// Emits at the rate that was asked for, in the order of each symbol, and gives how long each event took to take effect.
async fn feed(larder: &Larder, world: &Arc<World>) -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(7);
    let (began, total) = (Instant::now(), EVENTS_A_SECOND * SECONDS);
    let mut emitting = Vec::with_capacity(total as usize);
    for n in 0..total {
        let due = began + Duration::from_nanos(n * 1_000_000_000 / EVENTS_A_SECOND);
        tokio::time::sleep_until(due.into()).await;
        // Half of all quotes are of a tenth of the symbols, and one in a hundred symbols has none.
        let symbol = if rng.bool() { rng.usize(..SYMBOLS / 10) } else { rng.usize(..SYMBOLS - SYMBOLS / 100) };
        let quote = world.quotes[symbol].fetch_add(1, Ordering::AcqRel) + 1;
        let event = Event::new("market_data_update", json!({ "symbol": format!("SYM{symbol}"), "timestamp": quote })).from("feed");
        let (larder, world) = (larder.clone(), world.clone());
        emitting.push(tokio::spawn(async move {
            let called = Instant::now();
            larder.emit(event).await.expect("the log is in memory");
            let took = called.elapsed();
            world.told[symbol].fetch_max(quote, Ordering::AcqRel);
            took
        }));
    }
    let mut took = Vec::with_capacity(emitting.len());
    for one in emitting {
        took.push(one.await.expect("emitting does not panic"));
    }
    took
}

async fn read(world: Arc<World>, spaces: [Namespace<u64>; 2], seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !world.over.load(Ordering::Acquire) {
        for _ in 0..64 {
            let symbol = rng.usize(..SYMBOLS);
            let (space, key) = match rng.bool() {
                true => (0, format!("SYM{symbol}:f{}", rng.usize(..FEATURES_EACH))),
                false => (1, format!("SYM{symbol}:h{}:v1", rng.usize(..PREDICTIONS_EACH))),
            };
            let told = world.told[symbol].load(Ordering::Acquire);
            let source = world.clone();
            let load = move || async move {
                source.loads.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(source.quotes[symbol].load(Ordering::Acquire))
            };
            let value = *spaces[space].get_or_load(key, load).await.expect("the source answers");
            world.reads.fetch_add(1, Ordering::Relaxed);
            world.stale.fetch_add(u64::from(value < told), Ordering::Relaxed);
        }
        tokio::task::yield_now().await;
    }
}

/// Entries that are older than the last quote of their symbol, and entries that are gone though it never had one.
async fn count_wrong(spaces: &[Namespace<u64>; 2], world: &World, keys: &[(usize, usize, String)]) -> usize {
    let mut wrong = 0;
    for (space, symbol, key) in keys {
        let quotes = world.quotes[*symbol].load(Ordering::Acquire);
        let found = spaces[*space].get(key).await.expect("the key is one");
        wrong += usize::from(match found {
            Some(value) => *value != quotes,
            None => quotes == 0,
        });
    }
    wrong
}
