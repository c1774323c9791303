//! Every change to the store, with the counters that go with it. Knows no threads and no queue; `now` is passed in.
//!
//! One ledger exists per open store and the writer's thread owns it, so what it reads cannot change before it commits.
//! Each change is one atomic batch that carries the counters, so a kill between two batches leaves them exact.
//!
//! # Eviction
//!
//! Oldest write first, with a second chance for what was read lately:
//!
//! ```text
//!   places    17        18        19            ...        90
//!             a         -         c                        a'
//!             |         |         |
//!             |         |         read lately: its order record moves to place 91, its value stays
//!             |         overwritten since: its order record went with the overwriting batch
//!             a is the same key as a': not possible, for the same reason - unless place 17 is a reprieve
//! ```
//!
//! A reprieved record keeps its ticket, so whoever overwrites it cannot know its place and leaves an *orphan* there.
//! Places that are not the first one of their ticket are therefore checked against the record before they are believed.

use std::sync::Arc;

use bytes::Bytes;
use fjall::OwnedWriteBatch;

use super::layout::{self, COUNTERS_KEY, Counters, NEVER, Order, Stored};
use super::queue::Queued;
use super::recent::Recent;
use super::store::{Store, Trouble};
use crate::position::Position;
use crate::record::Record;
use crate::tier::{Action, Gone};

/// Entries that one batch evicts or expires at most, so that no batch takes long.
const STEP: usize = 512;

/// What a change did, for the tier's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) outranked: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) unreadable: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.outranked += other.outranked;
        self.evicted += other.evicted;
        self.expired += other.expired;
        self.unreadable += other.unreadable;
    }
}

/// A record as a sweep saw it: to be removed if it is still that one.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) key: Box<[u8]>,
    pub(super) ticket: u64,
    pub(super) is_unreadable: bool,
}

pub(super) struct Ledger {
    store: Arc<Store>,
    counters: Counters,
    /// No order record stands before this place. Spares the scan over deletions that were not compacted yet.
    oldest_place: u64,
    /// No entry of the expiry index is of this moment or before.
    expired_until: u64,
}

/// One batch in the making.
struct Change {
    store: Arc<Store>,
    batch: OwnedWriteBatch,
    counters: Counters,
}

impl Change {
    fn put(&mut self, key: Vec<u8>, value: Bytes) {
        self.batch.insert(self.store.entries(), key, value);
    }

    fn drop_pair(&mut self, key: Vec<u8>) {
        self.batch.remove(self.store.entries(), key);
    }

    fn store(&mut self, key: &[u8], record: &Record) {
        let (ticket, encoded, expires_at) = (self.next_place(), record.encode(), record.expires_at);
        let size = (key.len() + encoded.len()) as u64;
        self.put(layout::record_key(key), Stored::encode(ticket, expires_at, &encoded));
        let order = Order { ticket, size, expires_at, key: Bytes::copy_from_slice(key) };
        self.put(layout::order_key(ticket), order.encode());
        if expires_at != NEVER {
            self.put(layout::expiry_key(expires_at, key), Bytes::copy_from_slice(&ticket.to_le_bytes()));
        }
        self.counters.add(key, size, expires_at);
    }

    fn forget_if_there(&mut self, key: &[u8], stored: Option<Stored>) {
        if let Some(stored) = stored {
            self.drop_pair(layout::order_key(stored.ticket));
            self.forget(key, stored.size(key), stored.expires_at);
        }
    }

    /// Forgets all of an entry but its place in the queue.
    fn forget(&mut self, key: &[u8], size: u64, expires_at: u64) {
        self.drop_pair(layout::record_key(key));
        if expires_at != NEVER {
            self.drop_pair(layout::expiry_key(expires_at, key));
        }
        self.counters.subtract(key, size, expires_at);
    }

    /// Puts an entry at the end of the queue; its old place is the caller's to remove.
    fn requeue(&mut self, order: &Order) {
        let place = self.next_place();
        self.put(layout::order_key(place), order.encode());
    }

    fn next_place(&mut self) -> u64 {
        self.counters.next_ticket += 1;
        self.counters.next_ticket - 1
    }
}

