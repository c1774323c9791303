//! Drives larder with seeded concurrent clients and writes down what they did and saw. It judges nothing.

#[path = "client.rs"]
mod client;

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use client::Client;
use fastrand::Rng;
use larder::{Answer, Clock, Compression, Epoch, ErrorKind, Freshness, Item, Larder, Mutation, Namespace, Policy};
use larder::{Position, Source};
use larder_testkit::history::{Found, History, Read, Ticket, World};
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
    /// Whether the last position that was handed out is reached with the next append only, and never if there is none.
    appends_come_late: bool,
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
        appends_come_late: plan.mutation == Some(Mutation::OwnAppendsLate),
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

/// The seeds to play: the one that `LARDER_SEED` names, or the first few.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("LARDER_SEED") {
        Ok(seed) => vec![seed.parse().expect("LARDER_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}
