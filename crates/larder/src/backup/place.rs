//! Where backups are kept: the seam, and the folder on this machine that is the first thing behind it.
//!
//! A place knows nothing of what is in a file. It has to keep two promises: a file is there whole or not at all, and for good once
//! [`put`](Place::put) returned; and a backup is [listed](Place::list) only when its manifest is there. All else rests on them.
//!
//! ```text
//!   ROOT/lock                     held together by all who write backups, alone by who removes any
//!                                 (who reads a backup holds its manifest, which is held alone to remove it)
//!   ROOT/NAME/segment-000001      the files of one backup
//!   ROOT/NAME/index
//!   ROOT/NAME/key.age            where one is sealed by a passphrase
//!   ROOT/NAME/manifest.json       written last: until it is there, there is no such backup
//!   ROOT/NAME/FILE.part           what was being written when the process ended; that of the manifest is there from the beginning
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::manifest::{INDEX, SEGMENT};
use super::seal::KEY;
use crate::error::{Error, ErrorKind, Result};

/// The file whose being there makes a backup.
pub const MANIFEST: &str = "manifest.json";

/// The longest name of a backup.
pub const BACKUP_NAME_LEN_MAX: usize = 64;

/// Somewhere that backups are kept. Calls block, and are made where that is allowed.
pub trait Place: Send + Sync {
    /// What messages call it: a path, an address without secrets.
    fn describe(&self) -> String;

    /// Makes room for a backup of this name, and keeps others from removing any until what is returned is dropped.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where there is one; [`WouldBlock`](io::ErrorKind::WouldBlock) while backups are
    /// being removed.
    fn begin(&self, backup: &str) -> io::Result<Box<dyn Send>>;

    /// Keeps a file, whole or not at all, and for good when it returns. One of the same name is replaced.
    ///
    /// # Errors
    /// What the place says.
    fn put(&self, backup: &str, file: &str, bytes: &[u8]) -> io::Result<()>;

    /// A whole file, which has at most so many bytes.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound); [`FileTooLarge`](io::ErrorKind::FileTooLarge) for one that is larger, of which no more
    /// is read.
    fn get(&self, backup: &str, file: &str, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// The backups whose manifest is there, by name.
    ///
    /// # Errors
    /// What the place says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Keeps a backup from being [removed](Self::remove) while it is read, until what is returned is dropped; as far as the place can.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) where there is none; what the place says.
    fn hold(&self, backup: &str) -> io::Result<Box<dyn Send + Sync>>;

    /// Keeps others from beginning a backup while some are removed, until what is returned is dropped.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while somebody writes one.
    fn hold_still(&self) -> io::Result<Box<dyn Send>>;

    /// Removes a backup, its manifest first, so that no half of it is ever listed. To be called while it is [held
    /// still](Self::hold_still).
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while somebody [holds](Self::hold) it: nothing of it was removed. What the place says;
    /// what is left then is unfinished, and swept later.
    fn remove(&self, backup: &str) -> io::Result<()>;

    /// The backups that were begun and have no manifest: what a process left behind that ended meanwhile. Only while it is held still
    /// are they surely nobody's. What has anything in it that is no [file of a backup](is_file_of_backup) is somebody else's, and none.
    ///
    /// # Errors
    /// What the place says.
    fn unfinished(&self) -> io::Result<Vec<String>>;
}

/// Whether a file of this name in a backup that has no manifest was written by larder: what has another one in it is not ours to remove.
pub fn is_file_of_backup(name: &str) -> bool {
    let name = name.strip_suffix(".part").unwrap_or(name);
    let is_segment = |number: &str| number.len() >= 6 && number.bytes().all(|digit| digit.is_ascii_digit());
    name == INDEX || name == MANIFEST || name == KEY || name.strip_prefix(SEGMENT).is_some_and(is_segment)
}

/// Whether a text can name a backup: it becomes a part of paths and addresses, so it has nothing that either could mistake.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`], with what a name is.
pub fn check_backup_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > BACKUP_NAME_LEN_MAX
        || !name.chars().all(plain)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        let message = format!(
            "a backup's name is 1 to {BACKUP_NAME_LEN_MAX} letters, digits, '.', '_' and '-', and begins with a letter or digit, not \"{}\"",
            name.escape_debug()
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(())
}

/// A folder of this machine.
#[derive(Clone, Debug)]
pub struct FolderPlace {
    root: PathBuf,
}

impl FolderPlace {
    /// Backups in this folder, which is made when the first one is.
    pub fn new(root: impl AsRef<Path>) -> Self {
        FolderPlace { root: root.as_ref().into() }
    }

