//! Rows of a table to windows and back.

use std::collections::HashMap;
use std::sync::LazyLock;

use larder::analytics::{Rollup, Sketches, Window};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::fields::{COUNTERS, KEYS_ESTIMATE, LATENCIES, SIZES, SKETCHES, Stored};
use super::span::Span;
use super::{Detail, HistoryError};

/// The columns in front: `start_ms`, `instance`, `namespace`.
const KEY: usize = 3;

/// Names by number, and numbers by name.
#[derive(Default)]
pub(super) struct Names {
    by_number: HashMap<i64, String>,
    by_name: HashMap<String, i64>,
}

impl Names {
    /// Those of `namespace` or `measure`.
    pub(super) fn read(db: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut names = Names::default();
        let mut rows = db.prepare_cached(&format!("SELECT id, name FROM {table}"))?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (number, name): (i64, String) = row?;
            names.note(number, name);
        }
        Ok(names)
    }

    pub(super) fn name(&self, number: i64) -> Result<&String, HistoryError> {
        self.by_number.get(&number).ok_or_else(|| HistoryError::Damaged(format!("nothing has the number {number}")))
    }

    /// The number of a name, which is given one if it has none.
    pub(super) fn number(&mut self, db: &Connection, table: &str, name: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.by_name.get(name) {
            return Ok(*number);
        }
        db.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?1)"))?.execute([name])?;
        let number = db.last_insert_rowid();
        self.note(number, name.into());
        Ok(number)
    }

    fn note(&mut self, number: i64, name: String) {
        self.by_number.insert(number, name.clone());
        self.by_name.insert(name, number);
    }

    /// How many there would be with these.
    pub(super) fn len_with<'n>(&self, names: impl Iterator<Item = &'n String>) -> usize {
        self.by_name.len() + names.filter(|name| !self.by_name.contains_key(*name)).count()
    }

    pub(super) fn numbers_of(&self, names: &[String]) -> Vec<i64> {
        names.iter().filter_map(|name| self.by_name.get(name).copied()).collect()
    }

    pub(super) fn into_names(self) -> Vec<String> {
        let mut names: Vec<String> = self.by_name.into_keys().collect();
        names.sort();
        names
    }
}

/// One statement for each level.
type Statements = LazyLock<[String; 4]>;

fn window_columns(detail: Detail) -> Vec<&'static str> {
    let latencies = LATENCIES.iter().filter(|_| detail >= Detail::Latencies).map(|field| field.name);
    COUNTERS.iter().copied().chain(SIZES.iter().map(|field| field.name)).chain(latencies).collect()
}

fn select(detail: Detail) -> [String; 4] {
    let columns: String = window_columns(detail).iter().map(|name| format!(", \"{name}\"")).collect();
    Span::ALL.map(|span| {
        format!(
            "SELECT start_ms, instance, namespace{columns} FROM {span} WHERE start_ms >= ?1 AND start_ms < ?2 \
             ORDER BY start_ms, instance, namespace"
        )
    })
}

fn upsert(suffix: &str, columns: &[&str]) -> [String; 4] {
    let names: String = columns.iter().map(|name| format!(", \"{name}\"")).collect();
    let marks: String = (0..columns.len()).map(|_| ", ?").collect();
    let news: Vec<String> = columns.iter().map(|name| format!("\"{name}\" = excluded.\"{name}\"")).collect();
    let news = news.join(", ");
    Span::ALL.map(|span| {
        format!(
            "INSERT INTO {span}{suffix} (start_ms, instance, namespace{names}) VALUES (?, ?, ?{marks}) ON CONFLICT DO UPDATE SET {news}"
        )
    })
}

static SELECT_COUNTS: Statements = LazyLock::new(|| select(Detail::Counts));
static SELECT_ALL: Statements = LazyLock::new(|| select(Detail::Latencies));
static SELECT_SKETCHES: Statements = LazyLock::new(|| {
    let columns: String = SKETCHES.iter().map(|field| format!(", \"{}\"", field.name)).collect();
    Span::ALL.map(|span| {
        format!("SELECT start_ms, instance, namespace{columns} FROM {span}_sketch WHERE start_ms >= ?1 AND start_ms < ?2 ORDER BY start_ms")
    })
});
static PUT_WINDOW: Statements = LazyLock::new(|| upsert("", &window_columns(Detail::Latencies)));
static PUT_SKETCHES: Statements = LazyLock::new(|| {
    let columns: Vec<&str> = std::iter::once(KEYS_ESTIMATE).chain(SKETCHES.iter().map(|field| field.name)).collect();
    upsert("_sketch", &columns)
});

fn of(statements: &Statements, span: Span) -> &str {
    &statements[span as usize]
}

