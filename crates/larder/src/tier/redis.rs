//! Entries in Redis or Valkey, where every machine of the fleet finds them.
//!
//! An entry's value there is its stamp (epoch and position, eight bytes each, little-endian), then its record. The stamp
//! stands in front so that a script can give it, and compare it, without knowing the rest.
//!
//! Writes wait in a queue that is bounded in bytes and keeps one for each key, which stands for all of that key; a task writes
//! them in batches, and reads see them meanwhile. While Redis is gone they stay there: each carries its stamp, so whenever it
//! arrives its readers can tell whether it still holds.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::redis::{Cmd, RedisResult, RedisWrite, Value, cmd};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Action, Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Index;
use crate::position::Epoch;
use crate::record::{Record, RestoreHold};
use crate::remote::link::{Data, Link, Server, failed, is_refused};
use crate::remote::{reply, script};

mod gather;
mod holds;
mod pieces;
mod scan;
mod todo;

use gather::Gather;
use pieces::Pieces;
use todo::Todo;

/// Bytes in front of a record.
const STAMP_LEN: usize = 16;

/// Entries and bytes that one call writes.
const BATCH_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes that a queued write takes beyond its own.
const WRITE_OVERHEAD: usize = 160;

/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a batch is tried before its entries go one by one, and how often each of them is then that is not refused.
const TRIES_TOGETHER: u32 = 3;
const TRIES_ALONE: u32 = 2;

/// See the head of this file.
pub(crate) struct RedisTier {
    inner: Arc<Inner>,
    writer: Mutex<Option<AbortHandle>>,
    reader: AbortHandle,
}

struct Inner {
    link: Arc<Link>,
    clock: Clock,
    /// What the key of every entry begins with.
    prefix: Vec<u8>,
    gather: Gather,
    over: holds::Over,
    pieces: Pieces,
    queue: Mutex<Queue>,
    /// How many keys are in the queue, set before the lock on it is given back: most reads find none, and need no lock for that.
    queued: AtomicUsize,
    /// Wakes the writer.
    more: Notify,
    /// Wakes those who wait for room, or for the end of the queue.
    less: Notify,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    shed: AtomicU64,
    lost: AtomicU64,
    outranked: AtomicU64,
    unreadable: AtomicU64,
    errors: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// What is to be done to each key.
    writes: HashMap<Box<[u8]>, Waiting>,
    /// The keys, in the order in which they are written: by the number of the write that waited first of those that one write
    /// now stands for.
    order: BTreeMap<u64, Box<[u8]>>,
    bytes: usize,
    number: u64,
    closed: bool,
}

/// What is to be done to a key. The number tells it from a write that took its place.
type Waiting = (u64, Todo);

/// Some writes, as they are sent: each with its place in the order.
type Batch = Vec<(u64, Box<[u8]>, Waiting)>;

impl RedisTier {
    pub(crate) fn start(link: Arc<Link>, index: Arc<Index>, clock: Clock, prefix: Vec<u8>, runtime: &Handle) -> Self {
        let (gather, asked) = Gather::new();
        let reader = runtime.spawn(gather::answer_all(link.clone(), index, prefix.clone(), asked)).abort_handle();
        let inner = Arc::new(Inner {
            link,
            clock,
            prefix,
            gather,
            over: holds::Over::default(),
            pieces: Pieces::default(),
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
            more: Notify::new(),
            less: Notify::new(),
            counters: Counters::default(),
        });
        let writer = runtime.spawn(write_on(Arc::downgrade(&inner))).abort_handle();
        RedisTier { inner, writer: Mutex::new(Some(writer)), reader }
    }
}

impl Drop for RedisTier {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.lock().take() {
            writer.abort();
        }
        self.reader.abort();
    }
}

/// The value of an entry: its stamp and its record.
fn encode(record: &Record) -> Bytes {
    let encoded = record.encode();
    let mut value = BytesMut::with_capacity(STAMP_LEN + encoded.len());
    value.put_slice(&stamp_bytes(record.epoch, record.seq));
    value.put_slice(&encoded);
    value.freeze()
}

/// A record whose stamp is the one in front of it, whatever it says itself. The bytes are cut and not shared: the first share of them is an
/// allocation.
fn decode(mut value: Bytes) -> Option<Record> {
    if value.len() < STAMP_LEN {
        return None;
    }
    let (epoch, seq) = (Epoch(value.get_u64_le()), value.get_u64_le());
    let record = Record::decode(value).ok()?;
    (epoch.0 != 0 && seq <= crate::position::SEQ_MAX).then_some(Record { epoch, seq, ..record })
}

