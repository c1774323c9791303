//! Keys of backups: whom they are sealed to, and what opens them. The files are age's (age-encryption.org/v1), so that they can be opened
//! without larder, and the keys are those that `age-keygen` makes.
//!
//! ```text
//!   recipients    every file is sealed to the public keys
//!   passphrase    a key is made for this backup alone, which every file is sealed to; it lies in the backup, sealed by the passphrase
//! ```
//!
//! So a passphrase costs its work once for a backup, and not for each of its files. No secret is printed: not by `Debug`, and not in a
//! message about what is wrong with it.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;
use std::sync::Arc;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519;
use age::{DecryptError, Decryptor, Encryptor};
use larder::backup::{Encryption, NotOpened, Opener, Sealer, Unsealed};
use serde::{Deserialize, Serialize};

/// What the manifest calls it.
const SCHEME: &str = "age";

/// The fewest characters of a passphrase that backups are sealed by. Who has a copy may try as many as they can pay for.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// Passphrases are stretched by scrypt with N = 2^16: a quarter of a second and 64 MiB, beside a cache that needs its memory. age's own
/// programs take 2^18.
const WORK_FACTOR: u8 = 16;

/// The most work that an archive may ask for: what age's own programs ask for, a second and 256 MiB.
const WORK_FACTOR_MAX: u8 = 18;

/// The most that the head of an age file may have.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most lines of it: two for each recipient, and what age adds lest readers count on less. It is parsed again for each line, so that
/// one of nothing but short lines would take seconds.
const HEAD_LINES_MAX: usize = 4 * RECIPIENTS_MAX + 16;

/// Whom a backup can be sealed to at once; the same as the library's bound.
pub const RECIPIENTS_MAX: usize = 64;

/// A public key, that of age's own documentation.
pub const EXAMPLE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// A text that is not shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A public key that backups are sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            // Shown to nobody, and known to too many by now.
            return Err(format!(
                "a secret key stands where its public one belongs, which `age-keygen -y` tells; expected a public key of age, as {EXAMPLE}"
            ));
        }
        text.parse()
            .map(Recipient)
            .map_err(|_| format!("expected a public key of age, as {EXAMPLE}; keys of ssh and of plugins cannot be used"))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a backup is sealed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealBy {
    /// To public keys.
    Recipients(Vec<Recipient>),
    /// By a passphrase.
    Passphrase(Passphrase),
}