    fn lock(&self, alone: bool) -> io::Result<Box<dyn Send>> {
        fs::create_dir_all(&self.root)?;
        let path = self.root.join("lock");
        if path.exists() {
            check_is_file(&path)?;
        }
        // Read, too: a file system may lock for others only what can be read, and for itself only what can be written.
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let locked = if alone { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            Err(TryLockError::Error(e)) if has_no_locks(&e) => Ok(Box::new(())),
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => {
                let who = if alone { "a backup is being written there now" } else { "backups are being removed there now" };
                Err(io::Error::new(io::ErrorKind::WouldBlock, who))
            }
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// The folders whose manifest is there, or is not.
    fn folders(&self, finished: bool) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let (mut names, mut others) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry?;
            // Not what a link leads to: only what we made is ours to list and to remove.
            let Some(name) = entry.file_name().to_str().map(str::to_owned).filter(|name| check_backup_name(name).is_ok()) else { continue };
            if !entry.file_type()?.is_dir() || entry.path().join(MANIFEST).is_file() != finished {
                continue;
            }
            if finished || is_ours(&entry.path(), &name)? { names.push(name) } else { others.push(name) }
        }
        names.sort_unstable();
        if !others.is_empty() {
            tracing::warn!(folders = ?others, place = %self.root.display(), "folders that are no backups are among them, and are left alone");
        }
        Ok(names)
    }
}

impl Place for FolderPlace {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn begin(&self, backup: &str) -> io::Result<Box<dyn Send>> {
        let held = self.lock(false)?;
        let folder = self.root.join(backup);
        fs::create_dir(&folder)?;
        // Says that the folder is ours, until something else in it does.
        File::create(folder.join(format!("{MANIFEST}.part")))?;
        sync_folder(&self.root)?;
        Ok(held)
    }

    fn put(&self, backup: &str, file: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.root.join(backup);
        let (part, path) = (folder.join(format!("{file}.part")), folder.join(file));
        let mut writing = File::create(&part)?;
        writing.write_all(bytes)?;
        writing.sync_all()?;
        drop(writing);
        fs::rename(&part, &path)?;
        sync_folder(&folder)
    }

    fn get(&self, backup: &str, file: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let reading = open(&self.root.join(backup).join(file))?;
        let mut bytes = Vec::new();
        reading.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than the {bytes_max} bytes that it may have")));
        }
        Ok(bytes)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.folders(true)
    }

    fn hold(&self, backup: &str) -> io::Result<Box<dyn Send + Sync>> {
        // The manifest itself is what is locked: there is one wherever there is something to read, also where nothing can be written.
        let path = self.root.join(backup).join(MANIFEST);
        let manifest = open(&path)?;
        match manifest.lock_shared() {
            // As in a bucket: what is removed while it is read is missed, and said to be.
            Err(e) if has_no_locks(&e) => {}
            locked => locked?,
        }
        // Removed between the two, or another's by now.
        if !is_the_one_at(&manifest, &path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(manifest))
    }

    fn hold_still(&self) -> io::Result<Box<dyn Send>> {
        self.lock(true)
    }

