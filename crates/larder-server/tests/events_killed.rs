//! `kill -9` of a server that events are posted to, at random moments: each event that was answered took effect, once, and in the
//! order in which its sender posted it.
//!
//! Senders post one event at a time and repeat what was not answered, and some of what was. At the end the log of the cache is read
//! by other code than its own. `LARDER_EVENTS` is how many events there are, `LARDER_SEED` plays another seed.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::journal::Journal;
use larder_testkit::port::Port;
use larder_testkit::process::Running;
use larder_testkit::wait;
use serde_json::json;

/// Senders, each with a partition of its own.
const SENDERS: usize = 16;

/// Kills in an ordinary run, and one more for so many events.
const KILLS: usize = 5;
const EVENTS_OF_A_KILL: usize = 2_000;

/// How long a server may take to start, and an event to be answered whatever is killed.
const PATIENCE: Duration = Duration::from_secs(60);

fn number_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().expect("it is a number"))
}

/// Posts an event; what it was answered, if it was.
fn post(agent: &ureq::Agent, url: &str, number: usize) -> Option<serde_json::Value> {
    let event = json!({
        "specversion": "1.0", "id": number.to_string(), "source": "proof", "type": "tick", "subject": format!("p{}", number % SENDERS),
        "data": { "n": number.to_string() },
    });
    let answer = agent.post(url).header("content-type", "application/cloudevents+json").send(event.to_string());
    let mut answer = answer.ok().filter(|answer| answer.status() == 200)?;
    serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
}

fn start(port: &Port, folder: &Path) -> Running {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("server.log")).expect("a test may write a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["serve", "--http", &format!("127.0.0.1:{}", port.number()), "--data"]).arg(folder.join("data"));
    command.arg("--config").arg(folder.join("larder.toml"));
    Running::start(&command, &log).expect("the program was built for this test")
}

#[test]
fn events_that_are_posted_survive_the_server() {
    let (events, seed) = (number_of("LARDER_EVENTS", 1_500), number_of("LARDER_SEED", 1));
    let began = Instant::now();
    let folder = tempfile::tempdir().expect("a test may make a folder");
    let config = "[[on]]\ntype = \"tick\"\ninvalidate = [\"tag:{n}\"]\n";
    std::fs::write(folder.path().join("larder.toml"), config).expect("a test may write a file");
    let port = Port::reserve().expect("a port is free");
    let url = format!("http://127.0.0.1:{}/v1/events", port.number());
    let (answered, repeated, duplicates) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (mut journal, mut rng, ended) = (Journal::default(), fastrand::Rng::with_seed(seed as u64), AtomicBool::new(false));
    let kills = KILLS + events / EVENTS_OF_A_KILL;

    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (url, answered, repeated, duplicates, ended) = (&url, &answered, &repeated, &duplicates, &ended);
            let mut rng = rng.fork();
            scope.spawn(move || {
                let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
                for number in (sender..events).step_by(SENDERS) {
                    loop {
                        let answer =
                            wait::until_some(PATIENCE, || if ended.load(Ordering::Acquire) { None } else { post(&agent, url, number) });
                        let answer = answer.unwrap_or_else(|| panic!("LARDER_SEED={seed}: event {number} is never answered"));
                        duplicates.fetch_add(usize::from(answer["duplicate"] == true), Ordering::Relaxed);
                        // Whoever is not sure repeats.
                        if rng.u32(..20) > 0 {
                            break;
                        }
                        repeated.fetch_add(1, Ordering::Relaxed);
                    }
                    answered.fetch_add(1, Ordering::Release);
                }
            });
        }
        let mut server = start(&port, folder.path());
        for kill in 1..=kills {
            let due = (events * kill / (kills + 1)).saturating_sub(rng.usize(..events / kills / 2));
            let far_enough = wait::until(PATIENCE, || answered.load(Ordering::Acquire) >= due || server.has_ended());
            if !far_enough || server.has_ended() {
                ended.store(true, Ordering::Release);
                panic!("LARDER_SEED={seed}: the server ended by itself, or does not get on");
            }
            (0..rng.u32(..200_000)).for_each(|_| std::hint::spin_loop());
            drop(server);
            journal.keep(&folder.path().join("data/log"));
            server = start(&port, folder.path());
        }
        let all = wait::until(PATIENCE + Duration::from_millis(events as u64), || answered.load(Ordering::Acquire) == events);
        ended.store(true, Ordering::Release);
        assert!(all, "LARDER_SEED={seed}: the rest is never answered");
        drop(server);
    });

    journal.keep(&folder.path().join("data/log"));
    let verdict = journal.judge(events, |number| number % SENDERS);
    let (repeated, duplicates) = (repeated.into_inner(), duplicates.into_inner());
    println!(
        "HTTP, seed {seed}: {} of {events} events took effect in {} appends ({} again, past the window), in order in {SENDERS} partitions; \
         {repeated} were posted again on purpose, {duplicates} answered as carried out before; server killed {kills} times; {:.1} s; \
         {} faults",
        verdict.events,
        verdict.appends,
        verdict.twice_beyond_the_window,
        began.elapsed().as_secs_f64(),
        verdict.faults.len()
    );
    assert!(verdict.faults.is_empty(), "LARDER_SEED={seed}: {:?}", &verdict.faults[..verdict.faults.len().min(20)]);
    assert_eq!((verdict.events, verdict.others), (events, 0));
    assert!(repeated > 0 && duplicates >= repeated, "what was posted again was not known again");
}
