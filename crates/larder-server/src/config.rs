//! The configuration: defaults, under the file, under the environment, under flags; checked as a whole before anything
//! starts, and every fault told at once with its place.
//!
//! ```text
//! catalog (what there is) ──> document (file) ─┐
//!                             environment ─────┼──> effective settings ──> policies, Redis, Config
//!                             flags ───────────┘          └──> show
//! ```

mod access;
mod audit;
mod backup;
mod catalog;
mod document;
mod events;
mod fault;
mod health;
mod history;
mod jobs;
mod otlp;
mod policy;
mod redis;
mod resp;
mod rules;
mod schema;
mod secret;
mod show;
mod sources;
mod tls;
pub mod units;
mod upkeep;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::AccessSettings;
use crate::audit::AuditSettings;
use crate::backup::BackupSettings;
use crate::health::Watched;
use crate::jobs::{JobSettings, NAMES};
use crate::settings::{Guards, HealthLimits, HistorySettings, HttpLimits, Otlp, RespSettings, UpkeepSettings, Webhooks};
use larder::events::Rule;
use larder::{Builder, Durability, Larder, Policy, SizingMode, WarmUp};

pub use redis::Redis;
pub use secret::{REFERENCE_EXPECTED, RedisAddress, Reference};
pub use sources::Source;

use catalog::{
    ACCESS, AUDIT, BACKUP, DEFAULT_NAMESPACE, EVENTS, FIXED, HEALTH, HISTORY, HTTP, JOBS, NAMESPACES, ON, OTLP, PRINCIPAL, PROCESS, REDIS,
    ROLE, SOURCE, Section, TOP, UPKEEP, WARM_UP, variable,
};
use document::{Document, Given, Givens};
pub use fault::{Fault, Faults, Place};
pub use schema::{annotated, json_schema};
pub use show::{show, show_json};
use value::Value;

/// A setting given on the command line: its whole name (`http.listen`), the flag, and the text behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagGiven {
    /// The setting's whole name.
    pub setting: &'static str,
    /// The flag, for messages.
    pub flag: &'static str,
    /// What was given.
    pub text: String,
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder for entries and the log, if there is to be one.
    pub data: Option<PathBuf>,
    /// Bytes of the shared memory pool.
    pub memory_bytes: u64,
    /// Whether it is looked at what other sizes of memory would do, and memory is given out accordingly.
    pub sizing: SizingMode,
    /// Bytes of entries on disk.
    pub disk_bytes: u64,
    /// Bytes of the freshness index.
    pub index_bytes: usize,
    /// When invalidations are acknowledged.
    pub durability: Durability,
    /// When puts are acknowledged.
    pub put_durability: Durability,
    /// Who may do what.
    pub access: AccessSettings,
    /// The Redis that holds entries and log, if they are to be shared.
    pub redis: Option<Redis>,
    /// The server's door.
    pub http: Http,
    /// The door for clients of Redis.
    pub resp: RespSettings,
    /// What stands between the doors and whoever reaches them.
    pub guards: Guards,
    /// Where the audit log is, or would be.
    pub audit_folder: Option<PathBuf>,
    /// How it is kept, if it is.
    pub audit: Option<AuditSettings>,
    /// When what is found of the server counts as how.
    pub health: HealthLimits,
    /// Where what is counted and done is exported to, if it is.
    pub otlp: Option<Otlp>,
    /// The policy of namespaces without a section.
    pub default_namespace: Policy,
    /// The policies of the others.
    pub namespaces: BTreeMap<String, Policy>,
    /// What events invalidate, beside the built-in rules.
    pub rules: Vec<Rule>,
    /// Who may send them over HTTP.
    pub webhooks: Webhooks,
    /// Where they come from, beside HTTP.
    pub sources: Vec<Source>,
    /// Where and how long what happened is kept, if it is.
    pub history: Option<HistorySettings>,
    /// How the server looks after itself.
    pub upkeep: UpkeepSettings,
    /// How memory is filled at the start, if it is.
    pub warm_up: Option<WarmUp>,
    /// What the server does by itself.
    pub jobs: JobSettings,
    /// Where backups are kept, if they are.
    pub backup: Option<BackupSettings>,
    effective: Document,
}

