//! The sweeper: gives back the room of what is expired or stale, in both tiers, and of nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::{ErrorKind, Item, Larder, Names, Policy, SweepCursor, SweepPart};

use crate::support::{Behaviour, in_memory, over_own_tier, secs, settle, until};

#[tokio::test]
async fn a_sweep_gives_back_what_is_expired_or_stale_and_nothing_else() {
    let (builder, clock, tier) = over_own_tier();
    let larder = builder.namespace("n", Policy::default().ttl(secs(100)).stale_if_error(secs(50))).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    for key in 0..10 {
        numbers.put(format!("tagged{key}"), Item::new(key).tag("t")).await.unwrap();
        numbers.put(format!("short{key}"), Item::new(key).ttl(secs(1)).stale_if_error(secs(0))).await.unwrap();
        numbers.put(format!("aged{key}"), Item::new(key).ttl(secs(1))).await.unwrap();
        numbers.put(format!("stays{key}"), key).await.unwrap();
    }
    clock.advance(secs(2));
    let swept = larder.sweep().await.unwrap();
    assert_eq!((swept.examined, swept.expired, swept.invalidated), (40, 10, 0));
    assert_eq!((swept.backing_examined, swept.backing_removed), (40, 10));
    assert!(swept.backing_removed_bytes > 0);
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    let swept = larder.sweep().await.unwrap();
    assert_eq!((swept.examined, swept.expired, swept.invalidated), (30, 0, 10));
    assert_eq!((swept.backing_examined, swept.backing_removed), (30, 10));
    let stats = larder.stats();
    assert_eq!((stats.memory.entries, stats.backing.unwrap().stats.entries), (20, 20));
    assert_eq!((stats.total.counts.expired, stats.total.counts.invalidated), (10, 10));
    assert!(tier.record("n:aged0").is_some(), "it may still be served where a load fails");
    clock.advance(secs(200));
    assert_eq!(larder.sweep().await.unwrap().expired, 20);
    assert_eq!(larder.stats().memory.bytes, 0);
}

