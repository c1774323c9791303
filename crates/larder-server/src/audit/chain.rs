//! The chain: each line ends with a hash of itself, and has that of the line before it in it. Whoever changes, removes or moves a line has
//! to make every line after it anew, and then the head of the chain is another, which can be kept elsewhere.
//!
//! ```text
//!   {"seq":7,"prev":"<hash of line 6>", .. ,"hash":"<SHA-256 of all before ,\"hash\">"}
//! ```

use std::fmt;

use ring::digest::{self, SHA256};

use super::record::Entry;
use crate::hex;

/// What stands between a line and its hash.
const MARK: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
/// Hexadecimal digits of a hash.
const DIGITS: usize = 2 * digest::SHA256_OUTPUT_LEN;

/// Where a chain stands: at the line with this number and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number of the last line; 0: there is none.
    pub seq: u64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

impl Link {
    /// Before the first line.
    pub fn start() -> Self {
        Link { seq: 0, hash: "0".repeat(DIGITS) }
    }

    /// A place that was written down.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.trim_end().split_once(' ')?;
        let is_hash = hash.len() == DIGITS && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        Some(Link { seq: seq.parse().ok()?, hash: hash.to_owned() }).filter(|_| is_hash)
    }
}

/// To be written down, always as long: 86 bytes.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:020} {}", self.seq, self.hash)
    }
}

/// Why a line does not belong where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is no line of such a log.
    Form,
    /// It was changed since.
    Changed,
    /// It does not follow the one before: lines are missing, or were moved.
    Order,
}

impl Broken {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Broken::Form => "it is no line of an audit log",
            Broken::Changed => "it was changed after it was written",
            Broken::Order => "it does not follow the line before it: lines are missing, or were moved",
        }
    }
}

/// Appends a line to a chain, its end included, and says where the chain stands then. The entry has to have the number and the hash of
/// where it stood.
pub fn seal(entry: &Entry, into: &mut Vec<u8>) -> Link {
    let begins = into.len();
    serde_json::to_writer(&mut *into, entry).expect("an entry is texts and numbers");
    // The hash is within the object, at its end.
    into.pop();
    let hash = hex::of(digest::digest(&SHA256, &into[begins..]).as_ref());
    into.extend_from_slice(MARK);
    into.extend_from_slice(hash.as_bytes());
    into.extend_from_slice(END);
    into.push(b'\n');
    Link { seq: entry.seq, hash }
}

/// Reads a line, without its end, and says where the chain stands after it.
///
/// # Errors
/// When it is no line, or was changed. With what comes with that, if it can be read: where the chain would go on.
pub fn open(line: &[u8]) -> Result<(Entry, Link), (Broken, Option<Link>)> {
    let (sealed, hash) = parts(line).ok_or((Broken::Form, None))?;
    let object = [sealed, b"}"].concat();
    let entry: Option<Entry> = serde_json::from_slice(&object).ok();
    let link = entry.as_ref().map(|entry| Link { seq: entry.seq, hash: hash.to_owned() });
    if hex::of(digest::digest(&SHA256, sealed).as_ref()) != hash {
        return Err((Broken::Changed, link));
    }
    match (entry, link) {
        (Some(entry), Some(link)) => Ok((entry, link)),
        _ => Err((Broken::Form, None)),
    }
}

fn parts(line: &[u8]) -> Option<(&[u8], &str)> {
    let rest = line.strip_suffix(END)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    Some((rest.strip_suffix(MARK)?, std::str::from_utf8(hash).ok()?))
}

/// Whether an entry follows where the chain stood.
pub fn follows(entry: &Entry, before: &Link) -> bool {
    entry.seq == before.seq + 1 && entry.prev == before.hash
}
