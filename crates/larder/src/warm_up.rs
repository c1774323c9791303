//! Warming up: at a start memory is filled from the backing tier with what was read most before, so that the first readers do not all
//! wait for a disk.
//!
//! ```text
//!   while it runs:  every few minutes, and when closed: entries of memory, by reads and by when they were read last ──> hot-keys
//!   at a start:     hot-keys, the hottest first, some at a time ──> backing tier ──> judged as for any reader (step 4) ──> memory
//!                   until all are there, the time or the bytes are used up, or the tier fails
//! ```
//!
//! Keys are recorded and never values, so there is nothing to become stale: whatever was invalidated meanwhile, in whatever process, is
//! turned down by the judge, as its record would be for a reader. The cache serves from the first moment on; whoever would rather wait
//! asks [`Larder::warmth`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::cache::{Larder, Shared};
use crate::error::{Error, ErrorKind, Result};

mod file;
mod record;

/// Keys that the backing tier is asked for at once.
const BATCH: usize = 64;

/// The most keys that can be recorded: some dozens of megabytes of them where they are long.
const KEYS_MAX: usize = 1_000_000;

/// How long the last recording may take, when the cache is closed: what is not looked at by then is left as it was recorded before.
const LAST_RECORDING_MAX: Duration = Duration::from_secs(2);

/// Of the memory there is, the part that is filled where nobody says: what is asked for in the first moments needs room as well.
const SHARE: f64 = 0.9;

/// How memory is warmed up: see [`Builder::warm_up`](crate::Builder::warm_up).
#[derive(Clone, Debug)]
#[must_use]
pub struct WarmUp {
    pub(crate) file: Option<PathBuf>,
    pub(crate) time: Duration,
    pub(crate) bytes: Option<u64>,
    pub(crate) keys: usize,
    pub(crate) every: Duration,
}

impl Default for WarmUp {
    fn default() -> Self {
        WarmUp { file: None, time: Duration::from_secs(30), bytes: None, keys: 100_000, every: Duration::from_secs(300) }
    }
}

impl WarmUp {
    /// The defaults.
    pub fn new() -> Self {
        WarmUp::default()
    }

    /// Where the keys are recorded. Default: `hot-keys` in the data folder; a cache without one has to say.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// How long filling may take. Default 30 s.
    pub fn time(mut self, most: Duration) -> Self {
        self.time = most;
        self
    }

    /// How many bytes of memory it may fill. Default: nine tenths of what there is.
    pub fn bytes(mut self, most: u64) -> Self {
        self.bytes = Some(most);
        self
    }

    /// How many keys are recorded, up to a million. Default 100,000.
    pub fn keys(mut self, most: usize) -> Self {
        self.keys = most;
        self
    }

    /// How often they are recorded, beside when the cache is closed. Default 5 min.
    pub fn every(mut self, period: Duration) -> Self {
        self.every = period;
        self
    }

    pub(crate) fn check(&self, data: Option<&Path>) -> Result<()> {
        let bad = |why: &'static str| Err(Error::new(ErrorKind::InvalidConfig, why));
        if self.keys == 0 || self.keys > KEYS_MAX {
            return bad("from one to a million keys are recorded to warm up with");
        }
        if self.every < Duration::from_secs(1) || self.time.is_zero() {
            return bad("keys to warm up with are recorded once a second at most, and filling takes some time");
        }
        if self.file.is_none() && data.is_none() {
            return bad("a cache without a data folder has to say where it records the keys to warm up with");
        }
        Ok(())
    }
}

/// Why filling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarmUpEnd {
    /// Every key was asked for.
    Done,
    /// There was nothing recorded.
    NothingRecorded,
    /// Its time was over.
    Time,
    /// The bytes were used up.
    Bytes,
    /// The backing tier failed, or what was recorded cannot be read.
    Failed,
}

/// How far memory is warmed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warmth {
    /// Why filling ended; `None` while it goes on.
    pub ended: Option<WarmUpEnd>,
    /// Keys that were recorded.
    pub keys: u64,
    /// Those that were asked for.
    pub asked: u64,
    /// Those that were brought into memory. The others are gone, stale, past their time, or had been read already.
    pub brought: u64,
    /// The bytes that they take there.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What a cache has for it.
pub(crate) struct Warmer {
    settings: WarmUp,
    path: PathBuf,
    warmth: watch::Sender<Warmth>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// One recording at a time, its file included, which is written on a thread that no abort ends: two would write over each other's.
    recording: Arc<tokio::sync::Mutex<()>>,
}

impl Warmer {
    pub(crate) fn new(settings: WarmUp, data: Option<&Path>) -> Option<Self> {
        let path = settings.file.clone().or_else(|| data.map(|data| data.join(file::NAME)))?;
        Some(Warmer { settings, path, warmth: watch::Sender::default(), tasks: Mutex::default(), recording: Arc::default() })
    }

    pub(crate) fn stop(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }

