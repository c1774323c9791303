//! The data plane, as a client in any language meets it: every route, every header, and what goes wrong.

#[path = "http/access.rs"]
mod access;
#[path = "http/backups.rs"]
mod backups;
#[path = "http/client.rs"]
mod client;
#[path = "http/content.rs"]
mod content;
#[path = "http/deploy.rs"]
mod deploy;
#[path = "http/exposition.rs"]
mod exposition;
#[path = "../src/fake_tier.rs"]
#[allow(dead_code, reason = "the tests of clean-ups use all of it")]
mod fake_tier;
#[path = "http/health.rs"]
mod health;
#[path = "http/intake.rs"]
mod intake;
#[path = "http/jobs.rs"]
mod jobs;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/metrics.rs"]
mod metrics;
#[path = "http/optimize.rs"]
mod optimize;
#[path = "http/otlp.rs"]
mod otlp;
#[path = "http/races.rs"]
mod races;
#[path = "http/restore_killed.rs"]
mod restore_killed;
#[path = "http/shared.rs"]
mod shared;
#[path = "http/upkeep.rs"]
mod upkeep;
#[path = "resp/wire.rs"]
#[allow(dead_code, reason = "the tests of RESP use all of it")]
mod wire;

use std::time::Duration;

use client::Server;
use larder::{Clock, Larder};
use larder_server::settings::HttpLimits;
use serde_json::json;

#[test]
fn an_entry_is_put_read_and_removed() {
    let server = Server::plain();
    let missed = server.get("features:AAPL");
    missed.problem(404, "miss");
    assert_eq!(missed.header("cache-status"), Some("larder; fwd=miss; detail=absent"));
    assert!(missed.header("larder-fill").unwrap().starts_with(missed.header("larder-position").unwrap()));

    let tags = "symbol:AAPL, a%2Cb,%FF";
    let put = server.put("features:AAPL").header("content-type", "text/plain").header("cache-tag", tags).body("up").send();
    assert_eq!((put.status, put.body.len()), (204, 0));

    let read = server.get("features:AAPL");
    assert_eq!((read.status, read.body.as_slice()), (200, b"up".as_slice()));
    assert_eq!(read.header("content-type"), Some("text/plain"));
    assert_eq!(read.header("content-length"), Some("2"));
    assert_eq!(read.header("cache-tag"), Some("a%2Cb,symbol:AAPL,%FF"));
    assert_eq!(read.header("cache-status"), Some("larder; hit; detail=memory"));
    assert_eq!(read.header("cache-control"), Some("no-cache"), "no time to live: until it is invalidated");
    assert_eq!(read.header("age"), Some("0"));
    assert_eq!(read.header("larder-position"), put.header("larder-position"));
    assert_eq!(read.header("larder-fill"), None);

    let head = server.request("HEAD", "/v1/entries/features:AAPL").send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-length", "etag", "cache-tag", "cache-status"] {
        assert_eq!(head.header(name), read.header(name), "{name}");
    }

    let removed = server.request("DELETE", "/v1/entries/features:AAPL").send();
    assert_eq!(removed.status, 204);
    assert_ne!(removed.header("larder-position"), put.header("larder-position"));
    assert!(server.larder.position().to_string() == removed.header("larder-position").unwrap());
    server.get("features:AAPL").problem(404, "miss");
    let head = server.request("HEAD", "/v1/entries/features:AAPL").send();
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert!(head.header("larder-fill").is_some());
}

