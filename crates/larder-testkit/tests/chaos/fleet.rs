//! The instances of a run: how they are set up, killed and observed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use larder::{Builder, Larder, Mode, Mutation, Namespace, Policy, Position, RedisOptions, SharedLogStats};
use larder_testkit::chaos::site::Site;
use larder_testkit::chaos::{Chronicle, Fleet, History, Life, Moment, Place};
use larder_testkit::history::{Found, World};
use larder_testkit::wait;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

/// How many there are.
pub const INSTANCES: usize = 3;

/// One that lives for ever; one that is strict; one whose entries expire; one that is loaded once in the fleet.
pub(super) const NAMESPACES: [&str; 4] = ["plain", "strict", "aged", "once"];
pub(super) const SYMBOLS: usize = 4;
pub(super) const PARTS: usize = 3;

/// The instance whose invalidations are refused rather than queued, and whose namespaces are all strict.
const STRICT: usize = 2;

/// The instance whose wall clock is a day off.
const ASTRAY: usize = 1;
const DAY_MS: i64 = 86_400_000;

/// The limit of promise G3 in this run.
pub(super) const MAX_STALENESS: Duration = Duration::from_millis(500);

/// How often an instance is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An index in which a name is pushed out by seven others, for the test that takes away what makes that safe.
const ONE_LINE: usize = 64;

/// The value that is cached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The put that wrote it, if one did.
    pub(super) put: Option<u64>,
    /// The counts it was made of.
    pub(super) counts: Vec<u64>,
    /// Weight, so that memory runs out.
    pub(super) padding: String,
}

pub(super) fn found(seen: &Seen) -> Found {
    seen.put.map_or_else(|| Found::Loaded(seen.counts.clone()), Found::Put)
}

pub(super) fn place(position: Position) -> Place {
    let epoch = u64::from_str_radix(&position.epoch().to_string(), 16).expect("an epoch is written in hexadecimal");
    Place { epoch, number: position.number() }
}

/// What all instances are given.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) replicas: usize,
    pub(super) mutation: Option<Mutation>,
}

/// One instance in one of its lives.
pub(super) struct Running {
    pub(super) life: Life,
    pub(super) larder: Larder,
    pub(super) spaces: HashMap<&'static str, Namespace<Seen>>,
}

impl Running {
    fn new(life: Life, larder: Larder) -> Self {
        let spaces = NAMESPACES.map(|name| (name, larder.namespace(name).expect("every name is a namespace")));
        Running { life, larder, spaces: spaces.into() }
    }

    pub(super) fn shared(&self) -> SharedLogStats {
        self.larder.stats().log.shared.expect("the log is shared")
    }
}

/// All instances, and what they have in common.
pub(super) struct Instances {
    pub(super) world: Arc<World>,
    pub(super) settings: Settings,
    /// Whether the clients of this stretch are to end.
    pub(super) over: AtomicBool,
    /// The latest receipt, handed from writers to readers.
    pub(super) board: Mutex<Option<Position>>,
    pub(super) chronicle: Chronicle,
    urls: Vec<String>,
    running: Vec<RwLock<Arc<Running>>>,
    runtime: Handle,
}

impl Instances {
    pub(super) fn start(site: &Site, world: Arc<World>, mutation: Option<Mutation>, runtime: &Handle) -> Self {
        let settings = Settings { replicas: site.topology().replicas(), mutation };
        let urls: Vec<String> = (0..INSTANCES).map(|instance| site.url(instance)).collect();
        let chronicle = Chronicle::begin();
        let first = |instance: usize| {
            let life = chronicle.begin_life(instance);
            let larder = runtime.block_on(open(&urls[instance], instance, &settings));
            RwLock::new(Arc::new(Running::new(life, larder)))
        };
        let running = (0..INSTANCES).map(first).collect();
        Instances {
            world,
            settings,
            over: AtomicBool::new(false),
            board: Mutex::default(),
            chronicle,
            urls,
            running,
            runtime: runtime.clone(),
        }
    }

    pub(super) fn running(&self, instance: usize) -> Arc<Running> {
        self.running[instance].read().expect("nobody panics with it").clone()
    }

    /// The address that whoever comes for a moment is given.
    pub(super) fn world_url(&self) -> &str {
        &self.urls[0]
    }

