//! Three masters and three replicas that share the slots among them: a Redis cluster whose slots move and whose nodes die.

mod migration;
mod view;

use std::time::Duration;

pub use migration::Migration;
pub use view::{SLOTS, slot_of};

use self::view::Seen;
use super::{Server, ServerOptions, StartError};
use crate::wait;

/// The masters that it begins with; as many replicas follow.
const MASTERS: usize = 3;

/// How long anything may take that the nodes have to agree upon. It takes some seconds.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How long a failover on demand may take before it is demanded again: Redis itself gives one up after five seconds.
const FAILOVER_MAX: Duration = Duration::from_secs(6);

/// After what time without an answer a node is held for dead, where the options do not say.
const NODE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The nodes of a cluster, known by their numbers from 0. They end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts six nodes of this configuration: 0, 1 and 2 are masters with a third of the slots each, and 3, 4 and 5 their replicas
    /// in this order. Where the options have no node time-out, it is 1.5 s. Returns when all nodes agree, after about three seconds.
    ///
    /// # Errors
    ///
    /// When `redis-server` is not installed, or does not come up, or the nodes do not find to each other in a minute.
    pub fn start(options: ServerOptions) -> Result<Self, StartError> {
        let timeout = options.cluster_node_timeout.unwrap_or(NODE_TIMEOUT);
        let options = ServerOptions { cluster_node_timeout: Some(timeout), ..options };
        let nodes = (0..2 * MASTERS).map(|_| Server::start(options.clone())).collect::<Result<Vec<_>, _>>()?;
        let cluster = Cluster { nodes };
        cluster.found().map_err(StartError::Failed)?;
        cluster.settle().map_err(StartError::Failed)?;
        Ok(cluster)
    }

    /// The nodes by number.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The ports of the nodes by number.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(Server::port).collect()
    }

    /// The number of the node that serves a slot, as most nodes that are up believe; one that is dead and not replaced yet is
    /// still the owner.
    ///
    /// # Panics
    ///
    /// If no node answers, or most know of no owner.
    pub fn owner_of(&self, slot: u16) -> usize {
        let views = self.views();
        let owners = views.iter().filter_map(|view| self.owner_in(view, slot));
        let votes = owners.fold(vec![0; self.nodes.len()], |mut votes, owner| {
            votes[owner] += 1;
            votes
        });
        let (owner, most) = votes.into_iter().enumerate().max_by_key(|(_, votes)| *votes).expect("there are nodes");
        assert!(most > 0, "nobody answers who owns slot {slot}");
        owner
    }

    /// The node that [owns](Cluster::owner_of) the slot of a key.
    ///
    /// # Panics
    ///
    /// As [`Cluster::owner_of`].
    pub fn owner_of_key(&self, key: &[u8]) -> &Server {
        &self.nodes[self.owner_of(slot_of(key))]
    }

    /// The numbers of the nodes that are replicas of the slot's owner and are up.
    ///
    /// # Panics
    ///
    /// As [`Cluster::owner_of`].
    pub fn replicas_of(&self, slot: u16) -> Vec<usize> {
        let owner = self.owner_of(slot);
        let id = self.id_of(owner);
        let views = self.views();
        let is_replica = |seen: &&Seen| seen.master.as_ref() == Some(&id);
        let seen = views.iter().flatten().filter(is_replica).filter_map(|seen| self.number_of(seen.port));
        let mut replicas: Vec<usize> = seen.filter(|number| self.nodes[*number].is_up()).collect();
        replicas.sort_unstable();
        replicas.dedup();
        replicas
    }

    /// Begins to move a slot to another node, which serves clients meanwhile: the old owner asks them (`ASK`) to turn to the new one for
    /// keys that it has no longer. Drop it, and the slot stays in between.
    ///
    /// # Panics
    ///
    /// If that node is no master, or has the slot already, or a node refuses.
    pub fn begin_migration(&self, slot: u16, to: usize) -> Migration<'_> {
        Migration::begin(self, slot, to)
    }

    /// Moves a slot with all its keys to another node, while both serve clients. Returns when all nodes know.
    ///
    /// # Panics
    ///
    /// As [`Cluster::begin_migration`].
    pub fn migrate_slot(&self, slot: u16, to: usize) {
        let migration = self.begin_migration(slot, to);
        while migration.move_keys(100) > 0 {}
        migration.finish();
    }

    /// Has a replica of the slot's owner take its place in good order, without a loss. Returns the number of the new owner when all
    /// is settled.
    ///
    /// # Panics
    ///
    /// If there is no replica, or it does not take over in a minute.
    pub fn failover(&self, slot: u16) -> usize {
        const ATTEMPTS: usize = 10;
        let replica = *self.replicas_of(slot).first().expect("the owner of the slot has a replica that is up");
        let takes_over = || {
            self.nodes[replica].command(&["CLUSTER", "FAILOVER"]).expect("a replica takes over when it is told to");
            wait::until(FAILOVER_MAX, || self.owner_of(slot) == replica)
        };
        assert!((0..ATTEMPTS).any(|_| takes_over()), "node {replica} did not become the owner of slot {slot}");
        self.wait_until_settled();
        replica
    }

    /// Kills the owner of a slot, and returns its number. [Settling](Cluster::wait_until_settled) waits until a replica has taken its
    /// place, which takes about twice the node time-out and a second.
    ///
    /// # Panics
    ///
    /// As [`Cluster::owner_of`].
    pub fn kill_owner(&self, slot: u16) -> usize {
        let owner = self.owner_of(slot);
        self.nodes[owner].kill();
        owner
    }

    /// Restarts the nodes that are down, with the data they have left. Does not wait for them to find their place.
    pub fn restart_dead(&self) {
        self.nodes.iter().filter(|node| !node.is_running()).for_each(|node| node.restart(true));
    }

    /// Lets the nodes go on that are paused.
    pub fn resume_paused(&self) {
        self.nodes.iter().filter(|node| node.is_running() && !node.is_up()).for_each(Server::resume);
    }

    /// Waits until all nodes that are up believe the same, every slot has an owner that is up, and the replicas that are up are
    /// linked to their masters.
    ///
    /// # Panics
    ///
    /// If that does not come about in a minute.
    pub fn wait_until_settled(&self) {
        self.settle().unwrap_or_else(|unsettled| panic!("{unsettled}"));
    }

    /// Makes one cluster of six nodes that do not know each other.
    fn found(&self) -> Result<(), String> {
        let tell = |number: usize, words: &[&str]| {
            let reply = self.nodes[number].command(words);
            reply.map(drop).map_err(|error| format!("node {number} of a new cluster, told {}: {error}", words[1]))
        };
        for number in 0..self.nodes.len() {
            // Different from the beginning, or they would first have to find that out. It may be set only while they are alone.
            tell(number, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
        }
        for number in 0..self.nodes.len() {
            for other in &self.nodes[number + 1..] {
                tell(number, &["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()])?;
            }
        }
        for master in 0..MASTERS {
            let slots: Vec<String> = share_of(master).map(|slot| slot.to_string()).collect();
            let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            tell(master, &words)?;
        }
        let is_met = |view: &Vec<Seen>| view.len() == self.nodes.len() && !view.iter().any(|seen| seen.is("handshake"));
        if !wait::until(SETTLE_MAX, || self.views().iter().filter(|view| is_met(view)).count() == self.nodes.len()) {
            return Err(format!("the nodes of a new cluster have not met after {SETTLE_MAX:?}"));
        }
        (0..MASTERS).try_for_each(|master| tell(MASTERS + master, &["CLUSTER", "REPLICATE", &self.id_of(master)]))
    }

    fn settle(&self) -> Result<(), String> {
        let mut last = Ok(());
        // Looked at once more when the time has passed, so the last look decides.
        let is_settled = wait::until(SETTLE_MAX, || {
            last = self.unsettled();
            last.is_ok()
        });
        if is_settled { Ok(()) } else { last.map_err(|what| format!("the cluster is not settled after {SETTLE_MAX:?}: {what}")) }
    }

    /// What is not settled yet.
    fn unsettled(&self) -> Result<(), String> {
        let mut believed = None;
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_up()) {
            let view = self.view_of(node).ok_or_else(|| format!("node {number} does not answer"))?;
            let state = node.command(&["CLUSTER", "INFO"]).ok().and_then(|info| info.field("cluster_state"));
            if state.as_deref() != Some("ok") {
                return Err(format!("node {number} holds the cluster for {}", state.unwrap_or_default()));
            }
            self.unsettled_view(number, &view)?;
            // Who has which slots, and who is whose replica.
            let own: Vec<_> = view.into_iter().map(|seen| (seen.port, seen.master, seen.slots)).collect();
            if *believed.get_or_insert_with(|| own.clone()) != own {
                return Err(format!("node {number} believes something else than those before it"));
            }
        }
        Ok(())
    }

    fn unsettled_view(&self, number: usize, view: &[Seen]) -> Result<(), String> {
        for seen in view {
            let server = self.nodes.iter().find(|node| node.port() == seen.port).ok_or("a node is a stranger")?;
            if server.is_up() && (seen.is("fail") || seen.is("fail?") || seen.is("handshake")) {
                return Err(format!("node {number} does not hold the node on port {} for well", seen.port));
            }
            if !server.is_up() && !seen.slots.is_empty() {
                return Err(format!("node {number} still holds a dead one for the owner of {:?}", seen.slots));
            }
            if seen.is("myself") && seen.master.is_some() && server.info("master_link_status").as_deref() != Some("up") {
                return Err(format!("node {number} is not linked to its master"));
            }
        }
        Ok(())
    }

    /// What the nodes believe that are up.
    fn views(&self) -> Vec<Vec<Seen>> {
        self.nodes.iter().filter(|node| node.is_up()).filter_map(|node| self.view_of(node)).collect()
    }

    fn view_of(&self, node: &Server) -> Option<Vec<Seen>> {
        view::read(&node.command(&["CLUSTER", "NODES"]).ok()?.text())
    }

    fn owner_in(&self, view: &[Seen], slot: u16) -> Option<usize> {
        view.iter().find(|seen| seen.has(slot)).and_then(|seen| self.number_of(seen.port))
    }

    fn number_of(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// The identity of a node, which may be dead.
    fn id_of(&self, number: usize) -> String {
        let port = self.nodes[number].port();
        let mut seen = self.views().into_iter().flatten();
        seen.find(|seen| seen.port == port).map(|seen| seen.id).expect("a node of the cluster is known to the others")
    }
}

/// The slots of a master at the beginning.
fn share_of(master: usize) -> std::ops::Range<usize> {
    let slots = usize::from(SLOTS);
    slots * master / MASTERS..slots * (master + 1) / MASTERS
}
