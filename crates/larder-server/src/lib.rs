//! The parts of the program `larder`: the cache over HTTP, and how it is served. They use only what the library offers to
//! everyone.

pub mod http;
pub mod serve;
pub mod settings;
