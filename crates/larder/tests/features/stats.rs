//! Statistics that add up: every read is a hit or a miss, and the gauges are what is there, whatever was done before.

use larder::{Counts, Item, Lookup, Names, Policy};

use crate::support::{Behaviour, Loads, OwnTier, over_own_tier, secs, seeded, settle, with_policy};

#[tokio::test]
async fn each_kind_of_read_has_its_counter() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(10)).stale_while_revalidate(secs(5)).negative_ttl(secs(1_000))).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    numbers.get("k").await.unwrap();
    numbers.get("absent").await.unwrap();
    clock.advance(secs(12));
    numbers.lookup("k").await.unwrap();
    clock.advance(secs(12));
    numbers.get("k").await.unwrap();
    numbers.put("k", Item::new(1).tag("t")).await.unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    numbers.get("k").await.unwrap();
    numbers.get_or_find("none", Loads::open().giving(Ok(None::<u32>))).await.unwrap();
    numbers.get("none").await.unwrap();
    let total = larder.stats().total;
    let Counts { hits_memory, hits_stale, hits_negative, misses_absent, misses_expired, misses_invalidated, puts, loads_ok, .. } =
        total.counts;
    assert_eq!((hits_memory, hits_stale, hits_negative), (1, 1, 1));
    assert_eq!((misses_absent, misses_expired, misses_invalidated), (2, 1, 1));
    assert_eq!((puts, loads_ok), (2, 1));
    assert_eq!((total.requests(), total.hits(), total.hit_rate()), (7, 3, Some(3.0 / 7.0)));
    assert_eq!(total.counts.iter().find(|(name, _)| *name == "puts"), Some(("puts", 2)));
    assert_eq!(larder.stats().log.appends, larder.position().number());
}

#[tokio::test]
async fn an_error_is_neither_a_hit_nor_a_miss() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    assert!(numbers.get_or_load("k", Loads::open().failing()).await.is_err());
    let failing = |_: Vec<&'static str>| async { Err::<Vec<(&'static str, u32)>, _>(std::io::Error::other("down")) };
    assert!(numbers.get_many_or_load(["a", "b"], failing).await.is_err());
    let total = larder.stats().total;
    assert_eq!((total.counts.errors, total.counts.misses(), total.requests(), total.hits()), (3, 0, 3, 0));
    assert_eq!((total.error.count(), total.miss.count(), total.total_latencies().count()), (3, 0, 3));
}

#[tokio::test]
async fn a_timed_hit_stands_for_all_that_were_not() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    for _ in 0..130 {
        numbers.get("k").await.unwrap();
    }
    numbers.get("absent").await.unwrap();
    let total = larder.stats().total;
    assert_eq!((total.hit_memory.count(), total.hit_latencies().count(), total.total_latencies().count()), (3, 130, 131));
}

#[tokio::test]
async fn each_tier_has_its_hits_misses_and_sets() {
    let (builder, _, _) = over_own_tier();
    let larder = builder.namespace("n", Policy::default().own_memory(64 << 10)).build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    for key in ["a", "b"] {
        texts.put(key, "x".repeat(40_000)).await.unwrap();
    }
    let counts = || larder.stats().total.counts;
    assert_eq!((counts().sets_memory, counts().sets_backing, counts().evicted), (2, 2, 1));
    // One of the two is in the backing tier alone, from where it comes back into memory.
    texts.get("a").await.unwrap();
    texts.get("b").await.unwrap();
    let counted = counts();
    assert_eq!(counted.hits_of_memory() + counted.hits_of_backing(), 2);
    assert!(counted.hits_of_backing() >= 1 && counted.sets_memory == 2 + counted.hits_of_backing());
    assert_eq!((counted.misses_memory(), counted.misses_backing), (counted.hits_of_backing(), 0));
    texts.get("absent").await.unwrap();
    assert_eq!((counts().misses_memory() - counted.misses_memory(), counts().misses_backing), (1, 1));
}

#[tokio::test]
async fn what_was_invalidated_is_told_apart_by_what_did_it() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    let all = [
        Names::new().tag("t"),
        Names::new().pattern("n:*"),
        Names::new().pattern("n:[a-z]"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ];
    for names in all {
        numbers.put("k", Item::new(1).tag("t").depends_on("s", 1u64)).await.unwrap();
        larder.invalidate(names).await.unwrap();
        assert!(numbers.get("k").await.unwrap().is_none());
    }
    numbers.put("k", Item::new(1).depends_on("s", 1u64)).await.unwrap();
    larder.moved("s", 2u64).await.unwrap();
    assert!(numbers.get("k").await.unwrap().is_none());
    let counts = larder.stats().total.counts;
    assert_eq!((counts.stale_by_tag, counts.stale_by_pattern, counts.stale_by_namespace), (1, 2, 1));
    assert_eq!((counts.stale_by_everything, counts.stale_by_source, counts.stale_by_key, counts.stale_by_epoch), (1, 1, 0, 0));
    assert_eq!(counts.misses_invalidated, 6);
}

