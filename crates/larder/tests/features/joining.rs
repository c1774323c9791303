//! Loads that are shared: who joins, who must not, and what becomes of the rest when one caller leaves or a loader fails.

use larder::{Error, ErrorKind, Item, Names, Policy, Source};

use crate::support::{Loads, settle, until, with_policy};

#[tokio::test]
async fn callers_that_miss_at_once_share_one_load() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (numbers, loader) = (numbers.clone(), loads.value(7));
            tokio::spawn(async move { numbers.lookup_or_load("k", loader).await })
        })
        .collect();
    loads.until_begun(1).await;
    settle().await;
    loads.let_go(1);
    for caller in callers {
        let answer = caller.await.unwrap().unwrap();
        assert_eq!((*answer.value, answer.source), (7, Source::Loader));
    }
    assert_eq!(loads.begun(), 1);
    assert_eq!(larder.stats().total.counts.loads_joined, 19);
}

/// Step 6: each of these names the entry depends on, and is invalidated after the load began and before the joiner came.
#[tokio::test]
async fn who_comes_after_an_invalidation_does_not_take_the_answer_of_a_load_before_it() {
    for names in [
        Names::new().key("n:k"),
        Names::new().tag("t"),
        Names::new().pattern("n:*"),
        Names::new().pattern("n:?"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ] {
        let (larder, _) = with_policy(Policy::default()).await;
        let numbers = larder.namespace::<u32>("n").unwrap();
        let loads = Loads::held();
        let early = {
            let (numbers, loader) = (numbers.clone(), loads.tagged(1, "t"));
            tokio::spawn(async move { numbers.get_or_load("k", loader).await })
        };
        loads.until_begun(1).await;
        larder.invalidate(names.clone()).await.unwrap();
        let late = {
            let (numbers, loader) = (numbers.clone(), loads.tagged(2, "t"));
            tokio::spawn(async move { numbers.get_or_load("k", loader).await })
        };
        settle().await;
        assert_eq!(loads.begun(), 1, "the late one waits for the load under way, whose names are not known yet");
        loads.let_go(2);
        assert_eq!(early.await.unwrap().unwrap(), 1, "it came before the invalidation and may see what was there");
        assert_eq!(late.await.unwrap().unwrap(), 2, "{names:?}");
        assert_eq!(loads.begun(), 2);
        assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
    }
}

#[tokio::test]
async fn an_invalidation_of_something_else_lets_the_joiner_take_the_answer() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let early = {
        let (numbers, loader) = (numbers.clone(), loads.tagged(1, "t"));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    larder.invalidate(Names::new().key("n:other").tag("u").pattern("m:**")).await.unwrap();
    let late = {
        let (numbers, loader) = (numbers.clone(), loads.tagged(2, "t"));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    settle().await;
    loads.let_go(1);
    assert_eq!((early.await.unwrap().unwrap(), late.await.unwrap().unwrap()).1, 1);
    assert_eq!(loads.begun(), 1);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_takes_nobody_s_answer_along() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let leader = {
        let (numbers, loader) = (numbers.clone(), loads.value(7));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    let joiner = {
        let (numbers, loader) = (numbers.clone(), loads.value(8));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    loads.let_go(1);
    assert_eq!(joiner.await.unwrap().unwrap(), 7);
    assert_eq!(loads.begun(), 1);
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_any_more_is_still_kept() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.value(7));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    caller.abort();
    loads.let_go(1);
    until("the load has ended", || larder.stats().total.counts.loads_ok == 1).await;
    settle().await;
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_panic_is_an_error_for_all_and_the_next_load_works() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let panicking = |wait: Box<dyn Future<Output = std::io::Result<Item<u32>>> + Send + Unpin>| {
        || async move {
            wait.await?;
            if true {
                panic!("on purpose");
            }
            Ok::<u32, std::io::Error>(0)
        }
    };
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (numbers, loader) = (numbers.clone(), panicking(Box::new(loads.value(0)())));
            tokio::spawn(async move { numbers.get_or_load("k", loader).await })
        })
        .collect();
    loads.until_begun(1).await;
    settle().await;
    loads.let_go(1);
    for caller in callers {
        let error: Error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoadPanicked);
        assert_eq!(error.key(), Some(b"n:k".as_slice()));
    }
    assert_eq!(numbers.get_or_load("k", Loads::open().value(7)).await.unwrap(), 7);
}

#[tokio::test]
async fn a_failure_is_the_same_error_for_all_and_is_not_kept() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (numbers, loader) = (numbers.clone(), loads.failing::<u32>());
            tokio::spawn(async move { numbers.get_or_load("k", loader).await })
        })
        .collect();
    loads.until_begun(1).await;
    settle().await;
    loads.let_go(1);
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Load, Some("get_or_load")));
        assert!(error.to_string().contains("n:k") && error.to_string().contains("the source is down"), "{error}");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the source is down");
    }
    assert_eq!(loads.begun(), 1);
    assert_eq!(numbers.get_or_load("k", Loads::open().value(7)).await.unwrap(), 7);
    let counts = larder.stats().total.counts;
    assert_eq!((counts.loads_error, counts.loads_ok), (1, 1));
}
