//! How a server says that it and what it stands on are: real servers over a real Redis that is stopped, killed and started again.

use std::process::Output;
use std::time::{Duration, Instant};

use larder::{Clock, Larder};
use larder_server::http::health::Document;
use larder_server::http::probes::Readiness;
use larder_server::settings::HttpLimits;
use larder_testkit::redis::{Certificates, Server as Redis, ServerOptions, Tls, or_skip};
use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::{PATIENCE, Reply, Server, read_reply};
use crate::shared::{Instance, program};

/// Probes that come quickly, for tests that wait for them.
const OFTEN: [(&str, &str); 4] = [
    ("LARDER_HEALTH_PROBE_EVERY", "200ms"),
    ("LARDER_HEALTH_PROBE_TIMEOUT", "500ms"),
    ("LARDER_HEALTH_DISK_FREE_DEGRADED", "0"),
    ("LARDER_HEALTH_DISK_FREE_UNHEALTHY", "0"),
];

/// Probes of a server: for each, how long the slowest of many took.
const MEASURED: usize = 200;

fn plain_probed() -> Server {
    Server::start(Larder::builder().probe_every(Duration::from_millis(50)), HttpLimits::default())
}

fn document(reply: &Reply) -> Document {
    assert_eq!((reply.header("content-type"), reply.header("cache-control")), (Some("application/health+json"), Some("no-store")));
    let document: Document = serde_json::from_slice(&reply.body).expect("it is what is documented");
    assert_eq!(serde_json::to_value(&document).expect("texts and numbers"), serde_json::from_slice::<Value>(&reply.body).expect("JSON"));
    document
}

fn health(server: &Instance) -> (u16, Document) {
    let reply = server.request("GET", "/health").send();
    (reply.status, document(&reply))
}

/// The status of a component, and what is wrong with it.
fn component(document: &Document, name: &str) -> (String, String) {
    let found = document.checks.iter().find(|(key, _)| key.split(':').next() == Some(name));
    let (_, measurements) = found.unwrap_or_else(|| panic!("{name} in {document:?}"));
    (measurements[0].status.clone(), measurements[0].output.clone().unwrap_or_default())
}

fn verbose(server: &Instance, query: &str) -> (u16, Readiness) {
    let reply = server.request("GET", &format!("/readyz?verbose{query}")).header("accept", "application/json").send();
    (reply.status, serde_json::from_value(reply.json()).expect("it is what is documented"))
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat())
}

#[test]
fn a_server_in_memory_says_that_all_is_well() {
    let server = plain_probed();
    assert!(wait::until(PATIENCE, || server.request("GET", "/startupz").send().status == 200), "it starts");
    let ready = server.request("GET", "/readyz?verbose").send();
    let text = String::from_utf8(ready.body).expect("text");
    for line in ["[+]server ok", "[+]startup ok", "[+]memory ok", "[+]log ok"] {
        assert!(ready.status == 200 && text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.ends_with("\nready\n"), "{text}");
    let document = document(&server.request("GET", "/health").send());
    assert_eq!((document.status.as_str(), document.notes.len()), ("pass", 0));
    let took = &document.checks["memory:responseTime"][0];
    assert!(took.observed_value.as_ref().is_some_and(|took| took.as_f64().is_some_and(|ms| ms < 20_000.0)), "{took:?}");
    assert_eq!((took.observed_unit.as_deref(), took.component_type.as_str()), (Some("ms"), "component"));
    assert_eq!(document.checks["log:position"][0].observed_value, Some(server.larder.position().to_string().into()));
    assert_eq!(server.larder.stats().total.requests(), 0, "probes are in nobody's numbers");
}

#[test]
fn a_check_can_be_excluded_and_what_is_none_is_refused() {
    let server = plain_probed();
    assert!(wait::until(PATIENCE, || server.request("GET", "/readyz").send().status == 200));
    let ask = |query: &str| server.request("GET", &format!("/readyz?verbose&{query}")).send();
    let text = String::from_utf8(ask("exclude=log&exclude=startup,backing").body).expect("text");
    assert!(text.contains("[+]log excluded: ok\n") && text.contains("[+]startup excluded: ok\n"), "{text}");
    let refused = ask("exclude=logg").problem(400, "invalid-request");
    assert!(
        refused["detail"].as_str().is_some_and(|detail| detail.contains("\"logg\"") && detail.contains("memory, backing, log")),
        "{refused}"
    );
    ask("exclude=%4").problem(400, "invalid-request");
    ask(&format!("exclude={}", "log,".repeat(65))).problem(400, "invalid-request");
}

#[test]
fn probes_answer_when_all_requests_that_may_be_are_under_way() {
    let mut server = Server::start(Larder::builder(), HttpLimits { requests_max: 1, ..HttpLimits::default() });
    let mut open = server.put("k").send_head(5);
    server.get("k").problem(503, "overloaded");
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/startupz", 200), ("/health", 200)] {
        assert_eq!(server.request("GET", path).send().status, status, "{path}");
    }
    server.begin_stop();
    assert!(wait::until(PATIENCE, || server.request("GET", "/readyz").send().status == 503), "it drains");
    let excluded = server.request("GET", "/readyz?exclude=server").send();
    assert_eq!(excluded.status, 200, "whoever asks so is told so");
    std::io::Write::write_all(&mut open, b"value").expect("it is let to its end");
    assert_eq!(read_reply(&mut open).status, 204);
}

