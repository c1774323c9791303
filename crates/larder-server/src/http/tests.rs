//! The layers around the routes, with routes that misbehave; and the document against the table of routes.

use std::collections::BTreeSet;
use std::future::{Future, IntoFuture};
use std::time::Duration;

use super::*;

async fn app(limits: HttpLimits) -> Shared {
    let larder = Larder::builder().build().await.expect("a cache in memory");
    let health = Health::watch(&larder, crate::health::Watched::default(), false);
    let cleaner = Cleaner::of(&larder);
    let maintenance = Maintenance::open(&larder, None);
    let promise = Promise::new(larder.clone(), crate::promise::readings::Readings::system(), Default::default());
    let upkeep = Upkeep { cleaner, backups: None, maintenance, ready_waits: false, promise };
    let doors = (None, crate::access::Door::open(), None);
    App::new(larder, (limits, Webhooks::default()), health, (None, None), doors, upkeep)
}

fn own() -> Hosts {
    Hosts::new(([127, 0, 0, 1], 0).into(), &[], None)
}

/// Serves a router, asks it once, and gives status and problem.
async fn ask(router: Router, path: &str) -> (u16, problem::Document) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let url = format!("http://{address}{path}");
    let asked = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20))).build(),
        );
        let mut response = agent.get(&url).call().unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    });
    let answer = asked.await.unwrap();
    server.abort();
    answer
}

#[tokio::test]
async fn a_panic_is_answered_and_does_not_say_what_is_inside() {
    async fn burst() {
        panic!("the secret is 42");
    }
    let app = app(HttpLimits::default()).await;
    let router = outermost(with_gate(Router::new().route("/burst", get(burst)), &app), app.clone(), own(), None);
    let (status, problem) = ask(router, "/burst").await;
    assert_eq!((status, problem.type_uri.as_str()), (500, "urn:larder:problem:internal"));
    assert!(!problem.detail.contains("secret"), "{}", problem.detail);
    assert_eq!(app.gate.under_way(), 0, "what panics leaves the gate too");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let app = app(HttpLimits { request_timeout: Duration::from_millis(20), ..HttpLimits::default() }).await;
    let router = outermost(with_gate(Router::new().route("/hang", get(std::future::pending::<()>)), &app), app.clone(), own(), None);
    let (status, problem) = ask(router, "/hang").await;
    assert_eq!((status, problem.type_uri.as_str()), (504, "urn:larder:problem:timed-out"));
    assert_eq!(app.gate.under_way(), 0);
}

#[tokio::test]
async fn a_closed_gate_lets_nobody_in_and_empties() {
    let app = app(HttpLimits { requests_max: 2, ..HttpLimits::default() }).await;
    let first = app.gate.enter().unwrap();
    let second = app.gate.enter().unwrap();
    assert_eq!(app.gate.enter().err().unwrap().document().status, 503);
    drop(second);
    app.gate.close();
    assert_eq!(app.gate.enter().err().unwrap().document().type_uri, "urn:larder:problem:draining");
    let mut emptied = std::pin::pin!(app.gate.emptied());
    let not_yet = std::future::poll_fn(|context| std::task::Poll::Ready(emptied.as_mut().poll(context).is_pending())).await;
    assert!(not_yet, "one request is under way");
    drop(first);
    emptied.await;
    assert_eq!(app.gate.enter().err().unwrap().document().type_uri, "urn:larder:problem:draining");
}

#[test]
fn the_document_lists_the_routes_and_no_others() {
    let document = openapi::document();
    let methods = ["get", "head", "put", "delete", "post", "patch", "options", "trace"];
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let found = methods.iter().filter(|method| item.get(method).is_some());
            found.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let served = data_plane().into_iter().chain(about()).map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
    assert_eq!(documented, served);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn check(value: &serde_json::Value, whole: &serde_json::Value, seen: &mut usize) {
        if let Some(reference) = value.get("$ref") {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(whole.pointer(pointer).is_some(), "{pointer}");
            *seen += 1;
        }
        let members = value.as_object().into_iter().flat_map(|object| object.values());
        members.chain(value.as_array().into_iter().flatten()).for_each(|member| check(member, whole, seen));
    }
    let (document, mut seen) = (openapi::document(), 0);
    check(&document, &document, &mut seen);
    assert!(seen > 50, "only {seen} were found");
}

/// The contract as clients have it. A change shows in review.
#[test]
fn the_document_is_the_one_that_was_agreed_on() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    if std::env::var_os("LARDER_UPDATE").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let agreed = std::fs::read_to_string(path).unwrap_or_default();
    let differs = agreed.lines().zip(now.lines()).position(|(agreed, now)| agreed != now);
    assert!(
        agreed == now,
        "the OpenAPI document has changed, first in line {}; if that is meant, run this test with LARDER_UPDATE=1 and commit openapi.json",
        differs.unwrap_or(agreed.lines().count().min(now.lines().count())) + 1
    );
}
