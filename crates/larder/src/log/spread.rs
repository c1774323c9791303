//! How far a change has spread among the instances that share a log.

use std::time::Duration;

/// Which instances have applied a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spread {
    /// How many instances share the log, this one included.
    pub instances: usize,
    /// Those that had not applied the change when the deadline passed.
    pub lagging: Vec<Lagging>,
}

/// An instance that has not applied a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lagging {
    /// What it is called.
    pub instance: String,
    /// How many positions it is behind the change. `None`: it still is in another epoch of the log.
    pub behind: Option<u64>,
    /// How long ago it was last heard, by the clock of the store. One that is silent for long is not running; then, and if it
    /// runs in strict mode, it serves nothing old.
    pub unseen_for: Duration,
}

impl Spread {
    /// A log that nobody else has.
    pub(crate) fn alone() -> Self {
        Spread { instances: 1, lagging: Vec::new() }
    }

    /// Whether every instance has applied the change.
    pub fn is_everywhere(&self) -> bool {
        self.lagging.is_empty()
    }
}
