//! Encoded values under whole keys, in any namespace: the cache as servers and tools see it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::Larder;
use crate::entry::Cached;
use crate::error::{Error, ErrorKind, Result};
use crate::item::Item;
use crate::keys::{Cursor, Keys};
use crate::lookup::{Answer, Lookup};
use crate::position::{Position, Receipt};

/// The cache in bytes. Keys are whole: their first segment is the namespace, whose policy holds; keys of namespaces that
/// nobody configured share the default policy.
///
/// Where a namespace was opened for a type of value, its values are read in their encoded form, and bytes that are put
/// must be such a form.
#[derive(Clone)]
pub struct Raw(Larder);

/// Puts of one caller, one after the other, each in one go: see [`Raw::putter`]. What is known of a namespace is kept from one put to the
/// next.
pub struct Putter {
    raw: Raw,
    view: Option<crate::view::View<Bytes>>,
}

impl Putter {
    /// Puts a bare value, if nothing has to be waited for: where values and log are in memory alone. `None`: nothing was done, and
    /// [`Raw::put`] is to be asked.
    ///
    /// As [`Raw::quick`] for writes: no future, and no task being switched.
    ///
    /// # Errors
    /// As [`Raw::put`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let raw = larder::Larder::builder().build().await?.raw();
    /// let mut putter = raw.putter();
    /// let receipt = match putter.quick_put("a:1", b"x") {
    ///     Some(put) => put?,
    ///     None => raw.put("a:1", bytes::Bytes::from("x")).await?,
    /// };
    /// assert_eq!(receipt.names(), 1);
    /// # Ok(()) }
    /// ```
    pub fn quick_put(&mut self, key: impl AsRef<[u8]>, value: &[u8]) -> Option<Result<Receipt>> {
        let key = key.as_ref();
        let view = self.raw.0.0.raw_view_again(&mut self.view, key);
        // Copied only if it is kept.
        view.waits_for_nothing().then(|| {
            view.shared.index.fetch_key(key);
            let put = view.put_at_once(key, Item::new(Bytes::copy_from_slice(value)));
            put.map_err(|error| error.during("put", key))
        })
    }
}

impl fmt::Debug for Putter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Putter").finish_non_exhaustive()
    }
}

impl Raw {
    pub(crate) fn new(larder: Larder) -> Self {
        Raw(larder)
    }

    pub(crate) fn shared(&self) -> &crate::cache::Shared {
        &self.0.0
    }

    pub(crate) fn view(&self, key: &[u8]) -> crate::view::View<Bytes> {
        self.0.0.raw_view(key)
    }

    /// The value of a key, if memory has it fresh and nothing is to be waited for: nearly always, where memory is hit at all. Counted,
    /// timed and checked as every hit, without a future and without a task being switched; `None` says nothing, and
    /// [`lookup`](Self::lookup) is to be asked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let raw = larder::Larder::builder().build().await?.raw();
    /// raw.put("a:1", bytes::Bytes::from("x")).await?;
    /// let value = match raw.quick("a:1") {
    ///     Some(hit) => Some(hit),
    ///     None => raw.lookup("a:1").await?.fresh(),
    /// };
    /// assert_eq!(value.expect("it was just put").as_ref(), b"x".as_slice());
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn quick(&self, key: impl AsRef<[u8]>) -> Option<Cached<Bytes>> {
        self.0.0.quick_hit(key.as_ref()).map(Cached)
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub async fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup<Bytes>> {
        let key = key.as_ref();
        crate::key::check_key(key)?;
        self.view(key).lookup(key).await
    }

    /// What is known of many keys, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] if any is none.
    pub async fn lookup_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Lookup<Bytes>>> {
        let keys: Vec<Box<[u8]>> = keys.into_iter().map(|key| key.as_ref().into()).collect();
        let mut found: Vec<Option<Lookup<Bytes>>> = keys.iter().map(|_| None).collect();
        // One visit to the backing tier for each namespace among the keys.
        let mut open: Vec<usize> = (0..keys.len()).collect();
        while let Some(&first) = open.first() {
            let view = self.view(&keys[first]);
            let same = |at: &usize| std::sync::Arc::ptr_eq(&self.0.0.space_of(&keys[*at]), &view.space);
            let (these, rest): (Vec<usize>, Vec<usize>) = open.into_iter().partition(same);
            open = rest;
            let lookups = view.lookup_many(these.iter().map(|at| keys[*at].clone()).collect()).await?;
            these.into_iter().zip(lookups).for_each(|(at, lookup)| found[at] = Some(lookup));
        }
        Ok(found.into_iter().map(|lookup| lookup.expect("every key is in some namespace")).collect())
    }

    /// Without counting as a read or a use.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::Tier`].
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Answer<Bytes>>> {
        let key = key.as_ref();
        self.view(key).peek(key).await
    }

    /// Puts a value (step 7).
    ///
    /// # Errors
    /// As [`Namespace::put`](crate::Namespace::put).
    pub async fn put(&self, key: impl AsRef<[u8]>, item: impl Into<Item<Bytes>>) -> Result<Receipt> {
        let key = key.as_ref();
        self.view(key).put(key, item.into()).await.map_err(|error| error.during("put", key))
    }

    /// For puts of one caller, one after the other, that have nothing to wait for.
    pub fn putter(&self) -> Putter {
        Putter { raw: self.clone(), view: None }
    }

    /// Puts a value unless the same is there already: see [`Namespace::put_if_changed`](crate::Namespace::put_if_changed). Values with
    /// a media type of JSON are compared as JSON.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_if_changed(&self, key: impl AsRef<[u8]>, item: impl Into<Item<Bytes>>) -> Result<Option<Receipt>> {
        let key = key.as_ref();
        self.view(key).put_if_changed(key, item.into()).await.map_err(|error| error.during("put_if_changed", key))
    }

