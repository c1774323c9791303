//! Which metrics there are: the one list, in the order in which they are told.
//!
//! Every label is one of a fixed set, but for namespaces and sources, of which there are as many as are configured: what is asked for in
//! other namespaces is counted under `other`.

use larder::events::SourceStats;
use larder::tier::{BreakerState, TierState};
use larder::{BackingStats, Latencies, LogStats, NamespaceStats, SharedLogStats, Stats};

use crate::jobs::{Outcome, View};

use super::encode::{Buckets, Family, Kind, Sample, Value};
use crate::audit::Standing;

/// The bounds of latencies, in nanoseconds: doublings from 256 ns to 17 s. All are ends of larder's own buckets, so nothing is estimated
/// here; only that what took exactly as long as a bound is counted above it, and not below.
const BOUNDS_NS: std::ops::RangeInclusive<u32> = 8..=34;

/// Families, as they come.
#[derive(Default)]
pub struct Families(Vec<Family>);

/// Labels as they are given.
type Labels<'a> = &'a [(&'static str, &'a str)];

impl Families {
    /// Begins a family. Samples that are [added](Self::add) next are its own.
    pub fn begin(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Self {
        self.0.push(Family { name, kind, help, samples: Vec::new() });
        self
    }

    /// Adds a sample to the family that was begun last.
    pub fn add(&mut self, labels: Labels<'_>, value: Value) -> &mut Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.last_mut().expect("a family was begun").samples.push(Sample { labels, value });
        self
    }

    /// A family of one counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &'static str, n: u64) {
        self.begin(name, Kind::Counter, help).add(&[], Value::Whole(n));
    }

    /// A family of one whole number without labels.
    pub fn size(&mut self, name: &'static str, help: &'static str, n: u64) {
        self.begin(name, Kind::Gauge, help).add(&[], Value::Whole(n));
    }

    /// A family of one measure without labels.
    pub fn measure(&mut self, name: &'static str, help: &'static str, n: f64) {
        self.begin(name, Kind::Gauge, help).add(&[], Value::Real(n));
    }

    /// All of them.
    pub fn finish(self) -> Vec<Family> {
        self.0
    }

    /// What the cache says of itself.
    pub fn of_cache(&mut self, stats: &Stats, sources: &[SourceStats], unsigned: u64) {
        let namespaces = one_of_each_name(&stats.namespaces);
        self.of_reads(&namespaces);
        self.of_writes(&namespaces);
        self.of_latencies(&namespaces);
        self.of_memory(&namespaces, stats);
        stats.backing.iter().for_each(|backing| self.of_backing(backing));
        self.of_log(&stats.log);
        self.of_invalidations(stats);
        self.of_events(stats, unsigned);
        self.of_sources(sources);
    }

    /// What the server does by itself.
    pub fn of_jobs(&mut self, jobs: &[View]) {
        // Not "job", which Prometheus puts on everything itself.
        let name = |view: &View| view.definition.name.clone();
        self.begin("larder_job_runs", Kind::Counter, "Runs of jobs that ended on this server, by how.");
        for view in jobs {
            for (outcome, n) in Outcome::ALL.iter().zip(&view.counts).filter(|(outcome, _)| **outcome != Outcome::Running) {
                self.add(&[("name", &name(view)), ("outcome", outcome.name())], Value::Whole(*n));
            }
        }
        let help = "When a job went well last, on any instance, in seconds since 1970; 0 where that is not known.";
        self.begin("larder_job_last_success_timestamp_seconds", Kind::Gauge, help);
        for view in jobs {
            self.add(&[("name", &name(view))], Value::Real(view.last_ok_ms.unwrap_or(0) as f64 / 1e3));
        }
        let mut flags = |metric, help, is_so: fn(&View) -> bool| {
            self.begin(metric, Kind::Gauge, help);
            for view in jobs {
                self.add(&[("name", &name(view))], Value::Whole(u64::from(is_so(view))));
            }
        };
        flags("larder_job_running", "Whether a run of the job is under way, on any instance.", |view| view.running.is_some());
        flags("larder_job_paused", "Whether nothing of the job is begun by schedule.", |view| view.paused);
        let help = "Whether the last run of the job failed, took too long, or was missed by all instances.";
        flags("larder_job_failing", help, |view| view.last.as_ref().is_some_and(|run| run.outcome.is_bad()));
    }

