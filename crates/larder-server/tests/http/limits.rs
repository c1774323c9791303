//! What is refused, and how: bad input, too much of it, too slow, and a server that is stopping.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use larder::{Larder, Policy};
use larder_server::settings::HttpLimits;
use serde_json::json;

use crate::client::{PATIENCE, Server, connect, read_reply};

fn limited(limits: HttpLimits) -> Server {
    Server::start(Larder::builder().default_policy(Policy::default().value_bytes_max(100)), limits)
}

#[test]
fn bad_keys_are_refused_with_their_limit() {
    let server = Server::plain();
    let overlong = "k".repeat(larder::KEY_LEN_MAX + 1);
    for method in ["GET", "PUT", "DELETE"] {
        let ask = |key: &str| server.request(method, &format!("/v1/entries/{key}")).send();
        let problem = ask(&overlong).problem(400, "invalid-key");
        assert_eq!(problem["limit"], larder::KEY_LEN_MAX);
        ask("").problem(400, "invalid-key");
        for rubbish in ["%", "%4", "%zz", "a%2"] {
            ask(rubbish).problem(400, "invalid-key");
        }
        ask("a/b").problem(404, "unknown-route");
    }
    assert_eq!(server.larder.stats().log.appends, 0, "nothing was changed");
}

#[test]
fn bad_headers_of_a_put_are_refused_and_nothing_is_stored() {
    let server = Server::plain();
    let too_many: String = (0..=larder::TAGS_MAX).map(|i| format!("t{i},")).collect();
    let long_tag = "t".repeat(larder::TAG_LEN_MAX + 1);
    let bad = [
        ("cache-control", "max-age=0", "invalid-ttl"),
        ("cache-control", "max-age=99999999999999999999", "invalid-ttl"),
        ("cache-control", "max-age=soon", "invalid-header"),
        ("cache-control", "no-store", "invalid-header"),
        ("cache-tag", "%4", "invalid-header"),
        ("cache-tag", &too_many, "invalid-tag"),
        ("cache-tag", &long_tag, "invalid-tag"),
        ("content-type", "text/\u{e4}", "invalid-header"),
        ("content-type", &"x".repeat(5_000), "invalid-request"),
        ("larder-fill", "rubbish", "invalid-header"),
    ];
    for (name, value, slug) in bad {
        let problem = server.put("k").header(name, value).body("v").send().problem(400, slug);
        if slug == "invalid-ttl" {
            assert_eq!((&problem["key"], &problem["limit"]), (&json!("k"), &json!(larder::TTL_MAX.as_secs())));
        }
        server.get("k").problem(404, "miss");
    }
    // Empty elements of a list are none, and unknown directives are ignored.
    let put = server.put("k").header("cache-tag", " , ,").header("cache-control", "public, x=\"y,z\"").body("v").send();
    assert_eq!(put.status, 204);
}

