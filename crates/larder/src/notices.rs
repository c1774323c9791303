//! Telling whoever listens what became of keys: invalidated, expired, evicted.
//!
//! Nothing in the cache waits for a listener, and nothing grows with one that is slow: each has a queue of its own with a bound, and
//! one that does not keep up is told that it missed something. Where nobody listens a change pays one load for that.
//!
//! Names are told once they are in the index, so whoever is told and then reads finds what the notice says.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::cache::Larder;
use crate::freshness::{NameHashes, Named};
use crate::key::is_reserved;
use crate::lookup::Answer;
use crate::name::Name;
use crate::origin::{Origin, sources_of};
use crate::pattern::Pattern;
use crate::position::{Position, Stamp};
use crate::raw::{FillToken, Raw};
use crate::sync::{AtomicUsize, Ordering};

/// The most notices that one listener can have waiting: some megabytes.
pub const NOTICES_MAX: usize = 65_536;

/// What became of keys: see [`Larder::notices`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Something was appended, here or by another process that shares the log: all that depends on these names and is older is stale.
    Invalidated {
        /// What was invalidated, together.
        names: Arc<[Noticed]>,
        /// Where it stands in the log; `None` while it waits to be appended to a shared log that cannot be reached.
        position: Option<Position>,
        /// Whether values were put under the keys. `None`: another process did it, and the log does not say.
        put: Option<bool>,
    },
    /// The entry of this key left memory because its time was over. What only the backing tier had is not told.
    Expired(Box<[u8]>),
    /// The entry of this key was taken out of memory because something that it depends on was invalidated: by the read that found it so,
    /// or by the sweep that gives room back, which may be a while after. [`Invalidated`](Self::Invalidated) is told at once.
    Removed(Box<[u8]>),
    /// The entry of this key left memory to make room, and no backing tier has it.
    Evicted(Box<[u8]>),
    /// More happened than this listener took in time, or than this process was told: anything may have changed.
    Lost,
}

/// One name that was invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Noticed {
    /// A whole key.
    Key(Box<[u8]>),
    /// A tag. Which keys have it is in the entries alone: see [`Larder::is_current`].
    Tag(Box<[u8]>),
    /// A pattern over whole keys. A namespace is one, too.
    Pattern(Pattern),
    /// Everything.
    Everything,
}

impl Noticed {
    fn of(name: &Name) -> Self {
        match name {
            Name::Key(key) => Noticed::Key(key.clone()),
            Name::Tag(tag) => Noticed::Tag(tag.clone()),
            Name::Pattern(pattern) => Noticed::Pattern(pattern.clone()),
            Name::Everything => Noticed::Everything,
        }
    }
}

/// A listener's notices, in the order in which things happened here. It stops listening when it is dropped.
pub struct Notices {
    queue: Arc<Queue>,
    board: Weak<Board>,
}

impl Notices {
    /// The next notice, once there is one. `None`: the cache is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            if let Some(notice) = self.try_next() {
                return Some(notice);
            }
            if self.board.strong_count() == 0 {
                // What was told last may have come after the look.
                return self.try_next();
            }
            // A permit is kept for what was told since the look.
            self.queue.told.notified().await;
        }
    }

    /// The next notice, if there is one already.
    pub fn try_next(&mut self) -> Option<Notice> {
        self.queue.waiting.lock().pop_front()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let Some(board) = self.board.upgrade() else { return };
        let mut queues = board.queues.write();
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        board.listening.store(queues.len(), Ordering::Release);
    }
}

struct Queue {
    waiting: Mutex<VecDeque<Notice>>,
    capacity: usize,
    told: Notify,
}

impl Queue {
    fn push(&self, notice: Notice) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.capacity || notice == Notice::Lost {
            // What is before it says nothing that this does not.
            waiting.clear();
            waiting.push_back(Notice::Lost);
        }
        if notice != Notice::Lost {
            waiting.push_back(notice);
        }
        drop(waiting);
        self.told.notify_one();
    }
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Board {
    listening: AtomicUsize,
    queues: RwLock<Vec<Arc<Queue>>>,
}

impl Board {
    #[inline]
    fn is_watched(&self) -> bool {
        self.listening.load(Ordering::Acquire) > 0
    }

    /// Names that are in the index by now. The position is only asked for if somebody listens.
    pub(crate) fn tell(&self, names: &[Name], position: impl FnOnce() -> Option<Position>, put: Option<bool>) {
        if self.is_watched() && !names.is_empty() {
            let names = names.iter().map(Noticed::of).collect();
            self.push(&Notice::Invalidated { names, position: position(), put });
        }
    }

    /// The same of a single key, which was put.
    #[inline]
    pub(crate) fn tell_put(&self, key: &[u8], position: impl FnOnce() -> Option<Position>) {
        if self.is_watched() {
            self.tell(&[Name::Key(key.into())], position, Some(true));
        }
    }

    pub(crate) fn expired(&self, key: &[u8]) {
        self.tell_key(key, Notice::Expired);
    }

