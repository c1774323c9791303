//! What the server can be told, as plain values. Where they come from (file, environment, flags) is not known here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder::Builder;

use crate::history::Retention;
use crate::promise::BudgetSettings;
use crate::promise::readings::Readings;
use crate::resp::frame::Limits;
use crate::tls::Tls;
use crate::webhook::Secret;

/// What a client may ask of the server at most. Every limit is answered with a problem that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body of a request, in bytes. Default 32 MiB: twice the largest value that a namespace takes unless told
    /// otherwise, so that a value of that size also fits when it comes as base64 in JSON.
    pub body_bytes_max: usize,
    /// How long a client may take to send the head of a request, from when the connection is ready for one; so it is also how
    /// long an idle connection is kept. Default 30 s.
    pub head_timeout: Duration,
    /// How long a client may take to send its body. Default 10 s.
    pub body_timeout: Duration,
    /// How long a request may take as a whole. Default 30 s.
    pub request_timeout: Duration,
    /// How many requests may be under way at once; one more is told to come again. Probes are not counted. Default 1,024.
    pub requests_max: u32,
    /// How many connections may be open at once; more wait to be accepted. Default 4,096.
    pub connections_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            body_bytes_max: 32 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            requests_max: 1_024,
            connections_max: 4_096,
        }
    }
}

/// What stands between the server's doors and whoever reaches them.
#[derive(Clone, Debug)]
pub struct Guards {
    /// What TLS is spoken with. Default: it is not spoken.
    pub tls: Option<Arc<Tls>>,
    /// Whether HTTP is spoken over it, where it is spoken at all. Default: it is.
    pub http_tls: bool,
    /// Whether clients of Redis speak it, where it is spoken at all. Default: they do.
    pub resp_tls: bool,
    /// Names by which the server is asked over HTTP, beside those of this machine, of the address where it listens and of its
    /// certificate; `*` is all. Default: none.
    pub hosts: Vec<String>,
    /// Whether a door may be open to more than this machine without both. Default: it may not.
    pub insecure: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Guards { tls: None, http_tls: true, resp_tls: true, hosts: Vec::new(), insecure: false }
    }
}

impl Guards {
    /// What TLS is spoken with over HTTP, where it is.
    pub fn of_http(&self) -> Option<Arc<Tls>> {
        self.tls.clone().filter(|_| self.http_tls)
    }

    /// The same for clients of Redis.
    pub fn of_resp(&self) -> Option<Arc<Tls>> {
        self.tls.clone().filter(|_| self.resp_tls)
    }
}

/// Where clients of Redis are served, and what they may ask for at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespSettings {
    /// Where it listens. Port 0 takes a free one. Default: nowhere.
    pub listen: Option<SocketAddr>,
    /// The path of a socket that it listens on. Default: none.
    pub unix: Option<PathBuf>,
    /// Threads that serve connections. Default: one for each core, four at most.
    pub threads: u32,
    /// Connections at once; one more is told so and closed. Default 10,000.
    pub connections_max: u32,
    /// How long a connection may ask for nothing. Default zero: for ever.
    pub idle_timeout: Duration,
    /// How long half a request may wait for its rest. Default 30 s.
    pub half_timeout: Duration,
    /// How long a client may leave what it is sent. Default 30 s.
    pub stuck_timeout: Duration,
    /// What a request may have at most.
    pub requests: Limits,
    /// The largest reply, in bytes. Default 256 MiB.
    pub reply_bytes_max: usize,
    /// Messages that wait for a client which does not take them, in bytes; with more it is cut off. Default 32 MiB.
    pub messages_bytes_max: usize,
    /// Keys that are put down for clients which track them. Default 1,000,000.
    pub tracked_keys_max: usize,
    /// How long a miss protects the `SET` that answers it; zero: not at all. Default 10 s.
    pub miss_lease: Duration,
    /// The same for some namespaces.
    pub miss_leases: HashMap<String, Duration>,
    /// Keys that have such leases at most; of more, the oldest have none. Default 250,000.
    pub lease_keys_max: usize,
}

impl Default for RespSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        RespSettings {
            listen: None,
            unix: None,
            threads: cores.min(4) as u32,
            connections_max: 10_000,
            idle_timeout: Duration::ZERO,
            half_timeout: Duration::from_secs(30),
            stuck_timeout: Duration::from_secs(30),
            requests: Limits::default(),
            reply_bytes_max: 256 << 20,
            messages_bytes_max: 32 << 20,
            tracked_keys_max: 1_000_000,
            miss_lease: Duration::from_secs(10),
            miss_leases: HashMap::new(),
            lease_keys_max: 250_000,
        }
    }
}

