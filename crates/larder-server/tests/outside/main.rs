//! Servers from outside: processes of the program over one real Redis behind a bad network, driven over HTTP by clients at once,
//! and held to the promises by the same judge as instances of the library. A run of seconds here; `cargo xtask chaos --http` for
//! as long as one likes.

mod client;
mod double;
mod fleet;
mod jobs;
mod run;
mod wire;

use std::time::{Duration, Instant};

use double::Flaw;
use larder_testkit::chaos::Fault;
use larder_testkit::chaos::report::Report;
use larder_testkit::chaos::site::Topology;
use larder_testkit::redis::or_skip;
use run::{Plan, play};

/// How long any request may take of a server that is not kept from running: its own time-outs are well below.
const OPERATION_MAX: Duration = Duration::from_secs(5);

/// How long it may take until a double is caught. It takes one stretch, of two seconds.
const CAUGHT_WITHIN: Duration = Duration::from_secs(30);

/// What `cargo xtask chaos --http` says.
const MINUTES: &str = "LARDER_MINUTES";

fn seed() -> u64 {
    std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("LARDER_SEED is a number"))
}

fn plan(seed: u64) -> Plan {
    println!("LARDER_SEED={seed}");
    Plan { seed, clients: 8, pause: Duration::from_millis(8), length: Duration::from_secs(8), faults: Fault::ALL, flaw: None, tells: false }
}

#[test]
fn servers_keep_their_promises_while_everything_around_them_breaks() {
    let seed = seed();
    let Some(part) = or_skip(play(&plan(seed))) else { return };
    assert!(part.violations.is_empty(), "LARDER_SEED={seed}: {}", part.violations.join("\n"));
    let (requests, faults) = (part.tally.total(), part.damage.faults.values().sum::<u64>());
    println!("{requests} requests, {} judged, {faults} faults", part.judged);
    assert!(part.judged > 500, "of {requests} requests only {} could be judged", part.judged);
    assert!(faults > 0 && part.quiet > 0);
}

#[test]
#[ignore = "goes on for as long as LARDER_MINUTES says; `cargo xtask chaos --http` runs it"]
fn for_as_long_as_one_likes() {
    let minutes = std::env::var(MINUTES).ok().and_then(|minutes| minutes.parse::<f64>().ok());
    let length = minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    let length = length.expect("LARDER_MINUTES says for how many minutes");
    let (seed, began) = (seed(), Instant::now());
    let plan = Plan { clients: 24, pause: Duration::from_millis(16), length, tells: true, ..plan(seed) };
    let part = play(&plan).unwrap_or_else(|error| panic!("{error}"));
    let of = format!("{} servers, driven over HTTP", fleet::SERVERS);
    let report = Report { seed, of, took: began.elapsed(), parts: vec![(Topology::Single, part)] };
    report.violations().for_each(|(_, violation)| println!("VIOLATION {violation}\n"));
    println!("{report}");
    assert!(report.violations().next().is_none(), "LARDER_SEED={seed}: a promise was broken; the story stands above");
}

fn is_caught(flaw: Flaw) {
    let seed = seed();
    let plan = Plan { length: CAUGHT_WITHIN, faults: &[], flaw: Some(flaw), ..plan(seed) };
    let Some(part) = or_skip(play(&plan)) else { return };
    let requests = part.tally.total();
    let Some(violation) = part.violations.iter().find(|violation| !violation.starts_with("Liveness")) else {
        panic!("LARDER_SEED={seed}: {flaw:?} was not caught within {requests} requests: {:?}", part.violations);
    };
    println!("{flaw:?}: caught within {requests} requests: {violation}");
}

#[test]
fn a_door_that_answers_from_memory_is_caught() {
    is_caught(Flaw::AnswersFromMemory);
}

#[test]
fn fills_without_their_tokens_are_caught() {
    is_caught(Flaw::FillsWithoutToken);
}