    pub(super) fn now(&self) -> Moment {
        self.chronicle.now()
    }

    /// Whether a namespace of an instance is strict, and its limit.
    pub(super) fn strict(instance: usize, namespace: &str) -> Option<u64> {
        (instance == STRICT || namespace == "strict").then_some(MAX_STALENESS.as_nanos() as u64)
    }

    /// Whether a change cannot be lost by a failover.
    pub(super) fn is_durable(&self, is_strict: bool) -> bool {
        self.settings.replicas == 0 || is_strict
    }

    /// Whether what an instance invalidates is refused rather than queued.
    pub(super) fn is_strict(instance: usize) -> bool {
        instance == STRICT
    }

    /// Looks at an instance again and again: whether it has something queued, and what it has applied.
    pub(super) async fn observe(self: Arc<Self>, instance: usize) -> History {
        let mut history = History::default();
        while !self.over.load(Ordering::Acquire) {
            let (running, asked) = (self.running(instance), self.now());
            let stats = running.larder.stats();
            let shared = stats.log.shared.expect("the log is shared");
            if shared.queued == 0 {
                history.drained.push((running.life, asked, self.now()));
            }
            drop(running);
            wait::pass(LOOK_EVERY).await;
        }
        history
    }

    pub(super) async fn close(&self) {
        for running in &self.running {
            let running = running.read().expect("nobody panics with it").clone();
            drop(tokio::time::timeout(super::OPERATION_MAX, running.larder.close()).await);
        }
    }
}

impl Fleet for Instances {
    fn kill(&self, instance: usize) {
        let life = self.chronicle.begin_life(instance);
        let larder = self.runtime.block_on(open(&self.urls[instance], instance, &self.settings));
        let successor = Arc::new(Running::new(life, larder));
        let killed = std::mem::replace(&mut *self.running[instance].write().expect("nobody panics with it"), successor);
        // Not closed: what it has queued is lost with it, once the operations under way have ended.
        drop(killed);
    }

    fn unrecovered(&self) -> Option<String> {
        (0..INSTANCES).find_map(|instance| {
            let shared = self.running(instance).shared();
            let is_well = shared.connected && shared.queued == 0 && shared.unheard_for < MAX_STALENESS;
            (!is_well).then(|| format!("instance {instance}: {shared:?}"))
        })
    }

    fn note(&self, what: String) {
        self.chronicle.note(what);
    }
}

/// Opens an instance.
pub(super) async fn open(url: &str, instance: usize, settings: &Settings) -> Larder {
    let ms = Duration::from_millis;
    let options = RedisOptions::parse(url)
        .expect("the fixture's address is one")
        .heartbeat(ms(50))
        .operation_timeout(ms(400))
        .connect_timeout(ms(400))
        // Little enough that some instances fall behind what the stream has, and some queues are full.
        .stream_len(if settings.mutation == Some(Mutation::CheckpointLate) { 100 } else { 300 })
        .queue_bytes(if instance == ASTRAY { 8_000 } else { 1 << 20 })
        .replicas(settings.replicas);
    let tagged = Policy::default().tag("symbol:{1}").tag("part:{2}");
    let builder = Larder::builder()
        .redis(options)
        .memory(128 << 10)
        .index_bytes(match settings.mutation {
            Some(Mutation::ForgetWithoutFloor) => ONE_LINE,
            _ => 1 << 15,
        })
        .backing_timeout(ms(300))
        .max_staleness(MAX_STALENESS)
        .mode(if instance == STRICT { Mode::Strict } else { Mode::Available })
        .wall_clock_off(if instance == ASTRAY { DAY_MS } else { 0 })
        .namespace("strict", tagged.clone().mode(Mode::Strict))
        .namespace("aged", tagged.clone().ttl(ms(300)).negative_ttl(ms(60)).stale_while_revalidate(ms(100)).refresh_ahead(0.3))
        .namespace("once", tagged.clone().one_load_in_fleet(ms(200)))
        .default_policy(tagged);
    let with = |builder: Builder, mutation| builder.mutation(mutation);
    settings.mutation.into_iter().fold(builder, with).build().await.expect("an instance opens, with or without Redis")
}
