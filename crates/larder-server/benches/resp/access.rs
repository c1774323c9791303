//! What access control costs: the same server with and without, asked in turns. A principal who may do it with all keys, and one whose
//! keys have to be looked at.

use std::net::SocketAddr;

use larder_server::access::token::Token;
use larder_testkit::process::find;

use super::median;
use super::program::Larder;
use super::throughput::{TESTS, measure};

/// Rounds; each asks all. Odd, for a median that was measured.
const ROUNDS: usize = 7;

/// How deep the pipeline is, and for how many requests.
const PIPELINES: [(usize, usize); 2] = [(1, 60_000), (16, 400_000)];

const SIDES: [&str; 3] = ["off", "all keys", "by pattern"];

pub fn run() {
    let Some(program) = find("redis-benchmark") else {
        eprintln!("SKIPPED: redis-benchmark is not installed; `cargo xtask setup` brings it");
        return;
    };
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let token = Token::draw().expect("the system gives chance").reveal();
    let at = folder.path().join("token");
    std::fs::write(&at, &token).expect("temporary files can be written");
    let lines = |what: &str| {
        let file = at.display();
        format!("[access]\nenabled = true\n\n[[principal]]\nname = \"bench\"\n{what}\ntoken = \"file:{file}\"\n")
    };
    let servers = [
        Larder::start("", ""),
        Larder::start("", &lines("roles = [\"service\"]")),
        Larder::start(
            "",
            &lines("grants = [\"allow read, write on other:**\", \"allow read, write on key:**\", \"deny read on secret:**\"]"),
        ),
    ];
    let sides: Vec<(SocketAddr, Option<&str>)> =
        servers.iter().enumerate().map(|(at, server)| (server.addr(), (at > 0).then_some(token.as_str()))).collect();
    println!("\naccess: redis-benchmark -d 1024 -c 50 -r 10000, medians of {ROUNDS} rounds; ratios to \"off\"");
    for (pipeline, requests) in PIPELINES {
        let mut rates: Vec<Vec<[f64; 2]>> = vec![Vec::new(); sides.len()];
        for round in 0..ROUNDS {
            // Whoever is first in one round is not in the next.
            for turn in 0..sides.len() {
                let side = (round + turn) % sides.len();
                let (addr, token) = sides[side];
                let measured = measure(&program, addr, token, pipeline, requests);
                rates[side].push([measured[0].per_second(), measured[1].per_second()]);
            }
        }
        for (at, test) in TESTS.iter().enumerate() {
            let middle = |side: usize| median(rates[side].iter().map(|round| round[at]).collect());
            let ratio = |side: usize| median(rates[side].iter().zip(&rates[0]).map(|(round, off)| round[at] / off[at]).collect());
            let told: Vec<String> =
                (0..sides.len()).map(|side| format!("{}: {:>9.0} /s {:.3}", SIDES[side], middle(side), ratio(side))).collect();
            println!("{:<12}{}", format!("{test} -P {pipeline}"), told.join("   "));
        }
    }
}