/// What somebody remembers, or a file holds.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Any text: what opens a backup is what it was sealed by.
    pub fn new(text: String) -> Self {
        Passphrase(text.into())
    }

    /// One to seal by.
    ///
    /// # Errors
    /// Where it is too short to be worth anything.
    pub fn to_seal_by(text: String) -> Result<Self, String> {
        match text.chars().count() {
            chars if chars < PASSPHRASE_CHARS_MIN => Err(format!(
                "a passphrase that backups are encrypted by has {PASSPHRASE_CHARS_MIN} characters or more, and this one {chars}: take some \
                 words by chance, or a key of age-keygen"
            )),
            _ => Ok(Passphrase::new(text)),
        }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(***)")
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Passphrase {}

impl SealBy {
    /// What seals one backup. A passphrase takes a quarter of a second.
    ///
    /// # Errors
    /// Where there is nobody to seal to, or too many.
    pub fn sealer(&self) -> Result<Arc<dyn Sealer>, String> {
        let sealer = match self {
            SealBy::Recipients(recipients) if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX => {
                return Err(format!("backups are encrypted to 1 to {RECIPIENTS_MAX} keys, not to {}", recipients.len()));
            }
            SealBy::Recipients(recipients) => Sealing { recipients: recipients.iter().map(|one| one.0.clone()).collect(), key: None },
            SealBy::Passphrase(passphrase) => {
                let identity = x25519::Identity::generate();
                let recipient = identity.to_public();
                // As age-keygen writes it, for `age -d -i`.
                let text = format!("# the key of one backup of larder\n# public key: {recipient}\n");
                let text: SecretString = (text + identity.to_string().expose_secret() + "\n").into();
                let mut by = age::scrypt::Recipient::new(passphrase.0.clone());
                by.set_work_factor(WORK_FACTOR);
                let key = sealed_to(&[&by], text.expose_secret().as_bytes()).map_err(|e| format!("a key cannot be sealed: {e}"))?;
                Sealing { recipients: vec![recipient], key: Some(key) }
            }
        };
        Ok(Arc::new(sealer))
    }
}

#[derive(Debug)]
struct Sealing {
    recipients: Vec<x25519::Recipient>,
    /// A key, sealed by a passphrase.
    key: Option<Vec<u8>>,
}

impl Sealer for Sealing {
    fn scheme(&self) -> &str {
        SCHEME
    }

    fn recipients(&self) -> Vec<String> {
        self.recipients.iter().map(ToString::to_string).collect()
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn seal(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let recipients: Vec<&dyn age::Recipient> = self.recipients.iter().map(|one| one as _).collect();
        sealed_to(&recipients, bytes)
    }
}

fn sealed_to(recipients: &[&dyn age::Recipient], bytes: &[u8]) -> io::Result<Vec<u8>> {
    let encryptor = Encryptor::with_recipients(recipients.iter().copied()).map_err(io::Error::other)?;
    // A head of some hundred bytes for each recipient, and 16 for each 64 KiB.
    let mut sealed = Vec::with_capacity(bytes.len() + bytes.len() / 4096 + 1024 + 256 * recipients.len());
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(sealed)
}

/// What opens backups: secret keys, and passphrases.
#[derive(Clone, Default)]
pub struct Keys {
    identities: Vec<x25519::Identity>,
    passphrases: Vec<Passphrase>,
}

impl Keys {
    /// Adds the secret keys of a file as `age-keygen` writes it: one a line, and lines that begin with `#`.
    ///
    /// # Errors
    /// Where it is no such file. What is in it is not told.
    pub fn add_identities(&mut self, text: &str) -> Result<(), String> {
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
            return Err("it is encrypted itself: open it with `age -d` first".to_owned());
        }
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let before = self.identities.len();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let identity = line.parse::<x25519::Identity>();
            self.identities.push(identity.map_err(|_| {
                format!("line {number} is no secret key of age (AGE-SECRET-KEY-1...); keys of ssh and of plugins cannot be used")
            })?);
        }
        if self.identities.len() == before { Err("there is no key in it".to_owned()) } else { Ok(()) }
    }

    /// Adds a passphrase.
    pub fn add_passphrase(&mut self, passphrase: Passphrase) {
        self.passphrases.push(passphrase);
    }

    /// Adds what somebody gave to open a backup with.
    ///
    /// # Errors
    /// As [`add_identities`](Self::add_identities).
    pub fn add_given(&mut self, identities: &[Hidden], passphrase: Option<&Hidden>) -> Result<(), String> {
        identities.iter().try_for_each(|Hidden(text)| self.add_identities(text))?;
        passphrase.into_iter().for_each(|Hidden(text)| self.add_passphrase(Passphrase::new(text.clone())));
        Ok(())
    }

    /// What opens with all of them; nothing where there are none, so that who verifies without a key is told that nothing was opened.
    pub fn opener(&self) -> Option<Arc<dyn Opener>> {
        let is_any = !self.identities.is_empty() || !self.passphrases.is_empty();
        is_any.then(|| Arc::new(self.clone()) as Arc<dyn Opener>)
    }

    fn public(&self) -> Vec<String> {
        self.identities.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    /// Opens the key that lies in a backup.
    fn key_of(&self, key: &[u8], recipients: &[String]) -> Result<x25519::Identity, NotOpened> {
        let damaged = |why: &str| NotOpened::Damaged(format!("has a key, in key.age, that {why}"));
        if self.passphrases.is_empty() {
            return Err(NotOpened::NoKey(format!("is encrypted by a passphrase, and none was given{}", self.instead())));
        }
        for passphrase in &self.passphrases {
            let mut by = age::scrypt::Identity::new(passphrase.0.clone());
            by.set_max_work_factor(WORK_FACTOR_MAX);
            let text = match opened_by(&by, key) {
                Ok(text) => text,
                Err(Closed::NotForThis) => continue,
                Err(Closed::TooMuchWork(asked)) => {
                    let why = format!("asks for 2^{asked} rounds of scrypt for its key, in key.age, and 2^{WORK_FACTOR_MAX} are the most");
                    return Err(NotOpened::Unknown(why));
                }
                Err(Closed::Damaged(why)) => return Err(damaged(&why)),
            };
            let text = String::from_utf8(text).map(SecretString::from).map_err(|_| damaged("is no text"))?;
            let mut inside = Keys::default();
            inside.add_identities(text.expose_secret()).map_err(|_| damaged("is none of age"))?;
            // Else who can write there could have one file opened by a key of theirs, and the others by ours.
            return match <[x25519::Identity; 1]>::try_from(inside.identities) {
                Ok([identity]) if recipients == [identity.to_public().to_string()] => Ok(identity),
                _ => Err(damaged("is not the one that its manifest names")),
            };
        }
        Err(NotOpened::NoKey("is encrypted by a passphrase, and not by what was given".to_owned()))
    }

    /// What was given that does not help.
    fn instead(&self) -> String {
        const TOLD: usize = 4;
        match &*self.public() {
            [] => String::new(),
            [one] => format!("; there is the key of {one}"),
            some if some.len() <= TOLD => format!("; there are the keys of {}", some.join(", ")),
            many => format!("; there are the keys of {} and of {} more", many[..TOLD].join(", "), many.len() - TOLD),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public()).field("passphrases", &self.passphrases.len()).finish()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        (self.public(), &self.passphrases) == (other.public(), &other.passphrases)
    }
}

impl Eq for Keys {}

impl Opener for Keys {
    fn unseal(&self, encryption: &Encryption, key: Option<&[u8]>) -> Result<Arc<dyn Unsealed>, NotOpened> {
        if encryption.scheme != SCHEME {
            let why = format!("is encrypted by \"{}\", and this version of larder knows {SCHEME}", encryption.scheme.escape_debug());
            return Err(NotOpened::Unknown(why));
        }
        let is_ours = |identity: &&x25519::Identity| encryption.recipients.contains(&identity.to_public().to_string());
        let identity = match (self.identities.iter().find(is_ours), key) {
            (Some(identity), _) => identity.clone(),
            (None, Some(key)) => self.key_of(key, &encryption.recipients)?,
            (None, None) => {
                let given = if self.identities.is_empty() { "; there is only a passphrase".to_owned() } else { self.instead() };
                let recipients = encryption.recipients.join(", ");
                return Err(NotOpened::NoKey(format!("is encrypted to {recipients}, and no key of it was given{given}")));
            }
        };
        Ok(Arc::new(Unlocked(identity)))
    }
}

/// The secret key of one backup.
struct Unlocked(x25519::Identity);

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlocked({})", self.0.to_public())
    }
}

