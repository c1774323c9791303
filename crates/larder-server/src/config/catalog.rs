//! Every setting there is, declared once: its name, what is expected, its default, and what it is for. Reading, the
//! environment, `config show`, the schema and did-you-mean all follow this list.

use super::value::Kind;

mod access;
mod backup;
mod jobs;
mod upkeep;

pub use access::{ACCESS, PRINCIPAL, ROLE};
pub use backup::BACKUP;
pub use jobs::JOBS;
pub use upkeep::{PROCESS, UPKEEP, WARM_UP};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name within its section.
    pub name: &'static str,
    /// What is expected.
    pub kind: Kind,
    /// Its default, as text in the form of its kind; `None` where it is off unless given.
    pub default: Option<&'static str>,
    /// What it is for, in sentences.
    pub about: &'static str,
}

/// A section with settings of its own.
#[derive(Debug)]
pub struct Section {
    /// Its name in the file; empty for the top.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { name, kind, default: Some(default), about }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, kind, default: None, about }
}

const DURABILITY: Kind = Kind::Choice(&["os", "fsync"]);
/// The least that larder takes for a pool of memory.
const MEMORY_MIN: u64 = 64 << 10;

/// The top of the file.
pub const TOP: Section = Section {
    name: "",
    about: "The cache as a whole.",
    settings: &[
        optional(
            "data",
            Kind::Path,
            "The folder for entries on disk and for the invalidation log. One process at a time uses it. Without it, and without Redis, the cache is in memory only.",
        ),
        setting("memory", Kind::Size { least: MEMORY_MIN }, "256 MiB", "The shared memory pool, keys and bookkeeping included."),
        setting(
            "sizing",
            Kind::Choice(&["off", "observe", "auto"]),
            "off",
            "Whether it is looked at what other sizes of memory would do (observe), and bytes are moved to the namespaces that gain most from them (auto). See larder optimize.",
        ),
        setting("disk", Kind::Size { least: 1 << 20 }, "10 GiB", "Entries kept on disk before the disk tier evicts. Needs data."),
        setting(
            "index",
            Kind::Size { least: 64 },
            "16 MiB",
            "The freshness index. Reckon with 28 bytes for each distinct name that is invalidated within the life of an entry; too small makes needless misses, never stale answers.",
        ),
        setting(
            "durability",
            DURABILITY,
            "fsync",
            "When an invalidation, removal or update is acknowledged: once it is on stable storage (fsync), or once the operating system has it (os). Where the log is in Redis, its appendfsync decides.",
        ),
        setting("put_durability", DURABILITY, "os", "The same for puts. After a crash of the machine under \"os\" the cache starts cold."),
        setting(
            "insecure",
            Kind::Flag,
            "false",
            "Whether a door may be open to more than this machine without access control and TLS. Health and the log keep saying so.",
        ),
    ],
};

/// The server's door.
pub const HTTP: Section = Section {
    name: "http",
    about: "The HTTP server.",
    settings: &[
        setting(
            "listen",
            Kind::Address,
            "127.0.0.1:7070",
            "Where it listens. Port 0 takes a free one. An address beyond this machine needs access control and TLS, or insecure.",
        ),
        setting("tls", Kind::Flag, "true", "Whether it speaks TLS, where [tls] has a certificate."),
        setting(
            "hosts",
            Kind::Texts("cache.example.com"),
            "",
            "Names by which it is asked (Host), beside localhost, the address where it listens (any, where that is 0.0.0.0 or [::]) and the names in its certificate; \"*\" is all. Requests by other names are refused, since a page of somebody else's could have sent them.",
        ),
        setting("body_bytes_max", Kind::Size { least: 1 << 10 }, "32 MiB", "The largest body of a request."),
        setting(
            "head_timeout",
            Kind::Time,
            "30s",
            "How long a client may take to send the head of a request; also how long an idle connection is kept.",
        ),
        setting("body_timeout", Kind::Time, "10s", "How long a client may take to send its body."),
        setting("request_timeout", Kind::Time, "30s", "How long a request may take as a whole."),
        setting(
            "requests_max",
            Kind::Count { least: 1, most: u32::MAX as u64 },
            "1024",
            "Requests under way at once; one more is told to come again. Probes are not counted.",
        ),
        setting(
            "connections_max",
            Kind::Count { least: 1, most: u32::MAX as u64 },
            "4096",
            "Connections open at once; more wait to be accepted.",
        ),
        setting("drain", Kind::Time, "10s", "How long requests under way may go on after the server was told to stop."),
    ],
};

