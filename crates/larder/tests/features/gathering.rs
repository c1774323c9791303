//! What is gathered for the windows of a recorder: exact where a few things happen that can be counted by hand.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::analytics::{Ranking, Recorder, Sketches, Window};
use larder::events::Event;
use larder::{Item, Larder, Names, Policy};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{in_memory, ms, secs, with_policy};

/// What happened in the namespace `n` since the last cut.
fn window(recorder: &mut Recorder) -> Window {
    recorder.cut(0).namespaces.remove("n").unwrap_or_default()
}

fn sketches(recorder: &mut Recorder) -> Sketches {
    window(recorder).sketches
}

fn amounts(ranking: &Ranking) -> Vec<(String, u64)> {
    ranking.iter().map(|ranked| (ranked.key.escape_ascii().to_string(), ranked.amount)).collect()
}

fn bytes(len: usize) -> Bytes {
    Bytes::from(vec![7; len])
}

async fn read(namespace: &larder::Namespace<Bytes>, key: &str, times: usize) {
    for _ in 0..times {
        assert!(namespace.get(key).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn keys_are_those_that_came_that_are_held_and_that_are_missed() {
    let (larder, _) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    n.put("a", bytes(1)).await.unwrap();
    n.put("b", bytes(1)).await.unwrap();
    for key in ["c", "c", "a"] {
        n.get(key).await.unwrap();
    }
    assert_eq!(sketches(&mut recorder).keys.estimate(), 3);
    let mut later = Recorder::new(&larder, 0);
    assert_eq!(sketches(&mut recorder).keys.estimate(), 0, "nothing happened");
    larder.sweep().await.unwrap();
    assert_eq!(sketches(&mut later).keys.estimate(), 2, "what is held is found by a sweep");
    assert_eq!(sketches(&mut recorder).keys.estimate(), 0, "it is given to whoever comes first");
}

#[tokio::test]
async fn hot_keys_have_the_reads_and_bytes_of_this_window() {
    let (larder, clock) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    n.put_many([("small", bytes(10)), ("large", bytes(1_000))]).await.unwrap();
    read(&n, "small", 64).await;
    // One in a millisecond is counted, for all that were left out.
    read(&n, "small", 64).await;
    clock.advance(ms(1));
    read(&n, "large", 64).await;
    let sketches = sketches(&mut recorder);
    assert_eq!(amounts(&sketches.hot_reads), [("n:large".into(), 128), ("n:small".into(), 64)]);
    assert_eq!(amounts(&sketches.hot_bytes), [("n:large".into(), 128_000), ("n:small".into(), 640)]);
    clock.advance(ms(1));
    read(&n, "small", 64).await;
    assert_eq!(amounts(&window(&mut recorder).sketches.hot_reads), [("n:small".into(), 64)], "what was before is gone");
}

#[tokio::test]
async fn what_loads_cost_is_told_by_key() {
    let (larder, _) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    let busy = |for_ms| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(for_ms) {
            std::hint::spin_loop();
        }
        Ok::<_, std::io::Error>(bytes(1))
    };
    let slow = n.get_or_load("slow", move || async move { busy(20) }).await.unwrap();
    let quick = n.get_or_load("quick", move || async move { busy(1) }).await.unwrap();
    let us = |loaded: &larder::Cached<Bytes>| loaded.load_cost().as_micros() as u64;
    let window = window(&mut recorder);
    assert_eq!(amounts(&window.sketches.hot_cost), [("n:slow".into(), us(&slow)), ("n:quick".into(), us(&quick))]);
    assert_eq!((window.load.count(), window.miss.count(), window.counts.loads_ok), (2, 2, 2));
    let many = |keys: Vec<&'static str>| async move { busy(10).map(|value| keys.into_iter().map(|key| (key, value.clone())).collect()) };
    n.get_many_or_load(["a", "b"], many).await.unwrap();
    let cost = sketches(&mut recorder).hot_cost;
    let costs: Vec<u64> = cost.iter().map(|ranked| ranked.amount).collect();
    assert!(costs.len() == 2 && costs[0] == costs[1] && costs[0] >= 5_000, "each has an equal part: {cost:?}");
}

#[tokio::test]
async fn the_largest_entries_are_ranked_by_their_encoded_bytes() {
    let (larder, _) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    for (key, len) in [("a", 30), ("b", 500), ("a", 20)] {
        n.put(key, bytes(len)).await.unwrap();
    }
    assert_eq!(amounts(&sketches(&mut recorder).largest), [("n:b".into(), 500), ("n:a".into(), 30)]);
}

#[tokio::test]
async fn entries_that_leave_memory_have_an_age_and_a_last_read() {
    let (builder, clock) = in_memory();
    let policy = Policy::default().ttl(secs(10)).own_memory(1 << 20);
    let larder = builder.namespace("n", policy).build().await.unwrap();
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    // Expired: one was read after four seconds, one never.
    n.put_many([("read", bytes(1)), ("unread", bytes(1))]).await.unwrap();
    clock.advance(secs(4));
    read(&n, "read", 1).await;
    clock.advance(secs(8));
    assert!(n.get("read").await.unwrap().is_none() && n.get("unread").await.unwrap().is_none());
    let expired = sketches(&mut recorder);
    assert_eq!((expired.age_expired.count(), expired.age_expired.sum()), (2, secs(24)));
    assert_eq!(expired.age_unread.sum(), secs(8 + 12));
    // Invalidated, and found so.
    n.put("k", Item::new(bytes(1)).tag("t")).await.unwrap();
    clock.advance(secs(7));
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    assert!(n.get("k").await.unwrap().is_none());
    let invalidated = sketches(&mut recorder);
    assert_eq!((invalidated.age_invalidated.count(), invalidated.age_invalidated.sum()), (1, secs(7)));
    assert!(invalidated.age_expired.count() == 0 && invalidated.age_unread.sum() == secs(7));
    // Evicted. What is replaced lives on.
    n.put("0", bytes(40_000)).await.unwrap();
    clock.advance(secs(3));
    n.put_many((0..4).map(|key| (key.to_string(), bytes(40_000)))).await.unwrap();
    clock.advance(secs(2));
    larder.resize_namespace("n", 64 << 10).unwrap();
    let window = window(&mut recorder);
    assert_eq!((window.counts.evicted, window.counts.replaced, window.entries), (3, 1, 1));
    assert_eq!((window.sketches.age_evicted.sum(), window.sketches.age_unread.count()), (secs(6), 3));
}

#[tokio::test]
async fn distances_between_reads_are_in_bytes_of_the_others() {
    let (larder, clock) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let keys: Vec<String> = (0..1_000).map(|key| format!("{key:04}")).collect();
    let followed = keys.iter().filter(|key| xxh3_64(format!("n:{key}").as_bytes()) < u64::MAX / 16).count() as u64;
    assert!(followed > 40, "{followed}");
    n.put_many(keys.iter().map(|key| (key, bytes(100)))).await.unwrap();
    let weight = larder.stats().total.bytes / 1_000;
    let mut recorder = Recorder::new(&larder, 0);
    for _ in 0..2 {
        for key in &keys {
            // The second read comes in the same tick.
            read(&n, key, 2).await;
        }
        clock.advance(ms(10));
    }
    let window = window(&mut recorder);
    assert_eq!((window.counts.hits_memory, window.requests()), (4_000, 4_000), "hits are hits, followed or not");
    let reuse = window.sketches.reuse_bytes;
    // The first time says nothing; what was not noted is counted as zero bytes.
    let (again, nearest) = (16 * followed, 4_000 - 2 * 16 * followed);
    assert_eq!(reuse.count(), again + nearest);
    assert_eq!(reuse.sum().as_nanos() as u64, again * 16 * (followed - 1) * weight);
    assert_eq!(sketches(&mut recorder).reuse_bytes.count(), 0);
}

#[tokio::test]
async fn of_few_keys_no_distances_are_told() {
    let (larder, clock) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let keys: Vec<String> = (0..100).map(|key| format!("{key:04}")).collect();
    n.put_many(keys.iter().map(|key| (key, bytes(100)))).await.unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    for key in keys.iter().chain(&keys) {
        read(&n, key, 1).await;
        clock.advance(ms(5));
    }
    let window = window(&mut recorder);
    assert_eq!((window.counts.hits_memory, window.sketches.reuse_bytes.count()), (200, 0));
}

#[tokio::test]
async fn an_entry_whose_reads_are_followed_expires_slides_and_is_renewed_as_any() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(32)).sliding(true)).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let key = (0..).map(|key| format!("{key}")).find(|key| xxh3_64(format!("n:{key}").as_bytes()) < u64::MAX / 16).unwrap();
    n.put(&key, bytes(1)).await.unwrap();
    for _ in 0..5 {
        clock.advance(secs(20));
        read(&n, &key, 3).await;
    }
    clock.advance(secs(33));
    assert!(n.get(&key).await.unwrap().is_none());
    n.put(&key, bytes(1)).await.unwrap();
    read(&n, &key, 1).await;
    assert!(n.touch(&key, Some(secs(5))).await.unwrap());
    clock.advance(secs(6));
    assert!(n.get(&key).await.unwrap().is_none(), "touched to a shorter life");
}

