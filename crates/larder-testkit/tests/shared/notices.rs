//! Each instance tells its listeners what was changed anywhere, once; and that it missed something, where it did.

use larder::{Names, Notice, Noticed, Notices};

use crate::support::*;

/// The next one, which must be of these names.
async fn next_of(notices: &mut Notices, what: &Noticed) -> (u64, Option<bool>) {
    let next = tokio::time::timeout(LONG, notices.next()).await.expect("it is told").expect("the cache is open");
    match next {
        Notice::Invalidated { names, position: Some(position), put } if names[..] == [what.clone()] => (position.number(), put),
        other => panic!("{other:?} in the place of {what:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_once_on_each_instance() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let (mut on_a, mut on_b) = (a.notices(1_000), b.notices(1_000));
    let key = |n: u32| Noticed::Key(format!("n:{n}").into_bytes().into());
    let mut last = 0;
    for n in 0..100 {
        let receipt = match n % 2 {
            0 => a.raw().put(format!("n:{n}"), bytes::Bytes::from("v")).await.unwrap(),
            _ => a.invalidate(Names::new().key(format!("n:{n}"))).await.unwrap(),
        };
        let (at, put) = next_of(&mut on_b, &key(n)).await;
        assert_eq!((at, put), (receipt.position().number(), None), "the log does not say what another did");
        let (at, put) = next_of(&mut on_a, &key(n)).await;
        assert_eq!(at, receipt.position().number());
        assert!(put.is_none_or(|put| put == (n % 2 == 0)), "known, unless the stream was faster than the answer");
        assert!(at > last);
        last = at;
    }
    b.invalidate(Names::new().tag("end")).await.unwrap();
    let end = Noticed::Tag(b"end".as_slice().into());
    assert!(next_of(&mut on_a, &end).await.0 > last, "nothing was told twice");
    next_of(&mut on_b, &end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_began_anew_is_a_loss() {
    let Some(server) = server() else { return };
    let a = instance(&server.url()).await;
    let mut notices = a.notices(10);
    server.kill();
    until("the loss is noticed", || !connected(&a)).await;
    a.invalidate(Names::new().tag("meanwhile")).await.unwrap();
    let queued = notices.next().await.expect("the cache is open");
    assert!(matches!(queued, Notice::Invalidated { position: None, .. }), "{queued:?}");
    server.restart(false);
    let lost = tokio::time::timeout(LONG, notices.next()).await.expect("it is told");
    assert_eq!(lost, Some(Notice::Lost));
}
