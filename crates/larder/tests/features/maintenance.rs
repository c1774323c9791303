//! Writes that are refused for a while: which they are, and what goes on all the same.

use std::sync::Arc;

use larder::backup::{BackupOptions, FolderPlace, RestoreOptions};
use larder::tier::Tier;
use larder::{Change, ErrorKind, Item, Names, Refreshed};

use crate::support::{Behaviour, Loads, over_own_tier, secs, until};

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
        numbers.refresh("a", || async { Err::<u32, _>(std::io::Error::other("it must not be asked")) }).await.map(drop),
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

#[tokio::test(start_paused = true)]
async fn a_load_that_hands_its_value_over_is_waited_for() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.backing_timeout(secs(2)).build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    let loads = Loads::held();
    let loading = tokio::spawn({
        let (numbers, loader) = (numbers.clone(), loads.value(7));
        async move { numbers.get_or_load("k", loader).await.map(|value| *value) }
    });
    loads.until_begun(1).await;
    assert_eq!(larder.writes_under_way(), 0, "a load may take long, and writes nothing while it does");
    tier.behave(Behaviour::Hangs);
    loads.let_go(1);
    until("the value is handed over", || larder.writes_under_way() == 1).await;
    assert_eq!(larder.close_writes(secs(1)).await, 1, "it is seen");
    assert_eq!(larder.close_writes(secs(60)).await, 0, "and waited for");
    assert_eq!(loading.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_refresh_that_was_under_way_changes_nothing_once_they_are_refused() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let (record, loads) = (tier.record("n:k"), Loads::held());
    let refreshing = tokio::spawn({
        let (numbers, loader) = (numbers.clone(), loads.value(2));
        async move { numbers.refresh("k", loader).await }
    });
    loads.until_begun(1).await;
    let before = larder.position();
    assert_eq!(larder.close_writes(secs(1)).await, 0);
    loads.let_go(1);
    assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::Maintenance);
    assert_eq!((larder.position(), tier.record("n:k")), (before, record));
    assert_eq!(numbers.get("k").await.unwrap().as_deref(), Some(&1));
    larder.open_writes();
    let refreshed = numbers.refresh("k", || async { Ok::<_, std::io::Error>(2) }).await.unwrap();
    assert!(matches!(refreshed, Refreshed::Changed(_)));
}

#[tokio::test]
async fn a_backup_is_restored_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let place = Arc::new(FolderPlace::new(folder.path()));
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    larder.backup(place.clone(), &BackupOptions::new("monday"), Arc::new(())).await.unwrap();
    tier.clear().await.unwrap();
    larder.close_writes(secs(1)).await;
    let restored = larder.restore(place, &RestoreOptions::new("monday"), Arc::new(())).await.unwrap();
    assert_eq!(restored.restored, 1);
    assert_eq!(numbers.put("k", 2).await.unwrap_err().kind(), ErrorKind::Maintenance);
    assert!(tier.record("n:k").is_some());
}
