//! The stream has an end, and what is before it is in a checkpoint: nobody who comes late misses anything.

use fastrand::Rng;
use larder::{Item, Larder, Names};
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::Server;

use crate::support::*;

/// The fewest records that may be configured.
const RECORDS: usize = 100;

/// Lines of an index that names seldom push each other out of, of one that has more of them, and of one that forgets all the time.
const USUAL: usize = 1 << 16;
const LARGER: usize = 1 << 18;
const SMALL: usize = 4 * 64;

async fn open(url: &str, index_bytes: usize) -> Larder {
    Larder::builder().redis(options(url).stream_len(RECORDS)).index_bytes(index_bytes).build().await.expect("an instance opens")
}

/// Appends a record each, until so many checkpoints were written.
async fn append_past(larder: &Larder, server: &Server, checkpoints: usize) {
    for _ in 0..checkpoints {
        let before = position_of_checkpoint(server);
        let mut appended = 0;
        while position_of_checkpoint(server) == before {
            larder.invalidate(Names::new().key(format!("n:beside:{appended}"))).await.expect("Redis is there");
            appended += 1;
            assert!(appended < 100 * RECORDS, "no checkpoint is written");
        }
    }
}

fn position_of_checkpoint(server: &Server) -> u64 {
    server.command(&["HGET", "{larder}:log", "checkpoint"]).unwrap().text().parse().expect("a position")
}

fn records(server: &Server) -> usize {
    server.command(&["XLEN", "{larder}:stream"]).unwrap().number().expect("a number") as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fell_behind_the_stream_reads_the_checkpoint_and_stays_warm() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.address()).unwrap();
    let (a, b) = (open(&server.url(), USUAL).await, open(&format!("redis://{}", proxy.address()), USUAL).await);
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    for key in ["kept", "killed", "x:1", "y"] {
        let receipt = on_a.put(key, "old".to_owned()).await.unwrap();
        b.reach(receipt.position(), LONG).await.unwrap();
        assert!(on_b.get(key).await.unwrap().is_some());
    }
    proxy.refuse();
    proxy.cut();
    until("b is cut off", || !connected(&b)).await;
    a.invalidate(Names::new().key("n:killed").pattern("n:x:*").pattern("n:[y]")).await.unwrap();
    append_past(&a, &server, 3).await;
    assert!(records(&server) <= 2 * RECORDS, "the stream has an end, and not {} records", records(&server));
    let last = a.invalidate(Names::new().key("n:none")).await.unwrap();
    proxy.heal();
    b.reach(last.position(), LONG).await.unwrap();
    for key in ["killed", "x:1", "y"] {
        assert!(on_b.get(key).await.unwrap().is_none(), "{key} was invalidated");
    }
    let kept = on_b.lookup("kept").await.unwrap().into_answer().expect("nothing happened to it");
    assert_eq!(kept.source, larder::Source::Memory, "and memory did not start cold");
    assert_eq!(b.stats().log.shared.unwrap().resyncs, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_anew_knows_what_the_checkpoint_has_whatever_the_size_of_its_index() {
    for (writes, reads) in [(USUAL, USUAL), (USUAL, LARGER), (LARGER, USUAL), (SMALL, USUAL), (USUAL, SMALL)] {
        let Some(server) = server() else { return };
        let a = open(&server.url(), writes).await;
        let on_a = a.namespace::<String>("n").unwrap();
        for n in 0..40 {
            // By tags, so that the entries stay in Redis.
            on_a.put(format!("k{n}"), Item::new("old".to_owned()).tag(format!("t{n}"))).await.unwrap();
        }
        for n in 0..20 {
            a.invalidate(Names::new().tag(format!("t{n}"))).await.unwrap();
        }
        append_past(&a, &server, 2).await;
        a.invalidate(Names::new().tag("t20")).await.unwrap();
        let epoch = a.position().epoch();
        let b = open(&server.url(), reads).await;
        assert_eq!(b.position().epoch(), epoch);
        let on_b = b.namespace::<String>("n").unwrap();
        for n in 0..=20 {
            assert!(on_b.get(format!("k{n}")).await.unwrap().is_none(), "k{n} was invalidated; index {writes} -> {reads}");
        }
        if writes.min(reads) > SMALL {
            let kept = on_b.lookup("k30").await.unwrap().into_answer().expect("nothing happened to it");
            assert_eq!(kept.source, larder::Source::Backing);
        }
    }
}

/// A writer that is lost on the way keeps nobody else from writing one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_takes_the_place_of_one_that_was_lost() {
    let Some(server) = server() else { return };
    let a = open(&server.url(), USUAL).await;
    append_past(&a, &server, 1).await;
    let until = "9999999999999";
    server.command(&["HSET", "{larder}:log", "writer", "gone", "writer_until", until, "writer_bytes", "0", "writer_records", "0"]).unwrap();
    server.command(&["SET", "{larder}:checkpoint:unfinished", "a part"]).unwrap();
    let before = position_of_checkpoint(&server);
    for n in 0..3 * RECORDS {
        a.invalidate(Names::new().key(format!("n:{n}"))).await.unwrap();
    }
    assert_eq!(position_of_checkpoint(&server), before, "somebody is at it");
    server.command(&["HSET", "{larder}:log", "writer_until", "1"]).unwrap();
    append_past(&a, &server, 1).await;
    assert_eq!(server.command(&["EXISTS", "{larder}:checkpoint:unfinished"]).unwrap().number(), Some(0));
    assert_eq!(server.command(&["HEXISTS", "{larder}:log", "writer"]).unwrap().number(), Some(0));
}

