//! A year of minutes of a busy cache of five namespaces: how much room it takes, how long a minute takes to be written, and how long a
//! month to be told. `cargo bench -p larder-server --bench history -- 30` writes thirty days instead.

use std::time::{Duration, Instant};

use larder::Latencies;
use larder::analytics::{Cardinality, Ranked, Ranking, Rollup, Window};
use larder_server::history::{Detail, History, Query, Retention, Step, Store, zone};
use larder_server::report::{self, Asked, Format};

const YEAR: u64 = 1_735_689_600_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;

/// Minutes written one by one, as a server does; the others a day at a time.
const MEASURED: u64 = 60;

/// Latencies that spread over thirty buckets.
fn latencies(rng: &mut fastrand::Rng, from: u8) -> Latencies {
    let mut bytes = vec![0xff, 0xff, 0x3f, 60 + from];
    for _ in 0..30 {
        bytes.extend([rng.u8(1..100), 0]);
    }
    bytes.truncate(bytes.len() - 1);
    Latencies::from_bytes(&bytes).expect("these are latencies")
}

fn ranking(rng: &mut fastrand::Rng) -> Ranking {
    let keys = (0..64).map(|_| rng.u32(..2_000)).collect::<std::collections::BTreeSet<_>>();
    let ranked =
        keys.into_iter().map(|key| Ranked { key: format!("features:SYM{key}:5m").into_bytes().into(), amount: rng.u64(1..1_000_000) });
    Ranking::new(ranked)
}

fn window(rng: &mut fastrand::Rng) -> Window {
    let mut window = Window::default();
    for name in ["hits_memory", "hits_backing", "misses_absent", "misses_expired", "misses_invalidated", "puts", "loads_ok", "loads_joined"]
    {
        assert!(window.counts.set(name, rng.u64(..200_000)));
    }
    for name in ["evicted", "expired", "invalidated", "replaced", "loads_error"] {
        assert!(window.counts.set(name, rng.u64(..100)));
    }
    (window.entries, window.bytes) = (rng.u64(..100_000), rng.u64(..1 << 30));
    (window.entries_sum, window.bytes_sum) = (window.entries, window.bytes);
    (window.hit_memory, window.hit_backing) = (latencies(rng, 0), latencies(rng, 20));
    (window.miss, window.load) = (latencies(rng, 30), latencies(rng, 30));
    let sketches = &mut window.sketches;
    sketches.keys = Cardinality::default();
    (0..2_000).for_each(|_| sketches.keys.insert(&rng.u32(..50_000).to_le_bytes()));
    (sketches.hot_reads, sketches.hot_bytes, sketches.hot_cost, sketches.largest) =
        (ranking(rng), ranking(rng), ranking(rng), ranking(rng));
    (sketches.age_expired, sketches.age_evicted, sketches.reuse_bytes) = (latencies(rng, 50), latencies(rng, 50), latencies(rng, 40));
    sketches.age_unread = latencies(rng, 50);
    window
}

/// Readings of each question, of which the median is told.
const ROUNDS: usize = 5;

