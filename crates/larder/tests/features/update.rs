//! The safe write-through: stored unless something was invalidated meanwhile; invalidated if it fails.

use std::io;

use larder::{ErrorKind, Item, Names, Policy};

use crate::support::{Loads, in_memory, until, with_policy};

#[tokio::test]
async fn an_update_changes_the_source_then_stores_what_it_returned() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let before = larder.position();
    let updated = numbers.update("k", || async { Ok::<_, io::Error>(Item::new(2).tag("t")) }).await.unwrap();
    assert!(updated.stored && updated.receipt.position() > before);
    assert_eq!((*updated.value, updated.receipt.names()), (2, 1));
    let value = numbers.get("k").await.unwrap().unwrap();
    assert_eq!((*value, value.tags().collect::<Vec<_>>()), (2, vec![b"t".as_slice()]));
}

#[tokio::test]
async fn an_update_under_which_something_was_invalidated_is_not_stored() {
    for names in [
        Names::new().key("n:k"),
        Names::new().tag("t"),
        Names::new().pattern("n:*"),
        Names::new().pattern("?:k"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ] {
        let (larder, _) = with_policy(Policy::default()).await;
        let numbers = larder.namespace::<u32>("n").unwrap();
        numbers.put("k", 1).await.unwrap();
        let changes = Loads::held();
        let caller = {
            let (numbers, change) = (numbers.clone(), changes.tagged(2, "t"));
            tokio::spawn(async move { numbers.update("k", change).await })
        };
        changes.until_begun(1).await;
        larder.invalidate(names.clone()).await.unwrap();
        changes.let_go(1);
        let updated = caller.await.unwrap().unwrap();
        assert_eq!((updated.stored, *updated.value), (false, 2), "{names:?}");
        assert!(numbers.get("k").await.unwrap().is_none(), "neither the old nor the uncertain value is served");
        assert_eq!(larder.stats().total.counts.loads_dropped, 1);
    }
}

#[tokio::test]
async fn of_two_updates_at_once_only_one_may_be_stored() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let changes = Loads::held();
    let callers: Vec<_> = (1..=2)
        .map(|value| {
            let (numbers, change) = (numbers.clone(), changes.value(value));
            tokio::spawn(async move { numbers.update("k", change).await })
        })
        .collect();
    changes.until_begun(2).await;
    changes.let_go(2);
    let mut stored = Vec::new();
    for caller in callers {
        let updated = caller.await.unwrap().unwrap();
        stored.push((updated.receipt.position().number(), updated.stored));
    }
    stored.sort_unstable();
    assert_eq!(stored, [(1, true), (2, false)], "the later one cannot know whose change came last");
    assert!(numbers.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_load_that_overlaps_an_update_leaves_no_old_value() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, loader) = (numbers.clone(), loads.value(1));
        tokio::spawn(async move { numbers.get_or_load("k", loader).await })
    };
    loads.until_begun(1).await;
    numbers.update("k", Loads::open().value(2)).await.unwrap();
    loads.let_go(1);
    caller.await.unwrap().unwrap();
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn an_update_that_fails_or_panics_invalidates_the_key() {
    let (builder, _) = in_memory();
    let larder = builder.namespace("n", Policy::default().value_bytes_max(5)).build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    let check = async |error: larder::Error, kind, says: &str| {
        assert_eq!((error.kind(), error.operation(), error.key()), (kind, Some("update"), Some(b"n:k".as_slice())));
        assert!(error.to_string().contains(says), "{error}");
        assert!(texts.get("k").await.unwrap().is_none());
    };
    texts.put("k", "old".to_string()).await.unwrap();
    let error = texts.update("k", Loads::open().failing()).await.unwrap_err();
    check(error, ErrorKind::Load, "the source is down").await;

    texts.put("k", "old".to_string()).await.unwrap();
    let panicking = || async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, io::Error>(String::new())
    };
    let error = texts.update("k", panicking).await.unwrap_err();
    check(error, ErrorKind::LoadPanicked, "the change panicked").await;

    texts.put("k", "old".to_string()).await.unwrap();
    let error = texts.update("k", Loads::open().value("far too long".to_string())).await.unwrap_err();
    check(error, ErrorKind::ValueTooLarge, "at most 5 bytes").await;
}

#[tokio::test]
async fn an_update_that_nobody_waits_for_any_more_still_appends() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let before = larder.position();
    let changes = Loads::held();
    let caller = {
        let (numbers, change) = (numbers.clone(), changes.value(2));
        tokio::spawn(async move { numbers.update("k", change).await })
    };
    changes.until_begun(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    changes.let_go(1);
    until("the update has appended", || larder.position() > before).await;
    let seen = numbers.get("k").await.unwrap().map(|value| *value);
    assert!(matches!(seen, None | Some(2)), "never the old value again: {seen:?}");
}
