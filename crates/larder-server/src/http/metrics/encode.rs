//! Metrics as text: the format of Prometheus (0.0.4), and OpenMetrics (1.0). It knows families and samples, and nothing of caches.

use std::fmt::{self, Write};

/// A family: what all its samples have in common.
pub struct Family {
    /// The name, without the endings that samples of a kind have.
    pub name: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// What they say, in a sentence.
    pub help: &'static str,
    /// The samples, each with other labels.
    pub samples: Vec<Sample>,
}

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A size or a state.
    Gauge,
    /// How often amounts were up to certain bounds.
    Histogram,
    /// A text, in labels.
    Info,
}

/// One series, now.
pub struct Sample {
    /// Names and values, which may be any text.
    pub labels: Vec<(&'static str, String)>,
    /// Its number or numbers.
    pub value: Value,
}

/// The number of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
    /// A histogram.
    Buckets(Buckets),
}

/// How often amounts were up to certain bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// A bound, and how often an amount was up to it: rising, and those below included.
    pub up_to: Vec<(f64, u64)>,
    /// How often in all.
    pub count: u64,
    /// The sum of all amounts.
    pub sum: f64,
}

/// The format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What answers in this format say they are.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that whoever sends this in `Accept` likes best. Who likes neither, or says nothing, gets Prometheus' own.
    pub fn wanted(accept: &str) -> Format {
        let weight = |format: Format| accept.split(',').map(|range| format.weight_in(range)).fold(0.0, f64::max);
        let (open, own) = (weight(Format::OpenMetrics), weight(Format::Prometheus));
        if open > 0.0 && open >= own { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// How much a media range likes this format: its `q`, zero where the range does not cover it.
    fn weight_in(self, range: &str) -> f64 {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (own, version) = match self {
            Format::Prometheus => ("text/plain", "0.0.4"),
            Format::OpenMetrics => ("application/openmetrics-text", "1.0.0"),
        };
        // A range that is open to anything is no wish for the newer format.
        let open = self == Format::Prometheus && matches!(essence.as_str(), "text/*" | "*/*");
        let mut weight = 1.0;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                ("version", asked) if asked != version => return 0.0,
                ("q", q) => weight = q.parse().unwrap_or(0.0),
                _ => {}
            }
        }
        if essence == own || open { weight } else { 0.0 }
    }
}

/// All families, in their order.
pub fn encode(families: &[Family], format: Format) -> String {
    let mut text = String::with_capacity(32 << 10);
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        write_family(&mut text, family, format).expect("a string takes all that fits into memory");
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Units, as names end in them.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

fn write_family(text: &mut String, family: &Family, format: Format) -> fmt::Result {
    let Family { name, kind, help, samples } = family;
    // What the family is called: Prometheus knows no endings, so that there the family of a counter is called as its samples are.
    let ending = match kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::Histogram => "",
    };
    let (said_ending, kind_said) = match (format, kind) {
        (Format::OpenMetrics, kind) => ("", kind.said()),
        (Format::Prometheus, Kind::Info) => (ending, "gauge"),
        (Format::Prometheus, kind) => (ending, kind.said()),
    };
    writeln!(text, "# HELP {name}{said_ending} {}", Escaped { text: help, quotes: format == Format::OpenMetrics })?;
    writeln!(text, "# TYPE {name}{said_ending} {kind_said}")?;
    if let Some(unit) = UNITS.iter().find(|unit| name.strip_suffix(**unit).is_some_and(|before| before.ends_with('_')))
        && format == Format::OpenMetrics
    {
        writeln!(text, "# UNIT {name} {unit}")?;
    }
    for Sample { labels, value } in samples {
        match value {
            Value::Whole(n) => writeln!(text, "{name}{ending}{} {n}", Labels(labels, None))?,
            Value::Real(n) => writeln!(text, "{name}{ending}{} {}", Labels(labels, None), Number(*n))?,
            Value::Buckets(buckets) => write_buckets(text, name, labels, buckets)?,
        }
    }
    Ok(())
}

