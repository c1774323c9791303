//! What a read finds, where it finds it, and what it says about it.

use larder::{Freshness, Item, Lookup, Miss, Names, Policy, Source, StaleBy};

use crate::support::{Loads, in_memory, over_own_tier, secs, with_policy};

#[tokio::test]
async fn a_value_that_was_put_is_read_until_it_is_removed() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    assert_eq!(numbers.name(), "n");
    assert!(numbers.get("a").await.unwrap().is_none());
    let put = numbers.put("a", 1).await.unwrap();
    assert_eq!(numbers.get("a").await.unwrap().unwrap(), 1);
    assert!(numbers.contains("a").await.unwrap());
    let removed = numbers.remove("a").await.unwrap();
    assert!(removed.position() > put.position());
    assert_eq!((removed.names(), removed.widened()), (1, 0));
    assert!(numbers.get("a").await.unwrap().is_none());
    assert!(!numbers.contains("a").await.unwrap());
}

#[tokio::test]
async fn removing_many_takes_one_position() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put_many([("a", 1), ("b", 2), ("c", 3)]).await.unwrap();
    let before = larder.position().number();
    let removed = numbers.remove_many(["a", "b"]).await.unwrap();
    assert_eq!((removed.names(), removed.position().number()), (2, before + 1));
    let left = numbers.get_many(["a", "b", "c"]).await.unwrap();
    assert_eq!(left.into_iter().map(|value| value.map(|value| *value)).collect::<Vec<_>>(), [None, None, Some(3)]);
}