    /// Puts many values. Those of one namespace share a position; the receipt is the last one's.
    ///
    /// # Errors
    /// As [`put`](Self::put). What can be refused in one namespace is refused before anything in it takes effect.
    pub async fn put_many<K: AsRef<[u8]>>(&self, items: impl IntoIterator<Item = (K, Item<Bytes>)>) -> Result<Option<Receipt>> {
        let mut open: Vec<(Box<[u8]>, Item<Bytes>)> = items.into_iter().map(|(key, item)| (key.as_ref().into(), item)).collect();
        open.iter().try_for_each(|(key, _)| crate::key::check_key(key))?;
        let mut last: Option<Receipt> = None;
        while let Some((first, _)) = open.first() {
            let view = self.view(first);
            let same = |(key, _): &(Box<[u8]>, Item<Bytes>)| std::sync::Arc::ptr_eq(&self.0.0.space_of(key), &view.space);
            let (these, rest) = open.into_iter().partition(same);
            open = rest;
            let receipt = view.put_many(these).await?;
            let names = last.map_or(0, |last| last.names) + receipt.names;
            last = Some(Receipt { names, ..receipt });
        }
        Ok(last)
    }

    /// What a caller in any language must take before it reads its source, so that what it then [`fill`](Self::fill)s is
    /// stale at once if anything it depends on was invalidated in between (step 5).
    pub fn begin_fill(&self, key: impl AsRef<[u8]>) -> FillToken {
        FillToken { position: self.view(key.as_ref()).begin_fill(), key_hash: hash(key.as_ref()) }
    }

    /// Stores what a caller read from its source after it took the token. Returns whether it was kept; `false`: something it
    /// depends on was invalidated since, and the value may be old. Costs no append.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownPosition`] for a token of another epoch or one that was made up; [`ErrorKind::InvalidKey`] for
    /// another key's; otherwise as [`put`](Self::put).
    pub async fn fill(&self, key: impl AsRef<[u8]>, token: FillToken, item: impl Into<Item<Bytes>>) -> Result<bool> {
        let key = key.as_ref();
        if token.key_hash != hash(key) {
            return Err(Error::new(ErrorKind::InvalidKey, "the fill token was given for another key").during("fill", key));
        }
        self.view(key).fill(key, token.position, item.into()).await.map_err(|error| error.during("fill", key))
    }

    /// Puts a value that rests on what was read when the token was taken (step 8): stored, and its key appended, unless anything that
    /// the entry depends on was invalidated since, be it its key, a put of it included, one of its tags, those of the policy included, a
    /// pattern, its namespace, or everything. `None`: something was, the value is dropped and counted as `loads_dropped`, and nothing
    /// else is done, so that a newer value stays.
    ///
    /// For writers who looked the key up, missed, read their source, and now put what they found, and of whom a
    /// [`fill`](Self::fill) is more than can be asked: a put replaces what is there, and is seen by all.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] for another key's token; otherwise as [`put`](Self::put). A token of another epoch is no error: what
    /// was invalidated since is not known, so the value is dropped.
    pub async fn put_since(&self, key: impl AsRef<[u8]>, token: FillToken, item: impl Into<Item<Bytes>>) -> Result<Option<Receipt>> {
        let key = key.as_ref();
        if token.key_hash != hash(key) {
            return Err(Error::new(ErrorKind::InvalidKey, "the token was given for another key").during("put_since", key));
        }
        self.view(key).put_since(key, token.position, item.into()).await.map_err(|error| error.during("put_since", key))
    }

