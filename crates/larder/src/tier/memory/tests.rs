//! The pool by itself: who outranks whom, what is too large, which entry is removed, and gauges that are what is there.

use std::sync::Arc;

use super::*;
use crate::entry::{Entry, Meta, NewMeta};
use crate::position::Stamp;

/// An entry stamped with this position, whose value is that number.
pub(super) fn entry(seq: u64, encoded_len: u32, metrics: &Arc<NamespaceMetrics>) -> Arc<dyn Slot> {
    let new = NewMeta::plain(Stamp::new(1, seq), encoded_len, metrics.clone(), 0);
    Arc::new(Entry { meta: Meta::new(new, 1, 0), value: seq })
}

pub(super) fn number_of(slot: &Arc<dyn Slot>) -> u64 {
    slot.clone().into_any().downcast::<Entry<u64>>().expect("these tests store numbers").value
}

/// The tests of one thread, which need no scheduler: its primitives do not work without one.
#[cfg(not(feature = "shuttle"))]
mod of_one_thread {
    use super::*;
    use crate::entry::typed;

    fn new() -> (Pool, Arc<NamespaceMetrics>) {
        (Pool::new(1 << 20, Clock::manual(), Arc::default()), Arc::new(NamespaceMetrics::new(true)))
    }

    fn check_gauges(pool: &Pool, metrics: &NamespaceMetrics) {
        let there: u64 = pool.iter().map(|(_, slot)| u64::from(slot.meta().weight)).sum();
        let gauges = (metrics.entries.load(Ordering::Relaxed), metrics.bytes.load(Ordering::Relaxed));
        assert_eq!(gauges, (pool.len() as u64, pool.weight()));
        assert_eq!(there, pool.weight());
    }

    #[test]
    fn an_older_entry_never_takes_the_place_of_a_newer_one() {
        let (pool, metrics) = new();
        let query = pool.query(b"k");
        assert_eq!(pool.insert(query, entry(5, 10, &metrics)), Inserted::Yes);
        assert_eq!(pool.insert(query, entry(4, 10, &metrics)), Inserted::Outranked);
        assert_eq!(number_of(&pool.peek(query).unwrap()), 5);
        assert_eq!(pool.insert(query, entry(5, 20, &metrics)), Inserted::Yes, "of equals the one that comes last stays");
        assert_eq!(pool.insert(query, entry(6, 10, &metrics)), Inserted::Yes);
        assert_eq!(number_of(&pool.get(query).unwrap()), 6);
        assert_eq!(metrics.counts().replaced, 2);
        check_gauges(&pool, &metrics);
    }

    #[test]
    fn what_is_too_large_takes_the_old_entry_along() {
        let (pool, metrics) = new();
        let query = pool.query(b"k");
        pool.insert(query, entry(1, 10, &metrics));
        assert_eq!(pool.insert(query, entry(2, 2 << 20, &metrics)), Inserted::TooLarge);
        assert!(pool.get(query).is_none());
        assert_eq!((metrics.counts().too_large, metrics.counts().replaced), (1, 1));
        check_gauges(&pool, &metrics);
    }

    #[test]
    fn only_the_very_entry_is_removed() {
        let (pool, metrics) = new();
        let query = pool.query(b"k");
        let first = entry(1, 10, &metrics);
        pool.insert(query, first.clone());
        pool.insert(query, entry(2, 10, &metrics));
        assert!(!pool.remove_entry(query, first.as_ref(), Count::Expired));
        let second = pool.peek(query).unwrap();
        assert!(pool.remove_entry(query, second.as_ref(), Count::Expired));
        assert!(!pool.remove(query, Count::Expired));
        assert_eq!(metrics.counts().expired, 1);
        check_gauges(&pool, &metrics);
    }

    #[test]
    fn a_typed_look_up_finds_its_type_alone() {
        let (pool, metrics) = new();
        pool.insert(pool.query(b"k"), entry(1, 10, &metrics));
        assert!(pool.get_for::<u64>(&pool.query(b"k")).and_then(typed::<u64>).is_some());
        assert!(pool.get_for::<u32>(&pool.query(b"k")).and_then(typed::<u32>).is_none());
        assert!(pool.get_for::<u64>(&pool.query(b"other")).and_then(typed::<u64>).is_none());
    }

    #[test]
    fn gauges_are_what_is_there_through_random_changes_and_sizes() {
        let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("gauges_are_what_is_there_through_random_changes_and_sizes: LARDER_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (pool, metrics) = new();
        for _ in 0..20_000 {
            let key = rng.u8(..).to_string();
            let query = pool.query(key.as_bytes());
            match rng.u8(..40) {
                0 => pool.resize(rng.u64(64 << 10..4 << 20)),
                1..=8 => drop(pool.remove(query, Count::Invalidated)),
                9..=16 => drop(pool.get(query)),
                _ => drop(pool.insert(query, entry(rng.u64(..1_000), rng.u32(..60_000), &metrics))),
            }
            assert!(pool.weight() <= pool.capacity(), "{} of {}", pool.weight(), pool.capacity());
        }
        check_gauges(&pool, &metrics);
        assert!(metrics.counts().evicted > 0);
    }

    #[test]
    fn a_query_finds_its_key_and_none_that_differs_in_a_byte() {
        // Lengths around those at which the comparison goes another way.
        let lengths = [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 25, 40];
        let pool = new().0;
        for (namespace_len, rest_len) in lengths.iter().flat_map(|n| lengths.iter().map(move |r| (*n, *r))) {
            let (namespace, rest) = ([b"n".repeat(namespace_len), b":".to_vec()].concat(), b"r".repeat(rest_len));
            let query = Query::new(&namespace, pool.namespace_hash(&namespace), &rest);
            let whole = query.to_key();
            assert!(query.equivalent(&whole));
            assert_eq!(query.hash, pool.query(whole.bytes()).hash, "whole keys are hashed in the same two parts");
            for at in 0..whole.bytes().len() {
                let mut other = whole.clone();
                other.0[at] ^= 1;
                assert!(!query.equivalent(&other), "byte {at} of {namespace_len} and {rest_len}");
            }
            for len in 0..whole.bytes().len() {
                assert!(!query.equivalent(&PoolKey(SmallVec::from_slice(&whole.bytes()[..len]))));
            }
        }
    }
}
