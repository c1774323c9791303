//! Keys by pattern, a page at a time.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::Uri;
use larder::{Cursor, KEYS_PAGE_MAX};
use serde::{Deserialize, Serialize};

use super::door::Who;
use super::octets::Octets;
use super::payload::Reached;
use super::problem::{Kind, Problem};
use super::{Shared, percent};

/// Keys on a page unless asked for otherwise.
const LIMIT: usize = 1_000;

/// A page.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// The keys, in the order of their bytes.
    pub keys: Vec<Octets>,
    /// The cursor of the next page; null at the end.
    pub next: Option<String>,
}

/// `GET /v1/keys?pattern=&cursor=&limit=`.
///
/// # Errors
/// See [`Problem`].
pub async fn list(State(app): State<Shared>, who: Who, uri: Uri, _: Reached) -> Result<Answer<Page>, Problem> {
    let query = uri.query().unwrap_or_default();
    let pattern = value(query, "pattern")?.unwrap_or_else(|| b"**".into());
    let cursor = value(query, "cursor")?.unwrap_or_default();
    let cursor = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse::<Cursor>().ok());
    let cursor = cursor.ok_or_else(|| bad("\"cursor\" is given back as it was got"))?;
    let limit = value(query, "limit")?.map_or(Ok(LIMIT), |text| limit(&text))?;
    let page = match who.identity() {
        Some(identity) => app.larder.as_principal(&identity.principal).raw().keys(pattern, cursor, limit).await?,
        None => app.raw.keys(pattern, cursor, limit).await?,
    };
    Ok(Answer(Page { keys: page.keys.iter().map(|key| (&**key).into()).collect(), next: page.next.map(|next| next.to_string()) }))
}

fn value(query: &str, name: &str) -> Result<Option<Vec<u8>>, Problem> {
    percent::query_value(query, name).map_err(|_| bad(&format!("\"{name}\" is badly percent-encoded")))
}

fn limit(text: &[u8]) -> Result<usize, Problem> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let within = number.filter(|number| (1..=KEYS_PAGE_MAX).contains(number));
    within.ok_or_else(|| bad(&format!("\"limit\" is a number from 1 to {KEYS_PAGE_MAX}")).limit(KEYS_PAGE_MAX as u64))
}

fn bad(detail: &str) -> Problem {
    Problem::new(Kind::InvalidRequest, detail)
}
