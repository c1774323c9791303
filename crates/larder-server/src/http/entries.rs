//! One entry: read, written, removed.

use axum::extract::State;
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use larder::access::{Operation, Target};
use larder::{Answer, FillToken, Freshness, Item, Lookup, Miss, Position, Receipt, Source};

use super::door::Who;
use super::headers::{self, CACHE_STATUS, CACHE_TAG, LARDER_CHANGED, LARDER_FILL, LARDER_FRESHNESS, LARDER_POSITION, Status, Times};
use super::payload::{EntryKey, Payload, Reached};
use super::problem::{Kind, Problem};
use super::{App, Shared, no_content};

/// The media type of a value that was stored without one.
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// `GET` and `HEAD`: 200 with a fresh or stale value, 304, or 404.
///
/// # Errors
/// See [`Problem`].
pub async fn read(State(app): State<Shared>, EntryKey(key): EntryKey, headers: HeaderMap, _: Reached) -> Result<Response, Problem> {
    // Before the look: whoever misses reads its source after this, so whatever is invalidated from here on makes its fill
    // stale.
    let token = app.raw.begin_fill(&key);
    Ok(match app.raw.lookup(&key).await? {
        Lookup::Hit(answer) => answered(&app, &answer, &headers),
        Lookup::Stale(answer) => with_token(answered(&app, &answer, &headers), token),
        Lookup::NotFound => {
            let problem = Problem::new(Kind::NotFound, "the loader of this namespace said so, and may be believed").about(&key);
            with_status(problem.into_response(), Status::Negative)
        }
        Lookup::Miss(miss) => with_token(missed(&key, miss, token), token),
    })
}

/// The status of an answer.
pub(super) fn status_of<'a>(app: &'a App, answer: &Answer<Bytes>) -> Status<'a> {
    let (now, value) = (app.larder.clock().now_ms(), &answer.value);
    let tier = if answer.source == Source::Memory { "memory" } else { app.backing };
    match answer.freshness {
        Freshness::Stale => Status::Stale { tier, over: value.stale_for(now) },
        Freshness::Unverified => Status::Unverified { tier, left: value.fresh_for(now) },
        _ => Status::Hit { tier, left: value.fresh_for(now) },
    }
}

/// 200, or 304 where the client has it.
fn answered(app: &App, answer: &Answer<Bytes>, asked: &HeaderMap) -> Response {
    let value = &answer.value;
    let etag = headers::etag(value.fingerprint());
    let mut response = if headers::none_match_names(asked, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Bytes::clone(value).into_response();
        // What an embedding program stored need not be fit for a header.
        let media = value.media_type().and_then(|media| HeaderValue::try_from(media).ok()).unwrap_or(BYTES);
        response.headers_mut().insert(CONTENT_TYPE, media);
        response
    };
    let now = app.larder.clock().now_ms();
    let max_age = value.fresh_for(now).map(|left| (answer.age + left).saturating_sub(value.stale_for(now)));
    let control = headers::cache_control(max_age, value.stale_while_revalidate(), value.stale_if_error());
    insert(&mut response, ETAG, etag);
    insert(&mut response, CACHE_CONTROL, control);
    insert(&mut response, AGE, answer.age.as_secs().to_string());
    let tags = headers::tags_text(value.tags());
    if !tags.is_empty() {
        insert(&mut response, CACHE_TAG, tags);
    }
    if answer.freshness == Freshness::Unverified {
        insert(&mut response, LARDER_FRESHNESS, "unverified".to_owned());
    }
    answer.position.into_iter().for_each(|position| at(&mut response, position));
    with_status(response, status_of(app, answer))
}

fn missed(key: &[u8], miss: Miss, token: FillToken) -> Response {
    let (status, why) = match miss {
        Miss::Absent => (Status::Absent, "it is not there"),
        Miss::Expired => (Status::Expired, "what was there is past its time"),
        Miss::Invalidated(_) => (Status::Invalidated, "what was there has been invalidated"),
    };
    let detail = format!("{why}; read the source, then put what it says with the header Larder-Fill of this answer");
    let mut response = Problem::new(Kind::Miss, detail).about(key).into_response();
    at(&mut response, token.position());
    with_status(response, status)
}

