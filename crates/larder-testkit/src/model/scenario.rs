//! What may happen in one search: how many instances, which keys carry the tag, and how often each operation may begin.

use super::state::{At, INSTANCES_MAX, KEYS, Key, LOG_MAX, Names, OPS_MAX, PLANS_MAX, State};

/// An operation, or a stroke of fate, that a scenario may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A read that loads what it does not find.
    Read(Key),
    /// A read that asks for the position of the last receipt.
    ReadAtLeast(Key),
    /// A change of the source under the names, then their invalidation.
    Invalidate(Names),
    /// `update(key, change)`.
    Update(Key),
    /// `put(key, value)`: the value comes from outside and becomes the truth when it is appended.
    Put(Key),
    /// The index of an instance gives up the pair of some name.
    Forget,
    /// The log has dropped what the tail would need next, so the tail takes a snapshot instead.
    FallBehind,
    /// An instance dies and starts again.
    Crash,
    /// The log's server is replaced by one that lacks the end of the log.
    FailOver,
}

impl What {
    fn occupies_a_slot(self) -> bool {
        use What::{Invalidate, Put, Read, ReadAtLeast, Update};
        matches!(self, Read(_) | ReadAtLeast(_) | Invalidate(_) | Update(_) | Put(_))
    }

    fn appends(self) -> bool {
        matches!(self, What::Invalidate(_) | What::Update(_) | What::Put(_))
    }
}

/// One line of a scenario: what may begin, on which instance, how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What may begin.
    pub what: What,
    /// On which instance; none for any.
    pub at: Option<At>,
    /// How often in all.
    pub times: u8,
}

impl Plan {
    /// Once, on any instance.
    pub const fn once(what: What) -> Plan {
        Plan::times(1, what)
    }

    /// So many times, on any instances.
    pub const fn times(times: u8, what: What) -> Plan {
        Plan { what, at: None, times }
    }

    /// The same, but only on this instance.
    #[must_use]
    pub const fn on(self, at: At) -> Plan {
        Plan { at: Some(at), ..self }
    }
}

/// A bounded world for the search to exhaust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    name: &'static str,
    instances: u8,
    tagged: [bool; KEYS],
    backing_tier: bool,
    plan: Vec<Plan>,
    interchangeable: bool,
}

impl Scenario {
    /// One instance with memory and a backing tier, no tags, and this plan.
    ///
    /// # Panics
    ///
    /// If the plan asks for more than a [`State`] has room for: a scenario must be exhausted, never cut short in silence.
    pub fn new(name: &'static str, plan: &[Plan]) -> Scenario {
        let count =
            |counts: fn(What) -> bool| -> usize { plan.iter().filter(|line| counts(line.what)).map(|line| usize::from(line.times)).sum() };
        assert!(plan.len() <= PLANS_MAX, "{name}: a plan has at most {PLANS_MAX} lines");
        assert!(count(What::occupies_a_slot) <= OPS_MAX, "{name}: at most {OPS_MAX} operations");
        assert!(count(What::appends) <= LOG_MAX, "{name}: at most {LOG_MAX} appends");
        Scenario {
            name,
            instances: 1,
            tagged: [false; KEYS],
            backing_tier: true,
            plan: plan.to_vec(),
            // Where nothing is tied to one instance, they are interchangeable, and half or more of the states are
            // mirror images.
            interchangeable: plan.iter().all(|line| line.at.is_none()),
        }
    }

    /// With so many instances.
    ///
    /// # Panics
    ///
    /// If there is no room for so many, or the plan speaks of one that does not exist.
    #[must_use]
    pub fn instances(mut self, instances: u8) -> Scenario {
        assert!((1..=INSTANCES_MAX).contains(&usize::from(instances)), "{}: {instances} instances", self.name);
        assert!(self.plan.iter().all(|line| line.at < Some(instances)), "{}: a plan for nobody", self.name);
        self.instances = instances;
        self
    }

    /// With an entry of `key` that carries the tag.
    #[must_use]
    pub fn tagged(mut self, key: Key) -> Scenario {
        self.tagged[usize::from(key)] = true;
        self
    }

    /// Without a backing tier.
    #[must_use]
    pub fn memory_only(mut self) -> Scenario {
        self.backing_tier = false;
        self
    }

    /// With instances that are told apart even where they are interchangeable: more states, and the same findings.
    #[must_use]
    pub fn told_apart(mut self) -> Scenario {
        self.interchangeable = false;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What may begin.
    pub fn plan(&self) -> &[Plan] {
        &self.plan
    }

    /// How many instances take part.
    pub fn instance_count(&self) -> usize {
        usize::from(self.instances)
    }

    /// Whether a state and its mirror image, with instances exchanged, are one state.
    pub fn interchangeable(&self) -> bool {
        self.interchangeable
    }

    /// Whether any read asks for a position: else there is no need to remember receipts.
    pub fn hands_over_receipts(&self) -> bool {
        self.plan.iter().any(|line| matches!(line.what, What::ReadAtLeast(_)))
    }

    /// Whether there is a tier behind memory.
    pub fn has_backing_tier(&self) -> bool {
        self.backing_tier
    }

    /// The instances that take part.
    pub fn each_instance(&self) -> std::ops::Range<At> {
        0..self.instances
    }

    /// All keys there are.
    pub fn each_key(&self) -> std::ops::Range<Key> {
        0..KEYS as Key
    }

    /// The names that an entry of `key` depends on.
    pub fn names_of(&self, key: Key) -> Names {
        let key_alone = Names::of_key(key);
        if self.tagged[usize::from(key)] { key_alone.with(Names::T) } else { key_alone }
    }

    /// Nothing has happened yet: the source is at its first version, the log and all tiers are empty.
    pub fn start(&self) -> State {
        let mut state = State::default();
        for (left, line) in state.left.iter_mut().zip(&self.plan) {
            *left = line.times;
        }
        state
    }
}