#[tokio::test]
async fn measures_have_the_names_that_are_documented() {
    let (larder, _) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    n.put("k", Item::new(bytes(1)).tag("t").depends_on("s:1", 1u64)).await.unwrap();
    let names = Names::new().key("n:x").tag("t").tag("u").pattern("n:*:y").pattern("n:a?").namespace("m");
    larder.invalidate(names).await.unwrap();
    larder.invalidate(Names::new().everything()).await.unwrap();
    n.remove("z").await.unwrap();
    larder.moved("s:1", 2u64).await.unwrap();
    n.put("c", bytes(1)).await.unwrap();
    larder.content("n:c").validate(b"one".as_slice()).await.unwrap();
    larder.content("n:c").validate(b"other".as_slice()).await.unwrap();
    larder.emit(Event::new("market_data_update", serde_json::json!({ "symbol": "A" }))).await.unwrap();
    let measures = recorder.cut(1).measures;
    let expected = [
        ("appends", 8),
        ("events.names", 7),
        ("events.received", 1),
        ("gauge.memory_capacity_bytes", 4 << 20),
        ("invalidations.everything.call", 1),
        ("invalidations.glob.call", 1),
        ("invalidations.key.call", 2),
        ("invalidations.key.content", 1),
        ("invalidations.namespace.call", 1),
        ("invalidations.pattern.call", 1),
        ("invalidations.pattern.event", 6),
        ("invalidations.source.moved", 1),
        ("invalidations.tag.call", 2),
        ("invalidations.tag.event", 1),
    ];
    let found: Vec<(&str, u64)> = measures.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(found, expected);
    let left: Vec<String> = recorder.cut(2).measures.into_keys().collect();
    assert_eq!(left, ["gauge.memory_capacity_bytes"], "what does not move is left out, but for what is no sum of events");
}

#[tokio::test]
async fn what_was_killed_for_nothing_is_a_measure_by_tag() {
    let (larder, _) = with_policy(Policy::default()).await;
    let n = larder.namespace::<Bytes>("n").unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    let load = || async { Ok::<_, std::io::Error>(Item::new(bytes(3)).tag("t")) };
    n.get_or_load("k", load).await.unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    n.get_or_load("k", load).await.unwrap();
    let rollup = recorder.cut(1);
    assert_eq!(rollup.measures["needless.tag.t"], 1);
    assert_eq!(rollup.namespaces["n"].counts.invalidated_needlessly, 1);
}

#[tokio::test]
async fn a_namespace_in_which_nothing_happens_is_not_in_the_window() {
    let (builder, _) = in_memory();
    let larder: Larder = builder.namespace("n", Policy::default()).namespace("idle", Policy::default()).build().await.unwrap();
    let mut recorder = Recorder::new(&larder, 0);
    larder.namespace::<Bytes>("n").unwrap().put("k", bytes(1)).await.unwrap();
    larder.sweep().await.unwrap();
    let rollup = recorder.cut(1);
    assert_eq!(rollup.namespaces.keys().collect::<Vec<_>>(), ["n"]);
}
