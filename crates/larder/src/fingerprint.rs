//! Fingerprints: whether content is still the same, without keeping the content.
//!
//! A fingerprint is of the *whole* content: what differs in its last element differs. Equal content has equal fingerprints
//! whatever wrote it, as the parts of this module define "equal":
//!
//! - **bytes and text** are equal if every byte is;
//! - **serde values** ([`Json`]) are equal if their canonical JSON is: see [`canonical`](self::canonical_json);
//! - **arrays of numbers** ([`Array`]) are equal if type, shape and every element are.
//!
//! It knows nothing of entries.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

mod array;
mod canonical;

pub use array::{Array, Number};
pub use canonical::canonical_json;

/// How fingerprints are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hash {
    /// XXH3 of 128 bits: as fast as memory. Equal fingerprints of different content do not happen by chance, but somebody who
    /// wants them can make them. The default.
    #[default]
    Xxh3,
    /// The first 128 bits of BLAKE3: nobody can find content with a given fingerprint. For content that others write.
    Blake3,
}

impl Hash {
    /// The fingerprint of bytes as they are.
    pub fn of(self, bytes: &[u8]) -> Fingerprint {
        Fingerprint(match self {
            Hash::Xxh3 => xxhash_rust::xxh3::xxh3_128(bytes),
            Hash::Blake3 => {
                let hash = blake3::hash(bytes);
                let half: [u8; 16] = hash.as_bytes()[..16].try_into().expect("a BLAKE3 hash has 32 bytes");
                u128::from_be_bytes(half)
            }
        })
    }
}

/// What 128 bits say about content.
///
/// ```
/// use larder::fingerprint::{Fingerprint, Hash, Json};
/// let one = Fingerprint::of(&Json(&serde_json::json!({ "open": 1, "close": 2.5 })), Hash::Xxh3)?;
/// let same = Fingerprint::of(&Json(&serde_json::json!({ "close": 2.5, "open": 1.0 })), Hash::Xxh3)?;
/// assert_eq!(one, same);
/// assert_eq!(one.to_string().parse::<Fingerprint>()?, one);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) u128);

impl Fingerprint {
    /// The fingerprint of some content.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] if serde cannot write it as JSON, such as a map whose keys are no text or numbers.
    pub fn of<C: Content + ?Sized>(content: &C, hash: Hash) -> Result<Self> {
        content.fingerprint(hash)
    }

    /// As a number.
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl From<u128> for Fingerprint {
    fn from(number: u128) -> Self {
        Fingerprint(number)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| u128::from_str_radix(text, 16));
        let bad = || Error::new(ErrorKind::Codec, format!("a fingerprint is 32 hexadecimal digits, not \"{}\"", text.escape_debug()));
        number.and_then(std::result::Result::ok).map(Fingerprint).ok_or_else(bad)
    }
}

/// Content that can be compared by its fingerprint.
pub trait Content {
    /// Its fingerprint.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] if it cannot be written in the form that is compared.
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint>;
}

/// Known already.
impl Content for Fingerprint {
    fn fingerprint(&self, _: Hash) -> Result<Fingerprint> {
        Ok(*self)
    }
}

macro_rules! bytes_as_they_are {
    ($($type:ty),+) => {
        $(impl Content for $type {
            fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
                Ok(hash.of(self.as_ref()))
            }
        })+
    };
}

bytes_as_they_are!([u8], Vec<u8>, Bytes, str, String);

impl<const N: usize> Content for [u8; N] {
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
        Ok(hash.of(self))
    }
}

/// A value that serde can write, compared by its [canonical JSON](canonical_json).
#[derive(Clone, Copy, Debug)]
pub struct Json<'a, T: ?Sized>(pub &'a T);

impl<T: Serialize + ?Sized> Content for Json<'_, T> {
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
        canonical_json(self.0).map(|text| hash.of(&text))
    }
}

impl<C: Content + ?Sized> Content for &C {
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
        (**self).fingerprint(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_are_hashed_as_they_are() {
        let bytes = Bytes::from_static(b"abc");
        let expected = Fingerprint(xxhash_rust::xxh3::xxh3_128(b"abc"));
        for got in [bytes.fingerprint(Hash::Xxh3), "abc".fingerprint(Hash::Xxh3), b"abc".fingerprint(Hash::Xxh3)] {
            assert_eq!(got.unwrap(), expected);
        }
        // From BLAKE3's own test vectors: the hash of nothing.
        assert_eq!(Hash::Blake3.of(b"").to_string(), "af1349b9f5f9a1a6a0404dea36dcc949");
    }

    #[test]
    fn one_element_far_behind_counts() {
        let mut bytes = vec![0u8; 100_000];
        for hash in [Hash::Xxh3, Hash::Blake3] {
            let before = bytes.fingerprint(hash).unwrap();
            bytes[99_999] ^= 1;
            assert_ne!(bytes.fingerprint(hash).unwrap(), before);
        }
    }

    #[test]
    fn text_that_is_no_fingerprint_is_refused() {
        for text in ["", "12", "zz1349b9f5f9a1a6a0404dea36dcc949", "+f1349b9f5f9a1a6a0404dea36dcc949", "af1349b9f5f9a1a6a0404dea36dcc9490"]
        {
            assert_eq!(text.parse::<Fingerprint>().unwrap_err().kind(), ErrorKind::Codec, "{text}");
        }
    }
}
