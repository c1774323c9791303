//! An entry as memory holds it, and the handle to it that readers get.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Millis, TICK};
use crate::fingerprint::{Fingerprint, Print};
use crate::freshness::{NameHashes, Named};
use crate::key::Tags;
use crate::metrics::NamespaceMetrics;
use crate::origin::{Dependency, Origin, sources_of};
use crate::position::Stamp;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// What an entry costs in memory beyond its key and value, on average, allocator's rounding included.
pub(crate) const ENTRY_OVERHEAD: usize = 256;

/// How long a hit may leave [`read_at`](Meta::read_at) as it is. Written by every hit, it made a second cache line of many an entry a
/// written one, beside that of the count of handles: 6 ns a hit with fifty thousand entries.
const READ_AT_EVERY_MS: Millis = 256;

/// Everything about an entry but its value.
///
/// What a hit needs stands first, and right behind the value, so that a hit on a small value touches one cache line of the entry, or two,
/// and not five. All of it is one allocation with the value: the rest in a box of its own was a fifth of what the memory of a put cost.
#[repr(C)]
pub(crate) struct Meta {
    /// When it was read last, give or take [`READ_AT_EVERY_MS`]; zero before the first time.
    read_at: AtomicU64,
    stamp: AtomicU64,
    /// Before this moment a hit has nothing to do but return: when it is [due](Details::due_at), or before, when it is one of those
    /// whose reads are followed.
    attention_at: AtomicU64,
    details: Details,
}

/// What is known of an entry, for those who look closer.
pub(crate) struct Details {
    fresh_until: AtomicU64,
    expires_at: AtomicU64,
    /// When a hit must look closer: the earliest of being stale, due for refresh, or due for sliding.
    due_at: AtomicU64,
    /// Whether the distance between its reads is measured.
    is_followed: AtomicBool,
    pub(crate) created_at: Millis,
    /// The life it was given, and how much longer it may be served as stale; for sliding and touching.
    pub(crate) life: Life,
    /// Asked for by [`Slot::fingerprint`].
    pub(crate) print: Print,
    pub(crate) hashes: NameHashes,
    pub(crate) tags: Tags,
    pub(crate) media: Option<Box<str>>,
    /// What it was made from, if that is known.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The content it stands for, where that was first seen when the entry was here already.
    seen_content: OnceLock<Box<Fingerprint>>,
    pub(crate) load_cost_us: u32,
    /// The length of the encoded value.
    pub(crate) encoded_len: u32,
    /// What the pool counts it as, fixed for its life.
    pub(crate) weight: u32,
    pub(crate) codec: u8,
    pub(crate) metrics: Arc<NamespaceMetrics>,
}

impl Deref for Meta {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.details
    }
}

/// How long an entry lives, in milliseconds; `u64::MAX` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) ttl: u64,
    /// After its time, how long it may be served while it is being loaded again.
    pub(crate) stale_while_revalidate: u64,
    /// After its time, how long it may be served because loading failed.
    pub(crate) stale_if_error: u64,
    /// Whether a hit starts the time to live anew.
    pub(crate) sliding: bool,
    /// How long before its time it is loaded again ahead of need; zero is never.
    pub(crate) refresh_ahead: u64,
}

impl Life {
    /// When an entry that lives from `now` stops being fresh, and when it may no longer be served at all.
    pub(crate) fn times(&self, now: Millis) -> (Millis, Millis) {
        let fresh_until = now.saturating_add(self.ttl);
        (fresh_until, fresh_until.saturating_add(self.stale_while_revalidate.max(self.stale_if_error)))
    }

    /// When a hit must look closer.
    fn attention(&self, now: Millis, fresh_until: Millis) -> Millis {
        // Sliding on every hit would write to a shared line each time; a 32nd of the life is as good.
        let slide = if self.sliding { now.saturating_add((self.ttl / 32).max(1)) } else { u64::MAX };
        fresh_until.saturating_sub(self.refresh_ahead).min(slide)
    }
}

/// The three moments of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) created_at: Millis,
    pub(crate) fresh_until: Millis,
    pub(crate) expires_at: Millis,
}

