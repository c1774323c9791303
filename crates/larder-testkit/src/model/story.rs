//! A trace, told in sentences that a reader of the protocol can follow.

use super::mutation::Mutation;
use super::op::{FlightStage, Held, Op, Origin, ReadStage, WriteStage};
use super::promises::{Broken, Promise, Served};
use super::scenario::What;
use super::search::{Astray, Trace, replay};
use super::state::{At, Key, NAMES, Names, Stamp, State, Versions};
use super::steps::{ModelConfig, Step};

/// Tells a trace: one numbered sentence for each step, and then what was broken.
pub fn tell(config: &ModelConfig, trace: &Trace) -> Result<String, Astray> {
    let (states, broken) = replay(config, &trace.steps)?;
    let mut story = String::new();
    for (number, (step, pair)) in trace.steps.iter().zip(states.windows(2)).enumerate() {
        let sentence = Telling { config, before: &pair[0], after: &pair[1] }.step(*step);
        story.push_str(&format!("{:>3}. {sentence}.\n", number + 1));
    }
    if let Some(broken) = broken {
        story.push_str(&format!("     {}\n", verdict(config, &broken)));
    }
    Ok(story)
}

fn verdict(config: &ModelConfig, broken: &Broken) -> String {
    let names = config.scenario.names_of(broken.key);
    let (who, key) = (instance(broken.at), key_name(broken.key));
    let (got, need) = (versions(names, broken.data), versions(names, broken.need));
    let served = match broken.served {
        Served::Answer => format!("the read of {key} on {who} answered {got}"),
        Served::FromMemory => format!("all is quiet, and {who}'s memory holds {got} of {key} as fresh"),
        Served::FromTier => format!("all is quiet, and {who} would take {got} of {key} from the backing tier"),
    };
    let because = match broken.promise {
        Promise::G1 => format!("a write that had returned on {who} before it began had brought {need}"),
        Promise::G2 => format!("a position that {who} had applied before it began had brought {need}"),
        Promise::G4 => format!("the position that it asked for had brought {need}"),
        Promise::G5 => format!("the last change announced is {need}"),
    };
    format!("{} is broken: {served}, but {because}.", broken.promise)
}

/// One step with the states on either side of it.
struct Telling<'a> {
    config: &'a ModelConfig,
    before: &'a State,
    after: &'a State,
}

