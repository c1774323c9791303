//! The parts of the program `larder`: the cache over HTTP, how it is served, its command line, its configuration and its
//! demo. They use only what the library offers to everyone.

pub mod access;
pub mod audit;
pub mod backup;
pub mod cleanup;
pub mod cli;
pub mod config;
pub mod demo;
pub mod exposure;
#[cfg(test)]
mod fake_tier;
pub mod health;
pub mod hex;
pub mod history;
pub mod http;
pub mod jobs;
pub mod maintenance;
pub mod moment;
pub mod optimize;
pub mod otlp;
pub mod progress;
pub mod promise;
pub mod report;
pub mod resp;
pub mod serve;
pub mod settings;
pub mod tls;
pub mod webhook;
