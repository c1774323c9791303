//! What goes to the log in Redis and comes back: groups of appends, and records of the stream.
//!
//! A record of the stream holds the names of a group of appends: for each append, in the order of their positions, a u32
//! count and the names as every log writes them (`name.rs`). Beside it stand the hashes of single names and of patterns, by which a script
//! can tell what a record invalidates, and the marks of the group's events.

use std::collections::HashSet;
use std::ops::Range;

use ::redis::{Cmd, Value};
use bytes::Bytes;

use crate::error::Result;
use crate::freshness::{Index, NameHash, NameHasher};
use crate::key::segments;
use crate::log::{Append, Guard, MARKS_MAX, Mark};
use crate::name::{NAMES_MAX, Name};
use crate::pattern::Shape;
use crate::position::{Epoch, SEQ_MAX};
use crate::remote::{fence_field, reply, script};

use super::Keys;

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
    parts: Parts,
    marks: Vec<u8>,
    guards: Vec<Vec<u8>>,
    /// Appends that conflict with what is known here already.
    conflicts: Vec<u16>,
    writes: Vec<GroupWrite>,
}

/// What the stream gets of the names.
#[derive(Default)]
struct Parts {
    /// In full.
    names: Vec<u8>,
    /// Of those that are one hash each: u16 append, u64 hash.
    singles: Vec<u8>,
    /// u16 append, u64 shape or 0 for what may hit anything, u64 hash.
    patterns: Vec<u8>,
}

/// Of a single name, and of a pattern.
const SINGLE_BYTES: usize = 10;
const PATTERN_BYTES: usize = 18;

/// An entry's write, as it goes with its append.
struct GroupWrite {
    at: u16,
    key: Vec<u8>,
    /// In milliseconds; 0 is for ever.
    life: u64,
    /// `None` takes the entry out.
    record: Option<Bytes>,
}

/// What this instance can say of guards itself.
pub(super) struct Judge<'a> {
    pub(super) index: &'a Index,
    /// Whether it is asked at all: a test may leave all to the log.
    pub(super) is_asked: bool,
    pub(super) generation: u32,
    /// The index has all positions up to here.
    pub(super) upto: u64,
    pub(super) shapes: Vec<Shape>,
}

/// What an append is sent with, besides what it appends.
pub(super) struct Terms<'a> {
    /// In the store's milliseconds: after it, the server does nothing. 0 is for ever.
    pub(super) deadline: u64,
    /// Bytes that the records since the checkpoint may have. 0 is without an end.
    pub(super) room: u64,
    pub(super) instance: &'a str,
    /// Nothing is done for an instance that has taken the log up again since: the server then knows another fence. 0 is whoever it is.
    pub(super) fence: u64,
}

/// What the script answered.
pub(super) enum Answer {
    Appended {
        first: u64,
        conflicts: Vec<u16>,
        /// About how many records there are since the checkpoint, and of how many bytes.
        bytes: u64,
        records: u64,
    },
    /// Nothing was done: the log is not the one that the group was made for.
    OtherEpoch,
    /// Nothing was done: a checkpoint has to be written before.
    Behind,
    /// Nothing was done: the epoch has no more positions.
    UsedUp,
    /// Nothing was done: it came later than its caller waits for.
    Late,
    /// Nothing was done: the server knows this instance by another fence, or not at all.
    Fenced,
}

