//! A disk tier whose process is killed at any moment keeps everything that was durable, and never shows anything older.

#[path = "support/child.rs"]
mod child;
#[path = "support/records.rs"]
mod records;
#[path = "support/seed.rs"]
mod seed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use child::Child;
use larder::tier::disk::{DiskOptions, DiskTier};
use larder::tier::{Outcome, Tier, Wait};
use records::{put, remove, seq_of};

const KEYS: u64 = 48;

/// What happened to the keys, as the child reported it.
#[derive(Debug, Default)]
struct History {
    /// What each key showed when the child began.
    before: BTreeMap<u64, Option<u64>>,
    /// Every change in order: (key, what it shows then).
    changes: Vec<(u64, Option<u64>)>,
    /// How many of the changes were acknowledged as durable.
    durable: usize,
}

impl History {
    /// Takes in a line of the child: `w KEY SEQ`, `r KEY`, `c` (clear), or `d` (all before is durable).
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let mut next = || words.next().and_then(|word| word.parse().ok());
        match &line[..1] {
            "w" => {
                let _letter = next();
                let (key, seq) = (next().expect("a key"), next().expect("a number"));
                self.changes.push((key, Some(seq)));
            }
            "r" => {
                let _letter = next();
                self.changes.push((next().expect("a key"), None));
            }
            "c" => self.changes.extend((0..KEYS).map(|key| (key, None))),
            "d" => self.durable = self.changes.len(),
            _ => panic!("the child said {line:?}"),
        }
    }

    /// What a key may show: its state at the last durable moment, or any later one.
    fn allowed(&self, key: u64) -> Vec<Option<u64>> {
        let at = |changes: &[(u64, Option<u64>)]| changes.iter().rev().find(|change| change.0 == key).map(|change| change.1);
        let durable = at(&self.changes[..self.durable]).unwrap_or_else(|| self.before.get(&key).copied().flatten());
        let later = self.changes[self.durable..].iter().filter(|change| change.0 == key).map(|change| change.1);
        std::iter::once(durable).chain(later).collect()
    }

    /// The keys that show what they may not.
    fn violations(&self, shown: &BTreeMap<u64, Option<u64>>) -> Vec<String> {
        let wrong = |(key, seq): (&u64, &Option<u64>)| {
            let allowed = self.allowed(*key);
            (!allowed.contains(seq)).then(|| format!("key {key} shows {seq:?}, not one of {allowed:?}"))
        };
        shown.iter().filter_map(wrong).collect()
    }
}

