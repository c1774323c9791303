//! The database: its tables, how one of an older version becomes one of this, and which are not touched.
//!
//! All times are milliseconds since 1970 in universal time; a row's `start_ms` is when its minute, hour, day or month begins.
//!
//! ```text
//!   instance           who: an identity that outlives restarts, and a name to show; is_own marks the one that writes here,
//!                      taken is the last that was heard of another
//!   namespace, measure names, by number
//!   minute, hour, day, month
//!                      what happened in a namespace: one column for each counter, sizes at the end (entries, bytes) and their
//!                      sums over the minutes (entries_sum, bytes_sum), latencies as blobs (see fields.rs)
//!   minute_measure ... what happened in the cache as a whole
//!   hour_sketch, day_sketch, month_sketch
//!                      which keys there were: minutes have none, they would be most of the file
//!   presence           which minutes of an hour there are: bit n of `minutes` is minute n
//!   due                hours, days and months that changed since they were made up from what is below them
//!   kept               from when on each of the tables has everything
//!   unshipped          what other instances were not told of yet
//!   minutes, hours, days, months
//!                      views with the names in them, to look at by hand:
//!                      sqlite3 history.db 'SELECT at, namespace_name, hits_memory, misses_absent FROM hours'
//! ```
//!
//! A version that counts something else has other columns: those that are missing are added, those that are unknown stay as they are.
//! `user_version` changes when an older program could no longer read or write the file rightly.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::HistoryError;
use super::fields::{COUNTERS, KEYS_ESTIMATE, LATENCIES, SIZES, SKETCHES, Stored};
use super::span::Span;

/// `LRDR`: what the file says it is, for `file` and for us.
const APPLICATION: u32 = 0x4c52_4452;

/// The version that is written.
pub(super) const VERSION: u32 = 1;

/// What leads from each version to the next. The first makes everything.
const MIGRATIONS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; VERSION as usize] = [create];

/// What a file says of itself in its first hundred bytes, which no journal changes as long as nobody migrates it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet.
    Nothing,
    /// A history of this version or an older one.
    Ours,
    /// No database, or the ruins of one.
    Ruins,
}

/// Looks at a file without touching it: opening a database can write to it.
///
/// # Errors
/// When it is another's, or of a later version.
pub(super) fn look(path: &Path) -> Result<Found, HistoryError> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut head).map_err(|error| HistoryError::File(path.into(), error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(HistoryError::File(path.into(), error)),
    };
    if head.is_empty() {
        return Ok(Found::Nothing);
    }
    if head.len() < 100 || !head.starts_with(b"SQLite format 3\0") {
        return Ok(Found::Ruins);
    }
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes are four bytes"));
    let (version, application, schema) = (number(60), number(68), number(40));
    match application {
        APPLICATION if version > VERSION => Err(HistoryError::Newer { path: path.into(), found: version, known: VERSION }),
        APPLICATION => Ok(Found::Ours),
        // A file that was begun when the process was killed has no table yet.
        0 if schema == 0 => Ok(Found::Nothing),
        _ => Err(HistoryError::Foreign(path.into())),
    }
}

/// Brings a database to the version and the columns of this program.
pub(super) fn prepare(db: &mut Connection) -> Result<(), HistoryError> {
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < VERSION {
        if version == 0 {
            // Only an empty database can still choose them.
            db.pragma_update(None, "page_size", PAGE_BYTES)?;
            db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        let migration = db.transaction()?;
        MIGRATIONS[version as usize..].iter().try_for_each(|step| step(&migration))?;
        migration.pragma_update(None, "application_id", APPLICATION)?;
        migration.pragma_update(None, "user_version", VERSION)?;
        migration.commit()?;
    }
    add_columns(db)
}

/// Rows are a few hundred bytes, of which more than three should fit a page.
const PAGE_BYTES: u32 = 8_192;

fn create(migration: &Transaction<'_>) -> rusqlite::Result<()> {
    migration.execute_batch(
        "CREATE TABLE instance (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_own INTEGER NOT NULL DEFAULT 0,
             taken INTEGER NOT NULL DEFAULT 0);
         CREATE TABLE namespace (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE measure (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE presence (hour_ms INTEGER NOT NULL, instance INTEGER NOT NULL, minutes INTEGER NOT NULL,
             PRIMARY KEY (hour_ms, instance)) WITHOUT ROWID;
         CREATE TABLE due (span TEXT NOT NULL, start_ms INTEGER NOT NULL, PRIMARY KEY (span, start_ms)) WITHOUT ROWID;
         CREATE TABLE kept (name TEXT PRIMARY KEY, since_ms INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE unshipped (kind TEXT NOT NULL, start_ms INTEGER NOT NULL, change INTEGER NOT NULL, PRIMARY KEY (kind, start_ms)) WITHOUT ROWID;",
    )?;
    for span in Span::ALL {
        let key = "start_ms INTEGER NOT NULL, instance INTEGER NOT NULL";
        migration.execute_batch(&format!(
            "CREATE TABLE {span} ({key}, namespace INTEGER NOT NULL, PRIMARY KEY (start_ms, instance, namespace)) WITHOUT ROWID;
             CREATE TABLE {span}_measure ({key}, measure INTEGER NOT NULL, value INTEGER NOT NULL,
                 PRIMARY KEY (start_ms, instance, measure)) WITHOUT ROWID;
             CREATE VIEW {span}s AS SELECT datetime(u.start_ms / 1000, 'unixepoch') AS at, i.name AS instance_name, n.name AS namespace_name, u.*
                 FROM {span} AS u JOIN instance AS i ON i.id = u.instance JOIN namespace AS n ON n.id = u.namespace;"
        ))?;
        if has_sketches(span) {
            migration.execute_batch(&format!(
                "CREATE TABLE {span}_sketch ({key}, namespace INTEGER NOT NULL, {KEYS_ESTIMATE} INTEGER NOT NULL DEFAULT 0,
                     PRIMARY KEY (start_ms, instance, namespace));"
            ))?;
        }
    }
    Ok(())
}

/// Whether sketches are kept at this level.
pub(super) fn has_sketches(span: Span) -> bool {
    span > Span::Minute
}

fn add_columns(db: &Connection) -> Result<(), HistoryError> {
    for span in Span::ALL {
        let counters = COUNTERS.iter().map(|name| (*name, u64::TYPE));
        let fields = SIZES.iter().chain(&LATENCIES).map(|field| (field.name, field.kind));
        add_missing(db, span.name(), counters.chain(fields))?;
        if has_sketches(span) {
            add_missing(db, &format!("{span}_sketch"), SKETCHES.iter().map(|field| (field.name, field.kind)))?;
        }
    }
    Ok(())
}

fn add_missing<'a>(db: &Connection, table: &str, wanted: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), HistoryError> {
    let mut columns = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns = columns.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<BTreeSet<String>>>()?;
    for (name, kind) in wanted.filter(|(name, _)| !columns.contains(*name)) {
        db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN \"{name}\" {kind}"))?;
    }
    Ok(())
}
