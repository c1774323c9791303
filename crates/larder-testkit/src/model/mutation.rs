//! The protocol with one thing taken away. Each of these must make a promise break, or the checker sees nothing.
//!
//! The first eleven are the rows of the table in the protocol's design (a row that names two things is two). The others
//! take away what its text says beside the table, or what this model showed to be needed where the text leaves a choice.

use super::promises::Promise;

/// One thing taken away from the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutation {
    /// Step 5: the stamp is taken after the source is read, not before.
    StampAfterSource,
    /// Step 6: joiners take the shared result as it comes.
    JoinersUnchecked,
    /// Step 1: an instance hears of its own appends only through the tail.
    OwnAppendsNotIndexed,
    /// Step 3: an entry found fresh is re-stamped to `latest`.
    RestampToLatest,
    /// Step 3: `applied` is read after the names were checked.
    RestampAppliedAfterCheck,
    /// Step 2: the tail raises `applied` before it fills the index.
    AppliedBeforeIndex,
    /// Step 8: the value of an update is stored whatever happened in `(s0, p)`.
    UpdateUnchecked,
    /// Step 8: `s0` is taken after the change.
    UpdateMarkAfterChange,
    /// The index forgets a name without raising the floor.
    IndexForgets,
    /// Step 11: after a failover nobody begins a new epoch, and positions are handed out again.
    PositionsReused,
    /// Step 11: who detects the failover later stays in the old epoch.
    LateDetectorKeepsEpoch,

    /// The index: a position at or below the floor is written as a pair, and hides the floor.
    PairBelowFloor,
    /// Step 1 meets step 11: a receipt of the old epoch is put into the index of the new one.
    ReceiptOutlivesEpoch,
    /// Step 4 meets step 11: an `h` of the old epoch raises the stamp of a record of the new one.
    MarkOutlivesEpoch,
    /// Step 3: the re-stamp goes to whatever entry lies under the key by then.
    RestampWhateverIsThere,
    /// Step 4: `h` is read after the record was checked.
    TierMarkAfterCheck,
    /// Step 6: joiners ask whether the *last* position of a name lies in `(s, arrival]`.
    JoinersAskLastOnly,
    /// Step 7 where step 8 is needed: a caller changes the source and then puts, beside another writer.
    BarePut,
    /// Step 8: the instance's own index answers the check of `(s0, p)`, not the log.
    UpdateAsksOwnIndex,
    /// Step 11: an instance compares the server's run only with what it knew, and one that starts knows nothing.
    StarterTrustsTheLog,
    /// G4: a read at a position neither waits nor bypasses anything.
    AtLeastIgnored,
    /// G4: a read at a position bypasses memory, but takes a backing-tier record or another's load as it comes.
    AtLeastSkipsMemoryOnly,
    /// A memory hit is served without any check: the canary, a wrong answer that only a blind checker would miss.
    MemoryUnchecked,
}

/// What there is to say about one mutation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Which one.
    pub mutation: Mutation,
    /// What it is called on a command line.
    pub name: &'static str,
    /// The steps of the shortest violation that the protocol's design reports.
    pub designed: Option<u8>,
    /// The steps of the shortest violation here, and the promise that it breaks.
    pub shortest: (u8, Promise),
    /// The same where only the answers of reads are watched, not what lies in the tiers at rest. None if no read of the
    /// mutation's scenario ever shows it.
    pub in_an_answer: Option<u8>,
    /// What is taken away, in a few words.
    pub taken_away: &'static str,
}

const fn row(
    mutation: Mutation,
    name: &'static str,
    designed: Option<u8>,
    shortest: (u8, Promise),
    in_an_answer: Option<u8>,
    taken_away: &'static str,
) -> Row {
    Row { mutation, name, designed, shortest, in_an_answer, taken_away }
}

