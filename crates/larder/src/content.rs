//! Has the content changed? What did not change is kept, and everybody's copies with it: an entry whose content is the same lives
//! on without an append to the log. What changed is invalidated or replaced, as any change is.
//!
//! Fingerprints live in the entries, so there is no second list of them to grow; see [`fingerprint`](crate::fingerprint).

use std::sync::Arc;

use crate::cache::Larder;
use crate::codec::{Codec, Value};
use crate::entry::{Cached, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Content, Fingerprint, canonical_json};
use crate::invalidations::InvalidationOrigin;
use crate::item::Item;
use crate::key::check_key;
use crate::metrics::Count;
use crate::position::{Receipt, Stamp};
use crate::read::Asked;
use crate::read::loader::Loading;
use crate::task;
use crate::view::{Made, View};
use crate::write::Updated;

/// The content that an entry stands for: see [`Larder::content`].
#[derive(Clone)]
pub struct ContentOf {
    larder: Larder,
    key: Box<[u8]>,
    renews: bool,
}

/// What became of a [`validate`](ContentOf::validate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validated {
    /// It is the content that the entry stands for. The entry stays.
    Unchanged,
    /// It is another. The entry was invalidated.
    Changed(Receipt),
    /// Nothing was known of the entry's content. From now on it stands for this one.
    FirstSight,
    /// There is no entry.
    Absent,
}

impl Larder {
    /// The content that the entry of a whole key stands for: what was given with [`Item::content`], else what was first
    /// [validated](ContentOf::validate), else the value itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::{Item, Validated};
    /// use larder::fingerprint::{Array, Fingerprint, Hash};
    /// let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// let bars = [187.2, 187.9, 188.4];
    /// let of_bars = Fingerprint::of(&Array::of(&bars), Hash::default())?;
    /// features.put("AAPL:5m", Item::new(0.7).content(of_bars)).await?;
    /// assert_eq!(larder.content("features:AAPL:5m").validate(&Array::of(&bars)).await?, Validated::Unchanged);
    /// assert!(matches!(larder.content("features:AAPL:5m").validate(&Array::of(&bars[1..])).await?, Validated::Changed(_)));
    /// assert!(features.get("AAPL:5m").await?.is_none());
    /// # Ok(()) }
    /// ```
    pub fn content(&self, key: impl AsRef<[u8]>) -> ContentOf {
        ContentOf { larder: self.clone(), key: key.as_ref().into(), renews: false }
    }
}

impl ContentOf {
    /// Has an entry whose content is unchanged begin its life anew, with its namespace's time to live.
    #[must_use]
    pub fn renewing(mut self) -> Self {
        self.renews = true;
        self
    }

    /// Compares the content as it is now with that of the entry: unchanged, the entry stays; changed, it is invalidated; seen for
    /// the first time, it is recorded in the entry, and taken for what the entry was made from.
    ///
    /// Call it after the content has changed: as an [`invalidate`](Larder::invalidate), it takes out what was made before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`]; [`ErrorKind::Codec`] for content that has no fingerprint; [`ErrorKind::Unverified`] in a
    /// strict namespace; as [`remove`](crate::Raw::remove), if the log cannot take the change.
    pub async fn validate<C: Content + ?Sized>(&self, current: &C) -> Result<Validated> {
        let key = &*self.key;
        check_key(key)?;
        let view = self.larder.0.raw_view(key);
        let current = current.fingerprint(view.space.policy.fingerprint)?;
        view.verified()?;
        let Some(entry) = view.current_entry(key).await else { return Ok(Validated::Absent) };
        let (known, first) = match entry.meta.content() {
            Some(known) => (known, false),
            None if entry.fingerprint() == current.as_u128() => (current, false),
            None => {
                let elsewhere = view.content_seen_elsewhere(key, &entry).await;
                (view.see_content(key, &entry, elsewhere.unwrap_or(current)), elsewhere.is_none())
            }
        };
        if known != current {
            return view.remove(vec![key.into()], InvalidationOrigin::Content).await.map(Validated::Changed);
        }
        if self.renews {
            let ttl = view.space.policy.life(&Default::default(), view.shared.clock.now_ms())?.ttl;
            view.renew(key, &entry, ttl).await?;
        } else if first {
            view.write_back(key, &entry).await?;
        }
        if first {
            return Ok(Validated::FirstSight);
        }
        view.space.metrics.count(Count::Unchanged);
        Ok(Validated::Unchanged)
    }
}

/// What became of a [`refresh`](crate::Namespace::refresh).
#[derive(Clone, Debug)]
pub enum Refreshed<V> {
    /// The loader returned what was there already. That lives on.
    Unchanged(Cached<V>),
    /// It returned something else, which took the place of what was there.
    Changed(Updated<V>),
}

impl<V> Refreshed<V> {
    /// The value, in either case.
    pub fn into_value(self) -> Cached<V> {
        match self {
            Refreshed::Unchanged(value) => value,
            Refreshed::Changed(updated) => updated.value,
        }
    }
}

