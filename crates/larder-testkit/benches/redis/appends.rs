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

/// The same of the server's own tool, which is faster at it.
const TOOL_CHANGES: usize = 200_000;

/// Distinct keys.
const KEYS: usize = 10_000;

struct Sides {
    larder: Larder,
    features: Namespace<Bytes>,
    bare: MultiplexedConnection,
    value: Bytes,
}

pub fn run(server: &Server) {
    println!("ratios: to the same client's pipelined SETs, and to those of redis-benchmark -P {PIPELINE}, where that is installed");
    println!(
        "{:>8} {:>12} {:>9} {:>8} {:>8} {:>10} {:>10} {:>12}",
        "callers", "", "a second", "ratio", "to tool", "here, us", "there, us", "in a group"
    );
    for callers in [256, 1024] {
        runtime(2).block_on(compare(server, callers));
    }
}

async fn compare(server: &Server, callers: usize) {
    let larder = instance(builder(server)).await;
    let features = larder.namespace::<Bytes>("features").expect("the type fits");
    let sides = Arc::new(Sides { larder, features, bare: bare(server).await, value: Bytes::from(vec![7; VALUE_LEN]) });
    let (mut sets, mut invalidations, mut puts, mut tool) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        tool.extend(benchmark(server));
        sets.push(sides.timed(server, sides.set(callers / PIPELINE)).await);
        invalidations.push(sides.timed(server, sides.invalidate(callers)).await);
        puts.push(sides.timed(server, sides.put(callers)).await);
    }
    for (what, rounds) in [("SET", &sets), ("invalidate", &invalidations), ("put", &puts)] {
        let rate = |round: &Round| CHANGES as f64 / round.took.wall.as_secs_f64();
        let to_tool = tool.iter().zip(rounds).map(|(tool, round)| rate(round) / tool).collect::<Vec<_>>();
        let to_tool = if to_tool.is_empty() { "-".to_owned() } else { format!("{:.2}", median(to_tool)) };
        let of = |each: fn(&Round) -> f64| median(rounds.iter().map(each).collect());
        let ratio =
            median(sets.iter().zip(rounds).map(|(set, round)| set.took.wall.as_secs_f64() / round.took.wall.as_secs_f64()).collect());
        println!(
            "{callers:>8} {what:>12} {:>9.0} {ratio:>8.2} {to_tool:>8} {:>10.2} {:>10.2} {:>12.0}",
            of(rate),
            of(|round| round.took.cpu.as_secs_f64() * 1e6 / CHANGES as f64),
            of(|round| round.server_cpu * 1e6 / CHANGES as f64),
            of(|round| round.grouped),
        );
    }
    sides.larder.close().await.expect("it closes");
}

/// What one round took, and how many appends went together.
struct Round {
    took: Took,
    /// The server's CPU time, in seconds.
    server_cpu: f64,
    grouped: f64,
}

impl Sides {
    async fn timed(&self, server: &Server, work: impl Future<Output = ()>) -> Round {
        let (before, cpu) = (self.larder.stats().log, server_cpu(server));
        let took = timed(work).await;
        let (after, server_cpu) = (self.larder.stats().log, server_cpu(server) - cpu);
        let groups = (after.syncs - before.syncs).max(1);
        Round { took, server_cpu, grouped: (after.appends - before.appends) as f64 / groups as f64 }
    }

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

/// The CPU time that the server has taken, in seconds.
fn server_cpu(server: &Server) -> f64 {
    let info = server.command(&["INFO", "cpu"]).expect("the server is there").text();
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).expect("it says so");
    of("used_cpu_sys:") + of("used_cpu_user:")
}

fn key(caller: usize, n: usize) -> String {
    format!("SYM{}:5m", (caller * 7_919 + n) % KEYS)
}

/// `SET`s a second that the server's own tool gets out of it, where it is installed.
fn benchmark(server: &Server) -> Option<f64> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &server.port().to_string(), "-t", "set", "-d", &VALUE_LEN.to_string(), "-P", &PIPELINE.to_string()]);
    command.args(["-r", &KEYS.to_string(), "-n", &TOOL_CHANGES.to_string(), "-q", "--csv"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("\"SET\",\"")?.split('"').next()?.parse().ok())
}