    /// Invalidates keys and takes them out of both tiers. Those of all namespaces share one position.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::LogUnavailable`].
    pub async fn remove<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Receipt> {
        let names = keys.into_iter().fold(crate::Names::new(), |names, key| names.key(key));
        self.0.invalidate(names).await
    }

    /// Starts the life of a fresh entry anew. Returns whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::InvalidTtl`].
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool> {
        let key = key.as_ref();
        crate::key::check_key(key)?;
        self.view(key).touch(key, ttl).await.map_err(|error| error.during("touch", key))
    }

    /// About how often a key was read in the last ten to twenty minutes; 0 for one that is not among those of its namespace that were
    /// read most.
    pub fn reads(&self, key: impl AsRef<[u8]>) -> u64 {
        let key = key.as_ref();
        let hot = self.0.0.space_of(key).metrics.hot_keys.list(self.0.0.clock.now_ms());
        hot.into_iter().find(|hot| *hot.key == *key).map_or(0, |hot| hot.reads)
    }

    /// Some key that has a fresh entry, if there is one: from memory, and where memory has none from the backing tier.
    ///
    /// Each key may come, and not all are as likely: the look begins at an entry by chance among the first 16,384 of memory's
    /// own order, which has nothing to do with the keys, and goes on to the first that is fresh.
    ///
    /// # Errors
    /// [`ErrorKind::Tier`].
    pub async fn random_key(&self) -> Result<Option<Box<[u8]>>> {
        self.random_key_for(None).await
    }

    /// The same, of those that somebody may read.
    pub(crate) async fn random_key_for(&self, reader: Option<&crate::access::Principal>) -> Result<Option<Box<[u8]>>> {
        crate::keys::random(&self.0.0, reader).await
    }

    /// How many entries there are, at the cost of adding up a few counters: those in memory, or those of the backing tier where it
    /// says that it has more, since what is in memory is there, too. What is past its time or was invalidated counts until it was swept;
    /// a tier that is shared with other processes may not say.
    pub fn len(&self) -> u64 {
        let shared = &self.0.0;
        let in_memory = shared.entries_in_memory();
        shared.tier.as_ref().map_or(in_memory, |tier| in_memory.max(tier.stats().entries))
    }

    /// Whether there are none: see [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole keys that match a [`Pattern`](crate::Pattern) and have a fresh entry, a page at a time: see
    /// [`Namespace::keys`](crate::Namespace::keys).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPattern`], [`ErrorKind::Tier`].
    pub async fn keys(&self, pattern: impl AsRef<[u8]>, cursor: Cursor, limit: usize) -> Result<Keys> {
        self.keys_for(None, pattern, cursor, limit).await
    }

    /// The same, of those that somebody may read.
    pub(crate) async fn keys_for(
        &self,
        reader: Option<&crate::access::Principal>,
        pattern: impl AsRef<[u8]>,
        cursor: Cursor,
        limit: usize,
    ) -> Result<Keys> {
        let wanted = crate::keys::Wanted { pattern: crate::Pattern::new(pattern)?, reader: reader.cloned() };
        crate::keys::page(&self.0.0, &wanted, cursor, limit).await
    }
}

/// The right to fill a key as of a position: see [`Raw::begin_fill`].
///
/// It is no secret and needs none: whoever makes one up can claim no more than they could by asking for one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillToken {
    position: Position,
    key_hash: u32,
}

impl FillToken {
    /// The right to fill a key as of a position that is known otherwise, such as that of a [receipt](Receipt::position).
    pub fn since(key: impl AsRef<[u8]>, position: Position) -> Self {
        FillToken { position, key_hash: hash(key.as_ref()) }
    }

    /// The position that the filled value will be stamped with.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl fmt::Display for FillToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.position, self.key_hash)
    }
}

impl FromStr for FillToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::new(ErrorKind::UnknownPosition, "a fill token is given back as it was got, in the header Larder-Fill of a miss");
        let (position, key_hash) = text.rsplit_once('-').ok_or_else(bad)?;
        let key_hash = u32::from_str_radix(key_hash, 16).ok().filter(|_| key_hash.len() == 8);
        Ok(FillToken { position: position.parse().map_err(|_| bad())?, key_hash: key_hash.ok_or_else(bad)? })
    }
}

/// Only to notice a token that was mixed up with another key's.
fn hash(key: &[u8]) -> u32 {
    xxhash_rust::xxh3::xxh3_64(key) as u32
}
