//! What a memory hit costs beside the bare engine's: the ratio that the project promises.
//!
//! Both are timed in one process, in alternating rounds, by the thread's own CPU time, and the median of the rounds is
//! reported: absolute times on a busy machine mean little. The engine holds `Arc`ed values under string keys with its own
//! hasher; larder's side counts, checks expiry and freshness, and samples latency, as it always does.
//!
//! `cargo bench -p larder --bench hit`
//!
//! The last column is what counting, timing and gathering cost a hit: blocking hits against a twin of them that does none of it, the
//! median of the differences of each two short turns that follow each other.
//!
//! With `-- engine N`, `-- blocking N`, `-- uncounted N` or `-- async N` it does nothing but N hits on one key, for a tool that counts
//! instructions (`valgrind --tool=callgrind`): two N, some 200,000 apart, tell what one hit takes to a few instructions, and
//! so what a change of the code did when times cannot.

use std::sync::Arc;
use std::time::Duration;

use larder::{BlockingNamespace, Larder, Namespace, Policy};
use quick_cache::sync::Cache;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 11;

/// Hits that are counted, or not, before it is the other's turn.
const TURN: usize = 10_000;

type Engine = Cache<String, Arc<u64>>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime to measure in");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [way, hits, entries @ ..] = args.as_slice() {
        let number = |arg: &String| arg.parse().expect("a number of hits, and perhaps one of entries");
        return runtime.block_on(repeat(way, number(hits), entries.first().map_or(1, number)));
    }
    println!(
        "{:>10} {:>12} {:>12} {:>12} {:>8} {:>9} {:>12}",
        "entries", "engine, ns", "get, ns", "async, ns", "ratio", "more, ns", "metrics, ns"
    );
    for (entries, hits) in [(1, 4_000_000), (50_000, 2_000_000), (1_000_000, 1_000_000)] {
        runtime.block_on(compare(entries, hits));
    }
}

async fn repeat(way: &str, hits: usize, entries: usize) {
    let Sides { engine, engine_keys, features, keys } = Sides::new(entries).await;
    let order = zipf(keys.len(), hits);
    std::hint::black_box(match way {
        "engine" => engine_hits(&engine, &engine_keys, &order),
        "blocking" => blocking_hits(&features.blocking(), &keys, &order),
        "uncounted" => uncounted_hits(&features.blocking(), &keys, &order),
        "async" => async_hits(&features, &keys, &order).await,
        other => panic!("the ways to hit are engine, blocking, uncounted and async, not {other}"),
    });
}

async fn compare(entries: usize, hits: usize) {
    let Sides { engine, engine_keys, features, keys } = Sides::new(entries).await;
    let order = zipf(keys.len(), hits);
    let blocking = features.blocking();
    let (mut bare, mut sync, mut asynchronous, mut metrics) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(timed(hits, async { engine_hits(&engine, &engine_keys, &order) }).await);
        sync.push(timed(hits, async { blocking_hits(&blocking, &keys, &order) }).await);
        asynchronous.push(timed(hits, async_hits(&features, &keys, &order)).await);
        // A few nanoseconds are less than what the machine's pace changes by from one second to the next, so these two take short
        // turns, of other hits each, in which neither finds the processor's cache as the other left it for the same keys.
        for turn in order.chunks_exact(2 * TURN) {
            let (first, second) = turn.split_at(TURN);
            let uncounted = timed(TURN, async { uncounted_hits(&blocking, &keys, first) }).await;
            metrics.push(timed(TURN, async { blocking_hits(&blocking, &keys, second) }).await - uncounted);
        }
    }
    let [bare, sync, asynchronous, metrics] = [bare, sync, asynchronous, metrics].map(median);
    let (ratio, more) = (asynchronous / bare, asynchronous - bare);
    println!("{:>10} {bare:>12.1} {sync:>12.1} {asynchronous:>12.1} {ratio:>8.2} {more:>9.1} {metrics:>12.1}", keys.len());
}

/// The same keys in both.
struct Sides {
    engine: Engine,
    /// As long as larder's whole keys.
    engine_keys: Vec<String>,
    features: Namespace<u64>,
    keys: Vec<String>,
}

impl Sides {
    async fn new(entries: usize) -> Self {
        let larder = Larder::builder()
            .memory(2 << 30)
            .index_bytes(128 << 20)
            .namespace("features", Policy::default().ttl(Duration::from_secs(3600)))
            .build()
            .await
            .expect("a cache in memory opens");
        let features = larder.namespace::<u64>("features").expect("the type fits");
        let engine: Engine = Cache::new(entries * 2 + 100);
        let all: Vec<String> = (0..entries).map(|n| format!("SYM{n}:5m")).collect();
        for (n, key) in all.iter().enumerate() {
            engine.insert(format!("features:{key}"), Arc::new(n as u64));
        }
        for chunk in all.chunks(10_000) {
            features.put_many(chunk.iter().map(|key| (key, 7u64))).await.expect("puts into memory succeed");
        }
        // Later puts may have made a false miss or two in a million; those keys are left out. The hit re-stamps the others.
        let mut keys = Vec::with_capacity(entries);
        for key in all {
            if features.get(&key).await.expect("the key is one").is_some() {
                keys.push(key);
            }
        }
        let engine_keys = keys.iter().map(|key| format!("features:{key}")).collect();
        Sides { engine, engine_keys, features, keys }
    }
}

// In functions of their own, so that what is counted is what is timed.

#[inline(never)]
fn engine_hits(engine: &Engine, keys: &[String], order: &[u32]) -> u64 {
    order.iter().map(|at| *engine.get(&keys[*at as usize]).expect("it is there")).sum()
}

#[inline(never)]
fn blocking_hits(features: &BlockingNamespace<u64>, keys: &[String], order: &[u32]) -> u64 {
    order.iter().map(|at| *features.get(&keys[*at as usize]).expect("the key is one").expect("it is there")).sum()
}

#[inline(never)]
fn uncounted_hits(features: &BlockingNamespace<u64>, keys: &[String], order: &[u32]) -> u64 {
    order.iter().map(|at| *features.get_uncounted(&keys[*at as usize]).expect("it is there")).sum()
}

#[inline(never)]
async fn async_hits(features: &Namespace<u64>, keys: &[String], order: &[u32]) -> u64 {
    let mut sum = 0u64;
    for at in order {
        sum = sum.wrapping_add(*features.get(&keys[*at as usize]).await.expect("the key is one").expect("it is there"));
    }
    sum
}

/// Nanoseconds for each of so many hits.
async fn timed(hits: usize, work: impl Future<Output = u64>) -> f64 {
    let start = cpu_ns();
    std::hint::black_box(work.await);
    (cpu_ns() - start) as f64 / hits as f64
}

/// This thread's CPU time: what other processes do to the machine is left out, but for the caches.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Indices by a Zipf law of exponent 0.99, drawn by inverting its cumulative sums.
fn zipf(entries: usize, draws: usize) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut sums = Vec::with_capacity(entries);
    let mut sum = 0.0;
    for rank in 1..=entries {
        sum += 1.0 / (rank as f64).powf(0.99);
        sums.push(sum);
    }
    // Ranks are spread over the keys, so that popular ones are not neighbours.
    let mut places: Vec<u32> = (0..entries as u32).collect();
    rng.shuffle(&mut places);
    (0..draws).map(|_| places[sums.partition_point(|s| *s < rng.f64() * sum).min(entries - 1)]).collect()
}
