//! Names: what an invalidation points at, and what an entry depends on.

use crate::access::{Operation, Principal, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{check_key, check_namespace, check_tag};
use crate::pattern::Pattern;

/// The most names one invalidation may carry. A receipt is one position for all of them, and they reach the index under
/// one lock; beyond this, callers are better served by a pattern.
pub const NAMES_MAX: usize = 65_536;

/// One thing to invalidate, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Key(Box<[u8]>),
    Tag(Box<[u8]>),
    Pattern(Pattern),
    Everything,
}

/// A list of things to invalidate together, at one position of the log.
///
/// Nothing is checked while the list is built; [`Larder::invalidate`](crate::Larder::invalidate) checks it as a whole
/// and does nothing if anything in it is wrong.
///
/// ```
/// use larder::Names;
/// let names = Names::new().tag("symbol:AAPL").pattern("prediction:AAPL:**").key("model:gbm:v17");
/// assert_eq!(names.len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<Unchecked>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Unchecked {
    Key(Box<[u8]>),
    Tag(Box<[u8]>),
    Pattern(Box<[u8]>),
    Namespace(Box<str>),
    Everything,
}

impl Names {
    /// No names yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole key, namespace included.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.and(Unchecked::Key(key.as_ref().into()))
    }

    /// A tag: every entry that carries it.
    #[must_use]
    pub fn tag(self, tag: impl AsRef<[u8]>) -> Self {
        self.and(Unchecked::Tag(tag.as_ref().into()))
    }

    /// A [`Pattern`] over whole keys.
    #[must_use]
    pub fn pattern(self, pattern: impl AsRef<[u8]>) -> Self {
        self.and(Unchecked::Pattern(pattern.as_ref().into()))
    }

    /// A namespace: every key whose first segment it is.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.and(Unchecked::Namespace(namespace.into().into()))
    }

    /// Everything the cache holds.
    #[must_use]
    pub fn everything(self) -> Self {
        self.and(Unchecked::Everything)
    }

    fn and(mut self, name: Unchecked) -> Self {
        self.0.push(name);
        self
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what somebody may not invalidate: each name, with all that it may touch.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; and that of the first name that is none.
    pub fn permitted_to(&self, who: &Principal) -> Result<()> {
        if who.rights().allows_everywhere(Operation::Invalidate) {
            return Ok(());
        }
        let permitted = |target: Target<'_>| who.check(Operation::Invalidate, target);
        self.0.iter().try_for_each(|name| match check(name.clone())? {
            Name::Key(key) => permitted(Target::Key(&key)),
            Name::Tag(tag) => permitted(Target::Tag(&tag)),
            Name::Pattern(pattern) => permitted(Target::Pattern(&pattern)),
            Name::Everything => permitted(Target::Everything),
        })
    }

    pub(crate) fn check(self) -> Result<Vec<Name>> {
        if self.0.len() > NAMES_MAX {
            let message = format!("one invalidation has at most {NAMES_MAX} names, this one has {}", self.0.len());
            return Err(Error::new(ErrorKind::InvalidPattern, message));
        }
        self.0.into_iter().map(check).collect()
    }
}

fn check(name: Unchecked) -> Result<Name> {
    Ok(match name {
        Unchecked::Key(key) => check_key(&key).map(|()| Name::Key(key))?,
        Unchecked::Tag(tag) => check_tag(&tag).map(|()| Name::Tag(tag))?,
        Unchecked::Pattern(text) => Name::from(Pattern::new(text)?),
        Unchecked::Namespace(name) => check_namespace(&name).map(|()| Name::Pattern(Pattern::namespace(&name)))?,
        Unchecked::Everything => Name::Everything,
    })
}

impl From<Pattern> for Name {
    fn from(pattern: Pattern) -> Self {
        if pattern.is_everything() { Name::Everything } else { Name::Pattern(pattern) }
    }
}

/// How a name is written into the log: a kind, a length, the bytes.
impl Name {
    const KEY: u8 = 1;
    const TAG: u8 = 2;
    const PATTERN: u8 = 3;
    const EVERYTHING: u8 = 4;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, bytes): (u8, &[u8]) = match self {
            Name::Key(key) => (Self::KEY, key),
            Name::Tag(tag) => (Self::TAG, tag),
            Name::Pattern(pattern) => (Self::PATTERN, pattern.text()),
            Name::Everything => (Self::EVERYTHING, &[]),
        };
        out.push(kind);
        out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        out.extend_from_slice(bytes);
    }

    /// Reads one name from the front of `bytes`. `None` if they are not one.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (&[kind, low, high], rest) = bytes.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        *bytes = rest;
        match kind {
            Self::KEY => Some(Name::Key(body.into())),
            Self::TAG => Some(Name::Tag(body.into())),
            Self::PATTERN => Pattern::new(body).ok().map(Name::Pattern),
            Self::EVERYTHING => Some(Name::Everything),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_one_bad_name_is_refused_whole() {
        let bad = [Names::new().key(""), Names::new().tag(""), Names::new().pattern("a:**:b"), Names::new().namespace("a:b")];
        let kinds = bad
            .map(|names| Names(vec![Unchecked::Everything]).0.into_iter().chain(names.0).collect::<Vec<_>>())
            .map(|all| Names(all).check().unwrap_err().kind());
        assert_eq!(kinds, [ErrorKind::InvalidKey, ErrorKind::InvalidTag, ErrorKind::InvalidPattern, ErrorKind::InvalidConfig]);
    }

    #[test]
    fn two_stars_alone_are_everything() {
        assert_eq!(Names::new().pattern("**").check().unwrap(), [Name::Everything]);
    }

    #[test]
    fn names_survive_the_log() {
        let names = Names::new().key("a:b").tag(b"\xff").pattern("a:*:c").namespace("n").everything().check().unwrap();
        let mut bytes = Vec::new();
        names.iter().for_each(|name| name.encode(&mut bytes));
        let mut rest = bytes.as_slice();
        let read: Vec<_> = std::iter::from_fn(|| Name::decode(&mut rest)).collect();
        assert_eq!(read, names);
        assert!(rest.is_empty());
        assert_eq!(Name::decode(&mut [9, 0, 0].as_slice()), None);
        assert_eq!(Name::decode(&mut [1, 5, 0, b'a'].as_slice()), None);
    }
}
