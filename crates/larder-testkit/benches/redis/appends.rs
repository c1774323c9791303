//! Changes through group commit, beside the bare server's pipelined `SET`s of as many callers.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use larder::{Larder, Names, Namespace};
use larder_testkit::redis::Server;
use redis::aio::MultiplexedConnection;

use crate::measure::{ROUNDS, Took, VALUE_LEN, bare, builder, instance, median, runtime, side_by_side, timed};

/// Commands of one pipeline.
const PIPELINE: usize = 16;

/// Changes of one round.
const CHANGES: usize = 40_000;

/// Distinct keys.
const KEYS: usize = 10_000;

struct Sides {
    larder: Larder,
    features: Namespace<Bytes>,
    bare: MultiplexedConnection,
    value: Bytes,
}

pub fn run(server: &Server) {
    println!("{:>8} {:>12} {:>14} {:>8} {:>12} {:>8} {:>12}", "callers", "SETs/s", "invalidate/s", "ratio", "put/s", "ratio", "in a group");
    for callers in [256, 1024] {
        runtime(2).block_on(compare(server, callers));
    }
    if let Some(rate) = benchmark(server) {
        println!("redis-benchmark -P {PIPELINE}: {rate:.0} SETs/s");
    }
}

async fn compare(server: &Server, callers: usize) {
    let larder = instance(builder(server)).await;
    let features = larder.namespace::<Bytes>("features").expect("the type fits");
    let sides = Arc::new(Sides { larder, features, bare: bare(server).await, value: Bytes::from(vec![7; VALUE_LEN]) });
    let (mut sets, mut invalidations, mut puts) = (Vec::new(), Vec::new(), Vec::new());
    let before = sides.larder.stats().log;
    for _ in 0..ROUNDS {
        sets.push(timed(sides.set(callers / PIPELINE)).await);
        invalidations.push(timed(sides.invalidate(callers)).await);
        puts.push(timed(sides.put(callers)).await);
    }
    let after = sides.larder.stats().log;
    let rate = |rounds: &[Took]| median(rounds.iter().map(|took| CHANGES as f64 / took.wall.as_secs_f64()).collect());
    let ratio = |rounds: &[Took]| {
        let pairs = sets.iter().zip(rounds).map(|(set, took)| set.wall.as_secs_f64() / took.wall.as_secs_f64());
        median(pairs.collect())
    };
    println!(
        "{callers:>8} {:>12.0} {:>14.0} {:>8.2} {:>12.0} {:>8.2} {:>12.0}",
        rate(&sets),
        rate(&invalidations),
        ratio(&invalidations),
        rate(&puts),
        ratio(&puts),
        (after.appends - before.appends) as f64 / (after.syncs - before.syncs) as f64
    );
    sides.larder.close().await.expect("it closes");
}

impl Sides {
    async fn set(self: &Arc<Self>, tasks: usize) {
        side_by_side(tasks, |task| {
            let sides = self.clone();
            async move {
                let mut bare = sides.bare.clone();
                for n in 0..CHANGES / PIPELINE / tasks {
                    let mut pipeline = redis::pipe();
                    for at in 0..PIPELINE {
                        pipeline.set(key(task, n * PIPELINE + at), sides.value.as_ref()).ignore();
                    }
                    pipeline.query_async::<()>(&mut bare).await.expect("the server is there");
                }
            }
        })
        .await;
    }

    async fn invalidate(self: &Arc<Self>, callers: usize) {
        side_by_side(callers, |caller| {
            let sides = self.clone();
            async move {
                for n in 0..CHANGES / callers {
                    let names = Names::new().key(["features:", &key(caller, n)].concat());
                    assert!(!sides.larder.invalidate(names).await.expect("the server is there").is_queued());
                }
            }
        })
        .await;
    }

    async fn put(self: &Arc<Self>, callers: usize) {
        side_by_side(callers, |caller| {
            let sides = self.clone();
            async move {
                for n in 0..CHANGES / callers {
                    let put = sides.features.put(key(caller, n), sides.value.clone()).await;
                    assert!(!put.expect("the server is there").is_queued());
                }
            }
        })
        .await;
    }
}

fn key(caller: usize, n: usize) -> String {
    format!("SYM{}:5m", (caller * 7_919 + n) % KEYS)
}

/// What the server's own tool gets out of it, where it is installed.
fn benchmark(server: &Server) -> Option<f64> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &server.port().to_string(), "-t", "set", "-d", &VALUE_LEN.to_string(), "-P", &PIPELINE.to_string()]);
    command.args(["-r", &KEYS.to_string(), "-n", "1000000", "-q", "--csv"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("\"SET\",\"")?.split('"').next()?.parse().ok())
}
