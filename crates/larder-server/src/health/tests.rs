//! What is found, and how that is called; and looks that hang.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder::{Larder, NamespaceStats, Part, Probe, Probed};

use super::certificates::judge_all;
use super::disk::judge_room;
use super::judge::InARow;
use super::performance::{Wanted, Window, judge_window};
use super::*;

const WANTED: Wanted = Wanted { requests_min: 100, hit_rate_min: 0.8, latency_max: Duration::from_millis(10) };

fn window(requests: u64, hits: u64, mean_ms: u64) -> Window {
    Window { requests, hits, mean: Duration::from_millis(mean_ms) }
}

#[test]
fn performance_is_judged_where_there_are_enough_reads() {
    assert_eq!(judge_window(window(99, 0, 50), WANTED).state, State::Healthy, "too few say nothing");
    assert_eq!(judge_window(window(100, 80, 10), WANTED).state, State::Healthy, "the limits themselves are well");
    for (bad, words) in
        [(window(100, 79, 1), "79.00 % of reads hit, less than 80.00 %"), (window(100, 99, 11), "11.0 ms in the mean, more than 10.0 ms")]
    {
        let look = judge_window(bad, WANTED);
        let reason = look.reason.expect("it says why");
        assert!(look.state == State::Degraded && reason.what.contains(words) && !reason.advice.is_empty(), "{}", reason.what);
    }
    let both = judge_window(window(100, 0, 20), WANTED).reason.expect("it says why");
    assert!(both.what.contains("hit") && both.what.contains("mean"), "{}", both.what);
}

#[tokio::test]
async fn a_window_is_what_happened_between_two_looks() {
    let larder = Larder::builder().build().await.expect("a cache in memory");
    let numbers = larder.namespace::<u32>("n").expect("a name");
    numbers.put("there", 1).await.expect("it is taken");
    let then = larder.stats().total;
    for _ in 0..6 {
        assert!(numbers.get("there").await.expect("it can be read").is_some());
    }
    assert!(numbers.get("absent").await.expect("it can be read").is_none());
    let Window { requests, hits, mean } = Window::between(&then, &larder.stats().total);
    assert!((requests, hits) == (7, 6) && mean < Duration::from_secs(1), "{mean:?}");
    assert_eq!(Window::between(&NamespaceStats::default(), &NamespaceStats::default()), window(0, 0, 0));
}

#[test]
fn a_disk_without_room_says_how_much_there_is() {
    let judged = |free: u64| judge_room(Path::new("/d"), Ok((free, 1 << 40)), 1 << 30, 64 << 20);
    assert_eq!(
        [judged(1 << 30).state, judged((1 << 30) - 1).state, judged(1 << 20).state],
        [State::Healthy, State::Degraded, State::Unhealthy]
    );
    let what = judged(1 << 20).reason.expect("it says why").what;
    assert!(what.contains("1.0 MiB are free on the disk of /d, less than 64 MiB"), "{what}");
    let lost = judge_room(Path::new("/d"), Err(std::io::ErrorKind::NotFound.into()), 1, 1);
    assert!(lost.state == State::Degraded && lost.reason.is_some_and(|reason| reason.what.contains("does not say")));
}

#[test]
fn certificates_run_out() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_149_400);
    let day = Duration::from_secs(86_400);
    let of = |runs_out| Certificate { setting: "redis.client_certificate", runs_out };
    let judged = |runs_out| judge_all(&[of(Ok(now + day * 100)), of(runs_out)], None, now, day * 14);
    assert_eq!(judged(Ok(now + day * 14)).state, State::Healthy);
    let soon = judged(Ok(now + day * 3));
    let what = soon.reason.expect("it says why").what;
    assert_eq!(
        (soon.state, what.as_str()),
        (State::Degraded, "the certificate redis.client_certificate runs out in 3 days, on 2025-11-29 09:30:00 UTC")
    );
    assert_eq!(judged(Ok(now - day)).state, State::Unhealthy);
    let unknown = judged(Err("it is no text".to_owned()));
    assert!(unknown.state == State::Degraded && unknown.reason.is_some_and(|reason| reason.what.ends_with("it is no text")));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_is_bad_delays_no_other_and_is_not_begun_twice() {
    let mut health = Health { slots: Vec::new(), started: Arc::default(), looks: JoinSet::new() };
    let hanging = health.add("disk", "system", false);
    let well = health.add("sources", "component", false);
    let begun = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (counted, (held, hold)) = (begun.clone(), tokio::sync::watch::channel(true));
    let judge = || Judge::new(InARow { worse: 1, better: 1 });
    let times = (Duration::from_secs(5), Duration::from_secs(1));
    let late = Look::bad(State::Degraded, "late", "a", Vec::new());
    health.spawn(look_on(hanging, judge(), times, late.clone(), move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut hold = hold.clone();
        async move {
            hold.wait_for(|held| !held).await.expect("the test holds it");
            Look::healthy(Vec::new())
        }
    }));
    health.spawn(look_on(well, judge(), times, late, || async { Look::healthy(Vec::new()) }));
    let state = |health: &Health, name: &str| health.components().iter().find(|one| one.name == name).map(|one| one.state);
    let mut rounds = 0;
    while state(&health, "disk") != Some(State::Degraded) || rounds < 100 {
        rounds += 1;
        drop(tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>()).await);
        assert!(rounds < 1_000, "it is found late");
    }
    assert_eq!((state(&health, "sources"), begun.load(Ordering::SeqCst)), (Some(State::Healthy), 1));
    held.send_replace(false);
    while state(&health, "disk") != Some(State::Healthy) {
        rounds += 1;
        drop(tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>()).await);
        assert!(rounds < 2_000, "it is found well again");
    }
    assert_eq!(Health::state(&health.components()), State::Healthy);
}

#[tokio::test]
async fn a_server_has_started_when_all_was_probed() {
    let larder = Larder::builder().probe_every(Duration::from_secs(3_600)).build().await.expect("a cache in memory");
    let health = Health::watch(&larder, Watched::default(), false);
    let waited = async {
        while !health.has_started() || health.components().len() < 4 {
            drop(tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it starts");
    let names: Vec<_> = health.components().iter().map(|one| one.name).collect();
    assert_eq!(names, ["memory", "log", "sources", "performance"]);
    let nothing_yet: Vec<Probed> = larder
        .probes()
        .into_iter()
        .map(|mut probed| {
            probed.last = None;
            probed
        })
        .collect();
    assert!(!cache::has_started(&nothing_yet, false));
    // What a part's state is called, from what its probe found.
    let log: Arc<Probe> =
        larder.probes().into_iter().find(|probed| probed.part == Part::Log).and_then(|probed| probed.last).expect("it was probed");
    let mut lagging = Probe::clone(&log);
    lagging.log.as_mut().expect("it is the log's").behind = 11;
    let going = |behind_max| cache::Going { is_strict: false, behind_max };
    assert_eq!([11, 10].map(|most| cache::look(Part::Log, &lagging, going(most)).state), [State::Healthy, State::Degraded]);
}
