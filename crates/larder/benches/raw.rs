//! What a server pays the cache for each of its requests: reads and writes of encoded values of 1 KB under whole keys, in memory.
//!
//! `cargo bench -p larder --bench raw` prints nanoseconds of the thread's own CPU time for each, the medians of rounds:
//!
//! - `quick`: a hit, after which nothing was appended; `checked`: a hit after an append of something else, whose names are looked up
//! - `lookup`: the same hit by the future that everything else is asked of
//! - `put`: a put that replaces a value; `new`: one of a key that is not there; `change`: a read-modify-write
//!
//! With `-- WAY N` it does nothing but N of one kind, for a tool that counts instructions (`valgrind --tool=callgrind`): two N tell
//! what one takes.

use std::future::Future;

use bytes::Bytes;
use larder::{Change, Larder, Raw};
use rustix::time::{ClockId, clock_gettime};

const KEYS: usize = 10_000;
const ROUNDS: usize = 11;
const EACH: usize = 100_000;
const WAYS: [&str; 6] = ["quick", "checked", "lookup", "put", "new", "change"];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime to measure in");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    runtime.block_on(async {
        if let [way, count] = args.as_slice() {
            return run(&Side::new().await, way, count.parse().expect("a number of requests")).await;
        }
        println!("{:>10} {:>10} {:>10}", "", "ns", "fastest");
        let side = Side::new().await;
        for way in WAYS {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(timed(run(&side, way, EACH)).await / EACH as f64);
            }
            times.sort_by(f64::total_cmp);
            println!("{way:>10} {:>10.1} {:>10.1}", times[ROUNDS / 2], times[0]);
        }
    });
}

struct Side {
    raw: Raw,
    keys: Vec<String>,
    value: Bytes,
}

impl Side {
    async fn new() -> Self {
        let larder = Larder::builder().memory(256 << 20).index_bytes(64 << 20).build().await.expect("a cache in memory opens");
        let (raw, value) = (larder.raw(), Bytes::from(vec![b'x'; 1024]));
        let keys: Vec<String> = (0..KEYS).map(|n| format!("key:{n:012}")).collect();
        for key in &keys {
            raw.put(key, value.clone()).await.expect("a put into memory succeeds");
        }
        Side { raw, keys, value }
    }
}

async fn run(side: &Side, way: &str, count: usize) {
    let Side { raw, keys, value } = side;
    // A prime step, so that neighbours are not asked for one after the other.
    let order = (0..count).map(|n| &keys[n * 7919 % KEYS]);
    match way {
        "quick" => order.for_each(|key| assert!(raw.quick(key).is_some_and(|hit| hit.len() == 1024))),
        "checked" => {
            // Each append has all keys looked at anew once.
            for (n, key) in order.enumerate() {
                if n % KEYS == 0 {
                    raw.remove(["key:other"]).await.expect("the log is in memory");
                }
                assert!(raw.quick(key).is_some_and(|hit| hit.len() == 1024));
            }
        }
        "lookup" => {
            for key in order {
                assert!(raw.lookup(key).await.expect("the key is one").fresh().is_some());
            }
        }
        "put" => {
            for key in order {
                raw.put(key, value.clone()).await.expect("a put into memory succeeds");
            }
        }
        "new" => {
            for n in 0..count {
                raw.put(format!("new:{n:012}"), value.clone()).await.expect("a put into memory succeeds");
            }
        }
        "change" => {
            for key in order {
                let changed = raw.change(key, |there| (Change::Value(value.clone()), there.is_some())).await;
                assert!(changed.expect("a change in memory succeeds").outcome);
            }
        }
        other => panic!("the ways are {WAYS:?}, not {other}"),
    }
}

async fn timed(work: impl Future<Output = ()>) -> f64 {
    let start = cpu_ns();
    work.await;
    (cpu_ns() - start) as f64
}

/// This thread's CPU time: what other processes do to the machine is left out, but for the caches.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