    fn of_reads(&mut self, namespaces: &[NamespaceStats]) {
        self.begin("larder_reads", Kind::Counter, "Reads, each with one result. Misses and errors have the tier \"none\".");
        for NamespaceStats { name, counts, .. } in namespaces {
            let stale_memory = counts.hits_stale.saturating_sub(counts.hits_stale_backing);
            for (result, tier, n) in [
                ("hit", "memory", counts.hits_memory),
                ("hit", "backing", counts.hits_backing),
                ("stale", "memory", stale_memory),
                ("stale", "backing", counts.hits_stale_backing),
                ("negative", "memory", counts.hits_negative),
                ("absent", "none", counts.misses_absent),
                ("expired", "none", counts.misses_expired),
                ("invalidated", "none", counts.misses_invalidated),
                ("error", "none", counts.errors),
            ] {
                self.add(&[("namespace", name), ("result", result), ("tier", tier)], Value::Whole(n));
            }
        }
        self.begin("larder_tier_misses", Kind::Counter, "Times that a tier was asked and had nothing that may be served.");
        for NamespaceStats { name, counts, .. } in namespaces {
            self.add(&[("namespace", name), ("tier", "memory")], Value::Whole(counts.misses_memory()));
            self.add(&[("namespace", name), ("tier", "backing")], Value::Whole(counts.misses_backing));
        }
        self.begin("larder_reads_invalidated", Kind::Counter, "Reads that found an invalidated entry, by what had been invalidated.");
        for NamespaceStats { name, counts, .. } in namespaces {
            for (by, n) in [
                ("key", counts.stale_by_key),
                ("tag", counts.stale_by_tag),
                ("pattern", counts.stale_by_pattern),
                ("namespace", counts.stale_by_namespace),
                ("everything", counts.stale_by_everything),
                ("source", counts.stale_by_source),
                ("epoch", counts.stale_by_epoch),
            ] {
                self.add(&[("namespace", name), ("by", by)], Value::Whole(n));
            }
        }
        let help = "Answers that said that they could not be verified, because the shared log was not heard.";
        self.by_namespace("larder_reads_unverified", help, namespaces, |stats| stats.counts.unverified);
    }

