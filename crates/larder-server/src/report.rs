//! Reports: what the cache did in a period, against the period before, and what would make it better.
//!
//! ```text
//!   period.rs    which stretch of time           history ---> gather.rs ---> Report ---> text, markdown, csv, html, JSON
//!   gather.rs    rollups -> numbers                  \                   /
//!   trend.rs     did it change, or is it noise?       `--> findings.rs -'
//! ```
//!
//! A report is a value: [`Report`] is what `--format json` prints, and every other form shows the same numbers. All of them come from the
//! history; where there is nothing to say, it says so.

mod ask;
mod chart;
mod csv;
mod findings;
mod gather;
mod html;
mod layout;
mod markdown;
mod period;
#[cfg(test)]
mod tests;
mod text;
mod trend;
mod words;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use findings::Code;

pub use ask::{ReportError, of_history};
pub use findings::Finding;
pub use gather::{Recorded, gather};
pub use period::{Asked, Frame, Kind, Period, PeriodError, zone};
pub use trend::{Change, Trend};

/// What happened in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `hourly`, `daily`, `weekly`, `monthly`; null for a period between two moments.
    pub kind: Option<Kind>,
    /// The time zone of all times in it.
    pub zone: String,
    /// The namespace that it is about; null for all.
    pub namespace: Option<String>,
    /// The period.
    pub period: Covered,
    /// What it is compared with.
    pub before: Covered,
    /// The instances whose history it is made of.
    pub instances: Vec<String>,
    /// The numbers of the whole period. What has no value had no data.
    pub figures: Vec<Figure>,
    /// Each namespace with any reads, writes or entries, the most read first.
    pub namespaces: Vec<NamespaceLine>,
    /// When the period was at its extremes.
    pub peaks: Vec<Peak>,
    /// Reads that were not answered by an entry, by why; the largest first.
    pub misses: Vec<Part>,
    /// Entries that left memory, by why.
    pub removals: Vec<Part>,
    /// Invalidations by kind and where they came from.
    pub invalidations: Vec<Part>,
    /// Errors by what failed.
    pub errors: Vec<Part>,
    /// The keys that were read most.
    pub hot_keys: Vec<KeyLine>,
    /// The keys whose loads took longest in sum, in milliseconds.
    pub costly_keys: Vec<KeyLine>,
    /// The largest entries, in bytes.
    pub largest: Vec<KeyLine>,
    /// What would make it better, the largest effect first.
    pub findings: Vec<Finding>,
    /// The period in buckets.
    pub series: Vec<Point>,
    /// The period before in buckets.
    pub series_before: Vec<Point>,
}

impl Report {
    /// Leaves out the keys that somebody may not read, and what was found of single keys, which names them.
    pub fn shown_to(&mut self, may_read: impl Fn(&[u8]) -> bool, reads_all: bool) {
        if reads_all {
            return;
        }
        // What was escaped is not the key any more, so that nobody knows whether they may read it.
        let is_itself = |key: &str| !key.contains(['\\', '\u{fffd}']);
        for lines in [&mut self.hot_keys, &mut self.costly_keys, &mut self.largest] {
            lines.retain(|line| is_itself(&line.key) && may_read(line.key.as_bytes()));
        }
        self.findings.retain(|finding| !matches!(finding.code, Code::HotKey | Code::SlowLoads | Code::OversizedValues));
    }
}

/// A period, and how much of it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Covered {
    /// Its begin, as RFC 9557 has it.
    pub from: String,
    /// Its end, which does not belong to it.
    pub to: String,
    /// The share of its minutes for which there is data, 0 to 1.
    pub covered: f64,
}

