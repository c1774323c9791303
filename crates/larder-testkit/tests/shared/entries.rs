//! Entries in Redis: many at once, compressed, expiring by the server's clock, and loaded once in the whole fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder::{Compression, Item, Policy, SweepCursor};
use larder_testkit::redis::Server;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_read_and_written_at_once() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<u64>("n").unwrap(), b.namespace::<u64>("n").unwrap());
    let receipt = on_a.put_many((0..2_500u64).map(|n| (n.to_string(), n))).await.unwrap();
    b.reach(receipt.position(), LONG).await.unwrap();
    let found = on_b.get_many((0..2_600u64).map(|n| n.to_string())).await.unwrap();
    let found: Vec<Option<u64>> = found.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(found, (0..2_600).map(|n| (n < 2_500).then_some(n)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_on_one_instance_is_found_by_another() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let policy = || Policy::default().ttl(Duration::from_secs(600)).compress(Compression::Zstd, 100);
    let c = builder(&server.url()).namespace("n", policy()).build().await.unwrap();
    let long = "text that repeats itself, ".repeat(100);
    let (value, written) = (long.clone(), c.namespace::<String>("n").unwrap());
    written.get_or_load("k", move || async move { Ok::<_, std::io::Error>(value) }).await.unwrap();
    c.flush().await.unwrap();
    let stored = server.command(&["STRLEN", "larder:e:n:k"]).unwrap().number().unwrap();
    assert!(0 < stored && stored < long.len() as i64 / 2, "{stored} bytes are stored, compressed");
    for other in [&a, &b] {
        let never = || async { Err::<String, _>(std::io::Error::other("it is in Redis")) };
        assert_eq!(*other.namespace::<String>("n").unwrap().get_or_load("k", never).await.unwrap(), long);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_expire_in_redis_by_its_own_clock() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", Item::new("v".to_owned()).ttl(Duration::from_secs(100))).await.unwrap();
    let life = server.command(&["PTTL", "larder:e:n:k"]).unwrap().number().unwrap();
    assert!((90_000..=100_000).contains(&life), "{life} ms");
    on_a.put("k", Item::new("v".to_owned()).ttl(Duration::from_millis(20))).await.unwrap();
    until("the entry expires in Redis", || server.command(&["EXISTS", "larder:e:n:k"]).unwrap().number() == Some(0)).await;
    // The two clocks agree to about the time that a message takes.
    let gone = async {
        while on_a.get("k").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("memory goes by the same clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_own_clock_is_a_day_off_keeps_the_store_s_time() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    for off in [Duration::from_secs(86_400).as_millis() as i64, -(Duration::from_secs(86_400).as_millis() as i64)] {
        let b = builder(&server.url()).wall_clock_off(off).build().await.unwrap();
        let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
        assert!(a.clock().refresh().abs_diff(b.clock().refresh()) < 5_000, "both go by the server's");
        let receipt = on_b.put("k", Item::new("v".to_owned()).ttl(Duration::from_secs(100))).await.unwrap();
        let life = server.command(&["PTTL", "larder:e:n:k"]).unwrap().number().unwrap();
        assert!((90_000..=101_000).contains(&life), "{life} ms");
        assert_eq!(*on_a.at_least(receipt.position()).within(LONG).get("k").await.unwrap().expect("it lives"), "v");
        on_a.remove("k").await.unwrap();
    }
}

/// What cannot be written is given up, and keeps nothing else from being written.
async fn is_given_up(server: &Server, size: usize) {
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    let load = |value: String| async move || Ok::<_, std::io::Error>(value);
    on_a.get_or_load("bad", load("v".repeat(size))).await.unwrap();
    on_a.get_or_load("good", load("w".to_owned())).await.unwrap();
    let is_written = |key: &str| server.command(&["EXISTS", &format!("larder:e:n:{key}")]).unwrap().number() == Some(1);
    until("the other is written", || is_written("good")).await;
    let tier = a.stats().backing.unwrap().stats;
    assert_eq!((tier.shed, tier.queued), (1, 0));
    until("it is connected", || connected(&a)).await;
    assert_eq!(on_a.get("bad").await.unwrap().expect("memory has it").len(), size);
    let receipt = on_a.put("later", "x".to_owned()).await.unwrap();
    assert!(!receipt.is_queued() && connected(&a), "nothing else is wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_holds_something_else_is_left_alone() {
    let Some(server) = server() else { return };
    server.command(&["RPUSH", "larder:e:n:bad", "a list"]).unwrap();
    is_given_up(&server, 1).await;
    assert_eq!(server.command(&["LLEN", "larder:e:n:bad"]).unwrap().number(), Some(1));
}

/// The server ends the connection on which it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_large_for_the_server_stays_in_memory() {
    let Some(server) = server() else { return };
    server.command(&["CONFIG", "SET", "proto-max-bulk-len", "1048576"]).unwrap();
    is_given_up(&server, 2 << 20).await;
    assert_eq!(server.command(&["EXISTS", "larder:e:n:bad"]).unwrap().number(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_server_refuses_keeps_nobody_waiting() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for n in 0..500 {
        on_a.get_or_load(n.to_string(), loader("v")).await.unwrap();
    }
    tokio::time::timeout(LONG, a.flush()).await.expect("a tenth of a second for each would be too long").unwrap();
    assert_eq!(a.stats().backing.unwrap().stats.shed, 500);
    assert!(connected(&a), "it is followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_takes_an_entry_out_of_redis() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    assert_eq!(server.command(&["EXISTS", "larder:e:n:k"]).unwrap().number(), Some(1));
    on_a.remove("k").await.unwrap();
    assert_eq!(server.command(&["EXISTS", "larder:e:n:k"]).unwrap().number(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_fill_does_not_take_the_place_of_a_newer_put() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.raw(), b.raw());
    let token = on_a.begin_fill("n:k");
    on_b.put("n:k", Item::new(bytes::Bytes::from_static(b"new"))).await.unwrap();
    on_a.fill("n:k", token, Item::new(bytes::Bytes::from_static(b"old"))).await.unwrap();
    a.flush().await.unwrap();
    let fresh = instance(&server.url()).await;
    let found = fresh.raw().lookup("n:k").await.unwrap().fresh().expect("the put is there");
    assert_eq!(&**found, b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_found_does_not_take_out_what_was_put_meanwhile() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    let (answer, awaited) = tokio::sync::oneshot::channel();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let loading = tokio::spawn(async move {
        on_a.get_or_find("k", move || async move {
            begun.send(()).expect("the test waits for it");
            awaited.await.map(|()| None::<String>)
        })
        .await
    });
    begins.await.unwrap();
    on_b.put("k", "new".to_owned()).await.unwrap();
    answer.send(()).unwrap();
    loading.await.unwrap().unwrap();
    a.flush().await.unwrap();
    let fresh = instance(&server.url()).await;
    let found = fresh.namespace::<String>("n").unwrap().get("k").await.unwrap();
    assert_eq!(found.as_deref().map(String::as_str), Some("new"));
}

fn leases_asked(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap().text();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_load_serves_the_whole_fleet() {
    let Some(server) = server() else { return };
    let policy = || Policy::default().ttl(Duration::from_secs(600)).one_load_in_fleet(LONG);
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(builder(&server.url()).namespace("n", policy()).build().await.unwrap());
    }
    let (loads, server) = (Arc::new(AtomicUsize::new(0)), Arc::new(server));
    let mut readers = Vec::new();
    for larder in &instances {
        let (namespace, loads, server) = (larder.namespace::<String>("n").unwrap(), loads.clone(), server.clone());
        readers.push(tokio::spawn(async move {
            let load = move || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                until("all three have asked for the lease", || leases_asked(&server) >= 3).await;
                Ok::<_, std::io::Error>("v".to_owned())
            };
            namespace.get_or_load("k", load).await.map(|value| (*value).clone())
        }));
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), "v");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_removes_what_an_older_epoch_left_and_nothing_that_was_written_since() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<u64>("n").unwrap();
    on_a.put_many((0..600u64).map(|n| (n.to_string(), n))).await.unwrap();
    let epoch = a.position().epoch();
    server.command(&["DEL", "{larder}:log"]).unwrap();
    until("a new epoch is adopted", || connected(&a) && a.position().epoch() != epoch).await;
    on_a.put_many((0..100u64).map(|n| (n.to_string(), n + 1))).await.unwrap();
    let exists = |key: u64| server.command(&["EXISTS", &format!("larder:e:n:{key}")]).unwrap().number();
    assert_eq!((exists(50), exists(500)), (Some(1), Some(1)));
    let (swept, ended) = a.clean_up(SweepCursor::start(), |_| true).await;
    ended.unwrap();
    let n = swept.namespaces.iter().find(|one| one.name == "n").expect("it gave something back");
    assert_eq!((n.backing.orphaned.entries, n.backing.total().entries, swept.backing_removed), (500, 500, 500));
    assert_eq!((exists(50), exists(500)), (Some(1), Some(0)));
    let b = instance(&server.url()).await;
    assert_eq!(b.namespace::<u64>("n").unwrap().get("50").await.unwrap().as_deref(), Some(&51));
    let (swept, ended) = b.clean_up(SweepCursor::start(), |_| true).await;
    ended.unwrap();
    assert_eq!((swept.backing_examined, swept.backing_removed), (100, 0));
}
