//! The program.

// Not wired to the command line yet.
#[allow(dead_code)]
mod demo;

fn main() {}
