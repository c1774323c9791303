//! Curves as an SVG of its own: one file that needs nothing else to be looked at, in the light and in the dark.

use std::fmt::{Error, Write};

use larder::sizing::Curve;

use super::plot::{Axis, Marks};
use crate::config::units::roughly;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 34.0;

/// Sizes that are named along the axis.
const NAMED: usize = 6;

/// A curve with its title and what is marked in it.
pub struct Panel<'a> {
    /// What it is of.
    pub title: &'a str,
    /// The curve.
    pub curve: &'a Curve,
    /// What is marked.
    pub marks: Marks,
}

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:15px;font-weight:600;fill:#111}\
.grid{stroke:#ddd}.curve{fill:none;stroke:#0969da;stroke-width:2}.saved{fill:none;stroke:#8250df;stroke-width:1.5;stroke-dasharray:4 3}\
.mark{stroke:#cf222e;stroke-dasharray:2 3}.back{fill:#fff}\
@media(prefers-color-scheme:dark){.back{fill:#0d1117}text{fill:#9aa4af}.title{fill:#e6edf3}.grid{stroke:#30363d}.curve{stroke:#58a6ff}\
.saved{stroke:#bc8cff}.mark{stroke:#ff7b72}}";

/// The panels, one below the other.
///
/// # Errors
/// Never: a text takes what is written to it.
pub fn svg(panels: &[Panel<'_>]) -> Result<String, Error> {
    let height = HEIGHT * panels.len().max(1) as f64;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"><style>{STYLE}</style><rect class="back" width="{WIDTH}" height="{height}"/>"#
    );
    for (n, panel) in panels.iter().enumerate() {
        write!(svg, r#"<g transform="translate(0 {})">"#, HEIGHT * n as f64)?;
        draw(&mut svg, panel)?;
        svg += "</g>";
    }
    svg += "</svg>\n";
    Ok(svg)
}

fn draw(svg: &mut String, panel: &Panel<'_>) -> Result<(), Error> {
    write!(svg, r#"<text class="title" x="{LEFT}" y="24">{}</text>"#, escaped(panel.title))?;
    let Some(axis) = Axis::of(panel.curve) else { return Ok(()) };
    let x = |bytes: u64| LEFT + (WIDTH - LEFT - RIGHT) * axis.place(bytes);
    let y = |ratio: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - ratio);
    for percent in [0, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#, WIDTH - RIGHT)?;
        write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{percent} %</text>"#, LEFT - 6.0, at + 4.0)?;
    }
    for n in 0..NAMED {
        let bytes = axis.bytes(n as f64 / (NAMED - 1) as f64);
        write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, x(bytes), HEIGHT - 12.0, roughly(bytes))?;
    }
    for (bytes, ratio) in [(panel.marks.bytes, None), (None, panel.marks.hit_ratio)] {
        if let Some(bytes) = bytes {
            write!(svg, r#"<line class="mark" x1="{0:.1}" x2="{0:.1}" y1="{TOP}" y2="{1:.1}"/>"#, x(bytes), HEIGHT - BOTTOM)?;
        }
        if let Some(ratio) = ratio {
            write!(svg, r#"<line class="mark" x1="{LEFT}" x2="{:.1}" y1="{1:.1}" y2="{1:.1}"/>"#, WIDTH - RIGHT, y(ratio))?;
        }
    }
    if panel.curve.load_seconds > 0.0 {
        path(svg, "saved", panel.curve.points.iter().map(|point| (x(point.bytes), y(point.saved_ratio))))?;
    }
    path(svg, "curve", panel.curve.points.iter().map(|point| (x(point.bytes), y(point.hit_ratio))))
}

fn path(svg: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) -> Result<(), Error> {
    write!(svg, r#"<path class="{class}" d=""#)?;
    for (n, (x, y)) in points.enumerate() {
        write!(svg, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' })?;
    }
    svg.write_str(r#""/>"#)
}

/// A title comes from outside: a namespace may have any name, and a file, too.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '&' => safe += "&amp;",
            '"' => safe += "&quot;",
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use larder::sizing::Point;

    use super::*;

    #[test]
    fn it_has_a_line_for_hits_and_one_for_time_where_that_is_known() {
        let points = [(100, 0.1), (10_000, 0.9)].map(|(bytes, hit_ratio)| Point { bytes, hit_ratio, saved_ratio: hit_ratio }).to_vec();
        let curve = Curve { points, load_seconds: 1.0, ..Curve::default() };
        let marks = Marks { bytes: Some(1_000), hit_ratio: Some(0.5) };
        let panel = |title, curve| Panel { title, curve, marks };
        let text = svg(&[panel("a<b>&\u{1b}", &curve), panel("none", &Curve::default())]).expect("it is written");
        assert_eq!((text.matches("class=\"curve\"").count(), text.matches("class=\"saved\"").count()), (1, 1));
        assert_eq!(text.matches("class=\"mark\"").count(), 2);
        assert!(text.contains("a&lt;b&gt;&amp;\u{fffd}") && text.ends_with("</svg>\n"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
