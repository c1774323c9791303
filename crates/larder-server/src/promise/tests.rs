//! The readings of a made-up machine, and what follows for a real cache.

use std::fs;
use std::path::Path;

use larder::Item;

use super::*;

const MIB: u64 = 1 << 20;

fn set(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("it is made");
    fs::write(path, text).expect("it is written");
}

fn resident(root: &Path, mib: u64) {
    set(root, "proc/self/status", &format!("Name:\tlarder\nVmRSS:\t {} kB\n", mib * 1_024));
}

async fn promised(root: &Path, settings: BudgetSettings) -> (Larder, Arc<Promise>) {
    let larder = Larder::builder().memory(64 * MIB).build().await.expect("it opens");
    let promise = Promise::new(larder.clone(), Readings::below(root), settings);
    (larder, promise)
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_near_its_budget_gives_back_and_gets_it_again() {
    let root = tempfile::tempdir().expect("a folder");
    resident(root.path(), 50);
    let (larder, promise) = promised(root.path(), BudgetSettings { bytes: Some(100 * MIB), obeys_group: true }).await;
    let blobs = larder.namespace::<Vec<u8>>("blobs").expect("a namespace");
    for n in 0..3_500u64 {
        blobs.put(&n.to_string(), Item::new(vec![7; 16 << 10])).await.expect("it is put");
    }
    let used = || larder.stats().memory.bytes;
    let full = used();
    assert!(full > 50 * MIB, "{full}");
    let keeping = tokio::spawn(promise.clone().keep());
    wait_seconds(5).await;
    assert_eq!((used(), promise.standing().share), (full, 1.0));
    resident(root.path(), 99);
    wait_seconds(20).await;
    let standing = promise.standing();
    assert!(standing.share < 0.85 && used() < full - 5 * MIB, "{standing:?}, {} bytes", used());
    assert!(larder.stats().memory.capacity < 64 * MIB && larder.stats().memory.asked_bytes == 64 * MIB);
    resident(root.path(), 40);
    wait_seconds(120).await;
    assert_eq!((promise.standing().share, larder.stats().memory.capacity), (1.0, 64 * MIB));
    keeping.abort();
}

/// Lets so many seconds pass, a little at a time, so that tasks do what they do in each of them.
async fn wait_seconds(seconds: u64) {
    for _ in 0..seconds * 10 {
        tokio::time::advance(Duration::from_millis(100)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_gone_gives_all_back_and_one_that_cannot_be_read_for_a_moment_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    resident(root.path(), 95);
    set(root.path(), "proc/self/cgroup", "0::/pod\n");
    let limit = |text: &str| set(root.path(), "sys/fs/cgroup/pod/memory.max", text);
    let hundred = (100 * MIB * 10 / 9).to_string();
    limit(&hundred);
    let (larder, promise) = promised(root.path(), BudgetSettings { bytes: None, obeys_group: true }).await;
    let keeping = tokio::spawn(promise.clone().keep());
    wait_seconds(5).await;
    let share = promise.standing().share;
    assert!(share < 0.5 && larder.stats().memory.capacity < 64 * MIB, "{share}");
    limit("");
    wait_seconds(8).await;
    assert_eq!((promise.standing().share, promise.standing().budget), (share, None), "it may be there again");
    limit(&hundred);
    wait_seconds(8).await;
    assert_eq!(promise.standing().share, share);
    limit("max");
    wait_seconds(11).await;
    assert_eq!((promise.standing().share, promise.standing().why.as_str(), larder.stats().memory.capacity), (1.0, "calm", 64 * MIB));
    limit(&hundred);
    wait_seconds(2).await;
    assert!(promise.standing().share < 0.5, "the next one counts at once");
    keeping.abort();
}

#[tokio::test]
async fn the_least_of_what_was_said_and_of_the_group_is_the_budget() {
    let root = tempfile::tempdir().expect("a folder");
    let budget = async |bytes, obeys_group| promised(root.path(), BudgetSettings { bytes, obeys_group }).await.1.budget();
    assert_eq!(budget(None, true).await, None);
    set(root.path(), "proc/self/cgroup", "0::/pod\n");
    set(root.path(), "sys/fs/cgroup/pod/memory.max", &(1_000 * MIB).to_string());
    assert_eq!(budget(None, true).await, Some(900 * MIB));
    assert_eq!(budget(Some(500 * MIB), true).await, Some(500 * MIB));
    assert_eq!(budget(Some(2_000 * MIB), true).await, Some(900 * MIB));
    assert_eq!((budget(Some(2_000 * MIB), false).await, budget(None, false).await), (Some(2_000 * MIB), None));
}

#[tokio::test]
async fn what_the_process_is_made_up_of_is_told() {
    let root = tempfile::tempdir().expect("a folder");
    resident(root.path(), 40);
    let (larder, promise) = promised(root.path(), BudgetSettings { bytes: Some(100 * MIB), obeys_group: false }).await;
    larder.namespace::<u64>("n").expect("a namespace").put("k", 1).await.expect("it is put");
    let standing = promise.standing();
    assert_eq!((standing.resident, standing.budget, standing.index), (40 * MIB, Some(100 * MIB), 16 * MIB));
    assert!(standing.pools > 0);
    assert_eq!(standing.rest, 40 * MIB - standing.pools - 16 * MIB);
    assert_eq!((promise.look(), promise.standing().why.as_str()), (Some(1.0), "calm"));
    resident(root.path(), 80);
    assert!(promise.look().is_some_and(|share| share < 0.2), "of what is left to nine tenths, pools are not the only ones to take");
}
