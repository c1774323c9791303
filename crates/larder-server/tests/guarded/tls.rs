//! TLS at both doors, as clients meet it: spoken, renewed, refused, and not spoken.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use larder::{Clock, Larder};
use larder_server::access::{AccessSettings, Configured, Door};
use larder_server::settings::HttpLimits;
use larder_server::tls::{ClientCertificates, PeerName, TlsSettings};
use larder_testkit::certificates::{Authority, For, Signed};
use larder_testkit::{process, program, wait};
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use super::site::{Client, Files, PATIENCE, Site, tcp};

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

#[test]
fn both_doors_speak_it_whatever_the_size() {
    let files = Files::make();
    let site = Site::start(files.settings());
    let client = files.client(None);
    assert!(Client::request(site.http, client.clone(), "GET /livez").expect("it is answered").starts_with("HTTP/1.1 200"));
    let mut resp = Client::connect(site.resp, client).expect("it is taken");
    assert_eq!(resp.ask(PING, PONG).expect("it answers"), PONG);
    let value = "v".repeat(1 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len());
    assert_eq!(resp.ask(set.as_bytes(), b"+OK\r\n").expect("it is stored"), b"+OK\r\n");
    let got = resp.ask(b"GET k\r\nPING\r\n", PONG).expect("it is there");
    assert_eq!(got, format!("${}\r\n{value}\r\n+PONG\r\n", value.len()).into_bytes());
    let many = resp.ask(&b"PING\r\n".repeat(10_000), &PONG.repeat(10_000)).expect("a pipeline is answered");
    assert_eq!(many.len(), PONG.len() * 10_000);
    let mut listener = Client::connect(site.resp, files.client(None)).expect("it is taken");
    listener.ask(b"SUBSCRIBE c\r\n", b":1\r\n").expect("it listens");
    resp.ask(b"PUBLISH c hello\r\n", b":1\r\n").expect("one was told");
    let pushed = listener.ask(b"", b"hello\r\n").expect("what is pushed comes as well");
    assert!(pushed.starts_with(b"*3\r\n$7\r\nmessage\r\n"), "{}", pushed.escape_ascii());
}

#[test]
fn clients_that_others_wrote_speak_it_as_well() {
    let files = Files::make();
    let site = Site::start(files.settings());
    let larder = |arguments: &[&str]| {
        let mut command = program::command(env!("CARGO_BIN_EXE_larder"), arguments);
        command.args(["--server", &format!("https://localhost:{}", site.http.port())]);
        command.output().expect("it was built for this test")
    };
    let ca = files.path("ca");
    let ca = ca.to_str().expect("text");
    let put = larder(&["put", "k", "value", "--ca", ca]);
    assert!(put.status.success(), "{put:?}");
    assert_eq!(larder(&["get", "k", "--ca", ca]).stdout, b"value");
    fs::write(files.path("other"), Authority::new().pem()).expect("it can be written");
    let stranger = larder(&["get", "k", "--ca", files.path("other").to_str().expect("text")]);
    let words = String::from_utf8_lossy(&stranger.stderr);
    assert!(stranger.status.code() == Some(2) && words.contains("by TLS") && words.contains("--ca FILE"), "{words}");
    let none = larder(&["get", "k", "--ca", files.path("key").to_str().expect("text")]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("has no certificate in PEM form"), "{none:?}");

    let Some(redis_cli) = process::find("redis-cli") else {
        eprintln!("SKIPPED: redis-cli is not installed");
        return;
    };
    let port = site.resp.port().to_string();
    let said =
        Command::new(redis_cli).args(["-h", "localhost", "-p", &port, "--tls", "--cacert", ca, "GET", "k"]).output().expect("it runs");
    if String::from_utf8_lossy(&said.stderr).contains("nrecognized option") {
        eprintln!("SKIPPED: redis-cli was built without TLS");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "value", "{said:?}");
}

#[test]
fn a_renewed_certificate_is_shown_and_open_connections_go_on() {
    let files = Files::make();
    let site = Site::start(files.settings());
    let mut old = Client::connect(site.resp, files.client(None)).expect("it is taken");
    let first = old.shown();
    let shown = |addr| Client::connect(addr, files.client(None)).expect("it is taken").shown();
    let health = || Client::request(site.http, files.client(None), "GET /health").expect("it is answered");

    files.write(&files.authority.server());
    for addr in [site.resp, site.http] {
        assert!(wait::until(PATIENCE, || shown(addr) != first), "the new one is shown");
    }
    let second = shown(site.resp);
    assert_eq!(old.ask(PING, PONG).expect("it lives on"), PONG);

    let broken = files.authority.server();
    fs::write(files.path("key"), &broken.key).expect("it can be written");
    // Read half written it is refused for another reason first.
    let refused = |told: &str| told.contains("a new certificate was refused") && told.contains("does not belong to the key");
    assert!(wait::until(PATIENCE, || refused(&health())), "{}", health());
    assert_eq!(shown(site.resp), second, "the one before stays in use");
    fs::write(files.path("certificate"), &broken.certificate).expect("it can be written");
    assert!(wait::until(PATIENCE, || shown(site.resp) != second && !health().contains("refused")), "what belongs together is taken");
    assert_eq!(old.ask(PING, PONG).expect("it lives on"), PONG);
}

