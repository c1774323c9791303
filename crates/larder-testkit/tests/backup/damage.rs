//! Archives that were damaged, cut, mixed up, or made by somebody who means no good.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, Place, RestoreOptions, verify};
use larder::{ErrorKind, Larder};

use crate::announced;

/// The files of one backup, held in memory and only read.
struct Held(BTreeMap<String, Vec<u8>>);

impl Place for Held {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn get(&self, _backup: &str, file: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let bytes = self.0.get(file).ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.clone()) }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(vec!["b".into()])
    }

    fn begin(&self, _backup: &str) -> io::Result<Box<dyn Send>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn put(&self, _backup: &str, _file: &str, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hold(&self, _backup: &str) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn hold_still(&self) -> io::Result<Box<dyn Send>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _backup: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unfinished(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// A cache with some entries, and a backup of it in a folder.
async fn backed_up(folder: &Path, entries: usize) -> Larder {
    let larder = Larder::builder().memory(16 << 20).index_bytes(1 << 12).build().await.unwrap();
    for n in 0..entries {
        larder.raw().put(format!("a:{n}"), Bytes::from(format!("{n}-{}", fastrand::u128(..)))).await.unwrap();
    }
    larder.backup(Arc::new(FolderPlace::new(folder)), &BackupOptions::new("b"), Arc::new(())).await.unwrap();
    larder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_of_ten_thousand_flipped_bits_is_noticed_and_nothing_is_touched() {
    let seed = announced("each_of_ten_thousand_flipped_bits_is_noticed_and_nothing_is_touched");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let _larder = runtime().block_on(backed_up(folder.path(), 12));
    let files = files(&folder.path().join("b"));
    assert_eq!(files.len(), 3, "index, manifest, segment");
    let whole: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let names: Vec<String> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    // On a disk, writing a file ten thousand times is what would take the time.
    let mut place = Held(names.iter().cloned().zip(whole.iter().cloned()).collect());
    let bits: usize = whole.iter().map(|bytes| bytes.len() * 8).sum();
    for _ in 0..10_000 {
        let mut bit = rng.usize(..bits);
        let at = whole
            .iter()
            .position(|bytes| {
                if bit < bytes.len() * 8 {
                    true
                } else {
                    bit -= bytes.len() * 8;
                    false
                }
            })
            .unwrap();
        let mut flipped = whole[at].clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let file = &names[at];
        place.0.insert(file.clone(), flipped);
        let error = verify(&place, "b", None, &()).expect_err("a flipped bit");
        let told = error.to_string();
        assert!(told.contains(&format!("b/{file}")), "LARDER_SEED={seed}, bit {bit} of {file}: {told}");
        assert!(matches!(error.kind(), ErrorKind::BadArchive | ErrorKind::UnknownFormat), "{told}");
        place.0.insert(file.clone(), whole[at].clone());
    }
    assert_eq!(verify(&place, "b", None, &()).unwrap().entries, 12, "it was the bit");
}

#[tokio::test]
async fn what_is_cut_or_missing_or_anothers_is_refused_before_anything_is_touched() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let larder = backed_up(folder.path(), 40).await;
    drop(backed_up(other.path(), 40).await);
    let place = Arc::new(FolderPlace::new(folder.path()));
    larder.raw().remove(["a:1"]).await.unwrap();
    let before = larder.position();
    let backup = folder.path().join("b");
    for path in files(&backup) {
        let whole = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let damages: [(&str, Option<Vec<u8>>); 5] = [
            ("cut", Some(whole[..whole.len() - 1].to_vec())),
            ("longer", Some([whole.as_slice(), b"x"].concat())),
            ("empty", Some(Vec::new())),
            ("another's", Some(fs::read(other.path().join("b").join(&name)).unwrap())),
            ("missing", None),
        ];
        for (what, damaged) in damages {
            match damaged {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let error = larder.restore(place.clone(), &RestoreOptions::new("b"), Arc::new(())).await.expect_err(what);
            let named = error.to_string().contains(&name) || error.kind() == ErrorKind::NotFound;
            // Another backup's manifest is in order by itself, and so is an index; what they do not fit is what is told.
            assert!(named || what == "another's", "{name} {what}: {error}");
            assert_eq!(larder.position(), before, "{name} {what}: nothing was touched");
            fs::write(&path, &whole).unwrap();
        }
    }
    let restored = larder.restore(place, &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!((restored.restored, restored.dead_invalidated), (39, 1));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let larder = backed_up(folder.path(), 3).await;
    let place = Arc::new(FolderPlace::new(folder.path()));
    for name in ["../b", "/etc", "b/../b", "", ".b"] {
        let error = larder.restore(place.clone(), &RestoreOptions::new(name), Arc::new(())).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        let error = larder.backup(place.clone(), &BackupOptions::new(name), Arc::new(())).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
    let again = larder.backup(place.clone(), &BackupOptions::new("b"), Arc::new(())).await.expect_err("it is there already");
    assert!(again.to_string().contains("already"), "{again}");
    assert_eq!(verify(&*place, "b", None, &()).unwrap().entries, 3, "it is as it was");
}
