//! Switches that break the protocol on purpose, one for each rule that a test claims to watch over.
//!
//! Without the feature `test-mutations` the switches cannot be turned and cost nothing: [`Mutations`] is empty and
//! [`Mutations::on`] is always false. With it, a test builds a cache with one rule taken away and must see its checker
//! complain; a checker that stays silent checks nothing.

/// A rule of the protocol that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A load takes its stamp after the source was read.
    StampAfterLoad,
    /// Callers that join a load do not check what was invalidated before they came.
    JoinersDoNotCheck,
    /// An append returns before its names are in the own index; they come with the next append.
    OwnAppendsLate,
    /// A memory hit re-stamps the entry to `latest` as it is after the check.
    RestampAfterCheck,
    /// `latest` and `applied` are raised before the names are in the index.
    PublishBeforeRecord,
    /// An update does not ask the log what was invalidated while it changed the source.
    UpdateWithoutCheck,
    /// An update takes its first position after the source was changed.
    UpdateStampLate,
    /// The index forgets names without raising the floor.
    ForgetWithoutFloor,
    /// A reopened log hands out positions that were used before.
    PositionsUsedAgain,
    /// A memory hit does not check the entry's names.
    HitUnchecked,
    /// The tail of a shared log raises `applied` before the names of that position are in the index.
    TailBeforeIndex,
    /// An instance that finds another epoch in force goes on with its own.
    EpochNotAdopted,
    /// A lost or restored log is not noticed: its positions are used again.
    LossUnnoticed,
    /// An event that took effect is not recognised when it is delivered again.
    EventsForgotten,
    /// A compare-and-set, or a put since a position, does not ask the log what was changed meanwhile.
    ChangeWithoutGuard,
    /// A checkpoint of a shared log takes its position after its lines were read.
    CheckpointLate,
    /// A guard of an append to a shared log is judged by its caller's index alone, which may lag.
    GuardByOwnIndex,
    /// A guard of an append to a shared log is judged by the log alone. Breaks nothing: so that a test can see whether the log's answer is
    /// right, whatever the caller knows.
    IndexUnasked,
    /// What is done under a claim that somebody else has taken over is recorded all the same.
    FinishUnfenced,
    /// A restore stamps what it restores anew, instead of judging it by its own stamp.
    RestoreStampsAnew,
    /// What a restore has written where others read it is served before all of it is there.
    HoldsUnasked,
}

/// Which rules are taken away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutations {
    #[cfg(feature = "test-mutations")]
    on: Option<Mutation>,
}

impl Mutations {
    /// Takes one rule away.
    #[cfg(feature = "test-mutations")]
    pub fn only(mutation: Mutation) -> Self {
        Mutations { on: Some(mutation) }
    }

    /// Whether all rules are in force.
    #[inline]
    pub(crate) fn are_none(self) -> bool {
        #[cfg(feature = "test-mutations")]
        return self.on.is_none();
        #[cfg(not(feature = "test-mutations"))]
        true
    }

    #[inline]
    pub(crate) fn on(self, mutation: Mutation) -> bool {
        #[cfg(feature = "test-mutations")]
        return self.on == Some(mutation);
        #[cfg(not(feature = "test-mutations"))]
        {
            let _rules_are_always_in_force = mutation;
            false
        }
    }
}
