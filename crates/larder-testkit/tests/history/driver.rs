//! Drives larder with seeded concurrent clients and writes down what they did and saw. It judges nothing.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use larder::{Answer, Clock, Compression, Epoch, ErrorKind, Freshness, Item, Larder, Lookup, Mutation, Names, Namespace, Policy};
use larder::{Position, Receipt, Source};
use larder_testkit::history::{Change, Found, History, Read, Selection, Ticket, World};
use serde::{Deserialize, Serialize};

/// Memory only; the disk tier behind scarce memory; stale windows; "there is no such thing"; memory of its own.
const NAMESPACES: [&str; 5] = ["plain", "deep", "aged", "sparse", "own"];
const SYMBOLS: usize = 4;
const PARTS: usize = 3;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub clients: usize,
    /// Operations of all clients together, in each life of the cache.
    pub operations: usize,
    /// Threads of the runtime; none is one that interleaves only where clients yield.
    pub workers: Option<usize>,
    /// With a data folder the cache is closed and opened again half-way.
    pub disk: bool,
    pub mutation: Option<Mutation>,
}

/// The value that is cached.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    /// The put that wrote it, if one did.
    put: Option<u64>,
    /// The counts it was made of.
    counts: Vec<u64>,
    /// Weight, so that memory runs out.
    padding: String,
}

/// A load under way.
type Loading = Pin<Box<dyn Future<Output = Result<Item<Seen>, std::io::Error>> + Send>>;

/// What all clients share.
struct Stage {
    world: Arc<World>,
    ticket: Arc<Ticket>,
    clock: Clock,
    epoch: OnceLock<Epoch>,
    /// The latest receipt, handed from writers to readers.
    board: Mutex<Option<Position>>,
}

/// One life of the cache.
struct Cache {
    larder: Larder,
    spaces: HashMap<&'static str, Namespace<Seen>>,
}

/// Plays a plan to its end.
pub fn play(plan: &Plan) -> (Arc<World>, History) {
    let runtime = match plan.workers {
        Some(workers) => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build(),
        None => tokio::runtime::Builder::new_current_thread().enable_time().build(),
    };
    let folder = plan.disk.then(|| tempfile::tempdir().expect("a test may make a folder"));
    let stage = Arc::new(Stage {
        world: Arc::new(World::new(&NAMESPACES, SYMBOLS, PARTS)),
        ticket: Arc::default(),
        clock: Clock::manual(),
        epoch: OnceLock::new(),
        board: Mutex::default(),
    });
    let history = runtime.expect("a test may start threads").block_on(lives(plan, &stage, folder.as_ref().map(|folder| folder.path())));
    (stage.world.clone(), history)
}

async fn lives(plan: &Plan, stage: &Arc<Stage>, data: Option<&Path>) -> History {
    let mut history = History::default();
    for life in 0..if data.is_some() { 2 } else { 1 } {
        let cache = Arc::new(open(plan, stage, data).await);
        if life > 0 {
            history.join(read_everything(stage, &cache).await);
        }
        history.join(one_life(plan, life, stage, &cache).await);
        history.join(read_everything(stage, &cache).await);
        cache.larder.close().await.expect("the cache closes in order");
    }
    if data.is_some() {
        let cache = open(plan, stage, data).await;
        history.join(read_everything(stage, &cache).await);
        cache.larder.close().await.expect("the cache closes in order");
    }
    history
}

async fn one_life(plan: &Plan, life: u64, stage: &Arc<Stage>, cache: &Arc<Cache>) -> History {
    let sweeper = tokio::spawn(sweep_for_ever(cache.larder.clone()));
    let clients: Vec<_> = (0..plan.clients as u64)
        .map(|number| {
            let rng = Rng::with_seed(plan.seed ^ (number + 1) << 32 ^ life << 56);
            let client = Client { stage: stage.clone(), cache: cache.clone(), rng, history: History::default() };
            tokio::spawn(client.work(plan.operations / plan.clients))
        })
        .collect();
    let mut history = History::default();
    for client in clients {
        history.join(client.await.expect("a client that panicked says why"));
    }
    sweeper.abort();
    history
}

