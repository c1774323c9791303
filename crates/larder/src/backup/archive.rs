//! One entry as an archive keeps it: encoded, and read back from bytes that may be anybody's.
//!
//! ```text
//!  u32   length of what follows
//!  u8    kind = 1
//!  u8    codec          u8   compression     u8  number of tags     u8  length of the media type
//!  u16   length of the key                   u32 length of the origin, 0: none
//!  u64   stamp: position within the archive's epoch
//!  u64   age, ms        u64  fresh for, ms   u64 lives for, ms (2^64-1: for ever), all as of the archive's time
//!  u64   stale-while-revalidate, ms          u64 stale-if-error, ms
//!  u32   load cost, us  u32  length of the payload before compression
//!  u128  fingerprint
//!  key, tags (a length byte and the bytes, each), media type, origin (as in a record of the backing tier), payload
//! ```
//!
//! All numbers little-endian. Times are spans and not moments: who restores reckons them from the archive's time, and decides what the
//! time in between counts for. The epoch is the archive's, once for all.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::key::{KEY_LEN_MAX, TAG_LEN_MAX, TAGS_MAX};
use crate::origin::Origin;
use crate::position::SEQ_MAX;
use crate::record::{MEDIA_LEN_MAX, Record};

/// The only kind of record there is so far. Another one is of a newer format, and whoever does not know it must not go on without it.
const ENTRY: u8 = 1;

/// Bytes before the key, the length in front not counted.
const HEADER: usize = 1 + 4 + 2 + 4 + 6 * 8 + 4 + 4 + 16;

/// For ever.
const ALWAYS: u64 = u64::MAX;

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    pub(super) key: &'a [u8],
    /// What it is in the backing tier; times as if the archive's time were zero on its clock.
    pub(super) seq: u64,
    pub(super) age: u64,
    pub(super) fresh_for: u64,
    pub(super) lives_for: u64,
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_if_error: u64,
    pub(super) load_cost_us: u32,
    pub(super) raw_len: u32,
    pub(super) fingerprint: u128,
    pub(super) codec: u8,
    pub(super) compression: u8,
    /// As they are encoded, a length byte and the bytes, each.
    tags: &'a [u8],
    pub(super) media: Option<Box<str>>,
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) payload: &'a [u8],
}

impl Kept<'_> {
    /// Its tags, sorted.
    pub(super) fn tags(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.tags;
        std::iter::from_fn(move || if rest.is_empty() { None } else { take_tag(&mut rest) })
    }
}

/// How many bytes an entry takes.
pub(super) fn encoded_len(key: &[u8], record: &Record) -> usize {
    let tags: usize = record.tags.iter().map(|tag| 1 + tag.len()).sum();
    let origin = record.origin.as_ref().map_or(0, |origin| origin.encoded_len());
    4 + HEADER + key.len() + tags + record.media.as_ref().map_or(0, |media| media.len()) + origin + record.payload.len()
}

/// Appends an entry, stamped with `seq`, whose times are reckoned from `now`.
pub(super) fn encode(key: &[u8], record: &Record, seq: u64, now: u64, out: &mut Vec<u8>) {
    let media = record.media.as_deref().unwrap_or("");
    let left = |until: u64| if until == ALWAYS { ALWAYS } else { until.saturating_sub(now) };
    out.reserve(encoded_len(key, record));
    out.put_u32_le((encoded_len(key, record) - 4) as u32);
    for byte in [ENTRY, record.codec, record.compression, record.tags.len() as u8, media.len() as u8] {
        out.put_u8(byte);
    }
    out.put_u16_le(key.len() as u16);
    out.put_u32_le(record.origin.as_ref().map_or(0, |origin| origin.encoded_len() as u32));
    let spans = [now.saturating_sub(record.created_at), left(record.fresh_until), left(record.expires_at)];
    for number in [seq].into_iter().chain(spans).chain([record.stale_while_revalidate, record.stale_if_error]) {
        out.put_u64_le(number);
    }
    out.put_u32_le(record.load_cost_us);
    out.put_u32_le(record.raw_len);
    out.put_u128_le(record.fingerprint);
    out.put_slice(key);
    for tag in &record.tags {
        out.put_u8(tag.len() as u8);
        out.put_slice(tag);
    }
    out.put_slice(media.as_bytes());
    if let Some(origin) = &record.origin {
        origin.encode(out);
    }
    out.put_slice(&record.payload);
}

