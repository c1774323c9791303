//! How the cache is: what is wrong or could become so, and what to do about it.

use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Larder, Shared};
use crate::log::Log;
use crate::tier::{BreakerState, TierState};

mod backing;
mod log;
mod memory;
pub(crate) mod probes;

pub use probes::{Confirmed, Part, Probe, Probed, Trouble};

/// From this rate of false misses on, a larger index is recommended.
const FALSE_MISSES_TO_MENTION: f64 = 0.01;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, and could hurt later.
    Notice,
    /// It works worse than it should, by itself for a while.
    Degraded,
    /// Changes are refused.
    Failing,
}

/// Something that is wrong, or could become so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `log`, `backing`, `memory`, `index`, `redis`, `source`.
    pub about: &'static str,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// How the cache is: see [`Larder::health`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Health {
    /// The worst of the findings; `None` where all is well.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(|finding| finding.severity)
    }
}

impl Larder {
    /// How the cache is at this moment: what is wrong or could become so, the worst first, and what [probes](Self::probes) found
    /// last. Asks nobody, and costs little.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let larder = larder::Larder::builder().build().await?;
    /// assert_eq!(larder.health().worst(), None);
    /// # Ok(()) }
    /// ```
    pub fn health(&self) -> Health {
        let mut findings = Vec::new();
        of_log(&self.0, &mut findings);
        of_tier(&self.0, &mut findings);
        of_index(&self.0, &mut findings);
        of_restore(&self.0, &mut findings);
        of_sources(self, &mut findings);
        of_probes(self, &mut findings);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Health { findings }
    }
}

/// A key of a probe's: nobody else's, and no other probe's.
fn key() -> Box<[u8]> {
    [crate::key::RESERVED, format!("probe:{:032x}", fastrand::u128(..)).as_bytes()].concat().into()
}

/// What a probe writes, which nothing else can have written.
fn content() -> Bytes {
    Bytes::copy_from_slice(&fastrand::u128(..).to_le_bytes())
}

fn finding(severity: Severity, about: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { severity, about, what: what.into(), advice: advice.into() }
}

fn of_log(shared: &Shared, findings: &mut Vec<Finding>) {
    let stats = shared.log.stats();
    if let Some(why) = stats.failed {
        findings.push(finding(
            Severity::Failing,
            "log",
            format!("the log takes no appends: {why}"),
            "see to the disk that holds the data folder",
        ));
    }
    let Some(stats) = stats.shared else { return };
    if !stats.connected {
        let why = stats.trouble.unwrap_or_else(|| "not tried yet".into());
        let queued = if stats.queued == 0 { String::new() } else { format!("; {} invalidations wait to be appended", stats.queued) };
        let what = format!("Redis cannot be reached ({why}){queued}");
        findings.push(finding(
            Severity::Degraded,
            "log",
            what,
            "see to Redis, its address and credentials; everything goes on by itself when it is back",
        ));
    }
    #[cfg(feature = "redis")]
    if let Log::Redis(log) = &shared.log
        && stats.connected
        && let Some(why) = log.checkpoint_trouble()
    {
        let what = format!("a checkpoint of the log in Redis is due and could not be written ({why}); its stream grows meanwhile");
        findings.push(finding(
            Severity::Degraded,
            "log",
            what,
            "see to the memory of Redis: it needs room for one more copy of the index; without a checkpoint changes are refused in the end",
        ));
    }
    #[cfg(feature = "redis")]
    if let Log::Redis(log) = &shared.log
        && let Some(about) = log.about()
    {
        findings.extend(of_server(&about));
    }
    #[cfg(not(feature = "redis"))]
    let Log::Local(_) = &shared.log;
}

