//! Values past their time: served while they are loaded again, served where loading fails or takes long, loaded ahead of
//! their end; and "there is no such thing". Never, in any of it, is an invalidated value served.

use larder::{Clock, ErrorKind, Freshness, Item, Larder, Lookup, Names, Policy, Source};

use crate::support::{Loads, secs, settle, until, with_policy};

#[tokio::test]
async fn within_its_window_the_old_value_is_served_and_loaded_again_behind() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_while_revalidate(secs(5))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    loads.let_go(1);
    numbers.get_or_load("k", loads.value(1)).await.unwrap();
    clock.advance(secs(10));
    assert!(numbers.get("k").await.unwrap().is_none(), "get serves what is fresh");
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Stale(answer) if *answer.value == 1));

    let old = numbers.lookup_or_load("k", loads.value(2)).await.unwrap();
    assert_eq!((*old.value, old.freshness, old.source, old.age), (1, Freshness::Stale, Source::Memory, secs(10)));
    loads.until_begun(2).await;
    // While the load is under way nobody begins another, and nobody waits.
    let old = numbers.lookup_or_load("k", loads.value(3)).await.unwrap();
    assert_eq!((*old.value, loads.begun()), (1, 2));
    loads.let_go(1);
    until("the load behind has ended", || larder.stats().total.counts.loads_ok == 2).await;
    settle().await;
    let new = numbers.lookup_or_load("k", loads.value(4)).await.unwrap();
    assert_eq!((*new.value, new.freshness), (2, Freshness::Fresh));
    assert_eq!(loads.begun(), 2);
}

#[tokio::test]
async fn behind_its_window_the_old_value_is_gone() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_while_revalidate(secs(5))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(15));
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Miss(_)));
    numbers.put("k", Item::new(1).ttl(secs(1)).stale_while_revalidate(secs(100))).await.unwrap();
    clock.advance(secs(100));
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Stale(_)), "an item's own window is stronger");
    clock.advance(secs(1));
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Miss(_)));
}

#[tokio::test]
async fn an_invalidated_value_is_never_served_as_stale() {
    let policy = Policy::default().ttl(secs(10)).stale_while_revalidate(secs(100)).stale_if_error(secs(100));
    let (larder, clock) = with_policy(policy).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", Item::new(1).tag("t")).await.unwrap();
    clock.advance(secs(20));
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Stale(_)));
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Miss(_)));
    let error = numbers.get_or_load("k", Loads::open().failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load, "not even where the loader fails");
    assert_eq!(numbers.get_or_load("k", Loads::open().value(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn where_loading_fails_the_old_value_is_served_within_its_window() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_if_error(secs(5))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(12));
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Miss(_)), "nothing has failed yet");
    let answer = numbers.lookup_or_load("k", Loads::open().failing()).await.unwrap();
    assert_eq!((*answer.value, answer.freshness), (1, Freshness::Stale));
    let counts = larder.stats().total.counts;
    assert_eq!((counts.hits_stale, counts.loads_error), (1, 1));
    clock.advance(secs(3));
    assert_eq!(numbers.get_or_load("k", Loads::open().failing()).await.unwrap_err().kind(), ErrorKind::Load);
}

#[tokio::test]
async fn a_value_invalidated_while_its_load_fails_is_not_fallen_back_to() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_if_error(secs(50))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(12));
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.failing());
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    larder.invalidate(Names::new().everything()).await.unwrap();
    loads.let_go(1);
    assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
}

#[tokio::test(start_paused = true)]
async fn where_loading_takes_long_the_old_value_is_served_and_the_load_goes_on() {
    let policy = Policy::default().ttl(secs(10)).stale_if_error(secs(50)).load_soft_timeout(secs(2)).load_timeout(secs(100));
    let (larder, clock) = with_policy(policy).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(12));
    let loads = Loads::held();
    let begun = tokio::time::Instant::now();
    let answer = numbers.lookup_or_load("k", loads.value(2)).await.unwrap();
    assert_eq!((*answer.value, answer.freshness, begun.elapsed().as_secs()), (1, Freshness::Stale, 2));
    loads.let_go(1);
    settle().await;
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2, "the load went on behind");
    assert_eq!(loads.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_soft_limit_does_not_serve_what_was_invalidated_meanwhile() {
    let policy = Policy::default().ttl(secs(10)).stale_if_error(secs(50)).load_soft_timeout(secs(2)).load_timeout(secs(100));
    let (larder, clock) = with_policy(policy).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(12));
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.value(2));
        tokio::spawn(async move { numbers.lookup_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    larder.invalidate(Names::new().key("n:k")).await.unwrap();
    tokio::time::advance(secs(3)).await;
    settle().await;
    assert!(!caller.is_finished(), "there is nothing left that it may be given");
    loads.let_go(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 2);
}

#[tokio::test(start_paused = true)]
async fn a_hard_time_out_falls_back_as_a_failure_does() {
    let policy = Policy::default().ttl(secs(10)).stale_if_error(secs(50)).load_timeout(secs(3));
    let (larder, clock) = with_policy(policy).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    clock.advance(secs(12));
    let answer = numbers.lookup_or_load("k", Loads::held().value(2)).await.unwrap();
    assert_eq!((*answer.value, answer.freshness), (1, Freshness::Stale));
}

#[tokio::test]
async fn an_entry_in_use_is_loaded_again_ahead_of_its_end() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(100)).refresh_ahead(0.2)).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::open();
    numbers.get_or_load("k", loads.value(1)).await.unwrap();
    clock.advance(secs(79));
    assert_eq!(numbers.get_or_load("k", loads.value(2)).await.unwrap(), 1);
    settle().await;
    assert_eq!(loads.begun(), 1, "it is not time yet");
    clock.advance(secs(1));
    let answer = numbers.lookup_or_load("k", loads.value(3)).await.unwrap();
    assert_eq!((*answer.value, answer.freshness), (1, Freshness::Fresh), "nobody waits for it");
    until("the load ahead has ended", || larder.stats().total.counts.loads_ok == 2).await;
    settle().await;
    clock.advance(secs(30));
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 3, "the old one would have ended by now");
    assert_eq!(loads.begun(), 2);
}

