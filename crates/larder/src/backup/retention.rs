//! Which backups stay, and removing the others.
//!
//! Kept are the last few, and the newest of each of the last few days, weeks and months that have one, by UTC; and whatever one of those
//! stands on, since a backup without its parent is none.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::manifest::{Manifest, read_manifest};
use super::place::check_backup_name;
use super::{Place, Watch, cancelled};
use crate::error::{Error, ErrorKind, Result};

/// Which day, week or month a moment is in.
type Period = fn(u64) -> u64;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// How many backups stay. None of each: nothing is ever removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The last so many.
    pub last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks, which begin on Mondays.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
}

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Backups that were removed, or would be, the oldest first.
    pub removed: Vec<String>,
    /// Bytes of theirs.
    pub bytes: u64,
    /// Backups that stay.
    pub kept: Vec<String>,
    /// What was left of backups that were never finished, and was removed.
    pub unfinished: Vec<String>,
    /// Backups that were to go, and stay because they are being read, or because what is being read stands on them.
    pub in_use: Vec<String>,
    /// Backups whose manifest cannot be read. They stay, for somebody to look at.
    pub unreadable: Vec<String>,
    /// Whether it was only counted.
    pub dry_run: bool,
}

impl Retention {
    fn is_none(self) -> bool {
        self == Retention::default()
    }

    /// The names of the backups that stay.
    pub fn keeps<'a>(&self, manifests: &'a [Manifest]) -> BTreeSet<&'a str> {
        let mut newest_first: Vec<&Manifest> = manifests.iter().collect();
        newest_first.sort_unstable_by(|a, b| (b.taken_at_ms, &b.name).cmp(&(a.taken_at_ms, &a.name)));
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        if self.is_none() {
            kept.extend(newest_first.iter().map(|manifest| manifest.name.as_str()));
        }
        kept.extend(newest_first.iter().take(self.last as usize).map(|manifest| manifest.name.as_str()));
        for (count, period) in [(self.daily, day as Period), (self.weekly, week), (self.monthly, month)] {
            let mut seen = BTreeSet::new();
            for manifest in &newest_first {
                if seen.len() == count as usize {
                    break;
                }
                if seen.insert(period(manifest.taken_at_ms)) {
                    kept.insert(&manifest.name);
                }
            }
        }
        // What is kept brings along all that it stands on.
        let parents: HashMap<&str, &str> =
            manifests.iter().filter_map(|manifest| Some((manifest.name.as_str(), manifest.parent.as_ref()?.name.as_str()))).collect();
        for name in kept.clone() {
            let mut at = name;
            while let Some(parent) = parents.get(at) {
                if !kept.insert(parent) {
                    break;
                }
                at = parent;
            }
        }
        kept
    }
}

