//! The clients that people use, each through what an application does with it. They are run from their own packages, which
//! `cargo xtask setup` puts into `target/clients`; where one is not to be had its test says so and skips.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use larder_server::access::allowance::Allowances;
use larder_testkit::process::{Running, find};
use larder_testkit::redis::{Server, ServerOptions, or_skip};
use redis::{Commands, ConnectionLike};

use super::access::Guarded;
use super::program::Larder;

/// How long a client may take. They take a second or two.
const CLIENT_MAX: Duration = Duration::from_secs(120);

/// What is said where a client is missing.
fn skipped(what: &str) {
    let thread = std::thread::current();
    let text = format!("SKIPPED: {}: {what} is not here; `cargo xtask setup` brings it\n", thread.name().unwrap_or("a test"));
    // Past the test harness, which shows what is printed only if the test fails.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Where `cargo xtask setup` puts the clients of a language, once it has put all of them there.
fn installed(language: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients").join(language);
    folder.join("installed").is_file().then_some(folder)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resp/clients").join(name)
}

/// Runs a client to its end, and returns what it said.
fn run(mut command: Command, input: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let log = folder.path().join("log");
    let said = File::create(&log).expect("temporary files can be written");
    if let Some(input) = input {
        // What it is to read comes from a shell, since a child of the fixtures has no input of its own.
        let file = folder.path().join("input");
        std::fs::write(&file, input).expect("temporary files can be written");
        let mut with_input = Command::new("sh");
        with_input.args(["-c", "exec \"$@\" < \"$INPUT\"", "sh"]).arg(command.get_program()).args(command.get_args()).env("INPUT", &file);
        command = with_input;
    }
    let mut running = Running::start(&command, &said).expect("the client was found");
    let ended = running.wait(CLIENT_MAX);
    let told = std::fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    assert!(ended, "{command:?} does not end; it said:\n{told}");
    told
}

/// Runs a scenario, which says at the end how much it has checked.
fn scenario(command: Command) {
    let told = run(command, None);
    let checks = told.lines().last().and_then(|line| line.split_once(" checks")).and_then(|(count, _)| count.parse::<u32>().ok());
    assert!(checks.is_some_and(|checks| checks > 10), "{told}");
    println!("{}", told.trim_end());
}

fn redis_py(addr: SocketAddr, kinds: &[&str]) {
    let Some(folder) = installed("python") else { return skipped("redis-py") };
    for kind in kinds {
        let mut command = Command::new(folder.join("bin/python"));
        command.arg(script("redis_py.py")).arg(addr.port().to_string()).args(kind.split(' '));
        scenario(command);
    }
}

#[test]
fn redis_py_says_who_it_is() {
    let Some(folder) = installed("python") else { return skipped("redis-py") };
    let guarded = Guarded::start(Allowances::default());
    guarded.put("ada", &[], &["allow read, write, delete on own:**"]);
    let token = guarded.token("ada", None);
    let mut command = Command::new(folder.join("bin/python"));
    command.arg(script("redis_py_access.py")).args([&guarded.addr.port().to_string(), "ada"]).env("LARDER_TOKEN", token.reveal());
    scenario(command);
}

fn nodes(addr: SocketAddr, kinds: &[&str]) {
    let (Some(node), Some(folder)) = (find("node"), installed("node")) else { return skipped("ioredis or node-redis") };
    for kind in kinds {
        let mut command = Command::new(&node);
        command.arg(script("nodes.js")).arg(addr.port().to_string()).arg(kind).env("NODE_PATH", folder.join("node_modules"));
        scenario(command);
    }
}

fn redis_crate(addr: SocketAddr, protocol: &str) {
    let client = redis::Client::open(format!("redis://{addr}/?protocol={protocol}")).expect("a URL");
    let mut connection = client.get_connection_with_timeout(CLIENT_MAX).expect("it listens");
    let mut other = client.get_connection_with_timeout(CLIENT_MAX).expect("it listens");
    redis::cmd("FLUSHALL").exec(&mut connection).expect("it empties itself");
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let () = connection.set(&every, &every).expect("a set");
    assert_eq!(connection.get::<_, Vec<u8>>(&every).expect("a get"), every);
    assert_eq!(connection.get::<_, Option<String>>("absent").expect("a get"), None);
    let () = connection.set_ex("brief", "v", 100).expect("a set with a time");
    assert!((98..=100).contains(&connection.ttl::<_, i64>("brief").expect("a time to live")));
    assert!(connection.persist::<_, bool>("brief").expect("a persist"));
    assert_eq!(connection.incr::<_, _, i64>("n", 42).expect("an increment"), 42);
    let error = connection.incr::<_, _, i64>("brief", 1).expect_err("it is a text");
    assert_eq!(error.detail(), Some("value is not an integer or out of range"));

    let mut pipe = redis::pipe();
    for i in 0..1000 {
        pipe.set(format!("p:{i}"), i).ignore();
    }
    let () = pipe.query(&mut connection).expect("a pipeline");
    let mut keys: Vec<String> = connection.scan_match("p:*").expect("a scan").map(|key| key.expect("a page")).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1000);

    let (n, same): (i64, i64) = redis::pipe().atomic().incr("n", 1).get("n").query(&mut connection).expect("a transaction");
    assert_eq!((n, same), (43, 43));
    let mut attempts = 0;
    let done: (i64,) = redis::transaction(&mut connection, &["n"], |connection, pipe| {
        attempts += 1;
        let n: i64 = connection.get("n")?;
        if attempts == 1 {
            let () = other.set("n", 7)?;
        }
        pipe.set("n", n + 1).ignore().get("n").query(connection)
    })
    .expect("a transaction over what is watched");
    assert_eq!((attempts, done), (2, (8,)), "the first attempt was over what was changed");

    if protocol == "resp2" {
        let mut subscription = other.as_pubsub();
        subscription.subscribe(&["news", "other"]).expect("a subscription");
        subscription.psubscribe("x*").expect("a subscription");
        subscription.unsubscribe("news").expect("the end of one");
    }
    assert!(connection.check_connection());
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut connection).expect("a count"), 1003);
}

