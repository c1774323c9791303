//! Jobs in a fleet: five processes over one Redis and a clock that runs six hundred times as fast. Whoever is at a job is stopped until
//! another has taken it over, then goes on; or is killed, and another is started. No instant may be done twice, and none be missed.
//!
//! What is recorded of a run is its effect: it lands in Redis, in the step in which the token is compared. Each run also leaves something
//! where nothing is compared, as the canary: there the same world must show instants that were done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use larder::Larder;
use larder::election::{Duty, Remembered};
use larder_server::jobs::{Outcome, Run};
use larder_testkit::redis::{Server, ServerOptions, or_skip};
use larder_testkit::wait;

use child::{Child, DAWN, JOBS, LEASE, MINUTE, World};

mod child;

const PROCESSES: usize = 5;

/// Instants of each job in the test that is always run, and in the one of a thousand.
const INSTANTS: u64 = 30;
const INSTANTS_OF_A_THOUSAND: u64 = 250;

/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The fleet, and who watches it.
struct Fleet {
    world: World,
    children: Vec<Child>,
    started: usize,
    watcher: Larder,
    duties: Vec<Duty>,
    /// By job and token: what was recorded.
    records: BTreeMap<(String, u64), Run>,
    /// What runs left unguarded: job and instant, each as often as that was done.
    unguarded: Vec<String>,
    /// Up to which of those was read.
    read: u64,
    taken_over: usize,
    killed: usize,
}

impl Fleet {
    async fn start(redis: &Server) -> Fleet {
        let watcher = child::cache(&redis.url(), "watcher").build().await.expect("Redis is there");
        let world = World { redis: redis.url(), began_ms: watcher.clock().refresh() };
        let duties: Vec<Duty> = JOBS.iter().map(|job| watcher.duty(&format!("job:{job}")).expect("a name")).collect();
        for duty in &duties {
            // So that all are due from the dawn on, whenever the first process has looked.
            duty.enrol(&child::schedule().terms(), Remembered::default(), DAWN).await.expect("Redis is there");
        }
        let mut fleet = Fleet {
            world,
            children: Vec::new(),
            started: 0,
            watcher,
            duties,
            records: BTreeMap::new(),
            unguarded: Vec::new(),
            read: 0,
            taken_over: 0,
            killed: 0,
        };
        (0..PROCESSES).for_each(|_| fleet.add());
        fleet
    }

    fn add(&mut self) {
        self.started += 1;
        self.children.push(Child::start(&self.world, &format!("child-{}", self.started)));
    }

    /// Takes in what was recorded since. It is asked more often than a hundred records come.
    async fn watch(&mut self) {
        for duty in &self.duties {
            for (token, bytes) in duty.records().await.expect("Redis is there") {
                let run: Run = serde_json::from_slice(&bytes).expect("a run");
                self.records.entry((run.job.clone(), token)).or_insert(run);
            }
        }
    }

    /// Takes in what was left unguarded.
    async fn watch_unguarded(&mut self) {
        loop {
            let parcels = self.watcher.shipped(child::UNGUARDED, self.read).await.expect("Redis is there");
            let Some((last, _)) = parcels.last() else { return };
            self.read = *last;
            self.unguarded.extend(parcels.iter().filter_map(|(_, parcel)| Some(parcel.name.rsplit_once(' ')?.0.to_owned())));
        }
    }

    /// Up to which instant all jobs are done.
    async fn done_ms(&self) -> u64 {
        let mut done_ms = u64::MAX;
        for duty in &self.duties {
            done_ms = done_ms.min(duty.standing().await.expect("Redis is there").done_ms);
        }
        done_ms
    }

