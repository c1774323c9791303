//! What entries are computed from: which version of a source is known, and what follows when it moves.
//!
//! ```text
//!   moved(bars:AAPL, 18)   append  bars:AAPL and its version's key   every entry that depends on either is stale
//!                          store   larder.sources:bars:AAPL = 18     for those who store later what they began earlier
//!   put(.., depends_on(bars:AAPL, 17))                               refused: 17 is over
//! ```
//!
//! The version that is known is an ordinary entry without an end. Should it be evicted, nothing is known of that source until
//! it moves again, and what is computed from it is judged by stamps alone, as every entry is.

use bytes::Bytes;

use crate::cache::Larder;
use crate::codec::Value;
use crate::config::TTL_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Named;
use crate::invalidations::{InvalidationKind, InvalidationOrigin};
use crate::item::Item;
use crate::key::check_key;
use crate::log::{Append, Guard, OnConflict};
use crate::name::Name;
use crate::origin::{Claim, Dependency, Held, Sources, Version, show};
use crate::position::{Receipt, Stamp};
use crate::view::{Made, View};
use crate::write::receipt;

/// Where the versions of sources are kept: the version of `bars:AAPL` is the value of `larder.sources:bars:AAPL`, as text.
const SOURCES: &str = "larder.sources";

/// The most sources that the items of one `put_many` may name together: the log's guard counts them in two bytes.
const GUARDED_SOURCES_MAX: usize = 1_000;

/// How often a move is tried again because the same source was moved by somebody else at that moment.
const MOVES_MAX: usize = 8;

/// What became of a [`moved`](Larder::moved).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it stands in the log. `None`: the source was known to be at this version, or past it, and nothing was done.
    pub receipt: Option<Receipt>,
    /// The version that was known before.
    pub before: Option<Version>,
}

impl Larder {
    /// Says that a source is at another version: everything that was [computed from](Item::depends_on) it is stale, and what was
    /// computed from that in turn. Change the source first, then call this.
    ///
    /// Telling the same version again does nothing, and costs no append; neither does a number below the one that is known.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] for the name; [`ErrorKind::LogUnavailable`].
    pub async fn moved(&self, source: impl AsRef<[u8]>, version: impl Into<Version>) -> Result<Moved> {
        let (name, version) = (source.as_ref(), version.into());
        let key = version_key(name)?;
        let view = self.0.raw_view(&key);
        let mut last = None;
        for _ in 0..MOVES_MAX {
            // Before the version is looked at: who moves it in between is noticed by the log.
            let since = self.0.index.latest();
            let before = self.version_of(name).await?;
            if let Some(known) = before
                && !known.is_behind(version)
            {
                return Ok(Moved { receipt: last, before });
            }
            let made = view.make(&key, Item::new(Bytes::from(version.to_string())).ttl(TTL_MAX), since, 0)?;
            let guard = Guard { keys: vec![key.clone()], hashes: made.entry.meta.hashes.clone(), since, on_conflict: OnConflict::Append };
            let names = vec![Name::Key(name.into()), Name::Key(key.clone())];
            let writes = view.entry_write(&key, &made).into_iter().collect();
            let durability = self.0.invalidation_durability;
            let appended = self
                .0
                .append(Append { names, marks: Vec::new(), durability, guard: Some(guard), writes, mode: self.0.mode, is_put: false })
                .await?;
            self.0.invalidations.count_one(InvalidationKind::Source, InvalidationOrigin::Moved);
            self.0.raw_view(name).purge(vec![name.into()], &appended).await;
            last = Some(receipt(appended, 1));
            if !appended.conflict {
                view.put_made(&key, made, &appended).await?;
                return Ok(Moved { receipt: last, before });
            }
        }
        // All that depends on it is stale; which version won is not known, and will not be claimed.
        Ok(Moved { receipt: last, before: None })
    }

    /// The version that a source is known to be at.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] for the name; [`ErrorKind::Tier`] if the backing tier cannot be asked.
    pub async fn version_of(&self, source: impl AsRef<[u8]>) -> Result<Option<Version>> {
        let key = version_key(source.as_ref())?;
        let known = self.0.raw_view(&key).peek(&key).await?;
        // What somebody else put there is no version.
        Ok(known.and_then(|known| std::str::from_utf8(&known.value).ok().and_then(|text| text.parse().ok())))
    }
}

fn version_key(source: &[u8]) -> Result<Box<[u8]>> {
    check_key(source)?;
    let key = [SOURCES.as_bytes(), b":", source].concat();
    check_key(&key)?;
    Ok(key.into_boxed_slice())
}

