//! The audit log of the program as it runs: what is in it, killed in the middle, and on a disk that is full.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use larder_testkit::port::Port;
use larder_testkit::process::Killed;
use larder_testkit::{program, wait};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::site::{PATIENCE, tcp};

/// The program with an audit log, in a process of its own.
struct Larder {
    process: Killed,
    http: SocketAddr,
    resp: SocketAddr,
    folder: TempDir,
    _ports: [Port; 2],
}

impl Larder {
    /// With these lines in `[audit]`; what is written beside goes nowhere, so that a full disk is the audit log's alone.
    fn start(audit: &str, through: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let ports = [Port::reserve().expect("a free port"), Port::reserve().expect("a free port")];
        let [http, resp] = [&ports[0], &ports[1]].map(|port| SocketAddr::from(([127, 0, 0, 1], port.number())));
        let log = folder.path().join("audit");
        let text = format!(
            "[http]\nlisten = \"{http}\"\n[resp]\nlisten = \"{resp}\"\n[history]\nenabled = false\n[health]\nprobe_every = \"100ms\"\n\
             [audit]\nlevel = \"changes\"\nfolder = \"{}\"\n{audit}\n",
            log.display()
        );
        let config = folder.path().join("larder.toml");
        fs::write(&config, text).expect("it can be written");
        let program = [through, &[env!("CARGO_BIN_EXE_larder"), "serve", "--config", config.to_str().expect("text")]].concat();
        let mut larder = Larder { process: spawn(&program), http, resp, folder, _ports: ports };
        let listens = wait::until(PATIENCE, || larder.has_ended() || TcpStream::connect(http).is_ok());
        assert!(listens && !larder.has_ended(), "it listens");
        larder
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// Asks over HTTP, and returns status and body.
    fn ask(&self, request: &str) -> (u16, String) {
        ask(self.http, request).expect("it answers")
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is a child");
    }
}

fn spawn(words: &[&str]) -> Killed {
    let mut command = program::command(words[0], &words[1..]);
    Killed::start(command.env("LARDER_LOG", "off").stdout(Stdio::null())).expect("it can be started")
}

fn ask(addr: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, more) = head.split_once('\n').unwrap_or((head, ""));
    let host = if more.contains("host:") { "" } else { "host: localhost\r\n" };
    let more: String = more.lines().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{line} HTTP/1.1\r\n{host}{more}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

fn audit(log: &Path, arguments: &[&str]) -> Output {
    let mut command = program::command(env!("CARGO_BIN_EXE_larder"), &["audit", arguments[0], "--folder"]);
    command.arg(log).args(&arguments[1..]).output().expect("it was built for this test")
}

/// The records that a search finds.
fn found(log: &Path, arguments: &[&str]) -> Vec<Value> {
    let told = audit(log, &[&["search", "--json"], arguments].concat());
    let lines = String::from_utf8(told.stdout).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn verified(log: &Path) -> Value {
    let told = audit(log, &["verify", "--json"]);
    let report: Value = serde_json::from_slice(&told.stdout).expect("one object");
    assert_eq!(told.status.code() == Some(0), report["ok"] == true, "{report}");
    report
}

#[test]
fn what_is_done_and_what_is_refused_is_in_it_at_both_doors() {
    let larder = Larder::start("", &[]);
    assert_eq!(larder.ask("PUT /v1/entries/features:AAPL\n\nS3CRET").0, 204);
    assert_eq!(larder.ask("DELETE /v1/entries/features:AAPL").0, 204);
    let json = "content-type: application/json";
    let (status, receipt) =
        larder.ask(&format!("POST /v1/invalidations\n{json}\n\n{{\"tags\": [\"symbol:AAPL\"], \"patterns\": [\"f:*\"]}}"));
    let receipt: Value = serde_json::from_str(&receipt).expect("a receipt");
    assert_eq!((status, larder.ask(&format!("POST /v1/invalidations\n{json}\n\n{{\"tags\": []}}")).0), (200, 400));
    let event = r#"{"specversion":"1.0","id":"7","source":"feed","type":"market_data_update","data":{"symbol":"AAPL"}}"#;
    assert_eq!(larder.ask(&format!("POST /v1/events\ncontent-type: application/cloudevents+json\n\n{event}")).0, 200);
    assert_eq!(larder.ask("POST /v1/stats/reset").0, 200);
    assert_eq!(larder.ask("DELETE /v1/entries/k\nhost: evil.example").0, 421);
    assert_eq!(larder.ask("DELETE /v1/entries/k\norigin: https://evil.example").0, 403);
    let mut resp = tcp(larder.resp);
    resp.write_all(b"SET a S3CRET\r\nGET a\r\nDEL a b\r\nLARDER.INVALIDATE TAG t PATTERN p:*\r\nMULTI\r\nFLUSHALL\r\nAUTH evil S3CRET\r\nEXEC\r\nAUTH evil S3CRET\r\nCONFIG GET maxclients\r\nQUIT\r\n")
        .expect("it can be sent");
    let mut replies = String::new();
    resp.read_to_string(&mut replies).expect("it answers all");

    let log = larder.log();
    let all = found(&log, &[]);
    let told = |what: &str| all.iter().find(|record| record["what"] == what).unwrap_or_else(|| panic!("{what} in {all:#?}"));
    let removed = told("DELETE /v1/entries/{key}");
    assert_eq!(
        (&removed["who"], &removed["names"][0], &removed["result"]),
        (&"anonymous".into(), &"key:features:AAPL".into(), &"done".into())
    );
    assert!(removed["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")) && removed["position"].is_string(), "{removed}");
    let invalidated = told("POST /v1/invalidations");
    assert_eq!(invalidated["names"], serde_json::json!(["tag:symbol:AAPL", "pattern:f:*"]));
    assert_eq!(invalidated["position"], receipt["position"]);
    assert_eq!(told("POST /v1/events")["names"][0], "event:market_data_update of feed#7");
    assert_eq!(told("POST /v1/stats/reset")["class"], "admin");
    assert_eq!(told("del")["names"], serde_json::json!(["key:a", "key:b"]));
    assert_eq!(told("larder.invalidate")["names"], serde_json::json!(["tag:t", "pattern:p:*"]));
    assert!(
        told("larder.invalidate")["position"].is_string()
            && replies.contains(told("larder.invalidate")["position"].as_str().expect("text"))
    );
    assert_eq!((&told("flushall")["names"][0], &told("config|get")["class"]), (&"everything:".into(), &"admin".into()));
    assert!(all.iter().all(|record| record["class"] != "read" || record["decision"] == "denied"), "reads are not");
    let denied = found(&log, &["--denied"]);
    assert_eq!(denied.len(), 4, "{denied:#?}");
    assert_eq!(found(&log, &["--denied", "--what", "auth"]).len(), 2, "each once: {denied:#?}");
    assert_eq!(found(&log, &["--failed", "--what", "POST /v1/inv*"]).len(), 1);
    assert_eq!(found(&log, &["--name", "key:features:*", "--since", "1h"]).len(), 1);
    assert_eq!(audit(&log, &["search", "--until", "1h"]).status.code(), Some(1), "nothing was before");
    let shown = String::from_utf8(audit(&log, &["tail", "-n", "1"]).stdout).expect("text");
    assert!(shown.contains("config|get") && shown.lines().count() == 1, "{shown}");
    assert_eq!(verified(&log)["ok"], true);
    for file in fs::read_dir(&log).expect("it is there") {
        let text = fs::read_to_string(file.expect("it is there").path()).expect("text");
        assert!(!text.contains("S3CRET"), "values are never in it");
    }
}

#[test]
fn what_was_answered_is_in_it_after_a_kill() {
    let mut larder = Larder::start("durability = \"os\"", &[]);
    let (http, resp, log) = (larder.http, larder.resp, larder.log());
    let is_over = AtomicBool::new(false);
    // Before anything is asked: on a busy machine the other thread might ask all the time until the kill.
    let mut stream = tcp(resp);
    let (by_http, by_resp) = (AtomicU32::new(0), AtomicU32::new(0));
    let count = |answered: &AtomicU32| answered.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let asks = |n: u32| ask(http, &format!("DELETE /v1/entries/h:{n}")).is_ok_and(|(status, _)| status == 204);
            while !is_over.load(Ordering::SeqCst) && asks(count(&by_http)) {
                by_http.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            let mut reply = [0; 4];
            let mut asks = |n: u32| stream.write_all(format!("DEL r:{n}\r\n").as_bytes()).is_ok() && stream.read_exact(&mut reply).is_ok();
            while asks(count(&by_resp)) {
                by_resp.fetch_add(1, Ordering::SeqCst);
            }
        });
        let written = || fs::metadata(log.join("audit-00000001.jsonl")).map_or(0, |about| about.len());
        let both = || written() > 200 << 10 && count(&by_http) > 10 && count(&by_resp) > 10;
        let is_written = wait::until(PATIENCE, both);
        larder.kill();
        is_over.store(true, Ordering::SeqCst);
        assert!(is_written, "{} and {}", count(&by_http), count(&by_resp));
    });
    let config = larder.folder.path().join("larder.toml");
    let mut again = spawn(&[env!("CARGO_BIN_EXE_larder"), "serve", "--config", config.to_str().expect("text")]);
    let listens = wait::until(PATIENCE, || TcpStream::connect(http).is_ok());
    again.kill().expect("it runs");
    again.wait().expect("it is a child");
    assert!(listens, "it starts again");
    let report = verified(&log);
    assert_eq!(report["ok"], true, "{report}");
    for (door, answered) in [("h", count(&by_http)), ("r", count(&by_resp))] {
        let names: std::collections::HashSet<String> = found(&log, &["--name", &format!("key:{door}:*")])
            .iter()
            .map(|record| record["names"][0].as_str().expect("text").to_owned())
            .collect();
        let missing = (0..answered).find(|number| !names.contains(&format!("key:{door}:{number}")));
        assert_eq!(missing, None, "of {answered}");
    }
}

