//! `kill -9` over the whole cache: a child works and says what was acknowledged, is killed at any moment, and the next
//! child must find exactly what an exact model says.
//!
//! Parent and child make the same seeded operations, so the parent knows what was under way when the child died. Of that
//! one operation either outcome is right; of everything acknowledged before only one is: under `Fsync` a put that was
//! acknowledged and not invalidated since is there, and what was invalidated is never back.
//!
//! `LARDER_SEED` plays another seed.

#[path = "kill/child.rs"]
mod child;
#[path = "kill/model.rs"]
mod model;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use fastrand::Rng;
use larder::Durability;
use model::{Model, Operation};

/// What a child said before it ended.
#[derive(Debug, Default)]
struct Said {
    /// What it found when it had opened the folder: each key's value.
    found: Vec<Option<u64>>,
    /// How many operations were acknowledged.
    acknowledged: u64,
}

/// A folder that child after child works in.
struct Rounds<'a> {
    data: &'a Path,
    seed: u64,
    durability: Durability,
    model: Model,
    round: u64,
    /// Rounds in which the child had not read everything when it died.
    killed_early: u64,
}

impl<'a> Rounds<'a> {
    fn new(data: &'a Path, durability: Durability) -> Self {
        let seed = std::env::var("LARDER_SEED").map_or(1, |seed| seed.parse().expect("LARDER_SEED is a number"));
        Rounds { data, seed, durability, model: Model::new(durability == Durability::Fsync), round: 0, killed_early: 0 }
    }

    /// One child, killed at some moment. Returns what the model has to say against what it found; nothing if it had no time
    /// to find everything.
    fn play(&mut self) -> Option<Vec<String>> {
        self.round += 1;
        let mut rng = Rng::with_seed(self.seed ^ self.round << 32);
        // One in eight dies while it opens the folder or reads; the others when they have done some work.
        let (patience, spins) = if rng.u32(0..8) == 0 { (None, rng.u32(0..2_000_000)) } else { (Some(rng.u64(0..40)), rng.u32(0..20_000)) };
        let said = self.live_until_killed(patience, spins);
        if said.found.len() < model::KEYS {
            assert!(patience.is_none(), "LARDER_SEED={}, round {}: the child ended by itself", self.seed, self.round);
            self.killed_early += 1;
            return None;
        }
        let faults = self.model.compare(&said.found);
        let mut operations = Operation::sequence(self.seed, self.round);
        for _ in 0..said.acknowledged {
            self.model.acknowledged(&operations.next().expect("a sequence has no end"));
        }
        self.model.under_way(&operations.next().expect("a sequence has no end"));
        Some(faults)
    }

    /// Kills the child when it has acknowledged `patience` operations, or has begun to open the folder, and a little later
    /// than that.
    fn live_until_killed(&self, patience: Option<u64>, spins: u32) -> Said {
        let mut child = Command::new(std::env::current_exe().expect("this test is a program"))
            .args(["--exact", "a_child", "--nocapture", "--test-threads=1"])
            .envs(child::environment(self.data, self.seed, self.round, self.durability))
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can run itself");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let mut said = Said::default();
        let mut alive = true;
        // Everything in the pipe counts, also what is read after the kill: it was acknowledged before.
        for line in lines.by_ref() {
            let line = line.expect("a child writes text");
            if let Some(value) = line.strip_prefix(child::FOUND) {
                said.found.push(value.parse().ok());
            } else if line == child::ACKNOWLEDGED {
                said.acknowledged += 1;
            }
            let far_enough = match patience {
                Some(patience) => said.found.len() == model::KEYS && said.acknowledged >= patience,
                None => line == child::OPENING,
            };
            if alive && far_enough {
                (0..spins).for_each(|_| std::hint::spin_loop());
                child.kill().expect("a running child can be killed");
                alive = false;
            }
        }
        child.wait().expect("a child that was started can be waited for");
        said
    }

    fn play_all(&mut self, rounds: u64) {
        for _ in 0..rounds {
            let faults = self.play().unwrap_or_default();
            assert!(faults.is_empty(), "LARDER_SEED={}, round {}: {faults:?}", self.seed, self.round);
        }
        println!("seed {}: {rounds} rounds under {:?} ({} died early); {}", self.seed, self.durability, self.killed_early, self.model);
    }

    /// The same, and enough of it to be worth something.
    fn play_many(&mut self, rounds: u64) {
        self.play_all(rounds);
        assert!(self.model.kept() > rounds && self.model.gone() > rounds, "too little was there to lose, or to come back");
    }

    /// Plays until a child has found everything.
    fn faults(&mut self) -> Vec<String> {
        std::iter::repeat_with(|| self.play()).flatten().next().expect("it goes on for ever")
    }
}

/// Not a test of its own: what the rounds start.
#[test]
fn a_child() {
    child::live();
}

#[test]
fn nothing_acknowledged_under_fsync_is_lost_and_nothing_invalidated_comes_back() {
    let folder = tempfile::tempdir().expect("a test may make a folder");
    Rounds::new(folder.path(), Durability::Fsync).play_many(200);
}

#[test]
fn nothing_invalidated_comes_back_where_nothing_waits_for_the_disk() {
    let folder = tempfile::tempdir().expect("a test may make a folder");
    Rounds::new(folder.path(), Durability::Os).play_many(60);
}

#[test]
fn without_its_log_the_cache_is_cold_and_serves_nothing_wrong() {
    let folder = tempfile::tempdir().expect("a test may make a folder");
    let mut rounds = Rounds::new(folder.path(), Durability::Fsync);
    for _ in 0..5 {
        rounds.play_all(3);
        fs::remove_dir_all(folder.path().join("log")).expect("the log is a folder");
        rounds.model.forget_everything();
    }
    rounds.play_all(1);
}

/// The canary: from here on the folder lies, and the comparison must say so.
#[test]
fn an_older_copy_of_the_whole_folder_is_noticed() {
    let (folder, older) = (tempfile::tempdir().expect("a test may make a folder"), tempfile::tempdir().expect("and another"));
    let mut rounds = Rounds::new(folder.path(), Durability::Fsync);
    rounds.play_all(4);
    copy(folder.path(), older.path());
    rounds.play_all(6);
    restore(older.path(), folder.path(), &["log", "disk"]);
    let faults = rounds.faults();
    assert!(faults.iter().any(|fault| fault.contains("is back")), "invalidations were forgotten, and nobody noticed: {faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("is lost")), "puts were lost, and nobody noticed: {faults:?}");
}

/// The same old records beside the log as it is: what was invalidated since stays away.
#[test]
fn an_older_copy_of_the_entries_brings_nothing_back() {
    let (folder, older) = (tempfile::tempdir().expect("a test may make a folder"), tempfile::tempdir().expect("and another"));
    let mut rounds = Rounds::new(folder.path(), Durability::Fsync);
    rounds.play_all(4);
    copy(folder.path(), older.path());
    rounds.play_all(6);
    restore(older.path(), folder.path(), &["disk"]);
    let faults = rounds.faults();
    assert!(!faults.iter().any(|fault| fault.contains("is back")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("is lost")), "the copy was not older, so this shows nothing");
}

fn restore(from: &Path, to: &Path, parts: &[&str]) {
    for part in parts {
        fs::remove_dir_all(to.join(part)).expect("there is one to replace");
        copy(&from.join(part), &to.join(part));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a test may make a folder");
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let entry = entry.expect("and read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type is known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}
