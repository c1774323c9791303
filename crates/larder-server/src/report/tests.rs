//! Reports over injected history with known answers: what was planted is found, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use larder::Latencies;
use larder::analytics::{Ranked, Ranking, Rollup, Window};

use super::findings::Code;
use super::*;

const MINUTE_MS: u64 = 60_000;

/// A day, and the day before, in minutes: what each minute has is up to the test.
fn report_of(minute: impl Fn(u64) -> BTreeMap<String, Window>, measures: &[(&str, u64)]) -> Report {
    report_with(minute, |_| BTreeMap::new(), measures)
}

fn report_with(
    now: impl Fn(u64) -> BTreeMap<String, Window>,
    before: impl Fn(u64) -> BTreeMap<String, Window>,
    measures: &[(&str, u64)],
) -> Report {
    recorded_as(&the_day(), MINUTE_MS, now, before, measures)
}

fn the_day() -> Frame {
    let asked = Asked { from: Some("2026-11-25".into()), to: Some("2026-11-26".into()), ..Asked::default() };
    asked.frame(&"2026-11-26T12:00Z[UTC]".parse().expect("a moment")).expect("a period")
}

/// Rollups of any length: findings look at sums, and few of them are summed sooner.
fn recorded_as(
    frame: &Frame,
    step_ms: u64,
    now: impl Fn(u64) -> BTreeMap<String, Window>,
    before: impl Fn(u64) -> BTreeMap<String, Window>,
    measures: &[(&str, u64)],
) -> Report {
    let recorded = Recorded {
        now: rollups(&frame.period, step_ms, now, measures),
        before: rollups(&frame.before, step_ms, before, measures),
        keys: Rollup::default(),
        instances: vec!["one".into()],
    };
    gather(frame, None, recorded).expect("a report")
}

fn rollups(period: &Period, step_ms: u64, of: impl Fn(u64) -> BTreeMap<String, Window>, measures: &[(&str, u64)]) -> Vec<Rollup> {
    let (from, to) = period.millis();
    let rollup = |start_ms: u64| Rollup {
        start_ms,
        end_ms: start_ms + step_ms,
        samples: 1,
        namespaces: of((start_ms - from) / step_ms),
        measures: measures.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
    };
    (from..to).step_by(step_ms as usize).map(rollup).filter(|rollup| !rollup.namespaces.is_empty()).collect()
}

fn took(each: Duration, n: u64) -> Latencies {
    Latencies::of(each, n)
}

/// A namespace in which nothing is wrong: most reads are hits, loads take some milliseconds, and what is loaded again has changed.
fn healthy() -> Window {
    let mut window = Window::default();
    window.counts.hits_memory = 950;
    window.counts.misses_absent = 20;
    window.counts.misses_expired = 20;
    window.counts.misses_invalidated = 10;
    window.counts.loads_ok = 50;
    window.counts.loads_joined = 5;
    window.counts.puts = 2;
    window.counts.invalidated = 10;
    window.counts.expired = 20;
    window.counts.reloads_expired = 20;
    window.counts.expired_needlessly = 6;
    window.counts.reloads_invalidated = 10;
    window.counts.invalidated_needlessly = 1;
    (window.entries, window.entries_sum) = (10_000, 10_000);
    (window.bytes, window.bytes_sum) = (64 << 20, 64 << 20);
    window.hit_memory = took(Duration::from_nanos(300), 15);
    window.miss = took(Duration::from_millis(6), 50);
    window.load = took(Duration::from_millis(5), 50);
    (0..500).for_each(|key: u32| window.sketches.keys.insert(&key.to_be_bytes()));
    window.sketches.hot_reads = Ranking::new((0..20u64).map(|n| Ranked { key: format!("n:{n}").into_bytes().into(), amount: 20 - n }));
    window.sketches.largest = Ranking::new([Ranked { key: b"n:large".as_slice().into(), amount: 40_000 }]);
    window.sketches.age_expired = took(Duration::from_secs(300), 20);
    window.sketches.age_unread = took(Duration::from_secs(60), 30);
    window
}

fn named(window: Window) -> BTreeMap<String, Window> {
    BTreeMap::from([("features".to_owned(), window)])
}

const MEASURES: [(&str, u64); 4] =
    [("gauge.memory_capacity_bytes", 256 << 20), ("appends", 10), ("invalidations.tag.call", 8), ("invalidations.key.event", 2)];

