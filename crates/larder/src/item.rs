//! An item: a value on its way into the cache, with what is said about it.

use std::sync::Arc;
use std::time::Duration;

use crate::access::{Operation, Principal, Target};
use crate::config::Times;
use crate::entry::Cached;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::origin::{Claim, Held, Origin, Version};

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
    pub(crate) content: Option<Fingerprint>,
    /// What it was computed from, as its maker says; empty once that is settled.
    pub(crate) claims: Vec<Claim>,
    /// The same, settled.
    pub(crate) origin: Option<Arc<Origin>>,
}

/// Until when an entry lives, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until this moment, in milliseconds since the Unix epoch by the cache's [clock](crate::Larder::clock).
    Until(u64),
    /// Without an end, even where the policy has a time to live.
    Forever,
}

impl<V> Item<V> {
    /// A value about which nothing is said yet.
    pub fn new(value: V) -> Self {
        Item { value, times: Times::default(), tags: Vec::new(), media: None, content: None, claims: Vec::new(), origin: None }
    }

    /// Refuses what somebody may not write under this whole key: it, each of the item's tags, and, as they are to have read it, what it
    /// was computed from.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub fn permitted_to(&self, who: &Principal, key: &[u8]) -> Result<()> {
        who.check(Operation::Write, Target::Key(key))?;
        self.tags.iter().try_for_each(|tag| who.check(Operation::Write, Target::Tagged { key, tag }))?;
        self.claims.iter().try_for_each(|claim| who.check(Operation::Read, Target::Key(&claim.name)))
    }

    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Its time to live, instead of the policy's. The policy's [jitter](crate::Policy::jitter) shortens this one, too; where the
    /// moment must be exact, see [`expires_at`](Self::expires_at).
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.times.ttl = Some(ttl);
        self
    }

    /// Ends its time at this very moment, in milliseconds since the Unix epoch by the cache's [clock](crate::Larder::clock): no jitter
    /// shortens it, and no hit moves it while it is in memory. A moment that has passed makes an entry that nobody reads as fresh.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let larder = larder::Larder::builder().build().await?;
    /// let moment = larder.clock().now_ms() + 60_000;
    /// larder.raw().put("a:1", larder::Item::new("x".into()).expires_at(moment)).await?;
    /// let there = larder.raw().peek("a:1").await?.expect("it was just put");
    /// assert_eq!(there.expires_at(), Some(moment));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn expires_at(self, moment_ms: u64) -> Self {
        self.life(Life::Until(moment_ms))
    }

    /// Lets it live without an end, even where the policy has a time to live: until it is invalidated or makes room.
    #[must_use]
    pub fn forever(self) -> Self {
        self.life(Life::Forever)
    }

    /// The one or the other.
    #[must_use]
    pub fn life(mut self, life: Life) -> Self {
        self.times.ends = Some(life);
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

    /// The content that it stands for, such as the rows it was made from: what [`validate`](crate::ContentOf::validate)
    /// compares with. Without one, that takes the first content it sees.
    #[must_use]
    pub fn content(mut self, fingerprint: Fingerprint) -> Self {
        self.content = Some(fingerprint);
        self
    }

    /// What it was computed from, and in which version. When that source is invalidated, or
    /// [moves](crate::Larder::moved) to another version, the entry is stale, as is what was computed from it in turn.
    ///
    /// An item that was computed from a version which is known to be over is not stored: [`ErrorKind::Outdated`](crate::ErrorKind).
    /// If the source is an entry of this cache, [`computed_from`](Self::computed_from) is the safer way: with the name alone,
    /// what the source was itself computed from is known only while it is still there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::Item;
    /// let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// features.put("AAPL:5m", Item::new(0.7).depends_on("bars:AAPL", 17u64)).await?;
    /// larder.moved("bars:AAPL", 18u64).await?;
    /// assert!(features.get("AAPL:5m").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn depends_on(mut self, source: impl AsRef<[u8]>, version: impl Into<Version>) -> Self {
        self.claims.push(Claim { name: source.as_ref().into(), version: version.into(), held: None });
        self
    }

    /// The entry of this cache that it was computed from: its whole key, and the value that was used. When that entry becomes
    /// stale, whatever makes it so, this one does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::Item;
    /// let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// let predictions = larder.namespace::<f64>("prediction")?;
    /// features.put("AAPL:5m", Item::new(0.7).tag("symbol:AAPL")).await?;
    /// let used = features.get("AAPL:5m").await?.expect("it was just put");
    /// predictions.put("AAPL:1h", Item::new(*used * 2.0).computed_from("features:AAPL:5m", &used)).await?;
    /// larder.invalidate(larder::Names::new().tag("symbol:AAPL")).await?;
    /// assert!(predictions.get("AAPL:1h").await?.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn computed_from<S: 'static>(mut self, key: impl AsRef<[u8]>, used: &Cached<S>) -> Self {
        let meta = &used.0.meta;
        let held = Held { tags: meta.tags.clone(), sources: meta.sources().to_vec(), stamp: meta.stamp() };
        let version = Version::Content(used.fingerprint());
        self.claims.push(Claim { name: key.as_ref().into(), version, held: Some(held) });
        self
    }
}

impl<V> From<V> for Item<V> {
    fn from(value: V) -> Self {
        Item::new(value)
    }
}
