//! What instances tell each other: minutes without sketches, and the sketches of hours.
//!
//! A parcel is a rollup, compressed. Its name says what it is: `minute-` or `hour-` and when that began. Whoever takes it puts it in
//! the place of what it had of the same instance and time, so that it may come any number of times.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use larder::analytics::{Rollup, Window};
use larder::{Latencies, Parcel};
use rusqlite::{OptionalExtension, Transaction, params};

use super::fields::Stored;
use super::rows::{self, Names, Place};
use super::span::{HOUR_MS, MINUTE_MS, MOMENT_MAX_MS, Span};
use super::store::Writing;
use super::{HistoryError, Store};

/// What a parcel has at most when it is unpacked, so that none of some bytes fills the memory.
const UNPACKED_BYTES_MAX: u64 = 16 << 20;

/// What a number in a parcel is at most: sums of years of them stay within 64 bits.
const NUMBER_MAX: u64 = 1 << 50;

/// Hours whose sketches change all the time are told so often.
const SKETCHES_EVERY_MS: u64 = 5 * MINUTE_MS;

/// Who has not been heard for so long gets minutes no more, and only what was made up from them stays told.
pub(super) const TOLD_MS: u64 = 3 * 24 * HOUR_MS;

/// How many parcels that comes to: minutes and hours.
pub(super) const TOLD_MAX: usize = (TOLD_MS / MINUTE_MS + TOLD_MS / HOUR_MS) as usize;

const MINUTE: &str = "minute";
const HOUR: &str = "hour";

/// Something that others were not told of yet, and how often it has changed until it was packed.
#[derive(Clone, Debug)]
pub(super) struct Untold {
    kind: &'static str,
    start_ms: u64,
    change: i64,
}

/// Notes that a minute is to be told, and its hour's sketches.
pub(super) fn note(adding: &Transaction<'_>, minute_ms: u64) -> Result<(), HistoryError> {
    let note = "INSERT INTO unshipped (kind, start_ms, change) VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET change = change + 1";
    let mut note = adding.prepare_cached(note)?;
    for (kind, start_ms) in [(MINUTE, Span::Minute.floor(minute_ms)), (HOUR, Span::Hour.floor(minute_ms))] {
        note.execute(params![kind, start_ms.store()])?;
    }
    Ok(())
}

