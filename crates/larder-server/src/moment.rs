//! Moments as people read them, in universal time: a server and who looks at it may be in two places.

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// `09:30:00.123`.
pub fn time_of_day(ms: u64) -> String {
    let of_day = ms % DAY_MS;
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-26 09:30:00`.
pub fn date_and_time(ms: u64) -> String {
    let (year, month, day) = date(ms / DAY_MS);
    format!("{year:04}-{month:02}-{day:02} {}", &time_of_day(ms)[..8])
}

/// `2026-11-26T09:30:00.123Z`, as RFC 3339 has it.
pub fn timestamp(ms: u64) -> String {
    let (year, month, day) = date(ms / DAY_MS);
    format!("{year:04}-{month:02}-{day:02}T{}Z", time_of_day(ms))
}

/// The date so many days after the beginning of 1970. Counted in years that begin with March, so that the day that not every
/// year has is the last.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years, and from 1 March of the year 0 to 1970.
    const ERA: u64 = 146_097;
    const BEFORE: u64 = 719_468;
    let days = days + BEFORE;
    let (era, of_era) = (days / ERA, days % ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (1_764_149_400, "2025-11-26 09:30:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (4_102_444_799, "2099-12-31 23:59:59"),
        ] {
            assert_eq!(date_and_time(seconds * 1_000 + 999), expected);
        }
        assert_eq!(time_of_day(1_764_149_400_123), "09:30:00.123");
        assert_eq!(timestamp(1_764_149_400_123), "2025-11-26T09:30:00.123Z");
    }
}
