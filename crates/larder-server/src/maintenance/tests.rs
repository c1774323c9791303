//! Beginning, ending, the deadline, a restart, events, and what is asked for wrongly.

use larder::{ErrorKind, Item};
use serde_json::json;

use super::*;
use crate::fake_tier::FakeTier;

async fn larder() -> Larder {
    Larder::builder().build().await.expect("it opens")
}

async fn put(larder: &Larder) -> Option<ErrorKind> {
    larder.raw().put("n:k", Item::new(bytes::Bytes::from_static(b"1"))).await.err().map(|error| error.kind())
}

fn asked(seconds: u64) -> Asked {
    Asked { length: Duration::from_secs(seconds), ..Asked::default() }
}

#[tokio::test(start_paused = true)]
async fn it_begins_refuses_and_comes_back_by_itself() {
    let larder = larder().await;
    let maintenance = Maintenance::open(&larder, None);
    assert_eq!((maintenance.standing(), put(&larder).await), (Standing::default(), None));
    let standing = maintenance.begin(Asked { reason: "a new disk".into(), ..asked(60) }, "ada").await.expect("it begins");
    assert_eq!((standing.on, standing.by.as_deref(), standing.reason.as_deref()), (true, Some("ada"), Some("a new disk")));
    assert_eq!((standing.left_ms, standing.cleared, standing.writes_under_way), (Some(60_000), false, 0));
    assert_eq!(put(&larder).await, Some(ErrorKind::Maintenance));
    assert!(larder.raw().peek("n:k").await.expect("it is read").is_some(), "it is not cleared unless asked");
    // Put off: the first deadline does not end it.
    maintenance.begin(asked(120), "ada").await.expect("it goes on");
    tokio::time::advance(Duration::from_secs(61)).await;
    settle().await;
    assert_eq!(put(&larder).await, Some(ErrorKind::Maintenance));
    tokio::time::advance(Duration::from_secs(60)).await;
    settle().await;
    assert_eq!((maintenance.standing().on, put(&larder).await), (false, None));
}

/// Lets tasks whose time has come run.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_clears_if_asked_and_ends_when_told() {
    let larder = larder().await;
    let maintenance = Maintenance::open(&larder, None);
    assert_eq!(put(&larder).await, None);
    let standing = maintenance.begin(Asked { clear: true, ..asked(60) }, "").await.expect("it begins");
    assert!(standing.cleared && larder.raw().peek("n:k").await.expect("it is read").is_none());
    assert!(!maintenance.end().await.expect("it ends").on);
    assert!(!maintenance.end().await.expect("there is nothing to end").on);
    assert_eq!(put(&larder).await, None);
}

#[tokio::test]
async fn a_restart_does_not_end_it_and_a_clock_that_was_set_does_not_make_it_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("maintenance.json");
    let first = larder().await;
    Maintenance::open(&first, Some(file.clone())).begin(asked(3_600), "ada").await.expect("it begins");
    let second = larder().await;
    let maintenance = Maintenance::open(&second, Some(file.clone()));
    let standing = maintenance.standing();
    assert!(standing.on && standing.left_ms.is_some_and(|left| (3_500_000..=3_600_000).contains(&left)), "{standing:?}");
    assert_eq!(put(&second).await, Some(ErrorKind::Maintenance));
    maintenance.end().await.expect("it ends");
    assert!(!file.exists());
    let third = larder().await;
    assert!(!Maintenance::open(&third, Some(file.clone())).standing().on);
    std::fs::write(&file, "{").expect("it is written");
    assert!(!Maintenance::open(&third, Some(file)).standing().on, "what is not understood keeps nobody from writing");
    let written =
        Written { version: 1, since_ms: 0, until_ms: 10_000, length_ms: 4_000, by: String::new(), reason: String::new(), event: None };
    let left = |now_ms| written.left(now_ms).as_millis();
    assert_eq!((left(7_000), left(10_001), left(0)), (3_000, 0, 4_000));
}

#[tokio::test]
async fn what_cannot_be_written_down_does_not_begin() {
    let larder = larder().await;
    let folder = tempfile::tempdir().expect("a folder");
    let maintenance = Maintenance::open(&larder, Some(folder.path().join("missing/maintenance.json")));
    let error = maintenance.begin(asked(60), "").await.expect_err("there is no such folder");
    assert!(matches!(error, MaintenanceError::File(..)), "{error}");
    assert_eq!(put(&larder).await, None);
}

