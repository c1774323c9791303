//! Cleaning up: everything that a server keeps longer than anybody needs it is given back, part after part.
//!
//! ```text
//!   memory, backing tier, compaction   the library's clean-up, in small steps with pauses
//!   history                            what is kept no longer, a bounded step at a time, between the minutes that are written
//!   dead letters                       those that nobody looked at for so long, and the oldest of too many
//!   audit log                          files whose time is over
//! ```
//!
//! What fails in one part does not keep the others from their turn; the report says of each what it gave back, and what failed. It may be
//! stopped after each step, or dropped: nothing is ever half done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder::events::DeadLetter;
use larder::{Larder, SweepCursor, SweepPart, Swept};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::audit::Audit;
use crate::history::{Pruner, wall_ms};
use crate::progress::Progress;
use crate::settings::LettersKept;

pub mod cleaner;

pub use cleaner::Cleaner;

/// How long the audit log's thread is waited for: on a disk that is full it has something else to do.
const AUDIT_MAX: Duration = Duration::from_secs(10);

/// Steps of pruning the history at most: some millions of rows. The next clean-up goes on.
const HISTORY_STEPS_MAX: u32 = 1_000;

/// What is cleaned up.
#[derive(Clone)]
pub struct Places {
    /// The cache.
    pub larder: Larder,
    /// What has the history forget, where there is one.
    pub history: Option<Pruner>,
    /// The audit log, where there is one.
    pub audit: Option<Arc<Audit>>,
    /// How long dead letters are kept.
    pub letters: LettersKept,
}

/// Something that was given back, and not by a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// How many rows, letters or files.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a clean-up gave back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the cache, by namespace and cause.
    pub swept: Swept,
    /// Rows of the history; null where none is kept.
    pub history: Option<Room>,
    /// Dead letters.
    pub dead_letters: Room,
    /// Files of the audit log; null where there is none.
    pub audit: Option<Room>,
    /// All of it.
    pub total: Room,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Whether it was told to stop before its end.
    pub cancelled: bool,
    /// What failed, by part. Empty where all went well.
    pub failed: Vec<Failed>,
}

/// A part that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which: `cache`, `history`, `dead_letters` or `audit`; `cleanup` where all of it ended before its time.
    pub part: String,
    /// Why.
    pub why: String,
}

/// A clean-up of which parts failed. What the others gave back is in its report all the same.
#[derive(Debug)]
pub struct CleanupError {
    /// The report, as [`run`] gives it where all goes well.
    pub report: Json,
    failed: Vec<Failed>,
}

impl fmt::Display for CleanupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed.iter().map(|Failed { part, why }| format!("{part}: {why}"));
        write!(f, "not everything could be cleaned up: {}", failed.collect::<Vec<_>>().join("; "))
    }
}

impl std::error::Error for CleanupError {}

/// Cleans up, and reports what that gave back, as JSON of a [`Report`]. Stopped early, it reports what it did up to there.
///
/// # Errors
/// When a part failed; the others had their turn.
pub async fn run(places: &Places, progress: &Progress) -> Result<Json, CleanupError> {
    clean_up(places, progress).await.into_result()
}

/// The same, as a value.
pub async fn clean_up(places: &Places, progress: &Progress) -> Report {
    let began = tokio::time::Instant::now();
    let mut report = Report::default();
    let (swept, ended) = sweep(&places.larder, progress).await;
    report.swept = swept;
    report.note("cache", ended.err());
    if let Some(pruner) = places.history.as_ref().filter(|_| !progress.is_cancelled()) {
        let (room, ended) = prune(pruner, progress).await;
        report.history = Some(room);
        report.note("history", ended.err());
    }
    if !progress.is_cancelled() {
        let (room, ended) = drop_letters(&places.larder, places.letters, progress).await;
        report.dead_letters = room;
        report.note("dead_letters", ended.err());
    }
    if let Some(audit) = places.audit.as_ref().filter(|_| !progress.is_cancelled()) {
        progress.at("removing old files of the audit log", 0, None);
        report.audit = Some(Room::default());
        match timeout(AUDIT_MAX, audit.retire()).await {
            Ok(Ok(gone)) => report.audit = Some(Room { entries: gone.files, bytes: gone.bytes }),
            Ok(Err(error)) => report.note("audit", Some(error)),
            Err(_) => report.note("audit", Some(format!("its thread did not answer within {AUDIT_MAX:?}"))),
        }
    }
    report.cancelled = progress.is_cancelled();
    report.took_ms = ms_since(began);
    report.add_up();
    report
}

