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
use super::queue::{Errand, Waiter, Work, Writes, answer, not_stored};
use super::shared::{Shared, folder_bytes, free_bytes, open_or_discard};
use super::store::{OpenError, Trouble, io_cause, is_full};
use crate::error::Result;
use crate::tier::TierState;

/// How long the first pause before another try is; each doubles, up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// Tries on a full disk before the tier gives up its own entries, provided that they are what fills it: about 8 seconds.
const DISCARD_AFTER: u32 = 8;

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
            Work::Batch { writes, waiters } => self.write(&writes, waiters),
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

    fn write(&mut self, writes: &Writes, waiters: Vec<Waiter>) {
        match self.try_write(writes, !waiters.is_empty()) {
            Ok(()) => {
                self.shared.queue.finish();
                waiters.into_iter().for_each(|waiter| answer(waiter, Ok(())));
            }
            Err(trouble) => {
                self.shared.queue.put_back();
                let reason = self.reason(&trouble);
                waiters.into_iter().for_each(|waiter| answer(waiter, Err(not_stored(&reason))));
                self.recover(reason);
            }
        }
    }

    fn try_write(&mut self, writes: &Writes, durable: bool) -> Result<(), Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Stuck) };
        if writes.cleared {
            self.shared.set_store(ledger.clear()?);
        }
        let mut tally = Tally::default();
        if !writes.actions.is_empty() {
            let actions = writes.actions.iter().map(|(key, action)| (&**key, action));
            tally = ledger.apply(actions, self.shared.clock.refresh())?;
            tally.add(ledger.evict(self.shared.counts.bound.load(Ordering::Relaxed), &self.shared.recent)?);
        }
        self.shared.publish(ledger.counters(), tally);
        if durable && let Some(store) = self.shared.store() {
            store.sync()?;
        }
        Ok(())
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Remove { victims, done } => {
                let outcome = self.remove(&victims);
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

    fn remove(&mut self, victims: &[Victim]) -> Result<Tally, Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Stuck) };
        let tally = ledger.remove(victims)?;
        self.shared.publish(ledger.counters(), tally);
        Ok(tally)
    }

    /// One bounded step of what has to be done from time to time. True if there is more.
    fn upkeep(&mut self) -> Result<bool, Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Stuck) };
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
        let (mut pause, mut tries) = (RETRY_FIRST, 0);
        loop {
            self.shared.queue.set_out_of_order(&reason);
            self.shared.set_state(TierState::Degraded(reason.clone()));
            if self.shared.queue.pause(Instant::now() + pause) {
                return self.give_up(&reason);
            }
            (pause, tries) = ((pause * 2).min(RETRY_LAST), tries + 1);
            match self.try_recover(tries) {
                Ok(()) => break,
                Err(still) => reason = still,
            }
        }
        self.shared.queue.set_in_order();
        self.shared.set_state(TierState::Healthy);
        tracing::warn!(target: "larder::disk", tries, "the disk tier works again");
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

    fn try_recover(&mut self, tries: u32) -> Result<(), String> {
        if let Err(error) = self.probe() {
            if !(is_full(&error) && tries >= DISCARD_AFTER && self.fills_the_disk()) {
                return Err(self.io_reason(&error));
            }
            self.discard()?;
        }
        self.reopen()?;
        self.shared.measure();
        let (writes, waiters) = self.shared.queue.take_batch().unwrap_or_default();
        let outcome = match self.try_write(&writes, true) {
            // Even with nothing to write: that the store takes writes is what has to be shown.
            Ok(()) => self.touch(),
            failed => failed,
        };
        match outcome {
            Ok(()) => {
                self.shared.queue.finish();
                waiters.into_iter().for_each(|waiter| answer(waiter, Ok(())));
                Ok(())
            }
            Err(trouble) => {
                self.shared.queue.put_back();
                let reason = self.reason(&trouble);
                waiters.into_iter().for_each(|waiter| answer(waiter, Err(not_stored(&reason))));
                Err(reason)
            }
        }
    }

    fn touch(&mut self) -> Result<(), Trouble> {
        let Some(ledger) = &mut self.ledger else { return Err(Trouble::Stuck) };
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
