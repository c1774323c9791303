//! Values to bytes and back: the codec, and compression above a size.

use std::any::{Any, TypeId};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// A type that can be cached: anything that serde can write and read.
///
/// Implemented for every type that qualifies; there is nothing to implement by hand.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// A value in its encoded form.
pub(crate) enum Encoded<'v> {
    /// It is bytes already. A second handle to them costs an allocation, so there is none until somebody needs it.
    Itself(&'v Bytes),
    /// Bytes that were made of it.
    Made(Bytes),
}

impl std::ops::Deref for Encoded<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Encoded::Itself(bytes) => bytes,
            Encoded::Made(bytes) => bytes,
        }
    }
}

/// How values become bytes for the backing tier and for other protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// The bytes themselves: for [`Bytes`], `Vec<u8>` and `String`, and the only codec for the first two.
    Bytes = 0,
    /// JSON: every language reads it. The default.
    #[default]
    Json = 1,
    /// postcard: the smallest and fastest; not self-describing, so a changed type reads old values as misses at best.
    Postcard = 2,
    /// MessagePack with field names: nearly as small, and as tolerant of added fields as JSON.
    MessagePack = 3,
}

/// How payloads are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// LZ4: fast both ways.
    Lz4 = 1,
    /// zstd at level 1: smaller, at a few times the cost.
    Zstd = 2,
}

const UNCOMPRESSED: u8 = 0;

impl Codec {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Codec::Bytes, Codec::Json, Codec::Postcard, Codec::MessagePack].into_iter().find(|codec| *codec as u8 == number)
    }

    /// The codec that a namespace of `V` really uses when its policy names this one.
    pub(crate) fn for_type<V: 'static>(self) -> Result<Self> {
        let is = |types: &[TypeId]| types.contains(&TypeId::of::<V>());
        if is(&[TypeId::of::<Bytes>(), TypeId::of::<Vec<u8>>()]) {
            return Ok(Codec::Bytes);
        }
        if self == Codec::Bytes && !is(&[TypeId::of::<String>()]) {
            let message = format!("the codec \"bytes\" takes Bytes, Vec<u8> or String, not {}", std::any::type_name::<V>());
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        Ok(self)
    }

    pub(crate) fn encode<V: Value>(self, value: &V) -> Result<Bytes> {
        self.encoded(value).map(|encoded| match encoded {
            Encoded::Itself(bytes) => bytes.clone(),
            Encoded::Made(bytes) => bytes,
        })
    }

    /// The same without a handle of its own where the value is its own encoded form.
    pub(crate) fn encoded<V: Value>(self, value: &V) -> Result<Encoded<'_>> {
        let failed =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Codec, "the value cannot be encoded").with_source(e);
        match self {
            Codec::Bytes => return Ok(as_bytes(value)),
            Codec::Json => serde_json::to_vec(value).map_err(|e| failed(e.into())),
            Codec::Postcard => postcard::to_stdvec(value).map_err(|e| failed(e.into())),
            Codec::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| failed(e.into())),
        }
        .map(|bytes| Encoded::Made(bytes.into()))
    }

    pub(crate) fn decode<V: Value>(self, bytes: Bytes) -> Result<V> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("the stored bytes are not a {} as {self:?}", std::any::type_name::<V>());
            Error::new(ErrorKind::Codec, message).with_source(e)
        };
        match self {
            Codec::Bytes => from_bytes(bytes),
            Codec::Json => serde_json::from_slice(&bytes).map_err(|e| failed(e.into())),
            Codec::Postcard => postcard::from_bytes(&bytes).map_err(|e| failed(e.into())),
            Codec::MessagePack => rmp_serde::from_slice(&bytes).map_err(|e| failed(e.into())),
        }
    }
}

/// The value's own bytes. [`Codec::for_type`] has made sure that it is one of the three types.
fn as_bytes<V: Value>(value: &V) -> Encoded<'_> {
    let value: &dyn Any = value;
    let bytes = value.downcast_ref::<Bytes>().map(Encoded::Itself);
    let bytes = bytes.or_else(|| value.downcast_ref::<Vec<u8>>().map(|bytes| Encoded::Made(Bytes::copy_from_slice(bytes))));
    bytes
        .or_else(|| value.downcast_ref::<String>().map(|text| Encoded::Made(Bytes::copy_from_slice(text.as_bytes()))))
        .expect("the codec was checked when the namespace was opened")
}

fn from_bytes<V: Value>(bytes: Bytes) -> Result<V> {
    let made: Box<dyn Any> = if TypeId::of::<V>() == TypeId::of::<Bytes>() {
        Box::new(bytes)
    } else if TypeId::of::<V>() == TypeId::of::<Vec<u8>>() {
        Box::new(Vec::from(bytes))
    } else {
        let text = String::from_utf8(bytes.into())
            .map_err(|e| Error::new(ErrorKind::Codec, "the stored bytes are not UTF-8 text").with_source(e))?;
        Box::new(text)
    };
    let mismatch = |_| Error::new(ErrorKind::Codec, format!("bytes cannot become a {}", std::any::type_name::<V>()));
    made.downcast::<V>().map(|value| *value).map_err(mismatch)
}

