//! The check of what several instances did: see the head of [`chaos`](super). A read is held against every change that covers
//! its key, one by one; what could be summed up for one instance cannot be for several.

use std::collections::{BTreeMap, HashMap};

use super::{Change, History, Life, Moment, Place, Read, Standing};
use crate::history::{Found, Promise, Violation, World};

/// Lines of history that go with a violation.
const EXCERPT_LINES: usize = 40;

/// Everything in a history that no cache which keeps its promises could have done.
pub fn check(world: &World, history: &History) -> Vec<Violation> {
    let judge = Judge::new(world, history);
    let mut violations = out_of_order(history);
    violations.extend(history.reads.iter().filter_map(|read| judge.read(read)));
    violations
}

/// Positions of one epoch against the order in which operations followed one another.
fn out_of_order(history: &History) -> Vec<Violation> {
    let mut epochs: HashMap<u64, Vec<(u64, &Change)>> = HashMap::new();
    for change in &history.changes {
        if let Standing::Logged(place) = change.standing {
            epochs.entry(place.epoch).or_default().push((place.number, change));
        }
    }
    let mut violations = Vec::new();
    let mut broken = |first: &Change, second: &Change, what: &str| {
        violations.push(Violation { promise: Promise::Order, story: format!("{} {what} {}", shown(first), shown(second)) });
    };
    for mut changes in epochs.into_values() {
        changes.sort_by_key(|(number, _)| *number);
        for pair in changes.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            broken(pair[0].1, pair[1].1, "has the position of");
        }
        // From the end: nothing at a lower position may have begun after something at a higher one had ended.
        let mut first_end: Option<&Change> = None;
        for (_, change) in changes.iter().rev() {
            if let Some(later) = first_end.filter(|later| later.ended.ticket < change.began.ticket) {
                broken(change, later, "got a position below that of one that had returned:");
            }
            if first_end.is_none_or(|later| change.ended.ticket < later.ended.ticket) {
                first_end = Some(change);
            }
        }
    }
    violations
}

/// When each epoch was certainly in force.
#[derive(Default)]
struct Epochs(HashMap<u64, (u64, u64)>);

impl Epochs {
    fn of(changes: &[Change]) -> Self {
        let of = |durable: bool| {
            let mut epochs: HashMap<u64, (u64, u64)> = HashMap::new();
            for change in changes.iter().filter(|change| change.durable || !durable) {
                if let Standing::Logged(place) = change.standing {
                    let seen = epochs.entry(place.epoch).or_insert((u64::MAX, 0));
                    // It was in force at a moment before the first of its changes ended, and at one after the last of them began.
                    *seen = (seen.0.min(change.ended.ticket), seen.1.max(change.began.ticket));
                }
            }
            epochs
        };
        // A master that was deposed and does not know it yet takes changes that nobody must have, for as long as that lasts: its
        // epoch is over when the last one that others must have was made.
        let mut epochs = of(false);
        epochs.extend(of(true));
        Epochs(epochs)
    }

    /// Whether one epoch was over when the other began.
    fn precedes(&self, first: u64, second: u64) -> bool {
        let (Some((before, _)), Some((_, after))) = (self.0.get(&first), self.0.get(&second)) else { return false };
        first != second && before < after
    }
}

/// What a life was seen to have applied, by ticket: the highest number of each epoch.
type Applied = Vec<(u64, BTreeMap<u64, u64>)>;

struct Judge<'a> {
    world: &'a World,
    history: &'a History,
    epochs: Epochs,
    /// The changes that cover each subject, and when the log had them at the latest.
    covering: Vec<Vec<(&'a Change, Option<Moment>)>>,
    puts: HashMap<u64, &'a Change>,
    applied: HashMap<Life, Applied>,
}

