//! The program `larder` as a library: everything that `main` only calls.

pub mod cli;
pub mod config;
pub mod demo;
