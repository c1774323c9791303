//! The server stops: memory must not notice, misses must not wait for longer than they were told to, and all must come back by
//! itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::{Larder, Namespace};
use larder_testkit::redis::Server;
use rustix::time::ClockId;

use crate::measure::{ROUNDS, VALUE_LEN, builder, cpu, instance, median, options, quantile, runtime};

const HITS: usize = 1_000_000;

const KEYS: usize = 1_000;

const MISSES: usize = 200;

/// What a read waits for Redis.
const TIMEOUT: Duration = Duration::from_millis(200);

const RETURNS: usize = 5;

pub fn run(server: &Server) {
    runtime(2).block_on(async {
        let options = options(server).operation_timeout(TIMEOUT);
        let larder = instance(builder(server).redis(options).backing_timeout(TIMEOUT)).await;
        let features = larder.namespace::<Bytes>("features").expect("the type fits");
        for n in 0..KEYS {
            features.put(format!("SYM{n}:5m"), Bytes::from(vec![7; VALUE_LEN])).await.expect("the server is there");
        }
        let up = hits(&features).await;
        server.pause();
        let paused = misses(&features, "paused").await;
        server.resume();
        until_connected(&larder, true).await;
        server.kill();
        until_connected(&larder, false).await;
        let down = hits(&features).await;
        let killed = misses(&features, "killed").await;
        println!("memory hit: {up:.1} ns with the server, {down:.1} ns without, ratio {:.2}", down / up);
        println!("{:>10} {:>12} {:>10} {:>10} {:>14}", "server", "miss, ms", "p99, ms", "max, ms", "time-out, ms");
        for (what, mut took) in [("paused", paused), ("killed", killed)] {
            let [middle, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&mut took, part));
            println!("{what:>10} {middle:>12.3} {p99:>10.3} {max:>10.3} {:>14}", TIMEOUT.as_millis());
        }
        let mut returns = Vec::new();
        for n in 0..RETURNS {
            // The server stays down for long enough that the pauses between tries have grown.
            tokio::time::sleep(Duration::from_millis(500) * n as u32).await;
            returns.push(come_back(server, &larder, &features, n).await);
            server.kill();
            until_connected(&larder, false).await;
        }
        let [middle, max] = [0.5, 1.0].map(|part| quantile(&mut returns, part));
        println!("after its return: all as before within {middle:.2} s (median of {RETURNS}), {max:.2} s at most");
    });
}

/// Nanoseconds of a memory hit, by this thread's CPU time: a hit never leaves the thread.
async fn hits(features: &Namespace<Bytes>) -> f64 {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("SYM{n}:5m")).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = cpu(ClockId::ThreadCPUTime);
        for n in 0..HITS {
            assert!(features.get(&keys[n % KEYS]).await.expect("the key is one").is_some());
        }
        rounds.push((cpu(ClockId::ThreadCPUTime) - begun).as_nanos() as f64 / HITS as f64);
    }
    median(rounds)
}

/// Milliseconds of reads that nothing but the loader can answer.
async fn misses(features: &Namespace<Bytes>, what: &str) -> Vec<f64> {
    let mut took = Vec::new();
    for n in 0..MISSES {
        let begun = Instant::now();
        let load = || async { Ok::<_, std::io::Error>(Bytes::from_static(b"loaded")) };
        features.get_or_load(format!("{what}:{n}"), load).await.expect("the loader answers");
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took
}

/// Seconds from when the server answers again until an instance appends to it, and reads from it what another one wrote.
async fn come_back(server: &Server, larder: &Larder, features: &Namespace<Bytes>, n: usize) -> f64 {
    server.restart(false);
    let begun = Instant::now();
    until_connected(larder, true).await;
    let key = format!("again:{n}");
    assert!(!features.put(&key, Bytes::from_static(b"one")).await.expect("the server is there").is_queued());
    let other = instance(builder(server)).await;
    let on_other = other.namespace::<Bytes>("features").expect("the type fits");
    let receipt = on_other.put(&key, Bytes::from_static(b"two")).await.expect("the server is there");
    larder.reach(receipt.position(), Duration::from_secs(60)).await.expect("it arrives");
    // The breaker may be open still: then the tier is let alone for a moment.
    while features.get(&key).await.expect("the key is one").is_none_or(|value| *value != "two") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    other.close().await.expect("it closes");
    took
}

async fn until_connected(larder: &Larder, connected: bool) {
    while larder.stats().log.shared.is_some_and(|shared| shared.connected) != connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
