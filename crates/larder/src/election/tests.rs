//! A duty in one process: what is claimed, taken over, finished, passed and paused.

use super::*;
use crate::clock::Clock;

const LEASE: Duration = Duration::from_secs(30);

async fn duty() -> (Larder, Duty, Clock) {
    let clock = Clock::manual();
    let larder = Larder::builder().clock(clock.clone()).build().await.unwrap();
    let duty = larder.duty("nightly").unwrap();
    duty.enrol("0 2 * * *", after(100), 500).await.unwrap();
    (larder, duty, clock)
}

async fn won(duty: &Duty, due_ms: u64, scheduled: bool) -> Claim {
    match duty.claim(due_ms, scheduled, "a", LEASE).await.unwrap() {
        Claimed::Won(claim) => claim,
        other => panic!("{other:?}"),
    }
}

fn after(done_ms: u64) -> Remembered {
    Remembered { done_ms, ..Remembered::default() }
}

fn record(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn what_is_due_is_done_once() {
    let (larder, duty, _) = duty().await;
    assert_eq!(duty.claim(100, true, "a", LEASE).await.unwrap(), Claimed::Over, "it was known to be over");
    let claim = won(&duty, 200, true).await;
    assert_eq!(duty.claim(200, true, "b", LEASE).await.unwrap(), Claimed::Held);
    assert_eq!(duty.claim(300, true, "b", LEASE).await.unwrap(), Claimed::Held, "one instant at a time");
    assert!(duty.finish(&claim, record("1")).await.unwrap());
    assert!(duty.finish(&claim, record("1")).await.unwrap(), "it may be asked again");
    assert_eq!(duty.records().await.unwrap(), [(claim.token, record("1"))]);
    assert_eq!(duty.claim(200, true, "b", LEASE).await.unwrap(), Claimed::Over);
    assert_eq!(duty.standing().await.unwrap(), Standing { enrolled: true, done_ms: 200, paused: false, newest: claim.token, held: None });
    larder.close().await.unwrap();
}

#[tokio::test]
async fn who_lost_the_lease_finishes_nothing() {
    let (larder, duty, clock) = duty().await;
    let first = won(&duty, 200, true).await;
    clock.advance(LEASE);
    assert_eq!(duty.renew(&first, LEASE).await.unwrap(), Renewed::Kept, "nobody took it over");
    clock.advance(LEASE);
    let second = won(&duty, 200, true).await;
    assert!(second.token > first.token);
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_eq!(duty.renew(&first, LEASE).await.unwrap(), Renewed::Lost);
    assert!(!duty.finish(&first, record("late")).await.unwrap());
    assert!(duty.finish(&second, record("in time")).await.unwrap());
    assert!(!duty.finish(&first, record("late")).await.unwrap());
    assert_eq!(duty.records().await.unwrap(), [(second.token, record("in time"))]);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn what_nobody_did_is_passed_over_once_and_not_from_under_somebody() {
    let (larder, duty, clock) = duty().await;
    let claim = won(&duty, 200, true).await;
    assert_eq!(duty.pass(200, record("missed")).await.unwrap(), None, "somebody is at it");
    clock.advance(LEASE);
    assert!(duty.pass(200, record("missed")).await.unwrap().is_some());
    assert_eq!(duty.pass(200, record("missed")).await.unwrap(), None);
    assert!(!duty.finish(&claim, record("late")).await.unwrap());
    assert_eq!(duty.records().await.unwrap().len(), 1);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_pause_holds_back_the_schedule_and_nobody_who_asks() {
    let (larder, duty, _) = duty().await;
    duty.pause(true, 150).await.unwrap();
    assert_eq!(duty.claim(200, true, "a", LEASE).await.unwrap(), Claimed::Paused);
    let asked = won(&duty, 210, false).await;
    assert!(duty.cancel(asked.token).await.unwrap() && !duty.cancel(asked.token + 1).await.unwrap());
    assert_eq!(duty.renew(&asked, LEASE).await.unwrap(), Renewed::Cancel);
    assert!(duty.finish(&asked, record("stopped")).await.unwrap());
    assert!(!duty.cancel(asked.token).await.unwrap());
    assert_eq!(duty.standing().await.unwrap().done_ms, 100, "it puts nothing behind that is by schedule");
    duty.pause(false, 250).await.unwrap();
    assert_eq!(duty.claim(200, true, "a", LEASE).await.unwrap(), Claimed::Over, "what was due meanwhile was not to be done");
    won(&duty, 300, true).await;
    let lost = larder.duty("lost").unwrap();
    lost.enrol("0 2 * * *", Remembered { paused: true, ..after(100) }, 500).await.unwrap();
    assert_eq!(lost.claim(200, true, "a", LEASE).await.unwrap(), Claimed::Paused, "who takes part says so at once");
    lost.enrol("0 2 * * *", after(100), 500).await.unwrap();
    assert!(lost.standing().await.unwrap().paused, "who does not know changes nothing");
    larder.close().await.unwrap();
}

#[tokio::test]
async fn new_terms_begin_where_they_come_into_force() {
    let (larder, duty, _) = duty().await;
    duty.enrol("0 2 * * *", after(50), 600).await.unwrap();
    assert_eq!(duty.standing().await.unwrap().done_ms, 100, "the same terms, and nothing new is known");
    duty.enrol("0 3 * * *", after(50), 600).await.unwrap();
    assert_eq!(duty.standing().await.unwrap().done_ms, 600);
    let other = larder.duty("weekly").unwrap();
    assert_eq!(other.claim(700, true, "a", LEASE).await.unwrap(), Claimed::Over, "nobody has said what is over");
    other.enrol("0 3 * * 0", after(0), 700).await.unwrap();
    assert_eq!(other.standing().await.unwrap().done_ms, 700, "nobody knows anything of it");
    other.enrol("0 3 * * 0", after(0), 800).await.unwrap();
    assert_eq!(other.standing().await.unwrap().done_ms, 700, "who knows nothing takes nothing away from who was there before");
    larder.close().await.unwrap();
}

#[tokio::test]
async fn all_of_it_is_bounded() {
    let (larder, duty, _) = duty().await;
    for name in [String::new(), "x".repeat(257)] {
        assert_eq!(larder.duty(&name).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    let claim = won(&duty, 200, true).await;
    let large = Bytes::from(vec![0; RECORD_BYTES_MAX + 1]);
    assert_eq!(duty.finish(&claim, large).await.unwrap_err().kind(), ErrorKind::ValueTooLarge);
    for due_ms in 0..RECORDS_MAX as u64 + 5 {
        assert!(duty.pass(1_000 + due_ms, record("missed")).await.unwrap().is_none(), "somebody is at it");
    }
    assert!(duty.finish(&claim, record("done")).await.unwrap());
    for due_ms in 0..RECORDS_MAX as u64 + 5 {
        assert!(duty.pass(1_000 + due_ms, record("missed")).await.unwrap().is_some());
    }
    assert_eq!(duty.records().await.unwrap().len(), RECORDS_MAX);
    let mut refused = None;
    for number in 0..=DUTIES_MAX {
        refused = larder.duty(&format!("duty-{number}")).unwrap().standing().await.err().or(refused);
    }
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Overloaded));
    larder.close().await.unwrap();
}
