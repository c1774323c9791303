//! `kill -9` of whatever has a part in it, at random moments: each event takes effect, once, and in order per partition.
//!
//! Whoever fills the broker repeats what was not confirmed, and some of what was, so that events are there twice; a child follows
//! the broker; the child, the broker, or both are killed. At the end the log of the cache is read by other code than its own.
//!
//! `LARDER_EVENTS` is how many there are, `LARDER_SEED` plays another seed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder_testkit::journal::{Journal, Verdict};
use larder_testkit::wait;

use crate::broker::{Broker, Kind};
use crate::child::{Living, Said};
use crate::support::{LONG, event};

const PARTITIONS: usize = 40;

/// Who fill the broker side by side, each with partitions of its own.
const FILLERS: usize = 4;

/// Events that are added at once.
const BATCH: usize = 25;

/// Kills in an ordinary run, and one more for so many events.
const KILLS: usize = 5;
const EVENTS_OF_A_KILL: usize = 2_000;

/// How long to wait for a child that gets on before it is killed all the same.
const STALLED: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Kills {
    broker: usize,
    cache: usize,
    both: usize,
}

struct Run {
    kind: Kind,
    events: usize,
    seed: u64,
    /// Takes the memory of events away.
    forgets: bool,
}

fn events() -> usize {
    std::env::var("LARDER_EVENTS").map_or(1_500, |events| events.parse().expect("LARDER_EVENTS is a number"))
}

fn seed() -> u64 {
    std::env::var("LARDER_SEED").map_or(1, |seed| seed.parse().expect("LARDER_SEED is a number"))
}

/// Adds the events of some partitions in their order, as far as it is let, and whatever becomes of the broker.
async fn fill(broker: Arc<Broker>, numbers: Vec<usize>, released: Arc<AtomicUsize>, mut rng: Rng) {
    let mut to_add: VecDeque<usize> = numbers.into();
    let mut filler = None;
    while let Some(next) = to_add.front() {
        if *next >= released.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
            wait::pass(Duration::from_millis(5)).await;
            continue;
        }
        if filler.is_none() {
            filler = broker.filler().await;
        }
        let batch: Vec<String> = to_add.iter().take(BATCH).map(|number| event(*number, number % PARTITIONS)).collect();
        let added = match &mut filler {
            Some(filler) => filler.add(&batch).await,
            None => false,
        };
        if !added {
            filler = None;
            wait::pass(Duration::from_millis(5)).await;
        } else if rng.u32(0..10) > 0 {
            // Otherwise once more: whoever is not sure repeats.
            to_add.drain(..batch.len());
        }
    }
}

impl Run {
    async fn play(&self) -> Option<(Verdict, Kills, Said)> {
        let broker = Arc::new(Broker::start(self.kind).await?);
        let folder = tempfile::tempdir().expect("a test may make a folder");
        let released = Arc::new(AtomicUsize::new(0));
        let filling: Vec<_> = (0..FILLERS)
            .map(|filler| {
                let numbers = (0..self.events).filter(|number| number % PARTITIONS % FILLERS == filler).collect();
                tokio::spawn(fill(broker.clone(), numbers, released.clone(), Rng::with_seed(self.seed ^ filler as u64)))
            })
            .collect();
        let (mut rng, mut journal) = (Rng::with_seed(self.seed), Journal::default());
        let (mut kills, mut said) = (Kills::default(), Said::default());
        let start = || Living::start(folder.path(), self.kind, &broker.url(), self.forgets);
        let mut child = start();
        let rounds = KILLS + self.events / EVENTS_OF_A_KILL;
        for round in 1..=rounds {
            released.store(self.events * round / rounds, Ordering::Release);
            let more = rng.u64(0..(self.events * 40 / rounds) as u64);
            tokio::task::block_in_place(|| {
                let begins = newest_segment(folder.path());
                let written = || {
                    let (number, length) = newest_segment(folder.path());
                    if number == begins.0 { length - begins.1 } else { length }
                };
                // Where it does not get on any more, a kill is as good as any.
                let _far_enough = wait::until(STALLED, || written() >= more || child.has_ended());
                assert!(!child.has_ended(), "LARDER_SEED={}: the cache ended by itself", self.seed);
                (0..rng.u32(0..200_000)).for_each(|_| std::hint::spin_loop());
                let (broker_dies, cache_dies) = match rng.u32(0..3) {
                    0 => (true, false),
                    1 => (false, true),
                    _ => (true, true),
                };
                if broker_dies {
                    broker.kill();
                }
                if cache_dies {
                    said = said.and(child.kill());
                    journal.keep(&folder.path().join("log"));
                    child = start();
                }
                if broker_dies {
                    broker.restart();
                }
                *match (broker_dies, cache_dies) {
                    (true, true) => &mut kills.both,
                    (true, false) => &mut kills.broker,
                    _ => &mut kills.cache,
                } += 1;
            });
        }
        for filler in filling {
            filler.await.expect("it fills");
        }
        let began = Instant::now();
        while !broker.is_drained().await {
            let limit = LONG + Duration::from_millis(self.events as u64);
            assert!(began.elapsed() < limit && !child.has_ended(), "LARDER_SEED={}: the rest is never carried out", self.seed);
            wait::pass(Duration::from_millis(20)).await;
        }
        said = said.and(child.kill());
        journal.keep(&folder.path().join("log"));
        Some((journal.judge(self.events, |number| number % PARTITIONS), kills, said))
    }

