//! The ledger against a plain map, audited after each step.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::position::{Epoch, Position};
use crate::tier::disk::store::{Sizes, Store};

const SIZES: Sizes = Sizes { block_cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };

fn open(path: &std::path::Path) -> Ledger {
    Ledger::open(Arc::new(Store::open(&path.join("store"), SIZES).unwrap())).unwrap()
}

fn record(seq: u64, expires_at: u64, len: usize) -> Arc<Record> {
    Arc::new(Record {
        epoch: Epoch(1),
        seq,
        created_at: 0,
        fresh_until: expires_at,
        expires_at,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        load_cost_us: 0,
        fingerprint: 0,
        codec: 0,
        compression: 0,
        negative: false,
        raw_len: len as u32,
        held: Default::default(),
        tags: Box::new([]),
        media: None,
        origin: None,
        payload: vec![seq as u8; len].into(),
    })
}

impl Store {
    /// Has everything written to tables.
    fn settle(&self) {
        self.rotate().unwrap();
        while self.unflushed() > 0 {
            self.check().unwrap();
            std::thread::yield_now();
        }
    }
}

fn store(ledger: &mut Ledger, key: &[u8], record: &Arc<Record>, now: u64) -> Tally {
    let queued = Queued { action: Action::Store(record.clone()), afresh: false };
    ledger.apply([(key, &queued)].into_iter(), now).unwrap()
}

fn remove(ledger: &mut Ledger, key: &[u8]) -> Tally {
    ledger.apply([(key, &Queued { action: Action::Remove, afresh: false })].into_iter(), 0).unwrap()
}

fn remove_up_to(ledger: &mut Ledger, key: &[u8], seq: u64) -> Tally {
    let action = Action::RemoveUpTo(Position { epoch: Epoch(1), seq });
    ledger.apply([(key, &Queued { action, afresh: false })].into_iter(), 0).unwrap()
}

fn seq_of(ledger: &Ledger, key: &[u8]) -> Option<u64> {
    ledger.store.get(key).unwrap().map(|stored| Record::decode(stored.record).unwrap().seq)
}

/// Recomputes every counter and checks that the three kinds of pairs agree.
fn audit(ledger: &Ledger) {
    let mut counters = Counters { next_ticket: ledger.counters.next_ticket, ..Counters::default() };
    let (mut tickets, mut expiries) = (HashMap::new(), BTreeMap::new());
    let (start, end) = layout::record_range(b"", None);
    for pair in ledger.store.range(start, end) {
        let (key, value) = pair.unwrap();
        let (key, stored) = (layout::user_key(&key).to_vec(), Stored::decode(Bytes::copy_from_slice(&value)));
        counters.add(&key, stored.size(&key), stored.expires_at);
        assert!(stored.ticket < counters.next_ticket);
        if stored.expires_at != NEVER {
            expiries.insert((stored.expires_at, key.clone()), stored.ticket);
        }
        tickets.insert(key, stored.ticket);
    }
    assert_eq!(counters, ledger.counters, "counters");
    assert_eq!(ledger.store.get_raw(&COUNTERS_KEY).unwrap().and_then(|value| Counters::decode(&value)), Some(counters), "on disk");

    let mut indexed = BTreeMap::new();
    for pair in ledger.store.range(layout::expiry_key(0, b""), layout::expiry_end(u64::MAX - 1)) {
        let (index_key, ticket) = pair.unwrap();
        let (moment, key) = layout::expiry_of(&index_key).unwrap();
        assert!(moment > ledger.expired_until, "{moment} was done");
        indexed.insert((moment, key.to_vec()), u64::from_le_bytes(ticket[..].try_into().unwrap()));
    }
    assert_eq!(indexed, expiries, "expiry index");

    let mut queued = HashMap::new();
    for pair in ledger.store.range(layout::order_key(0), layout::order_end()) {
        let (place, value) = pair.unwrap();
        let (place, order) = (layout::place_of(&place).unwrap(), Order::decode(Bytes::copy_from_slice(&value)).unwrap());
        assert!(place >= ledger.oldest_place && place < counters.next_ticket, "place {place}");
        if tickets.get(&order.key[..]) == Some(&order.ticket) {
            assert!(queued.insert(order.key.to_vec(), order.ticket).is_none(), "one place a record");
        } else {
            assert_ne!(place, order.ticket, "only reprieves leave orphans");
        }
    }
    assert_eq!(queued, tickets, "queue");
}

