//! What a sweep gave back: by namespace, by tier, and by the reason why it could go.

use serde::{Deserialize, Serialize};

/// Entries or records, and what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GivenBack {
    /// How many.
    pub entries: u64,
    /// Bytes of keys and values; in memory with their bookkeeping.
    pub bytes: u64,
}

impl GivenBack {
    pub(crate) fn take(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn add(&mut self, other: GivenBack) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

/// Why an entry or record could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time was over.
    Expired,
    /// It had been invalidated.
    Invalidated,
    /// It is of another epoch of the log, and stale to everybody.
    Orphaned,
    /// It could not be read.
    Unreadable,
}

/// What one tier gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweptTier {
    /// Because their time was over.
    pub expired: GivenBack,
    /// Because they had been invalidated.
    pub invalidated: GivenBack,
    /// Because they were of an epoch of the log that is over, so that nobody would ever have read them. Never in memory.
    pub orphaned: GivenBack,
    /// Because they could not be read: they were damaged, or of a version that is unknown here. Never in memory.
    pub unreadable: GivenBack,
}

impl SweptTier {
    pub(crate) fn take(&mut self, cause: Cause, bytes: u64) {
        let of_cause = match cause {
            Cause::Expired => &mut self.expired,
            Cause::Invalidated => &mut self.invalidated,
            Cause::Orphaned => &mut self.orphaned,
            Cause::Unreadable => &mut self.unreadable,
        };
        of_cause.take(bytes);
    }

    /// All of it.
    pub fn total(&self) -> GivenBack {
        let mut total = self.expired;
        [self.invalidated, self.orphaned, self.unreadable].into_iter().for_each(|part| total.add(part));
        total
    }
}

/// What a namespace gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweptNamespace {
    /// Its name; `other` for all that nobody configured or opened.
    pub name: String,
    /// In memory.
    pub memory: SweptTier,
    /// In the backing tier.
    pub backing: SweptTier,
}

/// What a sweep gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Swept {
    /// Entries in memory that were looked at.
    pub examined: u64,
    /// Entries that left memory because their time was over.
    pub expired: u64,
    /// Entries that left memory because they had been invalidated.
    pub invalidated: u64,
    /// Bytes that left memory with them.
    pub memory_removed_bytes: u64,
    /// Records of the backing tier that were looked at.
    pub backing_examined: u64,
    /// Records that left the backing tier.
    pub backing_removed: u64,
    /// Bytes of keys and records that left the backing tier.
    pub backing_removed_bytes: u64,
    /// Bytes of the disk that a compaction gave back.
    pub compacted_bytes: u64,
    /// The same by namespace, in the order of their names; those that gave something back.
    pub namespaces: Vec<SweptNamespace>,
}

impl Swept {
    /// The namespace of this name. There are few, and only those that gave something back.
    fn namespace(&mut self, name: &str) -> &mut SweptNamespace {
        let at = self.namespaces.binary_search_by(|one| one.name.as_str().cmp(name)).unwrap_or_else(|at| {
            self.namespaces.insert(at, SweptNamespace { name: name.to_owned(), ..SweptNamespace::default() });
            at
        });
        &mut self.namespaces[at]
    }

    pub(crate) fn left_memory(&mut self, name: &str, cause: Cause, bytes: u64) {
        match cause {
            Cause::Expired => self.expired += 1,
            _ => self.invalidated += 1,
        }
        self.memory_removed_bytes += bytes;
        self.namespace(name).memory.take(cause, bytes);
    }

    /// One of those whose number a page of the tier told.
    pub(crate) fn left_backing(&mut self, name: &str, cause: Cause, bytes: u64) {
        self.namespace(name).backing.take(cause, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_told_by_namespace_tier_and_cause() {
        let mut swept = Swept::default();
        swept.left_memory("b", Cause::Expired, 10);
        swept.left_memory("a", Cause::Invalidated, 20);
        swept.left_memory("b", Cause::Expired, 5);
        swept.left_backing("b", Cause::Orphaned, 7);
        swept.left_backing("b", Cause::Unreadable, 1);
        assert_eq!((swept.expired, swept.invalidated, swept.memory_removed_bytes), (2, 1, 35));
        assert_eq!(swept.namespaces.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let b = &swept.namespaces[1];
        assert_eq!((b.memory.expired, b.memory.total()), (GivenBack { entries: 2, bytes: 15 }, GivenBack { entries: 2, bytes: 15 }));
        assert_eq!((b.backing.orphaned.bytes, b.backing.total().entries), (7, 2));
    }
}
