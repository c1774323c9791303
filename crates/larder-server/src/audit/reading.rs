//! Reading files line by line, in bounded memory, whatever is in them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// The longest line that is taken for one. Records are bounded, and JSON makes at most six bytes of one.
const LINE_BYTES_MAX: usize = 128 << 10;

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole one, without its end.
    Whole(&'a [u8]),
    /// One that is longer than any record's.
    TooLong,
    /// What stands behind the last end of a line.
    Half(&'a [u8]),
}

/// A file that is read.
pub struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
    /// Where the line that was last read ends.
    pub at: u64,
}

impl Lines {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Lines { file: BufReader::with_capacity(64 << 10, File::open(path)?), line: Vec::new(), at: 0 })
    }

    /// The next line, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut is_too_long = false;
        loop {
            let part = self.file.fill_buf()?;
            if part.is_empty() {
                return Ok(match (is_too_long, self.line.is_empty()) {
                    (true, _) => Some(Line::TooLong),
                    (false, true) => None,
                    (false, false) => Some(Line::Half(&self.line)),
                });
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(part.len());
            if self.line.len() + taken > LINE_BYTES_MAX {
                is_too_long = true;
                self.line.clear();
            } else if !is_too_long {
                self.line.extend_from_slice(&part[..taken]);
            }
            let used = taken + usize::from(end.is_some());
            self.file.consume(used);
            self.at += used as u64;
            if end.is_some() {
                return Ok(Some(if is_too_long { Line::TooLong } else { Line::Whole(&self.line) }));
            }
        }
    }
}
