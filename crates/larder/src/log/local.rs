//! The log of one process: positions from a counter, kept in segments on disk or in memory only.
//!
//! # Appending
//!
//! Under one lock: take the next position, write the record to the file, answer the guard, put the names into the index,
//! publish. So positions reach the index in order and the effect is immediate. An append that asks for
//! [`Durability::Fsync`] then waits, outside the lock, for the syncer thread, which serves all who wait with one `fsync`.
//!
//! The record is written before the index changes: a position that any reader can have seen is at least with the
//! operating system, so `kill -9` cannot make the log hand it out again. Against a machine crash there is the ceiling
//! (see [`segment`]).
//!
//! An append of marks alone takes no position: nothing becomes stale by it, and no reader has to look closer.
//!
//! # Files
//!
//! Segments are numbered from 1 without a gap. `checkpoint-k` holds the index as it was where `segment-k` begins; once it
//! is there, everything numbered below k goes. It has the window of marks, too. [`recover`] reads them back.
//!
//! Lock order: `state`, then the index's own; `syncer` is never held together with `state`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::recover::{self, boot_id, checkpoint_name, segment_name};
use super::segment::{self, HEADER_LEN, Header};
use super::{Append, Appended, Durability, Marks, checkpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{Index, Snapshot};
use crate::mutation::{Mutation, Mutations};
use crate::name::{NAMES_MAX, Name};
use crate::position::{Epoch, Position, SEQ_MAX, Stamp};

/// Positions from one ceiling to the next: one extra `fsync` in a million appends.
const CEILING_STEP: u64 = 1 << 20;

/// Room kept on the disk for a segment ahead of time, so that invalidations still get through for a while after
/// something else has filled it.
const KEPT_AHEAD: u64 = 1 << 20;

/// Room that a record should find: many invalidations of one name, or one of some hundred.
const RECORD_ROOM: u64 = 4 << 10;

/// How long the syncer waits before it tries again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// How a local log is kept.
pub(crate) struct LogOptions {
    pub(crate) folder: PathBuf,
    pub(crate) index_bytes: usize,
    /// A segment longer than this is followed by a checkpoint and a new segment.
    pub(crate) segment_bytes: u64,
    /// Whether any append may return before it is on stable storage.
    pub(crate) os_appends: bool,
    pub(crate) mutations: Mutations,
}

/// What the log says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStats {
    pub(crate) head: u64,
    pub(crate) appends: u64,
    pub(crate) syncs: u64,
    /// Why the log refuses appends, if it does.
    pub(crate) failed: Option<String>,
    /// What only a log that is shared has to say.
    pub(crate) shared: Option<crate::stats::SharedLogStats>,
}

/// See the head of this file.
pub(crate) struct LocalLog {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    index: Arc<Index>,
    marks: Marks,
    state: Mutex<State>,
    sync: Mutex<Sync>,
    wake: Condvar,
    has_file: bool,
    mutations: Mutations,
}

struct State {
    head: u64,
    /// The epoch in force, which only an append can end.
    epoch: Epoch,
    appends: u64,
    file: Option<Segment>,
    /// Set while the log must refuse appends.
    failed: Option<String>,
    closed: bool,
    buffer: Vec<u8>,
    /// Appends held back by the mutation that forgets to put them into the index at once.
    late: Vec<(Vec<Name>, u64)>,
}

/// The segment that appends go to.
struct Segment {
    place: Place,
    number: u64,
    /// The head it began at.
    base: u64,
    file: Arc<File>,
    len: u64,
    ceiling: u64,
    checkpointed: bool,
}

/// What all segments of a log have in common.
#[derive(Clone)]
struct Place {
    folder: PathBuf,
    boot: [u8; 16],
    os_appends: bool,
    rotate_at: u64,
}

/// What appenders and the syncer thread say to each other.
#[derive(Default)]
struct Sync {
    waiting: Vec<oneshot::Sender<Result<()>>>,
    /// Those who have appended nothing, and want to know whether it could be synced.
    probing: Vec<oneshot::Sender<Result<()>>>,
    rotate: bool,
    stop: bool,
    syncs: u64,
}

