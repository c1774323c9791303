//! Many entries in one request, as JSON: what is in headers for one entry is in members here.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use larder::access::{Operation, Target};
use larder::{FillToken, Freshness, Item, Lookup, Receipt, Source};
use serde::{Deserialize, Serialize};

use super::audited::Facts;
use super::door::Who;
use super::octets::Octets;
use super::payload::{Json, Reached};
use super::problem::{Document, Kind, Problem};
use super::{App, Shared, entries, headers};
use crate::audit::Name;

/// Entries in one request. A page of this many small values is still answered in a blink, and an error about one does not
/// cost the others much.
pub const ENTRIES_MAX: usize = 1_000;

/// Bytes of values in one answer; it is put together in memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The keys to read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// Whole keys.
    pub keys: Vec<Octets>,
}

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// One for each key, in their order.
    pub entries: Vec<Found>,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A fresh value.
    Hit,
    /// A value past its time, within its window, and a token to fill it anew.
    Stale,
    /// It is known that there is no such thing.
    NotFound,
    /// Nothing that may be served, and a token to fill it.
    Miss,
}

/// What was found of a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    /// The key.
    pub key: Octets,
    /// How the read ended.
    pub outcome: Outcome,
    /// The value and what is known of it, on a hit or a stale one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// The token for a fill, on a miss or a stale one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
}

/// A value and what is known of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The value.
    pub value: Octets,
    /// Its media type, if it was given one.
    pub media_type: Option<String>,
    /// Its tags.
    pub tags: Vec<Octets>,
    /// Its entity tag.
    pub etag: String,
    /// `memory`, or the backing tier's name.
    pub tier: String,
    /// How long ago it was made.
    pub age_ms: u64,
    /// How much longer it is fresh as far as time goes; null: until it is invalidated.
    pub fresh_for_ms: Option<u64>,
    /// The position that it reflects.
    pub position: Option<String>,
    /// Whether it could not be verified, because other instances cannot be heard. Left out where it could.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
}

/// `POST /v1/entries/get`.
///
/// # Errors
/// See [`Problem`].
pub async fn read(
    State(app): State<Shared>,
    who: Who,
    _: Reached,
    facts: Facts,
    Json(request): Json<ReadRequest>,
) -> Result<Answer<ReadAnswer>, Problem> {
    let keys = request.keys;
    facts.about(|| keys.iter().map(|key| Name::new("key", key.0.clone())));
    check_count(keys.len())?;
    keys.iter().try_for_each(|key| who.check(Operation::Read, Target::Key(key.as_ref())))?;
    // Before the look, as for one entry.
    let tokens: Vec<FillToken> = keys.iter().map(|key| app.raw.begin_fill(key)).collect();
    let lookups = app.raw.lookup_many(&keys).await?;
    let mut room = ANSWER_BYTES_MAX;
    let mut entries = Vec::with_capacity(keys.len());
    for ((key, token), lookup) in keys.into_iter().zip(tokens).zip(lookups) {
        entries.push(found(&app, key, token, lookup, &mut room)?);
    }
    Ok(Answer(ReadAnswer { entries }))
}

fn check_count(count: usize) -> Result<(), Problem> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    let detail = format!("one request has at most {ENTRIES_MAX} entries, this one has {count}");
    Err(Problem::new(Kind::InvalidRequest, detail).limit(ENTRIES_MAX as u64))
}

fn found(app: &App, key: Octets, token: FillToken, lookup: Lookup<Bytes>, room: &mut usize) -> Result<Found, Problem> {
    let outcome = match &lookup {
        Lookup::Hit(_) => Outcome::Hit,
        Lookup::Stale(_) => Outcome::Stale,
        Lookup::NotFound => Outcome::NotFound,
        Lookup::Miss(_) => Outcome::Miss,
    };
    let entry = lookup.into_answer().map(|answer| entry(app, &answer, room)).transpose()?;
    let fill = matches!(outcome, Outcome::Miss | Outcome::Stale).then(|| token.to_string());
    Ok(Found { key, outcome, entry, fill })
}