/// What a [`Meta`] is made of; the rest of it changes during its life.
pub(crate) struct NewMeta {
    pub(crate) stamp: Stamp,
    pub(crate) times: Times,
    pub(crate) life: Life,
    /// Asked for by [`Slot::fingerprint`].
    pub(crate) print: Print,
    pub(crate) hashes: NameHashes,
    pub(crate) tags: Tags,
    pub(crate) media: Option<Box<str>>,
    pub(crate) origin: Option<Arc<Origin>>,
    pub(crate) load_cost_us: u32,
    pub(crate) encoded_len: u32,
    pub(crate) codec: u8,
    pub(crate) metrics: Arc<NamespaceMetrics>,
}

impl NewMeta {
    /// Of an entry that has no tags and no origin, and lives for ever.
    pub(crate) fn plain(stamp: Stamp, encoded_len: u32, metrics: Arc<NamespaceMetrics>, now: Millis) -> Self {
        NewMeta {
            stamp,
            times: Times { created_at: now, fresh_until: u64::MAX, expires_at: u64::MAX },
            life: Life { ttl: u64::MAX, stale_while_revalidate: 0, stale_if_error: 0, sliding: false, refresh_ahead: 0 },
            print: Print::default(),
            hashes: NameHashes::default(),
            tags: Tags::default(),
            media: None,
            origin: None,
            load_cost_us: 0,
            encoded_len,
            codec: 0,
            metrics,
        }
    }
}

impl Meta {
    pub(crate) fn new(new: NewMeta, key_len: usize, now: Millis) -> Self {
        let NewMeta { stamp, times, life, print, hashes, tags, media, origin, load_cost_us, encoded_len, codec, metrics } = new;
        let tag_bytes: usize = tags.iter().map(|tag| tag.len() + 16).sum();
        let origin_bytes = origin.as_ref().map_or(0, |origin| origin.weight());
        let media_bytes = media.as_ref().map_or(0, |media| media.len());
        let weight = key_len + encoded_len as usize + tag_bytes + media_bytes + origin_bytes + ENTRY_OVERHEAD;
        let due_at = life.attention(now, times.fresh_until);
        let details = Details {
            fresh_until: AtomicU64::new(times.fresh_until),
            expires_at: AtomicU64::new(times.expires_at),
            due_at: AtomicU64::new(due_at),
            is_followed: AtomicBool::new(false),
            created_at: times.created_at,
            life,
            print,
            hashes,
            tags,
            media,
            origin,
            seen_content: OnceLock::new(),
            load_cost_us,
            encoded_len,
            codec,
            metrics,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        };
        Meta { stamp: AtomicU64::new(stamp.0), attention_at: AtomicU64::new(due_at), read_at: AtomicU64::new(0), details }
    }

    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }

    /// What it depends on.
    pub(crate) fn named<'a>(&'a self, key: &'a [u8]) -> Named<'a> {
        Named { key, hashes: &self.hashes, sources: self.sources() }
    }

    /// What it was computed from.
    pub(crate) fn sources(&self) -> &[Dependency] {
        sources_of(self.origin.as_deref())
    }

    /// The fingerprint of the content it stands for, given with it or seen since.
    pub(crate) fn content(&self) -> Option<Fingerprint> {
        self.origin.as_ref().and_then(|origin| origin.content).or_else(|| self.seen_content.get().map(|seen| **seen))
    }

    /// Keeps the content that it stands for, unless that is known already. Returns what is known then.
    pub(crate) fn see_content(&self, content: Fingerprint) -> Fingerprint {
        self.content().unwrap_or_else(|| **self.seen_content.get_or_init(|| Box::new(content)))
    }

    /// The origin as it is now, for the backing tier.
    pub(crate) fn origin_now(&self) -> Option<Arc<Origin>> {
        match (&self.origin, self.seen_content.get()) {
            (origin, None) => origin.clone(),
            (origin, Some(seen)) => {
                let sources = origin.as_ref().map_or_else(Vec::new, |origin| origin.sources.clone());
                Some(Arc::new(Origin { content: Some(**seen), sources }))
            }
        }
    }

    /// Raises the stamp: the entry was checked and found fresh at `to`.
    pub(crate) fn restamp(&self, to: Stamp) {
        self.stamp.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Whether a hit at `now` has nothing to do but return, as far as time goes.
    #[inline]
    pub(crate) fn quiet_at(&self, now: Millis) -> bool {
        now < self.attention_at.load(Ordering::Relaxed)
    }

    /// Whether a hit at `now` must look closer.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        now >= self.due_at.load(Ordering::Relaxed)
    }

    /// Has hits of it noted, from the next one on.
    pub(crate) fn follow(&self) {
        self.is_followed.store(true, Ordering::Relaxed);
        self.attention_at.store(0, Ordering::Relaxed);
    }

    /// Leaves hits of it alone until the next tick, once one was noted; for good, if they are not followed any more.
    pub(crate) fn noted(&self, now: Millis, followed: bool) {
        self.is_followed.store(followed, Ordering::Relaxed);
        let next_tick = if followed { now.saturating_add(TICK.as_millis() as u64) } else { u64::MAX };
        let mut due_at = self.due_at.load(Ordering::SeqCst);
        loop {
            self.attention_at.store(next_tick.min(due_at), Ordering::SeqCst);
            // It may have been given a shorter life since. `renew` writes in the other order, and both are in one order of all such
            // writes: either that is seen here, or what it writes comes behind what was written here.
            match self.due_at.load(Ordering::SeqCst) {
                seen if seen == due_at => return,
                renewed => due_at = renewed,
            }
        }
    }

    /// A read found it. What is read many times is written once in a while.
    #[inline]
    pub(crate) fn read_now(&self, now: Millis) {
        if now.wrapping_sub(self.read_at.load(Ordering::Relaxed)) >= READ_AT_EVERY_MS {
            self.read_at.store(now, Ordering::Relaxed);
        }
    }

    /// When it was read last, to a quarter of a second; zero if never.
    pub(crate) fn read_at(&self) -> Millis {
        self.read_at.load(Ordering::Relaxed)
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            created_at: self.created_at,
            fresh_until: self.fresh_until.load(Ordering::Relaxed),
            expires_at: self.expires_at.load(Ordering::Relaxed),
        }
    }

    /// Whether it is time to load it again ahead of need.
    pub(crate) fn wants_refresh(&self, now: Millis) -> bool {
        self.life.refresh_ahead > 0 && now >= self.times().fresh_until.saturating_sub(self.life.refresh_ahead)
    }

    /// Starts the life anew, for a touch or a sliding hit.
    pub(crate) fn renew(&self, ttl: u64, now: Millis) {
        let (fresh_until, expires_at) = Life { ttl, ..self.life }.times(now);
        // In this order, so that no reader sees a life that ends before its freshness.
        self.expires_at.store(expires_at, Ordering::Relaxed);
        self.fresh_until.store(fresh_until, Ordering::Relaxed);
        let due_at = Life { ttl, ..self.life }.attention(now, fresh_until);
        self.due_at.store(due_at, Ordering::SeqCst);
        self.attention_at.store(if self.is_followed.load(Ordering::Relaxed) { 0 } else { due_at }, Ordering::SeqCst);
    }
}

