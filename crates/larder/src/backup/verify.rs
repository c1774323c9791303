//! Whether a backup is whole: every byte of every file, down to the last record.

use std::collections::HashSet;

use super::chain::Chain;
use super::frame::bad;
use super::seal::Opener;
use super::{Place, Watch, archive, cancelled, chain, source};
use crate::error::{Error, ErrorKind, Result};
use crate::key::namespace_of;

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// The backup and those that it stands on, the newest first.
    pub backups: Vec<String>,
    /// Their entries.
    pub entries: u64,
    /// Their bytes, as they are kept.
    pub bytes: u64,
    /// Those of them that are encrypted, and that nothing was given to open: their files are what their manifests say, and what is in them
    /// was not looked at. Their entries are not counted.
    pub unopened: Vec<String>,
}

/// Reads all of a backup, and of those that it stands on, and compares it with what it should be. Blocks.
///
/// One that is encrypted is opened with what the opener has. Without one only what is stored is compared, byte for byte, and said so.
///
/// # Errors
/// [`ErrorKind::BadArchive`] names the file, and where in it something is wrong; [`ErrorKind::UnknownFormat`];
/// [`ErrorKind::Sealed`] where the opener has not what opens it;
/// [`ErrorKind::NotFound`]; [`ErrorKind::Backup`] where the place cannot be read; [`ErrorKind::Cancelled`].
pub fn verify(place: &dyn Place, name: &str, opener: Option<&dyn Opener>, watch: &dyn Watch) -> Result<Verified> {
    verify_chain(place, &chain::load(place, name, opener)?, watch)
}

pub(super) fn verify_chain(place: &dyn Place, chain: &Chain, watch: &dyn Watch) -> Result<Verified> {
    let of: u64 = chain.iter().map(|backup| backup.stored_bytes()).sum();
    let mut verified = Verified { backups: chain.iter().map(|manifest| manifest.name.clone()).collect(), ..Verified::default() };
    for manifest in chain.iter() {
        if manifest.is_closed() {
            source::all_stored(place, manifest, &mut |bytes| {
                watch.at("verifying", verified.bytes, Some(of));
                verified.bytes += bytes;
                go_on(watch)
            })?;
            verified.unopened.push(manifest.name.clone());
            continue;
        }
        verified.bytes += manifest.key_bytes();
        go_on(watch)?;
        source::index(place, manifest)?;
        let namespaces = manifest.all_namespaces();
        verified.bytes += manifest.index.bytes;
        for (at, seal) in manifest.segments.iter().enumerate() {
            let mut entries = 0;
            // One may have no frame at all.
            go_on(watch)?;
            source::segment(place, manifest, at + 1, &mut |file, offset, frame| {
                watch.at("verifying", verified.bytes + offset, Some(of));
                go_on(watch)?;
                entries += records(file, offset, &frame, manifest.position, namespaces.as_ref())?;
                Ok(())
            })?;
            if entries != seal.entries {
                let message = format!("{} has {entries} entries in segment {}, and says {}", manifest.name, at + 1, seal.entries);
                return Err(Error::new(ErrorKind::BadArchive, message));
            }
            verified.entries += entries;
            verified.bytes += seal.bytes;
        }
    }
    watch.at("verifying", of, Some(of));
    Ok(verified)
}

fn go_on(watch: &dyn Watch) -> Result<()> {
    if watch.is_cancelled() { Err(cancelled("verification")) } else { Ok(()) }
}

/// How many records a frame has. All of them must be of the namespaces that the manifest names, where it names all: a restore takes those
/// out of readers' sight, and what is of another would be seen before all of it is there.
fn records(file: &str, at: u64, mut frame: &[u8], upto: u64, namespaces: Option<&HashSet<Box<[u8]>>>) -> Result<u64> {
    let mut entries = 0;
    while !frame.is_empty() {
        let kept = archive::take(&mut frame, upto).map_err(|why| bad(file, at, why))?;
        if namespaces.is_some_and(|names| !names.contains(namespace_of(kept.key))) {
            return Err(bad(file, at, "has a record of a namespace that the manifest does not name"));
        }
        entries += 1;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::super::manifest::{Manifest, read_sealed};
    use super::super::{BackupOptions, FolderPlace, MANIFEST};
    use super::*;
    use crate::Larder;

    async fn backed_up(folder: &std::path::Path, value_bytes: usize) -> FolderPlace {
        let larder = Larder::builder().memory(64 << 20).index_bytes(1 << 12).build().await.unwrap();
        for n in 0..4 {
            let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(value_bytes).collect();
            larder.raw().put(format!("{}:{n}", ["a", "b"][n % 2]), Bytes::from(value)).await.unwrap();
        }
        larder.backup(Arc::new(FolderPlace::new(folder)), &BackupOptions::new("x"), Arc::new(())).await.unwrap();
        FolderPlace::new(folder)
    }

    #[tokio::test]
    async fn records_that_the_manifest_does_not_speak_of_are_refused_though_every_digest_holds() {
        let folder = tempfile::tempdir().unwrap();
        let place = backed_up(folder.path(), 10).await;
        let whole = read_sealed(&place, "x").unwrap().0;
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut changed = whole.clone();
            change(&mut changed);
            place.put("x", MANIFEST, &changed.encode().unwrap().0).unwrap();
            verify(&place, "x", None, &()).expect_err("it does not fit").to_string()
        };
        let told = refused(&|m| m.namespaces.retain(|namespace| namespace.name != "b"));
        assert!(told.contains("x/segment-000001") && told.contains("namespace that the manifest does not name"), "{told}");
        let told = refused(&|m| m.position -= 1);
        assert!(told.contains("x/segment-000001") && told.contains("past the backup's position"), "{told}");
        place.put("x", MANIFEST, &whole.encode().unwrap().0).unwrap();
        assert_eq!(verify(&place, "x", None, &()).unwrap().entries, 4, "it was what was changed");
    }

    /// Stops after so many looks.
    struct After(AtomicUsize);

    impl Watch for After {
        fn at(&self, _doing: &str, _done: u64, _of: Option<u64>) {}

        fn is_cancelled(&self) -> bool {
            self.0.fetch_sub(1, Ordering::Relaxed) == 0
        }
    }

    #[tokio::test]
    async fn it_is_asked_for_each_file_and_frame_whether_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let place = backed_up(folder.path(), 2 << 20).await;
        assert_eq!(read_sealed(&place, "x").unwrap().0.segments.len(), 1);
        // Before the index, before the segment, and within it.
        for looks in [0, 1, 2, 4] {
            let error = verify(&place, "x", None, &After(AtomicUsize::new(looks))).expect_err("it was told to stop");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "after {looks} looks: {error}");
        }
    }
}
