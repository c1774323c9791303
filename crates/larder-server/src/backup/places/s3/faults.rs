//! Backups through a store that fails: whatever it does, what is asked ends well or says what did not; no half backup is ever listed, and
//! readers see of a restore nothing or all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, Place, RestoreOptions, Retention, prune, verify};
use larder::{Error, ErrorKind, Larder};
use rusty_s3::Credentials;

use super::store::{Fault, PASSING, Plan, Store};
use super::{Patience, S3Address, S3Place};

const ENTRIES: u64 = 60;

/// Lives that are tried.
const LIVES: u64 = 15;

fn place(store: &Store, patience: Patience) -> Arc<S3Place> {
    let address = S3Address::parse(&format!("b/some/where?endpoint={}", store.url())).expect("it is an address");
    Arc::new(address.with(Credentials::new("test", "secret-of-the-test"), patience).expect("it can be opened"))
}

fn patient() -> Patience {
    // More tries than there are faults in a row, twice: whoever was told of more than there is has nothing to go on with, asks, and begins
    // again. And a machine that is busy may keep a store from answering in time, too.
    Patience { tries: 20, pause: Duration::ZERO, timeout: Duration::from_millis(250), believes_what_was_cut: false }
}

fn seed(test: &str) -> u64 {
    let given = std::env::var("LARDER_SEED").ok().map(|text| text.parse().expect("LARDER_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    eprintln!("{test}: LARDER_SEED={seed}");
    seed
}

async fn cache() -> Larder {
    Larder::builder().memory(16 << 20).index_bytes(1 << 12).build().await.expect("a cache opens")
}

async fn seen(larder: &Larder) -> u64 {
    let mut seen = 0;
    for n in 0..ENTRIES {
        seen += u64::from(larder.raw().peek(format!("n:{n}")).await.expect("a peek works").is_some());
    }
    seen
}

/// What is wrong with an error: it says what it is about and where, and nothing that is signed.
fn unclear(error: &Error) -> Option<String> {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(deeper) = source {
        told = format!("{told}: {deeper}");
        source = deeper.source();
    }
    let is_clear = told.contains("s3://b/some/where/") || ["one/", "two/", "\"one\"", "\"two\""].iter().any(|name| told.contains(name));
    let is_discreet = !told.contains("X-Amz") && !told.contains("secret");
    let is_known = matches!(error.kind(), ErrorKind::Backup | ErrorKind::BadArchive | ErrorKind::NotFound);
    (!is_clear || !is_discreet || !is_known).then(|| format!("an error that does not say what: {told} ({:?})", error.kind()))
}

#[test]
fn what_was_never_finished_is_removed_when_it_is_old_and_all_of_it_is_ours() {
    let store = Store::start();
    let place = place(&store, patient());
    let put = |name: &str, files: &[&str]| files.iter().for_each(|file| place.put(name, file, b"x").expect("it is put"));
    put("old", &["segment-000001", "segment-000002", "segment-000003", "segment-000004", "index"]);
    put("young", &["segment-000001", "segment-000002"]);
    // The last page has what tells.
    put("photos", &["cat.jpg"]);
    put("site", &["index", "segment-000001", "segment-000002", "segment-000003", "style.css"]);
    put("nested", &["index", "pages/index"]);
    put("folder", &[""]);
    put("whole", &["index", "segment-000001"]);
    store.put_now(true);
    put("young", &["segment-000003"]);
    put("new", &["segment-000001"]);
    store.put_now(false);
    assert_eq!(place.unfinished().expect("it can be listed"), ["old", "whole"]);
    put("whole", &[larder::backup::MANIFEST]);
    assert_eq!(
        (place.unfinished().expect("it can be listed"), place.list().expect("it can be listed")),
        (vec!["old".into()], vec!["whole".into()])
    );
    let retention = Retention { last: 1, ..Retention::default() };
    assert_eq!(prune(&*place, retention, false, &()).expect("it is pruned").unfinished, ["old"]);
    for (name, file) in [("photos", "cat.jpg"), ("site", "style.css"), ("site", "index"), ("nested", "pages/index"), ("nested", "index")] {
        assert_eq!(place.get(name, file, 9).expect("it is not ours to remove"), b"x", "{name}/{file}");
    }
    assert!(place.get("young", "segment-000001", 9).is_ok() && place.get("new", "segment-000001", 9).is_ok());
    assert!(["segment-000001", "segment-000004", "index"].iter().all(|file| place.get("old", file, 9).is_err()));
    assert!(store.went_on() > 10, "listings had several pages");
    assert!(place.begin("nested").is_err() && place.begin("folder").is_err() && place.begin("old").is_ok());
}

/// What failed, and what is wrong with it.
#[derive(Default)]
struct Found {
    failed: Vec<String>,
    wrong: Vec<String>,
}

impl Found {
    fn note<T>(&mut self, what: &str, done: Result<T, Error>) -> Option<T> {
        done.map_err(|error| {
            self.failed.push(format!("{what}: {error}"));
            self.wrong.extend(unclear(&error).map(|why| format!("{what}: {why}")));
        })
        .ok()
    }

    /// Every backup that is listed is whole, by somebody for whom nothing fails.
    fn check_listed(&mut self, store: &Store, when: &str) -> Vec<String> {
        let calm = place(store, patient());
        let listed = calm.list().expect("nothing fails now");
        for name in &listed {
            self.wrong
                .extend(verify(&*calm, name, None, &()).err().map(|error| format!("{when}: {name} is listed, and is not whole: {error}")));
        }
        listed
    }
}

/// Two backups, the second of what changed; looking at them, pruning, restoring: all while the store fails.
async fn one_life(seed: u64, faults: &[Fault], (percent, in_a_row): (u32, u32), patience: Patience) -> Found {
    let (store, larder, mut found) = (Store::start(), cache().await, Found::default());
    let place = place(&store, patience);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut with_faults = |is_on: bool| {
        let plan = || Plan { seed: rng.u64(..), faults: faults.to_vec(), percent, in_a_row };
        store.fail(is_on.then(plan));
    };
    for n in 0..ENTRIES {
        let value: String = std::iter::repeat_with(fastrand::alphanumeric).take(300).collect();
        larder.raw().put(format!("n:{n}"), Bytes::from(value)).await.expect("a put works");
    }
    for (name, parent) in [("one", None), ("two", Some("one"))] {
        with_faults(true);
        let options = BackupOptions { parent: parent.map(str::to_owned), pause: Duration::ZERO, ..BackupOptions::new(name) };
        let taken = found.note("create", larder.backup(place.clone(), &options, Arc::new(())).await);
        with_faults(false);
        let listed = found.check_listed(&store, "after create");
        if taken.is_some() && !listed.contains(&name.to_owned()) {
            found.wrong.push(format!("{name} was taken, and is not listed"));
        }
    }
    with_faults(true);
    let told = place.list();
    with_faults(false);
    let truly = found.check_listed(&store, "after list");
    match told {
        Ok(listed) if listed != truly => found.wrong.push(format!("{listed:?} are listed, and {truly:?} are there")),
        Ok(_) => {}
        Err(error) => found.failed.push(format!("list: {error}")),
    }
    for name in &truly {
        with_faults(true);
        found.note("verify", verify(&*place, name, None, &()));
        let elsewhere = cache().await;
        let options = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new(name) };
        let restored = found.note("restore", elsewhere.restore(place.clone(), &options, Arc::new(())).await);
        let (seen, expected) = (seen(&elsewhere).await, if restored.is_some() { ENTRIES } else { 0 });
        if seen != expected {
            found.wrong.push(format!("{seen} entries are seen of {name}, where there should be {expected}"));
        }
    }
    with_faults(true);
    let pruned = found.note("prune", prune(&*place, Retention { last: 1, ..Retention::default() }, false, &()));
    with_faults(false);
    let left = found.check_listed(&store, "after prune");
    if pruned.is_some_and(|pruned| pruned.kept.iter().any(|kept| !left.contains(kept))) {
        found.wrong.push("what was to stay is gone".to_owned());
    }
    if percent > 0 && store.failed() == 0 {
        found.wrong.push("nothing ever failed, so nothing was tried".to_owned());
    }
    found
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime starts")
}

/// What so many lives found, the first one with something.
fn lives(seed: u64, faults: &[Fault], rate: (u32, u32), patience: Patience, is_found: fn(&Found) -> bool) -> Option<(u64, Found)> {
    (seed..seed + LIVES).map(|seed| (seed, runtime().block_on(one_life(seed, faults, rate, patience)))).find(|(_, found)| is_found(found))
}

#[test]
fn what_passes_when_it_is_tried_again_is_noticed_by_nobody() {
    let seed = seed("what_passes_when_it_is_tried_again_is_noticed_by_nobody");
    let found = lives(seed, &PASSING, (30, 4), patient(), |found| !found.wrong.is_empty() || !found.failed.is_empty());
    if let Some((seed, found)) = found {
        panic!("LARDER_SEED={seed}: wrong: {:?}; failed: {:?}", found.wrong, found.failed);
    }
}

#[test]
fn what_does_not_pass_is_told_and_leaves_no_half_backup() {
    let seed = seed("what_does_not_pass_is_told_and_leaves_no_half_backup");
    let faults = [PASSING.as_slice(), &[Fault::Lie]].concat();
    // Few of them silent, which takes as long as the client waits.
    let patience = Patience { tries: 2, timeout: Duration::from_millis(100), ..patient() };
    let mut failures = 0;
    for seed in seed..seed + LIVES {
        let found = runtime().block_on(one_life(seed, &faults, (25, u32::MAX), patience));
        assert!(found.wrong.is_empty(), "LARDER_SEED={seed}: {:?}", found.wrong);
        failures += found.failed.len();
    }
    assert!(failures > 0, "LARDER_SEED={seed}: nothing that was asked failed, so nothing was tried");
}

/// Canaries: a place that tries once, and one that takes what came before a connection broke off for all there is.
#[test]
fn a_place_that_gives_up_at_once_or_believes_what_was_cut_is_caught() {
    let seed = seed("a_place_that_gives_up_at_once_or_believes_what_was_cut_is_caught");
    let fails: fn(&Found) -> bool = |found| !found.wrong.is_empty() || !found.failed.is_empty();
    let hasty = lives(seed, &PASSING, (30, 4), Patience { tries: 1, ..patient() }, fails);
    assert!(hasty.is_some(), "LARDER_SEED={seed}: a place that never tries again was not caught");
    let credulous = lives(seed, &[Fault::Cut], (30, 4), Patience { believes_what_was_cut: true, ..patient() }, fails);
    assert!(credulous.is_some(), "LARDER_SEED={seed}: a place that believes what was cut was not caught");
}
