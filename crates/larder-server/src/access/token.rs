//! Tokens: `ldr_<id>_<secret>`. The id is no secret and is what a token is found, listed and revoked by; of the secret only a digest is
//! kept. As it is 32 bytes of chance, a plain SHA-256 is as good as any slower one: there is nothing to guess at.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::hex;

/// What every token begins with, so that it is recognised where it does not belong.
const PREFIX: &str = "ldr_";

/// Characters of an id: enough that no two are drawn alike.
const ID_LEN: usize = 12;

/// Bytes of chance in a secret.
const SECRET_BYTES: usize = 32;

/// Digits of base 62 that those take.
const SECRET_LEN: usize = 43;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The longest text that can be a token.
pub const TOKEN_LEN_MAX: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN;

/// A token as its owner has it. What prints it prints its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

/// What is kept of a secret.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no chance to give.
    pub fn draw() -> Result<Self, NoChance> {
        let mut id = String::with_capacity(ID_LEN);
        while id.len() < ID_LEN {
            // What is left over at the end of a byte would make some digits likelier.
            id.extend(chance::<16>()?.iter().filter(|byte| **byte < 248).map(|byte| char::from(DIGITS[usize::from(*byte) % 62])));
        }
        id.truncate(ID_LEN);
        Ok(Token { id, secret: secret()? })
    }

    /// Another secret for the same id.
    ///
    /// # Errors
    /// As [`draw`](Self::draw).
    pub fn draw_again(id: &str) -> Result<Self, NoChance> {
        Ok(Token { id: id.to_owned(), secret: secret()? })
    }

    /// Reads one. `None` for what is none by its form.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
        let (id, secret) = rest.split_once('_')?;
        let is_plain = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_plain(id, ID_LEN) && is_plain(secret, SECRET_LEN)).then(|| Token { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All of it: to be told once, to its owner.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }
}

fn secret() -> Result<String, NoChance> {
    let mut number = chance::<SECRET_BYTES>()?;
    let mut digits = [0u8; SECRET_LEN];
    for digit in digits.iter_mut().rev() {
        // A long division by 62, the most significant byte first.
        let left = number.iter_mut().fold(0u32, |left, byte| {
            let now = left << 8 | u32::from(*byte);
            *byte = (now / 62) as u8;
            now % 62
        });
        *digit = DIGITS[left as usize];
    }
    Ok(digits.iter().map(|digit| char::from(*digit)).collect())
}

/// Bytes of chance.
///
/// # Errors
/// When the system has none to give.
pub fn chance<const N: usize>() -> Result<[u8; N], NoChance> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoChance)?;
    Ok(bytes)
}

/// The system has no chance to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChance;

impl fmt::Display for NoChance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random bytes")
    }
}

impl std::error::Error for NoChance {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({PREFIX}{}_***)", self.id)
    }
}

impl Digest {
    /// Of a secret.
    pub fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
        Digest(bytes)
    }

    /// That of no secret: what one is compared with where there is nothing to compare it with, so that it takes as long.
    pub const fn nobodys() -> Self {
        Digest([0; 32])
    }

    /// Whether both are of one secret. It takes as long whatever differs.
    pub fn is(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Itself: to be looked up by, which is no comparison of secrets, since who steers a secret does not steer its digest.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        hex::parse(text)?.try_into().ok().map(Digest)
    }

    /// As 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::of(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(***)")
    }
}

/// For tests and comparisons of what is known alike.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Digest {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_told_and_shows_nothing_else() {
        let token = Token::draw().unwrap();
        let text = token.reveal();
        assert_eq!((text.len(), Token::parse(text.as_bytes())), (TOKEN_LEN_MAX, Some(token.clone())));
        assert!(!format!("{token:?} {:?}", token.digest()).contains(&token.secret));
        assert_ne!(Token::draw().unwrap().reveal(), text);
        let again = Token::draw_again(token.id()).unwrap();
        assert!(again.id() == token.id() && !again.digest().is(&token.digest()));
        assert_eq!(Digest::parse(&token.digest().hex()), Some(token.digest()));
        assert!(Digest::parse("00").is_none() && Digest::parse(&"g".repeat(64)).is_none());
    }

    #[test]
    fn the_digits_of_a_secret_are_all_used() {
        let digits: std::collections::BTreeSet<u8> = (0..60).flat_map(|_| secret().unwrap().into_bytes()).collect();
        assert_eq!(digits.len(), 62);
        assert!((0..60).all(|_| secret().unwrap().len() == SECRET_LEN));
    }

    proptest! {
        #![proptest_config(crate::demo::properties())]

        #[test]
        fn what_is_no_token_is_none(text in "(ldr_|)[a-zA-Z0-9_]{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            for text in [text.as_bytes(), &bytes] {
                if let Some(token) = Token::parse(text) {
                    prop_assert_eq!(token.reveal().into_bytes(), text.to_vec());
                }
            }
        }
    }
}
