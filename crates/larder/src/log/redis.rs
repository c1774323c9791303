//! The log that several machines share, in Redis or Valkey.
//!
//! # What is where
//!
//! Keys in one slot, `{prefix}` in braces:
//!
//! ```text
//!   {larder}:log        hash: epoch and those before it, head, position of the checkpoint, identity of the server, version of this layout,
//!                       hold of a restore and those that were given up
//!   {larder}:stream     stream: what was appended, a record a group, with the marks of events; its id is the group's last position
//!   {larder}:checkpoint list: parts of the freshness index as of a position up to which the stream may be cut off, see `checkpoints.rs`;
//!                       {larder}:checkpoint:unfinished is the next one
//!   {larder}:members    hash: what each instance has applied, and when it said so; since when it is complete; fences
//!   {larder}:marks      string: the events that took effect last, see `marks.lua`; outlives an epoch
//!   {larder}:inbox      stream: invalidations by others than larder, in plain text
//!   {larder}:duty:N     hash: who does what is due, see `duty.lua`, with its records
//!   {larder}:parcels:N  hash: what instance N leaves for others to read, with its order; {larder}:senders: whose there are
//! ```
//!
//! # Who does what
//!
//! - The *appender* groups what callers append at the same time, and runs one script a group (step 1). What it cannot deliver within the
//!   time limit it queues or refuses, as each append asks.
//! - The *keeper* verifies a server (step 11), appends the queue to it before anybody may read from it, takes the log's
//!   snapshot up (step 10), lets the others in, and then is the *tail* (step 2) until something is wrong.
//! - One of all instances writes a *checkpoint* when the stream has become long.
//!
//! # Without a log
//!
//! An invalidation that must take effect while the log cannot be reached gets a *provisional* position: past everything seen,
//! in the order of this process, and told to nobody. What is loaded meanwhile is stamped with such positions, too. From then
//! on the real log cannot be followed in this generation, whose next positions are others, so the keeper ends it: it appends
//! the queue, then adopts the log as it stands, and memory starts cold. Without such an invalidation it just goes on.
//!
//! Lock order: `queue`, then the index's own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{Append, Appended, LogStats, Marks, Spread};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::config::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Index;
use crate::invalidations::InvalidationCounters;
use crate::mutation::Mutations;
use crate::name::{NAMES_MAX, Name};
use crate::parcels::{Parcel, ParcelBounds};
use crate::position::{Epoch, Position, Receipt, Stamp};
use crate::remote::RedisOptions;
use crate::remote::link::Link;
use crate::stats::SharedLogStats;

mod appender;
mod checkpoints;
mod duties;
mod encode;
mod holds;
mod inbox;
mod keeper;
mod members;
mod parcels;
mod peers;

/// How long an append may take, tries on another connection included, before it is queued or refused.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Epochs remembered as left: more than anybody meets on one way through a partition.
const LEFT_MAX: usize = 64;

/// Bytes that a queued name takes beyond its own.
const NAME_OVERHEAD: usize = 96;

