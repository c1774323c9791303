//! larder: a tiered cache whose reads can say how fresh they are.
// Taken down as the modules land.
#![allow(dead_code)]

mod clock;
mod error;
mod key;
mod position;
mod record;
pub mod tier;

pub use clock::{Clock, TICK};
pub use error::{Error, ErrorKind, Result};
pub use key::{KEY_LEN_MAX, TAG_LEN_MAX, TAGS_MAX};
pub use position::{Epoch, ParsePositionError, Position, Receipt};
pub use record::{Record, Unreadable};
