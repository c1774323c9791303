//! What is given back, by part; stopping; and what fails.

use std::sync::atomic::Ordering::Relaxed;

use larder::{Item, Names};
use larder_testkit::wait;
use serde_json::json;

use super::*;
use crate::fake_tier::FakeTier;

const DAY: Duration = Duration::from_secs(86_400);

fn kept(keep: Duration, most: u64) -> LettersKept {
    LettersKept { keep, most }
}

async fn places() -> (Places, larder::Clock) {
    let clock = larder::Clock::manual();
    let larder = Larder::builder().clock(clock.clone()).sweep_every(DAY).build().await.expect("it opens");
    (Places { larder, history: None, audit: None, letters: kept(30 * DAY, 3) }, clock)
}

#[tokio::test]
async fn each_part_says_what_it_gave_back() {
    let (places, clock) = places().await;
    let larder = &places.larder;
    let bars = larder.namespace::<u64>("bars").expect("a namespace");
    for n in 0..300 {
        bars.put(&n.to_string(), Item::new(n).ttl(Duration::from_secs(1))).await.expect("it is put");
    }
    bars.put("stays", 1).await.expect("it is put");
    for n in 0..5 {
        larder.keep_dead_letter(json!({ "n": n }), "a field is missing").await;
    }
    clock.advance(Duration::from_secs(2));
    let progress = Progress::default();
    let report = run(&places, &progress).await.expect("nothing fails");
    let report: Report = serde_json::from_value(report).expect("it is one");
    assert_eq!((report.swept.expired, report.swept.invalidated, report.cancelled), (300, 0, false));
    let bars = &report.swept.namespaces[0];
    assert_eq!((bars.name.as_str(), bars.memory.expired.entries), ("bars", 300));
    assert_eq!((report.dead_letters.entries, report.history, report.audit), (2, None, None), "the two oldest of too many");
    assert!(report.dead_letters.bytes > 0);
    assert_eq!(report.total.entries, 302);
    assert_eq!(report.total.bytes, report.swept.memory_removed_bytes + report.dead_letters.bytes);
    assert_eq!(larder.dead_letters().iter().map(|letter| letter.event["n"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(3), Some(4)]);
    clock.advance(31 * DAY);
    let report = clean_up(&places, &Progress::default()).await;
    assert_eq!((report.dead_letters.entries, larder.dead_letters().len()), (3, 0), "nobody looked at them for so long");
}

#[tokio::test]
async fn work_that_was_told_to_stop_stops_at_its_next_step() {
    let (places, _) = places().await;
    let bars = places.larder.namespace::<u64>("bars").expect("a namespace");
    for n in 0..1_000 {
        bars.put(&n.to_string(), n).await.expect("it is put");
    }
    places.larder.keep_dead_letter(json!({}), "no").await;
    let progress = Progress::default();
    progress.cancel();
    let report = clean_up(&Places { letters: kept(30 * DAY, 0), ..places.clone() }, &progress).await;
    assert_eq!((report.cancelled, report.swept.examined, report.dead_letters.entries), (true, 0, 0));
    assert_eq!(places.larder.dead_letters().len(), 1);
}

#[tokio::test]
async fn what_fails_is_told_and_the_rest_has_its_turn() {
    let (places, _) = places().await;
    places.larder.keep_dead_letter(json!({}), "no").await;
    let (pruner, _) = pruner_of_nobody();
    let error = run(&Places { history: Some(pruner), letters: kept(30 * DAY, 0), ..places }, &Progress::default()).await;
    let error = error.expect_err("nobody writes the history");
    assert!(error.to_string().contains("history: "), "{error}");
    let report: Report = serde_json::from_value(error.report).expect("it is one");
    assert_eq!((report.failed[0].part.as_str(), report.dead_letters.entries), ("history", 1));
}

/// Of a writer that has ended.
fn pruner_of_nobody() -> (Pruner, crate::history::History) {
    let store = Arc::new(parking_lot::Mutex::new(crate::history::Store::in_memory().expect("it is in memory")));
    let history = crate::history::History::of(&store).expect("it is in memory");
    let writer = crate::history::Writer::start(store, history.clone(), Default::default()).expect("a thread");
    (writer.pruner(Default::default()), history)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_under_way_at_a_time_and_the_last_is_remembered() {
    let (places, _) = places().await;
    let bars = places.larder.namespace::<u64>("bars").expect("a namespace");
    for n in 0..20_000u64 {
        bars.put(&n.to_string(), Item::new(n).tag("t")).await.expect("it is put");
    }
    let cleaner = Cleaner::new(places.clone());
    assert_eq!(cleaner.standing(), cleaner::Standing::default());
    assert!(!cleaner.cancel());
    assert!(cleaner.begin());
    // It pauses after each step, and there are dozens of them.
    assert!(!cleaner.begin() && cleaner.standing().running.is_some());
    assert!(cleaner.cancel());
    let ended = || cleaner.standing().running.is_none();
    assert!(tokio::task::block_in_place(|| wait::until(Duration::from_secs(10), ended)));
    let last = cleaner.standing().last.expect("it has ended");
    assert!(last.cancelled && last.swept.examined < 20_000, "{last:?}");
    places.larder.invalidate(Names::new().key("bars:1")).await.expect("it is invalidated");
    assert!(cleaner.begin());
    cleaner.stop();
    assert!(ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_panics_is_told_of_and_the_next_can_begin() {
    let tier = Arc::new(FakeTier::default());
    tier.sweep_panics.store(true, Relaxed);
    let larder = Larder::builder().sweep_every(DAY).backing_tier(tier.clone()).build().await.expect("it opens");
    let cleaner = Cleaner::new(Places { larder, history: None, audit: None, letters: kept(DAY, 3) });
    let ended = || cleaner.standing().running.is_none() && cleaner.standing().last.is_some();
    assert!(cleaner.begin());
    assert!(tokio::task::block_in_place(|| wait::until(Duration::from_secs(10), ended)), "{:?}", cleaner.standing());
    let failed = cleaner.standing().last.expect("it has ended").failed;
    assert_eq!((failed[0].part.as_str(), failed[0].why.as_str()), ("cleanup", "it panicked, which is a fault of larder"));
    // A job's.
    let progress = Arc::new(Progress::default());
    let by_a_job = tokio::spawn({
        let (cleaner, progress) = (cleaner.clone(), progress.clone());
        async move { cleaner.run(progress).await.is_ok() }
    });
    assert!(by_a_job.await.expect_err("it panics").is_panic());
    assert!(cleaner.standing().running.is_none());
    tier.sweep_panics.store(false, Relaxed);
    cleaner.run(progress).await.expect("the next one goes well");
    assert!(cleaner.standing().last.is_some_and(|last| last.failed.is_empty()));
    assert!(cleaner.begin(), "its turn was given back");
}