impl Unsealed for Unlocked {
    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        opened_by(&self.0, sealed).map_err(|closed| match closed {
            Closed::Damaged(why) => why,
            Closed::NotForThis | Closed::TooMuchWork(_) => format!("is not encrypted to {}, as its manifest says", self.0.to_public()),
        })
    }
}

/// Why an age file is not opened.
enum Closed {
    NotForThis,
    TooMuchWork(u8),
    /// As the end of a sentence that begins with what it is.
    Damaged(String),
}

fn opened_by(identity: &dyn age::Identity, sealed: &[u8]) -> Result<Vec<u8>, Closed> {
    let damaged = |why: &str| Closed::Damaged(why.to_owned());
    let head = &sealed[..sealed.len().min(HEAD_BYTES_MAX)];
    let end = head.windows(4).position(|end| end == b"\n---");
    let Some(end) = end.filter(|_| head.starts_with(b"age-encryption.org/v1\n")) else {
        return Err(damaged("is no file of age, or one whose head has no end"));
    };
    if head[..end].iter().filter(|byte| **byte == b'\n').count() > HEAD_LINES_MAX {
        return Err(damaged("has a head that is longer than any that is written"));
    }
    let closed = |error| match error {
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => Closed::NotForThis,
        DecryptError::ExcessiveWork { required, .. } => Closed::TooMuchWork(required),
        // Its own words are of files on a command line.
        DecryptError::InvalidMac => damaged("was changed in its head since it was encrypted"),
        _ => damaged("is no file of age, or was cut short"),
    };
    let mut reader = Decryptor::new_buffered(sealed).map_err(closed)?.decrypt(std::iter::once(identity)).map_err(closed)?;
    // What comes out is shorter than what goes in.
    let mut opened = Vec::with_capacity(sealed.len());
    match reader.read_to_end(&mut opened) {
        Ok(_) => Ok(opened),
        Err(_) => Err(damaged("was cut short or changed since it was encrypted")),
    }
}

#[cfg(test)]
mod tests;