impl Telling<'_> {
    fn step(&self, step: Step) -> String {
        match step {
            Step::Begin { line, at } => self.begin(self.config.scenario.plan()[line].what, at),
            Step::Forget { at, name, .. } => format!("{}'s index gives up the pair of {}", instance(at), name_of(name)),
            Step::FailOver { lost, .. } => format!(
                "the log fails over to another server, which lacks the last {lost} position(s): its head is now {}",
                self.after.log.head
            ),
            Step::Advance { slot } => self.advance(slot),
            Step::Tail { at } => self.tail(at),
            Step::Reconnect { at } => self.reconnect(at),
        }
    }

    fn begin(&self, what: What, at: At) -> String {
        let who = instance(at);
        match what {
            What::Read(key) => format!("{who} begins to read {}: {}", key_name(key), self.first_look(at, key)),
            What::ReadAtLeast(key) => {
                let asked = self.before.receipt.map_or_else(String::new, |receipt| stamp(receipt.stamp));
                format!("{who} begins to read {} at position {asked}: {}", key_name(key), self.first_look(at, key))
            }
            What::Invalidate(names) => {
                let now = versions(names, self.after.source);
                format!("a caller of {who} changes the source under {}: {now}", list(names))
            }
            What::Update(key) => match self.begun() {
                Some(Op::Write { stage: WriteStage::Marked(since), .. }) => {
                    format!("{who} begins to update {}: s0 := latest = {}", key_name(key), stamp(since))
                }
                _ => format!("{who} begins to update {}: it changes the source, now {}", key_name(key), self.source(key)),
            },
            What::Put(key) => match self.begun() {
                Some(Op::Write { stage: WriteStage::Appended { receipt, .. }, .. }) => {
                    format!("{who} puts {} of {}: appended at {}", self.source(key), key_name(key), stamp(receipt.stamp))
                }
                _ => format!("a caller of {who} writes {} of {} to the source, to put it next", self.source(key), key_name(key)),
            },
            What::FallBehind => format!("{who}'s tail takes a snapshot of the log: applied = {}", self.applied(at)),
            What::Crash => format!("{who} dies and starts again from a snapshot: applied = {}{}", self.applied(at), self.new_epoch()),
            What::Forget | What::FailOver => unreachable!("these are steps of their own"),
        }
    }

    /// What a read met when it began.
    fn first_look(&self, at: At, key: Key) -> String {
        let held = self.before.instances[usize::from(at)].memory[usize::from(key)];
        let found = held.map_or("nothing in memory".to_owned(), |record| {
            format!("memory holds {} stamped {}", self.data(key, record.data), stamp(record.stamp))
        });
        let latest = stamp(self.before.instances[usize::from(at)].latest());
        match self.begun() {
            None if self.config.lacks(Mutation::MemoryUnchecked) => format!("{found}; it answers that unchecked"),
            None => format!("{found}, and latest is {latest}: it answers that"),
            Some(Op::Read { stage: ReadStage::Held(_), .. }) => {
                format!("{found}, but latest is {latest}: the names must be checked")
            }
            Some(Op::Flight { shared: false, .. }) => {
                format!("applied is only {}; it goes to the source alone", self.applied(at))
            }
            Some(op) => format!("{found}; {}", waits(&op)),
        }
    }

    fn advance(&self, slot: usize) -> String {
        let (at, op) = self.before.ops[slot].expect("the trace has been replayed: the slot was in use");
        let next = self.after.ops[slot].map(|(_, op)| op);
        let who = instance(at);
        match op {
            Op::Read { key, stage, .. } => format!("{who}'s read of {} {}", key_name(key), self.read(key, stage, next)),
            Op::Flight { key, stage, .. } => {
                format!("{who}'s load of {} {}", key_name(key), self.flight(at, key, stage, next))
            }
            Op::Write { names, value_of, stage } => self.write(at, names, value_of, stage, next),
            Op::Store { key, record, memory_first } => format!(
                "{who} stores {} of {} stamped {} in {}",
                self.data(key, record.data),
                key_name(key),
                stamp(record.stamp),
                if memory_first { "memory" } else { "the backing tier" }
            ),
        }
    }

    fn read(&self, key: Key, stage: ReadStage, next: Option<Op>) -> String {
        match (stage, next) {
            (ReadStage::Clean(held, Some(mark)), None) => {
                format!("{} and answers {}", re_stamps(held, mark), self.data(key, held.record.data))
            }
            (_, Some(Op::Read { stage: ReadStage::Measured(_, mark), .. })) => format!("notes a := {}", stamp(mark)),
            (ReadStage::Clean(..), Some(Op::Read { stage: ReadStage::Clean(_, Some(mark)), .. })) => {
                format!("notes a := applied = {} only now", stamp(mark))
            }
            (_, Some(Op::Read { stage: ReadStage::Clean(held, _), .. })) => {
                format!("checks the names: none was invalidated after {}", stamp(held.record.stamp))
            }
            (_, Some(op)) => format!("checks the names: stale; {}", waits(&op)),
            (_, None) => "answers".to_owned(),
        }
    }

    fn flight(&self, at: At, key: Key, stage: FlightStage, next: Option<Op>) -> String {
        if let FlightStage::Ready(record, origin) = stage {
            let from = if origin == Origin::Tier { "the backing tier" } else { "the source" };
            let (data, stamped) = (self.data(key, record.data), stamp(record.stamp));
            return format!("puts {data} from {from} into memory stamped {stamped} and answers it{}", self.joiners(at, key));
        }
        let Some(Op::Flight { stage: next, .. }) = next else {
            return "ends".to_owned();
        };
        match next {
            FlightStage::BeforeTier => "begins".to_owned(),
            FlightStage::AskTier(mark) => format!("notes h := applied = {}", stamp(mark)),
            FlightStage::TierFound(_, record) => {
                format!("finds {} stamped {} in the backing tier", self.data(key, record.data), stamp(record.stamp))
            }
            FlightStage::TierClean(_) => "checks the record's names: fresh".to_owned(),
            FlightStage::BeforeSource if matches!(stage, FlightStage::TierFound(..)) => {
                "checks the record's names: stale, so a miss".to_owned()
            }
            FlightStage::BeforeSource => "finds nothing of this epoch in the backing tier".to_owned(),
            FlightStage::AskSource(mark) => format!("takes its stamp: s := latest = {}", stamp(mark)),
            FlightStage::Unstamped(data) => format!("reads the source: {}", self.data(key, data)),
            FlightStage::Ready(record, Origin::Source) if matches!(stage, FlightStage::Unstamped(_)) => {
                format!("takes its stamp only now: s := latest = {}", stamp(record.stamp))
            }
            FlightStage::Ready(record, Origin::Source) => format!("reads the source: {}", self.data(key, record.data)),
            FlightStage::Ready(record, Origin::Tier) => {
                format!("finds the record clean, and stamps it {}", stamp(record.stamp))
            }
        }
    }

    /// What became of the reads that had joined a load which is over.
    fn joiners(&self, at: At, key: Key) -> String {
        let mut told = String::new();
        for (before, after) in self.before.ops.iter().zip(&self.after.ops) {
            let Some((place, Op::Read { key: theirs, stage: ReadStage::Joined(arrival), .. })) = before else { continue };
            if (*place, *theirs) != (at, key) || before == after {
                continue;
            }
            let end = if after.is_some() { "loads again" } else { "answers it too" };
            told.push_str(&format!("; the joiner that arrived at latest {} {end}", stamp(*arrival)));
        }
        told
    }

    fn write(&self, at: At, names: Names, value_of: Option<Key>, stage: WriteStage, next: Option<Op>) -> String {
        let who = instance(at);
        let what = match value_of {
            None => format!("{who}'s invalidation of {}", list(names)),
            Some(key) => format!("{who}'s write of {}", key_name(key)),
        };
        match (stage, next) {
            (WriteStage::Marked(_), _) => {
                format!("{what} changes the source: {}", versions(names, self.after.source))
            }
            (WriteStage::Unmarked(_), Some(Op::Write { stage: WriteStage::Changed { since: Some(late), .. }, .. })) => {
                format!("{what} notes s0 := latest = {} only now", stamp(late))
            }
            (WriteStage::Changed { since, .. }, Some(Op::Write { stage: WriteStage::Appended { receipt, store }, .. })) => {
                let verdict = match (since, store) {
                    (Some(_), None) => "; someone wrote in between, so its value will not be stored",
                    (Some(_), Some(_)) => "; it may store its value",
                    (None, _) => "",
                };
                format!("{what} is appended at {}{verdict}", stamp(receipt.stamp))
            }
            (WriteStage::Appended { receipt, .. }, _) => {
                let indexed = self.before.instances[usize::from(at)].index != self.after.instances[usize::from(at)].index;
                let how = if indexed { "enters the own index and" } else { "finds nothing to enter in the own index and" };
                format!("{what} at {} {how} returns", stamp(receipt.stamp))
            }
            _ => format!("{what} goes on"),
        }
    }

    fn tail(&self, at: At) -> String {
        let (before, after) = (&self.before.instances[usize::from(at)], &self.after.instances[usize::from(at)]);
        let who = instance(at);
        if before.applied != after.applied {
            return format!("{who}'s tail raises applied to {}", self.applied(at));
        }
        let applied_first = self.config.lacks(Mutation::AppliedBeforeIndex);
        let position = if applied_first { after.applied } else { after.applied + 1 };
        let names = self.after.log.entry(position).map_or_else(|| "nothing".to_owned(), |entry| list(entry.names));
        format!("{who}'s tail puts position {position} ({names}) into the index")
    }

    fn reconnect(&self, at: At) -> String {
        let (before, after) = (&self.before.instances[usize::from(at)], &self.after.instances[usize::from(at)]);
        let who = instance(at);
        if before.epoch == after.epoch {
            return format!("{who} connects to the new server and goes on as before, applied = {}", self.applied(at));
        }
        if self.before.log.epoch == self.after.log.epoch {
            return format!("{who} connects to the new server and adopts its epoch, applied = {}", self.applied(at));
        }
        format!("{who} connects to the new server{}, applied = {}", self.new_epoch(), self.applied(at))
    }

    fn new_epoch(&self) -> String {
        let begun = self.before.log.epoch != self.after.log.epoch;
        if begun { format!(" and begins epoch {}", self.after.log.epoch) } else { String::new() }
    }

    /// The operation that this step began, if it has not ended in the same step.
    fn begun(&self) -> Option<Op> {
        let mut places = self.before.ops.iter().zip(&self.after.ops);
        places.find_map(|(before, after)| before.is_none().then_some(*after).flatten()).map(|(_, op)| op)
    }

    fn applied(&self, at: At) -> String {
        stamp(self.after.instances[usize::from(at)].applied())
    }

    fn source(&self, key: Key) -> String {
        self.data(key, self.after.source)
    }

    fn data(&self, key: Key, data: Versions) -> String {
        versions(self.config.scenario.names_of(key), data)
    }
}

