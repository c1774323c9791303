//! Charts as SVG, drawn here because a report is one file that needs neither a script nor a network to be looked at or printed.
//!
//! Colours are classes of the page's style, so that a chart follows it into the dark and onto paper.

use std::fmt::{Error, Write};

use super::Unit;
use super::words::value;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// Labels along the time.
const TIMES_SHOWN: usize = 6;

/// Values over time.
pub struct Line {
    /// What they are.
    pub name: &'static str,
    /// The class that gives them their colour.
    pub class: &'static str,
    /// One for each bucket; none where there is no data.
    pub values: Vec<Option<f64>>,
    /// Whether the area under them is filled.
    pub filled: bool,
}

/// A chart.
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// The unit of all its values.
    pub unit: Unit,
    /// What is drawn, from behind to front.
    pub lines: Vec<Line>,
    /// The moment of each bucket.
    pub times: Vec<String>,
    /// Whether each step up is ten times as much: for durations, which span from nanoseconds to seconds.
    pub logarithmic: bool,
    /// Whether the axis begins where the values do, and not at nothing.
    pub from_least: bool,
}

/// The axis of a chart: from the lowest to the highest tick.
struct Axis {
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Axis {
    fn new(chart: &Chart) -> Option<Self> {
        let values = chart.lines.iter().flat_map(|line| &line.values).flatten().copied();
        let values = values.filter(|value| value.is_finite() && (!chart.logarithmic || *value > 0.0));
        let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        if least > most {
            return None;
        }
        let ticks = if chart.logarithmic {
            let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
            (low..=high.max(low + 1)).map(|power| 10f64.powi(power)).collect()
        } else {
            let floor = if chart.from_least { least } else { 0.0 };
            linear(floor, most, chart.unit)
        };
        Some(Axis { ticks, logarithmic: chart.logarithmic })
    }

    /// Where a value is, from 0 at the bottom to 1 at the top.
    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let (low, high) = (scaled(self.ticks[0]), scaled(self.ticks[self.ticks.len() - 1]));
        ((scaled(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - self.place(value))
    }
}

/// About four ticks at numbers that are easily read: 1, 2 and 5 times a power of ten, or of 1,024 for bytes.
fn linear(floor: f64, most: f64, unit: Unit) -> Vec<f64> {
    let span = if most > floor { most - floor } else { most.abs().max(1.0) };
    let rough = span / 4.0;
    let base = if unit == Unit::Bytes { 1024f64.powf(rough.max(1.0).log2().div_euclid(10.0)) } else { 1.0 };
    let power = 10f64.powf((rough / base).log10().floor());
    let step = base * power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| rough / base / power <= *step).unwrap_or(10.0);
    let step = if unit == Unit::Count { step.max(1.0) } else { step };
    let (low, high) = ((floor / step).floor(), (most / step).ceil());
    let high = if high > low { high } else { low + 1.0 };
    (0..=(high - low) as usize).map(|n| (low + n as f64) * step).collect()
}

/// The chart as an element of a page; nothing where there is no value to show.
pub fn svg(chart: &Chart) -> Result<Option<String>, Error> {
    let Some(axis) = Axis::new(chart) else { return Ok(None) };
    let mut svg = String::new();
    write!(svg, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, chart.title)?;
    // Where ticks are many, as over ten powers of ten, only every so many are named.
    let every = axis.ticks.len().div_ceil(6);
    for (n, tick) in axis.ticks.iter().enumerate() {
        let y = axis.y(*tick);
        write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT)?;
        if n.is_multiple_of(every) {
            write!(
                svg,
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 6.0,
                y + 4.0,
                value(chart.unit, *tick)
            )?;
        }
    }
    let buckets = chart.times.len().max(1);
    let x = |n: usize| LEFT + (WIDTH - LEFT - RIGHT) * (n as f64 + 0.5) / buckets as f64;
    for n in (0..chart.times.len()).step_by(chart.times.len().div_ceil(TIMES_SHOWN).max(1)) {
        write!(svg, r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, x(n), HEIGHT - 6.0, chart.times[n])?;
    }
    for line in &chart.lines {
        drawn(&mut svg, line, &axis, x)?;
    }
    svg += "</svg>";
    Ok(Some(svg))
}

/// A line in pieces, because it has gaps where there is no data.
fn drawn(svg: &mut String, line: &Line, axis: &Axis, x: impl Fn(usize) -> f64) -> Result<(), Error> {
    let points: Vec<(usize, Option<f64>)> = line.values.iter().copied().enumerate().collect();
    for piece in points.split(|(_, value)| value.is_none()).filter(|piece| !piece.is_empty()) {
        let mut path = String::new();
        for (n, value) in piece.iter().filter_map(|(n, value)| Some((n, (*value)?))) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{command}{:.1} {:.1}", x(*n), axis.y(value))?;
        }
        let (first, last) = (x(piece[0].0), x(piece[piece.len() - 1].0));
        if let [(_, Some(value))] = piece {
            write!(svg, r#"<circle class="{}" cx="{first:.1}" cy="{:.1}" r="2.5"/>"#, line.class, axis.y(*value))?;
            continue;
        }
        if line.filled {
            let floor = HEIGHT - BOTTOM;
            write!(svg, r#"<path class="area {}" d="{path}L{last:.1} {floor:.1}L{first:.1} {floor:.1}Z"/>"#, line.class)?;
        }
        write!(svg, r#"<path class="line {}" d="{path}"/>"#, line.class)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>]) -> Chart {
        let line = Line { name: "reads", class: "now", values: values.to_vec(), filled: true };
        let times = (0..values.len()).map(|n| n.to_string()).collect();
        Chart { title: "reads", unit: Unit::Count, lines: vec![line], times, logarithmic: false, from_least: false }
    }

    #[test]
    fn ticks_are_numbers_that_are_easily_read() {
        assert_eq!(linear(0.0, 87.0, Unit::Count), [0.0, 50.0, 100.0]);
        assert_eq!(linear(0.0, 3.0, Unit::Count), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(linear(0.0, 0.0, Unit::Count), [0.0, 1.0]);
        let rates = linear(0.81, 0.99, Unit::Share);
        assert!(rates.len() >= 4 && (rates[0] - 0.8).abs() < 1e-9 && (rates[rates.len() - 1] - 1.0).abs() < 1e-9, "{rates:?}");
        let mib = f64::from(1 << 20);
        assert_eq!(linear(0.0, 250.0 * mib, Unit::Bytes), [0.0, 100.0 * mib, 200.0 * mib, 300.0 * mib]);
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let svg = svg(&chart(&[Some(1.0), Some(2.0), None, Some(3.0)])).expect("it is written").expect("there are values");
        assert_eq!((svg.matches("class=\"line").count(), svg.matches("<circle").count()), (1, 1));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        let none = super::svg(&chart(&[None, None])).expect("it is written");
        assert!(none.is_none(), "a chart of nothing is none");
    }

    #[test]
    fn durations_of_many_sizes_share_an_axis() {
        let durations = Chart { logarithmic: true, unit: Unit::Seconds, ..chart(&[Some(3e-7), Some(0.5), Some(0.0)]) };
        let axis = Axis::new(&durations).expect("there are values");
        assert_eq!((axis.ticks.len(), axis.place(1e-7), axis.place(1.0)), (8, 0.0, 1.0));
        assert!((axis.place(1e-4) - 3.0 / 7.0).abs() < 1e-9);
        assert_eq!(axis.place(0.0), 0.0, "what has no logarithm lies at the bottom");
    }
}