/// See the head of this file.
pub(crate) struct RedisLog {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What the tasks share.
struct Inner {
    index: Arc<Index>,
    marks: Marks,
    clock: Clock,
    link: Arc<Link>,
    keys: Keys,
    /// What this instance is called.
    instance: String,
    /// How long after they were heard at most instances count what they know as verified: `max_staleness`, the largest there is.
    verified_for: Duration,
    to_append: mpsc::UnboundedSender<Pending>,
    queue: Mutex<Queue>,
    /// When the log was last asked and answered that nothing was missing here: nanoseconds since the machine started.
    heard: AtomicU64,
    /// When the server last did not note what this instance said, by the same clock; 0 is never.
    unsaid: AtomicU64,
    /// Whether the epoch in force is one of Redis', and not the one that this instance began with.
    adopted: AtomicBool,
    /// Up to where the index has all positions, own appends that the tail has not brought yet included.
    known: Mutex<appender::Known>,
    /// Epochs that this instance has left, or that have no more positions: none of them may go on. A server that was cut off
    /// may still have one.
    left: Mutex<VecDeque<Epoch>>,
    /// Whether a restore held back what it wrote, when the log was last heard.
    is_held: AtomicBool,
    /// Wakes those who wait for a position.
    told: Arc<Bell>,
    trouble: Mutex<Option<String>>,
    counters: Counters,
    peers: peers::Peers,
    /// Rung when what the tier has was replaced by others, one by one unsaid.
    replaced: Arc<Notify>,
    index_bytes: usize,
    /// How much the stream may have, and what tells that it has.
    room: checkpoints::Room,
    checkpoint_due: Arc<Notify>,
    /// Why the last one that this instance began was not written.
    checkpoint_trouble: Mutex<Option<String>>,
    mutations: Mutations,
    closed: AtomicBool,
}

#[derive(Default)]
struct Counters {
    appends: AtomicU64,
    groups: AtomicU64,
    refused: AtomicU64,
    connects: AtomicU64,
    epochs: AtomicU64,
    resyncs: AtomicU64,
    checkpoints: AtomicU64,
    inbox_taken: AtomicU64,
    inbox_rejected: AtomicU64,
}

/// The names of the keys.
pub(crate) struct Keys {
    pub(crate) meta: Vec<u8>,
    pub(crate) checkpoint: Vec<u8>,
    /// The checkpoint that is being written.
    pub(crate) unfinished: Vec<u8>,
    pub(crate) stream: Vec<u8>,
    pub(crate) members: Vec<u8>,
    pub(crate) marks: Vec<u8>,
    pub(crate) inbox: Vec<u8>,
    pub(crate) rejected: Vec<u8>,
    parcels: parcels::ParcelKeys,
    /// What the key of every duty begins with.
    duties: String,
    /// What the key of every entry begins with.
    pub(crate) entries: Vec<u8>,
}

/// An append on its way, and who waits for it.
struct Pending {
    append: Append,
    deadline: tokio::time::Instant,
    reply: oneshot::Sender<Result<Appended>>,
}

/// Names that took effect here and wait to be appended.
struct Queue {
    /// The number tells a name from the same name queued once more: what is on its way to the log covers the first alone.
    names: HashMap<Vec<u8>, (u64, Name)>,
    number: u64,
    bytes: usize,
    /// Whether the log can be reached, so that nothing may be queued. Changes under this lock together with the link.
    open: bool,
    /// The epoch that provisional positions are told in: nobody else's.
    epoch: Epoch,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{{{prefix}}}:{name}").into_bytes();
        Keys {
            meta: key("log"),
            checkpoint: key("checkpoint"),
            unfinished: key("checkpoint:unfinished"),
            stream: key("stream"),
            members: key("members"),
            marks: key("marks"),
            inbox: key("inbox"),
            rejected: key("inbox:rejected"),
            parcels: parcels::ParcelKeys::new(prefix),
            duties: format!("{{{prefix}}}:duty:"),
            entries: crate::remote::entries_prefix(prefix),
        }
    }

    fn duty(&self, name: &str) -> String {
        format!("{}{name}", self.duties)
    }

    fn duty_records(&self, name: &str) -> String {
        format!("{}{name}:records", self.duties)
    }
}

