//! What is in `deploy/` fits the server: each metric that the dashboard and the alerts ask for is one that a server tells, and each alert
//! has its section in the runbook.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use larder::events::source::{Fetched, Source};
use larder_testkit::redis::{StartError, or_skip};
use larder_testkit::wait;
use serde_json::Value;

use crate::client::PATIENCE;
use crate::metrics::{families, lively};

fn deploy(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of metrics in an expression: `up` is Prometheus' own.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("larder_") || word.starts_with("process_")).collect()
}

/// Every text under `"expr"`, or of a variable.
fn expressions(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|one| expressions(one, found)),
        _ => {}
    }
}

/// A source that has nothing to say.
struct Silent;

impl Source for Silent {
    type Token = ();

    fn name(&self) -> String {
        "silent".into()
    }

    async fn open(&mut self) -> larder::Result<()> {
        Ok(())
    }

    async fn fetch(&mut self, _most: usize) -> larder::Result<Fetched<()>> {
        Ok(Fetched::Deliveries(Vec::new()))
    }

    async fn resume(&mut self) -> larder::Result<()> {
        Ok(())
    }

    async fn wait(&mut self) -> larder::Result<()> {
        std::future::pending().await
    }

    async fn acknowledge(&mut self, _done: &[()]) -> larder::Result<()> {
        Ok(())
    }
}

#[test]
fn every_metric_that_is_asked_for_is_told_by_a_server() {
    let (server, _folder) = lively();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let _following = server.larder.follow(Silent);
    assert!(wait::until(PATIENCE, || server.larder.sources().len() == 1));
    let told = families(&server);
    let known: BTreeSet<&str> = told.values().flat_map(|family| &family.samples).map(|sample| sample.name.as_str()).collect();
    let dashboard: Value = serde_json::from_str(&text("grafana/larder.json")).expect("the dashboard is JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 40, "{} expressions in the dashboard", asked.len());
    let rules = text("prometheus/larder.rules.yml");
    asked.extend(rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned));
    for expression in &asked {
        let unknown: Vec<&str> = names(expression).difference(&known).copied().collect();
        assert!(unknown.is_empty(), "{unknown:?} of {expression}");
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_no_section_is_left() {
    let (rules, runbook) = (text("prometheus/larder.rules.yml"), text("RUNBOOK.md"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    let mut sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(alerts.len(), sections.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        assert!(sections.remove(name), "{name} has no section");
        for part in
            ["expr: ", "for: ", "severity: ", "summary: ", "description: ", &format!("runbook: deploy/RUNBOOK.md#{}", name.to_lowercase())]
        {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let section = runbook.split(&format!("## {name}\n")).nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
        assert!(section.contains("Look at:") && section.contains("Do:"), "{name}: {section}");
    }
}

#[test]
fn panels_have_a_title_and_words_and_do_not_lie_on_each_other() {
    let dashboard: Value = serde_json::from_str(&text("grafana/larder.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        assert!(!panel["title"].as_str().unwrap().is_empty());
        assert!(panel["type"] == "row" || !panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} lies on another panel", panel["title"]);
        }
    }
    let asked = |part: &str| panels.iter().any(|panel| panel.to_string().contains(part));
    for part in [
        "larder_reads_total",
        "_duration_seconds",
        "larder_namespace_bytes",
        "by (kind)",
        "larder_log_lag",
        "breaker",
        "events",
        "false_miss",
    ] {
        assert!(asked(part), "{part} is on no panel");
    }
}

#[test]
fn promtool_takes_the_rules() {
    let said = Command::new("promtool").args(["check", "rules"]).arg(deploy("prometheus/larder.rules.yml")).output();
    let said = said.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StartError::NotInstalled("promtool"),
        _ => StartError::Failed(error.to_string()),
    });
    let Some(said) = or_skip(said) else { return };
    assert!(said.status.success(), "{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
}

#[test]
fn names_are_found_in_expressions() {
    let found = names("sum by (le) (rate(larder_a_bucket{x=~\"a|b\"}[5m])) / process_b > up");
    assert_eq!(found, BTreeSet::from(["larder_a_bucket", "process_b"]));
}
