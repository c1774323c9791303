//! The connections to the server that holds the log: opened together, verified together, given up together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, RedisError, RedisResult, Value, cmd};
use tokio::sync::{Notify, watch};

use super::reads::ReadConnections;
use super::{Host, RedisOptions, Topology, reply, script};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Epoch;

/// A connection on which no answer came in time for so long counts as lost.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// See the head of this file.
pub(crate) struct Link {
    pub(crate) options: RedisOptions,
    server: watch::Sender<Option<Arc<Server>>>,
    connects: AtomicU64,
    attempts: AtomicU64,
}

/// A server whose log was verified, and the connections to it. A clone of a connection is the same connection.
pub(crate) struct Server {
    /// Tells one set of connections from the next.
    pub(crate) number: u64,
    /// The epoch of the log that was taken up with it. An entry of another is stale to everybody.
    pub(crate) epoch: Epoch,
    /// What the log knows this set by, so that what was sent on an older one does nothing any more.
    pub(crate) fence: u64,
    pub(crate) append: MultiplexedConnection,
    pub(crate) data: Data,
    /// A short cut for reads from `data`, where there is one.
    pub(super) reads: Option<ReadConnections>,
    pub(crate) about: About,
    failed: AtomicBool,
    failing: Notify,
}

/// Where entries are.
#[derive(Clone)]
pub(crate) enum Data {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The process and the history of its data: another of either may have lost a part of the log.
    pub(crate) identity: String,
    pub(crate) version: String,
    /// What it does when its memory is full, and how much it has.
    pub(crate) eviction: String,
    pub(crate) memory_max: u64,
    pub(crate) is_cluster: bool,
}

/// Connections that nobody may use yet but who verifies them.
pub(crate) struct Opened {
    pub(crate) append: MultiplexedConnection,
    pub(crate) tail: MultiplexedConnection,
    pub(crate) inbox: MultiplexedConnection,
    pub(crate) data: Data,
    pub(crate) about: About,
    info: ConnectionInfo,
}

impl Link {
    pub(crate) fn new(options: RedisOptions) -> Self {
        // A tree in which another library brings a second provider has no default one; the first to say so is right.
        if options.tls.is_some() {
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        Link { options, server: watch::Sender::new(None), connects: AtomicU64::new(0), attempts: AtomicU64::new(0) }
    }

    /// The server, while it can be used.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.server.borrow().clone()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.server.borrow().is_some()
    }

    /// Waits until a server can be used, other than the one numbered so.
    pub(crate) async fn other_than(&self, number: Option<u64>) -> Arc<Server> {
        let mut changes = self.server.subscribe();
        let is_other = |server: &Option<Arc<Server>>| server.as_ref().is_some_and(|server| Some(server.number) != number);
        let found = changes.wait_for(is_other).await.expect("the sender lives as long as the link").clone();
        found.expect("it was waited for")
    }

    /// Waits until the one numbered so is not in use any more.
    pub(crate) async fn until_left(&self, number: u64) {
        let mut changes = self.server.subscribe();
        let is_left = |server: &Option<Arc<Server>>| server.as_ref().is_none_or(|server| server.number != number);
        drop(changes.wait_for(is_left).await.expect("the sender lives as long as the link"));
    }

    /// Lets everybody use a server.
    pub(crate) fn publish(&self, opened: Opened, epoch: Epoch, fence: u64) -> Arc<Server> {
        let number = self.connects.fetch_add(1, Ordering::Relaxed) + 1;
        let Opened { append, data, about, info, .. } = opened;
        let reads = if self.options.is_cluster() { None } else { ReadConnections::to(&info, &about, &self.options) };
        let (failed, failing) = (AtomicBool::new(false), Notify::new());
        let server = Arc::new(Server { number, epoch, fence, append, data, reads, about, failed, failing });
        self.server.send_replace(Some(server.clone()));
        server
    }

    /// Takes the server from everybody.
    pub(crate) fn take_down(&self) {
        self.server.send_replace(None);
    }

    /// As [`Server::fail`], and takes it from everybody at once.
    pub(crate) fn fail(&self, server: &Server, why: &dyn std::fmt::Display) {
        server.fail(why);
        self.server.send_if_modified(|current| {
            let is_current = current.as_ref().is_some_and(|current| current.number == server.number);
            if is_current {
                *current = None;
            }
            is_current
        });
    }

