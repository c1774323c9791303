//! Which stretch of time a report is about, which one it is compared with, and how it is cut into buckets.
//!
//! Calendar stretches are those of a time zone, so that a day on which the clocks change has 23 or 25 hours.

use std::fmt;

use clap::ValueEnum;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, ZonedDateTime, ZonedDateTimeRound};
use serde::{Deserialize, Serialize};

/// Buckets of a report at most: what a chart can show, and a server hold with all their histograms.
const BUCKETS_MAX: usize = 600;

/// A longer period than so many days has a bucket for each month.
const DAYS_BY_DAY: i64 = 400;

/// How long a report's period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An hour, by minutes
    Hourly,
    /// A day, by hours
    Daily,
    /// A week, by quarters of a day
    Weekly,
    /// A month, by days
    Monthly,
}

impl Kind {
    /// Its name, as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hourly => "hourly",
            Kind::Daily => "daily",
            Kind::Weekly => "weekly",
            Kind::Monthly => "monthly",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Kind::value_variants().iter().copied().find(|kind| kind.name() == name)
    }

    fn length(self) -> Span {
        match self {
            Kind::Hourly => 1.hour(),
            Kind::Daily => 1.day(),
            Kind::Weekly => 1.week(),
            Kind::Monthly => 1.month(),
        }
    }

    fn bucket(self) -> Span {
        match self {
            Kind::Hourly => 1.minute(),
            Kind::Daily => 1.hour(),
            Kind::Weekly => 6.hours(),
            Kind::Monthly => 1.day(),
        }
    }
}

/// A stretch of time: from its begin up to, and without, its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// The begin.
    pub from: ZonedDateTime,
    /// The end.
    pub to: ZonedDateTime,
}

/// A period, the one before it, and how both are cut.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What the period is called, where it has a name.
    pub kind: Option<Kind>,
    /// The period.
    pub period: Period,
    /// What it is compared with.
    pub before: Period,
    bucket: Span,
}

/// Which period is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How long.
    pub kind: Option<Kind>,
    /// Where it begins; by default its length before its end.
    pub from: Option<String>,
    /// Where it ends; by default now.
    pub to: Option<String>,
    /// Whether to take the last whole hour, day, week or month of the calendar and not the time up to now.
    pub whole: bool,
}

impl Asked {
    /// The period that is meant, at a moment and in its time zone.
    ///
    /// # Errors
    /// When it has no length, lies outside of what a calendar can name, or a moment is none.
    pub fn frame(&self, now: &ZonedDateTime) -> Result<Frame, PeriodError> {
        let kind = self.kind.unwrap_or(Kind::Daily);
        let Asked { from, to, whole, .. } = self;
        if from.is_none() && to.is_none() {
            return if *whole { Frame::whole(kind, now) } else { Frame::up_to(kind, minute(now)?) };
        }
        if *whole {
            return Err(PeriodError::WholeAndMoments);
        }
        let to = to.as_deref().map_or_else(|| minute(now), |text| moment(text, now.time_zone()))?;
        let Some(from) = from else { return Frame::up_to(kind, to) };
        Frame::between(self.kind, moment(from, now.time_zone())?, to)
    }
}

impl Frame {
    /// The hour, day, week or month that ends at `to`.
    fn up_to(kind: Kind, to: ZonedDateTime) -> Result<Self, PeriodError> {
        let from = to.checked_sub(kind.length())?;
        let before = Period { from: from.checked_sub(kind.length())?, to: from.clone() };
        Ok(Frame { kind: Some(kind), period: Period { from, to }, before, bucket: kind.bucket() })
    }

