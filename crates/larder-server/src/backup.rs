//! Backups of a server: where they are kept, which stay, and the one long piece of work on them that may run at a time.
//!
//! What a backup *is*, and everything that decides what comes back, is the library's ([`larder::backup`]). Here it gets an address, a
//! retention, a name by the clock, and somebody who looks on.

use std::fmt;
use std::sync::Arc;

use larder::backup::{BackupOptions, Manifest, Place, Retention, Sealer, Watch, prune, read_manifest};
use larder::{ErrorKind, Larder};
use serde_json::{Value as Json, json};

use crate::moment::timestamp;
use crate::progress::Progress;
use keys::{Keys, SealBy};
use places::PlaceAddress;

pub mod keys;
pub mod places;
pub mod runs;

/// Where backups are kept, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSettings {
    /// Where they are kept unless something else is asked for.
    pub place: PlaceAddress,
    /// Where else they may be asked to be.
    pub more_places: Vec<PlaceAddress>,
    /// Which stay when the scheduled work prunes.
    pub retention: Retention,
    /// How many backups with only what changed the scheduled work takes after each full one.
    pub incrementals: u32,
    /// The namespaces that the scheduled work takes; empty: all.
    pub namespaces: Vec<String>,
    /// What backups are sealed by, unless something else is asked for; `None`: they are not.
    pub seal_by: Option<SealBy>,
    /// What opens those that are sealed.
    pub keys: Keys,
    /// Whether backups are taken by schedule. Default: where a place is named. Nobody is to find a disk full of what they did not ask for.
    pub scheduled: bool,
}

impl BackupSettings {
    /// Everything in one folder, for ever.
    pub fn in_folder(folder: impl Into<std::path::PathBuf>) -> Self {
        BackupSettings {
            place: PlaceAddress::Folder(folder.into()),
            more_places: Vec::new(),
            retention: Retention::default(),
            incrementals: 0,
            namespaces: Vec::new(),
            seal_by: None,
            keys: Keys::default(),
            scheduled: true,
        }
    }

    /// The place of this address, if it is one of those that may be asked for; without one, the first.
    ///
    /// # Errors
    /// [`BackupError::Refused`] for another: whoever may ask a server for backups may not therefore write wherever the server can.
    pub fn place(&self, asked: Option<&str>) -> Result<Arc<dyn Place>, BackupError> {
        let address = match asked {
            None => &self.place,
            Some(text) => {
                let asked = text.parse::<PlaceAddress>().map_err(BackupError::Refused)?;
                let known = std::iter::once(&self.place).chain(&self.more_places).find(|place| **place == asked);
                known.ok_or_else(|| {
                    BackupError::Refused(format!("{asked} is none of the places of this server's configuration: see backup.more_places"))
                })?
            }
        };
        address.open().map_err(BackupError::Refused)
    }

    /// What seals one backup, by what is asked for or by what is configured.
    ///
    /// # Errors
    /// Where it cannot.
    pub async fn sealer(&self, asked: Option<SealBy>) -> Result<Option<Arc<dyn Sealer>>, BackupError> {
        let Some(seal_by) = asked.or_else(|| self.seal_by.clone()) else { return Ok(None) };
        aside(move || seal_by.sealer().map(Some).map_err(BackupError::Refused)).await
    }
}

/// Why something about backups was not done.
#[derive(Debug)]
pub enum BackupError {
    /// The library says why.
    Failed(larder::Error),
    /// What was asked for makes no sense here.
    Refused(String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Failed(error) => error.fmt(f),
            BackupError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BackupError::Failed(error) => Some(error),
            BackupError::Refused(_) => None,
        }
    }
}

impl From<larder::Error> for BackupError {
    fn from(error: larder::Error) -> Self {
        BackupError::Failed(error)
    }
}

impl Watch for Progress {
    fn at(&self, doing: &str, done: u64, of: Option<u64>) {
        Progress::at(self, doing, done, of);
    }

    fn is_cancelled(&self) -> bool {
        Progress::is_cancelled(self)
    }
}

/// A name by the clock, such that names in order are backups in order: `20261127T033000Z-3f9a`.
pub fn name_at(now_ms: u64) -> String {
    let digits: String = timestamp(now_ms)[..19].chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{digits}Z-{:04x}", fastrand::u16(..))
}

/// The scheduled work: takes a backup, then removes those that need not stay.
///
/// It is one with only what changed while there are fewer than [`incrementals`](BackupSettings::incrementals) since the last full one,
/// which is of the same epoch and the same namespaces, and encrypted or not as this one is to be: who begins to encrypt does not expect
/// that for weeks a backup stands on one that everybody can read.
///
/// # Errors
/// As [`Larder::backup`]; a backup that was taken stays when pruning fails.
pub async fn run(larder: &Larder, settings: &BackupSettings, progress: &Arc<Progress>) -> Result<Json, BackupError> {
    let place = settings.place(None)?;
    let parent = parent(larder, settings, place.clone()).await?;
    let name = name_at(larder.clock().refresh());
    let sealer = settings.sealer(None).await?;
    let options = BackupOptions { namespaces: settings.namespaces.clone(), parent, sealer, ..BackupOptions::new(name) };
    let manifest = larder.backup(place.clone(), &options, progress.clone()).await?;
    let (retention, watch) = (settings.retention, progress.clone());
    let pruned = aside(move || Ok(prune(&*place, retention, false, &*watch)?)).await?;
    Ok(json!({ "backup": summary(&manifest), "pruned": pruned }))
}

