//! Probes: is the process alive, has it started, and should it be sent requests? The first never depends on anything else, and
//! none waits for anything: they tell what was found last, in the background.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::problem::{Kind, Problem};
use super::{App, Shared, percent};
use crate::health::{self, Component};

/// What is looked at beside the components: whether the server is shutting down, whether it has started, and whether memory is warm.
const OWN: [&str; 3] = ["server", "startup", "warm_up"];

/// Names in `exclude` that are looked at; more are a mistake.
const EXCLUDED_MAX: usize = 64;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it is.
    pub name: String,
    /// Whether it is in order.
    pub ok: bool,
    /// Whether the server can be used without it.
    pub needed: bool,
    /// Whether it does not count because the request said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What `/readyz?verbose` says as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether requests should be sent here.
    pub ready: bool,
    /// Whether something is not in order, needed or not.
    pub degraded: bool,
    /// Why, or why not.
    pub checks: Vec<Check>,
}

/// `GET /livez`: the process answers. That is all it says, because a restart would help against nothing else.
pub async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /startupz`: 503 until the server has started, 200 from then on.
pub async fn started(State(app): State<Shared>) -> Response {
    let (status, text) = if app.health.has_started() {
        (StatusCode::OK, "started\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting: the cache is probed, and the log taken up; see /readyz?verbose\n")
    };
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}

/// `GET /readyz`: 200 where requests should be sent here, else 503. With `?verbose`, why; what is named by `?exclude=` does not
/// count.
///
/// # Errors
/// [`Kind::InvalidRequest`] for the name of nothing that could be excluded.
pub async fn ready(State(app): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default();
    let verbose = query.split('&').any(|pair| pair.split('=').next() == Some("verbose"));
    let readiness = Readiness::of(checks(&app, &excluded(query)?));
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let fresh = [(CACHE_CONTROL, "no-store")];
    let wants_json = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    Ok(match (verbose, wants_json) {
        (true, true) => (status, fresh, Answer(readiness)).into_response(),
        (true, false) => (status, fresh, readiness.lines()).into_response(),
        (false, _) => (status, fresh, readiness.summary("; see /readyz?verbose")).into_response(),
    })
}

/// The names given with `exclude`, each time that it is given, or between commas.
fn excluded(query: &str) -> Result<Vec<String>, Problem> {
    let known = || OWN.into_iter().chain(health::NAMES);
    let bad = |what: String| Problem::new(Kind::InvalidRequest, what);
    let mut excluded = Vec::new();
    for value in query.split('&').filter_map(|pair| pair.strip_prefix("exclude=")) {
        let text = percent::decode(value.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| bad("\"exclude\" is badly percent-encoded".to_owned()))?;
        for name in text.split(',').filter(|name| !name.is_empty()) {
            if !known().any(|one| one == name) {
                let all = known().collect::<Vec<_>>().join(", ");
                let shown: String = name.chars().take(64).collect();
                return Err(bad(format!("there is no check \"{}\" to exclude; there are {all}", shown.escape_debug())));
            }
            if excluded.len() >= EXCLUDED_MAX {
                return Err(bad(format!("at most {EXCLUDED_MAX} checks can be excluded")));
            }
            excluded.push(name.to_owned());
        }
    }
    Ok(excluded)
}

fn checks(app: &App, excluded: &[String]) -> Vec<Check> {
    let draining = app.gate.is_draining().then(|| "the server is shutting down".to_owned());
    let starting = (!app.health.has_started()).then(|| "the cache is probed, and the log taken up".to_owned());
    let own = [("server", draining), ("startup", starting)].into_iter().chain(warming(app)).map(|(name, message)| (name, true, message));
    let components = app.health.components();
    let of_component = |component: &Component| {
        let message = component.reason.as_ref().map(|reason| format!("{}: {}", component.state.name(), reason.what));
        // What is needed and works worse than it should can be used all the same.
        let needed = component.needed && component.state != health::State::Degraded;
        (component.name, needed, message)
    };
    let all = own.chain(components.iter().map(|component| of_component(component)));
    let check = |(name, needed, message): (&str, bool, Option<String>)| Check {
        name: name.into(),
        ok: message.is_none(),
        needed,
        excluded: excluded.iter().any(|one| one == name),
        message,
    };
    all.map(check).collect()
}

/// Whether memory is warm, where it is waited for.
fn warming(app: &App) -> Option<(&'static str, Option<String>)> {
    let warmth = app.larder.warmth().filter(|_| app.upkeep.ready_waits)?;
    let told = || format!("memory is being warmed up: {} of {} keys were asked for", warmth.asked, warmth.keys);
    Some(("warm_up", warmth.ended.is_none().then(told)))
}

impl Readiness {
    fn of(checks: Vec<Check>) -> Self {
        let counted = || checks.iter().filter(|check| !check.excluded);
        let ready = counted().all(|check| check.ok || !check.needed);
        let degraded = counted().any(|check| !check.ok);
        Readiness { ready, degraded, checks }
    }

    fn summary(&self, more: &str) -> String {
        match (self.ready, self.degraded) {
            (true, false) => "ready\n".to_owned(),
            (true, true) => format!("ready, but degraded{more}\n"),
            (false, _) => format!("not ready{more}\n"),
        }
    }

    /// A line for each, as the probes of Kubernetes' own servers have it.
    fn lines(&self) -> String {
        let line = |check: &Check| {
            let sign = if check.ok { '+' } else { '-' };
            let name = &check.name;
            let rest = match (&check.message, check.excluded, check.needed) {
                (_, true, _) => "excluded: ok".to_owned(),
                (None, ..) => "ok".to_owned(),
                (Some(message), _, true) => format!("failed: {message}"),
                (Some(message), _, false) => format!("failed, and is not needed: {message}"),
            };
            // What a message took from elsewhere stays on its line.
            format!("[{sign}]{name} {}\n", rest.replace(char::is_control, " "))
        };
        let lines: String = self.checks.iter().map(line).collect();
        lines + &self.summary("")
    }
}
