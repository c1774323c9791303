//! Jobs: what is to be done again and again, once in the whole fleet, and what came of it.
//!
//! ```text
//!   schedule ── instants ──> planner ── begin ──> larder::election ── token ──> attempt (work.rs) ── finish ──> record
//!                               ^                  one in the fleet              watched, tried again           |
//!                               └────────────────── what is over, what runs, who paused it <────────────────────┘
//!                                                        runner.rs                                    store.rs: SQLite
//! ```
//!
//! Where instances share Redis, who does what and what came of it is there, and every instance tells all of it; the store is this
//! instance's memory of it. Alone, the store is all there is, and outlives the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::Larder;
use larder::election::{Claimed, Duty, Standing};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub mod attempt;
pub mod definition;
pub mod planner;
pub mod run;
mod runner;
pub mod schedule;
mod store;
pub mod work;

pub use definition::{Definition, JobSettings, Missed, NAMES, Overlap};
pub use run::{Outcome, Run};
pub use store::StoreError;
pub use work::{Failure, Tools, Works};

use crate::history::History;
use crate::progress::{Progress, Step};
use store::{Known, Store};

/// What duties of jobs are called.
const DUTY_PREFIX: &str = "job:";

/// How fast things go. Anything but the default is for tests.
#[derive(Clone)]
pub struct Pace {
    /// What time it is for schedules, in milliseconds since 1970; without it, what the cache's clock says, which all instances share.
    pub now: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
    /// How long nobody looks what others did, at most.
    pub look_every: Duration,
    /// How long an instance that was not heard of still has what it claimed.
    pub lease: Duration,
    /// How long work that was told to stop has for it.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Pace { now: None, look_every: seconds(1), lease: seconds(30), grace: seconds(10) }
    }
}

/// The jobs of a server. A cheap handle; the one who [began](Running::begin) ends them.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

/// What all parts share.
struct Inner {
    larder: Larder,
    history: Option<History>,
    reports: Option<(std::path::PathBuf, usize)>,
    works: Works,
    jobs: Vec<Job>,
    store: Arc<Mutex<Store>>,
    pace: Pace,
    instance: String,
    /// Woken when somebody asked for something that the runner should see to.
    wake: Notify,
    closing: watch::Sender<bool>,
    /// Runs under way here.
    runs: Mutex<Vec<JoinHandle<()>>>,
}

/// One of them.
struct Job {
    definition: Definition,
    duty: Duty,
    seen: Mutex<Seen>,
    /// Who looks how it stands, one at a time: what an older look saw must not take the place of what a newer one did.
    looking: tokio::sync::Mutex<()>,
    here: Mutex<Option<Here>>,
    counts: [AtomicU64; Outcome::ALL.len()],
}

/// What was seen of a job last.
#[derive(Default)]
struct Seen {
    standing: Standing,
    /// When the last run began and ended.
    last: Option<(u64, u64)>,
    /// The last record, of a run or of what was given up.
    last_run: Option<Run>,
    last_ok_ms: Option<u64>,
    /// Up to which instant all is over, and whether it is paused, as the store has it.
    kept: Option<(u64, bool)>,
    /// The token of the newest record that is in the store.
    synced: u64,
    /// The largest number of a run that was in the store when it was opened.
    remembered: u64,
    /// Why it is not known how it stands.
    trouble: Option<String>,
}

/// A run that is under way here.
#[derive(Clone)]
struct Here {
    token: u64,
    progress: Arc<Mutex<Arc<Progress>>>,
    cancelled: Arc<Notify>,
}

/// How a job stands, to be told.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is.
    pub definition: Definition,
    /// Whether nothing is begun by schedule.
    pub paused: bool,
    /// The run that is under way, wherever it is.
    pub running: Option<Under>,
    /// The last record.
    pub last: Option<Run>,
    /// When it went well last, as far as that is known.
    pub last_ok_ms: Option<u64>,
    /// When it begins next by schedule, unless it is paused.
    pub next_ms: Vec<u64>,
    /// Why all of this may be old.
    pub trouble: Option<String>,
    /// How many runs ended how on this instance, in the order of [`Outcome::ALL`].
    pub counts: Vec<u64>,
}

/// A run that is under way.
#[derive(Clone, Debug)]
pub struct Under {
    /// Its number.
    pub id: u64,
    /// The instant that it is about.
    pub due_ms: u64,
    /// Whether it is by schedule.
    pub scheduled: bool,
    /// The instance that it is on.
    pub instance: String,
    /// Since when.
    pub since_ms: u64,
    /// How far it is, where it is on this instance.
    pub step: Option<Step>,
}

/// Why something that was asked of a job is not done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// There is no such job, or it is off.
    Unknown,
    /// A run is under way.
    Busy,
    /// The server ends.
    Closing,
    /// It is not known who does what, or it cannot be written.
    Larder(larder::Error),
    /// The file of runs cannot be read or written.
    Store(StoreError),
}

