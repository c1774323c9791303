//! The demo over several servers that are one cache: real `larder serve` processes over one Redis, read over HTTP at all of
//! them, told of every change at one.
//!
//! ```text
//!   feed ──> instance 1 ──> Redis: log and entries
//!                             │ tail
//!                 ┌───────────┼───────────┐
//!            instance 1   instance 2   instance 3 ──> readers, with fill tokens
//! ```
//!
//! What counts as stale, at any instance: a value made from a bar (or by a release) that had been superseded
//!
//! - by a change whose receipt the writer had when the read began, where the read names the position of that receipt
//!   (`Larder-At-Least`): every other reader does;
//! - by a change that every instance was known to obey when the read began, where it names none: known because the
//!   invalidation said so (`applied_everywhere`), or because each instance had answered at its position.

mod cache;
mod client;
mod instance;
mod private_redis;
mod sweep;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::config::RedisAddress;
pub use cache::FleetCache;
use instance::Instance;
use private_redis::PrivateRedis;

/// What `--redis` names when the demo is to bring a Redis of its own.
pub const SPAWN: &str = "spawn";

/// Several servers over one Redis.
pub struct Fleet {
    instances: Vec<Instance>,
    redis: Redis,
    /// What all keys in Redis begin with: this run's alone.
    prefix: String,
}

/// The Redis under a fleet.
enum Redis {
    /// Somebody's, which is left as it was found.
    Given(String),
    /// One that ends with the demo, in a folder that goes with it.
    Private(Box<PrivateRedis>, TempDir),
}

/// Why there is no fleet, or none any more.
#[derive(Debug)]
pub enum FleetError {
    /// What `--redis` names is no place of a Redis.
    Address(String),
    /// The folder for temporary files cannot be used.
    Folder(io::Error),
    /// No Redis of its own can be started.
    Redis(String),
    /// A server cannot be started.
    Start(String),
    /// A server did not end in order.
    Stop(String),
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(what) => write!(f, "--redis: {what}"),
            Self::Folder(error) => write!(f, "the demo needs a temporary folder: {error}; TMPDIR says where to look for one"),
            Self::Redis(what) => write!(f, "the demo's own Redis cannot be started: {what}"),
            Self::Start(what) => write!(f, "a server of the demo cannot be started: {what}"),
            Self::Stop(what) => write!(f, "a server of the demo did not end in order: {what}"),
        }
    }
}

impl std::error::Error for FleetError {}

impl Fleet {
    /// Starts so many servers over the Redis that was named, all of it under a prefix of its own.
    ///
    /// # Errors
    /// When Redis or a server does not start; then none is left.
    pub async fn start(redis: &str, instances: usize) -> Result<Self, FleetError> {
        let (redis, address) = if redis == SPAWN {
            let folder = tempfile::Builder::new().prefix("larder-demo-").tempdir().map_err(FleetError::Folder)?;
            let private = PrivateRedis::start(folder.path()).await.map_err(FleetError::Redis)?;
            let address = private.url();
            (Redis::Private(Box::new(private), folder), address)
        } else {
            let address = RedisAddress::parse(redis).filter(|address| !address.shows_a_password());
            let visible = "everyone on this machine could read a password on a command line; put the address into a variable and name it, as in --redis env:REDIS_URL";
            address.ok_or_else(|| FleetError::Address(visible.to_owned()))?;
            (Redis::Given(redis.to_owned()), redis.to_owned())
        };
        let prefix = format!("larder-demo-{:08x}", fastrand::u32(..));
        let starting = (1..=instances).map(|number| Instance::start(&address, &prefix, number));
        // Together, because each takes a moment.
        let mut all = Vec::new();
        for instance in starting.collect::<Vec<_>>() {
            all.push(instance.map_err(FleetError::Start)?);
        }
        for instance in &mut all {
            instance.serving().await.map_err(FleetError::Start)?;
        }
        Ok(Self { instances: all, redis, prefix })
    }

    /// Where its servers answer; the first is the one that is told of changes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.instances.iter().map(Instance::addr).collect()
    }

    /// Where Redis is, and whose, in words.
    pub fn redis(&self) -> String {
        match &self.redis {
            Redis::Given(address) => {
                let shown = RedisAddress::parse(address).map(|address| address.to_string()).unwrap_or_default();
                format!("Redis at {shown}, all keys under {}", self.prefix)
            }
            Redis::Private(private, _) => format!("a Redis of its own at {}", private.url()),
        }
    }

    /// Ends the servers in order, then Redis, if it is the demo's own; from one that is not, takes what was put there.
    ///
    /// # Errors
    /// When a server does not end in order. Everything is ended whatever comes.
    pub async fn stop(self) -> Result<(), FleetError> {
        let mut failed = None;
        let stopping: Vec<_> = self.instances.into_iter().map(Instance::stop).collect();
        for stopped in stopping {
            if let Err(what) = stopped.await {
                failed.get_or_insert(FleetError::Stop(what));
            }
        }
        match self.redis {
            Redis::Given(address) => sweep::sweep(&address, &self.prefix).await,
            Redis::Private(private, folder) => {
                private.stop().await;
                folder.close().map_err(FleetError::Folder)?;
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