async fn open(plan: &Plan, stage: &Stage, data: Option<&Path>) -> Cache {
    let builder = || {
        let ms = Duration::from_millis;
        let tagged = Policy::default().tag("symbol:{1}").tag("part:{2}");
        let builder = Larder::builder()
            .memory(64 << 10)
            .index_bytes(16 << 10)
            .clock(stage.clock.clone())
            .namespace("plain", tagged.clone().backing(false))
            .namespace(
                "aged",
                tagged.clone().ttl(ms(30)).jitter(0.2).stale_while_revalidate(ms(60)).stale_if_error(ms(60)).refresh_ahead(0.3),
            )
            .namespace("sparse", tagged.clone().negative_ttl(ms(60)))
            .namespace("own", tagged.clone().own_memory(64 << 10).compress(Compression::Lz4, 64))
            .default_policy(tagged);
        let builder = data.iter().fold(builder, |builder, data| builder.data(data).disk_bytes(64 << 20).durability(larder::Durability::Os));
        plan.mutation.into_iter().fold(builder, |builder, mutation| builder.mutation(mutation))
    };
    loop {
        match builder().build().await {
            Ok(larder) => {
                let spaces = NAMESPACES.map(|name| (name, larder.namespace(name).expect("every name is a namespace")));
                return Cache { larder, spaces: spaces.into() };
            }
            // A load that nobody waits for any more may hold the folder for a moment longer.
            Err(error) if error.kind() == ErrorKind::Locked => tokio::task::yield_now().await,
            Err(error) => panic!("the cache does not open: {error}"),
        }
    }
}

async fn sweep_for_ever(larder: Larder) {
    loop {
        larder.sweep().await.expect("a healthy tier is swept");
        yield_turns(50).await;
    }
}

/// Every key from every tier: memory as it is, what a peek finds, and the backing tier as whoever reads bytes sees it.
async fn read_everything(stage: &Arc<Stage>, cache: &Cache) -> History {
    let mut history = History::default();
    for (number, subject) in stage.world.subjects().iter().enumerate() {
        let space = &cache.spaces[subject.namespace];
        let began = stage.ticket.take();
        let mut note = |found, claims: Option<Position>, what| {
            let (ended, claims) = (stage.ticket.take(), claims.map(|position| position.number()));
            history.reads.push(Read { began, ended, subject: number, at_least: None, claims, quiet: true, found, what });
        };
        let peeked = space.peek(subject.key()).await.expect("a peek works");
        note(
            peeked.as_ref().map_or(Found::Nothing, |answer| found(&answer.value)),
            peeked.and_then(|answer| answer.position),
            "a last peek",
        );
        let raw = cache.larder.raw().lookup(subject.whole_key()).await.expect("a raw read works").into_answer();
        let decoded = raw.map(|answer| serde_json::from_slice::<Seen>(&answer.value).expect("what was put was JSON"));
        note(decoded.as_ref().map_or(Found::Nothing, found), None, "a last raw read");
        let got = space.get(subject.key()).await.expect("a get works");
        note(got.as_deref().map_or(Found::Nothing, found), None, "a last get");
    }
    history
}

fn found(seen: &Seen) -> Found {
    seen.put.map_or_else(|| Found::Loaded(seen.counts.clone()), Found::Put)
}

/// The ways that an answer may have come, as reads are told apart in a history.
pub const ORIGINS: [&str; 4] = ["read past its time", "read from memory", "read from the backing tier", "read from a loader"];

fn origin(answer: &Answer<Seen>) -> &'static str {
    match (answer.freshness, answer.source) {
        (Freshness::Stale, _) => ORIGINS[0],
        (_, Source::Memory) => ORIGINS[1],
        (_, Source::Backing) => ORIGINS[2],
        _ => ORIGINS[3],
    }
}

async fn yield_turns(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

struct Client {
    stage: Arc<Stage>,
    cache: Arc<Cache>,
    rng: Rng,
    history: History,
}

impl Client {
    async fn work(mut self, operations: usize) -> History {
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
        let (found, what) = if self.rng.bool() {
            let got = reading.get(key).await.expect("a position that was handed out is reached");
            (got.as_deref().map_or(Found::Nothing, found), "at_least.get")
        } else {
            let got = reading.get_or_load(key, loader).await;
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

/// The seeds to play: the one that `LARDER_SEED` names, or the first few.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LARDER_SEED") {
        Ok(seed) => vec![seed.parse().expect("LARDER_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}
