//! A namespace as one type of value: what the read and the write paths work on. Keys are whole here.

use std::sync::Arc;

use bytes::Bytes;

use crate::cache::Shared;
use crate::codec::{Codec, Encoded, Value, decompress};
use crate::config::check_ttl;
use crate::entry::{Entry, Life, Meta, NewMeta, Slot, Times};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Print;
use crate::freshness::NameHashes;
use crate::item::Item;
use crate::key::check_tags;
use crate::metrics::Count;
use crate::origin::sources_of;
use crate::position::Stamp;
use crate::record::{MEDIA_LEN_MAX, Record};
use crate::space::{Space, Typed};

/// See the head of this file.
pub(crate) struct View<V> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) space: Arc<Space>,
    /// `None` for those who read and write encoded values, whatever type the namespace was opened for.
    pub(crate) typed: Option<Arc<Typed<V>>>,
}

impl<V> Clone for View<V> {
    fn clone(&self) -> Self {
        View { shared: self.shared.clone(), space: self.space.clone(), typed: self.typed.clone() }
    }
}

/// An entry ready to be stored, and its encoded value for the backing tier.
pub(crate) struct Made<V> {
    pub(crate) entry: Arc<Entry<V>>,
    /// `None`: the value itself.
    pub(crate) encoded: Option<Bytes>,
}

impl<V: Value> View<V> {
    /// How values of this view are encoded.
    fn codec(&self) -> Codec {
        self.typed.as_ref().map_or(Codec::Bytes, |typed| typed.codec)
    }

    pub(crate) fn encode(&self, value: &V) -> Result<Bytes> {
        self.codec().encode(value)
    }

