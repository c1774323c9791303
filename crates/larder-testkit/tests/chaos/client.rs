//! One client of one instance: which operations it does, in the order that its seed says, and what it writes down of them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder::{Answer, ErrorKind, Item, Lookup, Names, Namespace, Position, Receipt};
use larder_testkit::chaos::aim::{self, Aim, Name};
use larder_testkit::chaos::report::Tally;
use larder_testkit::chaos::{Change, History, Moment, Place, Read, Standing};
use larder_testkit::history::{Found, Selection, World};
use larder_testkit::wait;

use super::OPERATION_MAX;
use super::fleet::{INSTANCES, Instances, MAX_STALENESS, NAMESPACES, Running, Seen, found, place};

/// A load under way.
type Loading = Pin<Box<dyn Future<Output = Result<Item<Seen>, std::io::Error>> + Send>>;

/// Some subjects of one namespace, and their keys.
struct Chosen {
    namespace: &'static str,
    numbers: Vec<usize>,
    keys: Vec<String>,
    space: Namespace<Seen>,
}

/// See the head of this file.
pub(super) struct Client {
    fleet: Arc<Instances>,
    instance: usize,
    running: Arc<Running>,
    rng: Rng,
    pause: Duration,
    history: History,
    tally: Tally,
    violations: Vec<String>,
}

impl Client {
    pub(super) fn new(fleet: Arc<Instances>, instance: usize, rng: Rng, pause: Duration) -> Self {
        let running = fleet.running(instance);
        Client { fleet, instance, running, rng, pause, history: History::default(), tally: Tally::default(), violations: Vec::new() }
    }

    pub(super) async fn work(mut self) -> (History, Tally, Vec<String>) {
        use std::sync::atomic::Ordering;
        while !self.fleet.over.load(Ordering::Acquire) {
            // It may have been killed meanwhile.
            self.running = self.fleet.running(self.instance);
            match self.rng.u32(0..1_000) {
                0..160 => self.get().await,
                160..280 => self.lookup().await,
                280..520 => self.get_or_load().await,
                520..560 => self.get_or_find().await,
                560..620 => self.get_many().await,
                620..660 => self.get_many_or_load().await,
                660..720 => self.read_at_a_position().await,
                720..770 => self.reach().await,
                770..775 => self.ask_everywhere().await,
                775..800 => self.peek().await,
                800..880 => self.invalidate().await,
                880..920 => self.put().await,
                920..930 => self.put_many().await,
                930..970 => self.update().await,
                970..990 => self.remove().await,
                _ => self.touch().await,
            }
            aim::rest(&mut self.rng, self.pause).await;
        }
        (self.history, self.tally, self.violations)
    }

    // -- what every operation does

    /// Waits for an operation no longer than any may take, and counts it. Of what fails, it must be one of these kinds.
    async fn done<T>(
        &mut self,
        kind: &'static str,
        may_fail: &[ErrorKind],
        operation: impl Future<Output = larder::Result<T>>,
    ) -> Option<T> {
        let began = Instant::now();
        let outcome = tokio::time::timeout(OPERATION_MAX, operation).await;
        self.tally.count(kind, began.elapsed(), !matches!(outcome, Ok(Ok(_))));
        match outcome {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if may_fail.contains(&error.kind()) => {}
            Ok(Err(error)) => self.complain(kind, &format!("failed though it need not: {error:?}")),
            Err(_) => self.complain(kind, &format!("hung for {OPERATION_MAX:?}")),
        }
        None
    }

    fn complain(&mut self, kind: &str, what: &str) {
        let (now, life) = (self.fleet.now(), self.running.life);
        self.violations.push(format!("Liveness: [{}] {kind} on {}/{} {what}", now.ticket, life.instance, life.number));
    }

