//! What is broken, by a seeded schedule: one thing at a time, now and then two, and after each the fleet must recover.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::site::{Site, Topology, entry_slot, log_key, log_slot};
use crate::proxy::Proxy;
use crate::redis::{Cluster, SentinelSet, Server};
use crate::wait;

/// How long the instances may take until they work again, when Redis does.
pub const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How long a stretch is in which nothing is broken.
const UNBROKEN: Duration = Duration::from_secs(2);

/// How long a silence is, in milliseconds, that lasts longer than an instance may go without hearing the log.
const LONG_MS: (u64, u64) = (700, 3_000);

/// How much more memory than it has a server may take while it is under pressure.
const HEADROOM_BYTES: u64 = 128 << 10;

/// How large the values are that fill it, and how many at most.
const FILLER_BYTES: usize = 4 << 10;
const FILLERS_MAX: usize = 4_000;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident => $name:literal,)+) => {
        /// Something that goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $($(#[doc = $doc])+ $fault),+ }

        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$fault),+];

            /// For people.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name),+ }
            }
        }
    };
}

faults! {
    /// `kill -9`, and back with what the append-only file has.
    KilledKeeping => "Redis killed, back with its data",
    /// `kill -9`, and back empty.
    KilledLosing => "Redis killed, back empty",
    /// `SIGSTOP` for up to two seconds.
    Paused => "Redis paused (SIGSTOP)",
    /// `FLUSHALL`.
    Flushed => "FLUSHALL",
    /// `SCRIPT FLUSH`.
    ScriptsFlushed => "SCRIPT FLUSH",
    /// `DEL` of one key of the log.
    LogKeyDeleted => "a key of the log deleted",
    /// `XTRIM` of the log's stream to nothing.
    StreamTrimmed => "the log's stream trimmed",
    /// Memory runs out under `allkeys-lru`.
    EvictedByUse => "memory full, allkeys-lru",
    /// Memory runs out under `volatile-ttl`.
    EvictedByTtl => "memory full, volatile-ttl",
    /// Memory runs out under `noeviction`.
    MemoryFull => "memory full, noeviction",
    /// Connections are reset.
    Cut => "connections cut",
    /// Connections are reset, and new ones refused.
    Refused => "connections refused",
    /// Nothing comes through, for less than an instance may go without hearing the log.
    Held => "network silent for a moment",
    /// Nothing comes through to one instance, for longer than that.
    HeldLong => "network silent past max_staleness",
    /// Everything takes longer.
    Delayed => "network slow",
    /// What is asked is done, and not answered.
    RepliesLost => "replies lost",
    /// One script is run, and not answered.
    ReplyLost => "the reply to one script lost",
    /// An instance is dropped as it is, and another one started in its place.
    InstanceKilled => "an instance killed",
    /// An instance is paused (`SIGSTOP`) for longer than it may go without hearing the log.
    InstancePaused => "an instance paused (SIGSTOP)",
    /// The sentinels are told to make another server the master.
    MasterReplaced => "Sentinel failover on demand",
    /// The master is killed.
    MasterKilled => "Sentinel failover, master killed",
    /// The master is paused until another has taken its place.
    MasterPaused => "Sentinel failover, master paused",
    /// The node that has the log hands over to its replica.
    OwnerReplaced => "Cluster failover on demand",
    /// The node that has the log is killed.
    OwnerKilled => "Cluster failover, node killed",
    /// The node that has the log is paused until its replica has taken its place.
    OwnerPaused => "Cluster failover, node paused",
    /// The slot of the log moves to another node.
    LogSlotMoved => "the log's slot moved",
    /// The slot of an entry moves to another node.
    EntrySlotMoved => "an entry's slot moved",
}

use Fault::*;

impl Fault {
    /// Whether it can happen there.
    pub fn fits(self, topology: Topology) -> bool {
        match self {
            Flushed | ScriptsFlushed | LogKeyDeleted | StreamTrimmed | EvictedByUse | EvictedByTtl | MemoryFull | InstanceKilled
            | InstancePaused => true,
            KilledKeeping | KilledLosing | Paused | Cut | Refused | Held | HeldLong | Delayed | RepliesLost | ReplyLost => {
                topology == Topology::Single
            }
            MasterReplaced | MasterKilled | MasterPaused => topology == Topology::Sentinel,
            OwnerReplaced | OwnerKilled | OwnerPaused | LogSlotMoved | EntrySlotMoved => topology == Topology::Cluster,
        }
    }

