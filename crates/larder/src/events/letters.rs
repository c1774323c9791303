//! Dead letters: events that a handler did not manage, however often it was told, kept until somebody looks at them.
//!
//! Where the cache has a folder each is a file of its own there and outlives the process; otherwise they are in memory. The
//! oldest go when there are too many, and are counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::event::Event;
use crate::error::{Error, ErrorKind, Result};

/// Dead letters kept at most.
pub const DEAD_LETTERS_MAX: usize = 1_000;

/// An event that a handler did not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// What it is called here.
    pub id: u64,
    /// The event, in the JSON format of CloudEvents.
    pub event: Json,
    /// Why the last try failed.
    pub reason: String,
    /// When that was, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which handler it was meant for, in the life of the process that wrote it.
    handler: u64,
    /// Drawn at random by each process, to tell its handlers from another's.
    life: u64,
}

/// See the head of this file.
pub(super) struct Letters {
    folder: Option<PathBuf>,
    life: u64,
    letters: Mutex<BTreeMap<u64, DeadLetter>>,
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
        Ok(Letters { folder, life: fastrand::u64(..), letters: Mutex::new(letters), dropped: AtomicU64::new(0) })
    }

    /// Keeps an event that a handler did not manage.
    pub(super) fn add(&self, event: &Event, handler: u64, reason: String, at_ms: u64) -> u64 {
        let mut letters = self.letters.lock();
        let id = letters.last_key_value().map_or(1, |(last, _)| last + 1);
        let letter = DeadLetter { id, event: event.to_json(), reason, at_ms, handler, life: self.life };
        if let Err(error) = self.write(&letter) {
            // In memory it still is.
            tracing::error!(%error, id, "a dead letter could not be written to its folder");
        }
        letters.insert(id, letter);
        while letters.len() > DEAD_LETTERS_MAX
            && let Some((oldest, _)) = letters.pop_first()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(id = oldest, "there are too many dead letters; the oldest was dropped");
            if let Err(error) = self.erase(oldest) {
                tracing::error!(%error, id = oldest, "a dead letter could not be removed from its folder");
            }
        }
        id
    }

    /// From the oldest on.
    pub(super) fn list(&self) -> Vec<DeadLetter> {
        self.letters.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<DeadLetter> {
        self.letters.lock().get(&id).cloned()
    }

    pub(super) fn remove(&self, id: u64) -> Result<bool> {
        let mut letters = self.letters.lock();
        if !letters.contains_key(&id) {
            return Ok(false);
        }
        // From the folder first: what is gone from memory must not come back with the next start.
        self.erase(id)?;
        letters.remove(&id);
        Ok(true)
    }

    pub(super) fn count(&self) -> u64 {
        self.letters.lock().len() as u64
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The handler that a letter is for, if it is of this process.
    pub(super) fn handler_of(&self, letter: &DeadLetter) -> Option<u64> {
        (letter.life == self.life).then_some(letter.handler)
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
    use super::*;

    #[test]
    fn letters_outlive_the_process_and_go_when_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Letters::open(Some(folder.path().join("dead"))).unwrap();
        let letters = open();
        let first = letters.add(&Event::new("t", Json::Null), 1, "no".into(), 7);
        let second = letters.add(&Event::new("t", Json::Null), 1, "no".into(), 8);
        assert!(letters.handler_of(&letters.get(first).unwrap()).is_some());
        let again = open();
        assert_eq!(again.list(), letters.list());
        assert!(again.handler_of(&again.get(first).unwrap()).is_none(), "its handler was another process's");
        assert!(again.remove(first).unwrap());
        assert!(!again.remove(first).unwrap());
        std::fs::write(folder.path().join("dead/junk.json"), "{").unwrap();
        assert_eq!(open().list().iter().map(|letter| letter.id).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let letters = Letters::open(None).unwrap();
        for n in 0..=DEAD_LETTERS_MAX as u64 {
            assert_eq!(letters.add(&Event::new("t", Json::Null), 1, "no".into(), 7), n + 1);
        }
        assert_eq!((letters.count(), letters.dropped()), (DEAD_LETTERS_MAX as u64, 1));
        assert!(letters.get(1).is_none());
    }
}
