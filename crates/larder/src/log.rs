//! The invalidation log: what gives every change its position.
//!
//! An append is one line of the protocol: take the next position, make the names durable as asked, put them into the own
//! index, let readers know. [`LocalLog`] is the log of a single process, kept in a file or in memory only; [`RedisLog`] is
//! one that several machines share.

use std::time::Duration;

use bytes::Bytes;

use crate::config::Mode;
use crate::error::Result;
use crate::freshness::NameHashes;
use crate::name::Name;
use crate::position::{Epoch, Position, Receipt, Stamp};

mod checkpoint;
mod local;
mod marks;
mod recover;
#[cfg(feature = "redis")]
mod redis;
mod segment;
mod spread;

pub(crate) use local::{LocalLog, LogOptions, LogStats};
#[cfg(feature = "redis")]
pub(crate) use marks::MARKS_MAX;
pub(crate) use marks::{Mark, Marks};
pub(crate) use recover::snapshot_with_replay;
#[cfg(feature = "redis")]
pub(crate) use redis::{Keys, RedisLog};
pub use spread::{Lagging, Spread};

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
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a log that is shared writes entries, or can be out of reach"))]
pub(crate) struct Append {
    pub(crate) names: Vec<Name>,
    /// Events that take effect with it, to be remembered.
    pub(crate) marks: Vec<Mark>,
    pub(crate) durability: Durability,
    /// What the log must answer atomically with the append (step 8).
    pub(crate) guard: Option<Guard>,
    /// Entries to be written, or taken out, in the same step, where the log [can](Log::writes_entries). None is written if the guard
    /// finds a conflict, and none taken out if it [refuses](OnConflict::Refuse) then.
    pub(crate) writes: Vec<EntryWrite>,
    /// What becomes of it when a log that is shared cannot be reached.
    pub(crate) mode: Mode,
    /// Whether its keys are appended because values are put there, for those who are told.
    pub(crate) is_put: bool,
}

/// A write of an entry that goes with an append, and gets its position.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a log that is shared writes entries"))]
#[derive(Clone, Debug)]
pub(crate) struct EntryWrite {
    pub(crate) key: Box<[u8]>,
    /// The record, whose own stamp does not count; `None` takes the entry out.
    pub(crate) record: Option<Bytes>,
    /// When the store may forget it, in milliseconds of its clock.
    pub(crate) expires_at: u64,
}

/// "Was any of these names invalidated after this stamp, or a pattern that one of these keys matches?"
pub(crate) struct Guard {
    pub(crate) keys: Vec<Box<[u8]>>,
    pub(crate) hashes: NameHashes,
    pub(crate) since: Stamp,
    pub(crate) on_conflict: OnConflict,
}

/// What becomes of an append whose guard finds a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// Its names take effect all the same, since its source was changed; only its entries are not written.
    Append,
    /// Nothing takes effect: neither its names nor its writes. What is there stays. In a log that is shared it may have used a
    /// position up, at which nothing happened.
    Refuse,
}

impl Append {
    /// Whether a conflict makes it nothing at all.
    pub(crate) fn refuses(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.on_conflict == OnConflict::Refuse)
    }
}

impl EntryWrite {
    /// Takes an entry out.
    pub(crate) fn removal(key: Box<[u8]>) -> Self {
        EntryWrite { key, record: None, expires_at: u64::MAX }
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) stamp: Stamp,
    pub(crate) position: Position,
    pub(crate) widened: usize,
    /// The guard's answer, for everything up to but not including this append. Where the guard refuses, nothing was appended then,
    /// and the position is one by which what it conflicts with is known.
    pub(crate) conflict: bool,
    /// Whether it took effect here alone so far, and waits to be appended.
    pub(crate) queued: bool,
    /// Whether the entries that went with it were written.
    pub(crate) wrote_entries: bool,
}