fn ms_since(began: tokio::time::Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    fn note(&mut self, part: &str, failed: Option<impl fmt::Display>) {
        if let Some(why) = failed {
            tracing::warn!(part, %why, "a part of the clean-up failed");
            self.failed.push(Failed { part: part.to_owned(), why: why.to_string() });
        }
    }

    /// As JSON; an error where a part failed.
    fn into_result(self) -> Result<Json, CleanupError> {
        let json = json!(self);
        if self.failed.is_empty() { Ok(json) } else { Err(CleanupError { report: json, failed: self.failed }) }
    }

    fn add_up(&mut self) {
        let Swept { expired, invalidated, memory_removed_bytes, backing_removed, backing_removed_bytes, compacted_bytes, .. } = self.swept;
        // What a compaction gives back is what removed records took, so it is not counted twice.
        let tier_bytes = compacted_bytes.max(backing_removed_bytes);
        let cache = Room { entries: expired + invalidated + backing_removed, bytes: memory_removed_bytes + tier_bytes };
        let parts = [Some(cache), self.history, Some(self.dead_letters), self.audit];
        self.total = parts
            .into_iter()
            .flatten()
            .fold(Room::default(), |total, part| Room { entries: total.entries + part.entries, bytes: total.bytes + part.bytes });
    }
}

async fn sweep(larder: &Larder, progress: &Progress) -> (Swept, larder::Result<()>) {
    let on_step = |step: &larder::SweepStep<'_>| {
        let doing = match step.part {
            SweepPart::Memory => "sweeping memory",
            SweepPart::Backing => "sweeping the backing tier",
            _ => "compacting the backing tier",
        };
        progress.at(doing, step.done, step.of);
        !progress.is_cancelled()
    };
    if progress.is_cancelled() {
        return (Swept::default(), Ok(()));
    }
    larder.clean_up(SweepCursor::start(), on_step).await
}

async fn prune(pruner: &Pruner, progress: &Progress) -> (Room, Result<(), crate::history::HistoryError>) {
    let mut room = Room::default();
    for _ in 0..HISTORY_STEPS_MAX {
        progress.at("forgetting old history", room.entries, None);
        match pruner.step(wall_ms()).await {
            Ok(pruned) => {
                room.entries += pruned.rows;
                room.bytes += pruned.bytes;
                if !pruned.is_more || progress.is_cancelled() {
                    break;
                }
            }
            Err(error) => return (room, Err(error)),
        }
    }
    (room, Ok(()))
}

async fn drop_letters(larder: &Larder, kept: LettersKept, progress: &Progress) -> (Room, larder::Result<()>) {
    let letters = larder.dead_letters();
    let over = over(&letters, kept, larder.clock().now_ms());
    let mut room = Room::default();
    for letter in over {
        progress.at("dropping old dead letters", room.entries, Some(over.len() as u64));
        if progress.is_cancelled() {
            break;
        }
        match larder.drop_dead_letter(letter.id).await {
            // Somebody else was first.
            Ok(false) => {}
            Ok(true) => {
                room.entries += 1;
                room.bytes += (letter.event.to_string().len() + letter.reason.len()) as u64;
            }
            Err(error) => return (room, Err(error)),
        }
    }
    (room, Ok(()))
}

/// The letters whose time is over: from the oldest on, so many as are too many, and those behind them that are too old.
fn over(letters: &[DeadLetter], kept: LettersKept, now_ms: u64) -> &[DeadLetter] {
    let too_many = letters.len().saturating_sub(usize::try_from(kept.most).unwrap_or(usize::MAX));
    let keep_ms = u64::try_from(kept.keep.as_millis()).unwrap_or(u64::MAX);
    // By number and not by time: a clock that was set back must not put new ones in front of old ones.
    let too_old = letters.iter().take_while(|letter| letter.at_ms.saturating_add(keep_ms) < now_ms).count();
    &letters[..too_many.max(too_old)]
}

#[cfg(test)]
mod tests;
