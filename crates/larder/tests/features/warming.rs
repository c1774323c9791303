//! Warming up: what was read most is in memory again after a restart, and nothing of it that was invalidated meanwhile.

use std::path::Path;
use std::time::Duration;

use larder::{Builder, Clock, ErrorKind, Larder, Names, WarmUp, WarmUpEnd};

use crate::support::secs;

fn over(folder: &Path, how: WarmUp) -> Builder {
    Larder::builder().data(folder).memory(1 << 20).warm_up(how)
}

async fn ended(larder: &Larder) -> larder::Warmth {
    larder.warmed_up().await.expect("it is to be warmed up")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_is_in_memory_again_and_what_was_invalidated_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let larder = over(folder.path(), WarmUp::new().keys(100)).build().await.unwrap();
    assert_eq!(ended(&larder).await.ended, Some(WarmUpEnd::NothingRecorded));
    let bars = larder.namespace::<u64>("bars").unwrap();
    for n in 0..300u64 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        bars.put(format!("{n}"), larder::Item::new(n).tag(tag)).await.unwrap();
    }
    for n in 0..100u64 {
        assert!(bars.get(format!("{n}")).await.unwrap().is_some());
    }
    larder.close().await.unwrap();
    // In between somebody invalidates who does not warm up, and records nothing.
    let between = Larder::builder().data(folder.path()).build().await.unwrap();
    between.invalidate(Names::new().tag("even")).await.unwrap();
    between.close().await.unwrap();

    let larder = over(folder.path(), WarmUp::new().keys(100)).build().await.unwrap();
    let warmth = ended(&larder).await;
    assert_eq!((warmth.ended, warmth.keys, warmth.asked), (Some(WarmUpEnd::Done), 100, 100));
    assert_eq!((warmth.brought, larder.stats().memory.entries), (50, 50), "the half that is not stale");
    assert!(warmth.bytes > 0);
    let bars = larder.namespace::<u64>("bars").unwrap();
    for n in 0..100u64 {
        assert_eq!(bars.get(format!("{n}")).await.unwrap().map(|value| *value), (n % 2 == 1).then_some(n), "{n}");
    }
    let counts = larder.stats().total.counts;
    assert_eq!((counts.hits_memory, counts.hits_backing), (50, 0), "and nobody waited for the disk");
    larder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_its_bytes_and_the_hottest_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let opened = |how| over(folder.path(), how).clock(clock.clone());
    let larder = opened(WarmUp::new()).build().await.unwrap();
    ended(&larder).await;
    let blobs = larder.namespace::<Vec<u8>>("blobs").unwrap();
    for n in 0..200u64 {
        blobs.put(format!("{n:03}"), vec![7; 1_000]).await.unwrap();
    }
    clock.advance(secs(1));
    for n in 100..140u64 {
        assert!(blobs.get(format!("{n:03}")).await.unwrap().is_some());
        clock.advance(Duration::from_millis(300));
    }
    larder.close().await.unwrap();
    let larder = opened(WarmUp::new().bytes(20_000)).build().await.unwrap();
    let warmth = ended(&larder).await;
    assert_eq!((warmth.ended, warmth.keys), (Some(WarmUpEnd::Bytes), 200));
    assert!((20_000..100_000).contains(&warmth.bytes), "{warmth:?}");
    let blobs = larder.namespace::<Vec<u8>>("blobs").unwrap();
    for n in 100..140u64 {
        assert!(blobs.get(format!("{n:03}")).await.unwrap().is_some());
    }
    assert_eq!(larder.stats().total.counts.hits_memory, 40, "those that were read");
    larder.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_damaged_is_a_cold_start_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hot-keys"), "LRHK?").unwrap();
    let larder = over(folder.path(), WarmUp::new()).build().await.unwrap();
    assert_eq!(ended(&larder).await.ended, Some(WarmUpEnd::Failed));
    larder.namespace::<u64>("n").unwrap().put("k", 1).await.unwrap();
    larder.close().await.unwrap();
    let larder = over(folder.path(), WarmUp::new()).build().await.unwrap();
    assert_eq!(ended(&larder).await.brought, 1, "it was recorded anew");
    let nowhere = Larder::builder().warm_up(WarmUp::new()).build().await;
    assert_eq!(nowhere.err().map(|error| error.kind()), Some(ErrorKind::InvalidConfig));
    assert!(Larder::builder().build().await.unwrap().warmed_up().await.is_none());
}