impl Group {
    pub(super) fn new(epoch: Epoch) -> Self {
        Group {
            hasher: NameHasher::of(epoch),
            epoch,
            count: 0,
            parts: Parts::default(),
            marks: Vec::new(),
            guards: Vec::new(),
            conflicts: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Adds an append, behind those before it. `now` is the store's time.
    ///
    /// A guard is judged by the index of this instance up to where that has all, and by the log behind that: the log has no table to ask.
    pub(super) fn add(&mut self, append: &Append, judge: &Judge<'_>, entries: &[u8], now: u64) {
        let (at, from) = (self.count, self.parts.lengths());
        let conflicts = append.guard.as_ref().is_some_and(|guard| judge.finds_conflict(guard));
        if conflicts {
            self.conflicts.push(at);
        }
        if conflicts && append.refuses() {
            // Nothing takes effect at its position.
            self.add_names(&[]);
            return;
        }
        self.add_names(&append.names);
        Mark::encode_all(&append.marks, &mut self.marks);
        if let Some(guard) = append.guard.as_ref().filter(|_| !conflicts) {
            debug_assert!(append.marks.is_empty() || !append.refuses(), "marks are not taken back");
            let ranges = std::array::from_fn(|part| if append.refuses() { from[part]..self.parts.lengths()[part] } else { 0..0 });
            self.guards.push(self.guard(at, guard, judge, ranges));
        }
        for write in append.writes.iter().filter(|write| !conflicts || write.record.is_none()) {
            let key = [entries, &write.key].concat();
            let life = crate::remote::store_life(write.expires_at, now);
            self.writes.push(GroupWrite { at, key, life, record: write.record.clone() });
        }
    }

    /// The appends that conflict whatever the script says.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = u16> + '_ {
        self.conflicts.iter().copied()
    }

    /// The hashes of single names, and the appends that they belong to.
    pub(super) fn singles(&self) -> impl Iterator<Item = (u16, NameHash)> + Clone + '_ {
        self.parts
            .singles
            .as_chunks::<SINGLE_BYTES>()
            .0
            .iter()
            .map(|[low, high, hash @ ..]| (u16::from_le_bytes([*low, *high]), NameHash::from_bytes(*hash)))
    }

