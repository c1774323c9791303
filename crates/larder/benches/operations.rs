//! Everything but the memory hit: misses, puts, the slow-path check, and invalidations, which must cost the same at a
//! thousand entries and at a million.
//!
//! `cargo bench -p larder --bench operations`

use std::sync::OnceLock;

use divan::Bencher;
use larder::{Item, Larder, Lookup, Names, Namespace, Policy};
use tokio::runtime::Runtime;

const ENTRIES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime to measure in")
    })
}

/// A cache of so many entries, each with the tag of its symbol; a thousand symbols.
struct Filled {
    larder: Larder,
    features: Namespace<u64>,
}

fn filled(entries: usize) -> Filled {
    runtime().block_on(async {
        let larder = Larder::builder().memory(4 << 30).index_bytes(256 << 20).namespace("features", Policy::default().tag("symbol:{1}"));
        // The sweep after each invalidation is not what is measured here.
        let larder = larder.sweep_every(std::time::Duration::from_secs(3600)).build().await.expect("a cache in memory opens");
        let features = larder.namespace::<u64>("features").expect("the type fits");
        let keys: Vec<String> = (0..entries).map(|n| format!("S{}:{n}", n % 1000)).collect();
        for chunk in keys.chunks(10_000) {
            features.put_many(chunk.iter().map(|key| (key, 7u64))).await.expect("puts into memory succeed");
        }
        Filled { larder, features }
    })
}

/// One invalidation of one name, however many entries it kills: from the call to the receipt.
fn invalidate(bencher: Bencher, entries: usize, names: impl Fn(usize) -> Names + Sync) {
    let filled = filled(entries);
    let mut n = 0;
    bencher
        .with_inputs(|| {
            n += 1;
            names(n % 1000)
        })
        .bench_local_values(|names| runtime().block_on(filled.larder.invalidate(names)).expect("the log is in memory"));
}

#[divan::bench(args = ENTRIES, sample_count = 50, sample_size = 200)]
fn invalidate_key(bencher: Bencher, entries: usize) {
    invalidate(bencher, entries, |n| Names::new().key(format!("features:S{n}:{n}")));
}

#[divan::bench(args = ENTRIES, sample_count = 50, sample_size = 200)]
fn invalidate_tag(bencher: Bencher, entries: usize) {
    invalidate(bencher, entries, |n| Names::new().tag(format!("symbol:S{n}")));
}

#[divan::bench(args = ENTRIES, sample_count = 50, sample_size = 200)]
fn invalidate_pattern(bencher: Bencher, entries: usize) {
    invalidate(bencher, entries, |n| Names::new().pattern(format!("features:S{n}:*")));
}

#[divan::bench(args = ENTRIES, sample_count = 50, sample_size = 200)]
fn invalidate_everything(bencher: Bencher, entries: usize) {
    invalidate(bencher, entries, |_| Names::new().everything());
}

/// The first hit of an entry after something else was invalidated: its names are checked and it is stamped anew. Two
/// names (key and tag), and one shape in use.
#[divan::bench(args = [1_000, 50_000, 1_000_000], sample_count = 50, sample_size = 1)]
fn check_after_an_invalidation(bencher: Bencher, entries: usize) {
    const READS: usize = 1_000;
    let filled = filled(entries);
    let mut rng = fastrand::Rng::with_seed(1);
    bencher
        .counter(divan::counter::ItemsCount::new(READS))
        .with_inputs(|| {
            runtime().block_on(filled.larder.invalidate(Names::new().pattern("features:none:*"))).expect("the log is in memory");
            (0..READS).map(|_| rng.usize(..entries)).map(|n| format!("S{}:{n}", n % 1000)).collect::<Vec<_>>()
        })
        .bench_local_refs(|keys| {
            runtime().block_on(async {
                let mut hits = 0;
                for key in keys.iter() {
                    hits += usize::from(filled.features.get(key).await.expect("the key is one").is_some());
                }
                assert!(hits > READS * 99 / 100, "what is timed is hits, and {hits} of {READS} were");
            });
        });
}

#[divan::bench(args = [50_000, 1_000_000], sample_count = 50, sample_size = 2_000)]
fn miss(bencher: Bencher, entries: usize) {
    let filled = filled(entries);
    let mut n = 0;
    bencher
        .with_inputs(|| {
            n += 1;
            format!("none:{n}")
        })
        .bench_local_refs(|key| assert!(matches!(runtime().block_on(filled.features.lookup(key)), Ok(Lookup::Miss(_)))));
}

#[divan::bench(args = [50_000, 1_000_000], sample_count = 50, sample_size = 2_000)]
fn put(bencher: Bencher, entries: usize) {
    let filled = filled(entries);
    let mut rng = fastrand::Rng::with_seed(1);
    bencher
        .with_inputs(|| rng.usize(..entries))
        .bench_local_values(|n| runtime().block_on(filled.features.put(format!("S{}:{n}", n % 1000), 8u64)).expect("the log is in memory"));
}

#[divan::bench(sample_count = 50, sample_size = 500)]
fn load(bencher: Bencher) {
    let filled = filled(1_000);
    let mut n = 0;
    bencher
        .with_inputs(|| {
            n += 1;
            format!("new:{n}")
        })
        .bench_local_refs(|key| {
            let loaded = filled.features.get_or_load(key, || async { Ok::<_, std::io::Error>(Item::new(9u64)) });
            runtime().block_on(loaded).expect("the loader succeeds")
        });
}
