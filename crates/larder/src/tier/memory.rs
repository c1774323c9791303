//! The memory tier: a pool of entries bounded in bytes, over quick_cache.
//!
//! The engine knows neither time nor freshness; both are judged by whoever reads. This file keeps the engine's ways to
//! itself: what it takes as too heavy, what its eviction hook means, how it is iterated.

use std::hash::{BuildHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use quick_cache::{Equivalent, Lifecycle, OptionsBuilder, Weighter};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::{Clock, Millis};
use crate::config::MEMORY_BYTES_MIN;
use crate::entry::Slot;
use crate::key::{SEPARATOR, is_reserved};
use crate::metrics::{Count, NamespaceMetrics};
use crate::notices::Board;
use crate::position::Stamp;
use crate::sizing::estimated_items;
use crate::sync::{Mutex, Ordering};

/// A shard smaller than this could not hold values of a few megabytes, so small pools have fewer shards.
const SHARD_BYTES_MIN: u64 = 8 << 20;

/// The engine refuses what weighs more than this share of a shard.
const ADMISSIBLE_SHARE: f64 = 0.95;

/// A pool of entries. The shared one, or a namespace's own.
pub(crate) struct Pool {
    engine: Cache<PoolKey, Arc<dyn Slot>, ByWeight, KeyHash, Farewell>,
    hash: KeyHash,
    clock: Clock,
    notices: Arc<Board>,
    /// The size that was asked for and what may be used of it, and the right to change either.
    size: Mutex<Size>,
}

/// How large a pool is.
#[derive(Clone, Copy)]
struct Size {
    /// What was asked for.
    asked: u64,
    /// The share of it that may be used now: less than all of it where the process comes near what it may have.
    share: f64,
}

impl Size {
    fn bytes(self) -> u64 {
        if self.share >= 1.0 { self.asked } else { ((self.asked as f64 * self.share) as u64).max(MEMORY_BYTES_MIN.min(self.asked)) }
    }
}

/// A whole key, as the pool keeps it. One of common length stands in the engine's own table, beside the pointer to its
/// entry: comparing it costs no cache miss of its own.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PoolKey(SmallVec<[u8; 32]>);

/// A key and its hash, looked for. The key is in two parts, its namespace with the separator and the rest, because that is
/// how most callers have it, and joining them would cost as much as finding the entry.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    namespace: &'a [u8],
    rest: &'a [u8],
    hash: u64,
}

/// A query for values of one type. By reference, so that a hit writes its query once: read back in other pieces than it was
/// written in, it would have to wait for the writes.
struct QueryFor<'a, V>(&'a Query<'a>, PhantomData<V>);

/// A namespace's part of the hash of its keys, in one pool.
#[derive(Clone, Copy)]
pub(crate) struct NamespaceHash(KeyHash);

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Yes,
    /// What is there is newer.
    Outranked,
    TooLarge,
}

impl Pool {
    pub(crate) fn new(capacity: u64, clock: Clock, notices: Arc<Board>) -> Self {
        Pool::hashed(capacity, KeyHash { seed: fastrand::u64(..), shared: &SHARED_SEED }, clock, notices)
    }

    /// One of this size beside it, which hashes keys as it does: a query for one serves for the other.
    pub(crate) fn beside(&self, capacity: u64) -> Self {
        Pool::hashed(capacity, self.hash, self.clock.clone(), self.notices.clone()).squeezed_as(self)
    }

    /// The same that may use no more of its size than another may of its own.
    pub(crate) fn squeezed_as(self, other: &Pool) -> Self {
        self.squeeze_as(other);
        self
    }

    /// Lets it use as much of its size as another may of its own.
    pub(crate) fn squeeze_as(&self, other: &Pool) {
        // Not both locks at once: they have no order.
        let share = other.size.lock().share;
        self.squeeze(share);
    }