/// An entry with its value, in this order: see [`Meta`].
#[repr(C)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) meta: Meta,
}

impl<V: 'static> Entry<V> {
    /// The fingerprint of its encoded value.
    pub(crate) fn fingerprint(&self) -> u128 {
        // Only of a value that is its own encoded form it may not be known yet.
        let bytes = (&self.value as &dyn Any).downcast_ref::<Bytes>();
        bytes.map_or_else(|| self.meta.print.known(), |bytes| self.meta.print.of(bytes))
    }
}

/// An entry that says there is no value.
pub(crate) struct Negative {
    pub(crate) meta: Meta,
}

/// What a pool holds: an entry of some type of value, or a negative one.
pub(crate) trait Slot: Any + Send + Sync {
    fn meta(&self) -> &Meta;
    /// Whether it says that there is no value.
    fn is_negative(&self) -> bool;
    /// The fingerprint of the encoded value; zero where there is no value.
    fn fingerprint(&self) -> u128;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<V: Send + Sync + 'static> Slot for Entry<V> {
    fn is_negative(&self) -> bool {
        false
    }

    fn fingerprint(&self) -> u128 {
        Entry::fingerprint(self)
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Slot for Negative {
    fn is_negative(&self) -> bool {
        true
    }

    fn fingerprint(&self) -> u128 {
        0
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A slot's entry, if its value is of this type.
#[inline(always)]
pub(crate) fn typed<V: Send + Sync + 'static>(slot: Arc<dyn Slot>) -> Option<Arc<Entry<V>>> {
    let any: Arc<dyn Any + Send + Sync> = slot;
    match any.downcast() {
        Ok(entry) => Some(entry),
        Err(other) => of_another_type(other),
    }
}

/// Cold, so that the check of the type is a branch that the processor foresees, and not a value to wait for.
#[cold]
#[inline(never)]
fn of_another_type<V>(other: Arc<dyn Any + Send + Sync>) -> Option<Arc<Entry<V>>> {
    drop(other);
    None
}

/// A cached value: a cheap handle that derefs to it, and keeps it alive for as long as it is held, whatever becomes of the
/// entry meanwhile.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let larder = larder::Larder::builder().build().await?;
/// let names = larder.namespace::<String>("names")?;
/// names.put("ada", "Lovelace".to_string()).await?;
/// let name = names.get("ada").await?.expect("it was just put");
/// assert_eq!(name.len(), 8);
/// # Ok(()) }
/// ```
pub struct Cached<V>(pub(crate) Arc<Entry<V>>);

impl<V> Cached<V> {
    /// When the value was loaded or put, in milliseconds since the Unix epoch.
    pub fn created_at_ms(&self) -> u64 {
        self.0.meta.created_at
    }

    /// How much longer it is fresh as far as time goes, at this moment. `None`: for ever.
    pub fn fresh_for(&self, now_ms: u64) -> Option<Duration> {
        let until = self.0.meta.times().fresh_until;
        (until != u64::MAX).then(|| Duration::from_millis(until.saturating_sub(now_ms)))
    }

    /// How long its time has been over, at this moment; zero while it is fresh.
    pub fn stale_for(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.0.meta.times().fresh_until))
    }

    /// The fingerprint of the whole encoded value: equal ones are equal bytes.
    pub fn fingerprint(&self) -> Fingerprint
    where
        V: 'static,
    {
        Fingerprint(self.0.fingerprint())
    }

    /// The fingerprint of the content it stands for, where one was given with it, or seen by
    /// [`validate`](crate::ContentOf::validate) since.
    pub fn content(&self) -> Option<Fingerprint> {
        self.0.meta.content()
    }

    /// What it was computed from: its own sources first, each followed by theirs.
    pub fn sources(&self) -> &[Dependency] {
        self.0.meta.sources()
    }

    /// The entry's tags, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.0.meta.tags.iter().map(|tag| &**tag)
    }