/// The door for clients of Redis.
pub const RESP: Section = Section {
    name: "resp",
    about: "The server for clients of Redis (RESP2 and RESP3). Off unless it listens somewhere.",
    settings: &[
        optional(
            "listen",
            Kind::Address,
            "Where it listens, as 127.0.0.1:7379. Port 0 takes a free one. An address beyond this machine needs access control and TLS, or insecure.",
        ),
        setting("tls", Kind::Flag, "true", "Whether it speaks TLS there, where [tls] has a certificate. The socket of unix never does."),
        optional("unix", Kind::Path, "The path of a socket that it listens on, for clients of this machine."),
        optional(
            "threads",
            Kind::Count { least: 1, most: 1_024 },
            "Threads that serve connections. Without it, one for each core, and four at most.",
        ),
        setting(
            "connections_max",
            Kind::Count { least: 1, most: u32::MAX as u64 },
            "10000",
            "Connections open at once; one more is told so and closed.",
        ),
        setting("idle_timeout", Kind::Time, "0s", "How long a connection may ask for nothing; 0s: for ever."),
        setting("half_timeout", Kind::Time, "30s", "How long half a request may wait for its rest before the connection is cut off."),
        setting("stuck_timeout", Kind::Time, "30s", "How long a client may leave what it is sent before it is cut off."),
        setting("args_max", Kind::Count { least: 16, most: 1 << 30 }, "1048576", "Words of a request."),
        setting("arg_bytes_max", Kind::Size { least: 1 << 10 }, "64 MiB", "The largest word of a request."),
        setting("request_bytes_max", Kind::Size { least: 1 << 10 }, "256 MiB", "The largest request."),
        setting("reply_bytes_max", Kind::Size { least: 1 << 10 }, "256 MiB", "The largest reply."),
        setting(
            "messages_bytes_max",
            Kind::Size { least: 1 << 10 },
            "32 MiB",
            "Messages that wait for a client which does not take them; with more it is cut off.",
        ),
        setting(
            "tracked_keys_max",
            Kind::Count { least: 1, most: 1 << 30 },
            "1000000",
            "Keys that are remembered for clients which keep what they read (CLIENT TRACKING).",
        ),
        setting(
            "lease_keys_max",
            Kind::Count { least: 16, most: 1 << 30 },
            "250000",
            "Keys that have a miss lease at once; of more, the oldest have none.",
        ),
    ],
};

/// What TLS is spoken with.
pub const TLS: Section = Section {
    name: "tls",
    about: "TLS towards clients, over HTTP and RESP. Off unless there is a certificate. Its files may be renewed while the server runs: they are looked at now and then, and on SIGHUP. (Towards Redis: an address that begins with rediss, and [redis].)",
    settings: &[
        optional("certificate", Kind::File, "The certificate (PEM) that is shown, and those that lead to its authority. Needs key."),
        optional("key", Kind::File, "The key (PEM) of certificate, not encrypted."),
        setting(
            "clients",
            Kind::Choice(&["off", "optional", "required"]),
            "off",
            "Whether clients show certificates: they are not asked (off), may (optional) or have to (required). One that is shown has to be from client_authority, or the connection ends.",
        ),
        optional("client_authority", Kind::File, "The certificates (PEM) of the authorities that clients' certificates come from."),
        setting("version_min", Kind::Choice(&["1.2", "1.3"]), "1.2", "The oldest version that is spoken."),
        setting("handshake_timeout", Kind::Time, "10s", "How long a client may take until TLS is spoken with it."),
        setting("look_every", Kind::Time, "30s", "How often the files are looked at."),
    ],
};