    /// Whether it can happen while something else does.
    fn comes_along(self) -> bool {
        matches!(self, Cut | Refused | Held | HeldLong | Delayed | RepliesLost | ReplyLost | InstanceKilled | InstancePaused)
    }
}

/// The instances, as whoever breaks things knows them.
pub trait Fleet: Sync {
    /// Drops an instance as it is, and starts another in its place.
    fn kill(&self, instance: usize);
    /// Whether each instance is a process of its own, so that it can be paused.
    fn can_pause(&self) -> bool {
        false
    }
    /// Lets an instance stand still for so long. Only called where instances [can be paused](Self::can_pause).
    fn pause(&self, _instance: usize, _time: Duration) {}
    /// What still keeps the instances from working as before.
    fn unrecovered(&self) -> Option<String>;
    /// Writes down what happened now.
    fn note(&self, what: String);
}

/// What was broken, and how the fleet took it.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    /// How often each thing was.
    pub faults: BTreeMap<Fault, u64>,
    /// How often the fleet recovered, and how long it took at most after Redis was back.
    pub recoveries: u64,
    /// The longest that took.
    pub slowest_recovery: Duration,
    /// When it did not, what kept it.
    pub unrecovered: Vec<String>,
}

impl Damage {
    /// Takes in another part of the run.
    pub fn join(&mut self, other: Damage) {
        other.faults.into_iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        self.recoveries += other.recoveries;
        self.slowest_recovery = self.slowest_recovery.max(other.slowest_recovery);
        self.unrecovered.extend(other.unrecovered);
    }
}

/// Breaks things.
pub struct Mischief<'a> {
    site: &'a Site,
    fleet: &'a dyn Fleet,
    instances: usize,
    rng: Rng,
    /// What is still to come before anything comes a second time.
    bag: Vec<Fault>,
    damage: Damage,
}

impl<'a> Mischief<'a> {
    /// Nothing is broken yet. Every kind of fault that fits comes once, in an order that the seed gives, before any comes again.
    pub fn new(site: &'a Site, fleet: &'a dyn Fleet, instances: usize, seed: u64) -> Self {
        Mischief { site, fleet, instances, rng: Rng::with_seed(seed), bag: Vec::new(), damage: Damage::default() }
    }

    /// Strikes some times, but not once it is late. Where nothing is to be broken it only lets time pass.
    pub fn strike_until(&mut self, until: Instant, strikes: usize, kinds: &[Fault]) {
        if kinds.is_empty() {
            pass(until.saturating_duration_since(Instant::now()).min(UNBROKEN));
        }
        for _ in 0..strikes {
            if Instant::now() < until {
                self.strike(kinds);
            }
        }
    }

    /// Breaks one thing, or two, mends them, and waits until the fleet has recovered.
    pub fn strike(&mut self, kinds: &[Fault]) {
        let can_happen = |fault: &Fault| fault.fits(self.site.topology()) && (*fault != InstancePaused || self.fleet.can_pause());
        if self.bag.is_empty() {
            self.bag = kinds.iter().copied().filter(can_happen).collect();
            self.rng.shuffle(&mut self.bag);
        }
        let Some(fault) = self.bag.pop() else { return };
        let others: Vec<Fault> = kinds.iter().copied().filter(|other| other.comes_along() && *other != fault).filter(can_happen).collect();
        let second = self.rng.choice(&others).copied().filter(|_| self.rng.u32(0..3) == 0);
        let (mut one, mut two) = (self.rng.fork(), self.rng.fork());
        let (site, fleet, instances) = (self.site, self.fleet, self.instances);
        let strike = |fault: Fault, rng: &mut Rng| Strike { site, fleet, instances, rng }.play(fault);
        let played = catch_unwind(AssertUnwindSafe(|| {
            std::thread::scope(|scope| {
                let along = second.map(|second| {
                    scope.spawn(move || {
                        let rng = &mut two;
                        pass(between(rng, 0, 300));
                        Strike { site, fleet, instances, rng }.play(second);
                    })
                });
                strike(fault, &mut one);
                along.map_or(Ok(()), std::thread::ScopedJoinHandle::join)
            })
        }));
        if !matches!(played, Ok(Ok(()))) {
            self.damage.unrecovered.push(format!("{} (with {second:?}) could not be played to its end", fault.name()));
        }
        site.mend();
        [Some(fault), second].into_iter().flatten().for_each(|fault| *self.damage.faults.entry(fault).or_default() += 1);
        self.recover(fault);
        pass(between(&mut self.rng, 20, 500));
    }

