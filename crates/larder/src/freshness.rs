//! The freshness index: for every name, the last position at which it was invalidated.
//!
//! An entry is stale if any name it depends on was invalidated after the entry's stamp. That is the whole rule, and this
//! file is all that decides it. It does no IO, reads no clock, and never forgets except by becoming more cautious.
//!
//! # The table
//!
//! ```text
//!   name --xxh3-128--> line number, 24-bit fingerprint
//!
//!   line (64 bytes, one cache line)
//!   +--------+--------+--------+--------+--------+--------+--------+--------+
//!   | pair 0 | pair 1 | pair 2 | pair 3 | pair 4 | pair 5 | pair 6 | floor  |
//!   +--------+--------+--------+--------+--------+--------+--------+--------+
//!     pair = fingerprint (24 bits) | position (40 bits); position 0 is a free pair
//! ```
//!
//! The last position of a name is that of its pair if it is in its line, else the line's floor. A name that needs a pair
//! where none is free takes the one with the oldest position, *after* that position was raised into the floor. So a lost
//! name or an equal fingerprint can make a false miss and never a stale hit; memory is fixed, and there is nothing to
//! expire. The idea of a set-associative line comes from processor caches; the floor is what makes forgetting safe.
//!
//! # Order, which is all that keeps readers right without a lock
//!
//! - One writer at a time (`writer`). It raises the floor before it overwrites a pair; a reader scans the pairs before it
//!   reads the floor. A reader that no longer finds a name therefore sees a floor that covers it.
//! - A new shape is in the set before any name of that shape is in the table.
//! - Names are in the index before `latest` and `applied` pass their position. A reader takes `applied` before it checks.
//! - Adopting another epoch first makes everything stale, then changes the table, then lets go: see [`Index::adopt`].

use std::sync::Arc;

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::mutation::{Mutation, Mutations};
use crate::name::Name;
use crate::notices::Board;
use crate::origin::Dependency;
use crate::pattern::{Pattern, Shape};
use crate::position::{Epoch, Position, SEQ_BITS, SEQ_MAX, Stamp};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, RwLock};

mod holds;
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a log that is shared is entered so"))]
mod shared;
mod snapshot;

pub(crate) use holds::Hold;
#[cfg(feature = "redis")]
pub(crate) use shared::NameHasher;
#[cfg(feature = "redis")]
pub(crate) use snapshot::Parts;
pub(crate) use snapshot::Snapshot;

/// Pairs in a line: with the floor, eight words, one cache line of every processor this runs on.
const PAIRS: usize = 7;

/// Bytes of a line.
pub(crate) const LINE_BYTES: usize = 64;

/// The most shapes in use. Each costs an entry that fits it one look-up per check; real systems use a handful.
pub(crate) const SHAPES_MAX: usize = 64;

/// Slots of the shapes that only `leading(1)` to `leading(4)` may take, so that there is always a shape to widen to and
/// one pattern too many never has to invalidate everything.
const SHAPES_KEPT_FOR_WIDENING: usize = 4;

/// The most distinct globs. Each must be matched against a key one by one.
pub(crate) const GLOBS_MAX: usize = 1024;

/// A name, hashed: 40 bits choose the line, 24 recognise the name in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NameHash(u64);

impl NameHash {
    fn of(bytes: &[u8], seed: u64) -> Self {
        let hash = xxh3_128_with_seed(bytes, seed);
        NameHash((hash >> 64) as u64 >> (64 - SEQ_BITS) << 24 | hash as u64 & 0xff_ffff)
    }

    /// As a log that is shared with others writes it: three bytes of fingerprint, five of line, little-endian.
    #[cfg(feature = "redis")]
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    #[cfg(feature = "redis")]
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        NameHash(u64::from_le_bytes(bytes))
    }

    fn fingerprint(self) -> u64 {
        self.0 & 0xff_ffff
    }

    fn line(self, mask: usize) -> usize {
        (self.0 >> 24) as usize & mask
    }
}

/// The hashes an entry keeps: its key's first, then its tags', then its sources', each with its tags. Four fit without an
/// allocation.
pub(crate) type NameHashes = SmallVec<[NameHash; 4]>;

