//! The sweeper: gives back the room of what is expired or stale, in both tiers, and of nothing else.

use larder::{Item, Names, Policy};

use crate::support::{in_memory, over_own_tier, secs, settle, until};

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