impl<V: Value> View<V> {
    /// Takes an item's claims for what they are: the names of its sources, of theirs, and whether they are current. Returns why
    /// the item is out of date, if that is known; its origin is complete all the same.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDependency`], [`ErrorKind::InvalidKey`].
    pub(crate) async fn settle(&self, key: &[u8], item: &mut Item<V>) -> Result<Option<Error>> {
        let claims = std::mem::take(&mut item.claims);
        let mut outdated = None;
        let mut sources = Sources::of(key, item.content.take());
        for Claim { name, version, held } in claims {
            check_key(&name)?;
            let (held, over) = match held {
                Some(held) => {
                    let over = self.is_over(&name, &held);
                    (held, over)
                }
                None => self.known_of(&name, version).await?,
            };
            outdated = outdated.or(over.map(|why| Error::new(ErrorKind::Outdated, why).during("store", key)));
            sources.add(name, version, held.tags, &held.sources)?;
        }
        item.origin = sources.finish();
        Ok(outdated)
    }

    /// Whether a value in somebody's hand has become stale since it was got.
    fn is_over(&self, name: &[u8], held: &Held) -> Option<String> {
        let hashes = self.shared.index.hashes_from(name, &held.tags, &held.sources);
        let stale = self.shared.index.judge(Named { key: name, hashes: &hashes, sources: &held.sources }, held.stamp);
        stale.map(|_| format!("what it was computed from, \"{}\", has become stale since it was read", name.escape_ascii()))
    }

    /// What is known of a source of which only the name and version are given.
    async fn known_of(&self, name: &[u8], version: Version) -> Result<(Held, Option<String>)> {
        let stamp = self.shared.index.latest();
        let behind = |known: Version| {
            version
                .is_behind(known)
                .then(|| format!("it was computed from version {version} of \"{}\", which is known to be at {known}", name.escape_ascii()))
        };
        let larder = Larder(self.shared.clone());
        // A tier that cannot be asked knows nothing; stamps still hold.
        let known = larder.version_of(name).await.inspect_err(|error| self.backing_failed(error)).ok().flatten();
        let there = self.shared.raw_view(name).peek(name).await.inspect_err(|error| self.backing_failed(error)).ok().flatten();
        let mut over = known.and_then(behind);
        let mut held = Held { tags: Default::default(), sources: Vec::new(), stamp };
        if let Some(there) = there {
            if matches!(version, Version::Content(_)) {
                over = over.or_else(|| behind(Version::Content(there.value.fingerprint())));
            }
            held.tags = there.value.0.meta.tags.clone();
            held.sources = there.value.sources().to_vec();
        }
        Ok((held, over))
    }

    /// The same, for those who store nothing that is out of date.
    pub(crate) async fn settle_current(&self, key: &[u8], item: &mut Item<V>) -> Result<()> {
        self.settle(key, item).await?.map_or(Ok(()), Err)
    }

    /// What the log must answer together with the append of a put: whether a source has moved since the item was settled. `None`
    /// where there are no sources.
    pub(crate) fn guard_of_sources<'a>(&self, made: impl IntoIterator<Item = &'a Made<V>>, since: Stamp) -> Result<Option<Guard>> {
        let mut sources: Vec<&Dependency> = made.into_iter().flat_map(|made| made.entry.meta.sources()).collect();
        sources.sort_unstable_by(|a, b| (&a.name, &a.tags).cmp(&(&b.name, &b.tags)));
        sources.dedup_by(|a, b| a.name == b.name && a.tags == b.tags);
        if sources.len() > GUARDED_SOURCES_MAX {
            let message =
                format!("the items of one put_many have at most {GUARDED_SOURCES_MAX} different sources, these have {}", sources.len());
            return Err(Error::new(ErrorKind::InvalidDependency, message));
        }
        let hashes = sources.iter().flat_map(|source| self.shared.index.hashes(&source.name, &source.tags)).collect();
        let keys: Vec<Box<[u8]>> = sources.into_iter().map(|source| source.name.clone()).collect();
        Ok((!keys.is_empty()).then_some(Guard { keys, hashes, since, on_conflict: OnConflict::Append }))
    }
}

/// [Settles](View::settle) an item that makes no claims.
pub(crate) fn settle_nothing<V>(key: &[u8], item: &mut Item<V>) {
    debug_assert!(item.claims.is_empty(), "claims have to be asked about");
    item.origin = Sources::of(key, item.content.take()).finish();
}

/// A put whose source moved while it was on its way.
pub(crate) fn moved_meanwhile(sources: &[Dependency]) -> Error {
    let names: Vec<Box<[u8]>> = sources.iter().map(|source| source.name.clone()).collect();
    let message = format!(
        "something it was computed from moved while it was being stored ({}); it was not stored, and the key was invalidated",
        show(&names).replace(" <- ", ", ")
    );
    Error::new(ErrorKind::Outdated, message)
}
