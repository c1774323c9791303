//! The program as its users meet it: a real server in a process of its own, asked with the real command line.

#[path = "cli/backup.rs"]
mod backup;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use larder_testkit::port::Port;
use larder_testkit::process::Killed;
use larder_testkit::program;

fn larder(arguments: &[&str]) -> Command {
    program::command(env!("CARGO_BIN_EXE_larder"), arguments)
}

/// A server; it is killed if a test fails before it stops it.
struct Server {
    process: Killed,
    url: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, more: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", data, more)
    }

    fn start_at(http: &str, data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("temporary folders are text");
        Self::told(larder(&[&["serve", "--http", http, "--data", data, "--json"], more].concat()))
    }

    /// One that a store for backups knows.
    fn start_with_keys(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("temporary folders are text");
        let mut command = larder(&[&["serve", "--http", "127.0.0.1:0", "--data", data, "--json"], more].concat());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        Self::told(command)
    }

    fn told(mut command: Command) -> Self {
        let mut process = Killed::start(command.stdout(Stdio::piped())).expect("the program was built for this test");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it serves");
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("one object, not {line:?}"));
        let url = told["serving"].as_str().expect("its address").to_owned();
        Self { process, url }
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        larder(arguments).args(["--server", &self.url]).output().expect("the program was built for this test")
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    }

    /// Ends it as a process manager would.
    fn stop(mut self) {
        let id = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("there is a kill");
        assert!(told.success());
        let ended = self.process.wait().expect("it is a child");
        assert_eq!(ended.code(), Some(0), "it ends in order");
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn entries_live_through_the_command_line_and_a_restart() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let server = Server::start(folder.path());
    for (key, value) in [("features:AAPL:5m", "{\"rsi\": 61.2}"), ("features:MSFT:5m", "{\"rsi\": 40.0}"), ("model:gbm", "weights")] {
        let put = server.ask(&["put", key, value, "--tag", "kind:demo", "--ttl", "1h"]);
        assert!(put.status.success(), "{put:?}");
        assert!(text(&put.stdout).starts_with(&format!("stored {key}")), "{put:?}");
    }
    let got = server.ask(&["get", "features:AAPL:5m"]);
    assert_eq!((got.status.code(), text(&got.stdout)), (Some(0), "{\"rsi\": 61.2}"));
    let got = server.json(&["get", "features:AAPL:5m"]);
    assert_eq!(
        (&got["outcome"], &got["value"], &got["media_type"]),
        (&"hit".into(), &"{\"rsi\": 61.2}".into(), &"application/json".into())
    );
    assert_eq!(got["tags"], serde_json::json!(["kind:demo"]));

    assert_eq!(text(&server.ask(&["keys", "features:*:5m"]).stdout), "features:AAPL:5m\nfeatures:MSFT:5m\n");
    assert_eq!(
        server.json(&["keys", "--limit", "2"]),
        serde_json::json!({ "keys": ["features:AAPL:5m", "features:MSFT:5m"], "more": true })
    );

    let invalidated = server.ask(&["invalidate", "--pattern", "features:AAPL:**"]);
    assert!(text(&invalidated.stdout).starts_with("invalidated 1 name at position "), "{invalidated:?}");
    let missed = server.ask(&["get", "features:AAPL:5m"]);
    assert_eq!((missed.status.code(), text(&missed.stdout)), (Some(1), ""));
    assert!(text(&missed.stderr).contains("features:AAPL:5m is not cached"), "{missed:?}");

    let removed = server.ask(&["rm", "model:gbm"]);
    assert_eq!(text(&removed.stdout), "removed model:gbm\n");
    assert_eq!(server.json(&["keys"])["keys"], serde_json::json!(["features:MSFT:5m"]));

    let stats = server.json(&["stats"]);
    assert_eq!(stats["total"]["counts"]["puts"], 3, "{stats}");
    let shown = server.ask(&["stats"]);
    assert!(text(&shown.stdout).contains("appends, position "), "{shown:?}");

    let refused = server.ask(&["put", "", "x"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).starts_with("larder: "), "{refused:?}");

    server.stop();
    let server = Server::start(folder.path());
    assert_eq!(text(&server.ask(&["get", "features:MSFT:5m"]).stdout), "{\"rsi\": 40.0}", "it survives a restart");
    assert_eq!(server.ask(&["get", "features:AAPL:5m"]).status.code(), Some(1), "and what was invalidated does not come back");
    server.stop();
}

