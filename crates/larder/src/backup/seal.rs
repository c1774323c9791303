//! Sealed backups: the seam to whoever encrypts. Nothing here knows how; which scheme it is stands in the manifest.
//!
//! ```text
//!   written    frames -> a file -> Sealer::seal -> its length and digest are taken -> the place
//!   read       the place -> length and digest are compared -> Unsealed::open -> frames
//! ```
//!
//! Digests are of what lies in the place, so that everybody can tell whether a backup is as it was written, also who has no key; and
//! nothing is handed to a decoder of ciphertexts that is not what its manifest says. The manifest itself is not sealed: what a list says,
//! what stays when backups are pruned, and what the next one stands on need no key. It is no proof of who wrote it, as without encryption.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Place;
use super::manifest::Manifest;
use crate::error::{Error, ErrorKind, Result};

/// The file with the sealed key of a backup, where it has one.
pub(super) const KEY: &str = "key.age";

/// The most that it may have. One key, by a passphrase, takes 300 bytes.
pub(super) const KEY_BYTES_MAX: u64 = 4 << 10;

/// Whom a backup may be sealed to, at most, and how long their names may be.
const RECIPIENTS_MAX: usize = 64;
const NAME_LEN_MAX: usize = 256;

/// How a backup's files are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// The scheme, such as `age`.
    pub scheme: String,
    /// The public keys that its files are sealed to. They say which key opens it, and open nothing.
    pub recipients: Vec<String>,
    /// What the file with its own key must be, where that key is in the backup, sealed by a passphrase.
    pub key: Option<KeySeal>,
}

/// What the file with a backup's own key must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySeal {
    /// Its length.
    pub bytes: u64,
    /// The digest of all of it.
    pub blake3: String,
}

impl Encryption {
    /// What of it no backup can say.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let is_name = |name: &String| !name.is_empty() && name.len() <= NAME_LEN_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name(&self.scheme) || !(1..=RECIPIENTS_MAX).contains(&self.recipients.len()) || !self.recipients.iter().all(is_name) {
            return Err("is encrypted to nobody, or to what is no name of a key".into());
        }
        match &self.key {
            Some(key) if key.bytes > KEY_BYTES_MAX => Err("has a key that claims to be larger than any can be".into()),
            Some(key) if blake3::Hash::from_hex(&key.blake3).is_err() => Err("has a digest that is none".into()),
            _ => Ok(()),
        }
    }
}

/// Seals the files of one backup. What it prints of itself (`Debug`) must hold no secret.
pub trait Sealer: fmt::Debug + Send + Sync {
    /// The scheme, such as `age`.
    fn scheme(&self) -> &str;

    /// The public keys that it seals to, 1 to 64, as who opens the backup knows them.
    fn recipients(&self) -> Vec<String>;

    /// The file with the backup's own key, where it has one: at most 4 KiB, sealed itself.
    fn key(&self) -> Option<&[u8]>;

    /// A file sealed. It may be longer by 64 KiB and a thousandth.
    ///
    /// # Errors
    /// What the scheme says.
    fn seal(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>>;
}

/// Opens backups that were sealed. What it prints of itself (`Debug`) must hold no secret.
pub trait Opener: fmt::Debug + Send + Sync {
    /// Gets ready to open the files of one backup, which says of itself how it is encrypted, and has this file with its own key if it says
    /// so. That file is what the manifest says, and not to be trusted any further.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn unseal(&self, encryption: &Encryption, key: Option<&[u8]>) -> std::result::Result<Arc<dyn Unsealed>, NotOpened>;
}

/// Opens the files of one backup.
pub trait Unsealed: fmt::Debug + Send + Sync {
    /// What was sealed. It takes no more memory than a small multiple of what it is given.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the file's name; nothing of it may be used then.
    fn open(&self, sealed: &[u8]) -> std::result::Result<Vec<u8>, String>;
}

/// Why a backup cannot be opened. Each says so as the end of a sentence that begins with the backup's name, and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotOpened {
    /// Nothing that was given opens it.
    NoKey(String),
    /// What it says of its encryption, or its own key, is not what it can be.
    Damaged(String),
    /// It is of a scheme, or asks for work, that the opener does not know or do.
    Unknown(String),
}

/// A manifest, and what opens the files that it speaks of.
#[derive(Clone)]
pub(super) struct Readable {
    pub(super) manifest: Manifest,
    pub(super) access: Access,
}

/// What of a backup's files can be looked at.
#[derive(Clone)]
pub(super) enum Access {
    /// They are not sealed.
    Plain,
    /// They are, and can be opened.
    Unsealed(Arc<dyn Unsealed>),
    /// They are, and nothing was given to open them.
    Closed,
}

