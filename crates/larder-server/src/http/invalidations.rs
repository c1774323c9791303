//! Invalidation: of keys, tags, patterns, namespaces, everything, at one position; and who has obeyed it.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use larder::Names;
use serde::{Deserialize, Serialize};

use super::audited::Facts;
use super::door::Who;
use super::octets::Octets;
use super::payload::{self, Json};
use super::problem::{Document, Kind, Problem};
use super::{App, Shared};
use crate::audit::Name;
use crate::config::units::{TIME_EXPECTED, parse_time};

/// What to invalidate. Unknown members are refused: a misspelled one that was ignored would leave stale answers behind.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Whole keys.
    pub keys: Vec<Octets>,
    /// Tags.
    pub tags: Vec<Octets>,
    /// Patterns over whole keys.
    pub patterns: Vec<Octets>,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// All there is.
    pub everything: bool,
}

/// The receipt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Where the change stands in the log.
    pub position: String,
    /// How many names were invalidated.
    pub names: usize,
    /// How many of them were widened to a broader one.
    pub widened: usize,
    /// Whether the change took effect here alone so far, and waits to be told to other instances. Its position then means
    /// nothing to them.
    pub queued: bool,
    /// Who has obeyed it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// How far a change has spread.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spread {
    /// Instances that share the log, this one included; null where that cannot be known.
    pub instances: Option<usize>,
    /// Those that had not obeyed when the time to wait was over.
    pub lagging: Vec<Lagging>,
    /// Why it cannot be known who obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Document>,
}

/// An instance that had not obeyed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lagging {
    /// What it is called.
    pub instance: String,
    /// How many positions it was behind; null where that cannot be said.
    pub behind: Option<u64>,
    /// How long ago it was last heard of.
    pub unseen_for_ms: u64,
}

/// `POST /v1/invalidations`. With `?applied_everywhere=TIME` it also waits until every instance obeys, or for so long, and
/// says who does not.
///
/// # Errors
/// See [`Problem`]; nothing is invalidated if anything in the request is wrong.
pub async fn invalidate(
    State(app): State<Shared>,
    who: Who,
    uri: Uri,
    facts: Facts,
    Json(request): Json<Request>,
) -> Result<(StatusCode, Answer<Receipt>), Problem> {
    facts.about(|| written(&request));
    let deadline = deadline(&app, &uri)?;
    let names = names(request);
    if names.is_empty() {
        let detail = "it names nothing; give at least one of keys, tags, patterns, namespaces, or \"everything\": true";
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    if names.len() > larder::NAMES_MAX {
        let detail = format!("one invalidation has at most {} names, this one has {}", larder::NAMES_MAX, names.len());
        return Err(Problem::new(Kind::InvalidRequest, detail).limit(larder::NAMES_MAX as u64));
    }
    who.check_names(&names)?;
    let receipt = app.larder.invalidate(names).await?;
    facts.at(&receipt.position());
    let status = if receipt.is_queued() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let spread = match deadline {
        Some(deadline) => Some(spread(&app, &receipt, deadline).await),
        None => None,
    };
    Ok((status, Answer(told(&receipt, spread))))
}

fn told(receipt: &larder::Receipt, spread: Option<Spread>) -> Receipt {
    Receipt {
        position: receipt.position().to_string(),
        names: receipt.names(),
        widened: receipt.widened(),
        queued: receipt.is_queued(),
        spread,
    }
}

/// How long to wait until every instance obeys, if that is asked for.
fn deadline(app: &App, uri: &Uri) -> Result<Option<Duration>, Problem> {
    let time = |found: &[u8]| std::str::from_utf8(found).ok().and_then(parse_time);
    let time = payload::query(uri, "applied_everywhere", TIME_EXPECTED, time)?;
    // Half of what the request may take at all, so that the receipt is not lost with it.
    let longest = app.limits.request_timeout / 2;
    Ok(time.map(|time| time.min(longest)))
}

/// Who has obeyed. The invalidation has its receipt whatever comes of this, so a failure is told within the answer.
async fn spread(app: &App, receipt: &larder::Receipt, deadline: Duration) -> Spread {
    match app.larder.applied_everywhere(receipt, deadline).await {
        Ok(spread) => {
            Spread { instances: Some(spread.instances), lagging: spread.lagging.into_iter().map(Lagging::from).collect(), problem: None }
        }
        Err(error) => Spread { instances: None, lagging: Vec::new(), problem: Some(Problem::from(error).document()) },
    }
}

impl From<larder::Lagging> for Lagging {
    fn from(lagging: larder::Lagging) -> Self {
        Lagging {
            unseen_for_ms: u64::try_from(lagging.unseen_for.as_millis()).unwrap_or(u64::MAX),
            instance: lagging.instance,
            behind: lagging.behind,
        }
    }
}

/// As they are recorded.
fn written(request: &Request) -> impl Iterator<Item = Name> + '_ {
    let of = |kind, names: &'_ [Octets]| names.iter().map(move |name| Name::new(kind, name.0.clone())).collect::<Vec<_>>();
    let namespaces = request.namespaces.iter().map(|name| Name::new("namespace", name.as_bytes()));
    let everything = request.everything.then(|| Name::new("everything", ""));
    let names = [of("key", &request.keys), of("tag", &request.tags), of("pattern", &request.patterns)];
    names.into_iter().flatten().chain(namespaces).chain(everything)
}

fn names(request: Request) -> Names {
    let Request { keys, tags, patterns, namespaces, everything } = request;
    let names = keys.into_iter().fold(Names::new(), Names::key);
    let names = tags.into_iter().fold(names, Names::tag);
    let names = patterns.into_iter().fold(names, Names::pattern);
    let names = namespaces.into_iter().fold(names, Names::namespace);
    if everything { names.everything() } else { names }
}
