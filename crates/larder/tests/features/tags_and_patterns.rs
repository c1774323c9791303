//! What an invalidation kills and what it leaves alone: tags from items, templates and taggers; patterns, globs,
//! namespaces, everything.

use larder::{ErrorKind, Item, Names, Policy};

use crate::support::{in_memory, with_policy};

#[tokio::test]
async fn tags_come_from_items_from_templates_and_from_values() {
    let policy = Policy::default().tag("symbol:{1}").tag("model:{3}").tag("all");
    let (larder, _) = with_policy(policy).await;
    let tagger = |values: &Vec<u32>| values.iter().map(|value| format!("has:{value}")).collect();
    let lists = larder.namespace::<Vec<u32>>("n").unwrap().tagged_by(tagger).unwrap();
    let tags = [("item:x", "b"), ("symbol:AAPL", "a"), ("has:7", "c"), ("all", "d"), ("model:v3", "e")];
    for (tag, _) in tags {
        lists.put("AAPL:5m:v3", Item::new(vec![7]).tag("item:x")).await.unwrap();
        let value = lists.get("AAPL:5m:v3").await.unwrap().unwrap();
        let expected = ["all", "has:7", "item:x", "model:v3", "symbol:AAPL"];
        assert_eq!(value.tags().collect::<Vec<_>>(), expected.map(str::as_bytes));
        lists.put("MSFT", vec![8]).await.unwrap();
        larder.invalidate(Names::new().tag(tag)).await.unwrap();
        assert!(lists.get("AAPL:5m:v3").await.unwrap().is_none(), "{tag}");
        assert_eq!(lists.get("MSFT").await.unwrap().is_some(), tag != "all", "{tag}");
    }
    let again = lists.tagged_by(|_| Vec::new()).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::InvalidConfig);
    assert!(again.to_string().contains("has a tagger already"), "{again}");
}

#[tokio::test]
async fn patterns_kill_what_they_match_and_nothing_else() {
    let (builder, _) = in_memory();
    let larder = builder.build().await.unwrap();
    let keys = ["f:AAPL:5m", "f:AAPL:1h", "f:AAP:5m", "f:AAPLW:5m", "f:AAPL", "f:MSFT:5m", "g:AAPL:5m", "f"];
    for (pattern, killed) in [
        ("f:AAPL:*", vec!["f:AAPL:5m", "f:AAPL:1h"]),
        ("*:AAPL:5m", vec!["f:AAPL:5m", "g:AAPL:5m"]),
        ("f:*:5m", vec!["f:AAPL:5m", "f:AAP:5m", "f:AAPLW:5m", "f:MSFT:5m"]),
        ("f:AAPL:**", vec!["f:AAPL:5m", "f:AAPL:1h", "f:AAPL"]),
        ("f:AAP?:5m", vec!["f:AAPL:5m"]),
        ("f:[A-L]*:5m", vec!["f:AAPL:5m", "f:AAP:5m", "f:AAPLW:5m"]),
        ("f:**", vec!["f:AAPL:5m", "f:AAPL:1h", "f:AAP:5m", "f:AAPLW:5m", "f:AAPL", "f:MSFT:5m", "f"]),
        ("**", keys.to_vec()),
    ] {
        let raw = larder.raw();
        raw.put_many(keys.map(|key| (key, Item::new("v".into())))).await.unwrap();
        let receipt = larder.invalidate(Names::new().pattern(pattern)).await.unwrap();
        assert_eq!((receipt.names(), receipt.widened()), (1, 0));
        for key in keys {
            let there = raw.lookup(key).await.unwrap().fresh().is_some();
            assert_eq!(there, !killed.contains(&key), "{pattern} and {key}");
        }
    }
}

