//! What became of events over HTTP: of the last ones as a list, and of those to come as a stream.
//!
//! The stream is `text/event-stream` (server-sent events, <https://html.spec.whatwg.org/multipage/server-sent-events.html>):
//! unlike lines of JSON it has a place for the number to go on from, for a heartbeat that is no event, and for the news that some
//! were missed; a browser and `curl -N` read it as it is.
//!
//! ```text
//! id: 5f0c..-742         the life of the server and the event's number: what a client sends as Last-Event-ID to go on from there
//! data: {"number":742, ..}
//!
//! event: missed          it was too slow for so many
//! data: {"missed":12}
//!
//! :                      every few seconds where there is nothing to say
//! ```
//!
//! A watcher ends when it leaves, and when the server is told to stop.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use larder::access::Operation;
use larder::events::{EVENT_TRACES_MAX, EventTrace, EventWatch, Watched};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::door::Who;
use super::problem::{Kind, Problem};
use super::{Shared, payload};

/// Watchers at once: people and dashboards. Each costs a task and a connection.
pub const WATCHERS_MAX: usize = 64;

/// How often a watcher hears something at least, so that it and all on the way know that the connection lives.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// Events that are written ahead of what a watcher has read.
const AHEAD: usize = 16;

/// Traces on a list unless more or fewer are asked for.
const LISTED: usize = 100;

const LAST_EVENT_ID: &str = "last-event-id";

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Its number in the life of this server, in the order in which events ended.
    pub number: u64,
    /// When it came, in milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Through which door, such as `http`.
    pub through: String,
    /// What its source calls it.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about; null where it does not say.
    pub subject: Option<String>,
    /// How it ended, in a word.
    pub outcome: String,
    /// Why it was refused or failed; null otherwise.
    pub reason: Option<String>,
    /// The rules that are for it.
    pub rules: Vec<String>,
    /// The first of the names that it invalidates.
    pub names: Vec<String>,
    /// How many there are.
    pub names_count: usize,
    /// How many of them were put off to the end of their window.
    pub conflated: usize,
    /// Where the last of it stands in the log; null where it invalidates nothing.
    pub position: Option<String>,
    /// Live entries in memory that it made stale; null where nobody asked, or it came too soon after others.
    pub entries: Option<u64>,
    /// How many handlers managed it.
    pub handled: usize,
    /// Dead letters that came of it.
    pub dead: Vec<u64>,
    /// Microseconds until all of it was stale; null where it invalidates nothing.
    pub applied_after_us: Option<u64>,
    /// Microseconds until it was done with.
    pub took_us: u64,
}

/// What became of the last events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traces {
    /// Drawn at random when the server starts: numbers of another life are other events.
    pub life: String,
    /// The oldest first.
    pub events: Vec<Trace>,
}

impl From<&EventTrace> for Trace {
    fn from(trace: &EventTrace) -> Self {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Trace {
            number: trace.number,
            received_ms: trace.received_ms,
            through: trace.through.clone().into_owned(),
            id: trace.id.clone(),
            source: trace.source.clone(),
            kind: trace.kind.clone(),
            subject: trace.subject.clone(),
            outcome: trace.outcome.as_str().to_owned(),
            reason: trace.outcome.reason().map(str::to_owned),
            rules: trace.rules.clone(),
            names: trace.names.clone(),
            names_count: trace.names_count,
            conflated: trace.conflated,
            position: trace.position.map(|position| position.to_string()),
            entries: trace.entries,
            handled: trace.handled,
            dead: trace.dead.clone(),
            applied_after_us: trace.applied_after.map(us),
            took_us: us(trace.took),
        }
    }
}

/// Where watchers are let in.
pub struct Watchers {
    /// Drawn at random; see [`Traces::life`].
    life: u64,
    places: Arc<Semaphore>,
}

impl Watchers {
    /// Nobody watches yet.
    pub fn new() -> Self {
        Watchers { life: fastrand::u64(..), places: Arc::new(Semaphore::new(WATCHERS_MAX)) }
    }

    fn life(&self) -> String {
        format!("{:016x}", self.life)
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{WATCHERS_MAX} watch the events already, which is the most that may");
            Problem::new(Kind::Overloaded, detail).limit(WATCHERS_MAX as u64)
        })
    }

    /// The number that a watcher wants to go on from, if it has watched before. Of another life it has seen nothing.
    fn seen(&self, headers: &HeaderMap) -> Option<u64> {
        let (life, number) = headers.get(LAST_EVENT_ID)?.to_str().ok()?.rsplit_once('-')?;
        Some(if life == self.life() { number.parse().unwrap_or(0) } else { 0 })
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// As somebody may see it: who may not read all there is, is not told what could be the name of a key.
    fn seen_by(mut self, who: &Who) -> Self {
        if !who.reads_all() {
            self.names.clear();
            (self.subject, self.reason) = (None, None);
        }
        self
    }
}

