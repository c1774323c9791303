//! Origins: what an entry was made from. The fingerprint of the content it stands for, and the sources it was computed from,
//! each in the version that was used, those of its sources included.
//!
//! ```text
//!   prediction:AAPL:1h   computed from  features:AAPL:5m (fingerprint 5e..)     via -
//!                        and through it bars:AAPL        (version 17)           via features:AAPL:5m
//! ```
//!
//! A source's name is one more name that the entry depends on, as are its tags: what invalidates a source invalidates all that
//! was computed from it. So "transitively" costs nothing when something changes; it is paid for when an entry is stored, by
//! taking the sources of its sources along.
//!
//! Values only: how a source's version is known is [`lineage`](crate::lineage)'s to say.

use std::fmt;

use bytes::{Buf, BufMut};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::key::{KEY_LEN_MAX, TAG_LEN_MAX, TAGS_MAX, Tags};

/// The most sources of an entry, those of its sources included. Each is at least one more line of the index to look at when
/// the entry is checked.
pub const SOURCES_MAX: usize = 32;

/// The version of a source: which state of it something was computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Version {
    /// A number that grows with every change.
    Number(u64),
    /// The fingerprint of its content. Of two it cannot be said which is older, only that they differ.
    Content(Fingerprint),
}

impl Version {
    /// Whether something computed from this version is out of date where the source is known to be at `known`.
    pub(crate) fn is_behind(self, known: Version) -> bool {
        match (self, known) {
            (Version::Number(used), Version::Number(known)) => used < known,
            (used, known) => used != known,
        }
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Version::Number(number)
    }
}

impl From<Fingerprint> for Version {
    fn from(fingerprint: Fingerprint) -> Self {
        Version::Content(fingerprint)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Number(number) => write!(f, "{number}"),
            Version::Content(fingerprint) => write!(f, "{fingerprint}"),
        }
    }
}

impl std::str::FromStr for Version {
    type Err = Error;

    /// A number, or the 32 hexadecimal digits of a fingerprint.
    fn from_str(text: &str) -> Result<Self> {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(Version::Number);
        let bad = || {
            let message = format!("a version is a number or the 32 hexadecimal digits of a fingerprint, not \"{}\"", text.escape_debug());
            Error::new(ErrorKind::InvalidDependency, message)
        };
        if text.len() == 32 { text.parse().map(Version::Content).map_err(|_| bad()) } else { number.ok_or_else(bad) }
    }
}

/// A source of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    pub(crate) name: Box<[u8]>,
    pub(crate) version: Version,
    /// Its tags, where it is an entry of this cache itself.
    pub(crate) tags: Tags,
    /// Which of the entry's sources was computed from it; `None`: the entry itself.
    pub(crate) via: Option<u8>,
}

impl Dependency {
    /// Its name: a whole key, where it is an entry of this cache.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The version that was used.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The place, among the entry's sources, of the one that was computed from it. `None`: the entry itself was.
    pub fn via(&self) -> Option<usize> {
        self.via.map(usize::from)
    }
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    pub(crate) content: Option<Fingerprint>,
    pub(crate) sources: Vec<Dependency>,
}

/// No tags, no version and no `via` are shorter than this.
const DEPENDENCY_LEN_MIN: usize = 2 + 1 + 8 + 1 + 1;

const NUMBER: u8 = 0;
const CONTENT: u8 = 1;
const NO_VIA: u8 = u8::MAX;

impl Origin {
    /// The fingerprint of the content that the entry stands for, if one was given or recorded.
    pub fn content(&self) -> Option<Fingerprint> {
        self.content
    }

    /// What it was computed from: its own sources first, each followed by theirs.
    pub fn sources(&self) -> &[Dependency] {
        &self.sources
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.content.is_none() && self.sources.is_empty()
    }

