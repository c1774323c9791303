//! The cache over HTTP: the table of routes, what they share, and the layers around them.
//!
//! ```text
//!   panic -> 500   outermost, so that whatever fails within is answered
//!   count          by route, method and status
//!   audit          what changes something, and what is refused, is recorded; what cannot be -> 503
//!   browsers       a request names this server, and no page of others changes anything; headers of every answer
//!   trace          a span and one debug line for each request
//!   gate           /v1 only: draining -> 503, too many under way -> 503
//!   time limit     /v1 only: 504
//!   route          unknown -> 404, unknown method -> 405
//!   payload        too large -> 413, too slow -> 408, no JSON -> 415 or 400
//!   handler
//! ```
//!
//! Probes stand outside of gate and time limit: a server that is busy is alive.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, options, post, put};
use larder::access::Operation;
use larder::{Larder, Raw, TraceParent};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use crate::access::Door;
use crate::audit::Audit;
use crate::backup::runs::Backups;
use crate::cleanup::Cleaner;
use crate::health::Health;
use crate::history::History;
use crate::jobs::Jobs;
use crate::maintenance::Maintenance;
use crate::promise::Promise;
use crate::resp::Resp;
use crate::settings::{HttpLimits, Webhooks};
use browsers::Hosts;
use door::Need;
use metrics::ConnectionCounts;
use metrics::commands::Commands;
use problem::{Kind, Problem};
use stats::window::Windows;
use traces::Watchers;
use webhooks::Intake;

pub mod access;
pub mod audited;
pub mod backups;
pub mod browsers;
pub mod cleanup;
pub mod content;
pub mod dead_letters;
pub mod door;
pub mod entries;
pub mod events;
pub mod headers;
pub mod health;
pub mod history;
pub mod invalidations;
pub mod jobs;
pub mod keys;
pub mod maintenance;
pub mod many;
pub mod metrics;
pub mod octets;
pub mod openapi;
pub mod optimize;
pub mod payload;
pub mod peer;
pub mod percent;
pub mod probes;
pub mod problem;
pub mod report;
pub mod stats;
pub mod traces;
pub mod webhooks;

/// What all handlers share.
pub struct App {
    larder: Larder,
    raw: Raw,
    limits: HttpLimits,
    gate: Gate,
    intake: Intake,
    watchers: Watchers,
    health: Health,
    commands: Commands,
    windows: Windows,
    connections: Arc<ConnectionCounts>,
    /// What answers from the backing tier are said to come from.
    backing: &'static str,
    /// What happened, if that is kept.
    history: Option<History>,
    /// What the server does by itself, if it does anything.
    jobs: Option<Jobs>,
    /// The door for clients of Redis, if there is one.
    resp: Option<Arc<Resp>>,
    /// Who may do what.
    door: Arc<Door>,
    /// Where what is done is recorded, if it is.
    audit: Option<Arc<Audit>>,
    /// How the server looks after itself.
    upkeep: Upkeep,
}

/// How the server looks after itself, as routes see it.
pub struct Upkeep {
    /// What is cleaned up, and whether that is under way.
    pub cleaner: Arc<Cleaner>,
    /// Where backups are, if there is a place for any.
    pub backups: Option<Arc<Backups>>,
    /// Whether the server is under maintenance.
    pub maintenance: Arc<Maintenance>,
    /// Whether the server counts as ready only once memory is warmed up.
    pub ready_waits: bool,
    /// What the process has of what it may have.
    pub promise: Arc<Promise>,
}

/// Handlers get it so.
pub type Shared = Arc<App>;

