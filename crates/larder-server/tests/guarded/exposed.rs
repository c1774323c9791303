//! Doors that would be open to more than this machine.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use larder_testkit::process::Killed;
use larder_testkit::{program, wait};
use serde_json::Value;

use super::site::PATIENCE;

fn larder(arguments: &[&str]) -> Command {
    program::command(env!("CARGO_BIN_EXE_larder"), arguments)
}

#[test]
fn a_door_to_everybody_is_refused_unless_that_is_wanted_and_then_told() {
    for doors in [["--http", "0.0.0.0:0"], ["--resp", "[::]:0"]] {
        let refused = larder(&[&["serve"], doors.as_slice()].concat()).output().expect("it was built for this test");
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && words.contains("beyond this machine") && words.contains("--insecure"), "{words}");
        let checked = larder(&[&["config", "check"], doors.as_slice()].concat()).output().expect("it was built for this test");
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    }
    let mut command = larder(&["serve", "--http", "0.0.0.0:0", "--insecure", "--json"]);
    let mut process = Killed::start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).expect("it was built for this test");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where it serves");
    let told: Value = serde_json::from_str(&line).expect("one object");
    let port = told["serving"].as_str().and_then(|url| url.rsplit(':').next()).expect("it has a port").to_owned();
    let health = || larder(&["health", "--server", &format!("http://127.0.0.1:{port}")]).output().expect("it was built for this test");
    let degraded = || {
        let health = health();
        health.status.code() == Some(1) && String::from_utf8_lossy(&health.stdout).contains("http.listen is beyond this machine")
    };
    assert!(wait::until(PATIENCE, degraded), "{:?}", health());
    let mut log = BufReader::new(process.stderr.take().expect("it is piped")).lines();
    assert!(log.any(|line| line.is_ok_and(|line| line.contains("insecure: http.listen is beyond this machine"))), "the log says so");
}