/// What an entry depends on, as it is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) hashes: &'a [NameHash],
    pub(crate) sources: &'a [Dependency],
}

impl<'a> Named<'a> {
    /// What was computed from nothing else.
    pub(crate) fn of(key: &'a [u8], hashes: &'a [NameHash]) -> Self {
        Named { key, hashes, sources: &[] }
    }

    /// Which of its names stands at a place of the hashes.
    fn by(&self, at: usize) -> StaleBy {
        let of_sources: usize = self.sources.iter().map(|source| 1 + source.tags.len()).sum();
        let own = self.hashes.len() - of_sources;
        if at == 0 {
            return StaleBy::Key;
        }
        let Some(mut behind) = at.checked_sub(own) else { return StaleBy::Tag(at - 1) };
        let place = self.sources.iter().position(|source| {
            let names = 1 + source.tags.len();
            let is_here = behind < names;
            behind = behind.saturating_sub(names);
            is_here
        });
        StaleBy::Source(place.expect("every hash is the entry's own or a source's"))
    }
}

/// A verdict, and the position that it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) by: StaleBy,
    /// The last position at which that name was invalidated, or a later one; zero where the epoch is over.
    pub(crate) at: u64,
}

/// Why an entry is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StaleBy {
    /// The log began a new epoch; what happened before it is unknown.
    Epoch,
    /// Everything was invalidated.
    Everything,
    /// Its key was invalidated, or something was put there.
    Key,
    /// One of its tags was: the number is the tag's place in the entry's sorted tags.
    Tag(usize),
    /// A pattern that its key matches was.
    Pattern,
    /// Its namespace was, as a whole; or a pattern that there was no room for was widened to that.
    Namespace,
    /// Something it was computed from was invalidated: the number is its place among the entry's [sources](crate::Cached::sources).
    Source(usize),
}

#[repr(align(64))]
struct Line {
    pairs: [AtomicU64; PAIRS],
    floor: AtomicU64,
}

struct Glob {
    pattern: Pattern,
    seq: AtomicU64,
}

/// What positions mean at present.
#[derive(Clone, Copy, Debug)]
struct Era {
    generation: u32,
    epoch: Epoch,
    /// Positions past this one are *provisional*: they were made up here while the log that is shared with others could not
    /// be reached. They order what happens in this process and mean nothing to anybody else.
    provisional_past: Option<u64>,
    /// What had been applied when positions began to be made up here. Own appends may have been further, ahead of what others
    /// appended before them and this instance never heard.
    applied_before: u64,
}

/// See the head of this file.
pub(crate) struct Index {
    /// The highest position in the index. Every fast-path hit reads it.
    latest: AtomicU64,
    /// All positions up to here are in the index.
    applied: AtomicU64,
    everything: AtomicU64,
    /// The highest position of any record that was taken in from a tier that others write to, too: it may be ahead of `latest`.
    seen: AtomicU64,
    /// Mixed into every hash, so that nobody can prepare names that share a line.
    seed: AtomicU64,
    shape_count: AtomicUsize,
    shapes: [AtomicU64; SHAPES_MAX],
    /// The highest position of any glob: an entry stamped later need not look at them.
    glob_latest: AtomicU64,
    globs: ArcSwap<Vec<Arc<Glob>>>,
    lines: Box<[Line]>,
    /// Which epoch a generation stands for. Never read on a hit.
    era: RwLock<Era>,
    writer: Mutex<()>,
    /// Names that were widened since the start.
    widened: AtomicU64,
    holds: holds::Holds,
    /// Those who want to know what is entered. Told by whoever enters it, who knows more about it.
    pub(crate) notices: Arc<Board>,
    mutations: Mutations,
}

