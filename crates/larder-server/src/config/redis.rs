//! From the section `[redis]` to what larder is told of Redis: addresses and passwords are fetched from where they are said
//! to be, and what is wrong is told at the setting that it was the fault of.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::{Builder, Mode, RedisOptions};

use super::document::{Given, Givens};
use super::fault::{Fault, Place};
use super::policy::mode;
use super::secret::masked;
use super::value::Value;
use crate::health::certificates::Certificate;

/// Settings that say how to talk to Redis, each on its own.
const PLAIN: [&str; 9] = [
    "prefix",
    "connect_timeout",
    "operation_timeout",
    "heartbeat",
    "queue_bytes",
    "write_queue_bytes",
    "stream_len",
    "replicas",
    "instance",
];

/// Redis as the place of entries and log.
#[derive(Clone)]
pub struct Redis {
    options: RedisOptions,
    mode: Mode,
    max_staleness: Duration,
    /// The address, without a password.
    shown: String,
    certificates: Vec<Certificate>,
}

impl Redis {
    /// Where it is, without a password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The certificates that it is talked to with.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whether what cannot be guaranteed without it is refused.
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::Strict
    }

    /// The description of a cache that uses it.
    pub fn under(&self, builder: Builder) -> Builder {
        builder.redis(self.options.clone()).mode(self.mode).max_staleness(self.max_staleness)
    }
}

/// Without anything that could be a secret.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Redis { mode, max_staleness, shown, .. } = self;
        f.debug_struct("Redis").field("url", shown).field("mode", mode).field("max_staleness", max_staleness).finish_non_exhaustive()
    }
}

/// Redis as the section describes it, if it names one, and what is wrong with the description. Settings are added one by
/// one, and each that cannot be used is told and left out, so that every bad one is found.
pub fn of(givens: &Givens, environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Option<Redis> {
    let reading = Reading { givens, environment };
    let (options, shown) = reading.address(faults)?;
    let options = reading.credentials(options, faults);
    let (options, certificates) = reading.certificates(options, &shown, faults);
    let options = reading.plain(options, faults);
    let (mode, max_staleness) = (reading.mode(), reading.max_staleness());
    Some(Redis { options, mode, max_staleness, shown, certificates })
}

struct Reading<'a> {
    givens: &'a Givens,
    environment: &'a BTreeMap<String, String>,
}

