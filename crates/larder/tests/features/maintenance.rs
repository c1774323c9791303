//! Writes that are refused for a while: which they are, and what goes on all the same.

use larder::{Change, ErrorKind, Item, Names};

use crate::support::{over_own_tier, secs};

#[tokio::test]
async fn every_kind_of_write_is_refused_and_what_makes_stale_is_not() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    let raw = larder.raw();
    numbers.put("a", 1).await.unwrap();
    numbers.put("b", 1).await.unwrap();
    let token = raw.begin_fill("n:c");
    assert_eq!(larder.close_writes(secs(1)).await, 0);
    assert!(!larder.takes_writes());
    let item = || Item::new(bytes::Bytes::from_static(b"1"));
    let refused = [
        numbers.put("a", 2).await.map(drop),
        numbers.put_many([("a", 2)]).await.map(drop),
        numbers.put_if_changed("a", 2).await.map(drop),
        numbers.update("a", || async { Err::<u32, _>(std::io::Error::other("it must not be asked")) }).await.map(drop),
        numbers.touch("a", None).await.map(drop),
        raw.put("n:a", item()).await.map(drop),
        raw.fill("n:c", token, item()).await.map(drop),
        raw.put_since("n:c", token, item()).await.map(drop),
        raw.change("n:a", |_| (Change::Remove, ())).await.map(drop),
    ];
    for (at, outcome) in refused.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Maintenance, "{at}");
    }
    assert_eq!(numbers.get("a").await.unwrap().as_deref(), Some(&1));
    let receipt = larder.invalidate(Names::new().key("n:a")).await.unwrap();
    assert_eq!(receipt.names(), 1);
    numbers.remove("b").await.unwrap();
    for key in ["a", "b"] {
        assert!(numbers.get(key).await.unwrap().is_none(), "{key}");
    }
    larder.open_writes();
    numbers.put("a", 3).await.unwrap();
    assert!(tier.record("n:a").is_some());
}

#[tokio::test]
async fn what_is_loaded_meanwhile_is_kept_in_memory_alone() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    larder.close_writes(secs(1)).await;
    let load = || async { Ok::<_, std::io::Error>(7) };
    assert_eq!(*numbers.get_or_load("k", load).await.unwrap(), 7);
    assert_eq!(tier.record("n:k"), None, "the backing tier is left as it is");
    let never = || async { Err::<u32, _>(std::io::Error::other("it is in memory")) };
    assert_eq!(*numbers.get_or_load("k", never).await.unwrap(), 7);
    larder.open_writes();
    assert_eq!(*numbers.get_or_load("l", load).await.unwrap(), 7);
    assert!(tier.record("n:l").is_some());
}