#[test]
fn a_redis_that_hangs_or_is_killed_shows_and_goes_away_by_itself() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    let environment = [&OFTEN[..], &[("LARDER_REDIS_OPERATION_TIMEOUT", "200ms"), ("LARDER_HTTP_REQUESTS_MAX", "1")]].concat();
    let server = Instance::start(&redis.url(), "a", &environment);
    let well = || health(&server).1.status == "pass";
    assert!(wait::until(PATIENCE, || server.request("GET", "/startupz").send().status == 200 && well()), "{:?}", health(&server));
    assert_eq!(told(&server.ask(&["health"])).0, Some(0));

    for how in ["pause", "kill"] {
        match how {
            "pause" => redis.pause(),
            _ => redis.kill(),
        }
        let began = Instant::now();
        let shows = || {
            let (_, document) = health(&server);
            ["backing", "log"].iter().all(|name| component(&document, name).0 == "warn")
        };
        assert!(wait::until(PATIENCE, shows), "{how}: {:?}", health(&server));
        eprintln!("{how}: it showed after {:?}", began.elapsed());
        let (status, document) = health(&server);
        assert_eq!((status, document.status.as_str()), (200, "warn"), "it goes on");
        let (_, log) = component(&document, "log");
        assert!(log.contains("Redis cannot be reached") || log.contains("not confirmed"), "{log}");
        // A change that waits for Redis takes the one place that there is.
        let mut open = server.request("PUT", "/v1/entries/k").send_head(5);
        server.get("k").problem(503, "overloaded");
        for path in ["/livez", "/readyz", "/readyz?verbose", "/startupz", "/health"] {
            let slowest = (0..MEASURED).map(|_| {
                let began = Instant::now();
                assert_eq!(server.request("GET", path).send().status, 200, "{path}");
                began.elapsed()
            });
            let mut all: Vec<Duration> = slowest.collect();
            all.sort();
            eprintln!(
                "{how}: {path} took {:?} in the median, {:?} at p99, connection included",
                all[MEASURED / 2],
                all[MEASURED * 99 / 100]
            );
        }
        let (status, readiness) = verbose(&server, "");
        assert_eq!((status, readiness.ready, readiness.degraded), (200, true, true));
        // How the jobs stand is in Redis too, and whoever asks for it may have found out by now.
        let rest = verbose(&server, "&exclude=log,backing,scheduler").1;
        assert!(!rest.degraded, "{rest:?}");
        std::io::Write::write_all(&mut open, b"value").expect("it is let to its end");
        read_reply(&mut open);
        let (code, words) = told(&server.ask(&["health"]));
        assert!(code == Some(1) && words.contains("degraded  larder") && words.contains("\u{2192} see to"), "{words}");

        match how {
            "pause" => redis.resume(),
            _ => redis.restart(false),
        }
        let began = Instant::now();
        assert!(wait::until(PATIENCE, well), "{how}: it goes away: {:?}", health(&server));
        eprintln!("{how}: it went away after {:?}", began.elapsed());
    }
    let keys = redis.command(&["KEYS", "*probe*"]).expect("Redis answers");
    assert!(format!("{keys:?}").matches("probe:").count() <= 1, "at most the one under way: {keys:?}");
    server.abandon();
}

#[test]
fn a_strict_server_without_its_log_is_unhealthy_and_not_ready() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    let strict = [("LARDER_REDIS_MODE", "strict"), ("LARDER_REDIS_OPERATION_TIMEOUT", "200ms"), ("LARDER_REDIS_MAX_STALENESS", "500ms")];
    let server = Instance::start(&redis.url(), "a", &[&OFTEN[..], &strict].concat());
    assert!(wait::until(PATIENCE, || server.request("GET", "/readyz").send().status == 200));
    redis.kill();
    assert!(wait::until(PATIENCE, || health(&server).0 == 503), "{:?}", health(&server));
    let (status, readiness) = verbose(&server, "");
    let log = readiness.checks.iter().find(|check| check.name == "log").expect("it is there");
    assert!(status == 503 && !readiness.ready && log.needed && !log.ok, "{readiness:?}");
    assert_eq!(verbose(&server, "&exclude=log").0, 200);
    let (code, words) = told(&server.ask(&["health", "--verbose"]));
    assert!(code == Some(2) && words.contains("unhealthy  larder") && words.contains("unconfirmedFor: "), "{words}");
    let (code, words) = told(&server.ask(&["health", "--json"]));
    let json: Value = serde_json::from_str(&words).expect("one object");
    assert_eq!((code, &json["status"]), (Some(2), &json!("fail")));
    assert_eq!(server.request("GET", "/livez").send().status, 200);
}

