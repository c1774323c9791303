//! A copy of the whole index: what a checkpoint of the log keeps, and what an instance starts from.
//!
//! ```text
//! epoch, head, everything, number of lines, of shapes, of globs   (u64 each, little-endian)
//! lines: 7 pairs and the floor, u64 each
//! shapes: u64 each
//! globs: position u64, length u16, text
//! ```
//!
//! A table of another size can be taken in: lines are powers of two and a name's line is the low bits of its hash, so a
//! line of a smaller table holds the names of several lines of a larger one, and the other way round.

use std::sync::Arc;

use crate::mutation::Mutations;
use crate::pattern::{Pattern, Shape};
use crate::position::{Epoch, SEQ_BITS, SEQ_MAX};
use crate::sync::{AtomicU64, Ordering};

use super::{GLOBS_MAX, Glob, Index, Line, PAIRS, SHAPES_MAX};

/// Bytes in front of the lines.
const HEAD_BYTES: usize = 6 * 8;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) epoch: Epoch,
    pub(crate) head: u64,
    pub(crate) everything: u64,
    lines: Vec<[u64; PAIRS + 1]>,
    shapes: Vec<u64>,
    globs: Vec<(Pattern, u64)>,
}

impl Snapshot {
    /// The index of an epoch in which nothing was invalidated yet.
    pub(crate) fn empty(epoch: Epoch) -> Self {
        Snapshot { epoch, head: 0, everything: 0, lines: vec![[0; PAIRS + 1]], shapes: Vec::new(), globs: Vec::new() }
    }

    /// An index of this epoch's own, as it was when this was taken, of so many bytes at least.
    pub(crate) fn to_index(&self, bytes_min: usize) -> Index {
        let index = Index::new(bytes_min.max(self.lines.len() * super::LINE_BYTES), self.epoch, Mutations::default());
        index.adopt(self);
        index
    }

    pub(super) fn of(index: &Index, head: u64) -> Self {
        let lines = index.lines.iter().map(Line::copy).collect();
        Snapshot { lines, ..Self::without_lines(index, head) }
    }

    /// What goes with the lines. To be read after them: a name whose shape is not in the copy could never be looked up again, and a
    /// shape joins before its names do.
    fn without_lines(index: &Index, head: u64) -> Self {
        let shapes = index.shapes[..index.shape_count.load(Ordering::Acquire)].iter().map(|shape| shape.load(Ordering::Acquire)).collect();
        let globs = index.globs.load().iter().map(|glob| (glob.pattern.clone(), glob.seq.load(Ordering::Acquire))).collect();
        let everything = index.everything.load(Ordering::Acquire);
        Snapshot { epoch: index.epoch(), head, everything, lines: Vec::new(), shapes, globs }
    }

    /// Overwrites an index's table, shapes and globs. The caller has made sure that no reader believes them meanwhile.
    pub(super) fn fill(&self, index: &Index) {
        for (at, line) in index.lines.iter().enumerate() {
            let [pairs @ .., floor] = self.line_for(at, index.lines.len());
            for (word, pair) in line.pairs.iter().zip(pairs) {
                word.store(pair, Ordering::Release);
            }
            line.floor.store(floor, Ordering::Release);
        }
        let globs: Vec<_> =
            self.globs.iter().map(|(pattern, seq)| Arc::new(Glob { pattern: pattern.clone(), seq: AtomicU64::new(*seq) })).collect();
        index.glob_latest.store(self.globs.iter().map(|(_, seq)| *seq).max().unwrap_or(0), Ordering::Release);
        index.globs.store(Arc::new(globs));
        for (slot, shape) in index.shapes.iter().zip(&self.shapes) {
            slot.store(*shape, Ordering::Release);
        }
        index.shape_count.store(self.shapes.len(), Ordering::Release);
    }

    /// Raises an index of the same epoch to at least what this copy knows, while readers go on. Each line becomes at
    /// least as cautious as either; shapes join before the names that need them.
    pub(super) fn merge_into(&self, index: &Index) {
        for shape in &self.shapes {
            if !index.join_shapes(Shape(*shape)) {
                // No room for a shape that the log knows: its names could not be looked up here.
                index.raise_everything(self.head);
            }
        }
        for (at, line) in index.lines.iter().enumerate() {
            let [theirs @ .., floor] = self.line_for(at, index.lines.len());
            // A name that has a pair here and none there was last invalidated, as far as they know, at or below their floor.
            for word in &line.pairs {
                let own = word.load(Ordering::Acquire);
                let known = own & SEQ_MAX != 0 && !theirs.iter().any(|pair| pair >> SEQ_BITS == own >> SEQ_BITS && pair & SEQ_MAX != 0);
                if known && own & SEQ_MAX < floor {
                    word.store(own >> SEQ_BITS << SEQ_BITS | floor, Ordering::Release);
                }
            }
            line.floor.fetch_max(floor, Ordering::AcqRel);
            // No pair changes its place, so that a reader on its way through the line cannot miss a name that is in it.
            for pair in theirs.into_iter().filter(|pair| pair & SEQ_MAX != 0) {
                index.raise_in(line, pair >> SEQ_BITS, pair & SEQ_MAX);
            }
        }
        for (pattern, seq) in &self.globs {
            if !index.record_glob(pattern, *seq) {
                index.raise_everything(*seq);
            }
        }
    }