/// Reads the windows of the units that begin within a stretch, ordered by time, instance and namespace.
pub(super) fn windows(
    db: &Connection,
    (span, from_ms, to_ms): (Span, u64, u64),
    detail: Detail,
    mut take: impl FnMut(u64, i64, i64, Window) -> Result<(), HistoryError>,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<(), HistoryError> {
    let statements = if detail == Detail::Counts { &SELECT_COUNTS } else { &SELECT_ALL };
    let mut statement = db.prepare_cached(of(statements, span))?;
    let mut rows = statement.query(params![from_ms.store(), to_ms.store()])?;
    while let Some(row) = rows.next()? {
        let (instance, namespace) = (row.get(1)?, row.get(2)?);
        if wanted(instance, namespace) {
            take(number(row, 0)?, instance, namespace, window(row, span, detail)?)?;
        }
    }
    Ok(())
}

fn window(row: &Row<'_>, span: Span, detail: Detail) -> Result<Window, HistoryError> {
    let mut window = Window::default();
    for (at, name) in COUNTERS.iter().enumerate() {
        let value = number(row, KEY + at)?;
        // Most counters of most minutes are zero.
        if value > 0 {
            window.counts.set(name, value);
        }
    }
    let latencies = LATENCIES.iter().filter(|_| detail >= Detail::Latencies);
    for (at, field) in SIZES.iter().chain(latencies).enumerate() {
        if !(field.restore)(&mut window, row.get_ref(KEY + COUNTERS.len() + at)?) {
            return Err(HistoryError::Damaged(format!("a {} of a {span}", field.name)));
        }
    }
    Ok(window)
}

/// Reads the sketches of the units that begin within a stretch.
pub(super) fn sketches(
    db: &Connection,
    (span, from_ms, to_ms): (Span, u64, u64),
    mut take: impl FnMut(i64, i64, Sketches) -> Result<(), HistoryError>,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<(), HistoryError> {
    let mut statement = db.prepare_cached(of(&SELECT_SKETCHES, span))?;
    let mut rows = statement.query(params![from_ms.store(), to_ms.store()])?;
    while let Some(row) = rows.next()? {
        let (instance, namespace) = (row.get(1)?, row.get(2)?);
        if !wanted(instance, namespace) {
            continue;
        }
        let mut sketches = Sketches::default();
        for (at, field) in SKETCHES.iter().enumerate() {
            if !(field.restore)(&mut sketches, row.get_ref(KEY + at)?) {
                return Err(HistoryError::Damaged(format!("{} of a {span}", field.name)));
            }
        }
        take(instance, namespace, sketches)?;
    }
    Ok(())
}

/// Reads what happened in the cache as a whole within a stretch: instance, measure, sum.
pub(super) fn measures(
    db: &Connection,
    (span, from_ms, to_ms): (Span, u64, u64),
    mut take: impl FnMut(i64, i64, u64) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
    let mut statement =
        db.prepare_cached(&format!("SELECT instance, measure, value FROM {span}_measure WHERE start_ms >= ?1 AND start_ms < ?2"))?;
    let mut rows = statement.query(params![from_ms.store(), to_ms.store()])?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, row.get(1)?, number(row, 2)?)?;
    }
    Ok(())
}

/// Reads which minutes of the hours that touch a stretch there are: hour, instance, a bit for each minute.
pub(super) fn presence(db: &Connection, from_ms: u64, to_ms: u64, mut take: impl FnMut(u64, i64, u64)) -> Result<(), HistoryError> {
    let mut statement = db.prepare_cached("SELECT hour_ms, instance, minutes FROM presence WHERE hour_ms >= ?1 AND hour_ms < ?2")?;
    let mut rows = statement.query(params![Span::Hour.floor(from_ms).store(), to_ms.store()])?;
    while let Some(row) = rows.next()? {
        take(number(row, 0)?, row.get(1)?, number(row, 2)?);
    }
    Ok(())
}

fn number(row: &Row<'_>, at: usize) -> Result<u64, HistoryError> {
    u64::restore(row.get_ref(at)?).ok_or_else(|| HistoryError::Damaged("a number below zero".into()))
}

/// Where a row is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) span: Span,
    pub(super) start_ms: u64,
    pub(super) instance: i64,
}

impl Place {
    fn key(self, of: i64) -> [Value; KEY] {
        [self.start_ms.store(), Value::Integer(self.instance), Value::Integer(of)]
    }
}

/// Writes everything of a unit but its sketches, over what was there.
pub(super) fn put(
    db: &Connection,
    place: Place,
    rollup: &Rollup,
    (namespaces, measures): (&mut Names, &mut Names),
) -> Result<(), HistoryError> {
    let mut statement = db.prepare_cached(of(&PUT_WINDOW, place.span))?;
    for (name, window) in &rollup.namespaces {
        let number = namespaces.number(db, "namespace", name)?;
        let counters = window.counts.iter().map(|(_, value)| value.store());
        let fields = SIZES.iter().chain(&LATENCIES).map(|field| (field.store)(window));
        statement.execute(params_from_iter(place.key(number).into_iter().chain(counters).chain(fields)))?;
    }
    let put = format!(
        "INSERT INTO {}_measure (start_ms, instance, measure, value) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        place.span
    );
    let mut statement = db.prepare_cached(&put)?;
    for (name, value) in &rollup.measures {
        let number = measures.number(db, "measure", name)?;
        statement.execute(params_from_iter(place.key(number).into_iter().chain([value.store()])))?;
    }
    Ok(())
}

/// Writes the sketches of a unit, over what was there.
pub(super) fn put_sketches(db: &Connection, place: Place, rollup: &Rollup, namespaces: &mut Names) -> Result<(), HistoryError> {
    let mut statement = db.prepare_cached(of(&PUT_SKETCHES, place.span))?;
    let empty = Sketches::default();
    for (name, window) in rollup.namespaces.iter().filter(|(_, window)| window.sketches != empty) {
        let number = namespaces.number(db, "namespace", name)?;
        let estimate = window.sketches.keys.estimate().store();
        let fields = SKETCHES.iter().map(|field| (field.store)(&window.sketches));
        statement.execute(params_from_iter(place.key(number).into_iter().chain([estimate]).chain(fields)))?;
    }
    Ok(())
}
