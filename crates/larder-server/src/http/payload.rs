//! What a request carries: the key in its path, its body, and JSON within. Whatever is wrong with them is said as a problem.

use std::future::Future;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};
use super::{Shared, headers, percent};

/// What the paths of entries begin with.
pub(super) const ENTRIES: &str = "/v1/entries/";

/// What the paths of sources begin with.
pub(super) const SOURCES: &str = "/v1/sources/";

/// The key in an entry's path. Taken from the path as it came, because keys need not be UTF-8.
pub struct EntryKey(pub Vec<u8>);

impl FromRequestParts<Shared> for EntryKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        key_in(parts.uri.path(), ENTRIES).map(EntryKey)
    }
}

/// The name in a source's path, which is as a key is.
pub struct SourceName(pub Vec<u8>);

impl FromRequestParts<Shared> for SourceName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        key_in(parts.uri.path(), SOURCES).map(SourceName)
    }
}

/// The segment of a path behind a prefix, decoded.
pub(super) fn key_in(path: &str, prefix: &str) -> Result<Vec<u8>, Problem> {
    let encoded = path.strip_prefix(prefix).unwrap_or_default();
    let encoded = encoded.split('/').next().unwrap_or_default();
    let bad = |_| Problem::new(Kind::InvalidKey, format!("\"{encoded}\" is badly percent-encoded"));
    let key = percent::decode(encoded.as_bytes()).map_err(bad)?;
    // The library would refuse it too; but the limit belongs into the problem, and no token is given for no key.
    match key.len() {
        0 => Err(Problem::new(Kind::InvalidKey, "a key has at least one byte").about(&key)),
        len if len > larder::KEY_LEN_MAX => {
            let detail = format!("a key has at most {} bytes, this one has {len}", larder::KEY_LEN_MAX);
            Err(Problem::new(Kind::InvalidKey, detail).limit(larder::KEY_LEN_MAX as u64))
        }
        _ => Ok(key),
    }
}

/// The largest body that who asks may send, where their roles say so.
#[derive(Clone, Copy, Debug)]
pub struct BodyMax(pub usize);

/// The bytes of a body.
pub struct Payload(pub Bytes);

impl FromRequest<Shared> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        let own = request.extensions().get::<BodyMax>().map_or(usize::MAX, |own| own.0);
        let (bytes_max, limit) = (app.limits.body_bytes_max.min(own), app.limits.body_timeout);
        let too_large = || Problem::new(Kind::BodyTooLarge, format!("a body has at most {bytes_max} bytes")).limit(bytes_max as u64);
        // Known before a byte of it is read.
        if announced(request.headers()).is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(limit, to_bytes(request.into_body(), bytes_max)).await {
            Ok(Ok(body)) => Ok(Payload(body)),
            Ok(Err(error)) => Err(match error.into_inner() {
                error if error.is::<LengthLimitError>() => too_large(),
                error => Problem::new(Kind::InvalidRequest, format!("the body could not be read: {error}")),
            }),
            Err(_) => Err(Problem::new(Kind::BodyTimeout, format!("a body is sent within {limit:?}"))),
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that is JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        // Asked for, because a page in a browser can send any other type to any address without being asked.
        if !is_json(request.headers()) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send JSON, with \"Content-Type: application/json\""));
        }
        let Payload(body) = Payload::from_request(request, app).await?;
        let bad = |error: serde_json::Error| Problem::new(Kind::InvalidRequest, format!("the body is not what is taken here: {error}"));
        serde_json::from_slice(&body).map(Json).map_err(bad)
    }
}

/// The media type of a body, without its parameters; empty where there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A value of the query, if it is there; what cannot be read is a problem that says what was expected.
pub fn query<T>(uri: &Uri, name: &str, expected: &str, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, Problem> {
    let bad = |found: &[u8]| {
        let detail = format!("{name}: found \"{}\", expected {expected}", found.escape_ascii());
        Problem::new(Kind::InvalidRequest, detail)
    };
    let query = uri.query().unwrap_or_default();
    let Some(found) = percent::query_value(query, name).map_err(|_| bad(query.as_bytes()))? else { return Ok(None) };
    read(&found).map(Some).ok_or_else(|| bad(&found))
}

/// Whether a body is JSON by its media type.
pub fn is_json(headers: &HeaderMap) -> bool {
    let essence = media_type(headers);
    essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
}

/// A read waits here until the cache has reached the position it asks for, if it asks for one.
pub struct Reached;

impl FromRequestParts<Shared> for Reached {
    type Rejection = Problem;

    fn from_request_parts(parts: &mut Parts, app: &Shared) -> impl Future<Output = Result<Self, Problem>> + Send {
        let asked = headers::at_least(&parts.headers);
        async move {
            if let Some(headers::AtLeast { position, wait }) = asked? {
                // Half of what the request may take at all, so that the problem says what it waited for.
                let longest = app.limits.request_timeout / 2;
                app.larder.reach(position, wait.unwrap_or(WAIT).min(longest)).await?;
            }
            Ok(Reached)
        }
    }
}

/// How long a read waits for its position unless it says otherwise.
const WAIT: std::time::Duration = std::time::Duration::from_secs(1);
