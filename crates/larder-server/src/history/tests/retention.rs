//! What is kept how long, and that the file gives back its room.

use super::*;

/// Keeps minutes for so many days, and hours as long; with none, days alone.
pub(super) fn keep(store: &Mutex<Store>, now_ms: u64, days: u64) {
    let day = Duration::from_millis(DAY_MS);
    let hours = if days == 0 { Duration::ZERO } else { 1_000 * day };
    let retention = Retention { minutes: day * days as u32, hours, ..Retention::default() };
    while store.lock().prune(now_ms, &retention).expect("it prunes") {}
}

#[test]
fn what_is_forgotten_by_the_minute_is_still_told_by_the_hour_and_then_by_the_day() {
    let (store, history) = in_memory();
    let mut minutes = BTreeMap::new();
    for number in 0..6 * 24 {
        let minute = minute(JUNE + number * 10 * MINUTE_MS, number + 1);
        store.lock().add(&minute).expect("it is written");
        minutes.insert(minute.start_ms, minute);
    }
    let now = JUNE + 40 * DAY_MS;
    store.lock().close_due(now).expect("it is closed");
    let day = whole(JUNE, JUNE + DAY_MS, Detail::Sketches);
    let expected = added_up(&minutes, JUNE, JUNE + DAY_MS);
    assert_eq!(one(&history, &day), expected);
    keep(&store, now, 14);
    assert_eq!(history.finest(JUNE).unwrap(), Span::Hour);
    assert_eq!(one(&history, &day), expected);
    let afternoon = whole(JUNE + 13 * HOUR_MS, JUNE + 18 * HOUR_MS, Detail::Latencies);
    assert_eq!(one(&history, &afternoon), without_sketches(added_up(&minutes, JUNE + 13 * HOUR_MS, JUNE + 18 * HOUR_MS)));
    keep(&store, now, 0);
    assert_eq!(history.finest(JUNE).unwrap(), Span::Day);
    assert_eq!(one(&history, &day), expected);
    assert_eq!(one(&history, &afternoon).total().counts.hits_memory, 0, "the middle of the day is not in it");
}

#[test]
fn nothing_is_forgotten_that_was_not_made_up_yet() {
    let (store, history) = in_memory();
    store.lock().add(&minute(JUNE, 7)).expect("it is written");
    keep(&store, JUNE + 40 * DAY_MS, 0);
    assert_eq!(history.finest(JUNE).unwrap(), Span::Minute);
    assert_eq!(one(&history, &whole(JUNE, JUNE + MINUTE_MS, Detail::Counts)).measures["appends"], 7);
}

#[test]
fn months_go_in_the_end() {
    let (store, history) = in_memory();
    store.lock().add(&minute(JUNE, 7)).expect("it is written");
    let now = JUNE + 400 * DAY_MS;
    store.lock().close_due(now).expect("it is closed");
    let year = Duration::from_millis(365 * DAY_MS);
    let retention = Retention { minutes: year, hours: year, days: year, months: year };
    assert!(!store.lock().prune(now, &retention).expect("it prunes"));
    assert_eq!((history.earliest().unwrap(), one(&history, &whole(0, u64::MAX, Detail::Sketches)).samples), (None, 0));
}

#[test]
fn the_file_stops_growing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let (store, _) = Store::open(&path).expect("it opens");
    let store = Mutex::new(store);
    let retention = Retention { minutes: Duration::from_millis(2 * DAY_MS), ..Retention::default() };
    let size = |_| std::fs::metadata(&path).expect("it is there").len();
    let day = |number: u64| {
        let minutes: Vec<Rollup> = (0..1_440)
            .step_by(6)
            .map(|minute_of| minute(JUNE + number * DAY_MS + minute_of * MINUTE_MS, number * 1_000 + minute_of))
            .collect();
        store.lock().add_all(&minutes).expect("they are written");
        let now = JUNE + (number + 1) * DAY_MS + 5 * MINUTE_MS;
        store.lock().close_due(now).expect("it is closed");
        while store.lock().prune(now, &retention).expect("it prunes") {}
        store.lock().checkpoint().expect("nobody reads");
    };
    (0..6).for_each(day);
    let settled = size(());
    (6..12).for_each(day);
    // Hours and days are still added; without pruning it would be more than twice of what it was.
    assert!(size(()) < settled + settled / 4, "{settled} bytes after 6 days, {} after 12", size(()));
}
