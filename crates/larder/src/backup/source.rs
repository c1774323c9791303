//! Reading a backup's files: each is had whole, compared with what the manifest says, and only then taken apart.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::frame::{FileReader, Kind, bad};
use super::manifest::{INDEX, Manifest, segment_name};
use super::seal::{Access, KEY, Readable};
use super::{Place, cannot_read};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Index, Snapshot};
use crate::log::snapshot_with_replay;
use crate::position::Epoch;

/// What a piece of a file is handed to: its name, where its frame begins, and the bytes.
pub(super) type Each<'a> = dyn FnMut(&str, u64, Bytes) -> Result<()> + 'a;

/// Every frame of a segment, numbered from 1, in order. Nothing of it is handed out before all of it was found to be what it should be.
pub(super) fn segment(place: &dyn Place, backup: &Readable, number: usize, each: &mut Each<'_>) -> Result<()> {
    let seal = &backup.segments[number - 1];
    frames(place, backup, &segment_name(number), (Kind::Records, number as u32), (seal.bytes, &seal.blake3), each)
}

/// The freshness index of a backup.
pub(super) fn index(place: &dyn Place, backup: &Readable) -> Result<Snapshot> {
    let seal = &backup.index;
    let name = format!("{}/{INDEX}", backup.name);
    let mut raw = Vec::new();
    frames(place, backup, INDEX, (Kind::Index, 1), (seal.bytes, &seal.blake3), &mut |_, at, frame| {
        raw.extend_from_slice(&frame);
        if raw.len() as u64 > seal.raw_bytes { Err(bad(&name, at, "has more in it than the manifest says")) } else { Ok(()) }
    })?;
    if raw.len() as u64 != seal.raw_bytes {
        return Err(bad(&name, seal.bytes, "has less in it than the manifest says"));
    }
    let snapshot = Snapshot::decode(&raw).ok_or_else(|| bad(&name, 0, "is no freshness index"))?;
    if (snapshot.epoch, snapshot.head) != (backup.epoch(), seal.head) {
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
    /// Held until it was judged by, so that no process goes on with it meanwhile. `None`: one has it open, or it cannot be known that none
    /// does: then it may not end there.
    pub(super) held: Option<Held>,
}

/// The locks of a data folder.
pub(super) struct Held(#[expect(dead_code, reason = "a lock is held as long as its file is open")] Vec<File>);

/// Reads a log, whose folder is given, or the data folder that it is in. Nothing is changed.
pub(super) fn log_of_then(folder: &Path) -> Result<LogOfThen> {
    let unreadable = |e| Error::new(ErrorKind::LogUnavailable, format!("cannot list {}", folder.display())).with_source(e);
    let whole = fs::canonicalize(folder).map_err(unreadable)?;
    let inside = whole.join("log");
    let (data, log) = if inside.is_dir() {
        (vec![whole], inside)
    } else {
        // A log may be a link in the data folder, and what is given a link to a log.
        let parents = [Some(whole.as_path()), Some(folder)].into_iter().filter_map(|path| path?.parent().map(PathBuf::from)).collect();
        (parents, whole)
    };
    // Asked before it is read: who closed it in between appended nothing that is not read.
    let held = data.iter().filter_map(|data| hold(&data.join("lock")).transpose()).collect::<io::Result<Vec<File>>>();
    let held = held.inspect_err(|error| tracing::debug!(%error, folder = %folder.display(), "a log counts as in use")).ok().map(Held);
    let (epoch, last, index) = snapshot_with_replay(&log)?;
    Ok(LogOfThen { epoch, last, index, held })
}

/// Keeps processes from opening a data folder, where it has a lock.
fn hold(lock: &Path) -> io::Result<Option<File>> {
    match fs::metadata(lock) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Opening a pipe waits for who writes to it, for ever.
        there if !there.as_ref().is_ok_and(fs::Metadata::is_file) => return Err(there.err().unwrap_or(io::ErrorKind::InvalidInput.into())),
        _ => {}
    }
    let file = File::open(lock)?;
    file.try_lock_shared()?;
    Ok(Some(file))
}

/// The file with a backup's own key, which is still sealed itself, where it says that it has one.
pub(super) fn key(place: &dyn Place, manifest: &Manifest) -> Result<Option<Vec<u8>>> {
    manifest.key().map(|seal| stored(place, manifest, KEY, (seal.bytes, &seal.blake3))).transpose()
}

/// Whether the files of a backup that cannot be looked into are what they should be. `each` is told the bytes of each before it is read.
pub(super) fn all_stored(place: &dyn Place, manifest: &Manifest, each: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    if let Some(seal) = manifest.key() {
        each(seal.bytes)?;
        key(place, manifest)?;
    }
    each(manifest.index.bytes)?;
    stored(place, manifest, INDEX, (manifest.index.bytes, &manifest.index.blake3))?;
    for (at, seal) in manifest.segments.iter().enumerate() {
        each(seal.bytes)?;
        stored(place, manifest, &segment_name(at + 1), (seal.bytes, &seal.blake3))?;
    }
    Ok(())
}

/// A file as it lies in the place, which is what the manifest says.
fn stored(place: &dyn Place, manifest: &Manifest, file: &str, (len, digest): (u64, &str)) -> Result<Vec<u8>> {
    let bytes = place.get(&manifest.name, file, len).map_err(|e| cannot_read(place, &manifest.name, file, e))?;
    match damage(&format!("{}/{file}", manifest.name), &bytes, len, digest) {
        Some(error) => Err(error),
        None => Ok(bytes),
    }
}

/// What is told of a file that is not what the manifest says, if it is not.
fn damage(name: &str, bytes: &[u8], len: u64, digest: &str) -> Option<Error> {
    if (bytes.len() as u64) < len {
        return Some(bad(name, bytes.len() as u64, "is cut short"));
    }
    let is_it = bytes.len() as u64 == len && blake3::hash(bytes).to_hex().as_str() == digest;
    (!is_it).then(|| bad(name, 0, "does not match its digest in the manifest: it is another file, or was changed"))
}

fn frames(
    place: &dyn Place,
    backup: &Readable,
    file: &str,
    (kind, number): (Kind, u32),
    (len, digest): (u64, &str),
    each: &mut Each<'_>,
) -> Result<()> {
    let name = format!("{}/{file}", backup.name);
    let bytes = match &backup.access {
        Access::Plain => place.get(&backup.name, file, len).map_err(|e| cannot_read(place, &backup.name, file, e))?,
        Access::Closed => return Err(backup.closed()),
        Access::Unsealed(unsealed) => {
            let sealed = stored(place, backup, file, (len, digest))?;
            let opened = unsealed.open(&sealed).map_err(|why| bad(&name, 0, &why))?;
            drop(sealed);
            return all_frames(&format!("{name} (opened)"), &opened, (kind, number), None, each);
        }
    };
    all_frames(&name, &bytes, (kind, number), damage(&name, &bytes, len, digest), each)
}

/// Every frame of a file. Where that is known to be damaged no frame is handed out: they are gone through only for where it is.
fn all_frames(name: &str, bytes: &[u8], (kind, number): (Kind, u32), damage: Option<Error>, each: &mut Each<'_>) -> Result<()> {
    let mut reader = FileReader::open(name, bytes, kind, number)?;
    loop {
        let at = reader.offset();
        match (reader.next_frame()?, &damage) {
            (Some(frame), None) => each(name, at, frame.into())?,
            (Some(_), Some(_)) => {}
            (None, _) => return damage.map_or(Ok(()), Err),
        }
    }
}
