//! The probe of the backing tier: a record written, read, compared and removed, by the way that users' records go, but past
//! memory, and waiting until it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::probes::{Finding, Found, Trouble};
use super::{content, key};
use crate::cache::Shared;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::freshness::Index;
use crate::record::Record;
use crate::tier::{Action, Outcome, Tier, TierState, Wait, Write};

/// A record that could not be removed is gone after this long, in milliseconds.
const LIFE_MS: u64 = 60_000;

/// Tries with a key each: a tier that is full may evict at once what has just come, and what is written while another epoch of
/// the log comes into force counts as old.
const TRIES: usize = 2;

const SEE_TO_IT: &str = "see to the disk or the Redis that it is on; reads and writes go on in memory, and it is tried again by itself";

pub(super) fn begin(shared: &Arc<Shared>, limit: Duration) -> Finding {
    let Some(tier) = shared.tier.clone() else { return Box::pin(std::future::ready(Found::well())) };
    let (breaker, index, clock) = (shared.breaker.clone(), shared.index.clone(), shared.clock.clone());
    Box::pin(async move {
        let Some(permit) = breaker.admit(Instant::now) else {
            let what = format!("the backing tier ({}) failed too often, and is left alone for a moment", tier.name());
            return Found::trouble(what, "see to its latency and errors; it is tried again by itself");
        };
        let mut using = Box::pin(use_once_or_twice(&tier, &index, &clock));
        let in_time = tokio::time::timeout(limit, &mut using).await;
        // What reads find out counts for the breaker, and what a probe does, only where the breaker wants to know whether the tier
        // works again: probes in between would end a row of failures, or add to one.
        if permit.is_trial() {
            match &in_time {
                Ok(Ok(())) => permit.succeeded(),
                Ok(Err(_)) | Err(_) => permit.failed(Instant::now()),
            }
        } else {
            drop(permit);
        }
        let used = match in_time {
            Ok(used) => used,
            // Nobody waits for it now; it counts as under way until it ends.
            Err(_) => using.await,
        };
        Found { trouble: used.err(), log: None }
    })
}

async fn use_once_or_twice(tier: &Arc<dyn Tier>, index: &Index, clock: &Clock) -> Result<(), Trouble> {
    for _ in 0..TRIES {
        if use_once(tier, index, clock).await? {
            return Ok(());
        }
    }
    let what = format!("the backing tier ({}) did not give back what was written to it, {TRIES} times in a row", tier.name());
    Err(Trouble { what, advice: "see whether it is full, or refuses writes; reads go on in memory".into() })
}

/// Whether the record came back; `false` where it was not there.
async fn use_once(tier: &Arc<dyn Tier>, index: &Index, clock: &Clock) -> Result<bool, Trouble> {
    let name = tier.name();
    let wrong = |what: String| Trouble { what: format!("the backing tier ({name}) {what}"), advice: SEE_TO_IT.into() };
    if let TierState::Degraded(why) = tier.state() {
        return Err(wrong(format!("is out of order: {why}")));
    }
    let key = key();
    // First, so that nothing is queued for a tier that cannot be reached: with every probe it would be one more.
    let there = tier.get(&key).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let Some(record) = record(index, clock).filter(|_| there.is_none()) else { return Ok(false) };
    let payload = record.payload.clone();
    let write = |action| tier.write(vec![Write { key: key.clone(), action }], Wait::Durable);
    let taken = match write(Action::Store(Arc::new(record))).await {
        Ok(Outcome::Shed) => Err(wrong("takes no writes now".to_owned())),
        Ok(Outcome::Accepted | Outcome::Durable) => Ok(()),
        Err(error) => Err(wrong(format!("cannot be written: {error}"))),
    };
    let read = match taken {
        Ok(()) => tier.get(&key).await.map_err(|error| wrong(format!("cannot be read: {error}"))),
        Err(trouble) => Err(trouble),
    };
    // Whatever came of it.
    let removed = write(Action::Remove).await;
    let Some(read) = read? else { return Ok(false) };
    if read.payload != payload {
        return Err(wrong("gave back something else than was written to it".to_owned()));
    }
    removed.map_err(|error| wrong(format!("cannot remove: {error}")))?;
    let left = tier.get(&key).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if left.is_some() { Err(wrong("still has what was removed from it".to_owned())) } else { Ok(true) }
}

/// `None` while another epoch of the log is taken up.
fn record(index: &Index, clock: &Clock) -> Option<Record> {
    let position = index.latest_position()?;
    let (now, payload) = (clock.refresh(), content());
    Some(Record {
        epoch: position.epoch,
        seq: position.seq,
        created_at: now,
        fresh_until: now + LIFE_MS,
        expires_at: now + LIFE_MS,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        load_cost_us: 0,
        fingerprint: xxhash_rust::xxh3::xxh3_128(&payload),
        codec: Codec::Bytes as u8,
        compression: 0,
        negative: false,
        raw_len: payload.len() as u32,
        held: Default::default(),
        tags: Default::default(),
        media: None,
        origin: None,
        payload,
    })
}
