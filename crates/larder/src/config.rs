//! What a cache can be told: the policy of a namespace, checked before anything depends on it.

use std::time::Duration;

use crate::clock::Millis;
use crate::codec::{Codec, Compression};
use crate::entry::Life;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hash;
use crate::item::Life as Ends;
use crate::key::{check_tag, segments};

/// The longest time to live that can be given: a hundred years. Longer is what no time to live at all is for.
/// A [moment](crate::Item::expires_at) may be later; stores are told no later one.
pub const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// For how long after a shared log was last heard memory counts as verified, where nobody says otherwise.
pub(crate) const MAX_STALENESS: Duration = Duration::from_secs(1);

/// How the entries of a namespace live.
///
/// Every setting has a default that is safe for any data; a policy is built by changing some of them.
///
/// ```
/// use std::time::Duration;
/// use larder::{Codec, Policy};
/// let policy = Policy::default()
///     .ttl(Duration::from_secs(300))
///     .jitter(0.1)
///     .stale_while_revalidate(Duration::from_secs(30))
///     .codec(Codec::MessagePack)
///     .tag("symbol:{1}");
/// assert!(policy.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(crate) ttl: Option<Duration>,
    pub(crate) jitter: f64,
    pub(crate) sliding: bool,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) refresh_ahead: f64,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) load_soft_timeout: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) loads_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) codec: Codec,
    pub(crate) fingerprint: Hash,
    pub(crate) compression: Option<(Compression, usize)>,
    pub(crate) tags: Vec<String>,
    pub(crate) own_pool: Option<u64>,
    pub(crate) own_pool_min: Option<u64>,
    pub(crate) own_pool_max: Option<u64>,
    pub(crate) backing: bool,
    pub(crate) mode: Option<Mode>,
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) one_load_in_fleet: Option<Duration>,
}

/// What a cache that shares its log with other machines does while it cannot hear of their changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It goes on with what it has, and says so ([`Freshness::Unverified`](crate::Freshness::Unverified)). Invalidations take
    /// effect here at once and are queued for the others. Only where the log can be reached, and takes no more since nobody writes a
    /// checkpoint of it, are they refused.
    #[default]
    Available,
    /// What cannot be guaranteed is refused: memory is not used by a read that begins longer than `max_staleness` after the
    /// log was last heard (promise G3), and changes that the log did not take are errors.
    Strict,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            ttl: None,
            jitter: 0.0,
            sliding: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            refresh_ahead: 0.0,
            negative_ttl: None,
            load_soft_timeout: None,
            load_timeout: Duration::from_secs(30),
            loads_max: 256,
            value_bytes_max: 16 << 20,
            codec: Codec::default(),
            fingerprint: Hash::default(),
            compression: None,
            tags: Vec::new(),
            own_pool: None,
            own_pool_min: None,
            own_pool_max: None,
            backing: true,
            mode: None,
            max_staleness: None,
            one_load_in_fleet: None,
        }
    }
}

impl Policy {
    /// The time to live of an entry that is not given one of its own. Default: none, it lives until it is invalidated or
    /// makes room.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Shortens each time to live by a random share of up to this (0 to 1), so that what was loaded together does not
    /// expire together. Default 0.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Whether a hit starts the time to live anew (to a 32nd of it). Default: it is fixed.
    #[must_use]
    pub fn sliding(mut self, sliding: bool) -> Self {
        self.sliding = sliding;
        self
    }

