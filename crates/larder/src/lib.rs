//! larder: a tiered cache whose reads can say how fresh they are.
// Taken down as the modules land.
#![allow(dead_code)]

mod clock;
mod error;
mod freshness;
mod key;
mod log;
mod mutation;
mod name;
mod pattern;
mod position;
mod record;
mod sync;
pub mod tier;

pub use clock::{Clock, TICK};
pub use error::{Error, ErrorKind, Result};
pub use freshness::StaleBy;
pub use key::{KEY_LEN_MAX, TAG_LEN_MAX, TAGS_MAX};
pub use log::Durability;
#[doc(hidden)]
pub use mutation::{Mutation, Mutations};
pub use name::{NAMES_MAX, Names};
pub use pattern::{Pattern, escape};
pub use position::{Epoch, ParsePositionError, Position, Receipt};
pub use record::{Record, Unreadable};
