//! The jobs of one server: by a clock that is driven by hand, over a file that outlives the server.

use std::path::Path;
use std::sync::atomic::AtomicU32;

use larder::Clock;
use larder_testkit::redis::{Server, ServerOptions, or_skip};
use larder_testkit::wait;
use serde_json::json;

use super::schedule::Schedule;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3_600);

fn hourly(name: &str) -> Definition {
    let schedule = Schedule::parse("0 * * * *", "UTC").expect("a schedule");
    Definition { backoff: Duration::from_millis(1), ..Definition::new(name, schedule) }
}

fn pace() -> Pace {
    Pace { look_every: Duration::from_millis(5), grace: Duration::from_millis(50), ..Pace::default() }
}

/// A server that looks after jobs.
struct Site {
    larder: Larder,
    running: Running,
    clock: Clock,
}

impl Site {
    async fn begin(clock: &Clock, folder: Option<&Path>, jobs: Vec<Definition>, works: Works) -> Site {
        let larder = Larder::builder().clock(clock.clone()).build().await.expect("a cache");
        let settings = JobSettings { jobs, file: folder.map(|folder| folder.join("jobs.db")), runs_kept: 20, ..JobSettings::default() };
        let running = Running::begin(&larder, None, &settings, works, pace()).await.expect("they begin");
        Site { larder, running, clock: clock.clone() }
    }

    async fn start(clock: &Clock, folder: Option<&Path>, jobs: Vec<Definition>, works: Works) -> Site {
        let site = Site::begin(clock, folder, jobs, works).await;
        // It must have seen what time it is before that is changed.
        site.until(|views| views.iter().all(|view| view.trouble.is_none()));
        for name in site.jobs().names() {
            site.jobs().view(name, 1).await.expect("there is one");
        }
        site
    }

    /// One whose duties are in Redis, by the test's clock all the same.
    async fn over(redis: &Server, works: Works, pace: Pace) -> Site {
        let options = larder::RedisOptions::parse(&redis.url()).expect("an address");
        let larder = Larder::builder().redis(options).build().await.expect("a cache");
        let clock = Clock::manual();
        let now = clock.clone();
        let pace = Pace { now: Some(Arc::new(move || now.now_ms())), ..pace };
        let settings = JobSettings { jobs: vec![hourly("cleanup")], runs_kept: 20, ..JobSettings::default() };
        let running = Running::begin(&larder, None, &settings, works, pace).await.expect("they begin");
        let site = Site { larder, running, clock };
        site.jobs().view("cleanup", 1).await.expect("there is one");
        site
    }

    fn jobs(&self) -> &Jobs {
        self.running.jobs()
    }

    /// Waits until what is seen of all jobs is so. Others go on meanwhile.
    fn until(&self, condition: impl Fn(&[View]) -> bool) {
        let came = tokio::task::block_in_place(|| wait::until(PATIENCE, || condition(&self.jobs().views())));
        assert!(came, "{:#?}", self.jobs().views());
    }

    fn until_last(&self, outcome: Outcome) {
        self.until(|views| views[0].last.as_ref().is_some_and(|run| run.outcome == outcome) && views[0].running.is_none());
    }

    async fn outcomes(&self, name: &str) -> Vec<Outcome> {
        self.jobs().runs(name, 100).await.expect("runs").iter().map(|run| run.outcome).collect()
    }

    async fn end(self) {
        self.running.end().await;
        self.larder.close().await.expect("it closes");
    }
}

