//! A restore as all see it who share a Redis: nothing of it, and then all of it, whoever restores, reads, came later or ended within it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, RestoreOptions, Watch};
use larder::{ErrorKind, Larder, Mutation, Names, Notice, RedisOptions};
use larder_testkit::redis::{Cluster, Server, ServerOptions, or_skip};

use crate::announced;

/// Three frames of an archive, after each of which others look, and two batches that a restore writes.
const ENTRIES: usize = 400;
const VALUE_BYTES: usize = 6 << 10;

async fn instance(url: &str, mutation: Option<Mutation>) -> Larder {
    let options = RedisOptions::parse(url).expect("the fixture's address is one").heartbeat(Duration::from_millis(50));
    let builder = Larder::builder().redis(options).index_bytes(1 << 16).memory(64 << 20);
    mutation.into_iter().fold(builder, |builder, mutation| builder.mutation(mutation)).build().await.expect("an instance opens")
}

fn key(n: usize) -> String {
    format!("n:{n}")
}

/// The entries that are looked at.
fn looked_at() -> impl Iterator<Item = usize> {
    (0..ENTRIES).step_by(3)
}

/// Which of them an instance shows.
async fn seen(larder: &Larder) -> HashSet<usize> {
    let mut seen = HashSet::new();
    for n in looked_at() {
        let found = if n.is_multiple_of(2) {
            larder.raw().lookup(key(n)).await.expect("a lookup works").fresh().is_some()
        } else {
            larder.raw().lookup_many([key(n)]).await.expect("many can be read").remove(0).fresh().is_some()
        };
        if found {
            seen.insert(n);
        }
    }
    seen
}

/// Where the servers of a fleet keep what they share.
trait Place: Send + Sync {
    fn url(&self) -> String;
    fn nodes(&self) -> Vec<&Server>;

    fn stored(&self) -> Vec<(&Server, String)> {
        let keys = |node| {
            let keys = Server::command(node, &["KEYS", "*n:*"]).expect("it is there");
            keys.items().iter().map(|key| (node, key.text().to_owned())).collect::<Vec<_>>()
        };
        self.nodes().into_iter().flat_map(keys).collect()
    }
}

impl Place for Server {
    fn url(&self) -> String {
        Server::url(self)
    }

    fn nodes(&self) -> Vec<&Server> {
        vec![self]
    }
}

impl Place for Cluster {
    fn url(&self) -> String {
        let hosts: Vec<String> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    fn nodes(&self) -> Vec<&Server> {
        self.nodes()[..3].iter().collect()
    }
}

/// Looks, as others do, while a restore writes; and stops it, if it is to be.
struct Looks {
    redis: Arc<dyn Place>,
    others: Vec<Larder>,
    /// After how many looks.
    stops_after: Option<usize>,
    looks: Mutex<Vec<(usize, usize)>>,
}

impl Watch for Looks {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        if doing != "restoring" && doing != "making it durable" {
            return;
        }
        let shown = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut shown = 0;
                for other in &self.others {
                    shown += seen(other).await.len();
                }
                shown
            })
        });
        self.looks.lock().expect("nobody panics with it").push((self.redis.stored().len(), shown));
    }

    fn is_cancelled(&self) -> bool {
        self.stops_after.is_some_and(|after| self.looks.lock().expect("nobody panics with it").len() >= after)
    }
}

/// Whoever reads one key after another: what he has not seen once he saw any.
async fn reads_on(larder: Larder, until: Arc<AtomicBool>, seed: u64) -> Vec<String> {
    let (mut random, mut wrong, mut first) = (fastrand::Rng::with_seed(seed), Vec::new(), None);
    while !until.load(Ordering::Acquire) {
        let n = random.usize(0..ENTRIES);
        let found = larder.raw().lookup(key(n)).await.expect("a lookup works").fresh().is_some();
        match first {
            _ if is_dead(n) && found => wrong.push(format!("{n} is dead, and was seen")),
            None if found => first = Some(n),
            Some(first) if !found && !is_dead(n) => wrong.push(format!("{first} was seen, and after it {n} was not")),
            _ => {}
        }
        // A hit waits for nothing, so nobody else would run on this thread.
        tokio::task::yield_now().await;
    }
    wrong
}

/// One in ten was invalidated after the backup.
fn is_dead(n: usize) -> bool {
    n.is_multiple_of(10)
}