    /// Goes on until something is so, or it is too late for it.
    async fn until(&mut self, mut condition: impl AsyncFnMut(&mut Fleet) -> bool) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.watch().await;
            if condition(self).await {
                return true;
            }
            wait::pass(Duration::from_millis(5)).await;
        }
        false
    }

    /// Waits for somebody to be at a job, and returns who: its place, the duty and its token.
    async fn leader(&mut self, job: usize) -> Option<(usize, u64)> {
        let mut found = None;
        let duty = self.duties[job].clone();
        self.until(async |fleet| {
            let held = duty.standing().await.expect("Redis is there").held;
            found = held.and_then(|held| {
                let place = fleet.children.iter().position(|child| child.name == held.by)?;
                Some((place, held.token))
            });
            found.is_some()
        })
        .await;
        found
    }

    /// Stops whoever is at a job until another has begun the same, and has it go on.
    async fn stop_leader(&mut self, job: usize) {
        let Some((place, token)) = self.leader(job).await else { panic!("nobody is at {}", JOBS[job]) };
        self.children[place].process.stop().expect("it runs");
        let duty = self.duties[job].clone();
        // It may have finished in the last moment. Then another may be at the next instant, which is as good.
        let others = async |_: &mut Fleet| {
            let standing = duty.standing().await.expect("Redis is there");
            standing.newest >= token || standing.held.is_some_and(|held| held.token != token)
        };
        assert!(self.until(others).await, "nobody takes over what a stopped process has");
        let was_in_the_middle = !self.records.contains_key(&(JOBS[job].to_owned(), token));
        self.taken_over += usize::from(was_in_the_middle);
        self.children[place].process.go_on().expect("it is stopped");
    }

    fn kill_leader(&mut self, place: usize) {
        // Dropped is killed.
        drop(self.children.remove(place));
        self.killed += 1;
        self.add();
    }

    /// Instants of which more than one record landed.
    fn doubles(&self) -> Vec<String> {
        twice(self.records.values().map(|run| format!("{} {}", run.job, run.due_ms)))
    }

    async fn end(self) {
        drop(self.children);
        self.watcher.close().await.expect("it closes");
    }
}

/// What is there more than once.
fn twice(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.filter(|one| !seen.insert(one.clone())).collect()
}

/// Has a fleet do so many instants of each job, with trouble all the time.
async fn all_of(instants: u64) {
    let Some(redis) = or_skip(Server::start(ServerOptions::default())) else { return };
    let mut fleet = Fleet::start(&redis).await;
    assert!(fleet.until(async |fleet| fleet.done_ms().await > DAWN).await, "nothing is done");
    let first_ms = DAWN + MINUTE;
    let last_ms = first_ms + (instants - 1) * MINUTE;
    let (mut troubles, began) = (0, Instant::now());
    while fleet.done_ms().await < last_ms {
        assert!(began.elapsed() < PATIENCE, "only up to {} of {last_ms}", fleet.done_ms().await);
        let job = troubles % JOBS.len();
        if troubles % 3 == 2 {
            let Some((place, _)) = fleet.leader(job).await else { panic!("nobody is at {}", JOBS[job]) };
            fleet.kill_leader(place);
        } else {
            fleet.stop_leader(job).await;
        }
        troubles += 1;
        let next = Instant::now() + LEASE;
        fleet.until(async |_| Instant::now() > next).await;
    }
    fleet.watch().await;
    fleet.watch_unguarded().await;
    assert!(fleet.doubles().is_empty(), "{:?} of {} records", fleet.doubles(), fleet.records.len());
    // The check above would see nothing if there were nothing to see.
    let unguarded = twice(fleet.unguarded.iter().cloned()).len();
    assert!(unguarded > 0, "nothing was done twice without the token either, of {}", fleet.unguarded.len());
    let mut done = 0;
    for job in JOBS {
        let of_job = || fleet.records.values().filter(|run| run.job == job);
        assert!(of_job().all(|run| run.outcome == Outcome::Ok), "{:?}", of_job().find(|run| run.outcome != Outcome::Ok));
        let dues: BTreeSet<u64> = of_job().map(|run| run.due_ms).collect();
        let expected: BTreeSet<u64> = (0..instants).map(|number| first_ms + number * MINUTE).collect();
        let missed: Vec<&u64> = expected.difference(&dues).collect();
        assert!(missed.is_empty(), "{job} has missed {missed:?}");
        done += expected.len();
    }
    let by: BTreeSet<&str> = fleet.records.values().map(|run| run.instance.as_str()).collect();
    println!(
        "{done} due runs, each done once, by {} processes, and {unguarded} twice where no token is compared; {} stopped in the middle and \
         taken over, {} killed; {:.1} s",
        by.len(),
        fleet.taken_over,
        fleet.killed,
        began.elapsed().as_secs_f64()
    );
    assert!(by.len() > 1 && fleet.taken_over > 0 && fleet.killed > 0, "{by:?}, {} taken over, {} killed", fleet.taken_over, fleet.killed);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instant_is_done_twice_and_none_is_missed_whoever_is_stopped_or_killed() {
    all_of(INSTANTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute: a thousand due runs"]
async fn a_thousand_due_runs() {
    all_of(INSTANTS_OF_A_THOUSAND).await;
}
