//! The log is lost, or is another: nothing old is served, and everything goes on.

use std::time::Duration;

use larder::{Larder, Names};
use larder_testkit::redis::{AppendOnly, Server, ServerOptions, or_skip};

use crate::support::*;

/// What is lost, and how.
async fn nothing_old_survives(server: &Server, lose: impl AsyncFn(&Server)) {
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    for n in 0..20 {
        let receipt = on_a.put(format!("k{n}"), "old".to_owned()).await.unwrap();
        b.reach(receipt.position(), LONG).await.unwrap();
        assert!(on_b.get(format!("k{n}")).await.unwrap().is_some());
    }
    let epoch = a.position().epoch();
    lose(server).await;
    for larder in [&a, &b] {
        until("a new epoch is adopted", || connected(larder) && larder.position().epoch() != epoch).await;
    }
    assert_eq!(a.position().epoch(), b.position().epoch(), "by both the same");
    for n in 0..20 {
        let key = format!("k{n}");
        assert!(on_a.get(&key).await.unwrap().is_none(), "what happened meanwhile is not known");
        assert!(on_b.get(&key).await.unwrap().is_none());
    }
    on_b.put("k1", "new".to_owned()).await.unwrap();
    let receipt = b.invalidate(Names::new().key("n:k2")).await.unwrap();
    assert!(b.applied_everywhere(&receipt, LONG).await.unwrap().is_everywhere());
    assert_eq!(*on_a.get("k1").await.unwrap().unwrap(), "new");
}

/// Nobody may be told that all obey while one that has yet to notice still answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_in_a_list_that_was_lost_is_not_forgotten() {
    let Some(server) = server() else { return };
    let proxy = larder_testkit::proxy::Proxy::start(server.address()).unwrap();
    let builder = |url: &str| Larder::builder().redis(options(url).operation_timeout(LONG)).index_bytes(1 << 16).max_staleness(LONG);
    let a = builder(&server.url()).build().await.unwrap();
    let b = builder(&format!("redis://{}", proxy.address())).build().await.unwrap();
    let on_b = b.namespace::<String>("n").unwrap();
    on_b.put("k", "old".to_owned()).await.unwrap();
    proxy.hold();
    let epoch = a.position().epoch();
    server.command(&["FLUSHALL"]).unwrap();
    until("a new epoch is adopted", || connected(&a) && a.position().epoch() != epoch).await;
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    let told = a.applied_everywhere(&receipt, Duration::from_millis(100)).await;
    assert_eq!(on_b.get("k").await.unwrap().as_deref().map(String::as_str), Some("old"), "it cannot have noticed");
    assert_eq!(told.unwrap_err().kind(), larder::ErrorKind::NotReached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_flushed() {
    let Some(server) = server() else { return };
    nothing_old_survives(&server, async |server| drop(server.command(&["FLUSHALL"]).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_of_the_log_is_evicted() {
    for key in ["{larder}:log", "{larder}:stream"] {
        let Some(server) = server() else { return };
        nothing_old_survives(&server, async |server| drop(server.command(&["DEL", key]).unwrap())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_comes_back_empty() {
    let Some(server) = server() else { return };
    nothing_old_survives(&server, async |server| {
        server.kill();
        server.restart(false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_and_comes_back_with_its_data() {
    let options = ServerOptions { append_only: AppendOnly::EverySecond, ..ServerOptions::default() };
    let Some(server) = or_skip(Server::start(options)) else { return };
    // It may have lost the last second, and nobody can tell.
    nothing_old_survives(&server, async |server| {
        server.kill();
        server.restart(true);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_scripts_are_brought_again() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    let epoch = a.position().epoch();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    on_a.get_or_load("other", loader("v")).await.unwrap();
    a.flush().await.unwrap();
    on_a.put("k", "w".to_owned()).await.unwrap();
    assert_eq!(a.position().epoch(), epoch);
    assert_eq!(*on_a.get("k").await.unwrap().unwrap(), "w");
}

/// An instance that the log does not know any more takes it up anew, and what it was about to append is appended once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_forgotten_takes_the_log_up_anew() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "old".to_owned()).await.unwrap();
    let shared = a.stats().log.shared.unwrap();
    let head = || server.command(&["HGET", "{larder}:log", "head"]).unwrap().text().parse::<u64>().expect("a position");
    let before = head();
    assert_eq!(server.command(&["HDEL", "{larder}:members", &format!("f:{}", shared.instance)]).unwrap().number(), Some(1));
    let receipt = a.invalidate(Names::new().key("n:k")).await.unwrap();
    assert!(on_a.get("k").await.unwrap().is_none());
    until("it is appended", || connected(&a) && head() > before).await;
    assert_eq!(head(), before + 1, "{receipt:?}");
    assert_eq!(a.stats().log.shared.unwrap().connects, shared.connects + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_cut_by_others() {
    for left in ["0", "1", "15"] {
        let Some(server) = server() else { return };
        let newcomer = std::sync::Mutex::new(None);
        nothing_old_survives(&server, async |server| {
            server.command(&["XTRIM", "{larder}:stream", "MAXLEN", left]).unwrap();
            // Who comes anew cannot know what is missing.
            *newcomer.lock().unwrap() = Some(instance(&server.url()).await);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_s_log_is_refused_and_left_alone() {
    let Some(server) = server() else { return };
    server.command(&["HSET", "{larder}:log", "epoch", "12345678", "version", "99"]).unwrap();
    let a = instance(&server.url()).await;
    until("the reason is told", || a.health().findings.iter().any(|finding| finding.what.contains("another version"))).await;
    assert_eq!(server.command(&["HGET", "{larder}:log", "version"]).unwrap().text(), "99");
    assert_eq!(server.command(&["EXISTS", "{larder}:stream"]).unwrap().number(), Some(0));
}

/// A master that was cut off and comes back has an older epoch in force than whoever comes to it from the newer one, and who was in that
/// older one all the time has nothing of what happened in the newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_from_a_newer_log_to_an_older_one_is_not_told_that_all_obey() {
    let (Some(older), Some(newer)) = (server(), server()) else { return };
    let (to_older, to_either) =
        (larder_testkit::proxy::Proxy::start(older.address()).unwrap(), larder_testkit::proxy::Proxy::start(newer.address()).unwrap());
    // What was said long enough ago that nobody is missing in the list.
    let moment = Duration::from_millis(100);
    let open = async |proxy: &larder_testkit::proxy::Proxy| {
        let url = format!("redis://{}", proxy.address());
        Larder::builder().redis(options(&url)).index_bytes(1 << 16).max_staleness(moment).build().await.unwrap()
    };
    let cut_off = open(&to_older).await;
    let on_cut_off = cut_off.namespace::<String>("n").unwrap();
    on_cut_off.put("k", "old".to_owned()).await.unwrap();
    to_older.refuse();
    to_older.cut();
    let asks = open(&to_either).await;
    let receipt = asks.invalidate(Names::new().key("n:k")).await.unwrap();
    let epoch = asks.position().epoch();
    to_either.set_upstream(older.address());
    to_either.cut();
    to_either.heal();
    until("the older epoch is adopted", || connected(&asks) && asks.position().epoch() != epoch).await;
    let told = asks.applied_everywhere(&receipt, Duration::from_millis(500)).await.unwrap();
    assert_eq!(on_cut_off.get("k").await.unwrap().as_deref().map(String::as_str), Some("old"), "it has not heard of it");
    assert!(!told.is_everywhere() && told.lagging.iter().all(|one| one.behind.is_none()), "{told:?}");
}
