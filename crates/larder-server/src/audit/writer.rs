//! The thread that writes: records as they come, as many at once as wait; files one after another; what is too old, away. It also
//! records what it finds and does itself, as records of the log's own (`door` is `audit`).
//!
//! ```text
//!   open     the last file to its end -> half a line: aside     lines missing or changed: told; a new file
//!   run      take -> append (fsync) -> head -> told to who waits
//!            full disk: the same again every half second; nothing more is taken in meanwhile
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder::Clock;
use ring::hmac;

use super::chain::{self, Link};
use super::files::{self, Folder, Tail};
use super::queue::{Come, Queue, Retired};
use super::reading::{Line, Lines};
use super::record::{Class, Decision, Entry, Name, Outcome, Record};
use super::{AuditError, AuditSettings, OnFailure};
use crate::moment;

/// Records that are written at once.
const BATCH_MAX: usize = 256;

/// How often it looks at the age of files where nothing comes; and how often numbers are told of what is not recorded one by one.
const UPKEEP: Duration = Duration::from_secs(1);

/// How often files are looked for that are to be removed.
const LOOK: Duration = Duration::from_secs(60);

/// How long until a disk that was full is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the log itself is called in its records.
const SELF: &str = "larder";

/// What it has done and found. `verify` knows these words.
pub mod told {
    /// The log was opened.
    pub const OPENED: &str = "audit.opened";
    /// A file begins.
    pub const ROTATED: &str = "audit.rotated";
    /// Files were removed, up to the one that is named.
    pub const RETIRED: &str = "audit.retired";
    /// Half a line was put aside.
    pub const TORN: &str = "audit.torn";
    /// Lines were changed, or are missing.
    pub const DAMAGED: &str = "audit.damaged";
    /// Operations were carried out and are not recorded.
    pub const LOST: &str = "audit.lost";
    /// Operations were refused and are not recorded one by one.
    pub const REFUSED: &str = "audit.refused";
}

/// See the head of this file.
pub struct Writer {
    folder: Folder,
    tail: Tail,
    link: Link,
    /// When the file began, by the clock.
    began_ms: u64,
    upkept_ms: u64,
    /// When old files were last looked for, and up to which they were said to be removed.
    looked_ms: u64,
    retired: u64,
    queue: Arc<Queue>,
    clock: Clock,
    secret: Option<hmac::Key>,
    is_durable: bool,
    file_bytes_max: u64,
    file_age_max: Duration,
    keep: Duration,
    bytes_max: u64,
    /// What could not be written when it was opened.
    first: Vec<Record>,
    /// Room for lines.
    lines: Vec<u8>,
}

struct Ends(Arc<Queue>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.over();
    }
}

/// What was found at the end of the row.
struct Found {
    number: u64,
    link: Link,
    findings: Vec<Record>,
    /// Whether the last file may be gone on with.
    is_sound: bool,
}

fn own(what: &'static str, outcome: Outcome, detail: impl Into<String>) -> Record {
    let mut record = Record::begun("audit", Class::Admin, what, "");
    record.who = SELF.to_owned();
    record.end(Decision::Allowed, outcome, detail);
    record
}

