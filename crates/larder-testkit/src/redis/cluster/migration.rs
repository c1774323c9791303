//! A slot on its way from one node to another, with the steps that an operator's tool takes, one at a time.

use super::Cluster;
use crate::redis::server::{OWN_PASSWORD, OWN_USER};
use crate::redis::{Reply, Server};

/// How long moving some keys may take, in milliseconds.
const MOVE_MS_MAX: &str = "5000";

/// A slot on its way: see [`Cluster::begin_migration`].
#[derive(Debug)]
#[must_use = "the slot stays in between"]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: &'a Server,
    to: &'a Server,
    to_id: String,
}

impl<'a> Migration<'a> {
    pub(super) fn begin(cluster: &'a Cluster, slot: u16, to: usize) -> Self {
        let owner = cluster.owner_of(slot);
        assert_ne!(owner, to, "node {to} has slot {slot} already");
        let (from, to_id, to) = (&cluster.nodes[owner], cluster.id_of(to), &cluster.nodes[to]);
        let from_id = cluster.id_of(owner);
        let slot = slot.to_string();
        // In this order: between the two, a client that is sent on must be received.
        tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        Migration { cluster, slot, from, to, to_id }
    }

    /// Moves some of the keys, and returns how many: none when all have been moved.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn move_keys(&self, at_most: usize) -> usize {
        let keys = tell(self.from, &["CLUSTER", "GETKEYSINSLOT", &self.slot, &at_most.to_string()]);
        let keys: Vec<&[u8]> = keys.items().iter().filter_map(bytes).collect();
        if keys.is_empty() {
            return 0;
        }
        let port = self.to.port().to_string();
        let words = ["MIGRATE", "127.0.0.1", &port, "", "0", MOVE_MS_MAX, "AUTH2", OWN_USER, OWN_PASSWORD, "KEYS"];
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).chain(keys.iter().copied()).collect();
        // A key that expires meanwhile is no refusal.
        self.from.command(&words).unwrap_or_else(|error| panic!("keys of slot {} do not move: {error}", self.slot));
        keys.len()
    }

    /// Makes the new node the owner, when all keys have been moved, and returns when all nodes know.
    ///
    /// # Panics
    ///
    /// If a node refuses, as the old one does while it has keys, or the others do not hear of it in a minute.
    pub fn finish(self) {
        // First the new owner, then the old one: in between both serve the slot or send clients to the new one. Then the other
        // masters, which would hear of it anyway.
        let others = self.cluster.nodes.iter().filter(|node| ![self.from.port(), self.to.port()].contains(&node.port()));
        let masters = others.filter(|node| node.is_up() && node.info("role").as_deref() == Some("master"));
        for node in [self.to, self.from].into_iter().chain(masters) {
            tell(node, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.to_id]);
        }
        self.cluster.wait_until_settled();
    }
}

fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

fn tell(node: &Server, words: &[&str]) -> Reply {
    node.command(words).unwrap_or_else(|error| panic!("the node on port {}, told {words:?}: {error}", node.port()))
}