impl Inner {
    fn server(&self) -> Result<Arc<Server>> {
        self.link.server().ok_or_else(unreachable_now)
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    fn add_key(&self, command: &mut Cmd, key: &[u8]) {
        add_key(command, &self.prefix, key);
    }

    /// What waits to be written of a key: a record, or that it is to be removed.
    fn queued(&self, key: &[u8]) -> Option<Option<Arc<Record>>> {
        if self.queued.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.queue.lock().writes.get(key).map(|(_, todo)| todo.record().cloned())
    }

    fn read(&self, value: Value) -> Result<Option<Record>> {
        match value {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => {
                let record = decode(Bytes::from(bytes));
                if record.is_none() {
                    self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
                }
                Ok(record)
            }
            // A server error in a list is one of its items.
            value => value.extract_error().map_err(failed).and(Ok(None)),
        }
    }

    /// The way of every hit in Redis. Between two calls of the system all it touches comes from afar, so it touches little.
    async fn get(&self, key: &[u8]) -> Result<Option<Record>> {
        let began = Instant::now();
        let found = match self.queued(key) {
            Some(queued) => queued.map(|record| (*record).clone()),
            None => self.read(self.counted(self.ask(key).await?)?)?,
        };
        match found {
            Some(record) if record.held != RestoreHold::None => {
                // In a box: reads of what no restore wrote need no room for this.
                Box::pin(self.settled(record, self.reads_within().saturating_sub(began.elapsed()))).await.map(Some)
            }
            found => Ok(found),
        }
    }

    /// Asks Redis for a key, alone or together with others.
    async fn ask(&self, key: &[u8]) -> Result<RedisResult<Value>> {
        // In a cluster each key is its own node's.
        let alone = self.gather.alone();
        if alone.is_none() && !self.link.options.is_cluster() {
            return self.gather.ask(key).await.ok_or_else(unreachable_now);
        }
        let server = self.server()?;
        let mut get = Cmd::with_capacity(2, 3 + self.prefix.len() + key.len());
        get.arg("GET");
        self.add_key(&mut get, key);
        Ok(server.read(&get).await)
    }

    /// The batch on its way and the next one.
    fn reads_within(&self) -> Duration {
        self.link.options.operation_timeout * 2
    }

    async fn get_many(&self, keys: Vec<Box<[u8]>>) -> Result<Vec<Option<Record>>> {
        let known = self.over.learned();
        let mut records = self.read_many(&keys).await?;
        if self.settle(&mut records, Option::as_mut).await? && self.over.learned() != known {
            // A restore may have ended between two of them: then one answer would have half of it. All of it is there by now.
            records = self.read_many(&keys).await?;
            self.settle(&mut records, Option::as_mut).await?;
        }
        Ok(records)
    }

    async fn read_many(&self, keys: &[Box<[u8]>]) -> Result<Vec<Option<Record>>> {
        let mut records: Vec<Option<Record>> = vec![None; keys.len()];
        let mut open = Vec::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            match self.queued(key) {
                Some(queued) => records[at] = queued.map(|record| (*record).clone()),
                None => open.push(at),
            }
        }
        if open.is_empty() {
            return Ok(records);
        }
        let server = self.server()?;
        let keys: Vec<&[u8]> = open.iter().map(|at| &*keys[*at]).collect();
        let values = self.mget(&server, &keys).await?;
        for (at, value) in open.into_iter().zip(values) {
            records[at] = self.read(value)?;
        }
        Ok(records)
    }