#[tokio::test]
async fn a_large_invalidation_wakes_the_sweeper() {
    let (builder, _) = in_memory();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    for key in 0..1_000 {
        numbers.put(format!("{key}"), key).await.unwrap();
    }
    larder.invalidate(Names::new().namespace("n")).await.unwrap();
    until("the room is given back", || larder.stats().memory.entries == 0).await;
    assert_eq!(larder.stats().total.counts.invalidated, 1_000);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_is_swept_in_its_time() {
    let (builder, clock) = in_memory();
    let larder = builder.sweep_every(secs(5)).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", Item::new(1).ttl(secs(1))).await.unwrap();
    clock.advance(secs(2));
    // The sweeper begins to count its time when it first runs.
    settle().await;
    assert_eq!(larder.stats().memory.entries, 1);
    tokio::time::advance(secs(6)).await;
    until("the sweeper came by", || larder.stats().memory.entries == 0).await;
    assert_eq!(larder.stats().total.counts.expired, 1);
}

/// What a clean-up looks at in one step.
const STEP: u64 = 256;

#[tokio::test(start_paused = true)]
async fn a_clean_up_tells_of_small_steps_and_says_what_each_namespace_gave_back() {
    let (builder, clock, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let (a, b) = (larder.namespace::<u32>("a").unwrap(), larder.namespace::<u32>("b").unwrap());
    for key in 0..1_000 {
        a.put(format!("{key}"), Item::new(key).tag("t")).await.unwrap();
        b.put(format!("{key}"), Item::new(key).ttl(secs(1))).await.unwrap();
    }
    b.put("stays", 1).await.unwrap();
    // The sweeper that wakes up is another; its first pause is long enough here.
    clock.advance(secs(2));
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    let (mut steps, mut parts) = (Vec::new(), Vec::new());
    let (swept, ended) = larder
        .clean_up(SweepCursor::start(), |step| {
            steps.push(step.examined);
            parts.push(step.part);
            assert!(step.of.is_none_or(|of| step.done <= of), "{step:?}");
            true
        })
        .await;
    ended.unwrap();
    assert!(steps.iter().all(|examined| *examined <= STEP), "{steps:?}");
    assert!(steps.len() as u64 >= 2_001 / STEP, "{steps:?}");
    parts.dedup();
    assert_eq!(parts, [SweepPart::Memory, SweepPart::Backing, SweepPart::Compaction]);
    assert_eq!(tier.record("a:1"), None);
    assert!(tier.record("b:stays").is_some());
    assert_eq!(larder.stats().memory.entries, 1);
    // The sweeper may have been first with some of them; what is told adds up all the same.
    assert_eq!(swept.backing_removed, swept.namespaces.iter().map(|one| one.backing.total().entries).sum::<u64>());
    let of = |name: &str| swept.namespaces.iter().find(|one| one.name == name).cloned().unwrap_or_default();
    assert_eq!((of("a").backing.expired.entries, of("b").backing.invalidated.entries), (0, 0));
    assert!(of("a").backing.invalidated.bytes >= of("a").backing.invalidated.entries);
}

#[tokio::test]
async fn a_clean_up_that_is_stopped_goes_on_where_it_was() {
    let (builder, clock, tier) = over_own_tier();
    // No other sweeper comes by: nothing large is invalidated, and the next round is far away.
    let larder = builder.sweep_every(secs(10_000)).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    for key in 0..1_000 {
        numbers.put(format!("{key:04}"), Item::new(key).ttl(secs(1))).await.unwrap();
    }
    clock.advance(secs(2));
    let mut cursor = SweepCursor::start();
    let (first, ended) = larder
        .clean_up(SweepCursor::start(), |step| {
            cursor = step.cursor.clone();
            step.part == SweepPart::Memory
        })
        .await;
    ended.unwrap();
    assert_eq!((first.expired, first.backing_removed), (1_000, STEP));
    let n = first.namespaces.into_iter().find(|one| one.name == "n").expect("it gave something back");
    assert_eq!((n.memory.expired.entries, n.backing.expired.entries), (1_000, STEP));
    assert_eq!(n.memory.expired.bytes, first.memory_removed_bytes);
    let (rest, ended) = larder.clean_up(cursor.to_string().parse().unwrap(), |_| true).await;
    ended.unwrap();
    assert_eq!((rest.examined, rest.backing_examined, rest.backing_removed), (0, 1_000 - STEP, 1_000 - STEP));
    assert_eq!(larder.stats().backing.unwrap().stats.entries, 0);
    tier.behave(Behaviour::Fails);
    let (again, ended) = larder.clean_up(SweepCursor::start(), |_| true).await;
    assert_eq!((again.backing_removed, ended.unwrap_err().kind()), (0, ErrorKind::Tier), "what was done is told beside the error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_gives_the_disk_back_what_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let larder = Larder::builder().data(folder.path()).sweep_every(secs(10_000)).build().await.unwrap();
    let blobs = larder.namespace::<Vec<u8>>("blobs").unwrap();
    let mut random = fastrand::Rng::with_seed(8);
    for key in 0..24 {
        let blob: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
        blobs.put(format!("{key}"), Item::new(blob).tag(if key % 4 == 0 { "stays" } else { "goes" })).await.unwrap();
    }
    larder.flush().await.unwrap();
    larder.invalidate(Names::new().tag("goes")).await.unwrap();
    let (swept, ended) = larder.clean_up(SweepCursor::start(), |_| true).await;
    ended.unwrap();
    assert!(swept.compacted_bytes > 8 << 20, "{swept:?}");
    let stats = larder.stats().backing.unwrap().stats;
    assert_eq!(stats.entries, 6);
    assert!(stats.bytes_on_disk < 2 * stats.bytes + (48 << 20), "{stats:?}");
    larder.close().await.unwrap();
}

/// Entries of the proof, of which half are stale.
const MANY: u64 = 10_000_000;

/// How long a round of the proof is.
const ROUND: Duration = Duration::from_secs(3);

/// `cargo test --release -p larder --test features -- --ignored --nocapture ten_million`
#[test]
#[ignore = "it takes minutes and gigabytes, and measures time"]
fn sweeping_ten_million_entries_does_not_hold_up_reads() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Larder::builder().memory(12 << 30).sweep_every(secs(100_000));
    let larder = runtime.block_on(builder.build()).unwrap();
    runtime.block_on(async {
        let raw = larder.raw();
        for from in (0..MANY).step_by(1_000) {
            let item = |n: u64| {
                let item = Item::new(bytes::Bytes::copy_from_slice(&n.to_le_bytes()));
                (key_of(n), if n % 2 == 0 { item.tag("stale") } else { item })
            };
            raw.put_many((from..from + 1_000).map(item)).await.unwrap();
        }
    });
    assert_eq!(larder.stats().memory.entries, MANY, "all of them fit");
    let (paused, is_over) = (AtomicBool::new(true), AtomicBool::new(false));
    let rounds = std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let swept = runtime.block_on(async {
                // It makes half of the entries stale. The sweeper, which it wakes, is a task of the runtime that is not driven meanwhile.
                larder.invalidate(Names::new().tag("stale")).await.unwrap();
                larder
                    .clean_up(SweepCursor::start(), |_| {
                        while paused.load(Ordering::Acquire) {
                            std::thread::park();
                        }
                        true
                    })
                    .await
            });
            is_over.store(true, Ordering::Release);
            swept
        });
        let mut rounds = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            paused.store(true, Ordering::Release);
            let without = p99_of_reads(&larder);
            paused.store(false, Ordering::Release);
            sweeping.thread().unpark();
            let with = p99_of_reads(&larder);
            if !is_over.load(Ordering::Acquire) {
                rounds.push((without, with));
            }
        }
        let (swept, ended) = sweeping.join().unwrap();
        ended.unwrap();
        println!("examined {}, invalidated {}", swept.examined, swept.invalidated);
        rounds
    });
    let mut ratios: Vec<f64> = rounds.iter().map(|(without, with)| *with as f64 / *without as f64).collect();
    ratios.sort_by(f64::total_cmp);
    let sum = |of: fn(&(u64, u64)) -> u64| rounds.iter().map(of).sum::<u64>() / rounds.len() as u64;
    println!("{} pairs of rounds; mean p99 without {} ns, with {} ns", rounds.len(), sum(|one| one.0), sum(|one| one.1));
    println!(
        "ratios: median {:.3}, quartiles {:.3} and {:.3}",
        ratios[ratios.len() / 2],
        ratios[ratios.len() / 4],
        ratios[ratios.len() * 3 / 4]
    );
    assert!(ratios[ratios.len() / 2] <= 1.1, "{ratios:?}");
}

fn key_of(n: u64) -> Vec<u8> {
    format!("n:{n}").into_bytes()
}

/// The time that 99 of 100 reads of fresh keys stayed below, in nanoseconds, over one round.
fn p99_of_reads(larder: &Larder) -> u64 {
    let (raw, mut random, began) = (larder.raw(), fastrand::Rng::new(), std::time::Instant::now());
    let mut times = Vec::with_capacity(4 << 20);
    while began.elapsed() < ROUND {
        for _ in 0..64 {
            let key = key_of(random.u64(..MANY / 2) * 2 + 1);
            let read = std::time::Instant::now();
            let hit = raw.quick(&key);
            times.push(read.elapsed().as_nanos() as u64);
            assert!(hit.is_some());
        }
    }
    let at = times.len() / 100 * 99;
    *times.select_nth_unstable(at).1
}
