//! A hit in the backing tier: what the client pays for it, beside what a bare `GET` of the same bytes costs.
//!
//! The reader has the smallest memory there is, so that every read is a hit in the backing tier: it is judged, decoded and put into memory,
//! and puts another entry out. All threads share one lock of it, where a larger memory has several.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use larder::{Larder, Namespace};
use larder_testkit::redis::Server;
use redis::aio::MultiplexedConnection;

use crate::measure::{Took, VALUE_LEN, bare, builder, instance, median, runtime, side_by_side, timed};

/// Rounds of each side: many and short ones, because the machine's speed changes from one second to the next.
const ROUNDS: usize = 45;

/// Reads of a side in a round.
const READS: usize = 5_000;

/// Many times what the reader's memory holds, so that hardly a read is answered from there.
const KEYS: usize = 20 * READS;

/// The smallest pool.
const MEMORY: u64 = 64 << 10;

/// What is compared.
struct Sides {
    keys: Vec<String>,
    reader: Larder,
    features: Namespace<Bytes>,
    bare: MultiplexedConnection,
}

pub fn run(server: &Server) {
    println!(
        "{:>8} {:>6} {:>10} {:>12} {:>12} {:>8} {:>12} {:>8}",
        "threads", "tasks", "bare, us", "typed, us", "raw, us", "ratio", "bare/s", "typed/s"
    );
    for (workers, tasks) in [(1, 1), (1, 4), (1, 64), (2, 2), (2, 8), (2, 64), (2, 256)] {
        runtime(workers).block_on(compare(server, workers, tasks));
    }
}

async fn compare(server: &Server, workers: usize, tasks: usize) {
    let sides = Sides::fill(server).await;
    let (mut bare, mut typed, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for keys in sides.keys.chunks(2 * READS).cycle().take(ROUNDS) {
        let (for_typed, for_raw) = keys.split_at(READS);
        bare.push(timed(sides.read_bare(tasks, for_typed.into())).await);
        typed.push(timed(sides.read_typed(tasks, for_typed.into())).await);
        raw.push(timed(sides.read_raw(tasks, for_raw.into())).await);
    }
    let cpu = |rounds: &[Took]| median(rounds.iter().map(|took| took.cpu.as_secs_f64() * 1e6 / READS as f64).collect());
    let rate = |rounds: &[Took]| median(rounds.iter().map(|took| READS as f64 / took.wall.as_secs_f64()).collect());
    let ratio = median(bare.iter().zip(&typed).map(|(bare, typed)| typed.cpu.as_secs_f64() / bare.cpu.as_secs_f64()).collect());
    println!(
        "{workers:>8} {tasks:>6} {:>10.2} {:>12.2} {:>12.2} {ratio:>8.2} {:>12.0} {:>8.0}",
        cpu(&bare),
        cpu(&typed),
        cpu(&raw),
        rate(&bare),
        rate(&typed)
    );
    sides.reader.close().await.expect("it closes");
}

impl Sides {
    async fn fill(server: &Server) -> Self {
        let keys: Vec<String> = (0..KEYS).map(|n| format!("SYM{n}:5m")).collect();
        let writer = instance(builder(server)).await;
        let features = writer.namespace::<Bytes>("features").expect("the type fits");
        let mut rng = fastrand::Rng::with_seed(7);
        for some in keys.chunks(1_000) {
            let mut value = || Bytes::from_iter((0..VALUE_LEN).map(|_| rng.u8(..)));
            let receipt = features.put_many(some.iter().map(|key| (key, value()))).await.expect("the server is there");
            assert!(!receipt.is_queued());
        }
        writer.close().await.expect("it closes");
        let reader = instance(builder(server).memory(MEMORY)).await;
        let features = reader.namespace::<Bytes>("features").expect("the type fits");
        Sides { keys, reader, features, bare: bare(server).await }
    }

    async fn read_bare(&self, tasks: usize, keys: Arc<[String]>) {
        each_key(keys, tasks, &self.bare, |mut bare, key| async move {
            let command = redis::Cmd::get(["larder:e:features:", &key].concat());
            let value: Vec<u8> = command.query_async(&mut bare).await.expect("the server is there");
            assert!(value.len() > VALUE_LEN);
            bare
        })
        .await;
    }

    async fn read_typed(&self, tasks: usize, keys: Arc<[String]>) {
        let before = self.hits();
        each_key(keys, tasks, &self.features, |features, key| async move {
            let value = features.get(&key).await.expect("the key is one").expect("it is there");
            assert_eq!(value.len(), VALUE_LEN);
            features
        })
        .await;
        self.check(before);
    }

    async fn read_raw(&self, tasks: usize, keys: Arc<[String]>) {
        let before = self.hits();
        each_key(keys, tasks, &self.reader.raw(), |raw, key| async move {
            let found = raw.lookup(["features:", &key].concat()).await.expect("the key is one");
            assert_eq!(found.fresh().expect("it is there").len(), VALUE_LEN);
            raw
        })
        .await;
        self.check(before);
    }

    fn hits(&self) -> u64 {
        self.reader.stats().namespaces.iter().map(|namespace| namespace.counts.hits_backing).sum()
    }

    fn check(&self, before: u64) {
        let hits = self.hits() - before;
        assert!(hits > READS as u64 * 97 / 100, "what is timed is hits in the backing tier, and {hits} of {READS} were");
    }
}

/// Reads every key once, by so many tasks that each take the next key when they are done with one.
async fn each_key<S, F>(keys: Arc<[String]>, tasks: usize, side: &S, read: fn(S, String) -> F)
where
    S: Clone + Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    side_by_side(tasks, |_| {
        let (keys, next, mut side) = (keys.clone(), next.clone(), side.clone());
        async move {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                side = read(side, key.clone()).await;
            }
        }
    })
    .await;
}