    /// What is hottest now, for the last time.
    pub(crate) async fn record_last(&self, shared: &Shared) {
        // A start that is not through yet knows less than what is recorded.
        if self.warmth.borrow().ended.is_none() {
            return;
        }
        if tokio::time::timeout(LAST_RECORDING_MAX, self.record(shared, Duration::ZERO)).await.is_err() {
            tracing::info!("memory was not gone through in time; the keys to warm up with are those recorded before");
        }
    }

    async fn record(&self, shared: &Shared, pause: Duration) {
        let alone = self.recording.clone().lock_owned().await;
        let keys = record::hottest(shared, self.settings.keys, pause).await;
        let path = self.path.clone();
        let writing = shared.runtime.spawn_blocking(move || {
            let written = file::write(&path, &keys);
            drop(alone);
            written
        });
        let writing = writing.await;
        match writing {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, path = %self.path.display(), "the keys to warm up with cannot be recorded"),
            Err(error) => tracing::warn!(%error, "the keys to warm up with were not recorded"),
        }
    }
}

/// Starts to fill memory, and to record once that has ended. The tasks hold the cache only while they work.
pub(crate) fn start(shared: &Arc<Shared>) {
    let Some(warmer) = &shared.warmer else { return };
    let weak = Arc::downgrade(shared);
    let task = shared.runtime.spawn(run(weak, warmer.settings.every));
    warmer.tasks.lock().push(task.abort_handle());
}

async fn run(weak: Weak<Shared>, every: Duration) {
    if let Some(shared) = weak.upgrade() {
        fill(&shared).await;
    }
    loop {
        tokio::time::sleep(every).await;
        let Some(shared) = weak.upgrade() else { return };
        if let Some(warmer) = &shared.warmer {
            warmer.record(&shared, record::PAUSE).await;
        }
    }
}

async fn fill(shared: &Arc<Shared>) {
    let Some(warmer) = &shared.warmer else { return };
    let began = Instant::now();
    let ended = match tokio::time::timeout(warmer.settings.time, fill_from_file(shared, warmer)).await {
        Ok(ended) => ended,
        Err(_) => WarmUpEnd::Time,
    };
    warmer.warmth.send_modify(|warmth| {
        warmth.ended = Some(ended);
        warmth.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    });
    let Warmth { keys, brought, bytes, took_ms, .. } = warmer.warmth.borrow().clone();
    tracing::info!(?ended, keys, brought, bytes, took_ms, "memory is warmed up");
}

async fn fill_from_file(shared: &Arc<Shared>, warmer: &Warmer) -> WarmUpEnd {
    let path = warmer.path.clone();
    let reading = shared.runtime.spawn_blocking(move || file::read(&path)).await;
    let keys = match reading {
        Ok(Ok(keys)) if keys.is_empty() => return WarmUpEnd::NothingRecorded,
        Ok(Ok(keys)) => keys,
        Ok(Err(error)) => {
            tracing::warn!(%error, path = %warmer.path.display(), "the keys to warm up with cannot be read; memory starts cold");
            return WarmUpEnd::Failed;
        }
        Err(_) => return WarmUpEnd::Failed,
    };
    warmer.warmth.send_modify(|warmth| warmth.keys = keys.len() as u64);
    let sizes: u64 = shared.pools().iter().map(|pool| pool.capacity()).sum();
    let most = warmer.settings.bytes.unwrap_or((sizes as f64 * SHARE) as u64);
    let mut keys = keys.into_iter().peekable();
    while keys.peek().is_some() {
        let mut batch: Vec<Box<[u8]>> = keys.by_ref().take(BATCH).collect();
        let asked = batch.len() as u64;
        while let Some(first) = batch.first() {
            // One visit to the tier for each namespace among them.
            let view = shared.raw_view(first);
            let (these, rest) = batch.into_iter().partition(|key| Arc::ptr_eq(&shared.space_of(key), &view.space));
            batch = rest;
            match view.warm(these).await {
                Ok((brought, bytes)) => warmer.warmth.send_modify(|warmth| {
                    warmth.brought += brought;
                    warmth.bytes += bytes;
                }),
                Err(error) => {
                    tracing::warn!(%error, "the backing tier failed while memory was warmed up from it");
                    return WarmUpEnd::Failed;
                }
            }
        }
        warmer.warmth.send_modify(|warmth| warmth.asked += asked);
        if warmer.warmth.borrow().bytes >= most {
            return WarmUpEnd::Bytes;
        }
    }
    WarmUpEnd::Done
}

impl Larder {
    /// How far memory is warmed up; `None` where the builder was not told to: [`Builder::warm_up`](crate::Builder::warm_up).
    pub fn warmth(&self) -> Option<Warmth> {
        self.0.warmer.as_ref().map(|warmer| warmer.warmth.borrow().clone())
    }

    /// Waits until memory is warmed up, or as far as that goes, and says how far it came. At once, where it is not to be.
    pub async fn warmed_up(&self) -> Option<Warmth> {
        let warmer = self.0.warmer.as_ref()?;
        let mut warmth = warmer.warmth.subscribe();
        let ended = warmth.wait_for(|warmth| warmth.ended.is_some()).await.expect("its sender lives as long as the cache");
        Some(ended.clone())
    }
}
