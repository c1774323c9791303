//! The runs of this instance, and those of others that it was told of, in SQLite: what `larder jobs show` shows, and what a server that
//! starts knows of what ran last.
//!
//! ```text
//!   job   what is known of a job: by which schedule, up to which instant all is over, whether it is paused
//!   run   runs: their key, and all of it as JSON:  sqlite3 jobs.db "SELECT datetime(due_ms / 1000, 'unixepoch'), outcome FROM run"
//! ```
//!
//! It blocks, and is a file of its own: a history that is damaged and set aside must not have jobs run again.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::run::{Outcome, Run};

/// `LRDJ`: what the file says it is.
const APPLICATION: u32 = 0x4c52_444a;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// See the head of this file.
pub struct Store {
    db: Connection,
    kept: usize,
}

/// What is known of a job from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// By which schedule.
    pub terms: String,
    /// Up to which instant all is over.
    pub done_ms: u64,
    /// Whether it is paused.
    pub paused: bool,
}

/// What is wrong with the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// It is another program's, or a later version's.
    Foreign(PathBuf),
    /// It cannot be read or written.
    Sqlite(rusqlite::Error),
    /// It cannot be set aside, or its folder not be made.
    File(std::io::Error),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Foreign(path) => write!(f, "{} is no file of jobs of this version; it is left as it is", path.display()),
            StoreError::Sqlite(error) => write!(f, "the file of jobs: {error}"),
            StoreError::File(error) => write!(f, "the file of jobs: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sqlite(error)
    }
}

impl StoreError {
    fn is_damage(&self) -> bool {
        let StoreError::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

impl Store {
    /// Opens a file, or makes one; one that is damaged is set aside. `None` is for one that lives as long as this value. Runs that were
    /// under way when the process before ended are marked so.
    ///
    /// # Errors
    /// When it is another program's, or the disk says no.
    pub fn open(path: Option<&Path>, kept: usize) -> Result<Store, StoreError> {
        let Some(path) = path else { return Self::begin(Connection::open_in_memory()?, None, kept) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(StoreError::File)?;
        }
        match Connection::open(path).map_err(StoreError::from).and_then(|db| Self::begin(db, Some(path), kept)) {
            Err(error) if error.is_damage() => {
                let aside = set_aside(path).map_err(StoreError::File)?;
                tracing::error!(%error, kept = %aside.display(), "the file of jobs was damaged; it is set aside, and a new one begun");
                Self::begin(Connection::open(path)?, Some(path), kept)
            }
            opened => opened,
        }
    }

    fn begin(mut db: Connection, path: Option<&Path>, kept: usize) -> Result<Store, StoreError> {
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        match (application, version, tables) {
            (APPLICATION, VERSION, _) => {}
            (0, 0, 0) => create(&mut db)?,
            _ => return Err(StoreError::Foreign(path.unwrap_or(Path::new("")).into())),
        }
        db.pragma_update(None, "journal_mode", "WAL")?;
        // A run whose end a power cut takes back would be run again.
        db.pragma_update(None, "synchronous", "FULL")?;
        let mut store = Store { db, kept: kept.max(1) };
        store.interrupt()?;
        Ok(store)
    }

    fn interrupt(&mut self) -> Result<(), StoreError> {
        let mut asked = self.db.prepare("SELECT document FROM run WHERE outcome = 'running'")?;
        let documents: Vec<String> = asked.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        drop(asked);
        for mut run in documents.iter().filter_map(|document| read(document)) {
            let ended_ms = run.started_ms;
            run.end(Outcome::Interrupted, Some("the server ended, or was killed, while it was under way"), ended_ms);
            self.put(&run)?;
        }
        Ok(())
    }

    /// What is known of a job.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn known(&self, job: &str) -> Result<Option<Known>, StoreError> {
        let mut ask = self.db.prepare_cached("SELECT terms, done_ms, paused FROM job WHERE name = ?1")?;
        let known = |row: &rusqlite::Row<'_>| Ok(Known { terms: row.get(0)?, done_ms: whole(row.get(1)?), paused: row.get(2)? });
        Ok(ask.query_row([job], known).optional()?)
    }

    /// Keeps what is known of a job.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&mut self, job: &str, known: &Known) -> Result<(), StoreError> {
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO job (name, terms, done_ms, paused) VALUES (?1, ?2, ?3, ?4)")?;
        put.execute(params![job, known.terms, stored(known.done_ms), known.paused])?;
        Ok(())
    }

