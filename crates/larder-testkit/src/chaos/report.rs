//! What a run was, in a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::fault::{Damage, Fault};
use super::site::Topology;

/// How many operations there were of each kind, and the slowest.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often all that live were seen to have applied a change.
    pub spreads: u64,
    kinds: BTreeMap<&'static str, Kind>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    count: u64,
    refused: u64,
    slowest: Duration,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, kind: &'static str, took: Duration, refused: bool) {
        let of_kind = self.kinds.entry(kind).or_default();
        of_kind.count += 1;
        of_kind.refused += u64::from(refused);
        of_kind.slowest = of_kind.slowest.max(took);
    }

    /// Takes in another's.
    pub fn join(&mut self, other: Tally) {
        self.spreads += other.spreads;
        for (kind, other) in other.kinds {
            let own = self.kinds.entry(kind).or_default();
            own.count += other.count;
            own.refused += other.refused;
            own.slowest = own.slowest.max(other.slowest);
        }
    }

    /// All operations.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|kind| kind.count).sum()
    }

    /// The slowest of all.
    pub fn slowest(&self) -> (&'static str, Duration) {
        let all = self.kinds.iter().map(|(kind, of_kind)| (*kind, of_kind.slowest));
        all.max_by_key(|(_, took)| *took).unwrap_or(("none", Duration::ZERO))
    }
}

/// What one part of a run was, over one kind of Redis.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The operations.
    pub tally: Tally,
    /// What was broken.
    pub damage: Damage,
    /// Changes that were queued, those of them that were seen to arrive, and those that died with their instance.
    pub queued: [u64; 3],
    /// How often all was quiet and everything was read.
    pub quiet: u64,
    /// Reads that found a value whose age could be judged.
    pub judged: u64,
    /// What was broken that must not be.
    pub violations: Vec<String>,
}

impl Part {
    /// Takes in another of the same kind.
    pub fn join(&mut self, other: Part) {
        self.tally.join(other.tally);
        self.damage.join(other.damage);
        (0..3).for_each(|at| self.queued[at] += other.queued[at]);
        self.quiet += other.quiet;
        self.judged += other.judged;
        self.violations.extend(other.violations);
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What was tested, for people.
    pub of: String,
    /// How long it took.
    pub took: Duration,
    /// Its parts.
    pub parts: Vec<(Topology, Part)>,
}

impl Report {
    /// All violations.
    pub fn violations(&self) -> impl Iterator<Item = (Topology, &String)> {
        self.parts.iter().flat_map(|(topology, part)| part.violations.iter().map(|violation| (*topology, violation)))
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, number: impl Fn(&Part) -> u64) -> fmt::Result {
        let numbers: Vec<u64> = self.parts.iter().map(|(_, part)| number(part)).collect();
        write!(f, "{name:<36}")?;
        numbers.iter().try_for_each(|number| write!(f, "{:>12}", grouped(*number)))?;
        writeln!(f, "{:>12}", grouped(numbers.iter().sum()))
    }

    fn times(&self, f: &mut fmt::Formatter<'_>, name: &str, time: impl Fn(&Part) -> Duration) -> fmt::Result {
        let times: Vec<Duration> = self.parts.iter().map(|(_, part)| time(part)).collect();
        write!(f, "{name:<36}")?;
        times.iter().try_for_each(|time| write!(f, "{:>12}", seconds(*time)))?;
        writeln!(f, "{:>12}", seconds(times.into_iter().max().unwrap_or_default()))
    }

    fn faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row(f, "faults", |part| part.damage.faults.values().sum())?;
        for fault in Fault::ALL {
            if self.parts.iter().any(|(_, part)| part.damage.faults.contains_key(fault)) {
                self.row(f, &format!("  {}", fault.name()), |part| part.damage.faults.get(fault).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, of, took, parts } = self;
        writeln!(f, "chaos: {of}, {}, seed {seed}\n", minutes(*took))?;
        write!(f, "{:<36}", "")?;
        parts.iter().try_for_each(|(topology, _)| write!(f, "{topology:>12}"))?;
        writeln!(f, "{:>12}", "all")?;
        self.row(f, "operations", |part| part.tally.total())?;
        let mut kinds: Vec<&str> = parts.iter().flat_map(|(_, part)| part.tally.kinds.keys().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let of = |part: &Part, kind: &str| part.tally.kinds.get(kind).copied().unwrap_or_default();
        for kind in kinds {
            self.row(f, &format!("  {kind}"), |part| of(part, kind).count)?;
        }
        self.row(f, "refused or failed, as they may", |part| part.tally.kinds.values().map(|kind| kind.refused).sum())?;
        self.row(f, "answers whose age was judged", |part| part.judged)?;
        self.row(f, "changes that all were seen to apply", |part| part.tally.spreads)?;
        self.row(f, "changes queued", |part| part.queued[0])?;
        self.row(f, "  of these, seen to arrive", |part| part.queued[1])?;
        self.row(f, "  of these, died with their instance", |part| part.queued[2])?;
        self.faults(f)?;
        self.row(f, "recoveries", |part| part.damage.recoveries)?;
        self.times(f, "  the slowest", |part| part.damage.slowest_recovery)?;
        self.row(f, "quiet moments, all tiers read", |part| part.quiet)?;
        self.times(f, "slowest operation", |part| part.tally.slowest().1)?;
        write!(f, "  which was")?;
        write!(f, "{:25}", "")?;
        parts.iter().try_for_each(|(_, part)| write!(f, "{:>12}", part.tally.slowest().0))?;
        writeln!(f)?;
        self.row(f, "VIOLATIONS", |part| part.violations.len() as u64)
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} minutes", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_column_for_each_kind_and_one_for_all() {
        let mut part = Part { judged: 1_234_567, ..Part::default() };
        part.tally.count("get", Duration::from_millis(1_250), true);
        part.damage.faults.insert(Fault::Flushed, 3);
        let parts = vec![(Topology::Single, part.clone()), (Topology::Cluster, part)];
        let text = Report { seed: 7, of: "3 instances".to_owned(), took: Duration::from_secs(61), parts }.to_string();
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing in\n{text}"));
            line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(text.contains("1:01 minutes, seed 7"));
        assert_eq!(row("answers whose age was judged"), ["1,234,567", "1,234,567", "2,469,134"]);
        assert_eq!(row("  FLUSHALL"), ["3", "3", "6"]);
        assert_eq!(row("slowest operation"), ["1.25", "s", "1.25", "s", "1.25", "s"]);
        assert_eq!(row("VIOLATIONS"), ["0", "0", "0"]);
    }
}
