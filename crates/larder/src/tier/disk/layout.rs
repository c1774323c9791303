//! What lies where in the disk tier's keyspace. Pure: knows bytes, no store and no time.
//!
//! Everything of one generation lives in *one* keyspace, so that each change is one atomic batch, and so that no
//! keyspace ever idles and keeps old journals alive. The first byte of a key says what it is:
//!
//! ```text
//! 'r' key                     -> ticket, expires at, encoded record     the entries
//! 'o' place                   -> ticket, size, expires at, key          the queue of eviction, oldest place first
//! 'e' expires at, key         -> ticket                                 what expires when; not for u64::MAX
//! 'm'                         -> counters                               written with every batch
//! 'n'                         -> nothing                                written when a write is needed, whatever it says
//! ```
//!
//! A *ticket* numbers the write that stored a record. It is the record's first place in the queue too; a record that
//! was reprieved stands at a later place and keeps its ticket, so that its (large) value need not be written again.

use bytes::{Buf, BufMut, Bytes};

const RECORD: u8 = b'r';
const ORDER: u8 = b'o';
const EXPIRY: u8 = b'e';

/// Where the counters are.
pub(super) const COUNTERS_KEY: [u8; 1] = [b'm'];

/// Written over and over; see `Store::release_files`.
pub(super) const NUDGE_KEY: [u8; 1] = [b'n'];

/// An entry with this moment never expires and has no place in the expiry index.
pub(super) const NEVER: u64 = u64::MAX;

/// Ticket and moment of expiry, in front of each record.
const STORED_HEADER: usize = 16;

/// What the store below adds to each pair, roughly: lengths, sequence number, its share of the block index.
const PAIR_OVERHEAD: u64 = 16;

pub(super) fn record_key(key: &[u8]) -> Vec<u8> {
    tagged(RECORD, key)
}

pub(super) fn order_key(place: u64) -> Vec<u8> {
    tagged(ORDER, &place.to_be_bytes())
}

pub(super) fn expiry_key(expires_at: u64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len());
    out.push(EXPIRY);
    out.put_u64(expires_at);
    out.put_slice(key);
    out
}

/// Behind the last expiry key of moments up to and including `until`.
pub(super) fn expiry_end(until: u64) -> Vec<u8> {
    expiry_key(until.saturating_add(1), b"")
}

/// Behind the last order key.
pub(super) fn order_end() -> Vec<u8> {
    vec![ORDER + 1]
}

/// The keys of records that start with `prefix` and are not below `from`, as bounds: from here, up to but without there.
pub(super) fn record_range(prefix: &[u8], from: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let start = record_key(from.filter(|from| *from > prefix).unwrap_or(prefix));
    let mut end = record_key(prefix);
    // The next key that does not start with the prefix. The tag byte is below 0xff, so this always ends.
    while end.last() == Some(&0xff) {
        end.pop();
    }
    *end.last_mut().expect("the tag byte stays") += 1;
    (start, end)
}

/// The user's key inside a record key.
pub(super) fn user_key(record_key: &[u8]) -> &[u8] {
    &record_key[1..]
}

/// The place inside an order key.
pub(super) fn place_of(order_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(order_key.get(1..9)?.try_into().ok()?))
}

/// The moment and the user's key inside an expiry key.
pub(super) fn expiry_of(expiry_key: &[u8]) -> Option<(u64, &[u8])> {
    let moment = u64::from_be_bytes(expiry_key.get(1..9)?.try_into().ok()?);
    Some((moment, &expiry_key[9..]))
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + rest.len());
    out.push(tag);
    out.extend_from_slice(rest);
    out
}

/// The value behind a record key.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) ticket: u64,
    pub(super) expires_at: u64,
    pub(super) record: Bytes,
}

impl Stored {
    pub(super) fn encode(ticket: u64, expires_at: u64, record: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(STORED_HEADER + record.len());
        out.put_u64_le(ticket);
        out.put_u64_le(expires_at);
        out.put_slice(record);
        out.into()
    }

    /// A value too short to hold even the header is taken for a damaged record that never expires: it is then counted
    /// and removed as any other.
    pub(super) fn decode(mut value: Bytes) -> Self {
        if value.len() < STORED_HEADER {
            return Stored { ticket: 0, expires_at: NEVER, record: value };
        }
        let (ticket, expires_at) = (value.get_u64_le(), value.get_u64_le());
        Stored { ticket, expires_at, record: value }
    }

    /// What the entry counts as: the bytes of key and record.
    pub(super) fn size(&self, key: &[u8]) -> u64 {
        (key.len() + self.record.len()) as u64
    }
}

/// A place in the queue of eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) ticket: u64,
    pub(super) size: u64,
    pub(super) expires_at: u64,
    pub(super) key: Bytes,
}