impl Ledger {
    /// Reads the counters, or recounts where there are none.
    pub(super) fn open(store: Arc<Store>) -> Result<Self, Trouble> {
        let mut ledger = Ledger { store, counters: Counters::default(), oldest_place: 0, expired_until: 0 };
        match ledger.store.get_raw(&COUNTERS_KEY)?.and_then(|value| Counters::decode(&value)) {
            Some(counters) => ledger.counters = counters,
            None => ledger.recount()?,
        }
        Ok(ledger)
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Stores and removes. The writes are of distinct keys.
    pub(super) fn apply<'a>(&mut self, writes: impl Iterator<Item = (&'a [u8], &'a Queued)>, now: u64) -> Result<Tally, Trouble> {
        let (mut change, mut tally) = (self.begin(), Tally::default());
        for (key, Queued { action, afresh }) in writes {
            let old = self.store.get(key)?;
            let position = match action {
                Action::Store(record) => Some(Position { epoch: record.epoch, seq: record.seq }),
                Action::RemoveUpTo(position) => Some(*position),
                Action::Remove => None,
            };
            let position = position.filter(|_| !afresh);
            if let (Some(old), Some(position)) = (&old, position)
                && stays(old, position, now, &mut tally)
            {
                tally.outranked += 1;
                continue;
            }
            change.forget_if_there(key, old);
            let Action::Store(record) = action else { continue };
            if record.expires_at <= now {
                tally.expired += 1;
            } else {
                change.store(key, record);
            }
        }
        self.commit(change)?;
        Ok(tally)
    }

    /// Evicts until the entries take at most `bound` bytes.
    pub(super) fn evict(&mut self, bound: u64, recent: &Recent) -> Result<Tally, Trouble> {
        let mut total = Tally::default();
        let mut recounted = false;
        while self.counters.bytes > bound {
            total.add(self.evict_step(bound, recent)?);
            if self.counters.bytes <= bound || self.oldest_place < self.counters.next_ticket {
                continue;
            }
            // The queue is at its end while the counters speak of more: only damage below can explain that.
            if recounted {
                break;
            }
            tracing::error!(target: "larder::disk", "the counters of the disk tier do not match its entries; recounting");
            self.recount()?;
            recounted = true;
        }
        Ok(total)
    }

    fn evict_step(&mut self, bound: u64, recent: &Recent) -> Result<Tally, Trouble> {
        let (mut change, mut tally) = (self.begin(), Tally::default());
        let (mut oldest, mut seen, mut reprieved) = (self.oldest_place, 0, 0);
        for pair in self.store.range(layout::order_key(oldest), layout::order_end()).take(STEP) {
            if change.counters.bytes <= bound {
                break;
            }
            let (key, value) = pair?;
            let Some(place) = layout::place_of(&key) else { continue };
            (oldest, seen) = (place + 1, seen + 1);
            change.drop_pair(key.to_vec());
            let Some(order) = Order::decode(Bytes::copy_from_slice(&value)) else { continue };
            if place != order.ticket && !self.is_current(&order)? {
                continue;
            }
            // Reprieves free nothing: at most half of a step, so that each step gets on.
            if reprieved < STEP / 2 && recent.take(&order.key) {
                reprieved += 1;
                change.requeue(&order);
            } else {
                change.forget(&order.key, order.size, order.expires_at);
                tally.evicted += 1;
            }
        }
        self.commit(change)?;
        self.oldest_place = if seen == 0 { self.counters.next_ticket } else { oldest };
        Ok(tally)
    }

    /// Whether the record that an order record speaks of is still the one in place.
    fn is_current(&self, order: &Order) -> Result<bool, Trouble> {
        Ok(self.store.get(&order.key)?.is_some_and(|stored| stored.ticket == order.ticket))
    }

    /// Removes up to one step of what expired until `now`; says whether there is more.
    pub(super) fn expire(&mut self, now: u64) -> Result<(Tally, bool), Trouble> {
        let (mut change, mut tally) = (self.begin(), Tally::default());
        let mut more = false;
        let mut until = now;
        let range = self.store.range(layout::expiry_key(self.expired_until.saturating_add(1), b""), layout::expiry_end(now));
        for (seen, pair) in range.enumerate() {
            let (index_key, ticket) = pair?;
            let Some((expires_at, key)) = layout::expiry_of(&index_key) else { continue };
            if seen == STEP {
                // This moment may have been done by half.
                (more, until) = (true, expires_at - 1);
                break;
            }
            change.drop_pair(index_key.to_vec());
            let current = self.store.get(key)?.filter(|stored| ticket[..] == stored.ticket.to_le_bytes());
            tally.expired += u64::from(current.is_some());
            change.forget_if_there(key, current);
        }
        if !change.batch.is_empty() {
            self.commit(change)?;
        }
        self.expired_until = until.max(self.expired_until);
        Ok((tally, more))
    }