#[tokio::test]
async fn an_event_with_a_mode_begins_and_ends_it() {
    let larder = larder().await;
    let maintenance = Maintenance::open(&larder, None);
    let tell = |data: Json| larder.emit(Event::new(EVENT, data));
    assert_eq!(put(&larder).await, None);
    let emitted = tell(json!({ "mode": "on", "for": "10m", "reason": "an upgrade" })).await.expect("it is carried out");
    assert_eq!((emitted.handled, emitted.names.len()), (1, 0), "and clears nothing");
    assert!(maintenance.standing().on && larder.raw().peek("n:k").await.expect("it is read").is_some());
    tell(json!({ "mode": "off" })).await.expect("it is carried out");
    assert!(!maintenance.standing().on);
    assert_eq!(tell(json!({})).await.expect("it is carried out").names.len(), 1, "without a mode it clears, and no more");
    assert!(!maintenance.standing().on && larder.raw().peek("n:k").await.expect("it is read").is_none());
}

#[test]
fn what_is_asked_for_wrongly_is_told() {
    assert_eq!(Told::of(&json!({ "scope": "features" })).expect("it is none of this"), Told::Nothing);
    let clear = |data| matches!(Told::of(&data), Ok(Told::On(Asked { clear: true, .. })));
    assert!(clear(json!({ "mode": "on", "clear": true })) && !clear(json!({ "mode": "on", "clear": true, "scope": "features" })));
    for bad in [
        json!({ "mode": "maybe" }),
        json!({ "mode": 1 }),
        json!({ "mode": "on", "for": "soon" }),
        json!({ "mode": "on", "for": "8d" }),
        json!({ "mode": "on", "for": "0s" }),
        json!({ "mode": "on", "clear": "yes" }),
        json!({ "mode": "on", "reason": "x".repeat(1_025) }),
        json!({ "mode": "on", "reason": "\u{1b}[31m" }),
    ] {
        assert!(Told::of(&bad).is_err(), "{bad}");
    }
}

