//! Freshness over HTTP: the race of a fill with an invalidation, and readers and writers at once.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::client::Server;

#[test]
fn a_fill_that_lost_against_an_invalidation_is_not_kept() {
    let server = Server::plain();
    let invalidations = [
        json!({ "keys": ["n:k"] }),
        json!({ "tags": ["t"] }),
        json!({ "patterns": ["n:*"] }),
        json!({ "namespaces": ["n"] }),
        json!({ "everything": true }),
    ];
    for names in invalidations {
        let token = server.get("n:k").header("larder-fill").unwrap().to_owned();
        assert_eq!(server.post("/v1/invalidations", names.clone()).status, 200);
        let problem = server.put("n:k").header("larder-fill", &token).header("cache-tag", "t").body("old").send();
        assert_eq!(problem.problem(409, "stale-fill")["key"], "n:k", "{names}");
        server.get("n:k").problem(404, "miss");
    }
    // A put is an invalidation too.
    let token = server.get("n:k").header("larder-fill").unwrap().to_owned();
    assert_eq!(server.put("n:k").body("new").send().status, 204);
    server.put("n:k").header("larder-fill", &token).body("old").send().problem(409, "stale-fill");
    assert_eq!(server.get("n:k").body, b"new");
}

#[test]
fn a_fill_is_kept_when_nothing_it_depends_on_happened() {
    let server = Server::plain();
    let missed = server.get("n:k");
    let token = missed.header("larder-fill").unwrap();
    assert_eq!(server.post("/v1/invalidations", json!({ "keys": ["n:other"], "tags": ["other"] })).status, 200);
    let appends = server.larder.stats().log.appends;
    let filled = server.put("n:k").header("larder-fill", token).header("cache-tag", "t").body("v").send();
    assert_eq!((filled.status, filled.header("larder-position")), (204, missed.header("larder-position")));
    assert_eq!(server.larder.stats().log.appends, appends, "a fill costs no append");
    assert_eq!(server.get("n:k").body, b"v");
    assert_eq!(server.post("/v1/invalidations", json!({ "tags": ["t"] })).status, 200);
    server.get("n:k").problem(404, "miss");
}

#[test]
fn a_token_is_for_its_key_and_its_log() {
    let (server, other) = (Server::plain(), Server::plain());
    let token = server.get("a").header("larder-fill").unwrap().to_owned();
    server.put("b").header("larder-fill", &token).body("v").send().problem(400, "invalid-key");
    let foreign = other.get("a").header("larder-fill").unwrap().to_owned();
    server.put("a").header("larder-fill", &foreign).body("v").send().problem(412, "unknown-position");
    let made_up = token.replacen("-0-", "-7-", 1);
    assert_ne!(made_up, token);
    server.put("a").header("larder-fill", &made_up).body("v").send().problem(412, "unknown-position");
    server.get("a").problem(404, "miss");
    assert_eq!(server.put("a").header("larder-fill", &token).body("v").send().status, 204);
}

/// A source of truth: each symbol has a version that only grows.
struct World {
    current: [AtomicU64; SYMBOLS],
    /// The version whose invalidation has been acknowledged.
    acknowledged: [AtomicU64; SYMBOLS],
}

const SYMBOLS: usize = 4;
const READERS: usize = 6;
const READS: usize = 150;

#[test]
fn no_reader_sees_what_was_acknowledged_as_gone() {
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("LARDER_SEED={seed}");
    let server = Server::plain();
    let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
    let world = World { current: zeros(), acknowledged: zeros() };
    let done = AtomicU64::new(0);
    let hits: usize = std::thread::scope(|scope| {
        let writer = scope.spawn(|| change(&server, &world, &done, seed));
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (server, world, done) = (&server, &world, &done);
                scope.spawn(move || {
                    // Counted as done even if it panics, or the writer would go on for ever.
                    let _done = Done(done);
                    let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(1 + reader as u64));
                    (0..READS).filter(|_| read_through(server, world, &mut rng)).count()
                })
            })
            .collect();
        let hits = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(writer.join().unwrap() > 0, "the writer wrote");
        hits
    });
    assert!(hits > 0, "some reads were answered from the cache");
}

struct Done<'a>(&'a AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Changes the source first, then invalidates, until all readers are done. Returns how often.
fn change(server: &Server, world: &World, done: &AtomicU64, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut changes = 0;
    while done.load(Ordering::Acquire) < READERS as u64 {
        let symbol = rng.usize(..SYMBOLS);
        let version = world.current[symbol].fetch_add(1, Ordering::AcqRel) + 1;
        let names = match rng.u8(..3) {
            0 => json!({ "tags": [format!("symbol:{symbol}")] }),
            1 => json!({ "keys": [format!("f:{symbol}:x")] }),
            _ => json!({ "patterns": [format!("f:{symbol}:*")] }),
        };
        assert_eq!(server.post("/v1/invalidations", names).status, 200);
        world.acknowledged[symbol].store(version, Ordering::Release);
        changes += 1;
        // A few reads' worth of peace, or there would be no hits to check.
        (0..5).for_each(|_| assert_eq!(server.request("GET", "/livez").send().status, 200));
    }
    changes
}

/// Reads a symbol through the cache, and checks the answer against what was acknowledged before it began. Whether it was a hit.
fn read_through(server: &Server, world: &World, rng: &mut fastrand::Rng) -> bool {
    let symbol = rng.usize(..SYMBOLS);
    let key = format!("f:{symbol}:x");
    let before = world.acknowledged[symbol].load(Ordering::Acquire);
    let reply = server.get(&key);
    if reply.status == 200 {
        let version: u64 = std::str::from_utf8(&reply.body).unwrap().parse().unwrap();
        assert!(version >= before, "symbol {symbol}: read version {version}, {before} was acknowledged before");
        return true;
    }
    let token = reply.header("larder-fill").expect("a miss has a token");
    let version = world.current[symbol].load(Ordering::Acquire).to_string();
    // A source that is slower than the changes, so that fills come late.
    (0..rng.usize(..30)).for_each(|_| assert_eq!(server.request("GET", "/livez").send().status, 200));
    let filled = server.put(&key).header("larder-fill", token).header("cache-tag", format!("symbol:{symbol}")).body(version).send();
    assert!([204, 409].contains(&filled.status), "{filled:?}");
    false
}
