//! What larder's tests lean on, and nothing that larder itself uses.
//!
//! - [`model`]: the freshness protocol as an explicit-state model, searched to its end in bounded worlds, with every
//!   mutation that the search must catch. `cargo run -p larder-testkit --bin larder-model -- --help` runs it by hand.
//! - [`history`]: what concurrent clients of a real cache did and saw, recorded, and the check of it against the promises.
//! - [`chaos`]: the same for several instances over one Redis, and the faults that are to shake them.
//! - [`journal`]: the log of a cache on the disk, read by other code than its own, for what became of events.
//! - [`redis`]: real Redis servers, alone, under sentinels and as a cluster, to be killed, paused and failed over.
//! - [`postgres`]: a real PostgreSQL server, to be killed.
//! - [`proxy`]: a TCP connection's network, to be cut, frozen, slowed and made to lose replies.
//! - [`certificates`]: an authority, and what it signs.
//! - [`process`], [`port`]: a child process to be killed and paused, and a port that stays its own meanwhile.
//! - [`trace`]: what real programs asked a cache for, where such traces are at hand.
//! - [`wait`]: waiting for a condition, with a limit.
//!
//! The last seven know no cache and no client library: whatever is tested over them talks to them as it would in production.

pub mod certificates;
pub mod chaos;
pub mod history;
pub mod journal;
pub mod model;
pub mod port;
pub mod postgres;
pub mod process;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod trace;
pub mod wait;
