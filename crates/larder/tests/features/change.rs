//! Read-modify-write as one step, and puts that rest on an earlier look: nothing comes in between unnoticed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use larder::{Answer, Change, ErrorKind, Item, Larder, Life, Names, Policy, Raw};

use crate::support::{Behaviour, in_memory, ms, over_own_tier, secs, seeded, with_policy};

type Bytes = bytes::Bytes;

fn number(there: Option<&Answer<Bytes>>) -> u64 {
    there.map_or(0, |answer| std::str::from_utf8(&answer.value).unwrap().parse().unwrap())
}

fn one_more(there: Option<&Answer<Bytes>>) -> (Change, u64) {
    let next = number(there) + 1;
    (Change::Value(next.to_string().into()), next)
}

async fn value(raw: &Raw, key: &str) -> Option<String> {
    raw.peek(key).await.unwrap().map(|answer| String::from_utf8(answer.value.to_vec()).unwrap())
}

/// Runs to its end what has nothing to wait for, from inside a decision.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("in memory nothing is waited for"),
    }
}

fn done(outcome: larder::Result<larder::Receipt>) {
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// A change during whose first decision somebody else does something; what the decisions were shown.
async fn with_something_between(larder: &Larder, between: impl Fn(&Larder) + Send + Sync) -> (u64, Vec<u64>) {
    let (raw, mut shown) = (larder.raw(), Vec::new());
    let changed = raw.change("n:k", |there| {
        shown.push(number(there));
        if shown.len() == 1 {
            between(larder);
        }
        one_more(there)
    });
    let outcome = changed.await.unwrap().outcome;
    (outcome, shown)
}

#[tokio::test]
async fn a_change_sees_what_is_there_and_takes_its_place() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    for expected in 1..=3 {
        let changed = raw.change("n:k", one_more).await.unwrap();
        assert_eq!((changed.outcome, changed.receipt.unwrap().position().number()), (expected, expected));
    }
    assert_eq!(value(&raw, "n:k").await.as_deref(), Some("3"));
    let kept = raw.change("n:k", |there| (Change::Keep, number(there))).await.unwrap();
    assert_eq!((kept.outcome, kept.receipt), (3, None));
    let removed = raw.change("n:k", |there| (Change::Remove, number(there))).await.unwrap();
    assert_eq!((removed.outcome, removed.receipt.is_some()), (3, true));
    assert!(raw.peek("n:k").await.unwrap().is_none());
    for change in [Change::Remove, Change::Life(Life::Forever), Change::Keep] {
        let nothing = raw.change("n:k", |there| (change.clone(), there.is_none())).await.unwrap();
        assert_eq!((nothing.outcome, nothing.receipt), (true, None), "{change:?}");
    }
    assert_eq!(larder.position().number(), 4, "what changes nothing appends nothing");
}

#[tokio::test]
async fn what_comes_in_between_is_seen_and_nothing_of_it_is_lost() {
    for (between, then) in [
        (Names::new().key("n:k"), 0),
        (Names::new().tag("t"), 0),
        (Names::new().pattern("n:*"), 0),
        (Names::new().pattern("?:k"), 0),
        (Names::new().namespace("n"), 0),
        (Names::new().everything(), 0),
    ] {
        let (larder, _) = with_policy(Policy::default()).await;
        larder.raw().put("n:k", Item::new("7".into()).tag("t")).await.unwrap();
        let (outcome, shown) = with_something_between(&larder, |larder| done(at_once(larder.invalidate(between.clone())))).await;
        assert_eq!((outcome, shown), (then + 1, vec![7, then]), "{between:?}");
    }
    let (larder, _) = with_policy(Policy::default()).await;
    larder.raw().put("n:k", Bytes::from("7")).await.unwrap();
    let (outcome, shown) = with_something_between(&larder, |larder| done(at_once(larder.raw().put("n:k", Bytes::from("41"))))).await;
    assert_eq!((outcome, shown), (42, vec![7, 41]));
    let (outcome, shown) = with_something_between(&larder, |larder| {
        done(at_once(larder.raw().put("n:other", Bytes::from("1"))));
        done(at_once(larder.invalidate(Names::new().tag("another").pattern("m:**"))));
    })
    .await;
    assert_eq!((outcome, shown), (43, vec![42]), "what has nothing to do with the key does not come in between");
}

