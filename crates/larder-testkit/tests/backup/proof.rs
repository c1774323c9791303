//! Restored wherever and whenever: every live entry equal to the byte, with what is left of its life; nothing that was invalidated.

use std::path::Path;
use std::sync::Arc;

use larder::backup::{FolderPlace, Manifest, Present, RestoreOptions, Restored};
use larder::{ErrorKind, Larder, Mutation};

use crate::announced;
use crate::world::{Gone, World, open};

fn place(folder: &Path) -> Arc<FolderPlace> {
    Arc::new(FolderPlace::new(folder))
}

/// Which of what was given a cache may show, and what it must show.
struct Expected {
    /// It was given by then ...
    given_by: u64,
    /// ... and what killed it counts up to here.
    killed_upto: u64,
    /// Whether what was given later may be there, too.
    is_live: bool,
}

/// What is wrong with what a cache shows.
async fn wrong(what: &str, world: &World, larder: &Larder, expected: &Expected) -> Vec<String> {
    let (raw, mut wrong, mut shown) = (larder.raw(), Vec::new(), 0);
    for key in world.given.keys() {
        let found = raw.peek(key).await.expect("a peek works").map(|answer| answer.value);
        shown += u64::from(found.is_some());
        let may = if expected.is_live {
            world.live_ones(key, u64::MAX, u64::MAX)
        } else {
            world.live_ones(key, expected.given_by, expected.killed_upto)
        };
        // What changed meanwhile may be missing: it came, or went, while the backup was taken, or after.
        let last = world.given[key].last().expect("it was given something");
        let must = may.contains(&last) && last.number <= world.given_before;
        match found {
            Some(found) => {
                let left = found.fresh_for(world.clock.now_ms()).map(|left| world.clock.now_ms() + left.as_millis() as u64);
                if !may.iter().any(|may| *found == may.value && left == may.until) {
                    wrong.push(format!("{what}: {key} shows {:?} until {left:?}, and may show {may:?}", *found));
                }
            }
            None if must => wrong.push(format!("{what}: {key} is missing: {last:?}")),
            None => {}
        }
    }
    if shown == 0 && !world.invalidated.iter().rev().take(40).any(|(_, gone)| matches!(gone, Gone::Everything)) {
        wrong.push(format!("{what}: nothing at all was restored"));
    }
    wrong
}

async fn restore(larder: &Larder, folder: &Path, options: RestoreOptions) -> larder::Result<Restored> {
    larder.restore(place(folder), &options, Arc::new(())).await
}

/// Before, during, after; into the cache itself; then its disk is lost and its log is not; then elsewhere.
async fn one_life(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    let (data, archive, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::begin(seed, Some(data.path()), mutation).await;
    world.live(400).await;
    let full = world.back_up(archive.path(), "full", None, 60).await;
    // What was made a moment before a backup may have come too late for it, and is taken again.
    world.clock.advance(std::time::Duration::from_secs(11));
    world.live(60).await;
    let more = world.back_up(archive.path(), "more", Some("full"), 40).await;
    assert_eq!((full.depth, more.depth), (0, 1));
    world.live(30).await;
    let expected = Expected { given_by: more.position().number(), killed_upto: u64::MAX, is_live: true };

    let mut found = wrong("before", &world, &world.larder, &expected).await;
    assert!(found.is_empty(), "the cache itself is right: {found:?}");
    let present = [Present::KeepNewer, Present::Replace, Present::KeepPresent][world.rng.usize(..3)];
    restore(&world.larder, archive.path(), RestoreOptions { present, ..RestoreOptions::new("more") }).await.unwrap();
    found.extend(wrong("into itself", &world, &world.larder, &expected).await);

    // Its entries are lost and its log is not.
    world.larder.close().await.unwrap();
    std::fs::remove_dir_all(data.path().join("disk")).unwrap();
    let again = open(Some(data.path()), &world.clock, mutation).await;
    restore(&again, archive.path(), RestoreOptions::new("more")).await.unwrap();
    let positioned = Expected { is_live: false, ..expected };
    found.extend(wrong("its disk was lost", &world, &again, &positioned).await);
    again.close().await.unwrap();

    // Elsewhere, where another epoch is in force, with the log of then.
    let elsewhere = open(Some(other.path()), &world.clock, mutation).await;
    let refused = restore(&elsewhere, archive.path(), RestoreOptions::new("more")).await.expect_err("what happened since is not known");
    assert_eq!(refused.kind(), ErrorKind::UnknownPosition, "{refused}");
    assert!(elsewhere.raw().is_empty(), "nothing was touched");
    let with_log = RestoreOptions { log_of_then: Some(data.path().into()), ..RestoreOptions::new("more") };
    restore(&elsewhere, archive.path(), with_log).await.unwrap();
    found.extend(wrong("elsewhere with the log", &world, &elsewhere, &positioned).await);
    elsewhere.close().await.unwrap();
    found.extend(without_the_log(&world, archive.path(), &more, mutation).await);
    found
}

/// Elsewhere, where nobody knows what happened after the backup: what was known then counts.
async fn without_the_log(world: &World, archive: &Path, manifest: &Manifest, mutation: Option<Mutation>) -> Vec<String> {
    let elsewhere = open(None, &world.clock, mutation).await;
    let accept = RestoreOptions { accept_unknown_invalidations: true, ..RestoreOptions::new(&manifest.name) };
    restore(&elsewhere, archive, accept.clone()).await.unwrap();
    let expected = Expected { given_by: manifest.position().number(), killed_upto: manifest.index.head, is_live: false };
    let found = wrong("elsewhere without the log", world, &elsewhere, &expected).await;
    // And what is invalidated in the epoch in force is dead there, before a restore and after.
    elsewhere.invalidate(larder::Names::new().namespace("both")).await.unwrap();
    let again = restore(&elsewhere, archive, accept).await.unwrap();
    let both = again.namespaces.get("both").copied().unwrap_or_default();
    if mutation.is_none() {
        assert_eq!(both.restored, 0, "{again:?}");
    }
    found
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

#[test]
fn nothing_is_lost_and_nothing_comes_back() {
    let seed = announced("nothing_is_lost_and_nothing_comes_back");
    for seed in seed..seed + 3 {
        let wrong = runtime().block_on(one_life(seed, None));
        assert!(wrong.is_empty(), "LARDER_SEED={seed}: {} entries are wrong, such as: {}", wrong.len(), wrong[0]);
    }
}

/// A restore that stamps anew what it restores believes everything in the archive: the check must see what comes back.
#[test]
fn a_restore_that_takes_fresh_stamps_is_caught() {
    let seed = announced("a_restore_that_takes_fresh_stamps_is_caught");
    let caught = (seed..seed + 20).find(|seed| !runtime().block_on(one_life(*seed, Some(Mutation::RestoreStampsAnew))).is_empty());
    assert!(caught.is_some(), "twenty lives, and nothing came back");
}
