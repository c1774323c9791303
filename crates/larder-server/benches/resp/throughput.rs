//! Requests a second, by the program that comes with Redis.

use std::net::SocketAddr;
use std::process::Command;

use larder_testkit::process::find;

use super::{Pair, median};

/// Rounds; each asks both. Odd, for a median that was measured.
const ROUNDS: usize = 5;

/// How deep the pipeline is, and for how many requests: two or three seconds each.
const PIPELINES: [(usize, usize); 2] = [(1, 100_000), (16, 500_000)];

/// What is asked for.
pub const TESTS: [&str; 2] = ["SET", "GET"];

/// What came of one test in one round.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub fn run(twice: bool) {
    let Some(program) = find("redis-benchmark") else {
        eprintln!("SKIPPED: redis-benchmark is not installed; `cargo xtask setup` brings it");
        return;
    };
    let Some(pair) = Pair::start("", twice) else { return };
    let [one, other] = pair.names;
    println!("\nthroughput: redis-benchmark -d 1024 -c 50 -r 10000, medians of {ROUNDS} rounds");
    println!("{:<14}{:>16}{:>16}{:>9}  {:<18}{:>19}{:>19}", "", one, other, "ratio", "ratios of rounds", "p50/p99 ms", "p50/p99 ms");
    for (pipeline, requests) in PIPELINES {
        let mut rounds: Vec<[Vec<Measured>; 2]> = Vec::new();
        for round in 0..ROUNDS {
            // Whoever is first in one round is second in the next.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut measured = [Vec::new(), Vec::new()];
            for side in order {
                measured[side] = measure(&program, pair.addrs[side], None, pipeline, requests);
            }
            rounds.push(measured);
        }
        for (at, test) in TESTS.iter().enumerate() {
            let middle = |side: usize, of: fn(&Measured) -> f64| median(rounds.iter().map(|round| of(&round[side][at])).collect());
            let rates = [0, 1].map(|side| middle(side, |measured| measured.per_second));
            let mut ratios: Vec<f64> = rounds.iter().map(|round| round[1][at].per_second / round[0][at].per_second).collect();
            ratios.sort_by(f64::total_cmp);
            let spread = format!("{:.2} .. {:.2}", ratios[0], ratios[ROUNDS - 1]);
            let latencies = [0, 1]
                .map(|side| format!("{:.2}/{:.2}", middle(side, |measured| measured.p50_ms), middle(side, |measured| measured.p99_ms)));
            let ratio = rates[1] / rates[0];
            println!(
                "{:<14}{:>12.0} /s{:>13.0} /s{ratio:>9.2}  {spread:<18}{:>19}{:>19}",
                format!("{test} -P {pipeline}"),
                rates[0],
                rates[1],
                latencies[0],
                latencies[1]
            );
        }
    }
}

impl Measured {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }
}

/// Runs it, as who has this token, if anybody has to be somebody.
pub fn measure(program: &std::path::Path, addr: SocketAddr, token: Option<&str>, pipeline: usize, requests: usize) -> Vec<Measured> {
    let mut command = Command::new(program);
    command.args(["-p", &addr.port().to_string(), "-d", "1024", "-t", "set,get", "-c", "50", "-r", "10000", "--csv"]);
    if let Some(token) = token {
        command.args(["-a", token]);
    }
    command.args(["-n", &requests.to_string(), "-P", &pipeline.to_string()]);
    let output = command.output().expect("it was found");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let measured: Vec<Measured> = TESTS.iter().filter_map(|test| text.lines().find_map(|line| row(line, test))).collect();
    assert_eq!(measured.len(), TESTS.len(), "{output:?}");
    measured
}

/// Of `"SET","123456.78","0.2","0.1","0.2","0.3","0.4","1.5"`: rate, then mean, least, p50, p95, p99 and most of the times.
fn row(line: &str, test: &str) -> Option<Measured> {
    let mut fields = line.split(',').map(|field| field.trim_matches('"'));
    if fields.next()? != test {
        return None;
    }
    let numbers: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
    match numbers[..] {
        [per_second, _, _, p50_ms, _, p99_ms, _] => Some(Measured { per_second, p50_ms, p99_ms }),
        _ => None,
    }
}