    /// The appends that have patterns, or everything.
    pub(super) fn with_patterns(&self) -> impl Iterator<Item = u16> + '_ {
        let mut before = None;
        let appends = self.parts.patterns.as_chunks::<PATTERN_BYTES>().0.iter().map(|[low, high, ..]| u16::from_le_bytes([*low, *high]));
        appends.filter(move |append| before.replace(*append) != Some(*append))
    }

    pub(super) fn add_names(&mut self, names: &[Name]) {
        let at = self.count.to_le_bytes();
        self.count += 1;
        let Parts { names: record, singles, patterns } = &mut self.parts;
        record.extend_from_slice(&(names.len() as u32).to_le_bytes());
        for name in names {
            name.encode(record);
            let single = match name {
                Name::Key(key) => self.hasher.key(key),
                Name::Tag(tag) => self.hasher.tag(tag),
                Name::Everything => {
                    patterns.extend_from_slice(&[&at[..], &[0; 16]].concat());
                    continue;
                }
                Name::Pattern(pattern) => {
                    patterns.extend_from_slice(&at);
                    match pattern.shape().filter(|_| !pattern.is_everything()) {
                        None => patterns.extend_from_slice(&[0; 16]),
                        Some(shape) => {
                            patterns.extend_from_slice(&shape.0.to_le_bytes());
                            patterns.extend_from_slice(&self.hasher.projection(shape, pattern.literals()).to_bytes());
                        }
                    }
                    continue;
                }
            };
            singles.extend_from_slice(&at);
            singles.extend_from_slice(&single.to_bytes());
        }
    }

    /// A guard's question. One that refuses says which bytes of the record are its append's, so that they can be left out.
    fn guard(&self, at: u16, guard: &Guard, judge: &Judge<'_>, refused: [Range<usize>; 3]) -> Vec<u8> {
        let mut bytes = at.to_le_bytes().to_vec();
        bytes.extend_from_slice(&guard.since.seq().max(judge.upto).to_le_bytes()[..5]);
        for range in refused {
            bytes.extend_from_slice(&(range.start as u32).to_le_bytes());
            bytes.extend_from_slice(&(range.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&(guard.hashes.len() as u16).to_le_bytes());
        for hash in &guard.hashes {
            bytes.extend_from_slice(&hash.to_bytes());
        }
        bytes.extend_from_slice(&((judge.shapes.len() * guard.keys.len()) as u16).to_le_bytes());
        for key in &guard.keys {
            let segments = segments(key).count();
            for shape in &judge.shapes {
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
    pub(super) fn call(&mut self, keys: &Keys, terms: &Terms<'_>) -> Cmd {
        let is_kept = |write: &GroupWrite| write.record.is_some();
        // With guards it is not known which of several writes of a key are made, so all of them are, in their order.
        if self.guards.is_empty() && self.writes.iter().any(is_kept) {
            self.forget_overwritten();
            self.writes.sort_by_key(|write| !is_kept(write));
        }
        let kept = self.writes.iter().filter(|write| is_kept(write)).count();
        let [names, singles, patterns] = self.parts.lengths();
        let written: usize = self.writes.iter().map(|write| write.key.len() + write.record.as_ref().map_or(0, Bytes::len) + 30).sum();
        let bytes = names + singles + patterns + written + self.guards.iter().map(Vec::len).sum::<usize>() + self.marks.len() + 512;
        let arguments = 18 + self.writes.len() + 2 * kept + self.guards.len();
        let mut call = script::sized_call(&script::APPEND, 5 + self.writes.len(), (arguments, bytes));
        call.arg(&keys.meta).arg(&keys.checkpoint).arg(&keys.stream).arg(&keys.members).arg(&keys.marks);
        let mut todo = Vec::with_capacity(self.writes.len() * 3);
        for write in &self.writes {
            call.arg(&write.key);
            todo.extend_from_slice(&write.at.to_le_bytes());
            todo.push(u8::from(is_kept(write)));
        }
        let Parts { names, singles, patterns } = &self.parts;
        call.arg(&self.epoch.0.to_le_bytes()).arg(terms.deadline).arg(self.count).arg(terms.room);
        call.arg(names).arg(singles).arg(patterns).arg(self.guards.len()).arg(kept).arg(todo);
        for guard in &self.guards {
            call.arg(guard);
        }
        for (write, record) in self.writes.iter().filter_map(|write| Some((write, write.record.as_ref()?))) {
            call.arg(write.life).arg(record.as_ref());
        }
        call.arg(&self.marks).arg(fence_field(terms.instance)).arg(terms.fence);
        call
    }

    /// Of several writes of a key only the last counts, in whatever order they are then made.
    fn forget_overwritten(&mut self) {
        let mut seen = HashSet::new();
        let last: Vec<bool> = self.writes.iter().rev().map(|write| seen.insert(write.key.as_slice())).collect();
        let mut last = last.into_iter().rev();
        self.writes.retain(|_| last.next().expect("there is one for each"));
    }
}

impl Parts {
    fn lengths(&self) -> [usize; 3] {
        [self.names.len(), self.singles.len(), self.patterns.len()]
    }
}

impl Judge<'_> {
    /// Of another generation neither a position nor hashes mean anything here, and a position that was made up means nothing to the log: a
    /// conflict, and nothing may be stored.
    fn finds_conflict(&self, guard: &Guard) -> bool {
        let means_nothing = guard.since.generation() != self.generation || self.index.position_of(guard.since).is_none();
        means_nothing || (self.is_asked && self.index.conflicts(&guard.keys, &guard.hashes, guard.since))
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
                Ok(Answer::Appended {
                    first: reply::number(next()?, WHAT)?,
                    conflicts: numbers(next()?)?,
                    bytes: reply::number(next()?, WHAT)?,
                    records: reply::number(next()?, WHAT)?,
                })
            }
            "late" => Ok(Answer::Late),
            "fenced" => Ok(Answer::Fenced),
            "behind" => Ok(Answer::Behind),
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
    #[cfg(test)]
    pub(super) fn new(first: u64, last: u64, names: Vec<u8>) -> Self {
        Entry { first, last, marks: Vec::new(), names }
    }

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
    self::records(records)
}

/// A list of records.
pub(super) fn records(value: Value) -> Result<Vec<Entry>> {
    reply::list(value, "the stream")?.into_iter().map(entry).collect()
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
    use crate::pattern::Pattern;

    #[test]
    fn a_record_of_the_stream_survives() {
        let mut group = Group::new(Epoch(7));
        let appends = [
            vec![Name::Key(b"a:b"[..].into()), Name::Tag(b"t"[..].into())],
            vec![],
            vec![Name::Everything, Name::Pattern(Pattern::new("a:*:**").unwrap())],
        ];
        appends.iter().for_each(|names| group.add_names(names));
        assert_eq!(names(&group.parts.names).unwrap(), appends);
        assert_eq!((group.parts.singles.len(), group.parts.patterns.len()), (2 * 10, 2 * 18));
        assert!(names(&group.parts.names[..group.parts.names.len() - 1]).is_none(), "one that was cut short is none");
        assert!(names(&u32::MAX.to_le_bytes()).is_none(), "nor is one that claims more names than there can be");
    }
}