    /// How long after its time an entry is still served while it is loaded again behind. Never after it was invalidated.
    /// Default 0. (RFC 5861)
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = window;
        self
    }

    /// How long after its time an entry is still served when loading it again fails. Never after it was invalidated.
    /// Default 0. (RFC 5861)
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = window;
        self
    }

    /// In the last share (0 to 1) of its life a hit also starts loading the entry again, so that entries in use never
    /// expire under their readers. Default 0: never.
    #[must_use]
    pub fn refresh_ahead(mut self, share: f64) -> Self {
        self.refresh_ahead = share;
        self
    }

    /// How long "there is no such thing" is remembered. Default: it is not.
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// When an expired entry is at hand that could still be served (see the two stale windows), how long a reader waits for
    /// its load before it takes the old one; the load goes on behind. Default: as long as the load takes.
    #[must_use]
    pub fn load_soft_timeout(mut self, timeout: Duration) -> Self {
        self.load_soft_timeout = Some(timeout);
        self
    }

    /// How long a load may take, waiting for its turn included, before it is cancelled and its callers get
    /// [`ErrorKind::LoadTimeout`]. Default 30 s.
    #[must_use]
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// How many loads of this namespace may run at once; more wait their turn. Default 256.
    #[must_use]
    pub fn loads_max(mut self, loads: usize) -> Self {
        self.loads_max = loads;
        self
    }

    /// The largest value, in bytes as encoded. Larger ones are refused. Default 16 MiB.
    #[must_use]
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.value_bytes_max = bytes;
        self
    }

    /// How values become bytes. Default [`Codec::Json`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How fingerprints of values and of [content](crate::Larder::content) are made. Default [`Hash::Xxh3`]. Entries that were stored
    /// before it was changed count as changed content, once.
    #[must_use]
    pub fn fingerprint(mut self, hash: Hash) -> Self {
        self.fingerprint = hash;
        self
    }

    /// Compresses values longer than `above` bytes in the backing tier. Default: none.
    #[must_use]
    pub fn compress(mut self, compression: Compression, above: usize) -> Self {
        self.compression = Some((compression, above));
        self
    }

    /// Gives every entry a tag made from its key: `{1}` is the key's second segment, `{0}` the namespace. An entry whose
    /// key has no such segment does not get the tag. Can be called more than once.
    #[must_use]
    pub fn tag(mut self, template: impl Into<String>) -> Self {
        self.tags.push(template.into());
        self
    }

    /// Gives the namespace memory of its own, in bytes, instead of a share of the common pool: for isolation.
    #[must_use]
    pub fn own_memory(mut self, bytes: u64) -> Self {
        self.own_pool = Some(bytes);
        self
    }

    /// The least memory of its own that the namespace is given where memory is given out while the cache runs
    /// ([`SizingMode::Auto`](crate::SizingMode::Auto)). Default: a 256th of all.
    #[must_use]
    pub fn own_memory_min(mut self, bytes: u64) -> Self {
        self.own_pool_min = Some(bytes);
        self
    }

    /// The most. Default: all that there is.
    #[must_use]
    pub fn own_memory_max(mut self, bytes: u64) -> Self {
        self.own_pool_max = Some(bytes);
        self
    }

    /// Whether entries also go to the backing tier, where there is one. Default true.
    #[must_use]
    pub fn backing(mut self, backing: bool) -> Self {
        self.backing = backing;
        self
    }

    /// What the namespace does while a log that is shared with other machines cannot be heard. Default: what the builder was
    /// told.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// For how long after the shared log was last heard the namespace's memory counts as verified. Default: what the builder
    /// was told.
    #[must_use]
    pub fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = Some(limit);
        self
    }

    /// Lets only one machine of those that share a Redis load a key at a time: the others wait up to `wait` for its value
    /// before they load it themselves. Default: each machine loads for itself.
    #[must_use]
    pub fn one_load_in_fleet(mut self, wait: Duration) -> Self {
        self.one_load_in_fleet = Some(wait);
        self
    }

    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTtl`] for a time that is zero or longer than [`TTL_MAX`]; [`ErrorKind::InvalidTag`] for a bad
    /// template; [`ErrorKind::InvalidConfig`] for the rest. The message names the setting.
    pub fn check(&self) -> Result<()> {
        for ttl in [self.ttl, self.negative_ttl].into_iter().flatten() {
            check_ttl(ttl)?;
        }
        for window in [self.stale_while_revalidate, self.stale_if_error].into_iter().filter(|window| !window.is_zero()) {
            check_ttl(window)?;
        }
        let invalid = |message: &'static str| Err(Error::new(ErrorKind::InvalidConfig, message));
        if !(0.0..=1.0).contains(&self.jitter) {
            return invalid("jitter is a share from 0 to 1");
        }
        if !(0.0..1.0).contains(&self.refresh_ahead) {
            return invalid("refresh_ahead is a share from 0 to below 1");
        }
        if self.refresh_ahead > 0.0 && self.ttl.is_none() {
            return invalid("refresh_ahead needs a ttl to be ahead of");
        }
        if self.loads_max == 0 {
            return invalid("loads_max is at least 1: without loads there is nothing to cache");
        }
        if self.load_timeout.is_zero() {
            return invalid("load_timeout is longer than nothing");
        }
        if self.own_pool.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
            return invalid("a namespace's own memory is at least 64 KiB");
        }
        if self.own_pool_min.into_iter().chain(self.own_pool_max).any(|bytes| bytes < MEMORY_BYTES_MIN) {
            return invalid("the bounds of a namespace's own memory are at least 64 KiB");
        }
        let (least, most) = (self.own_pool_min.unwrap_or(0), self.own_pool_max.unwrap_or(u64::MAX));
        if least > most || self.own_pool.is_some_and(|bytes| !(least..=most).contains(&bytes)) {
            return invalid("a namespace's own memory lies between its least and its most");
        }
        self.tags.iter().try_for_each(|template| TagTemplate::new(template).map(drop))
    }

    /// The life of an entry that was given these settings of its own, and begins now.
    pub(crate) fn life(&self, own: &Times, now: Millis) -> Result<Life> {
        let forever = Life { ttl: u64::MAX, stale_while_revalidate: 0, stale_if_error: 0, sliding: false, refresh_ahead: 0 };
        let ttl = match (own.ends, own.ttl.or(self.ttl)) {
            (Some(Ends::Until(u64::MAX) | Ends::Forever), _) | (None, None) => return Ok(forever),
            (Some(Ends::Until(moment)), _) => moment.saturating_sub(now),
            // Jitter shortens, so that nothing outlives what it was given.
            (None, Some(ttl)) => {
                check_ttl(ttl)?;
                if self.jitter == 0.0 {
                    ttl.as_millis() as u64
                } else {
                    ((ttl.as_millis() as f64) * (1.0 - self.jitter * fastrand::f64())).max(1.0) as u64
                }
            }
        };
        let window = |own: Option<Duration>, policy: Duration| -> Result<u64> {
            let window = own.unwrap_or(policy);
            if !window.is_zero() {
                check_ttl(window)?;
            }
            Ok(window.as_millis() as u64)
        };
        Ok(Life {
            ttl,
            stale_while_revalidate: window(own.stale_while_revalidate, self.stale_while_revalidate)?,
            stale_if_error: window(own.stale_if_error, self.stale_if_error)?,
            // A moment that was given does not move.
            sliding: self.sliding && own.ends.is_none(),
            refresh_ahead: self.refresh_ahead_of(ttl),
        })
    }

    /// How long before its time an entry that lives so long is loaded again ahead of need, in milliseconds.
    pub(crate) fn refresh_ahead_of(&self, ttl: u64) -> u64 {
        (ttl as f64 * self.refresh_ahead) as u64
    }
}

/// The times that an item may bring along; what it does not bring comes from the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) ttl: Option<Duration>,
    /// When its time is over to the millisecond, whatever `ttl` says.
    pub(crate) ends: Option<Ends>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
}

/// The least memory a pool makes sense with.
pub(crate) const MEMORY_BYTES_MIN: u64 = 64 << 10;

pub(crate) fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl < Duration::from_millis(1) || ttl > TTL_MAX {
        let message = format!("a time to live is from 1 ms to 100 years, not {ttl:?}; for one without end, give none");
        return Err(Error::new(ErrorKind::InvalidTtl, message));
    }
    Ok(())
}

/// A tag with places for a key's segments: `symbol:{1}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Segment(usize),
}