/// The hold of a restore, as those who share a log have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedHold {
    /// What its records are known by: drawn once, never given again.
    pub(crate) number: u64,
    /// What it is of, in the words of who holds. Empty, to say which one is meant: whatever it is of.
    pub(crate) of: Vec<u8>,
}

/// What comes in the place of a hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next<'a> {
    /// Another one, or the same one of another.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "nobody shares a log"))]
    Hold(&'a SharedHold),
    /// None: what was written under it is seen.
    Seen,
    /// None: what was written under it is never seen.
    GivenUp,
}

/// One or the other.
pub(crate) enum Log {
    Local(LocalLog),
    #[cfg(feature = "redis")]
    Redis(RedisLog),
}

impl Log {
    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        match self {
            Log::Local(log) => log.append(append).await,
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.append(append).await,
        }
    }

    /// Whether an append is done as soon as it is made: nothing but memory has a part in it.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self, Log::Local(log) if log.is_in_memory())
    }

    /// A put of a key in a log that [is in memory](Self::is_in_memory).
    ///
    /// # Panics
    /// If it is not.
    pub(crate) fn append_put_at_once(&self, key: &[u8]) -> Result<Appended> {
        match self {
            Log::Local(log) => log.append_put_in_memory(key),
            #[cfg(feature = "redis")]
            Log::Redis(_) => unreachable!("a log that others share is not in memory"),
        }
    }

    /// Which events took effect, as far as this instance has the log.
    pub(crate) fn marks(&self) -> &Marks {
        match self {
            Log::Local(log) => log.marks(),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.marks(),
        }
    }

    /// Whether entries can be written in one step with an append.
    pub(crate) fn writes_entries(&self) -> bool {
        match self {
            Log::Local(_) => false,
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.writes_entries(),
        }
    }

    /// For how long nothing was heard of a log that others append to; zero for a log of this process alone.
    #[inline]
    pub(crate) fn unheard_for(&self) -> Duration {
        match self {
            Log::Local(_) => Duration::ZERO,
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.unheard_for(),
        }
    }

    /// The hold in force among those who share the log.
    pub(crate) async fn shared_hold(&self) -> Result<Option<SharedHold>> {
        match self {
            Log::Local(_) => Ok(None),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.hold().await,
        }
    }

    /// Whether there was one when the log was last heard. Asks nobody.
    pub(crate) fn had_shared_hold(&self) -> bool {
        match self {
            Log::Local(_) => false,
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.was_held(),
        }
    }

    /// Whether the hold with a number is in force among those who share the log, whatever it is of.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "nobody shares a log"))]
    pub(crate) async fn has_shared_hold(&self, number: u64) -> Result<bool> {
        match self {
            Log::Local(_) => Ok(false),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.has_hold(number).await,
        }
    }

    /// Puts a hold in the place of another, or of none, or takes it away. `false`: it is not the other that is in force.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownPosition`](crate::ErrorKind::UnknownPosition): another epoch is in force than the one given.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "nobody shares a log"))]
    pub(crate) async fn swap_shared_hold(&self, epoch: Epoch, from: Option<&SharedHold>, to: Next<'_>) -> Result<bool> {
        match self {
            Log::Local(_) => Ok(true),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.swap_hold(epoch, from, to).await,
        }
    }

    /// Whether others append to it.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Log::Local(_))
    }

    pub(crate) fn stats(&self) -> LogStats {
        match self {
            Log::Local(log) => log.stats(),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.stats(),
        }
    }

    /// Closes a log of this process alone. Blocks for one `fsync`.
    pub(crate) fn close_blocking(&self) -> Result<()> {
        match self {
            Log::Local(log) => log.close(),
            #[cfg(feature = "redis")]
            Log::Redis(_) => Ok(()),
        }
    }

    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "a log of this process alone has nobody to wait for"))]
    pub(crate) async fn applied_everywhere(&self, receipt: &Receipt, deadline: Duration) -> Result<Spread> {
        match self {
            Log::Local(_) => Ok(Spread::alone()),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.applied_everywhere(receipt, deadline).await,
        }
    }
}
