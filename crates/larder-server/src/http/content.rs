//! What an entry was made from: content that is validated, sources that move, and why an entry is served or not.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use larder::access::{Operation, Target};
use larder::fingerprint::Json as AsJson;
use larder::{Explanation, Found, Validated, Verdict, Version};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::audited::Facts;
use super::door::Who;
use super::octets::Octets;
use super::payload::{self, EntryKey, Json, Payload, SourceName};
use super::problem::{Kind, Problem};

/// What became of a validation.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// `unchanged`, `changed`, `first-sight` or `absent`.
    pub outcome: &'static str,
    /// Where the invalidation stands in the log, if the content changed.
    pub position: Option<String>,
    /// Whether that took effect here alone so far.
    pub queued: bool,
}

/// `POST /v1/entries/{key}/content`: compares the body with the content that the entry stands for. JSON is compared as JSON, all
/// else as bytes; with `?renew=true` an unchanged entry begins its life anew.
///
/// # Errors
/// See [`Problem`].
pub async fn validate(
    State(app): State<Shared>,
    who: Who,
    EntryKey(key): EntryKey,
    uri: Uri,
    headers: HeaderMap,
    facts: Facts,
    Payload(body): Payload,
) -> Result<(StatusCode, Answer<Outcome>), Problem> {
    let truth = |found: &[u8]| std::str::from_utf8(found).ok().and_then(|text| text.parse::<bool>().ok());
    let renews = payload::query(&uri, "renew", "true or false", truth)?.unwrap_or(false);
    if renews {
        who.check(Operation::Write, Target::Key(&key))?;
    }
    let content = app.larder.content(&key);
    let content = if renews { content.renewing() } else { content };
    let validated = if payload::is_json(&headers) {
        let bad = |error: serde_json::Error| Problem::new(Kind::InvalidRequest, format!("the body is not the JSON it says it is: {error}"));
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(bad)?;
        content.validate(&AsJson(&value)).await?
    } else {
        content.validate(&body).await?
    };
    let (outcome, receipt) = match validated {
        Validated::Unchanged => ("unchanged", None),
        Validated::FirstSight => ("first-sight", None),
        Validated::Absent => ("absent", None),
        Validated::Changed(receipt) => ("changed", Some(receipt)),
    };
    receipt.iter().for_each(|receipt| facts.at(&receipt.position()));
    let queued = receipt.as_ref().is_some_and(larder::Receipt::is_queued);
    let status = if queued { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Answer(Outcome { outcome, position: receipt.map(|receipt| receipt.position().to_string()), queued })))
}

/// The version of a source, as JSON has it: a number, or a fingerprint as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SourceVersion {
    /// A number that grows with every change.
    Number(u64),
    /// The 32 hexadecimal digits of a fingerprint, or the digits of a number.
    Text(String),
}

impl SourceVersion {
    fn read(&self) -> Result<Version, Problem> {
        match self {
            SourceVersion::Number(number) => Ok(Version::from(*number)),
            SourceVersion::Text(text) => Ok(text.parse::<Version>()?),
        }
    }
}

impl From<Version> for SourceVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::Number(number) => SourceVersion::Number(number),
            other => SourceVersion::Text(other.to_string()),
        }
    }
}

/// A move of a source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The version that it is at now.
    pub version: SourceVersion,
}

/// What is known of a source, or became of its move.
#[derive(Debug, Serialize)]
pub struct Source {
    /// The version that it is known to be at.
    pub version: Option<SourceVersion>,
    /// Of a move: the version that was known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<SourceVersion>,
    /// Of a move: where it stands in the log; nothing where the version was known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Whether that took effect here alone so far.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub queued: bool,
}