fn write_buckets(text: &mut String, name: &str, labels: &[(&'static str, String)], Buckets { up_to, count, sum }: &Buckets) -> fmt::Result {
    for (bound, n) in up_to.iter().copied().chain([(f64::INFINITY, *count)]) {
        writeln!(text, "{name}_bucket{} {n}", Labels(labels, Some(bound)))?;
    }
    writeln!(text, "{name}_sum{} {}", Labels(labels, None), Number(*sum))?;
    writeln!(text, "{name}_count{} {count}", Labels(labels, None))
}

impl Kind {
    fn said(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

/// The labels of a series, and the bound of a bucket.
struct Labels<'a>(&'a [(&'static str, String)], Option<f64>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Labels(labels, bound) = self;
        if labels.is_empty() && bound.is_none() {
            return Ok(());
        }
        let mut before = '{';
        for (name, value) in *labels {
            write!(f, "{before}{name}=\"{}\"", Escaped { text: value, quotes: true })?;
            before = ',';
        }
        if let Some(bound) = bound {
            write!(f, "{before}le=\"{}\"", Number(*bound))?;
        }
        f.write_char('}')
    }
}

/// A text between quotes, or behind a family's name, where quotes stand for themselves in Prometheus' own format.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quotes => f.write_str("\\\"")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number as both formats write it. Whole ones have a point, since OpenMetrics compares bounds as texts.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n.is_nan() => f.write_str("NaN"),
            n if n.is_infinite() => f.write_str(if n > 0.0 { "+Inf" } else { "-Inf" }),
            n if n.fract() == 0.0 && n.abs() < 1e15 => write!(f, "{n:.1}"),
            n => write!(f, "{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let sample = |labels: &[(&'static str, &str)], value| Sample {
            labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            value,
        };
        let buckets = Buckets { up_to: vec![(0.5, 1), (1.0, 3)], count: 4, sum: 3.25 };
        vec![
            Family {
                name: "a_reads",
                kind: Kind::Counter,
                help: "Reads, \"all\".",
                samples: vec![sample(&[("n", "x\"\\\n")], Value::Whole(7)), sample(&[], Value::Whole(0))],
            },
            Family { name: "a_bytes", kind: Kind::Gauge, help: "Bytes.", samples: vec![sample(&[], Value::Real(1.5))] },
            Family { name: "a_nothing", kind: Kind::Gauge, help: "Left out.", samples: Vec::new() },
            Family {
                name: "a_time_seconds",
                kind: Kind::Histogram,
                help: "Time.",
                samples: vec![sample(&[("n", "x")], Value::Buckets(buckets))],
            },
            Family { name: "a_build", kind: Kind::Info, help: "Build.", samples: vec![sample(&[("version", "1")], Value::Whole(1))] },
        ]
    }

    #[test]
    fn prometheus_is_written_as_it_asks_for_it() {
        let expected = "# HELP a_reads_total Reads, \"all\".\n# TYPE a_reads_total counter\n\
            a_reads_total{n=\"x\\\"\\\\\\n\"} 7\na_reads_total 0\n\
            # HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 1.5\n\
            # HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n\
            a_time_seconds_bucket{n=\"x\",le=\"0.5\"} 1\na_time_seconds_bucket{n=\"x\",le=\"1.0\"} 3\n\
            a_time_seconds_bucket{n=\"x\",le=\"+Inf\"} 4\na_time_seconds_sum{n=\"x\"} 3.25\na_time_seconds_count{n=\"x\"} 4\n\
            # HELP a_build_info Build.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n";
        assert_eq!(encode(&families(), Format::Prometheus), expected);
    }

    #[test]
    fn openmetrics_has_units_and_an_end() {
        let text = encode(&families(), Format::OpenMetrics);
        for part in [
            "# HELP a_reads Reads, \\\"all\\\".\n# TYPE a_reads counter\na_reads_total{",
            "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n",
            "# TYPE a_time_seconds histogram\n# UNIT a_time_seconds seconds\n",
            "# TYPE a_build info\na_build_info{version=\"1\"} 1\n# EOF\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("a_nothing"));
    }

    #[test]
    fn numbers_are_exact_and_never_words_that_nobody_reads() {
        let written = |n: f64| Number(n).to_string();
        assert_eq!([0.0, 2.0, 0.000_000_256, -1.5].map(written), ["0.0", "2.0", "0.000000256", "-1.5"]);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(written), ["NaN", "+Inf", "-Inf"]);
        assert_eq!(written(1e18).parse(), Ok(1e18));
    }

    #[test]
    fn whoever_asks_gets_the_format_that_they_like_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=many", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html", Format::Prometheus),
            ("", Format::Prometheus),
            (";;,,;q=,=", Format::Prometheus),
        ] {
            assert_eq!(Format::wanted(accept), wanted, "{accept}");
        }
    }
}
