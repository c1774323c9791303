//! `larder config` as a user meets it.

use std::path::Path;
use std::process::Output;

use larder_testkit::program;

fn config(what: &str, file: Option<&Path>, environment: &[(&str, &str)], json: bool) -> Output {
    let mut command = program::command(env!("CARGO_BIN_EXE_larder"), &["config", what]);
    command.envs(environment.iter().copied());
    file.into_iter().for_each(|file| {
        command.arg("--config").arg(file);
    });
    if json {
        command.arg("--json");
    }
    command.output().expect("the program was built for this test")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn check_tells_every_error_and_says_no() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, "memroy = 1\n[http]\nlisten = 1\n").expect("it can be written");
    let checked = config("check", Some(&file), &[("LARDER_DISK", "much"), ("LARDER_MEMROY", "1")], false);
    assert_eq!(checked.status.code(), Some(1));
    let lines: Vec<&str> = text(&checked.stdout).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].ends_with("larder.toml:1:1: memroy: there is no such setting; did you mean \"memory\"?"), "{lines:#?}");
    assert!(lines[1].contains("larder.toml:3:10: http.listen: found the number 1"), "{lines:#?}");
    assert!(lines[2].starts_with("environment LARDER_DISK: disk: found \"much\""), "{lines:#?}");
    assert_eq!(lines[3], "3 errors");
    assert!(text(&checked.stderr).contains("did you mean LARDER_MEMORY?"), "{checked:?}");
    let json: serde_json::Value = serde_json::from_slice(&config("check", Some(&file), &[], true).stdout).expect("one object");
    assert_eq!((&json["ok"], json["errors"].as_array().map(Vec::len)), (&false.into(), Some(2)));
}

#[test]
fn the_schema_is_a_file_to_start_from() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let file = folder.path().join("larder.toml");
    let schema = config("schema", None, &[], false);
    std::fs::write(&file, &schema.stdout).expect("it can be written");
    let checked = config("check", Some(&file), &[], false);
    assert_eq!((checked.status.code(), text(&checked.stdout)), (Some(0), "the configuration is right\n"));
    let json: serde_json::Value = serde_json::from_slice(&config("schema", None, &[], true).stdout).expect("one object");
    assert_eq!(json["properties"]["memory"]["default"], "256 MiB");
}

#[test]
fn show_says_where_values_come_from() {
    let shown = config("show", None, &[("LARDER_MEMORY", "1 GiB")], false);
    let line = text(&shown.stdout).lines().find(|line| line.starts_with("memory = ")).expect("it is shown");
    assert!(line.starts_with("memory = \"1 GiB\"") && line.ends_with("# environment LARDER_MEMORY"), "{line}");
}

#[test]
fn a_file_that_is_not_there_is_told_in_a_line() {
    let output = config("show", Some(Path::new("/no/such/larder.toml")), &[], false);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("larder: /no/such/larder.toml cannot be read"), "{output:?}");
}
