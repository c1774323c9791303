//! The operations in flight: small machines, each in one of a few stages between two of its steps.
//!
//! A stage is named for what the operation has, and says what comes next. What each step does is in `steps/`.

use super::state::{Key, Names, Receipt, Record, Stamp, Versions};

/// What a read may not miss when it answers. Taken when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Need {
    /// By G1: writes that had returned on this instance.
    pub returned: Versions,
    /// By G2: changes whose positions were applied on this instance.
    pub heard: Versions,
    /// By G4: the change behind the position that the caller asked for.
    pub asked: Versions,
}

/// An operation in flight, between two of its steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// A read that found something in memory, or waits for another's load.
    Read {
        /// What is read.
        key: Key,
        /// What the answer may not miss.
        need: Need,
        /// Where it stands.
        stage: ReadStage,
    },
    /// The load of a key, led by one read and perhaps joined by others.
    Flight {
        /// What is loaded.
        key: Key,
        /// What the leader's answer may not miss.
        need: Need,
        /// Whether other reads may join it.
        shared: bool,
        /// Where it stands.
        stage: FlightStage,
    },
    /// An invalidation, an update or a put.
    Write {
        /// What the append will name.
        names: Names,
        /// The key whose value is stored afterwards; none for an invalidation.
        value_of: Option<Key>,
        /// Where it stands.
        stage: WriteStage,
    },
    /// What is left of an operation after it has answered: its value goes into the tiers.
    Store {
        /// Under which key.
        key: Key,
        /// The value, stamped.
        record: Record,
        /// Into memory first; else only into the backing tier.
        memory_first: bool,
    },
}

/// The stages of a memory hit (step 3) and of a joiner (step 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadStage {
    /// Found an entry that is not fresh beyond doubt; `applied` is read next.
    Held(Held),
    /// Has read `applied`; the names are checked next.
    Measured(Held, Stamp),
    /// The names are clean; the entry is re-stamped next, and the read answers.
    Clean(Held, Option<Stamp>),
    /// Shares another read's load; arrived when `latest` was this.
    Joined(Stamp),
}

/// A memory entry in a reader's hands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Held {
    /// The entry as it was found.
    pub record: Record,
    /// Whether memory still holds that very object under the key. If not, a re-stamp reaches nobody.
    pub in_place: bool,
}

/// The stages of a load: the backing tier (step 4), then the source (step 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlightStage {
    /// `h := applied` comes next.
    BeforeTier,
    /// Has `h`; the record is read next.
    AskTier(Stamp),
    /// Has the record; its names are checked next.
    TierFound(Stamp, Record),
    /// Only where the protocol is broken: clean, but `h` is read only now.
    TierClean(Record),
    /// `s := latest` comes next.
    BeforeSource,
    /// Has `s`; the source is read next.
    AskSource(Stamp),
    /// Only where the protocol is broken: has the data, but `s` is taken only now.
    Unstamped(Versions),
    /// Has the value; it goes into memory next, and the callers are answered.
    Ready(Record, Origin),
}

/// Where a load found its value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// In the backing tier, which need not be written again.
    Tier,
    /// In the source.
    Source,
}

/// The stages of a write (steps 1, 7, 8 and 9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WriteStage {
    /// An update that has taken `s0`; its change comes next.
    Marked(Stamp),
    /// Only where the protocol is broken: an update that has changed the source and takes `s0` only now.
    Unmarked(Versions),
    /// The source is changed; the append comes next.
    Changed {
        /// The `s0` of an update.
        since: Option<Stamp>,
        /// The source as this write left it.
        data: Versions,
    },
    /// Has its receipt; the own index comes next, and the write returns.
    Appended {
        /// What the log gave.
        receipt: Receipt,
        /// The value that may be stored, if the log saw no other write in between.
        store: Option<Versions>,
    },
}
