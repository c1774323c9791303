//! What was accepted and is not stored yet: the latest write of each key, bounded in bytes, readable at once.
//!
//! ```text
//!   write() --> pending --take()--> committing --finish()--> stored
//!                  ^                    |
//!                  +------ put_back() --+      the batch failed: it waits for the store to recover
//! ```
//!
//! A read looks into `pending`, then into `committing`, then into the store, and a write leaves `committing` only when
//! the store has it; so an accepted write is always seen. What is taken at once is cut into portions, each stored and let
//! go by itself, so that room is made all the time and not in one piece at the end. One lock guards all of it and is held
//! for a few map operations.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::ledger::Victim;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::tier::{Action, Gone, Write};

/// What is stored at once, about.
const PORTION_BYTES: usize = 4 << 20;

/// What a queued write takes beside key and record.
const WRITE_OVERHEAD: usize = 96;

/// Told what became of a batch.
pub(super) type Waiter = oneshot::Sender<Result<()>>;

/// Writes of distinct keys, perhaps after forgetting everything.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Everything stored before is forgotten first.
    pub(super) cleared: bool,
    pub(super) actions: HashMap<Box<[u8]>, Queued>,
    pub(super) bytes: usize,
}

/// The latest write of a key.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) action: Action,
    /// The key was removed before, so what is stored has no say in whether the record is kept. (The removal itself is
    /// replaced in the queue; a record that outranks the new one would otherwise come back to life.)
    pub(super) afresh: bool,
}

/// Everything that was queued when it was taken.
#[derive(Default)]
pub(super) struct Batch {
    /// To be stored in this order, each to be [finished](Queue::finish_portion) before the next.
    pub(super) portions: Vec<Arc<Writes>>,
    pub(super) waiters: Vec<Waiter>,
}

/// Something else that the writer is asked to do, between two batches.
pub(super) enum Errand {
    Remove {
        victims: Vec<Victim>,
        done: oneshot::Sender<Result<Vec<Gone>>>,
    },
    Upkeep {
        done: oneshot::Sender<Result<()>>,
    },
    /// The store was found out of order.
    Check,
}

/// What the writer does next.
pub(super) enum Work {
    Batch(Batch),
    Errand(Errand),
    Idle,
    Stop,
}

/// What became of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    Taken(Taken),
    /// There is no room; the writes come back.
    Full(Vec<Write>),
    /// The store does not take writes at present.
    OutOfOrder,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Stores refused because the queue holds a record that outranks them.
    pub(super) outranked: u64,
}

