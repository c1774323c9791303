//! The stream has an end, and what is before it is in a checkpoint: nobody who comes late misses anything.

use fastrand::Rng;
use larder::{Builder, Change, Item, Larder, Mutation, Names};
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::Server;
use tokio::task::JoinSet;

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
    cut_off(&proxy, &b).await;
    a.invalidate(Names::new().key("n:killed").pattern("n:x:*").pattern("n:[y]")).await.unwrap();
    append_past(&a, &server, 3).await;
    for n in 0..20 * RECORDS {
        a.invalidate(Names::new().key(format!("n:beside:{n}"))).await.unwrap();
    }
    assert!(records(&server) <= 10 * RECORDS, "the stream has an end, and not {} records", records(&server));
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

/// Claims that a writer is at it, for about as long as one is believed.
fn claim_to_write(server: &Server) {
    let until = now_ms(server) + 3_900;
    let fields = ["writer", "gone", "writer_until", &until.to_string(), "writer_bytes", "0", "writer_records", "0"];
    server.command(&[&["HSET", "{larder}:log"][..], &fields].concat()).unwrap();
}

fn now_ms(server: &Server) -> u64 {
    let eval = server.command(&["EVAL", "local t = redis.call('TIME') return t[1] .. string.format('%03d', math.floor(t[2] / 1000))", "0"]);
    eval.unwrap().text().parse().expect("a time")
}

/// A writer that is lost on the way keeps nobody else from writing one, nor does one whose time is far in what is to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_takes_the_place_of_one_that_was_lost() {
    let Some(server) = server() else { return };
    let a = open(&server.url(), USUAL).await;
    append_past(&a, &server, 1).await;
    for ends in ["1", "9999999999999"] {
        claim_to_write(&server);
        server.command(&["RPUSH", "{larder}:checkpoint:unfinished", "a part"]).unwrap();
        let before = position_of_checkpoint(&server);
        for n in 0..2 * RECORDS {
            claim_to_write(&server);
            a.invalidate(Names::new().key(format!("n:{n}"))).await.unwrap();
        }
        assert_eq!(position_of_checkpoint(&server), before, "somebody is at it");
        server.command(&["HSET", "{larder}:log", "writer_until", ends]).unwrap();
        append_past(&a, &server, 1).await;
        let is_left = || server.command(&["EXISTS", "{larder}:checkpoint:unfinished"]).unwrap().number() == Some(1);
        until("nothing is left of it", || !is_left()).await;
        assert_eq!(server.command(&["HEXISTS", "{larder}:log", "writer"]).unwrap().number(), Some(0));
    }
}

/// Each is a copy of the whole index: one is written when it is due, and not by each of those who hear so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_checkpoints_are_written_than_are_due() {
    let Some(server) = server() else { return };
    let instances = [open(&server.url(), LARGER).await, open(&server.url(), LARGER).await];
    let tasks = instances.clone().map(|larder| {
        tokio::spawn(async move {
            for n in 0..10 * RECORDS {
                larder.invalidate(Names::new().key(format!("n:{n}"))).await.expect("Redis is there");
            }
        })
    });
    for task in tasks {
        task.await.expect("no task panics");
    }
    let written: u64 = instances.iter().map(|larder| larder.stats().log.shared.unwrap().checkpoints).sum();
    let due = 2 * 10 * RECORDS as u64 / (RECORDS as u64 / 2);
    assert!((1..=due).contains(&written), "{written} of {due} that could be due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_gone_is_a_loss() {
    let Some(server) = server() else { return };
    let a = open(&server.url(), USUAL).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", Item::new("old".to_owned()).tag("t")).await.unwrap();
    append_past(&a, &server, 2).await;
    let epoch = a.position().epoch();
    server.command(&["DEL", "{larder}:checkpoint"]).unwrap();
    until("a new epoch is adopted", || connected(&a) && a.position().epoch() != epoch).await;
    assert!(on_a.get("k").await.unwrap().is_none(), "nobody could know what has become of it");
    append_past(&a, &server, 1).await;
}