impl App {
    /// What the routes need to serve a cache.
    pub fn new(
        larder: Larder,
        (limits, webhooks): (HttpLimits, Webhooks),
        health: Health,
        (history, jobs): (Option<History>, Option<Jobs>),
        (resp, door, audit): (Option<Arc<Resp>>, Arc<Door>, Option<Arc<Audit>>),
        upkeep: Upkeep,
    ) -> Shared {
        let backing = larder.stats().backing.map_or("none", |backing| backing.name);
        let gate = Gate::new(limits.requests_max);
        let (intake, watchers) = (Intake::new(webhooks), Watchers::new());
        let (commands, windows, connections) = (Commands::default(), Windows::begin(&larder), Arc::default());
        let raw = larder.raw();
        Arc::new(App {
            raw,
            larder,
            limits,
            gate,
            intake,
            watchers,
            commands,
            windows,
            connections,
            health,
            backing,
            history,
            jobs,
            resp,
            door,
            audit,
            upkeep,
        })
    }

    /// Where connections are counted.
    pub fn connections(&self) -> &Arc<ConnectionCounts> {
        &self.connections
    }

    /// How the server looks after itself.
    pub fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    /// Where requests are let in.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// Counts the requests under way, refuses those that are too many, and closes when the server drains.
pub struct Gate {
    permits: Semaphore,
    requests_max: u32,
    draining: AtomicBool,
    /// Woken when it begins to drain.
    closing: Notify,
}

impl Gate {
    fn new(requests_max: u32) -> Self {
        Gate { permits: Semaphore::new(requests_max as usize), requests_max, draining: AtomicBool::new(false), closing: Notify::new() }
    }

    fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        if self.is_draining() {
            return Err(Problem::new(Kind::Draining, "the server takes no new requests; another one may"));
        }
        self.permits.try_acquire().map_err(|refused| match refused {
            TryAcquireError::NoPermits => {
                let detail = format!("{} requests are under way, which is the most that may be", self.requests_max);
                Problem::new(Kind::Overloaded, detail).limit(self.requests_max.into())
            }
            TryAcquireError::Closed => Problem::new(Kind::Draining, "the server has ended its work"),
        })
    }