impl Order {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(24 + self.key.len());
        for number in [self.ticket, self.size, self.expires_at] {
            out.put_u64_le(number);
        }
        out.put_slice(&self.key);
        out.into()
    }

    pub(super) fn decode(mut value: Bytes) -> Option<Self> {
        if value.len() < 24 {
            return None;
        }
        let (ticket, size, expires_at) = (value.get_u64_le(), value.get_u64_le(), value.get_u64_le());
        Some(Order { ticket, size, expires_at, key: value })
    }
}

/// Exact sums over all entries, written in the same batch as what changes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) entries: u64,
    /// Bytes of keys and encoded records: what the capacity bounds.
    pub(super) bytes: u64,
    /// Bytes of everything stored for the entries, indexes included: what the disk would take without garbage.
    pub(super) stored: u64,
    pub(super) next_ticket: u64,
}

impl Counters {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32);
        for number in [self.entries, self.bytes, self.stored, self.next_ticket] {
            out.put_u64_le(number);
        }
        out.into()
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        (value.len() == 32).then(|| Counters {
            entries: value.get_u64_le(),
            bytes: value.get_u64_le(),
            stored: value.get_u64_le(),
            next_ticket: value.get_u64_le(),
        })
    }

    pub(super) fn add(&mut self, key: &[u8], size: u64, expires_at: u64) {
        self.entries += 1;
        self.bytes += size;
        self.stored += stored_size(key, size, expires_at);
    }

    pub(super) fn subtract(&mut self, key: &[u8], size: u64, expires_at: u64) {
        debug_assert!(self.entries > 0 && self.bytes >= size, "the counters follow every batch");
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        self.stored = self.stored.saturating_sub(stored_size(key, size, expires_at));
    }
}

/// Bytes of all the pairs that one entry takes.
fn stored_size(key: &[u8], size: u64, expires_at: u64) -> u64 {
    let key = key.len() as u64;
    let record = 1 + STORED_HEADER as u64 + size + PAIR_OVERHEAD;
    let order = 9 + 24 + key + PAIR_OVERHEAD;
    let expiry = if expires_at == NEVER { 0 } else { 9 + key + 8 + PAIR_OVERHEAD };
    record + order + expiry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back() {
        let stored = Stored::decode(Stored::encode(7, 9, b"record"));
        assert_eq!((stored.ticket, stored.expires_at, &stored.record[..]), (7, 9, b"record".as_slice()));
        let order = Order { ticket: 1, size: 2, expires_at: 3, key: Bytes::from_static(b"k") };
        assert_eq!(Order::decode(order.encode()), Some(order));
        assert_eq!(Order::decode(Bytes::from_static(b"short")), None);
        let counters = Counters { entries: 1, bytes: 2, stored: 3, next_ticket: 4 };
        assert_eq!(Counters::decode(&counters.encode()), Some(counters));
        assert_eq!(Counters::decode(b""), None);
        assert_eq!(expiry_of(&expiry_key(5, b"k")), Some((5, b"k".as_slice())));
        assert_eq!(place_of(&order_key(5)), Some(5));
    }

    #[test]
    fn order_and_expiry_sort_as_their_numbers_do() {
        assert!(order_key(255) < order_key(256) && order_key(u64::MAX) < order_end());
        assert!(expiry_key(255, b"\xff\xff") < expiry_end(255) && expiry_end(255) <= expiry_key(256, b""));
    }

    #[test]
    fn a_range_holds_the_prefix_and_nothing_else() {
        let inside = |prefix: &[u8], from: Option<&[u8]>, key: &[u8]| {
            let (start, end) = record_range(prefix, from);
            start <= record_key(key) && record_key(key) < end
        };
        assert!(inside(b"a:", None, b"a:") && inside(b"a:", None, b"a:\xff\xff"));
        assert!(!inside(b"a:", None, b"a") && !inside(b"a:", None, b"a;"));
        assert!(inside(b"", None, b"\xff") && inside(b"\xff", None, b"\xff\xff") && !inside(b"\xff", None, b"\xfe"));
        assert!(inside(b"a", Some(b"ab"), b"ab") && !inside(b"a", Some(b"ab"), b"aa"));
        // A start before the prefix is no wider than the prefix.
        assert!(!inside(b"b", Some(b"a"), b"ab"));
    }

    #[test]
    fn counters_return_to_where_they_began() {
        let mut counters = Counters::default();
        counters.add(b"key", 100, NEVER);
        counters.add(b"other", 50, 7);
        assert_eq!((counters.entries, counters.bytes), (2, 150));
        counters.subtract(b"other", 50, 7);
        counters.subtract(b"key", 100, NEVER);
        assert_eq!(counters, Counters::default());
    }
}