    /// The media type that was given with the value.
    pub fn media_type(&self) -> Option<&str> {
        self.0.meta.media.as_deref()
    }

    /// When its time is over, in milliseconds since the Unix epoch by the cache's [clock](crate::Larder::clock): from then on it is not
    /// fresh. `None`: never.
    pub fn expires_at_ms(&self) -> Option<u64> {
        let until = self.0.meta.times().fresh_until;
        (until != u64::MAX).then_some(until)
    }

    /// When it was read last, to a quarter of a second, in milliseconds since the Unix epoch; what came from the backing tier just now
    /// was not read before. `None`: never. A read that ends with this very handle counts.
    pub fn last_read_ms(&self) -> Option<u64> {
        let read_at = self.0.meta.read_at();
        (read_at != 0).then_some(read_at)
    }

    /// What the entry takes in memory, in bytes: key, value, tags and bookkeeping, as the pool counts them.
    pub fn weight(&self) -> usize {
        self.0.meta.weight as usize
    }

    /// How long its loader took; zero for a value that was put.
    pub fn load_cost(&self) -> Duration {
        Duration::from_micros(self.0.meta.load_cost_us.into())
    }

    /// How long after its time it may be served while it is being loaded again.
    pub fn stale_while_revalidate(&self) -> Duration {
        Duration::from_millis(self.0.meta.life.stale_while_revalidate)
    }

    /// How long after its time it may be served because loading failed.
    pub fn stale_if_error(&self) -> Duration {
        Duration::from_millis(self.0.meta.life.stale_if_error)
    }
}

impl<V> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Cached(self.0.clone())
    }
}

impl<V> Deref for Cached<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.0.value
    }
}

impl<V> AsRef<V> for Cached<V> {
    fn as_ref(&self) -> &V {
        self
    }
}

impl<V: fmt::Debug> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<V: fmt::Display> fmt::Display for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<V: PartialEq> PartialEq<V> for Cached<V> {
    fn eq(&self, other: &V) -> bool {
        **self == *other
    }
}