/// Appends that nobody writes a checkpoint for wait, and fail in the end; then they are told so, and go on once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_takes_nothing_until_there_is_a_checkpoint() {
    let Some(server) = server() else { return };
    let a = builder(&server.url()).mode(larder::Mode::Strict).build().await.unwrap();
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    server.command(&["HSET", "{larder}:log", "writer", "gone", "writer_until", "9999999999999", "writer_bytes", "0"]).unwrap();
    server.command(&["HSET", "{larder}:log", "bytes", "999999999"]).unwrap();
    let head = server.command(&["HGET", "{larder}:log", "head"]).unwrap().text();
    let error = a.invalidate(Names::new().key("n:k")).await.unwrap_err();
    assert_eq!(error.kind(), larder::ErrorKind::LogUnavailable, "{error}");
    assert_eq!(server.command(&["HGET", "{larder}:log", "head"]).unwrap().text(), head, "nothing was appended");
    server.command(&["HSET", "{larder}:log", "writer_until", "1"]).unwrap();
    until("there is a checkpoint", || {
        let again = tokio::runtime::Handle::current().block_on(a.invalidate(Names::new().key("n:k")));
        again.is_ok() && position_of_checkpoint(&server) > 0
    })
    .await;
    assert!(on_a.get("k").await.unwrap().is_none());
}

/// One instance changes things, and another one puts since a moment before, whether it has heard of them by then or not: the log's
/// answer is what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_since_a_moment_is_judged_by_all_that_happened_after_it() {
    let Some(server) = server() else { return };
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("LARDER_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    // Nobody writes a checkpoint, so that its shapes come by the stream.
    let (a, b) = (builder(&server.url()).build().await.unwrap(), builder(&server.url()).build().await.unwrap());
    // A shape that is not known would be a conflict.
    let shapes = a.invalidate(Names::new().pattern("n:x:*").pattern("n:*:0").namespace("m")).await.unwrap();
    b.reach(shapes.position(), LONG).await.unwrap();
    let (raw, mut conflicts) = (b.raw(), 0);
    for round in 0..400 {
        let n = rng.u8(0..6);
        let token = raw.begin_fill(format!("n:x:{n}"));
        let (mut hit, mut last) = (false, None);
        for _ in 0..rng.usize(0..4) {
            let m = rng.u8(0..6);
            let (names, hits) = match rng.u8(0..6) {
                0 => (Names::new().key(format!("n:x:{m}")), m == n),
                1 => (Names::new().tag(format!("t{m}")), m == n),
                2 => (Names::new().pattern("n:y:*"), false),
                3 => (Names::new().pattern(format!("n:*:{m}")), m == n),
                4 => (Names::new().namespace("m"), false),
                _ => (Names::new().key(format!("n:y:{m}")).tag("t"), false),
            };
            hit |= hits;
            last = Some(a.invalidate(names).await.unwrap().position());
        }
        let item = Item::new(bytes::Bytes::from("v")).tag(format!("t{n}"));
        let put = raw.put_since(format!("n:x:{n}"), token, item).await.unwrap();
        assert_eq!(put.is_none(), hit, "LARDER_SEED={seed} round {round}");
        conflicts += usize::from(hit);
        // So that the next moment is after all of this.
        if let Some(last) = last {
            b.reach(last, LONG).await.unwrap();
        }
    }
    assert!((40..360).contains(&conflicts), "LARDER_SEED={seed}: {conflicts} conflicts say little");
}
