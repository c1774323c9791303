//! What somebody would try who means no good.

use std::io::Read;
use std::time::{Duration, Instant};

use larder::{Clock, Larder};
use larder_server::access::token::Token;
use larder_server::settings::Webhooks;
use larder_server::webhook::Secret;
use larder_testkit::wait;
use serde_json::json;

use super::super::wire::encoded;
use super::{Guarded, ask, refusal};

#[test]
fn nothing_is_done_before_somebody_is_let_in_however_it_is_sent() {
    let guarded = Guarded::start();
    let mut client = guarded.stranger();
    let token = guarded.somebody("service").token.reveal();
    let pipeline: Vec<u8> = [
        encoded(&["SET", "own:before", "1"]),
        encoded(&["MULTI"]),
        encoded(&["AUTH", &token]),
        encoded(&["SET", "own:after", "1"]),
        encoded(&["MULTI"]),
        encoded(&["SET", "own:queued", "1"]),
        encoded(&["AUTH", &guarded.somebody("admin").token.reveal()]),
        encoded(&["EXEC"]),
        encoded(&["DEL", "own:after"]),
    ]
    .concat();
    client.send(&pipeline).unwrap();
    let replies: Vec<String> = (0..9).map(|_| client.reply().unwrap().raw.escape_ascii().to_string()).collect();
    for (at, begins) in ["-NOAUTH", "-NOAUTH", "+OK", "+OK", "+OK", "+QUEUED", "-ERR", "-EXECABORT", "-NOPERM"].into_iter().enumerate() {
        assert!(replies[at].starts_with(begins), "{at}: {replies:?}");
    }
    let mut admin = guarded.client("admin");
    assert_eq!(ask(&mut admin, "EXISTS own:before own:queued").integer(), Some(0));
    assert_eq!(ask(&mut admin, "EXISTS own:after").integer(), Some(1));
    assert_eq!(refusal(&ask(&mut guarded.stranger(), "HELLO 3")), Some("NOAUTH"));
    assert_eq!(ask(&mut guarded.stranger(), &format!("HELLO 3 AUTH service {token}")).error(), None);
    // A stranger is not read from without end.
    let mut stranger = guarded.stranger();
    stranger.send(b"*2\r\n$3\r\nGET\r\n$100000\r\n").unwrap();
    assert!(stranger.until_closed().unwrap().starts_with(b"-ERR Protocol error"));
    assert_eq!(ask(&mut admin, "SET own:large {100000*x}").error(), None);
    // Who resets is nobody again.
    ask(&mut admin, "RESET");
    assert_eq!(refusal(&ask(&mut admin, "GET own:after")), Some("NOAUTH"));
}

#[test]
fn who_does_not_say_who_they_are_is_not_waited_for() {
    let clock = Clock::manual();
    let guarded = Guarded::with(Larder::builder().clock(clock.clone()), Webhooks::default());
    let (mut stranger, mut client) = (guarded.stranger(), guarded.client("client"));
    assert_eq!(refusal(&ask(&mut stranger, "PING")), Some("NOAUTH"));
    clock.advance(Duration::from_secs(31));
    assert_eq!(stranger.until_closed().unwrap(), b"");
    assert_eq!(ask(&mut client, "PING").bytes(), Some(b"PONG".as_slice()));
}

