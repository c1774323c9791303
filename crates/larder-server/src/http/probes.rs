//! Probes: is the process alive, and should it be sent requests? The first never depends on anything else.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use larder::SharedLogStats;
use larder::tier::TierState;
use serde::{Deserialize, Serialize};

use super::{App, Shared};

/// One thing that was looked at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Check {
    /// What it is.
    pub name: String,
    /// Whether it is in order.
    pub ok: bool,
    /// Whether the server can be used without it.
    pub needed: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What `/readyz?verbose` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether requests should be sent here.
    pub ready: bool,
    /// Whether something that is not needed is not in order.
    pub degraded: bool,
    /// Why, or why not.
    pub checks: Vec<Check>,
}

/// `GET /livez`: the process answers. That is all it says, because a restart would help against nothing else.
pub async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: 200 where requests should be sent here, else 503. With `?verbose`, why.
pub async fn ready(State(app): State<Shared>, uri: Uri) -> Response {
    let checks = checks(&app);
    let ready = checks.iter().all(|check| check.ok || !check.needed);
    let degraded = checks.iter().any(|check| !check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")));
    if verbose {
        return (status, Answer(Readiness { ready, degraded, checks })).into_response();
    }
    let text = match (ready, degraded) {
        (true, false) => "ready\n",
        (true, true) => "ready, but degraded; see /readyz?verbose\n",
        (false, _) => "not ready; see /readyz?verbose\n",
    };
    (status, text).into_response()
}

fn checks(app: &App) -> Vec<Check> {
    let stats = app.larder.stats();
    let draining = app.gate.is_draining().then(|| "the server is shutting down".to_owned());
    let log = stats.log.shared.map_or_else(|| check("log", true, stats.log.failed.clone()), |shared| shared_log(app, shared));
    // Without its backing tier the cache is slower and smaller, and right: not a reason to send requests elsewhere.
    let backing = stats.backing.map(|backing| match backing.state {
        TierState::Healthy => check("backing", false, None),
        TierState::Degraded(reason) => check("backing", false, Some(reason)),
    });
    [check("server", true, draining), log].into_iter().chain(backing).collect()
}

/// A log that is shared with other servers is away for all of them at once: were they all to say "not ready", nobody would
/// be left to answer what can be answered without it. Where nothing can be, because the cache is strict, it is needed.
fn shared_log(app: &App, shared: SharedLogStats) -> Check {
    let away = (!shared.connected).then(|| {
        let trouble = shared.trouble.unwrap_or_else(|| "it was not reached yet".to_owned());
        let queued = if shared.queued > 0 { format!("; {} names wait to be told to other servers", shared.queued) } else { String::new() };
        format!("Redis cannot be reached: {trouble}{queued}")
    });
    check("log", app.is_strict, away)
}

fn check(name: &str, needed: bool, message: Option<String>) -> Check {
    Check { name: name.into(), ok: message.is_none(), needed, message }
}