/// What the queue knows of a key.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Nothing: look into the store.
    Unknown,
    /// The key is gone, whatever the store says.
    Gone,
    Record(Arc<Record>),
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Rung for the writer.
    work: Condvar,
    /// Rung for those who wait for room.
    room: Notify,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    pending: Writes,
    waiters: Vec<Waiter>,
    committing: VecDeque<Arc<Writes>>,
    errands: VecDeque<Errand>,
    out_of_order: Option<Arc<str>>,
    /// The writer is to finish what is queued and leave.
    stopping: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Queue { state: Mutex::default(), work: Condvar::new(), room: Notify::new(), bytes_max }
    }

    // -- for readers

    pub(super) fn lookup(&self, key: &[u8]) -> Lookup {
        self.state.lock().lookup(key)
    }

    /// Whether everything in the store is about to be forgotten.
    pub(super) fn is_clearing(&self) -> bool {
        let state = self.state.lock();
        state.pending.cleared || state.committing.iter().any(|writes| writes.cleared)
    }

    /// Writes and bytes waiting, those being committed included.
    pub(super) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.batches().map(|writes| writes.actions.len()).sum(), state.bytes())
    }

    // -- for writers

    /// Takes the writes if there is room for all of them; then `waiter` is taken too, and told when they are on stable storage.
    pub(super) fn offer(&self, writes: Vec<Write>, waiter: &mut Option<Waiter>) -> Result<Offer> {
        let mut state = self.state.lock();
        state.check_open()?;
        if state.out_of_order.is_some() {
            return Ok(Offer::OutOfOrder);
        }
        let bytes: usize = writes.iter().map(|write| cost(&write.key, &write.action)).sum();
        // What is larger than the whole queue is let in alone.
        if state.bytes() > 0 && state.bytes() + bytes > self.bytes_max {
            return Ok(Offer::Full(writes));
        }
        let mut taken = Taken::default();
        for write in writes {
            taken.outranked += u64::from(!state.push(write));
        }
        state.waiters.extend(waiter.take());
        self.work.notify_one();
        Ok(Offer::Taken(taken))
    }

    /// Completes when there may be room again, or the queue has stopped. Enable it before the offer that it follows.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Forgets everything queued and stored.
    pub(super) fn clear(&self, waiter: Waiter) -> Result<()> {
        let mut state = self.state.lock();
        state.check_open()?;
        state.pending.actions.clear();
        state.pending.bytes = 0;
        state.pending.cleared = true;
        state.wait(waiter);
        self.work.notify_one();
        drop(state);
        self.room.notify_waiters();
        Ok(())
    }

    /// Tells the waiter when everything accepted before is on stable storage.
    pub(super) fn flush(&self, waiter: Waiter) -> Result<()> {
        let mut state = self.state.lock();
        state.check_open()?;
        state.wait(waiter);
        self.work.notify_one();
        Ok(())
    }

    pub(super) fn send(&self, errand: Errand) -> Result<()> {
        let mut state = self.state.lock();
        state.check_open()?;
        state.errands.push_back(errand);
        self.work.notify_one();
        Ok(())
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.state.lock().check_open()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Takes nothing more; the writer finishes what is queued.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    // -- for the writer's thread

    /// What to do next; [`Work::Idle`] when nothing came until `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Work {
        let mut state = self.state.lock();
        loop {
            // Errands first: they are few, and a stream of writes must not starve them.
            if let Some(errand) = state.errands.pop_front() {
                return Work::Errand(errand);
            }
            if let Some(batch) = state.take_batch() {
                return Work::Batch(batch);
            }
            if state.stopping {
                return Work::Stop;
            }
            if self.work.wait_until(&mut state, deadline).timed_out() {
                return Work::Idle;
            }
        }
    }

    /// What is queued, if anything is.
    pub(super) fn take_batch(&self) -> Option<Batch> {
        self.state.lock().take_batch()
    }

    /// The first portion that was not finished is stored.
    pub(super) fn finish_portion(&self) {
        // Freed outside the lock: it may be megabytes.
        let _stored = self.state.lock().committing.pop_front();
        self.room.notify_waiters();
    }

    /// The portions not finished could not be stored: they stay, below what came since.
    pub(super) fn put_back(&self) {
        let mut state = self.state.lock();
        let portions = mem::take(&mut state.committing);
        let pending = &mut state.pending;
        if pending.cleared {
            return;
        }
        for writes in portions {
            pending.cleared |= writes.cleared;
            for (key, failed) in &writes.actions {
                match pending.actions.get_mut(key) {
                    Some(newer) => newer.afresh |= failed.removes(),
                    None => {
                        pending.bytes += cost(key, &failed.action);
                        pending.actions.insert(key.clone(), failed.clone());
                    }
                }
            }
        }
    }

    /// Takes no writes from now on, and answers those who wait for something.
    pub(super) fn set_out_of_order(&self, reason: &str) {
        let mut state = self.state.lock();
        state.out_of_order = Some(reason.into());
        let (waiters, errands) = (mem::take(&mut state.waiters), mem::take(&mut state.errands));
        drop(state);
        waiters.into_iter().for_each(|waiter| answer(waiter, Err(not_stored(reason))));
        errands.into_iter().for_each(|errand| errand.refuse(reason));
        self.room.notify_waiters();
    }

    pub(super) fn set_in_order(&self) {
        self.state.lock().out_of_order = None;
    }

    /// Waits until `deadline`, or until the queue is stopped; then it says so.
    pub(super) fn pause(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.stopping {
            let refused = mem::take(&mut state.errands);
            let reason = state.out_of_order.clone().unwrap_or_else(|| "out of order".into());
            refused.into_iter().for_each(|errand| errand.refuse(&reason));
            if self.work.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.stopping
    }

    /// The writer leaves with things undone. Returns how many accepted writes are lost.
    pub(super) fn abandon(&self, reason: &str) -> usize {
        self.set_out_of_order(reason);
        let mut state = self.state.lock();
        state.stopping = true;
        let lost = state.batches().map(|writes| writes.actions.len()).sum();
        (state.pending, state.committing) = Default::default();
        lost
    }
}

