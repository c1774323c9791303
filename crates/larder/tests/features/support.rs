//! What the tests share: caches over a manual clock, loaders that are counted and held back, and waiting for a condition.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder::{Builder, Clock, Item, Larder, Policy};
use tokio::sync::Semaphore;

mod tier;

pub use tier::{Behaviour, OwnTier};

/// A cache in memory, over a clock that the test moves. The sweeper stays out of the way.
pub fn in_memory() -> (Builder, Clock) {
    let clock = Clock::manual();
    let builder = Larder::builder().memory(4 << 20).index_bytes(1 << 20).clock(clock.clone()).sweep_every(Duration::from_secs(1 << 30));
    (builder, clock)
}

/// The same over a backing tier that keeps its records in a map and can be told to misbehave.
pub fn over_own_tier() -> (Builder, Clock, Arc<OwnTier>) {
    let (builder, clock) = in_memory();
    let tier = Arc::new(OwnTier::default());
    (builder.backing_tier(tier.clone()), clock, tier)
}

/// An open cache in memory whose namespace `n` has this policy.
pub async fn with_policy(policy: Policy) -> (Larder, Clock) {
    let (builder, clock) = in_memory();
    (builder.namespace("n", policy).build().await.expect("the policy is sound"), clock)
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Lets other tasks run until the condition holds.
///
/// # Panics
/// If it does not within 20 seconds of real time.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

/// Lets every other task of a single-threaded runtime run as far as it can go by itself.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Loaders that are counted, and that can be held back until the test lets them go on.
#[derive(Clone)]
pub struct Loads(Arc<Inner>);

struct Inner {
    begun: AtomicUsize,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
    gate: Semaphore,
}

/// What a loader returns.
pub type Loading<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Loads {
    /// Loaders that are not held back.
    pub fn open() -> Self {
        Loads::with_gate(Semaphore::MAX_PERMITS)
    }

    /// Loaders that wait for [`let_go`](Self::let_go).
    pub fn held() -> Self {
        Loads::with_gate(0)
    }

    fn with_gate(permits: usize) -> Self {
        let zero = || AtomicUsize::new(0);
        Loads(Arc::new(Inner { begun: zero(), running: zero(), most_at_once: zero(), gate: Semaphore::new(permits) }))
    }

    /// Lets so many loads go on.
    pub fn let_go(&self, loads: usize) {
        self.0.gate.add_permits(loads);
    }

    /// How many loads have begun.
    pub fn begun(&self) -> usize {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// How many ran at the same time, at most.
    pub fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until so many loads have begun.
    pub async fn until_begun(&self, loads: usize) {
        until(&format!("{loads} loads have begun"), || self.begun() >= loads).await;
    }

    /// A loader that gives this outcome once it may go on.
    pub fn giving<T: Send + 'static>(&self, outcome: io::Result<T>) -> impl FnOnce() -> Loading<T> + Send + use<T> {
        let inner = self.0.clone();
        move || Box::pin(inner.run(outcome))
    }

    /// A loader that gives a bare value.
    pub fn value<V: Send + 'static>(&self, value: V) -> impl FnOnce() -> Loading<Item<V>> + Send + use<V> {
        self.giving(Ok(Item::new(value)))
    }

    /// A loader that gives a value with a tag.
    pub fn tagged<V: Send + 'static>(&self, value: V, tag: &str) -> impl FnOnce() -> Loading<Item<V>> + Send + use<V> {
        self.giving(Ok(Item::new(value).tag(tag)))
    }

    /// A loader that fails.
    pub fn failing<V: Send + 'static>(&self) -> impl FnOnce() -> Loading<Item<V>> + Send + use<V> {
        self.giving(Err(io::Error::other("the source is down")))
    }
}

impl Inner {
    async fn run<T>(self: Arc<Self>, outcome: io::Result<T>) -> io::Result<T> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        let _running = Running(&self);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        outcome
    }
}

/// Ends a load's time even if it is cancelled.
struct Running<'a>(&'a Inner);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The seed of a randomised test: `LARDER_SEED` if it is set, printed either way, so that a failure can be had again.
pub fn seeded(test: &str) -> fastrand::Rng {
    let given = std::env::var("LARDER_SEED").ok().map(|seed| seed.parse().expect("LARDER_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: LARDER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
