//! A restore as all see it who share a Redis: nothing of it, and then all of it, whoever restores, reads, came later or ended within it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder::backup::{BackupOptions, FolderPlace, RestoreOptions, Watch};
use larder::{ErrorKind, Larder, Mutation, Names, Notice, RedisOptions};
use larder_testkit::redis::{Cluster, Server, ServerOptions, or_skip};
use larder_testkit::wait;

use crate::announced;

/// Long enough for what is heard with a heartbeat.
const LONG: Duration = Duration::from_secs(20);

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
    /// The same restore, run by another and stopped, at the first look: from where.
    meanwhile: Option<std::path::PathBuf>,
    /// How many entries there were, and what each of the others showed.
    looks: Mutex<Vec<(usize, Vec<HashSet<usize>>)>>,
}

/// Stops what it looks at, once that has written something.
struct Stops(AtomicUsize);

impl Watch for Stops {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        self.0.fetch_add(usize::from(doing == "restoring"), Ordering::AcqRel);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) > 1
    }
}

impl Looks {
    async fn look(&self) {
        let is_first = self.looks.lock().expect("nobody panics with it").is_empty();
        if let Some(folder) = self.meanwhile.as_ref().filter(|_| is_first) {
            let place = Arc::new(FolderPlace::new(folder));
            let other = self.others.last().expect("there is another");
            let stopped = other.restore(place, &RestoreOptions::new("b"), Arc::new(Stops(AtomicUsize::new(0)))).await;
            assert_eq!(stopped.expect_err("it is stopped").kind(), ErrorKind::Cancelled);
            other.flush().await.expect("Redis is there");
        }
        let mut shown = Vec::new();
        for other in &self.others {
            shown.push(seen(other).await);
        }
        self.looks.lock().expect("nobody panics with it").push((self.redis.stored().len(), shown));
    }
}

impl Watch for Looks {
    fn at(&self, doing: &str, _done: u64, _of: Option<u64>) {
        if ["restoring", "making it durable", "letting it be seen"].contains(&doing) {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.look()));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stops_after.is_some_and(|after| self.looks.lock().expect("nobody panics with it").len() >= after)
    }
}