    fn hashed(capacity: u64, hash: KeyHash, clock: Clock, notices: Arc<Board>) -> Self {
        let shards = (capacity / SHARD_BYTES_MIN).clamp(1, 4 * std::thread::available_parallelism().map_or(1, usize::from) as u64);
        let options = OptionsBuilder::new()
            .shards(shards as usize)
            .weight_capacity(capacity)
            .estimated_items_capacity(estimated_items(capacity))
            .build()
            .expect("all that the builder asks for is given");
        let engine = Cache::with_options(options, ByWeight, hash, Farewell { clock: clock.clone(), notices: notices.clone() });
        Pool { engine, hash, clock, notices, size: Mutex::new(Size { asked: capacity, share: 1.0 }) }
    }

    /// The clock that ages are counted by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Those who are told what leaves it.
    pub(crate) fn notices(&self) -> &Arc<Board> {
        &self.notices
    }

    /// Looks for a whole key.
    pub(crate) fn query<'a>(&self, key: &'a [u8]) -> Query<'a> {
        let (namespace, rest) = split(key);
        Query::new(namespace, self.namespace_hash(namespace), rest)
    }

    /// What [`Query::new`] needs of a namespace, which is given with its separator.
    pub(crate) fn namespace_hash(&self, namespace: &[u8]) -> NamespaceHash {
        self.hash.of_namespace(namespace)
    }

    /// The entry of a key, whatever its type, and counts as a use of it.
    #[inline]
    pub(crate) fn get(&self, query: Query<'_>) -> Option<Arc<dyn Slot>> {
        self.engine.get(&query)
    }

    /// The same, in a copy of its own for each type of value: a search that has one caller can become a part of it.
    #[inline(always)]
    pub(crate) fn get_for<V>(&self, query: &Query<'_>) -> Option<Arc<dyn Slot>> {
        self.engine.get(&QueryFor::<V>(query, PhantomData))
    }

    /// Without counting as a use.
    pub(crate) fn peek(&self, query: Query<'_>) -> Option<Arc<dyn Slot>> {
        self.engine.peek(&query)
    }

    /// Puts an entry in, unless what is there has a higher stamp: of two writers the later position wins, in whatever
    /// order they get here.
    pub(crate) fn insert(&self, query: Query<'_>, entry: Arc<dyn Slot>) -> Inserted {
        if u64::from(entry.meta().weight) > self.admissible() {
            // What it would have replaced must not be served in its place.
            self.remove(query, Count::Replaced);
            entry.meta().metrics.count(Count::TooLarge);
            return Inserted::TooLarge;
        }
        let key = query.to_key();
        came(key.bytes(), entry.as_ref());
        self.place(&key, &entry)
    }

    /// Puts an entry where its key has its place, as [`insert`](Self::insert) has it.
    fn place(&self, key: &PoolKey, entry: &Arc<dyn Slot>) -> Inserted {
        loop {
            let swap = |_: &PoolKey, old: &mut Arc<dyn Slot>| {
                let newer = old.meta().stamp() > entry.meta().stamp();
                EntryAction::Retain((!newer).then(|| {
                    // Counted under the lock, so that nobody can count it out before.
                    takes_place(entry.as_ref(), old.as_ref());
                    std::mem::replace(old, entry.clone())
                }))
            };
            match self.engine.entry(key, None, swap) {
                EntryResult::Retained(None) => return Inserted::Outranked,
                EntryResult::Retained(Some(old)) => {
                    gone(old.as_ref(), Count::Replaced, self.clock.now_ms());
                    if entry.meta().weight > old.meta().weight {
                        self.make_room();
                    }
                    return Inserted::Yes;
                }
                EntryResult::Vacant(guard) => {
                    // Counted before it can be evicted, so that no gauge falls below zero.
                    arrived(entry.as_ref());
                    if guard.insert(entry.clone()).is_ok() {
                        return Inserted::Yes;
                    }
                    // Somebody removed the key at this very moment. The entry carries its stamp, so it may still come in.
                    departed(entry.as_ref());
                }
                EntryResult::Removed(..) | EntryResult::Replaced(..) | EntryResult::Timeout => {
                    unreachable!("the callback only retains, and waits as long as it takes")
                }
            }
        }
    }

    /// Takes a key out, and counts why.
    pub(crate) fn remove(&self, query: Query<'_>, why: Count) -> bool {
        let removed = self.engine.remove(&query);
        removed.map(|(_, entry)| self.left(entry.as_ref(), why)).is_some()
    }

    /// Takes a key out if its entry's stamp is at most this, and counts why: not one that is newer.
    pub(crate) fn remove_up_to(&self, query: Query<'_>, stamp: Stamp, why: Count) -> Option<Arc<dyn Slot>> {
        let (_, entry) = self.engine.remove_if(&query, |there| there.meta().stamp() <= stamp)?;
        self.left(entry.as_ref(), why);
        Some(entry)
    }

    /// Takes this very entry out, and counts why: not one that has taken its place meanwhile.
    pub(crate) fn remove_entry(&self, query: Query<'_>, entry: &dyn Slot, why: Count) -> bool {
        let Some((key, entry)) = self.engine.remove_if(&query, |there| std::ptr::addr_eq(Arc::as_ptr(there), entry)) else { return false };
        self.left(entry.as_ref(), why);
        match why {
            _ if entry.is_negative() => {}
            Count::Expired => self.notices.expired(key.bytes()),
            Count::Invalidated => self.notices.removed(key.bytes()),
            _ => {}
        }
        true
    }

    fn left(&self, entry: &dyn Slot, why: Count) {
        left(entry, why, self.clock.now_ms());
    }

    /// All entries but the cache's own, one short lock at a time; what comes and goes meanwhile may be seen or not.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PoolKey, Arc<dyn Slot>)> + '_ {
        self.engine.iter().filter(|(key, _)| !is_reserved(key.bytes()))
    }

    /// The largest weight that is taken.
    fn admissible(&self) -> u64 {
        (self.engine.shard_capacity() as f64 * ADMISSIBLE_SHARE) as u64
    }

    /// Gives the pool another size while it is in use; a smaller one evicts at once.
    pub(crate) fn resize(&self, capacity: u64) {
        let mut size = self.size.lock();
        size.asked = capacity;
        self.engine.set_capacity(size.bytes());
    }

    /// Lets it use so much of the size that was asked for, and evicts at once what is more. The size itself stays, and may be changed
    /// meanwhile by whoever gives it out.
    pub(crate) fn squeeze(&self, share: f64) {
        let mut size = self.size.lock();
        size.share = share;
        self.engine.set_capacity(size.bytes());
    }

    /// Whether it may not use all of its size now.
    pub(crate) fn is_squeezed(&self) -> bool {
        self.size.lock().share < 1.0
    }

    /// Moves the entries of a namespace, given with its separator, to another pool, one short lock at a time. One that is newer there
    /// stays. What is read meanwhile may be found in neither.
    pub(crate) fn move_to(&self, other: &Pool, prefix: &[u8]) {
        for (key, entry) in self.iter().filter(|(key, _)| key.bytes().starts_with(prefix)) {
            let query = self.query(key.bytes());
            let moved = self.engine.remove_if(&query, |there| Arc::ptr_eq(there, &entry));
            if moved.is_some() {
                // Counted out before it is counted in again, and by none of the reasons to leave or to come: it does neither.
                departed(entry.as_ref());
                if u64::from(entry.meta().weight) <= other.admissible() {
                    other.place(&key, &entry);
                } else {
                    entry.meta().metrics.count(Count::TooLarge);
                }
            }
        }
    }

    /// The engine evicts when an entry comes in, not when one grows in its place.
    fn make_room(&self) {
        let size = self.size.lock();
        if self.engine.weight() > size.bytes() {
            self.engine.set_capacity(size.bytes());
        }
    }

    /// The size that was asked for last.
    pub(crate) fn size(&self) -> u64 {
        self.size.lock().asked
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.engine.capacity()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.engine.weight()
    }

    pub(crate) fn len(&self) -> usize {
        self.engine.len()
    }
}