/// Found by reading and by chaos: the log's answer to a guard was that it is lost, and taking it up anew kept the instance from catching
/// up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_one_that_fell_behind_the_stream_waits_for_it_to_catch_up_and_no_longer() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.address()).unwrap();
    let (a, b) = (open(&server.url(), USUAL).await, open(&format!("redis://{}", proxy.address()), USUAL).await);
    for round in 0..3 {
        cut_off(&proxy, &b).await;
        append_past(&a, &server, 3).await;
        let before = b.stats().log.shared.unwrap().connects;
        let changing: Vec<_> = (0..8)
            .map(|task| {
                let raw = b.raw();
                tokio::spawn(async move {
                    let key = format!("n:{round}:{task}");
                    while raw.change(&key, |_| (Change::Value("v".into()), ())).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        proxy.heal();
        for task in changing {
            tokio::time::timeout(LONG, task).await.expect("it catches up").expect("no task panics");
        }
        let connects = b.stats().log.shared.unwrap().connects - before;
        assert!((1..5).contains(&connects), "the log is taken up once, or for a slow machine twice, and not {connects} times");
    }
}

/// Appends that nobody writes a checkpoint for wait, and are refused in the end; once there is one they go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_takes_nothing_until_there_is_a_checkpoint() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let on_a = a.namespace::<String>("n").unwrap();
    on_a.put("k", "v".to_owned()).await.unwrap();
    let connects = a.stats().log.shared.unwrap().connects;
    claim_to_write(&server);
    server.command(&["HSET", "{larder}:log", "bytes", "999999999"]).unwrap();
    let head = server.command(&["HGET", "{larder}:log", "head"]).unwrap().text();
    let strict = a.raw();
    let (invalidated, changed) = tokio::join!(
        a.invalidate(Names::new().key("n:k")),
        // Which waits behind it.
        strict.change("n:other", |_| (Change::Value("v".into()), ())),
    );
    let (invalidated, changed) = (invalidated.unwrap_err(), changed.unwrap_err());
    assert!(invalidated.to_string().contains("until a checkpoint of it is written"), "{invalidated}");
    for error in [invalidated, changed] {
        assert_eq!(error.kind(), larder::ErrorKind::LogUnavailable);
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    }
    assert_eq!(server.command(&["HGET", "{larder}:log", "head"]).unwrap().text(), head, "nothing was appended");
    assert!(on_a.get("k").await.unwrap().is_some(), "nor did it take effect here");
    server.command(&["HSET", "{larder}:log", "writer_until", "1"]).unwrap();
    a.invalidate(Names::new().key("n:k")).await.expect("there is room");
    assert!(position_of_checkpoint(&server) > 0 && on_a.get("k").await.unwrap().is_none());
    let shared = a.stats().log.shared.unwrap();
    assert_eq!((shared.connects, shared.checkpoints), (connects, 1), "the server is not at fault");
}

/// A server that has no room for one more copy of the index is left as it was, and whoever asks how the cache is hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_finds_no_room_leaves_nothing_behind() {
    let Some(server) = server() else { return };
    let a = open(&server.url(), 16 << 20).await;
    let used: u64 = server.info("used_memory").expect("it says so").parse().expect("a number");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", &(used + (8 << 20)).to_string()]).unwrap();
    let is_told = || a.health().findings.iter().any(|finding| finding.what.contains("could not be written"));
    let mut n = 0;
    until("somebody says so", || {
        // Queued or refused while what was written is there.
        drop(tokio::runtime::Handle::current().block_on(a.invalidate(Names::new().key(format!("n:{n}")))));
        n += 1;
        is_told()
    })
    .await;
    let is_left = || server.command(&["EXISTS", "{larder}:checkpoint:unfinished"]).unwrap().number() == Some(1);
    let is_claimed = || server.command(&["HEXISTS", "{larder}:log", "writer"]).unwrap().number() == Some(1);
    until("nothing is left of it", || !is_left() && !is_claimed()).await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    until("it can be reached", || connected(&a)).await;
    append_past(&a, &server, 1).await;
    until("nobody says so any more", || !is_told()).await;
}

/// One instance changes things, and another one puts since a moment before, whether it has heard of them by then or not: the answer is
/// what happened, also where the log alone has to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_since_a_moment_is_judged_by_all_that_happened_after_it() {
    let seed = seed();
    println!("LARDER_SEED={seed}");
    for mutation in [None, Some(Mutation::IndexUnasked)] {
        let mut rng = Rng::with_seed(seed);
        let Some(server) = server() else { return };
        let with = |builder: Builder| mutation.into_iter().fold(builder, Builder::mutation);
        let (a, b) = (instance(&server.url()).await, with(builder(&server.url())).build().await.unwrap());
        // A shape that is not known would be a conflict.
        let shapes = a.invalidate(Names::new().pattern("n:x:*").pattern("n:*:0").namespace("m")).await.unwrap();
        b.reach(shapes.position(), LONG).await.unwrap();
        let (raw, mut conflicts) = (b.raw(), 0);
        for round in 0..300 {
            // Two keys that what is done may hit, and one that it does not.
            let (n, of) = (rng.u8(0..3), |n: u8| format!("n:x:{n}"));
            let tokens = [of(n), of(n + 3), format!("n:z:z:{n}")].map(|key| (raw.begin_fill(&key), key));
            let (mut hit, mut changes) = ([false; 2], JoinSet::new());
            for _ in 0..rng.usize(0..4) {
                let m = rng.u8(0..6);
                let (names, hits) = match rng.u8(0..6) {
                    0 => (Names::new().key(of(m)), true),
                    1 => (Names::new().tag(format!("t{m}")), true),
                    2 => (Names::new().pattern("n:y:*"), false),
                    3 => (Names::new().pattern(format!("n:*:{m}")), true),
                    4 => (Names::new().namespace("m"), false),
                    _ => (Names::new().key(format!("n:y:{m}")).tag("t"), false),
                };
                hit[0] |= hits && m == n;
                hit[1] |= hits && m == n + 3;
                let a = a.clone();
                changes.spawn(async move { a.invalidate(names).await });
            }
            // Together, so that one record has several.
            for change in changes.join_all().await {
                change.unwrap();
            }
            let [(token, key), (other, other_key), (beside, beside_key)] = tokens;
            let item = |n: u8| Item::new(bytes::Bytes::from("v")).tag(format!("t{n}"));
            let puts = tokio::join!(
                raw.put_since(&key, token, item(n)),
                raw.put_since(&other_key, other, item(n + 3)),
                raw.put_since(&key, token, item(n)),
                raw.put_since(&beside_key, beside, Item::new(bytes::Bytes::from("w")).tag("w")),
            );
            let puts = <[_; 4]>::from(puts).map(|put| put.unwrap().is_some());
            let is_kept = [puts[0] || puts[2], puts[1]];
            assert_eq!(is_kept, hit.map(|hit| !hit), "LARDER_SEED={seed} round {round}, {mutation:?}: {puts:?}");
            assert!(!(puts[0] && puts[2]), "LARDER_SEED={seed} round {round}: of two of one key the second is since the first");
            assert!(puts[3], "LARDER_SEED={seed} round {round}: nothing happened to it");
            conflicts += hit.iter().filter(|hit| **hit).count();
            // So that the next moment is after all of this.
            let done = a.invalidate(Names::new().key("n:done")).await.unwrap();
            b.reach(done.position(), LONG).await.unwrap();
        }
        assert!((20..400).contains(&conflicts), "LARDER_SEED={seed}: {conflicts} conflicts say little");
    }
}