    /// The values of some keys, one for each, in as many answers as it takes to have each in time.
    async fn mget(&self, server: &Arc<Server>, keys: &[&[u8]]) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(keys.len());
        while values.len() < keys.len() {
            let rest = &keys[values.len()..];
            let asked = self.pieces.next(rest.len());
            // In a cluster the client takes the command apart by slot and puts the answers together again.
            let mut get = cmd("MGET");
            rest[..asked.keys].iter().for_each(|key| self.add_key(&mut get, key));
            let came = reply::list(self.counted(server.read(&get).await)?, "MGET")?;
            if came.len() != asked.keys {
                return Err(reply::unexpected("MGET"));
            }
            asked.came(&came);
            values.extend(came);
        }
        Ok(values)
    }

    fn counted<T>(&self, outcome: RedisResult<T>) -> Result<T> {
        outcome.map_err(|error| {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            failed(error)
        })
    }

    /// Puts writes into the queue if there is room for them.
    fn enqueue(&self, writes: &[Write]) -> Option<Result<()>> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Some(Err(Error::new(ErrorKind::Closed, "the cache was closed")));
        }
        let size: usize = writes.iter().map(|write| cost(&write.key, &Todo::of(&write.action))).sum();
        // A call that is larger than the whole queue is let in when the queue is empty: it can never fit otherwise.
        if queue.bytes + size > self.link.options.write_queue_bytes && queue.bytes > 0 {
            return None;
        }
        for write in writes {
            queue.number += 1;
            let number = queue.number;
            let todo = match queue.writes.get(&write.key) {
                Some((_, waiting)) => waiting.then(&write.action),
                None => Todo::of(&write.action),
            };
            queue.bytes += cost(&write.key, &todo);
            match queue.writes.insert(write.key.clone(), (number, todo)) {
                Some((_, old)) => queue.bytes -= cost(&write.key, &old),
                None => drop(queue.order.insert(number, write.key.clone())),
            }
        }
        self.queued.store(queue.writes.len(), Ordering::Release);
        drop(queue);
        self.more.notify_one();
        Some(Ok(()))
    }

    fn next_batch(&self) -> Batch {
        let queue = self.queue.lock();
        let mut bytes = 0;
        let mut batch = Vec::new();
        for (place, key) in &queue.order {
            let waiting = &queue.writes[key];
            bytes += cost(key, &waiting.1);
            if !batch.is_empty() && bytes > BATCH_BYTES_MAX {
                break;
            }
            batch.push((*place, key.clone(), waiting.clone()));
            if batch.len() == BATCH_MAX {
                break;
            }
        }
        batch
    }

    /// What was written leaves the queue, but for what took its place meanwhile.
    fn written(&self, batch: &Batch) {
        let mut queue = self.queue.lock();
        for (place, key, (number, todo)) in batch {
            let there = queue.order.remove(place);
            debug_assert_eq!(there.as_deref(), Some(&**key), "only the writer takes from the queue");
            let current = queue.writes.get(key).map(|(current, _)| *current).expect("what has a place is there");
            if current == *number {
                queue.writes.remove(key);
                queue.bytes -= cost(key, todo);
            } else {
                queue.order.insert(current, key.clone());
            }
        }
        self.queued.store(queue.writes.len(), Ordering::Release);
        drop(queue);
        self.less.notify_waiters();
    }

    async fn send(&self, batch: &Batch) -> Result<()> {
        let server = self.server()?;
        let now = self.clock.refresh();
        let life = |record: &Record| crate::remote::store_life(record.expires_at, now);
        let arguments = |call: &mut Cmd, todo: &Todo| {
            match todo.action() {
                Action::Store(record) => call.arg(life(record)).arg(encode(record).as_ref()),
                Action::RemoveUpTo(position) => call.arg(0).arg(stamp_bytes(position.epoch, position.seq).as_slice()),
                Action::Remove => call.arg(0).arg(""),
            };
            match todo.upto() {
                Some(upto) => call.arg(stamp_bytes(upto.epoch, upto.seq).as_slice()),
                None => call.arg(""),
            };
        };
        // Of two epochs nobody can tell which is newer by looking at an entry. What was decided in another than the one in
        // force is stale by now, and might take the place of what is not.
        let (batch, outdated): (Vec<_>, Vec<_>) =
            batch.iter().partition(|(.., (_, todo))| todo.epoch().is_none_or(|of| of == server.epoch));
        self.counters.outranked.fetch_add(outdated.len() as u64, Ordering::Relaxed);
        if batch.is_empty() {
            return Ok(());
        }
        match &server.data {
            Data::Single(_) => {
                let mut call = script::call(&script::STORE, batch.len());
                batch.iter().for_each(|(_, key, _)| self.add_key(&mut call, key));
                batch.iter().for_each(|(.., (_, todo))| arguments(&mut call, todo));
                let outranked = self.counted(server.run(&call).await)?;
                self.counters.outranked.fetch_add(reply::number(outranked, "a write")?, Ordering::Relaxed);
            }
            Data::Cluster(connection) => {
                // Each entry has a slot of its own; the client sends them to their nodes side by side.
                let mut tasks = tokio::task::JoinSet::new();
                for (_, key, (_, todo)) in batch {
                    let mut call = script::call(&script::STORE, 1);
                    self.add_key(&mut call, key);
                    arguments(&mut call, todo);
                    let mut connection = connection.clone();
                    tasks.spawn(async move { script::run_in_cluster(&mut connection, &call).await });
                }
                while let Some(outcome) = tasks.join_next().await {
                    let outcome = outcome.map_err(|_| Error::new(ErrorKind::Closed, "the runtime was shut down"))?;
                    self.counters.outranked.fetch_add(reply::number(self.counted(outcome)?, "a write")?, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, writes: Vec<Write>, wait: Wait) -> Result<Outcome> {
        loop {
            let room = self.less.notified();
            if let Some(taken) = self.enqueue(&writes) {
                taken?;
                break;
            }
            // Without a server room may never come; and who does not want to wait is not made to.
            if wait == Wait::No || !self.link.is_up() {
                self.counters.shed.fetch_add(writes.len() as u64, Ordering::Relaxed);
                return Ok(Outcome::Shed);
            }
            drop(tokio::time::timeout(PAUSE, room).await);
        }
        if wait == Wait::Durable {
            self.drain().await?;
            return Ok(Outcome::Durable);
        }
        if wait == Wait::Accepted && self.link.options.is_cluster() {
            // A put whose write is not one with its append: who is told of it elsewhere should also find it. Where that takes
            // too long it stays queued, and is a miss meanwhile.
            drop(tokio::time::timeout(self.link.options.operation_timeout, self.drain()).await);
        }
        Ok(Outcome::Accepted)
    }

    /// Waits until nothing is queued any more that was when this was called. It looks at the front alone: many may wait, each of
    /// them is woken by each batch, and there may be hundreds of thousands of entries behind.
    async fn drain(&self) -> Result<()> {
        let upto = self.queue.lock().number;
        loop {
            let less = self.less.notified();
            let waits = self.queue.lock().order.first_key_value().is_some_and(|(place, _)| *place <= upto);
            if !waits {
                return Ok(());
            }
            self.server()?;
            drop(tokio::time::timeout(PAUSE, less).await);
        }
    }

    /// Removes a key whose value still begins so.
    async fn discard(&self, server: &Server, key: &[u8], seen: &[u8]) -> Result<bool> {
        let mut call = script::call(&script::DISCARD, 1);
        call.arg(key).arg(seen);
        let removed = self.counted(server.run(&call).await)?;
        Ok(reply::number(removed, "a removal")? > 0)
    }

    async fn lease(&self, key: &[u8], token: u64, life: Duration) -> Result<bool> {
        let server = self.server()?;
        let mut set = cmd("SET");
        set.arg(self.lease_key(key)).arg(token.to_le_bytes().as_slice()).arg("NX").arg("PX").arg(life.as_millis() as u64);
        Ok(self.counted(server.send(&set).await)? != Value::Nil)
    }

    async fn release(&self, key: &[u8], token: u64) -> Result<()> {
        let server = self.server()?;
        self.discard(&server, &self.lease_key(key), &token.to_le_bytes()).await.map(drop)
    }

    /// In the slot of no entry in particular: it need not be where the entry is.
    fn lease_key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix[..self.prefix.len() - 2], b"lease:", key].concat()
    }
}

/// Adds the key of an entry to a command, without putting it together first.
fn add_key(command: &mut Cmd, prefix: &[u8], key: &[u8]) {
    let mut argument = command.writer_for_next_arg();
    argument.write_all(prefix).and_then(|()| argument.write_all(key)).expect("a command is written into memory");
}

fn unreachable_now() -> Error {
    Error::new(ErrorKind::Tier, "Redis cannot be reached now")
}

fn cost(key: &[u8], todo: &Todo) -> usize {
    2 * key.len() + todo.record().map_or(0, |record| record.encoded_len()) + WRITE_OVERHEAD
}

fn stamp_bytes(epoch: Epoch, seq: u64) -> [u8; STAMP_LEN] {
    let mut stamp = [0; STAMP_LEN];
    stamp[..8].copy_from_slice(&epoch.0.to_le_bytes());
    stamp[8..].copy_from_slice(&seq.to_le_bytes());
    stamp
}

/// Writes what is queued, until the tier is gone.
///
/// A batch that fails although Redis can be reached may hold one entry that never can be written: a key of another kind, a
/// value that does not come across in time or is too large for the server, which then ends the connection; a slot whose node is dead. So
/// after some tries they go one by one, and one that still fails is given up: its readers load it. What a server refuses it refuses at
/// once, and those behind are not kept waiting: a full one refuses all.
async fn write_on(weak: Weak<Inner>) {
    let mut failures = 0;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let mut batch = inner.next_batch();
        if failures >= TRIES_TOGETHER {
            batch.truncate(1);
        }
        if batch.is_empty() {
            failures = 0;
            inner.more.notified().await;
            continue;
        }
        // Asked before: the try itself may have cost the connection. What was not sent is no try.
        let is_up = inner.link.is_up();
        match inner.send(&batch).await {
            Ok(()) => {
                inner.written(&batch);
                failures = 0;
            }
            Err(error) => {
                tracing::debug!(%error, "entries could not be written to Redis; they wait");
                failures += u32::from(is_up);
                let is_refused = is_refused(&error);
                if failures >= TRIES_TOGETHER + if is_refused { 1 } else { TRIES_ALONE } {
                    tracing::warn!(%error, key = %batch[0].1.escape_ascii(), "an entry could not be written to Redis; it was given up");
                    inner.counters.shed.fetch_add(1, Ordering::Relaxed);
                    if batch[0].2.1.record().is_some_and(|record| record.is_held()) {
                        inner.counters.lost.fetch_add(1, Ordering::Relaxed);
                    }
                    inner.written(&batch);
                    // What comes next has tries of its own: this one may have cost the connection.
                    failures = TRIES_TOGETHER;
                    if is_refused {
                        continue;
                    }
                }
                drop(inner);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Tier for RedisTier {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_ordered(&self) -> bool {
        false
    }

    fn knows_holds(&self) -> bool {
        true
    }

    /// The client for a cluster goes from node to node as it sees fit.
    fn reads_within(&self) -> Option<Duration> {
        (!self.inner.link.options.is_cluster()).then(|| self.inner.reads_within())
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> TierFuture<'a, Option<Record>> {
        Box::pin(self.inner.get(key))
    }

    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>> {
        Box::pin(self.inner.get_many(keys))
    }

    fn write(&self, writes: Vec<Write>, wait: Wait) -> TierFuture<'_, Outcome> {
        Box::pin(self.inner.write(writes, wait))
    }

    fn keys<'a>(&'a self, prefix: &'a [u8], from: Option<Box<[u8]>>, limit: usize) -> TierFuture<'a, KeyPage> {
        Box::pin(self.inner.page_of_keys(prefix, from, limit))
    }

    fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> TierFuture<'_, SweepPage> {
        Box::pin(self.inner.sweep(from, limit, keep))
    }

    fn lease<'a>(&'a self, key: &'a [u8], token: u64, life: Duration) -> TierFuture<'a, bool> {
        Box::pin(self.inner.lease(key, token, life))
    }

    fn release<'a>(&'a self, key: &'a [u8], token: u64) -> TierFuture<'a, ()> {
        Box::pin(self.inner.release(key, token))
    }

    fn clear(&self) -> TierFuture<'_, ()> {
        Box::pin(self.inner.clear())
    }

    fn flush(&self) -> TierFuture<'_, ()> {
        Box::pin(self.inner.drain())
    }

    fn state(&self) -> TierState {
        if self.inner.link.is_up() { TierState::Healthy } else { TierState::Degraded("Redis cannot be reached".into()) }
    }

    fn stats(&self) -> TierStats {
        let Counters { shed, lost, outranked, unreadable, errors } = &self.inner.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let queue = self.inner.queue.lock();
        TierStats {
            queued: queue.writes.len() as u64,
            queued_bytes: queue.bytes as u64,
            shed: count(shed),
            lost: count(lost),
            outranked: count(outranked),
            unreadable: count(unreadable),
            errors: count(errors),
            ..TierStats::default()
        }
    }

    fn close(&self) -> TierFuture<'_, ()> {
        Box::pin(async move {
            self.inner.queue.lock().closed = true;
            // What cannot be written now is lost to the others as a fill is that was never made: they load it.
            match self.inner.drain().await {
                Err(error) => tracing::debug!(%error, "entries that waited to be written were dropped"),
                Ok(()) => tracing::debug!("all entries were written"),
            }
            if let Some(writer) = self.writer.lock().take() {
                writer.abort();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_in_front_counts() {
        let record = Record {
            epoch: Epoch(7),
            seq: 3,
            created_at: 1,
            fresh_until: 2,
            expires_at: 2,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            load_cost_us: 0,
            fingerprint: 9,
            codec: 0,
            compression: 0,
            negative: false,
            raw_len: 5,
            held: Default::default(),
            tags: Default::default(),
            media: None,
            origin: None,
            payload: Bytes::from_static(b"value"),
        };
        let mut value = encode(&record).to_vec();
        value[8..16].copy_from_slice(&77u64.to_le_bytes());
        let read = decode(value.clone().into()).unwrap();
        assert_eq!((read.epoch, read.seq, &read.payload), (record.epoch, 77, &record.payload));
        value[40] ^= 1;
        assert!(decode(value.into()).is_none(), "damage behind it is noticed");
        assert!(decode(Bytes::from_static(b"short")).is_none());
    }
}