    /// What line `at` of a table of `lines` lines must hold.
    fn line_for(&self, at: usize, lines: usize) -> [u64; PAIRS + 1] {
        if lines >= self.lines.len() {
            // The names of this line were in the one whose number has the same low bits. Those of its sisters come along
            // and only take room.
            return self.lines[at & (self.lines.len() - 1)];
        }
        let merged = (at..self.lines.len()).step_by(lines).map(|from| self.lines[from]);
        merged.reduce(merge).expect("every line of a smaller table has lines in the larger")
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.lines.len() * super::LINE_BYTES + 4096);
        out.extend_from_slice(&self.encoded_head(self.head, self.lines.len()));
        encode_lines(self.lines.iter().copied(), &mut out);
        self.encode_rest(&mut out);
        out
    }

    fn encoded_head(&self, head: u64, lines: usize) -> [u8; HEAD_BYTES] {
        let counts = [lines, self.shapes.len(), self.globs.len()].map(|count| count as u64);
        let numbers = [self.epoch.0, head, self.everything].into_iter().chain(counts);
        let mut bytes = [0; HEAD_BYTES];
        bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers).for_each(|(bytes, number)| *bytes = number.to_le_bytes());
        bytes
    }

    /// What comes behind the lines.
    fn encode_rest(&self, out: &mut Vec<u8>) {
        self.shapes.iter().for_each(|shape| out.extend_from_slice(&shape.to_le_bytes()));
        for (pattern, seq) in &self.globs {
            out.extend_from_slice(&seq.to_le_bytes());
            out.extend_from_slice(&(pattern.text().len() as u16).to_le_bytes());
            out.extend_from_slice(pattern.text());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else. A file's checksum was checked before, and Redis
    /// gives back what it was given, so this only has to be safe.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || {
            let (head, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(*head))
        };
        let (epoch, head, everything) = (Epoch(number()?), number()?, number()?);
        let (lines, shapes, globs) = (number()? as usize, number()? as usize, number()? as usize);
        if epoch.0 == 0 || head > SEQ_MAX || !lines.is_power_of_two() || shapes > SHAPES_MAX || globs > GLOBS_MAX {
            return None;
        }
        // Read one by one, so that a false count ends at the end of the bytes and allocates no more than they hold.
        let mut table = Vec::new();
        for _ in 0..lines {
            let mut line = [0; PAIRS + 1];
            for word in &mut line {
                *word = number()?;
            }
            table.push(line);
        }
        let shapes = (0..shapes).map(|_| number()).collect::<Option<_>>()?;
        let globs = (0..globs).map(|_| take_glob(&mut bytes)).collect::<Option<_>>()?;
        bytes.is_empty().then_some(Snapshot { epoch, head, everything, lines: table, shapes, globs })
    }
}

/// An index as [`Snapshot::encode`] writes it, a part after the other, so that one of many megabytes is not in memory once more. Writers go
/// on meanwhile.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a log that is shared is written so"))]
pub(crate) struct Parts<'a> {
    index: &'a Index,
    lines: usize,
    next: usize,
    /// Once the lines were read.
    rest: Option<Snapshot>,
}

#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a log that is shared is written so"))]
impl<'a> Parts<'a> {
    pub(super) fn of(index: &'a Index, lines: usize) -> Self {
        Parts { index, lines, next: 0, rest: None }
    }

    /// The next part.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        if self.rest.is_some() {
            return None;
        }
        let lines = &self.index.lines[self.next..];
        let lines = &lines[..self.lines.min(lines.len())];
        let mut part = Vec::with_capacity(lines.len() * super::LINE_BYTES);
        encode_lines(lines.iter().map(Line::copy), &mut part);
        self.next += lines.len();
        if self.next == self.index.lines.len() {
            let rest = Snapshot::without_lines(self.index, 0);
            rest.encode_rest(&mut part);
            self.rest = Some(rest);
        }
        Some(part)
    }

    /// What comes in front of them: that it has all up to `head`, a position that was applied before the first part.
    ///
    /// # Panics
    /// If a part is left: only behind the last is it known how many shapes and globs there are.
    pub(crate) fn head(&self, head: u64) -> [u8; HEAD_BYTES] {
        let rest = self.rest.as_ref().expect("all parts were taken");
        rest.encoded_head(head, self.index.lines.len())
    }
}

impl Line {
    /// As every reader: the pairs first, then the floor that covers what was lost from them.
    fn copy(&self) -> [u64; PAIRS + 1] {
        let mut copy = [0; PAIRS + 1];
        for (copy, word) in copy.iter_mut().zip(self.pairs.iter().chain([&self.floor])) {
            *copy = word.load(Ordering::Acquire);
        }
        copy
    }
}

fn encode_lines(lines: impl Iterator<Item = [u64; PAIRS + 1]>, out: &mut Vec<u8>) {
    lines.flatten().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn take_glob(bytes: &mut &[u8]) -> Option<(Pattern, u64)> {
    let (seq, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *bytes = rest;
    Some((Pattern::new(text).ok()?, u64::from_le_bytes(*seq)))
}

/// Two lines in one: the newest pairs stay, the rest and both floors go into the floor. Where both lines know a
/// fingerprint, the later position stands for both names.
fn merge(a: [u64; PAIRS + 1], b: [u64; PAIRS + 1]) -> [u64; PAIRS + 1] {
    let mut pairs: Vec<u64> = a[..PAIRS].iter().chain(&b[..PAIRS]).copied().filter(|pair| pair & SEQ_MAX != 0).collect();
    pairs.sort_unstable_by_key(|pair| std::cmp::Reverse(pair & SEQ_MAX));
    let mut merged = [0; PAIRS + 1];
    merged[PAIRS] = a[PAIRS].max(b[PAIRS]);
    let mut kept = 0;
    for pair in pairs {
        let known = merged[..kept].iter().any(|other| other >> super::SEQ_BITS == pair >> super::SEQ_BITS);
        if !known && kept < PAIRS {
            merged[kept] = pair;
            kept += 1;
        } else if !known {
            merged[PAIRS] = merged[PAIRS].max(pair & SEQ_MAX);
        }
    }
    merged
}
