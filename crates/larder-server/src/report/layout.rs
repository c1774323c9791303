//! What a report says in tables and sentences, which all forms for people share.

use super::words::{bytes, change, count, duration, is_better, number, percent, plural, value, value_or_dash};
use super::{KeyLine, Part, Report, Unit};

/// A table.
pub struct Sheet {
    /// What it shows.
    pub title: &'static str,
    /// The heading of each column; the first is of names, all others of numbers.
    pub head: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row of a table.
pub struct Row {
    /// A cell for each column.
    pub cells: Vec<String>,
    /// Whether it tells of something that got better or worse.
    pub better: Option<bool>,
}

impl Row {
    fn new(cells: impl IntoIterator<Item = String>) -> Self {
        Row { cells: cells.into_iter().collect(), better: None }
    }
}

/// What the report is, and of what.
pub fn title(report: &Report) -> String {
    let kind = report.kind.map_or("report", |kind| match kind {
        super::Kind::Hourly => "hourly report",
        super::Kind::Daily => "daily report",
        super::Kind::Weekly => "weekly report",
        super::Kind::Monthly => "monthly report",
    });
    let of = report.namespace.as_ref().map_or_else(String::new, |name| format!(" of namespace {name}"));
    format!("larder: {kind}{of}")
}

/// The period, and what it is compared with.
pub fn subtitle(report: &Report) -> String {
    let from = match &report.instances[..] {
        [] => String::new(),
        // What stands for a name where none was given is long, and its beginning tells it from others.
        [one] => format!(", instance {}", one.get(..8).filter(|_| one.len() == 32).unwrap_or(one)),
        several => format!(", {} together", plural(several.len() as u64, "instance")),
    };
    format!("{} to {} ({}){from}", moment(&report.period.from), moment(&report.period.to), report.zone)
}

/// A moment without its zone, which is the same for all.
fn moment(rfc9557: &str) -> String {
    let minutes = rfc9557.get(..16).unwrap_or(rfc9557);
    minutes.replacen('T', " ", 1)
}

/// The report in a few sentences.
pub fn summary(report: &Report) -> Vec<String> {
    if !report.has_data() {
        return vec!["Nothing was recorded in this period: no server wrote a history then, or it is older than what is kept.".to_owned()];
    }
    let figure = |name: &str| report.figures.iter().find(|figure| figure.name == name);
    let now = |name: &str| figure(name).and_then(|figure| figure.now);
    let mut sentences = Vec::new();
    match (now("requests"), now("hit_rate")) {
        (Some(reads), Some(rate)) => {
            let trend = figure("hit_rate").map(change).unwrap_or_default();
            sentences.push(format!("{} reads, {} of them hits ({trend}).", number(reads), percent(rate)));
        }
        _ => sentences.push("Nobody read in this period.".to_owned()),
    }
    if let Some(saved) = now("load_time_saved").filter(|saved| *saved > 0.0) {
        sentences.push(format!("Hits saved about {} of loading.", duration(saved)));
    }
    if report.period.covered < 0.995 {
        sentences.push(format!("Only {} of the period was recorded.", percent(report.period.covered)));
    }
    if report.before.covered == 0.0 {
        sentences.push("There is nothing to compare it with: the period before was not recorded.".to_owned());
    } else if report.before.covered < 0.995 {
        sentences.push(format!("Of the period before, {} was recorded.", percent(report.before.covered)));
    }
    sentences.push(match report.findings.len() {
        0 => "Nothing was found that should be changed.".to_owned(),
        n => format!("{} below.", plural(n as u64, "finding")),
    });
    sentences
}

/// All tables that have anything to show.
pub fn sheets(report: &Report) -> Vec<Sheet> {
    let sheets = [
        figures(report),
        namespaces(report),
        peaks(report),
        parts("Misses", "why", &report.misses),
        parts("Entries that left memory", "why", &report.removals),
        parts("Invalidations", "of what", &report.invalidations),
        parts("Errors", "what", &report.errors),
        keys("Keys that were read most", "reads", &report.hot_keys, |amount| number(amount.round())),
        keys("Keys that cost most to load", "loading", &report.costly_keys, |ms| duration(ms / 1e3)),
        largest(report),
    ];
    sheets.into_iter().filter(|sheet| !sheet.rows.is_empty()).collect()
}

fn figures(report: &Report) -> Sheet {
    let rows = report.figures.iter().filter(|figure| figure.now.is_some() || figure.before.is_some()).map(|figure| Row {
        cells: vec![
            figure.title.clone(),
            value_or_dash(figure.unit, figure.now),
            value_or_dash(figure.unit, figure.before),
            change(figure),
        ],
        better: is_better(figure),
    });
    Sheet { title: "Figures", head: vec!["", "period", "before", "change"], rows: rows.collect() }
}

fn namespaces(report: &Report) -> Sheet {
    let rows = report.namespaces.iter().map(|line| {
        Row::new([
            line.name.clone(),
            count(line.requests),
            value_or_dash(Unit::Share, line.hit_rate),
            value_or_dash(Unit::Share, line.hit_rate_before),
            value_or_dash(Unit::Seconds, line.p50_seconds),
            value_or_dash(Unit::Seconds, line.p99_seconds),
            count(line.loads),
            value_or_dash(Unit::Seconds, line.load_mean_seconds),
            value_or_dash(Unit::Seconds, line.saved_seconds),
            count(line.keys),
            bytes(line.bytes),
        ])
    });
    let head = vec!["namespace", "reads", "hit rate", "before", "p50", "p99", "loads", "mean load", "saved", "keys", "memory"];
    Sheet { title: "Namespaces", head, rows: rows.collect() }
}

fn peaks(report: &Report) -> Sheet {
    let rows = report.peaks.iter().map(|peak| Row::new([peak.title.clone(), value(peak.unit, peak.value), moment(&peak.at)]));
    Sheet { title: "Peaks", head: vec!["", "value", "when"], rows: rows.collect() }
}

fn parts(title: &'static str, what: &'static str, parts: &[Part]) -> Sheet {
    let all: u64 = parts.iter().map(|part| part.now).sum();
    let share = |part: &Part| if all == 0 { "-".to_owned() } else { percent(part.now as f64 / all as f64) };
    let rows = parts.iter().map(|part| Row::new([part.name.clone(), count(part.now), share(part), count(part.before)]));
    Sheet { title, head: vec![what, "period", "share", "before"], rows: rows.collect() }
}

fn largest(report: &Report) -> Sheet {
    let rows = report.largest.iter().map(|line| Row::new([line.key.clone(), bytes(line.amount)]));
    Sheet { title: "Largest entries", head: vec!["key", "size"], rows: rows.collect() }
}

fn keys(title: &'static str, of: &'static str, keys: &[KeyLine], amount: impl Fn(f64) -> String) -> Sheet {
    let rows = keys.iter().map(|line| Row::new([line.key.clone(), amount(line.amount), value_or_dash(Unit::Share, line.share)]));
    Sheet { title, head: vec!["key", of, "share"], rows: rows.collect() }
}
