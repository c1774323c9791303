//! What can be done, and sets of it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Operation {
    /// To get values, and whatever tells what there is: lists, lives, why an entry is served or not.
    Read,
    /// To put values, and to change their lives, which may end them.
    Write,
    /// To take single keys out.
    Delete,
    /// To make stale: keys, tags, patterns, namespaces, everything.
    Invalidate,
    /// To tell of events, which invalidate what the rules say: what that is, who wrote the rules decided.
    Emit,
    /// To govern the server: settings, connections, dead letters, who may do what.
    Admin,
    /// To see numbers, health and reports, without the names of keys that one may not read.
    Metrics,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 7] = [
        Operation::Read,
        Operation::Write,
        Operation::Delete,
        Operation::Invalidate,
        Operation::Emit,
        Operation::Admin,
        Operation::Metrics,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Delete => "delete",
            Operation::Invalidate => "invalidate",
            Operation::Emit => "emit",
            Operation::Admin => "admin",
            Operation::Metrics => "metrics",
        }
    }

    /// As it stands in a sentence.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Operation::Emit => "emit events to",
            Operation::Admin => "administer",
            Operation::Metrics => "see the numbers of",
            named => named.name(),
        }
    }

    /// Whether it is done to keys and tags, and not to the server.
    pub fn is_about_keys(self) -> bool {
        matches!(self, Operation::Read | Operation::Write | Operation::Delete | Operation::Invalidate)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Operation::ALL.into_iter().find(|operation| operation.name() == text).ok_or_else(|| {
            let known = Operation::ALL.map(Operation::name).join(", ");
            let shown: String = text.chars().take(32).collect();
            Error::new(ErrorKind::InvalidConfig, format!("there is no operation \"{}\"; there are {known}", shown.escape_debug()))
        })
    }
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Operations(u8);

impl Operations {
    /// All of them.
    pub const ALL: Operations = Operations((1 << Operation::ALL.len()) - 1);

    /// Whether it is one of them.
    #[inline]
    pub fn has(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }

    /// With those of another set.
    #[must_use]
    pub fn and(self, other: Operations) -> Self {
        Operations(self.0 | other.0)
    }

    /// Without those of another set.
    #[must_use]
    pub fn without(self, other: Operations) -> Self {
        Operations(self.0 & !other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(move |operation| self.has(*operation))
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Operations(operations.into_iter().fold(0, |set, operation| set | 1 << operation as u8))
    }
}

/// As a grant has them: `read, write`.
impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, operation) in self.iter().enumerate() {
            write!(f, "{}{operation}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operations({self})")
    }
}
