//! A disk tier on a full disk says so, keeps what it has accepted, and works again by itself once there is room.
//!
//! Needs to be root to mount a small file system; says so and passes where that is not permitted.

#[path = "support/records.rs"]
mod records;
#[path = "support/tmpfs.rs"]
mod tmpfs;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use larder::tier::disk::{DiskOptions, DiskTier};
use larder::tier::{Outcome, Tier, TierState, Wait};
use larder::{ErrorKind, Larder, Part};
use records::{put, seq_of, write_durably};
use tmpfs::Tmpfs;

/// Far more than any of these states takes to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(path: &Path) -> DiskOptions {
    DiskOptions { memtable_bytes: 1 << 20, upkeep_interval: Duration::from_millis(50), ..DiskOptions::new(path.join("tier")) }
}

fn is_degraded(state: &TierState) -> bool {
    matches!(state, TierState::Degraded(_))
}

async fn until(tier: &DiskTier, wanted: impl FnMut(&TierState) -> bool) -> TierState {
    let mut states = tier.watch_state();
    let state = tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await.expect("the state comes in time");
    state.expect("the tier lives").clone()
}

/// Writes until the tier takes no more; returns the last number accepted.
async fn write_until_degraded(tier: &DiskTier, from: u64) -> u64 {
    write_until_refused(tier, from).await.0
}

