//! Signatures of webhooks, as Standard Webhooks has them (<https://www.standardwebhooks.com>): who sends signs what it sends
//! with a secret that the receiver has, too.
//!
//! ```text
//! webhook-id:        what the sender calls the message
//! webhook-timestamp: when it was sent, in seconds since the Unix epoch
//! webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">, and perhaps more of them, separated by blanks
//! ```
//!
//! It knows nothing of HTTP or of events, and is told what time it is.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

/// The header with what the sender calls the message.
pub const ID: &str = "webhook-id";
/// The header with the time at which it was sent.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// How far a message's time may be from the receiver's, either way, in seconds: as much as clocks are off and deliveries take.
/// Within it a message that somebody caught can be sent again; larder carries an event out once.
pub const TOLERANCE_S: u64 = 300;

/// What a secret begins with, so that it is recognised where it does not belong.
const SECRET_PREFIX: &str = "whsec_";

/// Bytes that a secret has: less can be guessed, and more adds nothing.
const SECRET_LEN: std::ops::RangeInclusive<usize> = 24..=64;

/// What a signature that is understood here begins with.
const VERSION: &str = "v1,";

/// Signatures of one message that are looked at: a sender has one for each secret that it has not yet given up.
const SIGNATURES_MAX: usize = 16;

/// What sender and receiver share. Its text is never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// What is wrong with it, without a part of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or_else(|| format!("it does not begin with {SECRET_PREFIX}"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| format!("what follows {SECRET_PREFIX} is no base64"))?;
        if !SECRET_LEN.contains(&bytes.len()) {
            let (least, most) = (SECRET_LEN.start(), SECRET_LEN.end());
            return Err(format!("it has {} bytes, and a secret has {least} to {most}", bytes.len()));
        }
        Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A message's signature, as the header has it.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        format!("{VERSION}{}", BASE64.encode(self.tag(id, timestamp_s, body)))
    }

    fn tag(&self, id: &str, timestamp_s: u64, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        [id.as_bytes(), b".", timestamp_s.to_string().as_bytes(), b".", body].into_iter().for_each(|part| context.update(part));
        context.sign()
    }

    /// Whether one of these is the right one. The body is gone over once, however many there are; and what is compared is a
    /// signature of both, by a function that takes as long whatever differs.
    fn is_signer(&self, given: &[Vec<u8>], id: &str, timestamp_s: u64, body: &[u8]) -> bool {
        let right = self.tag(id, timestamp_s, body);
        given.iter().any(|given| hmac::verify(&self.0, right.as_ref(), hmac::sign(&self.0, given).as_ref()).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    /// Whether both sign alike.
    fn eq(&self, other: &Self) -> bool {
        hmac::verify(&self.0, b"", hmac::sign(&other.0, b"").as_ref()).is_ok()
    }
}

/// What a message says of itself: the headers above.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// [`ID`].
    pub id: Option<&'a str>,
    /// [`TIMESTAMP`].
    pub timestamp: Option<&'a str>,
    /// [`SIGNATURE`].
    pub signature: Option<&'a str>,
}