    /// What a read of a namespace may fail with: nothing, unless it is strict.
    fn of_reads(&self, namespace: &str) -> &'static [ErrorKind] {
        if Instances::strict(self.instance, namespace).is_some() { &[ErrorKind::Unverified] } else { &[] }
    }

    fn one(&mut self) -> (usize, String, Chosen) {
        let chosen = self.choose(1);
        (chosen.numbers[0], chosen.keys[0].clone(), chosen)
    }

    fn choose(&mut self, most: usize) -> Chosen {
        let (namespace, numbers) = aim::choose(&self.fleet.world, &mut self.rng, &NAMESPACES, most);
        let keys = numbers.iter().map(|number| self.fleet.world.subjects()[*number].key()).collect();
        Chosen { namespace, numbers, keys, space: self.running.spaces[namespace].clone() }
    }

    // -- reads

    fn note(&mut self, began: Moment, subject: usize, found: Found, places: [Option<Position>; 2], what: &'static str) {
        let strict = Instances::strict(self.instance, self.fleet.world.subjects()[subject].namespace);
        let [at_least, claims] = places.map(|position| position.map(place));
        let (life, ended) = (self.running.life, self.fleet.now());
        self.history.reads.push(Read { life, began, ended, subject, at_least, claims, strict, quiet: false, found, what });
    }

    /// "There is no such thing", as of now.
    fn absent(&self, subject: usize) -> Found {
        Found::Absent { by: self.fleet.world.counter(self.fleet.world.subjects()[subject].items[0]) }
    }

    /// A loader: reads the source item by item, and dawdles on the way and before it returns.
    fn loader(&mut self, subject: usize) -> impl FnOnce() -> Loading + Send + 'static {
        let world = self.fleet.world.clone();
        let slow = match self.rng.u32(0..20) {
            0 => 40_000,
            1..4 => 4_000,
            4..8 => 1_000,
            _ => 0,
        };
        let (between, after) = (Duration::from_micros(self.rng.u64(0..=slow)), Duration::from_micros(self.rng.u64(0..=slow)));
        let (fails, padding) = (self.rng.u32(0..40) == 0, aim::padding(&mut self.rng));
        move || {
            Box::pin(async move {
                let mut counts = Vec::new();
                for item in world.subjects()[subject].items {
                    counts.push(world.counter(item));
                    wait::dawdle(between).await;
                }
                wait::dawdle(after).await;
                if fails { Err(std::io::Error::other("on purpose")) } else { Ok(Item::new(Seen { put: None, counts, padding })) }
            })
        }
    }

    async fn get(&mut self) {
        let (subject, key, chosen) = self.one();
        let began = self.fleet.now();
        if let Some(got) = self.done("get", self.of_reads(chosen.namespace), chosen.space.get(key)).await {
            self.note(began, subject, got.as_deref().map_or(Found::Nothing, found), [None; 2], "get");
        }
    }

    async fn lookup(&mut self) {
        let (subject, key, chosen) = self.one();
        let began = self.fleet.now();
        let looked = self.done("lookup", self.of_reads(chosen.namespace), chosen.space.lookup(key)).await;
        let (found, claims) = match looked {
            Some(Lookup::Hit(answer) | Lookup::Stale(answer)) => (found(&answer.value), answer.position),
            Some(Lookup::NotFound) => (self.absent(subject), None),
            Some(Lookup::Miss(_)) | None => return,
        };
        self.note(began, subject, found, [None, claims], "lookup");
    }

    async fn get_or_load(&mut self) {
        let (subject, key, chosen) = self.one();
        let loader = self.loader(subject);
        let began = self.fleet.now();
        let may_fail = [ErrorKind::Load, ErrorKind::NotFound];
        let absent = self.fleet.world.clone();
        let load = async {
            match chosen.space.lookup_or_load(key, loader).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                loaded => loaded.map(Some),
            }
        };
        match self.done("get_or_load", &may_fail, load).await {
            Some(Some(answer)) => {
                let (claims, what) = (answer.position, origin(&answer));
                self.note(began, subject, found(&answer.value), [None, claims], what);
            }
            Some(None) => {
                let by = absent.counter(absent.subjects()[subject].items[0]);
                self.note(began, subject, Found::Absent { by }, [None; 2], "get_or_load");
            }
            None => {}
        }
    }

    async fn get_or_find(&mut self) {
        let numbers = self.fleet.world.select(Selection { namespace: Some("aged"), ..Selection::default() });
        let subject = *self.rng.choice(&numbers).expect("there are some");
        let (key, space) = (self.fleet.world.subjects()[subject].key(), self.running.spaces["aged"].clone());
        let loader = self.loader(subject);
        let load = || async { loader().await.map(|item| Some(item).filter(|item| !World::is_absent_at(item.value().counts[0]))) };
        let began = self.fleet.now();
        if let Some(value) = self.done("get_or_find", &[ErrorKind::Load], space.get_or_find(key, load)).await {
            let found = value.as_deref().map_or_else(|| self.absent(subject), found);
            self.note(began, subject, found, [None; 2], "get_or_find");
        }
    }

    async fn get_many(&mut self) {
        let chosen = self.choose(5);
        let began = self.fleet.now();
        let got = self.done("get_many", self.of_reads(chosen.namespace), chosen.space.get_many(chosen.keys.clone())).await;
        for (subject, value) in chosen.numbers.into_iter().zip(got.unwrap_or_default()) {
            self.note(began, subject, value.as_deref().map_or(Found::Nothing, found), [None; 2], "get_many");
        }
    }

    async fn get_many_or_load(&mut self) {
        let chosen = self.choose(4);
        let numbers: HashMap<String, usize> = chosen.keys.iter().cloned().zip(chosen.numbers.iter().copied()).collect();
        let (world, slow) = (self.fleet.world.clone(), Duration::from_micros(self.rng.u64(0..2_000)));
        let load = move |missing: Vec<String>| {
            let (world, numbers) = (world.clone(), numbers.clone());
            async move {
                let mut items = Vec::new();
                for key in missing {
                    let counts = world.subjects()[numbers[&key]].of(&world.counters());
                    wait::dawdle(slow).await;
                    items.push((key, Item::new(Seen { put: None, counts, padding: String::new() })));
                }
                Ok::<_, std::io::Error>(items)
            }
        };
        let began = self.fleet.now();
        // It may join a load that fails on purpose.
        let got = self.done("get_many_or_load", &[ErrorKind::Load], chosen.space.get_many_or_load(chosen.keys.clone(), load)).await;
        for (subject, value) in chosen.numbers.into_iter().zip(got.unwrap_or_default()) {
            let found = value.as_deref().map_or_else(|| self.absent(subject), found);
            self.note(began, subject, found, [None; 2], "get_many_or_load");
        }
    }

    fn board(&self) -> Option<Position> {
        *self.fleet.board.lock().expect("nobody panics with it")
    }

    async fn read_at_a_position(&mut self) {
        let Some(position) = self.board() else { return };
        let (subject, key, chosen) = self.one();
        let reading = chosen.space.at_least(position).within(Duration::from_millis(self.rng.u64(1..400)));
        let loader = self.loader(subject);
        let began = self.fleet.now();
        let places = [Some(position), None];
        if self.rng.bool() {
            let may_fail = [ErrorKind::NotReached, ErrorKind::UnknownPosition, ErrorKind::Unverified];
            if let Some(got) = self.done("at_least.get", &may_fail, reading.get(key)).await {
                self.saw(position);
                self.note(began, subject, got.as_deref().map_or(Found::Nothing, found), places, "at_least.get");
            }
        } else {
            let may_fail = [ErrorKind::Load, ErrorKind::NotFound];
            if let Some(value) = self.done("at_least.get_or_load", &may_fail, reading.get_or_load(key, loader)).await {
                self.note(began, subject, found(&value), places, "at_least.get_or_load");
            }
        }
    }

    /// This instance has applied a position.
    fn saw(&mut self, position: Position) {
        let ticket = self.fleet.now().ticket;
        self.history.applied.push((self.running.life, ticket, place(position)));
    }

    async fn reach(&mut self) {
        let Some(position) = self.board() else { return };
        let running = self.running.clone();
        let may_fail = [ErrorKind::NotReached, ErrorKind::UnknownPosition];
        let reaching = running.larder.reach(position, Duration::from_millis(self.rng.u64(1..400)));
        if self.done("reach", &may_fail, reaching).await.is_some() {
            self.saw(position);
        }
    }

    /// Invalidates something, and asks whether all have applied it. If all that live now are among those that have, each of them
    /// was seen to.
    ///
    /// Who has not said anything since the list was begun anew is not in it; and one that was killed may be, and may have applied the
    /// change, so that the number of those listed tells nothing. All are in it who were heard within so short a time that the list, which
    /// is older than `MAX_STALENESS` when it is believed, was there by then.
    async fn ask_everywhere(&mut self) {
        const SHORT: Duration = MAX_STALENESS.checked_div(4).expect("four is not zero");
        let running = self.running.clone();
        let fleet = self.fleet.clone();
        let all = || (0..INSTANCES).map(|instance| fleet.running(instance)).collect::<Vec<_>>();
        let lives = || all().iter().map(|one| one.life).collect::<Vec<_>>();
        let (before, began) = (lives(), Instant::now());
        let is_heard = |one: &Arc<Running>| one.larder.stats().log.shared.is_some_and(|shared| shared.unheard_for < SHORT);
        let all_are_heard = all().iter().all(is_heard) && before.contains(&running.life);
        let Ok(receipt) = running.larder.invalidate(Names::new().tag("nobody has it")).await else { return };
        if receipt.is_queued() {
            return;
        }
        let may_fail = [ErrorKind::NotReached, ErrorKind::LogUnavailable, ErrorKind::UnknownPosition, ErrorKind::Tier];
        let asking = running.larder.applied_everywhere(&receipt, Duration::from_millis(500));
        let Some(spread) = self.done("applied_everywhere", &may_fail, asking).await else { return };
        let are_listed = all_are_heard && began.elapsed() < SHORT && lives() == before;
        if spread.is_everywhere() && are_listed {
            if spread.instances < INSTANCES {
                self.violations.push(format!("all have applied it, but one that was heard is not among them: {spread:?}"));
            }
            let (ticket, place) = (self.fleet.now().ticket, place(receipt.position()));
            self.history.applied.extend(before.into_iter().map(|life| (life, ticket, place)));
            self.tally.spreads += 1;
        }
    }

    async fn peek(&mut self) {
        let (subject, key, chosen) = self.one();
        let began = self.fleet.now();
        if let Some(Some(answer)) = self.done("peek", &[ErrorKind::Tier, ErrorKind::Unverified], chosen.space.peek(key)).await {
            self.note(began, subject, found(&answer.value), [None, answer.position], "peek");
        }
    }

    async fn touch(&mut self) {
        let (_, key, chosen) = self.one();
        // Whether there was anything to touch is no promise; that it revives nothing is for the reads to show.
        self.done("touch", &[ErrorKind::Tier, ErrorKind::Unverified, ErrorKind::Overloaded], chosen.space.touch(key, None)).await;
    }

    // -- changes

    fn wrote(
        &mut self,
        began: Moment,
        receipt: Option<&Receipt>,
        is_strict: bool,
        (subjects, floor): (Vec<usize>, Vec<u64>),
        what: String,
    ) {
        let standing = match receipt {
            None => Standing::Failed,
            Some(receipt) if receipt.is_queued() => Standing::Queued,
            Some(receipt) => Standing::Logged(place(receipt.position())),
        };
        let (life, ended, durable) = (self.running.life, self.fleet.now(), self.fleet.is_durable(is_strict));
        self.history.changes.push(Change { life, began, ended, standing, durable, subjects, floor, what });
        if let (Standing::Logged(Place { .. }), Some(receipt)) = (standing, receipt) {
            *self.fleet.board.lock().expect("nobody panics with it") = Some(receipt.position());
        }
    }

    fn change_own(&self, subject: usize) {
        self.fleet.world.change(self.fleet.world.subjects()[subject].items[0]);
    }

    async fn invalidate(&mut self) {
        let world = self.fleet.world.clone();
        let Aim { name, subjects, item, what } = Aim::take(&world, &mut self.rng);
        let names = match name {
            Name::Key(key) => Names::new().key(key),
            Name::Tag(tag) => Names::new().tag(tag),
            Name::Pattern(pattern) => Names::new().pattern(pattern),
            Name::Namespace(namespace) => Names::new().namespace(namespace),
            Name::Everything => Names::new().everything(),
        };
        world.change(item);
        let (floor, began) = (world.counters(), self.fleet.now());
        let running = self.running.clone();
        let receipt = self.done("invalidate", &[ErrorKind::LogUnavailable], running.larder.invalidate(names)).await;
        if receipt.is_some() {
            self.wrote(began, receipt.as_ref(), Instances::is_strict(self.instance), (subjects, floor), what);
        }
    }

    async fn put(&mut self) {
        let (subject, key, chosen) = self.one();
        self.change_own(subject);
        let (floor, padding, began) = (self.fleet.world.counters(), aim::padding(&mut self.rng), self.fleet.now());
        let what = format!("put of {}:{key}", chosen.namespace);
        let seen = Seen { put: Some(began.ticket), counts: Vec::new(), padding };
        let receipt = self.done("put", &OF_WRITES, chosen.space.put(key, seen)).await;
        self.wrote(began, receipt.as_ref(), self.is_strict(&chosen), (vec![subject], floor), what);
    }

    async fn put_many(&mut self) {
        let chosen = self.choose(4);
        chosen.numbers.iter().for_each(|subject| self.change_own(*subject));
        let (floor, padding, began) = (self.fleet.world.counters(), aim::padding(&mut self.rng), self.fleet.now());
        let what = format!("put_many of {:?} in {}", chosen.keys, chosen.namespace);
        let items = chosen.keys.iter().map(|key| (key, Seen { put: Some(began.ticket), counts: Vec::new(), padding: padding.clone() }));
        let receipt = self.done("put_many", &OF_WRITES, chosen.space.put_many(items.collect::<Vec<_>>())).await;
        let is_strict = self.is_strict(&chosen);
        self.wrote(began, receipt.as_ref(), is_strict, (chosen.numbers, floor), what);
    }

    fn is_strict(&self, chosen: &Chosen) -> bool {
        Instances::strict(self.instance, chosen.namespace).is_some()
    }

    async fn update(&mut self) {
        let (subject, key, chosen) = self.one();
        let (world, fails, padding) = (self.fleet.world.clone(), self.rng.u32(0..40) == 0, aim::padding(&mut self.rng));
        let slow = if self.rng.u32(0..4) == 0 { 3_000 } else { 0 };
        let times = [Duration::from_micros(self.rng.u64(0..=slow)), Duration::from_micros(self.rng.u64(0..=slow))];
        let floor = Arc::new(OnceLock::new());
        let (changed, what) = (floor.clone(), format!("update of {}:{key}", chosen.namespace));
        let change = move || async move {
            wait::dawdle(times[0]).await;
            let subject = &world.subjects()[subject];
            world.change(subject.items[0]);
            let counts = subject.of(changed.get_or_init(|| world.counters()));
            wait::dawdle(times[1]).await;
            if fails { Err(std::io::Error::other("on purpose")) } else { Ok(Seen { put: None, counts, padding }) }
        };
        let began = self.fleet.now();
        let may_fail = [OF_WRITES[0], OF_WRITES[1], OF_WRITES[2], ErrorKind::Load];
        if let Some(updated) = self.done("update", &may_fail, chosen.space.update(key, change)).await {
            let floor = floor.get().expect("the change has run").clone();
            self.wrote(began, Some(&updated.receipt), self.is_strict(&chosen), (vec![subject], floor), what);
        }
    }

    async fn remove(&mut self) {
        let chosen = self.choose(2);
        chosen.numbers.iter().for_each(|subject| self.change_own(*subject));
        let (floor, began) = (self.fleet.world.counters(), self.fleet.now());
        let what = format!("removal of {:?} in {}", chosen.keys, chosen.namespace);
        if let Some(receipt) = self.done("remove", &OF_WRITES, chosen.space.remove_many(chosen.keys.clone())).await {
            let is_strict = self.is_strict(&chosen);
            self.wrote(began, Some(&receipt), is_strict, (chosen.numbers, floor), what);
        }
    }
}

/// What a change may fail with while Redis does.
const OF_WRITES: [ErrorKind; 3] = [ErrorKind::LogUnavailable, ErrorKind::Tier, ErrorKind::Overloaded];

fn origin(answer: &Answer<Seen>) -> &'static str {
    use larder::{Freshness, Source};
    match (answer.freshness, answer.source) {
        (Freshness::Stale, _) => "read past its time",
        (Freshness::Unverified, _) => "unverified read from memory",
        (_, Source::Memory) => "read from memory",
        (_, Source::Backing) => "read from the backing tier",
        _ => "read from a loader",
    }
}