impl Index {
    /// An index of about `bytes`, rounded up to a power of two lines, in a new epoch's beginning.
    pub(crate) fn new(bytes: usize, epoch: Epoch, mutations: Mutations) -> Self {
        let lines = (bytes / LINE_BYTES).max(1).next_power_of_two();
        let line = |_| Line { pairs: std::array::from_fn(|_| AtomicU64::new(0)), floor: AtomicU64::new(0) };
        Index {
            latest: AtomicU64::new(Stamp::new(1, 0).0),
            applied: AtomicU64::new(Stamp::new(1, 0).0),
            everything: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            seed: AtomicU64::new(seed_of(epoch)),
            shape_count: AtomicUsize::new(0),
            shapes: std::array::from_fn(|_| AtomicU64::new(0)),
            glob_latest: AtomicU64::new(0),
            globs: ArcSwap::default(),
            lines: (0..lines).map(line).collect(),
            era: RwLock::new(Era { generation: 1, epoch, provisional_past: None, applied_before: 0 }),
            writer: Mutex::new(()),
            widened: AtomicU64::new(0),
            holds: holds::Holds::default(),
            notices: Arc::default(),
            mutations,
        }
    }

    /// The highest position in the index.
    #[inline]
    pub(crate) fn latest(&self) -> Stamp {
        Stamp(self.latest.load(Ordering::Acquire))
    }

    /// All positions up to here are in the index. Never above [`latest`](Self::latest).
    #[inline]
    pub(crate) fn applied(&self) -> Stamp {
        Stamp(self.applied.load(Ordering::Acquire))
    }

    /// The epoch in force.
    pub(crate) fn epoch(&self) -> Epoch {
        self.era.read().epoch
    }

    /// A stamp as others understand it. `None` if its epoch is over, or if it is provisional.
    pub(crate) fn position_of(&self, stamp: Stamp) -> Option<Position> {
        let Era { generation, epoch, provisional_past, .. } = *self.era.read();
        let understood = stamp.generation() == generation && provisional_past.is_none_or(|real| stamp.seq() <= real);
        understood.then(|| Position { epoch, seq: stamp.seq() })
    }

    /// A position as this instance understands it. `None` if it is of another epoch, or one that only the log can have
    /// handed out while this instance makes up its own.
    pub(crate) fn stamp_of(&self, position: Position) -> Option<Stamp> {
        let Era { generation, epoch, provisional_past, .. } = *self.era.read();
        let understood = position.epoch == epoch && provisional_past.is_none_or(|real| position.seq <= real);
        understood.then(|| Stamp::new(generation, position.seq))
    }

    /// The same for a record's position, which may be one that this instance has not heard of yet.
    pub(crate) fn stamp_of_record(&self, position: Position) -> Option<Stamp> {
        // Held while it is noted, so that positions made up later are past it.
        let era = self.era.read();
        let understood = position.epoch == era.epoch && era.provisional_past.is_none_or(|real| position.seq <= real);
        understood.then(|| {
            // Most were written below what was seen already, and reads on other cores need not wait for a write that changes nothing.
            if position.seq > self.seen.load(Ordering::Acquire) {
                self.seen.fetch_max(position.seq, Ordering::AcqRel);
            }
            Stamp::new(era.generation, position.seq)
        })
    }

    /// Whether all positions up to this one of the log are in the index. Not one that was passed only by positions made up here:
    /// what others appended there was never heard.
    pub(crate) fn has_applied(&self, position: Position) -> bool {
        // Held while `applied` is read: it is raised by made-up positions only after the era says so.
        let era = self.era.read();
        let applied = if era.provisional_past.is_some() { era.applied_before } else { self.applied().seq() };
        position.epoch == era.epoch && position.seq <= applied
    }

    /// The highest position that others understand, and that is at most [`latest`](Self::latest): what a load that begins
    /// now may be stamped with. `None` only while another epoch is being adopted.
    pub(crate) fn latest_position(&self) -> Option<Position> {
        let latest = self.latest();
        let Era { generation, epoch, provisional_past, .. } = *self.era.read();
        (latest.generation() == generation)
            .then(|| Position { epoch, seq: provisional_past.map_or(latest.seq(), |real| real.min(latest.seq())) })
    }

    /// The hashes of an entry's own names. Take the entry's stamp before: should an epoch end in between, the stamp is of
    /// the old one and these hashes no longer matter.
    pub(crate) fn hashes(&self, key: &[u8], tags: &[Box<[u8]>]) -> NameHashes {
        self.hashes_from(key, tags, &[])
    }

