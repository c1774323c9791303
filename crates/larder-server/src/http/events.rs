//! Events over HTTP, as the CloudEvents HTTP binding has them: one with its attributes in headers (binary), one as JSON
//! (structured), or many as a list (batched).
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use larder::access::{Operation, Target};
use larder::events::{Emitted, Event};
use larder::{Impact, Touched};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio::sync::Semaphore;

use super::audited::Facts;
use super::door::Who;
use super::payload::{self, Payload};
use super::problem::{Document, Kind, Problem};
use super::{App, Shared, percent};
use crate::audit::Name;

/// The most events of one request.
pub const EVENTS_MAX: usize = 1_000;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";

/// What traces call the way by which events come here.
const DOOR: &str = "http";

/// What the headers of an event in binary mode begin with.
const PREFIX: &str = "ce-";

/// What became of an event.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What its source calls it.
    pub id: String,
    /// Whether it had been carried out before; then nothing was done.
    pub duplicate: bool,
    /// The rules whose conditions hold for it.
    pub rules: Vec<String>,
    /// The names that it invalidates.
    pub names: Vec<String>,
    /// How many of them were put off to the end of their window.
    pub conflated: usize,
    /// Where the last of it stands in the log; null where it invalidates nothing, or nothing was done.
    pub position: Option<String>,
    /// Whether the change took effect here alone so far.
    pub queued: bool,
    /// In a rehearsal: what it would drop, by namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<BTreeMap<String, Dropped>>,
}

impl Outcome {
    /// What became of the event of this name.
    pub(super) fn of(id: String, emitted: Emitted) -> Self {
        let Emitted { duplicate, rules, names, conflated, position, queued, .. } = emitted;
        let position = position.map(|position| position.to_string());
        Outcome { id, duplicate, rules, names, conflated, position, queued, impact: None }
    }
}

/// What an event would drop in one namespace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// Entries in memory.
    pub memory_entries: u64,
    /// Their bytes.
    pub memory_bytes: u64,
    /// Entries in the backing tier.
    pub backing_entries: u64,
    /// Their bytes.
    pub backing_bytes: u64,
}

/// What became of one event of several.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Each {
    /// It was carried out.
    Done(Box<Outcome>),
    /// It was not.
    Failed {
        /// Why.
        problem: Document,
    },
}

/// What became of one event, or of each of several in their order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Taken {
    /// Of one.
    One(Box<Outcome>),
    /// Of several.
    Many {
        /// In the order in which they came.
        events: Vec<Each>,
    },
}

/// `POST /v1/events`. With `?dry_run=true` it says what would be invalidated, and changes nothing.
///
/// # Errors
/// See [`Problem`]. Of several events those that are wrong keep no other from being carried out; the status is then that of
/// the worst. They are carried out side by side: to take something out twice, or in another order, comes to the same. If the cache
/// could not carry one out now, send all again as they are, since what was carried out is known.
pub async fn take(
    State(app): State<Shared>,
    who: Option<Extension<Who>>,
    uri: Uri,
    headers: HeaderMap,
    facts: Facts,
    Payload(body): Payload,
) -> Result<(StatusCode, Answer<Taken>), Problem> {
    let who = who.map(|Extension(who)| who);
    // Who proved to be somebody that may emit need not sign as well; nobody in particular has to, where signatures are asked for.
    if who.is_none() {
        app.intake.check(&headers, &body)?;
    }
    let yes_or_no = |found: &[u8]| std::str::from_utf8(found).ok()?.parse().ok();
    let rehearse = payload::query(&uri, "dry_run", "true or false", yes_or_no)?.unwrap_or(false);
    match read(&headers, &body)? {
        Came::One(event) => {
            let outcome = carry_out(&app, who.as_ref(), event, rehearse, &facts).await?;
            Ok((status(&outcome), Answer(Taken::One(Box::new(outcome)))))
        }
        Came::Many(all) => Ok(take_many(&app, who, all, rehearse, &facts).await),
    }
}

async fn take_many(app: &Shared, who: Option<Who>, all: Vec<Json>, rehearse: bool, facts: &Facts) -> (StatusCode, Answer<Taken>) {
    // A rehearsal looks at every entry there is: one at a time is enough.
    let turns = Arc::new(Semaphore::new(if rehearse { 1 } else { EVENTS_MAX }));
    let carry_out_one = |one: Json| {
        let (app, who, turns, facts) = (app.clone(), who.clone(), turns.clone(), facts.clone());
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            carry_out(&app, who.as_ref(), Event::from_json(one)?, rehearse, &facts).await
        })
    };
    let under_way: Vec<_> = all.into_iter().map(carry_out_one).collect();
    let (mut worst, mut events) = (StatusCode::OK, Vec::with_capacity(under_way.len()));
    for one in under_way {
        let died = |_| Err(Problem::new(Kind::Internal, "the event was not carried out to its end"));
        let (status, each) = match one.await.unwrap_or_else(died) {
            Ok(outcome) => (status(&outcome), Each::Done(Box::new(outcome))),
            Err(problem) => {
                let problem = problem.document();
                (StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Each::Failed { problem })
            }
        };
        worst = worst.max(status);
        events.push(each);
    }
    (worst, Answer(Taken::Many { events }))
}

