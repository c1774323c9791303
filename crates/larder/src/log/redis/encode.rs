//! What goes to the log in Redis and comes back: groups of appends, records of the stream, snapshots.
//!
//! A record of the stream holds the names of a group of appends: for each append, in the order of their positions, a u32
//! count and the names as every log writes them (`name.rs`). The marks of the group's events stand beside it.

use std::collections::HashSet;
use std::ops::Range;

use ::redis::{Cmd, Value};

use crate::error::Result;
use crate::freshness::{Images, Index, LINE_BYTES, Lines, NameHash, NameHasher, Snapshot};
use crate::key::segments;
use crate::log::{Append, Guard, MARKS_MAX, Mark, OnConflict};
use crate::name::{NAMES_MAX, Name};
use crate::pattern::{Pattern, Shape};
use crate::position::{Epoch, SEQ_MAX};
use crate::remote::{fence_field, reply, script};

use super::Keys;
use super::place::At;

/// How broad a pattern may become before it is everything: as deep as there are shapes kept for it.
const WIDENED_DEPTH_MAX: usize = 4;

/// How a single name stands in the queue and in a record.
pub(super) fn name(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::new();
    name.encode(&mut bytes);
    bytes
}

/// A call of the append script, as it is put together.
pub(super) struct Group {
    hasher: NameHasher,
    epoch: Epoch,
    count: u16,
    record: Vec<u8>,
    marks: Vec<u8>,
    /// Names that are one hash each, and the appends they belong to.
    singles: Vec<(u16, NameHash)>,
    others: Vec<Vec<u8>>,
    guards: Vec<Vec<u8>>,
    /// Appends whose guard is of another generation: of what happened since then nothing is known.
    foreign: Vec<u16>,
    writes: Vec<GroupWrite>,
}

/// An entry's write, as it goes with its append.
struct GroupWrite {
    at: u16,
    key: Vec<u8>,
    /// In milliseconds; 0 is for ever.
    life: u64,
    /// The record, behind the room for its stamp; `None` takes the entry out.
    value: Option<Vec<u8>>,
}

/// Bytes of a stamp, in front of every record.
const STAMP_LEN: usize = 16;

/// What an append is sent with, besides what it appends.
pub(super) struct Terms<'a> {
    /// In the store's milliseconds: after it, the server does nothing. 0 is for ever.
    pub(super) deadline: u64,
    /// About how many records the stream keeps.
    pub(super) stream_len: usize,
    pub(super) instance: &'a str,
    /// Entries are not written for an instance that has taken the log up again since: the server then knows another fence.
    pub(super) fence: u64,
}

impl Terms<'_> {
    fn add_fence(&self, call: &mut Cmd) {
        call.arg(fence_field(self.instance)).arg(self.fence);
    }
}

/// What the script answered.
pub(super) enum Answer {
    Appended {
        first: u64,
        conflicts: Vec<u16>,
        widened: Vec<u16>,
    },
    /// Nothing was done: the log is not the one that the group was made for.
    OtherEpoch,
    /// Nothing was done: the group would not stand where its caller thought, or the table is of another size.
    Elsewhere,
    /// Nothing was done: the epoch has no more positions.
    UsedUp,
    /// Nothing was done: it came later than its caller waits for.
    Late,
}

/// Whether an append can go [at a place](Group::call_at): of patterns only the script can tell what there is room for, and only
/// it can ask a guard's question.
pub(super) fn is_plain(append: &Append) -> bool {
    append.guard.is_none() && append.names.iter().all(|name| matches!(name, Name::Key(_) | Name::Tag(_)))
}

