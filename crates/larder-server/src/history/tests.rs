//! The store and its answers beside a plain list of minutes that are added up, with a clock that is driven by hand.

use std::collections::BTreeMap;

use larder::Latencies;
use larder::analytics::{Ranked, Ranking, Window};
use proptest::prelude::*;

use super::span::{DAY_MS, HOUR_MS, MINUTE_MS};
use super::*;

mod clock;
mod files;
mod fleet;
mod retention;

/// Monday, 1 June 2026, in UTC.
pub(super) const JUNE: u64 = 1_780_272_000_000;

/// What happens in a namespace in a minute, in numbers that are told apart.
pub(super) fn window(hits: u64, entries: u64) -> Window {
    let mut window = Window::default();
    assert!(window.counts.set("hits_memory", hits) && window.counts.set("misses_absent", 1));
    (window.entries, window.bytes, window.entries_sum, window.bytes_sum) = (entries, entries * 100, entries, entries * 100);
    // Its sum, then as many as there are hits in the bucket after so many.
    window.miss = Latencies::from_bytes(&[100, 20 + (hits % 7) as u8, 1 + (hits % 50) as u8]).expect("these are latencies");
    window.sketches.keys.insert(format!("k:{}", hits % 13).as_bytes());
    window.sketches.hot_reads = Ranking::new([Ranked { key: format!("k:{}", hits % 3).into_bytes().into(), amount: hits }]);
    window.sketches.age_evicted = window.miss.clone();
    window
}

/// A minute of a cache with one namespace or two.
pub(super) fn minute(start_ms: u64, hits: u64) -> Rollup {
    let mut rollup = Rollup { start_ms, end_ms: start_ms + MINUTE_MS, samples: 1, ..Rollup::default() };
    rollup.namespaces.insert("bars".into(), window(hits, hits % 11));
    if hits.is_multiple_of(3) {
        rollup.namespaces.insert("features".into(), window(hits + 1, 5));
    }
    rollup.measures.insert("appends".into(), hits);
    rollup
}

pub(super) fn whole(from_ms: u64, to_ms: u64, detail: Detail) -> Query {
    Query { from_ms, to_ms, step: Step::Whole, namespaces: Vec::new(), instances: Vec::new(), detail }
}

pub(super) fn in_memory() -> (Arc<Mutex<Store>>, History) {
    let store = Arc::new(Mutex::new(Store::in_memory().expect("there is memory")));
    let history = History::of(&store).expect("it was just opened");
    (store, history)
}

pub(super) fn one(history: &History, query: &Query) -> Rollup {
    let buckets = history.buckets(query).expect("it is answered");
    assert_eq!(buckets.len(), 1);
    buckets.into_iter().next().expect("there is one")
}

/// What one who adds up minutes comes to.
pub(super) fn added_up(minutes: &BTreeMap<u64, Rollup>, from_ms: u64, to_ms: u64) -> Rollup {
    let mut sum = Rollup::default();
    minutes.range(from_ms..to_ms).for_each(|(_, minute)| sum.then(minute));
    (sum.start_ms, sum.end_ms) = (from_ms, to_ms);
    sum
}

fn without_sketches(mut rollup: Rollup) -> Rollup {
    rollup.namespaces.values_mut().for_each(|window| window.sketches = Default::default());
    rollup
}

proptest! {
    // Each case writes up to sixty transactions and reads four times.
    #![proptest_config(ProptestConfig { cases: 24, ..crate::demo::properties() })]

    /// Whatever minutes there are, and however much of it was made up into hours, days and months by then.
    #[test]
    fn every_stretch_is_the_sum_of_its_minutes(
        written in prop::collection::vec((0u64..70 * 1_440, 1u64..10_000), 1..60),
        closed in prop::collection::vec(0u64..71 * 1_440, 0..4),
        asked in prop::collection::vec((0u64..71 * 1_440, 1u64..50 * 1_440), 4),
    ) {
        let (store, history) = in_memory();
        let mut minutes = BTreeMap::new();
        let mut closings = closed.iter();
        for (at, (number, hits)) in written.iter().enumerate() {
            let start_ms = JUNE + number * MINUTE_MS;
            let minute = minute(start_ms, *hits);
            store.lock().add(&minute).expect("it is written");
            // One that comes twice is added to, and is one sample with the sizes of the later.
            let known: &mut Rollup = minutes.entry(start_ms).or_default();
            known.then(&minute);
            known.samples = 1;
            known.namespaces.values_mut().for_each(|window| (window.entries_sum, window.bytes_sum) = (window.entries, window.bytes));
            if at % 13 == 12 && let Some(now) = closings.next() {
                store.lock().close_due(JUNE + now * MINUTE_MS).expect("they are closed");
            }
        }
        for (from, length) in asked {
            let (from_ms, to_ms) = (JUNE + from * MINUTE_MS, JUNE + (from + length) * MINUTE_MS);
            let found = one(&history, &whole(from_ms, to_ms, Detail::Latencies));
            prop_assert_eq!(&found, &without_sketches(added_up(&minutes, from_ms, to_ms)));
            // Sketches are those of whole hours.
            let (from_ms, to_ms) = (Span::Hour.floor(from_ms), Span::Hour.floor(to_ms));
            if from_ms < to_ms {
                prop_assert_eq!(&one(&history, &whole(from_ms, to_ms, Detail::Sketches)), &added_up(&minutes, from_ms, to_ms));
            }
        }
    }
}

