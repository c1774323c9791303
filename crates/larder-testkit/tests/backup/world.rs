//! A cache and its exact model: what each key has, since which position, and everything that was ever invalidated.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use larder::backup::{BackupOptions, FolderPlace, Manifest, Watch};
use larder::{Clock, Item, Larder, Mutation, Names, Policy, Raw};

/// Namespaces: one in memory and in the tier, where there is one, and one in memory alone.
pub const SPACES: [&str; 2] = ["both", "memory"];

const KEYS: u64 = 150;
const SYMBOLS: u64 = 12;

/// What a key was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub value: Bytes,
    pub tags: Vec<String>,
    /// When its time is over, if ever.
    pub until: Option<u64>,
    /// What it reflects: everything up to here.
    pub stamp: u64,
    /// When it was given: no position before this one has it.
    pub since: u64,
    /// The how manieth it is.
    pub number: u64,
}

/// Stops what it looks on at its first step of this kind.
pub struct Stops(&'static str, AtomicBool);

impl Stops {
    pub fn at(step: &'static str) -> Self {
        Stops(step, AtomicBool::new(false))
    }
}

impl Watch for Stops {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        self.1.fetch_or(doing == self.0, Ordering::SeqCst);
    }

    fn is_cancelled(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

/// See the head of this file.
pub struct World {
    pub larder: Larder,
    pub raw: Raw,
    pub clock: Clock,
    pub rng: Rng,
    /// Everything that keys were given, in order.
    pub given: BTreeMap<String, Vec<Given>>,
    /// What was invalidated, and where.
    pub invalidated: Vec<(u64, Gone)>,
    counter: u64,
    /// What had been given when the last backup began: a fill appends nothing, so positions do not tell.
    pub given_before: u64,
}

/// What an invalidation was of.
#[derive(Clone, Debug)]
pub enum Gone {
    Key(String),
    Tag(String),
    Symbol(String, String),
    Namespace(String),
    Everything,
}

impl Gone {
    fn has(&self, key: &str, given: &Given) -> bool {
        let segments: Vec<&str> = key.split(':').collect();
        match self {
            Gone::Key(gone) => gone == key,
            Gone::Tag(tag) => given.tags.contains(tag),
            Gone::Symbol(space, symbol) => segments[..2] == [space, symbol],
            Gone::Namespace(space) => segments[0] == space,
            Gone::Everything => true,
        }
    }
}

/// Opens a cache, in a folder or in memory.
pub async fn open(data: Option<&Path>, clock: &Clock, mutation: Option<Mutation>) -> Larder {
    let builder = Larder::builder().memory(32 << 20).index_bytes(4 << 20).clock(clock.clone());
    let builder = builder.sweep_every(Duration::from_secs(1 << 20)).durability(larder::Durability::Os);
    let builder = builder.namespace("memory", Policy::default().backing(false)).namespace("both", Policy::default());
    let builder = data.into_iter().fold(builder, |builder, data| builder.data(data));
    mutation.into_iter().fold(builder, |builder, mutation| builder.mutation(mutation)).build().await.expect("a cache opens")
}

impl World {
    pub async fn begin(seed: u64, data: Option<&Path>, mutation: Option<Mutation>) -> Self {
        let clock = Clock::manual();
        clock.advance(Duration::from_secs(1_000_000));
        let larder = open(data, &clock, mutation).await;
        let raw = larder.raw();
        World {
            larder,
            raw,
            clock,
            rng: Rng::with_seed(seed),
            given: BTreeMap::new(),
            invalidated: Vec::new(),
            counter: 0,
            given_before: 0,
        }
    }

    fn any_key(&mut self) -> String {
        let n = self.rng.u64(..KEYS);
        format!("{}:S{}:{n}", SPACES[n as usize % 2], n % SYMBOLS)
    }

    /// Does so many things at random.
    pub async fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.u32(..100) {
                0..60 => self.put().await,
                60..75 => self.fill().await,
                75..95 => self.invalidate().await,
                _ => self.clock.advance(Duration::from_millis(self.rng.u64(..3_000))),
            }
        }
    }

    fn item(&mut self) -> (Item<Bytes>, Given) {
        self.counter += 1;
        let value = Bytes::from(format!("{}-{}", self.counter, "x".repeat(self.rng.usize(..300))));
        let tags: Vec<String> = (0..self.rng.u32(..3)).map(|_| format!("t{}", self.rng.u32(..20))).collect();
        let ttl = self.rng.bool().then(|| Duration::from_millis(self.rng.u64(500..60_000)));
        let item = tags.iter().fold(Item::new(value.clone()), |item, tag| item.tag(tag.clone()));
        let item = ttl.into_iter().fold(item, |item, ttl| item.ttl(ttl));
        let until = ttl.map(|ttl| self.clock.now_ms() + ttl.as_millis() as u64);
        (item, Given { value, tags, until, stamp: 0, since: 0, number: self.counter })
    }

    async fn put(&mut self) {
        let (key, (item, given)) = (self.any_key(), self.item());
        let at = self.raw.put(&key, item).await.expect("a put works").position().number();
        self.invalidated.push((at, Gone::Key(key.clone())));
        self.given.entry(key).or_default().push(Given { stamp: at, since: at, ..given });
    }

    /// A value from a source, with an invalidation in between now and then.
    async fn fill(&mut self) {
        let (key, (item, given)) = (self.any_key(), self.item());
        let token = self.raw.begin_fill(&key);
        if self.rng.u32(..4) == 0 {
            self.invalidate().await;
        }
        let kept = self.raw.fill(&key, token, item).await.expect("a fill works");
        let given = Given { stamp: token.position().number(), since: self.larder.position().number(), ..given };
        assert_eq!(kept, self.killed_by(&key, &given, u64::MAX).is_none(), "the model and the cache agree on {key}");
        // One that is stamped below what is there does not take its place.
        let outranked = self.given.get(&key).and_then(|all| all.last()).is_some_and(|last| last.stamp > given.stamp);
        if kept && !outranked {
            self.given.entry(key).or_default().push(given);
        }
    }

    async fn invalidate(&mut self) {
        let (key, tag) = (self.any_key(), format!("t{}", self.rng.u32(..20)));
        let (space, symbol) =
            (key.split(':').next().expect("a first segment").to_owned(), key.split(':').nth(1).expect("a second").to_owned());
        let (names, gone) = match self.rng.u32(..200) {
            0..110 => (Names::new().key(&key), Gone::Key(key)),
            110..170 => (Names::new().tag(&tag), Gone::Tag(tag)),
            170..196 => (Names::new().pattern(format!("{space}:{symbol}:**")), Gone::Symbol(space, symbol)),
            196..199 => (Names::new().namespace(&space), Gone::Namespace(space)),
            _ => (Names::new().everything(), Gone::Everything),
        };
        let at = self.larder.invalidate(names).await.expect("an invalidation works").position().number();
        self.invalidated.push((at, gone));
    }

    /// What made it stale, up to a position.
    pub fn killed_by(&self, key: &str, given: &Given, upto: u64) -> Option<u64> {
        self.invalidated.iter().filter(|(at, _)| *at > given.stamp && *at <= upto).find(|(_, gone)| gone.has(key, given)).map(|(at, _)| *at)
    }

    /// What a key was given by a position, and is live by all that was invalidated up to another. Where nothing was invalidated in
    /// between, more than one may be: what a source is read for twice is right twice.
    pub fn live_ones(&self, key: &str, given_by: u64, killed_upto: u64) -> Vec<&Given> {
        let live = |given: &&Given| {
            let over = given.until.is_some_and(|until| self.clock.now_ms() >= until);
            given.since <= given_by && !over && self.killed_by(key, given, killed_upto).is_none()
        };
        self.given.get(key).into_iter().flatten().filter(live).collect()
    }

    /// Takes a backup while things go on.
    pub async fn back_up(&mut self, folder: &Path, name: &str, parent: Option<&str>, meanwhile: usize) -> Manifest {
        let (larder, place) = (self.larder.clone(), Arc::new(FolderPlace::new(folder)));
        let options = BackupOptions { parent: parent.map(str::to_owned), pause: Duration::ZERO, ..BackupOptions::new(name) };
        let watch: Arc<dyn Watch> = Arc::new(());
        self.given_before = self.counter;
        let (manifest, ()) = tokio::join!(larder.backup(place, &options, watch), self.live(meanwhile));
        manifest.expect("a backup is taken")
    }
}
