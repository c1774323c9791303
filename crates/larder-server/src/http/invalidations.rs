//! Invalidation: of keys, tags, patterns, namespaces, everything, at one position.

use axum::Json as Answer;
use axum::extract::State;
use larder::Names;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::octets::Octets;
use super::payload::Json;
use super::problem::{Kind, Problem};

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
}

impl From<larder::Receipt> for Receipt {
    fn from(receipt: larder::Receipt) -> Self {
        Receipt { position: receipt.position().to_string(), names: receipt.names(), widened: receipt.widened() }
    }
}

/// `POST /v1/invalidations`.
///
/// # Errors
/// See [`Problem`]; nothing is invalidated if anything in the request is wrong.
pub async fn invalidate(State(app): State<Shared>, Json(request): Json<Request>) -> Result<Answer<Receipt>, Problem> {
    let names = names(request);
    if names.is_empty() {
        let detail = "it names nothing; give at least one of keys, tags, patterns, namespaces, or \"everything\": true";
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    if names.len() > larder::NAMES_MAX {
        let detail = format!("one invalidation has at most {} names, this one has {}", larder::NAMES_MAX, names.len());
        return Err(Problem::new(Kind::InvalidRequest, detail).limit(larder::NAMES_MAX as u64));
    }
    Ok(Answer(app.larder.invalidate(names).await?.into()))
}

fn names(request: Request) -> Names {
    let Request { keys, tags, patterns, namespaces, everything } = request;
    let names = keys.into_iter().fold(Names::new(), Names::key);
    let names = tags.into_iter().fold(names, Names::tag);
    let names = patterns.into_iter().fold(names, Names::pattern);
    let names = namespaces.into_iter().fold(names, Names::namespace);
    if everything { names.everything() } else { names }
}
