//! What is wrong with the cache, and what to do about it: for people and their alarms. Probes are elsewhere, because what
//! deserves attention is seldom a reason to send requests to another server.
//!
//! `/health` is the same in the form of the Internet draft "Health Check Response Format for HTTP APIs"
//! (draft-inadarei-api-health-check-06), which monitoring knows, with the numbers. It stands beside the probes, outside of gate and
//! time limit, and tells what was found last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use larder::{Finding, Health, Severity};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Shared;
use crate::health::{self, Component};
use crate::moment;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `healthy`, `degraded` where it works worse than it should, or `failing` where changes are refused.
    pub state: String,
    /// What deserves attention, the worst first.
    pub findings: Vec<Found>,
}

/// One thing that deserves attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `notice` for what could hurt later, `degraded` for what does, `failing` where changes are refused.
    pub severity: String,
    /// The part that it is about, such as `log`.
    pub about: String,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// `GET /v1/health`: always 200, since it is the report that was asked for.
pub async fn show(State(app): State<Shared>) -> Answer<Report> {
    Answer(app.larder.health().into())
}

impl From<Health> for Report {
    fn from(health: Health) -> Self {
        let state = match health.worst() {
            None | Some(Severity::Notice) => "healthy",
            Some(Severity::Degraded) => "degraded",
            Some(Severity::Failing) => "failing",
        };
        Report { state: state.into(), findings: health.findings.into_iter().map(Found::from).collect() }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let severity = match finding.severity {
            Severity::Notice => "notice",
            Severity::Degraded => "degraded",
            Severity::Failing => "failing",
        };
        Found { severity: severity.into(), about: finding.about.into(), what: finding.what, advice: finding.advice }
    }
}

/// What `/health` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `pass`, `warn` where something works worse than it should, `fail` where somebody should come.
    pub status: String,
    /// The version of larder.
    pub release_id: String,
    /// What the server is.
    pub description: String,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// By component and measurement, as `log:lag`.
    pub checks: BTreeMap<String, Vec<Measurement>>,
}

/// One measurement of a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// Which one, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_id: Option<String>,
    /// `component`, `datastore` or `system`.
    pub component_type: String,
    /// What was found; left out where nothing could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_value: Option<Json>,
    /// Its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_unit: Option<String>,
    /// How the component is: `pass`, `warn` or `fail`.
    pub status: String,
    /// Since when it is so.
    pub since: String,
    /// When it was looked at last.
    pub time: String,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// `GET /health`: 200 with `pass` and `warn`, 503 with `fail`.
pub async fn draft(State(app): State<Shared>) -> Response {
    let document = document(&app.health.components());
    let status = if document.status == "fail" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let text = serde_json::to_string(&document).expect("it is texts and numbers");
    (status, [(CONTENT_TYPE, "application/health+json"), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn document(components: &[Arc<Component>]) -> Document {
    let told = |component: &Arc<Component>| Some(format!("{}: {}", component.name, component.reason.as_ref()?.what));
    Document {
        status: status(health::Health::state(components)).into(),
        release_id: env!("CARGO_PKG_VERSION").into(),
        description: "larder: a cache whose reads can say how fresh they are".into(),
        notes: components.iter().filter_map(told).collect(),
        checks: components.iter().flat_map(|component| measurements(component)).fold(BTreeMap::new(), |mut checks, (name, one)| {
            checks.entry(name).or_insert_with(Vec::new).push(one);
            checks
        }),
    }
}

/// Each of a component; one without a value where nothing was measured, so that no component is missing.
fn measurements(component: &Component) -> Vec<(String, Measurement)> {
    let bare = Measurement {
        component_id: None,
        component_type: component.kind.into(),
        observed_value: None,
        observed_unit: None,
        status: status(component.state).into(),
        since: timestamp(component.since),
        time: timestamp(component.at),
        output: component.reason.as_ref().map(|reason| reason.what.clone()),
        advice: component.reason.as_ref().map(|reason| reason.advice.clone()),
    };
    if component.observed.is_empty() {
        return vec![(component.name.to_owned(), bare)];
    }
    let measured = component.observed.iter().map(|observed| {
        let one = Measurement {
            component_id: observed.id.clone(),
            observed_value: Some(observed.value.clone()),
            observed_unit: observed.unit.map(str::to_owned),
            ..bare.clone()
        };
        (format!("{}:{}", component.name, observed.what), one)
    });
    measured.collect()
}

fn status(state: health::State) -> &'static str {
    match state {
        health::State::Healthy => "pass",
        health::State::Degraded => "warn",
        health::State::Unhealthy => "fail",
    }
}

fn timestamp(at: SystemTime) -> String {
    moment::timestamp(at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}
