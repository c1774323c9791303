//! Doubles that stand between a client and its server, and break a promise that the server keeps: a run over one of them has to
//! end with a violation, or it checks nothing.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use fastrand::Rng;

use super::wire::{Asked, Reply};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Now and then a read is answered with what the first one was: as by a cache on the way that nobody told.
    AnswersFromMemory,
    /// Fills are put without their tokens, so that nobody asks whether they are old by now.
    FillsWithoutToken,
}

/// Of so many reads one is answered from memory.
const FROM_MEMORY_ONE_IN: u32 = 50;

/// See the head of this file.
pub struct Double {
    flaw: Flaw,
    rng: Rng,
    first: HashMap<String, Reply>,
}

impl Double {
    pub fn new(flaw: Flaw, rng: Rng) -> Self {
        Double { flaw, rng, first: HashMap::new() }
    }

    /// What the server is asked instead.
    pub fn passes_on(&self, mut asked: Asked) -> Asked {
        if self.flaw == Flaw::FillsWithoutToken {
            asked.headers.retain(|(name, _)| *name != "larder-fill");
        }
        asked
    }

    /// What the client is answered instead.
    pub fn answers(&mut self, asked: &Asked, reply: Reply) -> Reply {
        if self.flaw != Flaw::AnswersFromMemory || asked.method != Method::GET || reply.status != StatusCode::OK {
            return reply;
        }
        let first = self.first.entry(asked.path.clone()).or_insert_with(|| reply.clone());
        if self.rng.u32(0..FROM_MEMORY_ONE_IN) == 0 { first.clone() } else { reply }
    }
}
