//! What was invalidated, counted by kind of name and by where it came from.
//!
//! A put invalidates its key, too, and is counted as a put. What other instances changed is known only by its names, so theirs are
//! among the keys that came from a [peer](InvalidationOrigin::Peer).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::name::Name;

macro_rules! named {
    ($(#[doc = $about:literal])+ $type:ident { $($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $type { $($(#[doc = $doc])+ $variant,)+ }

        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($type::$variant),+].len()] = [$($type::$variant),+];

            /// The name, as metrics have it.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }
        }
    };
}

named! {
    /// What kind of name was invalidated.
    InvalidationKind {
        /// A key.
        Key => "key",
        /// A tag.
        Tag => "tag",
        /// A pattern without wildcards inside segments.
        Pattern => "pattern",
        /// A pattern with them.
        Glob => "glob",
        /// A namespace as a whole.
        Namespace => "namespace",
        /// Everything.
        Everything => "everything",
        /// A source that moved to another version.
        Source => "source",
    }
}

named! {
    /// Where an invalidation came from.
    InvalidationOrigin {
        /// A call of [`invalidate`](crate::Larder::invalidate), [`remove`](crate::Namespace::remove) or the like.
        Call => "call",
        /// A rule for an [event](crate::Larder::emit).
        Event => "event",
        /// Content that was [found changed](crate::ContentOf::validate).
        Content => "content",
        /// A source that [moved](crate::Larder::moved).
        Moved => "moved",
        /// A message in the inbox of a log that is shared.
        Inbox => "inbox",
        /// Another instance that shares the log; what it put is among the keys.
        Peer => "peer",
    }
}

const KINDS: usize = InvalidationKind::ALL.len();
const ORIGINS: usize = InvalidationOrigin::ALL.len();

/// How many names were invalidated since the start, by kind and by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalidations([[u64; ORIGINS]; KINDS]);

impl Invalidations {
    /// Those of a kind that came from an origin.
    pub fn get(&self, kind: InvalidationKind, origin: InvalidationOrigin) -> u64 {
        self.0[kind as usize][origin as usize]
    }

    /// All kinds and origins, those included of which there were none.
    pub fn iter(&self) -> impl Iterator<Item = (InvalidationKind, InvalidationOrigin, u64)> {
        let all = InvalidationKind::ALL.into_iter().flat_map(|kind| InvalidationOrigin::ALL.map(|origin| (kind, origin)));
        all.map(|(kind, origin)| (kind, origin, self.get(kind, origin)))
    }

    /// Those since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Invalidations) -> Invalidations {
        let mut since = *self;
        for (own, earlier) in since.0.iter_mut().flatten().zip(earlier.0.iter().flatten()) {
            *own = own.saturating_sub(*earlier);
        }
        since
    }
}

/// The counters, as they are counted.
#[derive(Debug, Default)]
pub(crate) struct InvalidationCounters {
    counts: [[AtomicU64; ORIGINS]; KINDS],
}

impl InvalidationCounters {
    /// For names that are not there any more.
    pub(crate) fn add(&self, kinds: &Kinds, origin: InvalidationOrigin) {
        for (counts, n) in self.counts.iter().zip(kinds).filter(|(_, n)| **n > 0) {
            counts[origin as usize].fetch_add(*n, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_one(&self, kind: InvalidationKind, origin: InvalidationOrigin) {
        self.counts[kind as usize][origin as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Invalidations {
        Invalidations(std::array::from_fn(|kind| std::array::from_fn(|origin| self.counts[kind][origin].load(Ordering::Relaxed))))
    }
}

/// How many names there are of each kind.
pub(crate) type Kinds = [u64; KINDS];

pub(crate) fn kinds_of(names: &[Name]) -> Kinds {
    let mut kinds = Kinds::default();
    names.iter().for_each(|name| kinds[kind_of(name) as usize] += 1);
    kinds
}

fn kind_of(name: &Name) -> InvalidationKind {
    match name {
        Name::Key(_) => InvalidationKind::Key,
        Name::Tag(_) => InvalidationKind::Tag,
        Name::Everything => InvalidationKind::Everything,
        Name::Pattern(pattern) if pattern.is_namespace() => InvalidationKind::Namespace,
        Name::Pattern(pattern) if pattern.has_globs() => InvalidationKind::Glob,
        Name::Pattern(_) => InvalidationKind::Pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Names;

    #[test]
    fn each_kind_of_name_is_counted_as_what_it_is() {
        let counters = InvalidationCounters::default();
        let names = Names::new().key("a:b").tag("t").tag("u").pattern("a:*").pattern("a:b?").pattern("n:**").namespace("m").everything();
        counters.add(&kinds_of(&names.check().unwrap()), InvalidationOrigin::Call);
        counters.count_one(InvalidationKind::Source, InvalidationOrigin::Moved);
        let found: Vec<(&str, &str, u64)> =
            counters.read().iter().filter(|(.., n)| *n > 0).map(|(kind, origin, n)| (kind.name(), origin.name(), n)).collect();
        let call = [("key", 1), ("tag", 2), ("pattern", 1), ("glob", 1), ("namespace", 2), ("everything", 1)];
        let expected: Vec<_> = call.into_iter().map(|(kind, n)| (kind, "call", n)).chain([("source", "moved", 1)]).collect();
        assert_eq!(found, expected);
        let before = counters.read();
        counters.count_one(InvalidationKind::Key, InvalidationOrigin::Event);
        let since = counters.read().since(&before);
        assert_eq!(since.get(InvalidationKind::Key, InvalidationOrigin::Event), 1);
        assert_eq!(since.iter().map(|(.., n)| n).sum::<u64>(), 1);
    }
}