async fn carry_out(app: &App, who: Option<&Who>, event: Event, rehearse: bool, facts: &Facts) -> Result<Outcome, Problem> {
    let id = event.id().to_owned();
    facts.about(|| [Name::new("event", format!("{} of {}#{id}", event.kind(), event.source()))]);
    // To tell of what happened is one right, to keep everybody from writing another, which no signature gives.
    if crate::maintenance::is_command(&event) {
        match who {
            Some(who) => who.check(Operation::Admin, Target::Server)?,
            None if app.door.is_guarded() => {
                return Err(Problem::new(
                    Kind::Forbidden,
                    "a signature is no right to begin or end maintenance; a token of an administrator is",
                ));
            }
            None => {}
        }
    }
    let (emitted, impact) = match rehearse {
        true => app.larder.rehearse(&event).await.map(|(emitted, impact)| (emitted, Some(impact)))?,
        false => (app.larder.emit_from(event, DOOR).await?, None),
    };
    emitted.position.iter().for_each(|position| facts.at(position));
    let impact = impact.map(|mut impact| {
        match (who.and_then(Who::identity), app.door.is_guarded()) {
            (Some(identity), _) => impact.permitted_to(&identity.principal),
            // A signature is the right to tell of events, and to see nothing.
            (None, true) => impact.namespaces.clear(),
            (None, false) => {}
        }
        impact
    });
    Ok(Outcome { impact: impact.map(dropped), ..Outcome::of(id, emitted) })
}

fn dropped(impact: Impact) -> BTreeMap<String, Dropped> {
    let one = |touched: Touched| Dropped {
        memory_entries: touched.memory_entries,
        memory_bytes: touched.memory_bytes,
        backing_entries: touched.backing_entries,
        backing_bytes: touched.backing_bytes,
    };
    impact.namespaces.into_iter().map(|(name, touched)| (name, one(touched))).collect()
}

fn status(outcome: &Outcome) -> StatusCode {
    if outcome.queued { StatusCode::ACCEPTED } else { StatusCode::OK }
}

/// What a request brought.
enum Came {
    One(Event),
    Many(Vec<Json>),
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Came, Problem> {
    let essence = payload::media_type(headers);
    let json = |what: &str| {
        let bad = |error: serde_json::Error| Problem::new(Kind::InvalidEvent, format!("{what} is no JSON: {error}"));
        serde_json::from_slice::<Json>(body).map_err(bad)
    };
    match essence.as_str() {
        STRUCTURED => Ok(Came::One(Event::from_json(json("the event")?)?)),
        BATCHED => match json("the list of events")? {
            Json::Array(events) if events.len() <= EVENTS_MAX => Ok(Came::Many(events)),
            Json::Array(events) => {
                let detail = format!("one request has at most {EVENTS_MAX} events, this one has {}", events.len());
                Err(Problem::new(Kind::InvalidRequest, detail).limit(EVENTS_MAX as u64))
            }
            _ => Err(Problem::new(Kind::InvalidEvent, "a batch is a list of events")),
        },
        _ if headers.contains_key("ce-specversion") => binary(headers, &essence, body, json),
        _ => {
            let detail = format!(
                "send an event as \"{STRUCTURED}\", several as \"{BATCHED}\", or its attributes as headers such as ce-specversion and ce-type"
            );
            Err(Problem::new(Kind::UnsupportedMediaType, detail))
        }
    }
}

/// Its attributes in headers, its data in the body.
fn binary(headers: &HeaderMap, essence: &str, body: &[u8], json: impl Fn(&str) -> Result<Json, Problem>) -> Result<Came, Problem> {
    let mut event = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let bad = || Problem::new(Kind::InvalidEvent, format!("the header ce-{name} is no text that is percent-encoded"));
        let text = percent::decode(value.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
        if event.insert(name.to_owned(), text.into()).is_some() {
            return Err(Problem::new(Kind::InvalidEvent, format!("the header ce-{name} is there twice")));
        }
    }
    if event.contains_key("data") || event.contains_key("data_base64") {
        return Err(Problem::new(Kind::InvalidEvent, "the data of an event in this mode are the body"));
    }
    if !body.is_empty() {
        let is_json = essence == "application/json" || essence.ends_with("+json");
        if !is_json {
            let detail = "larder reads the data of events as JSON: send them with \"Content-Type: application/json\"";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        event.insert("data".to_owned(), json("the event's data")?);
        event.insert("datacontenttype".to_owned(), essence.into());
    }
    Ok(Came::One(Event::from_json(Json::Object(event))?))
}