/// What is typed into `redis-cli`, and what it prints.
const TYPED: [(&str, &str); 13] = [
    ("flushall", "OK"),
    (r#"set k "a \x00\r\n b""#, "OK"),
    ("get k", r#""a \x00\r\n b""#),
    ("get absent", "(nil)"),
    ("incr n", "(integer) 1"),
    ("mget n absent", "1) \"1\"\n2) (nil)"),
    ("set k", "(error) ERR wrong number of arguments for 'set' command"),
    ("nosuch a", "(error) ERR unknown command 'nosuch', with args beginning with: 'a' "),
    ("multi", "OK"),
    ("incr n", "QUEUED"),
    ("exec", "1) (integer) 2"),
    ("setex t 100 v", "OK"),
    ("ttl absent", "(integer) -2"),
];

fn redis_cli(addr: SocketAddr) {
    let Some(program) = find("redis-cli") else { return skipped("redis-cli") };
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["-p", &addr.port().to_string(), "--no-raw"]).args(arguments);
        command
    };
    for protocol in ["-2", "-3"] {
        let typed: String = TYPED.iter().map(|(typed, _)| format!("{typed}\n")).collect();
        let expected: String = TYPED.iter().map(|(_, printed)| format!("{printed}\n")).collect();
        let printed = run(cli(&[protocol]), Some(&typed));
        // An error is followed by a line of nothing.
        let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&printed), lines(&expected), "redis-cli {protocol}");
    }
    let mut scanned: Vec<String> = run(cli(&["--scan"]), None).lines().map(str::to_owned).collect();
    scanned.sort();
    assert_eq!(scanned, ["\"k\"", "\"n\"", "\"t\""]);
    assert_eq!(run(cli(&["-x", "set", "from-input"]), Some("all of it")).trim(), "OK");
    assert_eq!(run(cli(&["get", "from-input"]), None).trim(), "\"all of it\"");
}

fn redis_benchmark(addr: SocketAddr) {
    let Some(program) = find("redis-benchmark") else { return skipped("redis-benchmark") };
    for pipeline in ["1", "16"] {
        let mut command = Command::new(&program);
        command.args(["-p", &addr.port().to_string(), "-n", "2000", "-c", "10", "-r", "100", "-P", pipeline, "--csv"]);
        command.args(["-t", "ping_inline,ping_mbulk,set,get,incr,mset"]);
        let printed = run(command, None);
        let rates = printed.lines().filter_map(|line| line.split("\",\"").nth(1)).filter_map(|rate| rate.parse::<f64>().ok());
        assert_eq!(rates.filter(|rate| *rate > 0.0).count(), 6, "{printed}");
    }
}

/// larder as it starts when nothing is said about it: with its miss leases.
fn larder() -> Larder {
    Larder::start("", "")
}

#[test]
fn redis_py_works() {
    let larder = larder();
    redis_py(larder.addr(), &["2 blocking events", "3 blocking events cache", "2 asyncio events", "3 asyncio events"]);
}

#[test]
fn ioredis_and_node_redis_work() {
    let larder = larder();
    nodes(larder.addr(), &["ioredis", "redis2", "redis3"]);
}

#[test]
fn the_redis_crate_works() {
    let larder = larder();
    redis_crate(larder.addr(), "resp2");
    redis_crate(larder.addr(), "resp3");
}

#[test]
fn redis_cli_works() {
    let larder = larder();
    redis_cli(larder.addr());
}

#[test]
fn redis_benchmark_works() {
    let larder = larder();
    redis_benchmark(larder.addr());
}

/// What fails here asks too much, or something wrong.
#[test]
fn redis_itself_passes_all_of_it() {
    let directives = vec!["notify-keyspace-events KEA".to_owned()];
    let Some(redis) = or_skip(Server::start(ServerOptions { directives, ..ServerOptions::default() })) else { return };
    let addr = redis.address();
    redis_cli(addr);
    redis_benchmark(addr);
    redis_crate(addr, "resp2");
    redis_crate(addr, "resp3");
    // Its cache is for Redis 7.4 and later, it says.
    redis_py(addr, &["2 blocking events", "3 asyncio events"]);
    nodes(addr, &["ioredis", "redis2", "redis3"]);
}
