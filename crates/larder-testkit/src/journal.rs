//! The log of a cache, read by other code than the cache's own: what took effect, in order, and for which event.
//!
//! The cache lets old segments go; so they are kept each time that it is dead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

/// The window within which no event may take effect twice.
const WINDOW: usize = 65_536;

/// All segments, by number.
#[derive(Default)]
pub struct Journal(BTreeMap<u64, Vec<u8>>);

/// An append of an event.
#[derive(Debug, PartialEq)]
struct Append {
    position: u64,
    marks: Vec<[u8; 16]>,
    names: Vec<(u8, String)>,
}

/// What the log says of events that were numbered from 0.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Appends of events.
    pub appends: usize,
    /// Events that took effect.
    pub events: usize,
    /// Appends of an event that had taken effect before, so long ago that it may have been forgotten.
    pub twice_beyond_the_window: usize,
    /// Appends of no event: of all that a source covers.
    pub others: usize,
    /// What must not be.
    pub faults: Vec<String>,
}

impl Journal {
    /// Keeps what is in the folder of a log that nobody writes.
    ///
    /// # Panics
    /// If a segment cannot be read.
    pub fn keep(&mut self, log: &Path) {
        for entry in fs::read_dir(log).into_iter().flatten() {
            let entry = entry.expect("a folder can be read");
            let number = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name.strip_prefix("segment-")?, 16).ok());
            if let Some(number) = number {
                self.0.insert(number, fs::read(entry.path()).expect("a segment can be read"));
            }
        }
    }

    /// Whether each of so many events took effect, once within the window, and in order per partition. The event of a number is one
    /// whose rule takes out the tag of that number and nothing else.
    ///
    /// # Panics
    /// If a tag is no number.
    pub fn judge(&self, events: usize, partition: impl Fn(usize) -> usize) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut last, mut seen, mut marks) = (HashMap::new(), HashMap::<usize, usize>::new(), HashSet::new());
        let (first, last_segment) = (self.0.keys().next().copied(), self.0.keys().next_back().copied());
        if first != Some(1) || last_segment != Some(self.0.len() as u64) {
            verdict.faults.push(format!("segments are missing: {:?}", self.0.keys().collect::<Vec<_>>()));
        }
        let mut position = 0;
        for append in self.0.values().flat_map(|segment| appends(segment)) {
            if append.position <= position {
                verdict.faults.push(format!("position {} comes after {position}", append.position));
            }
            position = append.position;
            let ([mark], [(2, number)]) = (append.marks.as_slice(), append.names.as_slice()) else {
                verdict.others += 1;
                if !append.marks.is_empty() || append.names != [(4, String::new())] {
                    verdict.faults.push(format!("not what an event or a gap leaves: {append:?}"));
                }
                continue;
            };
            let number: usize = number.parse().expect("events are numbered");
            verdict.appends += 1;
            match seen.insert(number, verdict.appends) {
                Some(before) if verdict.appends - before > WINDOW => verdict.twice_beyond_the_window += 1,
                Some(_) => verdict.faults.push(format!("{number} took effect twice")),
                None => {
                    let before = last.entry(partition(number)).or_insert(number);
                    if *before > number {
                        verdict.faults.push(format!("{number} took effect after {before}, of the same partition"));
                    }
                    *before = number;
                    if !marks.insert(*mark) {
                        verdict.faults.push(format!("{number} has another event's mark"));
                    }
                }
            }
        }
        verdict.events = seen.len();
        let lost: Vec<usize> = (0..events).filter(|number| !seen.contains_key(number)).take(10).collect();
        if !lost.is_empty() {
            verdict.faults.push(format!("never took effect: {lost:?}, and perhaps more"));
        }
        verdict
    }
}

/// The appends of a segment, up to the first record that is not whole: what was being written when its process was killed.
fn appends(segment: &[u8]) -> Vec<Append> {
    const HEADER: usize = 64;
    let mut rest = segment.get(HEADER..).unwrap_or_default();
    let mut all = Vec::new();
    while let Some(length) = take(&mut rest, 4) {
        let Some(_checksum) = take(&mut rest, 4) else { break };
        let Some(mut body) = take(&mut rest, number(length) as usize) else { break };
        let (Some(position), Some([kind])) = (take(&mut body, 8), take(&mut body, 1)) else { break };
        let position = number(position);
        match kind {
            1 => all.push(Append { position, marks: Vec::new(), names: names(&mut body) }),
            4 => {
                let marks = number(take(&mut body, 4).expect("a count of marks"));
                let marks = (0..marks).map(|_| take(&mut body, 16).expect("a mark").try_into().expect("16 bytes")).collect();
                all.push(Append { position, marks, names: names(&mut body) });
            }
            // Ceilings, the end, and marks alone, which have no effect.
            _ => {}
        }
    }
    all
}

fn names(body: &mut &[u8]) -> Vec<(u8, String)> {
    let count = number(take(body, 4).expect("a count of names"));
    let name = |_| {
        let kind = take(body, 1).expect("a kind")[0];
        let length = number(take(body, 2).expect("a length")) as usize;
        (kind, String::from_utf8(take(body, length).expect("a name").to_vec()).expect("names are text here"))
    };
    (0..count).map(name).collect()
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