/// A restore that may be interrupted, and is then run again by another, or given up: what anybody saw that he should not have.
async fn one_restore(redis: Arc<dyn Place>, seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    let (mut random, mut wrong) = (fastrand::Rng::with_seed(seed), Vec::new());
    let folder = tempfile::tempdir().expect("a folder");
    let place = || Arc::new(FolderPlace::new(folder.path()));
    let url = redis.url();
    let one = instance(&url, mutation).await;
    for n in 0..ENTRIES {
        let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(VALUE_BYTES).collect();
        one.raw().put(key(n), Bytes::from(value)).await.expect("it is put");
    }
    one.backup(place(), &BackupOptions::new("b"), Arc::new(())).await.expect("a backup is taken");
    let dead = (0..ENTRIES).filter(|n| is_dead(*n)).fold(Names::new(), |names, n| names.key(key(n)));
    one.invalidate(dead).await.expect("it is appended");
    one.close().await.expect("it closes");
    // As Redis evicts: nothing is said of it in the log, and it is in nobody's memory any more.
    for (node, key) in redis.stored() {
        node.command(&["DEL", &key]).expect("it is there");
    }
    let alive = (0..ENTRIES).filter(|n| !is_dead(*n)).count();

    let (one, other) = (instance(&url, mutation).await, instance(&url, mutation).await);
    let (mut notices, is_over) = (other.notices(100), Arc::new(AtomicBool::new(false)));
    let reading = tokio::spawn(reads_on(other.clone(), is_over.clone(), seed));
    let stops_after = random.bool().then(|| random.usize(2..4));
    let looks = |stops_after| {
        Arc::new(Looks { redis: redis.clone(), others: vec![one.clone(), other.clone()], stops_after, looks: Mutex::default() })
    };
    let looking = looks(stops_after);
    let outcome = one.restore(place(), &RestoreOptions::new("b"), looking.clone()).await;
    let looked = looking.looks.lock().expect("nobody panics with it").clone();
    if let Some((stored, shown)) = looked.iter().find(|(_, shown)| *shown > 0) {
        wrong.push(format!("{shown} were seen when {stored} were written"));
    }
    assert!(looked.iter().any(|(stored, _)| *stored > 0), "some were there to be seen: {looked:?}");
    let mut is_given_up = false;
    if stops_after.is_some() {
        assert_eq!(outcome.expect_err("it was stopped").kind(), ErrorKind::Cancelled);
        // As after a kill: who comes later has no memory of it.
        let later = instance(&url, mutation).await;
        for (name, larder) in [("who restored", &one), ("another", &other), ("who came later", &later)] {
            let seen = seen(larder).await.len();
            if seen > 0 {
                wrong.push(format!("{name} sees {seen} of what was interrupted"));
            }
        }
        let another = RestoreOptions { namespaces: vec!["m".into()], ..RestoreOptions::new("b") };
        let refused = later.restore(place(), &another, Arc::new(())).await.expect_err("it would show what this one left");
        assert!(refused.kind() == ErrorKind::Overloaded && refused.to_string().contains("interrupted"), "{refused}");
        let meanwhile = BackupOptions::new(format!("meanwhile-{seed}"));
        let taken = later.backup(place(), &meanwhile, Arc::new(())).await.expect("what is not seen is in nobody's way");
        if mutation.is_none() {
            assert_eq!(taken.entries, 0, "a backup has what readers see");
        }
        is_given_up = random.u8(..3) == 0;
        if is_given_up {
            assert!(later.abandon_restore().await.expect("it is given up") && !one.abandon_restore().await.expect("it was"));
        } else {
            let again = later.restore(place(), &RestoreOptions::new("b"), looks(None)).await.expect("it is run again");
            assert_eq!((again.restored, again.dead_invalidated), (alive as u64, (ENTRIES - alive) as u64), "{again:?}");
        }
        // Whoever was interrupted can restore something else now.
        one.restore(place(), &another, Arc::new(())).await.expect("nothing is in its way");
        later.close().await.expect("it closes");
    } else {
        assert_eq!(outcome.expect("it is restored").restored, alive as u64);
    }
    let expected = if is_given_up { HashSet::new() } else { looked_at().filter(|n| !is_dead(*n)).collect() };
    for (name, larder) in [("who restored", &one), ("another", &other)] {
        let seen = seen(larder).await;
        if seen != expected {
            wrong.push(format!("{name} sees {} of {} in the end", seen.len(), expected.len()));
        }
    }
    is_over.store(true, Ordering::Release);
    wrong.extend(reading.await.expect("a reader does not panic"));
    let told = tokio::time::timeout(Duration::from_secs(20), async { while notices.next().await.expect("it is open") != Notice::Lost {} });
    told.await.expect("who keeps that a key is not there is told to ask again");
    for larder in [one, other] {
        larder.close().await.expect("it closes");
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_see_all_of_a_restore_at_once() {
    let seed = announced("all_servers_see_all_of_a_restore_at_once");
    for seed in seed..seed + 3 {
        let Some(redis) = or_skip(Server::start(ServerOptions::default())) else { return };
        let wrong = one_restore(Arc::new(redis), seed, None).await;
        assert!(wrong.is_empty(), "LARDER_SEED={seed}: {wrong:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_cluster_too() {
    let seed = announced("over_a_cluster_too");
    let Some(cluster) = or_skip(Cluster::start(ServerOptions::default())) else { return };
    let wrong = one_restore(Arc::new(cluster), seed, None).await;
    assert!(wrong.is_empty(), "LARDER_SEED={seed}: {wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_ask_whether_a_hold_is_over_is_caught() {
    let seed = announced("who_does_not_ask_whether_a_hold_is_over_is_caught");
    let Some(redis) = or_skip(Server::start(ServerOptions::default())) else { return };
    let wrong = one_restore(Arc::new(redis), seed, Some(Mutation::HoldsUnasked)).await;
    assert!(!wrong.is_empty(), "LARDER_SEED={seed}: entries were served while they were written, and nobody noticed");
}