/// A limit on the size of files stands in for the disk. Its signal is ignored, so that writing fails as on a disk.
const ON_A_SMALL_DISK: [&str; 4] = ["sh", "-c", "trap '' XFSZ; ulimit -S -f 32; exec \"$@\"", "sh"];

/// There is room again.
fn make_room(larder: &Larder) {
    let pid = Pid::from_child(&larder.process);
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None }).expect("its own child's limits");
}

#[test]
fn a_full_disk_only_warns_where_that_is_wanted_and_what_is_lost_is_counted() {
    let larder = Larder::start("durability = \"os\"\non_failure = \"warn\"", &ON_A_SMALL_DISK);
    let health = || larder.ask("GET /health").1;
    let mut done = 0;
    let warns = || {
        done += 1;
        assert_eq!(larder.ask(&format!("DELETE /v1/entries/k:{done}")).0, 204, "it is done all the same");
        health().contains("what belongs into it is done without")
    };
    assert!(wait::until(PATIENCE, warns), "{}", health());
    assert!(larder.ask("GET /metrics").1.contains("\nlarder_audit_failing 1\n"));
    for _ in 0..20 {
        done += 1;
        assert_eq!(larder.ask(&format!("DELETE /v1/entries/k:{done}")).0, 204);
    }
    make_room(&larder);
    assert!(wait::until(PATIENCE, || health().contains("operations are not in the audit log")), "{}", health());
    let lost = || {
        let notes = verified(&larder.log())["notes"].to_string();
        let number = notes.split(" operations were carried out").next()?.rsplit(' ').next()?.parse::<usize>().ok();
        number.filter(|number| number + found(&larder.log(), &["--name", "key:k:*"]).len() == done)
    };
    let lost = wait::until_some(PATIENCE, lost).expect("what is recorded and what is counted is all");
    let metrics = larder.ask("GET /metrics").1;
    assert!(lost >= 20 && metrics.contains(&format!("\nlarder_audit_lost_total {lost}\n")), "{lost} of {done}: {metrics}");
}