    /// Opens connections to whoever holds the log now, and asks who that is.
    pub(crate) async fn open(&self) -> Result<Opened> {
        let options = &self.options;
        let info = self.find().await?;
        let operation = options.operation_timeout;
        let mut append = self.connect(&info, operation).await?;
        let about = About::of(&mut append).await?;
        if about.is_cluster && !options.is_cluster() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "this server is a node of a cluster: its address begins with redis+cluster://",
            ));
        }
        script::load(&mut append).await.map_err(failed)?;
        // With replicas to wait for, a heartbeat waits twice.
        let tail = self.connect(&info, options.heartbeat * 2 + operation).await?;
        let inbox = self.connect(&info, options.heartbeat + operation).await?;
        let data = match &options.topology {
            Topology::Cluster(seeds) => Data::Cluster(self.connect_cluster(seeds).await?),
            _ => Data::Single(self.connect(&info, operation).await?),
        };
        // The connections were opened one after the other: a fail-over in between would have put them on two servers.
        for mut connection in [tail.clone(), inbox.clone()].into_iter().chain(data.single()) {
            if About::of(&mut connection).await?.identity != about.identity {
                return Err(Error::of_tier("Redis changed while the connections were opened"));
            }
        }
        Ok(Opened { append, tail, inbox, data, about, info })
    }

    /// Where the server is now.
    pub(crate) async fn find(&self) -> Result<ConnectionInfo> {
        match &self.options.topology {
            Topology::Single(addr) => Ok(self.options.connection_to(addr.clone())),
            Topology::Sentinel { master, sentinels } => self.ask_sentinels(master, sentinels).await,
            Topology::Cluster(seeds) => self.ask_cluster(seeds).await,
        }
    }

    pub(crate) async fn connect(&self, info: &ConnectionInfo, response: Duration) -> Result<MultiplexedConnection> {
        let client = match self.options.certificates() {
            Some(certificates) => Client::build_with_tls(info.clone(), certificates),
            None => Client::open(info.clone()),
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(self.options.connect_timeout)).set_response_timeout(Some(response));
        client.map_err(failed)?.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
    }

    /// Each sentinel in turn, until one knows the master.
    async fn ask_sentinels(&self, master: &str, sentinels: &[Host]) -> Result<ConnectionInfo> {
        let mut last = Error::of_tier("no sentinel is configured");
        for (host, port) in self.in_turn(sentinels) {
            match self.ask_sentinel(master, host, *port).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// All of them, beginning with another each time: the first may be one that was cut off with a master of its own.
    fn in_turn<'a>(&self, hosts: &'a [Host]) -> impl Iterator<Item = &'a Host> {
        let first = self.attempts.fetch_add(1, Ordering::Relaxed) as usize % hosts.len().max(1);
        hosts[first..].iter().chain(&hosts[..first])
    }

    async fn ask_sentinel(&self, master: &str, host: &str, port: u16) -> Result<ConnectionInfo> {
        // Sentinels have credentials of their own, if any; those of the server are not shown to them.
        let mut info = self.options.connection(host, port);
        info = info.set_redis_settings(Default::default());
        let mut sentinel = self.connect(&info, self.options.operation_timeout).await?;
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let [host, port] = reply::exactly(query(&mut sentinel, &ask).await?, "the master's address")?;
        let port = reply::number(port, "the master's port")? as u16;
        Ok(self.options.connection(&reply::text(host, "the master's host")?, port))
    }

    /// The node that has the slot of the log, asked of the first that answers.
    async fn ask_cluster(&self, seeds: &[Host]) -> Result<ConnectionInfo> {
        let mut last = Error::of_tier("no node of the cluster is configured");
        for (host, port) in self.in_turn(seeds) {
            match self.ask_node(host, *port).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_node(&self, host: &str, port: u16) -> Result<ConnectionInfo> {
        let mut node = self.connect(&self.options.connection(host, port), self.options.operation_timeout).await?;
        let mut ask = cmd("CLUSTER");
        ask.arg("KEYSLOT").arg(format!("{{{}}}", self.options.prefix));
        let slot = reply::number(query(&mut node, &ask).await?, "a slot")?;
        let slots = query(&mut node, cmd("CLUSTER").arg("SLOTS")).await?;
        for range in reply::list(slots, "the cluster's slots")? {
            let mut range = reply::list(range, "a range of slots")?.into_iter();
            let mut next = || range.next().ok_or_else(|| reply::unexpected("a range of slots"));
            let (first, last, owner) = (reply::number(next()?, "a slot")?, reply::number(next()?, "a slot")?, next()?);
            if (first..=last).contains(&slot) {
                let mut owner = reply::list(owner, "a node")?.into_iter();
                let mut next = || owner.next().ok_or_else(|| reply::unexpected("a node"));
                let (own_host, port) = (next()?, reply::number(next()?, "a port")? as u16);
                // A node that does not know its own address leaves it out: it is the one that was asked.
                let own_host = reply::text(own_host, "a host").ok().filter(|host| !host.is_empty() && host != "?");
                return Ok(self.options.connection(own_host.as_deref().unwrap_or(host), port));
            }
        }
        Err(Error::of_tier("no node of the cluster has the slot of the log"))
    }

    async fn connect_cluster(&self, seeds: &[Host]) -> Result<ClusterConnection> {
        let infos: Vec<ConnectionInfo> = seeds.iter().map(|(host, port)| self.options.connection(host, *port)).collect();
        let mut builder = ClusterClientBuilder::new(infos)
            .connection_timeout(self.options.connect_timeout)
            .response_timeout(self.options.operation_timeout)
            .overall_response_timeout(Some(self.options.operation_timeout * 2))
            .retries(2)
            .tcp_settings(super::tcp_settings());
        if let Some(certificates) = self.options.certificates() {
            builder = builder.certs(certificates);
        }
        builder.build().map_err(failed)?.get_async_connection().await.map_err(failed)
    }
}

impl Server {
    /// One command about entries.
    pub(crate) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let outcome = match &self.data {
            Data::Single(connection) => script::send(&mut connection.clone(), command).await,
            Data::Cluster(connection) => script::send(&mut connection.clone(), command).await,
        };
        self.noticed(outcome)
    }

    /// One call of a script about entries.
    pub(crate) async fn run(&self, call: &Cmd) -> RedisResult<Value> {
        let outcome = match &self.data {
            Data::Single(connection) => script::run(&mut connection.clone(), call).await,
            Data::Cluster(connection) => script::run_in_cluster(&mut connection.clone(), call).await,
        };
        self.noticed(outcome)
    }

    /// A connection that broke off is never opened again alone, so all of them are given up. The client for a cluster opens its own again.
    fn noticed<T>(&self, outcome: RedisResult<T>) -> RedisResult<T> {
        if let (Data::Single(_), Err(error)) = (&self.data, &outcome)
            && error.is_connection_dropped()
        {
            self.fail(error);
        }
        outcome
    }

    /// Asks on each connection that is not followed, once in a period, and resolves when one leads nowhere any more.
    pub(crate) async fn until_lost(&self, inbox: MultiplexedConnection, period: Duration) -> Error {
        let data = async {
            match self.data.single() {
                Some(data) => until_lost(data, period, SILENT_MAX).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What asks here may wait behind what waits for replicas, for as long as there are none. Who appends gives up a silent server.
            error = until_lost(self.append.clone(), period, Duration::MAX) => failed(error),
            error = data => failed(error),
            error = until_lost(inbox, period, SILENT_MAX) => failed(error),
        }
    }

    /// Somebody found that it cannot be relied on: the keeper takes it down and verifies anew.
    pub(crate) fn fail(&self, why: &dyn std::fmt::Display) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::info!(why = %why, "the connection to Redis is given up, to be verified anew");
        }
        self.failing.notify_one();
    }

    /// Resolves when it was failed by somebody. For one alone to wait for: the keeper.
    pub(crate) async fn until_failed(&self) {
        while !self.failed.load(Ordering::Acquire) {
            self.failing.notified().await;
        }
    }
}

