//! Which steps may be taken from a state, and where each of them leads.
//!
//! A step is the smallest thing the protocol does: what lies between two of them may be interrupted by any other step of any
//! other operation on any instance. An operation, once begun, has no choices: the only nondeterminism is which step
//! is next. A step that only begins an operation is taken together with the operation's first real step, since what an
//! operation may not miss is measured when it begins, and begins to matter at its first look at anything.

mod loss;
mod read;
mod tail;
mod write;

use super::mutation::Mutation;
use super::op::{Need, Op, ReadStage, WriteStage};
use super::promises::{Broken, Promise, check_answer, check_rest};
use super::scenario::{Scenario, What};
use super::state::{At, Instance, Key, NAMES, OPS_MAX, State, Versions};

/// The world that is searched: what may happen, under which rules, and what is watched.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// What may happen.
    pub scenario: Scenario,
    /// What is taken away from the protocol, if anything.
    pub mutation: Option<Mutation>,
    /// The promises that are checked.
    pub promises: Vec<Promise>,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A line of the plan begins on an instance.
    Begin {
        /// Which line.
        line: usize,
        /// Where.
        at: At,
    },
    /// The index of an instance gives up the pair of a name.
    Forget {
        /// Which line of the plan allows it.
        line: usize,
        /// Where.
        at: At,
        /// Which name.
        name: usize,
    },
    /// The log's server is replaced by one that lacks this many positions.
    FailOver {
        /// Which line of the plan allows it.
        line: usize,
        /// How many positions are lost.
        lost: u8,
    },
    /// An operation in flight takes its next step.
    Advance {
        /// Which slot it sits in.
        slot: usize,
    },
    /// The tail takes its next half step.
    Tail {
        /// Where.
        at: At,
    },
    /// An instance finds that another server answers (step 11).
    Reconnect {
        /// Where.
        at: At,
    },
}

impl ModelConfig {
    /// This scenario under these rules, with every promise watched.
    pub fn new(scenario: &Scenario, mutation: Option<Mutation>) -> ModelConfig {
        ModelConfig { scenario: scenario.clone(), mutation, promises: Promise::ALL.to_vec() }
    }

    /// Every step that may be taken from `state`, in an order that depends on the state alone: a trace is kept as
    /// places in this list.
    pub fn enabled(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        self.enabled_by_plan(state, steps);
        for slot in 0..OPS_MAX {
            if state.ops[slot].is_some_and(|(at, op)| can_advance(state, at, &op)) {
                steps.push(Step::Advance { slot });
            }
        }
        for at in self.scenario.each_instance() {
            let instance = &state.instances[usize::from(at)];
            if !connected(state, at) {
                steps.push(Step::Reconnect { at });
            } else if instance.tail_half_done || instance.applied < state.log.head {
                steps.push(Step::Tail { at });
            }
        }
    }

    fn enabled_by_plan(&self, state: &State, steps: &mut Vec<Step>) {
        for (line, plan) in self.scenario.plan().iter().enumerate() {
            if state.left[line] == 0 {
                continue;
            }
            if plan.what == What::FailOver {
                steps.extend((1..=state.log.head).map(|lost| Step::FailOver { line, lost }));
                continue;
            }
            for at in self.scenario.each_instance().filter(|at| plan.at.is_none_or(|only| only == *at)) {
                let instance = &state.instances[usize::from(at)];
                if plan.what == What::Forget {
                    let held = (0..NAMES).filter(|name| instance.index.holds(*name));
                    steps.extend(held.map(|name| Step::Forget { line, at, name }));
                } else if can_begin(state, at, plan.what) {
                    steps.push(Step::Begin { line, at });
                }
            }
        }
    }

    /// Takes one enabled step. Returns where it leads, and the first promise broken by it, if one is.
    pub fn take(&self, before: &State, step: Step) -> (State, Option<Broken>) {
        let mut turn = Turn { config: self, state: *before, broken: None };
        turn.take(step);
        if turn.broken.is_none() && self.promises.contains(&Promise::G5) {
            turn.broken = check_rest(&self.scenario, &turn.state);
        }
        (turn.state, turn.broken)
    }

    /// Whether this is taken away.
    pub fn lacks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Step 11: "before any other command", so nothing that talks to the log goes on over a connection to another server.
fn connected(state: &State, at: At) -> bool {
    state.instances[usize::from(at)].run == state.log.run
}

fn can_begin(state: &State, at: At, what: What) -> bool {
    match what {
        What::ReadAtLeast(_) => state.receipt.is_some(),
        What::Put(_) => connected(state, at),
        What::FallBehind => connected(state, at) && state.instances[usize::from(at)].applied < state.log.head,
        _ => true,
    }
}

fn can_advance(state: &State, at: At, op: &Op) -> bool {
    match op {
        Op::Read { stage: ReadStage::Joined(_), .. } => false,
        Op::Write { stage: WriteStage::Changed { .. }, .. } => connected(state, at),
        _ => true,
    }
}

/// One step being taken.
struct Turn<'a> {
    config: &'a ModelConfig,
    state: State,
    broken: Option<Broken>,
}

impl Turn<'_> {
    fn take(&mut self, step: Step) {
        match step {
            Step::Begin { line, at } => {
                self.state.left[line] -= 1;
                self.begin(self.config.scenario.plan()[line].what, at);
            }
            Step::Forget { line, at, name } => {
                self.state.left[line] -= 1;
                self.forget(at, name);
            }
            Step::FailOver { line, lost } => {
                self.state.left[line] -= 1;
                self.state.log.fail_over(lost);
            }
            Step::Advance { slot } => self.advance(slot),
            Step::Tail { at } => self.tail(at),
            Step::Reconnect { at } => self.reconnect(at),
        }
    }

    fn begin(&mut self, what: What, at: At) {
        let op = match what {
            What::Read(key) => self.begin_read(at, key, Versions::default()),
            What::ReadAtLeast(key) => self.begin_read_at_least(at, key),
            What::Invalidate(names) => Some(self.begin_invalidation(names)),
            What::Update(key) => Some(self.begin_update(at, key)),
            What::Put(key) => Some(self.begin_put(at, key)),
            What::FallBehind => return self.take_snapshot(at),
            What::Crash => return self.crash(at),
            What::Forget | What::FailOver => unreachable!("these are steps of their own"),
        };
        if let Some(op) = op {
            let slot = self.state.ops.iter().position(Option::is_none).expect("a scenario fits its slots");
            self.state.ops[slot] = Some((at, op));
        }
    }

    fn advance(&mut self, slot: usize) {
        let (at, op) = self.state.ops[slot].expect("only an operation in flight is advanced");
        let next = match op {
            Op::Read { key, need, stage } => self.advance_read(at, key, need, stage),
            Op::Flight { key, need, shared, stage } => return self.advance_flight(slot, at, (key, need, shared), stage),
            Op::Write { names, value_of, stage } => self.advance_write(at, names, value_of, stage),
            Op::Store { key, record, memory_first } => self.advance_store(at, key, record, memory_first),
        };
        self.state.ops[slot] = next.map(|op| (at, op));
    }

    fn instance(&mut self, at: At) -> &mut Instance {
        &mut self.state.instances[usize::from(at)]
    }

    fn lacks(&self, mutation: Mutation) -> bool {
        self.config.lacks(mutation)
    }

    fn answer(&mut self, at: At, key: Key, need: Need, data: Versions) {
        let watched = &self.config.promises;
        let first = check_answer(at, key, data, need).find(|broken| watched.contains(&broken.promise));
        self.broken = self.broken.or(first);
    }
}
