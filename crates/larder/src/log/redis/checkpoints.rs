//! Checkpoints: copies of the index, so that the stream has an end.
//!
//! What was invalidated stands in the stream, in the order of the log, and in the index of every instance. An instance that comes anew, or
//! fell behind, reads the last checkpoint and what the stream has since. When that has become much, one instance writes the next: from
//! its own index, as of the position it has applied. Lines may know of later positions by then; that makes them more cautious, and what
//! the stream says again changes nothing.
//!
//! Appends tell how much there is. Whoever hears that it is enough tries to be the one; a token keeps out who was too slow. If nobody
//! comes to it, appends wait, so that Redis is not filled, and are refused in the end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;

use super::Inner;
use super::encode::{self, Entry};
use crate::error::{Error, Result};
use crate::freshness::Snapshot;
use crate::mutation::Mutation;
use crate::position::{Epoch, Stamp};
use crate::remote::link::{Server, failed};
use crate::remote::{reply, script};

/// What a writer may take for a step before another one begins anew.
const STEP_MAX: Duration = Duration::from_secs(2);

/// Between tries, where one came to nothing: somebody else is at it, or the server is full.
const PAUSE: Duration = Duration::from_millis(100);

/// Lines of a part: little enough that appends do not wait for it.
const PART_LINES: usize = 2_048;

/// How long a copy of the log may take to come over: 16 MiB, and more for larger tables.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much the stream may have.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Bytes of the records since the checkpoint, by which the next is due.
    bytes_due: u64,
    /// How many records, by which it is.
    records_due: u64,
}

impl Room {
    /// Half a checkpoint: then a change costs twice its bytes in checkpoints at most, and who begins reads half as much again. Half of what
    /// the stream may have, since it keeps what came after the checkpoint before the last.
    pub(super) fn new(index_bytes: usize, stream_len: usize) -> Self {
        Room { bytes_due: (index_bytes as u64 / 2).clamp(256 << 10, 64 << 20), records_due: (stream_len as u64 / 2).max(1) }
    }

    pub(super) fn is_due(&self, bytes: u64, records: u64) -> bool {
        bytes >= self.bytes_due || records >= self.records_due
    }

    /// What appends wait for: many times what is due, so that a writer may be lost on the way.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_due * 8
    }
}

/// What became of one that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    /// Another instance was faster.
    NotDue,
    /// Another instance is at it, or was in the end; or this index is none of the log at present, or lags.
    NotNow,
}