    /// Keeps a run in the place of what was known of it; of too many of a job, the oldest go.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&mut self, run: &Run) -> Result<(), StoreError> {
        let document = serde_json::to_string(run).expect("a run has no keys that are no text");
        let change = self.db.transaction()?;
        change
            .prepare_cached("INSERT OR REPLACE INTO run (job, id, due_ms, started_ms, outcome, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![run.job, stored(run.id), stored(run.due_ms), stored(run.started_ms), run.outcome.name(), document])?;
        change
            .prepare_cached(
                "DELETE FROM run WHERE job = ?1 AND id <= (SELECT id FROM run WHERE job = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![run.job, i64::try_from(self.kept).unwrap_or(i64::MAX)])?;
        Ok(change.commit()?)
    }

    /// The last runs of a job, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn runs(&self, job: &str, most: usize) -> Result<Vec<Run>, StoreError> {
        let mut ask = self.db.prepare_cached("SELECT document FROM run WHERE job = ?1 ORDER BY id DESC LIMIT ?2")?;
        let documents = ask.query_map(params![job, i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
        let documents: Vec<String> = documents.collect::<rusqlite::Result<_>>()?;
        Ok(documents.iter().filter_map(|document| read(document)).collect())
    }

    /// One run.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn run(&self, job: &str, id: u64) -> Result<Option<Run>, StoreError> {
        let mut ask = self.db.prepare_cached("SELECT document FROM run WHERE job = ?1 AND id = ?2")?;
        let document: Option<String> = ask.query_row(params![job, stored(id)], |row| row.get(0)).optional()?;
        Ok(document.as_deref().and_then(read))
    }

    /// How often an instant was begun and interrupted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn interrupted(&self, job: &str, due_ms: u64) -> Result<u32, StoreError> {
        let mut ask = self.db.prepare_cached("SELECT count(*) FROM run WHERE job = ?1 AND due_ms = ?2 AND outcome = 'interrupted'")?;
        Ok(ask.query_row(params![job, stored(due_ms)], |row| row.get(0))?)
    }
}

/// A run of a later version may have what this one does not know; then it is passed over.
fn read(document: &str) -> Option<Run> {
    serde_json::from_str(document).map_err(|error| tracing::warn!(%error, "a run of a job cannot be read; it is passed over")).ok()
}

fn create(db: &mut Connection) -> Result<(), StoreError> {
    let change = db.transaction()?;
    change.execute_batch(
        "CREATE TABLE job (name TEXT PRIMARY KEY, terms TEXT NOT NULL, done_ms INTEGER NOT NULL, paused INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE run (job TEXT NOT NULL, id INTEGER NOT NULL, due_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, outcome TEXT NOT NULL,
             document TEXT NOT NULL, PRIMARY KEY (job, id)) WITHOUT ROWID;",
    )?;
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", VERSION)?;
    Ok(change.commit()?)
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let named = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let aside = (1..).map(|number| named(&format!(".damaged.{number}"))).find(|aside| !aside.exists()).expect("numbers do not end");
    std::fs::rename(path, &aside)?;
    // What its journal has belongs to it, and would be taken for the new one's.
    for journal in ["-wal", "-shm"] {
        match std::fs::remove_file(named(journal)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64, outcome: Outcome) -> Run {
        Run { outcome, ..Run::begun("cleanup", (id, id * 10, true), None, "a", id * 10 + 1) }
    }

    #[test]
    fn runs_outlive_the_process_and_are_bounded() {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let path = folder.path().join("jobs.db");
        let mut store = Store::open(Some(&path), 3).expect("a file");
        for id in 1..=5 {
            store.put(&run(id, Outcome::Ok)).expect("it is written");
        }
        store.put(&run(6, Outcome::Running)).expect("it is written");
        let known = Known { terms: "0 2 * * * UTC".to_owned(), done_ms: 50, paused: true };
        store.remember("cleanup", &known).expect("it is written");
        drop(store);
        let store = Store::open(Some(&path), 3).expect("the same file");
        let ids: Vec<(u64, Outcome)> = store.runs("cleanup", 9).expect("runs").iter().map(|run| (run.id, run.outcome)).collect();
        assert_eq!(ids, [(6, Outcome::Interrupted), (5, Outcome::Ok), (4, Outcome::Ok)]);
        assert_eq!(store.interrupted("cleanup", 60).expect("a number"), 1);
        assert_eq!((store.known("cleanup").expect("known"), store.known("optimize").expect("not known")), (Some(known), None));
        assert_eq!(store.run("cleanup", 1).expect("an answer"), None, "of too many the oldest go");
        assert_eq!(store.run("cleanup", 5).expect("an answer"), Some(run(5, Outcome::Ok)));
    }

    #[test]
    fn ruins_are_set_aside_and_what_is_of_others_is_left_alone() {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let path = folder.path().join("jobs.db");
        std::fs::write(&path, [7; 8_192]).expect("a file");
        let store = Store::open(Some(&path), 3).expect("a new one is begun");
        assert!(store.runs("cleanup", 9).expect("runs").is_empty());
        assert!(folder.path().join("jobs.db.damaged.1").exists());
        drop(store);
        let other = folder.path().join("other.db");
        Connection::open(&other).and_then(|db| db.execute_batch("CREATE TABLE theirs (x)")).expect("a database");
        assert!(matches!(Store::open(Some(&other), 3), Err(StoreError::Foreign(path)) if path == other));
    }
}