#[tokio::test]
async fn what_comes_from_the_backing_tier_is_loaded_ahead_of_the_end_of_its_own_life() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let policy = Policy::default().ttl(secs(100)).refresh_ahead(0.2);
    let open = async || {
        let builder = Larder::builder().data(folder.path()).clock(clock.clone());
        builder.namespace("n", policy.clone()).build().await.unwrap()
    };
    let read_anew = async |key: &str| {
        let larder = open().await;
        let (numbers, loads) = (larder.namespace::<u32>("n").unwrap(), Loads::open());
        let answer = numbers.lookup_or_load(key, loads.value(2)).await.unwrap();
        assert_eq!((*answer.value, answer.source), (1, Source::Backing));
        (larder, numbers, loads)
    };
    let larder = open().await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("short", Item::new(1).ttl(secs(10))).await.unwrap();
    numbers.put("renewed", 1).await.unwrap();
    clock.advance(secs(7));
    larder.close().await.unwrap();
    let (larder, numbers, loads) = read_anew("short").await;
    numbers.get_or_load("short", loads.value(2)).await.unwrap();
    settle().await;
    assert_eq!(loads.begun(), 0, "a fifth of ten seconds is left after eight, whatever the policy says of others");
    clock.advance(secs(1));
    numbers.get_or_load("short", loads.value(2)).await.unwrap();
    loads.until_begun(1).await;

    clock.advance(secs(82));
    assert!(numbers.touch("renewed", None).await.unwrap());
    larder.close().await.unwrap();
    let (larder, numbers, loads) = read_anew("renewed").await;
    clock.advance(secs(79));
    numbers.get_or_load("renewed", loads.value(2)).await.unwrap();
    settle().await;
    assert_eq!(loads.begun(), 0, "it was renewed at 90 for 100, so it is due at 170");
    clock.advance(secs(1));
    numbers.get_or_load("renewed", loads.value(2)).await.unwrap();
    loads.until_begun(1).await;
    larder.close().await.unwrap();
}

#[tokio::test]
async fn no_such_thing_is_remembered_for_its_time() {
    let (larder, clock) = with_policy(Policy::default().negative_ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::open();
    let nothing = || loads.giving(Ok(None::<u32>));
    assert!(numbers.get_or_find("k", nothing()).await.unwrap().is_none());
    assert!(numbers.get_or_find("k", nothing()).await.unwrap().is_none());
    assert_eq!(loads.begun(), 1);
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::NotFound));
    assert!(numbers.get("k").await.unwrap().is_none());
    assert!(!numbers.contains("k").await.unwrap());
    let error = numbers.get_or_load("k", loads.value(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::NotFound, Some(b"n:k".as_slice())));
    assert_eq!(larder.stats().total.counts.hits_negative, 4);
    clock.advance(secs(10));
    assert_eq!(numbers.get_or_find("k", loads.giving(Ok(Some(7)))).await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn no_such_thing_ends_with_an_invalidation_of_the_key_or_a_put() {
    let (larder, _) = with_policy(Policy::default().negative_ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::open();
    for names in [Names::new().key("n:k"), Names::new().pattern("n:*"), Names::new().namespace("n"), Names::new().everything()] {
        let before = loads.begun();
        numbers.get_or_find("k", loads.giving(Ok(None::<u32>))).await.unwrap();
        larder.invalidate(names).await.unwrap();
        numbers.get_or_find("k", loads.giving(Ok(None::<u32>))).await.unwrap();
        assert_eq!(loads.begun(), before + 2);
        larder.invalidate(Names::new().everything()).await.unwrap();
    }
    numbers.get_or_find("k", loads.giving(Ok(None::<u32>))).await.unwrap();
    numbers.put("k", 7).await.unwrap();
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn no_such_thing_is_not_remembered_if_the_key_was_invalidated_meanwhile() {
    let (larder, _) = with_policy(Policy::default().negative_ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.giving(Ok(None::<u32>)));
        tokio::spawn(async move { numbers.get_or_find("k", loader).await })
    };
    loads.until_begun(1).await;
    larder.invalidate(Names::new().key("n:k")).await.unwrap();
    loads.let_go(2);
    assert!(caller.await.unwrap().unwrap().is_none());
    assert!(matches!(numbers.lookup("k").await.unwrap(), Lookup::Miss(_)));
    assert_eq!(numbers.get_or_find("k", loads.giving(Ok(Some(7)))).await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn without_a_time_for_it_no_such_thing_is_not_remembered() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::open();
    for _ in 0..3 {
        assert!(numbers.get_or_find("k", loads.giving(Ok(None::<u32>))).await.unwrap().is_none());
    }
    assert_eq!(loads.begun(), 3);
}