impl From<larder::Error> for Refused {
    fn from(error: larder::Error) -> Self {
        Refused::Larder(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Store(error)
    }
}

impl Jobs {
    /// The names of those that are on.
    pub fn names(&self) -> Vec<&str> {
        self.0.jobs.iter().map(|job| job.definition.name.as_str()).collect()
    }

    /// How all of them stand, as far as was seen last.
    pub fn views(&self) -> Vec<View> {
        self.0.jobs.iter().map(|job| self.0.view(job, 1)).collect()
    }

    /// How one stands now, with so many next instants.
    ///
    /// # Errors
    /// [`Refused::Unknown`].
    pub async fn view(&self, name: &str, next: usize) -> Result<View, Refused> {
        let job = self.0.job(name)?;
        self.0.look(job).await;
        Ok(self.0.view(job, next))
    }

    /// The last runs of one, the newest first.
    ///
    /// # Errors
    /// [`Refused::Unknown`], and when the store cannot be read.
    pub async fn runs(&self, name: &str, most: usize) -> Result<Vec<Run>, Refused> {
        let name = self.0.job(name)?.definition.name.clone();
        Ok(self.0.stored(move |store| store.runs(&name, most)).await?)
    }

    /// A run, and how far it is where it is under way here.
    ///
    /// # Errors
    /// [`Refused::Unknown`], and when the store cannot be read.
    pub async fn run(&self, name: &str, id: u64) -> Result<Option<(Run, Option<Step>)>, Refused> {
        let job = self.0.job(name)?;
        self.0.look(job).await;
        let stored = name.to_owned();
        let run = self.0.stored(move |store| store.run(&stored, id)).await?;
        let under = self.0.view(job, 0).running.filter(|under| under.id == id);
        // One that is under way elsewhere is not in the store of this instance yet.
        let elsewhere = |under: &Under| Run::begun(name, (id, under.due_ms, under.scheduled), None, &under.instance, under.since_ms);
        let run = run.or_else(|| under.as_ref().map(elsewhere));
        Ok(run.map(|run| (run, under.and_then(|under| under.step))))
    }

    /// Begins a run now, whatever its schedule says. Returns its number.
    ///
    /// # Errors
    /// [`Refused::Busy`] where one is under way, anywhere; [`Refused::Larder`] when Redis cannot be reached.
    pub async fn run_now(&self, name: &str, by: Option<String>) -> Result<u64, Refused> {
        let inner = &self.0;
        let job = inner.job(name)?;
        if *inner.closing.borrow() {
            return Err(Refused::Closing);
        }
        inner.look(job).await;
        let (inner, name) = (inner.clone(), name.to_owned());
        // Whoever asked may go away in the middle, and what is claimed is to be begun all the same.
        let begun = tokio::spawn(async move {
            let job = inner.job(&name)?;
            match job.duty.claim(inner.now_ms(), false, &inner.instance, inner.pace.lease).await? {
                Claimed::Won(claim) if Inner::begin(&inner, &name, claim, by) => Ok(claim.token),
                Claimed::Won(_) => Err(Refused::Closing),
                // Over and paused are said of what is by schedule.
                Claimed::Held | Claimed::Over | Claimed::Paused => Err(Refused::Busy),
            }
        });
        begun.await.unwrap_or(Err(Refused::Closing))
    }

    /// Stops beginning runs by schedule, or goes on with it, on all instances.
    ///
    /// # Errors
    /// As [`run_now`](Self::run_now).
    pub async fn pause(&self, name: &str, paused: bool) -> Result<(), Refused> {
        let job = self.0.job(name)?;
        self.0.look(job).await;
        job.duty.pause(paused, self.0.now_ms()).await?;
        self.0.look(job).await;
        self.0.wake.notify_one();
        Ok(())
    }

    /// Has a run stop at its next step, wherever it is. Says whether it is under way.
    ///
    /// # Errors
    /// As [`run_now`](Self::run_now).
    pub async fn cancel(&self, name: &str, id: u64) -> Result<bool, Refused> {
        let job = self.0.job(name)?;
        let here = job.here.lock().clone().filter(|here| here.token == id);
        if let Some(here) = here {
            here.cancelled.notify_one();
            return Ok(true);
        }
        Ok(job.duty.cancel(id).await?)
    }

    /// What time it is for schedules.
    pub fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }
}

/// The jobs of a server, being looked after.
pub struct Running {
    jobs: Jobs,
    task: JoinHandle<()>,
}

