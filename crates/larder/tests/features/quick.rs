//! The synchronous look of servers: whatever it answers is what the full read would, and it is counted as that.

use larder::{Freshness, Item, Lookup, Miss, Names, Policy, StaleBy};

use crate::support::{in_memory, ms, secs, with_policy};

type Bytes = bytes::Bytes;

#[tokio::test]
async fn a_quick_look_is_a_counted_hit_in_any_namespace() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    // A configured namespace, one that nobody configured, a key without a namespace, and one that is a namespace's name.
    for key in ["n:k", "other:k", "alone", "n", "n:", ":"] {
        assert!(raw.quick(key).is_none());
        raw.put(key, Item::new(Bytes::from(key)).tag("t")).await.unwrap();
        let hit = raw.quick(key).expect("it was just put");
        assert_eq!((&hit[..], hit.tags().count()), (key.as_bytes(), 1));
    }
    assert!(raw.quick("").is_none() && raw.quick(vec![b'k'; 5_000]).is_none());
    for _ in 0..200 {
        assert!(raw.quick("n:k").is_some());
    }
    let stats = larder.stats();
    assert_eq!((stats.total.counts.hits_memory, stats.total.requests()), (206, 206), "what it does not answer it does not count");
    let timed = stats.namespaces.iter().find(|namespace| namespace.name == "n").unwrap().hit_memory.count();
    assert!((2..=6).contains(&timed), "{timed} of about 200 hits were timed");
    assert_eq!(larder.namespace::<Bytes>("n").unwrap().hot_keys(1)[0].key.as_ref(), b"n:k");
}

#[tokio::test]
async fn what_was_appended_meanwhile_is_judged_at_once() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    raw.put("n:k", Item::new(Bytes::from("v")).tag("t")).await.unwrap();
    for unrelated in [Names::new().key("n:other"), Names::new().tag("u"), Names::new().pattern("m:*"), Names::new().pattern("?:j")] {
        larder.invalidate(unrelated.clone()).await.unwrap();
        assert!(raw.quick("n:k").is_some(), "{unrelated:?}");
        let Lookup::Hit(answer) = raw.lookup("n:k").await.unwrap() else { panic!("it is fresh") };
        assert_eq!((answer.freshness, answer.position), (Freshness::Fresh, Some(larder.position())), "stamped anew");
    }
    for names in [Names::new().key("n:k"), Names::new().tag("t"), Names::new().pattern("n:*"), Names::new().everything()] {
        raw.put("n:k", Item::new(Bytes::from("v")).tag("t")).await.unwrap();
        let before = larder.stats().total.requests();
        larder.invalidate(names.clone()).await.unwrap();
        assert!(raw.quick("n:k").is_none(), "{names:?}");
        assert_eq!(larder.stats().total.requests(), before, "the read that follows is counted");
        assert!(matches!(raw.lookup("n:k").await.unwrap(), Lookup::Miss(Miss::Invalidated(_) | Miss::Absent)), "{names:?}");
    }
    raw.put("n:k", Item::new(Bytes::from("v")).tag("t")).await.unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    assert!(raw.quick("n:k").is_none());
    assert!(matches!(raw.lookup("n:k").await.unwrap(), Lookup::Miss(Miss::Invalidated(StaleBy::Tag(0)))), "left for the read to say why");
}

#[tokio::test]
async fn what_needs_a_closer_look_is_left_to_it() {
    let (builder, clock) = in_memory();
    let sliding = Policy::default().ttl(secs(10)).sliding(true);
    let larder = builder.namespace("n", Policy::default().ttl(secs(10))).namespace("s", sliding).build().await.unwrap();
    let raw = larder.raw();
    raw.put("n:k", Bytes::from("v")).await.unwrap();
    raw.put("s:k", Bytes::from("v")).await.unwrap();
    larder.namespace::<u32>("numbers").unwrap().put("k", 7).await.unwrap();
    assert!(raw.quick("numbers:k").is_none(), "a value of another type is to be encoded first");
    clock.advance(secs(9) + ms(999));
    assert!(raw.quick("n:k").is_some(), "its last millisecond");
    assert!(raw.quick("s:k").is_none() && raw.lookup("s:k").await.unwrap().fresh().is_some(), "its life is to begin anew");
    assert!(raw.quick("s:k").is_some());
    clock.advance(ms(1));
    assert!(raw.quick("n:k").is_none());
}