    /// Whether new requests are refused because the server is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses new requests from now on.
    pub fn close(&self) {
        self.draining.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    /// Waits until new requests are refused: for answers that go on until then.
    pub async fn closed(&self) {
        loop {
            // Listening begins before the look, so that what happens in between is not missed.
            let closing = self.closing.notified();
            if self.is_draining() {
                return;
            }
            closing.await;
        }
    }

    /// Waits until no request is under way. Once [`close`](Self::close)d, none will be after that either: one that passed
    /// the flag before it was set has its permit already, or finds none left and is refused.
    pub async fn emptied(&self) {
        let all = self.permits.acquire_many(self.requests_max).await;
        all.expect("only this closes the permits, once").forget();
        self.permits.close();
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        (self.requests_max as usize).saturating_sub(self.permits.available_permits())
    }
}

/// A route and a method: what the OpenAPI document lists, and the router is made of.
pub struct Endpoint {
    /// The path, as axum and OpenAPI write it.
    pub path: &'static str,
    /// The method.
    pub method: Method,
    /// What who asks must be allowed to.
    pub need: Need,
    handler: MethodRouter<Shared>,
}

impl Endpoint {
    fn new(method: Method, path: &'static str, need: Need, handler: MethodRouter<Shared>) -> Self {
        Endpoint { path, method, need, handler }
    }
}

/// An entry's path. The key is one segment, percent-encoded.
pub const ENTRY: &str = "/v1/entries/{key}";

/// The content that an entry stands for.
const CONTENT: &str = "/v1/entries/{key}/content";
/// Why it is served or not.
const EXPLANATION: &str = "/v1/entries/{key}/explanation";
/// A source that entries are computed from.
const SOURCE: &str = "/v1/sources/{name}";
/// Whether the server is under maintenance.
pub const MAINTENANCE: &str = "/v1/maintenance";
/// Long work on backups.
pub const BACKUP_RUN: &str = "/v1/backup-runs/{run}";
/// A dead letter's path.
pub const DEAD_LETTER: &str = "/v1/dead-letters/{id}";

/// The data plane.
pub fn data_plane() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, ENTRY, READ, get(entries::read)),
        Endpoint::new(Method::HEAD, ENTRY, READ, head(entries::read)),
        Endpoint::new(Method::PUT, ENTRY, WRITE, put(entries::write)),
        Endpoint::new(Method::DELETE, ENTRY, DELETE, delete(entries::remove)),
        Endpoint::new(Method::POST, CONTENT, Need::Entry(&[Operation::Read, Operation::Invalidate]), post(content::validate)),
        Endpoint::new(Method::GET, EXPLANATION, READ, get(content::explain)),
        Endpoint::new(Method::GET, SOURCE, Need::Source(&[Operation::Read]), get(content::version)),
        Endpoint::new(Method::PUT, SOURCE, Need::Source(&[Operation::Invalidate]), put(content::moved)),
        Endpoint::new(Method::POST, "/v1/entries/get", Need::Body(Operation::Read), post(many::read)),
        Endpoint::new(Method::POST, "/v1/entries/put", Need::Body(Operation::Write), post(many::write)),
        Endpoint::new(Method::POST, "/v1/invalidations", Need::Body(Operation::Invalidate), post(invalidations::invalidate)),
        Endpoint::new(Method::POST, "/v1/events", Need::EmitOrSigned, post(events::take)),
        Endpoint::new(
            Method::OPTIONS,
            "/v1/events",
            Need::Nothing("senders ask before they have anything to prove who they are with"),
            options(webhooks::validate),
        ),
        Endpoint::new(Method::GET, "/v1/events", METRICS, get(traces::list)),
        Endpoint::new(Method::GET, "/v1/events/tail", METRICS, get(traces::tail)),
        Endpoint::new(Method::GET, "/v1/dead-letters", ADMIN, get(dead_letters::list)),
        Endpoint::new(Method::GET, DEAD_LETTER, ADMIN, get(dead_letters::show)),
        Endpoint::new(Method::DELETE, DEAD_LETTER, ADMIN, delete(dead_letters::forget)),
        Endpoint::new(Method::POST, "/v1/dead-letters/{id}/replay", ADMIN, post(dead_letters::replay)),
        Endpoint::new(Method::GET, "/v1/keys", Need::Readable, get(keys::list)),
        Endpoint::new(Method::GET, "/v1/stats", METRICS, get(stats::show)),
        Endpoint::new(Method::POST, "/v1/stats/reset", ADMIN, post(stats::window::reset)),
        Endpoint::new(Method::GET, "/v1/reports/{kind}", METRICS, get(report::show)),
        Endpoint::new(Method::GET, "/v1/history", METRICS, get(history::show)),
        Endpoint::new(Method::GET, "/v1/health", METRICS, get(health::show)),
        Endpoint::new(Method::GET, "/v1/optimize", METRICS, get(optimize::show)),
        Endpoint::new(Method::POST, "/v1/optimize", ADMIN, post(optimize::act)),
        Endpoint::new(Method::POST, "/v1/cleanup", ADMIN, post(cleanup::begin)),
        Endpoint::new(Method::GET, "/v1/cleanup", METRICS, get(cleanup::show)),
        Endpoint::new(Method::DELETE, "/v1/cleanup", ADMIN, delete(cleanup::cancel)),
        Endpoint::new(Method::POST, MAINTENANCE, ADMIN, post(maintenance::begin)),
        Endpoint::new(Method::GET, MAINTENANCE, METRICS, get(maintenance::show)),
        Endpoint::new(Method::DELETE, MAINTENANCE, ADMIN, delete(maintenance::end)),
    ]
    .into_iter()
    .chain(job_routes())
    .chain(backup_routes())
    .chain(access_routes())
    .collect()
}

