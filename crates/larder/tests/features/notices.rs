//! Who listens is told what became of keys, in order, and when something was missed; and can ask whether an answer still holds.

use larder::{Change, Item, Larder, Names, Notice, Noticed, Notices, Pattern, Policy, Position};

use crate::support::{in_memory, over_own_tier, secs, until, with_policy};

type Bytes = bytes::Bytes;

fn key(key: &str) -> Noticed {
    Noticed::Key(key.as_bytes().into())
}

/// What was told, without positions.
fn told(notices: &mut Notices) -> Vec<(Vec<Noticed>, Option<bool>)> {
    let mut told = Vec::new();
    while let Some(notice) = notices.try_next() {
        match notice {
            Notice::Invalidated { names, put, position } => {
                assert!(position.is_some(), "the log is here");
                told.push((names.to_vec(), put));
            }
            other => panic!("{other:?}"),
        }
    }
    told
}

#[tokio::test]
async fn everything_that_is_appended_is_told_in_order_and_as_what_it_was() {
    let (larder, _) = with_policy(Policy::default()).await;
    let raw = larder.raw();
    raw.put("n:before", Bytes::from("v")).await.unwrap();
    let mut notices = larder.notices(100);
    assert_eq!(notices.try_next(), None);
    raw.put("n:1", Bytes::from("v")).await.unwrap();
    raw.put_many([("n:2", Item::new(Bytes::from("v"))), ("n:3", Item::new(Bytes::from("v")))]).await.unwrap();
    raw.change("n:1", |_| (Change::Value("w".into()), ())).await.unwrap();
    raw.change("n:1", |_| (Change::Remove, ())).await.unwrap();
    raw.remove(["n:2"]).await.unwrap();
    larder.namespace::<u32>("m").unwrap().update("k", || async { Ok::<_, std::io::Error>(1) }).await.unwrap();
    let many = Names::new().tag("t").pattern("n:*").namespace("n").everything();
    let receipt = larder.invalidate(many).await.unwrap();
    let token = raw.begin_fill("n:4");
    assert!(raw.put_since("n:4", token, Bytes::from("v")).await.unwrap().is_some());
    assert!(raw.put_since("n:4", token, Bytes::from("v")).await.unwrap().is_none());
    let (pattern, namespace) = (Pattern::new("n:*").unwrap(), Pattern::new("n:**").unwrap());
    let [names @ .., _] = &told(&mut notices)[..] else { panic!("there were many") };
    assert_eq!(names[0], (vec![key("n:1")], Some(true)));
    assert_eq!(names[1], (vec![key("n:2"), key("n:3")], Some(true)));
    assert_eq!(names[2..5], [(vec![key("n:1")], Some(true)), (vec![key("n:1")], Some(false)), (vec![key("n:2")], Some(false))]);
    assert_eq!(names[5], (vec![key("m:k")], Some(true)));
    let (last, put) = &names[6];
    assert_eq!(
        (&last[..2], &last[3..], *put),
        (&[Noticed::Tag(b"t"[..].into()), Noticed::Pattern(pattern)][..], &[Noticed::Everything][..], Some(false))
    );
    assert!(matches!(&last[2], Noticed::Pattern(of) if of.matches(b"n:any") && !of.matches(b"m:any")), "{last:?}, like {namespace}");
    assert_eq!(names.len(), 7, "a put that was dropped is none");
    larder.invalidate(Names::new().key("n:x")).await.unwrap();
    let Some(Notice::Invalidated { position: Some(position), .. }) = notices.try_next() else { panic!("it was just invalidated") };
    let expected: Position = larder.position();
    assert!(position == expected && position > receipt.position());
}

#[tokio::test]
async fn whoever_is_too_slow_is_told_so_and_goes_on() {
    let (larder, _) = with_policy(Policy::default()).await;
    let (mut slow, mut quick) = (larder.notices(3), larder.notices(1_000));
    for n in 0..7 {
        larder.invalidate(Names::new().key(format!("n:{n}"))).await.unwrap();
    }
    assert_eq!(slow.try_next(), Some(Notice::Lost));
    assert_eq!(told(&mut slow), [(vec![key("n:5")], Some(false)), (vec![key("n:6")], Some(false))], "what came after the loss is there");
    assert_eq!(told(&mut quick).len(), 7, "another listener does not suffer");
    larder.invalidate(Names::new().key("n:7")).await.unwrap();
    assert_eq!(told(&mut slow).len(), 1);
}

