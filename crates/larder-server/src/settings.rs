//! What the server can be told, as plain values. Where they come from (file, environment, flags) is not known here.

use std::time::Duration;

use crate::webhook::Secret;

/// What a client may ask of the server at most. Every limit is answered with a problem that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body of a request, in bytes. Default 32 MiB: twice the largest value that a namespace takes unless told
    /// otherwise, so that a value of that size also fits when it comes as base64 in JSON.
    pub body_bytes_max: usize,
    /// How long a client may take to send the head of a request, from when the connection is ready for one; so it is also how
    /// long an idle connection is kept. Default 30 s.
    pub head_timeout: Duration,
    /// How long a client may take to send its body. Default 10 s.
    pub body_timeout: Duration,
    /// How long a request may take as a whole. Default 30 s.
    pub request_timeout: Duration,
    /// How many requests may be under way at once; one more is told to come again. Probes are not counted. Default 1,024.
    pub requests_max: u32,
    /// How many connections may be open at once; more wait to be accepted. Default 4,096.
    pub connections_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            body_bytes_max: 32 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            requests_max: 1_024,
            connections_max: 4_096,
        }
    }
}

/// Who may send events, and how that is told. Default: everyone, unsigned, and no sender of webhooks is answered that asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Webhooks {
    /// Where there are any, an event must be signed with one of them. Several: while an old one is given up for a new one.
    pub secrets: Vec<Secret>,
    /// The senders that are told "yes" when they ask whether they may send here, by the names that they give themselves; `*` is
    /// all of them.
    pub origins: Vec<String>,
    /// How many requests a minute they are told that they may send. `None`: as many as they like.
    pub rate: Option<u64>,
}
