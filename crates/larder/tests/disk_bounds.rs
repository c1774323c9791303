//! The disk tier keeps its bounds: of bytes, of the queue, of the disk's space; and gives space back.

#[path = "support/records.rs"]
mod records;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder::tier::disk::{DiskOptions, DiskTier};
use larder::tier::{Keep, Outcome, Tier, Wait};
use larder::{Clock, ErrorKind};
use records::{put, record, seq_of, store, write_durably};

/// A tier that does its upkeep only when it is told to.
fn by_hand(path: &Path) -> DiskOptions {
    let (upkeep_interval, room_wait) = (Duration::from_secs(3_600), Duration::from_secs(60));
    DiskOptions { upkeep_interval, room_wait, clock: Clock::manual(), ..DiskOptions::new(path) }
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
}

async fn fill(tier: &DiskTier, keys: std::ops::Range<u64>, len: usize) {
    for from in keys.clone().step_by(500) {
        let writes = (from..(from + 500).min(keys.end)).map(|number| put(key(number), number, len)).collect();
        assert_eq!(tier.write(writes, Wait::Accepted).await.unwrap(), Outcome::Accepted);
    }
    tier.flush().await.unwrap();
}

/// Looks at everything once.
async fn sweep_all(tier: &DiskTier, keep: Keep) -> u64 {
    let (mut from, mut removed) = (None, 0);
    loop {
        let page = tier.sweep(from, 1_000, keep.clone()).await.unwrap();
        removed += page.removed;
        from = page.next;
        if from.is_none() {
            return removed;
        }
    }
}

#[tokio::test]
async fn a_fresh_folder_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let tier = DiskTier::open(by_hand(dir.path())).unwrap();
    write_durably(&tier, vec![put("k", 1, 100)]).await;
    tier.upkeep().await.unwrap();
    let bytes = tier.stats().bytes_on_disk;
    assert!((1..1 << 20).contains(&bytes), "{bytes} bytes");
    tier.close().await.unwrap();
}

#[tokio::test]
async fn the_bound_holds_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let tier = DiskTier::open(DiskOptions { capacity_bytes: 1 << 20, ..by_hand(dir.path()) }).unwrap();
    for from in (0..5_000).step_by(500) {
        fill(&tier, from..from + 500, 1_000).await;
        let stats = tier.stats();
        assert!(stats.bytes <= 1 << 20, "{} bytes", stats.bytes);
        // What is read is kept alive.
        assert_eq!(seq_of(&tier, key(7)).await, Some(7), "after {from}");
    }
    let stats = tier.stats();
    assert_eq!(stats.entries + stats.evicted, 5_000);
    assert!(stats.bytes > (1 << 20) - 2_000, "no more is evicted than has to be: {}", stats.bytes);
    assert_eq!((seq_of(&tier, key(8)).await, seq_of(&tier, key(4_999)).await), (None, Some(4_999)));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn what_would_push_out_the_half_of_all_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tier = DiskTier::open(DiskOptions { capacity_bytes: 100_000, ..by_hand(dir.path()) }).unwrap();
    write_durably(&tier, vec![put("k", 1, 100), put("other", 1, 100)]).await;
    assert_eq!(tier.write(vec![put("k", 2, 60_000)], Wait::Durable).await.unwrap(), Outcome::Shed);
    // What it was to replace is not the latest any more.
    assert_eq!((seq_of(&tier, "k").await, seq_of(&tier, "other").await, tier.stats().shed), (None, Some(1), 1));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn expired_records_are_misses_at_once_and_gone_after_upkeep() {
    let dir = tempfile::tempdir().unwrap();
    let options = by_hand(dir.path());
    let clock = options.clock.clone();
    let tier = DiskTier::open(options).unwrap();
    let soon = clock.now_ms() + 1_000;
    let writes = (0..2_000).map(|number| store(key(number), record(number, soon + number % 2, 10))).collect();
    write_durably(&tier, writes).await;
    write_durably(&tier, vec![put("forever", 1, 10)]).await;
    // Already over when it is written.
    write_durably(&tier, vec![store("late", record(1, clock.now_ms(), 10))]).await;
    assert_eq!((seq_of(&tier, "late").await, tier.stats().entries), (None, 2_001));

    clock.advance(Duration::from_secs(1));
    assert_eq!((seq_of(&tier, key(0)).await, seq_of(&tier, key(1)).await), (None, Some(1)));
    assert_eq!(tier.get_many(vec![key(2).into(), key(3).into()]).await.unwrap()[0], None);
    assert_eq!(tier.keys(b"", None, 5_000).await.unwrap().keys.len(), 1_001);
    tier.upkeep().await.unwrap();
    assert_eq!((tier.stats().entries, tier.stats().expired), (1_001, 1_001));
    clock.advance(Duration::from_secs(1));
    tier.upkeep().await.unwrap();
    assert_eq!((tier.stats().entries, tier.stats().expired), (1, 2_001));
    assert_eq!(seq_of(&tier, "forever").await, Some(1));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn pages_of_keys_hold_each_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let tier = DiskTier::open(by_hand(dir.path())).unwrap();
    let writes = ["a:1", "a:2", "a:3", "b", "a"].iter().map(|key| put(key, 1, 1)).collect();
    write_durably(&tier, writes).await;
    let page = tier.keys(b"a:", None, 2).await.unwrap();
    assert_eq!(page.keys, [Box::from(&b"a:1"[..]), Box::from(&b"a:2"[..])]);
    let rest = tier.keys(b"a:", page.next, 2).await.unwrap();
    assert_eq!((rest.keys, rest.next), (vec![Box::from(&b"a:3"[..])], None));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn a_sweep_removes_what_it_is_told_and_not_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let tier = Arc::new(DiskTier::open(by_hand(dir.path())).unwrap());
    fill(&tier, 0..2_500, 10).await;
    let removed = sweep_all(&tier, Arc::new(|_, record| record.seq % 5 == 0)).await;
    assert_eq!((removed, tier.stats().entries), (2_000, 500));
    // A write that comes while the sweep looks at the old record wins.
    let (runtime, writer) = (tokio::runtime::Handle::current(), tier.clone());
    let keep = move |key: &[u8], _: &larder::Record| {
        runtime.block_on(write_durably(&*writer, vec![put(key, 9_999, 10)]));
        false
    };
    assert_eq!(sweep_all(&tier, Arc::new(keep)).await, 0);
    assert_eq!((seq_of(&*tier, key(5)).await, tier.stats().entries), (Some(9_999), 500));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_sheds_or_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { queue_bytes: 1, room_wait: Duration::from_millis(1), ..by_hand(dir.path()) };
    let tier = DiskTier::open(options).unwrap();
    // With a queue this short, what comes while a batch is being committed finds no room; and a batch of 4 MB takes a
    // while. Both outcomes are right at any time, so this goes on until it has seen both.
    let (mut shed, mut overloaded, mut number) = (0, 0, 0);
    while shed == 0 || overloaded == 0 {
        let many = (0..400).map(|i| put(key(number + i), 1, 10_000)).collect();
        number += 400;
        match tier.write(many, Wait::No).await.unwrap() {
            Outcome::Accepted => {}
            Outcome::Shed => shed += 400,
            Outcome::Durable => unreachable!("nobody asked for it"),
        }
        match tier.write(vec![put("k", number, 1)], Wait::Accepted).await {
            Ok(outcome) => assert_eq!((outcome, seq_of(&tier, "k").await), (Outcome::Accepted, Some(number))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Overloaded);
                assert!(error.to_string().contains("queue stayed full for 1ms"), "{error}");
                overloaded += 1;
            }
        }
    }
    assert_eq!(tier.stats().shed, shed);
    tier.close().await.unwrap();
}

