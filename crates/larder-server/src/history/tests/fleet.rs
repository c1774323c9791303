//! Several instances: merged they tell what one tells that saw everything, however parcels come.

use larder::Parcel;

use super::*;

/// Everything that an instance has not told yet, told to another: some of it twice, as after a loss of the answer.
fn tell(from: &Mutex<Store>, to: &Mutex<Store>, now_ms: u64, number: &mut u64, twice: bool) {
    let identity = from.lock().identity().expect("it has one");
    loop {
        let untold = from.lock().untold(now_ms, 16).expect("it is packed");
        if untold.is_empty() {
            return;
        }
        let (told, parcels): (Vec<_>, Vec<Parcel>) = untold.into_iter().unzip();
        for _ in 0..=usize::from(twice) {
            let numbered: Vec<(u64, Parcel)> = parcels.iter().map(|parcel| (next(number), parcel.clone())).collect();
            to.lock().take(&identity, &numbered).expect("it is taken");
            assert_eq!(to.lock().taken(&identity).expect("it is written down"), *number);
        }
        from.lock().told(&told).expect("it is written down");
    }
}

fn next(number: &mut u64) -> u64 {
    *number += 1;
    *number
}

proptest! {
    // Each case writes some hundred transactions.
    #![proptest_config(ProptestConfig { cases: 8, ..crate::demo::properties() })]

    #[test]
    fn three_instances_tell_what_one_tells_that_saw_everything(
        written in prop::collection::btree_map(0u64..2 * 1_440, (1u64..500, 1u64..500, 0u64..500), 1..25),
        tellings in prop::collection::vec((0usize..25, 0usize..3, any::<bool>()), 0..6),
        asked in prop::collection::vec((0u64..2 * 1_440, 1u64..2 * 1_440), 3),
    ) {
        let (one_for_all, expected) = in_memory();
        let (stores, histories): (Vec<_>, Vec<_>) = (0..3).map(|_| in_memory()).unzip();
        stores.iter().for_each(|store| store.lock().ships());
        let now_ms = JUNE + 2 * DAY_MS + HOUR_MS;
        let (mut number, asking) = (0, 2);
        for (at, (minute_number, (a, b, c))) in written.iter().enumerate() {
            let start_ms = JUNE + minute_number * MINUTE_MS;
            let mut all = Rollup::default();
            for (store, hits) in stores.iter().zip([*a, *b, *c]) {
                // One that has nothing to do is there all the same.
                let idle = Rollup { start_ms, end_ms: start_ms + MINUTE_MS, samples: 1, ..Rollup::default() };
                let minute = if hits == 0 { idle } else { minute(start_ms, hits) };
                store.lock().add(&minute).expect("it is written");
                all.beside(&minute);
            }
            one_for_all.lock().add(&all).expect("it is written");
            for (_, from, twice) in tellings.iter().filter(|(when, ..)| *when == at) {
                if *from != asking {
                    tell(&stores[*from], &stores[asking], now_ms, &mut number, *twice);
                }
            }
        }
        (0..asking).for_each(|from| tell(&stores[from], &stores[asking], now_ms, &mut number, false));
        for _ in 0..2 {
            for (from, length) in &asked {
                let query = whole(JUNE + from * MINUTE_MS, JUNE + (from + length) * MINUTE_MS, Detail::Latencies);
                prop_assert_eq!(one(&histories[asking], &query), one(&expected, &query));
                let query = whole(JUNE + from / 60 * HOUR_MS, JUNE + (from / 60 + 7) * HOUR_MS, Detail::Sketches);
                prop_assert_eq!(one(&histories[asking], &query), one(&expected, &query));
            }
            // And once more when it is made up into hours and days.
            stores[asking].lock().close_due(now_ms + 40 * DAY_MS).expect("it is closed");
            one_for_all.lock().close_due(now_ms + 40 * DAY_MS).expect("it is closed");
        }
    }
}

#[test]
fn a_minute_that_changes_after_it_was_told_is_told_again() {
    let ((here, _), (there, history)) = (in_memory(), in_memory());
    here.lock().ships();
    let mut number = 0;
    for hits in [5, 7] {
        here.lock().add(&minute(JUNE, hits)).expect("it is written");
        // Between packing and noting that it was told, it changes once more.
        let untold = here.lock().untold(JUNE + HOUR_MS, 16).expect("it is packed");
        here.lock().add(&minute(JUNE, 100)).expect("it is written");
        let (told, _): (Vec<_>, Vec<Parcel>) = untold.into_iter().unzip();
        here.lock().told(&told).expect("it is written down");
        tell(&here, &there, JUNE + 2 * HOUR_MS, &mut number, false);
    }
    let found = one(&history, &whole(JUNE, JUNE + HOUR_MS, Detail::Sketches));
    assert_eq!((found.samples, found.measures["appends"]), (1, 5 + 100 + 7 + 100));
}

