//! The search: breadth first, so that the first violation met is one that no shorter trace leads to.
//!
//! A state is known again by 128 bits of fingerprint. What is kept of every state is that fingerprint and five bytes: its
//! parent, and which of the parent's steps led to it. Whole states live only in the two frontiers. A trace is
//! found by following the parents back and taking the same steps forward again from the start.

use super::fingerprint::Seen;
use super::promises::{Broken, Promise};
use super::state::State;
use super::steps::{ModelConfig, Step};

/// How far a search may go. One that hits a bound says so: [`Outcome::exhausted`] is then false.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// So many distinct states.
    pub states_max: usize,
    /// So many steps from the start.
    pub depth_max: usize,
}

impl Default for Bounds {
    /// As far as two cores and a few gigabytes reach in some minutes.
    fn default() -> Self {
        Bounds { states_max: 60_000_000, depth_max: 200 }
    }
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How many distinct states were met.
    pub states: usize,
    /// How many steps the longest shortest path has, or the violation.
    pub depth: usize,
    /// Whether every state within reach was met.
    pub exhausted: bool,
    /// The shortest way to break a promise, if there is one.
    pub violation: Option<Trace>,
}

/// The steps that lead from the start to a broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The steps in order; the last breaks the promise.
    pub steps: Vec<Step>,
    /// What the last step broke.
    pub broken: Broken,
}

/// Why a trace could not be taken again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Astray {
    /// The step with this number (from 0) is not enabled where the trace has led.
    NotEnabled(usize),
    /// The step with this number (from 0) breaks a promise, and is not the last.
    BrokenEarly(usize, Promise),
}

/// Searches all that may happen within the bounds.
pub fn search(config: &ModelConfig, bounds: Bounds) -> Outcome {
    let start = config.scenario.start();
    let mut forest = Forest::new(config, &start);
    let mut frontier = vec![start];
    let mut steps = Vec::new();
    let mut depth = 0;
    while !frontier.is_empty() && depth < bounds.depth_max {
        let mut next = Vec::new();
        let first = forest.len() - frontier.len();
        for (place, state) in frontier.iter().enumerate() {
            config.enabled(state, &mut steps);
            for (choice, step) in steps.iter().enumerate() {
                let (after, broken) = config.take(state, *step);
                if let Some(broken) = broken {
                    let mut trace = forest.steps_to(config, first + place);
                    trace.push(*step);
                    let violation = Some(Trace { steps: trace, broken });
                    return Outcome { states: forest.len(), depth: depth + 1, exhausted: false, violation };
                }
                if forest.plant(&after, first + place, choice) {
                    next.push(after);
                }
            }
            if forest.len() >= bounds.states_max {
                return Outcome { states: forest.len(), depth: depth + 1, exhausted: false, violation: None };
            }
        }
        frontier = next;
        depth += usize::from(!frontier.is_empty());
    }
    Outcome { states: forest.len(), depth, exhausted: frontier.is_empty(), violation: None }
}

/// Takes the steps again from the start. Returns every state on the way, and what the last step broke.
pub fn replay(config: &ModelConfig, trace: &[Step]) -> Result<(Vec<State>, Option<Broken>), Astray> {
    let mut states = vec![config.scenario.start()];
    let mut enabled = Vec::new();
    for (number, step) in trace.iter().enumerate() {
        let before = states[number];
        config.enabled(&before, &mut enabled);
        if !enabled.contains(step) {
            return Err(Astray::NotEnabled(number));
        }
        let (after, broken) = config.take(&before, *step);
        states.push(after);
        match broken {
            Some(broken) if number + 1 < trace.len() => return Err(Astray::BrokenEarly(number, broken.promise)),
            Some(broken) => return Ok((states, Some(broken))),
            None => {}
        }
    }
    Ok((states, None))
}

/// All states met, in the order in which they were met, as a forest of links towards the start.
struct Forest {
    seen: Seen,
    parents: Vec<u32>,
    choices: Vec<u8>,
    instances: usize,
    interchangeable: bool,
}

impl Forest {
    fn new(config: &ModelConfig, start: &State) -> Forest {
        let scenario = &config.scenario;
        let mut forest = Forest {
            seen: Seen::default(),
            parents: Vec::new(),
            choices: Vec::new(),
            instances: scenario.instance_count(),
            interchangeable: scenario.interchangeable(),
        };
        assert!(forest.plant(start, 0, 0), "nothing was seen before the start");
        forest
    }

    fn len(&self) -> usize {
        self.parents.len()
    }

    /// Remembers a state, unless it is known already.
    fn plant(&mut self, state: &State, parent: usize, choice: usize) -> bool {
        let new = self.seen.insert(state.fingerprint(self.instances, self.interchangeable));
        if new {
            self.parents.push(u32::try_from(parent).expect("a search holds fewer than 2^32 states"));
            self.choices.push(u8::try_from(choice).expect("fewer than 256 steps are enabled at once"));
        }
        new
    }

    /// The steps from the start to the state that was met as number `place`.
    fn steps_to(&self, config: &ModelConfig, mut place: usize) -> Vec<Step> {
        let mut choices = Vec::new();
        while place != 0 {
            choices.push(usize::from(self.choices[place]));
            place = self.parents[place] as usize;
        }
        let mut state = config.scenario.start();
        let mut enabled = Vec::new();
        let take = |choice: &usize| {
            config.enabled(&state, &mut enabled);
            let step = enabled[*choice];
            state = config.take(&state, step).0;
            step
        };
        choices.iter().rev().map(take).collect()
    }
}
