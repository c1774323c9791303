//! Room on the disk that holds the data folder.

use std::io;
use std::path::{Path, PathBuf};

use super::judge::{InARow, Judge};
use super::{Health, Look, Observed, State, look_on};
use crate::config::units::{Size, roughly};
use crate::settings::HealthLimits;

pub(super) fn watch(health: &mut Health, folder: PathBuf, limits: &HealthLimits) {
    let slot = health.add("disk", "system", false);
    let judge = Judge::new(InARow { worse: limits.fails_after, better: limits.recovers_after });
    let (low, least) = (limits.disk_free_degraded, limits.disk_free_unhealthy);
    let what = format!("the file system of {} does not say how much room it has within {:?}", folder.display(), limits.probe_timeout);
    let late = Look::bad(State::Degraded, what, "see to the disk: reads and writes of it may hang as well", Vec::new());
    let times = (limits.probe_every, limits.probe_timeout);
    let look = move || {
        let folder = folder.clone();
        // A file system that is away over a network answers when it is back.
        let asking = tokio::task::spawn_blocking(move || (room(&folder), folder));
        async move {
            match asking.await {
                Ok((room, folder)) => judge_room(&folder, room, low, least),
                Err(_) => Look::bad(State::Degraded, "looking at the disk panicked", "this is a fault of larder", Vec::new()),
            }
        }
    };
    health.spawn(look_on(slot, judge, times, late, look));
}

/// Bytes that a program without special rights may still write, and all bytes.
fn room(folder: &Path) -> io::Result<(u64, u64)> {
    let room = rustix::fs::statvfs(folder)?;
    Ok((room.f_bavail.saturating_mul(room.f_frsize), room.f_blocks.saturating_mul(room.f_frsize)))
}

pub(super) fn judge_room(folder: &Path, room: io::Result<(u64, u64)>, low: u64, least: u64) -> Look {
    let folder = folder.display();
    let (free, all) = match room {
        Ok(room) => room,
        Err(error) => {
            let what = format!("the file system of {folder} does not say how much room it has: {error}");
            return Look::bad(State::Degraded, what, "see whether the folder is still there and the disk still mounted", Vec::new());
        }
    };
    let observed = vec![Observed::new("free", free, "bytes"), Observed::new("size", all, "bytes")];
    let advice = "make room on it, or give larder less of it (setting: disk)";
    let short = |limit: u64, then: &str| format!("{} are free on the disk of {folder}, less than {}{then}", roughly(free), Size(limit));
    if free < least {
        Look::bad(State::Unhealthy, short(least, ": the log and the entries may soon take no changes"), advice, observed)
    } else if free < low {
        Look::bad(State::Degraded, short(low, ""), advice, observed)
    } else {
        Look::healthy(observed)
    }
}