/// Removes what a retention does not keep, and what is left of backups that were never finished. Blocks.
///
/// Each backup goes manifest first, children before parents, so that at no moment a backup is listed of which something is gone. One that
/// is being read stays, with all that it stands on, where the place can tell.
///
/// # Errors
/// [`ErrorKind::Backup`] when the place fails, or a backup is being written there; [`ErrorKind::Cancelled`]. What was removed by then is.
pub fn prune(place: &dyn Place, retention: Retention, dry_run: bool, watch: &dyn Watch) -> Result<Pruned> {
    let failed = |what: &str, e| Error::new(ErrorKind::Backup, format!("{} cannot be {what}", place.describe())).with_source(e);
    let _still = place.hold_still().map_err(|e| failed("pruned now", e))?;
    let mut pruned = Pruned { dry_run, ..Pruned::default() };
    let mut manifests = Vec::new();
    for name in place.list().map_err(|e| failed("listed", e))? {
        match read_manifest(place, &name) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => {
                tracing::warn!(name, %error, "a backup cannot be read, and is left alone");
                pruned.unreadable.push(name);
            }
        }
    }
    let kept = if pruned.unreadable.is_empty() {
        retention.keeps(&manifests)
    } else {
        // One that cannot be read may stand on any of the others.
        Retention::default().keeps(&manifests)
    };
    pruned.kept = kept.iter().map(|name| (*name).to_owned()).collect();
    let mut going: Vec<&Manifest> = manifests.iter().filter(|manifest| !kept.contains(manifest.name.as_str())).collect();
    // Who stands on others goes before them.
    going.sort_unstable_by_key(|manifest| (std::cmp::Reverse(manifest.depth), manifest.taken_at_ms));
    let of = going.len() as u64;
    let mut parents_in_use: BTreeSet<&str> = BTreeSet::new();
    for (done, manifest) in going.into_iter().enumerate() {
        watch.at("removing backups", done as u64, Some(of));
        if watch.is_cancelled() {
            return Err(cancelled("pruning"));
        }
        // Children come first, so who stands on it is known to stay.
        let removing = if parents_in_use.contains(manifest.name.as_str()) {
            Err(io::ErrorKind::WouldBlock.into())
        } else if dry_run {
            Ok(())
        } else {
            place.remove(&manifest.name)
        };
        match removing {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                parents_in_use.extend(manifest.parent.as_ref().map(|parent| parent.name.as_str()));
                pruned.in_use.push(manifest.name.clone());
                continue;
            }
            removed => removed.map_err(|e| failed(&format!("pruned of \"{}\"", manifest.name), e))?,
        }
        pruned.bytes += manifest.stored_bytes();
        pruned.removed.push(manifest.name.clone());
    }
    for name in place.unfinished().map_err(|e| failed("listed", e))? {
        if check_backup_name(&name).is_ok() {
            if !dry_run {
                place.remove(&name).map_err(|e| failed(&format!("pruned of the rest of \"{name}\""), e))?;
            }
            pruned.unfinished.push(name);
        }
    }
    Ok(pruned)
}

fn day(ms: u64) -> u64 {
    ms / DAY_MS
}

/// The first of January 1970 was a Thursday.
fn week(ms: u64) -> u64 {
    (day(ms) + 3) / 7
}

