//! A server over Redis that is killed within a restore. It has no folder that would remember it, and no server shows anything of what it
//! wrote, until the same restore was run again, on any of them.

use std::collections::HashSet;
use std::time::Duration;

use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::PATIENCE;
use crate::shared::{Instance, redis};

/// Some batches of the restore, each of which asks Redis more than once.
const ENTRIES: usize = 1_500;

/// How long Redis is away from the servers. A restore takes a second by it, and reads a moment.
const AWAY: Duration = Duration::from_millis(20);

fn value(n: usize) -> String {
    format!("{n}-{}", "v".repeat(n % 50))
}

/// One in ten had a tag that was invalidated since, and one alone was.
fn is_dead(n: usize) -> bool {
    n.is_multiple_of(10) || n == 7
}

fn begin(server: &Instance, ask: &Value) -> String {
    let begun = server.request("POST", "/v1/backup-runs").header("content-type", "application/json").body(ask.to_string()).send();
    assert_eq!(begun.status, 202, "{begun:?}");
    format!("/v1/backup-runs/{}", begun.json()["run"])
}

fn run(server: &Instance, ask: &Value) -> Value {
    let run = begin(server, ask);
    let ended = wait::until_some(PATIENCE, || {
        let run = server.request("GET", &run).send().json();
        (run["state"] != "running").then_some(run)
    });
    let ended = ended.expect("it ends");
    assert_eq!(ended["state"], "done", "{ended}");
    ended["result"].clone()
}

/// The entries that are looked at: one in seven, the one among them that was invalidated by its key, and some with the tag.
fn looked_at() -> impl Iterator<Item = usize> {
    (0..ENTRIES).step_by(7).chain([10])
}

/// Which of them a server shows, each with its value, and none that is dead.
fn seen(server: &Instance) -> HashSet<usize> {
    let is_seen = |n: &usize| {
        let reply = server.get(&format!("n:{n}"));
        assert!(reply.status == 404 || (reply.status == 200 && reply.body == value(*n).as_bytes() && !is_dead(*n)), "n:{n}: {reply:?}");
        reply.status == 200
    };
    looked_at().filter(is_seen).collect()
}

#[test]
fn a_restore_over_redis_that_was_killed_is_ended_by_running_it_again() {
    let Some((redis, proxy, url)) = redis() else { return };
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let place = folder.path().join("backups").display().to_string();
    let start = |name: &str| Instance::start(&url, name, &[("LARDER_BACKUP_PLACE", &place)]);
    let stored = || -> Vec<(usize, String)> {
        let keys = redis.command(&["KEYS", "*n:*"]).expect("it is there");
        let of = |key: String| Some((key.rsplit_once("n:")?.1.parse().ok()?, key));
        keys.items().iter().filter_map(|key| of(key.text())).collect()
    };
    let a = start("a");
    for n in 0..ENTRIES {
        let tag = if n.is_multiple_of(10) { "gone" } else { "kept" };
        let put = a.request("PUT", &format!("/v1/entries/n:{n}")).header("cache-tag", tag).body(value(n)).send();
        assert_eq!(put.status, 204, "{put:?}");
    }
    assert_eq!(run(&a, &json!({ "do": "create", "name": "b" }))["entries"], ENTRIES);
    let names = json!({ "tags": ["gone"], "keys": ["n:7"] }).to_string();
    let invalidated = a.request("POST", "/v1/invalidations").header("content-type", "application/json").body(names).send();
    assert_eq!(invalidated.status, 200, "{invalidated:?}");
    // As Redis evicts: nothing is said of it in the log, and it is no longer in anybody's memory.
    drop(a);
    let evicted: Vec<String> = std::iter::once("DEL".to_owned()).chain(stored().into_iter().map(|(_, key)| key)).collect();
    assert_eq!(redis.command(&evicted).expect("it is there").number(), Some(evicted.len() as i64 - 1));
    let (alive, alive_of_looked_at) = ((0..ENTRIES).filter(|n| !is_dead(*n)).count(), looked_at().filter(|n| !is_dead(*n)).count());

    let (a, other) = (start("a"), start("other"));
    assert!(seen(&other).is_empty() && stored().is_empty());
    proxy.delay(AWAY);
    begin(&a, &json!({ "do": "restore", "name": "b" }));
    let written = wait::until_some(PATIENCE, || Some(stored()).filter(|stored| stored.len() >= 100)).expect("it writes");
    // Of what is written by now neither shows anything, and both can say why.
    let key = format!("n:{}", written[0].0);
    let (here, there) = (a.get(&key).status, other.get(&key).status);
    let explained = other.request("GET", &format!("/v1/entries/{key}/explanation")).send();
    drop(a);
    let left = stored().len();
    assert!(left < alive, "it was killed too late to be within it: {left} of {alive} are there");
    assert_eq!((here, there), (404, 404), "{key}");
    assert_eq!(explained.json()["found"][0]["verdict"], "held", "{explained:?}");

    proxy.heal();
    let a = start("a");
    let (here, there) = (seen(&a), seen(&other));
    assert!(here.is_empty() && there.is_empty(), "{here:?} and {there:?}");
    let restored = run(&other, &json!({ "do": "restore", "name": "b" }));
    assert_eq!(restored["dead_invalidated"], ENTRIES - alive, "{restored}");
    let counts = ["restored", "skipped_newer"].map(|count| restored[count].as_u64().unwrap_or_default());
    assert_eq!(counts.iter().sum::<u64>(), alive as u64, "{restored}");
    assert_eq!(
        (seen(&a).len(), seen(&other).len()),
        (alive_of_looked_at, alive_of_looked_at),
        "all of it, and nothing that was invalidated"
    );
}
