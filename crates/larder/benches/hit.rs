//! What a memory hit costs beside the bare engine's: the ratio that the project promises.
//!
//! Both are timed in one process, in alternating rounds, by the thread's own CPU time, and the median of the rounds is
//! reported: absolute times on a busy machine mean little. The engine holds `Arc`ed values under string keys with its own
//! hasher; larder's side counts, checks expiry and freshness, and samples latency, as it always does.
//!
//! `cargo bench -p larder --bench hit`

use std::sync::Arc;
use std::time::Duration;

use larder::{Larder, Namespace, Policy};
use quick_cache::sync::Cache;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 11;

type Engine = Cache<String, Arc<u64>>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime to measure in");
    println!("{:>10} {:>12} {:>12} {:>12} {:>8} {:>9}", "entries", "engine, ns", "get, ns", "async, ns", "ratio", "more, ns");
    for (entries, hits) in [(1, 4_000_000), (50_000, 2_000_000), (1_000_000, 1_000_000)] {
        runtime.block_on(compare(entries, hits));
    }
}

async fn compare(entries: usize, hits: usize) {
    let larder = Larder::builder()
        .memory(2 << 30)
        .index_bytes(128 << 20)
        .namespace("features", Policy::default().ttl(Duration::from_secs(3600)))
        .build()
        .await
        .expect("a cache in memory opens");
    let features = larder.namespace::<u64>("features").expect("the type fits");
    let engine: Engine = Cache::new(entries * 2 + 100);
    let keys: Vec<String> = (0..entries).map(|n| format!("SYM{n}:5m")).collect();
    for (n, key) in keys.iter().enumerate() {
        // The engine's keys are as long as larder's whole keys.
        engine.insert(format!("features:{key}"), Arc::new(n as u64));
    }
    for chunk in keys.chunks(10_000) {
        features.put_many(chunk.iter().map(|key| (key, 7u64))).await.expect("puts into memory succeed");
    }
    // Later puts may have made a false miss or two in a million; those keys are left out. The hit re-stamps the others.
    let mut there = Vec::with_capacity(entries);
    for key in keys {
        if features.get(&key).await.expect("the key is one").is_some() {
            there.push(key);
        }
    }
    let (keys, entries) = (there.as_slice(), there.len());
    let order = zipf(entries, hits);
    let engine_keys: Vec<String> = keys.iter().map(|key| format!("features:{key}")).collect();
    let blocking = features.blocking();
    let (mut bare, mut sync, mut asynchronous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(timed(hits, || order.iter().map(|at| *engine.get(&engine_keys[*at as usize]).expect("it is there")).sum()));
        sync.push(timed(hits, || {
            order.iter().map(|at| *blocking.get(&keys[*at as usize]).expect("the key is one").expect("it is there")).sum()
        }));
        asynchronous.push(timed_async(hits, &features, keys, &order).await);
    }
    let [bare, sync, asynchronous] = [bare, sync, asynchronous].map(median);
    println!("{entries:>10} {bare:>12.1} {sync:>12.1} {asynchronous:>12.1} {:>8.2} {:>9.1}", asynchronous / bare, asynchronous - bare);
}

fn timed(hits: usize, work: impl FnOnce() -> u64) -> f64 {
    let start = cpu_ns();
    std::hint::black_box(work());
    (cpu_ns() - start) as f64 / hits as f64
}

async fn timed_async(hits: usize, features: &Namespace<u64>, keys: &[String], order: &[u32]) -> f64 {
    let start = cpu_ns();
    let mut sum = 0u64;
    for at in order {
        sum = sum.wrapping_add(*features.get(&keys[*at as usize]).await.expect("the key is one").expect("it is there"));
    }
    std::hint::black_box(sum);
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