impl RedisLog {
    /// Begins to keep the log of a deployment. Redis need not be there yet: until it is, the cache works as when it is gone.
    pub(crate) fn start(
        options: &RedisOptions,
        link: Arc<Link>,
        (index_bytes, verified_for): (usize, Duration),
        (clock, told, invalidations): (Clock, Arc<Bell>, Arc<InvalidationCounters>),
        runtime: &Handle,
        mutations: Mutations,
    ) -> (Self, Arc<Index>) {
        let epoch = Epoch::random();
        let index = Arc::new(Index::new(index_bytes, epoch, mutations));
        let (to_append, appends) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            index_bytes,
            room: checkpoints::Room::new(index_bytes, link.options.stream_len),
            checkpoint_due: Arc::default(),
            checkpoint_trouble: Mutex::new(None),
            index: index.clone(),
            marks: Marks::default(),
            clock,
            link,
            keys: Keys::new(&options.prefix),
            instance: options.instance.clone().unwrap_or_else(|| format!("{:016x}", fastrand::u64(..))),
            verified_for,
            to_append,
            queue: Mutex::new(Queue { names: HashMap::new(), number: 0, bytes: 0, open: false, epoch }),
            heard: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
            adopted: AtomicBool::new(false),
            known: Mutex::default(),
            left: Mutex::default(),
            is_held: AtomicBool::new(false),
            told,
            trouble: Mutex::new(None),
            counters: Counters::default(),
            peers: peers::Peers::new(invalidations),
            replaced: Arc::default(),
            mutations,
            closed: AtomicBool::new(false),
        });
        let tasks = [runtime.spawn(keeper::run(Arc::downgrade(&inner))).abort_handle()];
        let waiting = appender::Waiting::new(appends);
        let append = || runtime.spawn(appender::run(Arc::downgrade(&inner), waiting.clone())).abort_handle();
        let tasks = tasks.into_iter().chain((0..appender::FLYING_MAX).map(|_| append())).collect();
        (RedisLog { inner, tasks: Mutex::new(tasks) }, index)
    }

    /// Waits until the log was taken up for the first time, or the time is over.
    pub(crate) async fn first_contact(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.inner.link.other_than(None)).await.is_ok()
    }

    /// Steps 1 and 9. When it returns, readers of this instance obey the append; and either the log has it, or it is queued
    /// and said to be.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`], for an append in strict mode that the log did not confirm, when the queue is full, or when the log
    /// takes no more until a checkpoint is written.
    pub(crate) async fn append(&self, mut append: Append) -> Result<Appended> {
        let inner = &self.inner;
        if append.names.len() > appender::NAMES_MAX || appender::write_bytes(&append) > appender::WRITE_BYTES_MAX {
            // Too much for one step: the server would do nothing else meanwhile. The entries go the ordinary way.
            append.writes.clear();
        }
        if inner.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the cache was closed"));
        }
        if append.names.len() > NAMES_MAX {
            let message =
                format!("one append has at most {NAMES_MAX} keys or names, this one has {}; nothing was changed", append.names.len());
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        if append.mode == Mode::Available
            && !inner.link.is_up()
            && let Some(queued) = inner.enqueue(&append)
        {
            return queued;
        }
        let (reply, receiver) = oneshot::channel();
        let pending = Pending { append, deadline: tokio::time::Instant::now() + APPEND_TIMEOUT, reply };
        let closed = || Error::new(ErrorKind::Closed, "the cache was closed meanwhile; whether the change was appended is not known");
        inner.to_append.send(pending).map_err(|_| closed())?;
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.inner.marks
    }

    pub(crate) fn writes_entries(&self) -> bool {
        !self.inner.link.options.is_cluster()
    }

    /// Why the last checkpoint that this instance began was not written.
    pub(crate) fn checkpoint_trouble(&self) -> Option<String> {
        self.inner.checkpoint_trouble.lock().clone()
    }

    /// Rung when a restore elsewhere has replaced what the tier has.
    pub(crate) fn replaced(&self) -> Arc<Notify> {
        self.inner.replaced.clone()
    }

    #[inline]
    pub(crate) fn unheard_for(&self) -> Duration {
        Duration::from_nanos(boot_ns().saturating_sub(self.inner.heard.load(Ordering::Acquire)))
    }

    pub(crate) fn stats(&self) -> LogStats {
        let Inner { index, link, instance, queue, counters, trouble, .. } = &*self.inner;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (queued, queued_bytes) = {
            let queue = queue.lock();
            (queue.names.len() as u64, queue.bytes as u64)
        };
        let connected = link.is_up();
        let failed = trouble.lock().clone().filter(|_| !connected);
        LogStats {
            head: index.applied().seq(),
            appends: count(&counters.appends),
            syncs: count(&counters.groups),
            failed: None,
            shared: Some(SharedLogStats {
                instance: instance.clone(),
                connected,
                trouble: failed,
                unheard_for: self.unheard_for(),
                behind: index.latest().seq().saturating_sub(index.applied().seq()),
                queued,
                queued_bytes,
                refused: count(&counters.refused),
                connects: count(&counters.connects),
                epochs: count(&counters.epochs),
                resyncs: count(&counters.resyncs),
                checkpoints: count(&counters.checkpoints),
                inbox_taken: count(&counters.inbox_taken),
                inbox_rejected: count(&counters.inbox_rejected),
            }),
        }
    }

    pub(crate) async fn applied_everywhere(&self, receipt: &Receipt, deadline: Duration) -> Result<Spread> {
        self.inner.applied_everywhere(receipt, deadline).await
    }

    pub(crate) async fn ship(&self, sender: &str, parcels: &[Parcel], kept: ParcelBounds) -> Result<()> {
        self.inner.ship(sender, parcels, kept).await
    }

    pub(crate) async fn senders(&self) -> Result<Vec<String>> {
        self.inner.senders().await
    }

    pub(crate) async fn shipped(&self, sender: &str, after: u64) -> Result<Vec<(u64, Parcel)>> {
        self.inner.shipped(sender, after).await
    }

    /// Who does what is due among those who share the log.
    pub(crate) fn duties(&self) -> duties::Duties<'_> {
        duties::Duties(&self.inner)
    }

    /// What the server that holds the log says of itself, while it can be reached.
    pub(crate) fn about(&self) -> Option<crate::remote::link::About> {
        self.inner.link.server().map(|server| server.about.clone())
    }

    /// Tries once more to append what is queued, and ends the tasks.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`] when names are left that the others were not told of.
    pub(crate) async fn close(&self) -> Result<()> {
        let left = || self.inner.queue.lock().names.len();
        if left() > 0 {
            // The keeper appends the queue before it lets anybody in, so a server in use means that nothing is queued.
            self.first_contact(APPEND_TIMEOUT).await;
        }
        {
            // Nothing can be queued after it was counted.
            let _queue = self.inner.queue.lock();
            self.inner.closed.store(true, Ordering::Release);
        }
        // The keeper first: another heartbeat would list this instance again.
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.inner.leave().await;
        self.stop();
        match left() {
            0 => Ok(()),
            n => Err(Error::new(
                ErrorKind::LogUnavailable,
                format!("{n} queued invalidations could not be appended: other instances were not told of them"),
            )),
        }
    }

    pub(crate) fn stop(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.inner.link.take_down();
        // So that who waits for it sees that nobody is left to ring.
        self.inner.replaced.notify_one();
    }
}

