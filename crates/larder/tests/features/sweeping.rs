//! The sweeper: gives back the room of what is expired or stale, in both tiers, and of nothing else.

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
