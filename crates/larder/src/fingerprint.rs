//! Fingerprints: whether content is still the same, without keeping the content.
//!
//! A fingerprint is of the *whole* content: what differs in its last element differs. Equal content has equal fingerprints
//! whatever wrote it, as the parts of this module define "equal":
//!
//! - **bytes and text** are equal if every byte is;
//! - **serde values** ([`Json`]) are equal if their canonical JSON is: see [`canonical`](self::canonical_json);
//! - **arrays of numbers** ([`Array`]) are equal if type, shape and every element are.
//!
//! It knows nothing of entries, but for `Print`, which is where they keep theirs.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;

use crate::codec::Encoded;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU64, Ordering};

mod array;
mod canonical;

pub use array::{Array, Number};
pub use canonical::canonical_json;

/// Whoever asks for a fingerprint may be a sweeper, who looks at hundreds of entries in a step and must not hold up a thread for that: what
/// is larger is worked out when it comes, where copying it is the greater part.
const WAITS_MAX: usize = 4 << 10;

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
    /// The fingerprint of an encoded value, for its entry: at once if there is nothing to work it out from later.
    pub(crate) fn print_of(self, encoded: &Encoded<'_>) -> Print {
        match encoded {
            Encoded::Itself(bytes) if bytes.len() <= WAITS_MAX => Print::waiting(self),
            bytes => Print::new(self.of(bytes).as_u128()),
        }
    }

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

/// The fingerprint of an encoded value, where an entry keeps it.
///
/// That of a value which is its own encoded form waits until somebody asks: most such entries are replaced or evicted before, and of a
/// put of 1 KB it was an eighth of the instructions. Whoever asks works it out from the same bytes, so that two who do at once write the
/// same, and no half of it needs to wait for the other: as long as either is zero it counts as not known.
#[derive(Debug, Default)]
pub(crate) struct Print {
    by: Hash,
    low: AtomicU64,
    high: AtomicU64,
}

impl Print {
    /// One that is known.
    pub(crate) fn new(fingerprint: u128) -> Self {
        Print { by: Hash::default(), low: AtomicU64::new(fingerprint as u64), high: AtomicU64::new((fingerprint >> 64) as u64) }
    }

    /// One that will be worked out from the value by this hash.
    pub(crate) fn waiting(by: Hash) -> Self {
        Print { by, ..Print::default() }
    }

    /// As it is; zero, or a half of it, if nobody asked yet.
    pub(crate) fn known(&self) -> u128 {
        let (low, high) = (self.low.load(Ordering::Relaxed), self.high.load(Ordering::Relaxed));
        u128::from(high) << 64 | u128::from(low)
    }

    /// As it is, worked out from the encoded value if it has to be.
    pub(crate) fn of(&self, encoded: &[u8]) -> u128 {
        let known = self.known();
        // By chance a half is zero in one of 2^63: that one is worked out each time.
        if known as u64 != 0 && known >> 64 != 0 {
            return known;
        }
        let Fingerprint(made) = self.by.of(encoded);
        self.low.store(made as u64, Ordering::Relaxed);
        self.high.store((made >> 64) as u64, Ordering::Relaxed);
        made
    }
}

impl Clone for Print {
    fn clone(&self) -> Self {
        Print { by: self.by, ..Print::new(self.known()) }
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
    fn one_that_waits_is_the_same_as_one_that_is_made_at_once_and_halves_of_it_are_not_taken_for_it() {
        let value = Bytes::from_static(b"a value");
        for hash in [Hash::Xxh3, Hash::Blake3] {
            let expected = hash.of(&value).as_u128();
            let waits = hash.print_of(&Encoded::Itself(&value));
            assert_eq!(waits.known(), 0, "nobody asked yet");
            assert_eq!((waits.clone().of(&value), waits.of(&value), waits.known()), (expected, expected, expected));
            assert_eq!(hash.print_of(&Encoded::Made(value.clone())).known(), expected);
            let large = Bytes::from(vec![7; WAITS_MAX + 1]);
            assert_eq!(hash.print_of(&Encoded::Itself(&large)).known(), hash.of(&large).as_u128(), "what is large does not wait");
            // Somebody has written one half and not the other.
            for half in [expected & u128::from(u64::MAX), expected >> 64 << 64] {
                assert_eq!(Print { by: hash, ..Print::new(half) }.of(&value), expected);
            }
        }
        assert_eq!(Print::new(7 << 64 | 9).of(b"something else"), 7 << 64 | 9, "what came with a record is not worked out anew");
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