impl PoolKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> Query<'a> {
    #[inline]
    pub(crate) fn new(namespace: &'a [u8], hash: NamespaceHash, rest: &'a [u8]) -> Self {
        Query { namespace, rest, hash: hash.of_key(rest) }
    }

    /// Whether it is this whole key. A function of its own, so that the engine's search is small enough for the compiler
    /// to put it into the look.
    #[inline(never)]
    fn is(&self, key: &[u8]) -> bool {
        let Some((namespace, rest)) = key.split_at_checked(self.namespace.len()) else { return false };
        // The rest first: keys of one pool often share the namespace and seldom the rest.
        same(rest, self.rest) && same(namespace, self.namespace)
    }

    fn to_key(self) -> PoolKey {
        PoolKey(self.to_bytes())
    }

    /// The whole key.
    pub(crate) fn to_bytes(self) -> SmallVec<[u8; 32]> {
        let mut bytes = SmallVec::with_capacity(self.namespace.len() + self.rest.len());
        bytes.extend_from_slice(self.namespace);
        bytes.extend_from_slice(self.rest);
        bytes
    }
}

fn arrived(entry: &dyn Slot) {
    let NamespaceMetrics { entries, bytes, .. } = &*entry.meta().metrics;
    entries.fetch_add(1, Ordering::Relaxed);
    bytes.fetch_add(entry.meta().weight.into(), Ordering::Relaxed);
}

