//! A curve as a plot on a terminal: braille dots, which are two by four in a character, or stars where it is no terminal.

use larder::sizing::Curve;

use crate::config::units::roughly;

/// Columns for the labels of the ratios.
const LABELS: usize = 8;
const HEIGHT: usize = 12;
const WIDTH_MIN: usize = 32;
const WIDTH_MAX: usize = 120;

/// From this factor between the smallest and the largest size on, each step to the right multiplies.
const LOGARITHMIC_FROM: f64 = 20.0;

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns in all.
    pub width: usize,
    /// Whether there may be characters beyond ASCII.
    pub unicode: bool,
    /// Whether there may be colours.
    pub colours: bool,
}

/// What is marked in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// A size, by a line from bottom to top.
    pub bytes: Option<u64>,
    /// A hit ratio, by a line from left to right.
    pub hit_ratio: Option<f64>,
}

/// Where a size is along the axis, from 0 to 1: by what it is, or by its logarithm.
pub(super) struct Axis {
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Axis {
    pub(super) fn of(curve: &Curve) -> Option<Self> {
        let (least, most) = (curve.points.first()?.bytes.max(1) as f64, curve.points.last()?.bytes.max(1) as f64);
        Some(Axis { least, most, logarithmic: most / least >= LOGARITHMIC_FROM })
    }

    pub(super) fn place(&self, bytes: u64) -> f64 {
        let bytes = bytes.max(1) as f64;
        let part = if self.most <= self.least {
            0.5
        } else if self.logarithmic {
            (bytes / self.least).ln() / (self.most / self.least).ln()
        } else {
            (bytes - self.least) / (self.most - self.least)
        };
        part.clamp(0.0, 1.0)
    }

    /// The size at a place.
    pub(super) fn bytes(&self, place: f64) -> u64 {
        let bytes = if self.logarithmic {
            self.least * (self.most / self.least).powf(place)
        } else {
            self.least + (self.most - self.least) * place
        };
        bytes.round() as u64
    }
}

/// Dots, from the left and from the bottom.
struct Canvas {
    columns: usize,
    rows: usize,
    dots: Vec<Vec<u8>>,
    fine: (usize, usize),
}

impl Canvas {
    fn new(columns: usize, rows: usize, unicode: bool) -> Self {
        Canvas { columns, rows, dots: vec![vec![0; columns]; rows], fine: if unicode { (2, 4) } else { (1, 1) } }
    }

    fn wide(&self) -> usize {
        self.columns * self.fine.0
    }

    fn high(&self) -> usize {
        self.rows * self.fine.1
    }

