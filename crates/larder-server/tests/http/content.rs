//! Content, sources and explanations over HTTP.

use serde_json::json;

use crate::client::Server;

#[test]
fn content_is_validated_as_json_or_as_bytes() {
    let server = Server::plain();
    server.put("features:A").body("0.7").send();
    let validate = |path: &str, media: &str, body: &str| {
        server.request("POST", &format!("/v1/entries/{path}")).header("content-type", media).body(body).send()
    };
    let json = "application/json; charset=utf-8";
    let first = validate("features:A/content", json, r#"{"open": 1, "close": 2.50}"#);
    assert_eq!((first.status, first.json()), (200, json!({ "outcome": "first-sight", "position": null, "queued": false })));
    assert_eq!(validate("features:A/content?renew=true", json, r#"{"close":2.5,"open":1.0}"#).json()["outcome"], "unchanged");
    assert_eq!(validate("features:A/content", "text/plain", r#"{"close":2.5,"open":1.0}"#).json()["outcome"], "changed");
    server.get("features:A").problem(404, "miss");
    assert_eq!(validate("features:A/content", json, "1").json()["outcome"], "absent");
    validate("features:A/content", json, "{").problem(400, "invalid-request");
    validate("features:A/content?renew=perhaps", json, "1").problem(400, "invalid-request");
    validate("%2/content", json, "1").problem(400, "invalid-key");
    // A fingerprint that was given with the value.
    let print = "af1349b9f5f9a1a6a0404dea36dcc949";
    assert_eq!(server.put("features:A").header("larder-content", print).body("0.7").send().status, 204);
    let changed = validate("features:A/content", json, "1").json();
    assert_eq!((&changed["outcome"], changed["position"].is_string()), (&json!("changed"), true));
    server.put("features:A").header("larder-content", "17").body("0.7").send().problem(400, "invalid-header");
}

#[test]
fn a_put_of_the_same_says_that_nothing_changed() {
    let server = Server::plain();
    let put = |body: &str, header: &str| {
        server.put("k").header("content-type", "application/json").header("larder-if-changed", header).body(body).send()
    };
    let first = put(r#"{"a":1,"b":2}"#, "true");
    assert_eq!((first.status, first.header("larder-changed")), (204, Some("true")));
    let position = server.larder.position();
    let same = put(r#"{"b": 2.0, "a": 1}"#, "true");
    assert_eq!((same.status, same.header("larder-changed"), same.header("larder-position")), (204, Some("false"), None));
    assert_eq!(server.larder.position(), position);
    assert_eq!(put(r#"{"b": 3}"#, "true").header("larder-changed"), Some("true"));
    assert_eq!(put(r#"{"b": 3}"#, "false").header("larder-changed"), None, "a put as any other");
    put("{}", "perhaps").problem(400, "invalid-header");
}

#[test]
fn a_source_that_moved_takes_its_dependents_along_and_the_explanation_says_so() {
    let server = Server::plain();
    let put = |key: &str, from: &str| server.put(key).header("larder-depends-on", from).body("1").send();
    assert_eq!(put("features:A", "bars:A=17").status, 204);
    assert_eq!(put("prediction:A", "features:A=1, model:m=3").status, 204);
    let explain = |key: &str| server.request("GET", &format!("/v1/entries/{key}/explanation")).send().json();
    let explained = explain("prediction:A");
    assert_eq!(explained["found"][0]["verdict"], "fresh");
    let sources = &explained["found"][0]["sources"];
    assert_eq!(sources[0], json!({ "name": "features:A", "version": 1, "through": null }));
    assert_eq!(sources[1], json!({ "name": "bars:A", "version": 17, "through": 0 }));

    let source = |method: &str, body: &str| {
        server.request(method, "/v1/sources/bars%3AA").header("content-type", "application/json").body(body).send()
    };
    assert_eq!(source("GET", "").json(), json!({ "version": null }));
    let moved = source("PUT", r#"{"version": 18}"#);
    assert_eq!((moved.status, &moved.json()["version"]), (200, &json!(18)));
    assert!(moved.json()["position"].is_string());
    assert_eq!(source("PUT", r#"{"version": "17"}"#).json(), json!({ "version": 18, "before": 18 }), "a late report");
    assert_eq!(source("GET", "").json(), json!({ "version": 18 }));

    let explained = explain("prediction:A");
    let why = &explained["found"][0]["invalidated"];
    assert_eq!(why["chain"], json!(["prediction:A", "features:A", "bars:A"]));
    assert!(explained["text"].as_str().unwrap().contains("prediction:A <- features:A <- bars:A"), "{explained}");
    server.get("prediction:A").problem(404, "miss");
    assert_eq!(explain("prediction:A")["found"], json!([]));

    let problem = put("features:A", "bars:A=17").problem(409, "outdated");
    assert!(problem["detail"].as_str().unwrap().contains("known to be at 18"), "{problem}");
    put("features:A", "features:A=1").problem(400, "invalid-dependency");
    put("features:A", "bars:A").problem(400, "invalid-header");
    source("PUT", r#"{"version": "v18"}"#).problem(400, "invalid-dependency");
    source("PUT", r#"{"versoin": 18}"#).problem(400, "invalid-request");
    server.request("PUT", "/v1/sources/bars").body("{}").send().problem(415, "unsupported-media-type");
}