    /// Bytes it takes in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let sources = self.sources.iter();
        sources.map(|source| source.name.len() + 64 + source.tags.iter().map(|tag| tag.len() + 16).sum::<usize>()).sum()
    }

    pub(crate) fn encoded_len(&self) -> usize {
        let versions = |version: &Version| if matches!(version, Version::Number(_)) { 8 } else { 16 };
        let sources = self.sources.iter();
        let sources: usize = sources
            .map(|source| {
                2 + source.name.len() + 1 + versions(&source.version) + 2 + source.tags.iter().map(|tag| 1 + tag.len()).sum::<usize>()
            })
            .sum();
        1 + self.content.map_or(0, |_| 16) + 1 + sources
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        debug_assert!(self.sources.len() <= SOURCES_MAX);
        out.put_u8(u8::from(self.content.is_some()));
        if let Some(Fingerprint(content)) = self.content {
            out.put_u128_le(content);
        }
        out.put_u8(self.sources.len() as u8);
        for source in &self.sources {
            out.put_u16_le(source.name.len() as u16);
            out.put_slice(&source.name);
            match source.version {
                Version::Number(number) => {
                    out.put_u8(NUMBER);
                    out.put_u64_le(number);
                }
                Version::Content(Fingerprint(content)) => {
                    out.put_u8(CONTENT);
                    out.put_u128_le(content);
                }
            }
            out.put_u8(source.via.unwrap_or(NO_VIA));
            out.put_u8(source.tags.len() as u8);
            for tag in &source.tags {
                out.put_u8(tag.len() as u8);
                out.put_slice(tag);
            }
        }
    }

    /// `None` where lengths contradict each other.
    pub(crate) fn decode(bytes: &mut impl Buf) -> Option<Self> {
        let content = match bytes.try_get_u8().ok()? {
            0 => None,
            _ => Some(Fingerprint(bytes.try_get_u128_le().ok()?)),
        };
        let count = usize::from(bytes.try_get_u8().ok()?);
        if count > SOURCES_MAX || bytes.remaining() < count * DEPENDENCY_LEN_MIN {
            return None;
        }
        let sources = (0..count).map(|_| decode_source(bytes)).collect::<Option<_>>()?;
        Some(Origin { content, sources })
    }
}

/// The sources of an entry or record; none where nothing is known of its origin.
pub(crate) fn sources_of(origin: Option<&Origin>) -> &[Dependency] {
    origin.map_or(&[], |origin| &origin.sources)
}

/// The names from an entry to one of its sources, both included.
pub(crate) fn chain(key: &[u8], sources: &[Dependency], to: usize) -> Vec<Box<[u8]>> {
    let mut chain = Vec::new();
    let mut at = Some(to);
    // No longer than there are sources: one that says it is its own source ends there.
    while let Some(source) = at.and_then(|at| sources.get(at)).filter(|_| chain.len() < sources.len()) {
        chain.push(source.name.clone());
        at = source.via();
    }
    chain.push(key.into());
    chain.reverse();
    chain
}

fn decode_source(bytes: &mut impl Buf) -> Option<Dependency> {
    let name_len = usize::from(bytes.try_get_u16_le().ok()?);
    let name = take(bytes, name_len, KEY_LEN_MAX)?;
    let version = match bytes.try_get_u8().ok()? {
        NUMBER => Version::Number(bytes.try_get_u64_le().ok()?),
        CONTENT => Version::Content(Fingerprint(bytes.try_get_u128_le().ok()?)),
        _ => return None,
    };
    let via = Some(bytes.try_get_u8().ok()?).filter(|via| *via != NO_VIA);
    let tag_count = usize::from(bytes.try_get_u8().ok()?);
    if tag_count > TAGS_MAX {
        return None;
    }
    let mut tags = Vec::with_capacity(tag_count);
    for _ in 0..tag_count {
        let len = usize::from(bytes.try_get_u8().ok()?);
        tags.push(take(bytes, len, TAG_LEN_MAX)?);
    }
    Some(Dependency { name, version, tags: tags.into_boxed_slice(), via })
}