/// Takes the next entry off the front, of a backup that is a cut at `upto`. `Err` says what is wrong with it.
///
/// Key, tags and payload stay where they are, so that who only looks copies nothing.
pub(super) fn take<'a>(bytes: &mut &'a [u8], upto: u64) -> Result<Kept<'a>, &'static str> {
    let len = bytes.try_get_u32_le().map_err(|_| "ends within the length of a record")? as usize;
    if len < HEADER || len > bytes.len() {
        return Err("has a record whose length is not that of one");
    }
    let mut body = split(bytes, len).expect("it was compared");
    let [kind, codec, compression, tags, media_len] = std::array::from_fn(|_| body.get_u8());
    if kind != ENTRY {
        return Err("has a record of a kind that this version does not know");
    }
    let (key_len, origin_len) = (usize::from(body.get_u16_le()), body.get_u32_le() as usize);
    let [seq, age, fresh_for, lives_for, stale_while_revalidate, stale_if_error] = std::array::from_fn(|_| body.get_u64_le());
    let (load_cost_us, raw_len, fingerprint) = (body.get_u32_le(), body.get_u32_le(), body.get_u128_le());
    if key_len == 0 || key_len > KEY_LEN_MAX || usize::from(tags) > TAGS_MAX || usize::from(media_len) > MEDIA_LEN_MAX {
        return Err("has a record whose key, tags or media type are longer than any can be");
    }
    // One that claims more than the backup does would be believed beyond what was invalidated after it.
    if seq > upto.min(SEQ_MAX) {
        return Err("has a record whose stamp is past the backup's position");
    }
    const CONTRADICTS: &str = "has a record whose lengths contradict each other";
    let key = split(&mut body, key_len).ok_or(CONTRADICTS)?;
    let from_tags = body;
    (0..tags).try_for_each(|_| take_tag(&mut body).map(drop)).ok_or(CONTRADICTS)?;
    let tags = &from_tags[..from_tags.len() - body.len()];
    let media = split(&mut body, media_len.into()).ok_or(CONTRADICTS)?;
    let media = std::str::from_utf8(media).map_err(|_| "has a record whose media type is not text")?;
    let media = (!media.is_empty()).then(|| media.into());
    let origin = match origin_len {
        0 => None,
        _ => {
            let mut origin = Bytes::copy_from_slice(split(&mut body, origin_len).ok_or(CONTRADICTS)?);
            let read = Origin::decode(&mut origin).filter(|_| origin.is_empty());
            Some(Arc::new(read.ok_or("has a record whose sources cannot be read")?))
        }
    };
    Ok(Kept {
        key,
        seq,
        age,
        fresh_for,
        lives_for,
        stale_while_revalidate,
        stale_if_error,
        load_cost_us,
        raw_len,
        fingerprint,
        codec,
        compression,
        tags,
        media,
        origin,
        payload: body,
    })
}

fn split<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    bytes.split_off(..len)
}

fn take_tag<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    let fits = len > 0 && len <= TAG_LEN_MAX && len <= bytes.len();
    fits.then(|| split(bytes, len)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::position::Epoch;
    use proptest::prelude::*;

    fn record(payload: Vec<u8>, tags: Vec<Vec<u8>>, until: Option<u64>) -> Record {
        Record {
            epoch: Epoch(7),
            seq: 3,
            created_at: 900,
            fresh_until: until.map_or(u64::MAX, |ms| 1000 + ms),
            expires_at: until.map_or(u64::MAX, |ms| 1500 + ms),
            stale_while_revalidate: 500,
            stale_if_error: 1,
            load_cost_us: 17,
            fingerprint: 1 << 100 | 5,
            codec: 1,
            compression: 0,
            negative: false,
            raw_len: payload.len() as u32,
            held: Default::default(),
            tags: tags.into_iter().map(Vec::into_boxed_slice).collect(),
            media: Some("text/plain".into()),
            origin: None,
            payload: payload.into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(
            key in proptest::collection::vec(any::<u8>(), 1..64),
            payload in proptest::collection::vec(any::<u8>(), 0..500),
            tags in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
            until in proptest::option::of(0u64..10_000),
        ) {
            let record = record(payload, tags, until);
            let mut out = Vec::new();
            encode(&key, &record, 9, 1000, &mut out);
            encode(&key, &record, 10, 1000, &mut out);
            prop_assert_eq!(out.len(), 2 * encoded_len(&key, &record));
            let mut bytes = out.as_slice();
            let kept = take(&mut bytes, 10).unwrap();
            prop_assert_eq!((kept.key, kept.seq, kept.age), (&*key, 9, 100));
            prop_assert_eq!((kept.fresh_for, kept.lives_for), (until.unwrap_or(u64::MAX), until.map_or(u64::MAX, |ms| 500 + ms)));
            prop_assert_eq!((kept.payload, kept.fingerprint), (&*record.payload, record.fingerprint));
            prop_assert_eq!(kept.tags().map(Box::from).collect::<Tags>(), record.tags);
            prop_assert_eq!(take(&mut { bytes }, 9).unwrap_err(), "has a record whose stamp is past the backup's position");
            prop_assert_eq!(take(&mut bytes, 10).unwrap().seq, 10);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            changed in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            prop_assert!(take(&mut bytes.as_slice(), SEQ_MAX).is_err());
            let mut out = Vec::new();
            encode(b"a:b", &record(vec![1, 2, 3], vec![vec![4]], Some(5)), 9, 1000, &mut out);
            let at = changed.index(out.len());
            out[at] = to;
            // Whatever it says now, it is read or refused.
            let read = take(&mut out.as_slice(), SEQ_MAX);
            prop_assert!(read.is_err() || read.is_ok_and(|kept| kept.key.len() <= out.len()));
        }
    }
}
