//! Where Redis stands in a run: alone behind a proxy for each instance, under sentinels, or as a cluster. Sentinels and cluster
//! nodes tell their clients addresses of their own, so there the network is left alone.

use std::fmt;

use crate::proxy::Proxy;
use crate::redis::{AppendOnly, Cluster, SentinelSet, Server, ServerOptions, StartError, slot_of};

/// The prefix of all keys, in braces where they belong to the log.
const PREFIX: &str = "larder";

/// How Redis is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topology {
    /// One server, each instance behind a proxy of its own.
    Single,
    /// A master and two replicas, watched by three sentinels.
    Sentinel,
    /// Three masters, each with a replica.
    Cluster,
}

impl Topology {
    /// All of them.
    pub const ALL: [Topology; 3] = [Topology::Single, Topology::Sentinel, Topology::Cluster];

    /// How many replicas the server of the log has.
    pub fn replicas(self) -> usize {
        match self {
            Topology::Single => 0,
            Topology::Sentinel => 2,
            Topology::Cluster => 1,
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Topology::Single => "single",
            Topology::Sentinel => "sentinel",
            Topology::Cluster => "cluster",
        })
    }
}

/// The servers of a run. They end when this is dropped.
#[derive(Debug)]
pub enum Site {
    /// See [`Topology::Single`].
    Single {
        /// The proxies, one for each instance. Before the server, so that they end first.
        proxies: Vec<Proxy>,
        /// The server.
        server: Server,
    },
    /// See [`Topology::Sentinel`].
    Sentinel(SentinelSet),
    /// See [`Topology::Cluster`].
    Cluster(Cluster),
}

impl Site {
    /// Starts the servers, with an append-only file, so that they can come back with their data.
    ///
    /// # Errors
    ///
    /// When `redis-server` is not installed, or does not come up.
    pub fn start(topology: Topology, instances: usize) -> Result<Self, StartError> {
        let options = ServerOptions { append_only: AppendOnly::EverySecond, ..ServerOptions::default() };
        Ok(match topology {
            Topology::Single => {
                let server = Server::start(options)?;
                let failed = |error: std::io::Error| StartError::Failed(format!("a proxy does not start: {error}"));
                let proxies = (0..instances).map(|_| Proxy::start(server.address())).collect::<Result<_, _>>().map_err(failed)?;
                Site::Single { proxies, server }
            }
            Topology::Sentinel => Site::Sentinel(SentinelSet::start(options)?),
            Topology::Cluster => Site::Cluster(Cluster::start(options)?),
        })
    }

    /// How it is set up.
    pub fn topology(&self) -> Topology {
        match self {
            Site::Single { .. } => Topology::Single,
            Site::Sentinel(_) => Topology::Sentinel,
            Site::Cluster(_) => Topology::Cluster,
        }
    }

    /// The address that an instance is given.
    pub fn url(&self, instance: usize) -> String {
        match self {
            Site::Single { proxies, .. } => format!("redis://{}", proxies[instance].address()),
            Site::Sentinel(set) => {
                let sentinels: Vec<String> = set.sentinel_addresses().iter().map(ToString::to_string).collect();
                format!("redis+sentinel://{}/{}", sentinels.join(","), SentinelSet::MASTER_NAME)
            }
            Site::Cluster(cluster) => {
                let nodes: Vec<String> = cluster.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
                format!("redis+cluster://{}", nodes.join(","))
            }
        }
    }

    /// The server that holds the log at this moment.
    ///
    /// # Panics
    ///
    /// If nobody says who that is.
    pub fn log_server(&self) -> &Server {
        match self {
            Site::Single { server, .. } => server,
            Site::Sentinel(set) => set.master(),
            Site::Cluster(cluster) => &cluster.nodes()[cluster.owner_of(log_slot())],
        }
    }

    /// Everything that was killed or paused goes on, and all agree again.
    ///
    /// # Panics
    ///
    /// If they do not in a minute.
    pub fn mend(&self) {
        match self {
            Site::Single { server, proxies } => {
                if !server.is_running() {
                    server.restart(true);
                } else if !server.is_up() {
                    server.resume();
                }
                proxies.iter().for_each(Proxy::heal);
            }
            Site::Sentinel(set) => {
                set.resume_paused();
                set.restart_dead();
                set.wait_until_settled();
            }
            Site::Cluster(cluster) => {
                cluster.resume_paused();
                cluster.restart_dead();
                cluster.wait_until_settled();
            }
        }
    }
}

/// A key of the log.
pub(super) fn log_key(name: &str) -> String {
    format!("{{{PREFIX}}}:{name}")
}

/// The slot of all keys of the log.
pub(super) fn log_slot() -> u16 {
    slot_of(PREFIX.as_bytes())
}

/// The slot of an entry.
pub(super) fn entry_slot(whole_key: &str) -> u16 {
    slot_of(format!("{PREFIX}:e:{whole_key}").as_bytes())
}
