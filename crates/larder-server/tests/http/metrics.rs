//! What `/metrics` tells: well formed in both formats, true, and never more series than are configured.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::events::Event;
use larder::{Larder, Names, Policy};
use larder_server::settings::HttpLimits;
use larder_testkit::redis::{StartError, or_skip};
use serde_json::json;

use crate::client::Server;
use crate::exposition::{Family, read};

const OPEN: &str = "application/openmetrics-text; version=1.0.0";

/// A server on whose every part something has happened, over a disk.
pub fn lively() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Larder::builder().data(folder.path()).namespace("features", Policy::default().ttl(Duration::from_secs(3600)));
    let server = Server::start(cache, HttpLimits::default());
    assert_eq!(server.put("features:AAPL").header("cache-tag", "symbol:AAPL").body("up").send().status, 204);
    for _ in 0..3 {
        assert_eq!(server.get("features:AAPL").status, 200);
    }
    server.get("features:absent").problem(404, "miss");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        server.larder.invalidate(Names::new().tag("symbol:AAPL").pattern("a:*").namespace("b")).await.unwrap();
        server.larder.emit(Event::new("market_data_update", json!({ "symbol": "AAPL" }))).await.unwrap();
        let down = || async { Err::<bytes::Bytes, _>(std::io::Error::other("down")) };
        let features = server.larder.namespace::<bytes::Bytes>("features").unwrap();
        assert!(features.get_or_load("AAPL", down).await.is_err());
        assert!(features.get("AAPL").await.unwrap().is_none());
    });
    (server, folder)
}

pub fn text_of(server: &Server, accept: &str) -> String {
    let reply = server.request("GET", "/metrics").header("accept", accept).send();
    assert_eq!(reply.status, 200);
    let expected = if accept == OPEN {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    assert_eq!((reply.header("content-type"), reply.header("vary")), (Some(expected), Some("accept")));
    String::from_utf8(reply.body).unwrap()
}

pub fn families(server: &Server) -> BTreeMap<String, Family> {
    let text = text_of(server, "text/plain");
    read(&text, false).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// The one value of a series; nothing where there is none.
fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let all = families.values().flat_map(|family| &family.samples);
    let mut found = all.filter(|sample| {
        sample.name == name
            && sample.labels.len() == labels.len()
            && labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|found| found == value))
    });
    let value = found.next().map(|sample| sample.value);
    assert!(found.next().is_none(), "{name} {labels:?} is not one series");
    value
}

#[test]
fn both_formats_are_well_formed_and_tell_the_same() {
    let (server, _folder) = lively();
    let (open, plain) = (text_of(&server, OPEN), text_of(&server, ""));
    let open = read(&open, true).unwrap_or_else(|why| panic!("{why}\n{open}"));
    let plain = read(&plain, false).unwrap_or_else(|why| panic!("{why}\n{plain}"));
    let series = |families: &BTreeMap<String, Family>| -> Vec<String> {
        let all = families.values().flat_map(|family| &family.samples).map(|sample| format!("{} {:?}", sample.name, sample.labels));
        // The second answer counts the first.
        let mut all: Vec<String> = all.filter(|series| !series.contains("\"/metrics\"")).collect();
        all.sort();
        all
    };
    assert_eq!(series(&open), series(&plain));
    assert_eq!((open["larder_reads"].kind.as_str(), plain["larder_reads_total"].kind.as_str()), ("counter", "counter"));
    assert_eq!((open["larder_build"].kind.as_str(), plain["larder_build_info"].kind.as_str()), ("info", "gauge"));
}

#[test]
fn promtool_has_nothing_to_remark() {
    let (server, _folder) = lively();
    let tool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let started = tool.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StartError::NotInstalled("promtool"),
        _ => StartError::Failed(error.to_string()),
    });
    let Some(mut tool) = or_skip(started) else { return };
    tool.stdin.take().expect("it is piped").write_all(text_of(&server, "").as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{}{}", words(&said.stdout), words(&said.stderr));
}

