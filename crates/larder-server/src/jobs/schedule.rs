//! When a job is due: a cron expression in a time zone, and the instants that follow from it. It knows no clock.
//!
//! The five fields of cron, in the time of a zone: minute, hour, day of the month, month, day of the week; `@daily` and its like. On the
//! day on which clocks are set forward, what was due in the hour that is left out is due when it is over; on the day on which they are set
//! back, a job that is due at one time of the day is due once, at the first of the two. What is due every so many minutes or hours goes on
//! through both.
//!
//! Croner searches; its own bridge to jiff is one to an older version, so this has one of its own.

use std::cmp::Ordering;
use std::fmt;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

/// The longest expression that is looked at.
const EXPRESSION_LEN_MAX: usize = 200;

/// When a job is due.
#[derive(Clone)]
pub struct Schedule {
    expression: String,
    zone_name: String,
    cron: Cron,
    zone: TimeZone,
}

/// What is no schedule, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSchedule {
    /// The expression cannot be understood.
    Expression(String),
    /// There is no such time zone.
    Zone,
    /// There is no day on which it would be due.
    Never,
}

impl Schedule {
    /// Reads an expression, which is to be understood in a zone of the IANA database.
    ///
    /// # Errors
    /// When it is none, is never due, or there is no such zone.
    pub fn parse(expression: &str, zone_name: &str) -> Result<Self, NoSchedule> {
        let zone = TimeZone::get(zone_name).map_err(|_| NoSchedule::Zone)?;
        if expression.len() > EXPRESSION_LEN_MAX {
            return Err(NoSchedule::Expression(format!("it has more than {EXPRESSION_LEN_MAX} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| NoSchedule::Expression(error.to_string()))?;
        let schedule = Schedule { expression: expression.to_owned(), zone_name: zone_name.to_owned(), cron, zone };
        // Whatever comes round, comes round within the four centuries after which the calendar begins anew, and in fact within eight years
        // of a leap day. The moment is any: an answer that depended on today would make a configuration good on one day and bad on another.
        schedule.after(0).map(|_| schedule.clone()).ok_or(NoSchedule::Never)
    }

    /// The expression, as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The name of its time zone.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What makes two schedules the same: for who remembers what was due by another.
    pub fn terms(&self) -> String {
        format!("{} {}", self.expression, self.zone_name)
    }

    /// The first instant after this one at which it is due, in milliseconds since 1970. `None` where the calendar ends.
    pub fn after(&self, ms: u64) -> Option<u64> {
        let found = self.cron.find_next_occurrence(&self.at(ms)?, false).ok()?;
        Some(found.ms()).filter(|found| *found > ms)
    }

    /// The instants after this one, so many of them.
    pub fn next(&self, after_ms: u64, count: usize) -> Vec<u64> {
        let first = self.after(after_ms);
        std::iter::successors(first, |ms| self.after(*ms)).take(count).collect()
    }

    /// The last instant up to and with this one at which it is due, but after `floor_ms`; `None` where there is none.
    pub fn latest(&self, floor_ms: u64, ms: u64) -> Option<u64> {
        let before = self.cron.find_previous_occurrence(&self.at(ms)?, true).ok().map(|found| found.ms()).filter(|found| *found <= ms);
        // Going back, the hour that a change of clocks leaves out is not there, and the hour that comes twice is met from its other side.
        // Going forward decides: from what was found, if that is an instant, and else from the day before.
        let is_instant = |due: &u64| self.after(due - 1) == Some(*due);
        let mut latest = before.filter(|due| *due > 0).filter(is_instant);
        let from = latest.unwrap_or_else(|| before.unwrap_or(0).saturating_sub(A_DAY_MS));
        let mut next = self.after(from);
        while let Some(due) = next.filter(|due| *due <= ms) {
            latest = Some(due);
            next = self.after(due);
        }
        latest.filter(|due| *due > floor_ms)
    }

    fn at(&self, ms: u64) -> Option<At> {
        let at = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(At(at.to_zoned_datetime(self.zone.clone())))
    }
}

const A_DAY_MS: u64 = 24 * 60 * 60 * 1_000;

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.expression, &self.zone_name) == (&other.expression, &other.zone_name)
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({})", self.terms())
    }
}

impl fmt::Display for NoSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSchedule::Expression(why) => write!(f, "not five fields of cron (minute, hour, day, month, day of the week): {why}"),
            NoSchedule::Zone => f.write_str("there is no such time zone"),
            NoSchedule::Never => f.write_str("there is no such day"),
        }
    }
}

impl std::error::Error for NoSchedule {}

/// A moment in a zone, as croner asks for it.
#[derive(Clone)]
struct At(ZonedDateTime);

impl At {
    fn ms(&self) -> u64 {
        u64::try_from(self.0.timestamp().as_millisecond()).unwrap_or(0)
    }
}

fn civil(civil: CivilDateTime) -> Result<DateTime, CronError> {
    let small = |number: u32| i8::try_from(number).map_err(|_| CronError::InvalidTime);
    let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
    let (month, day) = (small(civil.month())?, small(civil.day())?);
    let (hour, minute, second) = (small(civil.hour())?, small(civil.minute())?, small(civil.second())?);
    DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)
}