#[test]
fn sighup_has_the_files_looked_at_at_once() {
    let files = Files::make();
    let site = Site::start(TlsSettings { look_every: Duration::from_secs(3_600), ..files.settings() });
    let shown = || Client::connect(site.resp, files.client(None)).expect("it is taken").shown();
    let first = shown();
    files.write(&files.authority.server());
    let told = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().expect("there is a kill");
    assert!(told.success() && wait::until(PATIENCE, || shown() != first), "the new one is shown");
}

/// All that comes until the other side ends the connection.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("the connection is ended, not reset");
    heard
}

/// The first message of TLS 1.1 and older, as their clients send it.
fn hello_of(version: u8) -> Vec<u8> {
    let mut hello = vec![3, version];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let message = [&[1, 0, 0, hello.len() as u8], hello.as_slice()].concat();
    [&[0x16, 3, 1, 0, message.len() as u8], message.as_slice()].concat()
}

#[test]
fn who_does_not_speak_it_or_an_old_one_is_told_so() {
    let files = Files::make();
    let site = Site::start(files.settings());
    let mut http = tcp(site.http);
    http.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it can be sent");
    let told = String::from_utf8(rest(&mut http)).expect("text");
    assert!(told.starts_with("HTTP/1.1 400 Bad Request\r\n") && told.contains("urn:larder:problem:tls-required"), "{told}");
    let mut resp = tcp(site.resp);
    resp.write_all(b"*1\r\n$4\r\nPING\r\n").expect("it can be sent");
    let told = String::from_utf8(rest(&mut resp)).expect("text");
    assert!(told.starts_with("-ERR TLS is spoken here") && told.ends_with("\r\n"), "{told}");
    for addr in [site.http, site.resp] {
        for version in [1, 2] {
            let mut stream = tcp(addr);
            stream.write_all(&hello_of(version)).expect("it can be sent");
            let told = rest(&mut stream);
            // An alert, fatal: protocol_version, or handshake_failure where that is found first.
            let is_refused = told.len() == 7 && told[0] == 0x15 && [[2, 70], [2, 40]].iter().any(|alert| told[5..] == *alert);
            assert!(is_refused, "{told:?} to TLS 1.{}", version - 1);
        }
        // Nothing at all, and an end.
        let mut stream = tcp(addr);
        stream.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(rest(&mut stream), b"");
    }
    let mut well = Client::connect(site.resp, files.client(None)).expect("others are served");
    assert_eq!(well.ask(PING, PONG).expect("it answers"), PONG);
}

#[test]
fn only_the_newest_version_can_be_asked_for() {
    let files = Files::make();
    let site = Site::start(TlsSettings { only_1_3: true, ..files.settings() });
    for addr in [site.http, site.resp] {
        assert!(Client::connect(addr, files.client_of(&[&TLS13], None)).is_ok());
        assert!(Client::connect(addr, files.client_of(&[&TLS12], None)).is_err());
    }
    let site = Site::start(files.settings());
    assert!([site.http, site.resp].iter().all(|addr| Client::connect(*addr, files.client_of(&[&TLS12], None)).is_ok()), "unless it is");
}

#[test]
fn clients_have_to_show_what_is_asked_for() {
    let files = Files::make();
    let clients = ClientCertificates::Required(files.path("ca"));
    let site = Site::start(TlsSettings { clients, ..files.settings() });
    let (own, stranger) = (files.authority.client(&["dns:feed.example"]), Authority::new().client(&["dns:feed.example"]));
    let well = |shown| {
        let http = Client::request(site.http, files.client(shown), "GET /livez").is_ok_and(|told| told.starts_with("HTTP/1.1 200"));
        let resp = Client::connect(site.resp, files.client(shown)).and_then(|mut client| client.ask(PING, PONG)).is_ok();
        (http, resp)
    };
    assert_eq!([well(Some(&own)), well(Some(&stranger)), well(None)], [(true, true), (false, false), (false, false)]);
    // With a certificate for servers nobody is a client.
    assert_eq!(well(Some(&files.authority.server())), (false, false));
}