impl State {
    /// What was accepted last, first.
    fn batches(&self) -> impl Iterator<Item = &Writes> {
        // Portions of one batch hold distinct keys, and only the first can say that everything before is forgotten.
        std::iter::once(&self.pending).chain(self.committing.iter().rev().map(|writes| &**writes))
    }

    fn bytes(&self) -> usize {
        self.batches().map(|writes| writes.bytes).sum()
    }

    fn check_open(&self) -> Result<()> {
        if self.stopping { Err(Error::new(ErrorKind::Closed, "the disk tier is closed")) } else { Ok(()) }
    }

    fn lookup(&self, key: &[u8]) -> Lookup {
        for writes in self.batches() {
            match writes.actions.get(key).map(|queued| &queued.action) {
                Some(Action::Store(record)) => return Lookup::Record(record.clone()),
                Some(Action::Remove | Action::RemoveUpTo(_)) => return Lookup::Gone,
                None if writes.cleared => return Lookup::Gone,
                None => {}
            }
        }
        Lookup::Unknown
    }

    /// Queues one write, over the one of the same key. False if that one outranks it, be its time over or not: replaced
    /// by a lesser one it would not be there to replace what is stored, and that would come back.
    fn push(&mut self, write: Write) -> bool {
        if let Lookup::Record(old) = self.lookup(&write.key)
            && match &write.action {
                Action::Store(new) => old.outranks(new),
                Action::RemoveUpTo(position) => old.is_past(*position),
                Action::Remove => false,
            }
        {
            return false;
        }
        self.pending.bytes += cost(&write.key, &write.action);
        let replaced = self.pending.actions.get(&write.key);
        self.pending.bytes -= replaced.map_or(0, |replaced| cost(&write.key, &replaced.action));
        let afresh = replaced.is_some_and(Queued::removes);
        self.pending.actions.insert(write.key, Queued { action: write.action, afresh });
        true
    }

    /// Keeps a waiter for the next batch, or answers it now if there will be none.
    fn wait(&mut self, waiter: Waiter) {
        match &self.out_of_order {
            Some(reason) => answer(waiter, Err(not_stored(reason))),
            None => self.waiters.push(waiter),
        }
    }

    fn take_batch(&mut self) -> Option<Batch> {
        if !self.pending.cleared && self.pending.actions.is_empty() && self.waiters.is_empty() {
            return None;
        }
        debug_assert!(self.committing.is_empty(), "a batch is finished or put back before the next is taken");
        let portions: Vec<_> = mem::take(&mut self.pending).portions().into_iter().map(Arc::new).collect();
        self.committing.extend(portions.iter().cloned());
        Some(Batch { portions, waiters: mem::take(&mut self.waiters) })
    }
}

impl Writes {
    /// Cuts it into what is stored at once; into one piece if it is empty.
    fn portions(self) -> Vec<Writes> {
        if self.bytes <= PORTION_BYTES {
            return vec![self];
        }
        let mut portions = vec![Writes { cleared: self.cleared, ..Writes::default() }];
        for (key, queued) in self.actions {
            if portions.last().is_none_or(|last| last.bytes > PORTION_BYTES) {
                portions.push(Writes::default());
            }
            let last = portions.last_mut().expect("there is one");
            last.bytes += cost(&key, &queued.action);
            last.actions.insert(key, queued);
        }
        portions
    }
}

impl Queued {
    /// Whether nothing of what was stored before stays.
    fn removes(&self) -> bool {
        self.afresh || !matches!(self.action, Action::Store(_))
    }
}

impl Errand {
    pub(super) fn refuse(self, reason: &str) {
        match self {
            Errand::Remove { done, .. } => answer(done, Err(not_stored(reason))),
            Errand::Upkeep { done } => answer(done, Err(not_stored(reason))),
            Errand::Check => {}
        }
    }
}

/// Answers one who may have stopped waiting, which is his right.
pub(super) fn answer<T>(waiter: oneshot::Sender<T>, outcome: T) {
    drop(waiter.send(outcome));
}

pub(super) fn not_stored(reason: &str) -> Error {
    Error::new(ErrorKind::Tier, format!("the disk tier is out of order, what was accepted waits for it to recover: {reason}"))
}

