//! What is recorded of requests: the one place where HTTP meets the audit log. It knows what kind of operation each route is; handlers
//! add what only they know, the names and the position.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::headers::LARDER_POSITION;
use super::peer::Peer;
use super::problem::{Kind, Problem};
use super::{BACKUP_RUN, DEAD_LETTER, ENTRY, MAINTENANCE, PRINCIPAL, TOKEN, percent};
use crate::audit::{Audit, Class, Decision, Name, Outcome, Record};

/// The kind of operation that a route is. A test has every route in it.
pub fn class_of(method: &Method, route: &str) -> Option<Class> {
    Some(match (method.as_str(), route) {
        ("DELETE", ENTRY | "/v1/entries/get" | "/v1/entries/put" | "/v1/entries/") => Class::Delete,
        ("PUT", ENTRY | "/v1/entries/get" | "/v1/entries/put" | "/v1/entries/") | ("POST", "/v1/entries/put") => Class::Write,
        ("POST", "/v1/entries/get") => Class::Read,
        ("POST", "/v1/invalidations" | "/v1/entries/{key}/content") | ("PUT", "/v1/sources/{name}") => Class::Invalidate,
        ("POST", "/v1/events") => Class::Emit,
        ("POST", "/v1/access/explain") => Class::Read,
        ("POST" | "PUT" | "DELETE", route) if route.starts_with("/v1/access/") => Class::Admin,
        ("DELETE", BACKUP_RUN) | ("POST", "/v1/backup-runs") => Class::Admin,
        ("DELETE", DEAD_LETTER) | ("POST", "/v1/dead-letters/{id}/replay" | "/v1/stats/reset" | "/v1/optimize") => Class::Admin,
        ("POST" | "DELETE", "/v1/cleanup" | MAINTENANCE) => Class::Admin,
        ("POST", route) if route.starts_with("/v1/jobs/") => Class::Admin,
        ("GET" | "HEAD" | "OPTIONS", _) => Class::Read,
        _ => return None,
    })
}

/// What others know of a request: who it is of, what it is about, what came of it. It costs nothing where there is no audit log.
#[derive(Clone, Debug, Default)]
pub struct Facts(Option<Arc<Mutex<Known>>>);

#[derive(Debug, Default)]
struct Known {
    who: Option<String>,
    /// Whether names and position go anywhere.
    is_recorded: bool,
    names: Vec<Name>,
    position: String,
}

impl Facts {
    fn new(is_recorded: bool) -> Self {
        Facts(Some(Arc::new(Mutex::new(Known { is_recorded, ..Known::default() }))))
    }

    /// Who it is of.
    pub fn by(&self, who: impl Into<String>) {
        if let Some(known) = &self.0 {
            known.lock().who = Some(who.into());
        }
    }

    /// What it is about.
    pub fn about<N: IntoIterator<Item = Name>>(&self, names: impl FnOnce() -> N) {
        if let Some(known) = self.0.as_ref().filter(|known| known.lock().is_recorded) {
            known.lock().names.extend(names());
        }
    }

    /// Where it stands in the log.
    pub fn at(&self, position: &impl ToString) {
        if let Some(known) = self.0.as_ref().filter(|known| known.lock().is_recorded) {
            known.lock().position = position.to_string();
        }
    }

    /// Puts it into a record.
    fn into_record(self, record: &mut Record) {
        let Some(known) = self.0 else { return };
        let Known { who, names, position, .. } = std::mem::take(&mut *known.lock());
        who.into_iter().for_each(|who| record.who = who);
        record.name(names);
        record.position = position;
    }
}

impl<S: Sync> FromRequestParts<S> for Facts {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Facts>().cloned().unwrap_or_default())
    }
}

/// The layer of all routes, outside of all that may refuse a request.
pub async fn record(State(audit): State<Arc<Audit>>, mut request: Request, next: Next) -> Response {
    // None of it borrows the request, which is not to be held over a wait.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let addr = request.extensions().get::<Peer>().map(|peer| peer.addr);
    let route = route.as_ref().map(MatchedPath::as_str);
    let class = route.and_then(|route| class_of(&method, route));
    let begun = || {
        let what = format!("{method} {}", route.unwrap_or("unknown"));
        let from = addr.map(|addr| addr.to_string()).unwrap_or_default();
        let mut record = Record::begun("http", class.unwrap_or(Class::Read), what, from);
        record.name(named(uri.path(), route));
        record
    };
    let slot = match class.map(|class| audit.begin(class, begun)).transpose() {
        Ok(slot) => slot.flatten(),
        Err(error) => return Problem::new(Kind::Unrecorded, error.to_string()).into_response(),
    };
    let facts = Facts::new(slot.is_some());
    request.extensions_mut().insert(facts.clone());
    let Some(slot) = slot else {
        let response = next.run(request).await;
        if is_denied(response.status()) {
            audit.refused(|| {
                let mut record = begun();
                facts.into_record(&mut record);
                ended(record, &response)
            });
        }
        return response;
    };
    // Dropped half-way, it leaves what the request itself says.
    let mut under_way = UnderWay { slot: Some(slot), facts };
    let response = next.run(request).await;
    let mut slot = under_way.take();
    *slot.record() = ended(slot.record().clone(), &response);
    if !slot.end().wait().await {
        tracing::warn!("a request is answered whose record is not written yet");
    }
    response
}