impl Running {
    /// Begins to look after jobs. Those for which there is nothing to do are left out.
    ///
    /// # Errors
    /// When the file of runs cannot be opened.
    pub async fn begin(
        larder: &Larder,
        history: Option<History>,
        settings: &JobSettings,
        works: Works,
        pace: Pace,
    ) -> Result<Self, StoreError> {
        let (file, kept) = (settings.file.clone(), settings.runs_kept);
        let store = on_a_thread(move || Store::open(file.as_deref(), kept)).await?;
        let instance = larder.stats().log.shared.map_or_else(|| "this server".to_owned(), |shared| shared.instance);
        let jobs = settings.jobs.iter().filter(|definition| works.has(&definition.name));
        let jobs = jobs.map(|definition| Job::new(larder, definition, &store)).collect::<Result<_, _>>()?;
        let inner = Arc::new(Inner {
            larder: larder.clone(),
            history,
            reports: settings.reports.clone().map(|folder| (folder, settings.reports_kept)),
            works,
            jobs,
            store: Arc::new(Mutex::new(store)),
            pace,
            instance,
            wake: Notify::new(),
            closing: watch::Sender::new(false),
            runs: Mutex::default(),
        });
        let task = tokio::spawn(runner::look_after(inner.clone()));
        Ok(Running { jobs: Jobs(inner), task })
    }

    /// A handle on them.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Begins nothing any more, and has what is under way stop.
    pub fn close(&self) {
        self.jobs.0.closing.send_replace(true);
    }

    /// [Closes](Self::close), and returns when it has, or was dropped. What was under way by schedule is
    /// taken over by another instance, or begun again by the next process.
    pub async fn end(self) {
        self.close();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that looks after jobs ended out of order");
        }
        let runs = std::mem::take(&mut *self.jobs.0.runs.lock());
        for run in runs {
            if let Err(error) = run.await {
                tracing::error!(%error, "a run of a job ended out of order");
            }
        }
    }
}

impl Job {
    fn new(larder: &Larder, definition: &Definition, store: &Store) -> Result<Job, StoreError> {
        let name = &definition.name;
        let runs = store.runs(name, usize::MAX)?;
        let last_ok_ms = runs.iter().find(|run| run.outcome == Outcome::Ok).and_then(|run| run.ended_ms);
        let remembered = runs.first().map_or(0, |run| run.id);
        let seen = Seen { remembered, last_ok_ms, last_run: runs.into_iter().next(), ..Seen::default() };
        let duty = larder.duty(&format!("{DUTY_PREFIX}{name}")).expect("names of jobs are short");
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Ok(Job {
            definition: definition.clone(),
            duty,
            seen: Mutex::new(seen),
            looking: tokio::sync::Mutex::new(()),
            here: Mutex::new(None),
            counts,
        })
    }

    fn count(&self, outcome: Outcome) {
        let place = Outcome::ALL.iter().position(|one| *one == outcome).expect("all are there");
        self.counts[place].fetch_add(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn now_ms(&self) -> u64 {
        self.pace.now.as_ref().map_or_else(|| self.larder.clock().refresh(), |now| now())
    }

    fn job(&self, name: &str) -> Result<&Job, Refused> {
        self.jobs.iter().find(|job| job.definition.name == name).ok_or(Refused::Unknown)
    }

    fn view(&self, job: &Job, next: usize) -> View {
        let here = job.here.lock().clone();
        let seen = job.seen.lock();
        let step = |token: u64| Some(here.as_ref().filter(|here| here.token == token)?.progress.lock().now());
        let running = seen.standing.held.as_ref().map(|held| Under {
            id: held.token,
            due_ms: held.due_ms,
            scheduled: held.scheduled,
            instance: held.by.clone(),
            since_ms: held.since_ms,
            step: step(held.token),
        });
        let (paused, last, last_ok_ms) = (seen.standing.paused, seen.last_run.clone(), seen.last_ok_ms);
        let trouble = seen.trouble.clone();
        drop(seen);
        let next_ms = if paused { Vec::new() } else { job.definition.next_ms(self.now_ms(), next) };
        let counts = job.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        View { definition: job.definition.clone(), paused, running, last, last_ok_ms, next_ms, trouble, counts }
    }

    async fn stored<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        on_a_thread(move || act(&mut store.lock())).await
    }

    /// Keeps a run; that it cannot be kept is said, and changes nothing about what was done.
    async fn keep(&self, run: &Run) {
        let kept = run.clone();
        if let Err(error) = self.stored(move |store| store.put(&kept)).await {
            tracing::error!(job = run.job, id = run.id, %error, "a run of a job could not be written");
        }
    }
}

/// What blocks, on a thread that may.
async fn on_a_thread<T: Send + 'static>(act: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(StoreError::File(std::io::Error::other(error))))
}

/// Reasons to look at jobs: those that went badly last, and those of which it is not known how they stand.
pub fn troubles(views: &[View]) -> BTreeMap<&str, String> {
    let trouble = |view: &View| {
        if let Some(why) = &view.trouble {
            return Some(format!("it is not known how it stands: {why}"));
        }
        let last = view.last.as_ref().filter(|run| run.outcome.is_bad())?;
        let at = crate::moment::date_and_time(last.due_ms);
        let why = last.error.as_deref().unwrap_or("no reason is known");
        let how = match last.outcome {
            Outcome::Missed => "was missed",
            Outcome::TimedOut => "took too long",
            _ => "failed",
        };
        Some(format!("the run of {at} {how}: {why}"))
    };
    views.iter().filter_map(|view| Some((view.definition.name.as_str(), trouble(view)?))).collect()
}

#[cfg(test)]
mod tests;
