//! Probes: is the process alive, has it started, and should it be sent requests? The first never depends on anything else, and
//! none waits for anything: they tell what was found last, in the background.

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CACHE_CONTROL};
use axum::response::{IntoResponse, Response};
use larder::access::{Operation, Target};
use serde::{Deserialize, Serialize};

use super::door::Who;
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
    /// What is wrong with it; its state alone for who may not read `/health`.
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
/// count. Reasons name files and addresses: where it matters who asks, they are told to who may read `/health`, which has the same.
///
/// # Errors
/// [`Kind::InvalidRequest`] for the name of nothing that could be excluded.
pub async fn ready(State(app): State<Shared>, request: Request) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let verbose = query.split('&').any(|pair| pair.split('=').next() == Some("verbose"));
    let mut checks = checks(&app, &excluded(query)?);
    // A probe with a token that is over is answered as one without.
    let may_know = verbose && Who::if_known(&app, &request).is_some_and(|who| who.check(Operation::Metrics, Target::Server).is_ok());
    if !may_know {
        checks.iter_mut().for_each(|(_, found)| found.iter_mut().for_each(|wrong| wrong.why = None));
    }
    let readiness = Readiness::of(checks.into_iter().map(|(check, wrong)| Check { message: wrong.map(Wrong::words), ..check }).collect());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let fresh = [(CACHE_CONTROL, "no-store")];
    let wants_json = request.headers().get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
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

/// What is wrong with something that was looked at.
struct Wrong {
    /// How it is, in a word or two that are the same on every server.
    state: &'static str,
    /// The rest, which is of this server.
    why: Option<String>,
}

impl Wrong {
    fn words(self) -> String {
        match self.why {
            Some(why) => format!("{}: {why}", self.state),
            None => self.state.to_owned(),
        }
    }
}

fn checks(app: &App, excluded: &[String]) -> Vec<(Check, Option<Wrong>)> {
    let draining = app.gate.is_draining().then_some(Wrong { state: "the server is shutting down", why: None });
    let starting = (!app.health.has_started()).then_some(Wrong { state: "the cache is probed, and the log taken up", why: None });
    let own = [("server", draining), ("startup", starting)].into_iter().chain(warming(app)).map(|(name, wrong)| (name, true, wrong));
    let components = app.health.components();
    let of_component = |component: &Component| {
        let state = component.state.name();
        let wrong = component.reason.as_ref().map(|reason| Wrong { state, why: Some(reason.what.clone()) });
        // What is needed and works worse than it should can be used all the same.
        let needed = component.needed && component.state != health::State::Degraded;
        (component.name, needed, wrong)
    };
    let all = own.chain(components.iter().map(|component| of_component(component)));
    let check = |(name, needed, wrong): (&str, bool, Option<Wrong>)| {
        let excluded = excluded.iter().any(|one| one == name);
        (Check { name: name.into(), ok: wrong.is_none(), needed, excluded, message: None }, wrong)
    };
    all.map(check).collect()
}

/// Whether memory is warm, where it is waited for.
fn warming(app: &App) -> Option<(&'static str, Option<Wrong>)> {
    let warmth = app.larder.warmth().filter(|_| app.upkeep.ready_waits)?;
    let told =
        || Wrong { state: "memory is being warmed up", why: Some(format!("{} of {} keys were asked for", warmth.asked, warmth.keys)) };
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