impl Writer {
    /// Takes the folder, and looks at how it was left.
    pub fn open(settings: &AuditSettings, clock: Clock, queue: Arc<Queue>) -> Result<Self, AuditError> {
        let failed = |error| AuditError::File(settings.folder.clone(), error);
        let folder = Folder::open(&settings.folder)?;
        let found = find(&folder).map_err(failed)?;
        let number = if found.is_sound { found.number } else { found.number + 1 };
        let tail = folder.open_segment(number.max(1)).map_err(failed)?;
        let now = clock.refresh();
        let mut writer = Writer {
            link: found.link,
            began_ms: now,
            upkept_ms: now,
            looked_ms: 0,
            retired: 0,
            queue,
            secret: settings.name_secret.as_ref().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)),
            is_durable: settings.is_durable,
            file_bytes_max: settings.file_bytes_max,
            file_age_max: settings.file_age_max,
            keep: settings.keep,
            bytes_max: settings.bytes_max,
            first: Vec::new(),
            lines: Vec::new(),
            folder,
            tail,
            clock,
        };
        found
            .findings
            .iter()
            .for_each(|finding| tracing::warn!(what = %finding.what, detail = finding.detail, "the audit log was not left in order"));
        let opened = own(told::OPENED, Outcome::Done, format!("larder {}", env!("CARGO_PKG_VERSION")));
        let records: Vec<Record> = found.findings.into_iter().chain([opened]).collect();
        match (writer.write(&records), settings.on_failure) {
            (Ok(()), _) => {}
            // A log that cannot be written from the start is a matter of its settings, and told at once.
            (Err(error), OnFailure::Refuse) => return Err(failed(error)),
            (Err(error), OnFailure::Warn) => {
                writer.queue.failed(&error.to_string());
                writer.first = records;
            }
        }
        Ok(writer)
    }

    /// Writes until the queue is closed and empty.
    pub fn run(mut self) {
        // However this ends, nobody waits for what is not written any more.
        let _ends = Ends(self.queue.clone());
        let first = std::mem::take(&mut self.first);
        self.write_all(&[], first);
        loop {
            match self.queue.take(BATCH_MAX, UPKEEP) {
                Come::Closed => return self.end(),
                Come::Records(records) => {
                    for asked in self.queue.take_retiring() {
                        // Who asked may have gone.
                        drop(asked.send(self.retire()));
                    }
                    let is_due = self.clock.refresh().saturating_sub(self.upkept_ms) >= UPKEEP.as_millis() as u64;
                    let own = if is_due { self.upkeep() } else { Vec::new() };
                    self.write_all(&records, own);
                }
            }
        }
    }

    /// Writes what came and what is to be said beside it, however long it takes.
    fn write_all(&mut self, records: &[Record], own: Vec<Record>) {
        let all: Vec<&Record> = records.iter().chain(&own).collect();
        if all.is_empty() {
            return;
        }
        let mut is_told = false;
        while let Err(error) = self.write(all.iter().copied()) {
            self.queue.failed(&error.to_string());
            if !std::mem::replace(&mut is_told, true) {
                tracing::error!(%error, "the audit log cannot be written");
            }
            if self.queue.is_closed() {
                // The last there is to be done for them.
                return all.iter().for_each(|record| tracing::error!(?record, "this is not in the audit log, which could not be written"));
            }
            self.queue.pause(RETRY);
        }
        if is_told {
            tracing::info!("the audit log is written again");
        }
        self.queue.wrote(records.len() as u64);
    }

    /// Appends records to the chain. Where that fails nothing has changed.
    fn write<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> io::Result<()> {
        let now = self.clock.refresh();
        let mut link = self.link.clone();
        self.lines.clear();
        for record in records {
            let at = moment::timestamp(if record.at_ms == 0 { now } else { record.at_ms });
            let entry = Entry::of(record, (link.seq + 1, link.hash), at, self.secret.as_ref());
            link = chain::seal(&entry, &mut self.lines);
        }
        self.tail.mend()?;
        self.tail.append(&self.lines, self.is_durable)?;
        // From here on they are in it, whatever becomes of the head: one that is behind says less, and nothing wrong.
        self.link = link;
        if let Err(error) = self.folder.set_head(&self.link) {
            tracing::warn!(%error, "the head of the audit log is behind its end");
        }
        Ok(())
    }

    /// Begins a new file where it is time for one, removes old ones, and says what else there is to say.
    fn upkeep(&mut self) -> Vec<Record> {
        let now = self.clock.refresh();
        self.upkept_ms = now;
        let mut own_records = Vec::new();
        let is_old = now.saturating_sub(self.began_ms) >= self.file_age_max.as_millis() as u64;
        if self.tail.bytes >= self.file_bytes_max || is_old {
            match self.folder.open_segment(self.tail.number + 1) {
                Ok(tail) => {
                    tracing::info!(head = %self.link.hash, file = self.tail.number, "a file of the audit log is complete");
                    own_records.push(own(told::ROTATED, Outcome::Done, format!("it follows {}", files::name_of(self.tail.number))));
                    self.tail = tail;
                    (self.began_ms, self.looked_ms) = (now, 0);
                }
                Err(error) => tracing::warn!(%error, "no new file can be begun for the audit log; it goes on in the one before"),
            }
        }
        if now.saturating_sub(self.looked_ms) >= LOOK.as_millis() as u64 {
            self.looked_ms = now;
            if let Err(error) = self.retire() {
                tracing::warn!(%error, "old files of the audit log cannot be removed");
            }
        }
        own_records.extend(self.counted());
        own_records
    }

    /// What was not recorded one by one.
    fn counted(&self) -> Vec<Record> {
        let counts = self.queue.take_counts();
        let numbers = [
            (counts.lost, told::LOST, "operations were carried out and are not recorded"),
            (counts.refused, told::REFUSED, "more were refused"),
        ];
        let numbers = numbers.into_iter().filter(|(number, ..)| *number > 0);
        numbers.map(|(number, what, words)| own(what, Outcome::Done, format!("{number} {words}"))).collect()
    }

    /// Removes files that are too old, or too many. That is recorded first: a file that is missing without a word was removed by
    /// somebody else.
    fn retire(&mut self) -> io::Result<Retired> {
        let all = files::list(self.folder.path())?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.now_ms());
        let mut bytes: u64 = all.iter().map(|segment| segment.bytes).sum();
        let mut retired: Vec<&files::Segment> = Vec::new();
        for segment in all.iter().filter(|segment| segment.number < self.tail.number) {
            let is_old = now.duration_since(segment.written_at).is_ok_and(|age| age > self.keep);
            if !(is_old || bytes > self.bytes_max) {
                break;
            }
            bytes -= segment.bytes;
            retired.push(segment);
        }
        let Some(last) = retired.last() else { return Ok(Retired::default()) };
        // Said once, however often it takes to remove them.
        if last.number > self.retired {
            let mut record = own(told::RETIRED, Outcome::Done, format!("files up to number {} are removed", last.number));
            record.name([Name::new("file", last.number.to_string())]);
            self.write([&record])?;
            self.retired = last.number;
        }
        let mut gone = Retired::default();
        for segment in retired {
            std::fs::remove_file(&segment.path)?;
            gone.files += 1;
            gone.bytes += segment.bytes;
        }
        Ok(gone)
    }

    fn end(&mut self) {
        let own = self.counted();
        self.write_all(&[], own);
        if let Err(error) = self.tail.append(&[], true) {
            tracing::warn!(%error, "the audit log may not be on the disk");
        }
    }
}

