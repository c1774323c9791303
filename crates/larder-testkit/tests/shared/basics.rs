//! One cache in several instances: what one does, the others obey.

use std::time::Duration;

use larder::{Freshness, Item, Names, Source};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_put_on_one_instance_is_read_on_another() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let receipt = on_a.put("k", "one".to_owned()).await.unwrap();
    assert!(!receipt.is_queued());
    assert_eq!(*on_b.get("k").await.unwrap().expect("it is in Redis"), "one");
    on_b.put("k", "two".to_owned()).await.unwrap();
    let receipt = on_b.put("k", "three".to_owned()).await.unwrap();
    assert_eq!(*on_a.at_least(receipt.position()).within(LONG).get("k").await.unwrap().unwrap(), "three");
    let keys = on_a.keys("**", larder::Cursor::start(), 10).await.unwrap();
    assert_eq!(keys.keys, [b"k".as_slice().into()] as [Box<[u8]>; 1]);
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_name_is_obeyed_elsewhere() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let kinds = [
        Names::new().key("n:x:1"),
        Names::new().tag("t"),
        Names::new().pattern("n:*:1"),
        Names::new().pattern("n:[xy]:?"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ];
    for names in kinds {
        for key in ["x:1", "other:2:3"] {
            on_a.put(key, Item::new("old".to_owned()).tag("t")).await.unwrap();
        }
        let receipt = on_a.put("x:1", Item::new("old".to_owned()).tag("t")).await.unwrap();
        let at = on_b.at_least(receipt.position()).within(LONG);
        assert_eq!(*at.get("x:1").await.unwrap().expect("it was put"), "old", "{names:?}");
        let receipt = a.invalidate(names.clone()).await.unwrap();
        assert!(a.applied_everywhere(&receipt, LONG).await.unwrap().is_everywhere());
        assert!(on_b.get("x:1").await.unwrap().is_none(), "{names:?} was not obeyed");
        assert!(on_a.get("x:1").await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_an_invalidation_elsewhere_overtakes_is_not_kept() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let (began, begun) = tokio::sync::oneshot::channel();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let loading = {
        let on_b = on_b.clone();
        tokio::spawn(async move {
            on_b.get_or_load("k", move || async move {
                began.send(()).unwrap();
                gone.await.unwrap();
                Ok::<_, std::io::Error>("old".to_owned())
            })
            .await
        })
    };
    begun.await.unwrap();
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    a.applied_everywhere(&receipt, LONG).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(*loading.await.unwrap().unwrap(), "old", "who asked before gets what was current then");
    assert!(on_b.get("k").await.unwrap().is_none());
    assert!(on_a.get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_updates_only_one_that_nobody_disturbed_is_stored() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let quiet = on_a.update("k", loader("one")).await.unwrap();
    assert!(quiet.stored);
    // Where an instance has not heard of the last change, its update cannot be told from one that was disturbed by it.
    b.reach(quiet.receipt.position(), LONG).await.unwrap();
    let elsewhere = on_b.clone();
    let disturbed = on_a
        .update("k", move || async move {
            let meanwhile = elsewhere.update("k", loader("two")).await.unwrap();
            assert!(meanwhile.stored);
            Ok::<_, std::io::Error>("three".to_owned())
        })
        .await
        .unwrap();
    assert!(!disturbed.stored, "b changed it in between, which only the log can tell");
    assert!(on_a.get("k").await.unwrap().is_none());
    assert!(on_b.at_least(disturbed.receipt.position()).within(LONG).get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_says_where_it_came_from_and_that_it_is_verified() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let receipt = on_a.put("k", "v".to_owned()).await.unwrap();
    b.reach(receipt.position(), LONG).await.unwrap();
    let first = on_b.lookup("k").await.unwrap().into_answer().unwrap();
    assert_eq!((first.source, first.freshness), (Source::Backing, Freshness::Fresh));
    let second = on_b.lookup("k").await.unwrap().into_answer().unwrap();
    assert_eq!((second.source, second.freshness), (Source::Memory, Freshness::Fresh));
}

/// A full server notes nothing, so that who was heard all the time may seem to have been silent for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_seem_to_be_gone_is_waited_for() {
    let Some(server) = server() else { return };
    let proxy = larder_testkit::proxy::Proxy::start(server.address()).unwrap();
    let a = builder(&server.url()).max_staleness(Duration::from_millis(100)).build().await.unwrap();
    let slow = options(&format!("redis://{}", proxy.address())).instance("the slow one").operation_timeout(Duration::from_secs(30));
    let b = larder::Larder::builder().redis(slow).index_bytes(1 << 16).build().await.unwrap();
    let name = a.stats().log.shared.unwrap().instance;
    let said = |name: &str| server.command(&["HGET", "{larder}:members", name]).unwrap().text();
    proxy.hold();
    // As if it had been silent for eleven seconds.
    let of_b = said("the slow one");
    let (rest, ms) = of_b.rsplit_once(' ').unwrap();
    let long_ago = format!("{rest} {}", ms.parse::<u64>().unwrap() - 11_000);
    server.command(&["HSET", "{larder}:members", "the slow one", &long_ago]).unwrap();
    let everywhere = async || {
        let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
        a.applied_everywhere(&receipt, Duration::from_secs(1)).await.unwrap()
    };
    assert!(everywhere().await.is_everywhere(), "it is gone");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let mut noted = said(&name);
    let mut unchanged_since = std::time::Instant::now();
    until("nothing is noted", || {
        if said(&name) != noted {
            (noted, unchanged_since) = (said(&name), std::time::Instant::now());
        }
        unchanged_since.elapsed() > Duration::from_millis(500)
    })
    .await;
    assert!(connected(&a), "and it is followed");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let spread = everywhere().await;
    assert_eq!(spread.lagging.iter().map(|lagging| lagging.instance.as_str()).collect::<Vec<_>>(), ["the slow one"]);
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lags_is_named() {
    let Some(server) = server() else { return };
    let proxy = larder_testkit::proxy::Proxy::start(server.address()).unwrap();
    let a = instance(&server.url()).await;
    let slow = options(&format!("redis://{}", proxy.address())).instance("the slow one").operation_timeout(Duration::from_secs(30));
    let b = larder::Larder::builder().redis(slow).index_bytes(1 << 16).build().await.unwrap();
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    assert!(a.applied_everywhere(&receipt, LONG).await.unwrap().is_everywhere());
    proxy.hold();
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    // Long enough for Redis to say on a busy machine what the others have applied.
    let spread = a.applied_everywhere(&receipt, Duration::from_secs(1)).await.unwrap();
    assert_eq!(spread.instances, 2);
    assert_eq!(
        spread.lagging.iter().map(|lagging| (lagging.instance.as_str(), lagging.behind)).collect::<Vec<_>>(),
        [("the slow one", Some(1))]
    );
    proxy.heal();
    assert!(a.applied_everywhere(&receipt, LONG).await.unwrap().is_everywhere());
    drop(b);
}
