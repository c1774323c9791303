//! Redis is slow or gone: memory and loaders answer, invalidations wait, and all goes on when it is back.

use std::time::{Duration, Instant};

use larder::{Freshness, Larder, Names, Policy, Source};
use larder_testkit::proxy::Proxy;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_loaders_answer_while_redis_is_gone() {
    let Some(server) = server() else { return };
    let a = builder(&server.url()).max_staleness(Duration::from_millis(300)).build().await.unwrap();
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    server.kill();
    until("it is noticed", || !connected(&a)).await;
    assert_eq!(*on_a.get("k").await.unwrap().expect("memory has it"), "v");
    let began = Instant::now();
    assert_eq!(*on_a.get_or_load("other", loader("loaded")).await.unwrap(), "loaded");
    assert!(on_a.get("nothing").await.unwrap().is_none());
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for what is not there");
    let answer = || async { on_a.lookup("k").await.unwrap().into_answer().unwrap() };
    until("time passes", || a.stats().log.shared.unwrap().unheard_for > Duration::from_millis(300)).await;
    assert_eq!((answer().await.source, answer().await.freshness), (Source::Memory, Freshness::Unverified));
    let counts = || a.stats().namespaces.into_iter().find(|one| one.name == "n").unwrap().counts;
    assert_eq!(counts().unverified, 2, "one for each answer that said so");
    server.restart(false);
    until("it goes on by itself", || connected(&a)).await;
    on_a.put("k", "w".to_owned()).await.unwrap();
    assert_eq!(*on_a.get("k").await.unwrap().unwrap(), "w");
    assert_eq!((answer().await.freshness, counts().unverified), (Freshness::Fresh, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_made_without_redis_holds_here_at_once_and_elsewhere_when_it_is_back() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.address()).unwrap();
    let url = format!("redis://{}", proxy.address());
    let (a, b) = (instance(&url).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    for key in ["k", "other"] {
        let receipt = on_a.put(key, "old".to_owned()).await.unwrap();
        b.reach(receipt.position(), LONG).await.unwrap();
        assert!(on_b.get(key).await.unwrap().is_some());
    }
    cut_off(&proxy, &a).await;
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    assert!(receipt.is_queued());
    assert!(on_a.get("k").await.unwrap().is_none(), "it holds here");
    assert_eq!(*on_a.get("other").await.unwrap().expect("and nothing else is touched"), "old");
    assert_eq!(*on_a.get_or_load("k", loader("new")).await.unwrap(), "new");
    assert_eq!(*on_a.get("k").await.unwrap().expect("what is loaded now is kept"), "new");
    assert_eq!(a.stats().log.shared.unwrap().queued, 1);
    assert!(on_b.get("k").await.unwrap().is_some(), "elsewhere it is not known yet");
    proxy.heal();
    until("it is back", || connected(&a)).await;
    assert_eq!(a.stats().log.shared.unwrap().queued, 0);
    until("it is obeyed elsewhere", || b.stats().log.position.number() >= 3).await;
    assert!(on_b.get("k").await.unwrap().is_none());
    assert_eq!(*on_b.get("other").await.unwrap().unwrap(), "old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_made_without_redis_never_overwrites_what_came_later() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.address()).unwrap();
    let a = builder(&format!("redis://{}", proxy.address())).build().await.unwrap();
    let b = instance(&server.url()).await;
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    on_a.put("k", "first".to_owned()).await.unwrap();
    // The request arrives, its answer does not: whether it was done cannot be known here.
    proxy.drop_replies();
    let receipt = on_a.put("k", "unknown".to_owned()).await.unwrap();
    assert!(receipt.is_queued());
    assert_eq!(*on_a.get("k").await.unwrap().unwrap(), "unknown", "here it is the newest");
    on_b.put("k", "later".to_owned()).await.unwrap();
    proxy.heal();
    until("it is back", || connected(&a) && a.stats().log.shared.unwrap().queued == 0).await;
    for namespace in [&on_a, &on_b] {
        let seen = namespace.get("k").await.unwrap().map(|value| (*value).clone());
        assert!(seen.as_deref().is_none_or(|value| value == "later"), "{seen:?} is older than what was put later");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_says_so() {
    let a = Larder::builder().redis(options("redis://127.0.0.1:1").queue_bytes(2_000)).build().await.unwrap();
    let refused = async {
        for n in 0.. {
            if let Err(error) = a.invalidate(Names::new().key(format!("n:{n}"))).await {
                return (n, error);
            }
        }
        unreachable!("a queue has an end")
    };
    let (accepted, error) = refused.await;
    assert_eq!(error.kind(), larder::ErrorKind::LogUnavailable);
    assert!(error.to_string().contains("queue"), "{error}");
    let shared = a.stats().log.shared.unwrap();
    assert_eq!((shared.queued, shared.refused), (accepted, 1));
    assert!(a.invalidate(Names::new().key("n:0")).await.unwrap().is_queued(), "what is queued already takes no more room");
    let unsaid = a.close().await.unwrap_err();
    assert!(unsaid.to_string().contains("were not told"), "{unsaid}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_delays_nobody_for_long() {
    let Some(server) = server() else { return };
    let options = options(&server.url()).operation_timeout(Duration::from_millis(100));
    let a = builder(&server.url()).redis(options).backing_timeout(Duration::from_millis(100)).build().await.unwrap();
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    server.pause();
    let began = Instant::now();
    for n in 0..50 {
        assert_eq!(*on_a.get_or_load(format!("k{n}"), loader("loaded")).await.unwrap(), "loaded");
        assert_eq!(*on_a.get("k").await.unwrap().unwrap(), "v");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "50 misses took {:?}", began.elapsed());
    server.resume();
    until("it is back", || connected(&a)).await;
    let written = || server.command(&["EXISTS", "larder:e:n:k49"]).unwrap().number() == Some(1);
    until("what waited is written", written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_opens_before_its_redis_does() {
    let Some(server) = server() else { return };
    server.kill();
    let a = builder(&server.url()).default_policy(Policy::default()).build().await.unwrap();
    let on_a = a.namespace::<String>("n").unwrap();
    assert_eq!(*on_a.get_or_load("k", loader("v")).await.unwrap(), "v");
    assert!(a.health().worst() >= Some(larder::Severity::Degraded));
    server.restart(false);
    until("it takes its place in the fleet", || connected(&a)).await;
    on_a.put("k", "w".to_owned()).await.unwrap();
    assert_eq!(server.command(&["EXISTS", "larder:e:n:k"]).unwrap().number(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_again_while_it_is_being_appended_is_appended_again() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.address()).unwrap();
    let options = options(&format!("redis://{}", proxy.address())).operation_timeout(Duration::from_secs(5));
    let a = builder(&server.url()).redis(options).build().await.unwrap();
    cut_off(&proxy, &a).await;
    assert!(a.invalidate(Names::new().key("n:k")).await.unwrap().is_queued());
    proxy.heal();
    proxy.delay(Duration::from_millis(100));
    let head = || server.command(&["HGET", "{larder}:log", "head"]).unwrap().text();
    until("the log has it, and the instance does not know", || head() == "1").await;
    // The source changes once more, and others have loaded in between.
    assert!(a.invalidate(Names::new().key("n:k")).await.unwrap().is_queued());
    proxy.heal();
    until("it is back", || connected(&a) && a.stats().log.shared.unwrap().queued == 0).await;
    assert_eq!(head(), "2");
}
