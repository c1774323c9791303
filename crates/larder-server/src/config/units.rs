//! Sizes and times as people write them: `256 MiB`, `5m`, `1h 30m`. Knows nothing of settings.

use std::fmt;
use std::time::Duration;

/// A number of bytes, written with the largest unit that leaves it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Binary units first at each power, as those are what is written.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of time, in milliseconds. Weeks and days are written, months are not: they differ in length.
const TIMES: [(&str, u64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What is expected of a size, for messages.
pub const SIZE_EXPECTED: &str = "a size such as \"256 MiB\" or a number of bytes";
/// What is expected of a time, for messages.
pub const TIME_EXPECTED: &str = "a time such as \"500ms\", \"5m\" or \"1h 30m\"";

/// Reads a size: a number, with a fraction or without, and a unit; bare numbers are bytes. `None` for anything else, and
/// for more than 64 bits hold.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text.trim());
    let unit = unit.trim();
    let bytes = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1 };
    scaled(number, bytes)
}

/// Reads a time: one or more numbers with their units, largest first or not. A number without a unit is refused, since
/// seconds and milliseconds are too easily mistaken for each other; but zero is zero.
pub fn parse_time(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total_ms = 0u64;
    loop {
        let (number, behind) = split_number(rest);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let unit_ms = TIMES.iter().find(|(name, _)| *name == unit)?.1;
        total_ms = total_ms.checked_add(scaled(number, unit_ms)?)?;
        rest = next.trim_start();
        if rest.is_empty() {
            return Some(Duration::from_millis(total_ms));
        }
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len()))
}

/// A decimal number times a unit. Whole numbers are exact; fractions are rounded to the nearest.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let digits = number.replace('_', "");
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse::<u64>().ok()?.checked_mul(unit);
    }
    let product = digits.parse::<f64>().ok()? * unit as f64;
    // 2^64 as a float; whatever is below converts without loss of range.
    (product < 18_446_744_073_709_551_616.0).then(|| product.round() as u64)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES.iter().take(4).find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match whole {
            Some((unit, bytes)) => write!(f, "{} {unit}", self.0 / bytes),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A size to read at a glance, in three digits or so: `1.4 GiB`.
pub fn roughly(bytes: u64) -> String {
    match SIZES.iter().take(4).find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// A time with its units, exactly to the millisecond: `1h 30m`.
pub fn show_time(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, unit_ms) in TIMES {
        if rest >= unit_ms {
            parts.push(format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = ["0", "1024", "256 MiB", "256mib", "1.5GiB", "10 GB", "64KiB ", "1_000 B"].map(parse_size);
        let expected = [0, 1024, 256 << 20, 256 << 20, 3 << 29, 10_000_000_000, 64 << 10, 1000];
        assert_eq!(read, expected.map(Some));
        for bad in ["", "MiB", "-1", "1 XiB", "1 MiB 2", "99999999999 TiB", "1.2.3 MiB", "1e9", "_"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_need_their_unit() {
        let read = ["500ms", "5m", "1h 30m", "1h30m", "1.5s", "2d", "1w", "0", "0s"].map(parse_time);
        let expected = [500, 300_000, 5_400_000, 5_400_000, 1_500, 172_800_000, 604_800_000, 0, 0];
        assert_eq!(read, expected.map(|ms| Some(Duration::from_millis(ms))));
        for bad in ["", "5", "5 minutes", "m", "-1s", "1s 5", "1.2.3s", "99999999999999w", "5M"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rough_sizes_are_short() {
        assert_eq!([0, 1023, 1536, 256 << 20].map(roughly), ["0 B", "1023 B", "1.5 KiB", "256.0 MiB"]);
    }

    proptest! {
        #![proptest_config(crate::demo::properties())]

        #[test]
        fn what_is_shown_can_be_read_again(bytes: u64, ms: u64) {
            prop_assert_eq!(parse_size(&Size(bytes).to_string()), Some(bytes));
            let time = Duration::from_millis(ms);
            prop_assert_eq!(parse_time(&show_time(time)), Some(time));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let size = parse_size(&text);
            let time = parse_time(&text);
            prop_assert!(size.is_none() || text.chars().any(|c| c.is_ascii_digit()));
            prop_assert!(time.is_none() || text.chars().any(|c| c.is_ascii_digit()));
        }
    }
}
