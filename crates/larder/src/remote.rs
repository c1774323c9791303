//! Redis or Valkey, as the tier and the log reach it: how it is described, connections that are verified before they are
//! used, and the scripts that run there.
//!
//! ```text
//!   RedisOptions --> Link --- one verified server for the log (and for the entries, unless there is a cluster)
//!                     |
//!                     +-- tail connection      blocking reads of the stream, and the heartbeat
//!                     +-- append connection    one script a group of appends
//!                     +-- data connection      entries: GET, MGET, conditional writes
//!                     +-- read connections     entries again: a few, opened when they are wanted (`reads.rs`)
//! ```
//!
//! A connection that was lost is never simply opened again: what is behind the address may be another server by now, or the
//! same one without its data. So all connections of a link end together, and the keeper (`log/redis.rs`) opens them anew,
//! compares what it finds with what it knew (step 11), and only then lets anybody use them. Those for reads alone come and go meanwhile,
//! to the same process.

use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use crate::error::{Error, ErrorKind, Result};

pub(crate) mod link;
pub(crate) mod reads;
pub(crate) mod reply;
pub(crate) mod script;

/// The longest prefix of keys.
const PREFIX_LEN_MAX: usize = 64;

/// Where Redis or Valkey is, and how to talk to it. An instance has four connections to it, and up to three more while it reads entries
/// there; those three neither over TLS nor to a cluster, for which the client has what it needs.
///
/// ```
/// use larder::RedisOptions;
/// let options = RedisOptions::parse("redis://user:secret@127.0.0.1:6379/2")?.prefix("shop");
/// let sentinel = RedisOptions::parse("redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster")?;
/// let cluster = RedisOptions::parse("redis+cluster://10.0.0.1:6379,10.0.0.2:6379")?;
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    pub(crate) settings: RedisConnectionInfo,
    pub(crate) tls: Option<Tls>,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) queue_bytes: usize,
    pub(crate) write_queue_bytes: usize,
    pub(crate) stream_len: usize,
    pub(crate) replicas: usize,
    pub(crate) instance: Option<String>,
}

/// A name or address, and a port.
pub(crate) type Host = (String, u16);

/// What stands behind the addresses.
#[derive(Clone, Debug)]
pub(crate) enum Topology {
    Single(ConnectionAddr),
    Sentinel { master: String, sentinels: Vec<Host> },
    Cluster(Vec<Host>),
}

/// Certificates; none given means those of the system.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    authority: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Without what they hold: a private key is for nobody's logs.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("authority", &self.authority.is_some()).field("client", &self.client.is_some()).finish()
    }
}