impl Group {
    pub(super) fn new(epoch: Epoch) -> Self {
        Group {
            hasher: NameHasher::of(epoch),
            epoch,
            count: 0,
            record: Vec::new(),
            marks: Vec::new(),
            singles: Vec::new(),
            others: Vec::new(),
            guards: Vec::new(),
            foreign: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Adds an append, behind those before it. `now` is the store's time.
    pub(super) fn add(&mut self, append: &Append, shapes: &[Shape], generation: u32, entries: &[u8], now: u64) {
        let (at, from) = (self.count, self.record.len());
        let is_foreign = append.guard.as_ref().is_some_and(|guard| guard.since.generation() != generation);
        if is_foreign {
            // Neither its position nor its hashes mean anything here: a conflict, and nothing may be stored.
            self.foreign.push(at);
        }
        if is_foreign && append.refuses() {
            // Nothing takes effect at its position.
            self.add_names(&[]);
            return;
        }
        self.add_names(&append.names);
        Mark::encode_all(&append.marks, &mut self.marks);
        if is_foreign {
            return;
        }
        if let Some(guard) = &append.guard {
            debug_assert!(append.marks.is_empty() || !append.refuses(), "marks are not taken back");
            self.guards.push(self.guard(at, guard, shapes, from..self.record.len()));
        }
        for write in &append.writes {
            let key = [entries, &write.key].concat();
            let life = crate::remote::store_life(write.expires_at, now);
            let value = write.record.as_ref().map(|record| [&[0; STAMP_LEN][..], record].concat());
            self.writes.push(GroupWrite { at, key, life, value });
        }
    }

    /// The appends that conflict whatever the script says.
    pub(super) fn foreign(&self) -> impl Iterator<Item = u16> + '_ {
        self.foreign.iter().copied()
    }

    pub(super) fn add_names(&mut self, names: &[Name]) {
        let at = self.count;
        self.count += 1;
        self.record.extend_from_slice(&(names.len() as u32).to_le_bytes());
        for name in names {
            name.encode(&mut self.record);
            let single = match name {
                Name::Key(key) => self.hasher.key(key),
                Name::Tag(tag) => self.hasher.tag(tag),
                Name::Everything => {
                    self.others.push([&at.to_le_bytes()[..], &[0]].concat());
                    continue;
                }
                Name::Pattern(pattern) => {
                    self.others.push(self.pattern(at, pattern));
                    continue;
                }
            };
            self.singles.push((at, single));
        }
    }

    /// A pattern's own shape or text, and the broader ones to take its place.
    fn pattern(&self, at: u16, pattern: &Pattern) -> Vec<u8> {
        let mut op = at.to_le_bytes().to_vec();
        if pattern.is_everything() {
            op.push(0);
            return op;
        }
        let mut shapes: Vec<(Shape, Vec<&[u8]>)> = pattern.shape().map(|shape| (shape, pattern.literals().collect())).into_iter().collect();
        match shapes.is_empty() {
            false => op.push(1),
            true => {
                op.push(2);
                op.extend_from_slice(&(pattern.text().len() as u16).to_le_bytes());
                op.extend_from_slice(pattern.text());
            }
        }
        let deepest = pattern.widened(usize::MAX).map_or(0, |(_, literals)| literals.len());
        let broader = (1..=deepest.min(WIDENED_DEPTH_MAX)).rev().filter_map(|depth| pattern.widened(depth));
        shapes.extend(broader.filter(|(shape, _)| shapes.first().is_none_or(|(own, _)| own != shape)).collect::<Vec<_>>());
        op.push(shapes.len() as u8);
        for (shape, literals) in shapes {
            let widest = (1..=WIDENED_DEPTH_MAX).any(|depth| shape == Shape::leading(depth));
            op.push(u8::from(widest));
            op.extend_from_slice(&shape.0.to_le_bytes());
            op.extend_from_slice(&self.hasher.projection(shape, literals.into_iter()).to_bytes());
        }
        op
    }

    /// A guard's question. One that refuses says which bytes of the record are its append's, so that they can be left out.
    fn guard(&self, at: u16, guard: &Guard, shapes: &[Shape], record: Range<usize>) -> Vec<u8> {
        let mut bytes = at.to_le_bytes().to_vec();
        let refused = if guard.on_conflict == OnConflict::Refuse { record } else { 0..0 };
        bytes.extend_from_slice(&(refused.start as u32).to_le_bytes());
        bytes.extend_from_slice(&(refused.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&guard.since.seq().to_le_bytes()[..5]);
        bytes.extend_from_slice(&(guard.hashes.len() as u16).to_le_bytes());
        for hash in &guard.hashes {
            bytes.extend_from_slice(&hash.to_bytes());
        }
        bytes.extend_from_slice(&((shapes.len() * guard.keys.len()) as u16).to_le_bytes());
        for key in &guard.keys {
            let segments = segments(key).count();
            for shape in shapes {
                let fits = shape.fits(segments);
                bytes.extend_from_slice(&shape.0.to_le_bytes());
                bytes.push(u8::from(fits));
                let hash = if fits { self.hasher.projection(*shape, shape.literals_of(key)).to_bytes() } else { [0; 8] };
                bytes.extend_from_slice(&hash);
            }
        }
        bytes
    }

    /// The call, for the log as it is then.
    pub(super) fn call(&self, keys: &Keys, terms: &Terms) -> Cmd {
        let mut call = script::call(&script::APPEND, 5 + self.writes.len());
        call.arg(&keys.meta).arg(&keys.table).arg(&keys.stream).arg(&keys.members).arg(&keys.marks);
        for write in &self.writes {
            call.arg(&write.key);
        }
        let mut singles = Vec::with_capacity(self.singles.len() * 10);
        for (at, hash) in &self.singles {
            singles.extend_from_slice(&at.to_le_bytes());
            singles.extend_from_slice(&hash.to_bytes());
        }
        call.arg(&self.epoch.0.to_le_bytes()).arg(terms.deadline).arg(self.count).arg(&self.record).arg(singles).arg(terms.stream_len);
        call.arg(self.others.len()).arg(self.guards.len()).arg(self.writes.len());
        for list in self.others.iter().chain(&self.guards) {
            call.arg(list);
        }
        for GroupWrite { at, life, value, .. } in &self.writes {
            let mut head = [0; 11];
            head[..2].copy_from_slice(&at.to_le_bytes());
            head[2] = u8::from(value.is_some());
            head[3..].copy_from_slice(&life.to_le_bytes());
            call.arg(head.as_slice()).arg(value.as_ref().map_or(&[][..], |value| &value[STAMP_LEN..]));
        }
        call.arg(&self.marks);
        terms.add_fence(&mut call);
        call
    }

    /// The call for a group that will stand at a place, if it is made at all, for an index that has all up to there, or will
    /// once what is on its way has arrived. Also the lines as they then are.
    pub(super) fn call_at(&mut self, place: &At<'_>, index: &Index, keys: &Keys, terms: &Terms) -> (Cmd, Images) {
        let At { head, before, signature } = *place;
        let mut lines = Lines::new(index, before.map(|before| &before.images), self.singles.len());
        self.singles.iter().for_each(|(at, hash)| lines.raise(*hash, head + 1 + u64::from(*at)));
        let keeps = |group: &Self| group.writes.iter().filter(|write| write.value.is_some()).count();
        if keeps(self) > 0 {
            self.forget_overwritten();
        }
        let kept = keeps(self);
        let written = |write: &GroupWrite| write.key.len() + write.value.as_ref().map_or(0, |value| value.len() + 20);
        let bytes = self.record.len()
            + lines.changed() * (LINE_BYTES + 12)
            + self.writes.iter().map(written).sum::<usize>()
            + self.marks.len()
            + 512;
        let arguments = 22 + 2 * lines.changed() + self.writes.len() + 2 * kept;
        let mut call = script::sized_call(&script::APPEND_AT, 5 + self.writes.len(), (arguments, bytes));
        call.arg(&keys.meta).arg(&keys.table).arg(&keys.stream).arg(&keys.members).arg(&keys.marks);
        let (keep, remove): (Vec<_>, Vec<_>) = self.writes.iter_mut().partition(|write| write.value.is_some());
        for write in keep.iter().chain(&remove) {
            call.arg(&write.key);
        }
        call.arg(&self.epoch.0.to_le_bytes()).arg(terms.deadline).arg(head).arg(lines.total()).arg(head + u64::from(self.count));
        call.arg(&self.record).arg(terms.stream_len).arg(before.map_or("", |before| &before.signature)).arg(signature);
        call.arg(lines.changed()).arg(kept);
        for (offset, line) in lines.writes() {
            call.arg(offset).arg(line.as_slice());
        }
        for GroupWrite { at, life, value, .. } in keep {
            let value = value.as_mut().expect("it is one of those that have one");
            value[..8].copy_from_slice(&self.epoch.0.to_le_bytes());
            value[8..STAMP_LEN].copy_from_slice(&(head + 1 + u64::from(*at)).to_le_bytes());
            call.arg(*life).arg(value.as_slice());
        }
        call.arg(&self.marks);
        terms.add_fence(&mut call);
        (call, lines.into())
    }

    /// Of several writes of a key only the last counts, in whatever order they are then made.
    fn forget_overwritten(&mut self) {
        let mut seen = HashSet::new();
        let last: Vec<bool> = self.writes.iter().rev().map(|write| seen.insert(write.key.as_slice())).collect();
        let mut last = last.into_iter().rev();
        self.writes.retain(|_| last.next().expect("there is one for each"));
    }
}

impl Answer {
    pub(super) fn of(value: Value) -> Result<Self> {
        const WHAT: &str = "an append";
        let mut parts = reply::list(value, WHAT)?.into_iter();
        let mut next = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
        match reply::text(next()?, WHAT)?.as_str() {
            "ok" => {
                let numbers = |value| -> Result<Vec<u16>> {
                    reply::list(value, WHAT)?.into_iter().map(|number| reply::number(number, WHAT).map(|number| number as u16)).collect()
                };
                Ok(Answer::Appended { first: reply::number(next()?, WHAT)?, conflicts: numbers(next()?)?, widened: numbers(next()?)? })
            }
            "late" | "fenced" => Ok(Answer::Late),
            "elsewhere" => Ok(Answer::Elsewhere),
            "epoch" | "lost" => Ok(Answer::OtherEpoch),
            "full" => Ok(Answer::UsedUp),
            _ => Err(reply::unexpected(WHAT)),
        }
    }
}

/// A record of the stream: the names of each of its positions, from the first one to the last.
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The events that took effect with it.
    pub(super) marks: Vec<Mark>,
    names: Vec<u8>,
}

impl Entry {
    /// The names, a list for each position.
    pub(super) fn appends(&self) -> Result<Vec<Vec<Name>>> {
        names(&self.names).ok_or_else(|| reply::unexpected("a record of the stream"))
    }
}

/// What a read of the stream brought.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>> {
    const WHAT: &str = "the stream";
    let mut streams = reply::fields_or_pairs(value, WHAT)?.into_iter();
    let Some((_, records)) = streams.next() else { return Ok(Vec::new()) };
    reply::list(records, WHAT)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry> {
    const WHAT: &str = "a record of the stream";
    let [id, fields] = reply::exactly(value, WHAT)?;
    let last = reply::text(id, WHAT)?.strip_suffix("-0").and_then(|last| last.parse().ok());
    let (mut first, mut names, mut marks) = (None, None, Vec::new());
    for (name, value) in reply::fields(fields, WHAT)? {
        match name.as_slice() {
            b"f" => first = Some(reply::number(value, WHAT)?),
            b"d" => names = Some(reply::bytes(value, WHAT)?),
            b"m" => marks = Mark::decode_all(&reply::bytes(value, WHAT)?).ok_or_else(|| reply::unexpected(WHAT))?,
            _ => {}
        }
    }
    match (first, last, names) {
        (Some(first), Some(last), Some(names)) if first <= last && last <= SEQ_MAX => Ok(Entry { first, last, marks, names }),
        _ => Err(reply::unexpected(WHAT)),
    }
}

fn names(mut bytes: &[u8]) -> Option<Vec<Vec<Name>>> {
    let mut appends = Vec::new();
    while !bytes.is_empty() {
        let (count, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        let count = u32::from_le_bytes(*count) as usize;
        if count > NAMES_MAX {
            return None;
        }
        let names = (0..count).map(|_| Name::decode(&mut bytes)).collect::<Option<_>>()?;
        appends.push(names);
    }
    Some(appends)
}

/// The log's keys as one snapshot. `None`: something of it is not there, and it counts as lost.
pub(super) fn snapshot(fields: Value, table: Value) -> Result<Option<Snapshot>> {
    const WHAT: &str = "the log";
    let (mut epoch, mut head, mut everything, mut lines, mut shapes, mut globs) = (None, None, 0, None, Vec::new(), Vec::new());
    for (name, value) in reply::fields(fields, WHAT)? {
        match name.as_slice() {
            b"epoch" => epoch = epoch_of(&reply::bytes(value, WHAT)?),
            b"head" => head = Some(reply::number(value, WHAT)?),
            b"everything" => everything = reply::number(value, WHAT)?,
            b"lines" => lines = Some(reply::number(value, WHAT)? as usize),
            b"shapes" => shapes = reply::bytes(value, WHAT)?,
            [b'g', b':', text @ ..] => {
                let seq = reply::number(value, WHAT)?;
                match Pattern::new(text) {
                    Ok(pattern) => globs.push((pattern, seq)),
                    // Not known to this version: what it invalidates cannot be told.
                    Err(_) => everything = everything.max(seq),
                }
            }
            _ => {}
        }
    }
    let (Some(epoch), Some(head), Some(lines), Value::BulkString(table)) = (epoch, head, lines, table) else { return Ok(None) };
    if lines.checked_mul(crate::freshness::LINE_BYTES) != Some(table.len()) {
        return Ok(None);
    }
    Ok(Snapshot::of_parts((epoch, head, everything), &table, &shapes, globs))
}

/// The window of marks as Redis holds it, the oldest first. What is no window is an empty one: events are then carried out again.
pub(super) fn marks(window: Value) -> Vec<Mark> {
    let Value::BulkString(window) = window else { return Vec::new() };
    let Some((count, ring)) = window.split_first_chunk() else { return Vec::new() };
    let Some(mut marks) = Mark::decode_all(ring) else { return Vec::new() };
    if marks.len() == MARKS_MAX {
        marks.rotate_left(u64::from_le_bytes(*count) as usize % MARKS_MAX);
    }
    marks
}

/// An epoch as the hash of the log holds it.
pub(super) fn epoch_of(bytes: &[u8]) -> Option<Epoch> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|epoch| *epoch != 0).map(Epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_stream_survives() {
        let mut group = Group::new(Epoch(7));
        let appends = [
            vec![Name::Key(b"a:b"[..].into()), Name::Tag(b"t"[..].into())],
            vec![],
            vec![Name::Everything, Name::Pattern(Pattern::new("a:*:**").unwrap())],
        ];
        appends.iter().for_each(|names| group.add_names(names));
        assert_eq!(names(&group.record).unwrap(), appends);
        assert_eq!(group.singles.len(), 2);
        assert_eq!(group.others.len(), 2);
        assert!(names(&group.record[..group.record.len() - 1]).is_none(), "one that was cut short is none");
        assert!(names(&u32::MAX.to_le_bytes()).is_none(), "nor is one that claims more names than there can be");
    }

    #[test]
    fn a_log_of_which_a_part_is_gone_is_no_snapshot() {
        let field = |name: &str, value: &[u8]| [Value::BulkString(name.into()), Value::BulkString(value.to_vec())];
        let fields =
            |lines: &[u8]| Value::Array([field("epoch", &7u64.to_le_bytes()), field("head", b"3"), field("lines", lines)].concat());
        let table = Value::BulkString(vec![0; 128]);
        assert_eq!(snapshot(fields(b"2"), table.clone()).unwrap().unwrap().head, 3);
        assert!(snapshot(fields(b"4"), table.clone()).unwrap().is_none());
        assert!(snapshot(fields(b"2"), Value::Nil).unwrap().is_none());
        assert!(snapshot(Value::Array(vec![]), table).unwrap().is_none());
    }
}