impl<'a> Judge<'a> {
    fn new(world: &'a World, history: &'a History) -> Self {
        let mut drained: HashMap<Life, Vec<(Moment, Moment)>> = HashMap::new();
        for (life, asked, answered) in &history.drained {
            drained.entry(*life).or_default().push((*asked, *answered));
        }
        drained.values_mut().for_each(|seen| seen.sort_unstable());
        let logged = |change: &Change| match change.standing {
            Standing::Logged(_) => Some(change.ended),
            Standing::Queued => {
                let seen = drained.get(&change.life)?;
                seen.get(seen.partition_point(|(asked, _)| *asked <= change.ended)).map(|(_, answered)| *answered)
            }
            Standing::Failed => None,
        };
        let mut covering: Vec<Vec<_>> = world.subjects().iter().map(|_| Vec::new()).collect();
        for change in history.changes.iter().filter(|change| change.standing != Standing::Failed) {
            let logged = logged(change);
            change.subjects.iter().for_each(|subject| covering[*subject].push((change, logged)));
        }
        let mut seen: Vec<_> = history.applied.clone();
        seen.sort_by_key(|(_, ticket, _)| *ticket);
        let mut applied: HashMap<Life, Applied> = HashMap::new();
        for (life, ticket, place) in seen {
            let of_life = applied.entry(life).or_default();
            let mut places = of_life.last().map(|(_, places)| places.clone()).unwrap_or_default();
            let highest = places.entry(place.epoch).or_default();
            *highest = place.number.max(*highest);
            of_life.push((ticket, places));
        }
        let puts = history.changes.iter().map(|change| (change.began.ticket, change)).collect();
        Judge { world, history, epochs: Epochs::of(&history.changes), covering, puts, applied }
    }

    fn read(&self, read: &Read) -> Option<Violation> {
        if read.found == Found::Nothing {
            return None;
        }
        if let Found::Put(began) = read.found
            && !self.puts.get(&began).is_some_and(|put| put.subjects.contains(&read.subject))
        {
            let story = format!("{} found a value of a put that nobody made there", self.told(read));
            return Some(Violation { promise: Promise::Origin, story });
        }
        let applied = self.applied.get(&read.life).and_then(|seen| {
            let count = seen.partition_point(|(ticket, _)| *ticket < read.began.ticket);
            count.checked_sub(1).map(|at| &seen[at].1)
        });
        let born = self.history.born.get(&read.life).copied();
        // What is older is looked for first: it is the rare case, and cheaper to see than what binds a read.
        let mut missed = self.covering[read.subject].iter().filter(|(change, _)| self.is_older(read, change));
        missed.find_map(|(change, logged)| {
            let promise = self.bound_by(read, change, *logged, applied, born)?;
            let story = format!("{}, older than {}\n{}", self.told(read), shown(change), self.excerpt(read, change));
            Some(Violation { promise, story })
        })
    }

    /// Whether what a read found does not reflect a change.
    fn is_older(&self, read: &Read, change: &Change) -> bool {
        let items = self.world.subjects()[read.subject].items;
        match &read.found {
            Found::Nothing => false,
            Found::Absent { by } => !(change.floor[items[0]]..=*by).any(World::is_absent_at),
            Found::Loaded(counts) => items.iter().zip(counts).any(|(item, count)| *count < change.floor[*item]),
            Found::Put(began) => self.puts.get(began).is_some_and(|put| self.is_put_before(put, change)),
        }
    }

    fn is_put_before(&self, put: &Change, change: &Change) -> bool {
        match (put.standing, change.standing) {
            // It may still be under way.
            (Standing::Failed, _) => false,
            (Standing::Logged(put), Standing::Logged(change)) if put.epoch == change.epoch => put.number < change.number,
            _ => put.ended.ticket < change.began.ticket,
        }
    }

    /// The promise by which a read must reflect a change, if one does.
    fn bound_by(
        &self,
        read: &Read,
        change: &Change,
        logged: Option<Moment>,
        applied: Option<&BTreeMap<u64, u64>>,
        born: Option<Moment>,
    ) -> Option<Promise> {
        let before = |moment: Option<Moment>| moment.is_some_and(|moment| moment.ticket < read.began.ticket);
        let place = match change.standing {
            Standing::Logged(place) => Some(place),
            _ => None,
        };
        let within = |seen: Place| {
            place.is_some_and(|place| {
                if place.epoch == seen.epoch {
                    place.number <= seen.number
                } else {
                    // What begins after a read has ended it cannot reflect, whatever the order of their epochs.
                    change.durable && change.began.ticket < read.ended.ticket && self.epochs.precedes(place.epoch, seen.epoch)
                }
            })
        };
        if change.life == read.life && before(Some(change.ended)) {
            return Some(Promise::G1);
        }
        if read.at_least.is_some_and(within) {
            return Some(Promise::G4);
        }
        if read.claims.is_some_and(|seen| place.is_some_and(|place| place.epoch == seen.epoch && place.number <= seen.number)) {
            return Some(Promise::Claim);
        }
        let is_applied = applied.is_some_and(|seen| seen.iter().any(|(epoch, number)| within(Place { epoch: *epoch, number: *number })));
        let is_of_before = change.durable && born.zip(logged).is_some_and(|(born, logged)| logged.ticket < born.ticket);
        if is_applied || is_of_before {
            return Some(Promise::G2);
        }
        if let (Some(limit), Some(logged)) = (read.strict, logged)
            && change.durable
            && logged.ns + limit < read.began.ns
        {
            return Some(Promise::G3);
        }
        (read.quiet && before(logged)).then_some(Promise::G5)
    }

