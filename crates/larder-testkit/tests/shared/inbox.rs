//! Invalidations by others than larder.

use larder::{InvalidationKind, InvalidationOrigin, Item, Names};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_client_can_invalidate_and_every_instance_obeys() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let fields: [&[&str]; 5] = [&["key", "n:x"], &["tag", "t"], &["pattern", "n:*"], &["namespace", "n"], &["everything", "1"]];
    for field in fields {
        let on_a = a.namespace::<String>("n").unwrap();
        let receipt = on_a.put("x", Item::new("v".to_owned()).tag("t")).await.unwrap();
        b.reach(receipt.position(), LONG).await.unwrap();
        let before = a.stats().log.shared.unwrap().inbox_taken + b.stats().log.shared.unwrap().inbox_taken;
        server.command(&[&["XADD", "{larder}:inbox", "*"], field].concat()).unwrap();
        let position = receipt.position().number();
        for larder in [&a, &b] {
            until("the message takes effect", || larder.stats().log.position.number() > position).await;
            let namespace = larder.namespace::<String>("n").unwrap();
            assert!(namespace.get("x").await.unwrap().is_none(), "{field:?}");
        }
        let taken = || a.stats().log.shared.unwrap().inbox_taken + b.stats().log.shared.unwrap().inbox_taken;
        until("it is counted", || taken() == before + 1).await;
    }
    until("the inbox is empty", || server.command(&["XLEN", "{larder}:inbox"]).unwrap().number() == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidations_are_counted_by_where_they_came_from() {
    let Some(server) = server() else { return };
    let (a, b) = (instance(&server.url()).await, instance(&server.url()).await);
    let counted = |larder: &larder::Larder, origin| larder.stats().invalidations.get(InvalidationKind::Tag, origin);
    // At once, so that some come back by the stream before they are answered, and some after.
    for _ in 0..20 {
        let own = || Names::new().tag("t").tag("u");
        let (first, second, third) = tokio::join!(a.invalidate(own()), b.invalidate(own()), a.invalidate(own()));
        let last = [first, second, third].map(|receipt| receipt.unwrap().position()).into_iter().max_by_key(|at| at.number()).unwrap();
        a.reach(last, LONG).await.unwrap();
        b.reach(last, LONG).await.unwrap();
    }
    assert_eq!((counted(&a, InvalidationOrigin::Call), counted(&b, InvalidationOrigin::Call)), (80, 40));
    let of_peers = || (counted(&a, InvalidationOrigin::Peer), counted(&b, InvalidationOrigin::Peer));
    until("each has counted the other's", || of_peers() == (40, 80)).await;
    server.command(&["XADD", "{larder}:inbox", "*", "tag", "t"]).unwrap();
    let of_both = |origin| counted(&a, origin) + counted(&b, origin);
    until("one of them takes it", || of_both(InvalidationOrigin::Inbox) == 1).await;
    until("the other hears of it", || of_both(InvalidationOrigin::Peer) == 121).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_invalidation_is_put_aside_with_the_reason() {
    let Some(server) = server() else { return };
    server.command(&["XADD", "{larder}:inbox", "*", "tags", "t"]).unwrap();
    let a = instance(&server.url()).await;
    let aside = || server.command(&["XLEN", "{larder}:inbox:rejected"]).unwrap().number();
    until("it is put aside", || aside() == Some(1)).await;
    until("it is counted", || a.stats().log.shared.unwrap().inbox_rejected == 1).await;
    let seen = format!("{:?}", server.command(&["XRANGE", "{larder}:inbox:rejected", "-", "+"]).unwrap());
    assert!(!seen.is_empty());
    server.command(&["XADD", "{larder}:inbox", "*", "tag", "t"]).unwrap();
    until("the next one is taken", || a.stats().log.position.number() == 1).await;
}