#[tokio::test]
async fn a_change_that_never_gets_through_says_so_and_changes_nothing() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let mut calls = 0u64;
    let always = raw.change("n:k", |_| {
        calls += 1;
        done(at_once(raw.put("n:k", Bytes::from("other"))));
        (Change::Value("mine".into()), ())
    });
    let error = always.await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Overloaded, Some("change")), "{error}");
    assert_eq!(value(&raw, "n:k").await.as_deref(), Some("other"));
    assert_eq!((calls, larder.position().number()), (256, 256), "a refused append takes no position");
}

#[tokio::test]
async fn what_a_change_does_not_mention_stays() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(60)).tag("of:{1}").jitter(1.0)).await;
    let raw = larder.raw();
    let end = clock.now_ms() + 10_000;
    let item = Item::new(Bytes::from("1")).tag("t").media_type("text/plain").expires_at(end);
    raw.put("n:k", item).await.unwrap();
    clock.advance(secs(4));
    raw.change("n:k", one_more).await.unwrap();
    let there = raw.peek("n:k").await.unwrap().unwrap();
    assert_eq!((&there.value[..], there.value.media_type(), there.expires_at()), (&b"2"[..], Some("text/plain"), Some(end)));
    assert_eq!(there.tags().collect::<Vec<_>>(), [&b"of:k"[..], b"t"]);
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    assert!(raw.peek("n:k").await.unwrap().is_none(), "the tag still holds");

    let replaced = raw.change("n:k", |_| (Change::Replace(Item::new("9".into()).expires_at(end)), ())).await.unwrap();
    assert!(replaced.receipt.is_some());
    raw.change("n:k", |_| (Change::Life(Life::Forever), ())).await.unwrap();
    assert_eq!(raw.peek("n:k").await.unwrap().unwrap().expires_at(), None, "though the policy has a time to live");
    raw.change("n:k", |_| (Change::Life(Life::Until(end + 5)), ())).await.unwrap();
    clock.advance(secs(6) + ms(4));
    assert_eq!(value(&raw, "n:k").await.as_deref(), Some("9"), "its last millisecond");
    clock.advance(ms(1));
    assert!(raw.peek("n:k").await.unwrap().is_none());
    assert_eq!(raw.change("n:k", one_more).await.unwrap().outcome, 1, "past its time there is nothing");
    let gone = raw.change("n:k", |_| (Change::Life(Life::Until(clock.now_ms())), ())).await.unwrap();
    assert!(gone.receipt.is_some() && raw.peek("n:k").await.unwrap().is_none(), "a moment that has passed removes it");
}

#[tokio::test]
async fn a_moment_that_was_given_is_exact_and_does_not_slide() {
    let (larder, clock) = with_policy(Policy::default().ttl(secs(60)).jitter(1.0).sliding(true)).await;
    let raw = larder.raw();
    let end = clock.now_ms() + 10_000;
    raw.put("n:k", Item::new(Bytes::from("v")).expires_at(end)).await.unwrap();
    raw.put("n:forever", Item::new(Bytes::from("v")).forever()).await.unwrap();
    raw.put("n:past", Item::new(Bytes::from("v")).expires_at(end - 20_000)).await.unwrap();
    assert!(raw.lookup("n:past").await.unwrap().fresh().is_none());
    for _ in 0..9 {
        clock.advance(secs(1));
        assert!(raw.lookup("n:k").await.unwrap().fresh().is_some());
    }
    clock.advance(ms(999));
    assert_eq!(raw.lookup("n:k").await.unwrap().into_answer().unwrap().expires_at(), Some(end));
    clock.advance(ms(1));
    assert!(raw.lookup("n:k").await.unwrap().fresh().is_none());
    clock.advance(secs(1_000_000_000));
    assert_eq!(raw.lookup("n:forever").await.unwrap().into_answer().unwrap().expires_at(), None);
}

