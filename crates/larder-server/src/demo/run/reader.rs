//! A reader: reads, judges, times and counts, again and again.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::super::cache::{Answer, DemoCache, HeldTo, Served};
use super::super::histogram::Histogram;
use super::super::keyspace::{Key, Kind};
use super::super::source::DemoValue;
use super::super::staleness::Staleness;
use super::super::world::AsOf;
use super::{Extent, Live, RunError, Settings, Stage};

/// Reads between two looks at the world outside: publishing counts, yielding to the feed, noticing a stop.
const BATCH: u64 = 64;
/// One read in so many, at random, has its value recomputed and compared.
const VERIFIED_ONE_IN: u64 = 256;

/// When one reader is done.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// At this time.
    Time(Instant),
    /// After this many of its own reads.
    Reads(u64),
}

impl Until {
    /// The share of reader `number` in a run that begins now.
    pub fn of(settings: &Settings, number: u64, began: Instant) -> Self {
        match settings.extent {
            Extent::For(time) => Self::Time(began + time),
            Extent::Reads(all) => {
                let (each, rest) = (all / settings.readers, all % settings.readers);
                Self::Reads(each + u64::from(number < rest))
            }
        }
    }

    fn reached(self, reads: u64, now: Instant) -> bool {
        match self {
            Self::Time(end) => now >= end,
            Self::Reads(count) => reads >= count,
        }
    }
}

/// What readers counted.
#[derive(Debug, Default)]
pub struct ReaderTally {
    /// The verdicts.
    pub staleness: Staleness,
    /// How long reads took.
    pub latency: Histogram,
    /// Reads answered by the memory tier.
    pub memory: u64,
    /// Reads answered by the tier behind it.
    pub backing: u64,
    /// Reads that waited for another's load.
    pub joined: u64,
    /// Reads that loaded.
    pub loaded: u64,
    /// Values recomputed and compared.
    pub values_verified: u64,
    /// Of these, the ones that differed.
    pub wrong_values: u64,
}

impl ReaderTally {
    /// Adds another reader's counts.
    pub fn merge(&mut self, other: Self) {
        self.staleness.merge(&other.staleness);
        self.latency.merge(&other.latency);
        self.memory += other.memory;
        self.backing += other.backing;
        self.joined += other.joined;
        self.loaded += other.loaded;
        self.values_verified += other.values_verified;
        self.wrong_values += other.wrong_values;
    }

    fn hits(&self) -> u64 {
        self.memory + self.backing
    }

    /// Takes one answer into account; returns when it came.
    fn judge<V, H>(&mut self, stage: &Stage, question: &Question<'_>, answer: &Answer<H>) -> Instant
    where
        V: DemoValue,
        H: Deref<Target = V>,
    {
        let now = Instant::now();
        let Question { key, expected, began, verified } = *question;
        self.latency.record(now - began);
        match answer.served {
            Served::Memory => self.memory += 1,
            Served::Backing => self.backing += 1,
            Served::Joined => self.joined += 1,
            Served::Loaded => self.loaded += 1,
        }
        let found = answer.value.as_of();
        self.staleness.check(&stage.world, key, expected, began, found);
        if verified {
            self.values_verified += 1;
            self.wrong_values += u64::from(!is_true(stage, key, found, &*answer.value));
        }
        now
    }
}

/// A read that is about to be made.
#[derive(Clone, Copy)]
struct Question<'a> {
    key: &'a Key,
    /// What it is held to, as it stood before the read began.
    expected: AsOf,
    began: Instant,
    /// Whether its value is to be recomputed.
    verified: bool,
}

/// One task that reads.
pub struct Reader<C> {
    cache: Arc<C>,
    stage: Arc<Stage>,
    live: Arc<Live>,
    random: fastrand::Rng,
    tally: ReaderTally,
}

impl<C: DemoCache> Reader<C> {
    /// A reader with dice of its own.
    pub fn new(cache: &Arc<C>, stage: &Arc<Stage>, live: &Arc<Live>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (cache, stage, live) = (Arc::clone(cache), Arc::clone(stage), Arc::clone(live));
        Self { cache, stage, live, random, tally: ReaderTally::default() }
    }

    /// Reads until it is done or told to stop.
    pub async fn read_until(
        mut self,
        until: Until,
        rest: Option<Duration>,
        stopped: watch::Receiver<bool>,
    ) -> Result<ReaderTally, RunError> {
        let mut reads = 0;
        let mut done = until.reached(reads, Instant::now());
        while !done && !*stopped.borrow() {
            let (hits, stale) = (self.tally.hits(), self.tally.staleness.stale_reads);
            let batch_began_at = reads;
            while !done && reads < batch_began_at + BATCH {
                let now = self.read_one().await?;
                reads += 1;
                done = until.reached(reads, now);
                if let Some(rest) = rest {
                    tokio::time::sleep(rest).await;
                }
            }
            Live::add(&self.live.reads, reads - batch_began_at);
            Live::add(&self.live.hits, self.tally.hits() - hits);
            Live::add(&self.live.stale, self.tally.staleness.stale_reads - stale);
            // Hits never wait, so without this a reader would keep its worker from the feed and the timers.
            tokio::task::yield_now().await;
        }
        Ok(self.tally)
    }

    async fn read_one(&mut self) -> Result<Instant, RunError> {
        let Self { cache, stage, random, tally, .. } = self;
        let key = stage.keyspace.key(stage.workload.draw(random));
        let failed = |error: C::Error| RunError::Read { key: key.name.clone(), error: Box::new(error) };
        let verified = random.u64(..VERIFIED_ONE_IN) == 0;
        // What stands by now is what the read is held to, so this comes before it.
        let expected = match cache.held_to() {
            HeldTo::Acknowledged => stage.world.acknowledged(key),
            HeldTo::Settled => stage.world.settled(key),
        };
        let question = Question { key, expected, began: Instant::now(), verified };
        match key.kind {
            Kind::Features => {
                let answer = cache.features(key, &stage.source).await.map_err(failed)?;
                Ok(tally.judge(stage, &question, &answer))
            }
            Kind::Prediction(_) => {
                let answer = cache.prediction(key, &stage.source).await.map_err(failed)?;
                Ok(tally.judge(stage, &question, &answer))
            }
        }
    }
}

/// Whether a value is exactly what its bar and release make of its key: not another key's, not torn, not made up.
fn is_true<V: DemoValue>(stage: &Stage, key: &Key, found: AsOf, value: &V) -> bool {
    let current = stage.world.current(key);
    let happened = (1..=current.bar).contains(&found.bar) && found.release <= current.release;
    let complete = found.release.is_some() == current.release.is_some();
    happened && complete && V::compute(&stage.world, key, found) == *value
}
