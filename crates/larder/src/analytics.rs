//! What happened in the cache, cut into windows that merge exactly: minutes into hours, several instances into a fleet.
//!
//! ```text
//!   counters, histograms ----> Recorder::cut ----> Rollup { namespaces: Window, measures }
//!   sketches (drained)  ----'                        then: the next stretch of the same instance
//!                                                    beside: the same stretch of another instance
//! ```
//!
//! Counts and histograms add; sketches merge as if one had seen all. Nothing here is an average, because averages do not merge:
//! whoever shows a rate or a mean divides at the end. It knows no file and no clock but the caller's.

mod cardinality;
mod most;
mod ranking;
mod recorder;
mod reuse;
mod rollup;
mod sketching;

pub use cardinality::Cardinality;
pub(crate) use most::Most;
pub use ranking::{RANKED_MAX, Ranked, Ranking};
pub use recorder::Recorder;
pub(crate) use reuse::is_chosen;
pub use rollup::{Rollup, Sketches, Undecodable, Window};
pub(crate) use sketching::Sketching;
