//! Several servers that are one cache: processes as a user starts them, over a real Redis, which is cut off and comes back.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use larder_testkit::process::Killed;
use larder_testkit::proxy::Proxy;
use larder_testkit::redis::{Server as Redis, ServerOptions, or_skip};
use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply, Request};

/// How soon all must be well again after Redis is.
const RECOVERY: Duration = Duration::from_secs(10);

/// A server in a process of its own. It is killed if a test fails before it ends.
pub struct Instance {
    process: Killed,
    addr: SocketAddr,
    told: Value,
}

pub fn program(arguments: &[&str]) -> Command {
    larder_testkit::program::command(env!("CARGO_BIN_EXE_larder"), arguments)
}

impl Instance {
    pub fn start(redis: &str, name: &str, environment: &[(&str, &str)]) -> Self {
        Self::serve(&["--redis", redis], &[&[("LARDER_REDIS_INSTANCE", name)], environment].concat())
    }

    /// With these arguments.
    pub fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = program(&["serve", "--http", "127.0.0.1:0", "--json", "--until-stdin-ends"]);
        command.args(arguments).env("LARDER_INDEX", "64 KiB").env("LARDER_LOG", "warn");
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Killed::start(&mut command).expect("the program was built for this test");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it serves");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("one object, not {line:?}"));
        let url = told["serving"].as_str().expect("its address");
        let addr = url.strip_prefix("http://").expect("it is HTTP").parse().expect("it is an address");
        Self { process, addr, told }
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::to(self.addr, method, path)
    }

    pub fn get(&self, key: &str) -> Reply {
        self.request("GET", &format!("/v1/entries/{key}")).send()
    }

    /// Reads at the position that another server gave.
    fn get_at(&self, key: &str, position: &str) -> Reply {
        self.request("GET", &format!("/v1/entries/{key}")).header("larder-at-least", position).send()
    }

    fn put(&self, key: &str, tag: &str, value: &str) -> Reply {
        self.request("PUT", &format!("/v1/entries/{key}")).header("cache-tag", tag).body(value).send()
    }

    fn invalidate(&self, query: &str, names: &Value) -> Reply {
        let request = self.request("POST", &format!("/v1/invalidations{query}")).header("content-type", "application/json");
        request.body(names.to_string()).send()
    }

    fn json(&self, path: &str) -> Value {
        self.request("GET", path).send().json()
    }

    fn is_connected(&self) -> bool {
        self.json("/v1/stats")["log"]["shared"]["connected"] == true
    }

    /// The command line, about this server.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        program(arguments).args(["--server", &format!("http://{}", self.addr)]).output().expect("the program was built for this test")
    }

    /// Ends it as whoever started it with a pipe would, by going away.
    pub fn abandon(mut self) {
        drop(self.process.stdin.take());
        let ended = self.process.wait().expect("it is a child");
        assert_eq!(ended.code(), Some(0), "it ends in order");
    }
}

fn position(reply: &Reply) -> String {
    reply.header("larder-position").expect("it has one").to_owned()
}

/// A Redis behind a network that can be cut, or nothing where none is installed.
pub fn redis() -> Option<(Redis, Proxy, String)> {
    let redis = or_skip(Redis::start(ServerOptions::default()))?;
    let proxy = Proxy::start(redis.address()).expect("there is a free port");
    let url = format!("redis://{}", proxy.address());
    Some((redis, proxy, url))
}

fn away(proxy: &Proxy, instances: [&Instance; 2]) {
    proxy.refuse();
    proxy.cut();
    assert!(wait::until(PATIENCE, || instances.iter().all(|instance| !instance.is_connected())), "they notice");
}

fn back(proxy: &Proxy, instances: [&Instance; 2]) {
    proxy.heal();
    assert!(wait::until(RECOVERY, || instances.iter().all(|instance| instance.is_connected())), "they recover by themselves");
}