#[tokio::test]
async fn a_lookup_says_where_the_answer_came_from_how_old_it_is_and_what_it_reflects() {
    let (builder, clock, _) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    let item = Item::new("x".repeat(100_000)).tag("b").tag("a").media_type("text/plain").ttl(secs(60));
    let put = texts.put("k", item).await.unwrap();
    clock.advance(secs(3));
    let Lookup::Hit(answer) = texts.lookup("k").await.unwrap() else { panic!("it was just put") };
    assert_eq!((answer.source, answer.freshness, answer.age), (Source::Memory, Freshness::Fresh, secs(3)));
    assert_eq!(answer.position, Some(put.position()));
    let value = &answer.value;
    assert_eq!(value.tags().collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(value.media_type(), Some("text/plain"));
    assert_eq!(value.fresh_for(clock.now_ms()), Some(secs(57)));
    assert_eq!(value.created_at_ms(), clock.now_ms() - 3_000);
    assert_eq!(value.load_cost(), secs(0));

    // Memory has no room for it any more: it comes back from behind, with all that was said about it.
    larder.resize_memory(64 << 10).unwrap();
    larder.resize_memory(4 << 20).unwrap();
    let Lookup::Hit(again) = texts.lookup("k").await.unwrap() else { panic!("the backing tier has it") };
    assert_eq!((again.source, again.age), (Source::Backing, secs(3)));
    assert!(again.position.unwrap() >= put.position());
    assert_eq!(again.value.fingerprint(), answer.value.fingerprint());
    assert_eq!(again.value.tags().collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(again.value.media_type(), Some("text/plain"));
    assert_eq!(again.value.fresh_for(clock.now_ms()), Some(secs(57)));
    let Lookup::Hit(third) = texts.lookup("k").await.unwrap() else { panic!("it is in memory again") };
    assert_eq!(third.source, Source::Memory);
}

#[tokio::test]
async fn a_loaded_answer_says_so() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::open();
    let answer = numbers.lookup_or_load("k", loads.value(7)).await.unwrap();
    assert_eq!((answer.source, *answer.value), (Source::Loader, 7));
    let answer = numbers.lookup_or_load("k", loads.value(8)).await.unwrap();
    assert_eq!((answer.source, *answer.value), (Source::Memory, 7));
    assert_eq!(loads.begun(), 1);
}

#[tokio::test]
async fn a_miss_says_why() {
    let (larder, clock) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let miss = |lookup: Lookup<u32>| match lookup {
        Lookup::Miss(miss) => miss,
        other => panic!("{other:?} is no miss"),
    };
    assert_eq!(miss(numbers.lookup("k").await.unwrap()), Miss::Absent);
    numbers.put("k", Item::new(1).ttl(secs(1))).await.unwrap();
    clock.advance(secs(1));
    assert_eq!(miss(numbers.lookup("k").await.unwrap()), Miss::Expired);
    for (names, by) in [
        (Names::new().tag("t"), StaleBy::Tag(0)),
        (Names::new().pattern("n:*"), StaleBy::Pattern),
        (Names::new().pattern("n:[a-z]"), StaleBy::Pattern),
        (Names::new().namespace("n"), StaleBy::Namespace),
        (Names::new().everything(), StaleBy::Everything),
    ] {
        numbers.put("k", Item::new(1).tag("t")).await.unwrap();
        larder.invalidate(names).await.unwrap();
        assert_eq!(miss(numbers.lookup("k").await.unwrap()), Miss::Invalidated(by));
    }
}

#[tokio::test]
async fn a_peek_neither_counts_nor_brings_anything_into_memory() {
    let (builder, _, _) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    for key in 0..100 {
        texts.put(format!("{key}"), "x".repeat(100_000)).await.unwrap();
    }
    let before = larder.stats();
    let mut sources = Vec::new();
    for key in 0..100 {
        sources.push(texts.peek(format!("{key}")).await.unwrap().expect("both tiers together have all").source);
    }
    assert!(sources.contains(&Source::Memory) && sources.contains(&Source::Backing));
    let after = larder.stats();
    assert_eq!((before.total.counts, before.memory), (after.total.counts, after.memory));
    assert!(texts.peek("absent").await.unwrap().is_none());
    larder.invalidate(Names::new().namespace("n")).await.unwrap();
    assert!(texts.peek("7").await.unwrap().is_none());
}

#[tokio::test]
async fn everything_works_without_a_backing_tier_and_without_a_policy() {
    let (builder, _) = in_memory();
    let larder = builder.build().await.unwrap();
    assert!(larder.stats().backing.is_none());
    let texts = larder.namespace::<String>("never-configured").unwrap();
    texts.put("k", "v".to_string()).await.unwrap();
    assert_eq!(texts.get("k").await.unwrap().unwrap(), "v".to_string());
    larder.flush().await.unwrap();
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_namespace_can_keep_out_of_the_backing_tier() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.namespace("private", Policy::default().backing(false)).build().await.unwrap();
    let private = larder.namespace::<u32>("private").unwrap();
    private.put("k", 1).await.unwrap();
    let public = larder.namespace::<u32>("public").unwrap();
    public.put("k", 2).await.unwrap();
    assert!(tier.record("private:k").is_none());
    assert!(tier.record("public:k").is_some());
    let reads = tier.reads();
    assert!(private.get("absent").await.unwrap().is_none());
    assert_eq!(tier.reads(), reads, "there is nothing to ask the tier for");
}

#[tokio::test]
async fn what_a_reader_holds_outlives_the_entry() {
    let (larder, _) = with_policy(Policy::default()).await;
    let texts = larder.namespace::<String>("n").unwrap();
    texts.put("k", "held".to_string()).await.unwrap();
    let held = texts.get("k").await.unwrap().unwrap();
    texts.remove("k").await.unwrap();
    assert_eq!((held.as_str(), held.clone().len()), ("held", 4));
}

#[tokio::test]
async fn a_get_is_small_can_be_sent_and_may_own_its_key() {
    fn sent<T: Send>(future: T) -> T {
        future
    }
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("a", 1).await.unwrap();
    let get = sent(numbers.get("a"));
    assert!(size_of_val(&get) <= 6 * size_of::<usize>(), "it is moved into whatever waits for it: {}", size_of_val(&get));
    assert_eq!(get.await.unwrap().unwrap(), 1);
    let elsewhere = numbers.clone();
    let owned = tokio::spawn(async move { (elsewhere.get(String::from("a")).await, elsewhere.get(vec![b'b']).await) });
    let (there, not_there) = owned.await.unwrap();
    assert_eq!(there.unwrap().unwrap(), 1);
    assert!(not_there.unwrap().is_none());
}

/// Promise G1 is about reads that begin after an invalidation returned, and a future that nobody polled has not begun.
#[tokio::test]
async fn a_get_that_was_made_before_an_invalidation_and_polled_after_it_sees_it() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("a", 1).await.unwrap();
    let early = numbers.get("a");
    larder.invalidate(Names::new().key("n:a")).await.unwrap();
    assert!(early.await.unwrap().is_none());
    assert_eq!(larder.stats().namespaces[0].counts.hits_memory, 0, "making a future reads nothing");
}