fn departed(entry: &dyn Slot) {
    let NamespaceMetrics { entries, bytes, .. } = &*entry.meta().metrics;
    entries.fetch_sub(1, Ordering::Relaxed);
    bytes.fetch_sub(entry.meta().weight.into(), Ordering::Relaxed);
}

/// One for another of the same key: nearly always of the same namespace, and often of the same weight, and then there is nothing to add.
fn takes_place(entry: &dyn Slot, old: &dyn Slot) {
    let (new, old_meta) = (entry.meta(), old.meta());
    if !Arc::ptr_eq(&new.metrics, &old_meta.metrics) {
        arrived(entry);
        departed(old);
    } else if new.weight != old_meta.weight {
        // Wraps around where it is less, as the sum does.
        new.metrics.bytes.fetch_add(u64::from(new.weight).wrapping_sub(old_meta.weight.into()), Ordering::Relaxed);
    }
}

/// Before it is there, since a hit must find whether it is followed.
fn came(key: &[u8], entry: &dyn Slot) {
    let (meta, hash) = (entry.meta(), xxh3_64(key));
    if meta.metrics.follows(hash) {
        meta.follow();
    }
    meta.metrics.record(hash, meta.weight, false);
    meta.metrics.sketching.came(key, hash, meta.encoded_len, meta.weight);
}

fn left(entry: &dyn Slot, why: Count, now: Millis) {
    departed(entry);
    gone(entry, why, now);
}

/// What is counted of one that is no longer there, beside how many are.
fn gone(entry: &dyn Slot, why: Count, now: Millis) {
    let meta = entry.meta();
    meta.metrics.count(why);
    meta.metrics.sketching.left(why, meta.created_at, meta.read_at(), now);
}

/// The engine's eviction hook. It fires for what makes room and for nothing else here: replacements happen in place, and
/// what is too large never gets to the engine.
#[derive(Clone)]
struct Farewell {
    clock: Clock,
    notices: Arc<Board>,
}

impl Lifecycle<PoolKey, Arc<dyn Slot>> for Farewell {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: PoolKey, entry: Arc<dyn Slot>) {
        if !entry.meta().metrics.is_backed && !entry.is_negative() {
            self.notices.evicted(key.bytes());
        }
        evicted.0.push((entry, self.clock.now_ms()));
    }
}

