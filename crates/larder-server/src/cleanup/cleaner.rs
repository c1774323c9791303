//! The one clean-up that a server has under way: begun by whoever asks, looked at while it goes on, stopped, and remembered when it ended.

use std::sync::Arc;

use larder::Larder;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{CleanupError, Places, Report, clean_up};
use crate::progress::{Progress, Step};
use crate::settings::LettersKept;

/// See the head of this file. What is under way ends with it.
pub struct Cleaner {
    places: Places,
    /// Whoever has it cleans up: the second of two would look at what the first has just left.
    alone: Arc<tokio::sync::Mutex<()>>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    under_way: Option<UnderWay>,
    last: Option<Report>,
}

struct UnderWay {
    progress: Arc<Progress>,
    /// What does it, where that is this; a job is its own.
    task: Option<AbortHandle>,
}

/// What there is to be known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// How far the one is that is under way; null where none is.
    pub running: Option<Step>,
    /// What the last one gave back that has ended; null where none did since the server began.
    pub last: Option<Report>,
}

impl Cleaner {
    /// Nothing is under way.
    pub fn new(places: Places) -> Arc<Self> {
        Arc::new(Cleaner { places, alone: Arc::default(), known: Arc::default() })
    }

    /// For a cache that has nothing beside it that grows.
    pub fn of(larder: &Larder) -> Arc<Self> {
        Self::new(Places { larder: larder.clone(), history: None, audit: None, letters: LettersKept::default() })
    }

    /// Cleans up on the caller's own account, once nobody else does. It may be dropped at any moment.
    ///
    /// # Errors
    /// When a part failed; the others had their turn.
    pub async fn run(&self, progress: Arc<Progress>) -> Result<Json, CleanupError> {
        progress.at("waiting for another clean-up", 0, None);
        let alone = self.alone.lock().await;
        progress.at("beginning", 0, None);
        self.known.lock().under_way = Some(UnderWay { progress: progress.clone(), task: None });
        // Also where this is dropped half-way. It goes before the turn does, so that who sees that none is under way can begin one.
        let mut under_way = Ends { known: &self.known, began: Instant::now(), report: None };
        let report = clean_up(&self.places, &progress).await;
        under_way.report = Some(report.clone());
        drop(under_way);
        drop(alone);
        report.into_result()
    }

    /// Begins, on the runtime that this is called in, unless one is under way. Returns whether it did.
    pub fn begin(&self) -> bool {
        let mut known = self.known.lock();
        let Ok(alone) = self.alone.clone().try_lock_owned() else { return false };
        let progress = Arc::new(Progress::default());
        progress.at("beginning", 0, None);
        let (places, seen, to_tell) = (self.places.clone(), progress.clone(), self.known.clone());
        let task = tokio::spawn(async move {
            // Dropped behind what tells the end, so that who sees that none is under way can begin one; also where this panics.
            let _alone = alone;
            let mut under_way = Ends { known: &to_tell, began: Instant::now(), report: None };
            under_way.report = Some(clean_up(&places, &seen).await);
        });
        known.under_way = Some(UnderWay { progress, task: Some(task.abort_handle()) });
        true
    }

    /// Tells the one that is under way to stop after its next step. Returns whether there is one.
    pub fn cancel(&self) -> bool {
        let known = self.known.lock();
        known.under_way.iter().for_each(|one| one.progress.cancel());
        known.under_way.is_some()
    }

    /// What there is to be known.
    pub fn standing(&self) -> Standing {
        let known = self.known.lock();
        Standing { running: known.under_way.as_ref().map(|one| one.progress.now()), last: known.last.clone() }
    }

    /// Ends what is under way, wherever it is: the server ends.
    pub fn stop(&self) {
        // Not under the lock: what is aborted tells its end, and takes it for that.
        let under_way = self.known.lock().under_way.take();
        under_way.iter().for_each(|one| one.progress.cancel());
        under_way.iter().flat_map(|one| &one.task).for_each(AbortHandle::abort);
    }
}

/// While a clean-up is under way: its end is seen however it comes, and told.
struct Ends<'a> {
    known: &'a Mutex<Known>,
    began: Instant,
    /// What it came to, if it came to its end.
    report: Option<Report>,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let report = self.report.take().unwrap_or_else(|| {
            let why = if std::thread::panicking() { "it panicked, which is a fault of larder" } else { "it was dropped before its end" };
            let mut report = Report { cancelled: true, took_ms: crate::cleanup::ms_since(self.began), ..Report::default() };
            report.note("cleanup", Some(why));
            report
        });
        let mut known = self.known.lock();
        known.last = Some(report);
        known.under_way = None;
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.stop();
    }
}
