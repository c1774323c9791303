//! Reading a backup's files: each is had whole, compared with what the manifest says, and only then taken apart.

use std::fs::{File, TryLockError};
use std::path::Path;

use bytes::Bytes;

use super::frame::{FileReader, Kind, bad};
use super::manifest::{INDEX, Manifest, segment_name};
use super::{Place, cannot_read};
use crate::error::Result;
use crate::freshness::{Index, Snapshot};
use crate::log::snapshot_with_replay;
use crate::position::Epoch;

/// What a piece of a file is handed to: its name, where its frame begins, and the bytes.
pub(super) type Each<'a> = dyn FnMut(&str, u64, Bytes) -> Result<()> + 'a;

/// Every frame of a segment, numbered from 1, in order. Nothing of it is handed out before all of it was found to be what it should be.
pub(super) fn segment(place: &dyn Place, manifest: &Manifest, number: usize, each: &mut Each<'_>) -> Result<()> {
    let seal = &manifest.segments[number - 1];
    frames(place, manifest, &segment_name(number), (Kind::Records, number as u32), (seal.bytes, &seal.blake3), each)
}

/// The freshness index of a backup.
pub(super) fn index(place: &dyn Place, manifest: &Manifest) -> Result<Snapshot> {
    let seal = &manifest.index;
    let name = format!("{}/{INDEX}", manifest.name);
    let mut raw = Vec::new();
    frames(place, manifest, INDEX, (Kind::Index, 1), (seal.bytes, &seal.blake3), &mut |_, at, frame| {
        raw.extend_from_slice(&frame);
        if raw.len() as u64 > seal.raw_bytes { Err(bad(&name, at, "has more in it than the manifest says")) } else { Ok(()) }
    })?;
    if raw.len() as u64 != seal.raw_bytes {
        return Err(bad(&name, seal.bytes, "has less in it than the manifest says"));
    }
    let snapshot = Snapshot::decode(&raw).ok_or_else(|| bad(&name, 0, "is no freshness index"))?;
    if (snapshot.epoch, snapshot.head) != (manifest.epoch(), seal.head) {
        return Err(bad(&name, 0, "is the freshness index of another backup"));
    }
    Ok(snapshot)
}

/// What a log on this machine knows.
pub(super) struct LogOfThen {
    pub(super) epoch: Epoch,
    /// Where it ends.
    pub(super) last: u64,
    /// The index at its end.
    pub(super) index: Index,
    /// Whether a process has it open: then it does not end there.
    pub(super) is_in_use: bool,
}

/// Reads a log, whose folder is given, or the data folder that it is in. Nothing is changed.
pub(super) fn log_of_then(folder: &Path) -> Result<LogOfThen> {
    let inside = folder.join("log");
    let (data, log) = if inside.is_dir() { (Some(folder), &*inside) } else { (folder.parent(), folder) };
    // Asked before it is read: who closed it in between appended nothing that is not read.
    let is_in_use = data.is_some_and(|data| is_locked(&data.join("lock")));
    let (epoch, last, index) = snapshot_with_replay(log)?;
    Ok(LogOfThen { epoch, last, index, is_in_use })
}

/// Whether a process holds a data folder.
fn is_locked(lock: &Path) -> bool {
    let file = lock.is_file().then(|| File::open(lock).ok()).flatten();
    file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn frames(
    place: &dyn Place,
    manifest: &Manifest,
    file: &str,
    (kind, number): (Kind, u32),
    (len, digest): (u64, &str),
    each: &mut Each<'_>,
) -> Result<()> {
    let name = format!("{}/{file}", manifest.name);
    let bytes = place.get(&manifest.name, file, len).map_err(|e| cannot_read(place, &manifest.name, file, e))?;
    let whole = bytes.len() as u64 == len && blake3::hash(&bytes).to_hex().as_str() == digest;
    let mut reader = FileReader::open(&name, &bytes, kind, number)?;
    loop {
        let at = reader.offset();
        match reader.next_frame()? {
            Some(frame) if whole => each(&name, at, frame.into())?,
            // Only on the way to where it is damaged.
            Some(_) => {}
            None if whole => return Ok(()),
            None if (bytes.len() as u64) < len => return Err(bad(&name, bytes.len() as u64, "is cut short")),
            None => return Err(bad(&name, 0, "does not match its digest in the manifest: it is another file, or was changed")),
        }
    }
}
