//! What did not change is kept: validation by fingerprint, puts and refreshes that append nothing, and what was killed for nothing.

use std::collections::HashMap;
use std::io;

use larder::events::{Event, Rule};
use larder::fingerprint::{Array, Fingerprint, Hash, Json};
use larder::{Codec, ErrorKind, Item, Lookup, Names, Policy, Raw, Refreshed, Source, Validated};
use serde_json::json;

use crate::support::{Loads, in_memory, over_own_tier, secs, with_policy};

fn ok<T>(value: T) -> io::Result<T> {
    Ok(value)
}

#[tokio::test]
async fn content_that_was_given_is_compared() {
    let (larder, _) = with_policy(Policy::default()).await;
    let features = larder.namespace::<f64>("n").unwrap();
    let mut bars: Vec<f64> = (0..500).map(f64::from).collect();
    let of_bars = Fingerprint::of(&Array::of(&bars), Hash::Xxh3).unwrap();
    features.put("k", Item::new(0.7).content(of_bars)).await.unwrap();
    let content = larder.content("n:k");
    let before = larder.position();
    assert_eq!(content.validate(&Array::of(&bars)).await.unwrap(), Validated::Unchanged);
    assert_eq!(larder.position(), before, "what is unchanged appends nothing");
    assert!(features.get("k").await.unwrap().is_some());
    // The seed system hashed the first hundred elements.
    bars[101] += 0.5;
    let Validated::Changed(receipt) = content.validate(&Array::of(&bars)).await.unwrap() else { panic!("element 101 changed") };
    assert!(receipt.position() > before);
    assert!(features.get("k").await.unwrap().is_none());
    assert_eq!(content.validate(&Array::of(&bars)).await.unwrap(), Validated::Absent);
    assert_eq!(larder.stats().total.counts.unchanged, 1);
}

#[tokio::test]
async fn content_seen_for_the_first_time_is_recorded_in_the_entry() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let features = larder.namespace::<f64>("n").unwrap();
    features.put("k", 0.7).await.unwrap();
    let rows = json!([{ "open": 1, "close": 2 }]);
    let reordered = json!([{ "close": 2.0, "open": 1.0 }]);
    let content = larder.content("n:k");
    assert_eq!(content.validate(&Json(&rows)).await.unwrap(), Validated::FirstSight);
    assert_eq!(content.validate(&Json(&reordered)).await.unwrap(), Validated::Unchanged);
    let known = features.get("k").await.unwrap().unwrap().content();
    assert_eq!(known, Some(Fingerprint::of(&Json(&rows), Hash::Xxh3).unwrap()));
    assert_eq!(tier.record("n:k").unwrap().origin.unwrap().content(), known, "it survives in the backing tier");
    // Another instance over the same tier would know it, too: here, memory forgets.
    larder.resize_memory(1 << 16).unwrap();
    larder.resize_memory(4 << 20).unwrap();
    assert!(matches!(content.validate(&Json(&json!([]))).await.unwrap(), Validated::Changed(_)));
    assert!(features.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_value_that_is_the_content_needs_no_record() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw: Raw = larder.raw();
    raw.put("n:page", Item::new("<html>".into())).await.unwrap();
    assert_eq!(larder.content("n:page").validate("<html>").await.unwrap(), Validated::Unchanged);
    assert_eq!(larder.content("n:none").validate("<html>").await.unwrap(), Validated::Absent);
    assert_eq!(larder.content("").validate("<html>").await.unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn unchanged_content_can_renew_the_life_of_the_entry() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10))).await;
    let texts = larder.namespace::<String>("n").unwrap();
    texts.put("k", "a".to_string()).await.unwrap();
    clock.advance(secs(6));
    assert_eq!(larder.content("n:k").renewing().validate("rows").await.unwrap(), Validated::FirstSight);
    clock.advance(secs(6));
    assert!(texts.get("k").await.unwrap().is_some());
    assert_eq!(larder.content("n:k").validate("rows").await.unwrap(), Validated::Unchanged);
    clock.advance(secs(6));
    assert!(texts.get("k").await.unwrap().is_none(), "it was not asked to be renewed again");
}

