//! A process that takes, prunes and restores backups, killed at any moment: the last good backup is whole, no half one is listed, and a
//! restore that was cut short is seen by nobody until it was run again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, Place, Present, RestoreOptions, Retention, prune, verify};
use larder::{Larder, Policy};

use crate::announced;

/// Marks a child, and says where it works.
const FOLDER: &str = "LARDER_BACKUP_KILLED";
const ENTRIES: usize = 1_500;

async fn open(folder: &Path) -> Larder {
    let builder = Larder::builder().data(folder.join("data")).memory(4 << 20).index_bytes(1 << 12);
    builder.namespace("a", Policy::default()).durability(larder::Durability::Os).build().await.expect("the folder opens")
}

fn value(n: usize) -> Bytes {
    Bytes::from(format!("{n}-{}", "v".repeat(100 + n % 700)))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n@@ {line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

/// What the child does until it is killed: everything, over and over.
async fn work(folder: &Path) {
    let place = Arc::new(FolderPlace::new(folder.join("backups")));
    let larder = open(folder).await;
    say("ready");
    for round in 0.. {
        let name = format!("b{}-{round}", fastrand::u64(..));
        let manifest = larder.backup(place.clone(), &BackupOptions::new(&name), Arc::new(())).await.expect("a backup is taken");
        assert_eq!(manifest.entries, ENTRIES as u64);
        say(&format!("good {name}"));
        prune(&*place, Retention { last: 2, ..Retention::default() }, false, &()).expect("they are pruned");
        let options = RestoreOptions { present: Present::Replace, ..RestoreOptions::new(&name) };
        larder.restore(place.clone(), &options, Arc::new(())).await.expect("it is restored");
        say("restored");
    }
}

/// The child's life; nothing in a process that is no child.
#[test]
fn the_one_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(work(Path::new(&folder)));
}

/// Kills a child after so long, and returns what it said.
fn killed_after(folder: &Path, time: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("a running binary has a path"))
        .args(["killed::the_one_that_is_killed", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
    let mut said = Vec::new();
    let mut hear = |said: &mut Vec<String>| {
        let line = lines.next().and_then(Result::ok);
        let is_over = line.is_none();
        said.extend(line.and_then(|line| line.strip_prefix("@@ ").map(str::to_owned)));
        is_over
    };
    while !said.contains(&"ready".to_owned()) {
        assert!(!hear(&mut said), "the child ended before it was ready");
    }
    let killing = std::thread::spawn(move || {
        // Not a wait for anything: the moment is what is random.
        let begun = std::time::Instant::now();
        assert!(larder_testkit::wait::until(Duration::from_secs(60), || begun.elapsed() >= time), "time passes");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends")
    });
    while !hear(&mut said) {}
    killing.join().expect("it was killed");
    said
}

async fn check(folder: &Path, last_good: Option<&str>, context: &str) {
    let place = FolderPlace::new(folder.join("backups"));
    let listed = place.list().expect("it can be listed");
    for name in &listed {
        let whole = verify(&place, name, None, &()).unwrap_or_else(|error| panic!("{context}: {name} is listed and not whole: {error}"));
        assert_eq!(whole.entries, ENTRIES as u64, "{context}: {name}");
    }
    if let Some(name) = last_good {
        assert!(listed.iter().any(|listed| listed == name), "{context}: the last good one, {name}, is gone; there are {listed:?}");
    }
    // A restore that was cut short is not seen; what is seen is right.
    let larder = open(folder).await;
    let marker = folder.join("data/restoring").exists();
    let mut seen = 0;
    for n in (0..ENTRIES).step_by(7) {
        if let Some(answer) = larder.raw().peek(format!("a:{n}")).await.expect("a peek works") {
            assert_eq!(*answer.value, value(n), "{context}: a:{n}");
            seen += 1;
        }
    }
    assert!(seen == 0 || seen == ENTRIES.div_ceil(7), "{context}: half of it is seen: {seen}");
    assert_eq!(seen == 0, marker, "{context}: nothing is seen exactly while a restore is unfinished");
    if marker {
        // Another one would be refused: the file says which it was.
        let remembered = std::fs::read(folder.join("data/restoring")).expect("it is there");
        let remembered: serde_json::Value = serde_json::from_slice(&remembered).expect("it is whole");
        let name = remembered["of"]["backup"].as_str().expect("it says of which backup");
        let restored = larder.restore(Arc::new(place), &RestoreOptions::new(name), Arc::new(())).await.expect("it is run again");
        assert_eq!(restored.restored + restored.skipped_newer, ENTRIES as u64, "{context}: {restored:?}");
        assert!(larder.raw().peek("a:0").await.expect("a peek works").is_some(), "{context}: now it is seen");
    }
    larder.close().await.expect("it closes");
}

/// Kills so often, and returns how often a restore was cut short by it.
fn kill_so_often(times: usize, seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let larder = open(folder.path()).await;
        let items = (0..ENTRIES).map(|n| (format!("a:{n}"), value(n).into()));
        larder.raw().put_many(items).await.expect("puts work");
        larder.close().await.expect("it closes");
    });
    let (mut last_good, mut cut_short) = (None, 0);
    for round in 0..times {
        let said = killed_after(folder.path(), Duration::from_micros(rng.u64(..400_000)));
        last_good = said.iter().rev().find_map(|line| line.strip_prefix("good ").map(str::to_owned)).or(last_good);
        cut_short += usize::from(folder.path().join("data/restoring").exists());
        runtime.block_on(check(folder.path(), last_good.as_deref(), &format!("LARDER_SEED={seed}, kill {round}")));
    }
    println!("killed {times} times, {cut_short} of them within a restore");
    cut_short
}

#[test]
fn the_last_good_one_is_whole_whenever_the_process_is_killed() {
    kill_so_often(12, announced("the_last_good_one_is_whole_whenever_the_process_is_killed"));
}

#[test]
#[ignore = "five hundred kills take minutes"]
fn the_last_good_one_is_whole_however_often_the_process_is_killed() {
    let seed = announced("the_last_good_one_is_whole_however_often_the_process_is_killed");
    assert!(kill_so_often(500, seed) > 0, "LARDER_SEED={seed}: no restore was cut short, so nothing was tried");
}