    fn of_writes(&mut self, namespaces: &[NamespaceStats]) {
        self.by_namespace("larder_puts", "Values put from outside, fills included.", namespaces, |stats| stats.counts.puts);
        self.by_namespace("larder_removes", "Keys removed from outside.", namespaces, |stats| stats.counts.removes);
        self.begin("larder_sets", Kind::Counter, "Entries put into a tier: put, filled, loaded, or brought from the tier behind.");
        for NamespaceStats { name, counts, .. } in namespaces {
            self.add(&[("namespace", name), ("tier", "memory")], Value::Whole(counts.sets_memory));
            self.add(&[("namespace", name), ("tier", "backing")], Value::Whole(counts.sets_backing));
        }
        self.begin("larder_removals", Kind::Counter, "Entries that left memory, by cause; and values that it did not take, as too large.");
        for NamespaceStats { name, counts, .. } in namespaces {
            for (cause, n) in [
                ("evicted", counts.evicted),
                ("expired", counts.expired),
                ("invalidated", counts.invalidated),
                ("replaced", counts.replaced),
                ("too_large", counts.too_large),
            ] {
                self.add(&[("namespace", name), ("cause", cause)], Value::Whole(n));
            }
        }
        let help = "Loads by outcome. Joined are reads that waited for another's load; dropped are values that were not kept, \
            because something they depend on was invalidated meanwhile.";
        self.begin("larder_loads", Kind::Counter, help);
        for NamespaceStats { name, counts, .. } in namespaces {
            for (outcome, n) in [
                ("ok", counts.loads_ok),
                ("error", counts.loads_error),
                ("timeout", counts.loads_timeout),
                ("joined", counts.loads_joined),
                ("dropped", counts.loads_dropped),
            ] {
                self.add(&[("namespace", name), ("outcome", outcome)], Value::Whole(n));
            }
        }
        let help = "Entries whose content was found the same, so that they live on.";
        self.by_namespace("larder_unchanged", help, namespaces, |stats| stats.counts.unchanged);
        let help = "Entries that were invalidated and then loaded again with the same content.";
        self.by_namespace("larder_invalidated_needlessly", help, namespaces, |stats| stats.counts.invalidated_needlessly);
        let help = "Writes to the backing tier that it did not take.";
        self.by_namespace("larder_backing_writes_shed", help, namespaces, |stats| stats.counts.backing_shed);
        let help = "Failed operations of the backing tier that a read or write went on without.";
        self.by_namespace("larder_backing_failures", help, namespaces, |stats| stats.counts.backing_errors);
    }

    fn by_namespace(&mut self, name: &'static str, help: &'static str, all: &[NamespaceStats], of: impl Fn(&NamespaceStats) -> u64) {
        self.begin(name, Kind::Counter, help);
        for stats in all {
            self.add(&[("namespace", &stats.name)], Value::Whole(of(stats)));
        }
    }

    /// What was never timed has no series.
    fn of_latencies(&mut self, namespaces: &[NamespaceStats]) {
        let help = "How long reads took that memory answered at once. One in 64 is timed, and only those are counted.";
        self.begin("larder_memory_hit_duration_seconds", Kind::Histogram, help);
        for stats in namespaces {
            self.latencies(&[("namespace", &stats.name)], &stats.hit_memory);
        }
        let help = "How long all other reads took. A hit is one from the backing tier, past its time, or a remembered absence.";
        self.begin("larder_read_duration_seconds", Kind::Histogram, help);
        for stats in namespaces {
            for (result, latencies) in [("hit", &stats.hit_backing), ("miss", &stats.miss), ("error", &stats.error)] {
                self.latencies(&[("namespace", &stats.name), ("result", result)], latencies);
            }
        }
        self.begin("larder_load_duration_seconds", Kind::Histogram, "How long loaders took.");
        for stats in namespaces {
            self.latencies(&[("namespace", &stats.name)], &stats.load);
        }
    }

    fn latencies(&mut self, labels: Labels<'_>, latencies: &Latencies) {
        if latencies.count() > 0 {
            self.add(labels, Value::Buckets(buckets(latencies)));
        }
    }

    fn of_memory(&mut self, namespaces: &[NamespaceStats], stats: &Stats) {
        self.begin("larder_namespace_entries", Kind::Gauge, "Entries in memory.");
        for stats in namespaces {
            self.add(&[("namespace", &stats.name)], Value::Whole(stats.entries));
        }
        self.begin("larder_namespace_bytes", Kind::Gauge, "Bytes in memory, keys and bookkeeping included.");
        for stats in namespaces {
            self.add(&[("namespace", &stats.name)], Value::Whole(stats.bytes));
        }
        self.size("larder_memory_bytes", "Bytes that all memory pools hold.", stats.memory.bytes);
        self.size("larder_memory_capacity_bytes", "Bytes that all memory pools may hold.", stats.memory.capacity);
        self.size("larder_memory_entries", "Entries that all memory pools hold.", stats.memory.entries);
        self.size("larder_index_bytes", "The size of the freshness index.", stats.index.bytes as u64);
        self.size("larder_index_shapes", "Shapes of patterns in use, of 64.", stats.index.shapes as u64);
        self.size("larder_index_globs", "Globs in use, of 1,024.", stats.index.globs as u64);
        self.counter("larder_index_widened", "Names that were widened, for want of a shape or a glob.", stats.index.widened);
        let help = "The estimated share of entries that miss though nothing they depend on was invalidated.";
        self.measure("larder_index_false_miss_ratio", help, stats.index.false_miss_rate);
    }