/// The payload to store, and the number of its compression. Compressed only where that makes it smaller.
pub(crate) fn compress(raw: Bytes, policy: Option<(Compression, usize)>) -> (Bytes, u8) {
    let Some((compression, _)) = policy.filter(|(_, above)| raw.len() > *above) else { return (raw, UNCOMPRESSED) };
    let packed = match compression {
        Compression::Lz4 => Some(lz4_flex::block::compress(&raw)),
        // Level 1 of zstd fails only for want of memory; the value as it is will do then.
        Compression::Zstd => zstd::bulk::compress(&raw, 1).ok(),
    };
    match packed {
        Some(packed) if packed.len() < raw.len() => (packed.into(), compression as u8),
        _ => (raw, UNCOMPRESSED),
    }
}

/// The other way. `raw_len` comes from the record and is checked against `limit` before anything is allocated, so that a
/// foreign record cannot ask for the machine's memory.
pub(crate) fn decompress(payload: Bytes, compression: u8, raw_len: usize, limit: usize) -> Result<Bytes> {
    let bad = |message: &'static str| Error::new(ErrorKind::Codec, message);
    if compression == UNCOMPRESSED {
        return Ok(payload);
    }
    if raw_len > limit {
        return Err(bad("the stored value says it is larger than its namespace allows"));
    }
    let raw = if compression == Compression::Lz4 as u8 {
        lz4_flex::block::decompress(&payload, raw_len).map_err(|e| bad("the stored value cannot be decompressed").with_source(e))?
    } else if compression == Compression::Zstd as u8 {
        zstd::bulk::decompress(&payload, raw_len).map_err(|e| bad("the stored value cannot be decompressed").with_source(e))?
    } else {
        return Err(bad("the stored value is compressed in a way this version does not know"));
    };
    if raw.len() == raw_len { Ok(raw.into()) } else { Err(bad("the stored value has another length than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Features {
        symbol: String,
        returns: Vec<f64>,
        bar: u64,
    }

    proptest! {
        #[test]
        fn every_codec_gives_back_what_it_got(symbol in ".{0,20}", returns in proptest::collection::vec(-1e9..1e9f64, 0..50), bar: u64) {
            let value = Features { symbol, returns, bar };
            for codec in [Codec::Json, Codec::Postcard, Codec::MessagePack] {
                let bytes = codec.encode(&value).unwrap();
                prop_assert_eq!(codec.decode::<Features>(bytes).unwrap(), value.clone());
            }
        }

        #[test]
        fn compression_gives_back_what_it_got(raw in proptest::collection::vec(0u8..4, 0..5000), above in 0usize..2000) {
            let raw = Bytes::from(raw);
            for compression in [Compression::Lz4, Compression::Zstd] {
                let (payload, number) = compress(raw.clone(), Some((compression, above)));
                prop_assert!(payload.len() <= raw.len());
                prop_assert_eq!(&decompress(payload, number, raw.len(), 5000).unwrap(), &raw);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), compression in 0u8..4, raw_len in 0usize..200) {
            for codec in [Codec::Json, Codec::Postcard, Codec::MessagePack] {
                if let Ok(value) = codec.decode::<Features>(bytes.clone().into()) {
                    prop_assert!(codec.encode(&value).is_ok());
                }
            }
            if let Ok(raw) = decompress(bytes.into(), compression, raw_len, 150) {
                prop_assert!(compression == 0 || raw.len() == raw_len);
            }
        }
    }

    #[test]
    fn a_record_cannot_ask_for_the_machines_memory() {
        assert_eq!(decompress(Bytes::from_static(b"x"), 2, usize::MAX, 1 << 20).unwrap_err().kind(), ErrorKind::Codec);
    }

    #[test]
    fn bytes_stay_bytes() {
        assert_eq!(Codec::Json.for_type::<Bytes>().unwrap(), Codec::Bytes);
        assert_eq!(Codec::Bytes.for_type::<String>().unwrap(), Codec::Bytes);
        assert_eq!(Codec::Bytes.for_type::<Features>().unwrap_err().kind(), ErrorKind::InvalidConfig);
        let text = Codec::Bytes.encode(&"hi".to_string()).unwrap();
        assert_eq!(Codec::Bytes.decode::<String>(text.clone()).unwrap(), "hi");
        assert_eq!(Codec::Bytes.decode::<Vec<u8>>(text).unwrap(), b"hi");
        assert!(Codec::Bytes.decode::<String>(Bytes::from_static(b"\xff")).is_err());
    }
}