#[tokio::test]
async fn what_expires_and_what_is_evicted_for_good_is_told() {
    let (builder, clock) = in_memory();
    let larder = builder.memory(64 << 10).default_policy(Policy::default().ttl(secs(60))).build().await.unwrap();
    let raw = larder.raw();
    let mut notices = larder.notices(10_000);
    raw.put("n:read", Item::new(Bytes::from("v")).ttl(secs(1))).await.unwrap();
    raw.put("n:swept", Item::new(Bytes::from("v")).ttl(secs(1))).await.unwrap();
    clock.advance(secs(1));
    assert!(raw.lookup("n:read").await.unwrap().fresh().is_none());
    larder.sweep().await.unwrap();
    let expired = |name: &str| Notice::Expired(name.as_bytes().into());
    let seen: Vec<Notice> = std::iter::from_fn(|| notices.try_next()).skip(2).collect();
    assert_eq!(seen, [expired("n:read"), expired("n:swept")]);
    for n in 0..1_000 {
        raw.put(format!("n:{n}"), Bytes::from("v")).await.unwrap();
    }
    let evicted: Vec<_> = std::iter::from_fn(|| notices.try_next()).filter(|notice| matches!(notice, Notice::Evicted(_))).collect();
    assert_eq!(evicted.len() as u64, larder.stats().total.counts.evicted);
    assert!(evicted.len() > 500);
}

#[tokio::test]
async fn what_a_backing_tier_has_is_not_evicted() {
    let (builder, _, _) = over_own_tier();
    let larder = builder.memory(64 << 10).namespace("m", Policy::default().backing(false)).build().await.unwrap();
    let mut notices = larder.notices(10_000);
    for n in 0..1_000 {
        larder.raw().put(format!("n:{n}"), Bytes::from("v")).await.unwrap();
    }
    let evicted =
        |notices: &mut Notices| std::iter::from_fn(|| notices.try_next()).filter(|notice| matches!(notice, Notice::Evicted(_))).count();
    assert!(larder.stats().total.counts.evicted > 500);
    assert_eq!(evicted(&mut notices), 0);
    for n in 0..1_000 {
        larder.raw().put(format!("m:{n}"), Bytes::from("v")).await.unwrap();
    }
    assert!(evicted(&mut notices) > 500, "what is in memory alone is gone");
}

#[tokio::test]
async fn a_listener_waits_and_ends_with_the_cache() {
    let (larder, _) = with_policy(Policy::default()).await;
    let mut notices = larder.notices(10);
    let listening = tokio::spawn(async move {
        let mut seen = 0;
        while notices.next().await.is_some() {
            seen += 1;
        }
        seen
    });
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    tokio::task::yield_now().await;
    larder.invalidate(Names::new().tag("t")).await.unwrap();
    drop(larder);
    until("the listener ends", || listening.is_finished()).await;
    assert_eq!(listening.await.unwrap(), 2);
}

async fn witnessed(larder: &Larder, name: &str) -> larder::Witness {
    larder.raw().peek(name).await.unwrap().expect("it is there").witness()
}

#[tokio::test]
async fn a_witness_tells_whether_an_answer_still_holds() {
    let (larder, _) = with_policy(Policy::default().tag("of:{1}")).await;
    for names in [
        Names::new().key("n:k"),
        Names::new().tag("own"),
        Names::new().tag("of:k"),
        Names::new().pattern("n:*"),
        Names::new().pattern("?:k"),
        Names::new().namespace("n"),
        Names::new().key("m:source"),
        Names::new().everything(),
    ] {
        larder.raw().put("n:k", Item::new(Bytes::from("v")).tag("own").depends_on("m:source", 1u64)).await.unwrap();
        let witness = witnessed(&larder, "n:k").await;
        larder.invalidate(Names::new().key("n:other").tag("other").pattern("m:x:**")).await.unwrap();
        assert!(larder.is_current("n:k", &witness), "{names:?}");
        larder.invalidate(names.clone()).await.unwrap();
        assert!(!larder.is_current("n:k", &witness), "{names:?}");
    }
    larder.raw().put("n:k", Bytes::from("v")).await.unwrap();
    let witness = witnessed(&larder, "n:k").await;
    larder.raw().put("n:k", Bytes::from("v")).await.unwrap();
    assert!(!larder.is_current("n:k", &witness), "another value was put there");
}

#[tokio::test]
async fn some_key_and_how_many_there_are() {
    let (builder, clock, _) = over_own_tier();
    let larder = builder.build().await.unwrap();
    let raw = larder.raw();
    assert_eq!((raw.random_key().await.unwrap(), raw.len(), raw.is_empty()), (None, 0, true));
    for n in 0..20 {
        raw.put(format!("n:{n}"), Item::new(Bytes::from("v")).ttl(secs(if n < 10 { 1 } else { 100 }))).await.unwrap();
    }
    assert!(raw.len() == 20 && !raw.is_empty());
    clock.advance(secs(1));
    raw.remove(["n:10"]).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        seen.insert(String::from_utf8(raw.random_key().await.unwrap().expect("some are fresh").into_vec()).unwrap());
    }
    assert_eq!(seen, (11..20).map(|n| format!("n:{n}")).collect(), "each that is fresh comes, and no other");
    let (elsewhere, _) = in_memory();
    let elsewhere = elsewhere.build().await.unwrap();
    elsewhere.raw().put("n:1", Bytes::from("v")).await.unwrap();
    assert_eq!((elsewhere.raw().len(), elsewhere.raw().random_key().await.unwrap().as_deref()), (1, Some(&b"n:1"[..])));
}