impl LocalLog {
    /// A log that is gone with the process, for caches that keep nothing on disk.
    pub(crate) fn in_memory(index_bytes: usize, mutations: Mutations) -> (Self, Arc<Index>) {
        let index = Arc::new(Index::new(index_bytes, Epoch::random(), mutations));
        let shared = Shared::new(index.clone(), 0, None, mutations);
        (LocalLog { shared: Arc::new(shared), syncer: Mutex::new(None) }, index)
    }

    /// Opens the log in a folder, or begins one.
    pub(crate) fn open(options: &LogOptions) -> Result<(Self, Arc<Index>)> {
        fs::create_dir_all(&options.folder).map_err(|e| unavailable("cannot make the log's folder", &options.folder, e))?;
        let place =
            Place { folder: options.folder.clone(), boot: boot_id(), os_appends: options.os_appends, rotate_at: options.segment_bytes };
        let mut found = recover::recover(&place.folder, place.boot)?;
        let index = Arc::new(Index::new(options.index_bytes, found.snapshot.epoch, options.mutations));
        index.adopt(&found.snapshot);
        for (seq, names) in &found.replay {
            index.record(names, *seq);
        }
        index.publish(found.head);
        let marks = std::mem::take(&mut found.marks);
        let head = if options.mutations.on(Mutation::PositionsUsedAgain) { 0 } else { found.head };
        let number = found.last_segment + 1;
        let segment = Segment::begin(place, number, found.snapshot.epoch, head);
        let mut segment = segment.map_err(|e| unavailable("cannot begin a log segment in", &options.folder, e))?;
        segment.checkpointed = number == 1;
        let shared = Arc::new(Shared::new(index.clone(), head, Some(segment), options.mutations));
        shared.marks.add(&marks);
        shared.sync.lock().rotate = number > 1;
        let syncing = shared.clone();
        let syncer = std::thread::Builder::new().name("larder-log".into()).spawn(move || syncing.sync_until_stopped());
        let syncer = syncer.map_err(|e| unavailable("cannot start the log's thread for", &options.folder, e))?;
        Ok((LocalLog { shared, syncer: Mutex::new(Some(syncer)) }, index))
    }

    /// Steps 1 and 9 of the protocol. When it returns, readers of this instance obey the append, and it is as durable as
    /// it asked to be.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`]: either nothing took effect, or (says the message) it took effect here and is not
    /// durable.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        let marks = append.marks.clone();
        let (appended, synced) = self.shared.append(append)?;
        let Some(synced) = synced else { return Ok(appended) };
        let outcome = synced.await.unwrap_or_else(|_| Err(closed_meanwhile()));
        if outcome.is_err() && !marks.is_empty() {
            // Whoever is told so delivers its events again, and must not be told then that all is well.
            self.shared.marks.forget(&marks);
        }
        outcome.map(|()| appended)
    }

    /// Whether it has no file, so that there is nothing to wait for.
    pub(crate) fn is_in_memory(&self) -> bool {
        !self.shared.has_file
    }

    /// A put of a key in a log without a file.
    ///
    /// # Panics
    /// If it has one.
    pub(crate) fn append_put_in_memory(&self, key: &[u8]) -> Result<Appended> {
        assert!(self.is_in_memory(), "what is in the file must be written there");
        self.shared.append_put(key)
    }

    /// Asks the thread that syncs whether the log's file can be brought onto stable storage and has room for more. Nothing is
    /// appended, and no append is counted; the answer is dropped when the log is closed.
    pub(crate) fn confirm(&self) -> oneshot::Receiver<Result<()>> {
        self.shared.confirm()
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.shared.marks
    }

    pub(crate) fn stats(&self) -> LogStats {
        let syncs = self.shared.sync.lock().syncs;
        let state = self.shared.state.lock();
        LogStats { head: state.head, appends: state.appends, syncs, failed: state.failed.clone(), shared: None }
    }

    /// Marks the end and syncs. Later appends are refused. Blocks for one `fsync`.
    pub(crate) fn close(&self) -> Result<()> {
        self.stop_syncer();
        self.shared.close()
    }

    /// Has the log refuse appends, and say why, or take them again.
    #[cfg(test)]
    pub(crate) fn fail_for_a_test(&self, why: Option<String>) {
        self.shared.state.lock().failed = why;
    }

    fn stop_syncer(&self) {
        self.shared.sync.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.lock().take()
            && syncer.join().is_err()
        {
            tracing::error!("the log's thread had panicked");
        }
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        // Without the closing record: whoever did not call close did not wait for what close waits for.
        self.stop_syncer();
    }
}