#[test]
fn who_has_gone_holds_nothing_and_who_is_late_does() {
    let ((a, _), (b, history)) = (in_memory(), in_memory());
    a.lock().ships();
    let mut number = 0;
    a.lock().add(&minute(JUNE, 3)).expect("it is written");
    tell(&a, &b, JUNE + HOUR_MS, &mut number, false);
    let held = |history: &History| one(history, &whole(JUNE, JUNE + HOUR_MS, Detail::Counts)).namespaces["bars"].entries;
    b.lock().add(&minute(JUNE + 2 * MINUTE_MS, 4)).expect("it is written");
    assert_eq!(held(&history), 3 + 4, "its last minute may still be on its way");
    b.lock().add(&minute(JUNE + 9 * MINUTE_MS, 4)).expect("it is written");
    assert_eq!(held(&history), 4);
}

#[test]
fn instances_of_one_name_are_told_apart() {
    let ((a, _), (b, history)) = (in_memory(), in_memory());
    for store in [&a, &b] {
        store.lock().set_name("cache").expect("it is written");
        store.lock().add(&minute(JUNE, 3)).expect("it is written");
    }
    let identity = a.lock().identity().unwrap();
    let name = a.lock().name_parcel().unwrap();
    b.lock().take(&identity, &[(1, name)]).expect("it is taken");
    let names = history.instances().expect("it is answered");
    assert!(names[0] != names[1] && names.iter().all(|name| name.starts_with("cache (")), "{names:?}");
    let query = Query { instances: vec![names[0].clone()], ..whole(JUNE, JUNE + HOUR_MS, Detail::Counts) };
    assert_eq!(one(&history, &query).samples, 1);
}

#[test]
fn nobody_takes_its_own_parcels_and_what_is_no_history_changes_nothing() {
    let (store, history) = in_memory();
    store.lock().ships();
    store.lock().add(&minute(JUNE, 3)).expect("it is written");
    let identity = store.lock().identity().unwrap();
    let mine: Vec<(u64, Parcel)> = store.lock().untold(JUNE + HOUR_MS, 16).unwrap().into_iter().map(|(_, parcel)| (1, parcel)).collect();
    store.lock().take(&identity, &mine).expect("it is passed over");
    let junk = Parcel { name: format!("minute-{JUNE}"), bytes: vec![1, 2, 3].into() };
    store.lock().take("somebody", &[(9, junk)]).expect("it is passed over");
    assert_eq!(store.lock().taken("somebody").unwrap(), 9);
    let found = one(&history, &whole(JUNE, JUNE + HOUR_MS, Detail::Counts));
    assert_eq!((found.samples, found.measures["appends"]), (1, 3));
}

#[test]
fn names_that_are_made_up_do_not_fill_the_file() {
    let ((a, _), (b, history)) = (in_memory(), in_memory());
    a.lock().ships();
    let mut flood = minute(JUNE, 3);
    (0..3_000).for_each(|name| drop(flood.namespaces.insert(format!("n{name}"), window(1, 1))));
    a.lock().add(&flood).expect("it is written");
    let identity = a.lock().identity().unwrap();
    let parcels: Vec<Parcel> = a.lock().untold(JUNE + HOUR_MS, 16).unwrap().into_iter().map(|(_, parcel)| parcel).collect();
    let mut other = minute(JUNE + MINUTE_MS, 3);
    (0..3_000).for_each(|name| drop(other.namespaces.insert(format!("m{name}"), window(1, 1))));
    a.lock().add(&other).expect("it is written");
    let more: Vec<Parcel> = a.lock().untold(JUNE + HOUR_MS, 16).unwrap().into_iter().map(|(_, parcel)| parcel).collect();
    for (parcel, number) in parcels.into_iter().chain(more).zip(1..) {
        b.lock().take(&identity, &[(number, parcel)]).expect("it is taken, or passed over");
    }
    let names = history.namespaces().expect("it is answered").len();
    assert!((3_000..=4_096).contains(&names), "{names}");
}
