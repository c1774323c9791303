//! Gives disk space back: deletions free nothing by themselves, so this looks now and then what could be freed, and asks
//! the engine to compact it away. Runs on a thread of its own, so that neither reads nor the writer wait for it.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::queue::Errand;
use super::shared::{Shared, folder_bytes};
use super::store::{Store, Trouble};
use crate::error::{Error, ErrorKind, Result as Answer};
use crate::tier::{Compacted, TierState};

/// Garbage below this is left to the engine's own compactions.
const SLACK_BYTES: u64 = 32 << 20;

/// What can be rewritten whole without holding up flushes for more than a few seconds.
const WHOLE_BYTES_MAX: u64 = 512 << 20;

/// Bounds one round of partial compactions; the next look goes on.
const PARTS_MAX: usize = 256;

/// More journals than the active one, one being flushed and one to spare mean that something holds them back.
const JOURNALS_MAX: usize = 3;

/// Garbage that is worth a compaction where somebody asks for one, beside a quarter of what is alive.
const ASKED_SLACK_BYTES: u64 = 4 << 20;

/// Where somebody asks, tables of this much are rewritten in one go, which takes a fraction of a second.
const ASKED_WHOLE_BYTES_MAX: u64 = 64 << 20;

const FLUSH_MAX: Duration = Duration::from_secs(30);
/// How long files that were replaced are waited for, before what was given back is told.
const RELEASE_MAX: Duration = Duration::from_secs(2);
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
    /// Whether there is enough garbage for who asks for it to be taken away.
    fn has_garbage(self) -> bool {
        self.tables > self.live + self.live / 4 + ASKED_SLACK_BYTES
    }

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

/// One part of a compaction that somebody asked for. Between two of them others have their turn at the engine's worker, and whoever asked
/// may stop.
pub(super) fn part(shared: &Shared, number: u32) -> Answer<Compacted> {
    // The thread's own rounds wait meanwhile: two that rewrite the same tables would do the work twice.
    let _rounds_wait = shared.reclaim.lock();
    let Some(store) = shared.store().filter(|_| shared.state() == TierState::Healthy) else {
        return Err(Error::new(ErrorKind::Tier, "the disk tier is out of order, and is not compacted"));
    };
    shared.measure();
    let on_disk = || shared.counts.bytes_on_disk.load(Ordering::Relaxed);
    let before = on_disk();
    let is_more = compact_part(shared, &store, number).map_err(|trouble| {
        shared.counts.errors.fetch_add(1, Ordering::Relaxed);
        Error::new(ErrorKind::Tier, format!("the disk tier could not be compacted: {trouble:?}"))
    })?;
    shared.measure();
    Ok(Compacted { freed_bytes: before.saturating_sub(on_disk()), is_more })
}

fn compact_part(shared: &Shared, store: &Store, number: u32) -> Result<bool, Trouble> {
    if number == 0 {
        // What was removed has to reach the tables first; the counters are of now, and the tables are of the last flush.
        store.rotate()?;
        await_flush(shared, store)?;
    }
    let sizes = Sizes { tables: store.table_bytes(), live: shared.counts.stored.load(Ordering::Relaxed) };
    let is_more = if !sizes.has_garbage() || shared.queue.is_stopping() {
        false
    } else if sizes.tables <= ASKED_WHOLE_BYTES_MAX {
        store.compact_whole()?;
        false
    } else {
        store.compact_part()?
    };
    // Files of tables that were replaced go with the next rotation, which an idle store would not come to.
    let is_holding = || folder_bytes(store.folder()) > store.table_bytes() + ASKED_SLACK_BYTES;
    if !is_more && is_holding() {
        store.release_files()?;
        await_flush(shared, store)?;
        // The engine's worker deletes them a moment after the flush. A reader may hold one for longer; it goes when that lets go.
        let since = Instant::now();
        while is_holding() && since.elapsed() < RELEASE_MAX && !shared.queue.is_stopping() {
            thread::sleep(FLUSH_POLL);
        }
    }
    Ok(is_more)
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
