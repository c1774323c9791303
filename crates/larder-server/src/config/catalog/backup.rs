//! The section about backups.

use super::{Section, optional, setting};
use crate::config::value::Kind;

/// How many of some kind of backup stay.
const KEPT: Kind = Kind::Count { least: 0, most: 10_000 };

/// Where backups are kept, and which.
pub const BACKUP: Section = Section {
    name: "backup",
    about: "Backups: where larder backup and the scheduled work keep them, and which stay. A backup is taken while the server serves; what was invalidated after it stays dead when it is restored.",
    settings: &[
        optional(
            "place",
            Kind::Text("a folder, as /var/backups/larder, or a bucket, as s3://bucket/prefix?endpoint=https://host&region=eu-central-1"),
            "Where: a folder, or a bucket of S3 or of what speaks its protocol, whose keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment. Without it, backups in the folder of the entries; where there is none, there are no backups. Better on another disk.",
        ),
        setting(
            "more_places",
            Kind::Texts("file:///mnt/usb/larder"),
            "",
            "Where else who asks may have backups put, and read from (--to). No other place can be asked for.",
        ),
        setting("keep_last", KEPT, "0", "How many of the last backups stay when they are pruned. With 0 here and for all periods, all do."),
        setting("keep_daily", KEPT, "7", "Of how many days the newest stays. Days, weeks and months are those of UTC."),
        setting("keep_weekly", KEPT, "4", "Of how many weeks the newest stays."),
        setting("keep_monthly", KEPT, "12", "Of how many months the newest stays. What a backup that stays stands on stays, too."),
        setting(
            "incrementals",
            Kind::Count { least: 0, most: 64 },
            "0",
            "How many backups of what changed alone the scheduled work takes after each full one.",
        ),
        setting("namespaces", Kind::Texts("features"), "", "The namespaces that the scheduled work takes. Without any, all."),
    ],
};