/// What is found when the healthy namespace is changed so.
fn found(change: impl Fn(&mut Window), measures: &[(&str, u64)]) -> Vec<Code> {
    let changed = |_| {
        let mut window = healthy();
        change(&mut window);
        named(window)
    };
    let report = recorded_as(&the_day(), 60 * MINUTE_MS, changed, |_| named(healthy()), &[&MEASURES, measures].concat());
    for finding in &report.findings {
        for words in [&finding.title, &finding.evidence, &finding.effect, &finding.advice] {
            assert!(!words.is_empty(), "{finding:?}");
        }
    }
    report.findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn nothing_is_found_in_a_healthy_cache() {
    assert_eq!(found(|_| {}, &[]), []);
    let quiet = report_of(|_| named(Window::default()), &[]);
    assert_eq!(quiet.findings, [], "nor in one that nobody reads");
}

#[test]
fn what_was_planted_is_found_and_nothing_else() {
    assert_eq!(found(|w| w.counts.expired_needlessly = 19, &[]), [Code::TtlTooShort]);
    let never_read = |w: &mut Window| {
        w.counts.evicted = 60;
        w.sketches.age_unread = took(Duration::from_secs(290), 60);
    };
    assert_eq!(found(never_read, &[]), [Code::TtlTooLong]);
    assert_eq!(found(|w| w.counts.invalidated_needlessly = 8, &[("needless.rule.bars", 8)]), [Code::OverInvalidation]);
    assert_eq!(found(|w| w.counts.loads_joined = 500, &[]), [Code::Stampedes]);
    assert_eq!(found(|w| w.counts.too_large = 3, &[]), [Code::OversizedValues]);
    assert_eq!(
        found(|w| w.sketches.largest = Ranking::new([Ranked { key: b"n:l".as_slice().into(), amount: 30 << 20 }]), &[]),
        [Code::OversizedValues]
    );
    assert_eq!(found(|w| (w.counts.loads_error, w.counts.errors) = (3, 3), &[]), [Code::Errors]);
    assert_eq!(found(|w| w.counts.loads_timeout = 3, &[]), [Code::Errors]);
    assert_eq!(found(|w| w.counts.backing_errors = 50, &[]), [Code::Errors]);
    assert_eq!(found(|w| w.load = took(Duration::from_secs(2), 50), &[]), [Code::SlowLoads]);
    assert_eq!(found(|w| w.load = took(Duration::from_millis(40), 50), &[]), [Code::SlowLoads], "eight times what it was before");
    assert_eq!(found(|w| w.hit_memory = took(Duration::from_millis(20), 15), &[]), [Code::SlowReads]);
    let hot = |w: &mut Window| w.sketches.hot_reads = Ranking::new([Ranked { key: b"n:hot".as_slice().into(), amount: 400 }]);
    assert_eq!(found(hot, &[]), [Code::HotKey]);
    assert_eq!(found(|_| {}, &[("gauge.false_miss_entries", 500)]), [Code::FalseMisses]);
}

#[test]
fn a_low_hit_rate_is_told_with_the_memory_that_would_raise_it_or_the_reason_why_none_would() {
    let small = |w: &mut Window| {
        w.counts.hits_memory = 500;
        w.counts.misses_absent = 470;
        w.counts.evicted = 460;
        // Two thirds of the reuses are within what is held, all others within a gigabyte.
        w.sketches.reuse_bytes = took(Duration::from_nanos(32 << 20), 600);
        w.sketches.reuse_bytes.add(&took(Duration::from_nanos(900 << 20), 350));
    };
    assert_eq!(found(small, &[]), [Code::MemoryTooSmall]);
    let report = report_with(
        |_| {
            let mut window = healthy();
            small(&mut window);
            named(window)
        },
        |_| named(healthy()),
        &MEASURES,
    );
    let finding = &report.findings[0];
    assert!(finding.advice.contains("MiB") && finding.evidence.contains("50.00 %"), "{finding:?}");
    let expiring = |w: &mut Window| {
        w.counts.hits_memory = 500;
        w.counts.misses_expired = 470;
    };
    assert_eq!(found(expiring, &[]), [Code::LowHitRate]);
}

#[test]
fn all_numbers_are_those_that_were_recorded() {
    let report = report_with(|_| named(healthy()), |_| named(healthy()), &MEASURES);
    let figure = |name: &str| report.figures.iter().find(|figure| figure.name == name).and_then(|figure| figure.now);
    assert_eq!(figure("requests"), Some(1_440_000.0));
    assert_eq!(figure("hit_rate"), Some(0.95));
    assert_eq!(figure("loads"), Some(72_000.0));
    assert_eq!(figure("invalidations"), Some(14_400.0));
    assert_eq!(figure("memory"), Some(f64::from(64 << 20)));
    let saved = figure("load_time_saved").expect("there were loads");
    assert!((saved - 950.0 * 1_440.0 * 0.005).abs() < 1.0, "{saved}");
    assert_eq!((report.period.covered, report.before.covered), (1.0, 1.0));
    assert_eq!(report.series.len(), 24);
    assert!(report.series.iter().all(|point| point.requests == 60_000 && point.hit_rate == Some(0.95)));
    assert!(report.figures.iter().all(|figure| figure.change.trend == Trend::Steady), "the two days are the same");
    let misses: Vec<(&str, u64)> = report.misses.iter().map(|part| (&*part.name, part.now)).collect();
    assert_eq!(misses, [("expired", 28_800), ("not there", 28_800), ("invalidated", 14_400)]);
    let invalidations: Vec<(&str, u64)> = report.invalidations.iter().map(|part| (&*part.name, part.now)).collect();
    assert_eq!(invalidations, [("tag, by a call", 11_520), ("key, by an event", 2_880)]);
}

#[test]
fn a_real_change_is_a_trend_and_a_noisy_one_is_not() {
    let with_hits = |hits: u64| {
        let mut window = healthy();
        window.counts.hits_memory = hits;
        named(window)
    };
    let trend = |report: &Report, name: &str| report.figures.iter().find(|figure| figure.name == name).map(|figure| figure.change.trend);
    let fallen = report_with(|_| with_hits(700), |_| with_hits(950), &[]);
    assert_eq!((trend(&fallen, "hit_rate"), trend(&fallen, "requests")), (Some(Trend::Falling), Some(Trend::Falling)));
    let mut random = fastrand::Rng::with_seed(3);
    let noise: Vec<u64> = (0..2_880).map(|_| random.u64(800..1_100)).collect();
    let noisy = report_with(|minute| with_hits(noise[minute as usize]), |minute| with_hits(noise[1_440 + minute as usize]), &[]);
    assert_eq!(trend(&noisy, "hit_rate"), Some(Trend::Steady));
}

#[test]
fn peaks_are_found_where_they_are() {
    let report = report_of(
        |minute| {
            let mut window = healthy();
            if minute / 60 == 14 {
                window.counts.hits_memory *= 3;
            }
            if minute / 60 == 3 {
                window.counts.misses_absent = 400;
            }
            named(window)
        },
        &[],
    );
    let at = |title: &str| report.peaks.iter().find(|peak| peak.title.contains(title)).map(|peak| peak.at.clone());
    assert_eq!(at("most reads").as_deref(), Some("2026-11-25T14:00+00:00"));
    assert_eq!(at("lowest hit rate").as_deref(), Some("2026-11-25T03:00+00:00"));
    assert_eq!(at("most memory"), None, "it never moved");
}

#[test]
fn a_period_without_data_says_so_in_every_form() {
    let report = report_of(|_| BTreeMap::new(), &[]);
    assert!(!report.has_data());
    assert!(report.figures.iter().all(|figure| figure.now.is_none()), "nothing is not zero");
    for format in [Format::Text, Format::Html, Format::Md] {
        let text = report.render(format).expect("it is written");
        assert!(text.contains("Nothing was recorded"), "{text}");
    }
    let json: Report = serde_json::from_str(&report.render(Format::Json).expect("it is written")).expect("a report");
    assert_eq!(json, report);
    let csv = report.render(Format::Csv).expect("it is written");
    assert_eq!((csv.lines().count(), csv.matches(",false,").count()), (1 + 48, 48));
}

#[test]
fn every_form_shows_the_same_numbers_and_no_key_is_taken_for_markup() {
    let hostile = |_| {
        let mut window = healthy();
        let key = "n:<script>alert(1)</script>|*x*\u{7}";
        window.sketches.hot_reads = Ranking::new([Ranked { key: key.as_bytes().into(), amount: 20 }]);
        named(window)
    };
    let report = report_with(hostile, |_| named(healthy()), &MEASURES);
    for format in [Format::Text, Format::Html, Format::Md] {
        let text = report.render(format).expect("it is written");
        for part in ["1,440,000", "95.00 %", "features", "hit rate"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains('\u{7}'), "{format:?}");
        assert_eq!(text.contains("<script"), format == Format::Text, "{format:?}");
    }
    let html = report.render(Format::Html).expect("it is written");
    assert!(html.matches("<svg").count() >= 4 && !html.contains("http://") && !html.contains("https://"), "it is one file");
    let csv = report.render(Format::Csv).expect("it is written");
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert!(columns.iter().all(|n| *n == columns[0]) && columns.len() == 49, "{columns:?}");
}
