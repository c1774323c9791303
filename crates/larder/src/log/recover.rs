//! Reading a local log back: the latest checkpoint, then every segment from its number on.
//!
//! An append that was cut short never returned, and is dropped. Anything else that does not fit (a damaged record, a
//! missing file) may hide an acknowledged invalidation, so the files are moved aside and a new epoch begins, in which
//! everything older is stale. An unknown version is refused, and nothing is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, BadCheckpoint};
use super::marks::Mark;
use super::segment::{BadHeader, End, Entry, HEADER_LEN, Header, Records};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Index, Snapshot};
use crate::name::Name;
use crate::position::Epoch;

/// What a folder held.
pub(super) struct Recovered {
    /// The index to begin with, and the epoch to go on in.
    pub(super) snapshot: Snapshot,
    /// What was appended since.
    pub(super) replay: Vec<(u64, Vec<Name>)>,
    /// Events that took effect, the oldest first. Those of epochs before count, too: what they killed is stale.
    pub(super) marks: Vec<Mark>,
    /// The position to go on from: at least the last that was read.
    pub(super) head: u64,
    /// The number of the newest segment; zero where there is none.
    pub(super) last_segment: u64,
}

/// Why a folder's files cannot be used.
enum Unusable {
    Refused(Error),
    /// What is wrong, for the warning.
    Damaged(String),
}

impl Recovered {
    fn in_epoch(epoch: Epoch) -> Self {
        Recovered { snapshot: Snapshot::empty(epoch), replay: Vec::new(), marks: Vec::new(), head: 0, last_segment: 0 }
    }
}

pub(super) fn recover(folder: &Path, boot: [u8; 16]) -> Result<Recovered> {
    match read_folder(folder, boot) {
        Ok(found) => Ok(found),
        Err(Unusable::Refused(error)) => Err(error),
        Err(Unusable::Damaged(why)) => {
            let aside = move_aside(folder).map_err(|e| unreadable("cannot move damaged files aside in", folder, e))?;
            tracing::error!(why, moved_to = %aside.display(), "the invalidation log is damaged: a new epoch begins, and everything cached before is stale");
            Ok(Recovered::in_epoch(Epoch::random()))
        }
    }
}

/// What an index has for each name that is replayed into it: three times what one takes, so that few lines overflow.
const BYTES_FOR_NAME: usize = 32;

/// What it has at least, and what the names alone may make of it.
const INDEX_BYTES_MIN: usize = 1 << 20;
const INDEX_BYTES_MAX: usize = 256 << 20;

/// The epoch and the head of a log that is not to be gone on with, and the index at its end: for restoring what was backed up in its time.
/// Nothing is changed, and what is damaged, or may have lost its end with the machine, is refused: it does not know all it should.
pub(crate) fn snapshot_with_replay(folder: &Path) -> Result<(Epoch, u64, Index)> {
    let found = match read_folder(folder, boot_id()) {
        Ok(found) => found,
        Err(Unusable::Refused(error)) => return Err(error),
        Err(Unusable::Damaged(why)) => return Err(Error::new(ErrorKind::UnknownPosition, format!("the log is damaged: {why}"))),
    };
    // A log that has no checkpoint yet begins with one line, in which every name would be as stale as the last.
    let names: usize = found.replay.iter().map(|(_, names)| names.len()).sum();
    let index = found.snapshot.to_index((names * BYTES_FOR_NAME).clamp(INDEX_BYTES_MIN, INDEX_BYTES_MAX));
    for (seq, names) in &found.replay {
        index.record(names, *seq);
    }
    index.publish(found.head);
    Ok((found.snapshot.epoch, found.head, index))
}