    fn of_backing(&mut self, BackingStats { name, state, stats, breaker, .. }: &BackingStats) {
        let tier: Labels<'_> = &[("tier", name)];
        let up = u64::from(matches!(state, TierState::Healthy));
        self.begin("larder_backing_up", Kind::Gauge, "Whether the backing tier can be used.").add(tier, Value::Whole(up));
        self.begin(
            "larder_backing_breaker",
            Kind::Gauge,
            "One for the state that the backing tier's breaker is in; open: it is not asked.",
        );
        for (text, known) in [("closed", BreakerState::Closed), ("open", BreakerState::Open), ("half_open", BreakerState::HalfOpen)] {
            self.add(&[("tier", name), ("state", text)], Value::Whole(u64::from(*breaker == known)));
        }
        for (name, help, n) in [
            ("larder_backing_entries", "Live entries of the backing tier.", stats.entries),
            ("larder_backing_bytes", "Bytes of keys and records of the backing tier's live entries.", stats.bytes),
            ("larder_backing_disk_bytes", "Bytes on the disk, garbage and journals included.", stats.bytes_on_disk),
            ("larder_backing_queue_writes", "Writes that wait for the backing tier.", stats.queued),
            ("larder_backing_queue_bytes", "Bytes that wait for the backing tier.", stats.queued_bytes),
        ] {
            self.begin(name, Kind::Gauge, help).add(tier, Value::Whole(n));
        }
        self.begin("larder_backing_removals", Kind::Counter, "Entries that left the backing tier, by cause.");
        for (cause, n) in [("evicted", stats.evicted), ("expired", stats.expired)] {
            self.add(&[("tier", name), ("cause", cause)], Value::Whole(n));
        }
        self.begin("larder_backing_refusals", Kind::Counter, "Writes that the backing tier did not carry out, by cause.");
        for (cause, n) in [("shed", stats.shed), ("outranked", stats.outranked)] {
            self.add(&[("tier", name), ("cause", cause)], Value::Whole(n));
        }
        let help = "Records of the backing tier that could not be read.";
        self.begin("larder_backing_unreadable", Kind::Counter, help).add(tier, Value::Whole(stats.unreadable));
        let help = "Failed operations of the store behind the backing tier.";
        self.begin("larder_backing_errors", Kind::Counter, help).add(tier, Value::Whole(stats.errors));
    }