impl RedisOptions {
    /// Reads an address:
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, and `rediss://` for TLS
    /// - `unix:///path/to/socket`
    /// - `redis+sentinel://[user[:password]@]host:port,host:port/master[/database]`, and `rediss+sentinel://`
    /// - `redis+cluster://[user[:password]@]host:port,host:port`, and `rediss+cluster://`
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if it is none of these. The message does not repeat the password.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |why: String| Error::new(ErrorKind::InvalidConfig, why);
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("a Redis address begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://".into()))?;
        let tls = scheme.starts_with("rediss").then(Tls::default);
        let (topology, settings) = match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                let info = url.into_connection_info().map_err(|e| bad(format!("not a Redis address: {e}")))?;
                (Topology::Single(info.addr().clone()), info.redis_settings().clone())
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let (hosts, settings, path) = hosts_of(rest, 26379)?;
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(bad(
                        "a Sentinel address ends with the name of the master, as in redis+sentinel://host:26379/mymaster".into()
                    ));
                }
                (Topology::Sentinel { master: master.into(), sentinels: hosts }, with_database(settings, database)?)
            }
            "redis+cluster" | "rediss+cluster" => {
                let (hosts, settings, path) = hosts_of(rest, 6379)?;
                if !matches!(path, "" | "0") {
                    return Err(bad("a Redis Cluster has no databases but 0".into()));
                }
                (Topology::Cluster(hosts), settings)
            }
            other => {
                return Err(bad(format!(
                    "a Redis address begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://, not with {other}://"
                )));
            }
        };
        Ok(RedisOptions {
            topology,
            settings,
            tls,
            prefix: "larder".into(),
            connect_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(500),
            heartbeat: Duration::from_millis(200),
            queue_bytes: 64 << 20,
            write_queue_bytes: 64 << 20,
            stream_len: 100_000,
            replicas: 0,
            instance: None,
        })
    }

    /// The user and password of the server's access control list; an empty user is the default one. Takes the place of what
    /// the address says.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.settings = self.settings.set_password(password);
        if !user.is_empty() {
            self.settings = self.settings.set_username(user);
        }
        self
    }

    /// What all keys in Redis begin with: caches with different prefixes do not see each other. Default `larder`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The certificate, in PEM form, of the authority that signed the server's. Default: those that the system trusts.
    pub fn certificate_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().authority = Some(pem.into());
        self
    }

    /// The certificate and key, in PEM form, that this client shows to the server.
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().client = Some((certificate.into(), key.into()));
        self
    }

    /// How long opening a connection may take. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an operation may take before it counts as failed. Default 500 ms.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// How often the log is heard at least. Default 200 ms.
    pub fn heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = period;
        self
    }

    /// Bytes of invalidations that wait here while Redis cannot be reached; more are refused. Default 64 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Bytes of entries that wait here to be written; more are not written. Default 64 MiB.
    pub fn write_queue_bytes(mut self, bytes: usize) -> Self {
        self.write_queue_bytes = bytes;
        self
    }

    /// About how many groups of appends the stream keeps at most: an instance then writes a checkpoint, a copy of its index, and what came
    /// before the last one goes. Also once they have half the bytes of the index since the last. An instance that falls behind by more
    /// reads the checkpoint. Default 100,000.
    pub fn stream_len(mut self, groups: usize) -> Self {
        self.stream_len = groups;
        self
    }

    /// How many replicas must have a change before it counts as made, and must still follow the server when the log is heard.
    /// With as many as there are, promise G3 holds through a failover that leaves the old master running. Default 0.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// What this instance is called where instances are listed. Each needs a name of its own: two of one name would take the log from each
    /// other with every change. Default: a random name.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], for those that do not.
    pub fn check(&self) -> Result<()> {
        let bad = |why: &str| Err(Error::new(ErrorKind::InvalidConfig, why.to_owned()));
        if self.prefix.is_empty()
            || self.prefix.len() > PREFIX_LEN_MAX
            || self.prefix.bytes().any(|byte| matches!(byte, b':' | b'{' | b'}' | b'*' | b'?' | b'[' | b']' | b'\\'))
        {
            return bad("the prefix of keys in Redis has 1 to 64 bytes, and none of :{}[]*?\\");
        }
        let times = [("connect", self.connect_timeout), ("operation", self.operation_timeout), ("heartbeat", self.heartbeat)];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time < Duration::from_millis(1) || *time > Duration::from_secs(60)) {
            return bad(&format!("the {name} time of Redis is between 1 ms and 60 s"));
        }
        if self.stream_len < 100 {
            return bad("the stream of the log keeps at least 100 groups of appends");
        }
        if self.instance.as_ref().is_some_and(|name| name.is_empty() || name.len() > 128) {
            return bad("the name of an instance has 1 to 128 bytes");
        }
        // The list of instances has fields of its own beside them.
        if self.instance.as_ref().is_some_and(|name| name.starts_with(':') || name.starts_with(FENCE_PREFIX)) {
            return bad("the name of an instance begins neither with ':' nor with \"f:\"");
        }
        Ok(())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    /// What a connection to this address of the deployment needs.
    pub(crate) fn connection(&self, host: &str, port: u16) -> ConnectionInfo {
        let addr = match &self.tls {
            None => ConnectionAddr::Tcp(host.into(), port),
            Some(_) => ConnectionAddr::TcpTls { host: host.into(), port, insecure: false, tls_params: None },
        };
        self.connection_to(addr)
    }

    pub(crate) fn connection_to(&self, addr: ConnectionAddr) -> ConnectionInfo {
        let info = "redis://127.0.0.1".into_connection_info().expect("this is an address");
        info.set_addr(addr).set_redis_settings(self.settings.clone()).set_tcp_settings(tcp_settings())
    }

    pub(crate) fn certificates(&self) -> Option<TlsCertificates> {
        let tls = self.tls.as_ref()?;
        let client_tls = tls.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        Some(TlsCertificates { client_tls, root_cert: tls.authority.clone() })
    }
}