/// Redis or Valkey, where several machines share one cache.
pub const REDIS: Section = Section {
    name: "redis",
    about: "Redis or Valkey: the entries and the invalidation log of all servers that are given the same one, which then behave as one cache. Nothing is kept in a folder of this machine beside it.",
    settings: &[
        optional(
            "url",
            Kind::RedisAddress,
            "Where it is: redis://HOST:PORT/DATABASE, rediss:// for TLS, unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT. A password in it is taken from the environment alone. Without it nothing is shared.",
        ),
        optional("user", Kind::Text("the name of a user"), "The user of Redis' access control list. Needs password."),
        optional("password", Kind::Secret, "The password, in the place of what the address says."),
        setting(
            "prefix",
            Kind::Text(PREFIX),
            "larder",
            "What all keys in Redis begin with: caches with different prefixes do not see each other.",
        ),
        optional(
            "certificate_authority",
            Kind::File,
            "The certificate (PEM) of the authority that signed Redis' own. Needs an address with TLS. Without it, those of the system are trusted.",
        ),
        optional("client_certificate", Kind::File, "The certificate (PEM) that is shown to Redis. Needs client_key."),
        optional("client_key", Kind::File, "The key (PEM) of client_certificate."),
        setting("connect_timeout", Kind::Time, "2s", "How long opening a connection may take."),
        setting("operation_timeout", Kind::Time, "500ms", "How long an operation may take before it counts as failed."),
        setting("heartbeat", Kind::Time, "200ms", "How often the shared log is heard at least."),
        setting(
            "queue_bytes",
            Kind::Size { least: 0 },
            "64 MiB",
            "Invalidations that wait here while Redis cannot be reached, to be told to the others when it is back. More are refused.",
        ),
        setting("write_queue_bytes", Kind::Size { least: 0 }, "64 MiB", "Entries that wait here to be written. More are not written."),
        setting(
            "stream_len",
            Kind::Count { least: 100, most: 1 << 30 },
            "100000",
            "About how many groups of changes the shared log keeps at most. Then a server writes a checkpoint, and what came before the last one goes. A server that falls behind by more reads the checkpoint.",
        ),
        setting(
            "replicas",
            Kind::Count { least: 0, most: 64 },
            "0",
            "How many replicas must have a change before it counts as made. With as many as there are, what max_staleness promises also holds through a failover that leaves the old master running.",
        ),
        optional(
            "instance",
            Kind::Text(INSTANCE),
            "What this server is called where servers are listed; no two of them alike. Without it, a random name.",
        ),
        setting(
            "mode",
            MODE,
            "available",
            "What to do while Redis cannot be heard: go on with what is in memory, say so in each answer and queue invalidations (available), or refuse what cannot be guaranteed (strict).",
        ),
        setting(
            "max_staleness",
            Kind::Time,
            "1s",
            "For how long after the shared log was last heard what is in memory counts as verified.",
        ),
    ],
};

const MODE: Kind = Kind::Choice(&["available", "strict"]);
const PREFIX: &str = "a prefix of 1 to 64 bytes without any of {}[]*?\\";
const INSTANCE: &str = "a name of 1 to 128 bytes";