#[tokio::test]
async fn a_change_goes_by_what_the_backing_tier_has() {
    let (builder, clock, tier) = over_own_tier();
    let larder = builder.default_policy(Policy::default().ttl(secs(60))).build().await.unwrap();
    let raw = larder.raw();
    raw.put("n:k", Item::new(Bytes::from("7")).tag("t").expires_at(clock.now_ms() + 5_000)).await.unwrap();
    // Out of memory, into which it comes back from the tier.
    larder.resize_memory(64 << 10).unwrap();
    for n in 0..2_000 {
        raw.put(format!("n:fill:{n}"), Bytes::from("x")).await.unwrap();
    }
    assert_eq!(raw.change("n:k", one_more).await.unwrap().outcome, 8);
    let there = raw.peek("n:k").await.unwrap().unwrap();
    assert_eq!((there.expires_at(), there.tags().next()), (Some(clock.now_ms() + 5_000), Some(&b"t"[..])));
    tier.behave(Behaviour::Fails);
    let error = raw.change("n:elsewhere", one_more).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tier, "not knowing what is there is not knowing that there is nothing");
}

#[tokio::test]
async fn a_change_is_one_read_however_often_it_decides() {
    let (larder, _) = with_policy(Policy::default()).await;
    larder.raw().put("n:k", Bytes::from("7")).await.unwrap();
    with_something_between(&larder, |larder| done(at_once(larder.raw().put("n:k", Bytes::from("41"))))).await;
    let counts = larder.stats().total.counts;
    assert_eq!((counts.requests(), counts.hits_memory, counts.puts), (1, 1, 3));
    assert_eq!(larder.raw().change("n:none", one_more).await.unwrap().outcome, 1);
    let counts = larder.stats().total.counts;
    assert_eq!((counts.requests(), counts.misses_absent), (2, 1));
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_anything_happens() {
    let (larder, _) = with_policy(Policy::default().value_bytes_max(5)).await;
    let raw = larder.raw();
    raw.put("n:k", Bytes::from("old")).await.unwrap();
    for change in [Change::Value("far too long".into()), Change::Replace(Item::new("far too long".into()))] {
        let error = raw.change("n:k", |_| (change.clone(), ())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    }
    let error = raw.change("n:k", |_| (Change::Replace(Item::new("new".into()).depends_on("n:k", 1u64)), ())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDependency);
    assert_eq!((value(&raw, "n:k").await.as_deref(), larder.position().number()), (Some("old"), 1));
    assert_eq!(raw.change("", one_more).await.unwrap_err().kind(), ErrorKind::InvalidKey);
}

/// Increments by many tasks on several threads, and puts of new numbers to count from among them. Each number is returned by one change,
/// and between two puts none is left out: a change that was shown less than what was there would return a number again, or begin
/// below all.
#[test]
fn no_change_is_lost_among_threads() {
    const APART: u64 = 1_000_000;
    let mut rng = seeded("no_change_is_lost_among_threads");
    let folder = tempfile::tempdir().unwrap();
    for disk in [false, true] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let per_key = runtime.block_on(async {
            let (builder, _) = in_memory();
            let builder = if disk { builder.data(folder.path()) } else { builder };
            let larder = builder.build().await.unwrap();
            let bases = Arc::new(AtomicU64::new(1));
            let next_base = move || (bases.fetch_add(1, Ordering::Relaxed) * APART).to_string();
            for key in 0..3 {
                larder.raw().put(format!("n:{key}"), Bytes::from(next_base())).await.unwrap();
            }
            let tasks: Vec<_> = (0..12)
                .map(|_| {
                    let (raw, next_base, mut rng) = (larder.raw(), next_base.clone(), rng.fork());
                    tokio::spawn(async move {
                        let mut returned = Vec::new();
                        for _ in 0..if disk { 60 } else { 1_000 } {
                            let at = rng.usize(..3);
                            if rng.u8(..8) == 0 {
                                raw.put(format!("n:{at}"), Bytes::from(next_base())).await.unwrap();
                            } else {
                                returned.push((at, raw.change(format!("n:{at}"), one_more).await.unwrap().outcome));
                            }
                        }
                        returned
                    })
                })
                .collect();
            let mut per_key = [const { Vec::new() }; 3];
            for task in tasks {
                task.await.unwrap().into_iter().for_each(|(at, number)| per_key[at].push(number));
            }
            larder.close().await.unwrap();
            per_key
        });
        for mut returned in per_key {
            returned.sort_unstable();
            assert!(returned.len() > 50, "{} changes are too few to say anything", returned.len());
            for pair in returned.windows(2) {
                let begins = pair[1] % APART == 1 && pair[1] > pair[0];
                assert!(begins || pair[1] == pair[0] + 1, "{} follows {}, disk: {disk}", pair[1], pair[0]);
            }
            assert!(returned[0] > APART && returned[0] % APART == 1, "the first one began at {}", returned[0]);
        }
    }
}

#[tokio::test]
async fn a_put_that_rests_on_what_is_over_is_dropped() {
    let policy = Policy::default().tag("of:{1}");
    for between in [
        Names::new().key("n:k"),
        Names::new().tag("own"),
        Names::new().tag("of:k"),
        Names::new().pattern("n:*"),
        Names::new().pattern("?:k"),
        Names::new().namespace("n"),
        Names::new().everything(),
    ] {
        let (larder, _) = with_policy(policy.clone()).await;
        let raw = larder.raw();
        let token = raw.begin_fill("n:k");
        larder.invalidate(between.clone()).await.unwrap();
        assert!(raw.put_since("n:k", token, Item::new("old".into()).tag("own")).await.unwrap().is_none(), "{between:?}");
        assert!(raw.peek("n:k").await.unwrap().is_none());
        assert_eq!((larder.position().number(), larder.stats().total.counts.loads_dropped), (1, 1), "{between:?}");
        let again = raw.begin_fill("n:k");
        assert!(raw.put_since("n:k", again, Item::new("new".into()).tag("own")).await.unwrap().is_some());
        assert_eq!(value(&raw, "n:k").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn a_dropped_put_leaves_the_newer_value_alone() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let token = raw.begin_fill("n:k");
    larder.invalidate(Names::new().tag("unrelated").key("n:other")).await.unwrap();
    assert!(raw.put_since("n:k", token, Bytes::from("first")).await.unwrap().is_some(), "nothing it depends on was invalidated");
    assert!(raw.put_since("n:k", token, Bytes::from("second")).await.unwrap().is_none(), "the first put came in between");
    assert_eq!(value(&raw, "n:k").await.as_deref(), Some("first"));
}

#[tokio::test]
async fn tokens_are_good_for_their_key_and_their_log() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    let token = raw.begin_fill("n:k");
    let error = raw.put_since("n:other", token, Bytes::from("v")).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidKey, Some("put_since")));
    let (elsewhere, _) = with_policy(Policy::default()).await;
    let foreign = elsewhere.raw().begin_fill("n:k");
    assert!(raw.put_since("n:k", foreign, Bytes::from("v")).await.unwrap().is_none(), "what was invalidated since is not known");
    let ahead = token.to_string().replace("-0-", "-9-").parse().unwrap();
    assert_eq!(raw.put_since("n:k", ahead, Bytes::from("v")).await.unwrap_err().kind(), ErrorKind::UnknownPosition);
    assert!(raw.peek("n:k").await.unwrap().is_none());
}