    fn set(&mut self, x: usize, y: usize) {
        // The bits of a braille character: three rows of two, then the fourth.
        const BITS: [[u8; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
        let (x, y) = (x.min(self.wide() - 1), y.min(self.high() - 1));
        let bit = if self.fine == (1, 1) { 1 } else { BITS[x % 2][y % 4] };
        self.dots[self.rows - 1 - y / self.fine.1][x / self.fine.0] |= bit;
    }

    /// What is at a place, if there is a dot.
    fn at(&self, column: usize, row: usize) -> Option<char> {
        match self.dots[row][column] {
            0 => None,
            _ if self.fine == (1, 1) => Some('*'),
            bits => char::from_u32(0x2800 + u32::from(bits)),
        }
    }
}

/// The curve, with a title, a mark for each fifth of the reads, and sizes below. Nothing for a curve without points.
pub fn plot(title: &str, curve: &Curve, marks: Marks, style: Style) -> String {
    let Some(axis) = Axis::of(curve) else { return format!("{title}\n  nothing was read yet\n") };
    let columns = style.width.clamp(WIDTH_MIN, WIDTH_MAX) - LABELS - 2;
    let mut canvas = Canvas::new(columns, HEIGHT, style.unicode);
    let (wide, high) = (canvas.wide(), canvas.high());
    let y_of = |hit_ratio: f64| (hit_ratio * (high - 1) as f64).round() as usize;
    let mut last: Option<usize> = None;
    for x in 0..wide {
        let y = y_of(curve.at(axis.bytes(x as f64 / (wide - 1).max(1) as f64)).hit_ratio);
        // Without gaps, where it is steep.
        let from = last.map_or(y, |last| if y > last { last + 1 } else { y });
        (from.min(y)..=y).for_each(|y| canvas.set(x, y));
        last = Some(y);
    }
    let column_of = |bytes: u64| ((axis.place(bytes) * (columns - 1) as f64).round()) as usize;
    let (marked, level) = (marks.bytes.map(column_of), marks.hit_ratio.map(|ratio| HEIGHT - 1 - y_of(ratio) / canvas.fine.1));
    let [upright, across, corner, tick] = if style.unicode { ['┊', '┄', '└', '┴'] } else { ['|', '-', '+', '+'] };
    let side = if style.unicode { '┤' } else { '|' };
    let mut text = format!("{title}\n");
    for row in 0..HEIGHT {
        text += &format!("{:>LABELS$} {side}", label(row));
        let (mut line, mut run) = (String::new(), (String::new(), false));
        for column in 0..columns {
            let (c, is_curve) = match canvas.at(column, row) {
                Some(c) => (c, true),
                None if marked == Some(column) => (upright, false),
                None if level == Some(row) => (across, false),
                None => (' ', false),
            };
            if run.1 != is_curve {
                line += &coloured(&run.0, run.1, style.colours);
                run = (String::new(), is_curve);
            }
            run.0.push(c);
        }
        line += &coloured(run.0.trim_end(), run.1, style.colours);
        text += line.trim_end();
        text.push('\n');
    }
    let foot: String = (0..columns).map(|column| if marked == Some(column) { tick } else { foot_of(style.unicode) }).collect();
    text += &format!("{:>LABELS$} {corner}{foot}\n", "");
    text += &format!("{:>LABELS$}  {}\n", "", sizes(&axis, columns));
    text
}

fn foot_of(unicode: bool) -> char {
    if unicode { '─' } else { '-' }
}

/// The ratio of a row, for the rows that are named.
fn label(row: usize) -> String {
    let named = [(0, 100), (HEIGHT / 4, 75), (HEIGHT / 2, 50), (HEIGHT * 3 / 4, 25), (HEIGHT - 1, 0)];
    named.iter().find(|(at, _)| *at == row).map_or_else(String::new, |(_, percent)| format!("{percent} %"))
}

/// A run of characters: of the curve, or of what is behind it.
fn coloured(run: &str, is_curve: bool, colours: bool) -> String {
    match (colours, is_curve) {
        _ if run.trim().is_empty() => run.to_owned(),
        (false, _) => run.to_owned(),
        (true, true) => format!("\u{1b}[36m{run}\u{1b}[0m"),
        (true, false) => format!("\u{1b}[2m{run}\u{1b}[0m"),
    }
}

/// Sizes below the axis: as many as have room, each where it is.
fn sizes(axis: &Axis, columns: usize) -> String {
    let mut line = String::new();
    let named = (columns / 16).clamp(2, 6);
    for n in 0..named {
        let place = n as f64 / (named - 1) as f64;
        let text = roughly(axis.bytes(place));
        let len = text.chars().count();
        let middle = (place * (columns - 1) as f64).round() as usize;
        let from = middle.saturating_sub(len / 2).min(columns.saturating_sub(len));
        let used = line.chars().count();
        if from > used || used == 0 {
            line += &" ".repeat(from - used);
            line += &text;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use larder::sizing::Point;

    use super::*;

    fn curve() -> Curve {
        let point = |n: u32| Point { bytes: 1_000 << n, hit_ratio: f64::from(n) / 10.0, saved_ratio: 0.0 };
        Curve { points: (0..=10).map(point).collect(), reads: 1_000, ..Curve::default() }
    }

    const PLAIN: Style = Style { width: 60, unicode: false, colours: false };

    #[test]
    fn it_keeps_to_its_width_and_its_characters() {
        for width in [0, 20, 40, 80, 500] {
            let text = plot("all", &curve(), Marks::default(), Style { width, ..PLAIN });
            assert!(text.lines().all(|line| line.chars().count() <= width.clamp(WIDTH_MIN, WIDTH_MAX)), "{width}\n{text}");
            assert!(text.is_ascii(), "{text}");
        }
        let dots = plot("all", &curve(), Marks::default(), Style { unicode: true, ..PLAIN });
        assert!(dots.contains('⠉') || dots.contains('⣀'), "{dots}");
        assert!(dots.lines().all(|line| line.chars().count() <= 60) && !dots.contains('\u{1b}'), "{dots}");
    }

    #[test]
    fn it_rises_from_the_lower_left_to_the_upper_right_without_gaps() {
        let text = plot("all", &curve(), Marks { bytes: Some(32_000), hit_ratio: Some(0.8) }, PLAIN);
        let rows: Vec<&str> = text.lines().skip(1).take(HEIGHT).collect();
        let columns: Vec<usize> = rows.iter().filter_map(|row| row.find('*')).collect();
        assert_eq!(columns.len(), HEIGHT, "a star in each row\n{text}");
        assert!(columns.windows(2).all(|two| two[0] > two[1]), "{text}");
        assert!(rows.iter().any(|row| row.contains("---")) && rows.iter().filter(|row| row[10..].contains('|')).count() > 6, "{text}");
        assert!(text.contains("100 %") && text.contains("1000 B") && text.contains("KiB"), "{text}");
    }

    #[test]
    fn little_is_drawn_of_little() {
        assert!(plot("none", &Curve::default(), Marks::default(), PLAIN).contains("nothing was read"));
        let one = Curve { points: vec![Point { bytes: 7, hit_ratio: 1.0, saved_ratio: 1.0 }], ..Curve::default() };
        assert!(plot("one", &one, Marks { bytes: Some(0), hit_ratio: Some(1.0) }, PLAIN).contains('*'));
    }
}
