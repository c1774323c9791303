//! The operator's side of events: who may send them, what became of them, and those that nobody managed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;

use larder_server::http::traces::WATCHERS_MAX;
use larder_server::settings::Webhooks;
use larder_server::webhook::Secret;
use serde_json::{Value, json};

use super::client::{Reply, Request, Server, connect};
use super::quote;

const STRUCTURED: &str = "application/cloudevents+json";

fn secret(number: u8) -> Secret {
    Secret::parse(&format!("whsec_{}", ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"][usize::from(number)]))
        .unwrap()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn event(server: &Server, body: &str) -> Request {
    server.request("POST", "/v1/events").header("content-type", STRUCTURED).body(body)
}

/// Signed at a time over a body, and sent with another one perhaps.
fn signed(server: &Server, secrets: &[Secret], at_s: u64, over: &str, body: &str) -> Reply {
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign("msg_1", at_s, over.as_bytes())).collect();
    let request = event(server, body).header("webhook-id", "msg_1").header("webhook-timestamp", at_s.to_string());
    request.header("webhook-signature", signatures.join(" ")).send()
}

#[test]
fn where_secrets_are_set_only_what_is_signed_is_carried_out() {
    let server = Server::guarded(Webhooks { secrets: vec![secret(0)], ..Webhooks::default() });
    assert_eq!(server.put("features:AAPL:5m").body("v").send().status, 204);
    let body = quote("1", json!("AAPL")).to_string();
    let mut refused = 0;
    let mut refuses = |reply: Reply, header: &str| {
        let problem = reply.problem(401, "unsigned");
        assert!(problem["detail"].as_str().unwrap().starts_with(header), "{problem}");
        assert_eq!(reply.header("www-authenticate"), Some("Standard-Webhooks"));
        refused += 1;
    };
    refuses(event(&server, &body).send(), "webhook-id: ");
    refuses(event(&server, &body).header("webhook-id", "msg_1").send(), "webhook-timestamp: ");
    refuses(
        event(&server, &body).header("webhook-id", "msg_1").header("webhook-timestamp", now_s().to_string()).send(),
        "webhook-signature: ",
    );
    refuses(signed(&server, &[secret(1)], now_s(), &body, &body), "webhook-signature: ");
    refuses(signed(&server, &[secret(0)], now_s(), &body, &quote("1", json!("MSFT")).to_string()), "webhook-signature: ");
    refuses(signed(&server, &[secret(0)], now_s() - 400, &body, &body), "webhook-timestamp: ");
    refuses(signed(&server, &[secret(0)], now_s() + 400, &body, &body), "webhook-timestamp: ");
    // Whether it is an event at all is nobody's business who cannot sign.
    refuses(event(&server, "{").send(), "webhook-id: ");
    let at_s = now_s();
    let data = r#"{"symbol":"AAPL"}"#;
    let binary = server.request("POST", "/v1/events").header("content-type", "application/json").header("ce-specversion", "1.0");
    let binary = binary.header("ce-id", "9").header("ce-source", "feed").header("ce-type", "market_data_update").body(data);
    let binary = binary.header("webhook-id", "msg_1").header("webhook-timestamp", at_s.to_string());
    refuses(binary.header("webhook-signature", secret(0).sign("msg_1", at_s, data.as_bytes())).send(), "ce-specversion: ");

    assert_eq!(server.get("features:AAPL:5m").status, 200, "nothing of it took effect");
    assert_eq!(server.request("GET", "/v1/stats").send().json()["events"]["unsigned"], json!(refused));
    assert_eq!(server.larder.stats().events.received, 0);

    // While secrets change a sender signs with both.
    let taken = signed(&server, &[secret(1), secret(0)], now_s(), &body, &body);
    assert_eq!((taken.status, server.get("features:AAPL:5m").status), (200, 404));
    // Caught and sent again within the five minutes, it is the same event.
    assert_eq!(signed(&server, &[secret(0)], now_s(), &body, &body).json()["duplicate"], json!(true));
    assert_eq!(server.put("features:AAPL:5m").body("v").send().status, 204, "other routes are as they were");
}

#[test]
fn a_sender_that_asks_is_told_whether_it_may_send() {
    let ask = |server: &Server, origin: &str| server.request("OPTIONS", "/v1/events").header("webhook-request-origin", origin);
    let origins = vec!["feed.example.com".to_owned()];
    let server = Server::guarded(Webhooks { origins: origins.clone(), ..Webhooks::default() });
    let callback = "http://169.254.169.254/latest";
    let allowed =
        ask(&server, "Feed.example.com").header("webhook-request-rate", "120").header("webhook-request-callback", callback).send();
    assert_eq!((allowed.status, allowed.header("webhook-allowed-origin")), (204, Some("Feed.example.com")));
    assert_eq!((allowed.header("webhook-allowed-rate"), allowed.header("allow")), (Some("*"), Some("GET, HEAD, POST, OPTIONS")));
    for other in ["example.com", "xfeed.example.com", "feed.example.com.evil.example", "*", ""] {
        let refused = ask(&server, other).send();
        refused.problem(403, "origin-not-allowed");
        assert!(refused.header("webhook-allowed-origin").is_none(), "{other}");
    }
    for rate in ["0", "-1", "many", ""] {
        ask(&server, "feed.example.com").header("webhook-request-rate", rate).send().problem(400, "invalid-header");
    }
    let unasked = server.request("OPTIONS", "/v1/events").send();
    assert_eq!((unasked.status, unasked.header("webhook-allowed-origin")), (204, None));

    let limited = Server::guarded(Webhooks { origins: vec!["*".to_owned()], rate: Some(60), ..Webhooks::default() });
    for (asked, told) in [("120", "60"), ("30", "30")] {
        let allowed = ask(&limited, "anybody.example").header("webhook-request-rate", asked).send();
        assert_eq!(
            (allowed.header("webhook-allowed-origin"), allowed.header("webhook-allowed-rate")),
            (Some("anybody.example"), Some(told))
        );
    }
    assert_eq!(ask(&limited, "anybody.example").send().header("webhook-allowed-rate"), Some("60"));
    ask(&Server::plain(), "feed.example.com").send().problem(403, "origin-not-allowed");
}

/// A stream of server-sent events, read as it comes.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(server: &Server, query: &str, header: &str) -> Self {
        let mut connection = connect(server.addr);
        // Of the older version of HTTP, in which an answer without a length is not cut into pieces.
        write!(connection, "GET /v1/events/tail{query} HTTP/1.0\r\nhost: localhost\r\n{header}\r\n").unwrap();
        Stream(BufReader::new(connection))
    }

    /// What follows the next line that begins so.
    fn next(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(rest) = line.trim_end().strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }

    fn next_event(&mut self) -> Value {
        serde_json::from_str(&self.next("data: ")).unwrap()
    }
}

