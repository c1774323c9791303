//! Whole keys as one principal may use them.

use std::time::Duration;

use bytes::Bytes;

use crate::access::{Operation, Principal, Target};
use crate::entry::Cached;
use crate::error::Result;
use crate::item::Item;
use crate::keys::{Cursor, Keys};
use crate::lookup::{Answer, Lookup};
use crate::position::Receipt;
use crate::raw::{FillToken, Raw};

/// Encoded values under whole keys as one principal may use them: see [`Raw`].
#[derive(Clone)]
pub struct GuardedRaw {
    raw: Raw,
    who: Principal,
}

impl GuardedRaw {
    pub(super) fn new(raw: Raw, who: Principal) -> Self {
        GuardedRaw { raw, who }
    }

    fn check_all<K: AsRef<[u8]>>(&self, operation: Operation, keys: impl IntoIterator<Item = K>) -> Result<Vec<K>> {
        keys.into_iter().map(|key| self.who.check(operation, Target::Key(key.as_ref())).map(|()| key)).collect()
    }

    /// As [`Raw::quick`]; `None` also for what may not be read, as it says nothing.
    #[inline]
    pub fn quick(&self, key: impl AsRef<[u8]>) -> Option<Cached<Bytes>> {
        let key = key.as_ref();
        if self.who.rights().allows(Operation::Read, Target::Key(key)) { self.raw.quick(key) } else { None }
    }

    /// As [`Raw::lookup`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not read it; otherwise as there.
    pub async fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Lookup<Bytes>> {
        self.who.check(Operation::Read, Target::Key(key.as_ref()))?;
        self.raw.lookup(key).await
    }

    /// As [`Raw::lookup_many`].
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup), if any may not be read.
    pub async fn lookup_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Lookup<Bytes>>> {
        self.raw.lookup_many(self.check_all(Operation::Read, keys)?).await
    }

    /// As [`Raw::peek`].
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Answer<Bytes>>> {
        self.who.check(Operation::Read, Target::Key(key.as_ref()))?;
        self.raw.peek(key).await
    }

    /// As [`Raw::put`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not write the key, or not with these tags, or may not read what it was
    /// computed from; otherwise as there.
    pub async fn put(&self, key: impl AsRef<[u8]>, item: impl Into<Item<Bytes>>) -> Result<Receipt> {
        let item = item.into();
        item.permitted_to(&self.who, key.as_ref())?;
        self.raw.put(key, item).await
    }

    /// As [`Raw::put_if_changed`], which tells whether the same is there: for who may read it as well.
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`lookup`](Self::lookup).
    pub async fn put_if_changed(&self, key: impl AsRef<[u8]>, item: impl Into<Item<Bytes>>) -> Result<Option<Receipt>> {
        let item = item.into();
        self.who.check(Operation::Read, Target::Key(key.as_ref()))?;
        item.permitted_to(&self.who, key.as_ref())?;
        self.raw.put_if_changed(key, item).await
    }

    /// As [`Raw::put_many`].
    ///
    /// # Errors
    /// As [`put`](Self::put), before anything is put.
    pub async fn put_many<K: AsRef<[u8]>>(&self, items: impl IntoIterator<Item = (K, Item<Bytes>)>) -> Result<Option<Receipt>> {
        let checked = |(key, item): (K, Item<Bytes>)| item.permitted_to(&self.who, key.as_ref()).map(|()| (key, item));
        self.raw.put_many(items.into_iter().map(checked).collect::<Result<Vec<_>>>()?).await
    }

    /// As [`Raw::begin_fill`]: a token says where the log is, and nothing of the key.
    pub fn begin_fill(&self, key: impl AsRef<[u8]>) -> FillToken {
        self.raw.begin_fill(key)
    }

    /// As [`Raw::fill`].
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`Raw::fill`].
    pub async fn fill(&self, key: impl AsRef<[u8]>, token: FillToken, item: impl Into<Item<Bytes>>) -> Result<bool> {
        let item = item.into();
        item.permitted_to(&self.who, key.as_ref())?;
        self.raw.fill(key, token, item).await
    }

    /// As [`Raw::remove`].
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for who may not delete one of them, before any is removed; otherwise as there.
    pub async fn remove<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Receipt> {
        self.raw.remove(self.check_all(Operation::Delete, keys)?).await
    }

    /// As [`Raw::touch`], which tells whether there is one: for who may both read and write it.
    ///
    /// # Errors
    /// [`Forbidden`](crate::ErrorKind::Forbidden); otherwise as there.
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool> {
        self.who.check(Operation::Read, Target::Key(key.as_ref()))?;
        self.who.check(Operation::Write, Target::Key(key.as_ref()))?;
        self.raw.touch(key, ttl).await
    }

    /// As [`Raw::keys`], of the keys that may be read.
    ///
    /// # Errors
    /// As there.
    pub async fn keys(&self, pattern: impl AsRef<[u8]>, cursor: Cursor, limit: usize) -> Result<Keys> {
        self.raw.keys_for(Some(&self.who), pattern, cursor, limit).await
    }

    /// As [`Raw::random_key`], of the keys that may be read.
    ///
    /// # Errors
    /// As there.
    pub async fn random_key(&self) -> Result<Option<Box<[u8]>>> {
        self.raw.random_key_for(Some(&self.who)).await
    }
}
