//! A namespace as one principal may use it.

use std::time::Duration;

use crate::access::{Operation, Principal, Target};
use crate::codec::Value;
use crate::entry::Cached;
use crate::error::Result;
use crate::hot_keys::{HOT_KEYS_MAX, HotKey};
use crate::item::Item;
use crate::keys::{Cursor, Keys};
use crate::lookup::{Answer, Lookup};
use crate::namespace::Namespace;
use crate::position::Receipt;
use crate::write::Updated;

/// A namespace as one principal may use it. Keys are without the namespace, as with [`Namespace`].
#[derive(Clone)]
pub struct GuardedNamespace<V> {
    namespace: Namespace<V>,
    who: Principal,
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

impl<V: Value> GuardedNamespace<V> {
    pub(super) fn new(namespace: Namespace<V>, who: Principal) -> Self {
        GuardedNamespace { namespace, who }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    fn whole(&self, key: &[u8]) -> Vec<u8> {
        [self.namespace.prefix(), key].concat()
    }

    #[inline]
    fn check(&self, operation: Operation, key: &[u8]) -> Result<()> {
        if self.who.rights().allows_everywhere(operation) {
            return Ok(());
        }
        self.who.check(operation, Target::Key(&self.whole(key)))
    }

    fn check_all<K: AsRef<[u8]>>(&self, operation: Operation, keys: impl IntoIterator<Item = K>) -> Result<Vec<K>> {
        keys.into_iter().map(|key| self.check(operation, key.as_ref()).map(|()| key)).collect()
    }

    /// As [`Namespace::get`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not read it; otherwise as there.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Cached<V>>> {
        self.check(Operation::Read, key.as_ref())?;
        self.namespace.get(key).await
    }

    /// As [`Namespace::lookup`].
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup<V>> {
        self.check(Operation::Read, key.as_ref())?;
        self.namespace.lookup(key).await
    }

    /// As [`Namespace::get_or_load`], for who may both read and write the key. What the loader returns is checked as what is put: its tags
    /// are known only then.
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden), or [`Load`](crate::ErrorKind::Load) with it as its source for what the loader returns;
    /// otherwise as there.
    pub async fn get_or_load<L, F, I, E>(&self, key: impl AsRef<[u8]>, loader: L) -> Result<Cached<V>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + 'static,
        E: Into<Fault> + 'static,
    {
        let key = key.as_ref();
        self.check(Operation::Read, key)?;
        self.check(Operation::Write, key)?;
        let (who, whole) = (self.who.clone(), self.whole(key));
        let checked = move || {
            let loading = loader();
            async move {
                let item: Item<V> = loading.await.map_err(Into::into)?.into();
                item.permitted_to(&who, &whole)?;
                Ok::<_, Fault>(item)
            }
        };
        self.namespace.get_or_load(key, checked).await
    }

    /// As [`Namespace::get_many`].
    ///
    /// # Errors
    /// As [`get`](Self::get), if any may not be read.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Cached<V>>>> {
        self.namespace.get_many(self.check_all(Operation::Read, keys)?).await
    }

    /// As [`Namespace::put`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not write the key, or not with these tags, or may not read what it was
    /// computed from; otherwise as there.
    pub async fn put(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Receipt> {
        let item = item.into();
        item.permitted_to(&self.who, &self.whole(key.as_ref()))?;
        self.namespace.put(key, item).await
    }

    /// As [`Namespace::put_if_changed`], which tells whether the same is there: for who may read it as well.
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`get`](Self::get).
    pub async fn put_if_changed(&self, key: impl AsRef<[u8]>, item: impl Into<Item<V>>) -> Result<Option<Receipt>> {
        let item = item.into();
        self.check(Operation::Read, key.as_ref())?;
        item.permitted_to(&self.who, &self.whole(key.as_ref()))?;
        self.namespace.put_if_changed(key, item).await
    }

    /// As [`Namespace::put_many`].
    ///
    /// # Errors
    /// As [`put`](Self::put), before anything is put.
    pub async fn put_many<K: AsRef<[u8]>, I: Into<Item<V>>>(&self, items: impl IntoIterator<Item = (K, I)>) -> Result<Receipt> {
        let checked = |(key, item): (K, I)| {
            let item: Item<V> = item.into();
            item.permitted_to(&self.who, &self.whole(key.as_ref())).map(|()| (key, item))
        };
        self.namespace.put_many(items.into_iter().map(checked).collect::<Result<Vec<_>>>()?).await
    }

    /// As [`Namespace::update`]. The key is checked before the change is made, what it returns behind it: where that is refused, the
    /// source has changed and the key is stale.
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`Namespace::update`].
    pub async fn update<C, F, I, E>(&self, key: impl AsRef<[u8]>, change: C) -> Result<Updated<V>>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: Into<Item<V>> + Send + 'static,
        E: Into<Fault> + Send + 'static,
    {
        let key = key.as_ref();
        self.check(Operation::Write, key)?;
        let (who, whole) = (self.who.clone(), self.whole(key));
        let checked = move || {
            let changing = change();
            async move {
                let item: Item<V> = changing.await.map_err(Into::into)?.into();
                item.permitted_to(&who, &whole)?;
                Ok::<_, Fault>(item)
            }
        };
        self.namespace.update(key, checked).await
    }

    /// As [`Namespace::remove`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not delete it; otherwise as there.
    pub async fn remove(&self, key: impl AsRef<[u8]>) -> Result<Receipt> {
        self.check(Operation::Delete, key.as_ref())?;
        self.namespace.remove(key).await
    }

    /// As [`Namespace::remove_many`].
    ///
    /// # Errors
    /// As [`remove`](Self::remove), before anything is removed.
    pub async fn remove_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Receipt> {
        self.namespace.remove_many(self.check_all(Operation::Delete, keys)?).await
    }

    /// As [`Namespace::touch`], which tells whether there is one: for who may both read and write it.
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden); otherwise as there.
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool> {
        self.check(Operation::Read, key.as_ref())?;
        self.check(Operation::Write, key.as_ref())?;
        self.namespace.touch(key, ttl).await
    }

    /// As [`Namespace::contains`].
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check(Operation::Read, key.as_ref())?;
        self.namespace.contains(key).await
    }

    /// As [`Namespace::peek`].
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Answer<V>>> {
        self.check(Operation::Read, key.as_ref())?;
        self.namespace.peek(key).await
    }

    /// As [`Namespace::keys`], of the keys that may be read.
    ///
    /// # Errors
    /// As there.
    pub async fn keys(&self, pattern: impl AsRef<[u8]>, cursor: Cursor, limit: usize) -> Result<Keys> {
        self.namespace.keys_for(Some(&self.who), pattern, cursor, limit).await
    }

    /// As [`Namespace::hot_keys`], of the keys that may be read.
    pub fn hot_keys(&self, most: usize) -> Vec<HotKey> {
        let mut hot = self.namespace.hot_keys(HOT_KEYS_MAX);
        hot.retain(|hot| self.who.rights().allows(Operation::Read, Target::Key(&hot.key)));
        hot.truncate(most);
        hot
    }
}