#[test]
fn times_are_counted_down_and_a_stale_answer_says_so() {
    let clock = Clock::manual();
    let server = Server::start(Larder::builder().clock(clock.clone()), HttpLimits::default());
    let control = "max-age=60, stale-while-revalidate=30, stale-if-error=45";
    assert_eq!(server.put("k").header("cache-control", control).body("old").send().status, 204);

    clock.advance(Duration::from_secs(20));
    let fresh = server.get("k");
    assert_eq!(fresh.header("cache-control"), Some(format!("no-cache, {control}").as_str()));
    assert_eq!(fresh.header("age"), Some("20"));
    assert_eq!(fresh.header("cache-status"), Some("larder; hit; ttl=40; detail=memory"));

    clock.advance(Duration::from_secs(45));
    let stale = server.get("k");
    assert_eq!((stale.status, stale.body.as_slice()), (200, b"old".as_slice()));
    assert_eq!(stale.header("cache-status"), Some("larder; hit; ttl=-5; detail=stale-memory"));
    assert_eq!((stale.header("age"), stale.header("cache-control")), (Some("65"), Some(format!("no-cache, {control}").as_str())));

    // Whoever gets it may fill it anew.
    let filled = server.put("k").header("larder-fill", stale.header("larder-fill").unwrap()).body("new").send();
    assert_eq!(filled.status, 204);
    assert_eq!(server.get("k").body, b"new");

    assert_eq!(server.put("k").header("cache-control", "max-age=60").body("brief").send().status, 204);
    clock.advance(Duration::from_secs(60));
    let expired = server.get("k");
    expired.problem(404, "miss");
    assert_eq!(expired.header("cache-status"), Some("larder; fwd=stale; detail=expired"));
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let server = Server::plain();
    assert_eq!(server.put("k").body("value").send().status, 204);
    let etag = server.get("k").header("etag").unwrap().to_owned();
    assert_eq!(etag.len(), 34);
    for names in [etag.as_str(), "*", &format!("W/{etag}"), &format!("\"a,b\", {etag}")] {
        for method in ["GET", "HEAD"] {
            let reply = server.request(method, "/v1/entries/k").header("if-none-match", names).send();
            assert_eq!((reply.status, reply.body.len()), (304, 0), "{method} {names}");
            assert_eq!(reply.header("etag"), Some(etag.as_str()));
            assert!(reply.header("cache-control").is_some() && reply.header("larder-position").is_some());
        }
    }
    let other = server.request("GET", "/v1/entries/k").header("if-none-match", "\"other\"").send();
    assert_eq!((other.status, other.body.as_slice()), (200, b"value".as_slice()));
    assert_eq!(server.put("k").body("changed").send().status, 204);
    assert_eq!(server.request("GET", "/v1/entries/k").header("if-none-match", &etag).send().status, 200);
}

#[test]
fn any_bytes_are_a_key_and_so_are_the_names_of_routes() {
    let server = Server::plain();
    let longest = "k".repeat(larder::KEY_LEN_MAX);
    for key in ["a:b", "a%2Fb", "%00%FF%25", "get", "put", "a+b", "%E4%F6", &longest] {
        assert_eq!(server.put(key).body(key).send().status, 204, "{key}");
        assert_eq!(server.get(key).body, key.as_bytes(), "{key}");
    }
    // Both spellings are the same key.
    assert_eq!(server.get("a%3ab").body, b"a:b");
    let listed = server.request("GET", "/v1/keys").send().json();
    let expected = [
        json!({ "base64": "AP8l" }),
        json!("a+b"),
        json!("a/b"),
        json!("a:b"),
        json!("get"),
        json!(longest),
        json!("put"),
        json!({ "base64": "5PY=" }),
    ];
    assert_eq!(listed, json!({ "keys": expected, "next": null }));
}

#[test]
fn invalidations_of_every_kind_take_effect_and_have_a_receipt() {
    let server = Server::plain();
    let kinds = [
        ("keys", json!(["n:a:1"]), 1),
        ("tags", json!(["t", { "base64": "/w==" }]), 2),
        ("patterns", json!(["n:a:*"]), 1),
        ("namespaces", json!(["n"]), 1),
        ("everything", json!(true), 1),
    ];
    for (kind, names, count) in kinds {
        assert_eq!(server.put("n:a:1").header("cache-tag", "t").body("v").send().status, 204);
        assert_eq!(server.put("m:a:1").body("other").send().status, 204);
        let mut body = json!({});
        body[kind] = names;
        let reply = server.post("/v1/invalidations", body);
        assert_eq!(reply.status, 200, "{kind}: {reply:?}");
        let receipt = reply.json();
        assert_eq!(receipt, json!({ "position": server.larder.position().to_string(), "names": count, "widened": 0, "queued": false }));
        let missed = server.get("n:a:1");
        missed.problem(404, "miss");
        assert_eq!(server.get("m:a:1").status == 200, kind != "everything", "{kind}");
    }
    assert_eq!(server.put("n:a:1").body("v").send().status, 204);
    assert_eq!(server.post("/v1/invalidations", json!({ "everything": true })).status, 200);
    let status = server.get("n:a:1").header("cache-status").unwrap().to_owned();
    // Which of the two depends on whether the sweeper was there first.
    assert!(["larder; fwd=stale; detail=invalidated", "larder; fwd=miss; detail=absent"].contains(&status.as_str()), "{status}");
}

