//! The freshness protocol as a model, and a search for the shortest way to break what it promises.
//!
//! The protocol's steps 1 to 11 are short, and each of them is there because of a race. This module writes
//! them down once more, as a machine so small that *every* order of its steps can be tried, and tries them: breadth
//! first, from an empty cache, until nothing new is left. If an order exists in which a read is served what it may
//! not be served, the search prints the shortest one as a numbered story.
//!
//! # The state
//!
//! ```text
//!   source            K v2   L v0   T v1          how often the data under each name has changed
//!
//!   log               epoch 0, server run 0       1: K      2: K      3: T
//!                     (and the table: K 2, T 3)
//!
//!   backing tier      K -> "K v1 T v0" stamped 1
//!
//!   instance A        index K 2, floor 0          applied 1    latest 2
//!                     memory K -> "K v2 T v0" stamped 2
//!                     owed to its readers:  by returned writes K v2,  by applied positions K v1
//!   instance B        index K 1, floor 0          applied 1    latest 1
//!                     memory empty
//!                     owed to its readers:  by applied positions K v1
//!
//!   in flight         on A  an invalidation of T, appended at 3, about to enter the own index
//!                     on B  a load of K that has s = 1 and is about to read the source
//!                     on B  a read of K that joined it, having arrived at latest 1
//! ```
//!
//! *Data* is the versions of the names it depends on, so "older" needs no clock and no guess: a read is wrong if a version in its
//! answer is lower than one it was owed when it began. There are two keys, `K` and `L`, and one tag, `T`; patterns and
//! `everything` are names like any other and would show nothing that the tag does not.
//!
//! # The steps
//!
//! An operation is a small machine of its own, advanced one step at a time ([`steps`]). Between any two of its
//! steps, everything else may happen:
//!
//! ```text
//!   read          look in memory ── fresh beyond doubt ──────────────────────────────────▶ answer
//!                   │ └─ in doubt ─ a := applied ─ check names ─ re-stamp ────────────────▶ answer
//!                   │                                   │ stale
//!                   ▼                                   ▼
//!                 join the load in flight (arrival := latest), or lead one:
//!                   h := applied ─ read record ─ check names ─────────────────┐
//!                                   │ none, or stale                          │
//!                   s := latest ─ read source ────────────────── into memory ─┴─ leader and joiners ▶ answer
//!                                                                             └─ into the backing tier
//!   update        s0 := latest ─ change ─ append, asking of (s0, p) ─ own index, return ─ memory ─ backing tier
//!   invalidation  change ─ append ─ own index, return
//!   put           append ─ own index, return ─ memory ─ backing tier
//!   tail          index ─ applied
//!   and           crash · failover of the log · reconnect · snapshot · the index forgets a name
//! ```
//!
//! Tiers are written whenever it happens to come about, with no regard for what lies there: that is the hardest case, and the
//! protocol bears it. A check of several names is one step, and so are a snapshot and the change of an epoch; the
//! real code has to make them so, and its own tests look at that.
//!
//! # What is checked
//!
//! G1, G2 and G4 on every answer, G5 on every state at rest ([`promises`]). G3 is about time, and there is none here.
//!
//! # How far
//!
//! [`scenarios`](scenarios()) bound what may happen, and each is searched to its end. Instances to which nothing is tied are
//! interchangeable, and a state is told from another by 128 bits. It is bounded checking, not a proof: three
//! instances, six operations, five appends. Every scenario of the large size together is some fifty million states.
//!
//! # What it shows when something is taken away
//!
//! Without the thing in the first column, a promise breaks after so many steps. *Designed* is the number that came with the
//! protocol's design, from another model whose steps are cut elsewhere: what is one step there may be three here, or the other way
//! round, so the numbers differ though the fault is the same. *In an answer* counts only reads that were answered wrongly;
//! G5 also sees what lies in wait when all is quiet. The tests hold this table to what the search finds.
//!
//! | taken away | designed | shortest here | breaks | in an answer |
//! |---|---|---|---|---|
//! | stamp taken after the source is read | 8 | 8 | G1 | 8 |
//! | joiners do not check their arrival | 9 | 8 | G1 | 8 |
//! | own appends not put in the own index at once | 7 | 8 | G1 | 8 |
//! | re-stamp to `latest` instead of `applied` | 13 | 15 | G1 | 15 |
//! | re-stamp with `applied` read after the check | 10 | 17 | G2 | 17 |
//! | tail raises `applied` before it fills the index | 12 | 8 | G2 | 8 |
//! | update without the check of `(s0, p)` | 5 | 10 | G1 | 10 |
//! | update with `s0` taken after the change | 8 | 10 | G1 | 10 |
//! | the index forgets a name without raising a floor | 9 | 9 | G1 | 9 |
//! | positions used again after a failover | 12 | 10 | G5 | 13 |
//! | a later detector of the failover does not adopt the new epoch | 12 | 10 | G5 | 14 |
//! | a position at or below the floor gets a pair, which hides the floor | - | 13 | G1 | 13 |
//! | a receipt of the old epoch enters the new epoch's index | - | 13 | G1 | 13 |
//! | an `h` of the old epoch raises a record of the new one | - | 22 | G5 | - |
//! | re-stamp of whatever lies under the key by then | - | 20 | G5 | 20 |
//! | `h` read after the record was checked | - | 18 | G2 | 18 |
//! | joiners ask only whether the last position lies in `(s, arrival]` | - | 11 | G1 | 11 |
//! | a put after the caller's own write, beside another writer | - | 8 | G1 | 8 |
//! | `(s0, p)` answered by the own index instead of the log | - | 10 | G1 | 10 |
//! | the epoch is not kept with its server run, so a starter cannot doubt it | - | 11 | G5 | - |
//! | a read at a position neither waits nor bypasses | - | 10 | G4 | 10 |
//! | a read at a position bypasses memory alone | - | 10 | G4 | 10 |
//! | a memory hit without any check (the canary) | - | 8 | G1 | 8 |
//!
//! # What it showed about the text
//!
//! Four rows of the lower part are not in the design, and an implementation that follows its letter may have them:
//!
//! - *pair-below-floor*: a name may be given up at position 2 (own append) and then be entered at 1 (its turn in the tail, or a
//!   slower append of the same instance). Written as a pair, the 1 hides the floor 2, and a record stamped 1 is served.
//!   A position at or below the floor must not get a pair.
//! - *starter-trusts-the-log*: step 11 compares epoch, run and head "with what this instance knew". An instance that starts knows
//!   nothing; and after two failovers, one that was away for both would adopt an epoch that has itself lost its end. So
//!   the server's run is kept in the log beside the epoch, and the comparison is with that.
//! - *at-least-skips-memory-only*: G4's "or bypasses memory" must bypass the backing tier as well (or demand a record stamped at
//!   the position or later), and must not share a load stamped below it: the instance's index cannot judge either yet.
//! - *joiners-ask-last-only*: the index keeps only the last position of a name. That it lies past a joiner's arrival does not
//!   say that none lies within `(s, arrival]`, so any position past `s` sends a joiner back.

mod fingerprint;
pub mod mutation;
pub mod op;
pub mod promises;
pub mod scenario;
mod scenarios;
mod search;
pub mod state;
pub mod steps;
mod story;

pub use mutation::{Mutation, ROWS, Row};
pub use promises::{Broken, Promise};
pub use scenario::{Plan, Scenario, What};
pub use scenarios::{Size, broken_by, scenarios};
pub use search::{Astray, Bounds, Outcome, Trace, replay, search};
pub use steps::{ModelConfig, Step};

/// Searches a scenario, under the whole protocol or with one thing taken away, for a violation of any promise.
pub fn check(scenario: &Scenario, mutation: Option<Mutation>, bounds: Bounds) -> Outcome {
    search(&ModelConfig::new(scenario, mutation), bounds)
}

/// Tells a violation that [`check`] found in this scenario under this mutation, as numbered sentences.
///
/// # Panics
///
/// If the trace is of another scenario, or of another mutation: then its steps cannot be taken.
pub fn story_of(scenario: &Scenario, mutation: Option<Mutation>, trace: &Trace) -> String {
    let config = ModelConfig::new(scenario, mutation);
    story::tell(&config, trace).expect("a trace can be taken again in the world it was found in")
}
