//! A master, two replicas, and three sentinels that watch them: a Redis that fails over.
//!
//! The sentinels are quick to hold a server for dead and quick to look at everything anew, so that a failover takes
//! about two seconds and not half a minute.

use std::net::SocketAddr;
use std::time::Duration;

use super::server::{OWN_PASSWORD, OWN_USER};
use super::{CommandError, Reply, Server, ServerOptions, StartError};
use crate::wait;

const SERVERS: usize = 3;
const SENTINELS: usize = 3;

/// How many sentinels have to agree that the master is dead: more than half of them, as elections need anyway.
const QUORUM: usize = 2;

/// How long anything may take that the sentinels have to agree upon. It takes about two seconds; where they cannot be told to
/// look more often, which they can since version 7, some ten.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How sentinels are told to look more often than by default, in milliseconds: at the roles, for an answer, at what the others
/// think; and to tell of themselves, and try a connection anew.
///
/// And not to lose heart: a sentinel that was not run for two seconds, as on a machine full of tests, would else take
/// the clock for broken and do nothing for half a minute.
const PERIODS: [(&str, &str); 7] = [
    ("info-period", "500"),
    ("ping-period", "100"),
    ("ask-period", "200"),
    ("publish-period", "300"),
    ("min-link-reconnect-period", "1000"),
    ("tilt-trigger", "20000"),
    ("tilt-period", "1000"),
];

/// After what time without an answer a server is held for dead, in milliseconds.
const DOWN_MS: u64 = 500;

/// How long each step of a failover may take, in milliseconds. A vote without a winner, which is not rare among three, is repeated
/// after twice that time, so it should be short; but a new master is noticed only once a second.
const FAILOVER_MS_MAX: u64 = 1_500;

/// The servers and their sentinels. They end when this is dropped.
#[derive(Debug)]
pub struct SentinelSet {
    // Before the servers, so that none of them sees a server die and begins a failover.
    sentinels: Vec<Server>,
    servers: Vec<Server>,
}

impl SentinelSet {
    /// The name under which the sentinels know the master.
    pub const MASTER_NAME: &'static str = "larder";

    /// Starts three servers of this configuration, the first of them as master, and three sentinels, which hold a server for dead
    /// that has not answered for 500 ms. Returns when the sentinels know each other and the replicas are in sync.
    ///
    /// # Errors
    ///
    /// When `redis-server` is not installed, or one of them does not come up.
    pub fn start(options: ServerOptions) -> Result<Self, StartError> {
        let master = Server::start(options.clone())?;
        let replica = ServerOptions { replica_of: Some(master.port()), ..options };
        let lines = sentinel_lines(master.port());
        let mut servers = vec![master];
        for _ in 1..SERVERS {
            servers.push(Server::start(replica.clone())?);
        }
        let sentinels = (0..SENTINELS).map(|_| Server::start_sentinel(lines.clone())).collect::<Result<Vec<_>, _>>()?;
        let set = SentinelSet { sentinels, servers };
        set.sentinels.iter().for_each(hasten);
        set.settle().map_err(StartError::Failed)?;
        Ok(set)
    }

    /// The addresses of the sentinels.
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// The sentinels, to be killed or paused as well. A killed one that is restarted forgets how to hasten.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The servers, whoever of them is the master.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The port of the master, as the first sentinel says that answers.
    ///
    /// # Panics
    ///
    /// If no sentinel answers.
    pub fn master_port(&self) -> u16 {
        self.sentinels.iter().filter(|sentinel| sentinel.is_up()).find_map(master_port).expect("a sentinel answers")
    }

    /// The master, as the first sentinel says that answers. It may be down.
    ///
    /// # Panics
    ///
    /// If no sentinel answers.
    pub fn master(&self) -> &Server {
        let port = self.master_port();
        self.servers.iter().find(|server| server.port() == port).expect("the sentinels know no other servers")
    }

    /// Has the sentinels make a replica the master in the old one's place, though nothing is wrong with that. Returns the port of
    /// the new one when all is settled.
    ///
    /// # Panics
    ///
    /// If they do not in a minute.
    pub fn failover(&self) -> u16 {
        let old = self.master_port();
        let words = ["SENTINEL", "FAILOVER", SentinelSet::MASTER_NAME];
        let mut refusal = None;
        // Refused while another failover is under way, or no replica is known to be good enough yet.
        let is_begun = wait::until(SETTLE_MAX, || {
            let up = self.sentinels.iter().find(|sentinel| sentinel.is_up());
            refusal = up.map(|sentinel| sentinel.command(&words)).and_then(Result::err);
            up.is_some() && refusal.is_none()
        });
        assert!(is_begun, "no sentinel began a failover: {refusal:?}");
        assert!(wait::until(SETTLE_MAX, || self.master_port() != old), "the sentinels keep to the master on port {old}");
        self.wait_until_settled();
        self.master_port()
    }

    /// Kills the master, and returns its port without waiting for another one.
    pub fn kill_master(&self) -> u16 {
        let master = self.master();
        master.kill();
        master.port()
    }

    /// Pauses the master, and returns its port without waiting for another one. When it [goes on](Self::resume_paused), it still
    /// holds itself for the master, until a sentinel tells it otherwise.
    pub fn pause_master(&self) -> u16 {
        let master = self.master();
        master.pause();
        master.port()
    }

    /// Restarts the servers and sentinels that are down, with the data they have left. Does not wait for them to find each other.
    pub fn restart_dead(&self) {
        self.servers.iter().filter(|server| !server.is_running()).for_each(|server| server.restart(true));
        for sentinel in self.sentinels.iter().filter(|sentinel| !sentinel.is_running()) {
            sentinel.restart(true);
            hasten(sentinel);
        }
    }