fn main() {
    // Cargo's own arguments are none of ours.
    let days = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(365u64);
    let mut rng = fastrand::Rng::with_seed(1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let (mut store, _) = Store::open(&path).expect("it opens");
    // A hundred minutes that come again and again, each number of which is as good as another.
    let names = ["bars", "features", "models", "quotes", "other"];
    let mut pool: Vec<Rollup> = (0..100)
        .map(|_| {
            let namespaces = names.iter().map(|name| ((*name).to_owned(), window(&mut rng))).collect();
            Rollup { samples: 1, namespaces, measures: [("appends".to_owned(), 7)].into(), ..Rollup::default() }
        })
        .collect();
    let year = Duration::from_secs(366 * 24 * 60 * 60);
    let retention = Retention { minutes: year, ..Retention::default() };
    let keep = |store: &mut Store, now_ms| {
        store.close_due(now_ms).expect("it is closed");
        while store.prune(now_ms, &retention).expect("it prunes") {}
    };
    let began = Instant::now();
    for day in 0..days {
        // Sketches are those of one minute an hour: merging them is measured below, minute by minute.
        let mut minutes = Vec::with_capacity(1_440);
        for minute in 0..1_440 {
            let start_ms = YEAR + day * DAY_MS + minute * MINUTE_MS;
            let mut rollup = pool[(minute + day) as usize % 100].clone();
            (rollup.start_ms, rollup.end_ms) = (start_ms, start_ms + MINUTE_MS);
            if minute % 60 != 30 {
                rollup.namespaces.values_mut().for_each(|window| window.sketches = Default::default());
            }
            minutes.push(rollup);
        }
        store.add_all(&minutes).expect("they are written");
        keep(&mut store, YEAR + (day + 1) * DAY_MS + 10 * MINUTE_MS);
    }
    let filled = began.elapsed();

    let began = Instant::now();
    for (minute, rollup) in (0..MEASURED).zip(&mut pool) {
        let start_ms = YEAR + days * DAY_MS + minute * MINUTE_MS;
        (rollup.start_ms, rollup.end_ms) = (start_ms, start_ms + MINUTE_MS);
        store.add(rollup).expect("it is written");
        keep(&mut store, start_ms + MINUTE_MS);
    }
    let minute = began.elapsed() / MEASURED as u32;
    store.checkpoint().expect("nobody reads");
    let bytes = std::fs::metadata(&path).expect("it is there").len();

    let history = History::read_only(&path).expect("it is there");
    let berlin = zone("Europe/Berlin").expect("the calendar knows Berlin");
    // December, or the last days there are, in a time zone whose days are none of those that are stored.
    let to_ms = YEAR + days * DAY_MS - 60 * MINUTE_MS;
    let from_ms = to_ms.saturating_sub(31 * DAY_MS).max(YEAR);
    let query = |step, detail| Query { from_ms, to_ms, step, namespaces: Vec::new(), instances: Vec::new(), detail };
    let told = |query: &Query| median(|| history.buckets(query).expect("it is answered"));
    let (whole, whole_took) = told(&query(Step::Whole, Detail::Sketches));
    let (by_day, by_day_took) = told(&query(Step::Day(berlin.clone()), Detail::Latencies));
    let (by_hour, by_hour_took) = told(&query(Step::Hour, Detail::Latencies));
    let year = Query { from_ms: YEAR, to_ms: to_ms + DAY_MS, ..query(Step::Month(jiff::tz::TimeZone::UTC), Detail::Sketches) };
    let (_, year_took) = told(&year);
    let now = jiff::Timestamp::from_millisecond(to_ms as i64).expect("a moment").to_zoned_datetime(berlin);
    let asked = Asked { kind: Some(report::Kind::Monthly), ..Asked::default() };
    let (_, report_took) = median(|| {
        let report = report::of_history(&history, &asked, &now, None).expect("a report");
        report.render(Format::Html).expect("it is written")
    });

    // What is fast and wrong would be worth nothing.
    let minutes = (to_ms - from_ms) / MINUTE_MS;
    assert_eq!(whole[0].samples, minutes);
    for answer in [&by_day, &by_hour] {
        let merged = answer.iter().map(|step| step.total().counts.puts).sum::<u64>();
        assert_eq!((answer.iter().map(|step| step.samples).sum::<u64>(), merged), (minutes, whole[0].total().counts.puts));
    }
    let share = minute.as_secs_f64() / 60.0 * 100.0;
    println!("{days} days of minutes, {} namespaces, written in {filled:.1?}: {:.1} MB", names.len(), bytes as f64 / 1e6);
    println!("a minute takes {minute:.2?} to write, upkeep included: {share:.4} % of a core");
    println!("medians of {ROUNDS}, over {} days:", (to_ms - from_ms) / DAY_MS);
    println!("  as a whole, with its keys      {whole_took:.1?}");
    println!("  by day in Berlin               {by_day_took:.1?}");
    println!("  by hour                        {by_hour_took:.1?}");
    println!("  the monthly report as HTML     {report_took:.1?}");
    println!("everything by month, with keys   {year_took:.1?}");
}

/// What `ask` answers, and the median of how long it took.
fn median<T>(ask: impl Fn() -> T) -> (T, Duration) {
    let asked = || {
        let began = Instant::now();
        let answer = ask();
        (answer, began.elapsed())
    };
    let mut rounds: Vec<(T, Duration)> = (0..ROUNDS).map(|_| asked()).collect();
    rounds.sort_by_key(|(_, took)| *took);
    rounds.swap_remove(ROUNDS / 2)
}