/// Months since the year 0, by the civil calendar (Howard Hinnant's `civil_from_days`).
fn month(ms: u64) -> u64 {
    let days = day(ms) + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on.
    let month = (5 * day_of_year + 2) / 153;
    12 * (era * 400 + year_of_era) + month + 2
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Parent;
    use super::super::manifest::tests::manifest;
    use super::super::{FolderPlace, MANIFEST};
    use super::*;

    fn taken(name: &str, at: u64, parent: Option<(&str, u32)>) -> Manifest {
        let mut one = manifest(name);
        one.taken_at_ms = at;
        one.parent = parent.map(|(name, _)| Parent { name: name.into(), blake3: one.index.blake3.clone(), position: 7 });
        one.depth = parent.map_or(0, |(_, depth)| depth);
        one
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        // 2024-02-29, 2024-03-01, 2023-12-31, 2024-01-01, 1970-01-01; in days since 1970.
        let of = |days: u64| (month(days * DAY_MS) / 12, month(days * DAY_MS) % 12 + 1);
        assert_eq!([19_782, 19_783, 19_722, 19_723, 0].map(of), [(2024, 2), (2024, 3), (2023, 12), (2024, 1), (1970, 1)]);
        assert_ne!(week(3 * DAY_MS), week(4 * DAY_MS), "Sunday the 4th and Monday the 5th of January 1970");
        assert_eq!(week(4 * DAY_MS), week(10 * DAY_MS));
    }

    #[test]
    fn the_newest_of_each_period_stays_and_what_it_stands_on() {
        // One a day for sixty days, from 2024-01-01; each third stands on the one before, and the next on that.
        let all: Vec<Manifest> = (0..60u64)
            .map(|n| {
                let name = |n: u64| format!("d{n:02}");
                let parent = name(n.saturating_sub(1));
                let depth = n as u32 % 3;
                taken(&name(n), (19_723 + n) * DAY_MS, (depth > 0).then_some((parent.as_str(), depth)))
            })
            .collect();
        let kept = |retention: Retention| retention.keeps(&all).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kept(Retention { last: 1, ..Default::default() }), ["d57", "d58", "d59"], "d59 stands on d58 and that on d57");
        assert_eq!(kept(Retention { daily: 2, ..Default::default() }), ["d57", "d58", "d59"]);
        assert_eq!(kept(Retention { monthly: 3, ..Default::default() }), ["d30", "d57", "d58", "d59"], "the last of January stands alone");
        assert_eq!(kept(Retention { weekly: 2, ..Default::default() }), ["d54", "d55", "d57", "d58", "d59"], "d55 is a Sunday");
        assert_eq!(kept(Retention::default()).len(), 60, "who says nothing loses nothing");
    }

    #[test]
    fn pruning_removes_the_rest_and_what_was_never_finished_and_leaves_what_it_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = FolderPlace::new(folder.path());
        for n in 0..4u64 {
            let one = taken(&format!("b{n}"), n * DAY_MS, None);
            let _begun = place.begin(&one.name).unwrap();
            place.put(&one.name, "segment-000001", b"x").unwrap();
            place.put(&one.name, MANIFEST, &one.encode().unwrap().0).unwrap();
        }
        drop(place.begin("half").unwrap());
        let retention = Retention { last: 2, ..Default::default() };
        let counted = prune(&place, retention, true, &()).unwrap();
        assert_eq!((counted.removed.len(), counted.unfinished.len(), place.list().unwrap().len()), (2, 1, 4));
        let pruned = prune(&place, retention, false, &()).unwrap();
        assert_eq!((pruned.removed, pruned.kept), (vec!["b0".to_owned(), "b1".into()], vec!["b2".to_owned(), "b3".into()]));
        assert_eq!((place.list().unwrap(), place.unfinished().unwrap().len()), (vec!["b2".to_owned(), "b3".into()], 0));

        std::fs::write(folder.path().join("b3").join(MANIFEST), b"{}").unwrap();
        let left = prune(&place, Retention { last: 1, ..Default::default() }, false, &()).unwrap();
        assert_eq!((left.removed.len(), left.unreadable), (0, vec!["b3".to_owned()]), "b3 might stand on b2");
        let writing = place.begin("more").unwrap();
        assert_eq!(prune(&place, retention, false, &()).unwrap_err().kind(), ErrorKind::Backup);
        drop(writing);
    }

    #[test]
    fn what_is_being_read_stays_with_what_it_stands_on() {
        let folder = tempfile::tempdir().unwrap();
        let place = FolderPlace::new(folder.path());
        let mut parent: Option<Parent> = None;
        for n in 0..4u32 {
            let mut one = taken(&format!("b{n}"), u64::from(n) * DAY_MS, None);
            (one.depth, one.parent) = (n % 3, parent.filter(|_| n % 3 > 0));
            let _begun = place.begin(&one.name).unwrap();
            let (bytes, blake3) = one.encode().unwrap();
            place.put(&one.name, MANIFEST, &bytes).unwrap();
            parent = Some(Parent { name: one.name, blake3, position: one.position });
        }
        let reading = super::super::chain::load(&place, "b1", None).unwrap();
        let retention = Retention { last: 1, ..Default::default() };
        let pruned = prune(&place, retention, false, &()).unwrap();
        assert_eq!((pruned.removed, pruned.in_use), (vec!["b2".to_owned()], vec!["b1".to_owned(), "b0".into()]));
        assert_eq!(place.list().unwrap(), ["b0", "b1", "b3"]);
        drop(reading);
        assert_eq!(prune(&place, retention, false, &()).unwrap().removed.len(), 2);
    }
}
