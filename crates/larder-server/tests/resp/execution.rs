//! Any bytes, carried out: whatever a client sends, the server answers in the protocol, ends the connection when it should, and serves
//! others.

use std::time::Instant;

use fastrand::Rng;

use super::conversation::check;
use super::generate::{Generated, Generator};
use super::program::Larder;
use super::seed;
use super::wire::{Client, Words, encoded};

/// Commands that the comparison leaves out because Redis does otherwise, or because a comparison would have to wait for them.
const MORE: [&str; 34] = [
    "HELLO 3",
    "HELLO 2 SETNAME x",
    "RESET",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH a b",
    "UNWATCH",
    "SUBSCRIBE a b",
    "PSUBSCRIBE *",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "PUBLISH a b",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX b",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT CACHING YES",
    "CLIENT TRACKING OFF",
    "CLIENT LIST",
    "CLIENT INFO",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY OFF",
    "CLIENT REPLY ON",
    "COMMAND",
    "COMMAND DOCS get",
    "INFO everything",
    "CONFIG GET *",
    "MEMORY USAGE a",
    "LARDER.SET a v EX 100 TAG t u",
    "LARDER.GET a",
    "LARDER.INVALIDATE TAG t",
    "LARDER.INVALIDATE PATTERN c:*",
    "LARDER.EXPLAIN a",
    "LARDER.EMIT market_data_update {\"symbol\":\"A\"}",
];

/// What clients send: commands that make sense, in an order that does not, and now and then a byte that is wrong.
fn bytes(random: &mut Rng, generator: &mut Generator) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..40) {
        let commands: Vec<Words> = match generator.draw() {
            Generated::Commands(commands, _) => commands,
            Generated::Scan(options) => vec![[vec![b"SCAN".to_vec(), b"0".to_vec()], options].concat()],
            Generated::Brief(words, _) => vec![words],
            Generated::Transaction { queued, .. } => queued,
        };
        bytes.extend(commands.iter().flat_map(|words| encoded(words)));
        if random.u32(..3) > 0 {
            let mut words = super::wire::words(MORE[random.usize(..MORE.len())]);
            if random.u32(..4) == 0 {
                let at = random.usize(1..=words.len());
                words.insert(at, vec![b"\0\r\n-1"[random.usize(..5)]]);
            }
            bytes.extend(encoded(&words));
        }
    }
    if !bytes.is_empty() && random.u32(..4) == 0 {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    bytes
}

fn run(larder: &Larder, seed: u64, inputs: usize) {
    let (mut random, mut generator) = (Rng::with_seed(seed), Generator::new(seed));
    for _ in 0..inputs {
        let bytes = bytes(&mut random, &mut generator);
        check(larder.addr(), &bytes, random.usize(..=bytes.len()));
    }
    let mut client = Client::connect(larder.addr()).expect("it listens");
    assert_eq!(client.ask(&["PING"]).expect("it answers").raw, b"+PONG\r\n", "LARDER_SEED={seed}");
}

#[test]
fn any_commands_in_any_order_are_answered_in_the_protocol() {
    let seed = seed();
    println!("LARDER_SEED={seed}");
    run(&Larder::start("", ""), seed, 300);
}

#[test]
#[ignore = "goes on for as long as LARDER_MINUTES says; `cargo xtask fuzz` runs it"]
fn any_commands_for_as_long_as_one_likes() {
    let minutes: f64 = std::env::var("LARDER_MINUTES").ok().and_then(|text| text.parse().ok()).expect("LARDER_MINUTES is a number");
    let (larder, began, mut seed, mut inputs) = (Larder::start("", ""), Instant::now(), seed(), 0);
    while began.elapsed().as_secs_f64() < minutes * 60.0 {
        println!("LARDER_SEED={seed}");
        run(&larder, seed, 300);
        (seed, inputs) = (seed + 1, inputs + 300);
    }
    println!("{inputs} connections");
}