    fn of_log(&mut self, log: &LogStats) {
        self.counter("larder_log_appends", "Appends to the invalidation log.", log.appends);
        self.counter("larder_log_syncs", "Times that appends were waited for on stable storage.", log.syncs);
        self.size(
            "larder_log_position",
            "The number of the last position that was applied here. It begins anew with an epoch.",
            log.position.number(),
        );
        self.size("larder_log_up", "Whether the log takes appends.", u64::from(log.failed.is_none()));
        let nothing = SharedLogStats::default();
        let shared = log.shared.as_ref().unwrap_or(&nothing);
        let connected = log.shared.as_ref().is_none_or(|shared| shared.connected);
        self.size("larder_log_connected", "Whether the log can be reached. One where it is this server's own.", u64::from(connected));
        self.size("larder_log_lag_positions", "Positions of the shared log that are known of and not applied here.", shared.behind);
        let help = "For how long nothing was heard of the shared log.";
        self.measure("larder_log_lag_seconds", help, shared.unheard_for.as_secs_f64());
        self.size("larder_log_queue_names", "Names that wait to be told to the other servers.", shared.queued);
        self.size("larder_log_queue_bytes", "Bytes of the names that wait to be told to the other servers.", shared.queued_bytes);
        self.counter("larder_log_refused", "Invalidations refused because the queue was full, or the namespace strict.", shared.refused);
        self.counter("larder_log_connects", "Times that the shared log was taken up anew.", shared.connects);
        self.counter("larder_log_epochs", "Epochs of the shared log adopted since the start; each is a cold start.", shared.epochs);
        self.counter(
            "larder_log_resyncs",
            "Times that a snapshot was read, because the stream no longer had what came next.",
            shared.resyncs,
        );
        self.counter(
            "larder_log_checkpoints",
            "Checkpoints that this server wrote, so that the log's stream has an end.",
            shared.checkpoints,
        );
        self.begin("larder_log_inbox", Kind::Counter, "Messages that others put into the inbox, by result.");
        for (result, n) in [("taken", shared.inbox_taken.saturating_sub(shared.inbox_rejected)), ("rejected", shared.inbox_rejected)] {
            self.add(&[("result", result)], Value::Whole(n));
        }
    }

    fn of_invalidations(&mut self, stats: &Stats) {
        let help = "Names that were invalidated, by kind and by where that came from. What a peer put is among its keys.";
        self.begin("larder_invalidations", Kind::Counter, help);
        for (kind, origin, n) in stats.invalidations.iter() {
            self.add(&[("kind", kind.name()), ("origin", origin.name())], Value::Whole(n));
        }
    }

    fn of_events(&mut self, stats: &Stats, unsigned: u64) {
        let events = &stats.events;
        self.counter("larder_events_received", "Events that came.", events.received);
        self.begin(
            "larder_events_set_aside",
            Kind::Counter,
            "Events that invalidated nothing, and requests without a signature, by cause.",
        );
        for (cause, n) in [
            ("duplicate", events.duplicates),
            ("unmatched", events.unmatched),
            ("refused", events.refused),
            ("failed", events.failed),
            ("unsigned", unsigned),
        ] {
            self.add(&[("cause", cause)], Value::Whole(n));
        }
        self.counter("larder_events_names", "Names that events invalidated.", events.names);
        self.counter("larder_events_conflated", "Names that were put off, so that one invalidation covers several.", events.conflated);
        self.size("larder_dead_letters", "Events that nobody managed, and that wait for an operator.", events.dead);
        self.counter("larder_dead_letters_dropped", "Dead letters that were dropped because there were too many.", events.dead_dropped);
    }

    /// What the audit log says of itself; zeros where there is none.
    pub fn of_audit(&mut self, standing: Option<Standing>) {
        let failing = standing.as_ref().is_some_and(|standing| standing.failing.is_some());
        let Standing { written, waiting, lost, .. } = standing.unwrap_or_default();
        self.counter("larder_audit_written", "Records that were written to the audit log.", written);
        self.size("larder_audit_waiting", "Records that wait to be written.", waiting as u64);
        self.counter("larder_audit_lost", "Operations that were carried out and could not be recorded.", lost);
        self.size("larder_audit_failing", "Whether the audit log cannot be written.", u64::from(failing));
    }