impl Store {
    /// Packs what others were not told of yet, the oldest first, at most so many.
    pub(super) fn untold(&mut self, now_ms: u64, most: u32) -> Result<Vec<(Untold, Parcel)>, HistoryError> {
        self.db().execute("DELETE FROM unshipped WHERE start_ms < ?1", params![now_ms.saturating_sub(TOLD_MS).store()])?;
        let told_now = Span::Minute.floor(now_ms).is_multiple_of(SKETCHES_EVERY_MS);
        let open_since = if told_now { u64::MAX } else { now_ms.saturating_sub(HOUR_MS) };
        let untold: Vec<Untold> = {
            let select = "SELECT kind, start_ms, change FROM unshipped WHERE kind = 'minute' OR start_ms <= ?1 ORDER BY start_ms LIMIT ?2";
            let mut rows = self.db().prepare_cached(select)?;
            let row = |row: &rusqlite::Row<'_>| {
                let kind: String = row.get(0)?;
                let start_ms: i64 = row.get(1)?;
                let kind = if kind == MINUTE { MINUTE } else { HOUR };
                Ok(Untold { kind, start_ms: u64::try_from(start_ms).unwrap_or(0), change: row.get(2)? })
            };
            rows.query_map(params![open_since.store(), most], row)?.collect::<rusqlite::Result<_>>()?
        };
        untold.into_iter().map(|one| Ok((one.clone(), self.packed(&one)?))).collect()
    }

    fn packed(&mut self, untold: &Untold) -> Result<Parcel, HistoryError> {
        let mut rollup = Rollup { start_ms: untold.start_ms, ..Rollup::default() };
        let start_ms = untold.start_ms;
        self.write(self.own(), |writing| {
            if untold.kind == MINUTE {
                rollup = Rollup { start_ms, end_ms: start_ms + MINUTE_MS, samples: 1, ..writing.stored(Span::Minute, start_ms)? };
                return Ok(());
            }
            let numbers = Names::read(writing.db, "namespace")?;
            let own = writing.instance;
            let take = |_, namespace, sketches| {
                rollup.namespaces.entry(numbers.name(namespace)?.clone()).or_default().sketches = sketches;
                Ok(())
            };
            rows::sketches(writing.db, (Span::Hour, start_ms, start_ms + 1), take, |instance, _| instance == own)
        })?;
        Ok(Parcel { name: format!("{}-{start_ms}", untold.kind), bytes: pack(&rollup).into() })
    }

    /// Notes that others were told, unless it has changed meanwhile.
    pub(super) fn told(&mut self, told: &[Untold]) -> Result<(), HistoryError> {
        self.write(self.own(), |writing| {
            let mut forget = writing.db.prepare_cached("DELETE FROM unshipped WHERE kind = ?1 AND start_ms = ?2 AND change = ?3")?;
            for one in told {
                forget.execute(params![one.kind, one.start_ms.store(), one.change])?;
            }
            Ok(())
        })
    }

    /// The number of the last parcel that was taken from a sender.
    pub(super) fn taken(&self, identity: &str) -> Result<u64, HistoryError> {
        let taken = self.db().query_row("SELECT taken FROM instance WHERE identity = ?1", [identity], |row| row.get::<_, i64>(0));
        Ok(taken.optional()?.and_then(|taken| u64::try_from(taken).ok()).unwrap_or(0))
    }

    /// Takes what another instance tells of itself, up to and with the parcel of this number. What is none of its rollups is passed over.
    pub(super) fn take(&mut self, identity: &str, parcels: &[(u64, Parcel)]) -> Result<(), HistoryError> {
        let Some((last, _)) = parcels.last() else { return Ok(()) };
        let Some(number) = self.number_of(identity)? else {
            tracing::warn!(identity, "there are more instances than a history tells apart; this one is passed over");
            return Ok(());
        };
        if number == self.own() {
            return Ok(());
        }
        self.write(number, |writing| {
            for (_, parcel) in parcels {
                match unpack(parcel).filter(|told| writing.has_room_for(told)) {
                    Some(Told::Minute(minute)) => writing.replace_minute(&minute)?,
                    Some(Told::Hour(hour)) => writing.replace_sketches(&hour)?,
                    Some(Told::Name(name)) => {
                        writing.db.execute("UPDATE instance SET name = ?1 WHERE id = ?2", params![name, number])?;
                    }
                    None => tracing::warn!(identity, parcel = parcel.name, "an instance tells something that is no history"),
                }
            }
            writing.db.execute("UPDATE instance SET taken = ?1 WHERE id = ?2", params![last.store(), number])?;
            Ok(())
        })
    }

    /// The number of an instance; `None` for one that would be one too many.
    fn number_of(&self, identity: &str) -> Result<Option<i64>, HistoryError> {
        let add = "INSERT OR IGNORE INTO instance (identity, name) SELECT ?1, '' WHERE (SELECT count(*) FROM instance) < ?2";
        self.db().execute(add, params![identity, INSTANCES_MAX])?;
        Ok(self.db().query_row("SELECT id FROM instance WHERE identity = ?1", [identity], |row| row.get(0)).optional()?)
    }

    /// What tells others the name of this instance.
    pub(super) fn name_parcel(&self) -> Result<Parcel, HistoryError> {
        let name: String = self.db().query_row("SELECT name FROM instance WHERE id = ?1", [self.own()], |row| row.get(0))?;
        Ok(Parcel { name: NAME.into(), bytes: name.into_bytes().into() })
    }
}

/// The parcel that says what an instance is called.
const NAME: &str = "name";

/// The longest name of an instance.
const NAME_LEN_MAX: usize = 128;

/// More than a cache has: each is kept as long as the file.
const INSTANCES_MAX: u32 = 4_096;

impl Writing<'_> {
    /// Whether its names are few enough to be kept for ever.
    fn has_room_for(&self, told: &Told) -> bool {
        match told {
            Told::Name(_) => true,
            Told::Minute(rollup) | Told::Hour(rollup) => {
                self.namespaces.len_with(rollup.namespaces.keys()) <= NAMESPACES_MAX
                    && self.measures.len_with(rollup.measures.keys()) <= NAMESPACES_MAX
            }
        }
    }

    fn replace_minute(&mut self, minute: &Rollup) -> Result<(), HistoryError> {
        let start_ms = minute.start_ms;
        if super::store::kept_since(self.db, Span::Minute.name())? > start_ms {
            return Ok(());
        }
        for table in [MINUTE, "minute_measure"] {
            let delete = format!("DELETE FROM {table} WHERE start_ms = ?1 AND instance = ?2");
            self.db.prepare_cached(&delete)?.execute(params![start_ms.store(), self.instance])?;
        }
        self.put(Span::Minute, start_ms, minute)?;
        self.mark(start_ms, Span::Minute)
    }

    fn replace_sketches(&mut self, hour: &Rollup) -> Result<(), HistoryError> {
        let start_ms = hour.start_ms;
        if super::store::kept_since(self.db, super::fold::HOUR_SKETCHES)? > start_ms {
            return Ok(());
        }
        rows::put_sketches(self.db, Place { span: Span::Hour, start_ms, instance: self.instance }, hour, self.namespaces)?;
        self.mark_due(start_ms, Span::Hour)
    }
}

