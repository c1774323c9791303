//! A sharded map of values that expire, with one load per key in flight: what the baselines stand on.
//!
//! Expired values stay in the map until they are replaced or deleted; the demo's keys are few, so that is no leak.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::super::cache::{Answer, Served};

/// A power of two well above the machine's threads, so that they rarely meet at one lock.
const SHARDS: usize = 64;

/// Values by key.
#[derive(Debug)]
pub struct Store<V> {
    time_to_live: Duration,
    hasher: RandomState,
    shards: Box<[Shard<V>]>,
}

/// A load under way; those who find it wait for its value.
type Flight<V> = Arc<OnceCell<Arc<V>>>;

#[derive(Debug)]
struct Shard<V> {
    entries: RwLock<HashMap<String, Entry<V>>>,
    /// Locked only by reads that missed. Never held together with `entries`.
    flights: Mutex<HashMap<String, Flight<V>>>,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    expires: Instant,
}

impl<V> Store<V> {
    /// An empty store.
    pub fn new(time_to_live: Duration) -> Self {
        let shard = |_| Shard { entries: RwLock::default(), flights: Mutex::default() };
        Self { time_to_live, hasher: RandomState::new(), shards: (0..SHARDS).map(shard).collect() }
    }

    /// The value of `key`: a stored one that has not expired, or that of the load in flight, or of a new load.
    pub async fn get_or_load<F>(&self, key: &str, now: Instant, load: impl FnOnce() -> F) -> Answer<Arc<V>>
    where
        F: Future<Output = V>,
    {
        let shard = self.shard(key);
        if let Some(value) = shard.unexpired(key, now) {
            return Answer { value, served: Served::Memory };
        }
        let flight = Arc::clone(shard.flights().entry(key.to_owned()).or_default());
        let mut served = Served::Joined;
        let lead = async || {
            // The flight that this read just missed may have landed before this one was entered.
            if let Some(value) = shard.unexpired(key, now) {
                shard.land(key, &flight);
                return value;
            }
            served = Served::Loaded;
            let value = Arc::new(load().await);
            shard.store(key, Entry { value: Arc::clone(&value), expires: Instant::now() + self.time_to_live });
            shard.land(key, &flight);
            value
        };
        let value = Arc::clone(flight.get_or_init(lead).await);
        Answer { value, served }
    }

    /// Removes the value of `key`. A load in flight is left alone: like its models, this store does not know of it here.
    pub fn delete(&self, key: &str) {
        let mut entries = self.shard(key).entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(key);
    }

    fn shard(&self, key: &str) -> &Shard<V> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("SHARDS is small")]
    }
}

impl<V> Shard<V> {
    fn unexpired(&self, key: &str, now: Instant) -> Option<Arc<V>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|entry| now < entry.expires).map(|entry| Arc::clone(&entry.value))
    }

    /// Stores without asking what happened since the load began: the fault that the demo shows.
    fn store(&self, key: &str, entry: Entry<V>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.to_owned(), entry);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<String, Flight<V>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a flight off the board, unless another has taken its place.
    fn land(&self, key: &str, flight: &Flight<V>) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|boarded| Arc::ptr_eq(boarded, flight)) {
            flights.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn store() -> Arc<Store<u32>> {
        Arc::new(Store::new(LONG))
    }

    /// Reads `key` in a task, with a load that answers what is sent through the returned door.
    fn read(store: &Arc<Store<u32>>, key: &'static str) -> (oneshot::Sender<u32>, tokio::task::JoinHandle<Answer<Arc<u32>>>) {
        let (door, answer) = oneshot::channel();
        let store = Arc::clone(store);
        let load = || async { answer.await.expect("the test answers every load that is asked for") };
        let task = tokio::spawn(async move { store.get_or_load(key, Instant::now(), load).await });
        (door, task)
    }

    async fn until_in_flight(store: &Store<u32>, key: &str) {
        while !store.shard(key).flights().contains_key(key) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_value_is_kept_until_it_is_deleted() {
        let store = store();
        let now = Instant::now();
        let loaded = store.get_or_load("k", now, || async { 1 }).await;
        assert_eq!((*loaded.value, loaded.served), (1, Served::Loaded));
        let hit = store.get_or_load("k", now, || async { 2 }).await;
        assert_eq!((*hit.value, hit.served), (1, Served::Memory));
        store.delete("k");
        let again = store.get_or_load("k", now, || async { 3 }).await;
        assert_eq!((*again.value, again.served), (3, Served::Loaded));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_expires() {
        let store = store();
        store.get_or_load("k", Instant::now(), || async { 1 }).await;
        tokio::time::advance(LONG - Duration::from_millis(1)).await;
        assert_eq!(store.get_or_load("k", Instant::now(), || async { 2 }).await.served, Served::Memory);
        tokio::time::advance(Duration::from_millis(1)).await;
        let answer = store.get_or_load("k", Instant::now(), || async { 3 }).await;
        assert_eq!((*answer.value, answer.served), (3, Served::Loaded));
    }

    #[tokio::test]
    async fn concurrent_reads_share_a_load() {
        let store = store();
        let (door, leader) = read(&store, "k");
        until_in_flight(&store, "k").await;
        let loads = Arc::new(AtomicU32::new(0));
        let joiners: Vec<_> = (0..10)
            .map(|_| {
                let (store, loads) = (Arc::clone(&store), Arc::clone(&loads));
                let load = move || async move { loads.fetch_add(1, Ordering::Relaxed) };
                tokio::spawn(async move { store.get_or_load("k", Instant::now(), load).await })
            })
            .collect();
        door.send(7).expect("the leader waits for it");
        assert_eq!(leader.await.expect("no panic").served, Served::Loaded);
        for joiner in joiners {
            let answer = joiner.await.expect("no panic");
            assert_eq!(*answer.value, 7);
            assert_ne!(answer.served, Served::Loaded);
        }
        assert_eq!(loads.load(Ordering::Relaxed), 0);
        assert!(store.shard("k").flights().is_empty());
    }

    /// What the demo exists to show, step by step and without chance.
    #[tokio::test]
    async fn a_load_that_a_delete_overtook_stores_its_old_value() {
        let store = store();
        let (door, leader) = read(&store, "k");
        until_in_flight(&store, "k").await;
        store.delete("k");
        let (_unused, joiner) = read(&store, "k");
        door.send(1).expect("the leader waits for it");
        assert_eq!(*leader.await.expect("no panic").value, 1);
        assert_eq!(*joiner.await.expect("no panic").value, 1, "whoever came after the delete got the old value");
        let later = store.get_or_load("k", Instant::now(), || async { 2 }).await;
        assert_eq!((*later.value, later.served), (1, Served::Memory), "and so does everyone after");
    }

    #[tokio::test]
    async fn a_read_that_is_dropped_leaves_the_key_loadable() {
        let store = store();
        let (_door, leader) = read(&store, "k");
        until_in_flight(&store, "k").await;
        leader.abort();
        assert!(leader.await.expect_err("it was aborted").is_cancelled());
        let answer = store.get_or_load("k", Instant::now(), || async { 5 }).await;
        assert_eq!((*answer.value, answer.served), (5, Served::Loaded));
    }
}