    /// Lets the servers and sentinels go on that are paused.
    pub fn resume_paused(&self) {
        let all = self.servers.iter().chain(&self.sentinels);
        all.filter(|server| server.is_running() && !server.is_up()).for_each(Server::resume);
    }

    /// Waits until all sentinels that are up agree upon a master that is up and knows it, and every other server that is up is its
    /// replica and has what it has.
    ///
    /// # Panics
    ///
    /// If that does not come about in a minute.
    pub fn wait_until_settled(&self) {
        self.settle().unwrap_or_else(|unsettled| panic!("{unsettled}"));
    }

    fn settle(&self) -> Result<(), String> {
        let mut last = Ok(());
        let is_settled = wait::until(SETTLE_MAX, || {
            last = self.unsettled();
            last.is_ok()
        });
        if is_settled { Ok(()) } else { last.map_err(|what| format!("the sentinels are not settled after {SETTLE_MAX:?}: {what}")) }
    }

    /// What is not settled yet.
    fn unsettled(&self) -> Result<(), String> {
        let mut up = self.sentinels.iter().filter(|sentinel| sentinel.is_up());
        let master = up.clone().next().and_then(master_port).ok_or("no sentinel answers")?;
        up.try_for_each(|sentinel| self.unsettled_sentinel(sentinel, master))?;
        let (masters, others): (Vec<_>, Vec<_>) =
            self.servers.iter().filter(|server| server.is_up()).partition(|server| server.port() == master);
        let [master] = masters[..] else { return Err(format!("the master on port {master} is down")) };
        let info = replication(master)?;
        if info.field("role").as_deref() != Some("master") {
            return Err(format!("the server on port {} does not know that it is the master", master.port()));
        }
        let offset = number(&info, "master_repl_offset");
        others.into_iter().try_for_each(|replica| unsettled_replica(replica, master.port(), offset))
    }

    fn unsettled_sentinel(&self, sentinel: &Server, master: u16) -> Result<(), String> {
        let port = sentinel.port();
        if master_port(sentinel) != Some(master) {
            return Err(format!("the sentinel on port {port} does not hold port {master} for the master"));
        }
        let ask = |what| sentinel.command(&["SENTINEL", what, SentinelSet::MASTER_NAME]).map_err(|error| error.to_string());
        let seen = ask("MASTER")?;
        let (flags, others) = (seen.field("flags").unwrap_or_default(), seen.field("num-other-sentinels").unwrap_or_default());
        if flags != "master" || others != (SENTINELS - 1).to_string() {
            return Err(format!("the sentinel on port {port} sees {flags} and {others} other sentinels"));
        }
        // It must know the replicas, and that they are good, or the next failover finds none.
        let replicas = ask("SLAVES")?;
        let is_good =
            |seen: &&Reply| seen.field("flags").as_deref() == Some("slave") && seen.field("master-link-status").as_deref() == Some("ok");
        let good: Vec<_> = replicas.items().iter().filter(is_good).filter_map(|seen| seen.field("port")).collect();
        let is_missing = |server: &&Server| server.is_up() && server.port() != master && !good.contains(&server.port().to_string());
        match self.servers.iter().find(is_missing) {
            Some(server) => Err(format!("the sentinel on port {port} sees no good replica on port {}", server.port())),
            None => Ok(()),
        }
    }
}

fn unsettled_replica(replica: &Server, master: u16, offset: Option<i64>) -> Result<(), String> {
    let info = replication(replica)?;
    let is_linked = info.field("role").as_deref() == Some("slave")
        && info.field("master_port") == Some(master.to_string())
        && info.field("master_link_status").as_deref() == Some("up");
    if !is_linked {
        return Err(format!("the server on port {} is no replica of port {master} yet", replica.port()));
    }
    if number(&info, "slave_repl_offset") < offset {
        return Err(format!("the replica on port {} has not all of what port {master} has", replica.port()));
    }
    Ok(())
}

fn replication(server: &Server) -> Result<Reply, String> {
    server.command(&["INFO", "replication"]).map_err(|error| format!("the server on port {}: {error}", server.port()))
}

fn number(info: &Reply, field: &str) -> Option<i64> {
    info.field(field)?.parse().ok()
}

/// Who is the master, as this sentinel says.
fn master_port(sentinel: &Server) -> Option<u16> {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelSet::MASTER_NAME];
    sentinel.command(&words).ok()?.items().get(1)?.text().parse().ok()
}

/// Has a sentinel look more often; one of an older version keeps its own mind.
fn hasten(sentinel: &Server) {
    for (name, value) in PERIODS {
        match sentinel.command(&["SENTINEL", "DEBUG", name, value]) {
            Ok(_) | Err(CommandError::Refused(_)) => {}
            Err(error) => panic!("a sentinel that was just started has {error}"),
        }
    }
}

fn sentinel_lines(master: u16) -> Vec<String> {
    let name = SentinelSet::MASTER_NAME;
    vec![
        format!("sentinel monitor {name} 127.0.0.1 {master} {QUORUM}"),
        format!("sentinel auth-user {name} {OWN_USER}"),
        format!("sentinel auth-pass {name} {OWN_PASSWORD}"),
        format!("sentinel down-after-milliseconds {name} {DOWN_MS}"),
        format!("sentinel failover-timeout {name} {FAILOVER_MS_MAX}"),
        format!("sentinel parallel-syncs {name} {SERVERS}"),
    ]
}
