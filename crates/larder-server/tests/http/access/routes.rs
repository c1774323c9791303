//! Every route of the table.

use larder::access::Operation::{self, Admin, Delete, Emit, Invalidate, Metrics, Read, Write};
use larder_server::http::{about, data_plane};
use serde_json::{Value as Json, json};

use super::Guarded;

/// What a route is to need, said once more and in other words than the table says it.
enum Expected {
    Nothing,
    Somebody,
    Server(Operation),
    Keys(&'static [Operation]),
    /// To read, or what else, anything at all.
    Anything(Operation),
}

/// What a route needs, whether it takes many keys, and a request to it.
fn cell(method: &str, path: &str, keys: &[&str]) -> Option<(Expected, bool, String, Option<Json>)> {
    use Expected::{Anything, Keys, Nothing, Server, Somebody};
    let key = keys[0];
    let at_key = path.replace("{key}", key).replace("{name}", key);
    let one = |needs: &'static [Operation], body| Some((Keys(needs), false, at_key.clone(), body));
    let many = |needs: &'static [Operation], body| Some((Keys(needs), true, path.to_owned(), Some(body)));
    let server = |needs, at: &str, body| Some((Server(needs), false, at.to_owned(), body));
    let nothing = |body| Some((Nothing, false, path.to_owned(), body));
    match (method, path) {
        ("GET" | "HEAD", "/v1/entries/{key}") => one(&[Read], None),
        ("PUT", "/v1/entries/{key}") => one(&[Write], Some(json!(1))),
        ("DELETE", "/v1/entries/{key}") => one(&[Delete], None),
        ("POST", "/v1/entries/{key}/content") => one(&[Read, Invalidate], Some(json!(1))),
        ("GET", "/v1/entries/{key}/explanation") => one(&[Read], None),
        ("GET", "/v1/sources/{name}") => one(&[Read], None),
        ("PUT", "/v1/sources/{name}") => one(&[Invalidate], Some(json!({ "version": 1 }))),
        ("POST", "/v1/entries/get") => many(&[Read], json!({ "keys": keys })),
        ("POST", "/v1/entries/put") => {
            let entries: Vec<_> = keys.iter().map(|key| json!({ "key": key, "value": "v" })).collect();
            many(&[Write], json!({ "entries": entries }))
        }
        ("POST", "/v1/invalidations") => many(&[Invalidate], json!({ "keys": keys })),
        ("POST", "/v1/events") => server(Emit, path, Some(json!({ "specversion": "1.0", "type": "x", "source": "/s", "id": "1" }))),
        ("OPTIONS", "/v1/events") => nothing(None),
        ("GET", "/v1/events") => server(Metrics, path, None),
        ("GET", "/v1/events/tail") => server(Metrics, path, None),
        ("GET", "/v1/backups") => server(Admin, path, None),
        ("GET", "/v1/backups/{name}") => server(Admin, "/v1/backups/none", None),
        ("POST", "/v1/backup-runs") => server(Admin, path, Some(json!({ "do": "abandon" }))),
        ("GET" | "DELETE", "/v1/backup-runs/{run}") => server(Admin, "/v1/backup-runs/7", None),
        ("GET", "/v1/dead-letters") => server(Admin, path, None),
        ("GET" | "DELETE", "/v1/dead-letters/{id}") => server(Admin, "/v1/dead-letters/7", None),
        ("POST", "/v1/dead-letters/{id}/replay") => server(Admin, "/v1/dead-letters/7/replay", None),
        ("GET", "/v1/keys") => Some((Anything(Read), false, path.to_owned(), None)),
        ("POST", "/v1/stats/reset" | "/v1/optimize") | ("POST" | "DELETE", "/v1/cleanup") => server(Admin, path, None),
        ("DELETE", "/v1/maintenance") => server(Admin, path, None),
        // It is refused as a request, so that no other is kept from writing.
        ("POST", "/v1/maintenance") => server(Admin, path, Some(json!({ "for": "never" }))),
        ("GET", "/v1/jobs") => server(Admin, path, None),
        ("GET", "/v1/jobs/{name}") => server(Admin, "/v1/jobs/cleanup", None),
        ("POST", "/v1/jobs/{name}/run") => server(Admin, "/v1/jobs/cleanup/run", None),
        ("POST", "/v1/jobs/{name}/pause") => server(Admin, "/v1/jobs/cleanup/pause", None),
        ("POST", "/v1/jobs/{name}/resume") => server(Admin, "/v1/jobs/cleanup/resume", None),
        ("GET", "/v1/jobs/{name}/runs/{id}") => server(Admin, "/v1/jobs/cleanup/runs/7", None),
        ("POST", "/v1/jobs/{name}/runs/{id}/cancel") => server(Admin, "/v1/jobs/cleanup/runs/7/cancel", None),
        ("GET", "/v1/reports/{kind}") => server(Metrics, "/v1/reports/daily", None),
        (
            "GET",
            "/v1/stats" | "/v1/optimize" | "/v1/cleanup" | "/v1/maintenance" | "/v1/history" | "/v1/health" | "/health" | "/metrics",
        ) => server(Metrics, path, None),
        ("GET", "/livez" | "/readyz" | "/startupz" | "/openapi.json") => nothing(None),
        ("POST", "/v1/access/session") => nothing(Some(json!({ "principal": "x" }))),
        ("GET" | "DELETE", "/v1/access/session") => Some((Somebody, false, path.to_owned(), None)),
        ("GET", "/v1/access/principals" | "/v1/access/tokens") => server(Admin, path, None),
        ("PUT", "/v1/access/principals/{name}") => server(Admin, "/v1/access/principals/tmp", Some(json!({}))),
        ("DELETE", "/v1/access/principals/{name}") => server(Admin, "/v1/access/principals/tmp", None),
        ("POST", "/v1/access/tokens") => server(Admin, path, Some(json!({ "principal": "nobody" }))),
        ("DELETE", "/v1/access/tokens/{id}") => server(Admin, "/v1/access/tokens/x", None),
        ("POST", "/v1/access/tokens/{id}/rotate") => server(Admin, "/v1/access/tokens/x/rotate", Some(json!({}))),
        ("POST", "/v1/access/explain") => server(Admin, path, Some(json!({ "principal": "nobody", "operation": "read" }))),
        _ => None,
    }
}

#[test]
fn every_route_is_decided_by_the_rights_over_what_it_names() {
    let guarded = Guarded::start();
    let mut asked = 0;
    for endpoint in data_plane().into_iter().chain(about()) {
        let (method, path) = (endpoint.method.as_str(), endpoint.path);
        for keys in [&["own:k"][..], &["foreign:k"], &["own:k", "foreign:k"]] {
            let Some((expected, is_many, at, body)) = cell(method, path, keys) else { panic!("{method} {path} is not in the matrix") };
            let is_about_keys = matches!(expected, Expected::Keys(_));
            if keys.len() > 1 && !is_many || keys[0] != "own:k" && !is_about_keys {
                continue;
            }
            // A stream has no end, and its head says all that is asked here.
            let method = if path.ends_with("/tail") { "HEAD" } else { method };
            let media = if path == "/v1/events" { "application/cloudevents+json" } else { "application/json" };
            let ask = |bearer: Option<String>| {
                let request = guarded.server.request(method, &at);
                let request = bearer.into_iter().fold(request, |request, bearer| request.header("authorization", bearer));
                body.iter().fold(request, |request, body| request.header("content-type", media).body(body.to_string())).send().status
            };
            let nobody = ask(None);
            assert_eq!(nobody == 401, !matches!(expected, Expected::Nothing), "{method} {at} without a token: {nobody}");
            for who in &guarded.people {
                let allowed = match &expected {
                    Expected::Nothing | Expected::Somebody => true,
                    Expected::Server(operation) => who.may(*operation, &[]) && who.everywhere,
                    Expected::Keys(needs) => needs.iter().all(|need| who.may(*need, keys)),
                    Expected::Anything(operation) => who.operations.has(*operation),
                };
                let status = ask(Some(format!("Bearer {}", who.token.reveal())));
                assert_ne!(status, 401, "{method} {at} of {}", who.name);
                assert_eq!(status != 403, allowed, "{method} {at} {keys:?} of {}: {status}", who.name);
                assert!(status < 500 || status == 503, "{method} {at} of {}: {status}", who.name);
                asked += 1;
            }
        }
    }
    assert!(asked > 500, "{asked}");
}

#[test]
fn lists_tell_nothing_of_what_may_not_be_read() {
    let guarded = Guarded::start();
    for number in 0..10 {
        for key in ["own", "foreign"] {
            assert_eq!(guarded.ask("admin", "PUT", &format!("/v1/entries/{key}:{number}"), Some(json!(number))).status, 204);
        }
    }
    let mut cursor = String::new();
    let mut found = Vec::new();
    loop {
        let page = guarded.ask("client.own", "GET", &format!("/v1/keys?limit=3&cursor={cursor}"), None);
        assert!(!page.body.escape_ascii().to_string().contains("666f726569676e"), "a cursor is a key in hexadecimal: {page:?}");
        let page = page.json();
        found.extend(page["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(found, (0..10).map(|number| format!("own:{number}")).collect::<Vec<_>>());
    // What is there and what is not are refused alike.
    let refused = |key: &str| {
        let reply = guarded.ask("client.own", "GET", &format!("/v1/entries/{key}"), None);
        reply.problem(403, "forbidden")["detail"].as_str().unwrap().replace(key, "KEY")
    };
    assert_eq!(refused("foreign:1"), refused("foreign:not-there"));
    let emitted = guarded.ask("admin", "POST", "/v1/events?dry_run=true", None).status;
    assert_eq!(emitted, 415);
    let traces = guarded.ask("viewer", "GET", "/v1/events", None).json();
    assert!(traces["events"].as_array().unwrap().iter().all(|trace| trace["names"] == json!([])));
}

#[test]
fn tags_patterns_and_what_is_within_need_the_right_over_all_that_they_touch() {
    let guarded = Guarded::start();
    let invalidate = |who: &str, body: Json| guarded.ask(who, "POST", "/v1/invalidations", Some(body)).status;
    for (body, own) in [
        (json!({ "patterns": ["own:**"] }), 200),
        (json!({ "patterns": ["own:a*:**"] }), 200),
        (json!({ "namespaces": ["own"] }), 200),
        (json!({ "patterns": ["**"] }), 403),
        (json!({ "patterns": ["*:k"] }), 403),
        (json!({ "patterns": ["ow*:k"] }), 403),
        (json!({ "namespaces": ["foreign"] }), 403),
        (json!({ "tags": ["t"] }), 403),
        (json!({ "everything": true }), 403),
        (json!({ "keys": ["own:k"], "tags": ["t"] }), 403),
        (json!({ "keys": ["own:*"] }), 200),
    ] {
        assert_eq!(invalidate("invalidator.own", body.clone()), own, "{body}");
        assert_eq!(invalidate("invalidator", body), 200);
    }
    // Whether the same is there already is for who may read it.
    let put = |who: &str| {
        let bearer = format!("Bearer {}", guarded.somebody(who).token.reveal());
        guarded.server.put("own:k").header("authorization", bearer).header("larder-if-changed", "true").body("1").send().status
    };
    assert_eq!((put("service"), put("client")), (204, 403));
    let renew = |who: &str| guarded.ask(who, "POST", "/v1/entries/own:k/content?renew=true", Some(json!(1))).status;
    assert_eq!((renew("admin"), renew("operator")), (200, 403));
}
