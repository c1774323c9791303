//! Passwords of people, as Argon2id keeps them: slow to compute and large in memory, so that who steals the file cannot try many. The
//! numbers are those that OWASP recommends. How many are computed at once is the door's affair.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use subtle::ConstantTimeEq;

use super::token::{NoChance, chance};

const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a file may ask for at most: else whoever writes it could have each attempt take all memory.
const MEMORY_KIB_MAX: u32 = 256 * 1_024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;

/// Bytes of the salt and of the hash.
const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// Bytes that a password may have: fewer are guessed, more are an attempt to have much computed.
pub const PASSWORD_LEN: std::ops::RangeInclusive<usize> = 10..=256;

/// What is kept of a password. Its text is `$argon2id$v=19$m=..,t=..,p=..$salt$hash`, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    numbers: (u32, u32, u32),
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Hashed {
    /// Of a password, with a salt of its own. It takes tens of milliseconds.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn of(password: &[u8]) -> Result<Self, NoChance> {
        let numbers = (MEMORY_KIB, PASSES, LANES);
        let salt = chance::<SALT_LEN>()?.to_vec();
        let hash = compute(numbers, password, &salt, HASH_LEN);
        Ok(Hashed { numbers, salt, hash })
    }

    /// That of nobody: what a password is compared with where there is no such person, so that it takes as long.
    pub fn nobodys() -> Self {
        Hashed { numbers: (MEMORY_KIB, PASSES, LANES), salt: vec![0; SALT_LEN], hash: vec![0; HASH_LEN] }
    }

    /// The same, taking as long as another does.
    pub fn nobodys_like(other: &Hashed) -> Self {
        Hashed { numbers: other.numbers, hash: vec![0; other.hash.len()], ..Self::nobodys() }
    }

    /// Whether both take as long to be compared with.
    pub fn costs_as(&self, other: &Hashed) -> bool {
        self.numbers == other.numbers && self.hash.len() == other.hash.len()
    }

    /// Whether this is the password. It takes as long as [`of`](Self::of).
    pub fn is(&self, password: &[u8]) -> bool {
        compute(self.numbers, password, &self.salt, self.hash.len()).ct_eq(&self.hash).into()
    }

    /// Reads its text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (numbers, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut numbers = numbers.split(',');
        let mut number = |name: &str, most: u32| {
            let number = numbers.next()?.strip_prefix(name)?.parse::<u32>().ok()?;
            (1..=most).contains(&number).then_some(number)
        };
        let numbers = (number("m=", MEMORY_KIB_MAX)?, number("t=", PASSES_MAX)?, number("p=", LANES_MAX)?);
        let (salt, hash) = (BASE64.decode(salt).ok()?, BASE64.decode(hash).ok()?);
        // What Argon2 takes at least.
        let is_sound = (8..=64).contains(&salt.len()) && (16..=64).contains(&hash.len()) && numbers.0 >= 8 * numbers.2;
        is_sound.then_some(Hashed { numbers, salt, hash })
    }

    /// Its text, for the file.
    pub fn text(&self) -> String {
        let (memory, passes, lanes) = self.numbers;
        format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", BASE64.encode(&self.salt), BASE64.encode(&self.hash))
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(***)")
    }
}

fn compute((memory, passes, lanes): (u32, u32, u32), password: &[u8], salt: &[u8], len: usize) -> Vec<u8> {
    let params = Params::new(memory, passes, lanes, Some(len)).expect("they were checked, or are ours");
    let mut hash = vec![0; len];
    let computed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, &mut hash);
    computed.expect("salt and length were checked, or are ours");
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hashed = Hashed::of(b"correct horse").unwrap();
        assert!(hashed.is(b"correct horse") && !hashed.is(b"correct horsf") && !Hashed::nobodys().is(b""));
        let read = Hashed::parse(&hashed.text()).unwrap();
        assert_eq!(read, hashed);
        assert_eq!(format!("{hashed:?}"), "Hashed(***)");
        // The reference's own answer, from RFC 9106's numbers as the command `argon2` writes it.
        assert!(Hashed::parse("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA").is_some());
    }

    #[test]
    fn what_would_cost_too_much_or_is_none_is_not_taken() {
        let good = Hashed::nobodys().text();
        for bad in [
            String::new(),
            good.replace("argon2id", "argon2i"),
            good.replace("m=19456", "m=99999999"),
            good.replace("t=2", "t=0"),
            good.replace("p=1", "p=99"),
            format!("{good}$more"),
            good.replace("v=19", "v=16"),
            good.replace("m=19456", "m=4"),
        ] {
            assert_eq!(Hashed::parse(&bad), None, "{bad}");
        }
    }
}
