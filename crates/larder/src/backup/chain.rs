//! A backup and those that it stands on.

use std::sync::Arc;

use super::manifest::{CHAIN_MAX, Manifest, read_sealed};
use super::place::{MANIFEST, check_backup_name};
use super::seal::{Opener, Readable};
use super::{Place, blocking};
use crate::error::{Error, ErrorKind, Result};

/// The manifest of a backup, and its digest.
pub(super) async fn sealed(place: &Arc<dyn Place>, name: &str) -> Result<(Manifest, String)> {
    let (place, name) = (place.clone(), name.to_owned());
    blocking(move || read_sealed(&*place, &name)).await
}

/// A backup and all that it stands on, the newest first, none of which is removed where that can be prevented, until it is dropped.
pub(super) struct Chain {
    backups: Vec<Readable>,
    _held: Vec<Box<dyn Send + Sync>>,
}

impl Chain {
    /// Refuses one of which anything is sealed that nothing was given to open.
    pub(super) fn check_open(&self) -> Result<()> {
        self.iter().find(|backup| backup.is_closed()).map_or(Ok(()), |closed| Err(closed.closed()))
    }
}

impl std::ops::Deref for Chain {
    type Target = [Readable];

    fn deref(&self) -> &[Readable] {
        &self.backups
    }
}

/// A backup and all that it stands on, the newest first, each ready to be read if that takes no key, or with what the opener has. Blocks.
///
/// Each is the very one that the next was taken on, by its digest, so that there can be no circle, and nothing stands on another backup
/// that got its name.
pub(super) fn load(place: &dyn Place, name: &str, opener: Option<&dyn Opener>) -> Result<Chain> {
    check_backup_name(name)?;
    let hold = |name: &str| place.hold(name).map_err(|e| super::cannot_read(place, name, MANIFEST, e));
    // From the newest on: who prunes leaves alone what one that is held stands on.
    let mut held = vec![hold(name)?];
    let mut chain = vec![read_sealed(place, name)?.0];
    while let Some(parent) = chain.last().and_then(|newest| newest.parent.clone()) {
        let child = chain.last().expect("it has a parent");
        let broken =
            |why: &str| Error::new(ErrorKind::BadArchive, format!("{}/manifest.json stands on \"{}\", {why}", child.name, parent.name));
        let gone = |error: Error| if error.kind() == ErrorKind::NotFound { broken("which is not there any more") } else { error };
        held.push(hold(&parent.name).map_err(gone)?);
        let (manifest, digest) = read_sealed(place, &parent.name).map_err(gone)?;
        if digest != parent.blake3 {
            return Err(broken("and another backup has that name now"));
        }
        if manifest.epoch != child.epoch || manifest.position != parent.position || manifest.depth + 1 != child.depth {
            return Err(broken("which says otherwise"));
        }
        if manifest.position > child.position {
            return Err(broken("which is newer than itself"));
        }
        chain.push(manifest);
        debug_assert!(chain.len() <= CHAIN_MAX as usize + 1, "depths were compared");
    }
    // Only when all of it is known to be there: a passphrase takes a while to try.
    let backups = chain.into_iter().map(|manifest| Readable::of(place, manifest, opener)).collect::<Result<_>>()?;
    Ok(Chain { backups, _held: held })
}
