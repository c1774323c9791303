//! The two servers that are held against each other: a real Redis and larder, each empty and on a port of its own.
//!
//! larder is the program, in a process of its own, as a user starts it. Miss leases are off: they are larder's own, and with them a
//! `SET` may be dropped that Redis stores.

use std::net::SocketAddr;

use larder_testkit::redis::{Server, ServerOptions, or_skip, version};

use super::program::Larder;
use super::wire::Client;

/// The version whose words are larder's.
const VERSION: (u32, u32) = (7, 0);

/// Either of them.
enum Either {
    Redis(Server),
    Larder(Larder),
}

/// Both.
pub struct Sides {
    redis: Server,
    other: Either,
}

impl Sides {
    /// Redis and larder; nothing where Redis, of the version that larder follows, is not installed.
    pub fn start() -> Option<Self> {
        let redis = redis(&[])?;
        Some(Sides { redis, other: Either::Larder(Larder::start("", "[default_namespace]\nmiss_lease = \"0s\"")) })
    }

    /// Redis and another Redis, with these lines of configuration: what is found between them is a fault of the comparison, unless it
    /// was put there.
    pub fn doubles(directives: &[&str]) -> Option<Self> {
        Some(Sides { redis: redis(&[])?, other: Either::Redis(redis(directives)?) })
    }

    /// Where they listen: Redis first.
    pub fn addrs(&self) -> [SocketAddr; 2] {
        let other = match &self.other {
            Either::Redis(server) => server.address(),
            Either::Larder(larder) => larder.addr(),
        };
        [self.redis.address(), other]
    }

    /// A connection to each.
    pub fn clients(&self) -> [Client; 2] {
        self.addrs().map(|addr| Client::connect(addr).expect("both listen"))
    }
}

fn redis(directives: &[&str]) -> Option<Server> {
    let directives = directives.iter().map(|&line| line.to_owned()).collect();
    let server = or_skip(Server::start(ServerOptions { directives, ..ServerOptions::default() }))?;
    match version() {
        Ok(VERSION) => Some(server),
        other => {
            let thread = std::thread::current();
            eprintln!("SKIPPED: {}: it compares with Redis {VERSION:?}, and here is {other:?}", thread.name().unwrap_or("a test"));
            None
        }
    }
}