    /// An entry of a value. What it was computed from is [settled](Self::settle), and the stamp was taken before: see
    /// [`Index::hashes`](crate::freshness::Index::hashes).
    pub(crate) fn make(&self, key: &[u8], item: Item<V>, stamp: Stamp, load_cost_us: u32) -> Result<Made<V>> {
        debug_assert!(item.claims.is_empty(), "what an item was computed from is settled before");
        let policy = &self.space.policy;
        let encoded = self.codec().encoded(&item.value)?;
        self.check_len(encoded.len())?;
        if item.media.as_ref().is_some_and(|media| media.len() > MEDIA_LEN_MAX) {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("a media type has at most {MEDIA_LEN_MAX} bytes")));
        }
        let now = self.shared.clock.refresh();
        let life = policy.life(&item.times, now)?;
        let (fresh_until, expires_at) = life.times(now);
        let tags = self.tags_of(key, &item)?;
        let meta = NewMeta {
            stamp,
            times: Times { created_at: now, fresh_until, expires_at },
            life,
            print: policy.fingerprint.print_of(&encoded),
            hashes: self.shared.index.hashes_from(key, &tags, sources_of(item.origin.as_deref())),
            tags,
            media: item.media,
            origin: item.origin,
            load_cost_us,
            encoded_len: encoded.len() as u32,
            codec: self.codec() as u8,
            metrics: self.space.metrics.clone(),
        };
        let encoded = match encoded {
            Encoded::Itself(_) => None,
            Encoded::Made(bytes) => Some(bytes),
        };
        Ok(Made { entry: Arc::new(Entry { meta: Meta::new(meta, key.len(), now), value: item.value }), encoded })
    }

    /// Whether an encoded value is of a length that the namespace takes.
    pub(crate) fn check_len(&self, len: usize) -> Result<()> {
        let most = self.space.policy.value_bytes_max;
        if len > most {
            let message = format!("a value of \"{}\" has at most {most} bytes, this one has {len}", self.space.name);
            return Err(Error::new(ErrorKind::ValueTooLarge, message));
        }
        Ok(())
    }

    /// The tags the item brings, those its value asks for, and those the policy makes from the key.
    fn tags_of(&self, key: &[u8], item: &Item<V>) -> Result<crate::key::Tags> {
        let has_tagger = self.typed.as_ref().is_some_and(|typed| typed.tagger.get().is_some());
        if item.tags.is_empty() && self.space.templates.is_empty() && !has_tagger {
            return Ok(Default::default());
        }
        let of_value = self.typed.as_ref().and_then(|typed| typed.tagger.get()).map_or_else(Vec::new, |tagger| tagger(&item.value));
        let of_value = of_value.into_iter().map(|tag| tag.into_bytes().into_boxed_slice());
        check_tags(item.tags.iter().cloned().chain(of_value).chain(self.tags_of_key(key)).collect())
    }

    /// The tags that the policy makes from a key.
    fn tags_of_key(&self, key: &[u8]) -> impl Iterator<Item = Box<[u8]>> {
        self.space.templates.iter().filter_map(|template| template.render(key))
    }

    /// What "there is no such thing" depends on: the key, and the tags that any value there would have.
    pub(crate) fn hashes_of_nothing(&self, key: &[u8]) -> NameHashes {
        self.shared.index.hashes(key, &self.tags_of_key(key).collect::<Vec<_>>())
    }

    /// What memory says of "there is no such thing".
    pub(crate) fn make_negative(&self, key: &[u8], stamp: Stamp) -> Option<Meta> {
        let ttl = self.space.policy.negative_ttl?;
        debug_assert!(check_ttl(ttl).is_ok(), "policies are checked");
        let now = self.shared.clock.refresh();
        let life = Life { ttl: ttl.as_millis() as u64, stale_while_revalidate: 0, stale_if_error: 0, sliding: false, refresh_ahead: 0 };
        let (fresh_until, expires_at) = life.times(now);
        Some(self.meta(key, stamp, Times { created_at: now, fresh_until, expires_at }, life))
    }

    /// A meta about which nothing else is said.
    fn meta(&self, key: &[u8], stamp: Stamp, times: Times, life: Life) -> Meta {
        let hashes = self.hashes_of_nothing(key);
        let metrics = self.space.metrics.clone();
        let codec = self.codec() as u8;
        let (tags, media, origin) = (Default::default(), None, None);
        Meta::new(
            NewMeta {
                stamp,
                times,
                life,
                print: Print::default(),
                hashes,
                tags,
                media,
                origin,
                load_cost_us: 0,
                encoded_len: 0,
                codec,
                metrics,
            },
            key.len(),
            times.created_at,
        )
    }

    /// The record of an entry, unless its epoch is over, in which case it is stale everywhere.
    pub(crate) fn record_of(&self, made: &Made<V>, stamp: Stamp) -> Option<Record> {
        let encoded = match &made.encoded {
            Some(bytes) => bytes.clone(),
            None => self.encode(&made.entry.value).expect("bytes are their own encoded form"),
        };
        self.record_of_encoded(&made.entry.meta, stamp, encoded)
    }

    /// The same of an entry whose encoded value is at hand.
    pub(crate) fn record_of_encoded(&self, meta: &Meta, stamp: Stamp, encoded: Bytes) -> Option<Record> {
        let position = self.shared.index.position_of(stamp)?;
        let raw_len = encoded.len() as u32;
        let fingerprint = meta.print.of(&encoded);
        let (payload, compression) = crate::codec::compress(encoded, self.space.policy.compression);
        let Times { created_at, fresh_until, expires_at } = meta.times();
        Some(Record {
            epoch: position.epoch,
            seq: position.seq,
            created_at,
            fresh_until,
            expires_at,
            stale_while_revalidate: meta.life.stale_while_revalidate,
            stale_if_error: meta.life.stale_if_error,
            load_cost_us: meta.load_cost_us,
            fingerprint,
            codec: meta.codec,
            compression,
            negative: false,
            raw_len,
            held: Default::default(),
            tags: meta.tags.clone(),
            media: meta.media.clone(),
            origin: meta.origin_now(),
            payload,
        })
    }

    /// The entry of a record that was found fresh, and the hashes of its names, taken no earlier than the stamp.
    pub(crate) fn entry_of(&self, key: &[u8], record: Record, stamp: Stamp, hashes: NameHashes) -> Result<Arc<Entry<V>>> {
        let encoded = decompress(record.payload, record.compression, record.raw_len as usize, self.space.policy.value_bytes_max)?;
        let encoded_len = encoded.len() as u32;
        let value = self.decode(record.codec, encoded)?;
        let now = self.shared.clock.now_ms();
        let times = Times { created_at: record.created_at, fresh_until: record.fresh_until, expires_at: record.expires_at };
        // A time of its own is remembered as the difference; the rest is the policy's to say.
        let policy = &self.space.policy;
        let is_forever = record.fresh_until == u64::MAX || policy.ttl.is_none();
        let ttl = if record.fresh_until == u64::MAX { u64::MAX } else { record.fresh_until.saturating_sub(record.created_at) };
        // One that was renewed has the difference, and no such ttl: by that it would be due at once.
        let usual = policy.ttl.map_or(0, |ttl| ttl.as_millis() as u64);
        let life = Life {
            ttl,
            stale_while_revalidate: record.stale_while_revalidate,
            stale_if_error: record.stale_if_error,
            sliding: policy.sliding && !is_forever,
            refresh_ahead: if is_forever { 0 } else { policy.refresh_ahead_of(ttl.min(usual)) },
        };
        let meta = NewMeta {
            stamp,
            times,
            life,
            print: Print::new(record.fingerprint),
            hashes,
            tags: record.tags,
            media: record.media,
            origin: record.origin,
            load_cost_us: record.load_cost_us,
            encoded_len,
            codec: record.codec,
            metrics: self.space.metrics.clone(),
        };
        Ok(Arc::new(Entry { meta: Meta::new(meta, key.len(), now), value }))
    }

    fn decode(&self, codec: u8, encoded: Bytes) -> Result<V> {
        let codec = match &self.typed {
            // Those who read bytes read them as they are, whatever they encode.
            None => Some(Codec::Bytes),
            // Bytes that were put as bytes where values live are in the form of the namespace.
            Some(typed) => Codec::from_number(codec).map(|codec| if codec == Codec::Bytes { typed.codec } else { codec }),
        };
        let unknown = || Error::new(ErrorKind::Codec, "the stored value is encoded in a way this version does not know");
        codec.ok_or_else(unknown)?.decode(encoded)
    }

    /// An entry of whatever type as one of this view's: encoded for those who read bytes, decoded where bytes were put and
    /// values are read. The result has the same times and stamp. `None`: it cannot be had so; the caller goes on as if it
    /// were not there.
    pub(crate) fn own_form(&self, key: &[u8], slot: Arc<dyn Slot>) -> Option<Arc<Entry<V>>> {
        let other = match slot.clone().into_any().downcast::<Entry<V>>() {
            Ok(entry) => return Some(entry),
            Err(other) => other,
        };
        if self.typed.is_none() {
            let (bytes, codec) = self.space.encode(&slot)?.inspect_err(|e| self.could_not_read(key, e)).ok()?;
            let encoded: Arc<dyn Slot> = self.twin(key, slot.as_ref(), bytes, codec as u8);
            return encoded.into_any().downcast().ok();
        }
        let bytes = other.downcast::<Entry<Bytes>>().ok()?;
        let value = self.decode(bytes.meta.codec, bytes.value.clone()).inspect_err(|e| self.could_not_read(key, e)).ok()?;
        Some(self.twin(key, bytes.as_ref(), value, bytes.meta.codec))
    }

    fn twin<W>(&self, key: &[u8], other: &dyn Slot, value: W, codec: u8) -> Arc<Entry<W>> {
        let meta = other.meta();
        let new = NewMeta {
            stamp: meta.stamp(),
            times: meta.times(),
            life: meta.life,
            print: Print::new(other.fingerprint()),
            hashes: meta.hashes.clone(),
            tags: meta.tags.clone(),
            media: meta.media.clone(),
            origin: meta.origin_now(),
            load_cost_us: meta.load_cost_us,
            encoded_len: meta.encoded_len,
            codec,
            metrics: meta.metrics.clone(),
        };
        let twin = Meta::new(new, key.len(), self.shared.clock.now_ms());
        twin.read_now(meta.read_at());
        Arc::new(Entry { meta: twin, value })
    }

    /// Stored bytes that are no value of this type: a miss, since the value can be loaded again, but not a silent one.
    pub(crate) fn could_not_read(&self, key: &[u8], error: &Error) {
        self.space.metrics.count(Count::BackingError);
        tracing::debug!(key = %key.escape_ascii(), %error, "a stored value could not be read; it counts as a miss");
    }
}
