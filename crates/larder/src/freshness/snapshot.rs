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

    /// A copy whose parts were kept elsewhere: the table as its lines stand in memory, eight little-endian words each. `None`
    /// where they do not fit together.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a log that is shared is read so"))]
    pub(crate) fn of_parts(
        (epoch, head, everything): (Epoch, u64, u64),
        table: &[u8],
        shapes: &[u8],
        globs: Vec<(Pattern, u64)>,
    ) -> Option<Self> {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a chunk has eight bytes"));
        let lines: Vec<[u64; PAIRS + 1]> =
            table.chunks_exact(super::LINE_BYTES).map(|line| std::array::from_fn(|at| word(&line[at * 8..at * 8 + 8]))).collect();
        let shapes: Vec<u64> = shapes.chunks_exact(8).map(word).collect();
        let fits = lines.len().is_power_of_two() && lines.len() * super::LINE_BYTES == table.len();
        let fits = fits && shapes.len() <= SHAPES_MAX && globs.len() <= GLOBS_MAX && epoch.0 != 0 && head <= SEQ_MAX;
        fits.then_some(Snapshot { epoch, head, everything, lines, shapes, globs })
    }

    /// An index of this epoch's own, as it was when this was taken, of so many bytes at least.
    pub(crate) fn to_index(&self, bytes_min: usize) -> Index {
        let index = Index::new(bytes_min.max(self.lines.len() * super::LINE_BYTES), self.epoch, Mutations::default());
        index.adopt(self);
        index
    }

    pub(super) fn of(index: &Index, head: u64) -> Self {
        let copy_line = |line: &Line| {
            let mut copy = [0; PAIRS + 1];
            // As every reader: the pairs first, then the floor that covers what was lost from them.
            for (copy, word) in copy.iter_mut().zip(line.pairs.iter().chain([&line.floor])) {
                *copy = word.load(Ordering::Acquire);
            }
            copy
        };
        // The names before the shapes: a name whose shape is not in the copy could never be looked up again, and a shape
        // joins before its names do.
        let lines = index.lines.iter().map(copy_line).collect();
        let shapes = index.shapes[..index.shape_count.load(Ordering::Acquire)].iter().map(|shape| shape.load(Ordering::Acquire)).collect();
        let globs = index.globs.load().iter().map(|glob| (glob.pattern.clone(), glob.seq.load(Ordering::Acquire))).collect();
        Snapshot { epoch: index.epoch(), head, everything: index.everything.load(Ordering::Acquire), lines, shapes, globs }
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
        let mut out = Vec::with_capacity(self.lines.len() * 64 + 4096);
        let counts = [self.lines.len(), self.shapes.len(), self.globs.len()].map(|count| count as u64);
        let head = [self.epoch.0, self.head, self.everything].into_iter().chain(counts);
        for number in head.chain(self.lines.iter().flatten().copied()).chain(self.shapes.iter().copied()) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (pattern, seq) in &self.globs {
            out.extend_from_slice(&seq.to_le_bytes());
            out.extend_from_slice(&(pattern.text().len() as u16).to_le_bytes());
            out.extend_from_slice(pattern.text());
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else. The caller checks a checksum before, so this
    /// only has to be safe.
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