/// When what is found of the server and what it stands on counts as how. Changes take several looks in a row, so that what comes and
/// goes does not come and go in the reports.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthLimits {
    /// Whether memory, the backing tier and the log are probed. Default: they are.
    pub probes: bool,
    /// How often. Default 5 s.
    pub probe_every: Duration,
    /// How long a probe may take. Default 2 s.
    pub probe_timeout: Duration,
    /// Bad probes in a row after which a component is called so. Default 1.
    pub fails_after: u32,
    /// Good ones in a row after which it is called well again. Default 2.
    pub recovers_after: u32,
    /// Positions that the server may be behind a log that others append to. Default 10,000.
    pub log_behind_max: u64,
    /// With less room than this on the disk of the data folder it is degraded. Default 1 GiB.
    pub disk_free_degraded: u64,
    /// With less than this, unhealthy. Default 64 MiB.
    pub disk_free_unhealthy: u64,
    /// A certificate that runs out sooner is degraded; one that has run out, unhealthy. Default 21 days.
    pub certificate_left: Duration,
    /// With a smaller share of hits performance is degraded. Default 0.8.
    pub hit_rate_min: f64,
    /// With a longer mean time of reads performance is degraded. Default 10 ms.
    pub latency_max: Duration,
    /// A window of fewer reads says nothing. Default 1,000.
    pub requests_min: u64,
    /// How long a window is; it slides by a sixth of itself. Default 1 min.
    pub window: Duration,
    /// Windows in a row that agree before the state of performance changes. Default 3.
    pub windows: u32,
}

impl Default for HealthLimits {
    fn default() -> Self {
        HealthLimits {
            probes: true,
            probe_every: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            fails_after: 1,
            recovers_after: 2,
            log_behind_max: 10_000,
            disk_free_degraded: 1 << 30,
            disk_free_unhealthy: 64 << 20,
            certificate_left: Duration::from_secs(21 * 24 * 3_600),
            hit_rate_min: 0.8,
            latency_max: Duration::from_millis(10),
            requests_min: 1_000,
            window: Duration::from_secs(60),
            windows: 3,
        }
    }
}

impl HealthLimits {
    /// The description of a cache that is probed as this says.
    pub fn probing(&self, builder: Builder) -> Builder {
        if self.probes { builder.probe_every(self.probe_every).probe_timeout(self.probe_timeout) } else { builder }
    }
}

/// Where what is counted and done is exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector, as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// How often.
    pub every: Duration,
    /// What this server is called there.
    pub instance: Option<String>,
}

/// Who may send events, and how that is told. Default: everyone, unsigned, and no sender of webhooks is answered that asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Webhooks {
    /// Where there are any, an event must be signed with one of them. Several: while an old one is given up for a new one.
    pub secrets: Vec<Secret>,
    /// The senders that are told "yes" when they ask whether they may send here, by the names that they give themselves; `*` is
    /// all of them.
    pub origins: Vec<String>,
    /// How many requests a minute they are told that they may send. `None`: as many as they like.
    pub rate: Option<u64>,
}

/// Where what happened is kept, and how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistorySettings {
    /// The file. `None`: in memory, and for a shorter time.
    pub file: Option<PathBuf>,
    /// How long.
    pub retention: Retention,
    /// What this instance is called in reports over several; empty where it has no name but its identity.
    pub name: String,
}

/// How long dead letters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LettersKept {
    /// Those that nobody looked at for longer are dropped by a clean-up. Default 90 days.
    pub keep: Duration,
    /// So are the oldest of more. Default 1,000, which is the most there can be.
    pub most: u64,
}

impl Default for LettersKept {
    fn default() -> Self {
        LettersKept { keep: Duration::from_secs(90 * 86_400), most: 1_000 }
    }
}

/// How a server looks after itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// How long dead letters are kept.
    pub letters: LettersKept,
    /// Where it is written down that the server is under maintenance, so that a restart does not end it. `None`: nowhere, and one does.
    pub maintenance_file: Option<PathBuf>,
    /// Whether the server counts as ready only once memory is warmed up. Default: at once.
    pub ready_waits: bool,
    /// What the process may have.
    pub budget: BudgetSettings,
    /// Where it is read what it has, and what its control group may. Default: of this machine; another root is for tests.
    pub readings: Readings,
}