/// What a parcel says.
enum Told {
    Minute(Rollup),
    Hour(Rollup),
    Name(String),
}

fn pack(rollup: &Rollup) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&rollup.encode()).and_then(|()| packed.finish()).expect("memory takes what is written to it")
}

/// What is in a parcel, if it is what it says it is. Nothing in it can be trusted: whoever can write to Redis can make one.
fn unpack(parcel: &Parcel) -> Option<Told> {
    if parcel.name == NAME {
        let name = std::str::from_utf8(&parcel.bytes).ok()?;
        let is_plain = name.len() <= NAME_LEN_MAX && !name.chars().any(char::is_control);
        return is_plain.then(|| Told::Name(name.into()));
    }
    let (kind, start_ms) = parcel.name.split_once('-')?;
    let start_ms: u64 = start_ms.parse().ok().filter(|start_ms| *start_ms < MOMENT_MAX_MS)?;
    let mut bytes = Vec::new();
    DeflateDecoder::new(&*parcel.bytes).take(UNPACKED_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let mut rollup = Rollup::decode(&bytes).ok()?;
    let is_sound = rollup.namespaces.len() <= NAMESPACES_MAX
        && rollup.measures.len() <= NAMESPACES_MAX
        && rollup.namespaces.keys().chain(rollup.measures.keys()).all(|name| name.len() <= NAME_LEN_MAX)
        && rollup.measures.values().all(|value| *value <= NUMBER_MAX)
        && rollup.namespaces.values().all(is_sound);
    if !is_sound {
        return None;
    }
    rollup.start_ms = start_ms;
    match kind {
        MINUTE if Span::Minute.floor(start_ms) == start_ms => Some(Told::Minute(rollup)),
        HOUR if Span::Hour.floor(start_ms) == start_ms => Some(Told::Hour(rollup)),
        _ => None,
    }
}

/// More than any instance has: names of namespaces are kept for ever.
const NAMESPACES_MAX: usize = 4_096;

fn is_sound(window: &Window) -> bool {
    let are_small = |latencies: &Latencies| latencies.count() <= NUMBER_MAX && latencies.sum().as_nanos() <= u128::from(NUMBER_MAX) << 10;
    let sketches = &window.sketches;
    let sizes = [window.entries, window.bytes, window.entries_sum, window.bytes_sum];
    let timed = [&window.hit_memory, &window.hit_backing, &window.miss, &window.error, &window.load];
    let ages = [&sketches.age_expired, &sketches.age_evicted, &sketches.age_invalidated, &sketches.age_unread, &sketches.reuse_bytes];
    let rankings = [&sketches.hot_reads, &sketches.hot_bytes, &sketches.hot_cost, &sketches.largest];
    window.counts.iter().all(|(_, value)| value <= NUMBER_MAX)
        && sizes.iter().all(|value| *value <= NUMBER_MAX)
        && timed.into_iter().chain(ages).all(are_small)
        && rankings
            .iter()
            .all(|ranking| ranking.iter().len() <= larder::analytics::RANKED_MAX && ranking.iter().all(|one| one.amount <= NUMBER_MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{JUNE, minute};
    use super::*;

    fn parcel(name: &str, bytes: Vec<u8>) -> Parcel {
        Parcel { name: name.into(), bytes: bytes.into() }
    }

    #[test]
    fn what_is_no_history_is_passed_over() {
        let good = pack(&minute(JUNE, 3));
        assert!(matches!(unpack(&parcel(&format!("minute-{JUNE}"), good.clone())), Some(Told::Minute(_))));
        for name in ["minute", "minute-", "minute-7", "hour-60000", "minute-18446744073709551615", "day-0", ""] {
            assert!(unpack(&parcel(name, good.clone())).is_none(), "{name}");
        }
        for bytes in [vec![], vec![0; 100], good[..good.len() / 2].to_vec()] {
            assert!(unpack(&parcel(&format!("minute-{JUNE}"), bytes)).is_none());
        }
        let mut large = minute(JUNE, 3);
        large.measures.insert("appends".into(), u64::MAX);
        assert!(unpack(&parcel(&format!("minute-{JUNE}"), pack(&large))).is_none(), "sums of it would run over");
        assert!(unpack(&parcel(NAME, b"a\nb".to_vec())).is_none());
    }

    #[test]
    fn a_parcel_of_few_bytes_does_not_fill_the_memory() {
        let mut bomb = DeflateEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![1; 2 * UNPACKED_BYTES_MAX as usize]).expect("memory takes it");
        assert!(unpack(&parcel(&format!("minute-{JUNE}"), bomb.finish().expect("memory takes it"))).is_none());
    }
}