/// What the server does by itself. All of it is for who administers it: results and reasons tell of the inside.
fn job_routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, "/v1/jobs", ADMIN, get(jobs::list)),
        Endpoint::new(Method::GET, "/v1/jobs/{name}", ADMIN, get(jobs::show)),
        Endpoint::new(Method::POST, "/v1/jobs/{name}/run", ADMIN, post(jobs::run)),
        Endpoint::new(Method::POST, "/v1/jobs/{name}/pause", ADMIN, post(jobs::pause)),
        Endpoint::new(Method::POST, "/v1/jobs/{name}/resume", ADMIN, post(jobs::resume)),
        Endpoint::new(Method::GET, "/v1/jobs/{name}/runs/{id}", ADMIN, get(jobs::show_run)),
        Endpoint::new(Method::POST, "/v1/jobs/{name}/runs/{id}/cancel", ADMIN, post(jobs::cancel)),
    ]
}

/// Backups, and long work on them.
fn backup_routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, "/v1/backups", ADMIN, get(backups::list)),
        Endpoint::new(Method::GET, "/v1/backups/{name}", ADMIN, get(backups::show)),
        Endpoint::new(Method::POST, "/v1/backup-runs", ADMIN, post(backups::begin)),
        Endpoint::new(Method::GET, BACKUP_RUN, ADMIN, get(backups::look)),
        Endpoint::new(Method::DELETE, BACKUP_RUN, ADMIN, delete(backups::cancel)),
    ]
}

/// Who may do what, managed while the server runs.
fn access_routes() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::POST, SESSION, Need::Nothing("the password is in the body"), post(access::begin_session)),
        Endpoint::new(Method::GET, SESSION, Need::Somebody, get(access::who)),
        Endpoint::new(Method::DELETE, SESSION, Need::Somebody, delete(access::end_session)),
        Endpoint::new(Method::GET, "/v1/access/principals", ADMIN, get(access::principals)),
        Endpoint::new(Method::PUT, PRINCIPAL, ADMIN, put(access::put_principal)),
        Endpoint::new(Method::DELETE, PRINCIPAL, ADMIN, delete(access::remove_principal)),
        Endpoint::new(Method::GET, "/v1/access/tokens", ADMIN, get(access::tokens)),
        Endpoint::new(Method::POST, "/v1/access/tokens", ADMIN, post(access::create_token)),
        Endpoint::new(Method::DELETE, TOKEN, ADMIN, delete(access::revoke_token)),
        Endpoint::new(Method::POST, "/v1/access/tokens/{id}/rotate", ADMIN, post(access::rotate_token)),
        Endpoint::new(Method::POST, "/v1/access/explain", ADMIN, post(access::explain)),
    ]
}

const READ: Need = Need::Entry(&[Operation::Read]);
const WRITE: Need = Need::Entry(&[Operation::Write]);
const DELETE: Need = Need::Entry(&[Operation::Delete]);
const METRICS: Need = Need::Server(Operation::Metrics);
const ADMIN: Need = Need::Server(Operation::Admin);
const PROBE: Need = Need::Nothing("who watches whether a server lives has no token, and learns no more than that");

/// A person's session.
const SESSION: &str = "/v1/access/session";
/// A principal of the book.
const PRINCIPAL: &str = "/v1/access/principals/{name}";
/// A token.
const TOKEN: &str = "/v1/access/tokens/{id}";

/// The routes that are asked all the time, by whoever watches the server.
const PROBES: [&str; 5] = ["/livez", "/readyz", "/startupz", "/health", "/metrics"];

/// What asks about the server rather than the cache.
pub fn about() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, "/livez", PROBE, get(probes::alive)),
        Endpoint::new(Method::GET, "/readyz", PROBE, get(probes::ready)),
        Endpoint::new(Method::GET, "/startupz", PROBE, get(probes::started)),
        Endpoint::new(Method::GET, "/health", METRICS, get(health::draft)),
        Endpoint::new(Method::GET, "/metrics", METRICS, get(metrics::show)),
        Endpoint::new(
            Method::GET,
            "/openapi.json",
            Need::Nothing("it is the same for every server, and says how to ask"),
            get(openapi::show),
        ),
    ]
}

/// Everything, ready to be served under these names, and recorded where there is an audit log.
pub fn router(app: Shared, hosts: Hosts, audit: Option<Arc<Audit>>) -> Router {
    let gated = with_gate(routes(data_plane(), &app).merge(routes(shadowed_keys(), &app)), &app);
    outermost(gated.merge(routes(about(), &app)), app, hosts, audit)
}

