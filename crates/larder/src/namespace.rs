//! A namespace for one type of value: the surface that most users work with. Each method delegates once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::blocking::BlockingNamespace;
use crate::codec::Value;
use crate::content::Refreshed;
use crate::entry::Cached;
use crate::error::{Error, ErrorKind, Result};
use crate::hot_keys::HotKey;
use crate::invalidations::InvalidationOrigin;
use crate::item::Item;
use crate::keys::{Cursor, Keys};
use crate::lookup::{Answer, Freshness, Lookup, Source};
use crate::position::{Position, Receipt};
use crate::read::loader::{self, Loading};
use crate::read::quick::QuickRead;
use crate::tier::memory::{NamespaceHash, Query};
use crate::view::View;
use crate::write::Updated;

/// A typed view of one namespace. Cloning it is cheap.
///
/// Keys are given without the namespace and may be anything that is bytes: `"AAPL:5m"` in the namespace `features` is the
/// whole key `features:AAPL:5m`.
pub struct Namespace<V> {
    pub(crate) view: View<V>,
    /// The namespace and its separator.
    prefix: Arc<[u8]>,
    prefix_hash: NamespaceHash,
}

impl<V> Clone for Namespace<V> {
    fn clone(&self) -> Self {
        Namespace { view: self.view.clone(), prefix: self.prefix.clone(), prefix_hash: self.prefix_hash }
    }
}

/// A whole key, on the stack where it is of common length.
pub(crate) type FullKey = SmallVec<[u8; 96]>;

impl<V: Value> Namespace<V> {
    pub(crate) fn new(view: View<V>) -> Self {
        let prefix: Arc<[u8]> = format!("{}:", view.space.name).into_bytes().into();
        let prefix_hash = view.space.pool().namespace_hash(&prefix);
        Namespace { view, prefix, prefix_hash }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.view.space.name
    }

    /// The namespace and its separator, which every whole key of it begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The keys that are read most, the hottest first, at most `most` and [`HOT_KEYS_MAX`](crate::HOT_KEYS_MAX) of them. Estimated
    /// from one memory hit in 64 and one slower read in 16.
    pub fn hot_keys(&self, most: usize) -> Vec<HotKey> {
        let mut hot = self.view.space.metrics.hot_keys.list(self.view.shared.clock.now_ms());
        hot.truncate(most);
        hot
    }

    /// Gives every value the tags that `tagger` finds in it, beside those of the policy and of its item. Call it right
    /// after opening the namespace: it holds for all handles, and what was stored before does not have the tags.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the namespace has a tagger already.
    pub fn tagged_by(self, tagger: impl Fn(&V) -> Vec<String> + Send + Sync + 'static) -> Result<Self> {
        let typed = self.view.typed.as_ref().expect("namespaces are typed");
        let taken = |_| Error::new(ErrorKind::InvalidConfig, format!("the namespace \"{}\" has a tagger already", self.name()));
        typed.tagger.set(Box::new(tagger)).map_err(taken)?;
        Ok(self)
    }

    #[inline]
    fn full(&self, key: &[u8]) -> FullKey {
        let mut full = FullKey::with_capacity(self.prefix.len() + key.len());
        full.extend_from_slice(&self.prefix);
        full.extend_from_slice(key);
        full
    }

