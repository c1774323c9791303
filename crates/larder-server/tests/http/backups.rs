//! Backups over HTTP: begun, looked at until they ended, shown, and brought back.

use std::time::Duration;

use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::Server;

/// Begins a run, and returns how it ended.
fn run(server: &Server, ask: Value) -> Value {
    let begun = server.post("/v1/backup-runs", ask);
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = format!("/v1/backup-runs/{}", begun.json()["run"]);
    let ended = wait::until_some(Duration::from_secs(20), || {
        let run = server.request("GET", &path).send().json();
        (run["state"] != "running").then_some(run)
    });
    ended.expect("it ends")
}

#[test]
fn work_on_backups_is_begun_and_looked_at() {
    let server = Server::plain();
    assert_eq!(server.put("a:1").body("one").send().status, 204);
    assert_eq!(server.put("a:2").body("two").send().status, 204);
    let listed = |server: &Server| server.request("GET", "/v1/backups").send().json()["backups"].as_array().map(Vec::len);
    assert_eq!(listed(&server), Some(0));
    let created = run(&server, json!({ "do": "create", "name": "b" }));
    assert_eq!(
        (&created["state"], &created["result"]["entries"], &created["error"]),
        (&json!("done"), &json!(2), &Value::Null),
        "{created}"
    );
    assert_eq!(listed(&server), Some(1));
    let manifest = server.request("GET", "/v1/backups/b").send().json();
    assert_eq!((&manifest["format"], &manifest["namespaces"][0]["name"]), (&json!(1), &json!("a")), "{manifest}");

    let removed = server.request("DELETE", "/v1/entries/a:1").send();
    assert_eq!(removed.status, 204);
    let restored = run(&server, json!({ "do": "restore", "name": "b", "present": "replace" }));
    assert_eq!((&restored["result"]["restored"], &restored["result"]["dead_invalidated"]), (&json!(1), &json!(1)), "{restored}");
    assert_eq!(server.get("a:1").status, 404, "what was removed stays so");
    assert_eq!(server.get("a:2").body, b"two");

    for (ask, kind) in [
        (json!({ "do": "verify", "name": "none" }), "not-found"),
        (json!({ "do": "verify", "name": "../b" }), "refused"),
        (json!({ "do": "create", "name": "b" }), "failed"),
        (json!({ "do": "create", "place": "/etc" }), "refused"),
    ] {
        let failed = run(&server, ask.clone());
        assert_eq!((&failed["state"], &failed["error_kind"]), (&json!("failed"), &json!(kind)), "{ask}: {failed}");
        assert!(failed["result"].is_null() && failed["error"].is_string(), "{failed}");
    }
    let pruned = run(&server, json!({ "do": "prune", "keep": { "last": 1 } }));
    assert_eq!(pruned["result"]["kept"], json!(["b"]), "{pruned}");
}

#[test]
fn what_cannot_be_asked_of_backups_is_a_problem() {
    let server = Server::plain();
    for (method, path, status) in [
        ("GET", "/v1/backups/none", 404),
        ("GET", "/v1/backups/..%2Fb", 404),
        ("GET", "/v1/backup-runs/7", 404),
        ("DELETE", "/v1/backup-runs/7", 404),
        ("GET", "/v1/backup-runs/x", 404),
    ] {
        assert_eq!(server.request(method, path).send().status, status, "{method} {path}");
    }
    for wrong in [json!({}), json!({ "do": "eat" }), json!({ "do": "create", "more": 1 }), json!({ "do": "verify" })] {
        assert_eq!(server.post("/v1/backup-runs", wrong.clone()).status, 400, "{wrong}");
    }
}