/// How a file was left.
struct Left {
    /// Where the chain stands at its end; nothing where no line says.
    link: Option<Link>,
    /// Whether all lines belong where they are.
    is_sound: bool,
    /// Bytes of whole lines, where there is half a line behind them.
    torn_at: Option<u64>,
    /// Whether the line that the head names is there, and is that line.
    at_head: Option<bool>,
}

fn look_at(segment: &files::Segment, head: Option<&Link>) -> io::Result<Left> {
    let mut lines = Lines::open(&segment.path)?;
    let (mut left, mut good) = (Left { link: None, is_sound: true, torn_at: None, at_head: None }, 0);
    while let Some(line) = lines.next_line()? {
        match line {
            Line::Whole(line) => match chain::open(line) {
                Ok((entry, next)) => {
                    left.is_sound &= left.link.as_ref().is_none_or(|link| chain::follows(&entry, link));
                    left.link = Some(next);
                }
                Err((_, next)) => {
                    left.is_sound = false;
                    left.link = next.or(left.link);
                }
            },
            Line::TooLong => left.is_sound = false,
            Line::Half(_) => {
                left.torn_at = Some(good);
                break;
            }
        }
        good = lines.at;
        if let (Some(link), Some(head)) = (&left.link, head)
            && link.seq == head.seq
        {
            left.at_head = Some(link.hash == head.hash);
        }
    }
    Ok(left)
}

/// Looks at the end of the row: at the last file that has a line.
fn find(folder: &Folder) -> io::Result<Found> {
    let all = files::list(folder.path())?;
    let head = files::head(folder.path())?;
    let (mut findings, mut is_sound, mut last) = (Vec::new(), true, None);
    let damaged = |detail: String| own(told::DAMAGED, Outcome::Failed, detail);
    for segment in all.iter().rev() {
        let left = look_at(segment, head.as_ref())?;
        if !left.is_sound {
            findings.push(damaged(format!("lines of {} were changed; `larder audit verify` says which", files::name_of(segment.number))));
            is_sound = false;
        }
        if let Some(good) = left.torn_at {
            let name = folder.put_aside(segment, good)?;
            let mut record = own(told::TORN, Outcome::Done, format!("half a line was put aside: {name}"));
            record.name([Name::new("file", segment.number.to_string())]);
            findings.push(record);
        }
        if left.link.is_some() {
            last = Some(left);
            break;
        }
    }
    let number = all.last().map_or(0, |segment| segment.number);
    let (link, at_head) = last.map_or((None, None), |left| (left.link, left.at_head));
    let missing = match (&head, &link) {
        (Some(head), Some(link)) if at_head.unwrap_or(head.seq < link.seq) => None,
        (None, None) => None,
        (None, Some(_)) => Some("the head is missing: whether lines are missing at the end is not known".to_owned()),
        (Some(head), _) => Some(format!("lines are missing at the end, or were made anew: there was a line {}", head.seq)),
    };
    is_sound &= missing.is_none();
    findings.extend(missing.map(damaged));
    // Numbers go on from the highest that was ever given.
    let link = match (link, head) {
        (Some(link), Some(head)) if head.seq > link.seq => head,
        (Some(link), _) | (None, Some(link)) => link,
        (None, None) => Link::start(),
    };
    Ok(Found { number, link, findings, is_sound })
}
