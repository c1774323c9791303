//! Dead letters over HTTP: events that a source delivered and nobody managed, to be looked at, tried again and forgotten.
//!
//! What is sent to `POST /v1/events` and refused there is none: its sender was told, and has it.

use axum::Json as Answer;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use larder::ErrorKind;
use larder::events::DeadLetter;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::events::Outcome;
use super::problem::{Kind, Problem};
use super::{Shared, no_content};

/// All of them, the oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letters {
    /// What is known of each but the event's data.
    pub dead_letters: Vec<Summary>,
    /// How many were dropped since the start because there were too many.
    pub dropped: u64,
}

/// A dead letter without its event, of which there may be much.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// What it is called here.
    pub id: u64,
    /// What failed: `handler`, or `event` where it could not be carried out at all.
    pub failed: String,
    /// Why, with the rule and the field where it is the event's fault.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The event's type; null where it has none.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where it comes from; null where that is not known.
    pub source: Option<String>,
    /// What its source calls it; null where it has no name.
    pub event_id: Option<String>,
}

/// A dead letter with its event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// What is known of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The event as it came.
    pub event: Json,
}

/// What became of a dead letter that was tried again, and is none any more.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// What it was called.
    pub dead_letter: u64,
    /// How many handlers managed it now.
    pub handled: usize,
    /// What was invalidated, where it is an event that could not be carried out before; null where it was a handler's.
    pub outcome: Option<Outcome>,
}

impl From<&DeadLetter> for Summary {
    fn from(letter: &DeadLetter) -> Self {
        let text = |name: &str| letter.event[name].as_str().map(str::to_owned);
        Summary {
            id: letter.id,
            failed: letter.failed.as_str().to_owned(),
            reason: letter.reason.clone(),
            at_ms: letter.at_ms,
            kind: text("type"),
            source: text("source"),
            event_id: text("id"),
        }
    }
}

/// The identifier in the path.
pub struct Id(u64);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let text = parts.uri.path().split('/').nth(3).unwrap_or_default();
        text.parse().map(Id).map_err(|_| missing(&text.escape_debug()))
    }
}

fn missing(id: &dyn std::fmt::Display) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no dead letter {id}"))
}

/// `GET /v1/dead-letters`.
pub async fn list(State(app): State<Shared>) -> Answer<Letters> {
    let dead_letters = app.larder.dead_letters().iter().map(Summary::from).collect();
    Answer(Letters { dead_letters, dropped: app.larder.stats().events.dead_dropped })
}

/// `GET /v1/dead-letters/{id}`.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn show(State(app): State<Shared>, Id(id): Id) -> Result<Answer<Letter>, Problem> {
    let letter = app.larder.dead_letter(id).ok_or_else(|| missing(&id))?;
    Ok(Answer(Letter { summary: Summary::from(&letter), event: letter.event }))
}

/// `POST /v1/dead-letters/{id}/replay`.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::ReplayFailed`] if it failed once more; as an event if the log could not take it.
pub async fn replay(State(app): State<Shared>, Id(id): Id) -> Result<(StatusCode, Answer<Replayed>), Problem> {
    let letter = app.larder.dead_letter(id).ok_or_else(|| missing(&id))?;
    let emitted = app.larder.replay_dead_letter(id).await.map_err(|error| match error.kind() {
        // It is the letter's affair and not the request's.
        ErrorKind::InvalidEvent | ErrorKind::Load | ErrorKind::NotFound => {
            Problem::new(Kind::ReplayFailed, format!("dead letter {id} stays: {}", error.message()))
        }
        _ => error.into(),
    })?;
    let handled = emitted.handled;
    let status = if emitted.queued { StatusCode::ACCEPTED } else { StatusCode::OK };
    let event_id = letter.event["id"].as_str().unwrap_or_default().to_owned();
    let outcome = (letter.failed.as_str() == "event").then(|| Outcome::of(event_id, emitted));
    Ok((status, Answer(Replayed { dead_letter: id, handled, outcome })))
}

/// `DELETE /v1/dead-letters/{id}`.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::TierFailed`] if its file cannot be removed.
pub async fn forget(State(app): State<Shared>, Id(id): Id) -> Result<Response, Problem> {
    if app.larder.drop_dead_letter(id).await? { Ok(no_content()) } else { Err(missing(&id)) }
}
