//! Gives disk space back: deletions free nothing by themselves, so this looks now and then what could be freed, and asks
//! the engine to compact it away. Runs on a thread of its own, so that neither reads nor the writer wait for it.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::queue::Errand;
use super::shared::{Shared, folder_bytes};
use super::store::{Store, Trouble};
use crate::tier::TierState;

/// Garbage below this is left to the engine's own compactions.
const SLACK_BYTES: u64 = 32 << 20;

/// What can be rewritten whole without holding up flushes for more than a few seconds.
const WHOLE_BYTES_MAX: u64 = 512 << 20;

/// Bounds one round of partial compactions; the next look goes on.
const PARTS_MAX: usize = 256;

/// More journals than the active one, one being flushed and one to spare mean that something holds them back.
const JOURNALS_MAX: usize = 3;

const FLUSH_MAX: Duration = Duration::from_secs(30);
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// What the last compaction achieved, so that one that cannot help is not tried every second.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    last: Option<Sizes>,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Bytes of the tables.
    tables: u64,
    /// Bytes of what is alive in them.
    live: u64,
}

impl Sizes {
    fn wasteful(self) -> bool {
        self.tables > self.live + self.live / 2 + SLACK_BYTES
    }

    /// Whether another compaction can do better than the one that left `last`.
    fn worth_another(self, last: Sizes) -> bool {
        self.tables > last.tables + SLACK_BYTES || self.live < last.live / 4 * 3
    }
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    while shared.await_bell() {
        step(shared);
    }
}

/// Looks once, and does what is worth doing.
pub(super) fn step(shared: &Shared) {
    let mut reclaim = shared.reclaim.lock();
    shared.measure();
    let Some(store) = shared.store() else { return };
    if shared.state() != TierState::Healthy {
        // The writer is bringing the store back, and will not thank anyone for holding it.
        return;
    }
    if let Err(trouble) = reclaim.look(shared, &store) {
        shared.counts.errors.fetch_add(1, Ordering::Relaxed);
        shared.warnings.warn(shared.clock.now_ms(), || format!("the disk tier could not reclaim space: {trouble:?}"));
    }
    if store.check().is_err() {
        // The engine has given up; the writer finds out why, unless the tier is closing anyway.
        drop(shared.queue.send(Errand::Check));
    }
}

impl Reclaim {
    fn look(&mut self, shared: &Shared, store: &Store) -> Result<(), Trouble> {
        if store.journals() > JOURNALS_MAX {
            store.release_files()?;
        }
        let measure = || Sizes { tables: store.table_bytes(), live: shared.counts.stored.load(Ordering::Relaxed) };
        let before = measure();
        if before.wasteful() && self.last.is_none_or(|last| before.worth_another(last)) {
            compact(shared, store, measure)?;
            let after = measure();
            tracing::debug!(target: "larder::disk", before = before.tables, after = after.tables, live = after.live, "compacted");
            self.last = Some(after);
        }
        if folder_bytes(store.folder()) > store.table_bytes() + SLACK_BYTES {
            store.release_files()?;
            await_flush(shared, store)?;
        }
        shared.measure();
        Ok(())
    }
}

fn compact(shared: &Shared, store: &Store, measure: impl Fn() -> Sizes) -> Result<(), Trouble> {
    // What is deleted has to reach the tables first, together with the deletions.
    store.rotate()?;
    await_flush(shared, store)?;
    for _ in 0..PARTS_MAX {
        let sizes = measure();
        if !sizes.wasteful() || shared.queue.is_stopping() {
            return Ok(());
        }
        if sizes.tables <= WHOLE_BYTES_MAX {
            return Ok(store.compact_whole()?);
        }
        if !store.compact_part()? {
            // The parts are done and it still is too much: only the whole can help.
            return Ok(store.compact_whole()?);
        }
    }
    Ok(())
}

fn await_flush(shared: &Shared, store: &Store) -> Result<(), Trouble> {
    let since = Instant::now();
    while store.unflushed() > 0 && since.elapsed() < FLUSH_MAX && !shared.queue.is_stopping() {
        store.check()?;
        thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_is_for_what_it_can_help() {
        const MB: u64 = 1 << 20;
        let sizes = |tables, live| Sizes { tables: tables * MB, live: live * MB };
        assert!(!sizes(30, 0).wasteful() && sizes(33, 0).wasteful());
        assert!(!sizes(180, 100).wasteful() && sizes(183, 100).wasteful());
        let last = sizes(183, 100);
        assert!(!sizes(183, 100).worth_another(last));
        assert!(sizes(216, 100).worth_another(last) && sizes(183, 74).worth_another(last));
    }
}