#[test]
fn the_oldest_go_first_and_what_was_read_has_a_second_chance() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, recent) = (open(dir.path()), Recent::new(0));
    let size = 1 + record(0, NEVER, 100).encoded_len() as u64;
    for (seq, key) in [b"a", b"b", b"c", b"d"].into_iter().enumerate() {
        store(&mut ledger, key, &record(seq as u64, NEVER, 100), 0);
    }
    recent.mark(b"a");
    assert_eq!(ledger.evict(3 * size, &recent).unwrap().evicted, 1);
    assert_eq!([b"a", b"b", b"c", b"d"].map(|key| seq_of(&ledger, key)), [Some(0), None, Some(2), Some(3)]);
    audit(&ledger);
    // One chance, not two; and `c` and `d` are older than the place that `a` has now.
    assert_eq!(ledger.evict(size, &recent).unwrap().evicted, 2);
    assert_eq!(seq_of(&ledger, b"a"), Some(0));
    audit(&ledger);
    // Overwritten after its reprieve, it leaves an orphan that evicts nothing.
    store(&mut ledger, b"a", &record(9, NEVER, 100), 0);
    store(&mut ledger, b"e", &record(10, NEVER, 100), 0);
    audit(&ledger);
    assert_eq!(ledger.evict(size, &recent).unwrap().evicted, 1);
    assert_eq!((seq_of(&ledger, b"a"), seq_of(&ledger, b"e")), (None, Some(10)));
    audit(&ledger);
}

#[test]
fn eviction_ends_even_if_everything_was_just_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, recent) = (open(dir.path()), Recent::new(0));
    for key in 0..3_000u32 {
        store(&mut ledger, &key.to_le_bytes(), &record(1, NEVER, 10), 0);
        recent.mark(&key.to_le_bytes());
    }
    assert_eq!(ledger.evict(0, &recent).unwrap().evicted, 3_000);
    assert_eq!(ledger.counters().bytes, 0);
    audit(&ledger);
}

#[test]
fn a_record_that_reflects_more_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    store(&mut ledger, b"k", &record(5, NEVER, 1), 0);
    assert_eq!(store(&mut ledger, b"k", &record(4, NEVER, 1), 0).outranked, 1);
    assert_eq!(seq_of(&ledger, b"k"), Some(5));
    assert_eq!(store(&mut ledger, b"k", &record(5, NEVER, 2), 0).outranked, 0);
    // After a removal there is nothing to be compared with.
    let afresh = Queued { action: Action::Store(record(3, NEVER, 1)), afresh: true };
    assert_eq!(ledger.apply([(&b"k"[..], &afresh)].into_iter(), 0).unwrap().outranked, 0);
    assert_eq!(seq_of(&ledger, b"k"), Some(3));
    // Of another epoch: the one being written is of the epoch in force.
    let other = Arc::new(Record { epoch: Epoch(2), ..(*record(1, NEVER, 1)).clone() });
    store(&mut ledger, b"k", &other, 0);
    assert_eq!(seq_of(&ledger, b"k"), Some(1));
    // A removal was decided at a position, too.
    store(&mut ledger, b"r", &record(5, NEVER, 1), 0);
    assert_eq!(remove_up_to(&mut ledger, b"r", 4).outranked, 1);
    assert_eq!(seq_of(&ledger, b"r"), Some(5));
    remove_up_to(&mut ledger, b"r", 5);
    assert_eq!(seq_of(&ledger, b"r"), None);
    // One whose time is over protects nothing.
    store(&mut ledger, b"x", &record(5, 10, 1), 0);
    store(&mut ledger, b"x", &record(4, 20, 1), 10);
    assert_eq!(seq_of(&ledger, b"x"), Some(4));
    audit(&ledger);
}

#[test]
fn what_is_over_is_not_stored_and_takes_the_old_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    store(&mut ledger, b"k", &record(1, NEVER, 1), 0);
    assert_eq!(store(&mut ledger, b"k", &record(2, 100, 1), 100).expired, 1);
    assert_eq!(seq_of(&ledger, b"k"), None);
    audit(&ledger);
}

#[test]
fn expiry_takes_what_is_over_in_steps_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    for key in 0..1_500u64 {
        // Three moments of 500 keys each, so that steps end within a moment.
        store(&mut ledger, &key.to_le_bytes(), &record(1, 100 + key % 3, 1), 0);
    }
    store(&mut ledger, b"forever", &record(1, NEVER, 1), 0);
    assert_eq!(ledger.expire(99).unwrap(), (Tally::default(), false));
    let (mut expired, mut steps) = (0, 0);
    loop {
        let (tally, more) = ledger.expire(101).unwrap();
        audit(&ledger);
        (expired, steps) = (expired + tally.expired, steps + 1);
        if !more {
            break;
        }
    }
    assert_eq!((expired, steps), (1_000, 2));
    assert_eq!(ledger.expire(u64::MAX - 1).unwrap().0.expired, 500);
    assert_eq!(ledger.counters().entries, 1);
    audit(&ledger);
}

#[test]
fn a_victim_that_was_replaced_is_spared() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    store(&mut ledger, b"a", &record(1, NEVER, 1), 0);
    store(&mut ledger, b"b", &record(1, NEVER, 1), 0);
    let ticket = |ledger: &Ledger, key: &[u8]| ledger.store.get(key).unwrap().unwrap().ticket;
    let seen = |ledger: &Ledger, key: &[u8]| Victim { key: key.into(), ticket: ticket(ledger, key), is_unreadable: false };
    let victims = vec![seen(&ledger, b"a"), seen(&ledger, b"b")];
    store(&mut ledger, b"b", &record(2, NEVER, 1), 0);
    let gone = ledger.remove(victims).unwrap();
    let bytes = 1 + record(1, NEVER, 1).encoded_len() as u64;
    assert_eq!(gone, [Gone { key: b"a".as_slice().into(), bytes, is_unreadable: false }]);
    assert_eq!((seq_of(&ledger, b"a"), seq_of(&ledger, b"b")), (None, Some(2)));
    audit(&ledger);
}

