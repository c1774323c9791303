//! Loss: an instance that dies and starts again (step 10), a log that loses its end (step 11).

use super::super::mutation::Mutation;
use super::super::state::{At, Instance};
use super::Turn;

/// What an instance that connects knew of the log before.
#[derive(Clone, Copy)]
enum Knew {
    /// It has just started.
    Nothing,
    /// It was connected to this server run, in this epoch.
    Run { run: u8, epoch: u8 },
}

impl Turn<'_> {
    /// An instance dies and starts again: its memory, its operations in flight and what its callers were promised are
    /// gone. One that stays dead for a while is one that takes no steps for a while, so this is one step.
    pub(super) fn crash(&mut self, at: At) {
        for place in &mut self.state.ops {
            if place.is_some_and(|(theirs, _)| theirs == at) {
                *place = None;
            }
        }
        *self.instance(at) = Instance::default();
        self.connect(at, Knew::Nothing);
    }

    /// Step 11: "on every reconnect, before any other command".
    pub(super) fn reconnect(&mut self, at: At) {
        let instance = self.instance(at);
        let knew = Knew::Run { run: instance.run, epoch: instance.epoch };
        self.connect(at, knew);
    }

    /// Step 11: "on any doubt a new epoch begins, by compare-and-set: the first to notice writes it, the others adopt it".
    /// Then step 10.
    ///
    /// Doubt is decided by what the log itself says: the epoch is kept with the server run on which it began. An
    /// instance that only compared with what it knew would trust the log blindly when it starts, and, after two
    /// failovers, adopt an epoch that has itself lost its end.
    fn connect(&mut self, at: At, knew: Knew) {
        let log = self.state.log;
        let survivor = matches!(knew, Knew::Run { .. });
        if survivor && self.lacks(Mutation::PositionsReused) {
            return self.go_on(at);
        }
        let doubt = match knew {
            Knew::Nothing if self.lacks(Mutation::StarterTrustsTheLog) => false,
            Knew::Run { run, epoch } if self.lacks(Mutation::StarterTrustsTheLog) => run != log.run && epoch == log.epoch,
            _ => log.begun_on_run != log.run && !self.lacks(Mutation::PositionsReused),
        };
        if doubt {
            self.state.log.begin_epoch();
        } else if survivor && self.lacks(Mutation::LateDetectorKeepsEpoch) {
            return self.go_on(at);
        }
        self.take_snapshot(at);
    }

    /// What the mutated step 11 does: take the new server for the old one.
    fn go_on(&mut self, at: At) {
        let run = self.state.log.run;
        self.instance(at).run = run;
    }
}