/// The server's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a client may ask of it at most.
    pub limits: HttpLimits,
    /// How long requests may go on after the server was told to stop.
    pub drain: Duration,
}

impl Config {
    /// Reads and checks a configuration: the file's path and text, if there is one; the environment; flags.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[FlagGiven],
    ) -> Result<Self, Faults> {
        let (mut document, mut faults) = match file {
            Some((path, text)) => document::read(&path.display().to_string(), text),
            None => Default::default(),
        };
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        for section in FIXED {
            let givens = document.fixed.entry(section.name).or_default();
            layer(section, givens, &environment, flags, &mut faults);
        }
        document.namespaces.values_mut().for_each(|givens| fill_in(&NAMESPACES, givens));
        for name in NAMES {
            fill_in(&JOBS, document.jobs.entry(name.to_owned()).or_default());
        }
        let default_namespace = policy::of(&document.fixed[DEFAULT_NAMESPACE.name], DEFAULT_NAMESPACE.name, &mut faults);
        let namespaces = document.namespaces.iter().map(|(name, givens)| {
            let policy = policy::of(givens, &format!("{}.{name}", NAMESPACES.name), &mut faults);
            (name.clone(), policy)
        });
        let namespaces = namespaces.collect();
        let redis = redis::of(&document.fixed[REDIS.name], &environment, &mut faults);
        let rules = rules::of(document.list(&ON), &mut faults);
        let sources = sources::of(document.list(&SOURCE), &environment, &mut faults);
        let webhooks = events::of(&document.fixed[EVENTS.name], &environment, &mut faults);
        let health = health::of(&document.fixed[HEALTH.name], &mut faults);
        let otlp = otlp::of(&document.fixed[OTLP.name], document.fixed[REDIS.name].get("instance"), &mut faults);
        let guards = tls::of(&document, &mut faults);
        one_backing(&document, &mut faults);
        let data = Typed(&document.fixed[TOP.name]).path("data");
        let instance = match document.fixed[REDIS.name].get("instance").map(|given| &given.value) {
            Some(Value::Text(name)) => Some(name.as_str()),
            _ => None,
        };
        let history = history::of(&document.fixed[HISTORY.name], (data.as_deref(), instance), &mut faults);
        let beside = data.clone().or_else(|| history.as_ref().and_then(|history| Some(history.file.as_ref()?.parent()?.to_owned())));
        let jobs = jobs::of(&document.jobs, (data.as_deref(), beside.as_deref()), &mut faults);
        let backup = backup::of(&document.fixed[BACKUP.name], data.as_deref(), &environment, &mut faults);
        let lists = (document.list(&ROLE), document.list(&PRINCIPAL));
        let access = access::of(&document.fixed[ACCESS.name], lists, data.as_deref(), &environment, &mut faults);
        let (audit_folder, audit) = audit::of(&document.fixed[AUDIT.name], data.as_deref(), &environment, &mut faults);
        let warm_up = upkeep::warm_up(&document.fixed[WARM_UP.name], data.as_deref(), &mut faults);
        let ready_waits = warm_up.is_some() && Typed(&document.fixed[WARM_UP.name]).flag("ready_waits");
        let budget = upkeep::budget(&document.fixed[PROCESS.name]);
        let upkeep = UpkeepSettings { ready_waits, budget, ..upkeep::of(&document.fixed[UPKEEP.name], data.as_deref()) };
        if !faults.is_empty() {
            return Err(Faults::new(faults));
        }
        Ok(Self {
            upkeep,
            warm_up,
            access,
            rules,
            sources,
            webhooks,
            guards,
            audit_folder,
            audit,
            health,
            history,
            jobs,
            backup,
            otlp,
            ..Self::of(document, redis, (default_namespace, namespaces))
        })
    }

    fn of(document: Document, redis: Option<Redis>, (default_namespace, namespaces): (Policy, BTreeMap<String, Policy>)) -> Self {
        let top = Typed(&document.fixed[TOP.name]);
        let http = Typed(&document.fixed[HTTP.name]);
        Self {
            data: top.path("data"),
            memory_bytes: top.number("memory"),
            sizing: top.sizing(),
            disk_bytes: top.number("disk"),
            index_bytes: top.length("index"),
            durability: top.durability("durability"),
            put_durability: top.durability("put_durability"),
            access: AccessSettings::default(),
            redis,
            http: Http {
                listen: http.address("listen"),
                limits: HttpLimits {
                    body_bytes_max: http.length("body_bytes_max"),
                    head_timeout: http.time("head_timeout"),
                    body_timeout: http.time("body_timeout"),
                    request_timeout: http.time("request_timeout"),
                    requests_max: u32::try_from(http.number("requests_max")).unwrap_or(u32::MAX),
                    connections_max: u32::try_from(http.number("connections_max")).unwrap_or(u32::MAX),
                },
                drain: http.time("drain"),
            },
            resp: resp::of(&document),
            default_namespace,
            namespaces,
            rules: Vec::new(),
            sources: Vec::new(),
            webhooks: Webhooks::default(),
            guards: Guards::default(),
            audit_folder: None,
            audit: None,
            health: HealthLimits::default(),
            history: None,
            jobs: JobSettings::default(),
            backup: None,
            otlp: None,
            upkeep: UpkeepSettings::default(),
            warm_up: None,
            effective: document,
        }
    }

    /// The description of the cache that this configuration asks for.
    pub fn builder(&self) -> Builder {
        let builder = Larder::builder()
            .memory(self.memory_bytes)
            .sizing(self.sizing)
            .disk_bytes(self.disk_bytes)
            .index_bytes(self.index_bytes)
            .durability(self.durability)
            .put_durability(self.put_durability)
            .default_policy(self.default_namespace.clone());
        let builder = self.namespaces.iter().fold(builder, |builder, (name, policy)| builder.namespace(name, policy.clone()));
        let builder = self.rules.iter().cloned().fold(builder, Builder::rule);
        let builder = self.health.probing(builder);
        let builder = self.warm_up.iter().cloned().fold(builder, Builder::warm_up);
        let builder = self.data.iter().fold(builder, Builder::data);
        match &self.redis {
            Some(redis) => redis.under(builder),
            None => builder,
        }
    }

    /// What the server looks at to know how it is.
    pub fn watched(&self) -> Watched {
        let certificates = self.redis.as_ref().map_or_else(Vec::new, |redis| redis.certificates().to_vec());
        Watched { limits: self.health.clone(), data: self.data.clone(), certificates, ..Watched::default() }
    }
}

