//! `larder backup`: against a server, and against a place alone; in a folder, and in a store that speaks S3's protocol.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use larder_testkit::process::Killed;
use larder_testkit::wait;
use serde_json::json;

use super::{Server, larder, text};

/// From keeping to bringing back, with one entry that changes in between.
fn everything(server: &Server, at: &str) {
    for (key, value) in [("features:AAPL", "one"), ("features:MSFT", "two"), ("model:gbm", "three")] {
        assert!(server.ask(&["put", key, value]).status.success());
    }
    let created = server.ask(&["backup", "create", "--name", "first"]);
    assert!(text(&created.stdout).starts_with("first: 3 entries, "), "{created:?}");
    assert!(server.ask(&["rm", "features:AAPL"]).status.success());
    let second = server.json(&["backup", "create", "--name", "second", "--parent", "first"]);
    assert_eq!((&second["name"], &second["parent"]), (&json!("second"), &json!("first")), "{second}");

    let listed = server.json(&["backup", "list"]);
    let names: Vec<_> = listed["backups"].as_array().expect("a list").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
    let shown = server.ask(&["backup", "show", "first"]);
    assert!(text(&shown.stdout).contains("3 entries"), "{shown:?}");
    assert_eq!(server.ask(&["backup", "show", "none"]).status.code(), Some(1));
    assert_eq!(server.ask(&["backup", "restore", "none"]).status.code(), Some(1));

    let dry = server.json(&["backup", "restore", "first", "--dry-run"]);
    assert_eq!((&dry["dead_invalidated"], &dry["dry_run"]), (&json!(1), &json!(true)), "{dry}");
    let restored = server.ask(&["backup", "restore", "first", "--namespace", "features", "--rename", "features=trial"]);
    assert!(text(&restored.stdout).contains("1 entry restored") && text(&restored.stdout).contains("invalidated since"), "{restored:?}");
    assert_eq!(text(&server.ask(&["get", "trial:MSFT"]).stdout), "two");
    assert_eq!(server.ask(&["get", "trial:AAPL"]).status.code(), Some(1), "what was removed since stays so");

    // Without the server.
    let alone = |arguments: &[&str]| with_keys(larder(arguments).args(["--at", at])).output().expect("the program was built for this test");
    let whole = alone(&["backup", "verify", "second"]);
    assert!(text(&whole.stdout).contains("in a chain of 2 backups"), "{whole:?}");
    let difference: serde_json::Value =
        serde_json::from_slice(&alone(&["backup", "diff", "first", "second", "--json"]).stdout).expect("JSON");
    assert_eq!(difference["same"], 3, "{difference}");
    let pruned = alone(&["backup", "prune", "--keep-last", "1"]);
    assert!(text(&pruned.stdout).contains("2 backups kept"), "the last one stands on the first: {pruned:?}");
}

/// What a store takes for a client of its own.
fn with_keys(command: &mut Command) -> &mut Command {
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test")
}

#[test]
fn backups_in_a_folder_through_the_command_line() {
    let (data, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let server = Server::start(data.path());
    let backups = data.path().join("backups");
    everything(&server, backups.to_str().expect("text"));

    let elsewhere = server.ask(&["backup", "create", "--to", "/tmp/anywhere"]);
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(text(&elsewhere.stderr).contains("backup.more_places"), "{elsewhere:?}");
    let segment = backups.join("first/segment-000001");
    let mut bytes = fs::read(&segment).expect("it is there");
    bytes[60] ^= 1;
    fs::write(&segment, bytes).expect("it can be written");
    let damaged = server.ask(&["backup", "verify", "first"]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(text(&damaged.stdout).contains("first/segment-000001") && text(&damaged.stdout).contains("at byte 16"), "{damaged:?}");
    server.stop();

    // On another machine, with what is left of the first: its backups and its log.
    fs::write(&segment, {
        let mut bytes = fs::read(&segment).expect("it is there");
        bytes[60] ^= 1;
        bytes
    })
    .expect("it can be written");
    let config = other.path().join("larder.toml");
    fs::write(&config, format!("[backup]\nplace = {backups:?}\n")).expect("it can be written");
    let server = Server::start_with(&other.path().join("data"), &["--config", config.to_str().expect("text")]);
    let refused = server.ask(&["backup", "restore", "first"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--log-of"), "{refused:?}");
    let log = data.path().to_str().expect("text");
    let restored = server.json(&["backup", "restore", "first", "--log-of", log]);
    assert_eq!((&restored["restored"], &restored["dead_invalidated"]), (&json!(2), &json!(1)), "{restored}");
    assert_eq!(text(&server.ask(&["get", "model:gbm"]).stdout), "three");
    server.stop();
}

/// A server that speaks S3's protocol, with a bucket. `None`: it is not installed, which `cargo xtask setup` does.
fn store() -> Option<(Killed, String)> {
    let program: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/s3/bin/moto_server");
    if !program.exists() {
        eprintln!("skipped: {} is not there; cargo xtask setup installs it", program.display());
        return None;
    }
    // Free a moment ago; the server cannot be told to take one by itself.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Killed::start(&mut command).expect("it starts");
    let url = format!("http://127.0.0.1:{port}");
    let made = wait::until(Duration::from_secs(60), || {
        ureq::put(&format!("{url}/larder")).header("authorization", SIGNED).send_empty().is_ok_and(|answer| answer.status().is_success())
    });
    assert!(made, "the store takes a bucket");
    Some((process, url))
}

/// It does not look at signatures, and wants to see one.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

#[test]
fn backups_in_a_bucket_through_the_command_line() {
    let Some((_store, url)) = store() else { return };
    let data = tempfile::tempdir().expect("a folder");
    let (at, config) = (format!("s3://larder/some/where?endpoint={url}"), data.path().join("larder.toml"));
    fs::write(&config, format!("[backup]\nplace = {at:?}\n")).expect("it can be written");
    let server = Server::start_with_keys(&data.path().join("data"), &["--config", config.to_str().expect("text")]);
    everything(&server, &at);
    server.stop();
}
