//! Stored units to one rollup of a stretch: those of an instance one after the other, then the instances beside each other.

use std::collections::{BTreeMap, BTreeSet};

use larder::analytics::{Rollup, Sketches, Window};
use rusqlite::{Connection, OptionalExtension};

use super::cover::{Levels, Run};
use super::fields::Stored;
use super::rows::{self, Names};
use super::span::{HOUR_MS, MINUTE_MS, Span};
use super::{Detail, HistoryError};

/// An instance that was last seen so long before the others no longer holds anything. Shorter gaps are the delay with which others
/// tell of themselves.
const GONE_AFTER_MS: u64 = 3 * MINUTE_MS;

/// What is wanted of what is stored.
pub(super) struct Wanted {
    pub(super) detail: Detail,
    /// Numbers of namespaces; `None` are all.
    pub(super) namespaces: Option<Vec<i64>>,
    /// Numbers of instances; `None` are all.
    pub(super) instances: Option<Vec<i64>>,
}

/// What the database says of itself, read once for all stretches of an answer.
pub(super) struct Reader<'a> {
    db: &'a Connection,
    namespaces: Names,
    measures: Names,
    levels: Levels,
    sketch_levels: Levels,
    /// Whole months that hold all there is: nothing is looked for outside of them.
    extent: (u64, u64),
}

/// What one instance did within a stretch.
#[derive(Default)]
pub(super) struct Part {
    pub(super) rollup: Rollup,
    /// When the last minute began that there is of it.
    last_ms: u64,
    /// Where the last unit ended that had a row.
    rows_end_ms: u64,
    minutes: BTreeMap<u64, u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(db: &'a Connection) -> Result<Self, HistoryError> {
        let mut levels = Levels::default();
        let mut due = db.prepare_cached("SELECT span, start_ms FROM due")?;
        for row in due.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))? {
            let (span, start_ms) = row?;
            let level = Span::ALL.iter().position(|known| known.name() == span);
            levels.due.extend(level.zip(u64::try_from(start_ms).ok()));
        }
        let known = extent(db)?;
        levels.latest_ms = known.map_or(0, |(_, latest)| latest);
        let extent = known.map_or((0, 0), |(earliest, latest)| {
            let last = Span::Month.floor(latest.saturating_sub(1));
            (Span::Month.floor(earliest), Span::Month.end(last))
        });
        let mut sketch_levels = Levels { finest: Span::Hour as usize, ..levels.clone() };
        // The row of an hour's sketches is written with each minute: it is never due.
        sketch_levels.due.retain(|(level, _)| *level > Span::Hour as usize);
        for span in Span::ALL {
            levels.since_ms[span as usize] = kept_since(db, span.name())?;
            sketch_levels.since_ms[span as usize] = kept_since(db, if span == Span::Hour { HOUR_SKETCHES } else { span.name() })?;
        }
        let (namespaces, measures) = (Names::read(db, "namespace")?, Names::read(db, "measure")?);
        Ok(Reader { db, namespaces, measures, levels, sketch_levels, extent })
    }

    /// What is kept.
    pub(super) fn levels(&self) -> &Levels {
        &self.levels
    }

    pub(super) fn namespaces(&self) -> &Names {
        &self.namespaces
    }

    /// What happened within a stretch, all instances merged.
    pub(super) fn bucket(&self, (from_ms, to_ms): (u64, u64), wanted: &Wanted) -> Result<Rollup, HistoryError> {
        let (first, last) = (from_ms.max(self.extent.0), to_ms.min(self.extent.1));
        let sketch_runs = if wanted.detail >= Detail::Sketches { self.sketch_levels.cover(first, last) } else { Vec::new() };
        let parts = self.parts(&self.levels.cover(first, last), &sketch_runs, wanted)?;
        let mut bucket = beside(parts);
        (bucket.start_ms, bucket.end_ms) = (from_ms, to_ms);
        Ok(bucket)
    }

    /// What each instance did in the units of these runs, which follow each other.
    pub(super) fn parts(&self, runs: &[Run], sketch_runs: &[Run], wanted: &Wanted) -> Result<BTreeMap<i64, Part>, HistoryError> {
        let mut parts: BTreeMap<i64, Part> = BTreeMap::new();
        let is_wanted = |instance: i64| wanted.instances.as_ref().is_none_or(|wanted| wanted.contains(&instance));
        let are_wanted =
            |instance, namespace| is_wanted(instance) && wanted.namespaces.as_ref().is_none_or(|wanted| wanted.contains(&namespace));
        for run in runs {
            rows::presence(self.db, run.from_ms, run.to_ms, |hour_ms, instance, minutes| {
                let minutes = minutes & mask(hour_ms, run.from_ms, run.to_ms);
                if minutes > 0 && is_wanted(instance) {
                    parts.entry(instance).or_default().was_there(hour_ms, minutes);
                }
            })?;
            let mut unit: Option<(u64, i64, Rollup)> = None;
            let take = |start_ms, instance, namespace, window| {
                if unit.as_ref().is_none_or(|(start, of, _)| (*start, *of) != (start_ms, instance)) {
                    let next = (start_ms, instance, Rollup::default());
                    close_unit(&mut parts, run.span, unit.replace(next));
                }
                let rollup = &mut unit.as_mut().expect("it was just put there").2;
                rollup.namespaces.insert(self.namespaces.name(namespace)?.clone(), window);
                Ok(())
            };
            rows::windows(self.db, (run.span, run.from_ms, run.to_ms), wanted.detail, take, are_wanted)?;
            close_unit(&mut parts, run.span, unit);
            let take = |instance, measure, value| {
                if is_wanted(instance) {
                    let part = parts.entry(instance).or_default();
                    *part.rollup.measures.entry(self.measures.name(measure)?.clone()).or_default() += value;
                }
                Ok(())
            };
            rows::measures(self.db, (run.span, run.from_ms, run.to_ms), take)?;
        }
        for part in parts.values_mut() {
            // Minutes without a row: it was there, and held nothing any more.
            if part.last_ms >= part.rows_end_ms {
                part.rollup.then(&Rollup::default());
            }
        }
        for run in sketch_runs {
            let take = |instance, namespace, sketches: Sketches| {
                let part = parts.entry(instance).or_default();
                let window = part.rollup.namespaces.entry(self.namespaces.name(namespace)?.clone()).or_default();
                window.sketches.add(&sketches);
                Ok(())
            };
            rows::sketches(self.db, (run.span, run.from_ms, run.to_ms), take, are_wanted)?;
        }
        Ok(parts)
    }
}

