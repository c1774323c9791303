//! `cargo +nightly fuzz run parser`: any bytes are read as a slow parser reads them, wherever they are cut.

#![no_main]

#[path = "../../crates/larder-server/tests/resp/parser.rs"]
mod parser;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parser::check(bytes));