    fn remove(&self, backup: &str) -> io::Result<()> {
        let folder = self.root.join(backup);
        let _alone = match open_to_lock(&folder.join(MANIFEST)) {
            Ok(manifest) => match manifest.try_lock() {
                Ok(()) => Some(manifest),
                Err(TryLockError::WouldBlock) => return Err(io::Error::new(io::ErrorKind::WouldBlock, "it is being read now")),
                Err(TryLockError::Error(e)) if has_no_locks(&e) => None,
                Err(TryLockError::Error(e)) => return Err(e),
            },
            // What cannot be read is held by nobody.
            Err(_) => None,
        };
        match fs::remove_file(folder.join(MANIFEST)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // It must be gone for good before any file that it speaks of.
            _ => sync_folder(&folder)?,
        }
        fs::remove_dir_all(&folder)?;
        sync_folder(&self.root)
    }

    fn unfinished(&self) -> io::Result<Vec<String>> {
        self.folders(false)
    }
}

/// Whether all in a folder are files that a backup may have.
fn is_ours(folder: &Path, name: &str) -> io::Result<bool> {
    let mut is_any = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() || !entry.file_name().to_str().is_some_and(is_file_of_backup) {
            return Ok(false);
        }
        is_any = true;
    }
    // An empty one may be anybody's, unless its name is one that backups get by the clock, as 20261127T033000Z-3f9a.
    let form: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_by_the_clock = || form.strip_prefix("00000000T000000Z-").is_some_and(|rest| rest.len() == 4);
    Ok(is_any || is_by_the_clock())
}

/// Whether a lock failed because there are none on that file system.
fn has_no_locks(e: &io::Error) -> bool {
    let none = [rustix::io::Errno::NOLCK, rustix::io::Errno::NOSYS].map(|none| Some(none.raw_os_error()));
    e.kind() == io::ErrorKind::Unsupported || none.contains(&e.raw_os_error())
}

/// Opens what is to be locked alone: over NFS only a file that may be written can be.
fn open_to_lock(path: &Path) -> io::Result<File> {
    check_is_file(path)?;
    match File::options().read(true).write(true).open(path) {
        // It may be removed by who may not write it, and can be locked wherever locks ask nothing of how it was opened.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(path),
        opened => opened,
    }
}