    /// The last whole hour, day, week or month of the calendar.
    fn whole(kind: Kind, now: &ZonedDateTime) -> Result<Self, PeriodError> {
        let to = match kind {
            Kind::Hourly => now.round(ZonedDateTimeRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Floor))?,
            Kind::Daily => now.start_of_day()?,
            Kind::Weekly => {
                let since_monday = i64::from(now.weekday().to_monday_zero_offset());
                now.checked_sub(since_monday.days())?.start_of_day()?
            }
            Kind::Monthly => now.first_of_month()?.start_of_day()?,
        };
        Frame::up_to(kind, to)
    }

    fn between(kind: Option<Kind>, from: ZonedDateTime, to: ZonedDateTime) -> Result<Self, PeriodError> {
        let length = from.duration_until(&to);
        if !length.is_positive() {
            return Err(PeriodError::Empty { from: from.to_string(), to: to.to_string() });
        }
        let days = length.as_hours() / 24;
        let bucket = match length.as_hours() {
            0..3 => Kind::Hourly.bucket(),
            3..73 => Kind::Daily.bucket(),
            73..337 => Kind::Weekly.bucket(),
            _ if days <= DAYS_BY_DAY => Kind::Monthly.bucket(),
            _ => 1.month(),
        };
        // Whole days before whole days, so that a day on which the clocks change is compared with one from midnight to midnight.
        let are_whole_days = from.start_of_day()? == from && to.start_of_day()? == to;
        let start = if are_whole_days { from.checked_sub(from.until((Unit::Day, &to))?)? } else { from.checked_sub(length)? };
        let before = Period { from: start, to: from.clone() };
        // No month is shorter than 28 days.
        if days / 28 > BUCKETS_MAX as i64 {
            return Err(PeriodError::TooLong { days });
        }
        Ok(Frame { kind, period: Period { from, to }, before, bucket })
    }

    /// The time zone.
    pub fn zone(&self) -> &TimeZone {
        self.period.from.time_zone()
    }

    /// Whether buckets are named by their day alone.
    pub fn is_by_day(&self) -> bool {
        self.bucket.get_days() > 0 || self.bucket.get_months() > 0
    }

    /// Where the buckets of a period of this frame begin, and where the last one ends.
    ///
    /// # Errors
    /// When the calendar ends within it.
    pub fn edges(&self, period: &Period) -> Result<Vec<ZonedDateTime>, PeriodError> {
        let mut edges = vec![period.from.clone()];
        let end = period.to.timestamp();
        for n in 1..=BUCKETS_MAX as i64 {
            // Each from the begin, and not from the one before: a day has as many hours as it has.
            let next = period.from.checked_add(self.bucket.checked_mul(n)?)?;
            if next.timestamp() >= end {
                break;
            }
            edges.push(next);
        }
        edges.push(period.to.clone());
        Ok(edges)
    }
}

impl Period {
    /// Its begin and end in milliseconds since 1970.
    pub fn millis(&self) -> (u64, u64) {
        (millis(&self.from), millis(&self.to))
    }
}

/// A moment in milliseconds since 1970; moments before that are taken for its beginning, as nothing was recorded then.
pub fn millis(moment: &ZonedDateTime) -> u64 {
    u64::try_from(moment.timestamp().as_millisecond()).unwrap_or(0)
}

/// The last full minute.
fn minute(now: &ZonedDateTime) -> Result<ZonedDateTime, PeriodError> {
    Ok(now.round(ZonedDateTimeRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Floor))?)
}

/// A moment as people write it: `2026-11-26`, `2026-11-26T14:30`, or with an offset as RFC 3339 has it.
fn moment(text: &str, zone: &TimeZone) -> Result<ZonedDateTime, PeriodError> {
    let moment = if let Ok(timestamp) = text.parse::<Timestamp>() {
        timestamp.to_zoned_datetime(zone.clone())
    } else {
        let civil: DateTime = text.parse().map_err(|_| PeriodError::NoMoment(text.to_owned()))?;
        civil.to_zoned_datetime(zone.clone())?
    };
    minute(&moment)
}

/// Why there is no such period.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeriodError {
    /// A moment is none.
    NoMoment(String),
    /// It ends where it begins, or before.
    Empty {
        /// Its begin.
        from: String,
        /// Its end.
        to: String,
    },
    /// It has more days than a report can show.
    TooLong {
        /// How many.
        days: i64,
    },
    /// A whole period of the calendar is asked for, and a moment besides.
    WholeAndMoments,
    /// A time zone that nobody knows.
    NoZone(String),
    /// The calendar ends.
    Calendar(jiff::Error),
}

impl From<jiff::Error> for PeriodError {
    fn from(error: jiff::Error) -> Self {
        PeriodError::Calendar(error)
    }
}

impl fmt::Display for PeriodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeriodError::NoMoment(text) => {
                write!(f, "{text:?} is no moment: write 2026-11-26, 2026-11-26T14:30, or 2026-11-26T14:30:00Z")
            }
            PeriodError::Empty { from, to } => write!(f, "a period from {from} to {to} has no length: it has to end after it begins"),
            PeriodError::TooLong { days } => {
                write!(f, "a period of {days} days is too long for a report, which shows {BUCKETS_MAX} months at most")
            }
            PeriodError::WholeAndMoments => f.write_str("a whole period of the calendar begins and ends by itself: leave out from and to"),
            PeriodError::NoZone(name) => write!(f, "there is no time zone {name:?}: write one such as Europe/Berlin, or UTC"),
            PeriodError::Calendar(error) => write!(f, "there is no such period: {error}"),
        }
    }
}

impl std::error::Error for PeriodError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PeriodError::Calendar(error) => Some(error),
            _ => None,
        }
    }
}