#[tokio::test]
async fn deleted_space_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { memtable_bytes: 4 << 20, ..by_hand(dir.path()) };
    let tier = DiskTier::open(options).unwrap();
    const RECORDS: u64 = 100_000;
    fill(&tier, 0..RECORDS, 1_900).await;
    tier.upkeep().await.unwrap();
    let full = tier.stats().bytes_on_disk;
    assert!(full > 200_000_000, "{full}");

    sweep_all(&tier, Arc::new(|_, record| record.seq % 10 == 0)).await;
    tier.upkeep().await.unwrap();
    let stats = tier.stats();
    assert_eq!(stats.entries, RECORDS / 10);
    // A tenth is alive; beside it up to half as much again, the slack, and a journal.
    let allowed = stats.bytes + stats.bytes / 2 + (32 << 20) + (64 << 20);
    assert!(stats.bytes_on_disk < allowed, "{} of {full} bytes taken for {} alive", stats.bytes_on_disk, stats.bytes);
    assert!(seq_of(&tier, key(10)).await.is_some());
    eprintln!("deleted 90 %: {full} -> {} bytes on disk, {} alive", stats.bytes_on_disk, stats.bytes);

    tier.clear().await.unwrap();
    tier.upkeep().await.unwrap();
    let cleared = tier.stats();
    assert_eq!((cleared.entries, cleared.bytes), (0, 0));
    assert!(cleared.bytes_on_disk < 128 << 20, "{} bytes taken for nothing", cleared.bytes_on_disk);
    assert_eq!(seq_of(&tier, key(10)).await, None);
    tier.close().await.unwrap();
}

/// fjall issue 288: what is not written to for a while must not keep old journals alive.
#[tokio::test]
async fn journals_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { capacity_bytes: 8 << 20, memtable_bytes: 4 << 20, ..by_hand(dir.path()) };
    let tier = DiskTier::open(options).unwrap();
    let journals = || {
        let files = std::fs::read_dir(dir.path().join("store")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "jnl")).count()
    };
    for round in 0..8 {
        fill(&tier, round * 1_000..(round + 1) * 1_000, 60_000).await;
        if round % 2 == 1 {
            // Clearing is what used to pin them.
            tier.clear().await.unwrap();
        }
        tier.upkeep().await.unwrap();
        assert!(journals() <= 4, "{} journals after {} MB", journals(), (round + 1) * 60);
    }
    tier.close().await.unwrap();
    let tier = DiskTier::open(by_hand(dir.path())).unwrap();
    fill(&tier, 0..2_000, 60_000).await;
    tier.upkeep().await.unwrap();
    assert!(journals() <= 4, "{} journals after reopening", journals());
    tier.close().await.unwrap();
}
