//! Dead letters: events that a handler did not manage, however often it was told, and those that a source delivered and that
//! could not be carried out. They are kept until somebody looks at them.
//!
//! Where the cache has a folder each is a file of its own there and outlives the process; otherwise they are in memory. The
//! oldest go when there are too many, and are counted. Files are written and removed one at a time, on a thread where that may
//! wait: the lock that keeps them in order is let go of by that thread, so a caller that stops waiting changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::runtime::Handle;

use super::trace::shortened;
use crate::error::{Error, ErrorKind, Result};

/// Dead letters kept at most.
pub const DEAD_LETTERS_MAX: usize = 1_000;

/// The longest reason that is kept, in bytes: a handler's error may hold a whole answer of somebody else.
const REASON_LEN_MAX: usize = 4_096;

/// An event that was not managed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// What it is called here.
    pub id: u64,
    /// The event, in the JSON format of CloudEvents.
    pub event: Json,
    /// What failed.
    #[serde(default)]
    pub failed: Failing,
    /// Why the last try failed. For an event that could not be carried out it names the rule and the field.
    pub reason: String,
    /// When that was, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which handler it was meant for, in the life of the process that wrote it. 0: none.
    handler: u64,
    /// Drawn at random by each process, to tell its handlers from another's.
    life: u64,
}

/// What failed with an event that is a dead letter, and so what has to be mended before it is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failing {
    /// A handler. What the rules say of the event has taken effect.
    #[default]
    Handler,
    /// The event itself: it is none, or a rule needs what it does not have. Nothing of it took effect.
    Event,
}

impl Failing {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Failing::Handler => "handler",
            Failing::Event => "event",
        }
    }
}

/// See the head of this file.
pub(super) struct Letters {
    shared: Arc<Shared>,
    /// Whoever has it may change files. Taken before `letters` is locked, and in the order in which it was asked for.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Shared {
    folder: Option<PathBuf>,
    life: u64,
    letters: Mutex<BTreeMap<u64, DeadLetter>>,
    /// The last that was given; none is given twice, or somebody who looked at one letter would drop another.
    last: AtomicU64,
    dropped: AtomicU64,
}

