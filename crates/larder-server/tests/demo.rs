//! The demo as a user runs it: the real program, over the real cache.

use std::process::Command;

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
fn it_explains_itself_and_shows_what_the_others_serve() {
    let output = demo(&["--seconds", "1", "--compare", "--bars-per-second", "1000"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    for part in ["The promise", "STALE READS", "Zero of", "on TTL only:", "on delete on update:", "Next:"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}