#[test]
fn a_strict_server_that_never_met_its_log_has_not_started_and_an_available_one_has() {
    let nobody = "redis://127.0.0.1:1";
    let (strict, available) =
        (Instance::start(nobody, "a", &[&OFTEN[..], &[("LARDER_REDIS_MODE", "strict")]].concat()), Instance::start(nobody, "b", &OFTEN));
    assert!(wait::until(PATIENCE, || available.request("GET", "/startupz").send().status == 200));
    assert_eq!(strict.request("GET", "/startupz").send().status, 503);
    assert_eq!([&strict, &available].map(|server| server.request("GET", "/readyz").send().status), [503, 200]);
}

#[test]
fn no_server_is_as_bad_as_an_unhealthy_one_and_says_what_to_do() {
    let (code, words) = told(&program(&["health", "--server", "127.0.0.1:1"]).output().expect("it was built"));
    assert!(code == Some(2) && words.contains("no server answers at") && words.contains("larder serve"), "{words}");
}

#[test]
fn a_disk_without_room_and_a_certificate_that_soon_runs_out_are_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = match Certificates::make() {
        Ok(certificates) => certificates,
        Err(why) => return eprintln!("SKIPPED: {why}"),
    };
    let options = ServerOptions {
        tls: Some(Tls { certificates: certificates.into(), demands_client_certificate: true }),
        ..ServerOptions::default()
    };
    let Some(redis) = or_skip(Redis::start(options.clone())) else { return };
    let made = options.tls.expect("it was given").certificates;
    let paths = [made.authority(), made.client_certificate(), made.client_key()].map(|path| path.display().to_string());
    let tls = [
        ("LARDER_REDIS_CERTIFICATE_AUTHORITY", paths[0].as_str()),
        ("LARDER_REDIS_CLIENT_CERTIFICATE", paths[1].as_str()),
        ("LARDER_REDIS_CLIENT_KEY", paths[2].as_str()),
    ];
    let url = format!("rediss://127.0.0.1:{}", redis.tls_port().expect("it speaks TLS"));
    let server = Instance::start(&url, "a", &[&OFTEN[..], &tls].concat());
    let soon = || component(&health(&server).1, "certificates");
    assert!(wait::until(PATIENCE, || health(&server).1.checks.contains_key("certificates:timeLeft")));
    let (status, what) = soon();
    assert_eq!(status, "warn");
    assert!(what.contains("redis.certificate_authority runs out in 0 days") && what.contains("redis.client_certificate"), "{what}");
    server.abandon();

    let path = folder.path().join("data").display().to_string();
    let full = [("LARDER_HEALTH_DISK_FREE_DEGRADED", "1000 TiB"), ("LARDER_HEALTH_DISK_FREE_UNHEALTHY", "1 KiB")];
    let server = Instance::serve(&["--data", &path], &[&OFTEN[..2], &full].concat());
    assert!(wait::until(PATIENCE, || health(&server).1.checks.contains_key("disk:free")));
    let (status, what) = component(&health(&server).1, "disk");
    assert!(status == "warn" && what.contains("are free on the disk of") && what.contains("less than 1000 TiB"), "{what}");
    assert!(wait::until(PATIENCE, || server.request("GET", "/readyz").send().status == 200), "requests are as good here as elsewhere");
    assert_eq!(component(&health(&server).1, "backing").0, "pass");
    server.abandon();
}

#[test]
fn reads_that_mostly_miss_show_after_some_windows_and_no_sooner() {
    let environment = [("LARDER_HEALTH_WINDOW", "600ms"), ("LARDER_HEALTH_REQUESTS_MIN", "10"), ("LARDER_HEALTH_WINDOWS", "2")];
    let server = Instance::serve(&[], &environment);
    let missing = || {
        (0..10).for_each(|_| drop(server.get("absent")));
        component(&health(&server).1, "performance").0 == "warn"
    };
    assert!(wait::until(PATIENCE, || health(&server).1.checks.contains_key("performance:requests")));
    assert!(wait::until(PATIENCE, missing), "{:?}", health(&server));
    let (_, what) = component(&health(&server).1, "performance");
    assert!(what.contains("of reads hit, less than 80.00 %"), "{what}");
    assert!(wait::until(PATIENCE, || component(&health(&server).1, "performance").0 == "pass"), "without reads there is nothing to say");
    assert_eq!(server.request("PUT", "/v1/entries/k").body("v").send().status, 204);
    server.abandon();
}

#[test]
fn time_that_a_test_drives_does_not_stop_the_probes() {
    let builder = Larder::builder().clock(Clock::manual()).probe_every(Duration::from_millis(50));
    let server = Server::start(builder, HttpLimits::default());
    assert!(wait::until(PATIENCE, || server.request("GET", "/startupz").send().status == 200));
    let runs = |server: &Server| server.larder.probes().iter().filter_map(|probed| probed.last.as_ref()).map(|last| last.runs).sum::<u64>();
    let before = runs(&server);
    assert!(wait::until(PATIENCE, || runs(&server) > before + 4));
}
