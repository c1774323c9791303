//! How long entries live: fixed, sliding, jittered, touched, given with the item.

use larder::{ErrorKind, Item, Policy};

use crate::support::{ms, over_own_tier, secs, with_policy};

#[tokio::test]
async fn a_fixed_life_ends_however_often_it_is_read() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    for _ in 0..9 {
        clock.advance(secs(1));
        assert!(numbers.get("k").await.unwrap().is_some());
    }
    clock.advance(ms(999));
    assert!(numbers.get("k").await.unwrap().is_some());
    clock.advance(ms(1));
    assert!(numbers.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_sliding_life_ends_only_when_nobody_reads() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).sliding(true)).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    for _ in 0..20 {
        clock.advance(secs(9));
        assert!(numbers.get("k").await.unwrap().is_some());
    }
    clock.advance(secs(10));
    assert!(numbers.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn without_a_time_an_entry_lives_until_it_is_invalidated() {
    let (larder, clock) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(1_000 * 365 * 24 * 3600));
    let value = numbers.get("k").await.unwrap().unwrap();
    assert_eq!(value.fresh_for(clock.now_ms()), None);
    numbers.remove("k").await.unwrap();
    assert!(numbers.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn jitter_shortens_lives_by_up_to_its_share_and_spreads_them() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(1_000)).jitter(0.2)).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let mut lives = Vec::new();
    for key in 0..200 {
        numbers.put(format!("{key}"), key).await.unwrap();
        let value = numbers.get(format!("{key}")).await.unwrap().unwrap();
        lives.push(value.fresh_for(clock.now_ms()).unwrap());
    }
    assert!(lives.iter().all(|life| (secs(800)..=secs(1_000)).contains(life)), "{lives:?}");
    // 200 even draws from a fifth of the life all miss one half of it once in 2^199 runs.
    assert!(lives.iter().any(|life| *life < secs(900)) && lives.iter().any(|life| *life > secs(900)));
}

#[tokio::test]
async fn an_item_s_own_time_is_stronger_than_the_policy_s() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("short", Item::new(1).ttl(secs(1))).await.unwrap();
    numbers.put("long", Item::new(1).ttl(secs(100))).await.unwrap();
    clock.advance(secs(1));
    assert!(numbers.get("short").await.unwrap().is_none());
    clock.advance(secs(98));
    assert!(numbers.get("long").await.unwrap().is_some());
    clock.advance(secs(1));
    assert!(numbers.get("long").await.unwrap().is_none());
}

#[tokio::test]
async fn a_touch_starts_the_life_anew_in_both_tiers() {
    let (builder, clock, tier) = over_own_tier();
    let larder = builder.namespace("n", Policy::default().ttl(secs(10))).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(9));
    assert!(numbers.touch("k", None).await.unwrap());
    clock.advance(secs(9));
    assert!(numbers.get("k").await.unwrap().is_some());
    assert!(numbers.touch("k", Some(secs(100))).await.unwrap());
    clock.advance(secs(99));
    assert!(numbers.get("k").await.unwrap().is_some());
    assert_eq!(tier.record("n:k").unwrap().fresh_until, clock.now_ms() + 1_000);
    clock.advance(secs(1));
    assert!(numbers.get("k").await.unwrap().is_none());
    assert!(!numbers.touch("k", None).await.unwrap(), "what is over cannot be touched");
    assert!(!numbers.touch("absent", None).await.unwrap());
}

#[tokio::test]
async fn a_touch_appends_nothing_and_brings_nothing_back() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_while_revalidate(secs(100))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let head = larder.position();
    assert!(numbers.touch("k", None).await.unwrap());
    assert_eq!(larder.position(), head);
    clock.advance(secs(11));
    assert!(!numbers.touch("k", None).await.unwrap(), "an entry that may only be served as stale is not fresh");
    assert!(numbers.get("k").await.unwrap().is_none());
    numbers.put("k", 1).await.unwrap();
    numbers.remove("k").await.unwrap();
    assert!(!numbers.touch("k", Some(secs(5))).await.unwrap());
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused_by_name() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    for ttl in [secs(0), ms(0), std::time::Duration::from_micros(999), std::time::Duration::MAX, larder::TTL_MAX + ms(1)] {
        for error in [
            numbers.put("k", Item::new(2).ttl(ttl)).await.unwrap_err(),
            numbers.put_many([("k", Item::new(2).ttl(ttl))]).await.unwrap_err(),
            numbers.touch("k", Some(ttl)).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.key()), (ErrorKind::InvalidTtl, Some(b"n:k".as_slice())), "{error}");
            assert!(error.to_string().contains("from 1 ms to 100 years"), "{error}");
        }
    }
    let windows = Item::new(2).ttl(secs(1)).stale_if_error(std::time::Duration::MAX);
    assert_eq!(numbers.put("k", windows).await.unwrap_err().kind(), ErrorKind::InvalidTtl);
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 1, "nothing that was refused took effect");
    numbers.put("k", Item::new(3).ttl(larder::TTL_MAX)).await.unwrap();
    numbers.put("k", Item::new(3).ttl(ms(1))).await.unwrap();
}