fn re_stamps(held: Held, mark: Stamp) -> String {
    let place = if held.in_place { "its entry" } else { "an entry that has been replaced meanwhile" };
    format!("re-stamps {place} from {} with a = {}", stamp(held.record.stamp), stamp(mark))
}

fn waits(op: &Op) -> String {
    match op {
        Op::Read { stage: ReadStage::Joined(arrival), .. } => {
            format!("it joins the load in flight, having arrived at latest {}", stamp(*arrival))
        }
        _ => "it leads a load".to_owned(),
    }
}

fn instance(at: At) -> char {
    char::from(b'A' + at)
}

fn key_name(key: Key) -> &'static str {
    name_of(usize::from(key))
}

fn name_of(name: usize) -> &'static str {
    const NAMES_IN_ORDER: [&str; NAMES] = ["K", "L", "tag T"];
    NAMES_IN_ORDER[name]
}

fn list(names: Names) -> String {
    names.each().map(name_of).collect::<Vec<_>>().join(" and ")
}

/// A position; with its epoch, unless that is the first.
fn stamp(stamp: Stamp) -> String {
    match stamp.epoch {
        0 => stamp.position.to_string(),
        epoch => format!("{} of epoch {epoch}", stamp.position),
    }
}

/// What stands for data: the version of each name that it depends on.
fn versions(names: Names, versions: Versions) -> String {
    let single = names.each().count() == 1;
    let one = |name: usize| match single {
        true => format!("version {}", versions.0[name]),
        false => format!("{} version {}", name_of(name), versions.0[name]),
    };
    names.each().map(one).collect::<Vec<_>>().join(" with ")
}
