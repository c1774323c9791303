//! The settings of a job.

use super::{Kind, Section, optional, setting};

/// The jobs.
pub const JOBS: Section = Section {
    name: "jobs",
    about: "What the server does by itself, each written [jobs.cleanup], [jobs.optimize] and so on. Servers that share a Redis do each once, whichever is there. See larder jobs.",
    settings: &[
        setting("enabled", Kind::Flag, "true", "Whether it is done."),
        optional(
            "schedule",
            Kind::Text("five fields of cron such as \"0 2 * * *\", or @daily"),
            "When: minute, hour, day of the month, month, day of the week. Without it, cleanup is due at \"0 2 * * *\", optimize at \"0 3 * * 0\", analyze at \"0 4 1 * *\" and backup at \"0 1 * * *\".",
        ),
        setting(
            "zone",
            Kind::Text("a time zone of the IANA database such as \"Europe/Berlin\""),
            "UTC",
            "The time zone of the schedule. What falls into an hour that a change of clocks leaves out is done when it is over; what falls into one that comes twice, once.",
        ),
        setting(
            "overlap",
            Kind::Choice(&["skip", "queue"]),
            "skip",
            "What becomes of what is due while the run before is under way: nothing is done for it (skip), or it waits for its turn (queue).",
        ),
        setting(
            "missed",
            Kind::Choice(&["skip", "once", "all"]),
            "once",
            "What becomes of what nobody began in time, because no server was there: nothing is done for it (skip), the last is made up for (once), or each is, up to a hundred (all).",
        ),
        setting("start_deadline", Kind::Time, "1h", "How late a run may begin and still be in time."),
        setting(
            "jitter",
            Kind::Time,
            "0s",
            "By how much a run is put off at most, so that not everything begins on the hour. At most a day.",
        ),
        setting("timeout", Kind::Time, "1h", "How long one attempt may take. At least a second."),
        setting("retries", Kind::Count { least: 0, most: 20 }, "2", "How often it is tried again when it fails."),
        setting("backoff", Kind::Time, "30s", "How long it waits before it is tried again; twice as long each next time, an hour at most."),
    ],
};