/// The name under which it is written from when on hours have sketches.
pub(super) const HOUR_SKETCHES: &str = "hour_sketch";

fn kept_since(db: &Connection, name: &str) -> Result<u64, HistoryError> {
    let mut statement = db.prepare_cached("SELECT since_ms FROM kept WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    Ok(match rows.next()? {
        Some(row) => u64::restore(row.get_ref(0)?).unwrap_or(0),
        None => 0,
    })
}

fn close_unit(parts: &mut BTreeMap<i64, Part>, span: Span, unit: Option<(u64, i64, Rollup)>) {
    if let Some((start_ms, instance, rollup)) = unit {
        let part = parts.entry(instance).or_default();
        part.rollup.then(&rollup);
        part.rows_end_ms = part.rows_end_ms.max(span.end(start_ms));
    }
}

/// The minutes of an hour that are within a stretch.
fn mask(hour_ms: u64, from_ms: u64, to_ms: u64) -> u64 {
    if from_ms <= hour_ms && hour_ms + HOUR_MS <= to_ms {
        return HOUR_FULL;
    }
    (0..60).filter(|minute| (from_ms..to_ms).contains(&(hour_ms + minute * MINUTE_MS))).map(|minute| 1 << minute).sum()
}

impl Part {
    fn was_there(&mut self, hour_ms: u64, minutes: u64) {
        *self.minutes.entry(hour_ms).or_default() |= minutes;
        self.last_ms = self.last_ms.max(hour_ms + u64::from(minutes.ilog2()) * MINUTE_MS);
    }
}

