//! The tier's folder: whose it is, which format it has, and that one process at a time uses it.
//!
//! ```text
//! FORMAT   "larder disk tier", version     written first, by a rename, when the folder is empty
//! LOCK     locked while a tier is open
//! store/   the database
//! ```
//!
//! A folder with a format that this code does not know, or with files but no format, is refused and left as it is.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK: &str = "LOCK";
const MAGIC: &str = "larder disk tier";
const VERSION: u32 = 1;

/// A folder that is ours, locked until this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting holds a copy of it until it runs
        // its program, and with it the lock. Should unlocking fail, closing does it a moment later.
        drop(self.lock.unlock());
    }
}

impl Folder {
    /// Takes the folder, creating it if need be.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Tier, format!("the disk tier's folder {} cannot be used", path.display())).with_source(error)
        };
        fs::create_dir_all(path).map_err(failed)?;
        check_format(path)?;
        let lock = lock(path)?;
        if !path.join(FORMAT).try_exists().map_err(failed)? {
            write_format(path).map_err(failed)?;
        }
        Ok(Folder { path: path.into(), lock })
    }

    /// Where the database is.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

/// Refuses a folder that is not ours, before anything in it is touched.
fn check_format(path: &Path) -> Result<()> {
    let unreadable = |error: io::Error| {
        Error::new(ErrorKind::Tier, format!("the disk tier's folder {} cannot be read", path.display())).with_source(error)
    };
    let text = match fs::read(path.join(FORMAT)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_empty(path),
        Err(error) => return Err(unreadable(error)),
    };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let (magic, version) = (lines.next(), lines.next());
    if magic != Some(MAGIC) {
        let message = format!("{} was not written by larder's disk tier; nothing was changed", path.join(FORMAT).display());
        return Err(Error::new(ErrorKind::UnknownFormat, message));
    }
    match version.and_then(|line| line.strip_prefix("version ")).and_then(|number| number.parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        _ => {
            let found = version.unwrap_or("no version").escape_debug();
            let message = format!(
                "{} says \"{found}\" and this larder knows \"version {VERSION}\"; nothing was changed. Use the larder that wrote it, \
                 or another folder",
                path.join(FORMAT).display()
            );
            Err(Error::new(ErrorKind::UnknownFormat, message))
        }
    }
}

fn check_empty(path: &Path) -> Result<()> {
    let unreadable = |error: io::Error| {
        Error::new(ErrorKind::Tier, format!("the disk tier's folder {} cannot be read", path.display())).with_source(error)
    };
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // What a first start that was cut short leaves behind.
        if name != FORMAT_NEW && name != LOCK {
            let message = format!(
                "{} holds files (\"{}\") but no {FORMAT} file, so it is not a folder of larder's disk tier; nothing was changed. \
                 Give an empty folder",
                path.display(),
                name.to_string_lossy().escape_debug()
            );
            return Err(Error::new(ErrorKind::UnknownFormat, message));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Tier, format!("the disk tier's folder {} cannot be locked", path.display())).with_source(error)
    };
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message =
                format!("the disk tier's folder {} is in use by another process, or by another cache in this one", path.display());
            Err(Error::new(ErrorKind::Locked, message))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// By a rename, so that the file is there whole or not at all.
fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join(FORMAT_NEW);
    let mut file = File::create(&new)?;
    write!(file, "{MAGIC}\nversion {VERSION}\n")?;
    file.sync_all()?;
    fs::rename(&new, path.join(FORMAT))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_becomes_ours_and_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder");
        drop(Folder::take(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join(FORMAT)).unwrap(), "larder disk tier\nversion 1\n");
        Folder::take(&path).unwrap();
    }

    #[test]
    fn a_first_start_cut_short_does_not_bar_the_second() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT_NEW), "lar").unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        Folder::take(dir.path()).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        for text in ["larder disk tier\nversion 2\n", "larder disk tier\nversion -\n", "larder disk tier\n", "else\nversion 1\n", ""] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FORMAT), text).unwrap();
            let error = Folder::take(dir.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownFormat, "{text:?}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join(FORMAT)).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "draft").unwrap();
        let error = Folder::take(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownFormat);
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = Folder::take(dir.path()).unwrap();
        assert_eq!(Folder::take(dir.path()).unwrap_err().kind(), ErrorKind::Locked);
        drop(held);
        Folder::take(dir.path()).unwrap();
    }
}
