//! Finding records: which of them, and the last ones. Files are read from the oldest to the newest, in bounded memory; lines that are none
//! are passed over, since whether the log is sound is another question (`verify`).

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use ring::hmac;

use super::chain;
use super::files;
use super::reading::{Line, Lines};
use super::record::{Class, Decision, Entry, Outcome, hashed};
use crate::resp::glob;

/// Which records. What is not given is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// With a higher number than this.
    pub after: u64,
    /// Whose, as a pattern with `*` and `?`.
    pub who: Option<String>,
    /// From where, as such a pattern.
    pub from: Option<String>,
    /// What was done, as such a pattern.
    pub what: Option<String>,
    /// One of the names, as such a pattern: `key:features:*`, `tag:symbol:AAPL`.
    pub name: Option<String>,
    /// Of a class.
    pub class: Option<Class>,
    /// Allowed, or not.
    pub decision: Option<Decision>,
    /// That ended so.
    pub result: Option<Outcome>,
    /// Not before, as RFC 3339 has it in universal time.
    pub since: Option<String>,
    /// Before.
    pub until: Option<String>,
}

impl Wanted {
    /// Asks for a name also as it is written with this secret. A pattern cannot be.
    pub fn hashed(mut self, secret: &[u8]) -> Self {
        let hashed = self.name.as_deref().and_then(|name| {
            let (kind, name) = name.split_once(':')?;
            Some(hashed(kind, name.as_bytes(), &hmac::Key::new(hmac::HMAC_SHA256, secret)))
        });
        self.name = hashed.or(self.name);
        self
    }

    /// Whether a record is one of them.
    pub fn is(&self, entry: &Entry) -> bool {
        let like = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| glob::matches(pattern.as_bytes(), text.as_bytes()))
        };
        entry.seq > self.after
            && like(&self.who, &entry.who)
            && like(&self.from, &entry.from)
            && like(&self.what, &entry.what)
            && (self.name.is_none() || entry.names.iter().any(|name| like(&self.name, name)))
            && self.class.is_none_or(|class| class == entry.class)
            && self.decision.is_none_or(|decision| decision == entry.decision)
            && self.result.is_none_or(|result| result == entry.result)
            // Written alike, they are ordered as the times are.
            && self.since.as_ref().is_none_or(|since| entry.at >= *since)
            && self.until.as_ref().is_none_or(|until| entry.at < *until)
    }
}

/// Goes through all records that are wanted, from the oldest on, until told to stop.
///
/// # Errors
/// When the folder or a file cannot be read, or with what `each` ends with.
pub fn search<E: From<io::Error>>(folder: &Path, wanted: &Wanted, mut each: impl FnMut(&Entry) -> Result<bool, E>) -> Result<(), E> {
    for segment in files::list(folder)? {
        let mut lines = match Lines::open(&segment.path) {
            // Removed since it was listed: it was too old.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines?,
        };
        while let Some(line) = lines.next_line()? {
            let Line::Whole(line) = line else { continue };
            if let Ok((entry, _)) = chain::open(line)
                && wanted.is(&entry)
                && !each(&entry)?
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The last records that are wanted, so many at most, the oldest first.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn last(folder: &Path, wanted: &Wanted, most: usize) -> io::Result<Vec<Entry>> {
    let mut kept = VecDeque::new();
    let mut segments = files::list(folder)?;
    // From the newest file backwards, as far as it takes.
    while let Some(segment) = segments.pop() {
        let (mut own, mut has_older) = (VecDeque::new(), false);
        let mut lines = match Lines::open(&segment.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines?,
        };
        while let Some(line) = lines.next_line()? {
            let Line::Whole(line) = line else { continue };
            let Ok((entry, _)) = chain::open(line) else { continue };
            has_older |= entry.seq <= wanted.after;
            if wanted.is(&entry) {
                own.push_back(entry);
                if own.len() > most - kept.len() {
                    own.pop_front();
                }
            }
        }
        own.extend(kept);
        kept = own;
        if kept.len() >= most || has_older {
            break;
        }
    }
    Ok(kept.into())
}