    /// A whole key, refused if the part that was given is empty.
    fn checked(&self, operation: &'static str, key: &[u8]) -> Result<FullKey> {
        let full = self.full(key);
        if key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidKey, "a key has at least one byte behind its namespace").during(operation, &full));
        }
        crate::key::check_key(&full).map_err(|error| error.during(operation, key))?;
        Ok(full)
    }

    fn all_checked<K: AsRef<[u8]>>(&self, operation: &'static str, keys: impl IntoIterator<Item = K>) -> Result<Vec<Box<[u8]>>> {
        keys.into_iter().map(|key| self.checked(operation, key.as_ref()).map(|key| key.into_vec().into_boxed_slice())).collect()
    }

    /// A memory hit that needs no closer look. One function for all callers: what they add around it is then small enough
    /// to be compiled into theirs.
    #[inline(never)]
    pub(crate) fn quick(&self, key: &[u8]) -> Option<Cached<V>> {
        self.view.quick_hit(&Query::new(&self.prefix, self.prefix_hash, key)).map(Cached)
    }

    /// See [`View::uncounted_hit`].
    #[inline(never)]
    pub(crate) fn quick_uncounted(&self, key: &[u8]) -> Option<Cached<V>> {
        self.view.uncounted_hit(&Query::new(&self.prefix, self.prefix_hash, key)).map(Cached)
    }

    /// The fresh value of a key, from memory or the backing tier.
    ///
    /// The read begins when the future is first polled: made before an invalidation and awaited after it, it sees the
    /// invalidation.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]. A backing tier that fails is a miss.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> impl Future<Output = Result<Option<Cached<V>>>> {
        QuickRead::new(
            self,
            key,
            |namespace, key| namespace.quick(key.as_ref()).map(|hit| Ok(Some(hit))),
            |namespace, key| async move { Ok(namespace.look(key.as_ref()).await?.fresh()) },
        )
    }

    /// What the quick way did not answer.
    async fn look(&self, key: &[u8]) -> Result<Lookup<V>> {
        let key = self.checked("get", key)?;
        self.view.lookup(&key).await
    }

    /// What is known of a key: a fresh or stale answer with its source and age, or why there is none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub async fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup<V>> {
        if let Some(Cached(entry)) = self.quick(key.as_ref()) {
            return Ok(Lookup::Hit(self.view.answer(entry, Source::Memory, Freshness::Fresh)));
        }
        Box::pin(self.look(key.as_ref())).await
    }

    /// The value of a key; if there is no fresh one, the loader's. Of callers that miss at the same time one loads, and
    /// the others get its answer, unless something was invalidated after the load began and before they came: then they
    /// load again (step 6 of the protocol).
    ///
    /// The loader runs in a task of its own and goes on if the caller stops waiting. What it reads must be the source
    /// itself: a replica that lags behind lags here, too.
    ///
    /// # Errors
    /// [`ErrorKind::Load`], [`ErrorKind::LoadTimeout`], [`ErrorKind::LoadPanicked`] when the loader fails and no old value
    /// may be served instead; [`ErrorKind::Outdated`] for a value that was [computed from](Item::depends_on) a version of a source
    /// which was over before the load began; [`ErrorKind::NotFound`] when [`get_or_find`](Self::get_or_find) learnt that there is no such
    /// thing and that is still fresh; [`ErrorKind::ValueTooLarge`] and the like for what it returns.
    pub async fn get_or_load<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Cached<V>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        if let Some(hit) = self.quick(key.as_ref()) {
            return Ok(hit);
        }
        Box::pin(self.look_or_load(key.as_ref(), loader::always(loader))).await.map(|answer| answer.value)
    }

    /// The same, with what is known about the answer.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn lookup_or_load<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Answer<V>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        if let Some(Cached(entry)) = self.quick(key.as_ref()) {
            return Ok(self.view.answer(entry, Source::Memory, Freshness::Fresh));
        }
        Box::pin(self.look_or_load(key.as_ref(), loader::always(loader))).await
    }

    /// What the quick way did not answer.
    async fn look_or_load(&self, key: &[u8], loader: Loading<V>) -> Result<Answer<V>> {
        let full = self.checked("get_or_load", key)?;
        let answer = self.view.load(&full, loader).await?;
        let not_found = || {
            Error::new(ErrorKind::NotFound, "a loader said that there is no such thing, and that is still fresh")
                .during("get_or_load", &full)
        };
        answer.ok_or_else(not_found)
    }

    /// As [`get_or_load`](Self::get_or_load), for loaders that may find nothing. "There is no such thing" is remembered for
    /// as long as the policy's `negative_ttl` says.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load), but for `NotFound`.
    pub async fn get_or_find<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Option<Cached<V>>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Option<I>, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let full = self.checked("get_or_find", key.as_ref())?;
        let answer = self.view.load(&full, loader::perhaps(loader)).await?;
        Ok(answer.map(|answer| answer.value))
    }

    /// The fresh values of many keys, in their order, with one visit to the backing tier.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] if any is none.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Cached<V>>>> {
        let keys = self.all_checked("get_many", keys)?;
        Ok(self.view.lookup_many(keys).await?.into_iter().map(Lookup::fresh).collect())
    }

    /// The values of many keys, in their order, with one call of the loader for all that are missing. A key that the loader
    /// leaves out of its answer is `None`.
    ///
    /// The loader is called again only for keys whose load another caller had begun too early for this one.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load), for the first key that fails.
    pub async fn get_many_or_load<K, L, F, I, E>(&self, keys: impl IntoIterator<Item = K>, loader: L) -> Result<Vec<Option<Cached<V>>>>
    where
        K: AsRef<[u8]> + Clone + Eq + std::hash::Hash + Send + 'static,
        L: Fn(Vec<K>) -> F,
        F: Future<Output = Result<Vec<(K, I)>, E>> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let keys: Vec<(K, Box<[u8]>)> = keys
            .into_iter()
            .map(|key| self.checked("get_many_or_load", key.as_ref()).map(|full| (key, full.into_vec().into_boxed_slice())))
            .collect::<Result<_>>()?;
        let load = |missing| {
            let loading = loader(missing);
            async { loading.await.map(|items| items.into_iter().map(|(key, item)| (key, item.into())).collect()) }
        };
        let answers = self.view.load_many(keys, load).await?;
        Ok(answers.into_iter().map(|answer| answer.map(|answer| answer.value)).collect())
    }

    /// Puts a value (step 7): whoever reads after this returned sees it or something newer.
    ///
    /// A put after the caller's own change of the source is not safe against another writer doing the same: the two puts
    /// may come in the other order than the two changes. [`update`](Self::update) is.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::InvalidTag`], [`ErrorKind::InvalidTtl`], [`ErrorKind::ValueTooLarge`],
    /// [`ErrorKind::Codec`]: nothing was changed. [`ErrorKind::LogUnavailable`]: see its message.
    /// [`ErrorKind::Overloaded`], [`ErrorKind::Tier`]: it is in memory, and the backing tier did not take it.
    pub async fn put(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Receipt> {
        let full = self.checked("put", key.as_ref())?;
        self.view.put(&full, item.into()).await.map_err(|error| error.during("put", &full))
    }

    /// Puts many values at one position of the log, with one write to the backing tier.
    ///
    /// # Errors
    /// As [`put`](Self::put). What can be refused is refused for all before anything takes effect.
    pub async fn put_many<K: AsRef<[u8]>, I: Into<Item<V>>>(&self, items: impl IntoIterator<Item = (K, I)>) -> Result<Receipt> {
        let full = |(key, item): (K, I)| Ok((self.checked("put_many", key.as_ref())?.into_vec().into_boxed_slice(), item.into()));
        let items = items.into_iter().map(full).collect::<Result<_>>()?;
        self.view.put_many(items).await
    }

    /// The safe write-through (step 8): `change` changes the source and returns the new value, which is stored unless
    /// something it depends on was invalidated meanwhile. Two concurrent updates can never leave the older value behind.
    ///
    /// The change runs to its end even if the caller stops waiting. If it fails or panics the key is invalidated, since
    /// the source may have changed.
    ///
    /// # Errors
    /// [`ErrorKind::Load`] and [`ErrorKind::LoadPanicked`] for the change; otherwise as [`put`](Self::put).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let larder = larder::Larder::builder().build().await?;
    /// let stock = larder.namespace::<u32>("stock")?;
    /// let updated = stock.update("apples", || async {
    ///     // UPDATE stock SET n = n - 1 WHERE item = 'apples' RETURNING n
    ///     Ok::<_, std::io::Error>(41)
    /// }).await?;
    /// assert!(updated.stored);
    /// assert_eq!(*stock.get("apples").await?.unwrap(), 41);
    /// # Ok(()) }
    /// ```
    pub async fn update<C, F, I, E>(&self, key: impl AsRef<[u8]>, change: C) -> Result<Updated<V>>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let full = self.checked("update", key.as_ref())?;
        self.view.update(&full, loader::always(change)).await.map_err(|error| error.during("update", &full))
    }

    /// Puts a value unless the same is there already: then that lives on, as long as the new one would, without an append to the
    /// log, so that copies elsewhere are kept. `None` says so.
    ///
    /// The same is what has the same content, tags, media type and sources. Content is compared as a whole: as bytes, and where those
    /// differ by its [canonical form](crate::fingerprint::canonical_json), since maps have no order.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<Vec<f64>>("features")?;
    /// assert!(features.put_if_changed("AAPL:5m", vec![0.7, 0.1]).await?.is_some());
    /// assert!(features.put_if_changed("AAPL:5m", vec![0.7, 0.1]).await?.is_none());
    /// assert!(features.put_if_changed("AAPL:5m", vec![0.7, 0.2]).await?.is_some());
    /// # Ok(()) }
    /// ```
    pub async fn put_if_changed(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Option<Receipt>> {
        let full = self.checked("put_if_changed", key.as_ref())?;
        self.view.put_if_changed(&full, item.into()).await.map_err(|error| error.during("put_if_changed", &full))
    }

    /// Loads a key again, whether it is there or not. Where the loader returns what is there already, that lives on and nothing is
    /// appended; otherwise its value takes the place of what is there, on every instance, as an [`update`](Self::update)'s does.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load) for the loader, after which what was there still is; as [`put`](Self::put).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let larder = larder::Larder::builder().build().await?;
    /// use larder::Refreshed;
    /// let features = larder.namespace::<f64>("features")?;
    /// features.put("AAPL:5m", 0.7).await?;
    /// let same = features.refresh("AAPL:5m", || async { Ok::<_, std::io::Error>(0.7) }).await?;
    /// assert!(matches!(same, Refreshed::Unchanged(_)));
    /// # Ok(()) }
    /// ```
    pub async fn refresh<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Refreshed<V>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let full = self.checked("refresh", key.as_ref())?;
        self.view.refresh(&full, loader::always(loader)).await.map_err(|error| error.during("refresh", &full))
    }

    /// Invalidates a key and takes it out of both tiers.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::LogUnavailable`].
    pub async fn remove(&self, key: impl AsRef<[u8]>) -> Result<Receipt> {
        self.remove_many([key]).await
    }

    /// The same for many keys, at one position.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub async fn remove_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Receipt> {
        let keys = self.all_checked("remove", keys)?;
        self.view.remove(keys, InvalidationOrigin::Call).await
    }

    /// Starts the life of a fresh entry anew: with `ttl`, or with its namespace's. Returns whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::InvalidTtl`].
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool> {
        let full = self.checked("touch", key.as_ref())?;
        self.view.touch(&full, ttl).await.map_err(|error| error.during("touch", &full))
    }

    /// Whether there is a fresh entry. Counts neither as a read nor as a use.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::Tier`].
    pub async fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.peek(key).await?.is_some())
    }

    /// The fresh answer for a key, without counting as a read or a use, and without bringing it into memory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], [`ErrorKind::Tier`].
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Answer<V>>> {
        let full = self.checked("peek", key.as_ref())?;
        self.view.peek(&full).await
    }

    /// The keys that match a [`Pattern`](crate::Pattern) within the namespace (`"AAPL:*"`), a page at a time, in the order
    /// of their bytes. Keys are returned without the namespace.
    ///
    /// A key that has a fresh entry all the while is returned exactly once. Where there is no backing tier, each page looks
    /// at every entry in memory.
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
        let wanted = crate::keys::Wanted { pattern: crate::Pattern::new(self.full(pattern.as_ref()))?, reader: reader.cloned() };
        Ok(crate::keys::page(&self.view.shared, &wanted, cursor, limit).await?.without_prefix(&self.prefix))
    }

    /// Reads that see at least what happened up to a position, such as that of another instance's receipt (promise G4).
    pub fn at_least(&self, position: Position) -> AtLeast<'_, V> {
        AtLeast { namespace: self, position, deadline: Duration::from_secs(1) }
    }

    /// The same namespace for callers that are not async.
    pub fn blocking(&self) -> BlockingNamespace<V> {
        BlockingNamespace::new(self.clone())
    }
}