fn take(bytes: &mut impl Buf, len: usize, most: usize) -> Option<Box<[u8]>> {
    let fits = len > 0 && len <= most && len <= bytes.remaining();
    fits.then(|| {
        let mut taken = vec![0; len];
        bytes.copy_to_slice(&mut taken);
        taken.into_boxed_slice()
    })
}

/// What an item says it was computed from, before it is known what that was computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: Box<[u8]>,
    pub(crate) version: Version,
    /// Where the item's maker had it in hand.
    pub(crate) held: Option<Held>,
}

/// A cached value in the hand of who computes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) tags: Tags,
    pub(crate) sources: Vec<Dependency>,
    /// It was fresh up to here.
    pub(crate) stamp: crate::position::Stamp,
}

/// The sources of an item, as they are put together.
pub(crate) struct Sources<'a> {
    key: &'a [u8],
    origin: Origin,
}

impl<'a> Sources<'a> {
    pub(crate) fn of(key: &'a [u8], content: Option<Fingerprint>) -> Self {
        Sources { key, origin: Origin { content, sources: Vec::new() } }
    }

    /// Adds one, and what it was itself computed from.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDependency`] if the entry would depend on itself, or on too much.
    pub(crate) fn add(&mut self, name: Box<[u8]>, version: Version, tags: Tags, theirs: &[Dependency]) -> Result<()> {
        let Some(at) = self.push(Dependency { name, version, tags, via: None })? else { return Ok(()) };
        // Their places among these, since some may be here already.
        let mut places = Vec::with_capacity(theirs.len());
        for source in theirs {
            let via = source.via().and_then(|via| places.get(via).copied()).unwrap_or(at);
            let place = self.push(Dependency { via: Some(via), ..source.clone() })?;
            places.push(place.unwrap_or_else(|| self.place_of(&source.name).expect("it is there already")));
        }
        Ok(())
    }

    /// `None` if it is there already.
    fn push(&mut self, source: Dependency) -> Result<Option<u8>> {
        if self.place_of(&source.name).is_some() {
            return Ok(None);
        }
        let itself = *source.name == *self.key;
        self.origin.sources.push(source);
        let last = self.origin.sources.len() - 1;
        if itself {
            let shown = show(&chain(self.key, &self.origin.sources, last));
            return Err(Error::new(ErrorKind::InvalidDependency, format!("an entry cannot be computed from itself: {shown}")));
        }
        if self.origin.sources.len() > SOURCES_MAX {
            let message = format!("an entry has at most {SOURCES_MAX} sources, those of its sources included");
            return Err(Error::new(ErrorKind::InvalidDependency, message));
        }
        Ok(Some(last as u8))
    }

    fn place_of(&self, name: &[u8]) -> Option<u8> {
        self.origin.sources.iter().position(|source| *source.name == *name).map(|at| at as u8)
    }

    pub(crate) fn finish(self) -> Option<std::sync::Arc<Origin>> {
        (!self.origin.is_empty()).then(|| std::sync::Arc::new(self.origin))
    }
}

