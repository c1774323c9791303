//! A record: an entry as the backing tier keeps it, a versioned header and the payload.
//!
//! ```text
//!  0  magic "LR"          2  version = 1 to 3   3  flags (1: negative; in version 3, 2: with an origin)
//!  4  codec               5  compression        6  number of tags     7  length of the media type
//!  8  CRC-32C of everything but these four bytes
//! 12  load cost, us       16 length of the payload before compression
//! 20  epoch               28 position           36 created, ms        44 fresh until, ms    52 expires at, ms
//! 60  stale-while-revalidate, ms                68 stale-if-error, ms
//! 76  fingerprint, 16 bytes
//! 92  in version 3 the number of the hold, tags (a length byte and the bytes, each), media type, in version 2 the origin and in version 3
//!     where the flags say so, payload
//! ```
//!
//! All numbers little-endian. A record of a version this code does not know, or one that fails its checksum, is a miss
//! and never an error: the cache can always load again.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::key::{TAG_LEN_MAX, TAGS_MAX, Tags};
use crate::origin::Origin;
use crate::position::{Epoch, Position};

const MAGIC: &[u8; 2] = b"LR";
/// What needs no more than this is written so: a version of larder before the other can read it.
const VERSION: u8 = 1;
/// With an origin.
const VERSION_WITH_ORIGIN: u8 = 2;
/// Written by a restore under a hold, where others read it.
const VERSION_HELD: u8 = 3;
/// Bytes in front of tags, media type, origin and payload.
pub(crate) const HEADER: usize = 92;
const CRC_AT: usize = 8;
const FLAG_NEGATIVE: u8 = 1;
const FLAG_ORIGIN: u8 = 2;

/// The longest media type (`application/json`) kept with a value.
pub const MEDIA_LEN_MAX: usize = 127;

/// An entry as the backing tier keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The epoch that `seq` belongs to.
    pub epoch: Epoch,
    /// The stamp: the data reflects every change up to this position of the epoch.
    pub seq: u64,
    /// When the value was computed or put, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Until when it may be served as fresh, as far as time goes.
    pub fresh_until: u64,
    /// From when it may not be served at all, not even as stale.
    pub expires_at: u64,
    /// How long after `fresh_until` it may be served while it is loaded again, in milliseconds.
    pub stale_while_revalidate: u64,
    /// How long after `fresh_until` it may be served because loading failed, in milliseconds.
    pub stale_if_error: u64,
    /// How long its loader took, in microseconds; zero for a value that was put.
    pub load_cost_us: u32,
    /// xxh3-128 of the payload before compression.
    pub fingerprint: u128,
    /// The codec of the payload, as [`Codec`](crate::Codec) numbers them.
    pub codec: u8,
    /// The compression of the payload, as [`Compression`](crate::Compression) numbers them.
    pub compression: u8,
    /// Whether this records that there is no value.
    pub negative: bool,
    /// The length of the payload before compression.
    pub raw_len: u32,
    /// Whether a restore wrote it where others read it.
    pub held: RestoreHold,
    /// The entry's tags, sorted.
    pub tags: Tags,
    /// The media type given with the value, if one was.
    pub media: Option<Box<str>>,
    /// What it was made from, if that is known.
    pub origin: Option<Arc<Origin>>,
    /// The encoded and perhaps compressed value.
    pub payload: Bytes,
}

/// The hold under which a restore wrote a record, where others read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreHold {
    /// None did.
    #[default]
    None,
    /// The one with this number, which is not 0. Until it is known to be over the record may not be served.
    By(u64),
    /// One that is over. It is written as by none.
    Over,
}

/// Why stored bytes are not a record. For logs: to a reader it is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not written by larder.
    Foreign,
    /// Written by a version of larder that this one does not know.
    Version(u8),
    /// Cut short, or changed since it was written.
    Damaged,
}

impl Record {
    /// The bytes this record takes when encoded.
    pub fn encoded_len(&self) -> usize {
        let tags: usize = self.tags.iter().map(|tag| 1 + tag.len()).sum();
        let origin = self.origin.as_ref().map_or(0, |origin| origin.encoded_len());
        let held = if self.is_held() { 8 } else { 0 };
        HEADER + held + tags + self.media.as_ref().map_or(0, |media| media.len()) + origin + self.payload.len()
    }