/// The policy of namespaces.
const POLICY: &[Setting] = &[
    optional(
        "ttl",
        Kind::Time,
        "The time to live of entries that are not given one. Without it they live until they are invalidated or make room.",
    ),
    setting(
        "jitter",
        Kind::Share,
        "0",
        "Shortens each time to live by a random share of up to this, so that what came together does not expire together.",
    ),
    setting("sliding", Kind::Flag, "false", "Whether a hit starts the time to live anew."),
    setting(
        "stale_while_revalidate",
        Kind::Time,
        "0s",
        "How long after its time an entry is still served while it is loaded again behind. Never after it was invalidated.",
    ),
    setting(
        "stale_if_error",
        Kind::Time,
        "0s",
        "How long after its time an entry is still served when loading it again fails. Never after it was invalidated.",
    ),
    setting("refresh_ahead", Kind::Share, "0", "In this last share of its life a hit also starts loading the entry again. Needs a ttl."),
    optional("negative_ttl", Kind::Time, "How long \"there is no such thing\" is remembered. Without it, it is not."),
    optional(
        "load_soft_timeout",
        Kind::Time,
        "How long a reader waits for a load before it takes an expired value that may still be served.",
    ),
    setting("load_timeout", Kind::Time, "30s", "How long a load may take before it is given up."),
    setting("loads_max", Kind::Count { least: 1, most: 1 << 20 }, "256", "Loads that may run at once."),
    setting("value_bytes_max", Kind::Size { least: 1 }, "16 MiB", "The largest value."),
    setting(
        "codec",
        Kind::Choice(&["json", "bytes", "postcard", "messagepack"]),
        "json",
        "How typed values become bytes. What comes over HTTP is bytes already and stays as it came.",
    ),
    setting(
        "fingerprint",
        Kind::Choice(&["xxh3", "blake3"]),
        "xxh3",
        "How content is compared: xxh3 is as fast as memory, blake3 cannot be deceived by who writes the content.",
    ),
    optional("compression.codec", Kind::Choice(&["zstd", "lz4"]), "Compresses values on disk and in Redis: zstd is smaller, lz4 faster."),
    setting("compression.above", Kind::Size { least: 0 }, "4 KiB", "Values up to this size are not compressed."),
    setting(
        "tags",
        Kind::Texts("symbol:{1}"),
        "",
        "Tags that every entry gets from its key: {1} is the key's second segment, {0} the namespace. For example [\"symbol:{1}\"].",
    ),
    optional("memory", Kind::Size { least: MEMORY_MIN }, "Memory of the namespace's own, instead of a share of the common pool."),
    optional(
        "memory_min",
        Kind::Size { least: MEMORY_MIN },
        "The least memory of its own that the namespace is given with sizing = \"auto\". Without it, a 256th of all.",
    ),
    optional("memory_max", Kind::Size { least: MEMORY_MIN }, "The most. Without it, all that there is."),
    setting("backing", Kind::Flag, "true", "Whether entries also go to disk or to Redis, where there is one."),
    setting(
        "miss_lease",
        Kind::Time,
        "10s",
        "How long a GET over RESP that missed protects the SET that answers it: that is dropped if anything the key depends on was invalidated in between, and with it what was read before. 0s: not at all.",
    ),
    optional("mode", MODE, "What to do while Redis cannot be heard, as in [redis], which decides unless this is given."),
    optional("max_staleness", Kind::Time, "For how long memory counts as verified, as in [redis], which decides unless this is given."),
    optional(
        "one_load_in_fleet",
        Kind::Time,
        "Lets one server of those that share a Redis load a key at a time: the others wait up to this long for its value before they load it themselves.",
    ),
];

/// Who may send events over HTTP. What they invalidate, [`ON`] says.
pub const EVENTS: Section = Section {
    name: "events",
    about: "Events that others send over HTTP (POST /v1/events). What they invalidate, [[on]] says.",
    settings: &[
        optional(
            "webhook_secrets",
            Kind::Secrets,
            "Where there are any, an event must be signed with one of them, as Standard Webhooks says, or it is refused. Each is whsec_ and the base64 of 24 to 64 random bytes; several are for the time in which one takes the place of another. They guard this route alone.",
        ),
        optional(
            "webhook_origins",
            Kind::Texts("feed.example.com"),
            "The senders that are told that they may send here when they ask first (the validation handshake of CloudEvents), by the names that they give themselves; \"*\" is all. Others are refused. Senders that do not ask are not asked, either.",
        ),
        optional(
            "webhook_rate",
            Kind::Count { least: 1, most: u32::MAX as u64 },
            "How many requests a minute they are told that they may send. Without it, as many as they like.",
        ),
    ],
};