    /// What happened to a key from the change that a read missed on.
    fn excerpt(&self, read: &Read, missed: &Change) -> String {
        let (from, to) = (missed.began.ticket.saturating_sub(50), read.ended.ticket);
        let mut lines: Vec<(u64, String)> = Vec::new();
        let changes = self.covering[read.subject].iter().filter(|(change, _)| (from..=to).contains(&change.ended.ticket));
        lines.extend(changes.map(|(change, logged)| {
            let logged = logged.map_or(String::new(), |at| format!(", in the log by {}", at.ticket));
            (change.began.ticket, format!("{}{logged}", shown(change)))
        }));
        let is_near = |other: &&Read| other.subject == read.subject && (from..=to).contains(&other.ended.ticket);
        lines.extend(self.history.reads.iter().filter(is_near).map(|other| (other.began.ticket, self.told(other))));
        let seen = self.history.applied.iter().filter(|(life, at, _)| *life == read.life && (from..=to).contains(at));
        lines.extend(seen.map(|(life, at, place)| (*at, format!("[{at}] {} has applied {}", named(*life), written(*place)))));
        let faults = self.history.faults.iter().filter(|(at, _)| (from.saturating_sub(2_000)..=to).contains(&at.ticket));
        lines.extend(faults.map(|(at, what)| (at.ticket, format!("[{}] -- {what} --", at.ticket))));
        lines.sort();
        let skipped = lines.len().saturating_sub(EXCERPT_LINES);
        // Both ends matter most: how it came about, and what was read.
        let half = EXCERPT_LINES / 2;
        let shown = lines.iter().enumerate().filter(|(at, _)| skipped == 0 || *at < half || *at >= lines.len() - half);
        let mut text: Vec<String> = shown.map(|(_, (_, line))| format!("    {line}")).collect();
        if skipped > 0 {
            text.insert(half, format!("    ({skipped} more)"));
        }
        text.join("\n")
    }

    fn told(&self, read: &Read) -> String {
        let Read { life, began, ended, what, found, at_least, claims, strict, .. } = read;
        let key = self.world.subjects()[read.subject].whole_key();
        let mut conditions = String::new();
        for (name, place) in [("at least", at_least), ("claims", claims)] {
            conditions += &place.map_or(String::new(), |place| format!(", {name} {}", written(place)));
        }
        conditions += &strict.map_or(String::new(), |limit| format!(", strict within {} ms", limit / 1_000_000));
        let ms = (ended.ns - began.ns) as f64 / 1e6;
        format!("[{}..{} {ms:.1} ms] {what} of {key} on {}{conditions} returned {found:?}", began.ticket, ended.ticket, named(*life))
    }
}

fn named(life: Life) -> String {
    format!("{}/{}", life.instance, life.number)
}

fn written(place: Place) -> String {
    format!("{:04x}-{}", place.epoch >> 48, place.number)
}

fn shown(change: &Change) -> String {
    let standing = match change.standing {
        Standing::Logged(place) => format!("at position {}", written(place)),
        Standing::Queued => "queued".to_owned(),
        Standing::Failed => "that failed".to_owned(),
    };
    let ms = (change.ended.ns - change.began.ns) as f64 / 1e6;
    format!("[{}..{} {ms:.1} ms] {} on {} {standing}", change.began.ticket, change.ended.ticket, change.what, named(change.life))
}

#[cfg(test)]
mod tests;