/// What a server's settings could do to the log.
#[cfg(feature = "redis")]
fn of_server(about: &crate::remote::link::About) -> Vec<Finding> {
    let mut findings = Vec::new();
    let policy = about.eviction.as_str();
    if about.memory_max > 0 && policy.starts_with("allkeys") {
        let what =
            format!("{} may evict the log itself (maxmemory-policy {policy}): each time, all caches would start cold", about.version);
        findings.push(finding(
            Severity::Notice,
            "redis",
            what,
            "use volatile-ttl with a time to live for every namespace, or a server of its own for larder",
        ));
    } else if about.memory_max > 0 && policy == "noeviction" {
        let what = format!("{} refuses writes when its memory is full (maxmemory-policy noeviction), invalidations too", about.version);
        findings.push(finding(Severity::Notice, "redis", what, "use volatile-ttl with a time to live for every namespace"));
    } else if about.memory_max > 0 {
        let what = format!("{} evicts only entries that have a time to live (maxmemory-policy {policy})", about.version);
        findings.push(finding(
            Severity::Notice,
            "redis",
            what,
            "give every namespace a time to live, or its entries fill the memory for good",
        ));
    } else {
        let what = format!("{} has no memory limit (maxmemory 0)", about.version);
        findings.push(finding(Severity::Notice, "redis", what, "set maxmemory, and maxmemory-policy volatile-ttl"));
    }
    findings
}

fn of_tier(shared: &Shared, findings: &mut Vec<Finding>) {
    let Some(tier) = &shared.tier else { return };
    if let TierState::Degraded(why) = tier.state() {
        let what = format!("the backing tier ({}) is out of order: {why}", tier.name());
        findings.push(finding(Severity::Degraded, "backing", what, "reads and writes go on in memory; it recovers by itself"));
    }
    if shared.breaker.state() != BreakerState::Closed {
        let what = format!(
            "the backing tier ({}) failed too often, and is left alone for moments of up to {:?}",
            tier.name(),
            Duration::from_secs(2)
        );
        findings.push(finding(Severity::Degraded, "backing", what, "see to its latency; it is tried again by itself"));
    }
}

/// One that runs holds back what it writes until it is over, and so does one that nobody ended.
fn of_restore(shared: &Shared, findings: &mut Vec<Finding>) {
    if shared.index.held().is_none() && !shared.log.had_shared_hold() {
        return;
    }
    findings.push(finding(
        Severity::Notice,
        "restore",
        "a restore is not over: what it has written is held back from readers",
        "if none is running any more, run the same one again, or give it up (larder backup restore --abandon)",
    ));
}

/// One that was stopped is as it should be.
fn of_sources(larder: &Larder, findings: &mut Vec<Finding>) {
    for source in larder.sources().into_iter().filter(|source| !source.ended) {
        let Some(why) = source.trouble else { continue };
        let waiting = if source.connected { "its events wait" } else { "it is tried again" };
        let what = format!("events of {} do not take effect now, {waiting}: {why}", source.name);
        findings.push(finding(Severity::Degraded, "source", what, "see to what it says; nothing is lost meanwhile"));
    }
}

/// What probes found, where nothing else was found of the same part.
fn of_probes(larder: &Larder, findings: &mut Vec<Finding>) {
    for Probed { part, last, .. } in larder.probes() {
        let Some(trouble) = last.and_then(|probe| probe.trouble.clone()) else { continue };
        let severity = match part {
            Part::Memory => Severity::Failing,
            Part::Log if !larder.0.log.is_shared() => Severity::Failing,
            Part::Backing | Part::Log => Severity::Degraded,
        };
        if findings.iter().all(|finding| finding.about != part.name() || finding.severity == Severity::Notice) {
            findings.push(finding(severity, part.name(), trouble.what, trouble.advice));
        }
    }
}

fn of_index(shared: &Shared, findings: &mut Vec<Finding>) {
    let rate = shared.sweeper.false_miss_rate();
    if rate > FALSE_MISSES_TO_MENTION {
        let what = format!("about {:.1} % of the entries in memory would be loaded again without need", rate * 100.0);
        findings.push(finding(Severity::Notice, "index", what, "give the freshness index more bytes (index_bytes)"));
    }
}
