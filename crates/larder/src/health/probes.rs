//! Probes: each part of the cache is really used, now and then, in the background, and what came of it is kept for whoever asks.
//!
//! ```text
//!   every so often ──> begin ──> answered in time ──────────> kept: as it should be, or what is wrong
//!                        │  └──> not in time ────────────────> kept: what is wrong; it goes on, and counts as under way
//!                        └─ too many under way: not begun ──> kept: what is wrong
//! ```
//!
//! Each part has a task and a limit of its own, so that one that hangs delays no other. What did not answer in time is not thrown
//! away at once: behind it may be a thread that waits for a disk, and whoever forgets those has one more with every probe. A few may
//! be under way; more than one, so that a part which lost a single answer is found well again when it is. The oldest is given up
//! after a while, for a part that lost them all.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::{backing, log, memory};
use crate::cache::{Larder, Shared};
use crate::position::Position;

/// Probes of one part that may be under way, of which all but the newest are late.
const UNDER_WAY_MAX: usize = 4;

/// After this long the oldest makes room for a new one.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// A log that others append to is heard by itself all the time; how that goes is looked at no less often than this.
const HEARD_EVERY: Duration = Duration::from_millis(200);

/// A part of the cache that is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// An entry is put into each pool of memory, read, compared and taken out.
    Memory,
    /// A record is written to the backing tier, past memory and past what waits to be written; read, compared and removed. While
    /// the tier's [breaker](crate::tier::BreakerState) is open it is left alone, and the probe says so; when the breaker would let
    /// one operation through, that is the probe's.
    Backing,
    /// Nothing is appended. A log of this process: its file is brought onto stable storage by the thread that does so for
    /// appends, and has room for more. One that is shared: it was confirmed, a moment ago, that nothing is missing here.
    Log,
}

impl Part {
    /// `memory`, `backing` or `log`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Memory => "memory",
            Part::Backing => "backing",
            Part::Log => "log",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What came of the last probe of a part: see [`Larder::probes`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// What is wrong; `None` where all is as it should be.
    pub trouble: Option<Trouble>,
    /// When the probe began.
    pub at: SystemTime,
    /// How long it took, or was waited for.
    pub took: Duration,
    /// Probes of this part so far.
    pub runs: u64,
    /// How many in a row, this one included, ended as this one did: well, or not.
    pub in_a_row: u64,
    /// How it stands with the log, where that is the part.
    pub log: Option<Confirmed>,
}

/// How far this instance has the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed {
    /// The last position that this instance knows, and its epoch.
    pub position: Position,
    /// Positions that it knows of and has not applied yet.
    pub behind: u64,
    /// For how long a log that is shared was not confirmed; `None` for a log of this process alone.
    pub unheard_for: Option<Duration>,
}

/// A part, and what came of its last probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probed {
    /// The part.
    pub part: Part,
    /// `None` until the first probe has ended, or its time is over.
    pub last: Option<Arc<Probe>>,
}

/// What one probe found.
pub(super) struct Found {
    pub(super) trouble: Option<Trouble>,
    pub(super) log: Option<Confirmed>,
}

pub(super) type Finding = Pin<Box<dyn Future<Output = Found> + Send>>;

/// The probes of a cache.
pub(crate) struct Probes {
    /// How often, and how long each may take.
    times: Option<(Duration, Duration)>,
    slots: Vec<(Part, Arc<Slot>)>,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Slot(ArcSwapOption<Probe>);

impl Probes {
    pub(crate) fn new(times: Option<(Duration, Duration)>, has_tier: bool) -> Self {
        let parts = [Some(Part::Memory), has_tier.then_some(Part::Backing), Some(Part::Log)];
        let slots = parts.into_iter().flatten().filter(|_| times.is_some()).map(|part| (part, Arc::default())).collect();
        Probes { times, slots, tasks: Mutex::default() }
    }

