//! Calendars and clocks: days of 23 and 25 hours, time zones off the hour, minutes that come late.

use super::*;

fn berlin() -> jiff::tz::TimeZone {
    zone("Europe/Berlin").expect("the calendar knows Berlin")
}

/// An hour of 2026, in UTC.
fn at(text: &str) -> u64 {
    let moment: jiff::Timestamp = text.parse().expect("a moment");
    u64::try_from(moment.as_millisecond()).expect("it is after 1970")
}

#[test]
fn a_day_has_as_many_hours_as_its_clocks_show() {
    let days = Step::Day(berlin()).stretches(at("2026-03-28T23:00:00Z"), at("2026-03-31T22:00:00Z")).expect("a few days");
    let hours: Vec<u64> = days.iter().map(|(from, to)| (to - from) / HOUR_MS).collect();
    assert_eq!(hours, [23, 24, 24]);
    let days = Step::Day(berlin()).stretches(at("2026-10-24T22:00:00Z"), at("2026-10-26T23:00:00Z")).expect("a few days");
    let hours: Vec<u64> = days.iter().map(|(from, to)| (to - from) / HOUR_MS).collect();
    assert_eq!(hours, [25, 24]);
}

#[test]
fn the_days_on_which_clocks_are_set_have_all_that_happened() {
    for (first, hours) in [("2026-03-28T23:00:00Z", 23), ("2026-10-24T22:00:00Z", 25)] {
        let (store, history) = in_memory();
        let begin = at(first);
        // One minute in each hour, from a day before to a day after.
        for hour in 0..72 {
            store.lock().add(&minute(begin - DAY_MS + hour * HOUR_MS + 17 * MINUTE_MS, 1)).expect("it is written");
        }
        store.lock().close_due(begin + 40 * DAY_MS).expect("all is closed");
        let query = Query { step: Step::Day(berlin()), ..whole(begin, begin + hours * HOUR_MS, Detail::Counts) };
        let days = history.buckets(&query).expect("it is answered");
        assert_eq!(days.iter().map(|day| day.samples).collect::<Vec<_>>(), [hours]);
        assert_eq!(days[0].total().counts.hits_memory, hours);
    }
}

#[test]
fn weeks_begin_on_monday_and_months_and_years_with_their_first() {
    let (from, to) = (at("2026-11-26T12:00:00Z"), at("2027-01-02T12:00:00Z"));
    let begins = |step: Step| {
        let stretches = step.stretches(from, to).expect("a few");
        assert_eq!((stretches[0].0, stretches.last().expect("there are some").1), (from, to));
        stretches[1..].iter().map(|(from, _)| *from).collect::<Vec<_>>()
    };
    let weeks = ["2026-11-29T23:00:00Z", "2026-12-06T23:00:00Z", "2026-12-13T23:00:00Z", "2026-12-20T23:00:00Z", "2026-12-27T23:00:00Z"];
    assert_eq!(begins(Step::Week(berlin())), weeks.map(at));
    assert_eq!(begins(Step::Month(berlin())), [at("2026-11-30T23:00:00Z"), at("2026-12-31T23:00:00Z")]);
    assert_eq!(begins(Step::Year(berlin())), [at("2026-12-31T23:00:00Z")]);
    assert_eq!(Step::Week(berlin()).begin(from).unwrap(), at("2026-11-22T23:00:00Z"));
    assert_eq!(Step::Month(berlin()).begin(from).unwrap(), at("2026-10-31T23:00:00Z"));
}

#[test]
fn a_day_that_a_time_zone_left_out_is_no_step() {
    let apia = zone("Pacific/Apia").expect("the calendar knows Samoa");
    // From 29 December 2011 it went straight to the 31st.
    let days = Step::Day(apia).stretches(at("2011-12-29T10:00:00Z"), at("2012-01-01T10:00:00Z")).expect("a few days");
    assert!(days.iter().all(|(from, to)| to - from == DAY_MS), "{days:?}");
    assert_eq!(days.len(), 3);
}

#[test]
fn a_time_zone_off_the_hour_is_exact_as_long_as_there_are_minutes() {
    let kolkata = zone("Asia/Kolkata").expect("the calendar knows India");
    let begin = at("2026-06-01T18:30:00Z");
    let (store, history) = in_memory();
    for (at, hits) in [(begin - MINUTE_MS, 1_000), (begin, 1), (begin + 2 * HOUR_MS, 10_000)] {
        store.lock().add(&minute(at, hits)).expect("it is written");
    }
    store.lock().close_due(begin + 40 * DAY_MS).expect("all is closed");
    let query = Query { step: Step::Day(kolkata), ..whole(begin - DAY_MS, begin + DAY_MS, Detail::Counts) };
    let counted = |history: &History| -> Vec<u64> {
        history.buckets(&query).expect("it is answered").iter().map(|day| day.measures.get("appends").copied().unwrap_or(0)).collect()
    };
    assert_eq!(counted(&history), [1_000, 10_001]);
    // After that the hour counts for the day that its middle is in.
    retention::keep(&store, begin + 40 * DAY_MS, 1);
    assert_eq!(history.finest(begin).unwrap(), Span::Hour);
    assert_eq!(counted(&history), [0, 11_001]);
}

#[test]
fn a_minute_that_comes_late_is_added_wherever_its_hour_already_went() {
    let (store, history) = in_memory();
    let day = whole(JUNE, JUNE + DAY_MS, Detail::Sketches);
    store.lock().add(&minute(JUNE + 5 * MINUTE_MS, 10)).expect("it is written");
    store.lock().close_due(JUNE + 40 * DAY_MS).expect("it is closed");
    // The clock was set back: a minute that was there, and one that was not.
    for number in [5, 7] {
        store.lock().add(&minute(JUNE + number * MINUTE_MS, 100)).expect("it is written");
    }
    let open = one(&history, &day);
    assert_eq!((open.samples, open.measures["appends"]), (2, 210));
    store.lock().close_due(JUNE + 40 * DAY_MS).expect("it is closed");
    assert_eq!(one(&history, &day), open);
    // And where minutes are kept no longer, nor hours.
    for (kept_days, samples) in [(1, 3), (0, 4)] {
        retention::keep(&store, JUNE + 40 * DAY_MS, kept_days);
        store.lock().add(&minute(JUNE + (6 + samples) * MINUTE_MS, 1_000)).expect("it is written");
        store.lock().close_due(JUNE + 40 * DAY_MS).expect("it is closed");
        let found = one(&history, &day);
        assert_eq!((found.samples, found.measures["appends"]), (samples, 210 + (samples - 2) * 1_000));
        assert_eq!(found.total().entries, open.total().entries, "its sizes are of a time that is over");
    }
}

#[test]
fn no_zone_has_that_name() {
    let error = zone("Europe/Atlantis").expect_err("it sank").to_string();
    assert!(error.contains("Atlantis") && error.contains("Europe/Berlin"), "{error}");
}
