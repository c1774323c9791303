//! Outcomes of a read, for those who ask for more than the value.

use std::time::Duration;

use crate::entry::Cached;
use crate::freshness::StaleBy;
use crate::position::Position;

/// What a read found.
#[derive(Clone, Debug)]
pub enum Lookup<V> {
    /// A fresh value.
    Hit(Answer<V>),
    /// A value past its time, within the window in which its policy allows it to be served. Never an invalidated one.
    Stale(Answer<V>),
    /// There is no such thing: a loader said so, and that is still fresh.
    NotFound,
    /// Nothing that may be served.
    Miss(Miss),
}

impl<V> Lookup<V> {
    /// The answer, fresh or stale.
    pub fn into_answer(self) -> Option<Answer<V>> {
        match self {
            Lookup::Hit(answer) | Lookup::Stale(answer) => Some(answer),
            Lookup::NotFound | Lookup::Miss(_) => None,
        }
    }

    /// The value, if it is fresh.
    pub fn fresh(self) -> Option<Cached<V>> {
        match self {
            Lookup::Hit(answer) => Some(answer.value),
            _ => None,
        }
    }
}

/// A value, and what is known about it.
#[derive(Clone, Debug)]
pub struct Answer<V> {
    /// The value.
    pub value: Cached<V>,
    /// Where it came from.
    pub source: Source,
    /// How fresh it is.
    pub freshness: Freshness,
    /// How long ago it was loaded or put.
    pub age: Duration,
    /// It reflects every change up to this position. `None` if the log has begun a new epoch since.
    pub position: Option<Position>,
}

impl<V> Answer<V> {
    /// When it stops being fresh, in milliseconds since the Unix epoch by the cache's [clock](crate::Larder::clock). `None`: never, as
    /// far as time goes.
    pub fn expires_at(&self) -> Option<u64> {
        self.value.expires_at_ms()
    }

    /// The entry's tags, sorted: those it was given, and those that its policy makes from its key.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.value.tags()
    }

    /// What it takes in memory, in bytes, if it is there.
    pub fn memory_bytes(&self) -> Option<usize> {
        (self.source == Source::Memory).then(|| self.value.weight())
    }

    /// For how long it has not been read, at this moment, to a quarter of a second; one that never was, since it was loaded or put. Ask
    /// an answer of [`peek`](crate::Raw::peek), which is no read itself.
    pub fn idle_for(&self, now_ms: u64) -> Duration {
        let used = self.value.last_read_ms().unwrap_or(0).max(self.value.created_at_ms());
        Duration::from_millis(now_ms.saturating_sub(used))
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The memory of this process.
    Memory,
    /// The backing tier.
    Backing,
    /// The loader.
    Loader,
}

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Within its time, and nothing it depends on was invalidated since it was made.
    Fresh,
    /// Past its time, and served because its policy allows it.
    Stale,
    /// Within its time, and not known to be invalidated; but the log that is shared with other machines has not been heard
    /// for longer than `max_staleness`, so they may have invalidated it.
    Unverified,
}

/// Why there is nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing was there.
    Absent,
    /// What was there is past its time.
    Expired,
    /// What was there has been invalidated, by this.
    Invalidated(StaleBy),
}
