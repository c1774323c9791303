//! The folder: files in a row, the head of the chain, and a lock. It knows names and bytes, and not what is in a line.
//!
//! ```text
//!   audit-00000001.jsonl   lines; the first of a file has the hash of the last of the one before
//!   head                   number and hash of the last line, written after it: what is missing at the end shows by it
//!   torn-00000001          the half of a line that a killed process left at the end of that file
//!   lock                   taken while open
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::AuditError;
use super::chain::Link;

/// Nobody else's affair.
const OWNERS_ALONE: u32 = 0o600;
const OWNERS_FOLDER: u32 = 0o700;

const HEAD: &str = "head";

/// A file of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number, counted from 1.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last written.
    pub written_at: SystemTime,
}

/// What a file with this number is called.
pub fn name_of(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

/// The files of a folder, the oldest first.
///
/// # Errors
/// When it cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse::<u64>().ok());
        // Called otherwise it is not one of these, whatever its number.
        let Some(number) = number.filter(|number| name.to_str() == Some(&name_of(*number))) else { continue };
        let about = entry.metadata()?;
        let written_at = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        all.push(Segment { number, path: entry.path(), bytes: about.len(), written_at });
    }
    all.sort_by_key(|segment| segment.number);
    Ok(all)
}

/// Where the chain stood when that was last written down; nothing where it was not, or cannot be read.
///
/// # Errors
/// When the file is there and cannot be opened.
pub fn head(folder: &Path) -> io::Result<Option<Link>> {
    match fs::read_to_string(folder.join(HEAD)) {
        Ok(text) => Ok(Link::parse(&text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process writes to a folder now.
pub fn is_in_use(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// A folder that is written to by this process alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    head: File,
    _lock: File,
}

impl Folder {
    /// Takes it, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |error| AuditError::File(path.to_owned(), error);
        fs::DirBuilder::new().recursive(true).mode(OWNERS_FOLDER).create(path).map_err(failed)?;
        let open = |name: &str| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWNERS_ALONE).open(path.join(name)).map_err(failed)
        };
        let lock = open("lock")?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(AuditError::Locked(path.to_owned())),
            Err(error) => return Err(failed(error.into())),
        }
        Ok(Folder { path: path.to_owned(), head: open(HEAD)?, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down where the chain stands. In its place, for a text of always the same length: a full disk has room for that.
    pub fn set_head(&self, link: &Link) -> io::Result<()> {
        self.head.write_all_at(link.to_string().as_bytes(), 0)
    }

    /// Opens a file of the row at its end, and makes it where there is none.
    pub fn open_segment(&self, number: u64) -> io::Result<Tail> {
        let path = self.path.join(name_of(number));
        let file = OpenOptions::new().append(true).create(true).mode(OWNERS_ALONE).open(&path)?;
        let bytes = file.metadata()?.len();
        // Its name is to be there after a crash as well as what is in it.
        File::open(&self.path)?.sync_all()?;
        Ok(Tail { file, bytes, number })
    }

    /// Puts aside what stands behind `good` bytes of a file.
    pub fn put_aside(&self, segment: &Segment, good: u64) -> io::Result<String> {
        let mut torn = File::open(&segment.path)?;
        torn.seek(SeekFrom::Start(good))?;
        // A name that is not taken: the same file may be torn more than once.
        let names = (0..).map(|n| if n == 0 { format!("torn-{:08}", segment.number) } else { format!("torn-{:08}.{n}", segment.number) });
        let name = names.into_iter().find(|name| !self.path.join(name).exists()).expect("there is always another number");
        let mut aside = OpenOptions::new().write(true).create_new(true).mode(OWNERS_ALONE).open(self.path.join(&name))?;
        io::copy(&mut torn, &mut aside)?;
        aside.sync_all()?;
        // Only now: until then it is in one place or the other.
        OpenOptions::new().write(true).open(&segment.path)?.set_len(good)?;
        Ok(name)
    }
}

/// The end of the row.
#[derive(Debug)]
pub struct Tail {
    file: File,
    /// Bytes that are whole lines.
    pub bytes: u64,
    /// The number of the file.
    pub number: u64,
}

impl Tail {
    /// Appends lines, and waits for the disk where that is asked for. What could not be written whole is taken back.
    pub fn append(&mut self, lines: &[u8], is_durable: bool) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| if is_durable { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // Half a line must not stay before the next. Where that fails as well the next attempt begins here again.
            return Err(match self.file.set_len(self.bytes) {
                Ok(()) => error,
                Err(worse) => io::Error::new(worse.kind(), format!("{error}; and what was half written cannot be taken back: {worse}")),
            });
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Takes back what may be left of an attempt that failed.
    pub fn mend(&self) -> io::Result<()> {
        if self.file.metadata()?.len() == self.bytes { Ok(()) } else { self.file.set_len(self.bytes) }
    }
}
