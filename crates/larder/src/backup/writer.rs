//! The thread that compresses and keeps: frames of records in, segments out.
//!
//! It has its own thread because it is the slow part: the walk through the cache hands over a mebibyte at a time, over a channel with
//! room for two, and goes on; so what is held is bounded, and a slow place slows the walk down.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frame::{FRAME_BYTES, FileWriter, Kind};
use super::manifest::{FileSeal, INDEX, IndexSeal, NAMESPACES_MAX, NamespaceCount, SEGMENT_BYTES, segment_name};
use super::seal::{Encryption, KEY, KeySeal, Sealer};
use super::{Place, blocking, cannot_write};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Snapshot;

/// Frames under way.
const UNDER_WAY: usize = 2;

/// A frame that is being filled: records, and how many.
#[derive(Default)]
pub(super) struct Filling {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u64,
}

impl Filling {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FRAME_BYTES
    }
}

/// What of each namespace there is, as far as there is room to say.
#[derive(Default)]
pub(super) struct Tally {
    namespaces: HashMap<Box<[u8]>, (u64, u64), foldhash::fast::RandomState>,
}

impl Tally {
    pub(super) fn add(&mut self, namespace: &[u8], bytes: u64) {
        if let Some((entries, sum)) = self.namespaces.get_mut(namespace) {
            (*entries, *sum) = (*entries + 1, *sum + bytes);
        } else if self.namespaces.len() < NAMESPACES_MAX {
            self.namespaces.insert(namespace.into(), (1, bytes));
        }
    }

    pub(super) fn into_counts(self) -> Vec<NamespaceCount> {
        let count = |(name, (entries, bytes)): (Box<[u8]>, _)| NamespaceCount { name: name.escape_ascii().to_string(), entries, bytes };
        let mut counts: Vec<_> = self.namespaces.into_iter().map(count).collect();
        counts.sort_unstable_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        counts
    }
}

/// See the head of this file.
pub(super) struct Segments {
    frames: mpsc::Sender<Filling>,
    /// Until it was found to have ended before its time.
    thread: Option<JoinHandle<Result<Vec<FileSeal>>>>,
}

impl Segments {
    pub(super) fn begin(place: Arc<dyn Place>, name: &str, sealer: Option<Arc<dyn Sealer>>) -> Self {
        let (frames, mut coming) = mpsc::channel::<Filling>(UNDER_WAY);
        let name = name.to_owned();
        let keep = move |number, bytes, entries| keep_segment((&*place, &name), sealer.as_deref(), number, bytes, entries);
        let write = move || {
            let mut seals = Vec::new();
            let mut writer = FileWriter::begin(Kind::Records, 1)?;
            let mut entries = 0;
            while let Some(frame) = coming.blocking_recv() {
                writer.frame(&frame.bytes)?;
                entries += frame.entries;
                if writer.len() >= SEGMENT_BYTES {
                    let bytes = writer.begin_next(Kind::Records, seals.len() as u32 + 2);
                    seals.push(keep(seals.len() + 1, bytes, std::mem::take(&mut entries))?);
                }
            }
            if entries > 0 {
                let bytes = writer.begin_next(Kind::Records, 0);
                seals.push(keep(seals.len() + 1, bytes, entries)?);
            }
            Ok(seals)
        };
        Segments { frames, thread: Some(tokio::task::spawn_blocking(write)) }
    }

    /// Hands a frame over, and waits while there is no room.
    pub(super) async fn send(&mut self, frame: Filling) -> Result<()> {
        if frame.entries == 0 || self.frames.send(frame).await.is_ok() {
            return Ok(());
        }
        // It ended before its time, and knows why.
        match self.thread.take() {
            Some(thread) => thread.await.unwrap_or_else(|e| Err(shut_down().with_source(e))).and(Err(shut_down())),
            None => Err(shut_down()),
        }
    }

    /// Waits for the last segment to be kept. What failed before was told to who handed over a frame.
    pub(super) async fn finish(self) -> Result<Vec<FileSeal>> {
        drop(self.frames);
        match self.thread {
            Some(thread) => thread.await.unwrap_or_else(|e| Err(shut_down().with_source(e))),
            None => Ok(Vec::new()),
        }
    }
}

fn shut_down() -> Error {
    Error::new(ErrorKind::Closed, "the runtime was shut down while a backup was written")
}

fn keep_segment(
    (place, name): (&dyn Place, &str),
    sealer: Option<&dyn Sealer>,
    number: usize,
    bytes: Vec<u8>,
    entries: u64,
) -> Result<FileSeal> {
    let file = segment_name(number);
    let bytes = sealed(name, &file, sealer, bytes)?;
    place.put(name, &file, &bytes).map_err(|e| cannot_write(place, name, &file, e))?;
    Ok(FileSeal { bytes: bytes.len() as u64, entries, blake3: blake3::hash(&bytes).to_hex().to_string() })
}

/// A file as it is to lie in the place.
fn sealed(name: &str, file: &str, sealer: Option<&dyn Sealer>, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let Some(sealer) = sealer else { return Ok(bytes) };
    let failed = |e| Error::new(ErrorKind::Backup, format!("{name}/{file} cannot be encrypted")).with_source(e);
    sealer.seal(&bytes).map_err(failed)
}

/// Keeps the freshness index.
pub(super) async fn keep_index(
    place: Arc<dyn Place>,
    name: &str,
    sealer: Option<Arc<dyn Sealer>>,
    snapshot: Snapshot,
) -> Result<IndexSeal> {
    let name = name.to_owned();
    blocking(move || {
        let raw = snapshot.encode();
        let mut writer = FileWriter::begin(Kind::Index, 1)?;
        raw.chunks(FRAME_BYTES).try_for_each(|chunk| writer.frame(chunk))?;
        let bytes = sealed(&name, INDEX, sealer.as_deref(), writer.begin_next(Kind::Index, 0))?;
        place.put(&name, INDEX, &bytes).map_err(|e| cannot_write(&*place, &name, INDEX, e))?;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        Ok(IndexSeal { bytes: bytes.len() as u64, raw_bytes: raw.len() as u64, blake3, head: snapshot.head })
    })
    .await
}

/// Keeps the backup's own key, where it has one, and returns what the manifest says of how it is sealed.
pub(super) async fn keep_key(place: Arc<dyn Place>, name: &str, sealer: Arc<dyn Sealer>) -> Result<Encryption> {
    let name = name.to_owned();
    blocking(move || {
        let key = sealer.key().map(|bytes| {
            place.put(&name, KEY, bytes).map_err(|e| cannot_write(&*place, &name, KEY, e))?;
            Ok(KeySeal { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() })
        });
        let encryption = Encryption { scheme: sealer.scheme().to_owned(), recipients: sealer.recipients(), key: key.transpose()? };
        // What a reader would refuse is not written.
        encryption.check().map_err(|why| Error::new(ErrorKind::InvalidConfig, format!("the backup {name} {why}")))?;
        Ok(encryption)
    })
    .await
}