/// Entries and the log are in one place. A folder that is given beside Redis would stay empty, and what was in it before
/// would be neither served nor invalidated: that is told rather than passed over.
fn one_backing(document: &Document, faults: &mut Vec<Fault>) {
    let (data, url) = (document.fixed[TOP.name].get("data"), document.fixed[REDIS.name].get("url"));
    if let (Some(data), Some(url)) = (data, url) {
        let message = format!(
            "data: found {} together with redis.url ({}); entries and the log are in Redis then, and nothing would be kept in the folder: give one of the two",
            data.value, url.place
        );
        faults.push(Fault::new(&data.place, message));
    }
}

/// Variables that look like a setting's and are none's, each with the one that was probably meant. They are no faults:
/// container platforms set variables of a service's name on their own.
pub fn suspicious(environment: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let known: Vec<String> =
        FIXED.iter().flat_map(|section| section.settings.iter().map(|one| variable(&section.full_name(one)))).collect();
    let lower: Vec<String> = known.iter().map(|name| name.to_ascii_lowercase()).collect();
    let unknown = environment.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("LARDER_") && !known.contains(name));
    let meant = |name: String| {
        let meant = fault::did_you_mean(&name, lower.iter().map(String::as_str))?.to_ascii_uppercase();
        Some((name, meant))
    };
    unknown.filter_map(meant).collect()
}

