//! One state of the model: the source, the log, the backing tier, the instances, and every operation in flight.
//!
//! Everything here is plain, small and `Copy`: the search holds millions of these. The types know how to answer
//! questions about themselves (what is the last position of this name? is this stamp fresh?), but not which step may
//! follow which (`steps.rs`), nor what has been promised (`promises.rs`).

use std::hash::{Hash, Hasher};

use super::fingerprint::digest;
use super::op::Op;

/// The most instances a scenario may have.
pub const INSTANCES_MAX: usize = 3;
/// The most operations that may be in flight at once, over all instances.
pub const OPS_MAX: usize = 6;
/// The most positions an epoch of the log may hand out.
pub const LOG_MAX: usize = 5;
/// The most lines a scenario's plan may have.
pub const PLANS_MAX: usize = 8;
/// The keys of the model: `K` and `L`.
pub const KEYS: usize = 2;
/// The names of the model: each key is one, and the third is the tag `T`.
pub const NAMES: usize = 3;

/// A key: 0 is `K`, 1 is `L`.
pub type Key = u8;
/// An instance: 0 is `A`, 1 is `B`, 2 is `C`.
pub type At = u8;

/// A set of names, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Names(pub(super) u8);

impl Names {
    /// The name of the first key.
    pub const K: Names = Names(0b001);
    /// The name of the second key.
    pub const L: Names = Names(0b010);
    /// The tag.
    pub const T: Names = Names(0b100);

    /// The set that holds only the name of `key`.
    pub fn of_key(key: Key) -> Names {
        Names(1 << key)
    }

    /// These names and those.
    #[must_use]
    pub fn with(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    /// Each name of the set, as its place in a [`Versions`].
    pub fn each(self) -> impl Iterator<Item = usize> {
        (0..NAMES).filter(move |name| self.0 & (1 << name) != 0)
    }
}

/// For every name, how often the source has changed under it. This is what stands for "data": a value *is* the
/// versions of the names it depends on, so "older" needs no clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Versions(pub(super) [u8; NAMES]);

impl Versions {
    /// Only what concerns `names`; the rest reads as never changed.
    #[must_use]
    pub fn of(self, names: Names) -> Versions {
        let mut kept = Versions::default();
        names.each().for_each(|name| kept.0[name] = self.0[name]);
        kept
    }

    /// The source changes under each of `names`.
    pub fn bump(&mut self, names: Names) {
        names.each().for_each(|name| self.0[name] += 1);
    }

    /// At least as new as `other`, name by name.
    pub fn raise(&mut self, other: Versions) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = theirs.max(*mine);
        }
    }

    /// Whether something of `need` is missing here, that is, whether this is older data than `need`.
    pub fn lacks(self, need: Versions) -> bool {
        self.0.iter().zip(need.0).any(|(mine, needed)| *mine < needed)
    }
}

impl Hash for Versions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As one word: the derived form would also write the array's length, for every one of millions of states.
        state.write_u32(u32::from_le_bytes([self.0[0], self.0[1], self.0[2], 0]));
    }
}

/// A position within an epoch. Two of them may be compared only if the epoch is the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stamp {
    /// Which life of the log the position belongs to.
    pub epoch: u8,
    /// The position; 0 is before the first append.
    pub position: u8,
}

impl Stamp {
    /// Raises the position to that of `other`, where they are comparable.
    pub fn raise(&mut self, other: Stamp) {
        if self.epoch == other.epoch {
            self.position = self.position.max(other.position);
        }
    }
}

/// What memory and the backing tier hold under a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Up to where the data reflects the log.
    pub stamp: Stamp,
    /// The data.
    pub data: Versions,
}

/// What a writer hands to a reader on another machine: a position, and (for the checker) the change it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    /// Where the log put the change.
    pub stamp: Stamp,
    /// The versions that this change brought about.
    pub change: Versions,
}

/// For every name the last position at which it was invalidated, with the floor that stands for forgotten names.
///
/// The real index is a set-associative table with a floor per line; this is one line of it, wide enough for all
/// names, in which *any* name may be forgotten at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Index {
    pairs: [u8; NAMES],
    floor: u8,
}

impl Index {
    /// The last position of one name: its own pair's, else the floor.
    pub fn last(&self, name: usize) -> u8 {
        match self.pairs[name] {
            0 => self.floor,
            position => position,
        }
    }

    /// The last position of any of `names`.
    pub fn last_of(&self, names: Names) -> u8 {
        names.each().map(|name| self.last(name)).max().unwrap_or(0)
    }

    /// Writes `position` for each of `names`. A position at or below the floor needs no pair, and must not get one:
    /// the pair would be read in place of the floor and make the index less cautious (`below_floor` does just that).
    pub fn raise(&mut self, names: Names, position: u8, below_floor: bool) {
        for name in names.each() {
            if self.pairs[name] != 0 || position > self.floor || below_floor {
                self.pairs[name] = self.pairs[name].max(position);
            }
        }
    }

    /// Whether the name has a pair of its own.
    pub fn holds(&self, name: usize) -> bool {
        self.pairs[name] != 0
    }

    /// Gives up the pair of `name`, after raising the floor to it, if the floor is raised at all.
    pub fn forget(&mut self, name: usize, raise_floor: bool) {
        if raise_floor {
            self.floor = self.floor.max(self.pairs[name]);
        }
        self.pairs[name] = 0;
    }
}

