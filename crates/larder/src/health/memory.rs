//! The probe of memory: an entry into each pool, back, and out.

use std::sync::Arc;

use bytes::Bytes;

use super::probes::{Finding, Found};
use super::{content, key};
use crate::cache::Shared;
use crate::entry::{Entry, Meta, NewMeta};
use crate::metrics::{Count, NamespaceMetrics};
use crate::position::Stamp;
use crate::tier::memory::{Inserted, Pool};

/// Tries in each pool: a pool that is full may evict at once what has just come.
const TRIES: usize = 3;

/// On a thread that may block: should a lock of the engine never be given back, it is that thread which waits for it.
pub(super) fn begin(shared: &Arc<Shared>) -> Finding {
    let (pools, now) = (shared.pools(), shared.clock.now_ms());
    let running = shared.runtime.spawn_blocking(move || pools.iter().all(|pool| (0..TRIES).any(|_| gives_back(pool, now))));
    Box::pin(async move {
        match running.await {
            Ok(true) => Found::well(),
            Ok(false) => Found::trouble(
                format!("memory did not give back what was put into it, {TRIES} times in a row"),
                "give memory more bytes if it is a few KiB; otherwise this is a fault of larder: restart it, and tell its makers",
            ),
            Err(_) => Found::trouble("the probe of memory panicked", "this is a fault of larder: restart it, and tell its makers"),
        }
    })
}

/// Whether an entry came back as it was, and left.
fn gives_back(pool: &Pool, now: u64) -> bool {
    let (key, value) = (key(), content());
    let query = pool.query(&key);
    let metrics = Arc::new(NamespaceMetrics::new(true));
    let meta = NewMeta::plain(Stamp::new(0, 0), value.len() as u32, metrics, now);
    let entry = Arc::new(Entry { meta: Meta::new(meta, key.len(), now), value: value.clone() });
    let put = pool.insert(query, entry) == Inserted::Yes;
    let read = pool.get(query).and_then(|slot| slot.into_any().downcast::<Entry<Bytes>>().ok());
    let same = read.is_some_and(|entry| entry.value == value);
    let removed = pool.remove(query, Count::Remove);
    put && same && removed && pool.peek(query).is_none()
}