    /// The same for an entry that was computed from others: each of its sources' keys, with that one's tags.
    pub(crate) fn hashes_from(&self, key: &[u8], tags: &[Box<[u8]>], sources: &[Dependency]) -> NameHashes {
        let seed = self.seed.load(Ordering::Acquire);
        if tags.is_empty() && sources.is_empty() {
            // A put into memory would spend as much on going through nothing as on its log.
            return SmallVec::from_buf_and_len([hash_key(key, seed); 4], 1);
        }
        let of_sources = sources.iter().flat_map(|source| one_with_tags(&source.name, &source.tags, seed));
        one_with_tags(key, tags, seed).chain(of_sources).collect()
    }

    /// Whether an entry of this key, with these hashes and this stamp, is stale, and by what.
    ///
    /// The generation is read again at the end: a reader that saw a line which [`adopt`](Self::adopt) had changed by then
    /// sees that its epoch is over, too.
    pub(crate) fn judge(&self, entry: Named<'_>, stamp: Stamp) -> Option<Stale> {
        self.stale_by_hold(entry.key, stamp).or_else(|| self.judge_for_good(entry, stamp))
    }

    /// The same for those whose answer stands: also an entry that is [held](Self::is_held) may be fresh.
    pub(crate) fn judge_for_good(&self, entry: Named<'_>, stamp: Stamp) -> Option<Stale> {
        let over = Stale { by: StaleBy::Epoch, at: 0 };
        if stamp.generation() != self.latest().generation() {
            return Some(over);
        }
        let stale = self.first_name_after(entry, stamp.seq());
        stale.or_else(|| (stamp.generation() != self.latest().generation()).then_some(over))
    }

    fn first_name_after(&self, entry: Named<'_>, since: u64) -> Option<Stale> {
        let after = |position: u64| (position > since).then_some(position);
        for (place, hash) in entry.hashes.iter().enumerate() {
            if let Some(at) = after(self.last(*hash)) {
                return Some(Stale { by: entry.by(place), at });
            }
        }
        if let Some(stale) = self.pattern_last(entry.key, since) {
            return Some(stale);
        }
        for (place, source) in entry.sources.iter().enumerate() {
            if let Some(Stale { at, .. }) = self.pattern_last(&source.name, since) {
                return Some(Stale { by: StaleBy::Source(place), at });
            }
        }
        after(self.everything.load(Ordering::Acquire)).map(|at| Stale { by: StaleBy::Everything, at })
    }

    /// Whether any of these names, or a pattern that one of these keys matches, was invalidated after a stamp: what a log
    /// answers together with an append.
    pub(crate) fn conflicts(&self, keys: &[Box<[u8]>], hashes: &[NameHash], since: Stamp) -> bool {
        if since.generation() != self.latest().generation() {
            return true;
        }
        let after = |position: u64| position > since.seq();
        hashes.iter().any(|hash| after(self.last(*hash)))
            || keys.iter().any(|key| self.pattern_last(key, since.seq()).is_some())
            || after(self.everything.load(Ordering::Acquire))
            || since.generation() != self.latest().generation()
    }

    /// The last position at which a name was invalidated, or a later one.
    fn last(&self, hash: NameHash) -> u64 {
        let line = &self.lines[hash.line(self.lines.len() - 1)];
        let mut pairs = line.pairs.iter().map(|pair| pair.load(Ordering::Acquire));
        match pairs.find(|pair| pair >> SEQ_BITS == hash.fingerprint() && pair & SEQ_MAX != 0) {
            Some(pair) => pair & SEQ_MAX,
            None => line.floor.load(Ordering::Acquire),
        }
    }

    /// A position after `since` at which a pattern that matches `key` was invalidated.
    fn pattern_last(&self, key: &[u8], since: u64) -> Option<Stale> {
        let shapes = &self.shapes[..self.shape_count.load(Ordering::Acquire)];
        if !shapes.is_empty() {
            let segments = crate::key::segments(key).count();
            let seed = self.seed.load(Ordering::Acquire);
            for shape in shapes.iter().map(|shape| Shape(shape.load(Ordering::Acquire))).filter(|shape| shape.fits(segments)) {
                let last = self.last(hash_projection(shape, shape.literals_of(key), seed));
                if last > since {
                    let by = if shape == Shape::leading(1) { StaleBy::Namespace } else { StaleBy::Pattern };
                    return Some(Stale { by, at: last });
                }
            }
        }
        if self.glob_latest.load(Ordering::Acquire) <= since {
            return None;
        }
        let globs = self.globs.load();
        let matching = globs.iter().filter(|glob| glob.seq.load(Ordering::Acquire) > since && glob.pattern.matches(key));
        matching.map(|glob| Stale { by: StaleBy::Pattern, at: glob.seq.load(Ordering::Acquire) }).next()
    }

