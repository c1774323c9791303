//! larder: a tiered cache whose reads can say how fresh they are.
//!
//! An entry lives in memory and in a backing tier (on disk by default), and is served until its time is over *or anything
//! it depends on was invalidated*: its key, one of its tags, a pattern over its key, its namespace, everything. An
//! invalidation takes effect at once, costs the same whatever it kills, and cannot lose against a slow load that began
//! before it.
//!
//! ```
//! use larder::{Item, Larder, Names};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> larder::Result<()> {
//!     let larder = Larder::builder().build().await?;
//!     let features = larder.namespace::<Vec<f64>>("features")?;
//!
//!     // Computed once; served from memory until AAPL's market data changes.
//!     let load = || async { Ok::<_, std::io::Error>(Item::new(vec![0.1, 0.7]).tag("symbol:AAPL")) };
//!     let values = features.get_or_load("AAPL:5m", load).await?;
//!     assert_eq!(values.len(), 2);
//!
//!     // A new bar arrived: everything computed from the old one is gone for readers when this returns.
//!     let receipt = larder.invalidate(Names::new().tag("symbol:AAPL")).await?;
//!     assert!(features.get("AAPL:5m").await?.is_none());
//!     println!("at position {}", receipt.position());
//!
//!     larder.close().await
//! }
//! ```
//!
//! # What it promises
//!
//! - **G1** A read that begins after an invalidate, put or update returned never returns data older than it.
//! - **G4** A read [at a position](Namespace::at_least) sees at least what happened up to there.
//! - **G5** When all is quiet, no tier serves data older than the last change.
//!
//! It does not promise anything about a crash between the change of the source and the invalidation, about a source read
//! from a replica that lags, or about how long the caller takes to use a value.

// In reading order: the surface, the paths, the tiers and the log, then the values that know nothing of either.
mod bell;
mod blocking;
mod builder;
mod cache;
mod change;
mod guard;
mod namespace;
mod raw;

pub mod access;
pub mod analytics;
pub mod backup;
pub mod election;
pub mod events;

mod content;
mod explain;
mod fill;
mod fleet;
mod gate;
mod hot_keys;
mod impact;
mod invalidate;
mod invalidations;
mod keys;
mod lineage;
mod needless;
mod notices;
mod optimize;
mod parcels;
mod read;
mod space;
mod spans;
mod sweep;
mod task;
mod turns;
mod view;
mod warm_up;
mod write;

mod log;
#[cfg(feature = "redis")]
mod remote;
pub mod tier;

mod clock;
mod codec;
mod config;
mod entry;
mod error;
pub mod fingerprint;
mod freshness;
mod health;
mod item;
mod key;
mod lookup;
mod metrics;
mod mutation;
mod name;
mod origin;
mod pattern;
mod position;
mod record;
pub mod sizing;
mod stats;
mod sync;
mod trace_parent;

pub use blocking::BlockingNamespace;
pub use builder::Builder;
pub use cache::Larder;
pub use change::{Change, Changed};
pub use clock::{Clock, TICK};
pub use codec::{Codec, Compression, Value};
pub use config::{Mode, Policy, TTL_MAX};
pub use content::{ContentOf, Refreshed, Validated};
pub use entry::Cached;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Explanation, Found, Verdict};
pub use freshness::StaleBy;
pub use guard::{Guarded, GuardedNamespace, GuardedRaw};
pub use health::{Confirmed, Finding, Health, Part, Probe, Probed, Severity, Trouble};
pub use hot_keys::{HOT_KEYS_MAX, HotKey};
pub use impact::{Impact, Touched};
pub use invalidations::{InvalidationKind, InvalidationOrigin, Invalidations};
pub use item::{Item, Life};
pub use key::{KEY_LEN_MAX, SEPARATOR, TAG_LEN_MAX, TAGS_MAX};
pub use keys::{Cursor, KEYS_PAGE_MAX, Keys};
pub use lineage::Moved;
pub use log::{Durability, Lagging, Spread};
pub use lookup::{Answer, Freshness, Lookup, Miss, Source};
pub use metrics::{Counts, Latencies, NamespaceStats};
#[doc(hidden)]
pub use mutation::{Mutation, Mutations};
pub use name::{NAMES_MAX, Names};
pub use namespace::{AtLeast, Namespace};
pub use needless::Needless;
pub use notices::{NOTICES_MAX, Notice, Noticed, Notices, Witness};
pub use optimize::{Decision, NamespaceSizing, Sizing, SizingMode};
pub use origin::{Dependency, Origin, SOURCES_MAX, Version};
pub use parcels::{PARCEL_BYTES_MAX, PARCELS_MAX, Parcel, ParcelBounds};
pub use pattern::{Pattern, escape};
pub use position::{Epoch, ParsePositionError, Position, Receipt};
pub use raw::{FillToken, Putter, Raw};
pub use record::{MEDIA_LEN_MAX, Record, RestoreHold, Unreadable};
#[cfg(feature = "redis")]
pub use remote::RedisOptions;
pub use stats::{BackingStats, IndexStats, LogStats, MemoryStats, SharedLogStats, Stats};
pub use sweep::{GivenBack, SweepCursor, SweepPart, SweepStep, Swept, SweptNamespace, SweptTier};
pub use trace_parent::{ParseTraceParentError, TraceParent};
pub use warm_up::{WarmUp, WarmUpEnd, Warmth};
pub use write::Updated;
