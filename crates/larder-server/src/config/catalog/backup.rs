//! The section about backups.

use super::{Section, optional, setting};
use crate::backup::keys::EXAMPLE;
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
        optional(
            "encrypt_to",
            Kind::Texts(EXAMPLE),
            "Public keys of age (age-keygen makes them) that backups are encrypted to: whoever has the secret key of any of them can open one, and this server cannot, unless it is among its identities. Without it and without passphrase, they are not encrypted.",
        ),
        optional(
            "passphrase",
            Kind::Secret,
            "Where the passphrase is, of 12 characters or more, that backups are encrypted by, in the place of encrypt_to; and that opens those that were.",
        ),
        optional(
            "identities",
            Kind::Secrets,
            "Where files of secret keys of age are, which open backups that are verified, compared or restored here. Who asks may give another (--identity).",
        ),
        setting("namespaces", Kind::Texts("features"), "", "The namespaces that the scheduled work takes. Without any, all."),
    ],
};