/// A command does not wait for the acknowledgement of the one before.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// What the fields of the list of instances begin with that hold a fence.
const FENCE_PREFIX: &str = "f:";

/// The field of the list of instances that holds an instance's fence.
pub(crate) fn fence_field(instance: &str) -> String {
    format!("{FENCE_PREFIX}{instance}")
}

/// How long a server may keep an entry, in milliseconds; 0 is for ever. Longer than a hundred years is not told: a script would write
/// the number in a way that the server does not read.
pub(crate) fn store_life(expires_at: u64, now: u64) -> u64 {
    if expires_at == u64::MAX { 0 } else { expires_at.saturating_sub(now).clamp(1, crate::config::TTL_MAX.as_millis() as u64) }
}

/// What the key of every entry begins with. Not in braces: entries are spread over a cluster's nodes.
pub(crate) fn entries_prefix(prefix: &str) -> Vec<u8> {
    format!("{prefix}:e:").into_bytes()
}

/// `[user[:password]@]host[:port],host[:port]/path`
fn hosts_of(rest: &str, default_port: u16) -> Result<(Vec<Host>, RedisConnectionInfo, &str)> {
    // The credentials first: a slash in them must not make a part of them a host, and then a part of a message.
    let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(credentials, rest)| (Some(credentials), rest));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The client's own parser decodes the credentials, so that they are written alike in every kind of address.
    let probe = credentials.map_or_else(|| "redis://probe".to_owned(), |credentials| format!("redis://{credentials}@probe"));
    let info = probe.into_connection_info().map_err(|e| Error::new(ErrorKind::InvalidConfig, format!("not a Redis address: {e}")))?;
    let hosts = hosts.split(',').map(|host| host_and_port(host, default_port)).collect::<Result<Vec<_>>>()?;
    Ok((hosts, info.redis_settings().clone(), path))
}

fn host_and_port(text: &str, default_port: u16) -> Result<Host> {
    let bad = || Error::new(ErrorKind::InvalidConfig, format!("\"{text}\" is not a host, or a host and a port"));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
        _ => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(bad()) } else { Ok((host.into(), port)) }
}

fn with_database(settings: RedisConnectionInfo, database: &str) -> Result<RedisConnectionInfo> {
    if database.is_empty() {
        return Ok(settings);
    }
    let number =
        database.parse().map_err(|_| Error::new(ErrorKind::InvalidConfig, format!("\"{database}\" is not the number of a database")))?;
    Ok(settings.set_db(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_read() {
        let single = RedisOptions::parse("redis://ada:s%40crt@127.0.0.1:7000/3").unwrap();
        assert!(matches!(&single.topology, Topology::Single(ConnectionAddr::Tcp(host, 7000)) if host == "127.0.0.1"));
        assert_eq!((single.settings.username(), single.settings.password(), single.settings.db()), (Some("ada"), Some("s@crt"), 3));
        let sentinel = RedisOptions::parse("redis+sentinel://:pw@a:1,[::1]:2,c/main/4").unwrap();
        let Topology::Sentinel { master, sentinels } = &sentinel.topology else { panic!("{sentinel:?}") };
        assert_eq!((master.as_str(), sentinels.as_slice()), ("main", [("a".into(), 1), ("::1".into(), 2), ("c".into(), 26379)].as_slice()));
        assert_eq!((sentinel.settings.password(), sentinel.settings.db()), (Some("pw"), 4));
        let cluster = RedisOptions::parse("rediss+cluster://a,b:7001").unwrap();
        assert!(cluster.is_cluster() && cluster.tls.is_some());
        assert!(RedisOptions::parse("rediss://h").unwrap().tls.is_some());
        assert!(RedisOptions::parse("unix:///tmp/r.sock").is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused_and_passwords_are_not_repeated() {
        for url in ["", "h:1", "http://h", "redis+sentinel://h", "redis+cluster://h/3", "redis+cluster://", "redis+sentinel://h:x/m"] {
            let error = RedisOptions::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        }
        let error = RedisOptions::parse("redis+cluster://u:hunter2@h:port").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let options = || RedisOptions::parse("redis://h").unwrap();
        assert!(options().check().is_ok());
        for bad in [
            options().prefix(""),
            options().prefix("a{b}"),
            options().heartbeat(Duration::ZERO),
            options().stream_len(1),
            options().instance(""),
            options().instance(":since"),
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
