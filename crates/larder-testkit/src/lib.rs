//! What larder's tests lean on, and nothing that larder itself uses.
//!
//! - [`model`]: the freshness protocol as an explicit-state model, searched to its end in bounded worlds, with every
//!   mutation that the search must catch. `cargo run -p larder-testkit --bin larder-model -- --help` runs it by hand.
//! - [`history`]: what concurrent clients of a real cache did and saw, recorded, and the check of it against the promises.

pub mod history;
pub mod model;