impl Drop for RedisLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// What is asked beside appends, while a server can be reached.
    fn connection(&self) -> Result<::redis::aio::MultiplexedConnection> {
        let server = self.link.server().ok_or_else(|| Error::new(ErrorKind::LogUnavailable, "Redis cannot be reached"))?;
        Ok(server.append.clone())
    }

    /// Lets an append take effect here, and keeps its names for the log. `None` if the log can be reached by now. Its events are not
    /// remembered: what is queued is gone with the process, so they have to be delivered again.
    fn enqueue(&self, append: &Append) -> Option<Result<Appended>> {
        let mut queue = self.queue.lock();
        if queue.open {
            return None;
        }
        if self.closed.load(Ordering::Acquire) {
            return Some(Err(Error::new(ErrorKind::Closed, "the cache was closed")));
        }
        let guard = || append.guard.as_ref().is_some_and(|guard| self.index.conflicts(&guard.keys, &guard.hashes, guard.since));
        if append.refuses() && guard() {
            let stamp = self.index.latest();
            let position = Position { epoch: queue.epoch, seq: stamp.seq() };
            return Some(Ok(Appended { stamp, position, widened: 0, conflict: true, queued: true, wrote_entries: false }));
        }
        let encoded: HashMap<Vec<u8>, &Name> = append.names.iter().map(|name| (encode::name(name), name)).collect();
        let more: usize = encoded.keys().filter(|bytes| !queue.names.contains_key(*bytes)).map(|bytes| bytes.len() + NAME_OVERHEAD).sum();
        let limit = self.link.options.queue_bytes;
        if queue.bytes + more > limit {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!("Redis cannot be reached, and the queue of invalidations is full ({limit} bytes); nothing was changed");
            return Some(Err(Error::new(ErrorKind::LogUnavailable, message)));
        }
        queue.bytes += more;
        queue.number += 1;
        let number = queue.number;
        queue.names.extend(encoded.into_iter().map(|(bytes, name)| (bytes, (number, name.clone()))));
        // Only under this lock are names entered while there is no log, so a guard that found nothing to refuse still finds nothing.
        let (stamp, conflict) = self.index.enter_provisionally(&append.names, guard);
        let position = Position { epoch: queue.epoch, seq: stamp.seq() };
        self.index.notices.tell(&append.names, || None, Some(append.is_put));
        drop(queue);
        self.told.ring();
        Some(Ok(Appended { stamp, position, widened: 0, conflict, queued: true, wrote_entries: false }))
    }

    /// The last of this epoch's real positions that this instance knows of, to tell whether a log still has them.
    fn known_head(&self) -> (Epoch, u64) {
        let position = self.index.latest_position();
        position.map_or_else(|| (self.index.epoch(), 0), |position| (position.epoch, position.seq))
    }

    /// An epoch that must not go on.
    fn leave_epoch(&self, epoch: Epoch) {
        let mut left = self.left.lock();
        if !left.contains(&epoch) {
            left.push_back(epoch);
        }
        if left.len() > LEFT_MAX {
            left.pop_front();
        }
    }

    fn heard_at(&self, asked_ns: u64) {
        self.heard.fetch_max(asked_ns, Ordering::AcqRel);
    }
}

impl Queue {
    /// What there is to append, and how far that goes.
    fn waiting(&self) -> (u64, Vec<Name>) {
        (self.number, self.names.values().map(|(_, name)| name.clone()).collect())
    }

    /// Takes out what was appended. Not a name that was queued again since: its source may have changed after the log took the
    /// first, and others may have loaded in between.
    fn remove_up_to(&mut self, appended: u64) {
        let Queue { names, bytes: size, .. } = self;
        names.retain(|bytes, (number, _)| {
            let stays = *number > appended;
            *size -= if stays { 0 } else { bytes.len() + NAME_OVERHEAD };
            stays
        });
    }
}

/// Time that goes on while the process, or the whole machine, is paused: what strict reads are measured by.
pub(crate) fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A stamp of the log's own positions.
fn stamp(generation: u32, seq: u64) -> Stamp {
    Stamp::new(generation, seq)
}