/// A number of the period, and of the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// What it is in words.
    pub title: String,
    /// Its unit.
    pub unit: Unit,
    /// Its value; null where there was no data.
    pub now: Option<f64>,
    /// That of the period before.
    pub before: Option<f64>,
    /// Whether more of it is good; null where it is neither.
    pub more_is_better: Option<bool>,
    /// Whether it changed.
    pub change: Change,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A number of things.
    Count,
    /// A share, 0 to 1.
    Share,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A namespace's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceLine {
    /// Its name.
    pub name: String,
    /// All reads.
    pub requests: u64,
    /// Hits over requests; null without requests.
    pub hit_rate: Option<f64>,
    /// That of the period before.
    pub hit_rate_before: Option<f64>,
    /// The median of its reads.
    pub p50_seconds: Option<f64>,
    /// What 99 in a hundred did not exceed.
    pub p99_seconds: Option<f64>,
    /// Loads that were carried out.
    pub loads: u64,
    /// What its loads took on average.
    pub load_mean_seconds: Option<f64>,
    /// About how long its hits would have taken to load; null where nothing was loaded in either period.
    pub saved_seconds: Option<f64>,
    /// About how many different keys were held or asked for.
    pub keys: u64,
    /// Mean bytes in memory.
    pub bytes: f64,
    /// Reads that ended with an error.
    pub errors: u64,
}

/// When a number was at its extreme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// What in words.
    pub title: String,
    /// Its unit.
    pub unit: Unit,
    /// How much.
    pub value: f64,
    /// The bucket's begin.
    pub at: String,
}

/// A part of a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How many.
    pub now: u64,
    /// How many there were in the period before.
    pub before: u64,
}

/// A key that stands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyLine {
    /// The key; bytes that are no text are escaped.
    pub key: String,
    /// Reads, milliseconds or bytes.
    pub amount: f64,
    /// Its share of all; null where that says nothing.
    pub share: Option<f64>,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its begin.
    pub at: String,
    /// Its begin in milliseconds since 1970.
    pub at_ms: u64,
    /// Its end.
    pub end_ms: u64,
    /// Whether there is any data for it.
    pub recorded: bool,
    /// All reads.
    pub requests: u64,
    /// Reads that were answered without a load.
    pub hits: u64,
    /// Hits over requests; null without requests.
    pub hit_rate: Option<f64>,
    /// The mean of the reads.
    pub mean_seconds: Option<f64>,
    /// The median of the reads.
    pub p50_seconds: Option<f64>,
    /// What 99 in a hundred did not exceed.
    pub p99_seconds: Option<f64>,
    /// Loads that were carried out.
    pub loads: u64,
    /// Reads that ended with an error.
    pub errors: u64,
    /// Entries that left memory because they were invalidated, or were found so.
    pub invalidated: u64,
    /// Mean bytes in memory.
    pub bytes: f64,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal
    Text,
    /// Everything, for programs
    Json,
    /// The buckets, for a spreadsheet
    Csv,
    /// A page of one file, with charts, that prints well
    Html,
    /// For a wiki, a chat or an issue
    Md,
}

impl Format {
    /// Its media type.
    pub fn media(self) -> &'static str {
        match self {
            Format::Text => "text/plain; charset=utf-8",
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Html => "text/html; charset=utf-8",
            Format::Md => "text/markdown; charset=utf-8",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Format::value_variants().iter().copied().find(|format| format.to_possible_value().is_some_and(|value| value.get_name() == name))
    }
}

impl Report {
    /// Whether anything was recorded in the period.
    pub fn has_data(&self) -> bool {
        self.period.covered > 0.0
    }

    /// The report in a form.
    ///
    /// # Errors
    /// When the form cannot be written, which says nothing about the report.
    pub fn render(&self, format: Format) -> Result<String, std::fmt::Error> {
        match format {
            Format::Text => text::render(self),
            Format::Json => serde_json::to_string_pretty(self).map(|json| json + "\n").map_err(|_| std::fmt::Error),
            Format::Csv => csv::render(self),
            Format::Html => html::render(self),
            Format::Md => markdown::render(self),
        }
    }
}
