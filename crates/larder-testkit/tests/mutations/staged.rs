//! Scenarios staged for rules that a mixed workload misses too seldom. They record what they do as any client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::{Builder, Item, Larder, Mutation, Names, Namespace};
use larder_testkit::history::{Change, Found, History, Read, Selection, Ticket, World};

/// One namespace, and what of its values is needed: the counts that they were made of.
type Counts = Vec<u64>;

/// One client on the stage.
#[derive(Clone)]
struct Actor {
    world: Arc<World>,
    ticket: Arc<Ticket>,
    larder: Larder,
    space: Namespace<Counts>,
    history: History,
}

fn builder(mutation: Option<Mutation>) -> Builder {
    mutation.into_iter().fold(Larder::builder().memory(1 << 20), |builder, mutation| builder.mutation(mutation))
}

impl Actor {
    async fn enter(world: &Arc<World>, ticket: &Arc<Ticket>, builder: Builder) -> Self {
        let larder = builder.build().await.expect("the cache opens");
        let space = larder.namespace("n").expect("a namespace opens");
        Actor { world: world.clone(), ticket: ticket.clone(), larder, space, history: History::default() }
    }

    /// Reads a subject; what is missing is loaded if `load` says so.
    async fn read(&mut self, subject: usize, load: bool) {
        let (world, key) = (self.world.clone(), self.world.subjects()[subject].key());
        let began = self.ticket.take();
        let value = if load {
            let tag = format!("symbol:S{}", world.subjects()[subject].symbol);
            let load = move || async move {
                let counts = world.subjects()[subject].of(&world.counters());
                Ok::<_, std::io::Error>(Item::new(counts).tag(tag))
            };
            Some(self.space.get_or_load(key, load).await.expect("the loader does not fail"))
        } else {
            self.space.get(key).await.expect("a get works")
        };
        let found = value.map_or(Found::Nothing, |counts| Found::Loaded(counts.to_vec()));
        let ended = self.ticket.take();
        self.history.reads.push(Read { began, ended, subject, at_least: None, claims: None, quiet: false, found, what: "a read" });
    }

    /// Changes a symbol and invalidates its tag.
    async fn change_symbol(&mut self, symbol: usize) {
        self.world.change(self.world.symbol_item(symbol));
        let subjects = self.world.select(Selection { symbol: Some(symbol), ..Selection::default() });
        let (floor, began) = (self.world.counters(), self.ticket.take());
        let receipt = self.larder.invalidate(Names::new().tag(format!("symbol:S{symbol}"))).await.expect("the log takes appends");
        let (position, what) = (receipt.position().number(), format!("invalidation of symbol {symbol}"));
        let ended = self.ticket.take();
        self.history.changes.push(Change { began, ended, position, subjects, floor, what });
    }
}

async fn read_for_a_while(mut reader: Actor) -> History {
    for _ in 0..5_000 {
        reader.read(0, true).await;
        tokio::task::yield_now().await;
    }
    reader.history
}

/// Readers that hit one entry without a pause, while a writer invalidates it, and what is none of its business: the few
/// instructions between a check and its consequence are met sooner or later.
pub fn race(seed: u64, mutation: Option<Mutation>) -> (Arc<World>, History) {
    let (world, ticket) = (Arc::new(World::new(&["n"], 2, 1)), Arc::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().expect("threads start");
    let mut rng = fastrand::Rng::with_seed(seed);
    let history = runtime.block_on(async {
        let mut writer = Actor::enter(&world, &ticket, builder(mutation)).await;
        let readers: Vec<_> = (0..1 + seed % 3).map(|_| tokio::spawn(read_for_a_while(writer.clone()))).collect();
        let over = Arc::new(AtomicBool::new(false));
        let reading = over.clone();
        let writing = tokio::spawn(async move {
            while !reading.load(Ordering::Relaxed) {
                for _ in 0..rng.u32(1..3) {
                    // Another symbol: the entry stays fresh, and is stamped anew.
                    writer.change_symbol(1).await;
                }
                writer.change_symbol(0).await;
                for _ in 0..rng.u32(0..4) {
                    tokio::task::yield_now().await;
                }
            }
            writer.history
        });
        let mut history = History::default();
        for reader in readers {
            history.join(reader.await.expect("no reader panics"));
        }
        over.store(true, Ordering::Relaxed);
        history.join(writing.await.expect("the writer does not panic"));
        history
    });
    (world, history)
}

/// An index of one line, in which a name is pushed out by seven others.
pub fn crowd(seed: u64, mutation: Option<Mutation>) -> (Arc<World>, History) {
    let (world, ticket) = (Arc::new(World::new(&["n"], 24, 1)), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let mut rng = fastrand::Rng::with_seed(seed);
    let history = runtime.block_on(async {
        let mut actor = Actor::enter(&world, &ticket, builder(mutation).index_bytes(64)).await;
        for _ in 0..200 {
            let subject = rng.usize(0..world.subjects().len());
            actor.read(subject, true).await;
            for _ in 0..rng.u32(0..12) {
                actor.change_symbol(rng.usize(0..24)).await;
            }
            actor.read(subject, false).await;
        }
        actor.history
    });
    (world, history)
}

/// Entries on disk, a cache that is opened again, and changes after that: were their positions lower than the entries'
/// stamps, the entries would outlive them.
pub fn reopen(seed: u64, mutation: Option<Mutation>) -> (Arc<World>, History) {
    let (world, ticket) = (Arc::new(World::new(&["n"], 8, 1)), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a test may make a folder");
    let mut rng = fastrand::Rng::with_seed(seed);
    let history = runtime.block_on(async {
        let mut history = History::default();
        for _life in 0..2 {
            let builder = builder(mutation).data(folder.path()).index_bytes(64 << 10);
            let mut actor = Actor::enter(&world, &ticket, builder).await;
            for _ in 0..20 {
                let symbol = rng.usize(0..8);
                actor.read(symbol, false).await;
                actor.change_symbol(symbol).await;
                actor.read(symbol, false).await;
            }
            for subject in 0..world.subjects().len() {
                actor.read(subject, true).await;
            }
            actor.larder.close().await.expect("the cache closes in order");
            history.join(actor.history);
        }
        history
    });
    (world, history)
}