#[test]
fn what_happened_is_told_and_invalidates_what_the_rules_say() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let config = folder.path().join("larder.toml");
    let rule = "[[on]]\ntype = \"bar_closed\"\ninvalidate = [\"tag:symbol:{symbol}\"]\nwhen = \"interval == '5m'\"\n";
    std::fs::write(&config, rule).expect("it can be written");
    let server = Server::start_with(&folder.path().join("data"), &["--config", config.to_str().expect("it is text")]);
    for key in ["features:AAPL:5m", "features:MSFT:5m"] {
        assert!(server.ask(&["put", key, "1", "--tag", &format!("symbol:{}", &key[9..13])]).status.success());
    }
    let planned = server.ask(&["emit", "market_data_update", "--data", r#"{"symbol": "AAPL"}"#, "--dry-run"]);
    let words = text(&planned.stdout);
    assert!(words.starts_with("would invalidate 7 names") && words.contains("features: 1 entry in memory"), "{words}");
    assert_eq!(server.json(&["keys"])["keys"].as_array().expect("a list").len(), 2);
    let done = server.ask(&["emit", "bar_closed", "--data", r#"{"symbol": "AAPL", "interval": "5m"}"#, "--id", "1"]);
    assert!(text(&done.stdout).starts_with("invalidated 1 name at position "), "{done:?}");
    assert!(text(&done.stdout).ends_with("\n  tag:symbol:AAPL\n"), "{done:?}");
    assert_eq!(server.json(&["keys"])["keys"], serde_json::json!(["features:MSFT:5m"]));
    let again = server.ask(&["emit", "bar_closed", "--data", r#"{"symbol": "AAPL", "interval": "5m"}"#, "--id", "1"]);
    assert!(text(&again.stdout).contains("carried out before"), "{again:?}");
    let other = server.ask(&["emit", "bar_closed", "--data", r#"{"symbol": "MSFT", "interval": "1h"}"#]);
    assert!(text(&other.stdout).starts_with("no rule is for this event"), "{other:?}");
    let lacking = server.ask(&["emit", "market_data_update", "--data", "{}"]);
    assert_eq!(lacking.status.code(), Some(2));
    assert!(text(&lacking.stderr).contains("needs the field symbol"), "{lacking:?}");
    let no_json = server.ask(&["emit", "market_data_update", "--data", "AAPL"]);
    assert!(no_json.status.code() == Some(2) && text(&no_json.stderr).contains("--data '"), "{no_json:?}");
    server.stop();
}

#[test]
fn what_an_entry_was_computed_from_can_be_told_and_asked() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let server = Server::start(folder.path());
    let put = server.ask(&["put", "features:A", "0.7", "--from", "bars:A=17", "--if-changed"]);
    assert!(put.status.success(), "{put:?}");
    let again = server.ask(&["put", "features:A", "0.7", "--from", "bars:A=17", "--if-changed"]);
    assert_eq!(text(&again.stdout), "features:A is unchanged, and lives on\n");
    let explained = server.ask(&["explain", "features:A"]);
    assert_eq!(explained.status.code(), Some(0));
    let words = text(&explained.stdout);
    assert!(words.contains("memory: fresh") && words.contains("computed from bars:A at version 17"), "{words}");
    let moved = server.ask(&["moved", "bars:A", "18"]);
    assert!(text(&moved.stdout).starts_with("bars:A is at version 18, at position "), "{moved:?}");
    assert_eq!(text(&server.ask(&["moved", "bars:A", "17"]).stdout), "bars:A is known to be at version 18 already; nothing was done\n");
    let explained = server.ask(&["explain", "features:A"]);
    assert_eq!(explained.status.code(), Some(1), "it is not fresh");
    assert!(text(&explained.stdout).contains("stale: what it was computed from has moved: features:A <- bars:A"), "{explained:?}");
    assert_eq!(server.json(&["explain", "features:A"])["found"][0]["verdict"], "invalidated");
    let outdated = server.ask(&["put", "features:A", "0.7", "--from", "bars:A=17"]);
    assert_eq!(outdated.status.code(), Some(2));
    assert!(text(&outdated.stderr).contains("known to be at 18"), "{outdated:?}");
    assert_eq!(server.ask(&["put", "features:A", "0.7", "--from", "bars:A"]).status.code(), Some(2));
    server.stop();
}

#[test]
fn events_are_watched_over_a_restart_of_the_server() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    // Held while no server listens there: it would be anybody's.
    let port = Port::reserve().expect("there is a port left");
    let address = format!("127.0.0.1:{}", port.number());
    let server = Server::start_at(&address, folder.path(), &[]);
    let emit = |server: &Server, id: &str| {
        let done = server.ask(&["emit", "market_data_update", "--data", r#"{"symbol": "AAPL"}"#, "--id", id, "--source", "feed"]);
        assert!(done.status.success(), "{done:?}");
    };
    emit(&server, "1");
    let listed = server.ask(&["events", "list"]);
    let line = text(&listed.stdout);
    assert!(line.contains("  applied    market_data_update  tag:symbol:AAPL and 6 more, at 1, after "), "{line}");
    assert!(line.ends_with("feed#1 by http\n") && !line.contains('\u{1b}'), "{line}");
    assert_eq!(server.json(&["events", "list", "--type", "other"])["events"], serde_json::json!([]));

    let arguments = ["events", "tail", "--limit", "3", "--json", "--server", &server.url];
    let mut watcher = Killed::start(larder(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped())).expect("it was built");
    let mut lines = BufReader::new(watcher.stdout.take().expect("it is piped")).lines();
    let mut next = || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("there is one more").expect("it is text")).expect("one object a line")
    };
    assert_eq!(next()["id"], "1", "it begins with what was before");
    emit(&server, "2");
    assert_eq!(next()["id"], "2");
    server.stop();
    let server = Server::start_at(&address, folder.path(), &[]);
    emit(&server, "3");
    let third = next();
    assert_eq!((&third["id"], &third["number"]), (&"3".into(), &1.into()), "the server counts anew");
    assert!(watcher.wait().expect("it is a child").success(), "it ends after so many");
    server.stop();
    let nobody = larder(&["events", "tail", "--server", &address]).output().expect("it was built");
    assert!(nobody.status.code() == Some(2) && text(&nobody.stderr).contains("larder serve"), "{nobody:?}");
}

#[test]
fn dead_letters_are_listed_replayed_and_dropped() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let letters = folder.path().join("dead-letters");
    std::fs::create_dir(&letters).expect("it can be made");
    for (id, data) in [(7, r#"{"symbol": "AAPL"}"#), (8, "{}")] {
        let event = format!(r#"{{"specversion": "1.0", "id": "{id}", "source": "stream", "type": "market_data_update", "data": {data}}}"#);
        let letter = format!(
            r#"{{"id": {id}, "event": {event}, "failed": "event", "reason": "needs the field symbol", "at_ms": 1764149400000, "handler": 0, "life": 1}}"#
        );
        std::fs::write(letters.join(format!("{id:012}.json")), letter).expect("it can be written");
    }
    let server = Server::start(folder.path());
    assert!(server.ask(&["put", "features:AAPL:5m", "1"]).status.success());
    let listed = server.ask(&["dlq", "list"]);
    let table = text(&listed.stdout);
    for part in ["2025-11-26 09:30:00", "event", "market_data_update", "stream", "needs the field symbol"] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
    assert!(text(&server.ask(&["stats"]).stdout).contains("2 dead letters (see `larder dlq list`)"));
    let shown = server.ask(&["dlq", "show", "7"]);
    assert!(text(&shown.stdout).contains("\"symbol\": \"AAPL\""), "{shown:?}");
    assert_eq!(server.json(&["dlq", "show", "8"])["event"]["id"], "8");
    assert_eq!(server.ask(&["dlq", "show", "9"]).status.code(), Some(1));

    let replayed = server.ask(&["dlq", "replay", "--all"]);
    let words = text(&replayed.stdout);
    assert_eq!(replayed.status.code(), Some(1), "{replayed:?}");
    assert!(words.starts_with("dead letter 7: invalidated 7 names at position "), "{words}");
    assert!(words.contains("dead letter 8 stays") && words.contains("needs the field symbol"), "{words}");
    assert_eq!(server.ask(&["get", "features:AAPL:5m"]).status.code(), Some(1));
    let dropped = server.json(&["dlq", "drop", "8", "7"]);
    let done = |at: usize| dropped["dead_letters"][at]["done"].as_bool();
    assert_eq!((done(0), done(1)), (Some(true), Some(false)), "{dropped}");
    assert_eq!(text(&server.ask(&["dlq", "list"]).stdout), "there are no dead letters\n");
    assert_eq!(std::fs::read_dir(&letters).expect("it is there").count(), 0);
    assert_eq!(server.ask(&["dlq", "drop"]).status.code(), Some(2), "which ones?");
    server.stop();
}

#[test]
fn events_are_signed_where_the_server_wants_it() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n").expect("it can be written");
    let reference = format!("file:{}", secret.display());
    let config = folder.path().join("larder.toml");
    std::fs::write(&config, format!("[events]\nwebhook_secrets = [\"{reference}\"]\n")).expect("it can be written");
    let server = Server::start_with(&folder.path().join("data"), &["--config", config.to_str().expect("it is text")]);
    let emit = ["emit", "market_data_update", "--data", r#"{"symbol": "AAPL"}"#];
    let refused = server.ask(&emit);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("webhook-id: missing"), "{refused:?}");
    let signed = server.ask(&[&emit[..], &["--sign-with", &reference]].concat());
    assert!(signed.status.success(), "{signed:?}");
    let bare = server.ask(&[&emit[..], &["--sign-with", "whsec_AAAA"]].concat());
    assert!(bare.status.code() == Some(2) && text(&bare.stderr).contains("does not stand on a command line"), "{bare:?}");
    server.stop();
}

#[test]
fn bytes_come_back_as_they_went() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("value");
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, &bytes).expect("it can be written");
    let put = server.ask(&["put", "a/b c:\u{e4}", &format!("@{}", file.display()), "--tag", "with,comma"]);
    assert!(put.status.success(), "{put:?}");
    assert_eq!(server.ask(&["get", "a/b c:\u{e4}"]).stdout, bytes);
    let got = server.json(&["get", "a/b c:\u{e4}"]);
    assert_eq!((&got["tags"][0], &got["media_type"]), (&"with,comma".into(), &"application/octet-stream".into()));
    assert!(server.ask(&["invalidate", "--tag", "with,comma"]).status.success());
    assert_eq!(server.ask(&["get", "a/b c:\u{e4}"]).status.code(), Some(1));
    server.stop();
}

#[test]
fn one_folder_serves_one_server() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let server = Server::start(folder.path());
    let data = folder.path().to_str().expect("text");
    let second = larder(&["serve", "--http", "127.0.0.1:0", "--data", data]).output().expect("it was built");
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("another larder has this folder"), "{second:?}");
    server.stop();
}

#[test]
fn without_arguments_it_introduces_itself() {
    let output = larder(&[]).output().expect("it was built");
    assert!(output.status.success() && text(&output.stdout).contains("larder demo"), "{output:?}");
}

#[test]
fn wrong_usage_is_told_apart_from_a_miss() {
    for arguments in
        [&["get"][..], &["put", "k"], &["nonsense"], &["serve", "--memory", "much"], &["invalidate"], &["stats", "--server", "ftp://x"]]
    {
        let output = larder(arguments).output().expect("it was built");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_report_tells_what_was_done_whether_the_server_runs_or_not() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let server = Server::start(folder.path());
    let empty = server.ask(&["report", "hourly"]);
    assert_eq!(empty.status.code(), Some(0), "{empty:?}");
    assert!(text(&empty.stdout).contains("Nothing was recorded"), "{empty:?}");
    for n in 0..40 {
        server.ask(&["get", &format!("features:{}", n % 4)]);
        server.ask(&["put", &format!("features:{}", n % 4), "1", "--ttl", "1h"]);
    }
    let wrong = server.ask(&["report", "--from", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("2026-11-26T14:30"), "it says how a moment is written: {wrong:?}");
    server.stop();

    // The minute under way is written when the server ends; a period up to now does not have it yet.
    let history = folder.path().join("history.db");
    let history = history.to_str().expect("temporary folders are text");
    let to = (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(2)).to_string();
    let of_file = |format: &str| {
        let output = larder(&["report", "hourly", "--to", &to, "--zone", "UTC", "--history", history, "--format", format]).output();
        output.expect("the program was built for this test")
    };
    let output = of_file("json");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let figure = |name: &str| {
        let figures = report["figures"].as_array().expect("figures");
        figures.iter().find(|figure| figure["name"] == name).expect("this one")["now"].as_f64()
    };
    assert_eq!((figure("requests"), figure("puts"), figure("hit_rate")), (Some(40.0), Some(40.0), Some(0.9)));
    for (format, part) in [("text", "40 reads, 90.00 %"), ("html", "<svg"), ("md", "| reads | 40 |"), ("csv", "now,")] {
        let output = of_file(format);
        assert!(text(&output.stdout).contains(part), "{output:?}");
    }
    let missing = larder(&["report", "--history", "/nowhere/history.db"]).output().expect("the program was built for this test");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/nowhere/history.db"), "{missing:?}");
}

#[test]
fn access_is_set_up_and_governed_from_the_command_line() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let data = folder.path().join("data");
    let shown = data.to_str().expect("temporary folders are text").to_owned();
    let run = |arguments: &[&str]| larder(arguments).output().expect("the program was built for this test");
    let offline = |arguments: &[&str]| run(&[arguments, &["--data", &shown, "--json"]].concat());
    let json = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("one object, not {output:?}"))
    };
    let first = json(&offline(&["init"]));
    let token = first["token"].as_str().expect("it is told once").to_owned();
    assert!(token.starts_with("ldr_") && first["principal"] == "admin", "{first}");
    assert_eq!(offline(&["init"]).status.code(), Some(2), "once");
    let allowed = offline(&["access", "explain", "admin", "write", "a:b"]);
    assert_eq!((allowed.status.code(), json(&allowed)["role"].as_str()), (Some(0), Some("admin")));
    assert_eq!(offline(&["access", "explain", "nobody", "read"]).status.code(), Some(2));
    let other = json(&offline(&["token", "create", "admin", "--label", "other"]));
    let kept = std::fs::read_to_string(data.join("access.json")).expect("it is kept");
    assert!(!kept.contains(&token[18..]) && kept.contains("sha256"), "only digests are");

    let config = folder.path().join("larder.toml");
    std::fs::write(&config, "[access]\nenabled = true\n").expect("temporary files can be written");
    let server = Server::start_with(&data, &["--config", config.to_str().expect("text")]);
    let as_admin = |arguments: &[&str]| {
        let mut command = larder(arguments);
        command.args(["--server", &server.url, "--json"]).env("LARDER_TOKEN", &token);
        command.output().expect("the program was built for this test")
    };
    let refused = server.ask(&["stats"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not known who asks"), "{refused:?}");
    assert!(offline(&["token", "list"]).status.code() == Some(2), "the server has the book");
    assert_eq!(as_admin(&["stats"]).status.code(), Some(0));
    assert_eq!(as_admin(&["access", "put", "ingest", "--role", "service", "--grant", "deny write on live:**"]).status.code(), Some(0));
    assert_eq!(as_admin(&["access", "put", "ingest", "--role", "no-such"]).status.code(), Some(2));
    let denied = as_admin(&["access", "explain", "ingest", "write", "live:x"]);
    assert_eq!((denied.status.code(), json(&denied)["grant"].as_str()), (Some(1), Some("deny write on live:**")));
    let secret = folder.path().join("token");
    let made = json(&as_admin(&["token", "create", "ingest", "--expires", "1h"]));
    std::fs::write(&secret, made["token"].as_str().expect("told once")).expect("temporary files can be written");
    let at = format!("file:{}", secret.display());
    assert_eq!(server.ask(&["put", "a:b", "1", "--token", &at]).status.code(), Some(0));
    assert_eq!(server.ask(&["put", "live:b", "1", "--token", &at]).status.code(), Some(2));
    let rotated = as_admin(&["token", "rotate", made["id"].as_str().expect("an id"), "--overlap", "1h"]);
    assert_ne!(json(&rotated)["token"], made["token"]);
    for id in [&made["id"], &other["id"]] {
        assert_eq!(as_admin(&["token", "revoke", id.as_str().expect("an id")]).status.code(), Some(0));
    }
    assert_eq!(server.ask(&["get", "a:b", "--token", &at]).status.code(), Some(2));
    let listed = as_admin(&["token", "list"]);
    assert_eq!(json(&listed)["tokens"].as_array().map(Vec::len), Some(1), "{listed:?}");
    let misplaced = server.ask(&["stats", "--token", &token]);
    assert!(!String::from_utf8_lossy(&misplaced.stderr).contains(&token), "{misplaced:?}");
    server.stop();
    assert!(json(&offline(&["token", "list"]))["tokens"][0]["last_used_ms"].is_u64(), "it is written down when it was used");
}

#[test]
fn a_server_looks_after_itself_and_is_as_it_was_after_a_restart() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let config = folder.path().join("larder.toml");
    std::fs::write(&config, "[warm_up]\nenabled = true\nready_waits = true\n[process]\nmemory = \"4 GiB\"\n").expect("it can be written");
    let start = || Server::start_with(&folder.path().join("data"), &["--config", config.to_str().expect("it is text")]);
    let server = start();
    for n in 0..20 {
        assert!(server.ask(&["put", &format!("bars:{n}"), "1", "--tag", if n % 2 == 0 { "even" } else { "odd" }]).status.success());
    }
    assert!(server.ask(&["get", "bars:1"]).status.success());
    assert!(server.ask(&["invalidate", "--tag", "even"]).status.success());
    let cleaned = server.ask(&["cleanup"]);
    assert!(cleaned.status.success() && text(&cleaned.stdout).contains("together"), "{cleaned:?}");
    let last = server.json(&["cleanup", "--status"])["last"].clone();
    assert_eq!((&last["failed"], &last["history"].is_null()), (&serde_json::json!([]), &false), "{last}");

    let on = server.ask(&["maintenance", "on", "--for", "2h", "--reason", "a new disk"]);
    assert!(on.status.success() && text(&on.stdout).contains("because: a new disk"), "{on:?}");
    let refused = server.ask(&["put", "bars:1", "2"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("under maintenance"), "{refused:?}");
    let stats = server.ask(&["stats"]);
    assert!(text(&stats.stdout).contains("of 4.0 GiB"), "{stats:?}");
    server.stop();

    let server = start();
    let status = server.json(&["maintenance", "status"]);
    assert_eq!((&status["on"], &status["reason"]), (&true.into(), &"a new disk".into()));
    assert!(server.ask(&["get", "bars:1"]).status.success(), "reads go on");
    assert_eq!(server.ask(&["get", "bars:2"]).status.code(), Some(1), "and what was invalidated does not come back");
    assert!(text(&server.ask(&["maintenance", "off"]).stdout).contains("takes writes"));
    assert!(server.ask(&["put", "bars:1", "2"]).status.success());
    let brought = || server.json(&["stats"])["memory"]["entries"].as_u64();
    assert!(larder_testkit::wait::until(std::time::Duration::from_secs(20), || brought() == Some(10)), "{:?}", brought());
    server.stop();
}

#[test]
fn jobs_are_listed_run_and_paused_for_longer_than_the_server_lives() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let server = Server::start(folder.path());
    let listed = server.ask(&["jobs", "list"]);
    for name in ["cleanup", "optimize", "analyze", "0 2 * * *", "waiting"] {
        assert!(text(&listed.stdout).contains(name), "{listed:?}");
    }
    assert!(!text(&listed.stdout).contains("backup"), "there is no place for it: {listed:?}");
    let run = server.ask(&["jobs", "run", "optimize", "--wait"]);
    assert!(run.status.success() && text(&run.stdout).contains("\"mode\": \"off\""), "{run:?}");
    let run = server.json(&["jobs", "run", "analyze", "--wait"]);
    assert_eq!((&run["outcome"], &run["result"]["report"]), (&"ok".into(), &"monthly".into()), "{run}");
    assert!(Path::new(run["result"]["stored"][0].as_str().expect("a file")).exists(), "{run}");
    let id = run["id"].to_string();
    let shown = server.ask(&["jobs", "show", "analyze", &id]);
    assert!(text(&shown.stdout).starts_with(&format!("run {id} of analyze: ok\n")), "{shown:?}");
    let nothing = server.ask(&["jobs", "show", "analyse"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    assert_eq!(server.ask(&["jobs", "cancel", "cleanup"]).status.code(), Some(1), "nothing is under way");
    assert!(text(&server.ask(&["jobs", "pause", "cleanup"]).stdout).starts_with("cleanup is paused"));
    server.stop();

    let server = Server::start(folder.path());
    let shown = server.ask(&["jobs", "show", "cleanup"]);
    assert!(text(&shown.stdout).starts_with("cleanup: 0 2 * * * (UTC), paused\n"), "{shown:?}");
    assert!(text(&server.ask(&["jobs", "resume", "cleanup"]).stdout).starts_with("cleanup goes on; it runs next at "));
    assert_eq!(server.json(&["jobs", "show", "analyze"])["runs"][0]["id"].to_string(), id, "what ran is known");
    server.stop();
}