/// A chain of names, the entry first.
pub(crate) fn show(chain: &[Box<[u8]>]) -> String {
    let names: Vec<String> = chain.iter().map(|name| name.escape_ascii().to_string()).collect();
    names.join(" <- ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxed(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    fn any_dependency() -> impl Strategy<Value = Dependency> {
        let version = prop_oneof![any::<u64>().prop_map(Version::Number), any::<u128>().prop_map(|n| Version::Content(Fingerprint(n)))];
        let bytes = |most| proptest::collection::vec(any::<u8>(), 1..most).prop_map(Vec::into_boxed_slice);
        let tags = proptest::collection::vec(bytes(TAG_LEN_MAX), 0..4).prop_map(Vec::into_boxed_slice);
        (bytes(60), version, tags, proptest::option::of(0u8..32)).prop_map(|(name, version, tags, via)| Dependency {
            name,
            version,
            tags,
            via,
        })
    }

    pub(crate) fn any_origin() -> impl Strategy<Value = Origin> {
        let content = proptest::option::of(any::<u128>().prop_map(Fingerprint));
        (content, proptest::collection::vec(any_dependency(), 0..=SOURCES_MAX)).prop_map(|(content, sources)| Origin { content, sources })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(origin in any_origin()) {
            let mut bytes = Vec::new();
            origin.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), origin.encoded_len());
            prop_assert_eq!(Origin::decode(&mut bytes.as_slice()), Some(origin));
        }

        #[test]
        fn no_bytes_panic_and_no_chain_is_endless(bytes in proptest::collection::vec(any::<u8>(), 0..200), origin in any_origin()) {
            if let Some(read) = Origin::decode(&mut bytes.as_slice()) {
                prop_assert!(read.sources.len() <= SOURCES_MAX);
            }
            for at in 0..origin.sources.len() {
                prop_assert!(chain(b"k", &origin.sources, at).len() <= origin.sources.len() + 1);
            }
        }
    }

    #[test]
    fn sources_of_sources_come_along_with_the_way_to_them() {
        let mut features = Sources::of(b"features", None);
        features.add(boxed("bars"), 17.into(), Tags::default(), &[]).unwrap();
        features.add(boxed("calendar"), 3.into(), Tags::default(), &[]).unwrap();
        let features = features.finish().unwrap();
        let mut prediction = Sources::of(b"prediction", None);
        prediction.add(boxed("model"), 2.into(), Tags::default(), &[]).unwrap();
        prediction.add(boxed("calendar"), 3.into(), Tags::default(), &[]).unwrap();
        prediction.add(boxed("features"), 1.into(), Tags::default(), &features.sources).unwrap();
        let prediction = prediction.finish().unwrap();
        let chains: Vec<String> = (0..prediction.sources.len()).map(|at| show(&chain(b"prediction", &prediction.sources, at))).collect();
        assert_eq!(chains, ["prediction <- model", "prediction <- calendar", "prediction <- features", "prediction <- features <- bars"]);
    }

    #[test]
    fn nothing_is_computed_from_itself() {
        let mut alone = Sources::of(b"a", None);
        assert_eq!(alone.add(boxed("a"), 1.into(), Tags::default(), &[]).unwrap_err().kind(), ErrorKind::InvalidDependency);
        let mut b = Sources::of(b"b", None);
        b.add(boxed("a"), 1.into(), Tags::default(), &[]).unwrap();
        let error = Sources::of(b"a", None).add(boxed("b"), 1.into(), Tags::default(), &b.finish().unwrap().sources).unwrap_err();
        assert!(error.to_string().contains("a <- b <- a"), "{error}");
    }

    #[test]
    fn there_is_an_end_to_sources() {
        let mut sources = Sources::of(b"k", None);
        for n in 0..SOURCES_MAX {
            sources.add(boxed(&n.to_string()), 1.into(), Tags::default(), &[]).unwrap();
        }
        assert!(sources.add(boxed("more"), 1.into(), Tags::default(), &[]).unwrap_err().to_string().contains("at most 32"));
    }

    #[test]
    fn versions_are_numbers_or_fingerprints() {
        assert!(Version::Number(1).is_behind(Version::Number(2)));
        assert!(!Version::Number(2).is_behind(Version::Number(1)), "who computes may know a change before the cache does");
        assert!(Version::Content(Fingerprint(2)).is_behind(Version::Content(Fingerprint(1))));
        assert!(Version::Number(2).is_behind(Version::Content(Fingerprint(2))));
        for version in [Version::Number(u64::MAX), Version::Content(Fingerprint(7))] {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
        for text in ["", "-1", "v17", "18446744073709551616", "0x1"] {
            assert_eq!(text.parse::<Version>().unwrap_err().kind(), ErrorKind::InvalidDependency, "{text}");
        }
    }
}