/// An event of the built-in rules.
fn quote(id: &str, symbol: serde_json::Value) -> serde_json::Value {
    json!({ "specversion": "1.0", "id": id, "source": "feed", "type": "market_data_update", "data": { "symbol": symbol } })
}

#[test]
fn events_come_in_every_mode_of_the_binding() {
    let server = Server::plain();
    let put = || {
        for key in ["features:AAPL:5m", "features:MSFT:5m"] {
            assert_eq!(server.put(key).body("v").send().status, 204);
        }
    };
    let there = || ["AAPL", "MSFT"].map(|symbol| server.get(&format!("features:{symbol}:5m")).status == 200);
    let send = |media: &str, body: String| server.request("POST", "/v1/events").header("content-type", media).body(body).send();
    put();
    let one = send("application/cloudevents+json; charset=utf-8", quote("1", json!("AAPL")).to_string());
    assert_eq!((one.status, there()), (200, [false, true]), "{one:?}");
    let told = one.json();
    assert_eq!((&told["id"], &told["rules"], &told["duplicate"]), (&json!("1"), &json!(["market_data_update"]), &json!(false)));
    assert_eq!(told["position"], json!(server.larder.position().to_string()));
    put();
    let again = send("application/cloudevents+json", quote("1", json!("AAPL")).to_string()).json();
    assert_eq!((&again["duplicate"], there()), (&json!(true), [true, true]));
    let binary = server.request("POST", "/v1/events").header("content-type", "application/json").header("ce-specversion", "1.0");
    let binary = binary.header("ce-id", "2").header("ce-source", "feed%20two").header("ce-type", "market_data_update");
    assert_eq!((binary.body(r#"{"symbol":"MSFT"}"#).send().status, there()), (200, [true, false]));
    put();
    let batch = json!([quote("3", json!("AAPL")), quote("4", json!("A:B")), { "id": "5" }, quote("6", json!("MSFT"))]);
    let several = send("application/cloudevents-batch+json", batch.to_string());
    assert_eq!((several.status, there()), (400, [false, false]), "the wrong ones keep no other from being carried out");
    let events = several.json()["events"].clone();
    assert_eq!((&events[0]["id"], &events[3]["id"]), (&json!("3"), &json!("6")));
    let why = |at: usize| events[at]["problem"]["detail"].as_str().unwrap_or_default().to_owned();
    assert!(why(1).contains("market_data_update") && why(1).contains("symbol"), "{events}");
    assert!(why(2).contains("specversion"), "{events}");
}

#[test]
fn what_is_no_event_is_refused_and_a_rehearsal_changes_nothing() {
    let server = Server::plain();
    assert_eq!(server.put("features:AAPL:5m").body("v").send().status, 204);
    let send = |path: &str, media: &str, body: String| server.request("POST", path).header("content-type", media).body(body).send();
    let structured = "application/cloudevents+json";
    send("/v1/events", structured, "{".into()).problem(400, "invalid-event");
    send("/v1/events", structured, "[]".into()).problem(400, "invalid-event");
    send("/v1/events", structured, quote("", json!("AAPL")).to_string()).problem(400, "invalid-event");
    send("/v1/events", structured, quote("1", json!(null)).to_string()).problem(400, "invalid-event");
    send("/v1/events", "application/json", quote("1", json!("AAPL")).to_string()).problem(415, "unsupported-media-type");
    send("/v1/events", "application/cloudevents-batch+json", "{}".into()).problem(400, "invalid-event");
    send("/v1/events?dry_run=maybe", structured, quote("1", json!("AAPL")).to_string()).problem(400, "invalid-request");
    let planned = send("/v1/events?dry_run=true", structured, quote("1", json!("AAPL")).to_string()).json();
    assert_eq!((&planned["position"], &planned["impact"]["features"]["memory_entries"]), (&json!(null), &json!(1)), "{planned}");
    assert_eq!(server.get("features:AAPL:5m").status, 200);
    assert_eq!(server.larder.stats().log.appends, 1, "only the put");
}

#[test]
fn a_server_alone_has_obeyed_everywhere() {
    let server = Server::plain();
    let names = json!({ "tags": ["t"] });
    let receipt = server.post("/v1/invalidations?applied_everywhere=1s%20500ms", names.clone()).json();
    assert_eq!(receipt["spread"], json!({ "instances": 1, "lagging": [] }));
    assert!(server.post("/v1/invalidations", names.clone()).json().get("spread").is_none(), "it was not asked for");
    for time in ["500", "soon", "%FF", "%"] {
        server.post(&format!("/v1/invalidations?applied_everywhere={time}"), names.clone()).problem(400, "invalid-request");
    }
    assert_eq!(server.larder.stats().log.appends, 2, "what is refused changes nothing");
}

#[test]
fn keys_come_in_pages() {
    let server = Server::plain();
    (0..25).for_each(|i| assert_eq!(server.put(&format!("n:{i:02}")).body("v").send().status, 204));
    assert_eq!(server.put("other").body("v").send().status, 204);
    let (mut cursor, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page = server.request("GET", &format!("/v1/keys?pattern=n%3A*&limit=10&cursor={cursor}&ignored=%")).send().json();
        seen.extend(page["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, seen), (3, (0..25).map(|i| format!("n:{i:02}")).collect::<Vec<_>>()));
}

#[test]
fn many_are_read_and_written_at_once() {
    let clock = Clock::manual();
    let server = Server::start(Larder::builder().clock(clock.clone()), HttpLimits::default());
    let new = json!({ "entries": [
        { "key": "a:1", "value": "text", "media_type": "text/plain", "tags": ["t"], "ttl_ms": 1500, "stale_while_revalidate_ms": 1000 },
        { "key": { "base64": "/w==" }, "value": { "base64": "AP8=" } },
    ] });
    let written = server.post("/v1/entries/put", new).json();
    assert_eq!(written["position"], server.larder.position().to_string());
    assert_eq!(written["entries"], json!([{ "key": "a:1", "stored": true }, { "key": { "base64": "/w==" }, "stored": true }]));

    clock.advance(Duration::from_millis(500));
    let read = || server.post("/v1/entries/get", json!({ "keys": ["a:1", "absent", { "base64": "/w==" }] })).json();
    let found = read();
    let first = &found["entries"][0];
    assert_eq!((&first["outcome"], &first["value"], &first["media_type"]), (&json!("hit"), &json!("text"), &json!("text/plain")));
    assert_eq!((&first["tags"], &first["age_ms"], &first["fresh_for_ms"]), (&json!(["t"]), &json!(500), &json!(1000)));
    assert_eq!((&first["etag"], &first["tier"]), (&json!(server.get("a:1").header("etag").unwrap()), &json!("memory")));
    assert_eq!(first.get("fill"), None);
    assert!(first["position"].is_string());
    assert_eq!((&found["entries"][1]["outcome"], found["entries"][1].get("value")), (&json!("miss"), None));
    let third = &found["entries"][2];
    assert_eq!((&third["value"], &third["fresh_for_ms"]), (&json!({ "base64": "AP8=" }), &json!(null)));

    clock.advance(Duration::from_millis(1200));
    let found = read();
    assert_eq!((&found["entries"][0]["outcome"], &found["entries"][0]["value"]), (&json!("stale"), &json!("text")));

    // Both may be filled. What one depends on is invalidated meanwhile; the other's is not.
    assert_eq!(server.post("/v1/invalidations", json!({ "tags": ["gone"] })).status, 200);
    let fills = json!({ "entries": [
        { "key": "a:1", "value": "old", "tags": ["gone"], "fill": found["entries"][0]["fill"] },
        { "key": "absent", "value": "new", "tags": ["other"], "fill": found["entries"][1]["fill"] },
    ] });
    let written = server.post("/v1/entries/put", fills).json();
    assert_eq!(written["position"], json!(null), "fills append nothing");
    assert_eq!(written["entries"][0]["stored"], json!(false));
    assert_eq!(written["entries"][0]["problem"]["type"], "urn:larder:problem:stale-fill");
    assert_eq!(written["entries"][1], json!({ "key": "absent", "stored": true }));
    assert_eq!(server.get("absent").body, b"new");
}

#[test]
fn a_read_is_answered_at_the_position_it_asks_for() {
    let server = Server::plain();
    let position = server.put("k").body("v").send().header("larder-position").unwrap().to_owned();
    let at_least = |position: &str, wait: &str| {
        server.request("GET", "/v1/entries/k").header("larder-at-least", position).header("larder-wait-ms", wait).send()
    };
    assert_eq!(at_least(&position, "0").status, 200);
    assert_eq!(server.request("GET", "/v1/keys").header("larder-at-least", &position).send().status, 200);
    let future = position.replace("-1", "-1000");
    at_least(&future, "10").problem(504, "not-reached");
    let foreign = "00000000000000ab-1";
    at_least(foreign, "10").problem(412, "unknown-position");
    let many = server.request("POST", "/v1/entries/get").header("content-type", "application/json").header("larder-at-least", foreign);
    many.body(r#"{"keys":["k"]}"#).send().problem(412, "unknown-position");
    at_least("rubbish", "10").problem(400, "invalid-header");
    at_least(&position, "soon").problem(400, "invalid-header");
}

#[test]
fn the_numbers_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    assert_eq!(server.put("n:k").body("v").send().status, 204);
    server.get("n:k");
    server.get("n:k");
    server.get("n:absent");
    let stats = server.request("GET", "/v1/stats").send().json();
    assert_eq!((&stats["total"]["requests"], &stats["total"]["hits"]), (&json!(3), &json!(2)));
    assert!((stats["total"]["hit_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(stats["total"]["counts"]["puts"], json!(1));
    assert_eq!((&stats["namespaces"][0]["name"], &stats["namespaces"][0]["entries"]), (&json!("other"), &json!(1)));
    assert_eq!(stats["total"]["latencies"]["miss"]["count"], json!(1));
    assert!(stats["total"]["latencies"]["miss"]["p99_9_us"].as_f64().unwrap() > 0.0);
    assert_eq!((&stats["memory"]["entries"], &stats["log"]["appends"]), (&json!(1), &json!(1)));
    assert_eq!((&stats["backing"]["name"], &stats["backing"]["degraded"]), (&json!("disk"), &json!(null)));
    assert_eq!(stats["server"]["requests_under_way"], json!(1), "the one that asks");
    let typed: larder_server::http::stats::Document = serde_json::from_value(stats.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), stats);
}

#[test]
fn an_answer_says_when_it_came_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    assert_eq!(server.put("kept").header("cache-tag", "t").body("v").send().status, 204);
    assert_eq!(server.put("gone").body("v").send().status, 204);
    assert_eq!(server.request("DELETE", "/v1/entries/gone").send().status, 204);
    server.begin_stop();
    server.wait().unwrap();
    drop(server);

    let server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    let read = server.get("kept");
    assert_eq!((read.status, read.header("cache-status")), (200, Some("larder; hit; detail=disk")));
    assert_eq!(read.header("cache-tag"), Some("t"));
    assert_eq!(server.get("kept").header("cache-status"), Some("larder; hit; detail=memory"));
    server.get("gone").problem(404, "miss");
}

#[test]
fn probes_and_the_document_are_there() {
    let server = Server::plain();
    assert_eq!(server.request("GET", "/livez").send().body, b"alive\n");
    assert_eq!(server.request("GET", "/readyz").send().body, b"ready\n");
    let verbose = server.request("GET", "/readyz?verbose").header("accept", "application/json").send();
    let first = |number: usize, name: &str| {
        assert_eq!(verbose.json()["checks"][number], json!({ "name": name, "ok": true, "needed": true }));
    };
    first(0, "server");
    first(1, "startup");
    assert_eq!((verbose.status, &verbose.json()["ready"], &verbose.json()["degraded"]), (200, &json!(true), &json!(false)));
    assert_eq!(server.request("GET", "/v1/health").send().json(), json!({ "state": "healthy", "findings": [] }));
    let document = server.request("GET", "/openapi.json").send().json();
    assert_eq!(document, larder_server::http::openapi::document());
    // Whatever is documented is answered by its route, and not by one of the two fallbacks.
    for (path, item) in document["paths"].as_object().unwrap() {
        // This one ends with the server.
        let is_stream = path == "/v1/events/tail";
        for method in item.as_object().unwrap().keys().filter(|name| *name != "parameters" && !is_stream) {
            let reply = server.request(&method.to_uppercase(), &path.replace("{key}", "k")).send();
            assert_ne!(reply.status, 405, "{method} {path}");
            let is_unknown = reply.status == 404 && method != "head" && reply.json()["type"] == "urn:larder:problem:unknown-route";
            assert!(!is_unknown, "{method} {path}");
        }
    }
}