    fn recover(&mut self, from: Fault) {
        let began = Instant::now();
        if wait::until(RECOVERY_MAX, || self.fleet.unrecovered().is_none()) {
            self.damage.recoveries += 1;
            self.damage.slowest_recovery = self.damage.slowest_recovery.max(began.elapsed());
            self.fleet.note("all have recovered".to_owned());
        } else {
            let what = self.fleet.unrecovered().unwrap_or_else(|| "it has now".to_owned());
            self.damage.unrecovered.push(format!("{RECOVERY_MAX:?} after \"{}\" was over: {what}", from.name()));
        }
    }

    /// What was done.
    pub fn damage(self) -> Damage {
        self.damage
    }
}

/// One fault as it is played.
struct Strike<'a> {
    site: &'a Site,
    fleet: &'a dyn Fleet,
    instances: usize,
    rng: &'a mut Rng,
}

impl Strike<'_> {
    fn play(&mut self, fault: Fault) {
        self.fleet.note(format!("{} begins", fault.name()));
        match fault {
            Cut | Refused | Held | HeldLong | Delayed | RepliesLost | ReplyLost => self.break_network(fault),
            InstanceKilled => self.fleet.kill(self.rng.usize(0..self.instances)),
            InstancePaused => self.fleet.pause(self.rng.usize(0..self.instances), between(self.rng, LONG_MS.0, LONG_MS.1)),
            MasterReplaced | MasterKilled | MasterPaused => {
                if let Site::Sentinel(set) = self.site {
                    self.fail_over(set, fault);
                }
            }
            OwnerReplaced | OwnerKilled | OwnerPaused | LogSlotMoved | EntrySlotMoved => {
                if let Site::Cluster(cluster) = self.site {
                    self.shift(cluster, fault);
                }
            }
            _ => self.break_server(fault, self.site.log_server()),
        }
        self.fleet.note(format!("{} is over", fault.name()));
    }

    fn break_server(&mut self, fault: Fault, server: &Server) {
        // One that is down already, by another fault, has nothing to lose.
        let tell = |words: &[&str]| drop(server.command(words));
        match fault {
            KilledKeeping | KilledLosing => {
                server.kill();
                pass(between(self.rng, 0, 1_500));
                server.restart(fault == KilledKeeping);
            }
            Paused => {
                server.pause();
                pass(between(self.rng, 50, 2_000));
                server.resume();
            }
            Flushed => tell(&["FLUSHALL"]),
            ScriptsFlushed => tell(&["SCRIPT", "FLUSH"]),
            LogKeyDeleted => {
                let name = *self.rng.choice(&["log", "checkpoint", "checkpoint:unfinished", "stream", "members"]).expect("there are some");
                tell(&["DEL", &log_key(name)]);
            }
            StreamTrimmed => tell(&["XTRIM", &log_key("stream"), "MAXLEN", "0"]),
            EvictedByUse => self.fill(server, "allkeys-lru"),
            EvictedByTtl => self.fill(server, "volatile-ttl"),
            _ => self.fill(server, "noeviction"),
        }
    }

    /// Lets a server's memory run out, and makes room again.
    fn fill(&mut self, server: &Server, policy: &str) {
        let tell = |words: &[&str]| server.command(words);
        let Some(used) = server.info("used_memory").and_then(|used| used.parse::<u64>().ok()) else { return };
        let limit = (used + HEADROOM_BYTES).to_string();
        drop(tell(&["CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", &limit]));
        let (filler, until) = ("x".repeat(FILLER_BYTES), Instant::now() + between(self.rng, 200, 1_500));
        let mut filled = 0;
        let Ok(mut connection) = server.connect(Duration::from_secs(1)) else { return };
        while Instant::now() < until && filled < FILLERS_MAX {
            // In a cluster they have to be where the log is.
            let key = log_key(&format!("filler:{filled}"));
            drop(connection.command(&["SET", &key, &filler, "EX", "600"]));
            filled += 1;
            if filled % 64 == 0 {
                pass(Duration::from_millis(10));
            }
        }
        drop(tell(&["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"]));
        (0..filled).for_each(|number| drop(connection.command(&["UNLINK", &log_key(&format!("filler:{number}"))])));
    }

    fn break_network(&mut self, fault: Fault) {
        let Site::Single { proxies, .. } = self.site else { return };
        let all = fault != HeldLong && self.rng.u32(0..3) == 0;
        let one = self.rng.usize(0..proxies.len());
        let chosen: Vec<&Proxy> = proxies.iter().enumerate().filter(|(at, _)| all || *at == one).map(|(_, proxy)| proxy).collect();
        let delay = between(self.rng, 1, 80);
        for proxy in &chosen {
            match fault {
                Cut => proxy.cut(),
                Refused => {
                    proxy.refuse();
                    proxy.cut();
                }
                Held | HeldLong => proxy.hold(),
                Delayed => proxy.delay(delay),
                RepliesLost => proxy.drop_replies(),
                _ => proxy.lose_reply_to(b"EVALSHA"),
            }
        }
        match fault {
            Cut => {}
            ReplyLost => drop(wait::until(Duration::from_secs(1), || chosen.iter().all(|proxy| proxy.traps() == 0))),
            HeldLong => pass(between(self.rng, LONG_MS.0, LONG_MS.1)),
            Held => pass(between(self.rng, 50, 400)),
            _ => pass(between(self.rng, 50, 1_500)),
        }
        // What was held and came late is one thing, what is lost another.
        if matches!(fault, Held | HeldLong) && self.rng.bool() {
            chosen.iter().for_each(|proxy| proxy.cut());
        }
        chosen.iter().for_each(|proxy| proxy.heal());
    }

    fn fail_over(&mut self, set: &SentinelSet, fault: Fault) {
        match fault {
            MasterReplaced => drop(set.failover()),
            MasterKilled => {
                set.kill_master();
                set.wait_until_settled();
                set.restart_dead();
            }
            _ => {
                set.pause_master();
                // Sometimes it wakes before anybody has noticed, and sometimes while the others elect.
                if self.rng.bool() {
                    pass(between(self.rng, 100, 2_500));
                } else {
                    set.wait_until_settled();
                }
                set.resume_paused();
            }
        }
    }

    fn shift(&mut self, cluster: &Cluster, fault: Fault) {
        let slot = log_slot();
        match fault {
            OwnerReplaced => drop(cluster.failover(slot)),
            OwnerKilled => {
                cluster.kill_owner(slot);
                cluster.wait_until_settled();
                cluster.restart_dead();
            }
            OwnerPaused => {
                cluster.nodes()[cluster.owner_of(slot)].pause();
                if self.rng.bool() {
                    pass(between(self.rng, 100, 3_000));
                } else {
                    cluster.wait_until_settled();
                }
                cluster.resume_paused();
            }
            LogSlotMoved => self.migrate(cluster, slot),
            _ => {
                let (symbol, part) = (self.rng.u32(0..4), self.rng.u32(0..3));
                self.migrate(cluster, entry_slot(&format!("plain:S{symbol}:p{part}")));
            }
        }
    }

    fn migrate(&mut self, cluster: &Cluster, slot: u16) {
        let owner = cluster.owner_of(slot);
        let is_master = |at: &usize| *at != owner && cluster.nodes()[*at].info("role").as_deref() == Some("master");
        let masters: Vec<usize> = (0..cluster.nodes().len()).filter(is_master).collect();
        if let Some(to) = self.rng.choice(masters) {
            cluster.migrate_slot(slot, to);
        }
    }
}

fn between(rng: &mut Rng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(rng.u64(from_ms..=to_ms))
}

/// Lets some time pass, which is all that is wanted: things stay broken for so long.
fn pass(time: Duration) {
    let never_comes = wait::until(time, || false);
    debug_assert!(!never_comes);
}