/// What made room, and when. It is counted and dropped with this, when the engine has let go of its lock: a value's destructor is not ours,
/// and counting took longer than all else that was done while others waited. One insertion seldom evicts more than two.
#[derive(Default)]
struct Evicted(SmallVec<[(Arc<dyn Slot>, Millis); 2]>);

impl Drop for Evicted {
    fn drop(&mut self) {
        for (entry, now) in &self.0 {
            left(entry.as_ref(), Count::Evicted, *now);
        }
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<PoolKey, Arc<dyn Slot>> for ByWeight {
    fn weight(&self, _key: &PoolKey, entry: &Arc<dyn Slot>) -> u64 {
        entry.meta().weight.into()
    }
}

/// A key's namespace with its separator, and the rest.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_at(key.iter().position(|byte| *byte == SEPARATOR).map_or(key.len(), |at| at + 1))
}

/// How keys are hashed: the namespace first, which most callers have done once and for all, then the rest.
///
/// By foldhash, which is one multiplication for a rest of up to 16 bytes. Both seeds are random, so that nobody can prepare
/// keys that meet in one shard: with the shared one known, a word of a key could be chosen that makes the product zero.
#[derive(Clone, Copy)]
struct KeyHash {
    seed: u64,
    shared: &'static SharedSeed,
}

static SHARED_SEED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(fastrand::u64(..)));

impl KeyHash {
    #[inline]
    fn of(self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, self.shared);
        hasher.write(bytes);
        hasher.finish()
    }

    fn of_namespace(self, namespace: &[u8]) -> NamespaceHash {
        NamespaceHash(KeyHash { seed: self.of(namespace), ..self })
    }
}

impl NamespaceHash {
    #[inline]
    fn of_key(self, rest: &[u8]) -> u64 {
        self.0.of(rest)
    }
}

impl BuildHasher for KeyHash {
    type Hasher = Given;

    fn build_hasher(&self) -> Given {
        Given { hash: 0, how: *self }
    }
}

/// The engine's hasher: a query brings its hash along, a key that the engine keeps is hashed when it asks.
struct Given {
    hash: u64,
    how: KeyHash,
}

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, key: &[u8]) {
        let (namespace, rest) = split(key);
        self.hash = self.how.of_namespace(namespace).of_key(rest);
    }

    fn write_u64(&mut self, hash: u64) {
        self.hash = hash;
    }
}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Hash for Query<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<PoolKey> for Query<'_> {
    #[inline(always)]
    fn equivalent(&self, key: &PoolKey) -> bool {
        self.is(&key.0)
    }
}

impl<V> Hash for QueryFor<'_, V> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<V> Equivalent<PoolKey> for QueryFor<'_, V> {
    #[inline(always)]
    fn equivalent(&self, key: &PoolKey) -> bool {
        self.0.equivalent(key)
    }
}

/// Whether two slices are equal, word by word; the last two words may overlap. Nothing here is a call, as the library's
/// comparison is: whoever makes one has registers to save.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    match a.len() {
        len if len != b.len() => false,
        0..4 => a.iter().eq(b),
        4..8 => same_ends::<4>(a, b),
        8..=16 => same_ends::<8>(a, b),
        _ => same_ends::<8>(a, b) && a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0).all(|(a, b)| a == b),
    }
}

/// Whether the first and the last `N` bytes are the same, of slices that have as many.
#[inline(always)]
fn same_ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    let first = a.first_chunk::<N>().is_some_and(|first| b.first_chunk() == Some(first));
    first && a.last_chunk::<N>() == b.last_chunk()
}

#[cfg(all(test, feature = "shuttle"))]
mod schedules;

#[cfg(all(test, not(feature = "shuttle")))]
mod predicted;

#[cfg(test)]
mod tests;
