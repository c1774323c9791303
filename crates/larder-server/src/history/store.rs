//! The one who writes: minutes as they end, the hours, days and months that they make up, and what is kept how long.
//!
//! Everything that belongs together is one transaction, so that a process that is killed loses the minute that was still open and
//! nothing else. It blocks, and knows no clock.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::analytics::{Rollup, Sketches};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use super::HistoryError;
use super::cover::Run;
use super::fields::Stored;
use super::fold::{HOUR_SKETCHES, Reader, Wanted};
use super::parcels;
use super::rows::{self, Names, Place};
use super::schema::{self, Found};
use super::span::{HOUR_MS, MINUTE_MS, MOMENT_MAX_MS, Span};
use super::{Detail, Retention};

/// How long it waits for another connection. Readers never hold one up; a program that looks at the file by hand can.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A unit is closed so long after its end: until then its last minute may still be on its way.
const GRACE_MS: u64 = 2 * MINUTE_MS;

/// The history, to be written by one process.
pub struct Store {
    db: Connection,
    /// `None`: in memory alone.
    path: Option<PathBuf>,
    /// Held as long as the store is.
    _lock: Option<File>,
    own: i64,
    namespaces: Names,
    measures: Names,
    /// Whether other instances are to be told of what is added.
    ships: bool,
}

/// What became of a file that was to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is used.
    AsItWas,
    /// There was none.
    New,
    /// It was damaged, and is here now; a new one was begun.
    SetAside(PathBuf),
}

/// What a step of pruning gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that were removed.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether there is more to be removed.
    pub is_more: bool,
}