/// How the server finds out how it is.
pub const HEALTH: Section = Section {
    name: "health",
    about: "How the server finds out how it and what it stands on are, and when what it finds counts as degraded or unhealthy. GET /health, /readyz and `larder health` tell.",
    settings: &[
        setting(
            "probes",
            Kind::Flag,
            "true",
            "Whether memory, the backing tier and the log are really used now and then: written, read, compared and removed, under keys of the cache's own. Nothing is appended to the log.",
        ),
        setting(
            "probe_every",
            Kind::Time,
            "5s",
            "How often they are, and the disk's room is looked at. A probe of a disk takes two fsyncs.",
        ),
        setting("probe_timeout", Kind::Time, "2s", "How long a probe may take before the part that it is of counts as out of order."),
        setting("fails_after", COUNT, "1", "Bad probes in a row after which a component is called so."),
        setting("recovers_after", COUNT, "2", "Good probes in a row after which it is called well again."),
        setting(
            "log_behind_max",
            Kind::Count { least: 0, most: 1 << 48 },
            "10000",
            "How many positions this server may be behind the log that it shares before the log is called degraded.",
        ),
        setting(
            "disk_free_degraded",
            Kind::Size { least: 0 },
            "1 GiB",
            "With less room than this on the disk of data it is called degraded.",
        ),
        setting("disk_free_unhealthy", Kind::Size { least: 0 }, "64 MiB", "With less room than this it is called unhealthy."),
        setting(
            "certificate_left",
            Kind::Time,
            "21d",
            "A certificate in use that runs out sooner than this is called degraded; one that has run out, unhealthy.",
        ),
        setting("hit_rate_min", Kind::Share, "0.8", "With a smaller share of reads that hit, performance is called degraded."),
        setting("latency_max", Kind::Time, "10ms", "With a longer mean time of reads, loads included, performance is called degraded."),
        setting(
            "requests_min",
            Kind::Count { least: 1, most: 1 << 48 },
            "1000",
            "How many reads a window needs to say anything about performance.",
        ),
        setting("window", Kind::Time, "1m", "The window over which performance is judged. It slides by a sixth of itself."),
        setting("windows", COUNT, "3", "How many windows in a row must agree before the state of performance changes, either way."),
    ],
};

/// Where what is counted and done is exported to.
pub const OTLP: Section = Section {
    name: "otlp",
    about: "OpenTelemetry: what the server counts and does, told to a collector over HTTP (OTLP as JSON). Off unless there is an endpoint.",
    settings: &[
        optional(
            "endpoint",
            Kind::Text("an address such as \"http://127.0.0.1:4318\""),
            "The collector: http://HOST:PORT, to which /v1/traces and /v1/metrics are added. A request's traceparent, or an event's, says what trace its spans belong to.",
        ),
        setting("every", Kind::Time, "10s", "How often what is counted is told, and spans that do not fill a request."),
    ],
};

