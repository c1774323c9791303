//! From `[[source]]` to sources of events: addresses are fetched from where they are said to be, and what is wrong is told at the
//! setting that it was the fault of.

use std::collections::BTreeMap;
use std::fmt;

use larder::events::FollowOptions;
use larder::events::source::{PostgresOutbox, RedisStream};
use larder::{Larder, Names, RedisOptions};

use super::document::Givens;
use super::fault::{Fault, Place};
use super::value::Value;

/// Settings that only one type of source has.
const OF_REDIS: [&str; 2] = ["stream", "group"];
const OF_POSTGRES: [&str; 1] = ["table"];

/// A source of events to follow.
#[derive(Clone)]
pub struct Source {
    origin: Origin,
    options: FollowOptions,
}

#[derive(Clone)]
enum Origin {
    RedisStream { redis: Box<RedisOptions>, stream: String, group: String },
    Postgres { address: String, table: String },
}

/// Without anything that could be a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::RedisStream { stream, group, .. } => write!(f, "redis-stream {stream} as {group}"),
            Origin::Postgres { table, .. } => write!(f, "postgres {table}"),
        }
    }
}

impl Source {
    /// Has a cache follow it, until that is closed.
    ///
    /// # Errors
    /// None that reading the configuration would not have told.
    pub fn follow(&self, larder: &Larder) -> larder::Result<()> {
        let options = self.options.clone();
        match &self.origin {
            Origin::RedisStream { redis, stream, group } => {
                larder.follow_with(RedisStream::new(RedisOptions::clone(redis), stream, group)?, options)
            }
            Origin::Postgres { address, table } => larder.follow_with(PostgresOutbox::new(address, table)?, options),
        }
        .map(drop)
    }
}

/// The sources, and what is wrong with them.
pub fn of(sources: &[(Place, Givens)], environment: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Vec<Source> {
    sources.iter().filter_map(|(place, givens)| Reading { place, givens, environment }.source(faults)).collect()
}

struct Reading<'a> {
    place: &'a Place,
    givens: &'a Givens,
    environment: &'a BTreeMap<String, String>,
}

impl Reading<'_> {
    fn source(&self, faults: &mut Vec<Fault>) -> Option<Source> {
        let Some(Value::Choice(kind)) = self.value("type") else {
            faults.push(self.fault("type", "a source says what it is: \"redis-stream\" or \"postgres\""));
            return None;
        };
        let is_redis = *kind == "redis-stream";
        for other in if is_redis { &OF_POSTGRES[..] } else { &OF_REDIS[..] } {
            if self.value(other).is_some() {
                faults.push(self.fault(other, &format!("a source of the type \"{kind}\" has none")));
            }
        }
        let address = self.address(faults);
        let options = self.options(faults);
        let (address, options) = (address?, options?);
        let told = |what: &str, faults: &mut Vec<Fault>, error: larder::Error| faults.push(self.fault(what, error.message()));
        let origin = if is_redis {
            let Some(stream) = self.text("stream") else {
                faults.push(self.fault("stream", "a source of the type \"redis-stream\" says which stream"));
                return None;
            };
            let group = self.text("group").unwrap_or_else(|| "larder".to_owned());
            let redis = RedisOptions::parse(&address).map_err(|error| told("url", faults, error)).ok()?;
            RedisStream::new(redis.clone(), &stream, &group).map_err(|error| told("stream", faults, error)).ok()?;
            Origin::RedisStream { redis: Box::new(redis), stream, group }
        } else {
            let table = self.text("table").unwrap_or_else(|| "larder_outbox".to_owned());
            PostgresOutbox::install_sql(&table).map_err(|error| told("table", faults, error)).ok()?;
            PostgresOutbox::new(&address, &table).map_err(|error| told("url", faults, error)).ok()?;
            Origin::Postgres { address, table }
        };
        Some(Source { origin, options })
    }

    fn address(&self, faults: &mut Vec<Fault>) -> Option<String> {
        let Some(Value::SourceAddress(address)) = self.value("url") else {
            faults.push(self.fault("url", "a source says where it is"));
            return None;
        };
        // Whoever may read the file would have it; and what hides passwords knows no other form.
        if address.shows_a_password() {
            faults.push(self.fault("url", "a password does not stand in a file: give the whole address as \"env:NAME\" or \"file:PATH\""));
            return None;
        }
        let address = address.resolve(self.environment).map_err(|what| faults.push(self.fault("url", &what))).ok()?;
        if !address.contains("://") {
            faults.push(self.fault("url", "expected an address that begins with redis:// or postgres://"));
            return None;
        }
        Some(address)
    }

    fn options(&self, faults: &mut Vec<Fault>) -> Option<FollowOptions> {
        let mut options = FollowOptions::default();
        if let Some(Value::Texts(covers)) = self.value("covers") {
            let names = covers.iter().fold(Names::new(), |names, name| named(names, name));
            options = options.covers(names);
        }
        for (name, set) in [("queue", FollowOptions::queue as fn(_, _) -> _), ("parallel", FollowOptions::parallel)] {
            if let Some(Value::Count(count)) = self.value(name) {
                options = set(options, usize::try_from(*count).unwrap_or(usize::MAX));
            }
        }
        options.check().map_err(|error| faults.push(self.fault("covers", error.message()))).ok()?;
        Some(options)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.givens.get(name).map(|given| &given.value)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            other => unreachable!("source.{name} is a text, not {other}"),
        }
    }

    fn fault(&self, name: &str, what: &str) -> Fault {
        match self.givens.get(name) {
            Some(given) => Fault::new(&given.place, format!("source.{name}: found {}; {what}", given.value)),
            None => Fault::new(self.place, format!("source.{name}: {what}")),
        }
    }
}

/// A name as rules write them.
fn named(names: Names, text: &str) -> Names {
    match text.split_once(':') {
        Some(("tag", tag)) => names.tag(tag),
        Some(("key", key)) => names.key(key),
        Some(("namespace", namespace)) => names.namespace(namespace),
        _ if text == "everything" => names.everything(),
        _ => names.pattern(text),
    }
}