fn with_token(mut response: Response, token: FillToken) -> Response {
    insert(&mut response, LARDER_FILL, token.to_string());
    response
}

fn with_status(mut response: Response, status: Status<'_>) -> Response {
    insert(&mut response, CACHE_STATUS, status.to_string());
    response
}

fn at(response: &mut Response, position: Position) {
    insert(response, LARDER_POSITION, position.to_string());
}

fn insert(response: &mut Response, name: HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("headers of ours are visible ASCII and blanks");
    response.headers_mut().insert(name, value);
}

/// `PUT`: with a token a fill, without one a put.
///
/// # Errors
/// See [`Problem`]; a fill that was not kept is [`Kind::StaleFill`].
pub async fn write(
    State(app): State<Shared>,
    who: Who,
    EntryKey(key): EntryKey,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Result<Response, Problem> {
    let item = item(&headers, &body)?;
    who.check_item(&key, &item)?;
    let if_changed = headers::if_changed(&headers)?;
    if if_changed {
        // The answer tells whether the same is there.
        who.check(Operation::Read, Target::Key(&key))?;
    }
    match headers::fill_token(&headers)? {
        None if if_changed => {
            let receipt = app.raw.put_if_changed(&key, item).await?;
            let mut response = receipt.as_ref().map_or_else(no_content, changed);
            insert(&mut response, LARDER_CHANGED, receipt.is_some().to_string());
            Ok(response)
        }
        None => Ok(changed(&app.raw.put(&key, item).await?)),
        Some(token) if app.raw.fill(&key, token, item).await? => {
            let mut response = no_content();
            at(&mut response, token.position());
            Ok(response)
        }
        Some(_) => Err(stale_fill(&key)),
    }
}

/// The answer to a change: 204 where the log has it; 202 where it took effect here and waits to be told to others.
fn changed(receipt: &Receipt) -> Response {
    let mut response = if receipt.is_queued() { StatusCode::ACCEPTED.into_response() } else { no_content() };
    at(&mut response, receipt.position());
    response
}

/// The problem of a fill that was not kept.
pub(super) fn stale_fill(key: &[u8]) -> Problem {
    let detail = "something it depends on was invalidated after the token was given; use the value if you must, and read again";
    Problem::new(Kind::StaleFill, detail).about(key)
}

fn item(headers: &HeaderMap, body: &Bytes) -> Result<Item<Bytes>, Problem> {
    let Times { max_age, stale_while_revalidate, stale_if_error } = headers::times(headers)?;
    // A copy, because the bytes of a request are part of its connection's buffer, and would keep all of it in memory for
    // as long as the entry lives.
    let mut item = headers::tags(headers)?.into_iter().fold(Item::new(Bytes::copy_from_slice(body)), Item::tag);
    if let Some(media) = headers.get(CONTENT_TYPE) {
        let media = media.to_str().map_err(|_| Problem::new(Kind::InvalidHeader, "content-type: it is not ASCII"))?;
        item = item.media_type(media);
    }
    item = headers::sources(headers)?.into_iter().fold(item, |item, (name, version)| item.depends_on(name, version));
    item = headers::content(headers)?.into_iter().fold(item, Item::content);
    item = max_age.into_iter().fold(item, Item::ttl);
    item = stale_while_revalidate.into_iter().fold(item, Item::stale_while_revalidate);
    Ok(stale_if_error.into_iter().fold(item, Item::stale_if_error))
}

/// `DELETE`: invalidates the key, whether there is an entry or not.
///
/// # Errors
/// See [`Problem`].
pub async fn remove(State(app): State<Shared>, EntryKey(key): EntryKey) -> Result<Response, Problem> {
    Ok(changed(&app.raw.remove([&key]).await?))
}