/// Work that counts how often it was begun, and does what is asked.
fn works<W>(name: &str, work: impl Fn(u32, Tools, Arc<Progress>) -> W + Send + Sync + 'static) -> (Works, Arc<AtomicU32>)
where
    W: Future<Output = Result<serde_json::Value, Failure>> + Send + 'static,
{
    let begun = Arc::new(AtomicU32::new(0));
    let (mut works, counted) = (Works::default(), begun.clone());
    works.add(name, move |tools, progress| work(counted.fetch_add(1, Ordering::Relaxed) + 1, tools, progress));
    (works, begun)
}

fn good(number: u32, tools: &Tools) -> Result<serde_json::Value, Failure> {
    tools.note(format!("the {number}th"));
    Ok(json!({ "number": number }))
}

/// Goes on until it is told to stop.
async fn until_told(progress: Arc<Progress>) -> Result<serde_json::Value, Failure> {
    let mut step = 0;
    while !progress.is_cancelled() {
        step += 1;
        progress.at("going on", step, None);
        wait::pass(Duration::from_millis(1)).await;
    }
    Err(Failure::stopped())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_runs_once_and_is_recorded() {
    let clock = Clock::manual();
    let (works, begun) = works("cleanup", |number, tools, _| async move { good(number, &tools) });
    let site = Site::start(&clock, None, vec![hourly("cleanup"), hourly("backup")], works).await;
    assert_eq!(site.jobs().names(), ["cleanup"], "there is nothing to do for the other");
    let view = site.jobs().view("cleanup", 5).await.expect("there is one");
    assert_eq!(view.next_ms.len(), 5);
    site.clock.advance(HOUR);
    site.until_last(Outcome::Ok);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    let run = site.jobs().runs("cleanup", 10).await.expect("runs").remove(0);
    assert_eq!((run.due_ms, run.scheduled, run.attempts, run.by.as_deref()), (view.next_ms[0], true, 1, None));
    assert_eq!((run.result["number"].as_u64(), run.log), (Some(1), vec!["the 1th".to_owned()]));
    // A clock that jumps over a day: all but the last are recorded as missed, and that is made up for.
    site.clock.advance(HOUR * 24);
    site.until(|views| views[0].counts[1] == 2);
    assert_eq!(site.outcomes("cleanup").await, [Outcome::Ok, Outcome::Missed, Outcome::Ok]);
    let missed = site.jobs().runs("cleanup", 10).await.expect("runs").remove(1);
    assert_eq!(missed.result["instants"], 23);
    assert!(matches!(site.jobs().view("backup", 1).await, Err(Refused::Unknown)));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_again_and_then_given_up() {
    let (works, begun) = works("cleanup", |number, tools, _| async move {
        if number % 4 == 3 { good(number, &tools) } else { Err(Failure::new(format!("no luck, {number}"))) }
    });
    let job = Definition { retries: 2, ..hourly("cleanup") };
    let site = Site::start(&Clock::manual(), None, vec![job], works).await;
    site.jobs().run_now("cleanup", Some("ada".to_owned())).await.expect("it begins");
    site.until_last(Outcome::Ok);
    let run = site.jobs().runs("cleanup", 1).await.expect("runs").remove(0);
    assert_eq!((run.attempts, run.by.as_deref(), run.scheduled), (3, Some("ada"), false));
    assert!(run.log[0].contains("attempt 1 failed: no luck, 1"), "{:?}", run.log);
    begun.store(3, Ordering::Relaxed);
    let (works_for_good, _) = works_that_panic();
    assert!(troubles(&site.jobs().views()).is_empty());
    site.end().await;
    let site = Site::start(&Clock::manual(), None, vec![hourly("cleanup")], works_for_good).await;
    site.jobs().run_now("cleanup", None).await.expect("it begins");
    site.until_last(Outcome::Failed);
    let run = site.jobs().runs("cleanup", 1).await.expect("runs").remove(0);
    assert_eq!(run.attempts, 1, "a fault is none that goes away");
    assert!(run.error.expect("why").contains("it panicked"));
    assert!(troubles(&site.jobs().views())["cleanup"].contains("failed: it panicked"));
    site.end().await;
}

fn works_that_panic() -> (Works, Arc<AtomicU32>) {
    works("cleanup", |_, _, _| async { panic!("planted") })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_watched_stopped_and_not_begun_beside_another() {
    let (works, _) = works("cleanup", |_, _, progress| until_told(progress));
    let site = Site::start(&Clock::manual(), None, vec![hourly("cleanup")], works).await;
    let id = site.jobs().run_now("cleanup", None).await.expect("it begins");
    assert!(matches!(site.jobs().run_now("cleanup", None).await, Err(Refused::Busy)));
    site.until(|views| views[0].running.as_ref().and_then(|under| under.step.as_ref()).is_some_and(|step| step.done > 3));
    let (run, step) = site.jobs().run("cleanup", id).await.expect("an answer").expect("it is there");
    assert_eq!((run.outcome, step.expect("it is here").doing.as_str()), (Outcome::Running, "going on"));
    assert!(!site.jobs().cancel("cleanup", id + 1).await.expect("an answer"));
    assert!(site.jobs().cancel("cleanup", id).await.expect("an answer"));
    site.until_last(Outcome::Cancelled);
    assert!(!site.jobs().cancel("cleanup", id).await.expect("an answer"), "it has ended");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_does_not_stop_is_dropped() {
    let (works, begun) = works("cleanup", |_, _, _| std::future::pending());
    let job = Definition { timeout: Duration::from_millis(20), retries: 1, ..hourly("cleanup") };
    let site = Site::start(&Clock::manual(), None, vec![job], works).await;
    site.jobs().run_now("cleanup", None).await.expect("it begins");
    site.until_last(Outcome::TimedOut);
    assert_eq!(begun.load(Ordering::Relaxed), 2, "it is tried again");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_is_paused_after_a_restart_and_makes_up_for_nothing() {
    let (folder, clock) = (tempfile::tempdir().expect("temporary files can be written"), Clock::manual());
    let work = || works("cleanup", |number, tools, _| async move { good(number, &tools) });
    let (first, _) = work();
    let site = Site::start(&clock, Some(folder.path()), vec![hourly("cleanup")], first).await;
    site.jobs().pause("cleanup", true).await.expect("it is paused");
    site.end().await;
    let (second, begun) = work();
    let site = Site::start(&clock, Some(folder.path()), vec![hourly("cleanup")], second).await;
    assert!(site.jobs().views()[0].paused && site.jobs().views()[0].next_ms.is_empty());
    clock.advance(HOUR * 5);
    site.jobs().run_now("cleanup", None).await.expect("whoever asks may run it");
    site.until_last(Outcome::Ok);
    site.jobs().pause("cleanup", false).await.expect("it goes on");
    clock.advance(HOUR);
    site.until(|views| views[0].counts[1] == 2);
    assert_eq!(begun.load(Ordering::Relaxed), 2);
    assert_eq!(site.outcomes("cleanup").await, [Outcome::Ok, Outcome::Ok], "nothing was missed");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_knows_what_ran_last_and_what_was_interrupted() {
    let (folder, clock) = (tempfile::tempdir().expect("temporary files can be written"), Clock::manual());
    let (first, _) = works("cleanup", |_, _, progress| until_told(progress));
    let site = Site::start(&clock, Some(folder.path()), vec![hourly("cleanup")], first).await;
    clock.advance(HOUR);
    site.until(|views| views[0].running.is_some());
    site.end().await;
    // It was begun, and did not end: the next process begins it again. What came due while nobody was there is missed, but for the last.
    clock.advance(HOUR * 3);
    let (second, begun) = works("cleanup", |number, tools, _| async move { good(number, &tools) });
    let site = Site::start(&clock, Some(folder.path()), vec![hourly("cleanup")], second).await;
    site.until_last(Outcome::Ok);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    assert_eq!(site.outcomes("cleanup").await, [Outcome::Ok, Outcome::Missed, Outcome::Interrupted]);
    site.end().await;
    // Another schedule begins now.
    clock.advance(HOUR * 3);
    let other = Schedule::parse("30 * * * *", "UTC").expect("a schedule");
    let (third, begun) = works("cleanup", |number, tools, _| async move { good(number, &tools) });
    let site = Site::start(&clock, Some(folder.path()), vec![Definition { schedule: other, ..hourly("cleanup") }], third).await;
    clock.advance(HOUR);
    site.until(|views| views[0].counts[1] == 1);
    assert_eq!(begun.load(Ordering::Relaxed), 1, "what was due by it before it was in force never was");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_far_ahead_is_told_of_and_made_good() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let work = || works("cleanup", |number, tools, _| async move { good(number, &tools) }).0;
    let (ahead, behind) = (Clock::manual(), Clock::manual());
    ahead.advance(HOUR * 24 * 365);
    let site = Site::start(&ahead, Some(folder.path()), vec![hourly("cleanup")], work()).await;
    ahead.advance(HOUR);
    site.until(|views| views[0].counts[1] == 1);
    site.end().await;
    let site = Site::begin(&behind, Some(folder.path()), vec![hourly("cleanup")], work()).await;
    site.until(|views| views[0].trouble.as_ref().is_some_and(|why| why.contains("the clock was set back")));
    assert!(troubles(&site.jobs().views())["cleanup"].contains("the clock was set back"));
    site.jobs().pause("cleanup", true).await.expect("it is paused");
    site.jobs().pause("cleanup", false).await.expect("it goes on");
    behind.advance(HOUR);
    site.until(|views| views[0].counts[1] == 1 && views[0].trouble.is_none());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_its_server_is_not_begun_for_ever() {
    let (folder, clock) = (tempfile::tempdir().expect("temporary files can be written"), Clock::manual());
    let job = Definition { retries: 1, ..hourly("cleanup") };
    for times in 1..=3 {
        let (works, begun) = works("cleanup", |_, _, progress| until_told(progress));
        let site = Site::start(&clock, Some(folder.path()), vec![job.clone()], works).await;
        if times == 1 {
            clock.advance(HOUR);
        }
        if times < 3 {
            site.until(|views| views[0].running.as_ref().is_some_and(|under| under.step.as_ref().is_some_and(|step| step.done > 0)));
        } else {
            site.until_last(Outcome::Failed);
            assert_eq!(begun.load(Ordering::Relaxed), 0);
            assert!(troubles(&site.jobs().views())["cleanup"].contains("it was begun 2 times"));
        }
        site.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_everything_has_nothing_done_again() {
    let Some(redis) = or_skip(Server::start(ServerOptions::default())) else { return };
    let (works, begun) = works("cleanup", |number, tools, _| async move { good(number, &tools) });
    let site = Site::over(&redis, works, pace()).await;
    site.clock.advance(HOUR);
    site.until_last(Outcome::Ok);
    site.jobs().pause("cleanup", true).await.expect("it is paused");
    let keys = || redis.command(&["HMGET", "{larder}:duty:job:cleanup", "terms", "done", "paused"]).expect("an answer").text();
    let before = keys();
    redis.command(&["FLUSHALL"]).expect("an answer");
    let came_back = tokio::task::block_in_place(|| wait::until(PATIENCE, || keys() == before));
    assert!(came_back, "{:?} became {:?}", before, keys());
    assert!(site.jobs().views()[0].paused, "that is remembered as well");
    site.jobs().pause("cleanup", false).await.expect("it goes on");
    site.clock.advance(HOUR);
    site.until(|views| views[0].counts[1] == 2);
    assert_eq!(begun.load(Ordering::Relaxed), 2);
    assert_eq!(site.outcomes("cleanup").await, [Outcome::Ok, Outcome::Ok]);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_somebody_stopped_is_no_failure() {
    let (works, begun) = works("cleanup", |_, _, _| async { Err(Failure::stopped()) });
    let site = Site::start(&Clock::manual(), None, vec![Definition { retries: 3, ..hourly("cleanup") }], works).await;
    site.jobs().run_now("cleanup", None).await.expect("it begins");
    site.until_last(Outcome::Cancelled);
    assert_eq!((begun.load(Ordering::Relaxed), troubles(&site.jobs().views()).len()), (1, 0));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_enrols_first_in_a_redis_that_lost_everything_need_not_know_everything() {
    let Some(redis) = or_skip(Server::start(ServerOptions::default())) else { return };
    let (works, begun) = works("cleanup", |number, tools, _| async move { good(number, &tools) });
    // It looks when it is asked to.
    let site = Site::over(&redis, works, Pace { look_every: HOUR, ..pace() }).await;
    site.jobs().run_now("cleanup", None).await.expect("it begins");
    site.until_last(Outcome::Ok);
    site.jobs().pause("cleanup", true).await.expect("it is paused");
    let key = "{larder}:duty:job:cleanup";
    let known = || redis.command(&["HMGET", key, "terms", "done", "paused"]).expect("an answer").text();
    let before = known();
    // All is lost, and one that was never there comes first: to it everything begins now, and nothing is paused.
    redis.command(&["DEL", key, "{larder}:duty:job:cleanup:records"]).expect("an answer");
    let other = site.larder.duty("job:cleanup").expect("a name");
    let terms = hourly("cleanup").schedule.terms();
    other.enrol(&terms, larder::election::Remembered { done_ms: 1, ..Default::default() }, 1).await.expect("it enrols");
    assert_ne!(known(), before);
    let view = site.jobs().view("cleanup", 1).await.expect("there is one");
    assert_eq!((known(), view.paused), (before, true), "who knows more says so");
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    site.end().await;
}