fn entry(app: &App, answer: &larder::Answer<Bytes>, room: &mut usize) -> Result<Entry, Problem> {
    let value = &answer.value;
    *room = room.checked_sub(value.len()).ok_or_else(|| {
        let detail = format!("the values come to more than {ANSWER_BYTES_MAX} bytes; ask for fewer at once");
        Problem::new(Kind::AnswerTooLarge, detail).limit(ANSWER_BYTES_MAX as u64)
    })?;
    let ms = |duration: Duration| duration.as_millis() as u64;
    Ok(Entry {
        value: Octets::from(&value[..]),
        media_type: value.media_type().map(str::to_owned),
        tags: value.tags().map(Octets::from).collect(),
        etag: headers::etag(value.fingerprint()),
        tier: if answer.source == Source::Memory { "memory".into() } else { app.backing.into() },
        age_ms: ms(answer.age),
        fresh_for_ms: value.fresh_for(app.larder.clock().now_ms()).map(ms),
        position: answer.position.map(|position| position.to_string()),
        unverified: answer.freshness == Freshness::Unverified,
    })
}

/// The entries to write.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    /// Those without a token are put first, those of a namespace at one position; then the others are filled one by one.
    pub entries: Vec<NewEntry>,
}

/// An entry to write. What it does not say is its namespace's to say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEntry {
    /// The key.
    pub key: Octets,
    /// The value.
    pub value: Octets,
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<Octets>,
    /// Its time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How long after its time it may be served while it is loaded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate_ms: Option<u64>,
    /// How long after its time it may be served because loading failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error_ms: Option<u64>,
    /// The token of the miss that this fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
}

/// What became of the entries.
#[derive(Debug, Serialize, Deserialize)]
pub struct WriteAnswer {
    /// The last position that was appended; null where all were fills.
    pub position: Option<String>,
    /// Whether the puts took effect here alone so far, and wait to be told to other instances.
    pub queued: bool,
    /// One for each entry, in their order.
    pub entries: Vec<Written>,
}

/// What became of an entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// Its key.
    pub key: Octets,
    /// Whether it was stored.
    pub stored: bool,
    /// Why a fill was not. A put that cannot be stored fails the request instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Document>,
}

/// `POST /v1/entries/put`.
///
/// # Errors
/// See [`Problem`], for everything but fills, which succeed or fail one by one.
pub async fn write(
    State(app): State<Shared>,
    who: Who,
    facts: Facts,
    Json(request): Json<WriteRequest>,
) -> Result<(StatusCode, Answer<WriteAnswer>), Problem> {
    facts.about(|| request.entries.iter().map(|entry| Name::new("key", entry.key.0.clone())));
    check_count(request.entries.len())?;
    let (mut puts, mut fills, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for (place, entry) in request.entries.into_iter().enumerate() {
        written.push(Written { key: entry.key.clone(), stored: true, problem: None });
        match entry.fill.as_deref().map(str::parse::<FillToken>) {
            None => {
                let key = entry.key.clone();
                let item = item(entry);
                who.check_item(key.as_ref(), &item)?;
                puts.push((key, item));
            }
            Some(Ok(token)) => {
                let key = entry.key.clone();
                let item = item(entry);
                who.check_item(key.as_ref(), &item)?;
                fills.push((place, token, key, item));
            }
            Some(Err(error)) => return Err(Problem::new(Kind::InvalidRequest, error.message()).about(entry.key.as_ref())),
        }
    }
    let receipt = app.raw.put_many(puts).await?;
    for (place, token, key, item) in fills {
        let refused = fill(&app, token, key, item).await.err().map(Problem::document);
        written[place] = Written { key: written[place].key.clone(), stored: refused.is_none(), problem: refused };
    }
    let queued = receipt.as_ref().is_some_and(Receipt::is_queued);
    receipt.iter().for_each(|receipt| facts.at(&receipt.position()));
    let position = receipt.map(|receipt| receipt.position().to_string());
    let status = if queued { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Answer(WriteAnswer { position, queued, entries: written })))
}

async fn fill(app: &App, token: FillToken, key: Octets, item: Item<Bytes>) -> Result<(), Problem> {
    match app.raw.fill(&key, token, item).await? {
        true => Ok(()),
        false => Err(entries::stale_fill(key.as_ref())),
    }
}

fn item(entry: NewEntry) -> Item<Bytes> {
    let NewEntry { value, media_type, tags, ttl_ms, stale_while_revalidate_ms, stale_if_error_ms, .. } = entry;
    let item = tags.into_iter().fold(Item::new(Bytes::from(value.0)), Item::tag);
    let item = media_type.into_iter().fold(item, Item::media_type);
    let ms = |number: Option<u64>| number.map(Duration::from_millis).into_iter();
    let item = ms(ttl_ms).fold(item, Item::ttl);
    let item = ms(stale_while_revalidate_ms).fold(item, Item::stale_while_revalidate);
    ms(stale_if_error_ms).fold(item, Item::stale_if_error)
}