    /// Puts names into the index at a position, without letting readers know yet that it has them: [`publish`](Self::publish)
    /// does. Returns how many had to be widened.
    pub(crate) fn record(&self, names: &[Name], seq: u64) -> usize {
        let _one_writer = self.writer.lock();
        let widened = self.record_locked(names, seq);
        self.widened.fetch_add(widened as u64, Ordering::Relaxed);
        widened
    }

    /// Has the processor fetch what [`record_key`](Self::record_key) or a check of the key will need, while its caller does something
    /// else first: one line out of many megabytes, which is seldom at hand, was a tenth of what a put into memory took, and of what a
    /// hit in Redis did.
    #[inline]
    pub(crate) fn fetch_key(&self, key: &[u8]) {
        let hash = hash_key(key, self.seed.load(Ordering::Acquire));
        std::hint::black_box(self.lines[hash.line(self.lines.len() - 1)].floor.load(Ordering::Relaxed));
    }

    /// The same for a key alone.
    pub(crate) fn record_key(&self, key: &[u8], seq: u64) {
        let _one_writer = self.writer.lock();
        self.raise(hash_key(key, self.seed.load(Ordering::Acquire)), seq);
    }

    fn record_locked(&self, names: &[Name], seq: u64) -> usize {
        let seed = self.seed.load(Ordering::Acquire);
        names.iter().filter(|name| self.record_one(name, seq, seed)).count()
    }

    fn record_one(&self, name: &Name, seq: u64, seed: u64) -> bool {
        match name {
            Name::Key(key) => self.raise(hash_key(key, seed), seq),
            Name::Tag(tag) => self.raise(hash_tag(tag, seed), seq),
            Name::Everything => self.raise_everything(seq),
            Name::Pattern(pattern) => return self.record_pattern(pattern, seq, seed),
        }
        false
    }

    fn record_pattern(&self, pattern: &Pattern, seq: u64, seed: u64) -> bool {
        if pattern.is_everything() {
            self.raise_everything(seq);
            return false;
        }
        match pattern.shape() {
            Some(shape) if self.join_shapes(shape) => {
                self.raise(hash_projection(shape, pattern.literals(), seed), seq);
                false
            }
            None if self.record_glob(pattern, seq) => false,
            _ => {
                self.record_widened(pattern, seq, seed);
                true
            }
        }
    }

    /// Invalidates a broader name in the place of one that there is no room for: as many leading literals as there is a
    /// shape for, else everything.
    fn record_widened(&self, pattern: &Pattern, seq: u64, seed: u64) {
        let deepest = pattern.widened(usize::MAX).map_or(0, |(_, literals)| literals.len());
        let fitting = (1..=deepest).rev().filter_map(|depth| pattern.widened(depth)).find(|(shape, _)| self.join_shapes(*shape));
        match fitting {
            Some((shape, literals)) => self.raise(hash_projection(shape, literals.into_iter(), seed), seq),
            None => self.raise_everything(seq),
        }
        tracing::debug!(pattern = %pattern, "no room for another shape or glob: invalidated a broader name");
    }

    fn raise_everything(&self, seq: u64) {
        self.everything.fetch_max(seq, Ordering::AcqRel);
    }

    /// Makes sure a shape is in the set. False when there is no room.
    fn join_shapes(&self, shape: Shape) -> bool {
        let count = self.shape_count.load(Ordering::Acquire);
        if self.shapes[..count].iter().any(|known| known.load(Ordering::Acquire) == shape.0) {
            return true;
        }
        let widest = (1..=SHAPES_KEPT_FOR_WIDENING).any(|depth| shape == Shape::leading(depth));
        if count >= if widest { SHAPES_MAX } else { SHAPES_MAX - SHAPES_KEPT_FOR_WIDENING } {
            return false;
        }
        self.shapes[count].store(shape.0, Ordering::Release);
        self.shape_count.store(count + 1, Ordering::Release);
        true
    }

