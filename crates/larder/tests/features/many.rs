//! Many keys at once: one loader call for all that miss, one visit to the tier, the order of the caller's list.

use std::io;
use std::sync::{Arc, Mutex};

use larder::{ErrorKind, Item, Names, Policy};

use crate::support::{Behaviour, Loading, Loads, over_own_tier, settle, with_policy};

type Asked = Arc<Mutex<Vec<Vec<String>>>>;

/// A loader that writes down what it was asked for, and gives each key's length.
fn lengths(asked: &Asked) -> impl Fn(Vec<String>) -> Loading<Vec<(String, usize)>> + use<> {
    let asked = asked.clone();
    move |keys| {
        asked.lock().unwrap().push(keys.clone());
        Box::pin(async move { Ok(keys.into_iter().map(|key| (key.clone(), key.len())).collect()) })
    }
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}

fn values(found: Vec<Option<larder::Cached<usize>>>) -> Vec<Option<usize>> {
    found.into_iter().map(|value| value.map(|value| *value)).collect()
}

#[tokio::test]
async fn one_call_loads_all_that_is_missing_from_both_tiers_each_key_once() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<usize>("n").unwrap();
    // `backed` is behind alone: another cache wrote it there. `memory` is in memory alone.
    numbers.put("backed", 100).await.unwrap();
    let shadowed = tier.record("n:backed").unwrap();
    tier.behave(Behaviour::Fails);
    assert!(numbers.put("memory", 200).await.is_err(), "a put says that the tier did not take it");
    tier.behave(Behaviour::Works);
    larder.resize_memory(64 << 10).unwrap();
    assert!(tier.record("n:memory").is_none());
    assert_eq!(shadowed.seq, 1);
    let asked = Asked::default();
    let list = keys(&["memory", "a", "backed", "bb", "a", "memory", "ccc"]);
    let reads = tier.reads();
    let found = numbers.get_many_or_load(list.clone(), lengths(&asked)).await.unwrap();
    assert_eq!(values(found), [200, 1, 100, 2, 1, 200, 3].map(Some));
    assert_eq!(*asked.lock().unwrap(), [keys(&["a", "bb", "ccc"])]);
    assert!(tier.reads() - reads <= 1, "one visit for all");
    let found = numbers.get_many(list).await.unwrap();
    assert_eq!(values(found), [200, 1, 100, 2, 1, 200, 3].map(Some));
    assert_eq!(tier.record("n:ccc").unwrap().payload, "3");
}

#[tokio::test]
async fn what_the_loader_leaves_out_is_none_and_asked_for_again() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<usize>("n").unwrap();
    let nothing = |_| async { Ok::<Vec<(&str, usize)>, io::Error>(Vec::new()) };
    assert_eq!(values(numbers.get_many_or_load(["a", "b"], nothing).await.unwrap()), [None, None]);
    let asked = Asked::default();
    numbers.get_many_or_load(keys(&["a", "b"]), lengths(&asked)).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [keys(&["a", "b"])]);
}

#[tokio::test]
async fn no_keys_need_no_loader() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<usize>("n").unwrap();
    let asked = Asked::default();
    assert!(numbers.get_many_or_load(Vec::new(), lengths(&asked)).await.unwrap().is_empty());
    assert!(numbers.get_many(Vec::<String>::new()).await.unwrap().is_empty());
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failure_names_a_key_and_leaves_nothing_behind() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<usize>("n").unwrap();
    let failing = |_| async { Err::<Vec<(&str, usize)>, _>(io::Error::other("the source is down")) };
    let error = numbers.get_many_or_load(["a", "b"], failing).await.unwrap_err();
    assert_eq!((error.kind(), error.operation(), error.key()), (ErrorKind::Load, Some("get_many_or_load"), Some(b"n:a".as_slice())));
    let asked = Asked::default();
    numbers.get_many_or_load(keys(&["a", "b"]), lengths(&asked)).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn single_loads_and_loads_of_many_join_each_other() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<usize>("n").unwrap();
    let loads = Loads::held();
    let single = {
        let (numbers, loader) = (numbers.clone(), loads.value(7));
        tokio::spawn(async move { numbers.get_or_load("a", loader).await })
    };
    loads.until_begun(1).await;
    let asked = Asked::default();
    let many = {
        let (numbers, loader) = (numbers.clone(), lengths(&asked));
        tokio::spawn(async move { numbers.get_many_or_load(keys(&["a", "bb"]), loader).await })
    };
    settle().await;
    assert_eq!(*asked.lock().unwrap(), [keys(&["bb"])], "`a` is under way");
    loads.let_go(1);
    assert_eq!(single.await.unwrap().unwrap(), 7);
    assert_eq!(values(many.await.unwrap().unwrap()), [Some(7), Some(2)]);
}

#[tokio::test]
async fn a_load_of_many_under_which_one_was_invalidated_keeps_the_others() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<usize>("n").unwrap();
    let loads = Loads::held();
    let caller = {
        let (numbers, loads) = (numbers.clone(), loads.clone());
        let load = move |keys: Vec<&'static str>| {
            let items = keys.into_iter().map(|key| (key, Item::new(1).tag(format!("t{key}")))).collect();
            loads.giving(Ok::<Vec<_>, io::Error>(items))()
        };
        tokio::spawn(async move { numbers.get_many_or_load(["a", "b"], load).await })
    };
    loads.until_begun(1).await;
    larder.invalidate(Names::new().tag("ta")).await.unwrap();
    loads.let_go(1);
    assert_eq!(values(caller.await.unwrap().unwrap()), [Some(1), Some(1)]);
    assert_eq!(values(numbers.get_many(["a", "b"]).await.unwrap()), [None, Some(1)]);
}

#[tokio::test]
async fn a_caller_that_leaves_during_the_visit_to_the_tier_sends_the_others_to_load() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<usize>("n").unwrap();
    tier.behave(Behaviour::Hangs);
    let asked = Asked::default();
    let leaver = {
        let (numbers, loader) = (numbers.clone(), lengths(&asked));
        tokio::spawn(async move { numbers.get_many_or_load(keys(&["a"]), loader).await })
    };
    settle().await;
    assert_eq!(tier.reads(), 1);
    let joiner = {
        let (numbers, loader) = (numbers.clone(), Loads::open().value(7));
        tokio::spawn(async move { numbers.get_or_load("a", loader).await })
    };
    settle().await;
    assert_eq!(tier.reads(), 1, "it waits with the first one");
    tier.behave(Behaviour::Works);
    leaver.abort();
    assert_eq!(joiner.await.unwrap().unwrap(), 7);
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn many_puts_take_one_position_and_are_refused_together() {
    let (larder, _) = with_policy(Policy::default().value_bytes_max(5)).await;
    let texts = larder.namespace::<String>("n").unwrap();
    let error = texts.put_many([("a", "ok".to_string()), ("b", "far too long".to_string())]).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::ValueTooLarge, Some(b"n:b".as_slice())));
    assert!(texts.get("a").await.unwrap().is_none());
    let receipt = texts.put_many([("a", "1".to_string()), ("b", "2".to_string())]).await.unwrap();
    assert_eq!((receipt.names(), receipt.position().number()), (2, 1));
    let found = texts.get_many(["b", "absent", "a"]).await.unwrap();
    assert_eq!(
        found.into_iter().map(|text| text.map(|text| text.to_string())).collect::<Vec<_>>(),
        [Some("2".into()), None, Some("1".into())]
    );
}
