//! The real cache under the scrutiny of its own promises: seeded concurrent clients, everything they did and saw written
//! down, and the history checked afterwards.
//!
//! `LARDER_SEED` plays one seed, `LARDER_HISTORY_OPS` says how many operations a run has.

#[path = "history/driver.rs"]
mod driver;

use std::time::Duration;

use driver::{ORIGINS, Plan, play, seeds};
use larder::{Clock, Larder, Names, Policy};
use larder_testkit::history::{Found, History, Read, check};

/// Operations of a run: what `LARDER_HISTORY_OPS` says, or the usual.
fn operations(usual: usize) -> usize {
    std::env::var("LARDER_HISTORY_OPS").map_or(usual, |ops| ops.parse().expect("LARDER_HISTORY_OPS is a number"))
}

/// Plays the plan with each seed; a broken promise ends the test with its seed and its story.
fn keeps_its_promises(plans: u64, plan: Plan) {
    let mut all = History::default();
    for seed in seeds(plans) {
        let plan = Plan { seed, operations: operations(plan.operations), ..plan.clone() };
        let (world, history) = play(&plan);
        let violations = check(&world, &history);
        assert!(violations.is_empty(), "LARDER_SEED={seed}, {plan:?}: {} violations; {}", violations.len(), violations[0]);
        all.join(history);
    }
    let reads = |that: &dyn Fn(&Read) -> bool| all.reads.iter().filter(|read| that(read)).count();
    let origins = ORIGINS.map(|origin| reads(&|read| read.what == origin));
    let (puts, absent) = (reads(&|read| matches!(read.found, Found::Put(_))), reads(&|read| matches!(read.found, Found::Absent { .. })));
    println!("seeds {:?}, {plan:?}", seeds(plans));
    println!("  {} changes, {} reads, {} judged; no promise broken", all.changes.len(), all.reads.len(), all.judged());
    println!("  found: {puts} values of puts, {absent} absences; past their time, memory, backing tier, loader: {origins:?}");
    // A history in which hardly anything was found would prove nothing.
    assert!(all.judged() * 3 > all.reads.len() && puts > 0 && absent > 0, "too little was found to judge");
    let [past, memory, backing, loader] = origins;
    assert!(past > 0 && memory > 0 && loader > 0, "not every way of answering was taken: {origins:?}");
    assert_eq!(backing > 0, plan.disk, "{backing} answers from the backing tier");
}

const PLAN: Plan = Plan { seed: 0, clients: 8, operations: 0, workers: None, disk: false, mutation: None };

#[test]
fn memory_on_one_thread_with_seeded_interleavings() {
    keeps_its_promises(12, Plan { operations: 8_000, ..PLAN });
}

#[test]
fn memory_on_four_threads() {
    keeps_its_promises(4, Plan { operations: 20_000, workers: Some(4), clients: 12, ..PLAN });
}

#[test]
fn memory_and_disk_on_two_threads_reopened_half_way() {
    keeps_its_promises(2, Plan { operations: 6_000, workers: Some(2), disk: true, ..PLAN });
}

#[test]
fn memory_and_disk_on_one_thread_reopened_half_way() {
    keeps_its_promises(2, Plan { operations: 4_000, disk: true, ..PLAN });
}

/// Found by the runs above: a negative entry knew its key and not the tags that the policy makes of it.
#[tokio::test]
async fn a_tag_made_from_the_key_reaches_what_is_not_there() {
    let policy = Policy::default().tag("symbol:{1}").negative_ttl(Duration::from_secs(60));
    let larder = Larder::builder().namespace("listings", policy).build().await.unwrap();
    let listings = larder.namespace::<u32>("listings").unwrap();
    assert!(listings.get_or_find("AAPL", || async { Ok::<_, std::io::Error>(None::<u32>) }).await.unwrap().is_none());
    let _receipt = larder.invalidate(Names::new().tag("symbol:AAPL")).await.unwrap();
    let found = listings.get_or_find("AAPL", || async { Ok::<_, std::io::Error>(Some(7u32)) }).await.unwrap();
    assert_eq!(found.as_deref(), Some(&7));
}

/// Found on the way: a touch gave a new life to what was past its time and only served until it is loaded again.
#[tokio::test]
async fn a_touch_does_not_revive_what_is_past_its_time() {
    let (clock, minute) = (Clock::manual(), Duration::from_secs(60));
    let policy = Policy::default().ttl(minute).stale_while_revalidate(minute);
    let larder = Larder::builder().clock(clock.clone()).namespace("quotes", policy).build().await.unwrap();
    let quotes = larder.namespace::<u32>("quotes").unwrap();
    let _receipt = quotes.put("AAPL", 7).await.unwrap();
    clock.advance(minute / 2);
    assert!(quotes.touch("AAPL", None).await.unwrap(), "a fresh one lives anew");
    clock.advance(minute + minute / 2);
    assert!(!quotes.touch("AAPL", None).await.unwrap());
    assert!(quotes.get("AAPL").await.unwrap().is_none());
}
