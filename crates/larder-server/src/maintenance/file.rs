//! What is written down of maintenance, so that a restart does not end it: whole or not at all, there after a crash, and gone when it is
//! over.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::wall_ms;

pub(super) const VERSION: u32 = 1;

/// What is written down of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub version: u32,
    pub since_ms: u64,
    pub until_ms: u64,
    pub length_ms: u64,
    pub by: String,
    pub reason: String,
    /// The event that began it, so that it does not begin it once more where it is delivered again after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

impl Written {
    /// What is left of it by the wall clock, and no more than it was to last: a clock that was set back does not make it longer.
    pub(super) fn left(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.until_ms.saturating_sub(now_ms).min(self.length_ms))
    }
}

/// What is written down, and not over. What is over is removed.
pub(super) fn left_behind(path: &Path) -> Option<Written> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "whether the server was under maintenance cannot be read; it takes writes");
            return None;
        }
    };
    let Some(written) = serde_json::from_slice::<Written>(&text).ok().filter(|written| written.version == VERSION) else {
        tracing::error!(path = %path.display(), "what is written down of maintenance is not understood; the server takes writes");
        return None;
    };
    if !written.left(wall_ms()).is_zero() {
        return Some(written);
    }
    // A clock that is set back later would have it begin anew.
    if let Err(error) = remove(path) {
        tracing::warn!(%error, path = %path.display(), "what is written down of a maintenance that is over cannot be removed");
    }
    None
}

/// Puts it in the place of what is there.
pub(super) fn replace(path: &Path, written: &Written) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(written).expect("it is texts and numbers");
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    io::Write::write_all(&mut file, &text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Removes it, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // Else a power cut brings it back, and a maintenance that had ended with it.
        Ok(()) => sync_folder(path),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
