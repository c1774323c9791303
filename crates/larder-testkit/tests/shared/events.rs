//! An event that took effect is remembered where all instances find it.

use larder::Larder;
use larder::events::{Event, Rule};
use serde_json::json;

use crate::support::*;

fn event(id: &str) -> Event {
    Event::new("t", json!({ "x": id })).from("s").with_id(id)
}

async fn with_rule(url: &str) -> Larder {
    builder(url).rule(Rule::new("t", ["tag:{x}"]).expect("it is one")).build().await.expect("an instance opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_knows_what_took_effect_and_so_does_the_next() {
    let Some(server) = server() else { return };
    let (a, b) = (with_rule(&server.url()).await, with_rule(&server.url()).await);
    // More than the tail can have brought without its marks, and from both sides of the appender.
    let mut last = None;
    for n in 0..200 {
        last = a.emit(event(&n.to_string())).await.unwrap().position;
    }
    b.reach(last.unwrap(), LONG).await.unwrap();
    let head = b.position().number();
    for n in 0..200 {
        assert!(b.emit(event(&n.to_string())).await.unwrap().duplicate, "{n}");
    }
    assert_eq!(b.position().number(), head, "nothing was appended");
    a.close().await.unwrap();
    b.close().await.unwrap();
    drop((a, b));
    // Not from the stream, which is bounded.
    server.command(&["XTRIM", "{larder}:stream", "MAXLEN", "0"]).unwrap();
    let c = with_rule(&server.url()).await;
    for n in 0..200 {
        assert!(c.emit(event(&n.to_string())).await.unwrap().duplicate, "{n}");
    }
    assert!(!c.emit(event("another")).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_only_queued_is_not_remembered_and_what_took_effect_outlives_the_epoch() {
    let Some(server) = server() else { return };
    let a = with_rule(&server.url()).await;
    a.emit(event("before")).await.unwrap();
    server.kill();
    until("it notices", || !connected(&a)).await;
    for _ in 0..2 {
        let queued = a.emit(event("meanwhile")).await.unwrap();
        assert!(queued.queued && !queued.duplicate);
    }
    // Without its data: what it knew is lost, and a new epoch begins.
    server.restart(false);
    until("it is taken up", || connected(&a)).await;
    let again = a.emit(event("meanwhile")).await.unwrap();
    assert!(!again.queued && !again.duplicate, "it was appended without its mark");
    assert!(a.emit(event("meanwhile")).await.unwrap().duplicate);
    assert!(a.emit(event("before")).await.unwrap().duplicate, "all that it could have killed is of an older epoch");
}