impl Store {
    /// Opens a file, or makes one. One that is damaged is set aside first.
    ///
    /// # Errors
    /// When it is of a later version, or another program's, or another process writes to it, or the disk says no.
    pub fn open(path: &Path) -> Result<(Store, Opened), HistoryError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| HistoryError::File(folder.into(), error))?;
        }
        let lock = lock(path)?;
        let opened = match schema::look(path)? {
            Found::Nothing => Opened::New,
            Found::Ours => Opened::AsItWas,
            Found::Ruins => Opened::SetAside(set_aside(path)?),
        };
        match Self::begin(Connection::open(path)?, Some(path.into())) {
            Ok(store) => Ok((Store { _lock: Some(lock), ..store }, opened)),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, path = %path.display(), "the history cannot be read");
                let aside = set_aside(path)?;
                let store = Self::begin(Connection::open(path)?, Some(path.into()))?;
                Ok((Store { _lock: Some(lock), ..store }, Opened::SetAside(aside)))
            }
            Err(error) => Err(error),
        }
    }

    /// One that lives as long as this value.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Store, HistoryError> {
        Self::begin(Connection::open_in_memory()?, None)
    }

    fn begin(mut db: Connection, path: Option<PathBuf>) -> Result<Store, HistoryError> {
        db.busy_timeout(BUSY_TIMEOUT)?;
        schema::prepare(&mut db)?;
        // Not before the schema: what the first page says of the version must be in the file itself, where `look` finds it.
        db.pragma_update(None, "journal_mode", "WAL")?;
        // One fsync a minute is nothing, and without it a power cut would take what was written since the last checkpoint.
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 4 << 20)?;
        let (namespaces, measures) = (Names::read(&db, "namespace")?, Names::read(&db, "measure")?);
        let own = own_instance(&db)?;
        Ok(Store { db, path, _lock: None, own, namespaces, measures, ships: false })
    }

    /// Sets the file aside and begins a new one, as [`open`](Self::open) does. Returns where the old one is; what was in memory is gone.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn renew(&mut self) -> Result<Option<PathBuf>, HistoryError> {
        // The old file must be closed before it is renamed: its journal goes with it.
        self.db = Connection::open_in_memory()?;
        let (db, aside) = match &self.path {
            Some(path) => {
                let aside = if path.exists() { Some(set_aside(path)?) } else { None };
                (Connection::open(path)?, aside)
            }
            None => (Connection::open_in_memory()?, None),
        };
        let new = Self::begin(db, self.path.clone())?;
        *self = Store { ships: self.ships, _lock: self._lock.take(), ..new };
        Ok(aside)
    }

    /// Whether the file is as it was written. Takes a second for some hundred megabytes.
    ///
    /// # Errors
    /// [`HistoryError::Damaged`], when it is not.
    pub fn check(&self) -> Result<(), HistoryError> {
        let found: String = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(HistoryError::Damaged(found)) }
    }

    /// What this instance is known by among others, for as long as the file lives.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> Result<String, HistoryError> {
        Ok(self.db.query_row("SELECT identity FROM instance WHERE id = ?1", [self.own], |row| row.get(0))?)
    }

    /// What it is called where instances are shown.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_name(&mut self, name: &str) -> Result<(), HistoryError> {
        self.db.execute("UPDATE instance SET name = ?1 WHERE id = ?2 AND name <> ?1", params![name, self.own])?;
        Ok(())
    }

    /// Adds what happened in a minute, to what there already is of it: a minute comes twice where the program was started anew in it,
    /// or the clock was set back. The sizes that count are the later ones.
    ///
    /// # Errors
    /// When it is not written; then nothing of it is.
    pub fn add(&mut self, minute: &Rollup) -> Result<(), HistoryError> {
        self.add_all(std::slice::from_ref(minute))
    }

    /// Adds many minutes in one transaction.
    ///
    /// # Errors
    /// When they are not written; then none of them is.
    pub fn add_all(&mut self, minutes: &[Rollup]) -> Result<(), HistoryError> {
        let ships = self.ships;
        self.write(self.own, |writing| {
            for minute in minutes {
                let start_ms = checked(minute.start_ms)?;
                writing.add(start_ms, minute)?;
                if ships {
                    parcels::note(writing.db, start_ms)?;
                }
            }
            Ok(())
        })
    }

    /// Writes what belongs to an instance, all of it or nothing.
    pub(super) fn write(
        &mut self,
        instance: i64,
        write: impl FnOnce(&mut Writing<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let transaction = self.db.transaction()?;
        let (namespaces, measures) = (&mut self.namespaces, &mut self.measures);
        let written = write(&mut Writing { db: &transaction, namespaces, measures, instance });
        let written = written.and_then(|()| Ok(transaction.commit()?));
        if written.is_err() {
            // Numbers that were given to names went with the rest.
            (self.namespaces, self.measures) = (Names::read(&self.db, "namespace")?, Names::read(&self.db, "measure")?);
        }
        written
    }

    /// Makes up the hours, days and months that are over and have changed.
    ///
    /// # Errors
    /// When they cannot be written; those that were stay.
    pub fn close_due(&mut self, now_ms: u64) -> Result<(), HistoryError> {
        for span in [Span::Hour, Span::Day, Span::Month] {
            let starts = {
                let mut due = self.db.prepare_cached("SELECT start_ms FROM due WHERE span = ?1 AND start_ms < ?2 ORDER BY start_ms")?;
                let starts = due.query_map(params![span.name(), now_ms.store()], |row| row.get::<_, i64>(0))?;
                starts.collect::<rusqlite::Result<Vec<i64>>>()?
            };
            for start_ms in starts.into_iter().filter_map(|start| u64::try_from(start).ok()) {
                if span.end(start_ms) + GRACE_MS <= now_ms {
                    self.close(span, start_ms)?;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, span: Span, start_ms: u64) -> Result<(), HistoryError> {
        let below = span.below().expect("minutes are never due");
        let run = Run { span: below, from_ms: start_ms, to_ms: span.end(start_ms) };
        let closing = self.db.transaction()?;
        let reader = Reader::new(&closing)?;
        // Where the sketches below are gone, those of the unit have what was there when they were closed.
        let has_sketches = below == Span::Day || below == Span::Hour && kept_since(&closing, HOUR_SKETCHES)? <= start_ms;
        let sketch_runs = if has_sketches { vec![run] } else { Vec::new() };
        let wanted = Wanted { detail: Detail::Sketches, namespaces: None, instances: None };
        for (instance, part) in reader.parts(&[run], &sketch_runs, &wanted)? {
            let place = Place { span, start_ms, instance };
            rows::put(&closing, place, &part.rollup, (&mut self.namespaces, &mut self.measures))?;
            if has_sketches {
                rows::put_sketches(&closing, place, &part.rollup, &mut self.namespaces)?;
            }
        }
        closing.execute("DELETE FROM due WHERE span = ?1 AND start_ms = ?2", params![span.name(), start_ms.store()])?;
        closing.commit()?;
        Ok(())
    }

    /// Forgets what is kept no longer, a bounded step at a time, and gives the room back to the disk. Returns whether there is more.
    ///
    /// # Errors
    /// When the database says no.
    pub fn prune(&mut self, now_ms: u64, retention: &Retention) -> Result<bool, HistoryError> {
        Ok(self.prune_step(now_ms, retention)?.is_more)
    }

    /// The same, and what it gave back.
    ///
    /// # Errors
    /// When the database says no.
    pub fn prune_step(&mut self, now_ms: u64, retention: &Retention) -> Result<Pruned, HistoryError> {
        let before = self.bytes()?;
        let mut pruned = Pruned::default();
        for (tables, above, kept) in retention.parts() {
            let mut horizon = Span::Day.floor(now_ms.saturating_sub(kept));
            if let Some(above) = above {
                // Days begin with a month's first where they are kept for it, and nothing goes that something above is still made up from.
                horizon = if above == Span::Month { Span::Month.floor(horizon) } else { horizon };
                horizon = horizon.min(self.first_due(above)?.unwrap_or(u64::MAX));
            }
            let (rows, is_more) = self.prune_before(horizon, tables)?;
            pruned.rows += rows;
            pruned.is_more |= is_more;
        }
        self.db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        pruned.bytes = before.saturating_sub(self.bytes()?);
        Ok(pruned)
    }

    /// What the database takes, once what was written is in the file itself.
    fn bytes(&self) -> Result<u64, HistoryError> {
        let of = |name: &str| self.db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let (pages, size) = (of("page_count")?, of("page_size")?);
        Ok(u64::try_from(pages.saturating_mul(size)).unwrap_or(0))
    }

    /// Whether a time is believed, and what it makes too old may be forgotten: a clock that was set far ahead would have everything
    /// forgotten, so it has to have gone on for an hour.
    ///
    /// # Errors
    /// When the database says no.
    pub fn believes(&self, now_ms: u64) -> Result<bool, HistoryError> {
        Ok(self.own_minutes(now_ms.saturating_sub(3 * HOUR_MS), now_ms)? >= 60)
    }

    fn first_due(&self, span: Span) -> Result<Option<u64>, HistoryError> {
        let first: Option<i64> = self.db.query_row("SELECT min(start_ms) FROM due WHERE span = ?1", [span.name()], |row| row.get(0))?;
        Ok(first.and_then(|first| u64::try_from(first).ok()))
    }

    fn prune_before(&mut self, horizon_ms: u64, tables: &[(&str, &str)]) -> Result<(u64, bool), HistoryError> {
        let pruning = self.db.transaction()?;
        let (mut rows, mut is_more) = (0, false);
        for (table, time) in tables {
            // What is asked for is made up from the level above as soon as this is written, whether the rows are gone yet or not.
            let raise = "INSERT INTO kept (name, since_ms) VALUES (?1, ?2) \
                         ON CONFLICT DO UPDATE SET since_ms = max(since_ms, excluded.since_ms)";
            if !table.ends_with("_measure") {
                pruning.execute(raise, params![table, horizon_ms.store()])?;
            }
            let last: Option<i64> = pruning
                .query_row(
                    &format!("SELECT {time} FROM {table} WHERE {time} < ?1 ORDER BY {time} LIMIT 1 OFFSET {PRUNED_ROWS}"),
                    params![horizon_ms.store()],
                    |row| row.get(0),
                )
                .optional()?;
            // Up to and with the time of that row: rows of one time stay together.
            let before = last.map_or(horizon_ms.store(), |last| rusqlite::types::Value::Integer(last + 1));
            rows += pruning.execute(&format!("DELETE FROM {table} WHERE {time} < ?1"), params![before])? as u64;
            is_more |= last.is_some();
        }
        pruning.commit()?;
        Ok((rows, is_more))
    }

    /// Brings what was written into the file itself, and empties the journal.
    ///
    /// # Errors
    /// When the database says no.
    pub fn checkpoint(&mut self) -> Result<(), HistoryError> {
        Ok(self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Begins to note what is added, to be told to other instances.
    pub fn ships(&mut self) {
        self.ships = true;
    }

    /// The number of the instance that writes here.
    pub(super) fn own(&self) -> i64 {
        self.own
    }

    /// The connection, for whoever reads in the same process from memory.
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How many minutes of this instance there are within a stretch.
    pub(super) fn own_minutes(&self, from_ms: u64, to_ms: u64) -> Result<u32, HistoryError> {
        let mut minutes = 0;
        rows::presence(&self.db, from_ms, to_ms, |_, instance, bits| minutes += if instance == self.own { bits.count_ones() } else { 0 })?;
        Ok(minutes)
    }
}

/// Rows that one step of pruning deletes of a table, and pages that it gives back: some milliseconds each.
const PRUNED_ROWS: u32 = 5_000;
const VACUUM_PAGES: u32 = 512;

fn checked(start_ms: u64) -> Result<u64, HistoryError> {
    if start_ms < MOMENT_MAX_MS { Ok(Span::Minute.floor(start_ms)) } else { Err(HistoryError::Calendar) }
}

/// Takes the file for this process. The lock is a file of its own, since SQLite's locks are only held while something is written.
fn lock(path: &Path) -> Result<File, HistoryError> {
    let beside = with_suffix(path, "-lock");
    let file = |error| HistoryError::File(beside.clone(), error);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&beside).map_err(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(HistoryError::Locked(path.into())),
        Err(std::fs::TryLockError::Error(error)) => Err(file(error)),
    }
}

/// Renames a damaged file and what belongs to it. Nothing is deleted: somebody may be able to read a part of it.
fn set_aside(path: &Path) -> Result<PathBuf, HistoryError> {
    let free = |number: &u32| !with_suffix(path, &format!(".damaged.{number}")).exists();
    let number = (1..).find(free).expect("no folder has that many files");
    let aside = with_suffix(path, &format!(".damaged.{number}"));
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
        match std::fs::rename(&from, &to) {
            Err(error) if suffix.is_empty() || error.kind() != std::io::ErrorKind::NotFound => return Err(HistoryError::File(from, error)),
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The number of the instance that writes here. A file that has none yet gives it an identity that no other has.
fn own_instance(db: &Connection) -> Result<i64, HistoryError> {
    let own = db.query_row("SELECT id FROM instance WHERE is_own = 1", [], |row| row.get(0)).optional()?;
    if let Some(own) = own {
        return Ok(own);
    }
    let identity = format!("{:032x}", fastrand::u128(..));
    db.execute("INSERT INTO instance (identity, name, is_own) VALUES (?1, '', 1)", [identity])?;
    Ok(db.last_insert_rowid())
}

pub(super) fn kept_since(db: &Connection, name: &str) -> Result<u64, HistoryError> {
    let since = db.query_row("SELECT since_ms FROM kept WHERE name = ?1", [name], |row| row.get::<_, i64>(0)).optional()?;
    Ok(since.and_then(|since| u64::try_from(since).ok()).unwrap_or(0))
}

/// Writing what an instance did.
pub(super) struct Writing<'a> {
    pub(super) db: &'a Transaction<'a>,
    pub(super) namespaces: &'a mut Names,
    pub(super) measures: &'a mut Names,
    pub(super) instance: i64,
}

impl Writing<'_> {
    fn add(&mut self, minute_ms: u64, minute: &Rollup) -> Result<(), HistoryError> {
        // What is older than the minutes that are kept goes into the hour, and so on: it is not told by the minute any more.
        let mut level = None;
        for span in Span::ALL {
            if level.is_none() && kept_since(self.db, span.name())? <= span.floor(minute_ms) {
                level = Some(span);
            }
        }
        let Some(level) = level else {
            tracing::warn!(minute_ms, "a minute is older than anything that is kept, and is not written");
            return Ok(());
        };
        let is_again = level == Span::Minute && self.was_there(minute_ms)?;
        // Nearly every minute is new.
        let is_there = is_again || level > Span::Minute;
        let mut unit = if is_there { self.stored(level, level.floor(minute_ms))? } else { Rollup::default() };
        let mut minute = minute.clone();
        if is_again {
            unit.then(&minute);
        } else if level > Span::Minute {
            // Its sizes at the end are those of a later minute.
            minute.namespaces.values_mut().for_each(|window| (window.entries, window.bytes) = (0, 0));
            unit.beside(&minute);
        } else {
            unit = minute.clone();
        }
        if level == Span::Minute {
            // A minute is one sample, however often it was begun.
            unit.namespaces.values_mut().for_each(|window| (window.entries_sum, window.bytes_sum) = (window.entries, window.bytes));
        }
        self.put(level, level.floor(minute_ms), &unit)?;
        self.add_sketches(minute_ms, level, &minute)?;
        self.mark(minute_ms, level)
    }

    /// Sketches go into the hour, or into what is left of it.
    fn add_sketches(&mut self, minute_ms: u64, level: Span, minute: &Rollup) -> Result<(), HistoryError> {
        let empty = Sketches::default();
        if minute.namespaces.values().all(|window| window.sketches == empty) {
            return Ok(());
        }
        let hours_have = kept_since(self.db, HOUR_SKETCHES)? <= Span::Hour.floor(minute_ms);
        let span = if hours_have { level.max(Span::Hour) } else { level.max(Span::Day) };
        let start_ms = span.floor(minute_ms);
        let mut unit = Rollup::default();
        let take = |_, namespace, sketches| {
            unit.namespaces.entry(self.namespaces.name(namespace)?.clone()).or_default().sketches = sketches;
            Ok(())
        };
        rows::sketches(self.db, (span, start_ms, start_ms + 1), take, |instance, _| instance == self.instance)?;
        for (name, window) in &minute.namespaces {
            unit.namespaces.entry(name.clone()).or_default().sketches.add(&window.sketches);
        }
        rows::put_sketches(self.db, Place { span, start_ms, instance: self.instance }, &unit, self.namespaces)
    }

    /// Notes that the minute is there, and that what is above it has changed.
    pub(super) fn mark(&self, minute_ms: u64, level: Span) -> Result<(), HistoryError> {
        let hour_ms = Span::Hour.floor(minute_ms);
        let bit = 1u64 << ((minute_ms - hour_ms) / MINUTE_MS);
        let note = "INSERT INTO presence (hour_ms, instance, minutes) VALUES (?1, ?2, ?3) \
                    ON CONFLICT DO UPDATE SET minutes = minutes | excluded.minutes";
        self.db.prepare_cached(note)?.execute(params![hour_ms.store(), self.instance, bit.store()])?;
        self.mark_due(minute_ms, level)
    }

    /// Notes that what is above a level has changed.
    pub(super) fn mark_due(&self, moment_ms: u64, level: Span) -> Result<(), HistoryError> {
        let mut due = self.db.prepare_cached("INSERT OR IGNORE INTO due (span, start_ms) VALUES (?1, ?2)")?;
        for span in Span::ALL.into_iter().filter(|span| *span > level) {
            due.execute(params![span.name(), span.floor(moment_ms).store()])?;
        }
        Ok(())
    }

    fn was_there(&self, minute_ms: u64) -> Result<bool, HistoryError> {
        let hour_ms = Span::Hour.floor(minute_ms);
        let mut was_there = false;
        rows::presence(self.db, hour_ms, hour_ms + 1, |_, instance, minutes| {
            was_there |= instance == self.instance && minutes >> ((minute_ms - hour_ms) / MINUTE_MS) & 1 == 1;
        })?;
        Ok(was_there)
    }

    pub(super) fn stored(&self, span: Span, start_ms: u64) -> Result<Rollup, HistoryError> {
        let mut unit = Rollup::default();
        let take = |_, _, namespace, window| {
            unit.namespaces.insert(self.namespaces.name(namespace)?.clone(), window);
            Ok(())
        };
        rows::windows(self.db, (span, start_ms, start_ms + 1), Detail::Latencies, take, |instance, _| instance == self.instance)?;
        let take = |instance, measure, value| {
            if instance == self.instance {
                unit.measures.insert(self.measures.name(measure)?.clone(), value);
            }
            Ok(())
        };
        rows::measures(self.db, (span, start_ms, start_ms + 1), take)?;
        Ok(unit)
    }

    pub(super) fn put(&mut self, span: Span, start_ms: u64, unit: &Rollup) -> Result<(), HistoryError> {
        rows::put(self.db, Place { span, start_ms, instance: self.instance }, unit, (self.namespaces, self.measures))
    }
}

/// Opens a file to read from it alone.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, HistoryError> {
    match schema::look(path)? {
        Found::Nothing => return Err(HistoryError::NotThere(path.into())),
        Found::Ruins => return Err(HistoryError::Damaged(format!("{} is no database", path.display()))),
        Found::Ours => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    Ok(db)
}