    /// Removes records unless they were replaced since they were seen.
    pub(super) fn remove(&mut self, victims: Vec<Victim>) -> Result<Vec<Gone>, Trouble> {
        let mut gone = Vec::with_capacity(victims.len());
        for victims in victims.chunks(STEP) {
            let mut change = self.begin();
            let before = gone.len();
            for Victim { key, ticket, is_unreadable } in victims {
                let Some(stored) = self.store.get(key)?.filter(|stored| stored.ticket == *ticket) else { continue };
                gone.push(Gone { key: key.clone(), bytes: stored.size(key), is_unreadable: *is_unreadable });
                change.forget_if_there(key, Some(stored));
            }
            if gone.len() > before {
                self.commit(change)?;
            }
        }
        Ok(gone)
    }

    /// Forgets everything, by starting the next generation.
    pub(super) fn clear(&mut self) -> Result<Arc<Store>, Trouble> {
        self.store = Arc::new(self.store.next_generation()?);
        (self.oldest_place, self.expired_until) = (0, 0);
        let mut change = self.begin();
        change.counters = Counters::default();
        self.commit(change)?;
        // A flush makes the engine look which journals it can do without; until then they hold the old files.
        self.store.rotate()?;
        Ok(self.store.clone())
    }

    /// Commits the counters alone. Shows that the store takes writes, and gives an idle memtable something to flush.
    pub(super) fn touch(&mut self) -> Result<(), Trouble> {
        let change = self.begin();
        self.commit(change)
    }

    /// Counts everything anew, and gives each record back its first place in the queue.
    pub(super) fn recount(&mut self) -> Result<(), Trouble> {
        let mut counters = Counters::default();
        let (start, end) = layout::record_range(b"", None);
        let mut change = self.begin();
        for pair in self.store.range(start, end) {
            let (key, value) = pair?;
            let (key, stored) = (layout::user_key(&key), Stored::decode(Bytes::copy_from_slice(&value)));
            let (ticket, size, expires_at) = (stored.ticket, stored.size(key), stored.expires_at);
            counters.add(key, size, expires_at);
            counters.next_ticket = counters.next_ticket.max(ticket + 1);
            let order = Order { ticket, size, expires_at, key: Bytes::copy_from_slice(key) };
            change.put(layout::order_key(ticket), order.encode());
            if change.batch.len() >= STEP {
                self.commit(std::mem::replace(&mut change, self.begin()))?;
            }
        }
        self.commit(change)?;
        for pair in self.store.range(layout::order_key(counters.next_ticket), layout::order_end()) {
            counters.next_ticket = layout::place_of(&pair?.0).map_or(counters.next_ticket, |place| place + 1);
        }
        (self.counters, self.oldest_place) = (counters, 0);
        self.touch()
    }

    fn begin(&self) -> Change {
        Change { store: self.store.clone(), batch: self.store.batch(), counters: self.counters }
    }

    fn commit(&mut self, mut change: Change) -> Result<(), Trouble> {
        // Being in each batch, the counters are also always the newest thing in the keyspace, and never a deletion: the
        // engine then always finds that what a journal holds was flushed, and lets go of it (fjall issue 288).
        change.batch.insert(self.store.entries(), COUNTERS_KEY, fjall::Slice::from(change.counters.encode()));
        self.store.await_room()?;
        change.batch.commit()?;
        self.counters = change.counters;
        Ok(())
    }
}

/// Whether the record in place must stay, against a write of this position. One that cannot be read or has expired need not.
fn stays(old: &Stored, against: Position, now: u64, tally: &mut Tally) -> bool {
    match Record::decode(old.record.clone()) {
        Ok(old) => old.expires_at > now && old.is_past(against),
        Err(_) => {
            tally.unreadable += 1;
            false
        }
    }
}

#[cfg(test)]
mod tests;