#[test]
fn clearing_counts_from_nothing_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    store(&mut ledger, b"k", &record(1, NEVER, 1), 0);
    let readers_view = ledger.store.clone();
    ledger.clear().unwrap();
    assert!(readers_view.get(b"k").unwrap().is_some(), "a reader of the old generation is not disturbed");
    drop(readers_view);
    assert_eq!((seq_of(&ledger, b"k"), ledger.counters()), (None, Counters::default()));
    store(&mut ledger, b"new", &record(1, NEVER, 1), 0);
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!((seq_of(&ledger, b"k"), seq_of(&ledger, b"new")), (None, Some(1)));
    audit(&ledger);
}

#[test]
fn lost_counters_are_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, recent) = (open(dir.path()), Recent::new(0));
    for key in 0..1_000u32 {
        store(&mut ledger, &key.to_le_bytes(), &record(1, 1_000, 10), 0);
    }
    recent.mark(&0u32.to_le_bytes());
    ledger.evict(ledger.counters().bytes / 2, &recent).unwrap();
    let counters = ledger.counters();
    let mut batch = ledger.store.batch();
    batch.remove(ledger.store.entries(), COUNTERS_KEY);
    batch.commit().unwrap();
    drop(ledger);
    let mut ledger = open(dir.path());
    assert_eq!(ledger.counters(), counters);
    ledger.evict(0, &recent).unwrap();
    assert_eq!(ledger.counters().entries, 0);
}

#[test]
fn partial_compactions_find_what_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let queued = Queued { action: Action::Store(record(1, NEVER, 1_200)), afresh: false };
    for from in (0..60_000).step_by(1_000) {
        let writes: Vec<_> = (from..from + 1_000).map(key).collect();
        ledger.apply(writes.iter().map(|key| (key.as_slice(), &queued)), 0).unwrap();
    }
    ledger.store.settle();
    let full = ledger.store.table_bytes();
    for number in (0..60_000).filter(|number| number % 10 != 0) {
        remove(&mut ledger, &key(number));
    }
    ledger.store.settle();
    let mut parts = 0;
    while ledger.store.compact_part().unwrap() {
        parts += 1;
    }
    let left = ledger.store.table_bytes();
    // As much as one small table of deletions may stay above, and what they delete below.
    assert!(left < full / 3 * 2, "{full} -> {left} bytes in {parts} parts");
    audit(&ledger);
}

/// One step of the random test.
#[derive(Clone, Debug)]
enum Step {
    Store { key: u8, seq: u64, lives: Option<u64>, len: usize },
    Remove { key: u8 },
    Read { key: u8 },
    Pass { ms: u64 },
    Expire,
    Evict { share: u64 },
    Clear,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = 0u8..24;
    prop_oneof![
        12 => (key.clone(), 0u64..100, proptest::option::of(1u64..50), 0usize..300)
            .prop_map(|(key, seq, lives, len)| Step::Store { key, seq, lives, len }),
        3 => key.clone().prop_map(|key| Step::Remove { key }),
        3 => key.prop_map(|key| Step::Read { key }),
        3 => (1u64..20).prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::Expire),
        2 => (1u64..5).prop_map(|share| Step::Evict { share }),
        1 => Just(Step::Clear),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_books_balance(steps in proptest::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, recent) = (open(dir.path()), Recent::new(0));
        let mut model: BTreeMap<u8, Arc<Record>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Store { key, seq, lives, len } => {
                    let new = record(seq, lives.map_or(NEVER, |ms| now + ms), len);
                    let refused = model.get(&key).is_some_and(|old| old.expires_at > now && old.outranks(&new));
                    prop_assert_eq!(store(&mut ledger, &[key], &new, now).outranked == 1, refused);
                    if !refused {
                        model.insert(key, new);
                    }
                }
                Step::Remove { key } => {
                    remove(&mut ledger, &[key]);
                    model.remove(&key);
                }
                Step::Read { key } => recent.mark(&[key]),
                Step::Pass { ms } => now += ms,
                Step::Expire => {
                    ledger.expire(now).unwrap();
                    model.retain(|_, record| record.expires_at > now);
                }
                Step::Evict { share } => {
                    let bound = ledger.counters().bytes * share / 5;
                    ledger.evict(bound, &recent).unwrap();
                    prop_assert!(ledger.counters().bytes <= bound);
                    model.retain(|key, _| ledger.store.get(&[*key]).unwrap().is_some());
                }
                Step::Clear => {
                    ledger.clear().unwrap();
                    model.clear();
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = open(dir.path());
                }
            }
            audit(&ledger);
            for key in 0..24 {
                let stored = ledger.store.get(&[key]).unwrap().map(|stored| Record::decode(stored.record).unwrap());
                prop_assert_eq!(stored.as_ref(), model.get(&key).map(|record| &**record));
            }
        }
    }
}
