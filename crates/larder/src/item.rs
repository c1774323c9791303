//! An item: a value on its way into the cache, with what is said about it.

use std::time::Duration;

use crate::config::Times;

/// A value to be cached, with the times and tags that are its own. What it does not say comes from the namespace's
/// [`Policy`](crate::Policy).
///
/// Wherever an item is taken, a bare value will do as well.
///
/// ```
/// use std::time::Duration;
/// use larder::Item;
/// let item = Item::new("Lovelace").ttl(Duration::from_secs(60)).tag("person:ada");
/// assert_eq!(*item.value(), "Lovelace");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<V> {
    pub(crate) value: V,
    pub(crate) times: Times,
    pub(crate) tags: Vec<Box<[u8]>>,
    pub(crate) media: Option<Box<str>>,
}

impl<V> Item<V> {
    /// A value about which nothing is said yet.
    pub fn new(value: V) -> Self {
        Item { value, times: Times::default(), tags: Vec::new(), media: None }
    }

    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Its time to live, instead of the policy's.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.times.ttl = Some(ttl);
        self
    }

    /// How long after its time it may be served while it is being loaded again, instead of the policy's.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.times.stale_while_revalidate = Some(window);
        self
    }

    /// How long after its time it may be served because loading failed, instead of the policy's.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.times.stale_if_error = Some(window);
        self
    }

    /// One more tag, beside those of the policy.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(tag.as_ref().into());
        self
    }

    /// Its media type, such as `application/json`, given back to whoever reads it over HTTP.
    #[must_use]
    pub fn media_type(mut self, media: impl Into<String>) -> Self {
        self.media = Some(media.into().into());
        self
    }
}

impl<V> From<V> for Item<V> {
    fn from(value: V) -> Self {
        Item::new(value)
    }
}