    /// Raises a glob's position, adding it if there is room. A pattern too long for a shape is kept as a glob, too.
    fn record_glob(&self, pattern: &Pattern, seq: u64) -> bool {
        let globs = self.globs.load();
        if let Some(glob) = globs.iter().find(|glob| glob.pattern.text() == pattern.text()) {
            // Own appends come before what others appended earlier.
            glob.seq.fetch_max(seq, Ordering::AcqRel);
        } else if globs.len() < GLOBS_MAX {
            let mut more = globs.to_vec();
            more.push(Arc::new(Glob { pattern: pattern.clone(), seq: AtomicU64::new(seq) }));
            self.globs.store(Arc::new(more));
        } else {
            return false;
        }
        self.glob_latest.fetch_max(seq, Ordering::AcqRel);
        true
    }

    /// Writes a position into a line: its own pair, else a free one, else over the oldest, whose position goes into the
    /// floor first.
    fn raise(&self, hash: NameHash, seq: u64) {
        self.raise_in(&self.lines[hash.line(self.lines.len() - 1)], hash.fingerprint(), seq);
    }

    fn raise_in(&self, line: &Line, fingerprint: u64, seq: u64) {
        let pairs: [u64; PAIRS] = std::array::from_fn(|i| line.pairs[i].load(Ordering::Acquire));
        let own = |pair: &u64| pair >> SEQ_BITS == fingerprint && pair & SEQ_MAX != 0;
        let word = fingerprint << SEQ_BITS | seq;
        if let Some(at) = pairs.iter().position(own) {
            // A replayed log may hand in an old position again.
            line.pairs[at].store(word.max(pairs[at]), Ordering::Release);
            return;
        }
        let floor = line.floor.load(Ordering::Acquire);
        if seq <= floor {
            // Only a replayed log gets here: what it says is covered already.
            return;
        }
        // A free pair has position zero, so it is also the oldest.
        let oldest = (0..PAIRS).min_by_key(|at| pairs[*at] & SEQ_MAX).expect("a line has pairs");
        let lost = pairs[oldest] & SEQ_MAX;
        if lost > floor && !self.mutations.on(Mutation::ForgetWithoutFloor) {
            line.floor.store(lost, Ordering::Release);
        }
        line.pairs[oldest].store(word, Ordering::Release);
    }

    /// Lets readers know that all positions up to `seq` of this epoch are in the index.
    pub(crate) fn publish(&self, seq: u64) {
        let generation = self.latest().generation();
        self.latest.fetch_max(Stamp::new(generation, seq).0, Ordering::AcqRel);
        self.applied.fetch_max(Stamp::new(generation, seq).0, Ordering::AcqRel);
    }

    /// Leaves this epoch for another, whose index is given.
    ///
    /// Readers never stop, so the order is everything. The new generation in `latest` takes the fast path from every
    /// older entry, and comes before the table changes: a check that began before and reads a changed line finds the new
    /// generation at its end. `everything` at its highest keeps an entry of the new epoch, whose stamp another reader took
    /// from `latest` already, from being judged by a half-changed table.
    pub(crate) fn adopt(&self, snapshot: &Snapshot) {
        let _one_writer = self.writer.lock();
        let mut era = self.era.write();
        // Two steps: stamps that are taken while the table changes are of a generation that is never in force, since the hashes
        // that go with them may be of either seed.
        let (changing, generation) = (era.generation + 1, era.generation + 2);
        self.latest.store(Stamp::new(changing, 0).0, Ordering::Release);
        self.everything.store(u64::MAX, Ordering::Release);
        self.seed.store(seed_of(snapshot.epoch), Ordering::Release);
        snapshot.fill(self);
        *era = Era { generation, epoch: snapshot.epoch, provisional_past: None, applied_before: 0 };
        self.seen.store(0, Ordering::Release);
        self.everything.store(snapshot.everything, Ordering::Release);
        self.latest.store(Stamp::new(generation, snapshot.head).0, Ordering::Release);
        self.applied.store(Stamp::new(generation, snapshot.head).0, Ordering::Release);
        self.notices.lost();
    }