async fn over_a_disk_that_hangs() -> (Larder, Arc<Maintenance>, Arc<FakeTier>) {
    let tier = Arc::new(FakeTier::default());
    let larder = Larder::builder().backing_tier(tier.clone()).build().await.expect("it opens");
    let maintenance = Maintenance::open(&larder, None);
    (larder, maintenance, tier)
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nobody_from_looking_ending_and_beginning_anew() {
    let (larder, maintenance, _) = over_a_disk_that_hangs().await;
    let begin = || {
        let (own, asked) = (maintenance.clone(), Asked { clear: true, ..asked(600) });
        tokio::spawn(async move { own.begin(asked, "ada").await })
    };
    let first = begin();
    settle().await;
    assert!(!first.is_finished() && maintenance.standing().on && put(&larder).await == Some(ErrorKind::Maintenance));
    // Time stands still unless nothing else can go on.
    let before = Instant::now();
    assert!(!maintenance.end().await.expect("it ends").on);
    let second = begin();
    settle().await;
    assert!(maintenance.standing().on);
    maintenance.end().await.expect("it ends");
    assert_eq!((put(&larder).await, before.elapsed()), (None, Duration::ZERO));
    for begun in [first, second] {
        let error = begun.await.expect("no panic").expect_err("the disk hangs");
        assert!(matches!(error, MaintenanceError::Late(_)) && error.to_string().contains("longer than 30s"), "{error}");
    }
    assert_eq!(before.elapsed(), CACHE_MAX);
    assert!(larder.raw().peek("n:k").await.expect("it is read").is_some(), "what it was for had ended: nothing is cleared any more");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_delivered_again_begins_and_ends_nothing_and_goes_on_where_it_was_late() {
    let (larder, maintenance, tier) = over_a_disk_that_hangs().await;
    let event = |id: &str, data: &Json| Event::new(EVENT, data.clone()).with_id(id);
    let (on, off) = (json!({ "mode": "on", "for": "10m", "clear": true }), json!({ "mode": "off" }));
    assert_eq!(put(&larder).await, None);
    // As the library tells its handler: once more after each failure, where a dead letter is replayed, and after a restart.
    let weak = Arc::downgrade(&maintenance);
    let obeys = async |event: Event| obey(&weak, &event).await.is_ok();
    assert!(obeys(event("1", &on)).await, "that the disk hangs must not hold up the events behind it");
    let standing = || Standing { left_ms: None, ..maintenance.standing() };
    let (since, at) = (standing(), larder.position());
    assert!(since.on && since.cleared);
    assert!(obeys(event("1", &on)).await);
    assert_eq!((standing(), larder.position()), (since, at), "it is not begun again, and nothing invalidated twice");
    assert!(obeys(event("2", &off)).await && !maintenance.standing().on);
    assert!(obeys(event("1", &on)).await && !maintenance.standing().on, "it was ended since");
    tier.flushes.add_permits(9);
    assert!(obeys(event("3", &on)).await && maintenance.standing().on);
    assert!(obeys(event("2", &off)).await && maintenance.standing().on, "it was begun since");
    for n in 4..4 + 2 * EVENTS_MAX {
        assert!(obeys(event(&n.to_string(), &off)).await);
    }
    assert_eq!(maintenance.events.lock().len(), EVENTS_MAX);
}

#[tokio::test]
async fn what_a_restart_may_have_kept_from_being_cleared_is_cleared_when_the_event_comes_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("maintenance.json");
    let on = Event::new(EVENT, json!({ "mode": "on", "for": "10m", "clear": true })).with_id("1");
    let first = larder().await;
    let before = Maintenance::open(&first, Some(file.clone()));
    first.emit(on.clone()).await.expect("it is carried out");
    // Put off by somebody, who is no event.
    before.begin(asked(900), "ada").await.expect("it goes on");
    let second = larder().await;
    assert_eq!(put(&second).await, None);
    let after = Maintenance::open(&second, Some(file));
    let until = after.standing().until_ms;
    second.emit(on.clone()).await.expect("it is carried out");
    assert!(second.raw().peek("n:k").await.expect("it is read").is_none() && after.standing().cleared);
    let at = second.position();
    let weak = Arc::downgrade(&after);
    obey(&weak, &on).await.expect("there is nothing left to do");
    assert_eq!((second.position(), after.standing().until_ms), (at, until));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_while_it_is_put_off_does_not_keep_it_from_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    let larder = larder().await;
    let maintenance = Maintenance::open(&larder, Some(folder.path().join("maintenance.json")));
    maintenance.begin(asked(600), "").await.expect("it begins");
    // Who opens a pipe to write waits for somebody who reads.
    let pipe = folder.path().join("maintenance.new");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("it is there").success());
    let (putting_off, ending) = (maintenance.clone(), maintenance.clone());
    let put_off = tokio::spawn(async move { putting_off.begin(asked(1_200), "").await });
    let holds_the_turn = || maintenance.turn.try_lock().is_err();
    tokio::task::block_in_place(|| assert!(larder_testkit::wait::until(Duration::from_secs(10), holds_the_turn)));
    let end = tokio::spawn(async move { ending.end().await });
    let is_open = || !maintenance.standing().on;
    tokio::task::block_in_place(|| assert!(larder_testkit::wait::until(Duration::from_secs(10), is_open)));
    assert_eq!(put(&larder).await, None, "writes are taken though the disk hangs");
    assert!(!end.is_finished() && !put_off.is_finished());
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = std::fs::File::open(&pipe).expect("it opens");
        std::fs::remove_file(&pipe).expect("it is removed");
        std::io::copy(&mut reader, &mut std::io::sink()).expect("it is read")
    });
    let error = put_off.await.expect("no panic").expect_err("it was ended, and a pipe cannot be brought to a disk");
    assert!(matches!(error, MaintenanceError::File(..) | MaintenanceError::Ended), "{error}");
    assert!(!end.await.expect("no panic").expect("it is removed").on);
    assert!(reading.await.expect("no panic") > 0);
    assert!(!folder.path().join("maintenance.json").exists() && put(&larder).await.is_none());
}

#[tokio::test]
async fn what_is_over_is_removed_and_a_restart_knows_the_event_that_began_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("maintenance.json");
    let first = larder().await;
    let maintenance = Maintenance::open(&first, Some(file.clone()));
    let on = Event::new(EVENT, json!({ "mode": "on", "for": "10m" })).with_id("1");
    first.emit(on.clone()).await.expect("it is carried out");
    let since = maintenance.standing().since_ms;
    let second = larder().await;
    let maintenance = Maintenance::open(&second, Some(file.clone()));
    let until = maintenance.standing().until_ms;
    second.emit(on).await.expect("it is carried out");
    assert_eq!((maintenance.standing().since_ms, maintenance.standing().until_ms), (since, until));
    let text = std::fs::read_to_string(&file).expect("it is there");
    let mut over: Json = serde_json::from_str(&text).expect("it is JSON");
    over["until_ms"] = 1.into();
    std::fs::write(&file, over.to_string()).expect("it is written");
    assert!(!Maintenance::open(&larder().await, Some(file.clone())).standing().on && !file.exists());
    // The same where its time comes while the server is there.
    let third = larder().await;
    let maintenance = Maintenance::open(&third, Some(file.clone()));
    maintenance.begin(asked(1), "").await.expect("it begins");
    assert!(file.exists());
    let is_over = || !maintenance.standing().on && !file.exists();
    larder_testkit::wait::pass(Duration::from_secs(1)).await;
    while !is_over() {
        tokio::task::yield_now().await;
    }
    assert_eq!(put(&third).await, None);
}