/// Whoever reads on: what he has not seen of what comes once he saw any of it, in one answer or in several.
async fn reads_on(larder: Larder, comes: HashSet<usize>, until: Arc<AtomicBool>, seed: u64) -> Vec<String> {
    let (mut random, mut wrong, mut first) = (fastrand::Rng::with_seed(seed), Vec::new(), None);
    while !until.load(Ordering::Acquire) {
        let asked: Vec<usize> = (0..random.usize(1..100)).map(|_| random.usize(0..ENTRIES)).collect();
        let found: Vec<bool> = if let [n] = *asked {
            vec![larder.raw().lookup(key(n)).await.expect("a lookup works").fresh().is_some()]
        } else {
            let found = larder.raw().lookup_many(asked.iter().map(|n| key(*n))).await.expect("many can be read");
            found.into_iter().map(|found| found.fresh().is_some()).collect()
        };
        wrong.extend(asked.iter().zip(&found).filter(|(n, found)| is_dead(**n) && **found).map(|(n, _)| format!("{n} is dead, and seen")));
        let coming = || asked.iter().zip(&found).filter(|(n, _)| comes.contains(n));
        first = first.or_else(|| coming().find(|(_, found)| **found).map(|(n, _)| *n));
        if let (Some(first), Some((n, _))) = (first, coming().find(|(_, found)| !**found)) {
            wrong.push(format!("{first} was seen, and {n} then or later was not"));
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
    // As Redis evicts: nothing is said of it in the log, and it is in nobody's memory any more. Some stay, and everybody sees them.
    let stays = [0, 5][random.usize(0..2)];
    let is_there = |n: usize| n % 20 < stays && !is_dead(n);
    for (node, key) in redis.stored() {
        if !key.rsplit_once(':').and_then(|(_, n)| n.parse().ok()).is_some_and(is_there) {
            node.command(&["DEL", &key]).expect("it is there");
        }
    }
    let (all, there): (HashSet<usize>, HashSet<usize>) =
        ((0..ENTRIES).filter(|n| !is_dead(*n)).collect(), looked_at().filter(|n| is_there(*n)).collect());

    let (one, other) = (instance(&url, mutation).await, instance(&url, mutation).await);
    let (mut notices, is_over) = (other.notices(1_000), Arc::new(AtomicBool::new(false)));
    let comes = all.iter().copied().filter(|n| !is_there(*n)).collect();
    let reading = tokio::spawn(reads_on(other.clone(), comes, is_over.clone(), seed));
    let stops_after = random.bool().then(|| random.usize(1..4));
    let meanwhile = random.bool().then(|| folder.path().to_owned());
    let looks = |stops_after, meanwhile| {
        Arc::new(Looks { redis: redis.clone(), others: vec![one.clone(), other.clone()], stops_after, meanwhile, looks: Mutex::default() })
    };
    let looking = looks(stops_after, meanwhile.clone());
    let outcome = one.restore(place(), &RestoreOptions::new("b"), looking.clone()).await;
    let looked = std::mem::take(&mut *looking.looks.lock().expect("nobody panics with it"));
    for (stored, shown) in &looked {
        wrong.extend(shown.iter().filter(|shown| **shown != there).map(|shown| format!("{} seen of {stored} that are there", shown.len())));
    }
    let is_any_written = looked.iter().any(|(stored, _)| *stored > all.iter().filter(|n| is_there(**n)).count());
    assert!(is_any_written || stops_after.is_some(), "some were there to be seen");
    let mut is_given_up = false;
    if stops_after.is_some() {
        assert_eq!(outcome.expect_err("it was stopped").kind(), ErrorKind::Cancelled);
        // As after a kill: who comes later has no memory of it.
        let later = instance(&url, mutation).await;
        for (name, larder) in [("who restored", &one), ("another", &other), ("who came later", &later)] {
            let seen = seen(larder).await;
            if seen != there {
                wrong.push(format!("{name} sees {} of what was interrupted", seen.len()));
            }
        }
        let another = RestoreOptions { namespaces: vec!["m".into()], ..RestoreOptions::new("b") };
        if stops_after > Some(1) || meanwhile.is_some() {
            let refused = later.restore(place(), &another, Arc::new(())).await.expect_err("it would show what this one left");
            assert!(refused.kind() == ErrorKind::Overloaded && refused.to_string().contains("interrupted"), "{refused}");
            is_given_up = random.u8(..3) == 0;
            let is_told = || later.health().findings.iter().any(|finding| finding.about == "restore");
            assert!(tokio::task::block_in_place(|| wait::until(LONG, is_told)), "whoever asks how it is hears of it");
        }
        let parent = later.backup(place(), &BackupOptions::new("meanwhile"), Arc::new(())).await.expect("nothing is in its way");
        if mutation.is_none() {
            assert_eq!(parent.entries, all.iter().filter(|n| is_there(**n)).count() as u64, "a backup has what readers see");
        }
        if is_given_up {
            assert!(later.abandon_restore().await.expect("it is given up") && !one.abandon_restore().await.expect("it was"));
        } else {
            let again = later.restore(place(), &RestoreOptions::new("b"), looks(None, None)).await.expect("it is run again");
            assert_eq!((again.restored, again.dead_invalidated), (all.len() as u64, (ENTRIES - all.len()) as u64), "{again:?}");
            let told =
                tokio::time::timeout(Duration::from_secs(20), async { while notices.next().await.expect("it is open") != Notice::Lost {} });
            told.await.expect("who keeps that a key is not there is told to ask again");
            let since = BackupOptions { parent: Some("meanwhile".into()), ..BackupOptions::new("since") };
            let since = other.backup(place(), &since, Arc::new(())).await.expect("a backup is taken");
            let brought = all.iter().filter(|n| !is_there(**n)).count() as u64;
            assert!(since.entries >= brought, "what came into sight since is in the next: {} of {brought}", since.entries);
        }
        // Whoever was interrupted can restore something else now.
        one.restore(place(), &another, Arc::new(())).await.expect("nothing is in its way");
        later.close().await.expect("it closes");
    } else {
        assert_eq!(outcome.expect("it is restored").restored, all.len() as u64);
    }
    let expected = if is_given_up { HashSet::new() } else { looked_at().filter(|n| all.contains(n)).collect() };
    for (name, larder) in [("who restored", &one), ("another", &other)] {
        let seen = seen(larder).await;
        if seen != expected {
            wrong.push(format!("{name} sees {} of {} in the end", seen.len(), expected.len()));
        }
    }
    is_over.store(true, Ordering::Release);
    wrong.extend(reading.await.expect("a reader does not panic"));
    for larder in [one, other] {
        larder.close().await.expect("it closes");
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_see_all_of_a_restore_at_once() {
    let seed = announced("all_servers_see_all_of_a_restore_at_once");
    for seed in seed..seed + 4 {
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