#[test]
fn what_one_server_is_told_another_obeys() {
    let Some((redis, _proxy, url)) = redis() else { return };
    let (a, b) = (Instance::start(&url, "a", &[]), Instance::start(&url, "b", &[]));
    assert_eq!((&a.told["redis"], &a.told["instance"]), (&json!(url), &json!("a")));

    let put = a.put("features:AAPL", "symbol:AAPL", "old");
    assert_eq!(put.status, 204);
    let read = b.get_at("features:AAPL", &position(&put));
    assert_eq!((read.status, read.body.as_slice()), (200, b"old".as_slice()));
    assert_eq!(read.header("cache-status"), Some("larder; hit; detail=redis"));
    assert_eq!(read.header("cache-tag"), Some("symbol:AAPL"));
    assert_eq!(read.header("larder-freshness"), None, "the log is heard");
    assert_eq!(b.get("features:AAPL").header("cache-status"), Some("larder; hit; detail=memory"));

    // Told to one, obeyed by the other, however it is named.
    for names in [json!({ "tags": ["symbol:AAPL"] }), json!({ "patterns": ["features:*"] }), json!({ "keys": ["features:AAPL"] })] {
        let told = a.put("features:AAPL", "symbol:AAPL", "again");
        assert_eq!(b.get_at("features:AAPL", &position(&told)).status, 200);
        let receipt = a.invalidate("", &names);
        assert_eq!((receipt.status, &receipt.json()["queued"]), (200, &json!(false)));
        let at = receipt.json()["position"].as_str().expect("a position").to_owned();
        b.get_at("features:AAPL", &at).problem(404, "miss");
        let many = b.request("POST", "/v1/entries/get").header("content-type", "application/json").header("larder-at-least", &at);
        assert_eq!(many.body(r#"{"keys":["features:AAPL"]}"#).send().json()["entries"][0]["outcome"], "miss");
        assert_eq!(b.request("GET", "/v1/keys").header("larder-at-least", &at).send().json()["keys"], json!([]));
    }

    // A fill that another server's invalidation has overtaken is not kept.
    let token = b.get("features:AAPL").header("larder-fill").expect("a miss has one").to_owned();
    let told = a.invalidate("?applied_everywhere=5s", &json!({ "tags": ["symbol:AAPL"] })).json();
    assert_eq!(told["spread"], json!({ "instances": 2, "lagging": [] }));
    let fill = b.request("PUT", "/v1/entries/features:AAPL").header("cache-tag", "symbol:AAPL").header("larder-fill", token);
    fill.body("old").send().problem(409, "stale-fill");

    // Whoever writes to the inbox is obeyed by all.
    let put = a.put("features:MSFT", "symbol:MSFT", "old");
    assert_eq!(b.get_at("features:MSFT", &position(&put)).status, 200);
    redis.command(&["XADD", "{larder}:inbox", "*", "tag", "symbol:MSFT"]).expect("it is a stream");
    assert!(wait::until(PATIENCE, || [&a, &b].iter().all(|instance| instance.get("features:MSFT").status == 404)));

    let future = format!("{}9999", position(&put));
    b.request("GET", "/v1/entries/k").header("larder-at-least", &future).header("larder-wait-ms", "20").send().problem(504, "not-reached");
    let foreign = b.request("GET", "/v1/entries/k").header("larder-at-least", "00000000000000ab-1").header("larder-wait-ms", "20");
    foreign.send().problem(412, "unknown-position");

    let stats = b.json("/v1/stats");
    assert_eq!((&stats["backing"]["name"], &stats["backing"]["breaker"]), (&json!("redis"), &json!("closed")));
    let shared = &stats["log"]["shared"];
    assert_eq!((&shared["instance"], &shared["connected"], &shared["queued"]), (&json!("b"), &json!(true), &json!(0)));
    let typed: larder_server::http::stats::Document = serde_json::from_value(stats.clone()).expect("it is what is documented");
    assert_eq!(serde_json::to_value(typed).expect("numbers and texts"), stats);
    let shown = String::from_utf8(b.ask(&["stats"]).stdout).expect("text");
    assert!(shown.contains("redis   ") && shown.contains("shared  as b, heard "), "{shown}");
    let told = a.ask(&["invalidate", "--tag", "x", "--applied-everywhere", "5s"]);
    let text = String::from_utf8(told.stdout).expect("text");
    assert!(told.status.success() && text.contains("all of 2 servers obey"), "{text}");
    let findings = a.json("/v1/health");
    assert!(findings["state"] == "healthy" && findings["findings"].as_array().is_some_and(|all| !all.is_empty()), "{findings}");
    a.abandon();
    b.abandon();
}

#[test]
fn without_redis_servers_go_on_and_what_they_were_told_meanwhile_arrives() {
    let Some((_redis, proxy, url)) = redis() else { return };
    let available = [("LARDER_REDIS_OPERATION_TIMEOUT", "200ms"), ("LARDER_REDIS_MAX_STALENESS", "500ms")];
    let (a, b) = (Instance::start(&url, "a", &available), Instance::start(&url, "b", &available));
    let last = ["gone", "kept"].map(|key| a.put(key, key, "value")).map(|put| position(&put));
    for key in ["gone", "kept"] {
        assert_eq!(b.get_at(key, &last[1]).status, 200);
        assert_eq!(b.get(key).header("cache-status"), Some("larder; hit; detail=memory"));
    }

    away(&proxy, [&a, &b]);
    // What is in memory is served, and in time says that it could not be verified.
    assert_eq!(a.get("kept").status, 200);
    let unverified = wait::until_some(PATIENCE, || Some(b.get("kept")).filter(|read| read.header("larder-freshness").is_some()));
    let unverified = unverified.expect("it comes to be older than may be");
    assert_eq!((unverified.status, unverified.header("larder-freshness")), (200, Some("unverified")));
    assert_eq!(unverified.header("cache-status"), Some("larder; hit; detail=unverified-memory"));
    let many = b.request("POST", "/v1/entries/get").header("content-type", "application/json").body(r#"{"keys":["kept"]}"#).send();
    assert_eq!(many.json()["entries"][0]["unverified"], true);
    let counted = b.json("/v1/stats")["total"]["counts"]["unverified"].as_u64();
    assert!(counted.is_some_and(|answers| answers >= 2), "{counted:?}");
    // What is not is a miss, soon.
    let began = Instant::now();
    b.get("absent").problem(404, "miss");
    assert!(began.elapsed() < Duration::from_secs(2), "a read waited for {:?}", began.elapsed());

    // A change takes effect where it was made, and says that the others are yet to hear of it.
    let receipt = a.invalidate("?applied_everywhere=100ms", &json!({ "tags": ["gone"] }));
    let told = receipt.json();
    assert_eq!((receipt.status, &told["queued"], &told["spread"]["instances"]), (202, &json!(true), &json!(null)), "{told}");
    assert!(told["spread"]["problem"]["detail"].is_string(), "{told}");
    a.get("gone").problem(404, "miss");
    assert_eq!(a.put("new", "t", "value").status, 202);
    assert_eq!(a.get("new").status, 200);
    assert_eq!(a.request("DELETE", "/v1/entries/new").send().status, 202);
    assert_eq!(b.get("gone").status, 200, "the other has not heard of it");
    let removed = String::from_utf8(a.ask(&["rm", "new"]).stderr).expect("text");
    assert!(removed.contains("Redis cannot be reached"), "{removed}");

    // It is degraded, and neither dead nor of no use.
    assert_eq!(a.request("GET", "/livez").send().status, 200);
    assert!(wait::until(PATIENCE, || a.request("GET", "/readyz").send().body.starts_with(b"ready, but degraded")));
    let ready = a.request("GET", "/readyz?verbose").header("accept", "application/json").send();
    assert_eq!((ready.status, &ready.json()["ready"], &ready.json()["degraded"]), (200, &json!(true), &json!(true)));
    let health = a.json("/v1/health");
    assert_eq!((&health["state"], &health["findings"][0]["about"]), (&json!("degraded"), &json!("log")), "{health}");
    let shared = a.json("/v1/stats")["log"]["shared"].clone();
    assert!(shared["queued"].as_u64().is_some_and(|names| names >= 2) && shared["trouble"].is_string(), "{shared}");
    let shown = String::from_utf8(a.ask(&["stats"]).stdout).expect("text");
    assert!(shown.contains("NOT CONNECTED"), "{shown}");

    back(&proxy, [&a, &b]);
    assert!(wait::until(RECOVERY, || b.get("gone").status == 404), "what was queued arrives");
    assert_eq!(b.get("kept").status, 200, "and nothing else is taken out where it was not told");
    assert_eq!(a.json("/v1/stats")["log"]["shared"]["queued"], 0);
    assert_eq!(a.put("after", "t", "value").status, 204);
}

#[test]
fn a_strict_server_refuses_what_it_cannot_guarantee() {
    let Some((_redis, proxy, url)) = redis() else { return };
    let strict = [("LARDER_REDIS_MODE", "strict"), ("LARDER_REDIS_MAX_STALENESS", "500ms"), ("LARDER_REDIS_OPERATION_TIMEOUT", "200ms")];
    let (a, b) = (Instance::start(&url, "a", &strict), Instance::start(&url, "b", &strict));
    assert_eq!(a.put("k", "t", "value").status, 204);
    assert_eq!(a.get("k").status, 200);
    assert!(wait::until(PATIENCE, || a.request("GET", "/readyz").send().status == 200), "it has started");

    away(&proxy, [&a, &b]);
    let refused =
        wait::until_some(PATIENCE, || Some(a.get("k")).filter(|read| read.status != 200)).expect("it comes to be older than may be");
    refused.problem(503, "unverified");
    assert_eq!(refused.header("retry-after"), Some("1"));
    a.invalidate("", &json!({ "tags": ["t"] })).problem(503, "log-unavailable");
    assert!(wait::until(PATIENCE, || a.request("GET", "/readyz").send().status == 503));
    assert_eq!(a.request("GET", "/livez").send().status, 200);

    back(&proxy, [&a, &b]);
    assert!(wait::until(RECOVERY, || a.get("k").status == 200));
    assert!(wait::until(RECOVERY, || a.request("GET", "/readyz").send().status == 200));
    assert_eq!(a.invalidate("", &json!({ "tags": ["t"] })).status, 200);
    a.get("k").problem(404, "miss");
}

#[test]
fn a_server_may_start_before_redis_does() {
    let Some((_redis, proxy, url)) = redis() else { return };
    proxy.refuse();
    let a = Instance::start(&url, "a", &[]);
    assert_eq!((&a.told["connected"], a.is_connected()), (&json!(false), false));
    assert_eq!(a.put("k", "t", "value").status, 202);
    assert_eq!(a.get("k").status, 200);
    proxy.heal();
    assert!(wait::until(RECOVERY, || a.is_connected()));
    assert_eq!(a.put("k", "t", "value").status, 204);
    a.abandon();
}

#[test]
fn one_place_for_entries_is_enough() {
    let output =
        program(&["serve", "--redis", "redis://127.0.0.1:1", "--data", "x", "--http", "127.0.0.1:0"]).output().expect("it was built");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("flag --data: data: found \"x\" together with redis.url (flag --redis)"), "{said}");
    let output = program(&["serve", "--redis", "redis://:hunter2@127.0.0.1:1", "--http", "127.0.0.1:0"]).output().expect("it was built");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.code() == Some(2) && said.contains("env:NAME") && !said.contains("hunter2"), "{said}");
}

#[test]
fn what_one_server_does_by_itself_all_tell() {
    let Some((_redis, proxy, url)) = redis() else { return };
    let (a, b) = (Instance::start(&url, "a", &[]), Instance::start(&url, "b", &[]));
    let begun = a.request("POST", "/v1/jobs/cleanup/run").send();
    assert_eq!(begun.status, 202, "{begun:?}");
    let run = format!("/v1/jobs/cleanup/runs/{}", begun.json()["run"]);
    assert!(wait::until(PATIENCE, || b.json(&run)["outcome"] == "ok"), "{}", b.json(&run));
    assert_eq!((&b.json(&run)["instance"], &b.json("/v1/jobs/cleanup")["runs"][0]["instance"]), (&json!("a"), &json!("a")));
    assert_eq!(b.request("POST", "/v1/jobs/cleanup/pause").send().status, 200);
    assert_eq!(a.json("/v1/jobs/cleanup")["paused"], json!(true));
    let listed = a.ask(&["jobs", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("paused"), "{listed:?}");
    // Where it is not known who does what, nothing is begun.
    away(&proxy, [&a, &b]);
    a.request("POST", "/v1/jobs/cleanup/run").send().problem(503, "log-unavailable");
    assert!(a.json("/v1/jobs/cleanup")["trouble"].is_string());
    back(&proxy, [&a, &b]);
    assert_eq!(a.request("POST", "/v1/jobs/cleanup/resume").send().json()["paused"], json!(false));
    assert!(wait::until(PATIENCE, || b.json("/v1/jobs/cleanup")["trouble"].is_null()), "{}", b.json("/v1/jobs/cleanup"));
}
