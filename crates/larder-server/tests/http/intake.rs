//! The operator's side of events: who may send them, what became of them, and those that nobody managed.

use std::time::SystemTime;

use larder_server::settings::Webhooks;
use larder_server::webhook::Secret;
use serde_json::{Value, json};

use super::client::{Reply, Request, Server};
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