#[tokio::test]
async fn a_put_of_the_same_appends_nothing_and_keeps_the_copies() {
    let (builder, clock, tier) = over_own_tier();
    let larder = builder.namespace("n", Policy::default().ttl(secs(10))).build().await.unwrap();
    let numbers = larder.namespace::<Vec<u32>>("n").unwrap();
    assert!(numbers.put_if_changed("k", vec![1, 2]).await.unwrap().is_some(), "nothing was there");
    let (position, held) = (larder.position(), numbers.get("k").await.unwrap().unwrap());
    clock.advance(secs(8));
    assert_eq!(numbers.put_if_changed("k", vec![1, 2]).await.unwrap(), None);
    assert_eq!(larder.position(), position);
    let Lookup::Hit(answer) = numbers.lookup("k").await.unwrap() else { panic!("it is there") };
    assert_eq!((answer.source, answer.value.created_at_ms()), (Source::Memory, held.created_at_ms()), "the same entry");
    clock.advance(secs(8));
    assert!(numbers.get("k").await.unwrap().is_some(), "it lives as long as the new one would have");
    assert!(tier.record("n:k").unwrap().fresh_until > clock.now_ms(), "in the backing tier, too");
    for changed in [Item::new(vec![1, 3]), Item::new(vec![1, 3]).tag("t"), Item::new(vec![1, 3]).media_type("text/plain")] {
        assert!(numbers.put_if_changed("k", changed.clone()).await.unwrap().is_some(), "{changed:?}");
        assert!(numbers.put_if_changed("k", changed).await.unwrap().is_none());
    }
    larder.invalidate(Names::new().key("n:k")).await.unwrap();
    assert!(numbers.put_if_changed("k", vec![1, 3]).await.unwrap().is_some(), "what was invalidated does not come back");
}