#[test]
fn a_full_disk_refuses_what_cannot_be_recorded_until_there_is_room() {
    let larder = Larder::start("durability = \"os\"", &ON_A_SMALL_DISK);
    let log = larder.log();
    let mut answered = 0;
    let refused = wait::until_some(PATIENCE, || match larder.ask(&format!("DELETE /v1/entries/k:{answered}")) {
        (204, _) => {
            answered += 1;
            None
        }
        other => Some(other),
    });
    let (status, problem) = refused.expect("the disk is full");
    assert!(status == 503 && problem.contains("urn:larder:problem:unrecorded"), "{status} {problem}");
    assert!(answered > 10 && fs::metadata(log.join("audit-00000001.jsonl")).is_ok_and(|about| about.len() <= 32 << 10));
    assert_eq!(larder.ask("PUT /v1/entries/k\n\nv").0, 204, "what is not recorded is done");
    assert_eq!(larder.ask("GET /v1/entries/k").0, 200);
    let mut resp = tcp(larder.resp);
    resp.write_all(b"DEL k\r\nGET k\r\nQUIT\r\n").expect("it can be sent");
    let mut replies = String::new();
    resp.read_to_string(&mut replies).expect("it answers");
    assert!(replies.starts_with("-UNAVAILABLE the audit log cannot be written") && replies.ends_with("$1\r\nv\r\n+OK\r\n"), "{replies}");
    let health = || larder.ask("GET /health").1;
    assert!(wait::until(PATIENCE, || health().contains("what belongs into it is refused")), "{}", health());
    make_room(&larder);
    assert!(wait::until(PATIENCE, || larder.ask("DELETE /v1/entries/last").0 == 204), "it goes on by itself");
    assert!(wait::until(PATIENCE, || !health().contains("is refused")), "{}", health());
    let report = verified(&log);
    assert_eq!(report["ok"], true, "{report}");
    let names: Vec<Value> = found(&log, &["--name", "key:k:*"]).iter().map(|record| record["names"][0].clone()).collect();
    assert!((0..answered).all(|number| names.contains(&format!("key:k:{number}").into())), "nothing that was answered is missing");
    assert_eq!(found(&log, &["--name", "key:last"]).len(), 1);
}