impl Claims<'_> {
    /// Checks that the message was signed with one of the secrets, and lately.
    ///
    /// # Errors
    /// Which header is missing or wrong, in words that help nobody who does not have a secret.
    pub fn verify(&self, secrets: &[Secret], body: &[u8], now_s: u64) -> Result<(), String> {
        let missing = |header: &str| format!("{header}: missing; events are signed here, as Standard Webhooks says");
        let id = self.id.filter(|id| !id.is_empty()).ok_or_else(|| missing(ID))?;
        let timestamp = self.timestamp.ok_or_else(|| missing(TIMESTAMP))?;
        let signature = self.signature.ok_or_else(|| missing(SIGNATURE))?;
        // Digits alone, and no zero before them: what is signed is the number, and there must be one way to write it.
        let expected = || format!("{TIMESTAMP}: expected the seconds since the Unix epoch, as a whole number");
        let timestamp_s: u64 = timestamp.parse().ok().filter(|seconds: &u64| seconds.to_string() == timestamp).ok_or_else(expected)?;
        if timestamp_s.abs_diff(now_s) > TOLERANCE_S {
            return Err(format!("{TIMESTAMP}: is more than {TOLERANCE_S} seconds from this server's time"));
        }
        let of_version = signature.split_ascii_whitespace().filter_map(|one| one.strip_prefix(VERSION));
        let given: Vec<Vec<u8>> = of_version.take(SIGNATURES_MAX).filter_map(|one| BASE64.decode(one).ok()).collect();
        if given.is_empty() {
            return Err(format!("{SIGNATURE}: has no signature that looks like {VERSION}<base64>"));
        }
        match secrets.iter().any(|secret| secret.is_signer(&given, id, timestamp_s, body)) {
            true => Ok(()),
            false => Err(format!("{SIGNATURE}: was not made with a secret of this server over this id, time and body")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    const GIVEN: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: u64 = 1_614_265_330;

    fn secret(byte: u8) -> Secret {
        Secret::parse(&format!("whsec_{}", BASE64.encode([byte; 32]))).expect("it is one")
    }

    #[test]
    fn a_signature_is_the_one_that_other_libraries_make() {
        let secret = Secret::parse(GIVEN).expect("it is one");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_was_signed_is_taken_and_nothing_else() {
        let (old, new, other) = (secret(1), secret(2), secret(3));
        let secrets = [new.clone(), old.clone()];
        let time = NOW.to_string();
        let signatures = format!("v1a,AAAA {} v1,!! {}", other.sign("m", NOW, b"body"), old.sign("m", NOW, b"body"));
        let claims = Claims { id: Some("m"), timestamp: Some(&time), signature: Some(&signatures) };
        assert_eq!(claims.verify(&secrets, b"body", NOW), Ok(()));
        assert_eq!(claims.verify(&secrets, b"body", NOW + TOLERANCE_S), Ok(()));
        assert_eq!(claims.verify(&secrets, b"body", NOW - TOLERANCE_S), Ok(()));
        let refused = |claims: Claims<'_>, body: &[u8], now: u64, header: &str| {
            let why = claims.verify(&secrets, body, now).expect_err("it is not signed so");
            assert!(why.starts_with(&format!("{header}: ")), "{why}");
        };
        refused(claims, b"bodx", NOW, SIGNATURE);
        refused(claims, b"", NOW, SIGNATURE);
        refused(Claims { id: Some("n"), ..claims }, b"body", NOW, SIGNATURE);
        let later = (NOW + 1).to_string();
        refused(Claims { timestamp: Some(&later), ..claims }, b"body", NOW, SIGNATURE);
        refused(claims, b"body", NOW + TOLERANCE_S + 1, TIMESTAMP);
        refused(claims, b"body", NOW - TOLERANCE_S - 1, TIMESTAMP);
        for bad in ["", "soon", "-1", "+1614265330", "01614265330", "1614265330.0"] {
            refused(Claims { timestamp: Some(bad), ..claims }, b"body", NOW, TIMESTAMP);
        }
        refused(Claims { id: None, ..claims }, b"body", NOW, ID);
        refused(Claims { id: Some(""), ..claims }, b"body", NOW, ID);
        refused(Claims { timestamp: None, ..claims }, b"body", NOW, TIMESTAMP);
        for bad in [None, Some(""), Some("v1"), Some("v1,!"), Some("v2,AAAA")] {
            refused(Claims { signature: bad, ..claims }, b"body", NOW, SIGNATURE);
        }
        let theirs = other.sign("m", NOW, b"body");
        refused(Claims { signature: Some(&theirs), ..claims }, b"body", NOW, SIGNATURE);
        assert!(claims.verify(&[], b"body", NOW).is_err(), "no secret is nobody's");
    }

    #[test]
    fn a_secret_is_recognised_and_never_shown() {
        for (bad, why) in [("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begin"), ("whsec_no base64!", "base64"), ("whsec_c2hvcnQ=", "24 to 64")] {
            let told = Secret::parse(bad).expect_err("it is none");
            assert!(told.contains(why) && !told.contains("c2hvcnQ") && !told.contains("no base64!"), "{told}");
        }
        assert_eq!(format!("{:?}", Secret::parse(GIVEN).expect("it is one")), "Secret(***)");
        assert!(secret(1) == secret(1) && secret(1) != secret(2));
    }
}