/// The same, and whether the last write was accepted all the same: not if the tier had been degraded before it came.
async fn write_until_refused(tier: &DiskTier, from: u64) -> (u64, bool) {
    for number in from.. {
        let writes = (0..16).map(|i| put(format!("fill:{number}:{i}"), number, 4_000)).collect();
        match tier.write(writes, Wait::Durable).await {
            Ok(Outcome::Durable) => {}
            Ok(_) => return (number, false),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Tier, "{error}");
                assert!(error.to_string().contains("what was accepted waits for it to recover: the disk is full"), "{error}");
                return (number, true);
            }
        }
    }
    unreachable!("a disk is finite");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_degrades_the_tier_and_room_heals_it() {
    let Some(disk) = Tmpfs::mount(96 << 20) else { return };
    let tier = DiskTier::open(options(disk.path())).unwrap();
    write_durably(&tier, (0..1_000).map(|number| put(format!("before:{number}"), number, 1_000)).collect()).await;

    for round in 1..=3u64 {
        let ballast = disk.fill();
        let last = write_until_degraded(&tier, round * 1_000_000).await;
        let TierState::Degraded(reason) = until(&tier, is_degraded).await else { panic!("not degraded") };
        assert!(reason.starts_with("the disk is full: ") && reason.contains(disk.path().to_str().unwrap()), "{reason}");

        // Writes are shed at once, and what was accepted is still seen.
        let shed = tier.stats().shed;
        assert_eq!(tier.write(vec![put("shed", 1, 10)], Wait::Accepted).await.unwrap(), Outcome::Shed);
        assert_eq!(tier.write(vec![put("shed", 1, 10)], Wait::Durable).await.unwrap(), Outcome::Shed);
        assert_eq!(tier.write(vec![put("shed", 1, 10)], Wait::No).await.unwrap(), Outcome::Shed);
        assert_eq!(tier.stats().shed, shed + 3);
        assert!(tier.flush().await.unwrap_err().to_string().contains("the disk is full"));
        let waiting = tier.stats().queued;
        assert!(waiting > 0);
        assert_eq!(seq_of(&tier, format!("fill:{last}:0")).await, Some(last));

        drop(ballast);
        assert_eq!(until(&tier, |state| *state == TierState::Healthy).await, TierState::Healthy);
        // What waited was stored, and nothing is lost to those who read now.
        tier.flush().await.unwrap();
        assert_eq!(tier.stats().queued, 0);
        assert_eq!(seq_of(&tier, format!("fill:{last}:15")).await, Some(last));
        write_durably(&tier, vec![put("after", round, 10)]).await;
    }
    let errors = tier.stats().errors;
    assert!(errors >= 3, "{errors} errors counted");
    tier.close().await.unwrap();

    let tier = DiskTier::open(options(disk.path())).unwrap();
    assert_eq!(seq_of(&tier, "after").await, Some(3));
    assert_eq!(tier.state(), TierState::Healthy);
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_on_a_full_disk_is_kept() {
    let Some(disk) = Tmpfs::mount(96 << 20) else { return };
    let tier = DiskTier::open(options(disk.path())).unwrap();
    write_durably(&tier, vec![put("k", 1, 1_000)]).await;
    let ballast = disk.fill();
    write_until_degraded(&tier, 0).await;
    until(&tier, is_degraded).await;
    assert!(tier.clear().await.unwrap_err().to_string().contains("the disk is full"));
    assert_eq!((seq_of(&tier, "k").await, seq_of(&tier, "fill:0:0").await), (None, None));
    assert_eq!(tier.keys(b"", None, 10).await.unwrap().keys.len(), 0);
    drop(ballast);
    until(&tier, |state| *state == TierState::Healthy).await;
    tier.flush().await.unwrap();
    assert_eq!((seq_of(&tier, "k").await, tier.stats().entries), (None, 0));
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_on_a_full_disk_tells_what_is_lost() {
    let Some(disk) = Tmpfs::mount(96 << 20) else { return };
    let tier = DiskTier::open(options(disk.path())).unwrap();
    write_durably(&tier, vec![put("k", 1, 1_000)]).await;
    let ballast = disk.fill();
    write_until_degraded(&tier, 0).await;
    until(&tier, is_degraded).await;
    let waiting = tier.stats().queued;
    let error = tier.close().await.unwrap_err();
    assert!(error.to_string().contains(&format!("closed with {waiting} accepted writes not stored: the disk is full")), "{error}");
    assert_eq!(tier.stats().shed, waiting);
    assert_eq!(tier.get(b"k").await.unwrap_err().kind(), ErrorKind::Closed);
    drop(ballast);
    let tier = DiskTier::open(options(disk.path())).unwrap();
    assert_eq!(seq_of(&tier, "k").await, Some(1));
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_smaller_than_the_capacity_is_lived_with() {
    let Some(disk) = Tmpfs::mount(256 << 20) else { return };
    let hasty = DiskOptions { memtable_bytes: 4 << 20, discard_after: Duration::from_secs(1), ..options(disk.path()) };
    let tier = DiskTier::open(hasty).unwrap();
    // Twice what the disk holds.
    for number in 0..512u64 {
        let writes = (0..100).map(|i| put(format!("k:{number}:{i}"), number, 10_000)).collect();
        // Whether it is stored, evicted or shed on the way is not the point; that it goes on is.
        match tier.write(writes, Wait::Accepted).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}"),
        }
    }
    until(&tier, |state| *state == TierState::Healthy).await;
    write_durably(&tier, vec![put("last", 1, 1_000)]).await;
    tier.upkeep().await.unwrap();
    let stats = tier.stats();
    assert!(stats.evicted > 0 && stats.bytes < 200 << 20, "{stats:?}");
    assert_eq!(seq_of(&tier, "last").await, Some(1));
    eprintln!("512 MB through a disk of 256 MB: {stats:?}");
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_fills_its_disk_for_good_starts_anew() {
    // Smaller than one journal, so that nothing the tier deletes can make room.
    let Some(disk) = Tmpfs::mount(24 << 20) else { return };
    let tier = DiskTier::open(DiskOptions { discard_after: Duration::ZERO, ..options(disk.path()) }).unwrap();
    // Opening anew may free a little, so it can take more than one time until there is nothing else left to do.
    let (mut last, mut kept) = (0, false);
    for _ in 0..50 {
        let accepted;
        (last, accepted) = write_until_refused(&tier, last + 1).await;
        until(&tier, |state| *state == TierState::Healthy).await;
        // A tier that starts anew once more in between has stored what was accepted last by then, and lets that go, too.
        if accepted && tier.stats().entries < 100 && seq_of(&tier, format!("fill:{last}:3")).await == Some(last) {
            kept = true;
            break;
        }
    }
    // What was accepted last is there; what was stored before had to go, and is counted.
    let stats = tier.stats();
    assert!(kept && stats.evicted >= 1_000 && stats.entries < 100, "{stats:?}");
    write_durably(&tier, vec![put("after", 1, 10)]).await;
    tier.close().await.unwrap();
}

/// What is wrong with the backing tier, going by the last probe.
fn probed(larder: &Larder) -> Option<String> {
    let last = larder.probes().into_iter().find(|probed| probed.part == Part::Backing)?.last?;
    last.trouble.as_ref().map(|trouble| trouble.what.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_find_the_full_disk_and_the_room() {
    let Some(disk) = Tmpfs::mount(96 << 20) else { return };
    let larder = Larder::builder().data(disk.path()).probe_every(Duration::from_millis(100)).build().await.unwrap();
    let ballast = disk.fill();
    let filling = async {
        for number in 0u64.. {
            // Whether it is taken does not matter here.
            drop(larder.raw().put(format!("fill:{number}"), Bytes::from(vec![7; 100_000])).await);
            if let Some(what) = probed(&larder) {
                return what;
            }
        }
        unreachable!("a disk is finite")
    };
    let what = tokio::time::timeout(PATIENCE, filling).await.expect("it is found");
    assert!(what.contains("the disk is full") || what.contains("takes no writes") || what.contains("cannot be written"), "{what}");
    drop(ballast);
    let well = async {
        while probed(&larder).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, well).await.expect("it goes away by itself");
    larder.close().await.unwrap();
}
