//! Sweeping ten million entries, half of which are stale, while they are read: the 99th percentile of reads in rounds in which a clean-up
//! goes on, against those in between in which it is held. Rounds take turns, so that what else the machine does falls on both alike.
//!
//! `cargo bench -p larder --bench sweeping` takes some minutes and 6 GiB. `SWEEPING_ENTRIES` is another number of entries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder::{Item, Larder, Names, SweepCursor};

/// How long a round is.
const ROUND: Duration = Duration::from_secs(3);

/// What the ratio of the two may be.
const RATIO_MAX: f64 = 1.1;

fn main() {
    let entries: u64 = std::env::var("SWEEPING_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let builder = Larder::builder().memory(12 << 30).sweep_every(Duration::from_secs(100_000));
    let larder = runtime.block_on(builder.build()).expect("it opens");
    runtime.block_on(fill(&larder, entries));
    let (held, is_over) = (AtomicBool::new(true), AtomicBool::new(false));
    let rounds = std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| sweep(&larder, &held, &is_over));
        let mut rounds = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            held.store(true, Ordering::Release);
            let without = p99_of_reads(&larder, entries);
            held.store(false, Ordering::Release);
            sweeping.thread().unpark();
            let with = p99_of_reads(&larder, entries);
            if !is_over.load(Ordering::Acquire) {
                rounds.push((without, with));
            }
        }
        rounds
    });
    tell(&rounds);
}

/// As loads do: a put would be an invalidation of each key, and ten million of them need a larger index than all else here.
async fn fill(larder: &Larder, entries: u64) {
    let (raw, began) = (larder.raw(), Instant::now());
    for n in 0..entries {
        let (key, item) = (key_of(n), Item::new(bytes::Bytes::copy_from_slice(&n.to_le_bytes())));
        let item = if n % 2 == 0 { item.tag("stale") } else { item };
        assert!(raw.fill(&key, raw.begin_fill(&key), item).await.expect("it is filled"), "nothing was invalidated meanwhile");
    }
    let memory = larder.stats().memory;
    println!("{} entries, {} MiB, in {:.1?}", memory.entries, memory.bytes >> 20, began.elapsed());
    assert_eq!(memory.entries, entries, "all of them fit");
}

/// Goes through everything, and waits between two steps while it is held.
fn sweep(larder: &Larder, held: &AtomicBool, is_over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // The sweeper that this wakes is a task of the other runtime, which nobody drives meanwhile.
        larder.invalidate(Names::new().tag("stale")).await.expect("it is invalidated");
        let (mut steps, mut most) = (0u64, 0);
        let on_step = |step: &larder::SweepStep<'_>| {
            (steps, most) = (steps + 1, step.examined.max(most));
            while held.load(Ordering::Acquire) {
                std::thread::park();
            }
            true
        };
        let (swept, ended) = larder.clean_up(SweepCursor::start(), on_step).await;
        ended.expect("there is no tier that could fail");
        println!("{} looked at in {steps} steps of {most} at most, {} given back", swept.examined, swept.invalidated);
    });
    is_over.store(true, Ordering::Release);
}

fn tell(rounds: &[(u64, u64)]) {
    assert!(!rounds.is_empty(), "the sweep was over before a round was");
    let mut ratios: Vec<f64> = rounds.iter().map(|(without, with)| *with as f64 / *without as f64).collect();
    ratios.sort_by(f64::total_cmp);
    let median = |of: fn(&(u64, u64)) -> u64| {
        let mut all: Vec<u64> = rounds.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    println!("{} pairs of rounds; median p99 {} ns held, {} ns sweeping", rounds.len(), median(|one| one.0), median(|one| one.1));
    let at = |share: usize| ratios[ratios.len() * share / 4];
    println!("ratio: median {:.3}, quartiles {:.3} and {:.3}", at(2), at(1), at(3));
    assert!(at(2) <= RATIO_MAX, "{ratios:?}");
}

fn key_of(n: u64) -> Vec<u8> {
    format!("n:{n}").into_bytes()
}

/// The time that 99 of 100 reads of fresh keys stayed below, in nanoseconds, over one round.
fn p99_of_reads(larder: &Larder, entries: u64) -> u64 {
    let (raw, mut random, began) = (larder.raw(), fastrand::Rng::new(), Instant::now());
    let mut times = Vec::with_capacity(4 << 20);
    while began.elapsed() < ROUND {
        for _ in 0..64 {
            let key = key_of(random.u64(..entries / 2) * 2 + 1);
            let read = Instant::now();
            let hit = raw.quick(&key);
            times.push(u64::try_from(read.elapsed().as_nanos()).unwrap_or(u64::MAX));
            assert!(hit.is_some(), "it is fresh, and there");
        }
    }
    let at = times.len() / 100 * 99;
    *times.select_nth_unstable(at).1
}