fn read_folder(folder: &Path, boot: [u8; 16]) -> Result<Recovered, Unusable> {
    let (segments, checkpoints) = list(folder).map_err(|e| Unusable::Refused(unreadable("cannot list", folder, e)))?;
    let checkpoint = checkpoints.last().copied();
    let first = checkpoint.unwrap_or(1);
    let Some(&last) = segments.last() else {
        return if checkpoint.is_none() { Ok(Recovered::in_epoch(Epoch::random())) } else { Err(missing(first)) };
    };
    let mut found = match checkpoint {
        Some(number) => from_checkpoint(&folder.join(checkpoint_name(number)))?,
        None => Recovered::in_epoch(Epoch::random()),
    };
    let mut ended: Option<Ended> = None;
    for number in first..=last {
        if segments.binary_search(&number).is_err() {
            return Err(missing(number));
        }
        let at_checkpoint = (checkpoint == Some(number)).then_some(&found.snapshot).map(|snapshot| (snapshot.epoch, snapshot.head));
        let read = read_segment(&folder.join(segment_name(number)), at_checkpoint, ended.as_ref(), number == last, &mut found)?;
        ended = Some(read);
    }
    found.last_segment = last;
    let ended = ended.expect("the range holds at least the last segment");
    Ok(after_a_crash(found, ended, boot))
}

/// How the newest segment ended.
struct Ended {
    header: Header,
    ceiling: u64,
    closed: bool,
    /// Whether appends of it, or of those before it that no checkpoint covers, may have returned before they were on
    /// stable storage.
    os_appends: bool,
}

fn from_checkpoint(path: &Path) -> Result<Recovered, Unusable> {
    let bytes = fs::read(path).map_err(|e| Unusable::Refused(unreadable("cannot read", path, e)))?;
    let (marks, snapshot) = checkpoint::read(&bytes).map_err(|bad| match bad {
        BadCheckpoint::Version(version) => Unusable::Refused(unknown_version(path, version)),
        BadCheckpoint::Damaged => Unusable::Damaged(format!("{} does not match its checksum", path.display())),
    })?;
    let head = snapshot.head;
    Ok(Recovered { snapshot, replay: Vec::new(), marks, head, last_segment: 0 })
}

fn read_segment(
    path: &Path,
    at_checkpoint: Option<(Epoch, u64)>,
    before: Option<&Ended>,
    newest: bool,
    found: &mut Recovered,
) -> Result<Ended, Unusable> {
    let damaged = |why: &str| Unusable::Damaged(format!("{} {why}", path.display()));
    let bytes = fs::read(path).map_err(|e| Unusable::Refused(unreadable("cannot read", path, e)))?;
    let header = Header::decode(&bytes).map_err(|bad| match bad {
        BadHeader::Version(version) => Unusable::Refused(unknown_version(path, version)),
        BadHeader::Damaged => damaged("has a header that does not match its checksum"),
    })?;
    if at_checkpoint.is_some_and(|begins| begins != (header.epoch, header.base)) {
        return Err(damaged("does not begin where its checkpoint was taken"));
    }
    if header.epoch != found.snapshot.epoch {
        // The log began a new epoch here: what came before says nothing about it.
        *found = Recovered { marks: std::mem::take(&mut found.marks), ..Recovered::in_epoch(header.epoch) };
    }
    if let Some(before) = before.filter(|before| before.header.epoch == header.epoch) {
        // It goes on where the one before ended, or from its ceiling after a machine crash; anything else says that the
        // end of the one before was lost.
        let crashed = found.head.max(before.ceiling);
        if header.base != found.head && header.base != crashed {
            return Err(damaged("does not begin where the segment before it ended"));
        }
    }
    found.head = header.base;
    let lossy_before = before.is_some_and(|before| before.header.epoch == header.epoch && before.os_appends);
    let mut ended = Ended { header, ceiling: header.ceiling, closed: false, os_appends: header.os_appends || lossy_before };
    let mut records = Records::new(&bytes[HEADER_LEN..], header.base);
    for (seq, entry) in records.by_ref() {
        found.head = seq;
        ended.closed = entry == Entry::Closed;
        match entry {
            Entry::Names(names, marks) => {
                found.replay.push((seq, names));
                found.marks.extend(marks);
            }
            Entry::Marks(marks) => found.marks.extend(marks),
            Entry::Ceiling(ceiling) => ended.ceiling = ceiling,
            Entry::Closed => {}
        }
    }
    match records.end() {
        End::Whole => Ok(ended),
        End::Torn if newest => Ok(ended),
        End::Torn | End::Damaged => Err(damaged("is damaged, and acknowledged invalidations may be lost with it")),
    }
}

