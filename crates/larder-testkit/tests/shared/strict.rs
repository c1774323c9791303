//! Strict namespaces: what cannot be guaranteed is refused (promise G3).

use std::time::Duration;

use larder::{ErrorKind, Freshness, Mode, Names, Policy};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_not_used_once_the_log_was_not_heard_for_too_long() {
    let Some(server) = server() else { return };
    let limit = Duration::from_millis(400);
    let a = builder(&server.url()).mode(Mode::Strict).max_staleness(limit).build().await.unwrap();
    let lenient = Policy::default().mode(Mode::Available);
    let b = builder(&server.url()).mode(Mode::Strict).max_staleness(limit).namespace("n", lenient).build().await.unwrap();
    let (on_a, on_b) = (a.namespace::<String>("n").unwrap(), b.namespace::<String>("n").unwrap());
    on_a.put("k", "old".to_owned()).await.unwrap();
    on_b.put("own", "v".to_owned()).await.unwrap();
    until("the log is heard", || a.stats().log.shared.unwrap().unheard_for < limit).await;
    assert!(on_a.get("k").await.unwrap().is_some());
    server.pause();
    until("time passes", || [&a, &b].iter().all(|larder| larder.stats().log.shared.unwrap().unheard_for > limit)).await;
    for error in [on_a.get("k").await.unwrap_err(), on_a.get_many(["k"]).await.unwrap_err(), on_a.peek("k").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unverified);
    }
    assert_eq!(*on_a.get_or_load("k", loader("new")).await.unwrap(), "new", "the source is asked");
    let many = on_a
        .get_many_or_load(["k", "l"], |keys| async move {
            Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, "newer".to_owned())).collect())
        })
        .await
        .unwrap();
    assert_eq!(many.into_iter().map(|value| (*value.unwrap()).clone()).collect::<Vec<_>>(), ["newer", "newer"]);
    let answer = on_b.lookup("own").await.unwrap().into_answer().unwrap();
    assert_eq!(answer.freshness, Freshness::Unverified, "a lenient namespace says so, and answers");
    let refused = a.invalidate(Names::new().key("n:k")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LogUnavailable);
    assert_eq!(on_a.put("k", "w".to_owned()).await.unwrap_err().kind(), ErrorKind::LogUnavailable);
    server.resume();
    until("the log is heard again", || a.stats().log.shared.unwrap().unheard_for < limit).await;
    a.invalidate(Names::new().key("n:k")).await.unwrap();
    on_a.get("k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_too_few_replicas_have_is_refused() {
    let Some(server) = server() else { return };
    let options = options(&server.url()).replicas(1).operation_timeout(Duration::from_millis(200));
    let a = builder(&server.url()).redis(options).mode(Mode::Strict).build().await.unwrap();
    let refused = a.invalidate(Names::new().key("n:k")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LogUnavailable);
    assert_eq!(a.namespace::<String>("n").unwrap().get("k").await.unwrap_err().kind(), ErrorKind::Unverified, "nor is the log believed");
}