#[test]
fn every_step_has_a_rollup_and_those_without_anything_have_no_samples() {
    let (store, history) = in_memory();
    for number in [0, 1, 61, 200] {
        store.lock().add(&minute(JUNE + number * MINUTE_MS, number + 1)).expect("it is written");
    }
    let query = Query { step: Step::Hour, ..whole(JUNE - HOUR_MS, JUNE + 4 * HOUR_MS, Detail::Latencies) };
    let hours = history.buckets(&query).expect("it is answered");
    let told: Vec<(u64, u64)> = hours.iter().map(|hour| (hour.samples, hour.total().counts.hits_memory)).collect();
    assert_eq!(told, [(0, 0), (2, 3), (1, 62), (0, 0), (1, 201 + 202)]);
    assert!(hours.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms));
    assert_eq!((history.earliest().unwrap(), history.latest().unwrap()), (Some(JUNE), Some(JUNE + 201 * MINUTE_MS)));
    let covered: Vec<(u64, u64)> = history.coverage(0, u64::MAX).unwrap().iter().map(|one| (one.from_ms, one.to_ms)).collect();
    let stretch = |from, to| (JUNE + from * MINUTE_MS, JUNE + to * MINUTE_MS);
    assert_eq!(covered, [stretch(0, 2), stretch(61, 62), stretch(200, 201)]);
    assert_eq!(history.namespaces().unwrap(), ["bars", "features"]);
}

#[test]
fn one_namespace_can_be_asked_for() {
    let (store, history) = in_memory();
    store.lock().add(&minute(JUNE, 3)).expect("it is written");
    let mut query = whole(JUNE, JUNE + HOUR_MS, Detail::Sketches);
    query.namespaces = vec!["features".into()];
    let found = one(&history, &query);
    assert_eq!(found.namespaces.keys().collect::<Vec<_>>(), ["features"]);
    assert_eq!(found.total().counts.hits_memory, 4);
    query.namespaces = vec!["nobody".into()];
    assert!(one(&history, &query).namespaces.is_empty());
    (query.namespaces, query.instances) = (Vec::new(), vec!["nobody".into()]);
    assert_eq!(one(&history, &query).samples, 0);
}

#[test]
fn what_is_no_longer_held_is_no_longer_told() {
    let (store, history) = in_memory();
    store.lock().add(&minute(JUNE, 10)).expect("it is written");
    let idle = Rollup { start_ms: JUNE + MINUTE_MS, end_ms: JUNE + 2 * MINUTE_MS, samples: 1, ..Rollup::default() };
    store.lock().add(&idle).expect("it is written");
    let query = whole(JUNE, JUNE + HOUR_MS, Detail::Counts);
    let open = one(&history, &query);
    assert_eq!((open.samples, open.total().entries, open.total().entries_sum), (2, 0, 10));
    store.lock().close_due(JUNE + DAY_MS).expect("it is closed");
    assert_eq!(one(&history, &query), open, "and the same once the hour is closed");
}

#[test]
fn an_answer_is_bounded() {
    let (_, history) = in_memory();
    let query = Query { step: Step::Minute, ..whole(0, u64::MAX, Detail::Counts) };
    assert!(matches!(history.buckets(&query), Err(HistoryError::TooMany { most: BUCKETS_MAX })));
    assert_eq!(one(&history, &whole(0, u64::MAX, Detail::Sketches)).samples, 0);
}