/// Reads at a position: see [`Namespace::at_least`].
pub struct AtLeast<'a, V> {
    namespace: &'a Namespace<V>,
    position: Position,
    deadline: Duration,
}

impl<V: Value> AtLeast<'_, V> {
    /// How long to wait for this instance to reach the position. Default 1 s.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn reach(&self) -> Result<()> {
        crate::Larder(self.namespace.view.shared.clone()).reach(self.position, self.deadline).await
    }

    /// As [`Namespace::get`], once the position is reached.
    ///
    /// # Errors
    /// [`ErrorKind::NotReached`] and [`ErrorKind::UnknownPosition`]; otherwise as [`Namespace::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Cached<V>>> {
        self.reach().await?;
        self.namespace.get(key).await
    }

    /// As [`Namespace::get_or_load`], once the position is reached. Where it is not, the tiers are passed by and the loader
    /// answers: the source was changed before the position was handed out.
    ///
    /// # Errors
    /// As [`Namespace::get_or_load`].
    pub async fn get_or_load<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Cached<V>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        if self.reach().await.is_ok() {
            return self.namespace.get_or_load(key, loader).await;
        }
        let full = self.namespace.checked("get_or_load", key.as_ref())?;
        self.namespace.view.load_past(&full, loader::always(loader)).await.map_err(|error| error.during("get_or_load", &full))
    }
}