fn cost(key: &[u8], action: &Action) -> usize {
    let record = match action {
        Action::Store(record) => record.encoded_len(),
        Action::Remove | Action::RemoveUpTo(_) => 0,
    };
    key.len() + record + WRITE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Epoch, Position};

    fn record(seq: u64) -> Arc<Record> {
        let (tags, payload) = (Box::new([]), vec![0; 100].into());
        let (epoch, expires_at) = (Epoch(1), u64::MAX);
        Arc::new(Record {
            epoch,
            seq,
            created_at: 0,
            fresh_until: expires_at,
            expires_at,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            load_cost_us: 0,
            fingerprint: 0,
            codec: 0,
            compression: 0,
            negative: false,
            raw_len: 100,
            held: Default::default(),
            tags,
            media: None,
            origin: None,
            payload,
        })
    }

    fn put(queue: &Queue, key: &[u8], seq: u64) -> Offer {
        queue.offer(vec![Write { key: key.into(), action: Action::Store(record(seq)) }], &mut None).unwrap()
    }

    fn remove(queue: &Queue, key: &[u8]) {
        queue.offer(vec![Write { key: key.into(), action: Action::Remove }], &mut None).unwrap();
    }

    fn remove_up_to(queue: &Queue, key: &[u8], seq: u64) -> Offer {
        let action = Action::RemoveUpTo(Position { epoch: Epoch(1), seq });
        queue.offer(vec![Write { key: key.into(), action }], &mut None).unwrap()
    }

    fn seen(queue: &Queue, key: &[u8]) -> Option<Option<u64>> {
        match queue.lookup(key) {
            Lookup::Unknown => None,
            Lookup::Gone => Some(None),
            Lookup::Record(record) => Some(Some(record.seq)),
        }
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_latest_write_of_a_key_is_kept_and_seen_until_it_is_stored() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"k", 1);
        put(&queue, b"k", 2);
        assert!(matches!(put(&queue, b"k", 1), Offer::Taken(Taken { outranked: 1 })));
        assert_eq!((seen(&queue, b"k"), queue.depth().0), (Some(Some(2)), 1));
        let Work::Batch(batch) = queue.take(now()) else { panic!("no batch") };
        assert_eq!((batch.portions.len(), batch.portions[0].actions.len()), (1, 1));
        assert_eq!(seen(&queue, b"k"), Some(Some(2)), "seen while it is committed");
        remove(&queue, b"k");
        assert_eq!(seen(&queue, b"k"), Some(None));
        queue.finish_portion();
        assert!(queue.take_batch().is_some());
        queue.finish_portion();
        assert_eq!((seen(&queue, b"k"), queue.depth()), (None, (0, 0)));
        assert!(matches!(queue.take(now()), Work::Idle));
    }

    #[test]
    fn a_removal_leaves_what_is_newer() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"k", 5);
        assert!(matches!(remove_up_to(&queue, b"k", 4), Offer::Taken(Taken { outranked: 1 })));
        assert_eq!(seen(&queue, b"k"), Some(Some(5)));
        assert!(matches!(remove_up_to(&queue, b"k", 5), Offer::Taken(Taken { outranked: 0 })));
        assert_eq!(seen(&queue, b"k"), Some(None));
    }

    #[test]
    fn a_full_queue_gives_the_writes_back_and_a_huge_one_goes_alone() {
        let queue = Queue::new(600);
        assert!(matches!(put(&queue, b"a", 1), Offer::Taken(_)));
        assert!(matches!(put(&queue, b"b", 1), Offer::Taken(_)));
        assert!(matches!(put(&queue, b"c", 1), Offer::Full(back) if back.len() == 1));
        let taken = queue.take_batch();
        assert!(matches!(put(&queue, b"c", 1), Offer::Full(_)), "what is being committed still takes room");
        drop(taken);
        queue.finish_portion();
        let many = (0..10u8).map(|key| Write { key: [key].into(), action: Action::Store(record(1)) }).collect();
        assert!(matches!(queue.offer(many, &mut None).unwrap(), Offer::Taken(_)));
    }

    #[test]
    fn room_is_made_portion_by_portion() {
        let queue = Queue::new(usize::MAX);
        let count = PORTION_BYTES as u32 / 100;
        for key in 0..count {
            put(&queue, &key.to_le_bytes(), 1);
        }
        let (writes, bytes) = queue.depth();
        let batch = queue.take_batch().unwrap();
        assert!(batch.portions.len() > 1);
        assert_eq!(batch.portions.iter().map(|writes| writes.actions.len()).sum::<usize>(), writes);
        assert_eq!(queue.depth(), (writes, bytes));
        queue.finish_portion();
        assert_eq!(queue.depth(), (writes - batch.portions[0].actions.len(), bytes - batch.portions[0].bytes));
        // What is left goes back; what is stored does not.
        queue.put_back();
        assert_eq!(queue.depth(), (writes - batch.portions[0].actions.len(), bytes - batch.portions[0].bytes));
        let stored = (0..count).filter(|key| seen(&queue, &key.to_le_bytes()).is_none()).count();
        assert_eq!(stored, batch.portions[0].actions.len());
    }

    #[test]
    fn what_failed_goes_below_what_came_since() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"a", 1);
        put(&queue, b"b", 1);
        assert!(queue.take_batch().is_some());
        put(&queue, b"a", 2);
        queue.put_back();
        assert_eq!((seen(&queue, b"a"), seen(&queue, b"b"), queue.depth().0), (Some(Some(2)), Some(Some(1)), 2));
        let bytes = queue.depth().1;
        assert!(queue.take_batch().is_some());
        queue.put_back();
        assert_eq!(queue.depth(), (2, bytes));
    }

    #[test]
    fn a_removal_is_not_forgotten_for_the_write_that_follows() {
        let queue = Queue::new(1 << 20);
        let afresh = |batch: &Batch| batch.portions[0].actions[&b"k"[..]].afresh;
        put(&queue, b"k", 1);
        put(&queue, b"k", 2);
        assert!(!afresh(&queue.take_batch().unwrap()));
        queue.finish_portion();
        remove(&queue, b"k");
        put(&queue, b"k", 1);
        put(&queue, b"k", 2);
        assert!(afresh(&queue.take_batch().unwrap()));
        // Nor if the removal was in a batch that failed.
        put(&queue, b"k", 3);
        queue.put_back();
        assert!(afresh(&queue.take_batch().unwrap()));
    }

    #[test]
    fn clearing_hides_all_that_was_before_also_after_a_failure() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"a", 1);
        assert!(queue.take_batch().is_some());
        queue.clear(oneshot::channel().0).unwrap();
        put(&queue, b"b", 1);
        assert_eq!((seen(&queue, b"a"), seen(&queue, b"stored"), seen(&queue, b"b")), (Some(None), Some(None), Some(Some(1))));
        queue.put_back();
        assert_eq!(seen(&queue, b"a"), Some(None), "a failed batch does not come back from before the clearing");
        let batch = queue.take_batch().unwrap();
        assert!(batch.portions[0].cleared && batch.waiters.len() == 1);
        put(&queue, b"a", 2);
        queue.put_back();
        assert!(queue.is_clearing());
        assert_eq!((seen(&queue, b"a"), seen(&queue, b"b"), seen(&queue, b"stored")), (Some(Some(2)), Some(Some(1)), Some(None)));
    }

    #[test]
    fn out_of_order_it_answers_at_once_and_keeps_what_it_has() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"a", 1);
        let (waiter, mut told) = oneshot::channel();
        queue.flush(waiter).unwrap();
        queue.set_out_of_order("the disk is full");
        assert!(told.try_recv().unwrap().unwrap_err().to_string().contains("the disk is full"));
        assert!(matches!(put(&queue, b"b", 1), Offer::OutOfOrder));
        let (waiter, mut told) = oneshot::channel();
        queue.flush(waiter).unwrap();
        assert_eq!(told.try_recv().unwrap().unwrap_err().kind(), ErrorKind::Tier);
        assert_eq!(seen(&queue, b"a"), Some(Some(1)));
        queue.set_in_order();
        assert!(matches!(put(&queue, b"b", 1), Offer::Taken(_)));
        assert_eq!(queue.abandon("over"), 2);
        assert_eq!(queue.flush(oneshot::channel().0).unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn errands_are_not_starved_and_stopping_comes_last() {
        let queue = Queue::new(1 << 20);
        put(&queue, b"a", 1);
        queue.send(Errand::Check).unwrap();
        queue.stop();
        assert!(matches!(queue.take(now()), Work::Errand(_)));
        assert!(matches!(queue.take(now()), Work::Batch(_)));
        queue.finish_portion();
        assert!(matches!(queue.take(now()), Work::Stop));
    }
}
