//! Sessions of people who look at the server with a browser: begun with a password, held in a cookie, gone when the server ends.
//!
//! The cookie is a secret as a token's is, and only its digest is kept. What changes something also needs a word that the page knows and
//! that another site's page cannot read, since a browser sends cookies along with whatever it is told to send.

use std::collections::HashMap;
use std::sync::Arc;

use larder::access::Principal;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::identity::{Identity, Proof};
use super::password::Hashed;
use super::token::{Digest, NoChance, Token};

/// Sessions at once; of more, the one that ends first is over.
const SESSIONS_MAX: usize = 10_000;

/// Sessions of one person at once, likewise.
const OF_ONE_MAX: usize = 32;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Debug)]
struct Session {
    digest: Digest,
    principal: String,
    hashed: Hashed,
    word: Word,
    expires_ms: u64,
}

/// What a page proves with that it was read from here.
#[derive(Clone)]
struct Word(String);

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Word(***)")
    }
}

/// A session that was begun: what its owner is told.
pub struct Begun {
    /// The cookie's value.
    pub secret: String,
    /// The word for what changes something.
    pub word: String,
}

impl Sessions {
    /// Begins one for who proved to be somebody with a password.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn begin(&self, who: &Principal, hashed: &Hashed, expires_ms: u64, now: u64) -> Result<Begun, NoChance> {
        let (secret, word) = (Token::draw()?.reveal(), Token::draw()?.reveal());
        let digest = Digest::of(secret.as_bytes());
        let mut all = self.0.lock();
        all.retain(|_, session| now < session.expires_ms);
        let first = |all: &HashMap<[u8; 32], Session>, of: Option<&str>| {
            let those = all.iter().filter(|(_, session)| of.is_none_or(|name| session.principal == name));
            let count = those.clone().count();
            (count, those.min_by_key(|(_, session)| session.expires_ms).map(|(at, _)| *at))
        };
        for (of, most) in [(Some(who.name()), OF_ONE_MAX), (None, SESSIONS_MAX)] {
            if let (count, Some(at)) = first(&all, of)
                && count >= most
            {
                all.remove(&at);
            }
        }
        let session = Session { digest, principal: who.name().to_owned(), hashed: hashed.clone(), word: Word(word.clone()), expires_ms };
        all.insert(digest.bytes(), session);
        Ok(Begun { secret, word })
    }

    /// What is known of the session with this cookie: who it is, as far as the session goes, and the word.
    pub fn find(&self, secret: &[u8], now: u64, principal: impl FnOnce(&str) -> Option<Principal>) -> Option<(Arc<Identity>, String)> {
        let digest = Digest::of(secret);
        let all = self.0.lock();
        // Looked up by the digest, which nobody can steer towards another's.
        let session = all.get(&digest.bytes()).filter(|session| session.digest.is(&digest) && now < session.expires_ms)?;
        let principal = principal(&session.principal)?;
        let proof = Proof::Session { session: digest, hashed: session.hashed.clone() };
        Some((Arc::new(Identity { principal, proof, expires_ms: Some(session.expires_ms) }), session.word.0.clone()))
    }

    /// Whether a page knows the word.
    pub fn is_word(right: &str, given: &[u8]) -> bool {
        right.as_bytes().ct_eq(given).into()
    }

    /// Until when a session lasts, if it does now.
    pub fn expires_ms(&self, session: &Digest, now: u64) -> Option<u64> {
        self.0.lock().get(&session.bytes()).map(|session| session.expires_ms).filter(|at| now < *at)
    }

    /// Ends one.
    pub fn end(&self, session: &Digest) {
        self.0.lock().remove(&session.bytes());
    }

    /// Lets go of those that are over.
    pub fn sweep(&self, now: u64) {
        self.0.lock().retain(|_, session| now < session.expires_ms);
    }
}