/// Writes checkpoints as they fall due, as long as a server is in use. One that was begun is ended.
pub(super) async fn run(weak: Weak<Inner>, server: Arc<Server>) {
    let Some((due, link)) = weak.upgrade().map(|inner| (inner.checkpoint_due.clone(), inner.link.clone())) else { return };
    loop {
        tokio::select! {
            () = link.until_left(server.number) => return,
            () = due.notified() => {}
        }
        let Some(inner) = weak.upgrade() else { return };
        let outcome = inner.write_checkpoint(&server).await;
        if let Err(error) = &outcome {
            tracing::debug!(%error, "a checkpoint of the log was not written; it stays due");
        }
        let is_over = matches!(outcome, Ok(Outcome::Written | Outcome::NotDue));
        *inner.checkpoint_trouble.lock() = outcome.err().map(|error| error.to_string());
        drop(inner);
        if !is_over {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Inner {
    async fn write_checkpoint(&self, server: &Server) -> Result<Outcome> {
        let (generation, epoch) = self.index.era();
        // Before the first line is read.
        let upto = self.index.applied();
        if epoch != server.epoch || upto.generation() != generation {
            return Ok(Outcome::NotNow);
        }
        let step = Step { connection: server.append.clone(), keys: &self.keys, epoch, token: fastrand::u64(1..) };
        let Room { bytes_due, records_due } = self.room;
        match step.ask("begin", |call| call.arg(upto.seq()).arg(bytes_due).arg(records_due)).await?.as_str() {
            "ok" => {}
            "done" => return Ok(Outcome::NotDue),
            _ => return Ok(Outcome::NotNow),
        }
        let outcome = self.write_parts(&step, upto).await;
        if !matches!(outcome, Ok(Outcome::Written)) {
            // What there is of it would fill a server that is full already, and keep the next writer waiting.
            if let Err(error) = step.ask("abandon", |call| call).await {
                tracing::debug!(%error, "a checkpoint that was begun stays until the next one is");
            }
        }
        outcome
    }

    async fn write_parts(&self, step: &Step<'_>, mut upto: Stamp) -> Result<Outcome> {
        // Read again after each part, as every check of the index does: lines of another epoch, or with made-up positions, are nobody
        // else's.
        let is_of_the_log = || self.index.latest().generation() == upto.generation() && !self.index.is_provisional();
        let (mut parts, mut written) = (self.index.parts(PART_LINES), 0);
        while let Some(part) = parts.next() {
            if !is_of_the_log() || step.ask("part", |call| call.arg(written).arg(&part)).await? != "ok" {
                return Ok(Outcome::NotNow);
            }
            written += 1;
        }
        if !is_of_the_log() {
            return Ok(Outcome::NotNow);
        }
        if self.mutations.on(Mutation::CheckpointLate) {
            // A moment for others: what happens in microseconds seldom hits anybody.
            tokio::time::sleep(Duration::from_millis(100)).await;
            upto = self.index.applied();
        }
        if step.ask("finish", |call| call.arg(upto.seq()).arg(written).arg(&parts.head(upto.seq()))).await? != "ok" {
            return Ok(Outcome::NotNow);
        }
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(position = upto.seq(), "a checkpoint of the log was written");
        Ok(Outcome::Written)
    }

    /// The log, as of its head: the checkpoint, and what the stream has since.
    ///
    /// # Errors
    /// Where something of it is not there: then the epoch is left, so that another one begins.
    pub(super) async fn copy(&self, connection: &MultiplexedConnection, epoch: Epoch) -> Result<Snapshot> {
        let mut patient = connection.clone();
        patient.set_response_timeout(COPY_TIMEOUT);
        // Another checkpoint may come between. Then the stream is read from before it, which changes nothing.
        let before = crate::remote::link::query(&mut patient, ::redis::cmd("HGET").arg(&self.keys.meta).arg("checkpoint")).await?;
        let before = reply::number(before, "a position").unwrap_or(0);
        let mut all = ::redis::pipe();
        all.atomic().cmd("HMGET").arg(&self.keys.meta).arg("epoch").arg("head").arg("checkpoint");
        all.cmd("LRANGE").arg(&self.keys.checkpoint).arg(0).arg(-1);
        all.cmd("XRANGE").arg(&self.keys.stream).arg(format!("{}-0", before + 1)).arg("+");
        let answers: Vec<::redis::Value> = all.query_async(&mut patient).await.map_err(failed)?;
        let [meta, checkpoint, since] = answers.try_into().map_err(|_| reply::unexpected("the log"))?;
        let [in_force, head, upto] = reply::exactly(meta, "the log")?;
        if reply::bytes(in_force, "an epoch").ok().and_then(|bytes| encode::epoch_of(&bytes)) != Some(epoch) {
            return Err(Error::of_tier("the log was lost while it was taken up"));
        }
        let (head, upto) = (reply::number(head, "the log's head")?, reply::number(upto, "a position")?);
        let parts = reply::list(checkpoint, "a checkpoint")?.into_iter().map(|part| reply::bytes(part, "a checkpoint"));
        let checkpoint = parts.collect::<Result<Vec<_>>>()?;
        let (since, index_bytes) = (encode::records(since)?, self.index_bytes);
        let made = tokio::task::spawn_blocking(move || put_together(epoch, (upto, head), checkpoint, &since, index_bytes));
        let made = made.await.map_err(|_| Error::of_tier("the log could not be read"))?;
        made.ok_or_else(|| {
            self.leave_epoch(epoch);
            Error::of_tier("a part of the log is gone")
        })
    }
}

/// A copy of the log as of its head. `None`: something is missing.
fn put_together(epoch: Epoch, (upto, head): (u64, u64), parts: Vec<Vec<u8>>, since: &[Entry], index_bytes: usize) -> Option<Snapshot> {
    let snapshot = if parts.is_empty() {
        Snapshot::empty(epoch)
    } else {
        let encoded = parts.concat();
        // Each is as large as an index.
        drop(parts);
        Snapshot::decode(&encoded)?
    };
    if (snapshot.epoch, snapshot.head) != (epoch, upto) {
        return None;
    }
    if head == upto {
        return Some(snapshot);
    }
    let index = snapshot.to_index(index_bytes);
    drop(snapshot);
    let mut seen = upto;
    for entry in since.iter().filter(|entry| entry.last > upto) {
        if entry.first > seen + 1 {
            return None;
        }
        for (seq, names) in (entry.first..).zip(entry.appends().ok()?).filter(|(seq, _)| *seq > seen) {
            index.record(&names, seq);
        }
        seen = entry.last;
    }
    (seen >= head).then(|| index.snapshot(seen))
}

/// Steps of one writer.
struct Step<'a> {
    connection: MultiplexedConnection,
    keys: &'a super::Keys,
    epoch: Epoch,
    token: u64,
}

impl Step<'_> {
    /// Returns the script's answer.
    async fn ask(&self, what: &str, say: impl for<'a> FnOnce(&'a mut ::redis::Cmd) -> &'a mut ::redis::Cmd) -> Result<String> {
        let mut call = script::call(&script::CHECKPOINT, 4);
        call.arg(&self.keys.meta).arg(&self.keys.checkpoint).arg(&self.keys.unfinished).arg(&self.keys.stream);
        call.arg(&self.epoch.0.to_le_bytes()).arg(self.token).arg(STEP_MAX.as_millis() as u64).arg(what);
        say(&mut call);
        let answer = script::run(&mut self.connection.clone(), &call).await.map_err(failed)?;
        reply::text(answer, "a checkpoint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::{Index, LINE_BYTES};
    use crate::mutation::Mutations;
    use crate::name::{Name, Names};

    const EPOCH: Epoch = Epoch(7);
    const BYTES: usize = 16 * LINE_BYTES;

    fn tag(name: &str) -> Vec<Name> {
        Names::new().tag(name).check().unwrap()
    }

    fn entry(first: u64, names: &[Vec<Name>]) -> Entry {
        let mut bytes = Vec::new();
        for names in names {
            bytes.extend_from_slice(&(names.len() as u32).to_le_bytes());
            names.iter().for_each(|name| name.encode(&mut bytes));
        }
        Entry::new(first, first + names.len() as u64 - 1, bytes)
    }

    fn written(index: &Index, upto: u64) -> Vec<Vec<u8>> {
        let mut parts = index.parts(5);
        let written: Vec<Vec<u8>> = std::iter::from_fn(|| parts.next()).collect();
        [vec![parts.head(upto).to_vec()], written].concat()
    }

    #[test]
    fn a_copy_is_the_checkpoint_and_what_came_since() {
        let index = Index::new(BYTES, EPOCH, Mutations::default());
        let all: Vec<Vec<Name>> = (1..=40).map(|n| tag(&format!("t{}", n % 30))).collect();
        all[..30].iter().zip(1..).for_each(|(names, seq)| assert_eq!(index.record(names, seq), 0));
        let parts = written(&index, 30);
        assert_eq!(parts.concat(), index.snapshot(30).encode(), "in parts it is the same");
        let since = [entry(26, &all[25..32]), entry(33, &all[32..40])];
        let copy = |parts: &[Vec<u8>], upto, since: &[Entry]| put_together(EPOCH, (upto, 40), parts.to_vec(), since, BYTES);
        all[30..].iter().zip(31..).for_each(|(names, seq)| assert_eq!(index.record(names, seq), 0));
        assert_eq!(copy(&parts, 30, &since), Some(index.snapshot(40)));
        let from_nothing = [entry(1, &all[..25]), entry(26, &all[25..])];
        assert_eq!(copy(&[], 0, &from_nothing), Some(index.snapshot(40)));
        assert_eq!(copy(&parts, 30, &since[1..]), None, "31 is missing");
        assert_eq!(copy(&parts, 30, &since[..1]), None, "and here the end");
        assert_eq!(copy(&parts, 31, &since), None, "this is not the checkpoint that the log names");
        assert_eq!(copy(&parts[..parts.len() - 1], 30, &since), None, "a part is missing");
        assert_eq!(copy(&[], 30, &since), None, "it is gone");
    }

    #[test]
    fn a_checkpoint_is_due_by_bytes_or_by_records() {
        let room = Room::new(1 << 20, 100);
        assert!(!room.is_due(room.bytes_due - 1, 49));
        assert!(room.is_due(room.bytes_due, 1) && room.is_due(0, 50));
        assert!(room.bytes_max() > room.bytes_due);
        assert_eq!(Room::new(1 << 40, 1).bytes_due, 64 << 20, "of a large index not half a gigabyte");
    }
}
