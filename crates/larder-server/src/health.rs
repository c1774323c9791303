//! How the server and what it stands on are: looked at in the background, one part after another or side by side, and answered
//! from what was found last, so that whoever asks waits for nothing, whatever hangs.
//!
//! ```text
//!   the cache's probes ─┐
//!   disk, sources,      ├─ looks ──> judge (how many in a row) ──> slot of the component ──> Report
//!   certificates,       │             every component has a task and a judge of its own
//!   performance        ─┘
//! ```
//!
//! A component is *healthy*; *degraded* where something works worse than it should, and goes on; *unhealthy* where somebody
//! should come. What is wrong is said with what to do about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use larder::Larder;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::exposure::Exposed;
use crate::jobs::Jobs;
use crate::maintenance::Maintenance;
use crate::promise::Promise;
use crate::settings::HealthLimits;
use crate::tls::Tls;
use certificates::Certificate;
use judge::Judge;

mod audit;
mod cache;
pub mod certificates;
mod disk;
mod exposure;
mod judge;
mod maintenance;
mod performance;
mod process;
mod scheduler;
mod sources;

/// How a component is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    #[default]
    Healthy,
    /// It works worse than it should.
    Degraded,
    /// Somebody should come.
    Unhealthy,
}

impl State {
    /// `healthy`, `degraded` or `unhealthy`.
    pub fn name(self) -> &'static str {
        match self {
            State::Healthy => "healthy",
            State::Degraded => "degraded",
            State::Unhealthy => "unhealthy",
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// A number that was found, or a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What it is of, as `responseTime`.
    pub what: &'static str,
    /// Which one, where there are several.
    pub id: Option<String>,
    /// The value.
    pub value: Json,
    /// Its unit, if it has one.
    pub unit: Option<&'static str>,
}

impl Observed {
    fn new(what: &'static str, value: impl Into<Json>, unit: &'static str) -> Self {
        Observed { what, id: None, value: value.into(), unit: Some(unit) }
    }

    fn of(self, id: impl Into<String>) -> Self {
        Observed { id: Some(id.into()), ..self }
    }
}

/// What one look found.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// How it is, going by this look alone.
    pub state: State,
    /// Why; there where it is not healthy.
    pub reason: Option<Reason>,
    /// What was measured.
    pub observed: Vec<Observed>,
}

impl Look {
    fn healthy(observed: Vec<Observed>) -> Self {
        Look { state: State::Healthy, reason: None, observed }
    }

    fn bad(state: State, what: impl Into<String>, advice: impl Into<String>, observed: Vec<Observed>) -> Self {
        Look { state, reason: Some(Reason { what: what.into(), advice: advice.into() }), observed }
    }
}

/// A part of the server or of what it stands on, and how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// What kind it is, as the draft for health in JSON has it: `component`, `datastore` or `system`.
    pub kind: &'static str,
    /// Whether requests should go elsewhere while it is unhealthy.
    pub needed: bool,
    /// How it is, after so many looks in a row as that takes.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// When it was looked at last.
    pub at: SystemTime,
    /// Why it is not healthy.
    pub reason: Option<Reason>,
    /// What the last look measured.
    pub observed: Vec<Observed>,
}

/// The names of all components that there can be, in the order in which they are told.
pub const NAMES: [&str; 12] = [
    "memory",
    "backing",
    "log",
    "disk",
    "sources",
    "certificates",
    "exposure",
    "audit",
    "process",
    "maintenance",
    "scheduler",
    "performance",
];

/// What to look at, beside the cache itself.
#[derive(Clone, Default)]
pub struct Watched {
    /// When what is found counts as how.
    pub limits: HealthLimits,
    /// The folder whose disk should have room, where there is one.
    pub data: Option<PathBuf>,
    /// Certificates that should not run out.
    pub certificates: Vec<Certificate>,
    /// What TLS is spoken with to clients, whose certificates should not run out, either.
    pub tls: Option<Arc<Tls>>,
    /// Doors that are open to more than this machine, and lack something.
    pub exposed: Vec<Exposed>,
    /// Where what is done is recorded, if it is.
    pub audit: Option<Arc<Audit>>,
    /// Whether it is under maintenance.
    pub maintenance: Option<Arc<Maintenance>>,
    /// What the process has of what it may have.
    pub promise: Option<Arc<Promise>>,
    /// What the server does by itself, if it does anything.
    pub jobs: Option<Jobs>,
}