    /// A copy of everything, at `head` or later. Taken while writers go on: each line is read as a reader reads it, so
    /// the copy is at least as cautious as the index was at `head`, and replaying what came after changes nothing.
    pub(crate) fn snapshot(&self, head: u64) -> Snapshot {
        Snapshot::of(self, head)
    }

    /// The same as it is encoded, a part of so many lines after the other.
    #[cfg(feature = "redis")]
    pub(crate) fn parts(&self, lines: usize) -> Parts<'_> {
        Parts::of(self, lines)
    }

    /// What share of entries with these stamps would be judged stale though nothing they depend on was invalidated: the
    /// mean over a sample of lines of "its floor has passed the stamp", and of a foreign fingerprint being taken for the
    /// entry's own. `names` is how many names such an entry has on average.
    pub(crate) fn false_miss_rate(&self, stamps: &[Stamp], names: f64) -> f64 {
        const SAMPLED_LINES: usize = 1024;
        if stamps.is_empty() {
            return 0.0;
        }
        let step = (self.lines.len() / SAMPLED_LINES).max(1);
        let sample: Vec<&Line> = self.lines.iter().step_by(step).collect();
        let mut floors: Vec<u64> = sample.iter().map(|line| line.floor.load(Ordering::Relaxed)).collect();
        floors.sort_unstable();
        let mut pairs: Vec<u64> = sample.iter().flat_map(|line| &line.pairs).map(|pair| pair.load(Ordering::Relaxed) & SEQ_MAX).collect();
        pairs.sort_unstable();
        let above = |sorted: &[u64], seq: u64| (sorted.len() - sorted.partition_point(|at| *at <= seq)) as f64 / sample.len() as f64;
        let one_name = |stamp: &Stamp| above(&floors, stamp.seq()) + above(&pairs, stamp.seq()) / f64::from(1 << 24);
        let any_name = stamps.iter().map(|stamp| 1.0 - (1.0 - one_name(stamp).min(1.0)).powf(names));
        any_name.sum::<f64>() / stamps.len() as f64
    }

    /// Names widened since the start, shapes in use, globs in use.
    pub(crate) fn stats(&self) -> IndexStats {
        IndexStats {
            bytes: self.lines.len() * LINE_BYTES,
            shapes: self.shape_count.load(Ordering::Relaxed),
            globs: self.globs.load().len(),
            widened: self.widened.load(Ordering::Relaxed),
        }
    }
}

/// What an index says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexStats {
    pub(crate) bytes: usize,
    pub(crate) shapes: usize,
    pub(crate) globs: usize,
    pub(crate) widened: u64,
}

/// The hash seed of an epoch: the epoch itself, stirred, since epochs are random already.
fn seed_of(epoch: Epoch) -> u64 {
    let mut mixed = epoch.0 ^ epoch.0 >> 30;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 27
}

// Keys, tags and projections of equal bytes are different names: each kind has a seed of its own.
/// A key and the tags of what it is the key of.
fn one_with_tags<'a>(key: &'a [u8], tags: &'a [Box<[u8]>], seed: u64) -> impl Iterator<Item = NameHash> + 'a {
    std::iter::once(hash_key(key, seed)).chain(tags.iter().map(move |tag| hash_tag(tag, seed)))
}

fn hash_key(key: &[u8], seed: u64) -> NameHash {
    NameHash::of(key, seed)
}

fn hash_tag(tag: &[u8], seed: u64) -> NameHash {
    NameHash::of(tag, seed ^ 0x7461_6700_0000_0001)
}

/// The name of a pattern: its shape and its literals, each with its length, so that `ab:c` and `a:bc` differ.
fn hash_projection<'a>(shape: Shape, literals: impl Iterator<Item = &'a [u8]>, seed: u64) -> NameHash {
    let mut name: SmallVec<[u8; 256]> = SmallVec::new();
    name.extend_from_slice(&shape.0.to_le_bytes());
    for literal in literals {
        name.extend_from_slice(&(literal.len() as u16).to_le_bytes());
        name.extend_from_slice(literal);
    }
    NameHash::of(&name, seed ^ 0x7061_7400_0000_0002)
}

#[cfg(all(test, feature = "shuttle"))]
mod schedules;

#[cfg(test)]
mod tests;