/// All instances together. The samples are the minutes in which any of them was there.
fn beside(parts: BTreeMap<i64, Part>) -> Rollup {
    let mut minutes: BTreeMap<u64, u64> = BTreeMap::new();
    let last_ms = parts.values().map(|part| part.last_ms).max().unwrap_or(0);
    let mut all = Rollup::default();
    for mut part in parts.into_values() {
        if part.last_ms + GONE_AFTER_MS < last_ms {
            part.rollup.namespaces.values_mut().for_each(|window: &mut Window| (window.entries, window.bytes) = (0, 0));
        }
        all.beside(&part.rollup);
        for (hour_ms, bits) in part.minutes {
            *minutes.entry(hour_ms).or_default() |= bits;
        }
    }
    all.samples = minutes.values().map(|bits| u64::from(bits.count_ones())).sum();
    all
}

/// Stretches of minutes without a gap, from the bits of hours in order.
pub(super) fn stretches(hours: &BTreeMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for (hour_ms, bits) in hours {
        // Whole hours are most of what there is.
        if *bits == HOUR_FULL {
            extend(&mut stretches, *hour_ms, hour_ms + HOUR_MS);
            continue;
        }
        for minute in (0..60).filter(|minute| bits >> minute & 1 == 1) {
            let start = hour_ms + minute * MINUTE_MS;
            extend(&mut stretches, start, start + MINUTE_MS);
        }
    }
    stretches
}

/// The bits of all minutes of an hour.
const HOUR_FULL: u64 = (1 << 60) - 1;

fn extend(stretches: &mut Vec<(u64, u64)>, from_ms: u64, to_ms: u64) {
    match stretches.last_mut() {
        Some(last) if last.1 == from_ms => last.1 = to_ms,
        _ => stretches.push((from_ms, to_ms)),
    }
}

/// Which instances there are minutes of within a stretch, by the bits of hours.
pub(super) fn minutes_by_instance(db: &Connection, from_ms: u64, to_ms: u64) -> Result<BTreeMap<i64, BTreeMap<u64, u64>>, HistoryError> {
    let mut instances: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
    rows::presence(db, from_ms, to_ms, |hour_ms, instance, minutes| {
        let minutes = minutes & mask(hour_ms, from_ms, to_ms);
        if minutes > 0 {
            instances.entry(instance).or_default().insert(hour_ms, minutes);
        }
    })?;
    Ok(instances)
}

/// The first moment that is known of, and the end of what is known.
pub(super) fn extent(db: &Connection) -> Result<Option<(u64, u64)>, HistoryError> {
    let mut ends = [None; 2];
    for (end, order) in ends.iter_mut().zip(["", "DESC"]) {
        let hour =
            db.prepare_cached(&format!("SELECT hour_ms FROM presence ORDER BY hour_ms {order} LIMIT 1"))?.query_row([], |row| row.get(0));
        let hour: Option<i64> = hour.optional()?;
        *end = hour.and_then(|hour| u64::try_from(hour).ok());
    }
    let [Some(first), Some(last)] = ends else { return Ok(None) };
    let bits_of = |hour_ms| {
        let mut bits = 0;
        rows::presence(db, hour_ms, hour_ms + 1, |_, _, minutes| bits |= minutes).map(|()| bits)
    };
    let earliest = first + u64::from(bits_of(first)?.trailing_zeros()) * MINUTE_MS;
    let latest = last + u64::from(bits_of(last)?.max(1).ilog2() + 1) * MINUTE_MS;
    Ok(Some((earliest, latest)))
}

/// The instances of which there is anything in the database, by number: their names, made different where several have one.
pub(super) fn instances(db: &Connection) -> Result<BTreeMap<i64, String>, HistoryError> {
    let mut rows = db.prepare_cached("SELECT id, identity, name FROM instance ORDER BY id")?;
    let found = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<(i64, String, String)>>>()?;
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = found.iter().map(|(_, _, name)| name.as_str()).filter(|name| !seen.insert(*name)).collect();
    let shown = |identity: &str, name: &str| {
        if name.is_empty() {
            identity.to_owned()
        } else if twice.contains(name) {
            format!("{name} ({})", identity.get(..8).unwrap_or(identity))
        } else {
            name.to_owned()
        }
    };
    Ok(found.iter().map(|(number, identity, name)| (*number, shown(identity, name))).collect())
}