fn routes(endpoints: Vec<Endpoint>, app: &Shared) -> Router<Shared> {
    let pass = |need: Need| {
        let app = app.clone();
        from_fn(move |request: Request, next: Next| door::pass((State(app.clone()), need), request, next))
    };
    endpoints
        .into_iter()
        .fold(Router::new(), |router, Endpoint { path, need, handler, .. }| router.route(path, handler.route_layer(pass(need))))
}

/// The entries whose keys are spelled like a route of their own, and the empty key, whose problem is not an unknown route.
fn shadowed_keys() -> Vec<Endpoint> {
    let of = |path| {
        [
            Endpoint::new(Method::GET, path, READ, get(entries::read)),
            Endpoint::new(Method::PUT, path, WRITE, put(entries::write)),
            Endpoint::new(Method::DELETE, path, DELETE, delete(entries::remove)),
        ]
    };
    ["/v1/entries/get", "/v1/entries/put", "/v1/entries/"].into_iter().flat_map(of).collect()
}

fn with_gate(router: Router<Shared>, app: &Shared) -> Router<Shared> {
    router.route_layer(from_fn_with_state(app.clone(), limit_time)).route_layer(from_fn_with_state(app.clone(), pass_gate))
}

fn outermost(router: Router<Shared>, app: Shared, hosts: Hosts, audit: Option<Arc<Audit>>) -> Router {
    let router = router
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn(trace))
        .layer(from_fn_with_state(Arc::new(hosts), browsers::guard));
    let router = match audit {
        Some(audit) => router.layer(from_fn_with_state(audit, audited::record)),
        None => router,
    };
    router.layer(from_fn_with_state(app.clone(), metrics::commands::count)).layer(CatchPanicLayer::custom(panicked)).with_state(app)
}

async fn pass_gate(State(app): State<Shared>, request: Request, next: Next) -> Result<Response, Problem> {
    let _permit = app.gate.enter()?;
    Ok(next.run(request).await)
}

async fn limit_time(State(app): State<Shared>, request: Request, next: Next) -> Result<Response, Problem> {
    let limit = app.limits.request_timeout;
    let late = |_| Problem::new(Kind::TimedOut, format!("a request may take {limit:?}; whether it took effect is not known"));
    tokio::time::timeout(limit, next.run(request)).await.map_err(late)
}

/// A span for each request but probes, which are asked all the time.
async fn trace(request: Request, next: Next) -> Response {
    let (method, path, begun) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let span = span_of(&request);
    let answering = async {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        Span::current().record("status", status);
        tracing::debug!(%method, path, status, took = ?begun.elapsed(), "answered");
        response
    };
    answering.instrument(span).await
}

/// It belongs to the trace that the request's `traceparent` names, if it has one. It has the route and not the path, in which keys
/// stand.
fn span_of(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    if PROBES.contains(&route) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: "larder::spans", "larder.request",
        method = %request.method(), route, status = Empty, trace_id = Empty, parent_id = Empty, sampled = Empty
    );
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok()?.parse::<TraceParent>().ok());
    if let Some(TraceParent { trace_id, span_id, is_sampled }) = parent {
        span.record("trace_id", display(format_args!("{trace_id:032x}"))).record("parent_id", display(format_args!("{span_id:016x}")));
        span.record("sampled", is_sampled);
    }
    span
}

async fn unknown_route(request: Request) -> Problem {
    let detail = format!("{} is not served here; /openapi.json lists what is", request.uri().path());
    Problem::new(Kind::UnknownRoute, detail)
}

async fn unknown_method(request: Request) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not take {}", request.uri().path(), request.method()))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = words.unwrap_or("without words"), "a request panicked");
    Problem::new(Kind::Internal, "this is a fault of larder; its log has more").into_response()
}

/// An answer without a body.
fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests;