#[test]
fn what_is_told_is_what_happened() {
    let (server, _folder) = lively();
    let told = families(&server);
    let reads =
        |result, tier| value(&told, "larder_reads_total", &[("namespace", "features"), ("result", result), ("tier", tier)]).unwrap();
    assert_eq!((reads("hit", "memory"), reads("absent", "none"), reads("error", "none")), (3.0, 2.0, 1.0));
    assert_eq!(reads("invalidated", "none") + reads("expired", "none") + reads("hit", "backing"), 0.0);
    let of_features = |name| value(&told, name, &[("namespace", "features")]);
    assert_eq!((of_features("larder_puts_total"), of_features("larder_namespace_entries")), (Some(1.0), Some(0.0)));
    let loads = value(&told, "larder_loads_total", &[("namespace", "features"), ("outcome", "error")]);
    assert_eq!((loads, of_features("larder_load_duration_seconds_count")), (Some(1.0), Some(1.0)));
    let invalidations = |kind, origin| value(&told, "larder_invalidations_total", &[("kind", kind), ("origin", origin)]).unwrap();
    assert_eq!((invalidations("tag", "call"), invalidations("namespace", "call"), invalidations("pattern", "event")), (1.0, 1.0, 6.0));
    assert_eq!(value(&told, "larder_events_received_total", &[]), Some(1.0));
    assert_eq!(value(&told, "larder_backing_breaker", &[("tier", "disk"), ("state", "closed")]), Some(1.0));
    assert_eq!((value(&told, "larder_log_up", &[]), value(&told, "larder_log_lag_seconds", &[])), (Some(1.0), Some(0.0)));
    assert_eq!(value(&told, "larder_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert!(value(&told, "larder_read_duration_seconds_count", &[("namespace", "other"), ("result", "miss")]).is_none(), "never timed");
}

#[test]
fn requests_are_counted_by_the_routes_that_there_are() {
    let server = Server::plain();
    server.get("k").problem(404, "miss");
    server.get("l").problem(404, "miss");
    assert_eq!(server.request("GET", "/made/up/by/nobody").send().status, 404);
    assert_eq!(server.request("BREW", "/v1/stats").send().status, 405);
    let told = families(&server);
    let requests =
        |route, method, status| value(&told, "larder_http_requests_total", &[("route", route), ("method", method), ("status", status)]);
    assert_eq!(requests("/v1/entries/{key}", "GET", "404"), Some(2.0));
    assert_eq!((requests("other", "GET", "404"), requests("/v1/stats", "other", "405")), (Some(1.0), Some(1.0)));
    assert_eq!(value(&told, "larder_http_request_duration_seconds_count", &[("route", "/v1/entries/{key}")]), Some(2.0));
    assert_eq!(value(&told, "larder_http_connections_accepted_total", &[]), Some(5.0));
    assert!(value(&told, "larder_http_connections", &[]).unwrap() >= 1.0, "the one that asks");
}

#[test]
fn namespaces_that_clients_make_up_make_no_series() {
    let server = Server::start(Larder::builder().namespace("n", Policy::default()), HttpLimits::default());
    server.get("n:k").problem(404, "miss");
    server.get("m:k").problem(404, "miss");
    let count = |told: &BTreeMap<String, Family>| told.values().map(|family| family.samples.len()).sum::<usize>();
    let before = families(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let raw = server.larder.raw();
    runtime.block_on(async {
        for n in 0..100_000 {
            raw.lookup(format!("made-up-{n}:k")).await.unwrap();
        }
    });
    let after = families(&server);
    let absent = [("namespace", "other"), ("result", "absent"), ("tier", "none")];
    assert_eq!(value(&after, "larder_reads_total", &absent), Some(100_001.0));
    // What was asked before is counted by now: the route of the metrics.
    assert!(count(&after) - count(&before) <= 31, "{} series became {}", count(&before), count(&after));
    let names: Vec<&str> = after["larder_puts_total"].samples.iter().map(|sample| sample.labels["namespace"].as_str()).collect();
    assert_eq!(names, ["n", "other"]);
}

#[test]
fn a_reset_begins_a_window_and_leaves_the_counters_alone() {
    let server = Server::plain();
    server.get("k").problem(404, "miss");
    let stats = |query: &str| server.request("GET", &format!("/v1/stats{query}")).send().json();
    assert_eq!((&stats("")["total"]["misses"], &stats("")["window"]["reset"]), (&json!(1), &json!(false)));
    let ended = server.request("POST", "/v1/stats/reset").send();
    assert_eq!((ended.status, &ended.json()["ended"]["reset"]), (200, &json!(false)));
    assert_eq!(server.put("k").body("v").send().status, 204);
    assert_eq!(server.get("k").status, 200);
    let window = stats("");
    assert_eq!((&window["total"]["misses"], &window["total"]["hits"], &window["window"]["reset"]), (&json!(0), &json!(1), &json!(true)));
    assert_eq!((&window["total"]["miss_rate"], &window["total"]["error_rate"]), (&json!(0.0), &json!(0.0)));
    assert_eq!(window["total"]["tiers"]["memory"], json!({ "hits": 1, "misses": 0, "sets": 1 }));
    assert_eq!(window["memory"]["entries"], json!(1), "what is there is there");
    let all = stats("?since=start");
    assert_eq!((&all["total"]["requests"], &all["window"]["reset"]), (&json!(2), &json!(false)));
    assert_eq!(stats("?since=reset")["total"], window["total"]);
    server.request("GET", "/v1/stats?since=yesterday").send().problem(400, "invalid-request");
    let absent = [("namespace", "other"), ("result", "absent"), ("tier", "none")];
    assert_eq!(value(&families(&server), "larder_reads_total", &absent), Some(1.0));
    let again = server.request("POST", "/v1/stats/reset").send().json();
    assert_eq!(again["ended"]["reset"], json!(true));
    assert_eq!(stats("")["total"]["requests"], json!(0));
}
