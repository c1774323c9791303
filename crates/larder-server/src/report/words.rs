//! Numbers as people read them.

use super::{Figure, Trend, Unit};
use crate::config::units::roughly;

pub(super) use crate::demo::{count, percent, plural};

/// Bytes.
pub fn bytes(bytes: f64) -> String {
    roughly(bytes.max(0.0) as u64)
}

/// A number that may be no whole one.
pub fn number(number: f64) -> String {
    if number.abs() < 100.0 && number.fract() != 0.0 { format!("{number:.1}") } else { count(number.round().max(0.0) as u64) }
}

/// Seconds, in the two units that say most of them.
pub fn duration(seconds: f64) -> String {
    const NAMED: [(f64, &str, f64, &str); 3] = [(86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "min"), (60.0, "min", 1.0, "s")];
    let seconds = seconds.max(0.0);
    for (large, name, small, of) in NAMED {
        if seconds >= large {
            let smalls = (seconds / small).round();
            let (whole, rest) = ((smalls * small / large).floor(), smalls - (smalls * small / large).floor() * large / small);
            let rest = if rest == 0.0 { String::new() } else { format!(" {rest} {of}") };
            return format!("{} {name}{rest}", count(whole as u64));
        }
    }
    match seconds {
        0.0 => "0 s".to_owned(),
        1.0.. => format!("{seconds:.1} s"),
        1e-3.. => format!("{:.1} ms", seconds * 1e3),
        1e-6.. => format!("{:.1} µs", seconds * 1e6),
        _ => format!("{:.0} ns", seconds * 1e9),
    }
}

/// A value in its unit.
pub fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => number(value),
        Unit::Share => percent(value),
        Unit::Seconds => duration(value),
        Unit::Bytes => bytes(value),
    }
}

/// A value that may be missing.
pub fn value_or_dash(unit: Unit, number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| value(unit, number))
}

/// How a figure changed: by how much, and whether that is more than chance.
pub fn change(figure: &Figure) -> String {
    let (Some(now), Some(before)) = (figure.now, figure.before) else {
        return if figure.now.is_some() { "nothing before".to_owned() } else { "no data".to_owned() };
    };
    let by = match figure.unit {
        Unit::Share => format!("{:+.1} points", without_sign_of_zero((now - before) * 100.0)),
        _ if before == 0.0 && now == 0.0 => "unchanged".to_owned(),
        _ if before == 0.0 => "from nothing".to_owned(),
        _ => format!("{:+.1} %", without_sign_of_zero((now / before - 1.0) * 100.0)),
    };
    match figure.change.trend {
        Trend::Rising => format!("{by}, rising"),
        Trend::Falling => format!("{by}, falling"),
        Trend::Steady => format!("{by}, no trend"),
        Trend::Unknown => format!("{by}, too little to tell"),
    }
}

/// What is shown as zero has no direction.
fn without_sign_of_zero(number: f64) -> f64 {
    if number.abs() < 0.05 { 0.0 } else { number }
}

/// A time that somebody would choose for a setting: the next 1, 2, 3, 5, 10, 15, 20, 30 or 45 of a unit.
pub fn next_round(seconds: f64) -> f64 {
    const STEPS: [f64; 9] = [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0];
    const UNITS: [f64; 4] = [0.001, 1.0, 60.0, 3_600.0];
    let round = UNITS.iter().flat_map(|unit| STEPS.iter().map(move |step| unit * step)).find(|round| *round >= seconds * 0.98);
    round.unwrap_or_else(|| (seconds / 86_400.0).ceil() * 86_400.0)
}

/// Whether a change is for the better, for the worse, or neither: `None` where there is no trend, or nobody minds.
pub fn is_better(figure: &Figure) -> Option<bool> {
    let more = figure.more_is_better?;
    match figure.change.trend {
        Trend::Rising => Some(more),
        Trend::Falling => Some(!more),
        Trend::Steady | Trend::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_the_units_that_say_most() {
        for (seconds, words) in [
            (0.0, "0 s"),
            (3e-9, "3 ns"),
            (0.000_012_34, "12.3 µs"),
            (0.25, "250.0 ms"),
            (1.25, "1.2 s"),
            (60.0, "1 min"),
            (3_599.8, "60 min"),
            (5_400.0, "1 h 30 min"),
            (90_000.0, "1 d 1 h"),
            (86_400.0 * 1_234.0, "1,234 d"),
        ] {
            assert_eq!(duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn settings_are_proposed_in_round_numbers() {
        for (seconds, round) in [(0.4, 1.0), (1.01, 1.0), (47.0, 60.0), (3_006.0, 3_600.0), (90_000.0, 108_000.0), (200_000.0, 259_200.0)] {
            assert_eq!(next_round(seconds), round, "{seconds}");
        }
        assert!((next_round(0.3) - 1.0).abs() < 1e-9 && (next_round(0.02) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn a_change_says_whether_it_is_one() {
        let figure = |unit, now, before, trend| Figure {
            name: "n".into(),
            title: "n".into(),
            unit,
            now,
            before,
            more_is_better: Some(true),
            change: super::super::Change { trend, p: None },
        };
        assert_eq!(change(&figure(Unit::Share, Some(0.85), Some(0.80), Trend::Rising)), "+5.0 points, rising");
        assert_eq!(change(&figure(Unit::Count, Some(80.0), Some(100.0), Trend::Steady)), "-20.0 %, no trend");
        assert_eq!(change(&figure(Unit::Count, Some(80.0), Some(0.0), Trend::Unknown)), "from nothing, too little to tell");
        assert_eq!(change(&figure(Unit::Count, Some(80.0), None, Trend::Unknown)), "nothing before");
        assert_eq!(change(&figure(Unit::Count, None, None, Trend::Unknown)), "no data");
        assert_eq!(is_better(&figure(Unit::Share, Some(0.85), Some(0.80), Trend::Falling)), Some(false));
    }
}