    fn of_sources(&mut self, sources: &[SourceStats]) {
        let mut named: Vec<&SourceStats> = sources.iter().collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        // Two that are called the same cannot be told apart.
        named.dedup_by(|a, b| a.name == b.name);
        self.begin("larder_source_state", Kind::Gauge, "One for the state that a source of events is in.");
        for source in &named {
            for (state, is) in [
                ("connected", source.connected && !source.standby && !source.ended),
                ("standby", source.standby && !source.ended),
                ("troubled", !source.connected && !source.standby && !source.ended),
                ("ended", source.ended),
            ] {
                self.add(&[("source", &source.name), ("state", state)], Value::Whole(u64::from(is)));
            }
        }
        self.begin("larder_source_events", Kind::Counter, "Events of a source, by what became of them.");
        for source in &named {
            for (result, n) in [
                ("received", source.received),
                ("acknowledged", source.acknowledged),
                ("duplicate", source.duplicates),
                ("dead", source.dead),
            ] {
                self.add(&[("source", &source.name), ("result", result)], Value::Whole(n));
            }
        }
        type Of = fn(&SourceStats) -> u64;
        let counters: [(&str, &str, Of); 3] = [
            ("larder_source_retries", "Times that an event was tried again, because the log could not take it.", |source| source.retries),
            ("larder_source_gaps", "Times that all a source covers was invalidated, because events may have been lost.", |source| {
                source.gaps
            }),
            ("larder_source_connects", "Times that a source was connected.", |source| source.connects),
        ];
        for (name, help, of) in counters {
            self.begin(name, Kind::Counter, help);
            for source in &named {
                self.add(&[("source", &source.name)], Value::Whole(of(source)));
            }
        }
        self.begin("larder_source_under_way", Kind::Gauge, "Events of a source that wait here, or are being carried out.");
        for source in &named {
            self.add(&[("source", &source.name)], Value::Whole(source.under_way));
        }
    }
}

/// Somebody may have configured a namespace that is called as what is counted together.
fn one_of_each_name(all: &[NamespaceStats]) -> Vec<NamespaceStats> {
    let mut each: Vec<NamespaceStats> = Vec::with_capacity(all.len());
    for stats in all {
        match each.iter_mut().find(|known| known.name == stats.name) {
            Some(known) => known.add(stats),
            None => each.push(stats.clone()),
        }
    }
    each
}

/// The bounds, in seconds and in nanoseconds.
pub fn bounds() -> impl Iterator<Item = (f64, u64)> {
    BOUNDS_NS.map(|doublings| 1u64 << doublings).map(|ns| (ns as f64 / 1e9, ns))
}

fn buckets(latencies: &Latencies) -> Buckets {
    let mut held = latencies.buckets().peekable();
    let mut below = 0;
    let up_to = bounds().map(|(seconds, ns)| {
        while let Some((_, n)) = held.next_if(|(end, _)| end.as_nanos() <= u128::from(ns)) {
            below += n;
        }
        (seconds, below)
    });
    Buckets { up_to: up_to.collect(), count: latencies.count(), sum: latencies.sum().as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bounds_are_ends_of_buckets() {
        // A duration just below each bound, and the bound itself, which counts above it.
        for (_, ns) in bounds() {
            for (at, below) in [(ns - 1, 1), (ns, 0)] {
                let bytes = latencies_of(at);
                let found = buckets(&bytes);
                let (_, n) = found.up_to.iter().copied().find(|(bound, _)| *bound == ns as f64 / 1e9).unwrap();
                assert_eq!((n, found.count), (below, 1), "{at} ns at the bound of {ns} ns");
            }
        }
    }

    /// One duration. Only the cache itself records them: so by the bytes in which they are kept.
    fn latencies_of(ns: u64) -> Latencies {
        let bucket = if ns < 16 { ns } else { u64::from(ns.ilog2() - 3) * 16 + (ns >> (ns.ilog2() - 4) & 15) };
        let number = |mut n: u64| {
            let mut bytes = Vec::new();
            while n >= 0x80 {
                bytes.push(n as u8 | 0x80);
                n >>= 7;
            }
            bytes.push(n as u8);
            bytes
        };
        let latencies = Latencies::from_bytes(&[number(ns), number(bucket), vec![1]].concat()).expect("the form is documented");
        let (end, _) = latencies.buckets().next().unwrap();
        assert!(end > Duration::from_nanos(ns) && end <= Duration::from_nanos(ns + ns / 16 + 1));
        latencies
    }
}
