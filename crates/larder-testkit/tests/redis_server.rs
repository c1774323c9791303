//! A Redis server of the test kit lives, stands still, dies and comes back as the test says.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use larder_testkit::proxy::Proxy;
use larder_testkit::redis::{AppendOnly, Certificates, CommandError, Connection, Server, ServerOptions, Tls, or_skip};
use larder_testkit::wait;

const SOON: Duration = Duration::from_secs(10);

/// Long enough for an answer that comes at all.
const A_WHILE: Duration = Duration::from_millis(60);

fn set(server: &Server, value: &str) {
    assert_eq!(server.command(&["SET", "key", value]).expect("an answer").text(), "OK");
}

/// The value of the key; empty if there is none.
fn get(server: &Server) -> String {
    server.command(&["GET", "key"]).expect("an answer").text()
}

/// Whether it fails for want of an answer in time.
fn is_late(error: &CommandError) -> bool {
    matches!(error, CommandError::Unanswered(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_killed_server_comes_back_with_what_its_file_has() {
    let options = ServerOptions { append_only: AppendOnly::Always, ..ServerOptions::default() };
    let Some(server) = or_skip(Server::start(options)) else { return };
    let port = server.port();
    set(&server, "kept");
    server.kill();
    assert!(!server.is_running());
    let error = server.command(&["PING"]).expect_err("it is dead");
    assert!(matches!(&error, CommandError::Unanswered(error) if error.kind() == ErrorKind::ConnectionRefused), "{error}");
    server.restart(true);
    assert_eq!((get(&server).as_str(), server.port()), ("kept", port));
    server.restart(false);
    assert_eq!(get(&server), "");
    assert!(server.is_running());
}

#[test]
fn without_a_file_a_kill_loses_everything_and_a_shutdown_nothing() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    set(&server, "lost");
    server.restart(true);
    assert_eq!(get(&server), "");
    set(&server, "kept");
    server.shutdown();
    assert!(!server.is_running());
    server.restart(true);
    assert_eq!(get(&server), "kept");
}

#[test]
fn a_paused_server_answers_late() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let mut kept = server.connect(SOON).expect("a connection");
    for _ in 0..3 {
        server.pause();
        server.pause();
        assert!(server.is_running());
        // The kernel accepts the connection in its place.
        assert!(is_late(&server.command_within(A_WHILE, &["PING"]).expect_err("nobody answers")));
        kept.send(&["INCR", "key"]).expect("there is room in the buffers");
        server.resume();
        kept.receive().expect("it works on what it was sent meanwhile");
    }
    assert_eq!(get(&server), "3");
}

#[test]
fn a_paused_server_can_be_killed() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    server.pause();
    server.restart(true);
    assert_eq!(server.command(&["PING"]).expect("an answer").text(), "PONG");
    server.pause();
    // And dropped.
}

#[test]
fn a_replica_has_what_its_master_has_and_takes_no_writes() {
    let Some(master) = or_skip(Server::start(ServerOptions::default())) else { return };
    let options = ServerOptions { replica_of: Some(master.port()), ..ServerOptions::default() };
    let replica = Server::start(options).expect("a replica");
    set(&master, "copied");
    assert!(wait::until(SOON, || replica.info("master_link_status").as_deref() == Some("up")));
    assert!(wait::until(SOON, || get(&replica) == "copied"));
    let error = replica.command(&["SET", "key", "other"]).expect_err("it is a replica");
    assert!(matches!(&error, CommandError::Refused(text) if text.starts_with("READONLY")), "{error}");
}

#[test]
fn a_full_server_refuses_or_evicts_as_it_was_told() {
    // What is there when nothing is there, and 4 MB.
    let limit = Some((6 << 20, "noeviction"));
    let Some(server) = or_skip(Server::start(ServerOptions { max_memory: limit, ..ServerOptions::default() })) else { return };
    let value = "x".repeat(100_000);
    let fill = || (0..100).try_for_each(|key| server.command(&["SET", &format!("{key}"), &value]).map(drop));
    let error = fill().expect_err("it is full");
    assert!(matches!(&error, CommandError::Refused(text) if text.starts_with("OOM")), "{error}");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).expect("it can be told anew");
    fill().expect("there is room for each");
    let evicted = server.info("evicted_keys").and_then(|keys| keys.parse::<u64>().ok());
    assert!(evicted > Some(0), "{evicted:?}");
}

#[test]
fn passwords_and_users_bind_others_and_not_the_fixture() {
    let options = ServerOptions {
        password: Some("secret".to_owned()),
        users: vec!["reader on >word ~cache:* &* -@all +get".to_owned()],
        ..ServerOptions::default()
    };
    let Some(server) = or_skip(Server::start(options)) else { return };
    assert_eq!(server.url(), format!("redis://:secret@127.0.0.1:{}", server.port()));
    set(&server, "by the fixture");
    let mut stranger = Connection::open(server.address(), SOON).expect("a connection");
    let refusals = [
        (stranger.command(&["GET", "key"]), "NOAUTH"),
        (stranger.command(&["AUTH", "wrong"]), "WRONGPASS"),
        (stranger.command(&["AUTH", "secret"]).and_then(|_| stranger.command(&["NONSENSE"])), "ERR"),
        (stranger.command(&["AUTH", "reader", "word"]).and_then(|_| stranger.command(&["GET", "key"])), "NOPERM"),
    ];
    for (refused, why) in refusals {
        let error = refused.expect_err(why);
        assert!(matches!(&error, CommandError::Refused(text) if text.starts_with(why)), "{error}, not {why}");
    }
    assert_eq!(stranger.command(&["GET", "cache:1"]).expect("this it may").text(), "");
    server.command(&["ACL", "SETUSER", "default", "off"]).expect("it can be told anew");
    server.command(&["ACL", "DELUSER", "reader"]).expect("it can be told anew");
    server.restart(true);
    assert_eq!(server.command(&["PING"]).expect("an answer").text(), "PONG");
}

