//! Where a request comes from. Whoever accepted its connection says so; nothing that a client sends does.

use std::net::SocketAddr;

/// Where a request comes from: every request has it as an extension, and the names of a certificate beside it as
/// [`PeerNames`](crate::tls::PeerNames).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of its connection.
    pub addr: SocketAddr,
    /// Whether TLS is spoken over it.
    pub is_tls: bool,
}

/// What somebody is told who speaks without TLS where it is spoken.
pub const SPOKEN_PLAINLY: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: 134\r\n\r\n",
    r#"{"type":"urn:larder:problem:tls-required","title":"TLS is spoken here","status":400,"detail":"ask again with https:// in the address"}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_without_tls_is_as_long_as_it_says() {
        let (head, body) = SPOKEN_PLAINLY.split_once("\r\n\r\n").expect("it has a head");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON")["status"], 400);
    }
}
