//! A report for a terminal.

use std::fmt::{Error, Write};

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};

use super::layout::{self, Sheet};
use super::words::{count, percent};
use super::{Point, Report};

/// The eighths of a block: a line of them is a chart.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Blocks in a line at most; where there are more buckets, neighbours share one.
const BLOCKS_MAX: usize = 62;

/// Findings and sentences are broken at this width.
const WIDTH: usize = 100;

/// The report.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut text = String::new();
    let title = layout::title(report);
    writeln!(text, "{title}\n{}\n", layout::subtitle(report))?;
    for sentence in layout::summary(report) {
        writeln!(text, "{sentence}")?;
    }
    if !report.has_data() {
        return Ok(text);
    }
    charts(&mut text, report)?;
    for sheet in layout::sheets(report) {
        write!(text, "\n{}\n{}\n", sheet.title, table(&sheet))?;
    }
    if !report.findings.is_empty() {
        text += "\nFindings\n";
    }
    for (n, finding) in report.findings.iter().enumerate() {
        let of = finding.namespace.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        writeln!(text, "\n{}. {of}{}", n + 1, finding.title)?;
        for (what, words) in [("evidence", &finding.evidence), ("effect", &finding.effect), ("do", &finding.advice)] {
            wrapped(&mut text, what, words)?;
        }
    }
    Ok(text)
}

fn charts(text: &mut String, report: &Report) -> Result<(), Error> {
    let together = report.series.len().div_ceil(BLOCKS_MAX).max(1);
    let blocks = || report.series.chunks(together);
    let sum = |points: &[Point], of: fn(&Point) -> u64| points.iter().map(of).sum::<u64>();
    let reads = blocks().map(|points| points.iter().any(|point| point.recorded).then(|| sum(points, |point| point.requests) as f64));
    let rate = |points: &[Point]| {
        let reads = sum(points, |point| point.requests);
        (reads > 0).then(|| sum(points, |point| point.hits) as f64 / reads as f64)
    };
    let most = reads.clone().flatten().fold(0.0, f64::max);
    writeln!(text, "\nreads     {}  up to {}", line(reads, 0.0), count(most as u64))?;
    let (least, best) = blocks().filter_map(rate).fold((1.0, 0.0), |(least, best), rate| (f64::min(least, rate), f64::max(best, rate)));
    if best > least {
        writeln!(text, "hit rate  {}  {} to {}", line(blocks().map(rate), least), percent(least), percent(best))?;
    }
    Ok(())
}

/// A chart in a line, from a floor up to the largest value. What is missing is left out.
fn line(values: impl Iterator<Item = Option<f64>> + Clone, floor: f64) -> String {
    let top = values.clone().flatten().fold(floor, f64::max);
    let block = |value: f64| {
        let share = if top > floor { (value - floor) / (top - floor) } else { 1.0 };
        BLOCKS[((share * 7.0).round() as usize).min(7)]
    };
    values.map(|value| value.map_or(' ', block)).collect()
}

fn table(sheet: &Sheet) -> Table {
    let mut table = Table::new();
    // One line under the headings; a line between all rows would be more line than row.
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    let aligned = |(column, text): (usize, String)| {
        let cell = Cell::new(text);
        if column == 0 { cell } else { cell.set_alignment(CellAlignment::Right) }
    };
    table.set_header(sheet.head.iter().map(|head| (*head).to_owned()).enumerate().map(aligned));
    for row in &sheet.rows {
        table.add_row(row.cells.iter().cloned().enumerate().map(aligned));
    }
    table
}

fn wrapped(text: &mut String, what: &str, words: &str) -> Result<(), Error> {
    let indent = 13;
    let mut at = indent;
    write!(text, "   {what:<10}")?;
    for word in words.split(' ') {
        let length = word.chars().count();
        if at > indent && at + 1 + length > WIDTH {
            write!(text, "\n{:indent$}", "")?;
            at = indent;
        } else if at > indent {
            text.push(' ');
            at += 1;
        }
        text.push_str(word);
        at += length;
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_blocks_is_a_chart() {
        assert_eq!(line([Some(0.0), Some(7.0), None, Some(14.0)].into_iter(), 0.0), "▁▅ █");
        assert_eq!(line([Some(0.5), Some(0.5)].into_iter(), 0.5), "██");
        assert_eq!(line([None].into_iter(), 0.0), " ");
    }

    #[test]
    fn long_words_are_broken_between_and_not_within() {
        let mut text = String::new();
        wrapped(&mut text, "do", &"word ".repeat(40)).expect("it is written");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().count() >= 2);
    }
}
