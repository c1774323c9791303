//! What the Redis protocol costs, beside a real Redis on the same machine.
//!
//! - `throughput`: `redis-benchmark` with values of 1 KB, one command at a time and sixteen.
//! - `access`: the same with access control and without.
//! - `guess`: how long it takes not to be let in.
//! - `idle`: what ten thousand connections cost that do nothing.
//!
//! Both servers run all the time, as they are, and are asked in turns, so that what else the machine does meets both; medians of the
//! rounds are reported. `noise` has Redis in both places: what it reports is how much of a ratio says nothing.
//!
//! `cargo bench -p larder-server --bench resp -- [SECTION]`

mod access;
mod guess;
mod idle;
#[path = "../../tests/resp/program.rs"]
mod program;
mod throughput;

use std::net::SocketAddr;

use larder_testkit::redis::{Server, ServerOptions, or_skip};
use program::Larder;

/// Redis, and what is held against it.
struct Pair {
    names: [&'static str; 2],
    addrs: [SocketAddr; 2],
    // For as long as they are measured.
    _servers: (Server, Either),
}

/// What stands in the second place; it is held, and not looked at.
enum Either {
    Larder(#[expect(dead_code, reason = "it ends when this is dropped")] Larder),
    Redis(#[expect(dead_code, reason = "it ends when this is dropped")] Server),
}

impl Pair {
    fn start(resp: &str, twice: bool) -> Option<Self> {
        let redis = || {
            // More than are asked for: what is measured is not how they are refused.
            let directives = vec!["maxclients 11000".to_owned()];
            or_skip(Server::start(ServerOptions { directives, ..ServerOptions::default() }))
        };
        let first = redis()?;
        let first_addr = first.address();
        let (name, addr, second) = if twice {
            let second = redis()?;
            ("redis", second.address(), Either::Redis(second))
        } else {
            let larder = Larder::start(resp, "");
            ("larder", larder.addr(), Either::Larder(larder))
        };
        Some(Pair { names: ["redis", name], addrs: [first_addr, addr], _servers: (first, second) })
    }
}

/// The middle one.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    // Cargo adds flags of its own.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    if wanted("throughput") {
        throughput::run(false);
    }
    if wanted("access") {
        access::run();
    }
    if wanted("guess") {
        guess::run();
    }
    if wanted("idle") {
        idle::run();
    }
    // Not unless it is asked for.
    if filter == "noise" {
        throughput::run(true);
    }
}