/// One that is only slow answers at last, whatever it was busy with; and a refusal is an answer.
async fn until_lost(mut connection: MultiplexedConnection, period: Duration, silent_max: Duration) -> RedisError {
    let mut answered = Instant::now();
    loop {
        tokio::time::sleep(period).await;
        match script::send(&mut connection, &cmd("PING")).await {
            Err(error) if error.is_connection_dropped() => return error,
            Err(error) if error.is_timeout() => {
                if answered.elapsed() > silent_max {
                    return error;
                }
            }
            _ => answered = Instant::now(),
        }
    }
}

impl Data {
    fn single(&self) -> Option<MultiplexedConnection> {
        match self {
            Data::Single(connection) => Some(connection.clone()),
            Data::Cluster(_) => None,
        }
    }
}

impl About {
    /// The part of the identity that says which process it is. The history gets another name when the first replica comes, say, and the
    /// connections to it go on.
    pub(super) fn process(&self) -> &str {
        self.identity.split(':').next().unwrap_or_default()
    }

    pub(crate) async fn of(connection: &mut MultiplexedConnection) -> Result<Self> {
        Self::read(&reply::text(query(connection, &cmd("INFO")).await?, "INFO")?)
    }

    /// From what the server answers to `INFO`.
    pub(super) fn read(info: &str) -> Result<Self> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("").trim();
        if field("role") != "master" {
            return Err(Error::of_tier("this server is a replica: it takes no appends"));
        }
        let run_id = field("run_id");
        if run_id.is_empty() {
            return Err(reply::unexpected("INFO"));
        }
        let name = if field("valkey_version").is_empty() { ("Redis", "redis_version") } else { ("Valkey", "valkey_version") };
        Ok(About {
            identity: format!("{run_id}:{}", field("master_replid")),
            version: format!("{} {}", name.0, field(name.1)),
            eviction: field("maxmemory_policy").into(),
            memory_max: field("maxmemory").parse().unwrap_or(0),
            is_cluster: field("cluster_enabled") == "1",
        })
    }
}

/// One command, its error as ours.
pub(crate) async fn query(connection: &mut MultiplexedConnection, command: &::redis::Cmd) -> Result<Value> {
    connection.send_packed_command(command).await.and_then(Value::extract_error).map_err(failed)
}

/// Whether it says that the server does not do what it was asked for, and is there.
pub(crate) fn is_refused(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RedisError>());
    source.is_some_and(|source| !source.is_timeout() && !source.is_connection_dropped())
}

pub(crate) fn failed(error: RedisError) -> Error {
    let what = if error.is_timeout() { "Redis did not answer in time" } else { "Redis failed" };
    Error::new(ErrorKind::Tier, what).with_source(error)
}