/// Who did what.
pub const AUDIT: Section = Section {
    name: "audit",
    about: "Who did what, from where, and what came of it: lines of JSON, each with a hash of the one before, so that what is changed afterwards shows (larder audit verify). Values are never in it.",
    settings: &[
        setting(
            "level",
            Kind::Choice(&["off", "admin", "changes", "all"]),
            "off",
            "What is recorded beside whatever is refused: administration (admin), and removals, invalidations and events (changes), and reads and writes (all).",
        ),
        optional("folder", Kind::Path, "Where. Without it, audit in the folder of the entries. One process at a time writes to it."),
        setting(
            "on_failure",
            Kind::Choice(&["refuse", "warn"]),
            "refuse",
            "What to do with an operation that cannot be recorded, as when the disk is full: refuse it, or do it, count it and say so in health (warn).",
        ),
        setting(
            "hash_names",
            Kind::Flag,
            "false",
            "Whether keys, tags and other names are told by their hash (HMAC-SHA-256 under secret, 32 hexadecimal digits) alone. Needs secret.",
        ),
        optional("secret", Kind::Secret, "The secret of hash_names, 16 bytes or more. Who has it can ask for a name."),
        setting(
            "durability",
            DURABILITY,
            "fsync",
            "When an operation is answered: once its record is on stable storage (fsync), or once the operating system has it (os).",
        ),
        setting(
            "queue",
            Kind::Count { least: 16, most: 1 << 20 },
            "4096",
            "Records that may wait to be written; with more it is as on_failure says.",
        ),
        setting("file_bytes", Kind::Size { least: 64 << 10 }, "64 MiB", "A file with more is followed by another."),
        setting("file_age", Kind::Time, "1d", "So is one that is older."),
        setting("keep", Kind::Time, "365d", "Files whose last record is older are removed."),
        setting("bytes", Kind::Size { least: 1 << 20 }, "4 GiB", "So are the oldest while all of them have more."),
    ],
};

/// How many looks in a row something takes.
const COUNT: Kind = Kind::Count { least: 1, most: 1_000 };

/// What is kept of what happened.
pub const HISTORY: Section = Section {
    name: "history",
    about: "What happened, minute by minute, for reports. It is a SQLite database, to be read with any tool.",
    settings: &[
        setting("enabled", Kind::Flag, "true", "Whether it is kept."),
        optional(
            "file",
            Kind::File,
            "Where. Without it, history.db in the folder of the entries; where there is none, in memory, for a day by the minute and two weeks by the hour.",
        ),
        setting("minutes", Kind::Time, "14d", "How long minutes are kept, and which keys there were in each hour. At least an hour."),
        setting("hours", Kind::Time, "730d", "How long hours are kept."),
        setting("days", Kind::Time, "3653d", "How long days of UTC are kept, and which keys there were in each."),
        setting("months", Kind::Time, "3653d", "How long months of UTC are kept, and which keys there were in each."),
        optional(
            "instance",
            Kind::Text(INSTANCE),
            "What this server is called in reports over several. Without it, what redis.instance says.",
        ),
    ],
};

/// What holds for namespaces without a section.
pub const DEFAULT_NAMESPACE: Section = Section {
    name: "default_namespace",
    about: "How entries live in every namespace that has no section of its own. The namespace of a key is its first segment: features in features:AAPL:5m.",
    settings: POLICY,
};

/// What holds for one namespace; its name follows that of the section.
pub const NAMESPACES: Section = Section {
    name: "namespaces",
    about: "How entries live in one namespace. What it leaves out has the default shown here, whatever [default_namespace] says.",
    settings: POLICY,
};

/// A rule for events; there may be any number.
pub const ON: Section = Section {
    name: "on",
    about: "What an event invalidates. There are rules for market_data_update, model_update and system_maintenance from the start; a rule for one of these types takes the place of the built-in ones. Written [[on]], once for each rule.",
    settings: &[
        optional("type", Kind::Text("the type of the events that it is for"), "The type of the events that it is for."),
        optional(
            "invalidate",
            Kind::Texts("tag:symbol:{symbol}"),
            "The names that become stale: patterns over keys, or tag:.., key:.., namespace:.. and everything. {symbol} stands for a field of the event's data, {bar.close} for one within another, {@subject} for an attribute of the event; {scope?} may be missing. For example [\"features:*:{symbol}:**\", \"tag:symbol:{symbol}\"].",
        ),
        optional(
            "when",
            Kind::Text("a condition such as \"interval == '5m' && !has(replay)\""),
            "Only for events of which this holds: fields compared with texts, numbers, true and false; in [..], has(field), &&, || and !.",
        ),
        optional(
            "debounce",
            Kind::Time,
            "Of changes to one name that follow each other within this time the first takes effect at once and the last at its end.",
        ),
        optional("name", Kind::Text("a name"), "What the rule is called in errors and answers. Without it, by the type of its events."),
    ],
};

