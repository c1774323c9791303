//! The book on the disk: `DATA/access.json`, for its owner's eyes alone. It is replaced as a whole, so that a crash leaves the one before
//! or the one behind; and what is not understood is refused rather than overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::book::Book;

/// What it is called in the data folder.
pub const FILE_NAME: &str = "access.json";

/// A larger file is none of ours: it would have more principals and tokens than there may be.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Where the book is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// At this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Store { path: path.into() }
    }

    /// In a data folder.
    pub fn in_folder(data: &Path) -> Self {
        Store::at(data.join(FILE_NAME))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the book; an empty one where there is no file yet.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(&self) -> Result<Book, String> {
        let shown = self.path.display();
        let mut text = String::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(error) => return Err(format!("{shown} cannot be read: {error}")),
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("{shown} cannot be read: {error}"))?,
        };
        Book::read(&text).map_err(|why| format!("{shown} cannot be used: {why}"))
    }

    /// Takes the book for this process: a server, and a command that changes it while no server runs, would each undo what the other did.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> Result<Lock, String> {
        let path = self.path.with_extension("lock");
        let failed = |error: io::Error| format!("{} cannot be locked: {error}", path.display());
        fs::create_dir_all(self.folder()).map_err(failed)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(format!("{} is in use by another process", self.path.display())),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Writes the book. When it returns, it is on stable storage.
    ///
    /// # Errors
    /// When it cannot; then what was there is there still, or the new one is.
    pub fn write(&self, book: &Book) -> Result<(), String> {
        self.replace(book.write().as_bytes()).map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let folder = self.folder();
        fs::create_dir_all(folder)?;
        let beside = self.path.with_extension("json.new");
        // What a crash left half-written, or somebody put there for us to write through.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        // The name is a change of the folder.
        File::open(folder)?.sync_all()
    }
}

/// The right to change the book: see [`Store::lock`].
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing of the file, of which a process that is just being started may hold a copy. Closing it does the same.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the book of who has access is unlocked by closing it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::access::book::Person;

    #[test]
    fn the_book_is_its_owners_alone_and_what_is_not_understood_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(&folder.path().join("data"));
        assert_eq!(store.read(), Ok(Book::default()));
        let mut book = Book::default();
        book.put_principal("ada", Person::default()).unwrap();
        store.write(&book).unwrap();
        store.write(&book).unwrap();
        assert_eq!(store.read(), Ok(book));
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "nothing is left beside it");
        fs::write(store.path(), "{ \"format\": \"larder-access\", \"version\": 9 }").unwrap();
        assert!(store.read().unwrap_err().contains("version"));
        let lock = store.lock().unwrap();
        assert!(store.lock().unwrap_err().contains("another process"));
        drop(lock);
        assert!(store.lock().is_ok());
        // What was left of a crash, or put there, is not written through.
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, store.path().with_extension("json.new")).unwrap();
        store.write(&Book::default()).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    }
}
