//! Memory that is given out while a cache runs, beside the same reads over a shared pool.

use super::*;
use crate::{Clock, Policy};

const MIB: u64 = 1 << 20;

/// What is read next: the namespace, and the key in it.
type Reads = fn(&mut fastrand::Rng, u64) -> (usize, u64);

/// Of many a logarithm that is even is about as Zipf has it.
fn zipf(random: &mut fastrand::Rng, keys: f64) -> u64 {
    keys.powf(random.f64()) as u64
}

const NAMES: [&str; 3] = ["loop", "scan", "hot"];

/// A loop that fits into what there is but not beside a scan, and some that are hot.
fn loop_and_scan(random: &mut fastrand::Rng, n: u64) -> (usize, u64) {
    match n % 10 {
        0..3 => (0, n / 10 * 3 % 3_000 + n % 10),
        3..8 => (1, n),
        _ => (2, zipf(random, 20_000.0)),
    }
}

/// Three that are alike: a shared pool is as good.
fn alike(random: &mut fastrand::Rng, n: u64) -> (usize, u64) {
    ((n % 3) as usize, zipf(random, 20_000.0))
}

/// What changes its ways every so many reads: what was hot is a scan, and what was a scan is hot.
fn turning<const READS: u64, const HOT: u64>(random: &mut fastrand::Rng, n: u64) -> (usize, u64) {
    let turned = (n / READS) % 2 == 1;
    let hot = n.is_multiple_of(2);
    (usize::from(hot == turned), if hot { zipf(random, HOT as f64) } else { n })
}

/// The hit ratio of the last `counted` reads, and what was decided after windows of so many reads.
async fn run(mode: SizingMode, reads: Reads, window: u64, counts: (u64, u64)) -> (f64, Vec<Decision>, Larder) {
    run_at(Scale { window, ..Scale::default() }, mode, reads, counts).await
}

/// How large all of it is.
#[derive(Clone, Copy)]
struct Scale {
    memory: u64,
    window: u64,
    /// Whether what was lost is of no account.
    is_reckless: bool,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { memory: 4 * MIB, window: 10_000, is_reckless: false }
    }
}

async fn run_at(scale: Scale, mode: SizingMode, reads: Reads, (count, counted): (u64, u64)) -> (f64, Vec<Decision>, Larder) {
    let Scale { memory, window, is_reckless } = scale;
    let builder = NAMES
        .iter()
        .fold(Larder::builder().memory(memory).clock(Clock::manual()), |builder, name| builder.namespace(*name, Policy::default()));
    let larder = builder.sizing(mode).build().await.expect("a cache in memory");
    if let Some(sizer) = &larder.0.sizer {
        let mut state = sizer.state.lock();
        // Minutes of reads come in seconds, and in more of them where the machine does much else: what part of a core they take says
        // nothing.
        state.share_max = f64::INFINITY;
        if is_reckless {
            state.account = Account::reckless();
        }
    }
    let namespaces = NAMES.map(|name| larder.namespace::<String>(name).expect("a namespace"));
    let (mut random, mut hits, value) = (fastrand::Rng::with_seed(9), 0, "x".repeat(744));
    for n in 0..count {
        let (namespace, key) = reads(&mut random, n);
        // A tick of the clock for each, as if they came slowly: else reads of a key within one would be one.
        larder.clock().advance(crate::TICK);
        let key = format!("{key:06}");
        if namespaces[namespace].get(&key).await.expect("a key").is_some() {
            hits += u64::from(n >= count - counted);
        } else {
            namespaces[namespace].put(&key, value.clone()).await.expect("it is put");
        }
        if n % 1_000 == 999 {
            // As the rounds of a quarter second do it.
            larder.sizing();
        }
        if mode != SizingMode::Off && n % window == window - 1 {
            larder.optimize().expect("it is on");
        }
    }
    let decisions = larder.sizing().map_or_else(Vec::new, |sizing| sizing.decisions);
    (hits as f64 / counted as f64, decisions, larder)
}

#[tokio::test]
async fn a_loop_beside_a_scan_gets_memory_of_its_own() {
    let (shared, ..) = run(SizingMode::Off, loop_and_scan, 10_000, (85_000, 30_000)).await;
    let (given_out, decisions, larder) = run(SizingMode::Auto, loop_and_scan, 10_000, (85_000, 30_000)).await;
    assert!(given_out >= shared + 0.04, "{given_out} beside {shared}: {decisions:#?}");
    let sizing = larder.sizing().expect("it is on");
    assert!(sizing.is_apart && decisions.iter().all(|one| one.undone.is_none()), "{decisions:#?}");
    let bytes: u64 = sizing.namespaces.iter().filter_map(|one| one.own_bytes).sum();
    assert_eq!(bytes + sizing.shared_bytes, 4 * MIB, "there is no more than there is");
    let stats = larder.stats();
    assert_eq!((stats.total.entries, stats.total.bytes), (stats.memory.entries, stats.memory.bytes), "gauges are what is there");
    assert!(stats.memory.bytes <= 4 * MIB, "{:?}", stats.memory);
}

/// The difference to sharing over all reads, and what was decided.
async fn beside_sharing(reads: Reads, count: u64) -> (f64, Vec<Decision>) {
    beside_sharing_at(Scale::default(), reads, count).await
}

async fn beside_sharing_at(scale: Scale, reads: Reads, count: u64) -> (f64, Vec<Decision>) {
    let (shared, ..) = run_at(scale, SizingMode::Off, reads, (count, count)).await;
    let (given_out, decisions, _) = run_at(scale, SizingMode::Auto, reads, (count, count)).await;
    println!("{:+.2} points, {} changes", (given_out - shared) * 100.0, decisions.len());
    (given_out - shared, decisions)
}