impl Hash for Index {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(u32::from_le_bytes([self.pairs[0], self.pairs[1], self.pairs[2], self.floor]));
    }
}

/// One append: its names, and (for the checker) the change of the source it announces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Appended {
    /// What the invalidation points at.
    pub names: Names,
    /// The versions that the change brought about.
    pub change: Versions,
}

/// The invalidation log with its authoritative table. Position `p` is entry `p - 1` of the present epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Log {
    /// The present life of the log.
    pub epoch: u8,
    /// The run of the server on which this epoch began; kept in the log beside the epoch.
    pub begun_on_run: u8,
    /// The run of the server that answers now; another after every failover.
    pub run: u8,
    /// The highest position handed out.
    pub head: u8,
    entries: [Appended; LOG_MAX],
}

impl Log {
    /// Hands out the next position.
    pub fn append(&mut self, appended: Appended) -> u8 {
        self.entries[usize::from(self.head)] = appended;
        self.head += 1;
        self.head
    }

    /// What lies at `position`, if the log (still) has it.
    pub fn entry(&self, position: u8) -> Option<Appended> {
        (1..=self.head).contains(&position).then(|| self.entries[usize::from(position) - 1])
    }

    /// The end of the log is lost, and another server answers from now on.
    pub fn fail_over(&mut self, lost: u8) {
        self.head -= lost;
        self.entries[usize::from(self.head)..].fill(Appended::default());
        self.run += 1;
    }

    /// A new life, in which positions are handed out from the first again.
    pub fn begin_epoch(&mut self) {
        *self = Log { epoch: self.epoch + 1, begun_on_run: self.run, run: self.run, ..Log::default() };
    }

    /// The authoritative table: for every name its last position.
    pub fn table(&self) -> Index {
        let mut table = Index::default();
        for (entry, position) in self.entries.iter().zip(1..=self.head) {
            table.raise(entry.names, position, false);
        }
        table
    }

    /// Every change the log knows of, together.
    pub fn changes(&self) -> Versions {
        let mut all = Versions::default();
        self.entries.iter().for_each(|entry| all.raise(entry.change));
        all
    }
}

/// One process: its index, how far it has come in the log, its memory, and what has been promised to its callers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Instance {
    /// The life of the log that the index speaks of.
    pub epoch: u8,
    /// The server run that this instance last compared notes with.
    pub run: u8,
    /// For every name the last position known here.
    pub index: Index,
    /// All positions up to here are in the index.
    pub applied: u8,
    /// The highest position in the index; own appends run ahead of `applied`.
    pub latest: u8,
    /// The tail has done the first half of its step for position `applied + 1`, and not yet the second.
    pub tail_half_done: bool,
    /// The memory tier.
    pub memory: [Option<Record>; KEYS],
    /// G1's measure: all that writes on this instance had changed when they returned.
    pub returned: Versions,
    /// G2's measure: all that the positions applied here had changed.
    pub heard: Versions,
}

impl Instance {
    /// The one rule: nothing that the entry depends on was invalidated after its stamp.
    pub fn judges_fresh(&self, names: Names, stamp: Stamp) -> bool {
        stamp.epoch == self.epoch && self.index.last_of(names) <= stamp.position
    }

    /// `latest`, as a stamp.
    pub fn latest(&self) -> Stamp {
        Stamp { epoch: self.epoch, position: self.latest }
    }

    /// `applied`, as a stamp.
    pub fn applied(&self) -> Stamp {
        Stamp { epoch: self.epoch, position: self.applied }
    }
}

/// The whole world between two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// What the source holds now.
    pub source: Versions,
    /// All changes that were ever appended, in whatever epoch: G5's measure.
    pub announced: Versions,
    /// The invalidation log.
    pub log: Log,
    /// The backing tier, shared by all instances.
    pub tier: [Option<Record>; KEYS],
    /// The instances; only as many as the scenario has take part.
    pub instances: [Instance; INSTANCES_MAX],
    /// The operations in flight, and where.
    pub ops: [Option<(At, Op)>; OPS_MAX],
    /// How often each line of the scenario's plan may still begin.
    pub left: [u8; PLANS_MAX],
    /// The last receipt that a write returned, for readers that ask for a position.
    pub receipt: Option<Receipt>,
}

impl State {
    /// 128 bits that stand for this state. Which slot an operation sits in does not count; nor, if the instances
    /// are `interchangeable`, which of them is which.
    pub fn fingerprint(&self, instances: usize, interchangeable: bool) -> u128 {
        let mut parts = [0u128; INSTANCES_MAX];
        for (part, instance) in parts.iter_mut().zip(&self.instances) {
            *part = digest(instance);
        }
        for (at, op) in self.ops.iter().flatten() {
            let part = &mut parts[usize::from(*at)];
            *part = part.wrapping_add(digest(op));
        }
        let world = digest(&(self.source, self.announced, self.log, self.tier, self.left, self.receipt));
        parts[..instances].iter().enumerate().fold(world, |sum, (place, part)| {
            let place = if interchangeable { 0 } else { place };
            sum.wrapping_add(digest(&(place, part)))
        })
    }
}
