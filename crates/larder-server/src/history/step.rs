//! The steps in which history is asked for: minutes and hours everywhere the same, days and longer by the calendar of a time zone.
//!
//! What is stored knows no time zone (see `span.rs`): only who asks has a calendar, in which a day may have 23 hours or 25.

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::HistoryError;
use super::span::{HOUR_MS, MINUTE_MS};

/// How long the stretches are that an answer is cut into.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Minutes.
    Minute,
    /// Hours of UTC, which are also those of all time zones that are whole hours away from it.
    Hour,
    /// Days of a time zone's calendar.
    Day(TimeZone),
    /// Weeks, which begin on Monday.
    Week(TimeZone),
    /// Months.
    Month(TimeZone),
    /// Years.
    Year(TimeZone),
    /// One stretch for everything.
    Whole,
}

/// The most stretches that an answer has: a month of minutes.
pub const BUCKETS_MAX: usize = 44_640;

impl Step {
    /// Reads the name of a step: `minute`, `hour`, `day`, `week`, `month`, `year` or `whole`.
    pub fn parse(name: &str, zone: &TimeZone) -> Option<Step> {
        let zone = || zone.clone();
        Some(match name {
            "minute" => Step::Minute,
            "hour" => Step::Hour,
            "day" => Step::Day(zone()),
            "week" => Step::Week(zone()),
            "month" => Step::Month(zone()),
            "year" => Step::Year(zone()),
            "whole" => Step::Whole,
            _ => return None,
        })
    }

    /// The stretches between two moments, in order and without gaps. They begin where the calendar says, but for the first, which
    /// begins with the first moment; the last ends with the other.
    ///
    /// # Errors
    /// When they are more than [`BUCKETS_MAX`], or outside of the calendar.
    pub fn stretches(&self, from_ms: u64, to_ms: u64) -> Result<Vec<(u64, u64)>, HistoryError> {
        let mut stretches = Vec::new();
        let mut start = from_ms;
        while start < to_ms {
            if stretches.len() == BUCKETS_MAX {
                return Err(HistoryError::TooMany { most: BUCKETS_MAX });
            }
            let end = self.after(start)?.min(to_ms);
            stretches.push((start, end));
            start = end;
        }
        Ok(stretches)
    }

    /// When the stretch ends that this moment is in.
    pub fn after(&self, moment_ms: u64) -> Result<u64, HistoryError> {
        let every = |length: u64| Ok((moment_ms / length + 1) * length);
        match self {
            Step::Minute => every(MINUTE_MS),
            Step::Hour => every(HOUR_MS),
            Step::Day(zone) => boundary_after(zone, moment_ms, Some, 1),
            Step::Week(zone) => boundary_after(zone, moment_ms, monday, 7),
            Step::Month(zone) => boundary_after(zone, moment_ms, |date| Some(date.first_of_month()), 31),
            Step::Year(zone) => boundary_after(zone, moment_ms, |date| Some(date.first_of_year()), 366),
            Step::Whole => Ok(u64::MAX),
        }
    }

    /// When the stretch begins that this moment is in.
    pub fn begin(&self, moment_ms: u64) -> Result<u64, HistoryError> {
        let every = |length: u64| Ok(moment_ms / length * length);
        match self {
            Step::Minute => every(MINUTE_MS),
            Step::Hour => every(HOUR_MS),
            Step::Day(zone) => begin_of(zone, date_in(zone, moment_ms)?),
            Step::Week(zone) => begin_of(zone, monday(date_in(zone, moment_ms)?).ok_or(HistoryError::Calendar)?),
            Step::Month(zone) => begin_of(zone, date_in(zone, moment_ms)?.first_of_month()),
            Step::Year(zone) => begin_of(zone, date_in(zone, moment_ms)?.first_of_year()),
            Step::Whole => Ok(0),
        }
    }
}

/// The time zone of a name such as `Europe/Berlin`, or `system` for this machine's.
///
/// # Errors
/// When there is none of that name.
pub fn zone(name: &str) -> Result<TimeZone, HistoryError> {
    match name {
        "system" => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|_| HistoryError::UnknownZone(name.into())),
    }
}

/// The first moment after this one with which a stretch of the calendar begins. The first day of the stretch is told by `first`; one
/// that is so many days later is in the next, or in the one after the next, whose first day is then looked for from its own.
fn boundary_after(zone: &TimeZone, moment_ms: u64, first: impl Fn(Date) -> Option<Date>, longest: i32) -> Result<u64, HistoryError> {
    let mut date = first(date_in(zone, moment_ms)?).ok_or(HistoryError::Calendar)?;
    loop {
        let later = date.checked_add(longest.days()).map_err(|_| HistoryError::Calendar)?;
        date = first(later).ok_or(HistoryError::Calendar)?;
        let begin = begin_of(zone, date)?;
        // A day that a time zone left out begins with the one after it.
        if begin > moment_ms {
            return Ok(begin);
        }
    }
}

fn date_in(zone: &TimeZone, moment_ms: u64) -> Result<Date, HistoryError> {
    let moment = i64::try_from(moment_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(zone.to_datetime(moment.ok_or(HistoryError::Calendar)?).date())
}

/// When a day begins: at its midnight, or the moment after, where clocks skip it, or the first of two.
fn begin_of(zone: &TimeZone, date: Date) -> Result<u64, HistoryError> {
    let begin = zone.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| HistoryError::Calendar)?;
    Ok(u64::try_from(begin.as_millisecond()).unwrap_or(0))
}

fn monday(date: Date) -> Option<Date> {
    let since = date.weekday().since(Weekday::Monday);
    date.checked_sub(i64::from(since).days()).ok()
}

/// Its name.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Minute => "minute",
            Step::Hour => "hour",
            Step::Day(_) => "day",
            Step::Week(_) => "week",
            Step::Month(_) => "month",
            Step::Year(_) => "year",
            Step::Whole => "whole",
        })
    }
}