/// Puts the environment, then flags, over what the file gave, and defaults under all.
fn layer(section: &Section, givens: &mut Givens, environment: &BTreeMap<String, String>, flags: &[FlagGiven], faults: &mut Vec<Fault>) {
    for setting in section.settings {
        let full_name = section.full_name(setting);
        let variable = variable(&full_name);
        let from_environment = environment.get(&variable).map(|text| (Place::Environment(variable.clone()), text));
        let flag = flags.iter().find(|flag| flag.setting == full_name).map(|flag| (Place::Flag(flag.flag), &flag.text));
        for (place, text) in from_environment.into_iter().chain(flag) {
            match setting.kind.parse(text) {
                Ok(value) => {
                    givens.insert(setting.name, Given { value, place });
                }
                Err(what) => {
                    let message = format!("{full_name}: found {what}, expected {}", setting.kind.expected());
                    faults.push(Fault { place, message });
                }
            }
        }
    }
    fill_in(section, givens);
}

/// Puts defaults where nothing was given.
fn fill_in(section: &Section, givens: &mut Givens) {
    for setting in section.settings {
        if let Some(default) = setting.default {
            let given = || Given { value: setting.kind.parse(default).expect("a test reads every default"), place: Place::Default };
            givens.entry(setting.name).or_insert_with(given);
        }
    }
}

/// A section's settings by their types. The catalog says which type a setting has, and that what is asked for here has a
/// default; a test asks for all of them.
struct Typed<'a>(&'a Givens);

impl Typed<'_> {
    fn get(&self, name: &str) -> &Value {
        &self.0.get(name).expect("it has a default").value
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.0.get(name)?.value {
            Value::Path(path) => Some(path.clone()),
            other => unreachable!("{name} is a folder, not {other}"),
        }
    }

    fn number(&self, name: &str) -> u64 {
        match self.get(name) {
            Value::Size(number) | Value::Count(number) => *number,
            other => unreachable!("{name} is a number, not {other}"),
        }
    }

    /// What does not fit this machine's memory is as good as its largest number.
    fn length(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn time(&self, name: &str) -> Duration {
        match self.get(name) {
            Value::Time(time) => *time,
            other => unreachable!("{name} is a time, not {other}"),
        }
    }

    fn address(&self, name: &str) -> SocketAddr {
        match self.get(name) {
            Value::Address(address) => *address,
            other => unreachable!("{name} is an address, not {other}"),
        }
    }

    fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Value::Flag(flag) => *flag,
            other => unreachable!("{name} is yes or no, not {other}"),
        }
    }

    fn share(&self, name: &str) -> f64 {
        match self.get(name) {
            Value::Share(share) => *share,
            other => unreachable!("{name} is a share, not {other}"),
        }
    }

    fn sizing(&self) -> SizingMode {
        match self.get("sizing") {
            Value::Choice("off") => SizingMode::Off,
            Value::Choice("observe") => SizingMode::Observe,
            Value::Choice("auto") => SizingMode::Auto,
            other => unreachable!("sizing is off, observe or auto, not {other}"),
        }
    }

    fn durability(&self, name: &str) -> Durability {
        match self.get(name) {
            Value::Choice("os") => Durability::Os,
            Value::Choice("fsync") => Durability::Fsync,
            other => unreachable!("{name} is os or fsync, not {other}"),
        }
    }
}

#[cfg(test)]
mod tests;
