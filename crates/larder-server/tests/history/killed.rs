//! `kill -9`: what was written is there, whatever moment it is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::analytics::{Rollup, Window};
use larder_server::history::{Detail, History, Opened, Query, Step, Store};
use larder_testkit::process::Killed;
use larder_testkit::{program, wait};
use serde_json::Value;

const JUNE: u64 = 1_780_272_000_000;
const MINUTE_MS: u64 = 60_000;

/// Says where to write, to this test run as a process of its own.
const CHILD: &str = "LARDER_TEST_HISTORY";

fn whole(from_ms: u64, to_ms: u64) -> Query {
    Query { from_ms, to_ms, step: Step::Whole, namespaces: Vec::new(), instances: Vec::new(), detail: Detail::Sketches }
}

fn counted(history: &History) -> (u64, u64) {
    let found = history.buckets(&whole(0, JUNE * 2)).expect("it is answered").remove(0);
    (found.samples, found.total().counts.puts)
}

/// What SQLite itself says of the file.
fn is_whole(path: &Path) -> bool {
    Store::open(path).is_ok_and(|(store, opened)| opened == Opened::AsItWas && store.check().is_ok())
}

/// Writes a minute after the other, and says each that is written, until it is killed.
fn write(path: &Path) -> ! {
    let (mut store, _) = Store::open(path).expect("it opens");
    for number in store_minutes(path).. {
        let mut window = Window::default();
        assert!(window.counts.set("puts", 1));
        let start_ms = JUNE + number * MINUTE_MS;
        let mut minute = Rollup { start_ms, end_ms: start_ms + MINUTE_MS, samples: 1, ..Rollup::default() };
        minute.namespaces.insert("bars".into(), window);
        store.add(&minute).expect("it is written");
        store.close_due(start_ms).expect("it is closed");
        println!("wrote {}", number + 1);
        std::io::stdout().flush().expect("somebody reads");
    }
    unreachable!("it is killed before")
}

fn store_minutes(path: &Path) -> u64 {
    counted(&History::read_only(path).expect("it is there")).0
}

#[test]
fn every_minute_that_was_written_survives_the_process() {
    if let Some(path) = std::env::var_os(CHILD) {
        write(Path::new(&path));
    }
    let seed = std::env::var("LARDER_SEED").map_or(1, |seed| seed.parse().expect("it is a number"));
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let (mut written, mut found) = (0, 0);
    for _ in 0..5 {
        let mut command = Command::new(std::env::current_exe().expect("this is a program"));
        command.args(["--exact", "killed::every_minute_that_was_written_survives_the_process", "--nocapture"]);
        let mut child = command.env(CHILD, &path).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let until = written + rng.u64(1..60);
        for line in lines {
            let line = line.expect("it is text");
            if let Some(number) = line.split("wrote ").nth(1) {
                written = number.parse().expect("it is a number");
            }
            if written >= until {
                break;
            }
        }
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
        assert!(is_whole(&path), "LARDER_SEED={seed}");
        let (minutes, puts) = counted(&History::read_only(&path).expect("it is there"));
        assert!(minutes >= written && minutes == puts, "LARDER_SEED={seed}: {written} were written, {minutes} are there with {puts} puts");
        (written, found) = (minutes, found.max(minutes));
    }
    assert!(found >= 5);
}

struct Server {
    process: Killed,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let arguments = ["serve", "--http", "127.0.0.1:0", "--json", "--until-stdin-ends", "--data"];
        let mut command = program::command(env!("CARGO_BIN_EXE_larder"), &arguments);
        command.arg(folder).env("LARDER_LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Killed::start(&mut command).expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where it serves");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("one object, not {line:?}"));
        Server { url: told["serving"].as_str().expect("its address").to_owned(), process }
    }

    fn put(&self, n: u64) {
        for key in 0..n {
            ureq::put(format!("{}/v1/entries/bars:{key}", self.url)).send("1").expect("it is stored");
        }
    }

    fn history(&self) -> Value {
        let mut answer = ureq::get(format!("{}/v1/history?step=whole&from=0", self.url)).call().expect("it is answered");
        answer.body_mut().read_json().expect("it is JSON")
    }

    /// Ends it in order.
    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().expect("it is a child").success());
    }
}

fn puts(answer: &Value) -> u64 {
    let namespaces = answer["steps"][0]["namespaces"].as_array().expect("a list");
    namespaces.iter().map(|namespace| namespace["counts"]["puts"].as_u64().expect("a number")).sum()
}

#[test]
fn a_server_writes_its_open_minute_when_it_ends_and_loses_no_more_than_that_when_it_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let server = Server::start(folder.path());
    server.put(3);
    server.end();
    let history = History::read_only(&path).expect("it is there");
    assert_eq!(counted(&history).1, 3);

    let server = Server::start(folder.path());
    assert_eq!(puts(&server.history()), 3, "it is told after a restart");
    server.put(5);
    drop(server);
    let (minutes, there) = counted(&History::read_only(&path).expect("it is there"));
    // The minute may just have ended by itself.
    assert!(minutes >= 1 && (there == 3 || there == 8), "{there} of 3 that were written, and 5 in the open minute");
    assert!(is_whole(&path));

    let server = Server::start(folder.path());
    assert!(wait::until(Duration::from_secs(20), || puts(&server.history()) == there));
    server.put(1);
    server.end();
    assert_eq!(counted(&History::read_only(&path).expect("it is there")).1, there + 1);
}

#[test]
fn a_history_of_a_later_version_keeps_the_server_from_starting_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    drop(Store::open(&path).expect("it is made"));
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    std::fs::write(&path, &bytes).expect("it is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    let output = command.args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(folder.path()).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("version 99") && told.contains("history.file"), "{told}");
    assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
}
