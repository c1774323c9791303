//! The levels at which history is stored, all of them in universal time: what a day is where a report is read, `step.rs` knows.
//!
//! ```text
//!   minutes --closed--> hours --closed--> days --closed--> months
//! ```
//!
//! A unit that still changes is *due*: it is made up from the level below until it is closed, and again when something is added to it.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A level at which history is kept, for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Minutes.
    Minute,
    /// Hours of UTC.
    Hour,
    /// Days of UTC.
    Day,
    /// Months of UTC.
    Month,
}

pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

/// What is after this is no moment of a cache's life, and the calendar ends soon after it: the year 9000.
pub(super) const MOMENT_MAX_MS: u64 = 221_845_392_000_000;

impl Span {
    /// All levels, the finest first.
    pub const ALL: [Span; 4] = [Span::Minute, Span::Hour, Span::Day, Span::Month];

    /// Its name, which is also that of its table.
    pub fn name(self) -> &'static str {
        match self {
            Span::Minute => "minute",
            Span::Hour => "hour",
            Span::Day => "day",
            Span::Month => "month",
        }
    }

    /// The level that it is closed from.
    pub(super) fn below(self) -> Option<Span> {
        match self {
            Span::Minute => None,
            Span::Hour => Some(Span::Minute),
            Span::Day => Some(Span::Hour),
            Span::Month => Some(Span::Day),
        }
    }

    /// When the unit begins that a moment is in.
    pub(super) fn floor(self, moment_ms: u64) -> u64 {
        match self {
            Span::Minute => moment_ms / MINUTE_MS * MINUTE_MS,
            Span::Hour => moment_ms / HOUR_MS * HOUR_MS,
            Span::Day => moment_ms / DAY_MS * DAY_MS,
            Span::Month => begin_of(date(moment_ms).first_of_month()),
        }
    }

    /// When the unit ends that begins with this moment.
    pub(super) fn end(self, start_ms: u64) -> u64 {
        match self {
            Span::Minute => start_ms + MINUTE_MS,
            Span::Hour => start_ms + HOUR_MS,
            Span::Day => start_ms + DAY_MS,
            // The 1st and 31 days are in the next month, or 1 to 3 days into the one after the next's first.
            Span::Month => self.floor(start_ms + 31 * DAY_MS),
        }
    }
}

fn date(moment_ms: u64) -> Date {
    let ms = i64::try_from(moment_ms.min(MOMENT_MAX_MS)).expect("the year 9000 is no large number");
    TimeZone::UTC.to_datetime(Timestamp::from_millisecond(ms).expect("the calendar has the year 9000")).date()
}

fn begin_of(date: Date) -> u64 {
    let begin = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).expect("every day has a midnight in UTC");
    u64::try_from(begin.as_millisecond()).expect("no moment is before 1970")
}

/// Its name.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_in_the_unit_that_begins_before_it_and_ends_after_it() {
        for moment in [0, 1, DAY_MS - 1, 1_709_164_800_000, 1_735_689_599_999, 1_798_761_600_000, MOMENT_MAX_MS - 40 * DAY_MS] {
            for span in Span::ALL {
                let start = span.floor(moment);
                let end = span.end(start);
                assert!(start <= moment && moment < end, "{span} of {moment}");
                assert_eq!((span.floor(start), span.floor(end - 1), span.floor(end)), (start, start, end), "{span} of {moment}");
                assert!(span.below().is_none_or(|below| below.floor(start) == start && below.floor(end) == end));
            }
        }
        let february = Span::Month.floor(1_709_164_800_000);
        assert_eq!(Span::Month.end(february) - february, 29 * DAY_MS, "of a leap year");
    }
}