impl<V: Value> View<V> {
    /// Keeps in the entry, and in the one of which it is a copy, which content it stands for. Returns what is known then.
    fn see_content(&self, key: &[u8], entry: &Entry<V>, content: Fingerprint) -> Fingerprint {
        // Bytes read out of a namespace of values are a copy.
        let there = self.space.pool().peek(self.space.pool().query(key)).filter(|slot| slot.fingerprint() == entry.fingerprint());
        let known = there.map_or(content, |slot| slot.meta().see_content(content));
        entry.meta.see_content(known)
    }

    /// The content that another instance was the first to see: it is in the record, and this one's copy was made before.
    async fn content_seen_elsewhere(&self, key: &[u8], entry: &Entry<V>) -> Option<Fingerprint> {
        let tier = self.shared.tier.as_ref().filter(|tier| self.space.policy.backing && tier.is_shared())?;
        // A tier that cannot be asked knows nothing, and this instance is then the first, as far as it can know.
        let record = self.one_in_time(tier, key).await.inspect_err(|error| self.backing_failed(error)).ok()??;
        record.origin.filter(|_| record.fingerprint == entry.fingerprint())?.content
    }

    /// A put of what may be there already. `None`: it was, and lives on.
    pub(crate) async fn put_if_changed(&self, key: &[u8], mut item: Item<V>) -> Result<Option<Receipt>> {
        check_key(key)?;
        let _let_in = self.shared.writes.enter()?;
        let since = self.shared.index.latest();
        self.settle_current(key, &mut item).await?;
        let made = self.make(key, item, since, 0)?;
        match self.renew_unchanged(key, &made).await? {
            Some(_) => Ok(None),
            None => self.put_settled(key, made, since).await.map(Some),
        }
    }

    /// Loads a key again, whatever is there: as an update, if the content changed, and without an append if it did not.
    ///
    /// Runs in a task of its own, as loads do: what the loader returned is not lost with a caller that stops waiting.
    pub(crate) async fn refresh(&self, key: &[u8], loader: Loading<V>) -> Result<Refreshed<V>> {
        check_key(key)?;
        // Before the source is asked for what could not be kept.
        drop(self.shared.writes.enter()?);
        let (view, key, limit) = (self.clone(), Box::<[u8]>::from(key), self.space.policy.load_timeout);
        let refreshing = task::spawn(&self.shared.runtime, async move {
            let asking = tokio::time::timeout(limit, view.ask_source(&key, loader)).await;
            let Asked { item, stamp, .. } = asking.unwrap_or_else(|_| Err(view.timed_out(limit)))?;
            view.keep_refreshed(&key, item.expect("this loader always finds something"), stamp).await
        });
        refreshing.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::LoadPanicked, "the loader panicked, or its runtime was shut down")))
    }

    async fn keep_refreshed(&self, key: &[u8], mut item: Item<V>, since: Stamp) -> Result<Refreshed<V>> {
        // Not while the source was asked: nothing is changed by that, and nobody who closes the gate need wait for it.
        let _let_in = self.shared.writes.enter()?;
        let outdated = self.settle(key, &mut item).await?;
        let made = self.make(key, item, since, 0)?;
        if outdated.is_none()
            && let Some(entry) = self.renew_unchanged(key, &made).await?
        {
            return Ok(Refreshed::Unchanged(Cached(entry)));
        }
        self.append_changed(key, made, since, outdated.is_none()).await.map(Refreshed::Changed)
    }

    /// If what is there is the same, has it live on as long as the new one would.
    async fn renew_unchanged(&self, key: &[u8], new: &Made<V>) -> Result<Option<Arc<Entry<V>>>> {
        if self.is_unverified() {
            return Ok(None);
        }
        let Some(there) = self.current_entry(key).await.filter(|there| self.is_same(there, &new.entry)) else { return Ok(None) };
        self.renew(key, &there, new.entry.meta.life.ttl).await?;
        self.space.metrics.count(Count::Unchanged);
        Ok(Some(there))
    }

    /// Whether two entries of a key are the same to whoever reads or invalidates them.
    fn is_same(&self, there: &Entry<V>, new: &Entry<V>) -> bool {
        let (old, meta) = (&there.meta, &new.meta);
        let same_origin = old.sources() == meta.sources() && (meta.content().is_none() || meta.content() == old.content());
        old.tags == meta.tags
            && old.media == meta.media
            && same_origin
            && (there.fingerprint() == new.fingerprint() || self.is_equal(there, new))
    }

    /// Whether values that are other bytes are equal all the same: maps have no order, and 1 is 1.0.
    fn is_equal(&self, there: &Entry<V>, new: &Entry<V>) -> bool {
        if self.typed.as_ref().is_some_and(|typed| typed.codec != Codec::Bytes) {
            return canonical_json(&there.value).is_ok_and(|old| canonical_json(&new.value).is_ok_and(|new| old == new));
        }
        if !new.meta.media.as_deref().is_some_and(is_json) {
            return false;
        }
        let canonical = |value: &V| {
            let parsed: serde_json::Value = serde_json::from_slice(&self.encode(value).ok()?).ok()?;
            canonical_json(&parsed).ok()
        };
        canonical(&there.value).is_some_and(|old| canonical(&new.value) == Some(old))
    }
}

/// Whether a media type is JSON's, or that of a format written in it.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or(media).trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}