/// What a machine crash may have taken: appends that returned before they were on stable storage (then nothing older can
/// be believed), and positions that were handed out and never reached the disk (then they must not be used again).
fn after_a_crash(found: Recovered, ended: Ended, boot: [u8; 16]) -> Recovered {
    let same_run = ended.header.boot == boot && boot != [0; 16];
    if ended.closed || same_run {
        return found;
    }
    if ended.os_appends {
        tracing::warn!(
            "the machine stopped before the log was closed and may have lost appends: a new epoch begins, and everything cached before is stale"
        );
        return Recovered { last_segment: found.last_segment, marks: found.marks, ..Recovered::in_epoch(Epoch::random()) };
    }
    Recovered { head: found.head.max(ended.ceiling), ..found }
}

pub(super) fn segment_name(number: u64) -> String {
    format!("segment-{number:016x}")
}

pub(super) fn checkpoint_name(number: u64) -> String {
    format!("checkpoint-{number:016x}")
}

/// Removes what a checkpoint has made superfluous.
pub(super) fn remove_below(folder: &Path, number: u64) -> io::Result<()> {
    let (segments, checkpoints) = list(folder)?;
    let below = |numbers: Vec<u64>| numbers.into_iter().filter(move |other| *other < number);
    let names = below(segments).map(segment_name).chain(below(checkpoints).map(checkpoint_name));
    names.map(|name| folder.join(name)).try_for_each(fs::remove_file)
}

/// The numbers of the segments and of the checkpoints in a folder, in order.
fn list(folder: &Path) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let (mut segments, mut checkpoints) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((kind, number)) = name.to_str().and_then(|name| name.split_once('-')) else { continue };
        // An unfinished file has an extension and is no number.
        let Ok(number) = u64::from_str_radix(number, 16) else { continue };
        let numbers = match kind {
            "segment" => &mut segments,
            "checkpoint" => &mut checkpoints,
            _ => continue,
        };
        // Opening a pipe waits for who writes to it, for ever; and without it a log would seem to end before it.
        if !fs::metadata(entry.path())?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", entry.path().display())));
        }
        numbers.push(number);
    }
    segments.sort_unstable();
    checkpoints.sort_unstable();
    Ok((segments, checkpoints))
}

/// Damaged files are evidence: they are kept, in a folder of their own that nothing reads.
fn move_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = (1..).map(|n| folder.join(format!("damaged.{n}"))).find(|path| !path.exists()).expect("there is always a next number");
    fs::create_dir(&aside)?;
    let (segments, checkpoints) = list(folder)?;
    for name in segments.into_iter().map(segment_name).chain(checkpoints.into_iter().map(checkpoint_name)) {
        fs::rename(folder.join(&name), aside.join(&name))?;
    }
    Ok(aside)
}

/// Which run of the machine this is; zeros where the system does not say, which then counts as another run.
pub(super) fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

fn missing(number: u64) -> Unusable {
    Unusable::Damaged(format!("{} is missing", segment_name(number)))
}

fn unknown_version(path: &Path, version: u32) -> Error {
    let message = format!(
        "{} was written in format {version}, and this version of larder knows formats 1 and 2; nothing was touched",
        path.display()
    );
    Error::new(ErrorKind::UnknownFormat, message)
}

fn unreadable(what: &str, path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::LogUnavailable, format!("{what} {}", path.display())).with_source(e)
}