/// `PUT /v1/sources/{name}`: everything that was computed from another version is stale when this answers.
///
/// # Errors
/// See [`Problem`].
pub async fn moved(
    State(app): State<Shared>,
    SourceName(name): SourceName,
    facts: Facts,
    Json(to): Json<Move>,
) -> Result<(StatusCode, Answer<Source>), Problem> {
    let moved = app.larder.moved(&name, to.version.read()?).await?;
    moved.receipt.iter().for_each(|receipt| facts.at(&receipt.position()));
    let queued = moved.receipt.as_ref().is_some_and(larder::Receipt::is_queued);
    let source = Source {
        // A late report of an older one does not take it back.
        version: if moved.receipt.is_some() { Some(to.version) } else { moved.before.map(SourceVersion::from) },
        before: moved.before.map(SourceVersion::from),
        position: moved.receipt.map(|receipt| receipt.position().to_string()),
        queued,
    };
    Ok((if queued { StatusCode::ACCEPTED } else { StatusCode::OK }, Answer(source)))
}

/// `GET /v1/sources/{name}`.
///
/// # Errors
/// See [`Problem`].
pub async fn version(State(app): State<Shared>, SourceName(name): SourceName) -> Result<Answer<Source>, Problem> {
    let version = app.larder.version_of(&name).await?.map(SourceVersion::from);
    Ok(Answer(Source { version, before: None, position: None, queued: false }))
}

/// Why an entry is served or not.
#[derive(Debug, Serialize)]
pub struct Explained {
    key: Octets,
    found: Vec<FoundIn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_error: Option<String>,
    /// The same in words.
    text: String,
}

/// What one tier has.
#[derive(Debug, Serialize)]
struct FoundIn {
    tier: String,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalidated: Option<Cause>,
    negative: bool,
    age_ms: u64,
    fresh_for_ms: Option<u64>,
    position: Option<String>,
    tags: Vec<Octets>,
    fingerprint: String,
    content: Option<String>,
    sources: Vec<ComputedFrom>,
}

/// What made it stale.
#[derive(Debug, Serialize)]
struct Cause {
    what: String,
    position: Option<String>,
    chain: Vec<Octets>,
    rules: Vec<String>,
}

/// What it was computed from.
#[derive(Debug, Serialize)]
struct ComputedFrom {
    name: Octets,
    version: SourceVersion,
    /// The place in this list of what was computed from it; nothing: the entry itself was.
    through: Option<usize>,
}

/// `GET /v1/entries/{key}/explanation`.
///
/// # Errors
/// See [`Problem`].
pub async fn explain(State(app): State<Shared>, who: Who, EntryKey(key): EntryKey) -> Result<Answer<Explained>, Problem> {
    let explanation = app.larder.explain(&key).await?;
    if let Some(identity) = who.identity() {
        explanation.permitted_to(&identity.principal)?;
    }
    let text = explanation.to_string();
    let Explanation { key, found, backing_error, .. } = explanation;
    let found = found.into_iter().map(|found| found_in(found, app.backing)).collect();
    Ok(Answer(Explained { key: (&*key).into(), found, backing_error, text }))
}

fn found_in(found: Found, backing: &str) -> FoundIn {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let octets = |all: &[Box<[u8]>]| all.iter().map(|bytes| (&**bytes).into()).collect();
    let (verdict, invalidated) = match &found.verdict {
        Verdict::Fresh => ("fresh", None),
        Verdict::Aged => ("aged", None),
        Verdict::Expired => ("expired", None),
        Verdict::Held => ("held", None),
        Verdict::Invalidated { what, chain, at, rules, .. } => {
            let position = at.map(|at| at.to_string());
            ("invalidated", Some(Cause { what: what.clone(), position, chain: octets(chain), rules: rules.clone() }))
        }
        _ => ("unknown", None),
    };
    FoundIn {
        tier: if found.tier == larder::Source::Memory { "memory".to_owned() } else { backing.to_owned() },
        verdict,
        invalidated,
        negative: found.negative,
        age_ms: millis(found.age),
        fresh_for_ms: found.fresh_for.map(millis),
        position: found.position.map(|position| position.to_string()),
        tags: octets(&found.tags),
        fingerprint: found.fingerprint.to_string(),
        content: found.content.map(|content| content.to_string()),
        sources: found
            .sources
            .iter()
            .map(|source| ComputedFrom { name: source.name().into(), version: source.version().into(), through: source.via() })
            .collect(),
    }
}