#[test]
fn a_certificate_says_who_somebody_is() {
    let files = Files::make();
    let optional = TlsSettings { clients: ClientCertificates::Optional(files.path("ca")), ..files.settings() };
    let reader = Configured {
        name: "feed".to_owned(),
        roles: vec!["client".to_owned()],
        grants: Vec::new(),
        token: None,
        password: None,
        certificates: vec![PeerName::Uri("spiffe://example.org/feed".to_owned())],
    };
    let access = AccessSettings { enabled: true, principals: vec![reader], ..AccessSettings::default() };
    let site = Site::start_behind(optional, Door::of(access, Clock::system()).expect("it is well"));
    let status = |own: Option<&Signed>, request: &str| {
        let answer = Client::request(site.http, files.client(own), request).expect("it is answered");
        answer.split(' ').nth(1).map(str::to_owned)
    };
    let feed = files.authority.client(&["uri:spiffe://example.org/feed"]);
    let other = files.authority.client(&["dns:feed", "email:spiffe@example.org"]);
    assert_eq!(status(Some(&feed), "GET /v1/keys").as_deref(), Some("200"));
    assert_eq!(status(Some(&feed), "DELETE /v1/entries/a:b").as_deref(), Some("403"), "it may read alone");
    for nobody in [None, Some(&other)] {
        assert_eq!(status(nobody, "GET /v1/keys").as_deref(), Some("401"));
    }
    let forged = "GET /v1/keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ldr_x\r\nconnection: close\r\n\r\n";
    assert_eq!(status(Some(&feed), forged).as_deref(), Some("401"), "a wrong token is not made good by a certificate");
    let ask = |own: Option<&Signed>, words: &str| {
        let mut client = Client::connect(site.resp, files.client(own)).expect("it is taken");
        String::from_utf8(client.ask(words.as_bytes(), b"\r\n").expect("it is answered")).expect("text")
    };
    assert_eq!(ask(Some(&feed), "GET a:b\r\n"), "$-1\r\n");
    assert!(ask(Some(&feed), "SET a:b c\r\n").starts_with("-NOPERM"));
    assert!(ask(Some(&other), "GET a:b\r\n").starts_with("-NOAUTH"));
    let mut client = Client::connect(site.resp, files.client(Some(&feed))).expect("it is taken");
    assert_eq!(client.ask(b"RESET\r\nACL WHOAMI\r\n", b"feed\r\n").expect("it is answered"), b"+RESET\r\n$4\r\nfeed\r\n");
}

#[test]
fn slow_handshakes_delay_nobody_and_end() {
    let files = Files::make();
    let limits = HttpLimits { connections_max: 4, ..HttpLimits::default() };
    let settings = TlsSettings { handshake_timeout: Duration::from_millis(300), ..files.settings() };
    let site = Site::start_with(settings, Larder::builder(), limits);
    for addr in [site.http, site.resp] {
        let began = Instant::now();
        // One place is left; others say nothing, or half of what they should.
        let mut slow: Vec<TcpStream> = (0..3).map(|_| tcp(addr)).collect();
        for (number, stream) in slow.iter_mut().enumerate() {
            stream.write_all(&hello_of(3)[..number * 20]).expect("it can be sent");
        }
        let others = Client::connect(addr, files.client(None));
        assert!(others.is_ok() && began.elapsed() < PATIENCE / 2, "they do not wait for it");
        for stream in &mut slow {
            // Cut off: nothing was said that could be answered.
            let mut heard = Vec::new();
            let ended = stream.read_to_end(&mut heard);
            assert!(ended.is_ok_and(|_| heard.is_empty()), "{heard:?}");
        }
        // Places of those who do not get on with it are free again, though there are more of them than places.
        let crowd: Vec<TcpStream> = (0..8).map(|_| tcp(addr)).collect();
        drop(others);
        assert!(Client::connect(addr, files.client(None)).is_ok(), "its turn comes");
        drop(crowd);
    }
}

#[test]
fn a_certificate_that_runs_out_is_told_three_weeks_before() {
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let clock = Clock::manual();
    let begins = SystemTime::UNIX_EPOCH + Duration::from_millis(clock.now_ms());
    let files = Files::make();
    files.write(&files.authority.sign(For::Server, &["dns:localhost"], begins + days(30)));
    let site = Site::start_with(files.settings(), Larder::builder().clock(clock.clone()), HttpLimits::default());
    // A client whose clock is right would not take it any more.
    let trusting = files.client(None);
    let mut trusting = (*trusting).clone();
    trusting.time_provider = std::sync::Arc::new(Then(begins));
    let health = || Client::request(site.http, trusting.clone().into(), "GET /health").expect("it is answered");
    let says = |status: &str, words: &str| {
        let found = || {
            let told = health();
            let told: Value = told.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).expect("JSON");
            let own = &told["checks"]["certificates:timeLeft"][0];
            own["status"] == status && own["output"].as_str().unwrap_or_default().contains(words)
        };
        assert!(wait::until(PATIENCE, found), "{status}, {words}: {}", health());
    };
    says("pass", "");
    clock.advance(days(8));
    says("pass", "");
    clock.advance(days(2));
    says("warn", "the certificate tls.certificate runs out in 20 days");
    clock.advance(days(21));
    says("fail", "the certificate tls.certificate ran out on ");
}

/// A clock that stands.
#[derive(Debug)]
struct Then(SystemTime);

impl rustls::time_provider::TimeProvider for Then {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        self.0.duration_since(SystemTime::UNIX_EPOCH).ok().map(rustls::pki_types::UnixTime::since_unix_epoch)
    }
}