/// Every mutation: the design's rows first, in its order. What is written here as the shortest violation, the tests
/// hold the search to.
#[rustfmt::skip]
pub const ROWS: [Row; 23] = {
    use Mutation::*;
    use Promise::{G1, G2, G4, G5};
    [
        row(StampAfterSource, "stamp-after-source", Some(8), (8, G1), Some(8),
            "stamp taken after the source is read"),
        row(JoinersUnchecked, "joiners-unchecked", Some(9), (8, G1), Some(8),
            "joiners do not check their arrival"),
        row(OwnAppendsNotIndexed, "own-appends-not-indexed", Some(7), (8, G1), Some(8),
            "own appends not put in the own index at once"),
        row(RestampToLatest, "restamp-to-latest", Some(13), (15, G1), Some(15),
            "re-stamp to `latest` instead of `applied`"),
        row(RestampAppliedAfterCheck, "restamp-applied-after-check", Some(10), (17, G2), Some(17),
            "re-stamp with `applied` read after the check"),
        row(AppliedBeforeIndex, "applied-before-index", Some(12), (8, G2), Some(8),
            "tail raises `applied` before it fills the index"),
        row(UpdateUnchecked, "update-unchecked", Some(5), (10, G1), Some(10),
            "update without the check of `(s0, p)`"),
        row(UpdateMarkAfterChange, "update-mark-after-change", Some(8), (10, G1), Some(10),
            "update with `s0` taken after the change"),
        row(IndexForgets, "index-forgets", Some(9), (9, G1), Some(9),
            "the index forgets a name without raising a floor"),
        row(PositionsReused, "positions-reused", Some(12), (10, G5), Some(13),
            "positions used again after a failover"),
        row(LateDetectorKeepsEpoch, "late-detector-keeps-epoch", Some(12), (10, G5), Some(14),
            "a later detector of the failover does not adopt the new epoch"),
        row(PairBelowFloor, "pair-below-floor", None, (13, G1), Some(13),
            "a position at or below the floor gets a pair, which hides the floor"),
        row(ReceiptOutlivesEpoch, "receipt-outlives-epoch", None, (13, G1), Some(13),
            "a receipt of the old epoch enters the new epoch's index"),
        row(MarkOutlivesEpoch, "mark-outlives-epoch", None, (22, G5), None,
            "an `h` of the old epoch raises a record of the new one"),
        row(RestampWhateverIsThere, "restamp-whatever-is-there", None, (20, G5), Some(20),
            "re-stamp of whatever lies under the key by then"),
        row(TierMarkAfterCheck, "tier-mark-after-check", None, (18, G2), Some(18),
            "`h` read after the record was checked"),
        row(JoinersAskLastOnly, "joiners-ask-last-only", None, (11, G1), Some(11),
            "joiners ask only whether the last position lies in `(s, arrival]`"),
        row(BarePut, "bare-put", None, (8, G1), Some(8),
            "a put after the caller's own write, beside another writer"),
        row(UpdateAsksOwnIndex, "update-asks-own-index", None, (10, G1), Some(10),
            "`(s0, p)` answered by the own index instead of the log"),
        row(StarterTrustsTheLog, "starter-trusts-the-log", None, (11, G5), None,
            "the epoch is not kept with its server run, so a starter cannot doubt it"),
        row(AtLeastIgnored, "at-least-ignored", None, (10, G4), Some(10),
            "a read at a position neither waits nor bypasses"),
        row(AtLeastSkipsMemoryOnly, "at-least-skips-memory-only", None, (10, G4), Some(10),
            "a read at a position bypasses memory alone"),
        row(MemoryUnchecked, "memory-unchecked", None, (8, G1), Some(8),
            "a memory hit without any check (the canary)"),
    ]
};

impl Mutation {
    /// What there is to say about it.
    pub fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.mutation == self).expect("every mutation has a row; a test counts them")
    }

    /// The one that is called `name` on a command line.
    pub fn named(name: &str) -> Option<Mutation> {
        ROWS.iter().find(|row| row.name == name).map(|row| row.mutation)
    }
}
