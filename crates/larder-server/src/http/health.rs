//! What is wrong with the cache, and what to do about it: for people and their alarms. Probes are elsewhere, because what
//! deserves attention is seldom a reason to send requests to another server.

use axum::Json as Answer;
use axum::extract::State;
use larder::{Finding, Health, Severity};
use serde::{Deserialize, Serialize};

use super::Shared;

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