#[test]
fn bad_json_is_refused_with_a_reason() {
    let server = Server::plain();
    let ask = |path: &str, body: &str| server.request("POST", path).header("content-type", "application/json").body(body).send();
    for path in ["/v1/entries/get", "/v1/entries/put", "/v1/invalidations"] {
        for body in ["", "{", "[]", "{\"unknown\":1}", "{\"keys\":1}", &"[".repeat(100_000)] {
            ask(path, body).problem(400, "invalid-request");
        }
        let untyped = server.request("POST", path).body("{}").send();
        untyped.problem(415, "unsupported-media-type");
        let form = server.request("POST", path).header("content-type", "application/x-www-form-urlencoded").body("{}").send();
        form.problem(415, "unsupported-media-type");
    }
    ask("/v1/invalidations", "{}").problem(400, "invalid-request");
    ask("/v1/invalidations", r#"{"keys":[""]}"#).problem(400, "invalid-key");
    ask("/v1/invalidations", r#"{"tags":["ok",""]}"#).problem(400, "invalid-tag");
    ask("/v1/invalidations", r#"{"patterns":["a:**:b"]}"#).problem(400, "invalid-pattern");
    ask("/v1/invalidations", r#"{"namespaces":["a:b"]}"#).problem(400, "invalid-request");
    ask("/v1/entries/get", r#"{"keys":["ok",""]}"#).problem(400, "invalid-key");
    ask("/v1/entries/put", r#"{"entries":[{"key":"a","value":"v","tags":[""]}]}"#).problem(400, "invalid-tag");
    ask("/v1/entries/put", r#"{"entries":[{"key":"a","value":"v","ttl_ms":0}]}"#).problem(400, "invalid-ttl");
    ask("/v1/entries/put", r#"{"entries":[{"key":"a","value":"v","fill":"x"}]}"#).problem(400, "invalid-request");
    ask("/v1/entries/put", r#"{"entries":[{"key":"a","value":{"base64":"?"}}]}"#).problem(400, "invalid-request");
    let keys = json!({ "keys": vec!["k"; 1_001] });
    assert_eq!(server.post("/v1/entries/get", keys).problem(400, "invalid-request")["limit"], 1_000);
    assert_eq!(server.larder.stats().log.appends, 0, "nothing was changed");
}

#[test]
fn bad_queries_are_refused() {
    let server = Server::plain();
    let ask = |query: &str| server.request("GET", &format!("/v1/keys?{query}")).send();
    for query in ["limit=0", "limit=x", "limit=", "limit=10001", "cursor=zz", "cursor=%ff", "pattern=%"] {
        ask(query).problem(400, "invalid-request");
    }
    for query in ["pattern=", "pattern=a:**:b"] {
        ask(query).problem(400, "invalid-pattern");
    }
}

#[test]
fn unknown_routes_and_methods_are_problems_too() {
    let server = Server::plain();
    for path in ["/", "/v1", "/v1/entries", "/v2/stats", "/%", "/v1/entries/a/b"] {
        server.request("GET", path).send().problem(404, "unknown-route");
    }
    let reply = server.request("PATCH", "/v1/entries/k").send();
    reply.problem(405, "method-not-allowed");
    let allowed = reply.header("allow").unwrap();
    assert!(["GET", "HEAD", "PUT", "DELETE"].iter().all(|method| allowed.contains(method)), "{allowed}");
    server.request("POST", "/livez").send().problem(405, "method-not-allowed");
    server.request("GET", "/v1/invalidations").send().problem(405, "method-not-allowed");
}

#[test]
fn too_large_is_refused_whether_announced_or_not() {
    let server = limited(HttpLimits { body_bytes_max: 1_000, ..HttpLimits::default() });
    server.put("k").body(vec![b'v'; 101]).send().problem(413, "value-too-large");
    assert_eq!(server.put("k").body(vec![b'v'; 100]).send().status, 204);

    // Announced: refused before it is sent.
    let mut connection = connect(server.addr);
    write!(connection, "PUT /v1/entries/k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1001\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut connection).problem(413, "body-too-large")["limit"], 1_000);

    // In chunks, which announce nothing: refused once it is too much.
    let mut connection = connect(server.addr);
    let head = "PUT /v1/entries/k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n";
    connection.write_all(&[head.as_bytes(), &[b'v'; 1_001]].concat()).unwrap();
    read_reply(&mut connection).problem(413, "body-too-large");
    assert_eq!(server.get("k").body.len(), 100, "what was there is still there");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = limited(HttpLimits { body_timeout: Duration::from_millis(30), ..HttpLimits::default() });
    let mut connection = server.put("k").send_head(5);
    connection.write_all(b"va").unwrap();
    read_reply(&mut connection).problem(408, "body-timeout");
    server.get("k").problem(404, "miss");
}

#[test]
fn one_request_too_many_is_told_to_come_again() {
    let server = limited(HttpLimits { requests_max: 1, ..HttpLimits::default() });
    let mut open = server.put("k").send_head(5);
    let refused = server.get("k");
    assert_eq!(refused.problem(503, "overloaded")["limit"], 1);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.request("GET", "/livez").send().status, 200, "a busy server is alive");
    assert_eq!(server.request("GET", "/readyz").send().status, 200);
    open.write_all(b"value").unwrap();
    assert_eq!(read_reply(&mut open).status, 204);
    assert_eq!(server.get("k").body, b"value");
}

#[test]
fn a_server_that_stops_lets_open_requests_end_and_keeps_what_they_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    let mut open = server.put("k").send_head(5);
    let idle = connect(server.addr);
    server.begin_stop();
    let begun = Instant::now();
    while server.request("GET", "/readyz").send().status != 503 {
        assert!(begun.elapsed() < PATIENCE, "it says that it is not ready");
    }
    let verbose = server.request("GET", "/readyz?verbose").header("accept", "application/json").send().json();
    assert_eq!((&verbose["ready"], &verbose["checks"][0]["ok"]), (&json!(false), &json!(false)));
    assert_eq!(server.request("GET", "/livez").send().status, 200);
    server.get("k").problem(503, "draining");

    open.write_all(b"value").unwrap();
    assert_eq!(read_reply(&mut open).status, 204);
    server.wait().unwrap();
    drop(idle);
    let refused = TcpStream::connect_timeout(&server.addr, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(server);
    let server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    assert_eq!(server.get("k").body, b"value");
}

#[test]
fn a_request_that_does_not_end_does_not_keep_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Larder::builder().data(folder.path());
    let mut server = Server::start_draining(cache, HttpLimits::default(), Duration::from_millis(30));
    let mut open = server.put("k").send_head(5);
    server.begin_stop();
    server.wait().unwrap();
    // It is cut off without an answer, so nobody believes it to be stored, and it is not.
    let mut reply = Vec::new();
    let cut = open.write_all(b"value").and_then(|()| open.read_to_end(&mut reply));
    assert!(reply.is_empty(), "{cut:?}: {}", reply.escape_ascii());
    drop(server);
    let server = Server::start(Larder::builder().data(folder.path()), HttpLimits::default());
    server.get("k").problem(404, "miss");
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_one_too_many_waits() {
    let limits = HttpLimits { head_timeout: Duration::from_millis(100), connections_max: 1, ..HttpLimits::default() };
    let server = limited(limits);
    let mut silent = connect(server.addr);
    silent.write_all(b"GET /livez HT").unwrap();
    // The second one is answered only after the first was closed.
    assert_eq!(server.request("GET", "/livez").send().status, 200);
    let mut reply = Vec::new();
    silent.read_to_end(&mut reply).unwrap();
    assert!(!reply.starts_with(b"HTTP/1.1 2"), "{}", reply.escape_ascii());
}

#[test]
fn no_bytes_on_the_wire_stop_the_server() {
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("LARDER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let soon = Duration::from_millis(10);
    let server = limited(HttpLimits { head_timeout: soon, body_timeout: soon, ..HttpLimits::default() });
    let whole = b"PUT /v1/entries/k%3Aa?x=%ff HTTP/1.1\r\nhost: localhost\r\ncache-control: max-age=60, a=\"b\"\r\ncache-tag: t,%41\r\n\
        if-none-match: \"x\", W/\"y\"\r\nlarder-at-least: 00000000000000ab-1\r\nlarder-fill: 00000000000000ab-1-0000000f\r\n\
        content-type: application/json\r\ncontent-length: 4\r\n\r\nbody";
    let methods = ["PUT /v1/entries/k%3Aa", "GET /v1/entries/k", "POST /v1/invalidations", "POST /v1/entries/put", "GET /v1/keys"];
    let mut answered = 0;
    for _ in 0..300 {
        let mut bytes = [rng.choice(methods).expect("there are some").as_bytes(), &whole[b"PUT /v1/entries/k%3Aa".len()..]].concat();
        for _ in 0..rng.usize(..6) {
            let place = rng.usize(..bytes.len());
            bytes[place] = rng.u8(..);
        }
        if rng.u8(..4) == 0 {
            bytes.truncate(rng.usize(..bytes.len()));
        }
        let mut connection = connect(server.addr);
        let mut reply = Vec::new();
        // It may hang up on us at any point, and is right to; what it may not do is to keep us waiting.
        let read = connection.write_all(&bytes).and_then(|()| connection.read_to_end(&mut reply));
        let waited = matches!(&read, Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()));
        assert!(!waited, "neither an answer nor an end: {}", bytes.escape_ascii());
        assert!(!reply.starts_with(b"HTTP/1.1 500"), "{}", bytes.escape_ascii());
        answered += usize::from(!reply.is_empty());
    }
    assert!(answered > 50, "only {answered} were answered at all");
    assert_eq!(server.put("k").body("v").send().status, 204);
    assert_eq!(server.get("k").body, b"v");
}