/// A time zone by its name; the system's where there is none.
///
/// # Errors
/// When nobody knows it.
pub fn zone(name: Option<&str>) -> Result<TimeZone, PeriodError> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|_| PeriodError::NoZone(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> ZonedDateTime {
        text.parse().expect("a moment")
    }

    fn frame(asked: &Asked, now: &str) -> Frame {
        asked.frame(&at(now)).expect("a period")
    }

    fn kind(kind: Kind) -> Asked {
        Asked { kind: Some(kind), ..Asked::default() }
    }

    fn between(from: &str, to: &str) -> Asked {
        Asked { from: Some(from.into()), to: Some(to.into()), ..Asked::default() }
    }

    #[test]
    fn up_to_now_is_up_to_the_last_full_minute() {
        let frame = frame(&kind(Kind::Hourly), "2026-11-26T17:23:45.5+01:00[Europe/Berlin]");
        assert_eq!(frame.period.from, at("2026-11-26T16:23+01:00[Europe/Berlin]"));
        assert_eq!(frame.period.to, at("2026-11-26T17:23+01:00[Europe/Berlin]"));
        assert_eq!(frame.before.to, frame.period.from);
        assert_eq!(frame.edges(&frame.period).expect("edges").len(), 61);
    }

    #[test]
    fn whole_periods_are_those_of_the_calendar() {
        let now = "2026-11-26T17:23:45+01:00[Europe/Berlin]";
        for (asked, from, to, buckets) in [
            (Kind::Hourly, "2026-11-26T16:00", "2026-11-26T17:00", 60),
            (Kind::Daily, "2026-11-25T00:00", "2026-11-26T00:00", 24),
            (Kind::Weekly, "2026-11-16T00:00", "2026-11-23T00:00", 28),
        ] {
            let frame = frame(&Asked { whole: true, ..kind(asked) }, now);
            let moments = [from, to].map(|text| at(&format!("{text}+01:00[Europe/Berlin]")));
            assert_eq!([frame.period.from.clone(), frame.period.to.clone()], moments);
            assert_eq!(frame.edges(&frame.period).expect("edges").len(), buckets + 1);
        }
        let month = frame(&Asked { whole: true, ..kind(Kind::Monthly) }, now);
        assert_eq!(month.period.from, at("2026-10-01T00:00+02:00[Europe/Berlin]"));
        assert_eq!((month.edges(&month.period).expect("edges").len(), month.edges(&month.before).expect("edges").len()), (32, 31));
    }

    #[test]
    fn a_day_on_which_the_clocks_change_has_the_hours_that_it_has() {
        for (day, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)] {
            let now = at(&format!("{day}T12:00[Europe/Berlin]"));
            let next = now.checked_add(1.day()).expect("a day").date().to_string();
            let frame = between(day, &next).frame(&now).expect("a period");
            assert_eq!(frame.edges(&frame.period).expect("edges").len(), hours + 1, "{day}");
            let (from, to) = frame.period.millis();
            assert_eq!(to - from, hours as u64 * 3_600_000, "{day}");
            assert_eq!(frame.before.from.hour(), 0, "the day before begins at midnight, too");
        }
        let month = between("2026-10-01", "2026-11-01").frame(&at("2026-11-26T12:00[Europe/Berlin]")).expect("a period");
        let edges = month.edges(&month.period).expect("edges");
        assert_eq!(edges.len(), 32);
        assert!(edges.iter().all(|edge| edge.hour() == 0), "every bucket is a day from midnight to midnight");
    }

    #[test]
    fn years_are_told_by_the_month() {
        let years = between("2022-03-15", "2026-03-15").frame(&at("2026-11-26T12:00Z[UTC]")).expect("a period");
        assert!(years.is_by_day());
        assert_eq!(years.edges(&years.period).expect("edges").len(), 4 * 12 + 1);
        assert_eq!(years.before.from, at("2018-03-15T00:00Z[UTC]"));
    }

    #[test]
    fn what_is_no_period_is_refused_with_words() {
        let now = at("2026-11-26T12:00Z[UTC]");
        let error = |asked: &Asked| asked.frame(&now).expect_err("no period").to_string();
        assert!(error(&between("2026-11-26", "2026-11-26")).contains("no length"));
        assert!(error(&between("2026-11-26", "2026-11-25")).contains("no length"));
        assert!(error(&between("yesterday", "2026-11-25")).contains("\"yesterday\" is no moment"));
        assert!(error(&between("1900-01-01", "2026-11-25")).contains("too long"));
        assert!(error(&Asked { whole: true, ..between("2026-11-24", "2026-11-25") }).contains("leave out"));
        assert!(zone(Some("Mars/Olympus")).expect_err("no zone").to_string().contains("Mars/Olympus"));
        assert!(zone(Some("UTC")).is_ok() && zone(None).is_ok());
    }

    #[test]
    fn the_end_alone_or_an_offset_will_do() {
        let asked = Asked { to: Some("2026-11-25T12:00:00+02:00".into()), ..kind(Kind::Daily) };
        let frame = frame(&asked, "2026-11-26T12:00Z[UTC]");
        assert_eq!((frame.period.from, frame.period.to), (at("2026-11-24T10:00Z[UTC]"), at("2026-11-25T10:00Z[UTC]")));
    }
}
