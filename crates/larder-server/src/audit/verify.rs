//! Whether a log is as it was written: each line unchanged, each after the one before, none missing at the end, no file missing that the
//! log does not say it removed itself. It reads files alone, of a server that runs or not.

use std::fmt;
use std::io;
use std::path::Path;

use super::chain::{self, Link};
use super::files::{self, Segment, name_of};
use super::reading::{Line, Lines};
use super::record::Entry;
use super::writer::told;

/// Findings that are told; of more, their number.
const FINDINGS_MAX: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were read.
    pub files: usize,
    /// Whole lines in them.
    pub lines: u64,
    /// When the first and the last record were made.
    pub span: Option<(String, String)>,
    /// Number and hash of the last line: to be kept elsewhere, for whoever does not trust the machine.
    pub head: Option<(u64, String)>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many findings there are that are not told.
    pub findings_more: u64,
    /// What the log says of itself: what it put aside, lost, or did not record one by one.
    pub notes: Vec<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file; empty where it is none's.
    pub file: String,
    /// The line, counted from 1; 0 where it is none's.
    pub line: u64,
    /// What.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => f.write_str(&self.what),
            (file, 0) => write!(f, "{file}: {}", self.what),
            (file, line) => write!(f, "{file}:{line}: {}", self.what),
        }
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: &str, line: u64, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { file: file.to_owned(), line, what: what.into() });
        } else {
            self.findings_more += 1;
        }
    }
}

/// Where the chain stands while it is followed.
struct Following {
    /// What the next line has to follow; nothing where that is not known.
    link: Option<Link>,
    /// Whether the line of the head was there.
    at_head: bool,
    /// The last file that the log says it removed.
    retired: u64,
}

/// Reads a whole log.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn verify(folder: &Path) -> io::Result<Report> {
    // The head first: a server that writes meanwhile goes beyond it, and never behind.
    let head = files::head(folder)?;
    let is_in_use = files::is_in_use(folder);
    let all = files::list(folder)?;
    let mut report = Report::default();
    let first = all.first().map_or(1, |segment| segment.number);
    let mut following = Following { link: (first == 1).then(Link::start), at_head: false, retired: 0 };
    let mut before = first.saturating_sub(1);
    let mut gaps = Vec::new();
    if before > 0 {
        gaps.push((1, before));
    }
    for (at, segment) in all.iter().enumerate() {
        if segment.number != before + 1 {
            gaps.push((before + 1, segment.number - 1));
            following.link = None;
        }
        before = segment.number;
        let is_last = at + 1 == all.len();
        match read(segment, head.as_ref(), &mut following, &mut report) {
            // Removed since the list was made, by the log itself: what it says of that comes later in the row.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gaps.push((segment.number, segment.number));
                following.link = None;
            }
            Err(error) => return Err(error),
            Ok(None) => {}
            Ok(Some(bytes)) if is_last => {
                let whose = if is_in_use { "it is being written" } else { "the next server to start puts it aside" };
                report.notes.push(format!("{}: {bytes} bytes of half a line at its end: {whose}", name_of(segment.number)));
            }
            Ok(Some(bytes)) => report.find(&name_of(segment.number), 0, format!("it ends with half a line of {bytes} bytes")),
        }
    }
    for (from, to) in gaps.into_iter().filter(|(_, to)| *to > following.retired) {
        let which = if from == to { name_of(from) } else { format!("{} to {}", name_of(from), name_of(to)) };
        report.find("", 0, format!("{which}: missing, and the log does not say that it removed it"));
    }
    match (&head, &following.link) {
        (None, None) if all.is_empty() => report.find("", 0, "there is no audit log here"),
        (None, _) => report.find("head", 0, "it is missing or damaged: whether lines are missing at the end is not known"),
        (Some(_), _) if following.at_head => {}
        (Some(head), _) => report.find("", 0, format!("lines are missing at the end, or were made anew: there was a line {}", head.seq)),
    }
    report.head = following.link.filter(|link| link.seq > 0).map(|link| (link.seq, link.hash));
    Ok(report)
}

/// Reads a file. Returns how long the half of a line at its end is, if there is one.
fn read(segment: &Segment, head: Option<&Link>, following: &mut Following, report: &mut Report) -> io::Result<Option<usize>> {
    let mut lines = Lines::open(&segment.path)?;
    let file = name_of(segment.number);
    report.files += 1;
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        let line = match line {
            Line::Whole(line) => line,
            Line::Half(half) => return Ok(Some(half.len())),
            Line::TooLong => {
                report.find(&file, number, "it is longer than any line of an audit log");
                following.link = None;
                continue;
            }
        };
        report.lines += 1;
        match chain::open(line) {
            Ok((entry, link)) => {
                if following.link.as_ref().is_some_and(|before| !chain::follows(&entry, before)) {
                    report.find(&file, number, chain::Broken::Order.words());
                }
                following.at_head |= head == Some(&link);
                following.link = Some(link);
                told_by(&entry, following, report, (&file, number));
            }
            Err((broken, link)) => {
                report.find(&file, number, broken.words());
                // The next line has what this one had, if that can still be read.
                following.link = link;
            }
        }
    }
    Ok(None)
}

/// What the log says of itself.
fn told_by(entry: &Entry, following: &mut Following, report: &mut Report, (file, line): (&str, u64)) {
    let span = report.span.get_or_insert_with(|| (entry.at.clone(), String::new()));
    span.1.clone_from(&entry.at);
    if entry.door != "audit" {
        return;
    }
    match entry.what.as_str() {
        told::RETIRED => {
            let number = entry.names.first().and_then(|name| name.strip_prefix("file:")?.parse().ok());
            following.retired = following.retired.max(number.unwrap_or(0));
        }
        told::DAMAGED => report.find(file, line, format!("a server that was started found: {}", entry.detail)),
        told::TORN | told::LOST | told::REFUSED if report.notes.len() < FINDINGS_MAX => {
            report.notes.push(format!("{file}:{line}: {}: {}", entry.at, entry.detail));
        }
        _ => {}
    }
}