    /// Whether this record must not be replaced by `other`: both are of one epoch and this one reflects more.
    ///
    /// Records of different epochs do not say which is newer; the one being written is of the epoch in force, so it wins.
    pub fn outranks(&self, other: &Record) -> bool {
        self.is_past(Position { epoch: other.epoch, seq: other.seq })
    }

    /// Whether a restore that is not known to be over wrote it.
    pub fn is_held(&self) -> bool {
        matches!(self.held, RestoreHold::By(_))
    }

    /// Whether it is of the position's epoch, and newer.
    pub fn is_past(&self, position: Position) -> bool {
        self.epoch == position.epoch && self.seq > position.seq
    }

    /// The record as bytes.
    pub fn encode(&self) -> Bytes {
        let media = self.media.as_deref().unwrap_or("");
        debug_assert!(self.tags.len() <= TAGS_MAX && media.len() <= MEDIA_LEN_MAX);
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_slice(MAGIC);
        let (version, of_version) = match (self.held, &self.origin) {
            (RestoreHold::None | RestoreHold::Over, None) => (VERSION, 0),
            (RestoreHold::None | RestoreHold::Over, Some(_)) => (VERSION_WITH_ORIGIN, 0),
            (RestoreHold::By(_), origin) => (VERSION_HELD, if origin.is_some() { FLAG_ORIGIN } else { 0 }),
        };
        out.put_u8(version);
        out.put_u8(of_version | if self.negative { FLAG_NEGATIVE } else { 0 });
        out.put_u8(self.codec);
        out.put_u8(self.compression);
        out.put_u8(self.tags.len() as u8);
        out.put_u8(media.len() as u8);
        out.put_u32_le(0);
        out.put_u32_le(self.load_cost_us);
        out.put_u32_le(self.raw_len);
        let windows = [self.stale_while_revalidate, self.stale_if_error];
        for number in [self.epoch.0, self.seq, self.created_at, self.fresh_until, self.expires_at].into_iter().chain(windows) {
            out.put_u64_le(number);
        }
        out.put_u128_le(self.fingerprint);
        if let RestoreHold::By(number) = self.held {
            out.put_u64_le(number);
        }
        for tag in &self.tags {
            out.put_u8(tag.len() as u8);
            out.put_slice(tag);
        }
        out.put_slice(media.as_bytes());
        if let Some(origin) = &self.origin {
            origin.encode(&mut out);
        }
        out.put_slice(&self.payload);
        let crc = checksum(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote. The payload shares the given bytes.
    pub fn decode(bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.len() < 3 || &bytes[..2] != MAGIC {
            return Err(Unreadable::Foreign);
        }
        if !(VERSION..=VERSION_HELD).contains(&bytes[2]) {
            return Err(Unreadable::Version(bytes[2]));
        }
        if bytes.len() < HEADER || checksum(&bytes) != u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) {
            return Err(Unreadable::Damaged);
        }
        decode_body(bytes).ok_or(Unreadable::Damaged)
    }
}

/// Everything but the four bytes that hold the result.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}

/// The fields behind a checksum that held. `None` where lengths contradict each other all the same.
fn decode_body(mut bytes: Bytes) -> Option<Record> {
    let (version, flags, codec, compression) = (bytes[2], bytes[3], bytes[4], bytes[5]);
    let (tag_count, media_len) = (usize::from(bytes[6]), usize::from(bytes[7]));
    bytes.advance(CRC_AT + 4);
    let (load_cost_us, raw_len) = (bytes.get_u32_le(), bytes.get_u32_le());
    let (epoch, seq) = (Epoch(bytes.get_u64_le()), bytes.get_u64_le());
    let (created_at, fresh_until, expires_at) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
    let (stale_while_revalidate, stale_if_error) = (bytes.get_u64_le(), bytes.get_u64_le());
    let fingerprint = bytes.get_u128_le();
    if tag_count > TAGS_MAX || media_len > MEDIA_LEN_MAX {
        return None;
    }
    let held = match version {
        VERSION_HELD => RestoreHold::By(bytes.try_get_u64_le().ok().filter(|number| *number != 0)?),
        _ => RestoreHold::None,
    };
    let tags = (0..tag_count).map(|_| take_tag(&mut bytes)).collect::<Option<Tags>>()?;
    if bytes.len() < media_len {
        return None;
    }
    let media = std::str::from_utf8(&bytes.split_to(media_len)).ok()?.into();
    let media = (media_len > 0).then_some(media);
    let has_origin = version == VERSION_WITH_ORIGIN || (version == VERSION_HELD && flags & FLAG_ORIGIN != 0);
    let origin = if has_origin { Some(Arc::new(Origin::decode(&mut bytes)?)) } else { None };
    let negative = flags & FLAG_NEGATIVE != 0;
    Some(Record {
        epoch,
        seq,
        created_at,
        fresh_until,
        expires_at,
        stale_while_revalidate,
        stale_if_error,
        load_cost_us,
        fingerprint,
        codec,
        compression,
        negative,
        raw_len,
        held,
        tags,
        media,
        origin,
        payload: bytes,
    })
}

fn take_tag(bytes: &mut Bytes) -> Option<Box<[u8]>> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    let fits = len > 0 && len <= TAG_LEN_MAX && len <= bytes.len();
    fits.then(|| bytes.split_to(len).as_ref().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::any_origin;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let numbers = (1u64.., any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let held = prop_oneof![Just(RestoreHold::None), (1..=u64::MAX).prop_map(RestoreHold::By)];
        let small = (any::<u32>(), any::<u128>(), any::<u8>(), any::<u8>(), any::<bool>(), any::<u32>(), held);
        let tags = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=TAG_LEN_MAX), 0..=TAGS_MAX);
        let media = proptest::option::of("[a-z]{1,20}/[a-z]{1,20}");
        let payload = proptest::collection::vec(any::<u8>(), 0..2000);
        let origin = proptest::option::of(any_origin().prop_map(Arc::new));
        (numbers, small, tags, media, origin, payload).prop_map(|(n, s, tags, media, origin, payload)| Record {
            epoch: Epoch(n.0),
            seq: n.1,
            created_at: n.2,
            fresh_until: n.3,
            expires_at: n.4,
            stale_while_revalidate: n.5,
            stale_if_error: n.6,
            load_cost_us: s.0,
            fingerprint: s.1,
            codec: s.2,
            compression: s.3,
            negative: s.4,
            raw_len: s.5,
            held: s.6,
            tags: tags.into_iter().map(Vec::into_boxed_slice).collect(),
            media: media.map(Into::into),
            origin,
            payload: payload.into(),
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(record in any_record()) {
            let bytes = record.encode();
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert_eq!(Record::decode(bytes), Ok(record));
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(record in any_record(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = record.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Record::decode(bytes.into()).is_err());
        }

        #[test]
        fn no_cut_record_is_read(record in any_record(), at in any::<prop::sample::Index>()) {
            let bytes = record.encode();
            let cut = at.index(bytes.len());
            prop_assert!(Record::decode(bytes.slice(..cut)).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Record::decode(bytes.into()).is_err());
        }
    }

    #[test]
    fn what_was_held_is_written_as_any_other() {
        let record = |held| Record {
            epoch: Epoch(1),
            seq: 2,
            created_at: 3,
            fresh_until: 4,
            expires_at: 5,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            load_cost_us: 0,
            fingerprint: 6,
            codec: 0,
            compression: 0,
            negative: false,
            raw_len: 1,
            held,
            tags: Tags::default(),
            media: None,
            origin: None,
            payload: Bytes::from_static(b"v"),
        };
        assert_eq!(record(RestoreHold::Over).encode(), record(RestoreHold::None).encode());
        let held = record(RestoreHold::By(9)).encode();
        assert_eq!((held[2], held.len()), (VERSION_HELD, record(RestoreHold::By(9)).encoded_len()));
        assert_eq!(Record::decode(held), Ok(record(RestoreHold::By(9))));
    }

    #[test]
    fn another_version_says_so() {
        assert_eq!(Record::decode(Bytes::from_static(b"LR\x04 whatever")), Err(Unreadable::Version(4)));
        assert_eq!(Record::decode(Bytes::from_static(b"GIF89a")), Err(Unreadable::Foreign));
    }
}