#[test]
fn what_became_of_events_is_listed_and_streamed() {
    let mut server = Server::plain();
    let send = |id: &str, symbol: Value| event(&server, &quote(id, symbol).to_string()).send();
    assert_eq!(server.put("features:AAPL:5m").body("v").send().status, 204);
    assert_eq!(send("before", json!("X")).status, 200);
    let mut stream = Stream::open(&server, "?last=1&entries=true", "");
    assert_eq!(stream.next("content-type: "), "text/event-stream");
    assert_eq!(stream.next_event()["id"], json!("before"));
    let taken = send("1", json!("AAPL")).json();
    let trace = stream.next_event();
    assert_eq!((&trace["id"], &trace["outcome"], &trace["through"]), (&json!("1"), &json!("applied"), &json!("http")));
    assert_eq!((&trace["position"], &trace["names_count"]), (&taken["position"], &json!(7)));
    assert_eq!(trace["entries"], json!(1));
    assert!(trace["applied_after_us"].as_u64() <= trace["took_us"].as_u64(), "{trace}");
    send("2", json!("A:B")).problem(400, "invalid-event");
    let refused = stream.next_event();
    assert!(refused["outcome"] == "refused" && refused["reason"].as_str().unwrap().contains("symbol"), "{refused}");

    let listed = |query: &str| server.request("GET", &format!("/v1/events{query}")).send().json();
    let ids = |traces: &Value| traces["events"].as_array().unwrap().iter().map(|trace| trace["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed("")), ["before", "1", "2"]);
    assert_eq!(listed("")["events"][1], trace, "it is told in one way");
    assert_eq!((ids(&listed("?limit=1")), ids(&listed("?type=other"))), (vec![json!("2")], vec![]));
    for bad in ["?limit=0", "?limit=1001", "?limit=x"] {
        server.request("GET", &format!("/v1/events{bad}")).send().problem(400, "invalid-request");
    }
    server.request("GET", "/v1/events/tail?entries=maybe").send().problem(400, "invalid-request");

    // Who comes back goes on behind what it saw; who comes from another life of the server begins at the beginning.
    let life = listed("")["life"].as_str().unwrap().to_owned();
    let mut back = Stream::open(&server, "", &format!("last-event-id: {life}-{}\r\n", trace["number"]));
    assert_eq!(back.next_event()["id"], json!("2"));
    let mut stranger = Stream::open(&server, "?last=1", "last-event-id: 0123-77\r\n");
    assert_eq!(stranger.next_event()["id"], json!("before"));
    let mut picky = Stream::open(&server, "?last=9&type=deploy", "");
    assert_eq!(picky.next("id: "), format!("{life}-0"));
    let deploy = json!({ "specversion": "1.0", "id": "3", "source": "ci", "type": "deploy" });
    assert_eq!(event(&server, &deploy.to_string()).send().status, 200);
    assert_eq!(picky.next_event()["outcome"], json!("unmatched"));

    server.begin_stop();
    for mut watcher in [stream, back, stranger, picky] {
        watcher.0.read_to_end(&mut Vec::new()).unwrap();
    }
    server.wait().unwrap();
}

#[test]
fn only_so_many_watch_at_once() {
    let server = Server::plain();
    let mut watching: Vec<Stream> = (0..WATCHERS_MAX).map(|_| Stream::open(&server, "", "")).collect();
    watching.iter_mut().for_each(|stream| drop(stream.next("id: ")));
    let refused = server.request("GET", "/v1/events/tail").send().problem(503, "overloaded");
    assert_eq!(refused["limit"], json!(WATCHERS_MAX));
    drop(watching.pop());
    // The place is free once the server has heard that its watcher is gone.
    while !Stream::open(&server, "", "").next("HTTP/1.").contains("200") {}
}

#[test]
fn dead_letters_are_looked_at_replayed_and_dropped() {
    let server = Server::plain();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keep = |event: Value| runtime.block_on(server.larder.keep_dead_letter(event, "the rule \"r\" needs the field symbol"));
    let (good, bad) = (keep(quote("1", json!("AAPL"))), keep(quote("2", json!(null))));
    assert_eq!(server.put("features:AAPL:5m").body("v").send().status, 204);
    let ask = |method: &str, path: String| server.request(method, &format!("/v1/dead-letters{path}")).send();
    let listed = ask("GET", String::new()).json();
    let first = &listed["dead_letters"][0];
    assert_eq!((&first["id"], &first["failed"], &first["type"]), (&json!(good), &json!("event"), &json!("market_data_update")));
    assert_eq!((&first["source"], &first["event_id"], &listed["dropped"]), (&json!("feed"), &json!("1"), &json!(0)));
    assert!(first["reason"].as_str().unwrap().contains("field symbol") && first.get("event").is_none(), "{first}");
    assert_eq!(ask("GET", format!("/{good}")).json()["event"], quote("1", json!("AAPL")));
    assert_eq!(server.request("GET", "/v1/stats").send().json()["events"]["dead"], json!(2));

    let replayed = ask("POST", format!("/{good}/replay")).json();
    assert_eq!((&replayed["dead_letter"], &replayed["outcome"]["id"]), (&json!(good), &json!("1")));
    assert_eq!(replayed["outcome"]["position"], json!(server.larder.position().to_string()));
    assert_eq!(server.get("features:AAPL:5m").status, 404);
    let again = ask("POST", format!("/{bad}/replay")).problem(409, "replay-failed");
    assert!(again["detail"].as_str().unwrap().contains("needs the field symbol"), "{again}");
    assert_eq!(ask("GET", String::new()).json()["dead_letters"].as_array().unwrap().len(), 1, "what fails again stays");
    assert_eq!(ask("DELETE", format!("/{bad}")).status, 204);
    for (method, path) in
        [("GET", format!("/{good}")), ("DELETE", format!("/{bad}")), ("POST", format!("/{bad}/replay")), ("GET", "/x".into())]
    {
        ask(method, path).problem(404, "not-found");
    }
    // What is refused at the door is none: its sender knows.
    event(&server, &quote("3", json!(null)).to_string()).send().problem(400, "invalid-event");
    assert_eq!(ask("GET", String::new()).json(), json!({ "dead_letters": [], "dropped": 0 }));
}