#[tokio::test]
async fn what_happened_since_a_moment_is_told_without_disturbing_the_counters() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    numbers.get("k").await.unwrap();
    let before = larder.stats();
    numbers.get("absent").await.unwrap();
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    let now = larder.stats();
    let since = now.since(&before);
    assert_eq!((since.total.requests(), since.total.hits(), since.total.counts.puts, since.total.miss.count()), (1, 0, 0, 1));
    assert_eq!((since.log.appends, since.invalidations.iter().map(|(.., n)| n).sum::<u64>()), (1, 1));
    assert_eq!((since.total.entries, since.memory), (1, now.memory), "what is there is there");
    assert_eq!((now.total.requests(), now.total.counts.puts), (2, 1));
}

/// What the test itself has seen.
#[derive(Default)]
struct Tally {
    reads: u64,
    hits: u64,
    puts: u64,
    removes: u64,
}

#[tokio::test]
async fn statistics_add_up_over_random_operations() {
    let mut rng = seeded("statistics_add_up_over_random_operations");
    for round in 0..8 {
        let (builder, clock, tier) = over_own_tier();
        let policy = Policy::default().ttl(secs(20)).stale_while_revalidate(secs(5)).negative_ttl(secs(5)).tag("all:{1}");
        let builder = builder.memory(256 << 10).namespace("n", policy.clone()).namespace("own", policy.own_memory(128 << 10));
        let larder = builder.build().await.unwrap();
        let spaces = [larder.namespace::<String>("n").unwrap(), larder.namespace::<String>("own").unwrap()];
        let mut tally = Tally::default();
        for _ in 0..1_500 {
            let numbers = &spaces[rng.usize(..2)];
            step(&larder, numbers, &tier, &mut rng, &mut tally).await;
            if rng.u8(..10) == 0 {
                clock.advance(secs(rng.u64(1..4)));
            }
        }
        tier.behave(Behaviour::Works);
        let stats = larder.stats();
        assert_eq!(stats.total.requests(), tally.reads, "round {round}: {:?}", stats.total.counts);
        assert_eq!(stats.total.hits(), tally.hits, "round {round}: {:?}", stats.total.counts);
        assert_eq!((stats.total.counts.puts, stats.total.counts.removes), (tally.puts, tally.removes));
        assert_eq!((stats.total.entries, stats.total.bytes), (stats.memory.entries, stats.memory.bytes), "round {round}");
        assert!(stats.memory.bytes <= stats.memory.capacity);
        let mut sum = larder::NamespaceStats::default();
        stats.namespaces.iter().for_each(|namespace| sum.add(namespace));
        assert_eq!((&sum.counts, sum.entries, sum.bytes), (&stats.total.counts, stats.total.entries, stats.total.bytes));
        larder.invalidate(Names::new().everything()).await.unwrap();
        larder.sweep().await.unwrap();
        let stats = larder.stats();
        assert_eq!((stats.total.entries, stats.total.bytes, stats.memory.entries, stats.memory.bytes), (0, 0, 0, 0), "round {round}");
    }
}

async fn step(larder: &larder::Larder, texts: &larder::Namespace<String>, tier: &OwnTier, rng: &mut fastrand::Rng, tally: &mut Tally) {
    let key = format!("{}", rng.u32(..60));
    let longest = if rng.u8(..20) == 0 { 200_000 } else { 5_000 };
    let text = "x".repeat(rng.usize(..longest));
    match rng.u8(..13) {
        0..=2 => {
            let found = texts.lookup(&key).await.unwrap();
            tally.reads += 1;
            tally.hits += u64::from(!matches!(found, Lookup::Miss(_)));
        }
        3 => {
            let keys: Vec<String> = (0..rng.usize(..5)).map(|_| format!("{}", rng.u32(..60))).collect();
            tally.reads += keys.len() as u64;
            // `get_many` tells neither stale nor negative answers from misses, the counters do.
            let before = larder.stats().total.hits();
            let found = texts.get_many(&keys).await.unwrap();
            let hits = larder.stats().total.hits() - before;
            assert!(hits >= found.iter().flatten().count() as u64);
            tally.hits += hits;
        }
        4 | 5 => {
            let before = larder.stats().total.hits();
            let item = Item::new(text).tag(format!("t{}", rng.u8(..5)));
            texts.get_or_find(&key, Loads::open().giving(Ok(rng.bool().then_some(item)))).await.unwrap();
            tally.reads += 1;
            tally.hits += larder.stats().total.hits() - before;
            // One that is served stale is loaded behind.
            settle().await;
        }
        6 | 7 => {
            tally.puts += 1;
            let put = texts.put(&key, Item::new(text).tag(format!("t{}", rng.u8(..5)))).await;
            assert!(put.is_ok() || larder.stats().backing.unwrap().state != larder::tier::TierState::Healthy);
        }
        8 => {
            tally.removes += 1;
            texts.remove(&key).await.unwrap();
        }
        9 => {
            larder.invalidate(Names::new().tag(format!("t{}", rng.u8(..5)))).await.unwrap();
        }
        10 => {
            // Touching reads first, as whoever asks for the entry does.
            let before = larder.stats().total.hits();
            let touched = texts.touch(&key, None).await;
            tally.reads += 1;
            tally.hits += larder.stats().total.hits() - before;
            assert!(touched.is_ok() || larder.stats().backing.unwrap().state != larder::tier::TierState::Healthy);
        }
        11 => tier.behave(if rng.u8(..4) == 0 { Behaviour::Fails } else { Behaviour::Works }),
        _ => {
            let swept = larder.sweep().await;
            assert!(swept.is_ok() || larder.stats().backing.unwrap().state != larder::tier::TierState::Healthy);
        }
    }
}
