//! `cargo +nightly fuzz run access`: any bytes as a token, a grant, a password's hash, and the book of who has access.

#![no_main]

#[path = "../../crates/larder-server/tests/http/access/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::check(bytes));
