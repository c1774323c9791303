//! A checkpoint: the whole index at one head, and the window of marks, so that older segments can go.
//!
//! ```text
//!  0  magic "LARDERCP"    8  version = 2    12  CRC-32C of what follows    16  length before compression
//! 24  compressed with zstd: the number of marks (u32), the marks (16 bytes each), the snapshot
//! ```
//!
//! Version 1 had the snapshot alone.
//!
//! It is written beside its final name, synced, and renamed: a checkpoint is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::marks::{MARK_BYTES, Mark};
use crate::freshness::Snapshot;

const MAGIC: &[u8; 8] = b"LARDERCP";
const VERSION: u32 = 2;
const VERSION_WITHOUT_MARKS: u32 = 1;
const HEADER_LEN: usize = 24;
/// Larger than any index that fits a machine; a false length must not allocate the world.
const LEN_MAX: u64 = 64 << 30;

/// Why a checkpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCheckpoint {
    Version(u32),
    Damaged,
}

pub(super) fn write(path: &Path, marks: &[Mark], snapshot: &Snapshot) -> io::Result<()> {
    let mut raw = (marks.len() as u32).to_le_bytes().to_vec();
    Mark::encode_all(marks, &mut raw);
    raw.extend_from_slice(&snapshot.encode());
    let body = zstd::bulk::compress(&raw, 1)?;
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    header.extend_from_slice(&(raw.len() as u64).to_le_bytes());
    file.write_all(&header)?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder(path)
}

pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Mark>, Snapshot), BadCheckpoint> {
    let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(BadCheckpoint::Damaged)?;
    if &header[..8] != MAGIC {
        return Err(BadCheckpoint::Damaged);
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = number(8);
    if version != VERSION && version != VERSION_WITHOUT_MARKS {
        return Err(BadCheckpoint::Version(version));
    }
    let len = u64::from(number(16)) | u64::from(number(20)) << 32;
    if crc32c::crc32c(body) != number(12) || len > LEN_MAX {
        return Err(BadCheckpoint::Damaged);
    }
    let raw = zstd::bulk::decompress(body, len as usize).map_err(|_| BadCheckpoint::Damaged)?;
    let (marks, snapshot) = if version == VERSION { take_marks(&raw).ok_or(BadCheckpoint::Damaged)? } else { (Vec::new(), &*raw) };
    Snapshot::decode(snapshot).map(|snapshot| (marks, snapshot)).ok_or(BadCheckpoint::Damaged)
}

fn take_marks(raw: &[u8]) -> Option<(Vec<Mark>, &[u8])> {
    let (count, rest) = raw.split_first_chunk()?;
    let (marks, snapshot) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(MARK_BYTES)?)?;
    Some((Mark::decode_all(marks)?, snapshot))
}

/// A new or renamed file is only sure to be there once its folder is synced.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(file.parent().expect("the log's files are in a folder"))?.sync_all()
}