#[tokio::test]
async fn a_namespace_is_its_keys_and_no_other_namespace() {
    let (builder, _) = in_memory();
    let larder = builder.build().await.unwrap();
    let (one, other) = (larder.namespace::<u32>("one").unwrap(), larder.namespace::<u32>("one-more").unwrap());
    one.put("k", 1).await.unwrap();
    other.put("k", 2).await.unwrap();
    larder.invalidate(Names::new().namespace("one")).await.unwrap();
    assert!(one.get("k").await.unwrap().is_none());
    assert_eq!(other.get("k").await.unwrap().unwrap(), 2);
    larder.invalidate(Names::new().everything()).await.unwrap();
    assert!(other.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_tag_and_a_key_of_the_same_bytes_are_two_names() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("a", 1).await.unwrap();
    numbers.put("b", Item::new(2).tag("n:a")).await.unwrap();
    larder.invalidate(Names::new().tag("n:a")).await.unwrap();
    assert!(numbers.get("a").await.unwrap().is_some());
    assert!(numbers.get("b").await.unwrap().is_none());
    numbers.put("b", Item::new(2).tag("n:a")).await.unwrap();
    larder.invalidate(Names::new().key("n:a")).await.unwrap();
    assert!(numbers.get("a").await.unwrap().is_none());
    assert!(numbers.get("b").await.unwrap().is_some());
}

#[tokio::test]
async fn all_names_of_an_invalidation_share_a_position_or_none_takes_effect() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put_many([("a", Item::new(1)), ("b", Item::new(2).tag("t")), ("c", Item::new(3))]).await.unwrap();
    let before = larder.position();
    let bad = Names::new().key("n:a").tag("t").pattern("n:**:c");
    assert_eq!(larder.invalidate(bad).await.unwrap_err().kind(), ErrorKind::InvalidPattern);
    assert_eq!(larder.position(), before);
    assert!(numbers.get("a").await.unwrap().is_some() && numbers.get("b").await.unwrap().is_some());
    let receipt = larder.invalidate(Names::new().key("n:a").tag("t").pattern("n:c")).await.unwrap();
    assert_eq!((receipt.names(), receipt.position().number()), (3, before.number() + 1));
    assert!(numbers.get_many(["a", "b", "c"]).await.unwrap().iter().all(Option::is_none));
}

#[tokio::test]
async fn more_shapes_and_globs_than_there_is_room_for_are_widened_and_said_to_be() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let put = async || raw.put_many(["n:x:1", "m:x:1"].map(|key| (key, Item::new("v".into())))).await.unwrap();
    let mut widened = 0;
    for glob in 0..1_025 {
        put().await;
        let receipt = larder.invalidate(Names::new().pattern(format!("n:x:{glob}?"))).await.unwrap();
        widened += receipt.widened();
        assert_eq!(receipt.widened() == 1, glob == 1_024, "glob {glob}");
    }
    assert!(raw.lookup("n:x:1").await.unwrap().fresh().is_none(), "n:x:1024? became n:x:**");
    assert!(raw.lookup("m:x:1").await.unwrap().fresh().is_some());
    for stars in 0..80 {
        let pattern = format!("n:{}end", "*:".repeat(stars % 40) + &"y:".repeat(stars / 40));
        put().await;
        let receipt = larder.invalidate(Names::new().pattern(&pattern)).await.unwrap();
        if receipt.widened() == 1 {
            assert!(raw.lookup("n:x:1").await.unwrap().fresh().is_none(), "{pattern} became n:**");
            assert!(raw.lookup("m:x:1").await.unwrap().fresh().is_some());
        }
        widened += receipt.widened();
    }
    let index = larder.stats().index;
    assert!(widened > 1);
    assert_eq!((index.widened, index.globs), (widened as u64, 1_024));
}

#[tokio::test]
async fn an_escaped_value_in_a_pattern_is_itself() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put_many([("a*", 1), ("ab", 2)]).await.unwrap();
    let pattern = [b"n:".as_slice(), &larder::escape(b"a*")].concat();
    larder.invalidate(Names::new().pattern(pattern)).await.unwrap();
    assert!(numbers.get("a*").await.unwrap().is_none());
    assert!(numbers.get("ab").await.unwrap().is_some());
}