impl Letters {
    /// Reads those that are in the folder. A file that is no letter is left alone, and said.
    pub(super) fn open(folder: Option<PathBuf>) -> Result<Self> {
        let mut letters = BTreeMap::new();
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).map_err(|e| failed("make the folder", folder, e))?;
            for file in std::fs::read_dir(folder).map_err(|e| failed("read", folder, e))? {
                let path = file.map_err(|e| failed("read", folder, e))?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let text = std::fs::read(&path).map_err(|e| failed("read", &path, e))?;
                match serde_json::from_slice::<DeadLetter>(&text) {
                    Ok(letter) => drop(letters.insert(letter.id, letter)),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a file among the dead letters is none; it is left alone"),
                }
            }
        }
        let last = AtomicU64::new(letters.last_key_value().map_or(0, |(last, _)| *last));
        let shared = Shared { folder, life: fastrand::u64(..), letters: Mutex::new(letters), last, dropped: AtomicU64::new(0) };
        Ok(Letters { shared: Arc::new(shared), turn: Arc::default() })
    }

    /// Keeps an event that was not managed: by this handler, or, with none, because it could not be carried out. Returns once the
    /// file is written, so that what is acknowledged after it is not lost with the process.
    pub(super) async fn add(&self, event: Json, handler: Option<u64>, reason: &str, at_ms: u64, runtime: &Handle) -> u64 {
        let turn = self.turn.clone().lock_owned().await;
        let shared = self.shared.clone();
        let id = shared.last.fetch_add(1, Ordering::Relaxed) + 1;
        let reason = shortened(reason, REASON_LEN_MAX).to_owned();
        let failed = if handler.is_some() { Failing::Handler } else { Failing::Event };
        let letter = DeadLetter { id, event, failed, reason, at_ms, handler: handler.unwrap_or(0), life: shared.life };
        let keep = move || {
            shared.keep(letter);
            drop(turn);
        };
        if runtime.spawn_blocking(keep).await.is_err() {
            tracing::error!(id, "the runtime was shut down before a dead letter was written");
        }
        id
    }

    /// From the oldest on.
    pub(super) fn list(&self) -> Vec<DeadLetter> {
        self.shared.letters.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<DeadLetter> {
        self.shared.letters.lock().get(&id).cloned()
    }

    pub(super) async fn remove(&self, id: u64, runtime: &Handle) -> Result<bool> {
        let turn = self.turn.clone().lock_owned().await;
        let shared = self.shared.clone();
        let remove = move || {
            let removed = shared.remove(id);
            drop(turn);
            removed
        };
        let closed = |_| Err(Error::new(ErrorKind::Closed, "the runtime was shut down before a dead letter was removed"));
        runtime.spawn_blocking(remove).await.unwrap_or_else(closed)
    }

    pub(super) fn count(&self) -> u64 {
        self.shared.letters.lock().len() as u64
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The handler that a letter is for, if it is of this process.
    pub(super) fn handler_of(&self, letter: &DeadLetter) -> Option<u64> {
        (letter.life == self.shared.life).then_some(letter.handler)
    }
}

impl Shared {
    fn keep(&self, letter: DeadLetter) {
        let id = letter.id;
        if let Err(error) = self.write(&letter) {
            // In memory it still is.
            tracing::error!(%error, id, "a dead letter could not be written to its folder");
        }
        let oldest = {
            let mut letters = self.letters.lock();
            letters.insert(id, letter);
            (letters.len() > DEAD_LETTERS_MAX).then(|| letters.pop_first()).flatten()
        };
        if let Some((oldest, _)) = oldest {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(id = oldest, "there are too many dead letters; the oldest was dropped");
            if let Err(error) = self.erase(oldest) {
                tracing::error!(%error, id = oldest, "a dead letter could not be removed from its folder");
            }
        }
    }

    fn remove(&self, id: u64) -> Result<bool> {
        if !self.letters.lock().contains_key(&id) {
            return Ok(false);
        }
        // From the folder first: what is gone from memory must not come back with the next start.
        self.erase(id)?;
        self.letters.lock().remove(&id);
        Ok(true)
    }

    fn write(&self, letter: &DeadLetter) -> Result<()> {
        let Some(path) = self.path(letter.id) else { return Ok(()) };
        let text =
            serde_json::to_vec_pretty(letter).map_err(|e| Error::new(ErrorKind::Codec, "a dead letter is no JSON").with_source(e))?;
        // Whole or not at all.
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path)).map_err(|e| failed("write", &path, e))
    }

    fn erase(&self, id: u64) -> Result<()> {
        match self.path(id).map(|path| (std::fs::remove_file(&path), path)) {
            Some((Err(e), path)) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &path, e)),
            _ => Ok(()),
        }
    }

    fn path(&self, id: u64) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{id:012}.json")))
    }
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Tier, format!("cannot {what} {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::*;

    async fn add(letters: &Letters, at_ms: u64) -> u64 {
        letters.add(Event::new("t", Json::Null).to_json(), Some(1), "no", at_ms, &Handle::current()).await
    }

    #[tokio::test]
    async fn letters_outlive_the_process_and_go_when_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Letters::open(Some(folder.path().join("dead"))).unwrap();
        let letters = open();
        let (first, second) = (add(&letters, 7).await, add(&letters, 8).await);
        assert!(letters.handler_of(&letters.get(first).unwrap()).is_some());
        let again = open();
        assert_eq!(again.list(), letters.list());
        assert!(again.handler_of(&again.get(first).unwrap()).is_none(), "its handler was another process's");
        assert!(again.remove(first, &Handle::current()).await.unwrap());
        assert!(!again.remove(first, &Handle::current()).await.unwrap());
        std::fs::write(folder.path().join("dead/junk.json"), "{").unwrap();
        assert_eq!(open().list().iter().map(|letter| letter.id).collect::<Vec<_>>(), [second]);
    }

    #[tokio::test]
    async fn an_identifier_is_not_given_again_and_a_reason_is_not_endless() {
        let letters = Letters::open(None).unwrap();
        let first = add(&letters, 7).await;
        assert!(letters.remove(first, &Handle::current()).await.unwrap());
        assert_eq!(add(&letters, 8).await, first + 1);
        let long = "\u{e4}".repeat(REASON_LEN_MAX);
        let third = letters.add(Json::Null, None, &long, 9, &Handle::current()).await;
        let third = letters.get(third).unwrap();
        assert_eq!((third.failed, third.reason.len()), (Failing::Event, REASON_LEN_MAX));
    }

    #[tokio::test]
    async fn letters_of_many_at_once_are_all_kept_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let letters = Arc::new(Letters::open(Some(folder.path().to_owned())).unwrap());
        let adding: Vec<_> = (0..32)
            .map(|at_ms| {
                let letters = letters.clone();
                tokio::spawn(async move { add(&letters, at_ms).await })
            })
            .collect();
        for (adding, expected) in adding.into_iter().zip(1..) {
            assert_eq!(adding.await.unwrap(), expected, "who came first is written first");
        }
        let of = |letters: &Letters| letters.list().iter().map(|letter| letter.at_ms).collect::<Vec<_>>();
        assert_eq!(of(&letters), (0..32).collect::<Vec<_>>());
        assert_eq!(of(&Letters::open(Some(folder.path().to_owned())).unwrap()), of(&letters));
    }

    #[tokio::test]
    async fn a_caller_that_stops_waiting_leaves_the_order_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let letters = Letters::open(Some(folder.path().to_owned())).unwrap();
        let first = add(&letters, 7).await;
        let runtime = Handle::current();
        for _ in 0..20 {
            // Polled once, so that the removal has begun, and given up.
            let mut removing = Box::pin(letters.remove(first, &runtime));
            std::future::poll_fn(|context| {
                drop(removing.as_mut().poll(context));
                std::task::Poll::Ready(())
            })
            .await;
            drop(removing);
            add(&letters, 8).await;
        }
        assert_eq!(letters.count(), 20);
        let again = Letters::open(Some(folder.path().to_owned())).unwrap();
        assert_eq!(again.list(), letters.list(), "what is in memory is what is on the disk");
    }

    #[tokio::test]
    async fn the_oldest_go_when_there_are_too_many() {
        let letters = Letters::open(None).unwrap();
        for n in 0..=DEAD_LETTERS_MAX as u64 {
            assert_eq!(add(&letters, 7).await, n + 1);
        }
        assert_eq!((letters.count(), letters.dropped()), (DEAD_LETTERS_MAX as u64, 1));
        assert!(letters.get(1).is_none());
    }
}
