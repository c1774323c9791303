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

/// What `age-keygen` made once, for this test alone.
const KEY: &str = "AGE-SECRET-KEY-12SXFTKGU9J8EG06UMNGTETPPM9F8LAPVLWRJ6REKF5TMZG7R5PRQHT66FM";
const PUBLIC: &str = "age1nzm2yxq03axa553m6uf6tmj9p0d5mzv3xy98y3ny7fchezwtuqpqf6zfcj";

#[test]
fn encrypted_backups_through_the_command_line() {
    let (data, keys) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let at = |name: &str, text: &str| {
        let path = keys.path().join(name);
        fs::write(&path, text).expect("it can be written");
        format!("file:{}", path.display())
    };
    let (key, words) = (at("key", &format!("# created by age-keygen\n{KEY}\n")), at("words", "correct horse battery staple\n"));
    let backups = data.path().join("backups");
    let config = keys.path().join("larder.toml");
    fs::write(&config, format!("[backup]\nplace = {backups:?}\nencrypt_to = [\"{PUBLIC}\"]\n")).expect("it can be written");
    let server = Server::start_with(data.path(), &["--config", config.to_str().expect("text")]);
    assert!(server.ask(&["put", "features:AAPL", "one"]).status.success());
    let created = server.ask(&["backup", "create", "--name", "configured"]);
    assert!(text(&created.stdout).contains(&format!("encrypted to {PUBLIC}")), "{created:?}");
    let created = server.ask(&["backup", "create", "--name", "words", "--passphrase", &words]);
    assert!(text(&created.stdout).contains("encrypted by a passphrase"), "{created:?}");
    assert!(text(&server.ask(&["backup", "show", "configured"]).stdout).contains(PUBLIC));

    // Without a key only what is stored is compared; nothing comes back.
    let stored = server.ask(&["backup", "verify", "configured"]);
    assert!(stored.status.success() && text(&stored.stdout).contains("was not looked at"), "{stored:?}");
    let closed = server.ask(&["backup", "restore", "words"]);
    assert_eq!(closed.status.code(), Some(2), "{closed:?}");
    let told = text(&closed.stderr);
    assert!(told.contains("words is encrypted by a passphrase") && told.contains("--passphrase file:PATH"), "{told}");
    for (name, option, secret) in [("configured", "--identity", &key), ("words", "--passphrase", &words)] {
        let whole = server.json(&["backup", "verify", name, option, secret]);
        assert_eq!((&whole["entries"], &whole["unopened"]), (&json!(1), &json!([])), "{whole}");
        let whole = larder(&["backup", "verify", name, option, secret, "--at", backups.to_str().expect("text")]).output().expect("it runs");
        assert!(text(&whole.stdout).starts_with("whole: 1 entry"), "{whole:?}");
        let restored = server.json(&["backup", "restore", name, "--replace", option, secret]);
        assert_eq!(restored["restored"], 1, "{restored}");
    }
    let compared = server.json(&["backup", "diff", "configured", "words", "--identity", &key, "--passphrase", &words]);
    assert_eq!(compared["same"], 1, "{compared}");

    // What is wrong with a key is told, and the key is not.
    let literal = [KEY, "hunter2-hunter2"];
    for wrong in [
        ["restore", "configured", "--identity", KEY].as_slice(),
        &["restore", "configured", "--identity", &words],
        &["restore", "configured", "--passphrase", &words],
        &["restore", "words", "--passphrase", "hunter2-hunter2"],
        &["restore", "words", "--passphrase", &key],
        &["create", "--encrypt-to", KEY],
        &["create", "--encrypt-to", "ssh-ed25519"],
        &["create", "--passphrase", &at("short", "hunter2")],
    ] {
        let refused = server.ask(&[&["backup"], wrong].concat());
        let told = format!("{}{}", text(&refused.stdout), text(&refused.stderr));
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {told}");
        assert!(!literal.iter().any(|secret| told.contains(secret)) && !told.contains("correct horse"), "{wrong:?}: {told}");
    }
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
