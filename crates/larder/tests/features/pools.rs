//! Memory: shared and own pools, their sizes while in use, what is too large, and the counts of what leaves.

use larder::Policy;

use crate::support::in_memory;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_pool_stays_within_its_bytes_and_counts_what_it_evicts() {
    let (builder, _) = in_memory();
    let larder = builder.memory(MIB).build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    for key in 0..1_000 {
        texts.put(format!("{key}"), "x".repeat(10_000)).await.unwrap();
        assert!(larder.stats().memory.bytes <= MIB);
    }
    let stats = larder.stats();
    assert!(stats.memory.entries > 50, "{:?}", stats.memory);
    assert_eq!(stats.memory.entries + stats.total.counts.evicted, 1_000);
    assert_eq!((stats.total.entries, stats.total.bytes), (stats.memory.entries, stats.memory.bytes));
}

#[tokio::test]
async fn an_own_pool_is_nobody_else_s() {
    let (builder, _) = in_memory();
    let larder = builder.memory(MIB).namespace("own", Policy::default().own_memory(MIB)).build().await.unwrap();
    let (own, shared) = (larder.namespace::<String>("own").unwrap(), larder.namespace::<String>("shared").unwrap());
    own.put("k", "precious".to_string()).await.unwrap();
    for key in 0..500 {
        shared.put(format!("{key}"), "x".repeat(10_000)).await.unwrap();
    }
    assert!(own.get("k").await.unwrap().is_some());
    let stats = larder.stats();
    let of = |name: &str| stats.namespaces.iter().find(|namespace| namespace.name == name).unwrap();
    assert_eq!((of("own").entries, of("own").counts.evicted), (1, 0));
    assert!(of("shared").counts.evicted > 0);
    assert_eq!(stats.memory.capacity, 2 * MIB);
    assert_eq!((stats.total.entries, stats.total.bytes), (stats.memory.entries, stats.memory.bytes));
}

#[tokio::test]
async fn pools_change_their_size_while_in_use() {
    let (builder, _) = in_memory();
    let larder = builder.memory(4 * MIB).namespace("own", Policy::default().own_memory(4 * MIB)).build().await.unwrap();
    for name in ["own", "shared"] {
        let texts = larder.namespace::<String>(name).unwrap();
        for key in 0..300 {
            texts.put(format!("{key}"), "x".repeat(10_000)).await.unwrap();
        }
    }
    assert_eq!(larder.stats().memory.entries, 600);
    larder.resize_memory(MIB).unwrap();
    let stats = larder.stats();
    assert!(stats.memory.capacity == 5 * MIB && stats.memory.bytes <= 5 * MIB, "{:?}", stats.memory);
    assert_eq!(stats.memory.entries + stats.total.counts.evicted, 600);
    larder.resize_namespace("own", MIB).unwrap();
    let stats = larder.stats();
    assert!(stats.memory.capacity == 2 * MIB && stats.memory.bytes <= 2 * MIB, "{:?}", stats.memory);
    assert_eq!((stats.total.entries, stats.total.bytes), (stats.memory.entries, stats.memory.bytes));
    larder.resize_memory(8 * MIB).unwrap();
    let texts = larder.namespace::<String>("shared").unwrap();
    let before = larder.stats().total.counts.evicted;
    for key in 300..600 {
        texts.put(format!("{key}"), "x".repeat(10_000)).await.unwrap();
    }
    assert_eq!(larder.stats().total.counts.evicted, before, "there is room again");
}

#[tokio::test]
async fn what_is_too_large_for_memory_is_counted_and_hides_nothing_older() {
    let (builder, _) = in_memory();
    let larder = builder.memory(MIB).build().await.unwrap();
    let texts = larder.namespace::<String>("n").unwrap();
    texts.put("k", "old".to_string()).await.unwrap();
    texts.put("k", "x".repeat(2 << 20)).await.unwrap();
    assert!(texts.get("k").await.unwrap().is_none(), "not the old one in its place");
    let stats = larder.stats();
    assert_eq!((stats.total.counts.too_large, stats.memory.entries), (1, 0));
    let loaded = texts.get_or_load("big", || async { Ok::<_, std::io::Error>("x".repeat(2 << 20)) }).await.unwrap();
    assert_eq!(loaded.len(), 2 << 20, "a caller gets what was loaded, kept or not");
}