impl Shared {
    fn new(index: Arc<Index>, head: u64, file: Option<Segment>, mutations: Mutations) -> Self {
        let has_file = file.is_some();
        let state =
            State { head, epoch: index.epoch(), appends: 0, file, failed: None, closed: false, buffer: Vec::new(), late: Vec::new() };
        Shared {
            index,
            marks: Marks::default(),
            state: Mutex::new(state),
            sync: Mutex::default(),
            wake: Condvar::new(),
            has_file,
            mutations,
        }
    }

    fn append(&self, append: Append) -> Result<(Appended, Option<oneshot::Receiver<Result<()>>>)> {
        let mut state = self.state.lock();
        state.admit()?;
        if append.names.len() > NAMES_MAX {
            // A record that recovery would take for damage must never be acknowledged.
            let message =
                format!("one append has at most {NAMES_MAX} keys or names, this one has {}; nothing was changed", append.names.len());
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        let marks_alone = append.names.is_empty() && !append.marks.is_empty();
        let seq = if marks_alone { state.head } else { self.next_position(&mut state)? };
        let conflict = append.guard.as_ref().is_some_and(|guard| self.index.conflicts(&guard.keys, &guard.hashes, guard.since));
        if conflict && append.refuses() {
            // The position was not used: nothing of it is in the file or in the index.
            let (stamp, position) = self.at(&state, self.index.latest().seq());
            return Ok((Appended { stamp, position, widened: 0, conflict, queued: false, wrote_entries: false }, None));
        }
        if let Err(error) = state.write(seq, &append) {
            let broken = state.failed.is_some();
            drop(state);
            // The syncer thread alone can heal the log: by a checkpoint and a new segment.
            self.ask_syncer(false, broken);
            return Err(error);
        }
        state.head = seq;
        state.appends += 1;
        let widened = if marks_alone { 0 } else { self.enter(&mut state, append.names, seq, append.is_put) };
        self.marks.add(&append.marks);
        let (stamp, position) = self.at(&state, seq);
        let durable = append.durability == Durability::Fsync && state.file.is_some();
        let rotate = state.file.as_ref().is_some_and(|segment| segment.len > segment.place.rotate_at);
        drop(state);
        let synced = (durable || rotate).then(|| self.ask_syncer(durable, rotate)).flatten();
        Ok((Appended { stamp, position, widened, conflict, queued: false, wrote_entries: false }, synced))
    }

    /// A put of one key where there is no file: the same as an [`append`](Self::append) of it, and nothing is allocated on the way.
    fn append_put(&self, key: &[u8]) -> Result<Appended> {
        let mut state = self.state.lock();
        state.admit()?;
        let seq = self.next_position(&mut state)?;
        (state.head, state.appends) = (seq, state.appends + 1);
        if self.mutations.are_none() {
            self.index.record_key(key, seq);
            self.index.publish(seq);
            self.index.notices.tell_put(key, || Some(self.at(&state, seq).1));
        } else {
            self.enter(&mut state, vec![Name::Key(key.into())], seq, true);
        }
        let (stamp, position) = self.at(&state, seq);
        Ok(Appended { stamp, position, widened: 0, conflict: false, queued: false, wrote_entries: false })
    }

    /// A position of the epoch in force, as this process and as others understand it.
    fn at(&self, state: &State, seq: u64) -> (Stamp, Position) {
        (Stamp::new(self.index.latest().generation(), seq), Position { epoch: state.epoch, seq })
    }

    /// The next position, of a new epoch where this one is used up.
    fn next_position(&self, state: &mut State) -> Result<u64> {
        if state.head < SEQ_MAX {
            return Ok(state.head + 1);
        }
        let epoch = Epoch::random();
        if let Some(segment) = &mut state.file {
            let next = Segment::begin(segment.place.clone(), segment.number + 1, epoch, 0);
            *segment = next.map_err(|e| unavailable("cannot begin a new epoch in", &segment.place.folder, e))?;
        }
        self.index.adopt(&Snapshot::empty(epoch));
        (state.head, state.epoch) = (0, epoch);
        Ok(1)
    }

    /// Names into the index, then readers are told: never the other way round.
    fn enter(&self, state: &mut State, names: Vec<Name>, seq: u64, is_put: bool) -> usize {
        if self.mutations.on(Mutation::OwnAppendsLate) {
            let late = std::mem::replace(&mut state.late, vec![(names, seq)]);
            for (names, seq) in &late {
                self.index.record(names, *seq);
                self.index.publish(*seq);
            }
            return 0;
        }
        if self.mutations.on(Mutation::PublishBeforeRecord) {
            self.index.publish(seq);
            // A moment for readers: what a processor meets in days, a test meets in seconds.
            (0..64).for_each(|_| std::thread::yield_now());
        }
        let widened = self.index.record(&names, seq);
        self.index.publish(seq);
        let position = || self.index.position_of(Stamp::new(self.index.latest().generation(), seq));
        self.index.notices.tell(&names, position, Some(is_put));
        widened
    }

    fn ask_syncer(&self, durable: bool, rotate: bool) -> Option<oneshot::Receiver<Result<()>>> {
        let mut sync = self.sync.lock();
        sync.rotate |= rotate;
        let receiver = durable.then(|| {
            let (sender, receiver) = oneshot::channel();
            // Once the thread was told to stop nobody would answer: the sender is dropped, and the receiver knows.
            if !sync.stop {
                sync.waiting.push(sender);
            }
            receiver
        });
        drop(sync);
        self.wake.notify_one();
        receiver
    }

    fn confirm(&self) -> oneshot::Receiver<Result<()>> {
        let (sender, receiver) = oneshot::channel();
        // A log in memory has neither a thread nor a file.
        if self.has_file {
            let mut sync = self.sync.lock();
            if !sync.stop {
                sync.probing.push(sender);
            }
            drop(sync);
            self.wake.notify_one();
        } else {
            drop(sender.send(self.state.lock().admit()));
        }
        receiver
    }

    /// What the syncer answers to those who only ask.
    fn confirm_to(&self, probing: Vec<oneshot::Sender<Result<()>>>) {
        let (file, len, failed) = {
            let state = self.state.lock();
            let segment = state.file.as_ref().map(|segment| (segment.file.clone(), segment.len));
            let (file, len) = segment.unzip();
            (file, len.unwrap_or(0), state.failed.clone())
        };
        let unavailable = |what: String| Error::new(ErrorKind::LogUnavailable, what);
        let outcome = match (failed, file) {
            (Some(why), _) => Err(unavailable(format!("the invalidation log takes no appends: {why}"))),
            (None, None) => Ok(()),
            (None, Some(file)) => match file.sync_data() {
                Ok(()) => has_room(&file, len).map_err(|e| unavailable("the invalidation log has no room to grow".into()).with_source(e)),
                Err(e) => {
                    // See `sync_for`.
                    self.state.lock().failed.get_or_insert_with(|| format!("fsync failed: {e}"));
                    Err(unavailable("the invalidation log cannot be brought onto stable storage".into()).with_source(e))
                }
            },
        };
        // A receiver that is gone no longer wants to know.
        probing.into_iter().for_each(|sender| drop(sender.send(outcome.clone())));
    }

    /// The syncer thread: one `fsync` for all who wait, checkpoints, and the way back from a failure.
    fn sync_until_stopped(&self) {
        loop {
            let mut sync = self.sync.lock();
            while sync.waiting.is_empty() && sync.probing.is_empty() && !sync.rotate && !sync.stop {
                self.wake.wait(&mut sync);
            }
            let (waiting, rotate, stop) = (std::mem::take(&mut sync.waiting), std::mem::take(&mut sync.rotate), sync.stop);
            sync.syncs += u64::from(!waiting.is_empty());
            let probing = std::mem::take(&mut sync.probing);
            drop(sync);
            if !waiting.is_empty() {
                self.sync_for(waiting);
            }
            if !probing.is_empty() {
                self.confirm_to(probing);
            }
            if stop {
                return;
            }
            if (rotate || self.state.lock().failed.is_some()) && !self.rotate_or_say_why() {
                // Try again later, sooner if somebody appends.
                let mut sync = self.sync.lock();
                sync.rotate = true;
                self.wake.wait_for(&mut sync, RETRY);
            }
        }
    }

    /// Everything that waits was written before it began to wait, so the file as it is now has it.
    fn sync_for(&self, waiting: Vec<oneshot::Sender<Result<()>>>) {
        let (file, failed) = {
            let state = self.state.lock();
            (state.file.as_ref().map(|segment| segment.file.clone()), state.failed.clone())
        };
        // A file that failed once may call its next sync a success without having what came before.
        let synced = failed.map_or_else(|| file.map_or(Ok(()), |file| file.sync_data()), |why| Err(io::Error::other(why)));
        let outcome = synced.map_err(|e| {
            // After a failed fsync the kernel may have dropped the pages and call the next one a success: this file can no
            // longer be believed. A checkpoint of the index, which has everything, takes its place.
            self.state.lock().failed.get_or_insert_with(|| format!("fsync failed: {e}"));
            tracing::error!(error = %e, "the invalidation log cannot sync; appends are refused until a new file is begun");
            let message = "the invalidation took effect here but could not be made durable: it would be forgotten in a crash";
            Error::new(ErrorKind::LogUnavailable, message).with_source(e)
        });
        for waiter in waiting {
            // A receiver that is gone belongs to a caller that no longer waits; what it appended stands all the same.
            drop(waiter.send(outcome.clone()));
        }
    }

    fn rotate_or_say_why(&self) -> bool {
        self.rotate()
            .inspect_err(|e| tracing::warn!(error = %e, "the invalidation log cannot begin a new segment or checkpoint; it will try again"))
            .is_ok()
    }

    /// A new segment, then a checkpoint of the index at the place where it begins, then the old files go.
    ///
    /// The copy is taken while appends go on and may hold later positions than its head; replaying the new segment over
    /// it changes nothing. A crash between the steps leaves the older checkpoint and every segment since. After a failure
    /// the old segment cannot be believed, so appends wait until the checkpoint has taken its place.
    fn rotate(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let (head, failed) = (state.head, state.failed.is_some());
        let Some(segment) = &mut state.file else { return Ok(()) };
        let old = segment.file.clone();
        if failed || segment.len > segment.place.rotate_at {
            *segment = Segment::begin(segment.place.clone(), segment.number + 1, self.index.epoch(), head)?;
        }
        if segment.checkpointed {
            return Ok(());
        }
        let (folder, number, base) = (segment.place.folder.clone(), segment.number, segment.base);
        let write_checkpoint = || {
            // Marks first, which are added after their names: a machine crash may take what came after `base` from the new segment,
            // and then no mark may be left whose names are not in the copy.
            let marks = self.marks.list();
            checkpoint::write(&folder.join(checkpoint_name(number)), &marks, &self.index.snapshot(base))
        };
        // Not under the lock: while the log has failed appends are refused anyway, and must be refused at once.
        drop(state);
        if !failed && let Err(e) = old.sync_data() {
            self.state.lock().failed.get_or_insert_with(|| format!("fsync failed: {e}"));
            return Err(e);
        }
        write_checkpoint()?;
        let mut state = self.state.lock();
        state.file.iter_mut().filter(|segment| segment.number == number).for_each(|segment| segment.checkpointed = true);
        if failed {
            state.failed = None;
        }
        drop(state);
        recover::remove_below(&folder, number)
    }

    fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.closed, true) {
            return Ok(());
        }
        let head = state.head;
        let Some(segment) = &mut state.file else { return Ok(()) };
        let mut record = Vec::new();
        segment::encode_closed(head, &mut record);
        let written = (&*segment.file).write_all(&record).and_then(|()| segment.file.sync_data());
        written.map_err(|e| unavailable("cannot close the log in", &segment.place.folder, e))
    }
}

