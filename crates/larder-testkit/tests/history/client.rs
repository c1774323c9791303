//! One client: which operations it does, in the order that its seed says, and what it writes down of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use larder::{ErrorKind, Item, Lookup, Names, Namespace, Position, Receipt};
use larder_testkit::history::{Change, Found, History, Read, Selection, World};

use super::{Cache, Loading, NAMESPACES, Seen, Stage, found, origin, yield_turns};

/// See the head of this file.
pub(super) struct Client {
    pub(super) stage: Arc<Stage>,
    pub(super) cache: Arc<Cache>,
    pub(super) rng: Rng,
    pub(super) history: History,
}

impl Client {
    pub(super) async fn work(mut self, operations: usize) -> History {
        for _ in 0..operations {
            match self.rng.u32(0..100) {
                0..12 => self.get().await,
                12..20 => self.lookup().await,
                20..42 => self.get_or_load().await,
                42..48 => self.get_or_find().await,
                48..54 => self.get_many_or_load().await,
                54..58 => self.get_many().await,
                58..66 => self.read_at_a_position().await,
                66..69 => self.peek().await,
                69..76 => self.invalidate().await,
                76..82 => self.put().await,
                82..84 => self.put_many().await,
                84..89 => self.update().await,
                89..93 => self.stage.clock.advance(Duration::from_millis(self.rng.u64(1..12))),
                93..95 => self.remove().await,
                95..97 => self.touch().await,
                _ => yield_turns(20).await,
            }
            yield_turns(self.rng.u32(0..3)).await;
        }
        self.history
    }

    fn subject(&mut self) -> (usize, String, Namespace<Seen>) {
        let number = self.rng.usize(0..self.stage.world.subjects().len());
        let subject = &self.stage.world.subjects()[number];
        (number, subject.key(), self.cache.spaces[subject.namespace].clone())
    }

    /// Several subjects of one namespace.
    fn subjects(&mut self) -> (Vec<usize>, Vec<String>, Namespace<Seen>) {
        let namespace = *self.rng.choice(&NAMESPACES).expect("there are some");
        let mut numbers = self.stage.world.select(Selection { namespace: Some(namespace), ..Selection::default() });
        self.rng.shuffle(&mut numbers);
        numbers.truncate(self.rng.usize(1..=4));
        let keys = numbers.iter().map(|number| self.stage.world.subjects()[*number].key()).collect();
        (numbers, keys, self.cache.spaces[namespace].clone())
    }

    // -- reads

    fn note(&mut self, began: u64, subject: usize, found: Found, claims: Option<Position>, what: &'static str) {
        self.note_at_least(began, subject, found, claims, None, what);
    }

    fn note_at_least(
        &mut self,
        began: u64,
        subject: usize,
        found: Found,
        claims: Option<Position>,
        at_least: Option<Position>,
        what: &'static str,
    ) {
        let [claims, at_least] = [claims, at_least].map(|position| position.map(|position| position.number()));
        let ended = self.stage.ticket.take();
        self.history.reads.push(Read { began, ended, subject, at_least, claims, quiet: false, found, what });
    }

    /// "There is no such thing", as of now.
    fn absent(&self, subject: usize) -> Found {
        Found::Absent { by: self.stage.world.counter(self.stage.world.subjects()[subject].items[0]) }
    }

    /// What a load that may fail on purpose has returned.
    fn loaded(&self, subject: usize, loaded: Result<Found, larder::Error>) -> Found {
        match loaded {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Load => Found::Nothing,
            Err(error) if error.kind() == ErrorKind::NotFound => self.absent(subject),
            Err(error) => panic!("a load failed: {error}"),
        }
    }