/// A request that is carried out. What its handler said of it goes into its record however it ends.
struct UnderWay {
    slot: Option<crate::audit::Slot>,
    facts: Facts,
}

impl UnderWay {
    fn take(&mut self) -> crate::audit::Slot {
        let mut slot = self.slot.take().expect("it is taken once");
        std::mem::take(&mut self.facts).into_record(slot.record());
        slot
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.slot.is_some() {
            drop(self.take());
        }
    }
}

/// Whether somebody was refused who may not.
fn is_denied(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST)
}

fn ended(mut record: Record, response: &Response) -> Record {
    let status = response.status();
    let decision = if is_denied(status) { Decision::Denied } else { Decision::Allowed };
    let result = match status {
        StatusCode::GATEWAY_TIMEOUT | StatusCode::INTERNAL_SERVER_ERROR => Outcome::Unknown,
        status if status.is_success() || status.is_redirection() => Outcome::Done,
        _ => Outcome::Failed,
    };
    let kind = response.extensions().get::<Kind>().map(|kind| kind.type_uri());
    let detail = match (result, kind) {
        (Outcome::Done, _) => String::new(),
        (_, Some(kind)) => kind,
        (_, None) => status.as_u16().to_string(),
    };
    record.end(decision, result, detail);
    if let Some(position) = response.headers().get(LARDER_POSITION).and_then(|position| position.to_str().ok())
        && record.position.is_empty()
        && result == Outcome::Done
    {
        record.position = position.to_owned();
    }
    record
}

/// The name that a path has in it.
fn named(path: &str, route: Option<&str>) -> Option<Name> {
    let (kind, place) = match route? {
        route if route.starts_with("/v1/entries/{key}") => ("key", 3),
        "/v1/entries/get" | "/v1/entries/put" | "/v1/entries/" => return None,
        "/v1/sources/{name}" => ("source", 3),
        route if route.starts_with(DEAD_LETTER) => ("dead-letter", 3),
        PRINCIPAL => ("principal", 4),
        route if route.starts_with(TOKEN) => ("token", 4),
        _ => return None,
    };
    let encoded = path.split('/').nth(place)?;
    // What cannot be read is refused, and recorded as it came.
    let name = percent::decode(encoded.as_bytes()).unwrap_or_else(|_| encoded.as_bytes().to_vec());
    Some(Name::new(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_class() {
        for endpoint in super::super::data_plane().into_iter().chain(super::super::about()) {
            assert!(class_of(&endpoint.method, endpoint.path).is_some(), "{} {}", endpoint.method, endpoint.path);
        }
        let changing =
            ["POST /v1/access/tokens", "DELETE /v1/entries/{key}", "POST /v1/invalidations", "POST /v1/events", "POST /v1/stats/reset"];
        let classes = changing.map(|route| {
            let (method, path) = route.split_once(' ').expect("two words");
            class_of(&method.parse().expect("a method"), path)
        });
        assert_eq!(classes, [Class::Admin, Class::Delete, Class::Invalidate, Class::Emit, Class::Admin].map(Some));
    }

    #[test]
    fn names_are_those_of_the_path() {
        let name = |path, route| named(path, Some(route)).map(|name| name.written(None));
        assert_eq!(name("/v1/entries/a%3Ab", ENTRY).as_deref(), Some("key:a:b"));
        assert_eq!(name("/v1/entries/a%/content", "/v1/entries/{key}/content").as_deref(), Some("key:a%"));
        assert_eq!(name("/v1/dead-letters/7/replay", "/v1/dead-letters/{id}/replay").as_deref(), Some("dead-letter:7"));
        assert_eq!(name("/v1/access/principals/ada", PRINCIPAL).as_deref(), Some("principal:ada"));
        assert_eq!(name("/v1/access/tokens/x1/rotate", "/v1/access/tokens/{id}/rotate").as_deref(), Some("token:x1"));
        assert_eq!(name("/v1/stats", "/v1/stats"), None);
    }
}