#[test]
fn a_wrong_name_is_told_as_a_wrong_secret_is() {
    let guarded = Guarded::start();
    let good = &guarded.somebody("client").token;
    let (wrong_secret, wrong_id) = (Token::draw_again(good.id()).unwrap(), Token::draw().unwrap());
    let over_resp = |words: &str| ask(&mut guarded.stranger(), words).error().map(<[u8]>::to_vec);
    let told = over_resp(&format!("AUTH {}", wrong_secret.reveal()));
    assert!(told.as_ref().is_some_and(|told| told.starts_with(b"WRONGPASS")), "{told:?}");
    for attempt in [
        format!("AUTH {}", wrong_id.reveal()),
        "AUTH rubbish".to_owned(),
        format!("AUTH admin {}", good.reveal()),
        format!("AUTH client {}", wrong_id.reveal()),
        "AUTH nobody-of-this-name some-password".to_owned(),
        r"AUTH \xff\xfe some-password".to_owned(),
        r"AUTH client \xff\xfe".to_owned(),
        "AUTH client {5000*x}".to_owned(),
    ] {
        assert_eq!(over_resp(&attempt), told, "{attempt}");
    }
    assert_eq!(over_resp(&format!("AUTH client {}", good.reveal())), None);
    assert_eq!(over_resp(&format!("AUTH default {}", good.reveal())), None, "as pools send it who know of no users");

    let over_http = |value: &str| {
        let reply = guarded.server.request("GET", "/v1/entries/own:k").header("authorization", value).send();
        assert!(reply.header("www-authenticate").is_some_and(|told| told.starts_with("Bearer")), "{reply:?}");
        reply.problem(401, "unauthenticated").to_string()
    };
    let told = over_http(&format!("Bearer {}", wrong_secret.reveal()));
    for attempt in [wrong_id.reveal(), "x".to_owned(), String::new(), format!("{}x", good.reveal()), "x".repeat(4_000)] {
        assert_eq!(over_http(&format!("Bearer {attempt}")), told, "{attempt}");
    }
    assert_eq!(over_http(&format!("Basic {}", good.reveal())), told);
    let metrics = guarded.ask("viewer", "GET", "/metrics", None).body;
    let counted = format!("larder_access_refused_total {}\n", guarded.door.refused());
    assert!(guarded.door.refused() > 8 && metrics.windows(counted.len()).any(|line| line == counted.as_bytes()), "{counted}");
    // Two headers could be read as either by somebody on the way.
    let twice = guarded.server.request("GET", "/v1/entries/own:k").header("authorization", format!("Bearer {}", good.reveal()));
    twice.header("authorization", "Bearer x").send().problem(401, "unauthenticated");
}

#[test]
fn keys_are_what_they_mean_however_they_are_written() {
    let guarded = Guarded::start();
    let status = |path: &str| guarded.ask("client.own", "GET", path, None).status;
    assert_eq!(status("/v1/entries/own:k"), 404);
    assert_eq!(status("/v1/entries/%6f%77%6e%3Ak"), 404);
    for foreign in ["%66oreign:k", "own%00:k", "OWN:k", "own", "own%2F..%2Fforeign:k%2F", "%2e%2e", "foreign:k%3Fown:", "..%2Fown:k"] {
        // `own` alone is not of `own:**`'s namespace? It is: `**` may be none.
        let expected = if foreign == "own" { 404 } else { 403 };
        assert_eq!(status(&format!("/v1/entries/{foreign}")), expected, "{foreign}");
    }
    assert_eq!(status("/v1/entries/own:%"), 400);
    assert_eq!(status(&format!("/v1/entries/own:{}", "k".repeat(2_000))), 400);
    let mut client = guarded.client("service.own");
    assert_eq!(refusal(&ask(&mut client, &format!("SET foreign:{} 1", "k".repeat(2_000)))), Some("NOPERM"));
    assert_eq!(refusal(&ask(&mut client, &format!("SET own:{} 1", "k".repeat(2_000)))), Some("ERR"));
    assert_eq!(refusal(&ask(&mut client, r"GET \e")), Some("NOPERM"));
    // What is a pattern elsewhere is a key's letters here, and a tag's.
    assert_eq!(refusal(&ask(&mut client, "GET *")), Some("NOPERM"));
    assert_eq!(refusal(&ask(&mut client, "LARDER.SET own:k 1 TAG foreign:** *")), None);
    assert_eq!(refusal(&ask(&mut guarded.client("invalidator.own"), "LARDER.INVALIDATE TAG own:**")), Some("NOPERM"));
    for name in ["a b", "a*", "a:b", "../x", "a%0ab"] {
        let path = format!("/v1/access/principals/{}", name.replace(' ', "%20").replace('/', "%2F"));
        assert_eq!(guarded.ask("admin", "PUT", &path, Some(json!({ "roles": ["admin"] }))).status, 400, "{name}");
    }
}

