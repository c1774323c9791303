//! How a server of a test is configured: the choices, and the lines of `redis.conf` that they become. It starts nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::redis::Tls;

/// The user as whom the fixtures themselves talk to their server. Whatever a test says about users and passwords, before the
/// start or later, does not lock them out.
pub(in crate::redis) const OWN_USER: &str = "larder-testkit";

/// Any would do.
pub(in crate::redis) const OWN_PASSWORD: &str = "any";

/// Whether, and how durably, a server keeps an append-only file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendOnly {
    /// No file: a killed server comes back empty.
    #[default]
    Off,
    /// Written at once, synced once a second. What was written survives the kill of the process.
    EverySecond,
    /// Synced before a write is answered.
    Always,
}

/// How a server is configured. By default: no append-only file, no limit on memory, no password, TCP alone, no part of
/// anything. There are no automatic snapshots in any case. `DEBUG` is allowed.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// The append-only file.
    pub append_only: AppendOnly,
    /// `maxmemory` in bytes, and the `maxmemory-policy`, such as `noeviction` or `allkeys-lru`. Redis needs about 1 MB for itself.
    pub max_memory: Option<(u64, &'static str)>,
    /// The password of the default user (`requirepass`). Plain characters, since it becomes a part of the URL.
    pub password: Option<String>,
    /// Other users, as `ACL SETUSER` takes them: `alice on >secret ~* &* +@all`. With `default off` among them, nobody else
    /// may connect.
    pub users: Vec<String>,
    /// Whether it also listens on a Unix socket.
    pub unix_socket: bool,
    /// The port of the master whose replica it is.
    pub replica_of: Option<u16>,
    /// That it is a node of a cluster, and after what time without an answer (in whole milliseconds) a node is held for dead.
    pub cluster_node_timeout: Option<Duration>,
    /// That it also speaks TLS.
    pub tls: Option<Tls>,
    /// Other lines of `redis.conf`. They come last, and of several settings of one thing the last counts.
    pub directives: Vec<String>,
}

/// The lines of `redis.conf` for a server that keeps data.
pub(super) fn of_server(options: &ServerOptions, folder: &Path, port: u16, tls_port: Option<u16>) -> Vec<String> {
    let mut lines = of_any(folder, port);
    lines.push("save \"\"".to_owned());
    lines.push(format!("user {OWN_USER} on nopass ~* &* +@all"));
    lines.push(format!("masteruser {OWN_USER}"));
    lines.push(format!("masterauth {OWN_PASSWORD}"));
    // A replica is there when it is wanted, not when more of them may have come.
    lines.push("repl-diskless-sync-delay 0".to_owned());
    lines.push("repl-ping-replica-period 1".to_owned());
    // Before version 7 it is allowed anyway, and the line is unknown.
    if super::version().is_ok_and(|version| version >= (7, 0)) {
        lines.push("enable-debug-command local".to_owned());
    }
    lines.extend(append_only(options.append_only).map(str::to_owned));
    if let Some((bytes, policy)) = options.max_memory {
        lines.push(format!("maxmemory {bytes}"));
        lines.push(format!("maxmemory-policy {policy}"));
    }
    lines.extend(options.password.iter().map(|password| format!("requirepass \"{password}\"")));
    lines.extend(options.users.iter().map(|user| format!("user {user}")));
    if options.unix_socket {
        lines.push(format!("unixsocket {}", quoted(&socket(folder))));
    }
    lines.extend(options.replica_of.map(|master| format!("replicaof 127.0.0.1 {master}")));
    lines.extend(options.cluster_node_timeout.iter().flat_map(|timeout| of_cluster(*timeout, folder)));
    if let (Some(tls), Some(tls_port)) = (&options.tls, tls_port) {
        lines.extend(of_tls(tls, tls_port));
    }
    lines.extend(options.directives.iter().cloned());
    lines
}

/// The lines of `redis.conf` for a sentinel.
pub(super) fn of_sentinel(lines: &[String], folder: &Path, port: u16) -> Vec<String> {
    of_any(folder, port).into_iter().chain(lines.iter().cloned()).collect()
}

/// The folder of what it keeps.
pub(super) fn data_folder(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The Unix socket.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

fn of_any(folder: &Path, port: u16) -> Vec<String> {
    vec!["bind 127.0.0.1".to_owned(), format!("port {port}"), format!("dir {}", quoted(&data_folder(folder)))]
}

fn append_only(append_only: AppendOnly) -> [&'static str; 2] {
    match append_only {
        AppendOnly::Off => ["appendonly no", "appendfsync no"],
        AppendOnly::EverySecond => ["appendonly yes", "appendfsync everysec"],
        AppendOnly::Always => ["appendonly yes", "appendfsync always"],
    }
}

fn of_cluster(timeout: Duration, folder: &Path) -> [String; 5] {
    [
        "cluster-enabled yes".to_owned(),
        // Beside the data and not among it: a node that lost its data is still the node that the others know.
        format!("cluster-config-file {}", quoted(&folder.join("nodes.conf"))),
        format!("cluster-node-timeout {}", timeout.as_millis()),
        // A replica of a dead master may always take over, however long it has not heard of it. Tests pause things.
        "cluster-replica-validity-factor 0".to_owned(),
        // And a replica stays with its master, so that a test knows who will take over.
        "cluster-migration-barrier 999".to_owned(),
    ]
}

fn of_tls(tls: &Tls, port: u16) -> [String; 5] {
    let files = &tls.certificates;
    [
        format!("tls-port {port}"),
        format!("tls-cert-file {}", quoted(&files.server_certificate())),
        format!("tls-key-file {}", quoted(&files.server_key())),
        format!("tls-ca-cert-file {}", quoted(&files.authority())),
        format!("tls-auth-clients {}", if tls.demands_client_certificate { "yes" } else { "no" }),
    ]
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