    /// A loader: reads the source item by item, and dawdles on the way and before it returns.
    fn loader(&mut self, subject: usize) -> impl FnOnce() -> Loading + Send + 'static {
        let world = self.stage.world.clone();
        let (between, after, fails) = (self.rng.u32(0..2), self.rng.u32(0..12), self.rng.u32(0..20) == 0);
        let padding = self.padding();
        move || {
            Box::pin(async move {
                let mut counts = Vec::new();
                for item in world.subjects()[subject].items {
                    counts.push(world.counter(item));
                    yield_turns(between).await;
                }
                yield_turns(after).await;
                if fails { Err(std::io::Error::other("on purpose")) } else { Ok(Item::new(Seen { put: None, counts, padding })) }
            })
        }
    }

    fn padding(&mut self) -> String {
        "x".repeat(self.rng.usize(0..64) * self.rng.usize(0..128))
    }

    async fn get(&mut self) {
        let (subject, key, space) = self.subject();
        let began = self.stage.ticket.take();
        let got = space.get(key).await.expect("a get works");
        self.note(began, subject, got.as_deref().map_or(Found::Nothing, found), None, "get");
    }

    async fn lookup(&mut self) {
        let (subject, key, space) = self.subject();
        let began = self.stage.ticket.take();
        let (found, claims, what) = match space.lookup(key).await.expect("a lookup works") {
            Lookup::Hit(answer) | Lookup::Stale(answer) => (found(&answer.value), answer.position, origin(&answer)),
            Lookup::NotFound => (self.absent(subject), None, "lookup"),
            Lookup::Miss(_) => (Found::Nothing, None, "lookup"),
        };
        self.note(began, subject, found, claims, what);
    }

    async fn get_or_load(&mut self) {
        let (subject, key, space) = self.subject();
        let loader = self.loader(subject);
        let began = self.stage.ticket.take();
        let answer = space.lookup_or_load(key, loader).await;
        let claims = answer.as_ref().ok().and_then(|answer| answer.position);
        let what = answer.as_ref().map_or("lookup_or_load", origin);
        let found = self.loaded(subject, answer.map(|answer| found(&answer.value)));
        self.note(began, subject, found, claims, what);
    }

    async fn get_or_find(&mut self) {
        let numbers = self.stage.world.select(Selection { namespace: Some("sparse"), ..Selection::default() });
        let subject = *self.rng.choice(&numbers).expect("there are some");
        let (key, space) = (self.stage.world.subjects()[subject].key(), self.cache.spaces["sparse"].clone());
        let loader = self.loader(subject);
        let load = || async { loader().await.map(|item| Some(item).filter(|item| !World::is_absent_at(item.value().counts[0]))) };
        let began = self.stage.ticket.take();
        let outcome = space.get_or_find(key, load).await;
        let absent = self.absent(subject);
        let found = self.loaded(subject, outcome.map(|value| value.as_deref().map_or(absent, found)));
        self.note(began, subject, found, None, "get_or_find");
    }

    async fn get_many(&mut self) {
        let (subjects, keys, space) = self.subjects();
        let began = self.stage.ticket.take();
        let values = space.get_many(keys).await.expect("a get works");
        for (subject, value) in subjects.into_iter().zip(values) {
            self.note(began, subject, value.as_deref().map_or(Found::Nothing, found), None, "get_many");
        }
    }

    async fn get_many_or_load(&mut self) {
        let (subjects, keys, space) = self.subjects();
        let (world, turns) = (self.stage.world.clone(), self.rng.u32(0..12));
        let numbers: HashMap<String, usize> = keys.iter().cloned().zip(subjects.iter().copied()).collect();
        let load = |missing: Vec<String>| {
            let (world, numbers) = (world.clone(), numbers.clone());
            async move {
                let made = |key: String| {
                    let counts = world.subjects()[numbers[&key]].of(&world.counters());
                    (key, Seen { put: None, counts, padding: String::new() })
                };
                let items: Vec<(String, Seen)> = missing.into_iter().map(made).collect();
                yield_turns(turns).await;
                Ok::<_, std::io::Error>(items)
            }
        };
        let began = self.stage.ticket.take();
        // A key whose load somebody else leads fails with that one's loader.
        let Ok(values) = space.get_many_or_load(keys, load).await.inspect_err(|error| assert_eq!(error.kind(), ErrorKind::Load, "{error}"))
        else {
            return;
        };
        for (subject, value) in subjects.into_iter().zip(values) {
            let absent = self.absent(subject);
            self.note(began, subject, value.as_deref().map_or(absent, found), None, "get_many_or_load");
        }
    }

    async fn read_at_a_position(&mut self) {
        let (subject, key, space) = self.subject();
        let handed = *self.stage.board.lock().expect("nobody panics with it");
        let position = handed.filter(|_| self.rng.bool()).unwrap_or_else(|| self.cache.larder.position());
        let loader = self.loader(subject);
        let began = self.stage.ticket.take();
        let reading = space.at_least(position);
        let is_out_of_reach = |error: &larder::Error| error.kind() == ErrorKind::NotReached && self.stage.appends_come_late;
        let (found, what) = if self.rng.bool() {
            let got = reading.get(key).await;
            if got.as_ref().is_err_and(is_out_of_reach) {
                return;
            }
            let got = got.expect("a position that was handed out is reached");
            (got.as_deref().map_or(Found::Nothing, found), "at_least.get")
        } else {
            let got = reading.get_or_load(key, loader).await;
            if got.as_ref().is_err_and(is_out_of_reach) {
                return;
            }
            (self.loaded(subject, got.map(|value| found(&value))), "at_least.get_or_load")
        };
        self.note_at_least(began, subject, found, None, Some(position), what);
    }

    async fn peek(&mut self) {
        let (subject, key, space) = self.subject();
        let began = self.stage.ticket.take();
        let answer = space.peek(key).await.expect("a peek works");
        let claims = answer.as_ref().and_then(|answer| answer.position);
        self.note(began, subject, answer.map_or(Found::Nothing, |answer| found(&answer.value)), claims, "peek");
    }

    async fn touch(&mut self) {
        let (_, key, space) = self.subject();
        // Whether there was anything to touch is no promise; that it revives nothing is for the reads to show.
        space.touch(key, None).await.expect("a touch works");
    }

    // -- changes

    fn wrote(&mut self, began: u64, receipt: &Receipt, subjects: Vec<usize>, floor: Vec<u64>, what: String) {
        let position = receipt.position();
        assert_eq!(*self.stage.epoch.get_or_init(|| position.epoch()), position.epoch(), "the log keeps its epoch");
        let ended = self.stage.ticket.take();
        self.history.changes.push(Change { began, ended, position: position.number(), subjects, floor, what });
        *self.stage.board.lock().expect("nobody panics with it") = Some(position);
    }

    fn change_own(&self, subject: usize) {
        self.stage.world.change(self.stage.world.subjects()[subject].items[0]);
    }

    async fn invalidate(&mut self) {
        let world = self.stage.world.clone();
        let (subject, ..) = self.subject();
        let of = world.subjects()[subject].clone();
        let any = Selection::default();
        let (names, subjects, item) = match self.rng.u32(0..100) {
            0..50 => (Names::new().key(of.whole_key()), vec![subject], of.items[0]),
            50..62 => {
                let names = Names::new().tag(format!("symbol:S{}", of.symbol));
                (names, world.select(Selection { symbol: Some(of.symbol), ..any }), world.symbol_item(of.symbol))
            }
            62..66 => {
                let names = Names::new().tag(format!("part:p{}", of.part));
                (names, world.select(Selection { part: Some(of.part), ..any }), world.part_item(of.part))
            }
            66..96 => {
                let selection = Selection {
                    namespace: Some(of.namespace).filter(|_| self.rng.u32(0..4) > 0),
                    symbol: Some(of.symbol),
                    part: Some(of.part).filter(|_| self.rng.bool()),
                };
                (Names::new().pattern(selection.pattern(self.rng.bool())), world.select(selection), of.items[0])
            }
            96..98 => {
                let selection = Selection { namespace: Some(of.namespace), ..any };
                (Names::new().namespace(of.namespace), world.select(selection), of.items[0])
            }
            _ => (Names::new().everything(), world.select(any), of.items[1]),
        };
        let what = format!("invalidation of {names:?}");
        world.change(item);
        let (floor, began) = (world.counters(), self.stage.ticket.take());
        let receipt = self.cache.larder.invalidate(names).await.expect("a healthy log takes appends");
        self.wrote(began, &receipt, subjects, floor, what);
    }

    async fn put(&mut self) {
        let (subject, key, space) = self.subject();
        self.change_own(subject);
        let (floor, padding, began) = (self.stage.world.counters(), self.padding(), self.stage.ticket.take());
        let what = format!("put of {key}");
        let receipt = space.put(key, Seen { put: Some(began), counts: Vec::new(), padding }).await.expect("a put works");
        self.wrote(began, &receipt, vec![subject], floor, what);
    }

    async fn put_many(&mut self) {
        let (subjects, keys, space) = self.subjects();
        subjects.iter().for_each(|subject| self.change_own(*subject));
        let (floor, padding, began) = (self.stage.world.counters(), self.padding(), self.stage.ticket.take());
        let what = format!("put_many of {keys:?}");
        let items = keys.into_iter().map(|key| (key, Seen { put: Some(began), counts: Vec::new(), padding: padding.clone() }));
        let receipt = space.put_many(items.collect::<Vec<_>>()).await.expect("a put works");
        self.wrote(began, &receipt, subjects, floor, what);
    }

    async fn update(&mut self) {
        let (subject, key, space) = self.subject();
        let (world, turns, fails) = (self.stage.world.clone(), [self.rng.u32(0..6), self.rng.u32(0..6)], self.rng.u32(0..20) == 0);
        let floor = Arc::new(OnceLock::new());
        let (changed, padding, what) = (floor.clone(), self.padding(), format!("update of {key}"));
        let change = move || async move {
            yield_turns(turns[0]).await;
            let subject = &world.subjects()[subject];
            world.change(subject.items[0]);
            let counts = subject.of(changed.get_or_init(|| world.counters()));
            yield_turns(turns[1]).await;
            if fails { Err(std::io::Error::other("on purpose")) } else { Ok(Seen { put: None, counts, padding }) }
        };
        let began = self.stage.ticket.take();
        match space.update(key, change).await {
            Ok(updated) => {
                let floor = floor.get().expect("the change has run").clone();
                self.wrote(began, &updated.receipt, vec![subject], floor, what);
            }
            // The key was invalidated, at a position that nobody was told.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Load, "{error}"),
        }
    }

    async fn remove(&mut self) {
        let (subjects, keys, space) = self.subjects();
        subjects.iter().for_each(|subject| self.change_own(*subject));
        let (floor, what, began) = (self.stage.world.counters(), format!("removal of {keys:?}"), self.stage.ticket.take());
        let receipt = space.remove_many(keys).await.expect("a removal works");
        self.wrote(began, &receipt, subjects, floor, what);
    }
}
