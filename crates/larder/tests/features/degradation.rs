//! A backing tier that fails or hangs: it may cost time and room, and never an answer that memory or the loader has.

use larder::tier::TierState;
use larder::{ErrorKind, Names, Source};

use crate::support::{Behaviour, Loads, over_own_tier, secs};

#[tokio::test(start_paused = true)]
async fn no_read_fails_that_memory_or_the_loader_can_answer() {
    for behaviour in [Behaviour::Fails, Behaviour::Hangs] {
        let (builder, _, tier) = over_own_tier();
        let larder = builder.build().await.unwrap();
        let numbers = larder.namespace::<u32>("n").unwrap();
        numbers.put("k", 1).await.unwrap();
        tier.behave(behaviour);
        assert!(matches!(larder.stats().backing.unwrap().state, TierState::Degraded(_)));
        assert_eq!(numbers.get("k").await.unwrap().unwrap(), 1, "memory does not ask behind");
        assert!(numbers.get("absent").await.unwrap().is_none());
        assert!(numbers.get_many(["k", "absent"]).await.unwrap()[0].is_some());
        let answer = numbers.lookup_or_load("absent", Loads::open().value(2)).await.unwrap();
        assert_eq!((*answer.value, answer.source), (2, Source::Loader));
        assert_eq!(numbers.get("absent").await.unwrap().unwrap(), 2, "and it is kept in memory");
        let load = |keys: Vec<&'static str>| async { Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 3)).collect()) };
        let found = numbers.get_many_or_load(["k", "many"], load).await.unwrap();
        assert_eq!(found.into_iter().map(|value| *value.unwrap()).collect::<Vec<_>>(), [1, 3]);
        assert!(larder.stats().total.counts.backing_errors > 0, "it is counted");

        numbers.remove("k").await.expect("invalidations do not depend on the tier");
        larder.invalidate(Names::new().key("n:many")).await.unwrap();
        assert!(numbers.get("k").await.unwrap().is_none());
        tier.behave(Behaviour::Works);
        assert!(tier.record("n:k").is_some(), "the tier could not forget it");
        assert!(numbers.get("k").await.unwrap().is_none(), "and it is stale all the same");
        numbers.put("k", 4).await.unwrap();
        assert_eq!(tier.record("n:k").unwrap().payload, "4");
    }
}

#[tokio::test]
async fn a_put_says_that_the_tier_did_not_take_it() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    tier.behave(Behaviour::Fails);
    let error = numbers.put("k", 2).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Tier, Some(b"n:k".as_slice())));
    assert!(error.to_string().contains("out of order on purpose"), "{error}");
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2, "it is in memory");
    tier.behave(Behaviour::Works);
    larder.resize_memory(64 << 10).unwrap();
    larder.namespace::<Vec<u32>>("filler").unwrap().put("x", vec![1; 40_000]).await.unwrap();
    assert_ne!(numbers.get("k").await.unwrap().map(|value| *value), Some(1), "the record behind is stale");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_the_tier_no_longer_than_it_was_told() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.backing_timeout(secs(3)).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    tier.behave(Behaviour::Hangs);
    let begun = tokio::time::Instant::now();
    assert!(numbers.get("k").await.unwrap().is_none());
    assert_eq!(begun.elapsed().as_secs(), 3);
    let error = numbers.peek("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tier);
    assert!(error.to_string().contains("within 3s"), "{error}");
}

#[tokio::test]
async fn an_older_record_behind_never_takes_the_place_of_a_newer_entry() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    tier.behave(Behaviour::Fails);
    assert!(numbers.put("k", 2).await.is_err());
    larder.invalidate(Names::new().tag("unrelated")).await.unwrap();
    tier.behave(Behaviour::Works);
    assert_eq!(tier.record("n:k").unwrap().payload, "1");
    assert_eq!(numbers.get("k").await.unwrap().unwrap(), 2);
    assert_eq!(numbers.get_many(["k"]).await.unwrap()[0].as_ref().unwrap().as_ref(), &2);
}