#[test]
fn directives_have_the_last_word() {
    let options = ServerOptions {
        append_only: AppendOnly::EverySecond,
        directives: vec!["appendfsync no".to_owned(), "databases 3".to_owned()],
        ..ServerOptions::default()
    };
    let Some(server) = or_skip(Server::start(options)) else { return };
    for (name, value) in [("appendfsync", "no"), ("appendonly", "yes"), ("databases", "3")] {
        let config = server.command(&["CONFIG", "GET", name]).expect("an answer");
        assert_eq!(config.field(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let options = ServerOptions { directives: vec!["no-such-directive 1".to_owned()], ..ServerOptions::default() };
    if or_skip(Server::start(ServerOptions::default())).is_none() {
        return;
    }
    let error = Server::start(options).expect_err("it knows no such directive").to_string();
    assert!(error.contains("no-such-directive") && error.contains("ended by itself"), "{error}");
}

/// A test that panics drops its fixtures; one whose process is killed, as a runner does after a time-out, drops nothing.
#[test]
fn a_server_ends_with_the_test_that_is_killed() {
    const ROLE: &str = "LARDER_TEST_CHILD";
    const MARK: &str = "@@ ";
    if std::env::var_os(ROLE).is_some() {
        // From a thread that ends at once, which must not matter.
        let started = std::thread::spawn(|| Server::start(ServerOptions::default())).join().expect("no panic");
        let Some(server) = or_skip(started) else { return };
        assert!(server.is_running());
        println!("\n{MARK}{}", server.port());
        loop {
            std::thread::park();
        }
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no setpriv, so a server outlives a test that is killed");
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("a running binary has a path"))
        .args(["a_server_ends_with_the_test_that_is_killed", "--exact", "--nocapture"])
        .env(ROLE, "")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines().map_while(Result::ok);
    // The child ends without a word where there is no Redis.
    let port = lines.into_iter().find_map(|line| line.strip_prefix(MARK)?.parse().ok());
    let connect = |port: u16| Connection::open((Ipv4Addr::LOCALHOST, port).into(), SOON);
    let is_reached = port.map(|port| connect(port).is_ok());
    child.kill().expect("a child can be killed");
    child.wait().expect("a killed child ends");
    if let Some(port) = port {
        assert_eq!(is_reached, Some(true));
        assert!(wait::until(SOON, || connect(port).is_err()), "the server on port {port} outlives its test");
    }
}

/// Asks a server by the program that comes with it, since our own client speaks neither.
fn redis_cli(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("redis-cli").args(arguments).arg("PING").output();
    // It comes with the server nearly everywhere.
    output.inspect_err(|error| eprintln!("SKIPPED in part: no redis-cli: {error}")).ok()
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("temporary folders have plain names")
}

#[test]
fn a_unix_socket_is_answered_on() {
    let Some(server) = or_skip(Server::start(ServerOptions { unix_socket: true, ..ServerOptions::default() })) else { return };
    let socket = text(server.unix_socket().expect("it was asked for"));
    let Some(output) = redis_cli(&["-s", &socket]) else { return };
    assert_eq!(output.stdout, b"PONG\n", "{output:?}");
}

#[test]
fn tls_is_answered_for_those_who_trust_it_and_whom_it_trusts() {
    let Some(certificates) = or_skip(Certificates::make()) else { return };
    let tls = Tls { certificates: Arc::new(certificates), demands_client_certificate: true };
    let Some(server) = or_skip(Server::start(ServerOptions { tls: Some(tls.clone()), ..ServerOptions::default() })) else { return };
    let others = Certificates::make().expect("they were made before");
    let port = server.tls_port().expect("it was asked for").to_string();
    let ask = |authority: &Certificates, client: Option<&Certificates>| {
        let mut arguments = vec!["-p".to_owned(), port.clone(), "--tls".to_owned(), "--cacert".to_owned(), text(authority.authority())];
        if let Some(client) = client {
            arguments.extend(["--cert".to_owned(), text(client.client_certificate()), "--key".to_owned(), text(client.client_key())]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        redis_cli(&arguments).map(|output| output.stdout == b"PONG\n")
    };
    let own = &tls.certificates;
    let Some(is_answered) = ask(own, Some(own)) else { return };
    assert!(is_answered);
    assert_eq!(ask(&others, Some(own)), Some(false), "a client must not trust another authority");
    assert_eq!(ask(own, None), Some(false), "the server demands a certificate");
    assert_eq!(ask(own, Some(&others)), Some(false), "the server must not trust another authority");
    server.restart(true);
    assert_eq!(ask(own, Some(own)), Some(true));
}

/// The two fixtures together: an append whose reply is lost was done, one that was lost was not.
#[test]
fn behind_a_proxy_an_append_without_a_reply_is_there() {
    let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
    let proxy = Proxy::start(server.address()).expect("a proxy");
    let append = |value: &str| {
        let mut connection = Connection::open(proxy.address(), SOON)?;
        connection.command(&["XADD", "log", "*", "value", value])
    };
    append("one").expect("an answer");
    proxy.lose_reply_to(b"two");
    assert!(matches!(append("two"), Err(CommandError::Unanswered(_))));
    proxy.lose_request(b"three");
    assert!(matches!(append("three"), Err(CommandError::Unanswered(_))));
    assert!(wait::until(SOON, || server.command(&["XLEN", "log"]).expect("an answer").number() == Some(2)));
    server.kill();
    assert!(matches!(append("four"), Err(CommandError::Unanswered(_))));
    server.restart(true);
    append("five").expect("the proxy finds it again");
}