impl std::ops::Deref for Readable {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

impl Readable {
    /// Gets ready to read a backup's files. Blocks, and may compute for a while.
    pub(super) fn of(place: &dyn Place, manifest: Manifest, opener: Option<&dyn Opener>) -> Result<Self> {
        let access = match (&manifest.encryption, opener) {
            (None, _) => Access::Plain,
            (Some(_), None) => Access::Closed,
            (Some(encryption), Some(opener)) => {
                let key = super::source::key(place, &manifest)?;
                let unsealed = opener.unseal(encryption, key.as_deref());
                Access::Unsealed(unsealed.map_err(|why| not_opened(&manifest, why))?)
            }
        };
        Ok(Readable { manifest, access })
    }

    /// Whether its files are sealed, and nothing was given to open them.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.access, Access::Closed)
    }

    /// What is told of one that is [closed](Self::is_closed).
    pub(super) fn closed(&self) -> Error {
        let recipients = self.encryption.iter().flat_map(|encryption| &encryption.recipients).map(String::as_str);
        let by = match self.key() {
            Some(_) => "by a passphrase".to_owned(),
            None => format!("to {}", recipients.collect::<Vec<_>>().join(", ")),
        };
        Error::new(ErrorKind::Sealed, format!("{} is encrypted {by}, and no key was given; nothing was touched", self.name))
    }
}

