//! Probes: what is out of order shows by itself and goes away by itself, one part delays no other, and nobody meets what they
//! write.

use std::sync::Arc;
use std::time::Duration;

use larder::{Cursor, ErrorKind, Larder, Names, Part, Probe, Severity};

use crate::support::{Behaviour, in_memory, ms, over_own_tier, secs};

/// More rounds than any of these tests needs.
const ROUNDS: usize = 1_000;

fn last(larder: &Larder, part: Part) -> Option<Arc<Probe>> {
    larder.probes().into_iter().find(|probed| probed.part == part).expect("it is probed").last
}

fn runs(larder: &Larder, part: Part) -> u64 {
    last(larder, part).map_or(0, |probe| probe.runs)
}

fn trouble(larder: &Larder, part: Part) -> Option<String> {
    last(larder, part)?.trouble.as_ref().map(|trouble| trouble.what.clone())
}

/// Lets time pass until the condition holds, and says how much of it did.
async fn until(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begun = tokio::time::Instant::now();
    for _ in 0..ROUNDS {
        if condition() {
            return begun.elapsed();
        }
        pass(ms(50)).await;
    }
    panic!("waited in vain until {what}");
}

/// Lets paused time pass.
async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

#[tokio::test]
async fn nothing_is_probed_unless_asked_for() {
    let larder = in_memory().0.build().await.unwrap();
    assert!(larder.probes().is_empty());
    for (every, timeout) in [(Duration::ZERO, secs(1)), (secs(1), Duration::ZERO), (secs(4_000), secs(1))] {
        let refused = in_memory().0.probe_every(every).probe_timeout(timeout).build().await.err().expect("it makes no sense");
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test(start_paused = true)]
async fn every_part_is_used_and_nobody_meets_what_was_written() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.probe_every(secs(5)).build().await.unwrap();
    let position = larder.position();
    until("each part was probed three times", || [Part::Memory, Part::Backing, Part::Log].into_iter().all(|part| runs(&larder, part) >= 3))
        .await;
    for part in [Part::Memory, Part::Backing, Part::Log] {
        let probe = last(&larder, part).unwrap();
        assert!(probe.trouble.is_none() && probe.in_a_row == probe.runs, "{part}: {probe:?}");
    }
    assert!(tier.reads() >= 9, "the tier itself was asked: before, after the write, and after the removal");
    assert_eq!((tier.len(), larder.health().worst()), (0, None));
    let stats = larder.stats();
    assert_eq!((stats.memory.entries, stats.total.requests(), stats.total.counts.puts), (0, 0, 0));
    assert!(stats.total.counts.iter().all(|(_, counted)| counted == 0), "{:?}", stats.total.counts);
    assert_eq!((larder.position(), stats.log.appends, stats.log.syncs), (position, 0, 0));
    assert_eq!(last(&larder, Part::Log).unwrap().log.unwrap().position, position);
    larder.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_left_behind_is_in_no_listing_and_no_count() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let raw = larder.raw();
    let own = "\0larder:probe:x";
    assert_eq!(raw.put(own, bytes::Bytes::new()).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(raw.lookup(own).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    raw.put("mine", bytes::Bytes::from_static(b"1")).await.unwrap();
    tier.plant(own.as_bytes(), "mine");
    let listed = raw.keys("**", Cursor::start(), 10).await.unwrap();
    assert_eq!(listed.keys, [Box::from(b"mine".as_slice())]);
    let impact = larder.impact(Names::new().everything()).await.unwrap();
    assert_eq!(impact.namespaces.keys().collect::<Vec<_>>(), ["mine"]);
    larder.invalidate(Names::new().everything()).await.unwrap();
    larder.sweep().await.unwrap();
    assert!(tier.record(own).is_some() && tier.record("mine").is_none(), "no invalidation is about what a probe wrote");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_out_of_order_shows_in_time_and_so_does_its_return() {
    let says = [
        (Behaviour::Fails, "out of order on purpose"),
        (Behaviour::Hangs, "did not answer within 2s"),
        (Behaviour::Loses, "did not give back"),
        (Behaviour::Garbles, "something else"),
    ];
    for (behaviour, words) in says {
        let (builder, _, tier) = over_own_tier();
        let larder = builder.probe_every(secs(5)).probe_timeout(secs(2)).build().await.unwrap();
        tier.keep_silent();
        until("all is well", || last(&larder, Part::Backing).is_some_and(|probe| probe.trouble.is_none())).await;
        tier.behave(behaviour);
        let took = until("it shows", || trouble(&larder, Part::Backing).is_some()).await;
        assert!(took <= secs(7) + ms(100), "{behaviour:?} showed after {took:?}");
        let what = trouble(&larder, Part::Backing).unwrap();
        assert!(what.contains(words), "{behaviour:?}: {what}");
        let findings = larder.health().findings;
        assert_eq!((findings[0].severity, findings[0].about, &findings[0].what), (Severity::Degraded, "backing", &what));
        let (memory, log) = (runs(&larder, Part::Memory), runs(&larder, Part::Log));
        until("the others were probed meanwhile", || runs(&larder, Part::Memory) > memory + 1 && runs(&larder, Part::Log) > log + 1).await;
        assert_eq!((trouble(&larder, Part::Memory), trouble(&larder, Part::Log)), (None, None));
        tier.behave(Behaviour::Works);
        let took = until("it goes away", || trouble(&larder, Part::Backing).is_none()).await;
        assert!(took <= secs(7) + ms(100), "{behaviour:?} went away after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_that_never_return_are_few_and_the_tier_is_found_again_all_the_same() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.probe_every(secs(1)).probe_timeout(ms(100)).build().await.unwrap();
    tier.keep_silent();
    tier.behave(Behaviour::Hangs);
    until("no more are begun", || trouble(&larder, Part::Backing).is_some_and(|what| what.contains("4 probes"))).await;
    let asked = tier.reads();
    until("some rounds have passed", || runs(&larder, Part::Backing) > 20).await;
    assert_eq!(tier.reads(), asked, "a hanging tier is not asked again and again");
    tier.behave(Behaviour::Works);
    let took = until("it goes away", || trouble(&larder, Part::Backing).is_none()).await;
    assert!(took <= secs(62), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_hidden_and_the_probe_is_the_one_operation_that_it_lets_through() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.probe_every(ms(100)).build().await.unwrap();
    tier.keep_silent();
    let numbers = larder.namespace::<u32>("n").unwrap();
    tier.behave(Behaviour::Fails);
    until("the breaker is open", || {
        // The failures of probes alone do not open it.
        larder.stats().backing.unwrap().breaker == larder::tier::BreakerState::Closed && runs(&larder, Part::Backing) > 10
    })
    .await;
    for key in ["a", "b", "c", "d", "e"] {
        assert!(numbers.get(key).await.unwrap().is_none());
    }
    assert_ne!(larder.stats().backing.unwrap().breaker, larder::tier::BreakerState::Closed);
    let before = tier.reads();
    let run = runs(&larder, Part::Backing);
    until("another probe has ended", || runs(&larder, Part::Backing) > run).await;
    assert!(trouble(&larder, Part::Backing).unwrap().contains("left alone"), "{:?}", trouble(&larder, Part::Backing));
    assert_eq!(tier.reads(), before, "and it was left alone");
    tier.behave(Behaviour::Works);
    // The breaker counts real time; nobody reads meanwhile.
    let begun = std::time::Instant::now();
    while trouble(&larder, Part::Backing).is_some() {
        assert!(begun.elapsed() < secs(20), "{:?}", trouble(&larder, Part::Backing));
        pass(ms(100)).await;
    }
    assert_eq!(larder.stats().backing.unwrap().breaker, larder::tier::BreakerState::Closed);
}

#[tokio::test]
async fn a_log_on_disk_is_synced_without_an_append() {
    let folder = tempfile::tempdir().unwrap();
    let larder = Larder::builder().data(folder.path()).probe_every(ms(10)).build().await.unwrap();
    let position = larder.position();
    crate::support::until("the log and the disk were probed", || {
        [Part::Backing, Part::Log].into_iter().all(|part| runs(&larder, part) >= 2 || trouble(&larder, part).is_some())
    })
    .await;
    assert_eq!((trouble(&larder, Part::Backing), trouble(&larder, Part::Log)), (None, None));
    let log = larder.stats().log;
    assert_eq!((log.appends, log.syncs, log.position), (0, 0, position));
    assert_eq!(larder.raw().keys("**", Cursor::start(), 10).await.unwrap().keys.len(), 0);
    larder.close().await.unwrap();
    let (backing, log) = (runs(&larder, Part::Backing), runs(&larder, Part::Log));
    pass(ms(100)).await;
    assert!(runs(&larder, Part::Backing) <= backing + 1 && runs(&larder, Part::Log) <= log + 1, "closing ends the probes");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_probes() {
    let (builder, _, tier) = over_own_tier();
    let larder = builder.probe_every(ms(100)).build().await.unwrap();
    until("it was probed", || runs(&larder, Part::Backing) > 1).await;
    drop(larder);
    pass(secs(1)).await;
    let asked = tier.reads();
    pass(secs(10)).await;
    assert_eq!((tier.reads(), Arc::strong_count(&tier)), (asked, 1));
}
