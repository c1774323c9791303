//! What is kept of a load and of a fill that something was invalidated under, how long a load may take, how many may run.

use larder::{ErrorKind, FillToken, Item, Names, Policy};

use crate::support::{Loads, secs, settle, with_policy};

#[tokio::test]
async fn a_load_under_which_something_was_invalidated_is_not_kept() {
    for names in [
        Names::new().key("n:k"),
        Names::new().tag("t"),
        Names::new().pattern("*:k"),
        Names::new().pattern("n:[k]"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ] {
        let (larder, _) = with_policy(Policy::default()).await;
        let numbers = larder.namespace::<u32>("n").unwrap();
        let loads = Loads::held();
        let caller = {
            let (numbers, loader) = (numbers.clone(), loads.tagged(1, "t"));
            tokio::spawn(async move { numbers.get_or_load("k", loader).await })
        };
        loads.until_begun(1).await;
        larder.invalidate(names.clone()).await.unwrap();
        loads.let_go(2);
        assert_eq!(caller.await.unwrap().unwrap(), 1, "it asked before the invalidation");
        assert!(numbers.get("k").await.unwrap().is_none(), "{names:?}");
        assert_eq!(larder.stats().total.counts.loads_dropped, 1);
        assert_eq!(numbers.get_or_load("k", loads.tagged(2, "t")).await.unwrap(), 2);
        assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
    }
}

#[tokio::test]
async fn a_put_during_a_load_stays() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.value(1));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    numbers.put("k", 2).await.unwrap();
    loads.let_go(1);
    caller.await.unwrap().unwrap();
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_fill_is_kept_unless_something_was_invalidated_since_its_token() {
    let (larder, _) = with_policy(Policy::default().tag("first:{1}")).await;
    let raw = larder.raw();
    let token = raw.begin_fill("n:k");
    let head = larder.position();
    assert!(raw.fill("n:k", token, Item::new("v".into()).tag("t")).await.unwrap());
    assert_eq!(larder.position(), head, "a fill costs no append");
    assert_eq!(&raw.lookup("n:k").await.unwrap().fresh().unwrap()[..], b"v");
    for names in [
        Names::new().key("n:k"),
        Names::new().tag("t"),
        Names::new().tag("first:k"),
        Names::new().pattern("n:**"),
        Names::new().everything(),
    ] {
        let token = raw.begin_fill("n:k");
        larder.invalidate(names.clone()).await.unwrap();
        assert!(!raw.fill("n:k", token, Item::new("old".into()).tag("t")).await.unwrap(), "{names:?}");
        assert!(raw.lookup("n:k").await.unwrap().fresh().is_none());
    }
    let token = raw.begin_fill("n:k");
    raw.put("n:k", Item::new("put".into())).await.unwrap();
    assert!(!raw.fill("n:k", token, Item::new("old".into())).await.unwrap());
    assert_eq!(&raw.lookup("n:k").await.unwrap().fresh().unwrap()[..], b"put");
}

#[tokio::test]
async fn a_fill_token_is_good_for_its_key_and_its_log_alone() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let token = raw.begin_fill("n:k");
    let again: FillToken = token.to_string().parse().unwrap();
    assert_eq!((again, again.position()), (token, token.position()));
    let error = raw.fill("n:other", token, Item::new("v".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    let ahead = token.to_string().replacen("-0-", "-77-", 1);
    let error = raw.fill("n:k", ahead.parse().unwrap(), Item::new("v".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPosition);
    let (foreign, _) = with_policy(Policy::default()).await;
    let error = foreign.raw().fill("n:k", token, Item::new("v".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPosition);
    for bad in ["", "7", "6f1c0a52b7d3e984-1742", "6f1c0a52b7d3e984-1742-xyz", "6f1c0a52b7d3e984-1742-1"] {
        assert_eq!(bad.parse::<FillToken>().unwrap_err().kind(), ErrorKind::UnknownPosition, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_is_an_error_and_is_cancelled() {
    let (larder, _) = with_policy(Policy::default().load_timeout(secs(5))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let begun = tokio::time::Instant::now();
    let error = numbers.get_or_load("k", loads.value(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::LoadTimeout, Some(b"n:k".as_slice())));
    assert!(error.to_string().contains("5s"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(larder.stats().total.counts.loads_timeout, 1);
    loads.let_go(2);
    assert_eq!(numbers.get_or_load("k", loads.value(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn no_more_loads_run_than_the_policy_allows() {
    let (larder, _) = with_policy(Policy::default().loads_max(3)).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let callers: Vec<_> = (0..10)
        .map(|key| {
            let (numbers, loader) = (numbers.clone(), loads.value(key));
            tokio::spawn(async move { numbers.get_or_load(format!("{key}"), loader).await })
        })
        .collect();
    let many = {
        let (numbers, loads) = (numbers.clone(), loads.clone());
        tokio::spawn(async move {
            numbers.get_many_or_load(["x", "y"], |keys| loads.giving(Ok(keys.into_iter().map(|key| (key, 99)).collect()))()).await
        })
    };
    loads.until_begun(3).await;
    settle().await;
    assert_eq!(loads.begun(), 3, "the rest wait their turn");
    loads.let_go(11);
    for (key, caller) in (0..).zip(callers) {
        assert_eq!(caller.await.unwrap().unwrap(), key);
    }
    assert_eq!(many.await.unwrap().unwrap().len(), 2);
    assert_eq!((loads.begun(), loads.most_at_once()), (11, 3));
}

#[tokio::test]
async fn what_a_loader_returns_is_checked_as_a_put_is() {
    let (larder, _) = with_policy(Policy::default().value_bytes_max(10)).await;
    let texts = larder.namespace::<String>("n").unwrap();
    let error = texts.get_or_load("k", Loads::open().value("far too long".to_string())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    let error = texts.get_or_load("k", Loads::open().tagged("short".to_string(), "")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTag);
    let loader = Loads::open().giving(Ok(Item::new("short".to_string()).ttl(secs(0))));
    assert_eq!(texts.get_or_load("k", loader).await.unwrap_err().kind(), ErrorKind::InvalidTtl);
    assert!(texts.get("k").await.unwrap().is_none());
}