fn not_opened(manifest: &Manifest, why: NotOpened) -> Error {
    let name = &manifest.name;
    match why {
        NotOpened::NoKey(why) => Error::new(ErrorKind::Sealed, format!("{name} {why}; nothing was touched")),
        NotOpened::Damaged(why) => Error::new(ErrorKind::BadArchive, format!("{name} {why}")),
        NotOpened::Unknown(why) => Error::new(ErrorKind::UnknownFormat, format!("{name} {why}; nothing was touched")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::manifest::read_sealed;
    use super::super::{BackupOptions, FolderPlace, MANIFEST, RestoreOptions, diff, verify};
    use super::*;
    use crate::Larder;

    /// No cipher: it turns every bit over, under a head that names the key.
    #[derive(Clone, Debug)]
    struct Turned(&'static str, Option<&'static [u8]>);

    impl Sealer for Turned {
        fn scheme(&self) -> &str {
            "turned"
        }

        fn recipients(&self) -> Vec<String> {
            vec![self.0.to_owned()]
        }

        fn key(&self) -> Option<&[u8]> {
            self.1
        }

        fn seal(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
            Ok(self.0.bytes().chain(bytes.iter().map(|byte| !byte)).collect())
        }
    }

    impl Opener for Turned {
        fn unseal(&self, encryption: &Encryption, key: Option<&[u8]>) -> std::result::Result<Arc<dyn Unsealed>, NotOpened> {
            match key {
                _ if encryption.scheme != "turned" => Err(NotOpened::Unknown("is of another scheme".into())),
                Some(key) if Some(key) != self.1 => Err(NotOpened::Damaged("has another key".into())),
                _ if encryption.recipients != [self.0] => Err(NotOpened::NoKey(format!("is for {}", encryption.recipients.join(", ")))),
                _ => Ok(Arc::new(self.clone())),
            }
        }
    }

    impl Unsealed for Turned {
        fn open(&self, sealed: &[u8]) -> std::result::Result<Vec<u8>, String> {
            let inside = sealed.strip_prefix(self.0.as_bytes()).ok_or("is not sealed")?;
            Ok(inside.iter().map(|byte| !byte).collect())
        }
    }

    const ONE: Turned = Turned("one", None);
    const OTHER: Turned = Turned("other", Some(b"a key"));

    fn sealed_by(name: &str, sealer: Turned, parent: Option<&str>) -> BackupOptions {
        BackupOptions { sealer: Some(Arc::new(sealer)), parent: parent.map(str::to_owned), ..BackupOptions::new(name) }
    }

    /// Two entries in a backup for one key, and one more in a backup on top of it for the other.
    async fn chain(folder: &std::path::Path) -> (Larder, Arc<FolderPlace>) {
        let larder = Larder::builder().memory(16 << 20).index_bytes(1 << 12).build().await.unwrap();
        let place = Arc::new(FolderPlace::new(folder));
        larder.raw().put("a:1", Bytes::from("needle")).await.unwrap();
        larder.raw().put("a:2", Bytes::from("v")).await.unwrap();
        let first = larder.backup(place.clone(), &sealed_by("first", ONE, None), Arc::new(())).await.unwrap();
        assert_eq!((first.format, first.encryption.unwrap().recipients), (2, vec!["one".to_owned()]));
        larder.raw().remove(["a:2"]).await.unwrap();
        larder.raw().put("a:3", Bytes::from("v")).await.unwrap();
        let second = larder.backup(place.clone(), &sealed_by("second", OTHER, Some("first")), Arc::new(())).await.unwrap();
        assert!(second.encryption.unwrap().key.is_some(), "only the parent's manifest was needed");
        (larder, place)
    }

    /// Knows both.
    #[derive(Debug)]
    struct Both;

    impl Opener for Both {
        fn unseal(&self, encryption: &Encryption, key: Option<&[u8]>) -> std::result::Result<Arc<dyn Unsealed>, NotOpened> {
            ONE.unseal(encryption, key).or_else(|_| OTHER.unseal(encryption, key))
        }
    }

    #[tokio::test]
    async fn a_chain_of_two_keys_is_compared_without_them_and_opened_with_both() {
        let folder = tempfile::tempdir().unwrap();
        let (larder, place) = chain(folder.path()).await;
        let stored = verify(&*place, "second", None, &()).unwrap();
        assert_eq!((stored.entries, stored.unopened), (0, vec!["second".to_owned(), "first".to_owned()]));
        let all: u64 = ["first", "second"].map(|name| read_sealed(&*place, name).unwrap().0.stored_bytes()).iter().sum();
        assert_eq!(stored.bytes, all);
        let whole = verify(&*place, "second", Some(&Both), &()).unwrap();
        assert_eq!((whole.entries, whole.bytes, whole.unopened.len()), (4, all, 0), "a:1 is in both: it was young");
        assert_eq!(diff(&*place, "first", "second", Some(&Both), &()).unwrap().added, 1);

        let before = larder.position();
        let refused = |opener: Option<Arc<dyn Opener>>| {
            let (larder, place) = (larder.clone(), place.clone());
            async move {
                let options = RestoreOptions { opener, ..RestoreOptions::new("second") };
                larder.restore(place, &options, Arc::new(())).await.unwrap_err()
            }
        };
        let (none, half) = (refused(None).await, refused(Some(Arc::new(OTHER))).await);
        assert_eq!((none.kind(), half.kind()), (ErrorKind::Sealed, ErrorKind::Sealed), "{none}, {half}");
        assert!(
            none.to_string().contains("second is encrypted by a passphrase") && half.to_string().contains("first is for one"),
            "{half}"
        );
        assert_eq!(diff(&*place, "first", "first", None, &()).unwrap_err().kind(), ErrorKind::Sealed);
        assert_eq!(verify(&*place, "second", Some(&ONE), &()).unwrap_err().kind(), ErrorKind::BadArchive, "what is inside of its key");
        assert_eq!(larder.position(), before, "nothing was touched");
        let options = RestoreOptions { opener: Some(Arc::new(Both)), ..RestoreOptions::new("second") };
        let restored = larder.restore(place, &options, Arc::new(())).await.unwrap();
        assert_eq!(restored.dead_invalidated, 1, "what was removed in between stays so: {restored:?}");
    }

    #[tokio::test]
    async fn what_is_stored_is_compared_before_it_is_opened_and_what_comes_out_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (_larder, place) = chain(folder.path()).await;
        for file in ["key.age", "index", "segment-000001"] {
            let path = folder.path().join("second").join(file);
            let whole = std::fs::read(&path).unwrap();
            for damaged in [&whole[..whole.len() - 1], &[&whole[..1], b"x", &whole[2..]].concat(), b""] {
                std::fs::write(&path, damaged).unwrap();
                for opener in [None, Some(&Both as &dyn Opener)] {
                    let error = verify(&*place, "second", opener, &()).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::BadArchive, "{error}");
                    assert!(error.to_string().contains(&format!("second/{file}")), "{error}");
                }
            }
            std::fs::write(&path, &whole).unwrap();
        }
        // Somebody who writes there makes digests fit.
        let whole = read_sealed(&*place, "first").unwrap().0;
        let refused = |bytes: &[u8]| {
            std::fs::write(folder.path().join("first/segment-000001"), bytes).unwrap();
            let mut changed = whole.clone();
            (changed.segments[0].bytes, changed.segments[0].blake3) = (bytes.len() as u64, blake3::hash(bytes).to_hex().to_string());
            place.put("first", MANIFEST, &changed.encode().unwrap().0).unwrap();
            let error = verify(&*place, "first", Some(&ONE), &()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadArchive, "{error}");
            error.to_string()
        };
        assert!(refused(b"xxxxxxxxxxxxxxxxxxxx").contains("first/segment-000001 is not sealed"));
        assert!(refused(&ONE.seal(b"no frames at all").unwrap()).contains("first/segment-000001 (opened) is no file of a larder backup"));
        assert!(refused(&ONE.seal(b"").unwrap()[..3]).contains("larger than any can be"), "none is shorter than its head");
    }

    #[tokio::test]
    async fn what_no_reader_would_take_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let larder = Larder::builder().build().await.unwrap();
        let place = Arc::new(FolderPlace::new(folder.path()));
        let error = larder.backup(place.clone(), &sealed_by("b", Turned("", None), None), Arc::new(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(place.list().unwrap().is_empty() && place.unfinished().unwrap().is_empty());
    }
}