impl State {
    fn admit(&self) -> Result<()> {
        if self.closed {
            return Err(closed());
        }
        match &self.failed {
            None => Ok(()),
            Some(why) => {
                Err(Error::new(ErrorKind::LogUnavailable, format!("the invalidation log takes no appends: {why}; nothing was changed")))
            }
        }
    }

    /// Writes a record behind the last good one; takes it back if that fails half-way.
    fn write(&mut self, seq: u64, append: &Append) -> Result<()> {
        let Some(segment) = &mut self.file else { return Ok(()) };
        self.buffer.clear();
        let marks_alone = seq == self.head;
        let raise_ceiling = !marks_alone && seq >= segment.ceiling;
        if raise_ceiling {
            segment::encode_ceiling(seq - 1, (seq + CEILING_STEP).min(SEQ_MAX), &mut self.buffer);
        }
        if marks_alone {
            segment::encode_marks(seq, &append.marks, &mut self.buffer);
        } else {
            segment::encode_names(seq, &append.names, &append.marks, &mut self.buffer);
        }
        let mut file = &*segment.file;
        let written = file.write_all(&self.buffer).and_then(|()| if raise_ceiling { file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                segment.len += self.buffer.len() as u64;
                if raise_ceiling {
                    segment.ceiling = (seq + CEILING_STEP).min(SEQ_MAX);
                }
                Ok(())
            }
            Err(e) => {
                if let Err(cut) = segment.file.set_len(segment.len) {
                    self.failed = Some(format!("a write failed ({e}) and could not be taken back ({cut})"));
                } else if raise_ceiling {
                    // It may have been the sync that failed, and then the file can no longer be believed.
                    self.failed = Some(format!("raising the ceiling failed: {e}"));
                }
                Err(Error::new(ErrorKind::LogUnavailable, "the invalidation log cannot be written; nothing was changed").with_source(e))
            }
        }
    }
}

