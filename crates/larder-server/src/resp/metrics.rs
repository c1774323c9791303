//! What Prometheus is told of the door for clients of Redis.

use std::sync::atomic::Ordering::Relaxed;

use super::Resp;
use super::table::COMMANDS;
use crate::http::metrics::encode::{Kind, Value};
use crate::http::metrics::families::Families;

impl Resp {
    /// Tells what was counted. The label is a command of the table; what is none is not counted.
    pub fn tell(&self, families: &mut Families) {
        families.begin("larder_resp_commands", Kind::Counter, "Commands by name, refused ones included.");
        for (command, calls) in COMMANDS.iter().zip(&self.calls) {
            families.add(&[("command", command.name)], Value::Whole(calls.load(Relaxed)));
        }
        let [open, opened, refused, cut] = self.clients.counts();
        families.size("larder_resp_connections", "Connections that are open.", open);
        families.size("larder_resp_connections_limit", "How many connections may be open.", self.limits().connections_max.into());
        families.counter("larder_resp_connections_accepted", "Connections that were accepted.", opened);
        families.counter("larder_resp_connections_refused", "Connections that were one too many.", refused);
        families.counter("larder_resp_connections_cut", "Connections that were cut off for asking nothing, or taking nothing.", cut);
        let [given, dropped, evicted] = self.leases.counts();
        families.counter("larder_resp_miss_leases", "Misses that left a lease.", given);
        let help = "Writes that were dropped, because what they depend on was invalidated since the miss that they answer.";
        families.counter("larder_resp_miss_leases_dropped", help, dropped);
        let help = "Keys that lost their leases before their time for want of room (lease_keys_max): what is set there is not protected.";
        families.counter("larder_resp_miss_leases_evicted", help, evicted);
    }
}
