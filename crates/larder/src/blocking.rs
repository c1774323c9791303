//! The same operations for callers that are not async. A memory hit does not touch the runtime at all.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::cache::Larder;
use crate::codec::Value;
use crate::content::Refreshed;
use crate::entry::Cached;
use crate::error::Result;
use crate::item::Item;
use crate::keys::{Cursor, Keys};
use crate::lookup::Lookup;
use crate::name::Names;
use crate::namespace::Namespace;
use crate::position::Receipt;
use crate::task;
use crate::write::Updated;

/// A [`Namespace`] for callers that are not async: see [`Namespace::blocking`].
///
/// # Panics
/// All methods that may have to wait panic when they are called inside an async task.
///
/// ```
/// # fn main() -> larder::Result<()> {
/// let larder = larder::Larder::builder().build_blocking()?;
/// let names = larder.namespace::<String>("names")?.blocking();
/// let name = names.get_or_load("ada", || Ok::<_, std::io::Error>("Lovelace".to_string()))?;
/// assert_eq!(*name, "Lovelace");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BlockingNamespace<V> {
    namespace: Namespace<V>,
    runtime: Handle,
}

impl<V: Value> BlockingNamespace<V> {
    pub(crate) fn new(namespace: Namespace<V>) -> Self {
        let runtime = namespace.view.shared.runtime.clone();
        BlockingNamespace { namespace, runtime }
    }

    /// As [`Namespace::get`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Cached<V>>> {
        match self.namespace.quick(key.as_ref()) {
            Some(hit) => Ok(Some(hit)),
            None => task::block_on(&self.runtime, self.namespace.get(key)),
        }
    }

    /// A hit of memory that is not counted, for measuring what counting costs.
    #[doc(hidden)]
    #[inline]
    pub fn get_uncounted(&self, key: impl AsRef<[u8]>) -> Option<Cached<V>> {
        self.namespace.quick_uncounted(key.as_ref())
    }

    /// As [`Namespace::lookup`].
    ///
    /// # Errors
    /// As there.
    pub fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup<V>> {
        task::block_on(&self.runtime, self.namespace.lookup(key))
    }

    /// As [`Namespace::get_or_load`]; the loader runs on a thread where it may block.
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load<L, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Cached<V>>
    where
        L: FnOnce() -> Result<I, E> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        match self.namespace.quick(key.as_ref()) {
            Some(hit) => Ok(hit),
            None => task::block_on(&self.runtime, self.namespace.get_or_load(key, || on_a_blocking_thread(loader))),
        }
    }

    /// As [`Namespace::get_many`].
    ///
    /// # Errors
    /// As there.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Cached<V>>>> {
        task::block_on(&self.runtime, self.namespace.get_many(keys))
    }

    /// As [`Namespace::get_many_or_load`]; the loader runs on a thread where it may block.
    ///
    /// # Errors
    /// As there.
    pub fn get_many_or_load<K, L, I, E>(&self, keys: impl IntoIterator<Item = K>, loader: L) -> Result<Vec<Option<Cached<V>>>>
    where
        K: AsRef<[u8]> + Clone + Eq + std::hash::Hash + Send + 'static,
        L: Fn(Vec<K>) -> Result<Vec<(K, I)>, E> + Clone + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let load = |missing| {
            let loader = loader.clone();
            on_a_blocking_thread(move || loader(missing))
        };
        task::block_on(&self.runtime, self.namespace.get_many_or_load(keys, load))
    }

    /// As [`Namespace::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Receipt> {
        task::block_on(&self.runtime, self.namespace.put(key, item))
    }

    /// As [`Namespace::put_many`].
    ///
    /// # Errors
    /// As there.
    pub fn put_many<K: AsRef<[u8]>, I: Into<Item<V>>>(&self, items: impl IntoIterator<Item = (K, I)>) -> Result<Receipt> {
        task::block_on(&self.runtime, self.namespace.put_many(items))
    }

    /// As [`Namespace::update`]; the change runs on a thread where it may block.
    ///
    /// # Errors
    /// As there.
    pub fn update<C, I, E>(&self, key: impl AsRef<[u8]>, change: C) -> Result<Updated<V>>
    where
        C: FnOnce() -> Result<I, E> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        task::block_on(&self.runtime, self.namespace.update(key, || on_a_blocking_thread(change)))
    }

    /// As [`Namespace::put_if_changed`].
    ///
    /// # Errors
    /// As there.
    pub fn put_if_changed(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Option<Receipt>> {
        task::block_on(&self.runtime, self.namespace.put_if_changed(key, item))
    }

    /// As [`Namespace::refresh`]; the loader runs on a thread where it may block.
    ///
    /// # Errors
    /// As there.
    pub fn refresh<L, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Refreshed<V>>
    where
        L: FnOnce() -> Result<I, E> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        task::block_on(&self.runtime, self.namespace.refresh(key, || on_a_blocking_thread(loader)))
    }

    /// As [`Namespace::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<Receipt> {
        task::block_on(&self.runtime, self.namespace.remove(key))
    }

    /// As [`Namespace::touch`].
    ///
    /// # Errors
    /// As there.
    pub fn touch(&self, key: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool> {
        task::block_on(&self.runtime, self.namespace.touch(key, ttl))
    }

    /// As [`Namespace::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        task::block_on(&self.runtime, self.namespace.contains(key))
    }

    /// As [`Namespace::keys`].
    ///
    /// # Errors
    /// As there.
    pub fn keys(&self, pattern: impl AsRef<[u8]>, cursor: Cursor, limit: usize) -> Result<Keys> {
        task::block_on(&self.runtime, self.namespace.keys(pattern, cursor, limit))
    }
}

async fn on_a_blocking_thread<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Box<dyn std::error::Error + Send + Sync>>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        // Out of the thread and on: whoever runs the loader has its own way with panics.
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(cancelled) => Err(cancelled.into()),
    }
}

impl Larder {
    /// As [`invalidate`](Self::invalidate), for callers that are not async.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// When called inside an async task.
    pub fn invalidate_blocking(&self, names: Names) -> Result<Receipt> {
        task::block_on(&self.0.runtime, self.invalidate(names))
    }

    /// As [`close`](Self::close), for callers that are not async.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// When called inside an async task.
    pub fn close_blocking(&self) -> Result<()> {
        task::block_on(&self.0.runtime, self.close())
    }
}