    pub(crate) fn removed(&self, key: &[u8]) {
        self.tell_key(key, Notice::Removed);
    }

    pub(crate) fn evicted(&self, key: &[u8]) {
        self.tell_key(key, Notice::Evicted);
    }

    /// The log went on without this process, or another took its place.
    pub(crate) fn lost(&self) {
        if self.is_watched() {
            self.push(&Notice::Lost);
        }
    }

    fn tell_key(&self, key: &[u8], notice: impl FnOnce(Box<[u8]>) -> Notice) {
        if self.is_watched() && !is_reserved(key) {
            self.push(&notice(key.into()));
        }
    }

    fn push(&self, notice: &Notice) {
        self.queues.read().iter().for_each(|queue| queue.push(notice.clone()));
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // So that they look once more and see that nobody is left to tell them anything.
        self.queues.get_mut().iter().for_each(|queue| queue.told.notify_one());
    }
}

/// What an answer depended on, and since when it was known to be current: enough to ask again, without the value.
#[derive(Clone)]
pub struct Witness {
    hashes: NameHashes,
    origin: Option<Arc<Origin>>,
    stamp: Stamp,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl<V> Answer<V> {
    /// What to ask [`Larder::is_current`] with later.
    pub fn witness(&self) -> Witness {
        self.value.witness()
    }
}

impl<V> crate::entry::Cached<V> {
    /// What to ask [`Larder::is_current`] with later.
    pub fn witness(&self) -> Witness {
        let meta = &self.0.meta;
        Witness { hashes: meta.hashes.clone(), origin: meta.origin.clone(), stamp: meta.stamp() }
    }
}

impl Raw {
    /// Whether a key was neither put, removed nor named by an invalidation, as far as this process knows, since a token for it was
    /// [given](Self::begin_fill); also where there is no entry. Tags are an entry's: see [`Larder::is_current`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let raw = larder::Larder::builder().build().await?.raw();
    /// let token = raw.begin_fill("a:1");
    /// assert!(raw.is_unchanged_since("a:1", token));
    /// raw.put("a:1", larder::Item::new("x".into())).await?;
    /// assert!(!raw.is_unchanged_since("a:1", token));
    /// # Ok(()) }
    /// ```
    pub fn is_unchanged_since(&self, key: impl AsRef<[u8]>, token: FillToken) -> bool {
        let (key, index) = (key.as_ref(), &self.shared().index);
        let hashes = index.hashes_from(key, &[], &[]);
        let named = Named { key, hashes: &hashes, sources: &[] };
        index.stamp_of(token.position()).is_some_and(|stamp| index.judge(named, stamp).is_none())
    }
}

impl Larder {
    /// Listens to what becomes of keys from now on, with room for so many notices that wait ([`NOTICES_MAX`] at most). The cache does
    /// not wait for a listener: one that is slower than that gets [`Notice::Lost`] in the place of what it missed, and must take it
    /// that anything has changed.
    ///
    /// A change that several processes hear of is told by each of them, once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Larder, Names, Notice, Noticed};
    /// let larder = Larder::builder().build().await?;
    /// let mut notices = larder.notices(1_000);
    /// larder.invalidate(Names::new().tag("symbol:AAPL")).await?;
    /// let Some(Notice::Invalidated { names, put, .. }) = notices.next().await else { panic!("it was just invalidated") };
    /// assert_eq!((&names[0], put), (&Noticed::Tag(b"symbol:AAPL".as_slice().into()), Some(false)));
    /// # Ok(()) }
    /// ```
    pub fn notices(&self, capacity: usize) -> Notices {
        let board = &self.0.index.notices;
        let queue = Arc::new(Queue { waiting: Mutex::default(), capacity: capacity.clamp(1, NOTICES_MAX), told: Notify::new() });
        let mut queues = board.queues.write();
        queues.push(queue.clone());
        board.listening.store(queues.len(), Ordering::Release);
        drop(queues);
        Notices { queue, board: Arc::downgrade(board) }
    }

    /// Whether nothing that an answer depended on was invalidated, as far as this process knows, since it was given: neither its key,
    /// a put of it included, nor a tag, a pattern, its namespace, everything, or what it was computed from. Time is not looked at.
    ///
    /// With the witness of each key that a client keeps a copy of, a server finds those that an invalidation by tag killed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Item, Larder, Names};
    /// let larder = Larder::builder().build().await?;
    /// larder.raw().put("a:1", Item::new("x".into()).tag("t")).await?;
    /// let witness = larder.raw().peek("a:1").await?.expect("it was just put").witness();
    /// assert!(larder.is_current("a:1", &witness));
    /// larder.invalidate(Names::new().tag("t")).await?;
    /// assert!(!larder.is_current("a:1", &witness));
    /// # Ok(()) }
    /// ```
    pub fn is_current(&self, key: impl AsRef<[u8]>, witness: &Witness) -> bool {
        let named = Named { key: key.as_ref(), hashes: &witness.hashes, sources: sources_of(witness.origin.as_deref()) };
        self.0.index.judge(named, witness.stamp).is_none()
    }
}
