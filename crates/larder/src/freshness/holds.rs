//! Holds: an invalidation that can be taken back, for what a restore has written and readers are not to see yet.
//!
//! While namespaces are held, whatever in them is stamped below the hold's position is judged stale, as if they had been invalidated
//! there. Letting go is one store, so all of it comes into sight at once. What decides for good, such as the sweeper, or the restore
//! itself, asks [`judge_for_good`](super::Index::judge_for_good) and does not see holds.
//!
//! A hold has its position appended before anything is written under it: every stamp under it is then below `latest`, and no hit is
//! answered without being judged. It is in force before the first entry is written, and an entry is found only after it was written, so
//! no reader finds one and misses the hold.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{Index, Stale, StaleBy};
use crate::key::namespace_of;
use crate::position::Stamp;
use crate::sync::{AtomicBool, Ordering};

/// Which namespaces are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// What is stamped below it is held.
    pub(crate) below: Stamp,
    /// `None`: all keys.
    pub(crate) namespaces: Option<Vec<Box<[u8]>>>,
}

impl Hold {
    pub(crate) fn has(&self, key: &[u8], stamp: Stamp) -> bool {
        let namespace = namespace_of(key);
        stamp < self.below && self.namespaces.as_ref().is_none_or(|held| held.iter().any(|one| **one == *namespace))
    }
}

/// The hold in force, if there is one.
#[derive(Default)]
pub(super) struct Holds {
    /// What every check reads, so that no other costs more than that.
    is_any: AtomicBool,
    hold: ArcSwapOption<Hold>,
}

impl Index {
    /// Holds namespaces, or lets go.
    pub(crate) fn hold(&self, hold: Option<Hold>) {
        let is_any = hold.is_some();
        self.holds.hold.store(hold.map(Arc::new));
        self.holds.is_any.store(is_any, Ordering::Release);
    }

    /// The hold in force.
    pub(crate) fn held(&self) -> Option<Hold> {
        self.holds.hold.load().as_deref().cloned()
    }

    /// Whether an entry is out of sight for now. It may be stale besides.
    pub(crate) fn is_held(&self, key: &[u8], stamp: Stamp) -> bool {
        self.holds.is_any.load(Ordering::Acquire) && self.holds.hold.load().as_ref().is_some_and(|hold| hold.has(key, stamp))
    }

    pub(super) fn stale_by_hold(&self, key: &[u8], stamp: Stamp) -> Option<Stale> {
        self.is_held(key, stamp).then(|| Stale { by: StaleBy::Namespace, at: self.latest().seq() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::Named;
    use crate::mutation::Mutations;
    use crate::position::Epoch;

    #[test]
    fn what_is_held_is_stale_to_readers_and_not_for_good_until_it_is_let_go() {
        let index = Index::new(1 << 16, Epoch(7), Mutations::default());
        index.publish(9);
        let stamp = |seq| Stamp::new(index.latest().generation(), seq);
        let fresh = |key: &[u8], seq| index.judge(Named::of(key, &index.hashes(key, &[])), stamp(seq)).is_none();
        index.hold(Some(Hold { below: stamp(9), namespaces: Some(vec![b"a".as_slice().into()]) }));
        assert!(!fresh(b"a:1", 8) && fresh(b"a:1", 9) && fresh(b"b:1", 8) && fresh(b"ab:1", 8));
        assert!(index.judge_for_good(Named::of(b"a:1", &index.hashes(b"a:1", &[])), stamp(8)).is_none());
        index.hold(Some(Hold { below: stamp(9), namespaces: None }));
        assert!(!fresh(b"a:1", 8) && !fresh(b"b:1", 8));
        index.hold(None);
        assert!(fresh(b"a:1", 8) && index.held().is_none());
    }
}
