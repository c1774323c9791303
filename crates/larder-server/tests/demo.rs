//! The demo as a user runs it: the real program, over the real cache.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use larder_testkit::redis::{Server as Redis, ServerOptions, or_skip};
use larder_testkit::wait;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_larder"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder.path())
        .output()
        .expect("the program was built for this test");
    let left = std::fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(left, 0, "the demo removes its folder");
    output
}

#[test]
fn it_checks_reads_and_finds_none_stale() {
    let output = demo(&["--seconds", "2", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object and nothing else");
    assert_eq!(json["stale_reads"], 0);
    assert_eq!(json["wrong_values"], 0);
    for field in ["reads_checked", "hit_rate", "invalidations", "entries_made_stale", "loads", "loads_avoided", "p50_us", "p99_us"] {
        assert!(json[field].as_f64().is_some_and(|figure| figure > 0.0), "{field} in {json}");
    }
    assert!(json.get("compared").is_none());
}

#[test]
fn several_servers_are_checked_and_what_they_put_into_redis_is_removed() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    for address in [&redis.url(), "spawn"] {
        let output = demo(&["--redis", address, "--seconds", "2", "--instances", "3", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object and nothing else");
        assert_eq!((&json["stale_reads"], &json["wrong_values"], &json["instances"]), (&0.into(), &0.into(), &3.into()), "{json}");
        let positive =
            ["reads_checked", "cross_instance_reads_checked", "changes_settled", "propagation_p50_us", "propagation_p99_us", "hit_rate"];
        for field in positive {
            assert!(json[field].as_f64().is_some_and(|figure| figure > 0.0), "{field} in {json}");
        }
        let (all, elsewhere) = (json["reads_checked"].as_u64(), json["cross_instance_reads_checked"].as_u64());
        assert!(elsewhere < all, "{json}");
    }
    assert_eq!(redis.command(&["DBSIZE"]).expect("an answer").number(), Some(0));
}

/// A demo over Redis that runs for long, where its servers are, and what it says: a demo that nobody listens to ends by itself.
fn long_demo(redis: &Redis) -> (Child, Vec<SocketAddr>, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["demo", "--redis", &redis.url(), "--seconds", "600"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = command.spawn().expect("the program was built for this test");
    let mut said = BufReader::new(demo.stdout.take().expect("it is piped"));
    let mut servers = Vec::new();
    for line in said.by_ref().lines().map(|line| line.expect("text")) {
        if let Some(url) = line.strip_prefix("  curl -i http://") {
            servers.push(url.split('/').next().and_then(|addr| addr.parse().ok()).expect("an address"));
        } else if line.starts_with("  larder stats") {
            break;
        }
    }
    assert_eq!(servers.len(), 3);
    (demo, servers, said)
}

fn are_gone(servers: &[SocketAddr]) -> bool {
    servers.iter().all(|server| TcpStream::connect(server).is_err())
}

#[test]
fn servers_end_with_the_demo_however_it_ends() {
    let Some(redis) = or_skip(Redis::start(ServerOptions::default())) else { return };
    let (mut demo, servers, _said) = long_demo(&redis);
    let told = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("there is a kill");
    assert!(told.success());
    assert_eq!(demo.wait().expect("it is a child").code(), Some(130));
    assert!(are_gone(&servers), "they ended before it did");
    assert_eq!(redis.command(&["DBSIZE"]).expect("an answer").number(), Some(0), "and left nothing behind");

    let (mut demo, servers, _said) = long_demo(&redis);
    demo.kill().expect("it runs");
    demo.wait().expect("it is a child");
    assert!(wait::until(PATIENCE, || are_gone(&servers)), "killed, it cannot end them; they end by themselves");
}

#[test]
fn it_explains_itself_and_shows_what_the_others_serve() {
    let output = demo(&["--seconds", "1", "--compare", "--bars-per-second", "1000"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for part in ["The promise", "STALE READS", "Zero of", "on TTL only:", "on delete on update:", "Next:"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}
