//! The writer's thread: the only one that changes the store. It commits what is queued, keeps the bound, expires, and
//! when the store fails it is the one that brings it back.
//!
//! ```text
//!            +--> batch: apply, evict, sync if someone waits for it --+
//!   take ----+--> errand (sweep's removals, upkeep)                   +--> upkeep, when due --> take
//!            +--> nothing until upkeep is due                         |
//!                                              failed? put back, recover: probe, reopen, retry, until it works
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ledger::{Ledger, Tally, Victim};
use super::queue::{Batch, Errand, Waiter, Work, Writes, answer, not_stored};
use super::shared::{Shared, folder_bytes, free_bytes, open_or_discard};
use super::store::{OpenError, Trouble, io_cause, is_full};
use crate::error::Result;
use crate::tier::{Gone, TierState};

/// How long the first pause before another try is; each doubles, up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// The room that has to be there before a retry, beside what is queued.
const PROBE_BYTES: usize = 1 << 20;
const PROBE_BYTES_MAX: usize = 64 << 20;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// None while the store is closed.
    ledger: Option<Ledger>,
    upkeep_due: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger) -> Self {
        shared.publish(ledger.counters(), Tally::default());
        let upkeep_due = Instant::now() + shared.upkeep_interval;
        Writer { shared, ledger: Some(ledger), upkeep_due }
    }

    /// The thread.
    pub(super) fn run(mut self) {
        let guard = AbandonOnPanic(self.shared.clone());
        while self.turn() {
            if Instant::now() >= self.upkeep_due {
                let outcome = self.upkeep();
                // A failure has become the tier's state, and was dealt with before this returns.
                let more = self.settle(outcome).unwrap_or(false);
                let pause = if more { Duration::ZERO } else { self.shared.upkeep_interval };
                self.upkeep_due = Instant::now() + pause;
            }
        }
        self.leave();
        drop(guard);
    }

    /// One thing to do. False when there is nothing more.
    fn turn(&mut self) -> bool {
        match self.shared.queue.take(self.upkeep_due) {
            Work::Batch(batch) => self.write(batch),
            Work::Errand(errand) => self.run_errand(errand),
            Work::Idle => {}
            Work::Stop => return false,
        }
        true
    }

    fn leave(&mut self) {
        let synced = self.shared.store().map_or(Ok(()), |store| store.sync());
        if let Err(error) = synced {
            let reason = self.reason(&Trouble::Engine(error));
            self.shared.set_failure(not_stored(&reason));
        }
        self.ledger = None;
    }

    fn write(&mut self, batch: Batch) {
        let outcome = self.try_write(&batch, !batch.waiters.is_empty());
        if let Err(reason) = self.conclude(outcome, batch.waiters) {
            self.recover(reason);
        }
    }

    fn try_write(&mut self, batch: &Batch, durable: bool) -> Result<(), Trouble> {
        for writes in &batch.portions {
            self.try_write_portion(writes)?;
            self.shared.queue.finish_portion();
        }
        match self.shared.store() {
            Some(store) if durable => Ok(store.sync()?),
            _ => Ok(()),
        }
    }

    fn try_write_portion(&mut self, writes: &Writes) -> Result<(), Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Closed) };
        if writes.cleared {
            self.shared.set_store(ledger.clear()?);
        }
        let mut tally = Tally::default();
        if !writes.actions.is_empty() {
            let actions = writes.actions.iter().map(|(key, queued)| (&**key, queued));
            tally = ledger.apply(actions, self.shared.clock.refresh())?;
            tally.add(ledger.evict(self.shared.counts.bound.load(Ordering::Relaxed), &self.shared.recent)?);
        }
        self.shared.publish(ledger.counters(), tally);
        Ok(())
    }

    /// Tells those who wait what became of their batch; one that failed goes back into the queue.
    fn conclude(&self, outcome: Result<(), Trouble>, waiters: Vec<Waiter>) -> Result<(), String> {
        let outcome = outcome.map_err(|trouble| self.reason(&trouble));
        if let Err(reason) = &outcome {
            self.shared.queue.put_back();
            // Before anyone is told, so that whoever is told and looks finds the tier in the state he was told of.
            self.degrade(reason);
        }
        for waiter in waiters {
            answer(waiter, outcome.as_ref().map_err(|reason| not_stored(reason)).copied());
        }
        outcome
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Remove { victims, done } => {
                let outcome = self.remove(victims);
                answer(done, self.settle(outcome));
            }
            Errand::Upkeep { done } => {
                let outcome = self.upkeep_whole();
                answer(done, self.settle(outcome));
            }
            Errand::Check => {
                let outcome = self.shared.store().map_or(Ok(()), |store| store.check().map_err(Trouble::from));
                // Its answer is the state of the tier.
                drop(self.settle(outcome));
            }
        }
    }

    fn remove(&mut self, victims: Vec<Victim>) -> Result<Vec<Gone>, Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Closed) };
        let gone = ledger.remove(victims)?;
        self.shared.publish(ledger.counters(), Tally::default());
        Ok(gone)
    }

    /// One bounded step of what has to be done from time to time. True if there is more.
    fn upkeep(&mut self) -> Result<bool, Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Closed) };
        let (mut tally, more) = ledger.expire(self.shared.clock.refresh())?;
        tally.add(ledger.evict(self.shared.counts.bound.load(Ordering::Relaxed), &self.shared.recent)?);
        self.shared.publish(ledger.counters(), tally);
        Ok(more)
    }

    fn upkeep_whole(&mut self) -> Result<(), Trouble> {
        while self.upkeep()? {}
        Ok(())
    }

    /// Passes a success on; a failure starts the recovery and becomes an error that says what happened.
    fn settle<T>(&mut self, outcome: Result<T, Trouble>) -> Result<T> {
        outcome.map_err(|trouble| {
            let reason = self.reason(&trouble);
            self.recover(reason.clone());
            not_stored(&reason)
        })
    }

    /// Takes no writes, and tries again and again until the store works or the tier is closed.
    fn recover(&mut self, mut reason: String) {
        self.shared.counts.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(target: "larder::disk", "the disk tier is out of order and takes no writes: {reason}");
        let (since, mut pause, mut tries) = (Instant::now(), RETRY_FIRST, 0);
        loop {
            self.degrade(&reason);
            let closing = self.shared.queue.pause(Instant::now() + pause);
            (pause, tries) = ((pause * 2).min(RETRY_LAST), tries + 1);
            match self.try_recover(since.elapsed() >= self.shared.discard_after) {
                Ok(()) => break,
                // That was the last try.
                Err(still) if closing => return self.give_up(&still),
                Err(still) => reason = still,
            }
        }
        self.shared.queue.set_in_order();
        self.shared.set_state(TierState::Healthy);
        tracing::warn!(target: "larder::disk", tries, "the disk tier works again");
    }

    fn degrade(&self, reason: &str) {
        self.shared.queue.set_out_of_order(reason);
        self.shared.set_state(TierState::Degraded(reason.into()));
    }

    /// The tier is being closed while the store does not work.
    fn give_up(&mut self, reason: &str) {
        let lost = self.shared.queue.abandon(reason);
        if lost > 0 {
            self.shared.counts.shed.fetch_add(lost as u64, Ordering::Relaxed);
            tracing::error!(target: "larder::disk", "the disk tier was closed with {lost} accepted writes not stored: {reason}");
            self.shared.set_failure(not_stored(&format!("closed with {lost} accepted writes not stored: {reason}")));
        }
    }

    /// One try. With `desperate` a store that fills its disk is given up.
    fn try_recover(&mut self, desperate: bool) -> Result<(), String> {
        if let Err(error) = self.probe() {
            if !is_full(&error) || !self.fills_the_disk() {
                return Err(self.io_reason(&error));
            }
            // Opening anew deletes files that the engine had not got round to; the room may come from that.
            if desperate {
                self.discard()?;
            }
        }
        self.reopen()?;
        self.shared.measure();
        let batch = self.shared.queue.take_batch().unwrap_or_default();
        // Even with nothing to write: that the store takes writes is what has to be shown.
        let outcome = self.try_write(&batch, true).and_then(|()| self.touch());
        self.conclude(outcome, batch.waiters)
    }

    fn touch(&mut self) -> Result<(), Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Closed) };
        ledger.touch()?;
        self.shared.store().map_or(Ok(()), |store| store.sync().map_err(Trouble::from))
    }

    /// Writes and deletes a file as large as what is to come, because the free space that a file system reports is not
    /// always space that it gives.
    fn probe(&self) -> io::Result<()> {
        let bytes = (PROBE_BYTES + self.shared.queue.depth().1 * 2).min(PROBE_BYTES_MAX);
        let path = self.shared.store_path.with_extension("probe");
        let written = write_probe(&path, bytes);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
            _ => written,
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.close()?;
        let opened = open_or_discard(&self.shared.store_path, self.shared.sizes, &self.shared.counts);
        let store = Arc::new(opened.map_err(|error| match error {
            OpenError::System(error) => self.reason(&Trouble::Engine(error)),
            other => format!("the store cannot be reopened: {other:?}"),
        })?);
        self.ledger = Some(Ledger::open(store.clone()).map_err(|trouble| self.reason(&trouble))?);
        self.shared.set_store(store);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.ledger = None;
        let closed = self.shared.close_store();
        closed.then_some(()).ok_or_else(|| "reads that do not end keep the store from being reopened".into())
    }

    /// Whether most of what is on the file system is the tier's own.
    fn fills_the_disk(&self) -> bool {
        let used = free_bytes(&self.shared.store_path).map_or(u64::MAX, |(_, used)| used);
        folder_bytes(&self.shared.store_path) > used / 2
    }

    /// The last resort on a disk that the tier itself has filled: even deleting needs room, so it starts anew.
    fn discard(&mut self) -> Result<(), String> {
        let entries = self.shared.stats().entries;
        tracing::error!(target: "larder::disk", "the disk tier has filled its disk and starts anew, giving up {entries} entries");
        self.close()?;
        fs::remove_dir_all(&self.shared.store_path).map_err(|error| self.io_reason(&error))?;
        self.shared.publish(Default::default(), Tally { evicted: entries, ..Tally::default() });
        Ok(())
    }

    /// What is the matter, for people.
    fn reason(&self, trouble: &Trouble) -> String {
        let error = match trouble {
            Trouble::Closed => return "the store is not open".into(),
            Trouble::Stuck => return "the store does not get on with flushing".into(),
            Trouble::Engine(error) => error,
        };
        if let Some(error) = io_cause(error) {
            return self.io_reason(error);
        }
        // The engine does not say why it gave up; the most common reason can be asked for.
        match self.probe() {
            Err(error) => self.io_reason(&error),
            Ok(()) => format!("the store failed: {error}"),
        }
    }

    fn io_reason(&self, error: &io::Error) -> String {
        let path = self.shared.store_path.display();
        if is_full(error) { format!("the disk is full: {path}: {error}") } else { format!("the disk failed: {path}: {error}") }
    }
}

fn write_probe(path: &std::path::Path, bytes: usize) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let block = vec![0x5a; 1 << 16];
    for _ in 0..bytes.div_ceil(block.len()) {
        file.write_all(&block)?;
    }
    file.sync_all()
}

/// A writer that panics must not leave others waiting for it.
struct AbandonOnPanic(Arc<Shared>);

impl Drop for AbandonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "its writer panicked, which is a bug in larder";
            let lost = self.0.queue.abandon(reason);
            self.0.counts.shed.fetch_add(lost as u64, Ordering::Relaxed);
            self.0.set_state(TierState::Degraded(reason.into()));
            self.0.set_failure(not_stored(reason));
        }
    }
}
