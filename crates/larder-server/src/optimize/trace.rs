//! Traces: what programs asked a cache for, in the forms in which such records are passed around.
//!
//! ```text
//!   oracle-general   24 bytes a read, little-endian: time u32, key u64, size u32, next read i64 (libCacheSim)
//!   csv              a key, or named columns among which are key, size and cost
//!   arc              first block, how many, and two numbers that say nothing here: a read for each block
//!   lirs             a block a line; `*` is a mark
//!   u64be, u32be     a key of 8 or 4 bytes, big-endian
//! ```
//!
//! Each may be compressed. Nothing of it is kept: a trace of any length is read in the memory of a line.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use larder::sizing::{Access, ENTRY_OVERHEAD};

use super::inflate;

mod csv;

/// A line longer than this is none of a trace.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Blocks that one line of an ARC trace may name: real ones name a few hundred, and one that names four billion is a mistake.
const BLOCKS_MAX: u64 = 1 << 20;

/// Bytes that are looked at to tell what a file is.
const SNIFFED: usize = 4 << 10;

const ORACLE_GENERAL_RECORD: usize = 24;

/// The form of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// libCacheSim's binary: time, key, size, next read
    OracleGeneral,
    /// Comma-separated, with a first line of names or a key alone
    Csv,
    /// ARC's text: first block, how many, and two more numbers
    Arc,
    /// LIRS' text: a block a line
    Lirs,
    /// Keys of 8 bytes, big-endian
    U64be,
    /// Keys of 4 bytes, big-endian
    U32be,
}

/// A trace in a file.
#[derive(Clone, Debug)]
pub struct Trace {
    path: PathBuf,
    form: Form,
    /// What an entry weighs in memory where the trace does not say how large it is.
    entry_bytes: u32,
}

/// What is wrong with a trace, and where.
#[derive(Debug)]
pub struct TraceError {
    path: PathBuf,
    place: Option<Place>,
    what: String,
}

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Counted from 1.
    Line(u64),
    /// Counted from 0, in what was compressed.
    Offset(u64),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.place {
            Some(Place::Line(line)) => write!(f, ", line {line}")?,
            Some(Place::Offset(offset)) => write!(f, ", byte {offset}")?,
            None => {}
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for TraceError {}

/// What is wrong at a place of the file that is being read.
type Wrong = (Option<Place>, String);

impl Trace {
    /// A trace of the form that is given, or else of the one that its name or its first bytes tell.
    ///
    /// # Errors
    /// Where it cannot be read, or its form cannot be told.
    pub fn open(path: &Path, form: Option<Form>, entry_bytes: u32) -> Result<Self, TraceError> {
        let failed = |what: String| TraceError { path: path.into(), place: None, what };
        let form = match form.or_else(|| by_name(path)) {
            Some(form) => form,
            None => {
                let mut start = Vec::new();
                let read = inflate::open(path).and_then(|file| file.take(SNIFFED as u64).read_to_end(&mut start));
                read.map_err(|error| failed(error.to_string()))?;
                by_content(&start).ok_or_else(|| failed("what it is cannot be told; say it with --trace-format".to_owned()))?
            }
        };
        Ok(Trace { path: path.into(), form, entry_bytes: entry_bytes.max(1) })
    }

    /// The form that it is read in.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Every read, in order.
    ///
    /// # Errors
    /// Where it is not what its form says, with the line or byte.
    pub fn each(&self, mut take: impl FnMut(Access)) -> Result<(), TraceError> {
        let failed = |(place, what): Wrong| TraceError { path: self.path.clone(), place, what };
        let mut file = inflate::open(&self.path).map_err(|error| failed((None, error.to_string())))?;
        let read = match self.form {
            Form::OracleGeneral => records::<ORACLE_GENERAL_RECORD>(&mut file, |record| {
                let (id, size) = (u64::from_le_bytes(part(record, 4)), u32::from_le_bytes(part(record, 12)));
                take(Access::numbered(id, size.saturating_add(ENTRY_OVERHEAD), 0));
            }),
            Form::U64be => records::<8>(&mut file, |record| take(Access::numbered(u64::from_be_bytes(*record), self.entry_bytes, 0))),
            Form::U32be => {
                records::<4>(&mut file, |record| take(Access::numbered(u32::from_be_bytes(*record).into(), self.entry_bytes, 0)))
            }
            Form::Arc => lines(&mut file, |line| {
                let (first, count) = blocks(line)?;
                (0..count).for_each(|n| take(Access::numbered(first.wrapping_add(n), self.entry_bytes, 0)));
                Ok(())
            }),
            Form::Lirs => lines(&mut file, |line| {
                if line != "*" {
                    take(Access::numbered(number(line)?, self.entry_bytes, 0));
                }
                Ok(())
            }),
            Form::Csv => {
                let mut columns = None;
                lines(&mut file, |line| csv::access(line, &mut columns, self.entry_bytes, &mut take))
            }
        };
        read.map_err(failed)
    }
}

fn by_name(path: &Path) -> Option<Form> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let bare = [".gz", ".zst", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    if bare.contains("oraclegeneral") {
        return Some(Form::OracleGeneral);
    }
    [(".csv", Form::Csv), (".lis", Form::Arc)].into_iter().find(|(end, _)| bare.ends_with(end)).map(|(_, form)| form)
}

/// Text is told by its first line, and records of oracleGeneral by times that do not go back. What is binary and neither is keys alone:
/// of 4 bytes where all begin with an empty one and every other is not 0.
fn by_content(start: &[u8]) -> Option<Form> {
    if !start.is_empty() && start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        let line = std::str::from_utf8(start).ok()?.lines().map(str::trim).find(|line| !line.is_empty() && *line != "*")?;
        return match line {
            _ if line.contains(',') => Some(Form::Csv),
            _ if blocks(line).is_ok() => Some(Form::Arc),
            _ => number(line).ok().map(|_| Form::Lirs),
        };
    }
    let (fours, eights) = (start.as_chunks::<4>().0, start.as_chunks::<8>().0);
    match start.as_chunks::<ORACLE_GENERAL_RECORD>().0 {
        _ if eights.is_empty() => None,
        records if is_oracle_general(records) => Some(Form::OracleGeneral),
        _ if eights.iter().any(|eight| eight[..4] != [0; 4]) && fours.iter().all(|four| four[0] == 0) => Some(Form::U32be),
        _ => Some(Form::U64be),
    }
}