#[tokio::test]
async fn maps_have_no_order_and_numbers_one_form() {
    for codec in [Codec::Json, Codec::MessagePack, Codec::Postcard] {
        let (larder, _) = with_policy(Policy::default().codec(codec)).await;
        let maps = larder.namespace::<HashMap<String, f64>>("n").unwrap();
        // Other maps of the same entries have another order, sooner or later.
        let map = || (0..20).map(|n| (n.to_string(), f64::from(n))).collect::<HashMap<_, _>>();
        maps.put("k", map()).await.unwrap();
        for _ in 0..20 {
            assert!(maps.put_if_changed("k", map()).await.unwrap().is_none(), "{codec:?}");
        }
        assert!(maps.put_if_changed("k", HashMap::new()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn json_in_bytes_is_compared_as_json_where_it_says_that_it_is() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let json = |text: &str| Item::new(bytes::Bytes::from(text.to_owned())).media_type("application/json; charset=utf-8");
    raw.put("n:k", json(r#"{"a":1,"b":[2.50]}"#)).await.unwrap();
    assert!(raw.put_if_changed("n:k", json(r#"{ "b": [2.5], "a": 1.0 }"#)).await.unwrap().is_none());
    assert!(raw.put_if_changed("n:k", json(r#"{"a":1,"b":[2.51]}"#)).await.unwrap().is_some());
    assert!(raw.put_if_changed("n:k", json("{ no json")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_refresh_appends_only_what_changed() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let before = larder.position();
    clock.advance(secs(8));
    let Refreshed::Unchanged(value) = numbers.refresh("k", || async { ok(1) }).await.unwrap() else { panic!("it is the same") };
    assert_eq!((*value, larder.position()), (1, before));
    clock.advance(secs(8));
    assert!(numbers.get("k").await.unwrap().is_some(), "its life was renewed");
    let Refreshed::Changed(updated) = numbers.refresh("k", || async { ok(2) }).await.unwrap() else { panic!("it is another") };
    assert!(updated.stored && larder.position() > before);
    assert_eq!(*numbers.get("k").await.unwrap().unwrap(), 2);
    let failed = numbers.refresh("k", || async { Err::<u32, _>(io::Error::other("the source is down")) }).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(*numbers.get("k").await.unwrap().unwrap(), 2, "a source that cannot be read has not changed");
}

#[tokio::test]
async fn a_refresh_under_which_something_was_invalidated_is_not_stored() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    for (there, loaded) in [(1, 1), (1, 2)] {
        numbers.put("k", Item::new(there).tag("t")).await.unwrap();
        let loads = Loads::held();
        let caller = {
            let (numbers, load) = (numbers.clone(), loads.tagged(loaded, "t"));
            tokio::spawn(async move { numbers.refresh("k", load).await })
        };
        loads.until_begun(1).await;
        larder.invalidate(Names::new().tag("t")).await.unwrap();
        loads.let_go(1);
        let Refreshed::Changed(updated) = caller.await.unwrap().unwrap() else {
            panic!("what was there is stale, so nothing is unchanged")
        };
        assert!(!updated.stored);
        assert!(numbers.get("k").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_was_killed_for_nothing_is_counted_by_tag_and_rule() {
    let (builder, _) = in_memory();
    let rule = Rule::new("bars", ["tag:symbol:{symbol}"]).unwrap();
    let larder = builder.namespace("n", Policy::default()).rule(rule).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    let load = async |key: &'static str, value: u32, tag: &str| {
        let item = Item::new(value).tag(tag);
        numbers.get_or_load(key, || async { ok(item) }).await.unwrap()
    };
    let needless = || larder.stats().total.counts.invalidated_needlessly;
    load("a", 1, "symbol:A").await;
    larder.emit(Event::new("bars", json!({ "symbol": "A" }))).await.unwrap();
    load("a", 1, "symbol:A").await;
    assert_eq!(needless(), 1);
    larder.emit(Event::new("bars", json!({ "symbol": "A" }))).await.unwrap();
    load("a", 2, "symbol:A").await;
    assert_eq!(needless(), 1, "this one had changed");
    larder.invalidate(Names::new().key("n:a")).await.unwrap();
    load("a", 2, "symbol:A").await;
    larder.invalidate(Names::new().tag("symbol:A")).await.unwrap();
    larder.sweep().await.unwrap();
    load("a", 2, "symbol:A").await;
    assert_eq!(needless(), 3, "whether a read, the invalidation itself or the sweeper took it out");
    let by = larder.stats().needless;
    assert_eq!(by.tags, [("symbol:A".to_string(), 2)].into());
    assert_eq!(by.rules.values().sum::<u64>(), 1, "{by:?}");
    assert!(by.rules.keys().all(|rule| rule.contains("bars")), "{by:?}");
}

#[tokio::test]
async fn what_expired_for_nothing_is_counted() {
    let (builder, clock) = in_memory();
    let larder = builder.namespace("n", Policy::default().ttl(secs(1))).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    let load = async |value: u32| numbers.get_or_load("a", move || async move { ok(value) }).await.unwrap();
    let counts = || {
        let counts = larder.stats().total.counts;
        (counts.reloads_expired, counts.expired_needlessly, counts.reloads_invalidated)
    };
    load(1).await;
    assert_eq!(counts(), (0, 0, 0), "the first of all comes after none");
    clock.advance(secs(2));
    load(1).await;
    assert_eq!(counts(), (1, 1, 0));
    clock.advance(secs(2));
    larder.sweep().await.unwrap();
    load(2).await;
    assert_eq!(counts(), (2, 1, 0), "this one had changed; it does not matter that the sweeper took it out");
    larder.invalidate(Names::new().key("n:a")).await.unwrap();
    load(3).await;
    assert_eq!(counts(), (2, 1, 1));
    larder.close().await.unwrap();
}