#[test]
fn what_is_open_with_a_token_ends_when_it_is_taken_back() {
    let guarded = Guarded::start();
    let made = guarded.ask("admin", "POST", "/v1/access/tokens", Some(json!({ "principal": "viewer", "label": "x" })));
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let made = made.json();
    let (id, token) = (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned());
    let mut resp = guarded.stranger();
    assert_eq!(ask(&mut resp, &format!("AUTH {token}")).error(), None);
    let mut stream = super::super::client::connect(guarded.server.addr);
    let head = format!("GET /v1/events/tail HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut begun = [0; 512];
    assert!(stream.read(&mut begun).unwrap() > 0 && begun.starts_with(b"HTTP/1.1 200"));
    // Rotated, both secrets are good.
    let rotated = guarded.ask("admin", "POST", &format!("/v1/access/tokens/{id}/rotate"), Some(json!({}))).json();
    assert_eq!(ask(&mut guarded.stranger(), &format!("AUTH {}", rotated["token"].as_str().unwrap())).error(), None);
    assert_eq!(ask(&mut resp, "PING").bytes(), Some(b"PONG".as_slice()));
    let listed = guarded.ask("admin", "GET", "/v1/access/tokens", None);
    let text = listed.body.escape_ascii().to_string();
    assert!(text.contains(&id) && !text.contains(&token[18..]), "{text}");

    assert_eq!(guarded.ask("admin", "DELETE", &format!("/v1/access/tokens/{id}"), None).status, 204);
    let begun = Instant::now();
    // Told nothing more: it is closed, though it asks for nothing.
    assert_eq!(resp.until_closed().unwrap(), b"");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    guarded.server.request("GET", "/v1/stats").header("authorization", format!("Bearer {token}")).send().problem(401, "unauthenticated");
}

#[test]
fn rights_that_are_taken_away_are_gone_for_who_is_in() {
    let guarded = Guarded::start();
    let put = |body| assert_eq!(guarded.ask("admin", "PUT", "/v1/access/principals/eve", Some(body)).status, 204);
    put(json!({ "roles": ["service"] }));
    let made = guarded.ask("admin", "POST", "/v1/access/tokens", Some(json!({ "principal": "eve" }))).json();
    let mut eve = guarded.stranger();
    assert_eq!(ask(&mut eve, &format!("AUTH {}", made["token"].as_str().unwrap())).error(), None);
    ask(&mut eve, "MULTI");
    assert_eq!(ask(&mut eve, "SET own:k 1").bytes(), Some(b"QUEUED".as_slice()));
    put(json!({ "roles": ["service"], "grants": ["deny write on own:**"] }));
    let done = ask(&mut eve, "EXEC");
    assert_eq!(refusal(&done.parts().unwrap()[0]), Some("NOPERM"), "{done:?}");
    let explained =
        guarded.ask("admin", "POST", "/v1/access/explain", Some(json!({ "principal": "eve", "operation": "write", "key": "own:k" })));
    assert_eq!(explained.json(), json!({ "allowed": false, "grant": "deny write on own:**", "role": null }));
    let explained =
        guarded.ask("admin", "POST", "/v1/access/explain", Some(json!({ "principal": "eve", "operation": "read", "key": "x" })));
    assert_eq!(explained.json(), json!({ "allowed": true, "grant": "allow read, write on **", "role": "service" }));
    assert_eq!(guarded.ask("admin", "DELETE", "/v1/access/principals/eve", None).status, 204);
    assert!(eve.until_closed().unwrap().is_empty());
}

#[test]
fn a_session_reads_with_its_cookie_and_changes_only_with_its_word() {
    let guarded = Guarded::start();
    let person = json!({ "roles": ["admin"], "password": "correct horse" });
    assert_eq!(guarded.ask("admin", "PUT", "/v1/access/principals/ada", Some(person)).status, 204);
    let login = |password: &str| guarded.server.post("/v1/access/session", json!({ "principal": "ada", "password": password }));
    login("wrong horse!").problem(401, "unauthenticated");
    guarded.server.post("/v1/access/session", json!({ "principal": "nobody", "password": "x" })).problem(401, "unauthenticated");
    let begun = login("correct horse");
    let cookie = begun.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let (cookie, word) = (cookie.split(';').next().unwrap().to_owned(), begun.json()["csrf"].as_str().unwrap().to_owned());
    let request = |method: &str, path: &str| guarded.server.request(method, path).header("cookie", &cookie);
    assert_eq!(request("GET", "/v1/stats").send().status, 200);
    assert_eq!(request("GET", "/v1/access/session").send().json()["csrf"], json!(word));
    request("DELETE", "/v1/entries/own:k").send().problem(403, "forbidden");
    request("DELETE", "/v1/entries/own:k").header("larder-csrf", "x").send().problem(403, "forbidden");
    assert_eq!(request("DELETE", "/v1/entries/own:k").header("larder-csrf", &word).send().status, 204);
    request("GET", "/v1/stats").header("cookie", &cookie).send().problem(401, "unauthenticated");
    assert_eq!(request("DELETE", "/v1/access/session").header("larder-csrf", &word).send().status, 204);
    request("GET", "/v1/stats").send().problem(401, "unauthenticated");
}

#[test]
fn webhooks_keep_their_signatures_and_need_no_token() {
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let guarded = Guarded::with(Larder::builder(), Webhooks { secrets: vec![secret.clone()], ..Webhooks::default() });
    let body = json!({ "specversion": "1.0", "type": "x", "source": "/s", "id": "1" }).to_string();
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let signed = |signature: String| {
        let request = guarded.server.request("POST", "/v1/events").header("content-type", "application/cloudevents+json");
        let request = request.header("webhook-id", "m").header("webhook-timestamp", now.to_string());
        request.header("webhook-signature", signature).body(body.clone()).send()
    };
    assert_eq!(signed(secret.sign("m", now, body.as_bytes())).status, 200);
    signed("v1,AAAA".to_owned()).problem(401, "unsigned");
    let unsigned = guarded.server.request("POST", "/v1/events").header("content-type", "application/cloudevents+json").body(body.clone());
    unsigned.send().problem(401, "unauthenticated");
    assert_eq!(guarded.door.refused(), 0);
}

#[test]
fn who_guesses_passwords_is_held_up_and_a_token_is_not() {
    let guarded = Guarded::start();
    let login = |name: &str| guarded.server.post("/v1/access/session", json!({ "principal": name, "password": "x" }));
    let refused = (0..10).map(|_| login("ada")).find(|reply| reply.status != 401).expect("it ends");
    refused.problem(429, "too-many-attempts");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(guarded.ask("admin", "GET", "/v1/stats", None).status, 200);
}

/// What somebody on the way, or a proxy that reads otherwise, might make of a request.
#[test]
fn a_request_that_could_be_read_in_two_ways_is_read_in_none() {
    let guarded = Guarded::start();
    let (client, admin) = (guarded.somebody("client").token.reveal(), guarded.somebody("admin").token.reveal());
    let status = |request: String| {
        let mut connection = super::super::client::connect(guarded.server.addr);
        // The server may have refused it, and closed, before all of it was sent.
        let sent = std::io::Write::write_all(&mut connection, request.as_bytes());
        let mut answer = Vec::new();
        let read = connection.read_to_end(&mut answer);
        assert!(sent.is_ok() && read.is_ok() || !answer.is_empty(), "{sent:?}, {read:?}");
        answer.split(|byte| *byte == b' ').nth(1).map(|status| String::from_utf8_lossy(status).into_owned()).unwrap_or_default()
    };
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
    let bearer = format!("authorization: Bearer {client}\r\n");
    let put = "PUT /v1/entries/own:k";
    let within =
        format!("PUT /v1/entries/own:smuggled HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\ncontent-length: 0\r\n\r\n");
    let as_admin = format!("authorization: Bearer {admin}\r\n");
    // Two lengths, and a length beside chunks: what is the body to one is the next request to another.
    let lengths = format!("{as_admin}content-length: 0\r\ncontent-length: {}\r\n", within.len());
    assert_eq!(status(head(put, &lengths) + &within), "400");
    let chunks = format!("{as_admin}transfer-encoding: chunked\r\ncontent-length: {}\r\n", within.len() + 5);
    let beside = status(head(put, &chunks) + "0\r\n\r\n" + &within);
    assert!(beside == "400" || beside == "204", "{beside}");
    assert_eq!(status(head(put, &format!("{as_admin}transfer-encoding: chunked, identity\r\n")) + "0\r\n\r\n"), "400");
    assert_eq!(guarded.ask("admin", "GET", "/v1/entries/own:smuggled", None).status, 404);
    // Names with room behind them, and lines that go on.
    assert_eq!(status(head(put, &format!("authorization : Bearer {admin}\r\ncontent-length: 0\r\n"))), "400");
    assert_eq!(status(head(put, &format!("x: y\r\n authorization: Bearer {admin}\r\ncontent-length: 0\r\n"))), "400");
    // What a proxy might set is nothing here: neither who asks, nor what for.
    for forged in ["x-forwarded-user: admin", "x-original-url: /livez", "x-http-method-override: GET", "x-forwarded-for: 127.0.0.1"] {
        assert_eq!(status(head(put, &format!("{bearer}{forged}\r\ncontent-length: 0\r\n"))), "403", "{forged}");
    }
    // A token in the path or the query is none.
    assert_eq!(status(head(&format!("GET /v1/stats?token={admin}&authorization=Bearer%20{admin}"), "")), "401");
    for path in ["//v1/stats", "/v1//stats", "/v1/./stats", "/livez/../v1/stats", "/livez;/v1/stats", "/v1/stats/", "/V1/stats"] {
        let got = status(head(&format!("GET {path}"), ""));
        assert!(got == "404" || got == "401", "{path}: {got}");
    }
    // More of a head than anybody needs.
    assert_eq!(status(head("GET /livez", &format!("x: {}\r\n", "y".repeat(1 << 20)))), "431");
    assert_eq!(status(head("GET /livez", &"x: y\r\n".repeat(1_000))), "431");
    assert_eq!(status(head(&format!("GET /livez?{}", "y".repeat(70_000)), "")), "414");
    assert_eq!(guarded.server.request("GET", "/livez").send().status, 200);
}

#[test]
fn a_probe_tells_reasons_to_who_may_know_them_and_states_to_all() {
    let guarded = Guarded::start();
    let on = guarded.ask("admin", "POST", "/v1/maintenance", Some(json!({ "for": "30m", "reason": "disk of 10.1.2.3" })));
    assert_eq!(on.status, 200);
    let ask = |authorization: Option<&str>, accept: &str| {
        let request = guarded.server.request("GET", "/readyz?verbose").header("accept", accept);
        let reply = authorization.into_iter().fold(request, |request, bearer| request.header("authorization", bearer)).send();
        assert_eq!(reply.status, 200, "it is never refused to who asks wrongly");
        String::from_utf8(reply.body).expect("text")
    };
    let bearer = |name: &str| format!("Bearer {}", guarded.somebody(name).token.reveal());
    let (admin, nobody) = (bearer("admin"), bearer("nobody"));
    let told = || ask(Some(&admin), "text/plain");
    assert!(wait::until(Duration::from_secs(20), || told().contains("10.1.2.3")), "{}", told());
    for stranger in [None, Some("Bearer ldr_wrong"), Some(nobody.as_str())] {
        let lines = ask(stranger, "text/plain");
        assert!(lines.contains("[-]maintenance failed, and is not needed: degraded\n") && !lines.contains("10.1.2.3"), "{lines}");
        let json = ask(stranger, "application/json");
        assert!(json.contains("\"message\":\"degraded\"") && !json.contains("10.1.2.3"), "{json}");
    }
}

#[test]
fn what_stands_in_an_event_is_a_name_and_no_pattern() {
    let guarded = Guarded::start();
    let event = |id: u32, data: serde_json::Value| {
        let body = json!({ "specversion": "1.0", "type": "market_data_update", "source": "/s", "id": id.to_string(), "data": data });
        let bearer = format!("Bearer {}", guarded.somebody("invalidator").token.reveal());
        let request = guarded.server.request("POST", "/v1/events").header("content-type", "application/cloudevents+json");
        request.header("authorization", bearer).body(body.to_string()).send().status
    };
    for key in ["features:AAPL:5m", "features:MSFT:5m"] {
        assert_eq!(
            guarded
                .server
                .request("PUT", &format!("/v1/entries/{key}"))
                .header("authorization", format!("Bearer {}", guarded.somebody("service").token.reveal()))
                .body("v")
                .send()
                .status,
            204
        );
    }
    let left = || guarded.ask("client", "GET", "/v1/keys?pattern=features%3A**", None).json()["keys"].as_array().map(Vec::len);
    assert_eq!(left(), Some(2));
    for (id, symbol) in ["*", "**", "A*", "[A-Z]*", "?", "AAPL:*", ":", "AAPL:5m,features:MSFT", "{symbol}", ""].into_iter().enumerate() {
        let status = event(id as u32, json!({ "symbol": symbol }));
        assert!((200..500).contains(&status), "{symbol}: {status}");
        assert_eq!(left(), Some(2), "{symbol}");
    }
    assert_eq!((event(100, json!({ "symbol": "AAPL" })), left()), (200, Some(1)));
}
