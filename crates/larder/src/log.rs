//! The invalidation log: what gives every change its position.
//!
//! An append is one line of the protocol: take the next position, make the names durable as asked, put them into the own
//! index, let readers know. [`LocalLog`] is the log of a single process, kept in a file or in memory only.

use crate::freshness::NameHashes;
use crate::name::Name;
use crate::position::{Position, Stamp};

mod checkpoint;
mod local;
mod recover;
mod segment;

pub(crate) use local::{LocalLog, LogOptions};

/// When an append may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the operating system has it: survives the end of the process, `kill -9` included, and not the end of the
    /// machine. After a machine crash the log begins a new epoch, so nothing old is served; the cache starts cold.
    Os,
    /// When it is on stable storage. Concurrent appends share one `fsync`.
    Fsync,
}

/// What is appended at one position.
pub(crate) struct Append {
    pub(crate) names: Vec<Name>,
    pub(crate) durability: Durability,
    /// What the log must answer atomically with the append (step 8).
    pub(crate) guard: Option<Guard>,
}

/// "Was any name of this entry invalidated after this stamp?"
pub(crate) struct Guard {
    pub(crate) key: Box<[u8]>,
    pub(crate) hashes: NameHashes,
    pub(crate) since: Stamp,
}

/// What became of an append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) stamp: Stamp,
    pub(crate) position: Position,
    pub(crate) widened: usize,
    /// The guard's answer, for everything up to but not including this append.
    pub(crate) conflict: bool,
}
