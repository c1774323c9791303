//! A record: who did what. What comes from outside has a bound here, whatever it was there.

use std::borrow::Cow;

use clap::ValueEnum;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::Level;
use crate::hex;

/// Names of one record that are written out; of more, the first ones and their number.
const NAMES_MAX: usize = 64;

/// Bytes of them that are.
const NAMES_BYTES_MAX: usize = 8 << 10;

/// Bytes of any other text.
const TEXT_BYTES_MAX: usize = 256;

/// What kind of operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Entries are read, or what is known of them.
    Read,
    /// Entries are stored.
    Write,
    /// Entries are removed.
    Delete,
    /// Names are invalidated.
    Invalidate,
    /// Events are carried out.
    Emit,
    /// The server is administered.
    Admin,
}

impl Class {
    /// From which level on it is recorded.
    pub fn level(self) -> Level {
        match self {
            Class::Admin => Level::Admin,
            Class::Delete | Class::Invalidate | Class::Emit => Level::Changes,
            Class::Read | Class::Write => Level::All,
        }
    }
}

/// Whether somebody might do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// They might.
    Allowed,
    /// They might not.
    Denied,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not, or not all of it; the detail says why.
    Failed,
    /// Nobody knows: the client went away, it took too long, or the server failed.
    Unknown,
}

/// A name that an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `key`, `tag`, `pattern`, `namespace`, `source`, `event`, `everything` and the like.
    pub kind: &'static str,
    /// The name itself.
    pub name: Vec<u8>,
}

impl Name {
    /// A name of a kind.
    pub fn new(kind: &'static str, name: impl Into<Vec<u8>>) -> Self {
        Name { kind, name: name.into() }
    }

    /// As it is written: `key:features:AAPL`, and with a secret `key:#` and 32 hexadecimal digits.
    pub fn written(&self, secret: Option<&hmac::Key>) -> String {
        let Name { kind, name } = self;
        match secret {
            Some(secret) => hashed(kind, name, secret),
            None => match std::str::from_utf8(name) {
                Ok(text) => format!("{kind}:{text}"),
                Err(_) => format!("{kind}:{}", name.escape_ascii()),
            },
        }
    }
}

/// A name as it is written with a secret.
pub(super) fn hashed(kind: &str, name: &[u8], secret: &hmac::Key) -> String {
    let hash = hmac::sign(secret, &[kind.as_bytes(), b":", name].concat());
    format!("{kind}:#{}", hex::of(&hash.as_ref()[..16]))
}

/// What is recorded of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in milliseconds since 1970. 0: when it is written.
    pub at_ms: u64,
    /// Who: a principal, or `anonymous`.
    pub who: String,
    /// The other end of the connection.
    pub from: String,
    /// `http`, `resp`, or `audit` for what the log says of itself.
    pub door: &'static str,
    /// What, in the words of the door: `DELETE /v1/entries/{key}`, `flushall`.
    pub what: Cow<'static, str>,
    /// What kind of operation that is.
    pub class: Class,
    /// What it is about.
    pub names: Vec<Name>,
    /// How many more there are of those, which are not here.
    pub names_more: usize,
    /// Whether it was allowed.
    pub decision: Decision,
    /// What came of it.
    pub result: Outcome,
    /// Why, or what else there is to say.
    pub detail: String,
    /// Where it stands in the invalidation log, if it does.
    pub position: String,
}

impl Record {
    /// One whose end is not known yet.
    pub fn begun(door: &'static str, class: Class, what: impl Into<Cow<'static, str>>, from: impl Into<String>) -> Self {
        Record {
            at_ms: 0,
            who: "anonymous".to_owned(),
            from: from.into(),
            door,
            what: what.into(),
            class,
            names: Vec::new(),
            names_more: 0,
            decision: Decision::Allowed,
            result: Outcome::Unknown,
            detail: "it was broken off".to_owned(),
            position: String::new(),
        }
    }

    /// Adds names, as many as have room.
    pub fn name(&mut self, names: impl IntoIterator<Item = Name>) {
        let mut bytes: usize = self.names.iter().map(|name| name.name.len()).sum();
        for name in names {
            bytes += name.name.len();
            if self.names.len() < NAMES_MAX && bytes <= NAMES_BYTES_MAX {
                self.names.push(name);
            } else {
                self.names_more += 1;
            }
        }
    }

    /// It ended so.
    pub fn end(&mut self, decision: Decision, result: Outcome, detail: impl Into<String>) {
        (self.decision, self.result, self.detail) = (decision, result, detail.into());
    }
}

/// A record as it stands in its line, between the hash of the line before and its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, counted from 1 and without gaps.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: String,
    /// When, as RFC 3339 has it.
    pub at: String,
    /// Who.
    pub who: String,
    /// From where.
    pub from: String,
    /// At which door.
    pub door: String,
    /// What, in the words of the door.
    pub what: String,
    /// What kind of operation that is.
    pub class: Class,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub names_more: usize,
    /// Whether it was allowed.
    pub decision: Decision,
    /// What came of it.
    pub result: Outcome,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Where it stands in the invalidation log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub position: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Entry {
    /// The line to be, without its own hash.
    pub(super) fn of(record: &Record, (seq, prev): (u64, String), at: String, secret: Option<&hmac::Key>) -> Self {
        Entry {
            seq,
            prev,
            at,
            who: cut(&record.who),
            from: cut(&record.from),
            door: record.door.to_owned(),
            what: cut(&record.what),
            class: record.class,
            names: record.names.iter().map(|name| name.written(secret)).collect(),
            names_more: record.names_more,
            decision: record.decision,
            result: record.result,
            detail: cut(&record.detail),
            position: record.position.clone(),
        }
    }
}

fn cut(text: &str) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
