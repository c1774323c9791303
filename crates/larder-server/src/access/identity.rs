//! Somebody who has proven who they are.

use larder::access::{Operation, Principal, Target};

use super::password::Hashed;
use super::token::Digest;
use crate::tls::PeerName;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who they are, with what they might do when it was proven.
    pub principal: Principal,
    /// How it was proven.
    pub proof: Proof,
    /// Until when it holds, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// How it was proven who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// With a token.
    Token {
        /// Which.
        id: Box<str>,
        /// Which of its secrets.
        digest: Digest,
    },
    /// With a password.
    Password(Hashed),
    /// With a name in a certificate that was verified when the connection began.
    Certificate(PeerName),
    /// With a session, which a password was given for.
    Session {
        /// Which.
        session: Digest,
        /// The password that it was begun with.
        hashed: Hashed,
    },
}

impl Identity {
    /// Whether it may read a key.
    #[inline]
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.principal.rights().allows(Operation::Read, Target::Key(key))
    }

    /// Whether it may read whatever there is.
    pub fn reads_all(&self) -> bool {
        self.principal.rights().allows_everywhere(Operation::Read)
    }

    /// Whether it holds at a time, as far as time goes.
    pub fn is_live(&self, now: u64) -> bool {
        self.expires_ms.is_none_or(|at| now < at)
    }
}
