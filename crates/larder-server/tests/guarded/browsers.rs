//! What a browser is told, and what a page of somebody else's cannot have it do.

use larder_testkit::certificates::For;
use serde_json::Value;

use super::site::{Client, Files, Site};

/// What an answer begins with, in small letters, and its body.
fn parts(answer: &str) -> (String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_ascii_lowercase(), body)
}

#[test]
fn every_answer_says_what_browsers_may_not_do_with_it() {
    let files = Files::make();
    let until = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    files.write(&files.authority.sign(For::Server, &["dns:localhost", "dns:cache.example"], until));
    let site = Site::start(files.settings());
    let ask = |request: &str| Client::request(site.http, files.client(None), request).expect("it is answered");
    let stored = ask(
        "PUT /v1/entries/page HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/html\r\ncontent-length: 8\r\n\r\n<script>",
    );
    assert!(stored.starts_with("HTTP/1.1 204"), "{stored}");
    let whole = |path: &str, host: &str| ask(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    for path in ["/v1/entries/page", "/v1/entries/absent", "/livez", "/metrics", "/openapi.json", "/health", "/nowhere", "/v1/stats"] {
        let answer = whole(path, "localhost");
        let (head, _) = parts(&answer);
        for header in [
            "\r\nx-content-type-options: nosniff",
            "\r\nreferrer-policy: no-referrer",
            "\r\ncross-origin-resource-policy: same-origin",
            "\r\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'",
            "\r\ncache-control: ",
        ] {
            assert_eq!(head.matches(header).count(), 1, "{header} of {path}: {head}");
        }
        assert!(!head.contains("access-control-") && !head.contains("strict-transport"), "{head}");
    }
    let page = whole("/v1/entries/page", "localhost");
    assert!(parts(&page).0.contains("; sandbox\r\n") && parts(&page).1 == "<script>", "what is stored as a page runs nowhere: {page}");
    let named = whole("/livez", "cache.example");
    assert!(parts(&named).0.contains("\r\nstrict-transport-security: max-age=31536000"), "by TLS, and not for one's own machine: {named}");
}

#[test]
fn a_request_under_another_name_or_from_another_page_changes_nothing() {
    let files = Files::make();
    let site = Site::start(files.settings());
    let ask = |request: &str| Client::request(site.http, files.client(None), request).expect("it is answered");
    let remove = |headers: &str| ask(&format!("DELETE /v1/entries/k HTTP/1.1\r\nconnection: close\r\n{headers}\r\n\r\n"));
    let cases = [
        ("host: evil.example", 421, "misdirected"),
        ("host: localhost\r\norigin: https://evil.example", 403, "foreign-origin"),
        ("host: localhost\r\norigin: null", 403, "foreign-origin"),
        ("host: localhost\r\nsec-fetch-site: cross-site", 403, "foreign-origin"),
        ("host: localhost\r\nhost: localhost", 400, "invalid-header"),
        ("x: y", 400, "invalid-header"),
    ];
    for (headers, status, kind) in cases {
        let answer = remove(headers);
        let (head, body) = parts(&answer);
        let problem: Value = serde_json::from_str(body).expect("a problem is JSON");
        assert!(head.starts_with(&format!("http/1.1 {status} ")) && head.contains("nosniff"), "{headers}: {head}");
        assert_eq!(problem["type"], format!("urn:larder:problem:{kind}"), "{headers}");
    }
    let stats = ask("GET /v1/stats?since=start HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let stats: Value = serde_json::from_str(parts(&stats).1).expect("JSON");
    assert_eq!(stats["log"]["appends"], 0, "{stats}");
    let own = format!("host: localhost:{0}\r\norigin: https://localhost:{0}\r\nsec-fetch-site: same-origin", site.http.port());
    assert!(remove(&own).starts_with("HTTP/1.1 204"), "a page of its own may");
}
