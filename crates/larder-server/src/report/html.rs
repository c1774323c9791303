//! A report as a page of one file, which needs nothing else to be looked at or printed.

use std::fmt::Error;

use askama::Template;

use super::chart::{Chart, Line, svg};
use super::layout::{self, Sheet};
use super::words::{change, is_better, value};
use super::{Figure, Finding, Point, Report, Unit};

/// The figures that stand on top, in large.
const CARDS: [&str; 6] = ["requests", "hit_rate", "read_p99", "load_time_saved", "error_rate", "memory"];

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    subtitle: String,
    summary: String,
    cards: Vec<Card>,
    charts: Vec<Drawn>,
    findings: &'a [Finding],
    has_data: bool,
    /// Wide ones first: they have a row of the page for themselves.
    wide: Vec<Sheet>,
    narrow: Vec<Sheet>,
}

struct Card {
    title: String,
    value: String,
    change: String,
    class: &'static str,
}

struct Drawn {
    title: &'static str,
    legend: Vec<(&'static str, &'static str)>,
    svg: String,
}

/// The report.
pub fn render(report: &Report) -> Result<String, Error> {
    let (narrow, wide) = layout::sheets(report).into_iter().partition(|sheet| sheet.head.len() < 4 || sheet.title == "Misses");
    let mut page = Page {
        title: layout::title(report),
        subtitle: layout::subtitle(report),
        summary: layout::summary(report).join(" "),
        cards: Vec::new(),
        charts: Vec::new(),
        findings: &report.findings,
        has_data: report.has_data(),
        wide,
        narrow,
    };
    if page.has_data {
        page.cards = CARDS.iter().filter_map(|name| report.figures.iter().find(|figure| figure.name == *name)).map(card).collect();
        for chart in charts(report) {
            let legend = chart.lines.iter().rev().map(|line| (line.class, line.name)).collect();
            page.charts.extend(svg(&chart)?.map(|svg| Drawn { title: chart.title, legend, svg }));
        }
    }
    page.render().map_err(|_| Error)
}

fn card(figure: &Figure) -> Card {
    Card {
        title: figure.title.clone(),
        value: figure.now.map_or_else(|| "no data".to_owned(), |now| value(figure.unit, now)),
        change: change(figure),
        class: class_of(is_better(figure)),
    }
}

fn class_of(better: Option<bool>) -> &'static str {
    match better {
        Some(true) => "better",
        Some(false) => "worse",
        None => "",
    }
}

fn charts(report: &Report) -> Vec<Chart> {
    let of = |points: &[Point], value: &dyn Fn(&Point) -> Option<f64>| -> Vec<Option<f64>> {
        points.iter().map(|point| value(point).filter(|_| point.recorded)).collect()
    };
    let now = |value: &dyn Fn(&Point) -> Option<f64>| of(&report.series, value);
    // Drawn under the period's own: as many buckets as that has.
    let before =
        |value: &dyn Fn(&Point) -> Option<f64>| of(&report.series_before[..report.series_before.len().min(report.series.len())], value);
    let chart = |title, unit, lines| Chart {
        title,
        unit,
        lines,
        times: report.series.iter().map(|point| time(&point.at)).collect(),
        logarithmic: false,
        from_least: false,
    };
    let requests: &dyn Fn(&Point) -> Option<f64> = &|point| Some(point.requests as f64);
    let hits: &dyn Fn(&Point) -> Option<f64> = &|point| Some(point.hits as f64);
    let rate: &dyn Fn(&Point) -> Option<f64> = &|point| point.hit_rate;
    let line = |name, class, values, filled| Line { name, class, values, filled };
    vec![
        chart(
            "Reads",
            Unit::Count,
            vec![
                line("the period before", "before", before(requests), false),
                line("misses", "miss", now(requests), true),
                line("hits", "hit", now(hits), true),
            ],
        ),
        Chart {
            from_least: true,
            ..chart(
                "Hit rate",
                Unit::Share,
                vec![line("the period before", "before", before(rate), false), line("hit rate", "hit", now(rate), false)],
            )
        },
        Chart {
            logarithmic: true,
            ..chart(
                "How long reads took",
                Unit::Seconds,
                vec![
                    line("median", "hit", now(&|point| point.p50_seconds), false),
                    line("99 in 100 under", "miss", now(&|point| point.p99_seconds), false),
                ],
            )
        },
        chart("Entries invalidated", Unit::Count, vec![line("entries", "miss", now(&|point| Some(point.invalidated as f64)), true)]),
        chart(
            "Memory",
            Unit::Bytes,
            vec![
                line("the period before", "before", before(&|point| Some(point.bytes)), false),
                line("in use", "hit", now(&|point| Some(point.bytes)), true),
            ],
        ),
        chart("Errors", Unit::Count, vec![line("errors", "bad", now(&|point| Some(point.errors as f64)), true)]),
    ]
}

/// A bucket's moment for the axis: the time of day, or the day where buckets are days.
fn time(at: &str) -> String {
    match at.split_once('T') {
        Some((_, time)) if at.len() > 10 => time.get(..5).unwrap_or(time).to_owned(),
        _ => at.get(5..).unwrap_or(at).to_owned(),
    }
}