/// A source of events; there may be any number.
pub const SOURCE: Section = Section {
    name: "source",
    about: "Where events come from, beside POST /v1/events: each takes effect at least once, and in order with others of its source and subject. Written [[source]], once for each.",
    settings: &[
        optional(
            "type",
            Kind::Choice(&["redis-stream", "postgres"]),
            "What it is: a stream in Redis 7 or Valkey, whose messages have the field event; or a table in PostgreSQL that triggers write events to.",
        ),
        optional(
            "url",
            Kind::SourceAddress,
            "Where it is: redis://HOST:PORT/DATABASE and the other forms of redis.url but a cluster's, or postgres://USER@HOST/DATABASE. An address with a password in it is not written here, but named.",
        ),
        optional("stream", Kind::Text("the name of a stream"), "The stream, for redis-stream."),
        optional(
            "group",
            Kind::Text("the name of a consumer group"),
            "The consumer group, for redis-stream. Servers that share a cache share a group, and others need one of their own. Without it, larder.",
        ),
        optional("table", Kind::Text("the name of a table"), "The table, for postgres. Without it, larder_outbox."),
        optional(
            "covers",
            Kind::Texts("features:**"),
            "What becomes stale when the source may have lost events: all that they could be about, as names without braces in the form of on.invalidate. Without it, everything.",
        ),
        optional(
            "queue",
            Kind::Count { least: 1, most: 1 << 20 },
            "How many of its events may be under way or wait here; the source is not asked for more. Without it, 1024.",
        ),
        optional("parallel", Kind::Count { least: 1, most: 1 << 16 }, "How many partitions are served side by side. Without it, 64."),
    ],
};

/// The sections of which there may be any number, each written in two pairs of brackets.
pub const LISTS: [&Section; 4] = [&ROLE, &PRINCIPAL, &ON, &SOURCE];

/// The sections whose place is fixed: all but the namespaces and lists.
pub const FIXED: [&Section; 16] = [
    &TOP,
    &HTTP,
    &RESP,
    &TLS,
    &ACCESS,
    &REDIS,
    &EVENTS,
    &HEALTH,
    &HISTORY,
    &AUDIT,
    &BACKUP,
    &OTLP,
    &UPKEEP,
    &WARM_UP,
    &PROCESS,
    &DEFAULT_NAMESPACE,
];

impl Section {
    /// The setting of this name.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The whole name of one of its settings: `http.listen`.
    pub fn full_name(&self, setting: &Setting) -> String {
        if self.name.is_empty() { setting.name.to_owned() } else { format!("{}.{}", self.name, setting.name) }
    }
}

/// The environment variable of a setting with this whole name: `LARDER_HTTP_LISTEN`.
pub fn variable(full_name: &str) -> String {
    format!("LARDER_{}", full_name.replace('.', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_kind_and_every_setting_explains_itself() {
        for section in FIXED {
            for setting in section.settings {
                let name = section.full_name(setting);
                assert!(setting.about.ends_with(['.', ')']) && setting.about.len() > 15, "{name}: {}", setting.about);
                if let Some(default) = setting.default {
                    assert!(setting.kind.parse(default).is_ok(), "{name} = {default}");
                }
            }
        }
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let mut variables: Vec<_> = FIXED.iter().flat_map(|s| s.settings.iter().map(|one| variable(&s.full_name(one)))).collect();
        let all = variables.len();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), all);
        assert!(variables.contains(&"LARDER_HTTP_LISTEN".to_owned()));
    }
}