fn wanted_type(uri: &Uri) -> Result<Option<String>, Problem> {
    payload::query(uri, "type", "the type of an event", |found| std::str::from_utf8(found).ok().map(str::to_owned))
}

fn number(uri: &Uri, name: &str, least: usize) -> Result<Option<usize>, Problem> {
    let expected = format!("a number from {least} to {EVENT_TRACES_MAX}");
    let read = |found: &[u8]| std::str::from_utf8(found).ok()?.parse().ok().filter(|number| (least..=EVENT_TRACES_MAX).contains(number));
    payload::query(uri, name, &expected, read)
}

/// `GET /v1/events`.
///
/// # Errors
/// [`Kind::InvalidRequest`] for a limit that is none.
pub async fn list(State(app): State<Shared>, who: Who, uri: Uri) -> Result<Answer<Traces>, Problem> {
    let (limit, wanted) = (number(&uri, "limit", 1)?.unwrap_or(LISTED), wanted_type(&uri)?);
    let all = app.larder.event_traces(EVENT_TRACES_MAX);
    let of_type: Vec<_> = all.iter().filter(|trace| wanted.as_ref().is_none_or(|wanted| *wanted == trace.kind)).collect();
    let events = of_type[of_type.len().saturating_sub(limit)..].iter().map(|trace| Trace::from(&***trace).seen_by(&who)).collect();
    Ok(Answer(Traces { life: app.watchers.life(), events }))
}

/// `GET /v1/events/tail`.
///
/// # Errors
/// [`Kind::InvalidRequest`] for a query that cannot be understood, [`Kind::Overloaded`] where too many watch.
pub async fn tail(State(app): State<Shared>, who: Who, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let yes_or_no = |found: &[u8]| std::str::from_utf8(found).ok()?.parse().ok();
    let entries = payload::query(&uri, "entries", "true or false", yes_or_no)?.unwrap_or(false);
    let (last, wanted) = (number(&uri, "last", 0)?.unwrap_or(0), wanted_type(&uri)?);
    let place = app.watchers.enter()?;
    let mut watch = if entries { app.larder.watch_events_and_entries() } else { app.larder.watch_events() };
    if let Some(seen) = app.watchers.seen(&headers) {
        watch = watch.after(seen);
    } else if let Some(oldest) = app.larder.event_traces(last).first() {
        watch = watch.after(oldest.number - 1);
    }
    let (lines, received) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            () = feed(app.clone(), who.clone(), watch, wanted, lines) => {}
            // What was asked for with a token that is taken back, ends with it.
            () = ended(&app, &who) => {}
        }
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Tail { lines: received, _place: place })).into_response())
}

/// Ends when who watches may not any more.
async fn ended(app: &Shared, who: &Who) {
    match who.identity() {
        Some(identity) => app.door.ended(identity, |who| who.principal.rights().allows_everywhere(Operation::Metrics)).await,
        None => std::future::pending().await,
    }
}

/// Writes what ends, until the watcher has left, the server is told to stop, or the cache is gone.
async fn feed(app: Shared, who: Who, mut watch: EventWatch, wanted: Option<String>, lines: mpsc::Sender<Bytes>) {
    let life = app.watchers.life();
    // At once, so that the watcher knows that it is heard, and where to go on from if it sees nothing before it has to.
    let mut line = Some(Bytes::from(format!("id: {life}-{}\n:\n\n", watch.number())));
    loop {
        if let Some(line) = line.take() {
            tokio::select! {
                sent = lines.send(line) => if sent.is_err() { return },
                () = app.gate.closed() => return,
            }
        }
        line = tokio::select! {
            () = app.gate.closed() => return,
            () = lines.closed() => return,
            watched = watch.next() => match watched {
                None => return,
                Some(Watched::Missed(missed)) => Some(format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n").into()),
                Some(Watched::Event(trace)) if wanted.as_ref().is_some_and(|wanted| *wanted != trace.kind) => None,
                Some(Watched::Event(trace)) => {
                    let json = serde_json::to_string(&Trace::from(&*trace).seen_by(&who)).expect("a trace is texts and numbers");
                    Some(format!("id: {life}-{}\ndata: {json}\n\n", trace.number).into())
                }
            },
            () = tokio::time::sleep(HEARTBEAT) => Some(BEAT),
        };
    }
}

/// A line that says nothing.
const BEAT: Bytes = Bytes::from_static(b":\n\n");

/// The body of a stream. Its place is free again when the connection has done with it.
struct Tail {
    lines: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for Tail {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
