//! How large a cache should be: the share of reads that it would answer at other sizes than its own, found by running caches of those
//! sizes in small.
//!
//! "Miniature simulation" (Waldspurger, Saemundsson, Ahmad and Park, "Cache Modeling and Optimization using Miniature Simulations",
//! USENIX ATC '17): a cache of a twentieth of the size that sees a twentieth of the keys, chosen by their hash, does to those keys what
//! the whole does to all. It is the engine of the memory tier itself that runs in small, so that what is predicted is what this policy
//! does; a curve that is drawn from distances between reads says what LRU would do, which is off by up to seven points.
//!
//! ```text
//!   all reads ---> Survey: how many keys there are, how large they are       (first pass)
//!       |
//!       '--------> hash < threshold ?  ---> Miniature of   1 MiB   --.
//!                  a threshold for each     Miniature of   4 MiB   --+--> Curve: hits and saved load time by size
//!                  size                     Miniature of  16 MiB   --'    (second pass)
//! ```
//!
//! A sample is never quite what it should be: a hot key is in it or is not. Two things keep that out of the answer.
//!
//! - What is scaled up are the misses, and by the keys that were really chosen: hits are mostly of a few keys, so that chance decides
//!   about them, while a key misses once at least and seldom often. SHARDS-adj (FAST '15) corrects by the reads that were expected;
//!   on the traces that this was tried with the keys halve its error.
//! - A cache of a few dozen entries does not behave like a large one, so none has fewer than [`ENTRIES_MIN`]: for small sizes more keys
//!   are followed, up to all of them, which costs little as such a cache is small.
//!
//! Values: it opens nothing and waits for nothing. Whoever has the reads, of a trace or of a running cache, brings them here.

mod curve;
pub(crate) mod live;
mod miniature;
pub(crate) mod partition;
mod simulation;
mod survey;
mod ttl;

pub use curve::{Curve, Point, Step};
pub(crate) use miniature::estimated_items;
pub use simulation::{ENTRIES_MAX, ENTRIES_MIN, SIZES_MAX, Simulation, sizes_of};
pub use survey::{SURVEYED_MAX, Survey};
pub use ttl::{TtlAdvice, TtlReason, advise_ttl};

use xxhash_rust::xxh3::xxh3_64;

/// What an entry costs in memory beyond its key and value, on average.
pub const ENTRY_OVERHEAD: u32 = crate::entry::ENTRY_OVERHEAD as u32;

/// A read, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub(crate) hash: u64,
    /// What the entry weighs in memory: key, value and [overhead](ENTRY_OVERHEAD).
    pub bytes: u32,
    /// What a miss costs, in microseconds of loading; zero where that is not known.
    pub cost_us: u32,
}

impl Access {
    /// A read of a key.
    pub fn new(key: &[u8], bytes: u32, cost_us: u32) -> Self {
        Access { hash: xxh3_64(key), bytes: bytes.max(1), cost_us }
    }

    /// A read of what has a number for a key, as in most traces.
    pub fn numbered(id: u64, bytes: u32, cost_us: u32) -> Self {
        Access::new(&id.to_le_bytes(), bytes, cost_us)
    }

    /// What stands for its key: reads of one key have the same.
    pub fn key_hash(&self) -> u64 {
        self.hash
    }
}