fn is_oracle_general(records: &[[u8; ORACLE_GENERAL_RECORD]]) -> bool {
    /// Records that chance does not order, and the largest number of a read that a trace has.
    const ENOUGH: usize = 16;
    const READS: i64 = 1 << 48;
    let time = |record: &[u8; ORACLE_GENERAL_RECORD]| u32::from_le_bytes(part(record, 0));
    let next = |record: &[u8; ORACLE_GENERAL_RECORD]| i64::from_le_bytes(part(record, 16));
    // Some writers mark the last read of a key by -1, and others by the largest number there is.
    let is_sound = |next: i64| (-1..READS).contains(&next) || next == i64::MAX;
    records.len() >= ENOUGH && records.is_sorted_by_key(time) && records.iter().all(|record| is_sound(next(record)))
}

/// Records of one length, up to the end.
fn records<const LEN: usize>(file: &mut dyn BufRead, mut take: impl FnMut(&[u8; LEN])) -> Result<(), Wrong> {
    let (mut record, mut offset) = ([0; LEN], 0);
    loop {
        let mut filled = 0;
        while filled < LEN {
            match file.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return Ok(()),
                Ok(0) => return Err((Some(Place::Offset(offset)), format!("it ends within a record, {filled} of {LEN} bytes into it"))),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((Some(Place::Offset(offset + filled as u64)), error.to_string())),
            }
        }
        take(&record);
        offset += LEN as u64;
    }
}

fn part<const LEN: usize>(record: &[u8; ORACLE_GENERAL_RECORD], from: usize) -> [u8; LEN] {
    *record[from..].first_chunk().expect("the record is long enough")
}

/// Lines of text, up to the end. Empty ones are skipped.
fn lines(file: &mut dyn BufRead, mut take: impl FnMut(&str) -> Result<(), String>) -> Result<(), Wrong> {
    let mut line = Vec::new();
    for n in 1.. {
        let at = |what: String| (Some(Place::Line(n)), what);
        line.clear();
        let read = (&mut *file).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(|error| at(error.to_string()))?;
        if read == 0 {
            break;
        }
        if read > LINE_BYTES_MAX {
            return Err(at(format!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| at("it is no text".to_owned()))?.trim();
        if !text.is_empty() {
            take(text).map_err(at)?;
        }
    }
    Ok(())
}

/// The first block of a line of an ARC trace, and how many there are.
fn blocks(line: &str) -> Result<(u64, u64), String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [first, count, _, _] = words[..] else {
        return Err(format!("expected four numbers, found {}", shown(line)));
    };
    match (number(first)?, number(count)?) {
        (first, count) if count <= BLOCKS_MAX => Ok((first, count)),
        (_, count) => Err(format!("{count} blocks at once are more than {BLOCKS_MAX}")),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("expected a number, found {}", shown(word)))
}

/// The beginning of what was found, so that a message has an end and does not drive a terminal.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let rest = if start.len() < text.len() { ".." } else { "" };
    format!("\"{}{rest}\"", start.escape_default())
}

#[cfg(test)]
mod tests;