    /// Plays it, and says what came of it.
    async fn prove(&self) {
        let began = Instant::now();
        let Some((verdict, kills, said)) = self.play().await else { return };
        let Verdict { appends, events, twice_beyond_the_window, others, faults } = &verdict;
        println!(
            "{:?}, seed {}: {events} of {} events took effect in {appends} appends ({twice_beyond_the_window} again, past the window), in \
             order in {PARTITIONS} partitions; {} or more had taken effect before; {others} gaps were made good; killed: broker {}, cache \
             {}, both {}; {:.1} s; {} faults",
            self.kind,
            self.seed,
            self.events,
            said.duplicates,
            kills.broker,
            kills.cache,
            kills.both,
            began.elapsed().as_secs_f64(),
            faults.len()
        );
        assert!(faults.is_empty(), "LARDER_SEED={}: {:?}", self.seed, &faults[..faults.len().min(20)]);
        assert_eq!((*events, appends - twice_beyond_the_window), (self.events, self.events));
        assert!(said.duplicates > 0, "nothing was delivered twice, so this shows nothing");
        // That it is followed for the first time is the only gap; who is killed before that is noted finds it again.
        assert!((1..=3).contains(others), "{others} gaps");
    }
}

impl Said {
    fn and(self, other: Said) -> Said {
        Said {
            acknowledged: self.acknowledged + other.acknowledged,
            duplicates: self.duplicates + other.duplicates,
            gaps: self.gaps + other.gaps,
        }
    }
}

/// The segment that the child writes: its number, and how long it is.
fn newest_segment(data: &Path) -> (u64, u64) {
    let segments = std::fs::read_dir(data.join("log")).into_iter().flatten().flatten().filter_map(|entry| {
        let number = u64::from_str_radix(entry.file_name().to_str()?.strip_prefix("segment-")?, 16).ok()?;
        Some((number, entry.metadata().ok()?.len()))
    });
    segments.max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_in_redis_survives_whatever_is_killed() {
    Run { kind: Kind::Redis, events: events(), seed: seed(), forgets: false }.prove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outbox_in_postgresql_survives_whatever_is_killed() {
    Run { kind: Kind::Postgres, events: events(), seed: seed(), forgets: false }.prove().await;
}

/// The canary: without its memory of events the cache carries them out again, and the log says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cache_that_forgets_events_is_noticed() {
    let run = Run { kind: Kind::Redis, events: 600, seed: seed(), forgets: true };
    let Some((verdict, ..)) = run.play().await else { return };
    assert!(verdict.faults.iter().any(|fault| fault.contains("took effect twice")), "{verdict:?}");
}