#[tokio::test]
async fn where_sharing_is_as_good_it_is_left() {
    let (gain, decisions) = beside_sharing(alike, 60_000).await;
    assert!(gain >= -0.005, "{gain}: {decisions:#?}");
}

/// The worst that there is: as soon as a change looks good, it is wrong.
#[tokio::test]
async fn what_turns_around_costs_half_a_point_at_most() {
    // A quarter of the memory, so that fewer reads fill it.
    let small = Scale { memory: MIB, window: 2_500, ..Scale::default() };
    let (gain, decisions) = beside_sharing_at(small, turning::<10_000, 2_000>, 22_500).await;
    assert!(gain >= -0.005, "{gain}: {decisions:#?}");
    // For long enough that a change pays, and then it is wrong.
    let (gain, decisions) = beside_sharing_at(small, turning::<40_000, 2_000>, 80_000).await;
    assert!(!decisions.is_empty() && decisions.iter().all(|one| one.undone.is_some()), "it is put back: {decisions:#?}");
    assert!(gain >= -0.005, "{gain}: {decisions:#?}");
}

/// Without the account of what was lost the same reads cost points, which the test above would see.
#[tokio::test]
async fn without_an_account_what_turns_around_costs_points() {
    let reckless = Scale { memory: MIB, window: 2_500, is_reckless: true };
    let (gain, decisions) = beside_sharing_at(reckless, turning::<10_000, 2_000>, 22_500).await;
    assert!(!decisions.is_empty() && decisions.iter().all(|one| one.undone.is_some()), "it is put back all the same: {decisions:#?}");
    assert!((-0.06..-0.02).contains(&gain), "{gain}: {decisions:#?}");
}

#[tokio::test]
async fn who_only_looks_changes_nothing_and_says_what_it_would_do() {
    let (_, decisions, larder) = run(SizingMode::Observe, loop_and_scan, 10_000, (30_000, 1)).await;
    let sizing = larder.sizing().expect("it is on");
    assert!(decisions.is_empty() && !sizing.is_apart && sizing.shared_bytes == 4 * MIB);
    assert!(sizing.advises_apart && sizing.apart_gain > 0.04, "{}", sizing.apart_gain);
    let of = |name: &str| sizing.namespaces.iter().find(|one| one.name == name).expect("it is told");
    assert!(of("loop").advised_bytes >= 2_900 * 1_000 && of("scan").advised_bytes < MIB / 4, "{sizing:#?}");
    assert!(of("loop").curve.at(4 * MIB).hit_ratio > 0.95 && of("scan").curve.at(4 * MIB).hit_ratio < 0.01);
    let json = serde_json::to_string(&sizing).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Sizing>(&json).expect("its own").namespaces.len(), 3);
}

#[tokio::test]
async fn where_it_is_off_nothing_is_said() {
    let larder = Larder::builder().build().await.expect("a cache in memory");
    assert!(larder.sizing().is_none());
    assert_eq!(larder.optimize().expect_err("it is off").kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn what_somebody_resizes_is_what_is_given_out() {
    let builder = Larder::builder().memory(4 * MIB).namespace("own", Policy::default().own_memory(MIB));
    let larder = builder.sizing(SizingMode::Auto).build().await.expect("a cache in memory");
    let budget = || larder.sizing().expect("it is on").budget;
    assert_eq!(budget(), 5 * MIB);
    larder.resize_memory(8 * MIB).expect("it is large enough");
    larder.resize_namespace("own", 2 * MIB).expect("it has its own");
    assert_eq!(budget(), 10 * MIB);
    let curve = larder.sizing().expect("it is on").namespaces[0].curve.clone();
    assert_eq!(curve.points.last().map(|point| point.bytes), Some(10 * MIB));
}

/// Prints what a hit costs with and without: `cargo test -p larder --lib what_looking_costs -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it measures time"]
async fn what_looking_costs_a_hit() {
    const KEYS: usize = 50_000;
    const HITS: usize = 2_000_000;
    let mut caches = Vec::new();
    for mode in [SizingMode::Off, SizingMode::Observe] {
        let larder = Larder::builder().sizing(mode).namespace("n", Policy::default()).build().await.expect("a cache in memory");
        let namespace = larder.namespace::<u64>("n").expect("a namespace");
        for key in 0..KEYS {
            namespace.put(format!("{key:06}"), key as u64).await.expect("it is put");
        }
        for key in 0..KEYS {
            // After the puts of others it has to be looked at closer once.
            assert!(namespace.get(format!("{key:06}")).await.expect("a key").is_some());
        }
        caches.push((larder, namespace, Vec::new()));
    }
    let keys: Vec<String> = (0..KEYS).map(|key| format!("{key:06}")).collect();
    for _ in 0..9 {
        for (_, namespace, times) in &mut caches {
            let (mut random, began, mut found) = (fastrand::Rng::with_seed(1), Instant::now(), 0);
            for _ in 0..HITS {
                found += usize::from(namespace.quick(keys[random.usize(..KEYS)].as_bytes()).is_some());
            }
            times.push(began.elapsed().as_secs_f64() * 1e9 / HITS as f64);
            assert!(found > HITS / 100 * 99, "{found}");
        }
    }
    for (larder, _, times) in &mut caches {
        times.sort_by(f64::total_cmp);
        println!("{:?}: {:.1} ns a hit (least {:.1})", larder.sizing().map(|sizing| sizing.sampled), times[4], times[0]);
    }
}