    pub(crate) fn stop(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }
}

/// Starts the tasks. They hold the cache only while they begin a probe, so that they end with the last handle.
pub(crate) fn start(shared: &Arc<Shared>) {
    let Some((every, limit)) = shared.probes.times else { return };
    let begin = |(part, slot): &(Part, Arc<Slot>)| {
        let every = if *part == Part::Log && shared.log.is_shared() { every.min(HEARD_EVERY) } else { every };
        shared.runtime.spawn(rounds(Arc::downgrade(shared), *part, slot.clone(), (every, limit))).abort_handle()
    };
    *shared.probes.tasks.lock() = shared.probes.slots.iter().map(begin).collect();
}

async fn rounds(weak: Weak<Shared>, part: Part, slot: Arc<Slot>, (every, limit): (Duration, Duration)) {
    let mut under_way = UnderWay::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (at, began) = (SystemTime::now(), Instant::now());
        let found = if under_way.has_room(began) {
            let Some(finding) = begin(&weak, part, limit) else { return };
            let (tell, told) = oneshot::channel();
            // Nobody listens any more where it is late.
            under_way.add(began, tokio::spawn(async move { drop(tell.send(finding.await)) }).abort_handle());
            match tokio::time::timeout(limit, told).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => {
                    Found::trouble(format!("the probe of the {part} panicked"), "this is a fault of larder, or of a tier of your own")
                }
                Err(_) => late(&weak, part, limit),
            }
        } else {
            let what = format!("{UNDER_WAY_MAX} probes of the {part} have not returned; no more are begun until one does");
            Found::trouble(what, advice(part))
        };
        slot.keep(found, at, began.elapsed());
    }
}

/// Probes of one part that have not ended, the oldest first. They end with it.
#[derive(Default)]
struct UnderWay(VecDeque<(Instant, AbortHandle)>);

impl UnderWay {
    fn has_room(&mut self, now: Instant) -> bool {
        self.0.retain(|(_, probe)| !probe.is_finished());
        let is_full = self.0.len() >= UNDER_WAY_MAX;
        if is_full && self.0.front().is_some_and(|(began, _)| now.duration_since(*began) >= GIVEN_UP_AFTER) {
            self.0.drain(..1).for_each(|(_, oldest)| oldest.abort());
        }
        self.0.len() < UNDER_WAY_MAX
    }

    fn add(&mut self, began: Instant, probe: AbortHandle) {
        self.0.push_back((began, probe));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, probe)| probe.abort());
    }
}

/// `None` once the cache is gone.
fn begin(weak: &Weak<Shared>, part: Part, limit: Duration) -> Option<Finding> {
    let shared = weak.upgrade()?;
    Some(match part {
        Part::Memory => memory::begin(&shared),
        Part::Backing => backing::begin(&shared, limit),
        Part::Log => log::begin(&shared, limit),
    })
}

fn late(weak: &Weak<Shared>, part: Part, limit: Duration) -> Found {
    let tier = weak.upgrade().filter(|_| part == Part::Backing).and_then(|shared| shared.tier.clone());
    let queued = tier.map(|tier| tier.stats().queued).filter(|queued| *queued > 0);
    let queued = queued.map(|writes| format!(", where {writes} writes wait")).unwrap_or_default();
    Found::trouble(format!("the {part} did not answer within {limit:?}{queued}"), advice(part))
}

fn advice(part: Part) -> &'static str {
    match part {
        Part::Memory => "the process gets no processor time, or is stuck: look at its load, and restart it if that does not help",
        Part::Backing => "see to the disk or the Redis that it is on; reads go on in memory, and it is tried again by itself",
        Part::Log => "see to the disk that holds the data folder, or to Redis",
    }
}

impl Found {
    pub(super) fn well() -> Self {
        Found { trouble: None, log: None }
    }

    pub(super) fn trouble(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Found { trouble: Some(Trouble { what: what.into(), advice: advice.into() }), log: None }
    }
}

impl Slot {
    /// Only the part's own task writes here.
    fn keep(&self, Found { trouble, log }: Found, at: SystemTime, took: Duration) {
        let before = self.0.load();
        let runs = before.as_ref().map_or(0, |before| before.runs) + 1;
        let alike = before.as_ref().filter(|before| before.trouble.is_some() == trouble.is_some());
        let in_a_row = alike.map_or(0, |before| before.in_a_row) + 1;
        self.0.store(Some(Arc::new(Probe { trouble, at, took, runs, in_a_row, log })));
    }
}

impl Larder {
    /// What came of the last probe of each part; nothing where [probes](crate::Builder::probe_every) are off. Asks nobody, waits
    /// for nothing, and takes no lock.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    /// let larder = larder::Larder::builder().probe_every(Duration::from_secs(5)).build().await?;
    /// let parts: Vec<_> = larder.probes().iter().map(|probed| probed.part.name()).collect();
    /// assert_eq!(parts, ["memory", "log"]);
    /// # Ok(()) }
    /// ```
    pub fn probes(&self) -> Vec<Probed> {
        self.0.probes.slots.iter().map(|(part, slot)| Probed { part: *part, last: slot.0.load_full() }).collect()
    }
}
