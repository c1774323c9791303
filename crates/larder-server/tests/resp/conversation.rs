//! A whole connection, from its first byte to its end: what is said in it has to be the protocol. The fuzz target uses it too.

use std::net::SocketAddr;

use super::wire::{Client, read_value, shown};

/// Sends these bytes over a connection of their own, cut in two somewhere, and reads all that is said until its end.
///
/// # Panics
/// If what is said is not the protocol, or the connection does not end.
pub fn check(addr: SocketAddr, bytes: &[u8], cut: usize) {
    let mut client = Client::connect(addr).expect("it listens");
    let cut = cut.min(bytes.len());
    // It may have ended the connection at the first half.
    if client.send(&bytes[..cut]).is_ok() {
        client.send(&bytes[cut..]).ok();
    }
    let said = client.rest().unwrap_or_else(|error| panic!("the connection does not end after {}: {error}", shown(bytes)));
    let mut rest = &said[..];
    while !rest.is_empty() {
        let mut reply = Vec::new();
        if let Err(error) = read_value(&mut rest, &mut reply) {
            panic!("{error} is in what is said to {}: {}", bytes.escape_ascii(), said.escape_ascii());
        }
    }
}