/// The looks under way, and what they found. They end with it.
pub struct Health {
    slots: Vec<Arc<Slot>>,
    started: Arc<AtomicBool>,
    looks: JoinSet<()>,
}

/// What is known of a component; nothing before the first look.
type Known = ArcSwapOption<Component>;

struct Slot {
    name: &'static str,
    kind: &'static str,
    needed: bool,
    known: Known,
}

impl Health {
    /// Begins to look, in the background of the runtime that this is called in.
    pub fn watch(larder: &Larder, watched: Watched, is_strict: bool) -> Self {
        let Watched { limits, data, certificates, tls, exposed, audit, maintenance, promise, jobs } = watched;
        let mut health = Health { slots: Vec::new(), started: Arc::default(), looks: JoinSet::new() };
        cache::watch(&mut health, larder, &limits, is_strict);
        if let Some(folder) = data {
            disk::watch(&mut health, folder, &limits);
        }
        sources::watch(&mut health, larder, &limits);
        if tls.is_some() || !certificates.is_empty() {
            certificates::watch(&mut health, larder, (certificates, tls), &limits);
        }
        if !exposed.is_empty() {
            exposure::watch(&mut health, &exposed, &limits);
        }
        if let Some(audit) = audit {
            audit::watch(&mut health, audit, &limits);
        }
        if let Some(promise) = promise.filter(|promise| promise.budget().is_some()) {
            process::watch(&mut health, promise, &limits);
        }
        if let Some(maintenance) = maintenance {
            self::maintenance::watch(&mut health, maintenance, &limits);
        }
        if let Some(jobs) = jobs {
            scheduler::watch(&mut health, jobs, &limits);
        }
        performance::watch(&mut health, larder, &limits);
        health
    }

    /// Every component that was looked at, in the order of [`NAMES`].
    pub fn components(&self) -> Vec<Arc<Component>> {
        self.slots.iter().filter_map(|slot| slot.known.load_full()).collect()
    }

    /// Whether the server has started: each part of the cache was probed, and the log was caught up with, or found away by a
    /// server that goes on without it. What has started stays so.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The worst state of all.
    pub fn state(components: &[Arc<Component>]) -> State {
        components.iter().map(|component| component.state).max().unwrap_or_default()
    }

    fn add(&mut self, name: &'static str, kind: &'static str, needed: bool) -> Arc<Slot> {
        let slot = Arc::new(Slot { name, kind, needed, known: Known::default() });
        self.slots.push(slot.clone());
        slot
    }

    fn spawn(&mut self, looking: impl Future<Output = ()> + Send + 'static) {
        self.looks.spawn(looking);
    }
}

impl Slot {
    fn publish(&self, judge: &Judge, look: Look, at: SystemTime) {
        let Slot { name, kind, needed, .. } = *self;
        let reason = judge.reason().cloned();
        let component = Component { name, kind, needed, state: judge.state(), since: judge.since(), at, reason, observed: look.observed };
        self.known.store(Some(Arc::new(component)));
    }
}

/// Looks at a component again and again. A look that has not ended in time is bad; it goes on, and none other is begun until it
/// ends: one that hangs may hold a thread.
async fn look_on<F, L>(slot: Arc<Slot>, mut judge: Judge, (every, limit): (Duration, Duration), late: Look, mut look: F)
where
    F: FnMut() -> L,
    L: Future<Output = Look> + Send + 'static,
{
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    loop {
        ticks.tick().await;
        if under_way.is_empty() {
            under_way.spawn(look());
        }
        let found = match tokio::time::timeout(limit, under_way.join_next()).await {
            Ok(Some(Ok(found))) => found,
            Ok(_) => Look::bad(State::Unhealthy, format!("looking at the {} panicked", slot.name), "this is a fault of larder", Vec::new()),
            Err(_) => late.clone(),
        };
        let at = SystemTime::now();
        judge.take(&found, at);
        slot.publish(&judge, found, at);
    }
}

/// Milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests;