impl Segment {
    fn begin(place: Place, number: u64, epoch: Epoch, base: u64) -> io::Result<Self> {
        let ceiling = (base + CEILING_STEP).min(SEQ_MAX);
        let header = Header { epoch, base, ceiling, boot: place.boot, os_appends: place.os_appends };
        let path = place.folder.join(segment_name(number));
        let unfinished = path.with_extension("unfinished");
        let mut file = File::options().create(true).append(true).open(&unfinished)?;
        file.set_len(0)?;
        file.write_all(&header.encode())?;
        // Not every file system can; the log works without.
        if let Err(e) = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, place.rotate_at.min(KEPT_AHEAD)) {
            tracing::debug!(error = %e, "no room could be kept for the log ahead of time");
        }
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        checkpoint::sync_folder(&path)?;
        Ok(Segment { place, number, base, file: Arc::new(file), len: HEADER_LEN as u64, ceiling, checkpointed: false })
    }
}

/// Whether the next record would find room: what the file system says when it is asked to keep some behind what is written, which
/// leaves the file's length as it is.
fn has_room(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, len, RECORD_ROOM) {
        // Not every file system can; the log works without.
        Err(e) if e == rustix::io::Errno::OPNOTSUPP || e == rustix::io::Errno::NOSYS => Ok(()),
        kept => kept.map_err(io::Error::from),
    }
}

fn unavailable(what: &str, folder: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::LogUnavailable, format!("{what} {}", folder.display())).with_source(e)
}

fn closed_meanwhile() -> Error {
    Error::new(ErrorKind::Closed, "the cache was closed meanwhile; the change took effect here and may not be durable")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the cache was closed")
}

#[cfg(test)]
mod tests;