impl TagTemplate {
    pub(crate) fn new(template: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(ErrorKind::InvalidTag, format!("the tag template \"{}\" {why}", template.escape_debug()));
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (text, tail) = rest.split_at(open);
            let (number, tail) = tail[1..].split_once('}').ok_or_else(|| bad("has an unclosed {"))?;
            let number = number.parse().map_err(|_| bad("has something other than a segment's number in { }"))?;
            parts.extend((!text.is_empty()).then(|| Part::Text(text.into())));
            parts.push(Part::Segment(number));
            rest = tail;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.into())));
        match parts.as_slice() {
            [] => Err(bad("is empty")),
            parts if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) => Err(bad("has a } without a {")),
            _ => Ok(TagTemplate(parts)),
        }
    }

    /// The tag for a key; `None` where the key lacks a segment, or the tag would be empty or too long.
    pub(crate) fn render(&self, key: &[u8]) -> Option<Box<[u8]>> {
        let mut tag = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => tag.extend_from_slice(text.as_bytes()),
                Part::Segment(number) => tag.extend_from_slice(segments(key).nth(*number)?),
            }
        }
        check_tag(&tag).ok().map(|()| tag.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bad_setting_is_named() {
        let policy = Policy::default;
        for (policy, kind, says) in [
            (policy().ttl(Duration::ZERO), ErrorKind::InvalidTtl, "not 0ns"),
            (policy().ttl(Duration::MAX), ErrorKind::InvalidTtl, "100 years"),
            (policy().negative_ttl(Duration::ZERO), ErrorKind::InvalidTtl, "1 ms"),
            (policy().stale_if_error(Duration::MAX), ErrorKind::InvalidTtl, "100 years"),
            (policy().jitter(1.5), ErrorKind::InvalidConfig, "jitter"),
            (policy().jitter(f64::NAN), ErrorKind::InvalidConfig, "jitter"),
            (policy().refresh_ahead(0.1), ErrorKind::InvalidConfig, "needs a ttl"),
            (policy().loads_max(0), ErrorKind::InvalidConfig, "loads_max"),
            (policy().own_memory(1), ErrorKind::InvalidConfig, "64 KiB"),
            (policy().own_memory_min(1), ErrorKind::InvalidConfig, "64 KiB"),
            (policy().own_memory_min(2 << 20).own_memory_max(1 << 20), ErrorKind::InvalidConfig, "between its least"),
            (policy().own_memory(1 << 20).own_memory_min(2 << 20), ErrorKind::InvalidConfig, "between its least"),
            (policy().tag("symbol:{one}"), ErrorKind::InvalidTag, "segment's number"),
            (policy().tag("symbol:{1"), ErrorKind::InvalidTag, "unclosed"),
            (policy().tag("symbol:}"), ErrorKind::InvalidTag, "without a {"),
            (policy().tag(""), ErrorKind::InvalidTag, "empty"),
        ] {
            let error = policy.check().unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(Policy::default().ttl(TTL_MAX).check().is_ok());
    }

    #[test]
    fn templates_take_segments() {
        let render = |template: &str, key: &str| {
            TagTemplate::new(template).unwrap().render(key.as_bytes()).map(|tag| String::from_utf8(tag.into()).unwrap())
        };
        assert_eq!(render("symbol:{1}", "features:AAPL:5m").as_deref(), Some("symbol:AAPL"));
        assert_eq!(render("{0}/{2}", "features:AAPL:5m").as_deref(), Some("features/5m"));
        assert_eq!(render("model:{3}", "features:AAPL:5m"), None);
        assert_eq!(render("{1}", "features::5m"), None, "an empty tag is no tag");
        assert_eq!(render("constant", "x").as_deref(), Some("constant"));
    }

    proptest! {
        #[test]
        fn a_life_never_overflows_and_jitter_never_lengthens(
            ttl_ms in 1u64..=TTL_MAX.as_millis() as u64,
            jitter in 0.0..=1.0f64,
            now: u64,
            window_ms in 0u64..=TTL_MAX.as_millis() as u64,
        ) {
            let window = Duration::from_millis(window_ms);
            let policy = Policy::default().ttl(Duration::from_millis(ttl_ms)).jitter(jitter).stale_if_error(window);
            let life = policy.life(&Times::default(), now).unwrap();
            prop_assert!(life.ttl >= 1 && life.ttl <= ttl_ms);
            let (fresh_until, expires_at) = life.times(now);
            prop_assert!(fresh_until >= now && expires_at >= fresh_until);
            prop_assert_eq!(expires_at, fresh_until.saturating_add(window_ms));
        }

        #[test]
        fn no_template_panics(template in ".{0,30}", key in ".{1,30}") {
            if let Ok(template) = TagTemplate::new(&template) {
                prop_assert!(template.render(key.as_bytes()).is_none_or(|tag| !tag.is_empty()));
            }
        }
    }
}
