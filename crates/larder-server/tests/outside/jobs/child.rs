//! A process of the fleet: this test's own program, which looks after jobs until it is killed.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use larder::{Builder, Larder, Parcel, ParcelBounds, RedisOptions};
use larder_server::jobs::schedule::Schedule;
use larder_server::jobs::{Definition, Failure, JobSettings, Missed, Overlap, Pace, Running as Jobs, Works};
use larder_testkit::process::Running;
use larder_testkit::wait;
use serde_json::json;

/// The jobs of the fleet: each is due every minute.
pub const JOBS: [&str; 4] = ["one", "two", "three", "four"];

pub const MINUTE: u64 = 60_000;

/// When their world begins.
pub const DAWN: u64 = 1_780_272_000_000;

/// How many times as fast its clock runs: a minute is a tenth of a second.
const SPEED: u64 = 600;

/// How long whoever was not heard of has a job.
pub const LEASE: Duration = Duration::from_millis(300);

/// How long a run takes, so that it can be met in the middle.
const WORK: Duration = Duration::from_millis(25);

const REDIS: &str = "LARDER_TEST_REDIS";
const NAME: &str = "LARDER_TEST_NAME";
const BEGAN: &str = "LARDER_TEST_BEGAN_MS";

/// Where each run leaves that it was done, whoever has its claim by then.
pub const UNGUARDED: &str = "unguarded";

/// What all processes are told.
pub struct World {
    pub redis: String,
    /// What the clock of Redis showed when the world began.
    pub began_ms: u64,
}

/// A process of the fleet.
pub struct Child {
    pub name: String,
    pub process: Running,
}

impl Child {
    pub fn start(world: &World, name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test is a program"));
        command.args(["--exact", "jobs::child::a_process_of_the_fleet", "--ignored", "--nocapture"]);
        command.env(REDIS, &world.redis).env(NAME, name).env(BEGAN, world.began_ms.to_string());
        let log = tempfile::tempfile().expect("temporary files can be written");
        Child { name: name.to_owned(), process: Running::start(&command, &log).expect("this test is a program") }
    }
}

/// An instance.
pub fn cache(redis: &str, name: &str) -> Builder {
    let options = RedisOptions::parse(redis).expect("an address").instance(name).operation_timeout(Duration::from_secs(5));
    Larder::builder().redis(options).memory(1 << 20).index_bytes(1 << 16)
}

pub fn schedule() -> Schedule {
    Schedule::parse("* * * * *", "UTC").expect("a schedule")
}

fn definition(name: &str) -> Definition {
    Definition { overlap: Overlap::Queue, missed: Missed::All, retries: 20, ..Definition::new(name, schedule()) }
}

async fn live(redis: String, name: String, began_ms: u64) {
    let larder = cache(&redis, &name).build().await.expect("Redis is there");
    let clock = larder.clock().clone();
    let now = move || DAWN + clock.refresh().saturating_sub(began_ms) * SPEED;
    // Longer than a run takes on a machine that does something else: only who is stopped loses what it has.
    let pace = Pace { now: Some(Arc::new(now)), look_every: Duration::from_millis(20), lease: LEASE, grace: Duration::from_secs(1) };
    let mut works = Works::default();
    for job in JOBS {
        works.add(job, move |tools, _| async move {
            wait::pass(WORK).await;
            let name = format!("{job} {} {}", tools.due_ms, fastrand::u64(..));
            let kept = ParcelBounds { parcels_max: 1 << 20, life: Duration::from_secs(600) };
            let parcel = Parcel { name, bytes: Vec::new().into() };
            tools.larder.ship(UNGUARDED, &[parcel], kept).await.map_err(Failure::new)?;
            Ok(json!({ "due_ms": tools.due_ms }))
        });
    }
    let settings = JobSettings { jobs: JOBS.map(definition).to_vec(), runs_kept: 20, ..JobSettings::default() };
    let jobs = Jobs::begin(&larder, None, &settings, works, pace).await.expect("they begin");
    // It is killed.
    std::future::pending::<()>().await;
    jobs.end().await;
}

#[test]
#[ignore = "a part of other tests, which start it as a process"]
fn a_process_of_the_fleet() {
    let told = |name: &str| std::env::var(name).ok();
    let (Some(redis), Some(name), Some(began_ms)) = (told(REDIS), told(NAME), told(BEGAN)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(live(redis, name, began_ms.parse().expect("a number")));
}