fn options(path: &Path) -> DiskOptions {
    DiskOptions { memtable_bytes: 64 << 10, room_wait: Duration::from_secs(60), ..DiskOptions::new(path) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Changes keys at random until it is killed. Says what it is going to do before, and that it is durable after.
async fn change_until_killed(path: &Path, seed: u64, mut seq: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let tier = DiskTier::open(options(path)).expect("the tier opens");
    loop {
        let mut writes = Vec::new();
        for _ in 0..random.usize(1..6) {
            let key = random.u64(0..KEYS);
            // Of one batch the last write to a key counts; the parent reads it so, too.
            if random.u8(..) < 40 {
                child::say(&format!("r {key}"));
                writes.push(remove(key.to_be_bytes()));
            } else {
                seq += 1;
                child::say(&format!("w {key} {seq}"));
                writes.push(put(key.to_be_bytes(), seq, random.usize(0..4_000)));
            }
        }
        match random.u8(..) {
            0..100 => {
                assert_eq!(tier.write(writes, Wait::Durable).await.expect("a write"), Outcome::Durable);
                child::say("d");
            }
            100..240 => {
                assert_eq!(tier.write(writes, Wait::Accepted).await.expect("a write"), Outcome::Accepted);
            }
            240..254 => {
                tier.write(writes, Wait::No).await.expect("a write");
                tier.flush().await.expect("a flush");
                child::say("d");
            }
            _ => {
                tier.write(writes, Wait::Accepted).await.expect("a write");
                child::say("c");
                tier.clear().await.expect("a clear");
                child::say("d");
            }
        }
    }
}

/// What every key shows, and whether the counters agree with it.
async fn look(path: &Path) -> BTreeMap<u64, Option<u64>> {
    let tier = DiskTier::open(options(path)).expect("the tier opens after a kill");
    let mut shown = BTreeMap::new();
    let mut bytes = 0;
    for key in 0..KEYS {
        let record = tier.get(&key.to_be_bytes()).await.expect("a read");
        bytes += record.as_ref().map_or(0, |record| 8 + record.encoded_len() as u64);
        shown.insert(key, record.map(|record| record.seq));
    }
    let stats = tier.stats();
    assert_eq!((stats.entries, stats.bytes), (shown.values().flatten().count() as u64, bytes), "the counters drifted");
    assert_eq!((stats.unreadable, stats.errors), (0, 0));
    tier.close().await.expect("the tier closes");
    shown
}

fn rounds(test: &str, rounds: u64) {
    if let Some(role) = child::role() {
        let (path, numbers) = role.split_once('|').expect("a role");
        let (seed, seq) = numbers.split_once('|').expect("two numbers");
        runtime().block_on(change_until_killed(Path::new(path), seed.parse().expect("a seed"), seq.parse().expect("a number")));
        return;
    }
    let mut random = fastrand::Rng::with_seed(seed::announced(test));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut history = History::default();
    let mut durable_in_all = 0;
    for round in 0..rounds {
        // Numbers grow from round to round, so that a record of an earlier round is never taken for a new one.
        let role = format!("{}|{}|{}", dir.path().display(), random.u64(..), round * 1_000_000);
        let mut child = Child::start(test, &role);
        for _ in 0..random.usize(1..80) {
            history.hear(&child.hear().expect("the child goes on until it is killed"));
        }
        child.kill().iter().for_each(|line| history.hear(line));
        durable_in_all += history.durable;
        let shown = runtime().block_on(look(dir.path()));
        let violations = history.violations(&shown);
        assert!(violations.is_empty(), "round {round}: {violations:#?}");
        history = History { before: shown, ..History::default() };
    }
    assert!(durable_in_all > rounds as usize * 10, "only {durable_in_all} changes were durable: the test tests little");
}

// Chains of fifty rounds each, because they mostly wait for the disk and can do so side by side.

#[test]
fn a_killed_tier_keeps_what_was_durable_1() {
    rounds("a_killed_tier_keeps_what_was_durable_1", 50);
}

#[test]
fn a_killed_tier_keeps_what_was_durable_2() {
    rounds("a_killed_tier_keeps_what_was_durable_2", 50);
}

#[test]
fn a_killed_tier_keeps_what_was_durable_3() {
    rounds("a_killed_tier_keeps_what_was_durable_3", 50);
}

#[test]
fn a_killed_tier_keeps_what_was_durable_4() {
    rounds("a_killed_tier_keeps_what_was_durable_4", 50);
}

/// Writes as fast as it can, so that memtables, flushes and journals are all under way when it is killed.
async fn flood_until_killed(path: &Path) {
    let tier = DiskTier::open(DiskOptions { memtable_bytes: 1 << 20, ..options(path) }).expect("the tier opens");
    for seq in 0u64.. {
        // Scattered keys, so that every table overlaps every other.
        let writes = (0..8).map(|i| put((seq * 8 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), 1, 10_000)).collect();
        assert_eq!(tier.write(writes, Wait::Accepted).await.expect("room in time"), Outcome::Accepted);
        if seq % 16 == 15 {
            tier.flush().await.expect("a flush");
            child::say("flushed");
        }
    }
}

/// fjall issue 257: killed while it wrote, a database sometimes stood still soon after it was opened again.
#[test]
fn a_tier_killed_in_a_flood_takes_writes_again() {
    if let Some(path) = child::role() {
        return runtime().block_on(flood_until_killed(Path::new(&path)));
    }
    let mut random = fastrand::Rng::with_seed(seed::announced("a_tier_killed_in_a_flood_takes_writes_again"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    for _ in 0..2 {
        let path = dir.path().to_str().expect("a plain path");
        let mut child = Child::start("a_tier_killed_in_a_flood_takes_writes_again", path);
        for _ in 0..random.usize(50..90) {
            child.hear().expect("the child goes on until it is killed");
        }
        child.kill();
        runtime().block_on(async {
            let tier = DiskTier::open(options(dir.path())).expect("the tier opens after a kill");
            // Far more than four memtables.
            for seq in 0..12u64 {
                let writes = (0..100).map(|i| put((seq * 100 + i).to_be_bytes(), seq, 10_000)).collect();
                records::write_durably(&tier, writes).await;
            }
            assert_eq!(seq_of(&tier, 1_199u64.to_be_bytes()).await, Some(11));
            assert_eq!(tier.stats().errors, 0);
            tier.close().await.expect("the tier closes");
        });
    }
}

#[test]
fn the_checker_can_fail() {
    let mut history = History { before: BTreeMap::from([(1, Some(1)), (2, Some(1))]), ..History::default() };
    ["w 1 2", "w 1 3", "d", "w 1 4", "r 2"].iter().for_each(|line| history.hear(line));
    let shows = |one, two| history.violations(&BTreeMap::from([(1, one), (2, two)])).len();
    assert_eq!((shows(Some(3), Some(1)), shows(Some(4), None)), (0, 0));
    assert_eq!(shows(None, Some(1)), 1, "a durable write was lost");
    assert_eq!(shows(Some(2), Some(1)), 1, "an older record came back");
    assert_eq!(shows(Some(3), Some(7)), 1, "a record from nowhere");
    history.hear("d");
    assert_eq!(history.violations(&BTreeMap::from([(2, Some(1))])).len(), 1, "a durable removal was undone");
}