/// Opens what is to be read. Whether it is a file is asked before: opening a pipe waits for who writes to it, for ever.
fn open(path: &Path) -> io::Result<File> {
    check_is_file(path)?;
    let file = File::open(path)?;
    // Another may have come in its place since, which was to be opened without waiting at least.
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn check_is_file(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no file")
}

fn is_the_one_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// A name in a folder outlives a crash of the machine only once the folder was synced, too.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_there_when_its_manifest_is_and_gone_when_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let place = FolderPlace::new(folder.path().join("backups"));
        assert!(place.list().unwrap().is_empty());
        let writing = place.begin("a").unwrap();
        place.put("a", "segment-000001", b"x").unwrap();
        assert_eq!((place.list().unwrap().len(), place.unfinished().unwrap()), (0, vec!["a".to_owned()]));
        assert_eq!(place.begin("a").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(place.hold_still().err().unwrap().kind(), io::ErrorKind::WouldBlock);
        place.put("a", MANIFEST, b"{}").unwrap();
        drop(writing);
        assert_eq!(place.list().unwrap(), ["a"]);
        assert_eq!(place.get("a", "segment-000001", 1).unwrap(), b"x");
        assert_eq!(place.get("a", "segment-000001", 0).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let still = place.hold_still().unwrap();
        assert_eq!(place.begin("b").err().unwrap().kind(), io::ErrorKind::WouldBlock);
        place.remove("a").unwrap();
        assert!(place.list().unwrap().is_empty() && place.unfinished().unwrap().is_empty());
        drop(still);
        place.begin("b").unwrap();
    }

    #[test]
    fn what_is_read_is_not_removed_and_what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let place = FolderPlace::new(folder.path());
        place.begin("a").unwrap();
        assert_eq!(place.hold("a").err().unwrap().kind(), io::ErrorKind::NotFound);
        place.put("a", MANIFEST, b"{}").unwrap();
        let (one, other) = (place.hold("a").unwrap(), place.hold("a").unwrap());
        drop(one);
        assert_eq!(place.remove("a").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(place.list().unwrap(), ["a"], "nothing of it was removed");
        drop(other);
        let still = place.hold_still().unwrap();
        place.remove("a").unwrap();
        assert!(place.list().unwrap().is_empty());
        drop(still);

        let pipe = |name: &str| {
            let at = folder.path().join("b").join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &at, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        };
        place.begin("b").unwrap();
        pipe(MANIFEST);
        pipe("segment-000001");
        assert_eq!(place.get("b", "segment-000001", 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(place.get("b", MANIFEST, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(place.hold("b").err().unwrap().kind(), io::ErrorKind::InvalidInput);
        assert_eq!((place.list().unwrap().len(), place.unfinished().unwrap().len()), (0, 0), "nobody writes pipes here");
    }

    #[test]
    fn what_others_put_there_is_no_backup_that_was_never_finished() {
        let folder = tempfile::tempdir().unwrap();
        let place = FolderPlace::new(folder.path());
        let names =
            ["index", "segment-000001", "segment-1000000", "manifest.json", "index.part", "segment-000012.part", "manifest.json.part"];
        for name in names {
            assert!(is_file_of_backup(name), "{name}");
        }
        for name in ["", "index.html", "segment-1", "segment-00000x", "segment-", "notes.txt", "manifest.json.part.part", ".part"] {
            assert!(!is_file_of_backup(name), "{name}");
        }
        for (backup, file) in [("photos", "cat.jpg"), ("mixed", "index"), ("mixed", "notes.txt"), ("nested", "index")] {
            fs::create_dir_all(folder.path().join(backup)).unwrap();
            fs::write(folder.path().join(backup).join(file), b"x").unwrap();
        }
        for other in ["empty", "nested/index.part", "deep/index", "20261127T033000Z-3f9a"] {
            fs::create_dir_all(folder.path().join(other)).unwrap();
        }
        drop(place.begin("ours").unwrap());
        let ours = ["20261127T033000Z-3f9a", "ours"];
        assert_eq!(place.unfinished().unwrap(), ours, "as soon as it was begun");
        place.put("ours", "segment-000001", b"x").unwrap();
        assert_eq!(place.unfinished().unwrap(), ours);
        let pruned = super::super::prune(&place, super::super::Retention { last: 1, ..Default::default() }, false, &()).unwrap();
        assert_eq!(pruned.unfinished, ours);
        for other in ["photos/cat.jpg", "mixed/index", "mixed/notes.txt", "nested/index", "nested/index.part", "deep/index", "empty"] {
            assert!(folder.path().join(other).exists(), "{other} is not ours");
        }
        assert!(!folder.path().join("ours").exists());
    }

    #[test]
    fn where_there_are_no_locks_none_is_asked_for() {
        let of = |errno: rustix::io::Errno| has_no_locks(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(of(rustix::io::Errno::NOLCK) && of(rustix::io::Errno::NOSYS) && of(rustix::io::Errno::OPNOTSUPP));
        assert!(!of(rustix::io::Errno::BADF) && !of(rustix::io::Errno::ACCESS) && !of(rustix::io::Errno::WOULDBLOCK));
    }

    #[test]
    fn a_name_leads_nowhere() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "a\0", "ü", &"n".repeat(65)] {
            assert_eq!(check_backup_name(name).unwrap_err().kind(), ErrorKind::InvalidConfig, "{name:?}");
        }
        for name in ["a", "20261127T033000Z-1f2e", "daily.1", &"n".repeat(64)] {
            assert!(check_backup_name(name).is_ok(), "{name:?}");
        }
    }
}