impl CronDateTime for At {
    fn to_civil(&self) -> CivilDateTime {
        let part = |number: i8| u32::from(number.unsigned_abs());
        let now = self.0.datetime();
        let date = CivilDate::from_parts_unchecked(now.year().into(), part(now.month()), part(now.day()));
        CivilDateTime::new(date, CivilTime::from_parts_unchecked(part(now.hour()), part(now.minute()), part(now.second())))
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(u32::from(self.0.weekday().to_sunday_zero_offset().unsigned_abs()))
    }

    fn resolve_civil(&self, at: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let ambiguous = self.0.time_zone().to_ambiguous_zoned_datetime(civil(at)?);
        let or = |zoned: Result<ZonedDateTime, jiff::Error>| zoned.map(At).map_err(|_| CronError::InvalidTime);
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(or(ambiguous.unambiguous())?),
            AmbiguousOffset::Fold { .. } => Resolution::Ambiguous(or(ambiguous.clone().earlier())?, or(ambiguous.later())?),
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(At)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().expect("a moment").as_millisecond().try_into().expect("after 1970")
    }

    fn due(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(expression, zone).expect("a schedule");
        schedule.next(ms(from), count).into_iter().map(crate::moment::timestamp).map(|at| at[..16].to_owned()).collect()
    }

    #[test]
    fn the_hour_that_is_left_out_is_made_up_for_once() {
        // Berlin, 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC.
        let found = due("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 4);
        assert_eq!(found, ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]);
        // New York, 8 March 2026: 02:00 becomes 03:00, at 07:00 UTC.
        let found = due("0 2 * * *", "America/New_York", "2026-03-06T12:00:00Z", 3);
        assert_eq!(found, ["2026-03-07T07:00", "2026-03-08T07:00", "2026-03-09T06:00"]);
    }

    #[test]
    fn the_hour_that_comes_twice_has_one_run_of_a_daily_job() {
        // Berlin, 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC.
        let found = due("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 4);
        assert_eq!(found, ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]);
        // New York, 1 November 2026: 02:00 becomes 01:00, at 06:00 UTC.
        let found = due("30 1 * * *", "America/New_York", "2026-10-30T12:00:00Z", 3);
        assert_eq!(found, ["2026-10-31T05:30", "2026-11-01T05:30", "2026-11-02T06:30"]);
    }

    #[test]
    fn what_is_due_every_hour_is_due_every_hour_whatever_the_clock_shows() {
        for (zone, from) in [("Europe/Berlin", "2026-03-28T20:10:00Z"), ("Europe/Berlin", "2026-10-24T20:10:00Z")] {
            let hours = Schedule::parse("0 * * * *", zone).expect("a schedule").next(ms(from), 12);
            assert!(hours.windows(2).all(|pair| pair[1] - pair[0] == 3_600_000), "{zone} {from}: {hours:?}");
        }
        let quarters = Schedule::parse("*/15 * * * *", "America/New_York").expect("a schedule").next(ms("2026-11-01T03:50:00Z"), 40);
        assert!(quarters.windows(2).all(|pair| pair[1] - pair[0] == 900_000), "{quarters:?}");
    }

    #[test]
    fn the_same_instants_follow_from_wherever_it_is_asked() {
        let seed = std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("a number"));
        let mut random = fastrand::Rng::with_seed(seed);
        let days = [
            ("Europe/Berlin", "2026-03-27T00:00:00Z"),
            ("America/New_York", "2026-10-30T00:00:00Z"),
            ("Asia/Kathmandu", "2026-06-01T00:00:00Z"),
        ];
        for expression in ["30 2 * * *", "0 2 * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 3 * * 0", "0 4 1 * *", "30 1-3 * * *"] {
            for (zone, from) in days {
                let schedule = Schedule::parse(expression, zone).expect("a schedule");
                let all = schedule.next(ms(from), 60);
                assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "in order");
                for _ in 0..6 {
                    let at = random.u64(ms(from)..all[all.len() - 1].min(ms(from) + 5 * A_DAY_MS));
                    let following = all.iter().copied().find(|due| *due > at);
                    assert_eq!(schedule.after(at), following, "LARDER_SEED={seed}: {expression} {zone} after {at}");
                    let last = all.iter().copied().rev().find(|due| *due <= at);
                    assert_eq!(schedule.latest(ms(from), at), last, "LARDER_SEED={seed}: {expression} {zone} up to {at}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let no = |expression: &str, zone: &str| Schedule::parse(expression, zone).expect_err("it is none");
        assert_eq!(no("0 2 * * *", "Europe/Atlantis"), NoSchedule::Zone);
        for wrong in ["", "0 2 * *", "61 * * * *", "0 0 2 * * *", "0 2 * * MOONDAY", "0 2 * * * 2030", "\u{0}", "*/0 * * * *"] {
            assert!(matches!(no(wrong, "UTC"), NoSchedule::Expression(_)), "{wrong:?}");
        }
        assert!(matches!(no(&"1,".repeat(500), "UTC"), NoSchedule::Expression(_)));
        let begun = std::time::Instant::now();
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 *"] {
            assert_eq!(no(never, "Europe/Berlin"), NoSchedule::Never, "{never}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "whoever writes a configuration does not wait for the end of time");
        assert_eq!(due("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2), ["2028-02-29T00:00", "2032-02-29T00:00"]);
        assert_eq!(due("@weekly", "UTC", "2026-01-01T00:00:00Z", 1), ["2026-01-04T00:00"]);
    }
}