/// What a scheduled backup stands on, if it is to stand on any.
async fn parent(larder: &Larder, settings: &BackupSettings, place: Arc<dyn Place>) -> Result<Option<String>, BackupError> {
    if settings.incrementals == 0 {
        return Ok(None);
    }
    let manifests = aside(move || Ok(all(&*place)?.0)).await?;
    let epoch = larder.position().epoch();
    let newest = manifests.into_iter().max_by_key(|manifest| manifest.taken_at_ms);
    let stands = newest
        .filter(|newest| newest.position().epoch() == epoch && newest.depth < settings.incrementals && newest.only == settings.namespaces)
        .filter(|newest| newest.encryption.is_some() == settings.seal_by.is_some());
    Ok(stands.map(|newest| newest.name))
}

/// Backups whose manifest cannot be read, and why.
pub type Unreadable = Vec<(String, larder::Error)>;

/// The manifests of all backups in a place that can be read, and what is wrong with the others. Blocks.
///
/// # Errors
/// When the place cannot be listed.
pub fn all(place: &dyn Place) -> Result<(Vec<Manifest>, Unreadable), BackupError> {
    let names = place.list().map_err(|error| BackupError::Refused(format!("{} cannot be listed: {error}", place.describe())))?;
    let (mut manifests, mut bad) = (Vec::new(), Vec::new());
    for name in names {
        match read_manifest(place, &name) {
            Ok(manifest) => manifests.push(manifest),
            // Removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => bad.push((name, error)),
        }
    }
    manifests.sort_by(|a, b| (a.taken_at_ms, &a.name).cmp(&(b.taken_at_ms, &b.name)));
    Ok((manifests, bad))
}

/// What a list says of a backup.
pub fn summary(manifest: &Manifest) -> Json {
    json!({
        "name": manifest.name,
        "taken_at_ms": manifest.taken_at_ms,
        "position": manifest.position().to_string(),
        "fuzzy": manifest.fuzzy,
        "parent": manifest.parent.as_ref().map(|parent| &parent.name),
        "entries": manifest.entries,
        "bytes": manifest.bytes,
        "stored_bytes": manifest.stored_bytes(),
        "encryption": manifest.encryption,
    })
}

/// What a list of a place says.
pub fn listing(place: &dyn Place) -> Result<Json, BackupError> {
    let (manifests, bad) = all(place)?;
    let unreadable: Vec<Json> = bad.iter().map(|(name, error)| json!({ "name": name, "error": error.to_string() })).collect();
    let backups: Vec<Json> = manifests.iter().map(summary).collect();
    Ok(json!({ "place": place.describe(), "backups": backups, "unreadable": unreadable }))
}

/// On a thread that may block.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, BackupError> + Send + 'static) -> Result<T, BackupError> {
    let ended = |error| Err(BackupError::Refused(format!("it ended before its time: {error}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_clock_are_names_in_order() {
        let (a, b) = (name_at(1_764_149_400_123), name_at(1_764_149_401_123));
        assert!(a.starts_with("20251126T093000Z-") && a < b, "{a} {b}");
        larder::backup::check_backup_name(&a).expect("it is a name");
    }

    #[tokio::test]
    async fn the_scheduled_work_takes_full_ones_and_what_changed_since_and_prunes() {
        let folder = tempfile::tempdir().expect("a folder");
        let larder = Larder::builder().build().await.expect("a cache");
        let settings = BackupSettings {
            incrementals: 1,
            retention: Retention { last: 2, ..Retention::default() },
            seal_by: Some(SealBy::Recipients(vec![keys::EXAMPLE.parse().expect("a key")])),
            ..BackupSettings::in_folder(folder.path())
        };
        let mut taken = Vec::new();
        for n in 0..3 {
            larder.raw().put(format!("a:{n}"), bytes::Bytes::from("x")).await.expect("a put");
            let told = run(&larder, &settings, &Arc::default()).await.expect("it runs");
            assert_eq!(told["backup"]["encryption"]["recipients"], json!([keys::EXAMPLE]), "{told}");
            taken.push((told["backup"]["name"].as_str().expect("a name").to_owned(), told["backup"]["parent"].clone()));
        }
        assert_eq!(taken[1].1, json!(taken[0].0), "the second stands on the first");
        assert_eq!((&taken[0].1, &taken[2].1), (&Json::Null, &Json::Null));
        let place = settings.place(None).expect("the place");
        assert_eq!(all(&*place).expect("a list").0.len(), 3, "two are kept, and what one of them stands on");
        assert!(settings.place(Some("file:///elsewhere")).is_err(), "only where the configuration says");
        let plain = BackupSettings { seal_by: None, retention: Retention { last: 9, ..Retention::default() }, ..settings.clone() };
        let told = run(&larder, &plain, &Arc::default()).await.expect("it runs");
        assert_eq!(told["backup"]["parent"], Json::Null, "none stands on one that is kept in another way: {told}");
        let told = run(&larder, &settings, &Arc::default()).await.expect("it runs");
        assert_eq!(told["backup"]["parent"], Json::Null, "{told}");
    }
}
