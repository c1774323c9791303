//! Commands at random, to both servers.

use super::differential::Both;
use super::generate::{Generated, Generator};
use super::seed;
use super::sides::Sides;

/// How much is done in a test. More, with other seeds, is done by `cargo xtask fuzz`.
const STEPS: usize = 4_000;

/// How many differences end a run.
const DIFFERENCES_MAX: usize = 40;

fn step(both: &mut Both, meddler: &mut Both, generated: Generated) -> bool {
    match generated {
        Generated::Commands(commands, cuts) => both.ask_all(&commands, &cuts),
        Generated::Scan(options) => both.scan(&options),
        Generated::Brief(words, key) => {
            let is_same = both.ask(&words);
            // What it did not make brief lives on, and would be waited for in vain.
            let lives_briefly = |both: &mut Both| {
                both.clients().each_mut().map(|client| {
                    let left = client.ask(&[b"PTTL", &key[..]]).expect("it answers").value.integer();
                    left.is_some_and(|left| left < 1_000 && left != -1)
                }) == [true; 2]
            };
            if is_same && lives_briefly(both) {
                both.wait_until_gone(&key);
            }
            is_same
        }
        Generated::Transaction { watched, meddled, queued, executes } => {
            // After a difference nothing that follows from it is judged: the servers are emptied, and the transaction is given up.
            watched.is_none_or(|words| both.ask(&words))
                && meddled.is_none_or(|words| meddler.ask(&words))
                && both.run("MULTI")
                && both.ask_all(&queued, &[])
                && both.run(if executes { "EXEC" } else { "DISCARD" })
        }
    }
}

/// Runs commands of this seed, and returns what differs.
fn run(sides: &Sides, seed: u64, steps: usize, resp3: bool) -> Both {
    let mut generator = Generator::new(seed);
    let (mut both, mut meddler) = (Both::connect(sides), Both::connect(sides));
    both.begin_anew();
    if resp3 {
        both.run("HELLO 3");
    }
    for _ in 0..steps {
        if !step(&mut both, &mut meddler, generator.draw()) {
            both.begin_anew();
        }
        if both.differences.len() > DIFFERENCES_MAX {
            break;
        }
    }
    both.differences.append(&mut meddler.differences);
    both
}

fn holds(sides: &Sides, seed: u64, steps: usize, resp3: bool) {
    let both = run(sides, seed, steps, resp3);
    println!("{} replies were compared", both.compared);
    both.expect_no_difference(&format!("LARDER_SEED={seed}"));
    assert!(both.compared > steps as u64, "only {} replies were compared", both.compared);
}

#[test]
fn commands_at_random_are_answered_as_redis_answers_them() {
    let Some(sides) = Sides::start() else { return };
    holds(&sides, seed(), STEPS, false);
}

#[test]
fn commands_at_random_are_answered_as_redis_answers_them_in_resp3() {
    let Some(sides) = Sides::start() else { return };
    holds(&sides, seed(), STEPS, true);
}

#[test]
#[ignore = "goes on for as long as LARDER_MINUTES says; `cargo xtask fuzz` runs it"]
fn commands_at_random_for_as_long_as_one_likes() {
    let minutes: f64 = std::env::var("LARDER_MINUTES").ok().and_then(|text| text.parse().ok()).expect("LARDER_MINUTES is a number");
    let Some(sides) = Sides::start() else { return };
    let (began, mut seed, mut compared) = (std::time::Instant::now(), seed(), 0);
    while began.elapsed().as_secs_f64() < minutes * 60.0 {
        let both = run(&sides, seed, STEPS, seed % 2 == 1);
        both.expect_no_difference(&format!("LARDER_SEED={seed}"));
        compared += both.compared;
        seed += 1;
    }
    println!("{compared} replies were compared, the last with LARDER_SEED={}", seed - 1);
}

#[test]
fn redis_does_not_differ_from_redis() {
    let Some(sides) = Sides::doubles(&[]) else { return };
    for resp3 in [false, true] {
        holds(&sides, seed(), STEPS, resp3);
    }
}

#[test]
fn a_double_that_lacks_a_command_or_counts_reads_is_caught() {
    for flaw in ["rename-command STRLEN \"\"", "maxmemory-policy allkeys-lfu"] {
        let Some(sides) = Sides::doubles(&[flaw]) else { return };
        let seed = seed();
        let both = run(&sides, seed, STEPS, false);
        assert!(!both.differences.is_empty(), "LARDER_SEED={seed}: {flaw} was not noticed in {} replies", both.compared);
    }
}
