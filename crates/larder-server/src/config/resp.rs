//! From the section `[resp]`, and what namespaces say of leases, to how clients of Redis are served.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::Typed;
use super::catalog::{DEFAULT_NAMESPACE, RESP};
use super::document::{Document, Givens};
use super::value::Value;
use crate::resp::frame::Limits;
use crate::settings::RespSettings;

/// What the section says.
pub fn of(document: &Document) -> RespSettings {
    let givens = &document.fixed[RESP.name];
    let typed = Typed(givens);
    let default = RespSettings::default();
    let count = |name: &str| u32::try_from(typed.number(name)).unwrap_or(u32::MAX);
    RespSettings {
        listen: givens.contains_key("listen").then(|| typed.address("listen")),
        unix: typed.path("unix"),
        threads: if givens.contains_key("threads") { count("threads") } else { default.threads },
        connections_max: count("connections_max"),
        idle_timeout: typed.time("idle_timeout"),
        half_timeout: typed.time("half_timeout"),
        stuck_timeout: typed.time("stuck_timeout"),
        requests: Limits {
            args_max: typed.length("args_max"),
            arg_bytes_max: typed.length("arg_bytes_max"),
            request_bytes_max: typed.length("request_bytes_max"),
        },
        reply_bytes_max: typed.length("reply_bytes_max"),
        messages_bytes_max: typed.length("messages_bytes_max"),
        tracked_keys_max: typed.length("tracked_keys_max"),
        miss_lease: lease(&document.fixed[DEFAULT_NAMESPACE.name]),
        miss_leases: leases(&document.namespaces),
        lease_keys_max: typed.length("lease_keys_max"),
    }
}

fn leases(namespaces: &BTreeMap<String, Givens>) -> HashMap<String, Duration> {
    namespaces.iter().map(|(name, givens)| (name.clone(), lease(givens))).collect()
}

fn lease(givens: &Givens) -> Duration {
    match Typed(givens).get("miss_lease") {
        Value::Time(time) => *time,
        other => unreachable!("miss_lease is a time, not {other}"),
    }
}