impl Reading<'_> {
    /// The options at an address and the address as it may be shown. Where the address is wrong, some other stands in, so
    /// that the rest is judged as well.
    fn address(&self, faults: &mut Vec<Fault>) -> Option<(RedisOptions, String)> {
        let given = self.givens.get("url")?;
        let Value::RedisAddress(address) = &given.value else { unreachable!("redis.url is an address, not {}", given.value) };
        // Whoever may list the processes or read the file would have it.
        if address.shows_a_password() && !matches!(given.place, Place::Environment(_)) {
            let what = "a password does not stand in a file or on a command line: leave it out and give password = \"env:NAME\" or \
                \"file:PATH\", or the whole address so";
            faults.push(fault(given, "url", what));
        }
        let parsed = address.resolve(self.environment).and_then(|url| {
            let options = RedisOptions::parse(&url).map_err(|error| error.message().to_owned())?;
            Ok((options, masked(&url)))
        });
        Some(parsed.unwrap_or_else(|what| {
            faults.push(fault(given, "url", &what));
            (RedisOptions::parse("redis://127.0.0.1").expect("this is an address"), String::new())
        }))
    }

    fn credentials(&self, options: RedisOptions, faults: &mut Vec<Fault>) -> RedisOptions {
        let Some(given) = self.givens.get("password") else {
            if let Some(user) = self.givens.get("user") {
                faults.push(fault(user, "user", "expected password beside it"));
            }
            return options;
        };
        let Value::Secret(reference) = &given.value else { unreachable!("redis.password is a secret, not {}", given.value) };
        match reference.resolve(self.environment) {
            Ok(password) => options.credentials(self.text("user").unwrap_or_default(), &password),
            Err(what) => {
                faults.push(fault(given, "password", &what));
                options
            }
        }
    }

    fn certificates(&self, mut options: RedisOptions, shown: &str, faults: &mut Vec<Fault>) -> (RedisOptions, Vec<Certificate>) {
        let mut certificates = Vec::new();
        let is_plain = !shown.is_empty() && !shown.starts_with("rediss");
        for name in ["certificate_authority", "client_certificate", "client_key"] {
            if let Some(given) = self.givens.get(name).filter(|_| is_plain) {
                faults.push(fault(given, name, "it has no use at an address without TLS; one with TLS begins with rediss"));
            }
        }
        if let Some(pem) = self.file("certificate_authority", faults) {
            certificates.push(Certificate::of("redis.certificate_authority", &pem));
            options = options.certificate_authority(pem);
        }
        for (name, other) in [("client_certificate", "client_key"), ("client_key", "client_certificate")] {
            if let Some(given) = self.givens.get(name).filter(|_| !self.givens.contains_key(other)) {
                faults.push(fault(given, name, &format!("expected {other} beside it")));
            }
        }
        let (certificate, key) = (self.file("client_certificate", faults), self.file("client_key", faults));
        if let (Some(certificate), Some(key)) = (certificate, key) {
            certificates.push(Certificate::of("redis.client_certificate", &certificate));
            options = options.client_certificate(certificate, key);
        }
        (options, certificates)
    }

    /// What a file holds, if it is given and can be read.
    fn file(&self, name: &str, faults: &mut Vec<Fault>) -> Option<Vec<u8>> {
        let given = self.givens.get(name)?;
        let Value::Path(path) = &given.value else { unreachable!("redis.{name} is a file, not {}", given.value) };
        let unreadable = |error| fault(given, name, &unreadable(path, &error));
        fs::read(path).map_err(|error| faults.push(unreadable(error))).ok()
    }

    fn plain(&self, mut options: RedisOptions, faults: &mut Vec<Fault>) -> RedisOptions {
        for name in PLAIN {
            let Some(given) = self.givens.get(name) else { continue };
            let next = with(options.clone(), name, &given.value);
            match next.check() {
                Ok(()) => options = next,
                Err(error) => faults.push(fault(given, name, error.message())),
            }
        }
        options
    }

    fn text(&self, name: &str) -> Option<&str> {
        match &self.givens.get(name)?.value {
            Value::Text(text) => Some(text),
            other => unreachable!("redis.{name} is a text, not {other}"),
        }
    }

    fn mode(&self) -> Mode {
        match self.givens.get("mode").map(|given| &given.value) {
            Some(Value::Choice(word)) => mode(word),
            other => unreachable!("redis.mode has a default that is a word, not {other:?}"),
        }
    }

    fn max_staleness(&self) -> Duration {
        match self.givens.get("max_staleness").map(|given| &given.value) {
            Some(Value::Time(time)) => *time,
            other => unreachable!("redis.max_staleness has a default that is a time, not {other:?}"),
        }
    }
}

fn fault(given: &Given, name: &str, what: &str) -> Fault {
    Fault::new(&given.place, format!("redis.{name}: found {}; {what}", given.value))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

fn with(options: RedisOptions, name: &str, value: &Value) -> RedisOptions {
    match (name, value) {
        ("prefix", Value::Text(prefix)) => options.prefix(prefix),
        ("connect_timeout", Value::Time(time)) => options.connect_timeout(*time),
        ("operation_timeout", Value::Time(time)) => options.operation_timeout(*time),
        ("heartbeat", Value::Time(time)) => options.heartbeat(*time),
        ("queue_bytes", Value::Size(bytes)) => options.queue_bytes(length(*bytes)),
        ("write_queue_bytes", Value::Size(bytes)) => options.write_queue_bytes(length(*bytes)),
        ("stream_len", Value::Count(number)) => options.stream_len(length(*number)),
        ("replicas", Value::Count(number)) => options.replicas(length(*number)),
        ("instance", Value::Text(name)) => options.instance(name),
        (name, value) => unreachable!("{name} is not a setting of Redis that could be {value}"),
    }
}

fn length(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
