//! Everything that can be wrong with a request, as `application/problem+json` (RFC 9457). The one place that knows which
//! status an error of the library gets.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use larder::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::headers::BadHeader;
use super::octets::Octets;

/// What every problem's `type` begins with.
const TYPE_PREFIX: &str = "urn:larder:problem:";

/// When to come again, in seconds, after a refusal for want of room, or of a log that is heard.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The same where the server is under maintenance, which is a matter of minutes: `GET /v1/maintenance` says when it ends.
const RETRY_AFTER_MAINTENANCE_SECONDS: HeaderValue = HeaderValue::from_static("10");

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:literal $slug:literal $title:literal,)+) => {
        /// What kind of problem it is. Programs tell them apart by the `type` member, which ends with the slug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[doc = $doc])+ $name),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name),+];

            fn parts(self) -> (u16, &'static str, &'static str) {
                match self { $(Kind::$name => ($status, $slug, $title)),+ }
            }
        }
    };
}

kinds! {
    /// A key is empty or too long, is badly encoded, or is not the one that a fill token was given for.
    InvalidKey = 400 "invalid-key" "That is no key",
    /// A tag is empty or too long, or there are too many.
    InvalidTag = 400 "invalid-tag" "That is no tag",
    /// A pattern cannot be understood.
    InvalidPattern = 400 "invalid-pattern" "That is no pattern",
    /// A time to live is zero or too long.
    InvalidTtl = 400 "invalid-ttl" "That is no time to live",
    /// A header cannot be understood, or asks for what is not done.
    InvalidHeader = 400 "invalid-header" "A header is wrong",
    /// An event cannot be understood, lacks a field that a rule needs, or has a value that cannot stand in a name.
    InvalidEvent = 400 "invalid-event" "That is no event that can be carried out",
    /// What a value says it was computed from makes no sense: it depends on itself, or on too much.
    InvalidDependency = 400 "invalid-dependency" "It cannot be computed from that",
    /// A body or query is not what the route takes.
    InvalidRequest = 400 "invalid-request" "The request is wrong",
    /// An event is not signed as it must be here; the detail says which header is missing or wrong.
    Unsigned = 401 "unsigned" "The event is not signed as it must be",
    /// Too many wrong passwords were tried from there, or for that name.
    TooManyAttempts = 429 "too-many-attempts" "Too many attempts were wrong",
    /// Who asks has made as many requests as they may in a second, or has as many under way.
    TooManyRequests = 429 "too-many-requests" "That is too much at once",
    /// Nobody said who asks, or what they said is not so.
    Unauthenticated = 401 "unauthenticated" "It is not known who asks",
    /// Who asks may not do that, or not with all that it would touch.
    Forbidden = 403 "forbidden" "That is not allowed",
    /// Whoever asks to send events may not.
    OriginNotAllowed = 403 "origin-not-allowed" "The sender may not send events here",
    /// A page of another origin has a browser ask for a change.
    ForeignOrigin = 403 "foreign-origin" "Pages of other origins change nothing here",
    /// Nothing fresh is stored; the header `Larder-Fill` is the right to store it.
    Miss = 404 "miss" "Not cached",
    /// It is known, and still fresh, that there is no such thing.
    NotFound = 404 "not-found" "There is no such thing",
    /// The server keeps no history.
    NoHistory = 404 "no-history" "No history is kept",
    /// The server has no place for backups.
    NoBackups = 404 "no-backups" "There is no place for backups",
    /// There is no such route.
    UnknownRoute = 404 "unknown-route" "There is no such route",
    /// The route does not have this method; `Allow` lists those it has.
    MethodNotAllowed = 405 "method-not-allowed" "The route does not have this method",
    /// The body did not arrive in time.
    BodyTimeout = 408 "body-timeout" "The body did not arrive in time",
    /// Something that the filled value depends on was invalidated since the token was given; nothing was stored.
    StaleFill = 409 "stale-fill" "The value may be old, and was not stored",
    /// The value was computed from a version of a source that is known to be over; it was not stored.
    Outdated = 409 "outdated" "It was computed from something that has moved since",
    /// A dead letter failed once more, and stays.
    ReplayFailed = 409 "replay-failed" "The dead letter failed again",
    /// A run of the job is under way, on this instance or another.
    JobBusy = 409 "job-busy" "The job is under way",
    /// A position or fill token belongs to another life of the log.
    UnknownPosition = 412 "unknown-position" "The position is not one of the log in force",
    /// The body is larger than the server takes.
    BodyTooLarge = 413 "body-too-large" "The body is too large",
    /// The value is larger than its namespace takes.
    ValueTooLarge = 413 "value-too-large" "The value is too large",
    /// The body is not JSON by its media type.
    UnsupportedMediaType = 415 "unsupported-media-type" "The body has another media type",
    /// The request names another server.
    Misdirected = 421 "misdirected" "The request is for another server",
    /// The answer would be larger than the server gives at once.
    AnswerTooLarge = 422 "answer-too-large" "The answer is too large",
    /// A backup is damaged, cut short, of a newer version, or none; the detail names the file and the place in it.
    BadArchive = 422 "bad-archive" "The backup cannot be used",
    /// A fault of the server.
    Internal = 500 "internal" "The server failed",
    /// Too much is under way; nothing was changed.
    Overloaded = 503 "overloaded" "Too much is under way",
    /// It would have to be recorded, and cannot be; nothing was changed.
    Unrecorded = 503 "unrecorded" "The audit log cannot be written",
    /// The server is under maintenance and takes no writes for a while; nothing was changed.
    Maintenance = 503 "maintenance" "The server is under maintenance",
    /// The server is shutting down.
    Draining = 503 "draining" "The server is shutting down",
    /// The invalidation log does not take the change; the detail says what did take effect.
    LogUnavailable = 503 "log-unavailable" "The invalidation log failed",
    /// A strict read cannot be answered, because the log that is shared with other instances is not heard.
    Unverified = 503 "unverified" "What is cached cannot be verified",
    /// The backing tier failed.
    TierFailed = 503 "tier-failed" "The backing tier failed",
    /// The place where backups are kept failed, or is not one that this server may use.
    BackupFailed = 503 "backup-failed" "The place for backups failed",
    /// The position asked for was not reached in time.
    NotReached = 504 "not-reached" "The position was not reached in time",
    /// The request took too long as a whole.
    TimedOut = 504 "timed-out" "The request took too long",
}

impl Kind {
    /// Its status.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// Its `type`.
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.parts().1)
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidKey => Kind::InvalidKey,
            ErrorKind::InvalidTag => Kind::InvalidTag,
            ErrorKind::InvalidPattern => Kind::InvalidPattern,
            ErrorKind::InvalidTtl => Kind::InvalidTtl,
            ErrorKind::InvalidEvent => Kind::InvalidEvent,
            ErrorKind::InvalidDependency => Kind::InvalidDependency,
            ErrorKind::Outdated => Kind::Outdated,
            ErrorKind::ValueTooLarge => Kind::ValueTooLarge,
            // What a request can be wrong about in this way is the name of a namespace, or a media type.
            ErrorKind::InvalidConfig => Kind::InvalidRequest,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Forbidden => Kind::Forbidden,
            ErrorKind::Overloaded => Kind::Overloaded,
            ErrorKind::LogUnavailable => Kind::LogUnavailable,
            ErrorKind::Tier => Kind::TierFailed,
            ErrorKind::NotReached => Kind::NotReached,
            ErrorKind::Unverified => Kind::Unverified,
            ErrorKind::UnknownPosition => Kind::UnknownPosition,
            ErrorKind::Maintenance => Kind::Maintenance,
            ErrorKind::Closed => Kind::Draining,
            ErrorKind::BadArchive | ErrorKind::UnknownFormat => Kind::BadArchive,
            ErrorKind::Backup | ErrorKind::Cancelled | ErrorKind::Sealed => Kind::BackupFailed,
            // Loaders, types and files are the server's own affair; a request cannot ask for them.
            _ => Kind::Internal,
        }
    }
}

/// A problem with a request.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    key: Option<Octets>,
    limit: Option<u64>,
}

/// A problem as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What kind of problem it is.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// The key it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Octets>,
    /// The limit that was passed, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Problem {
    /// A problem of a kind; the detail is a sentence for people.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), key: None, limit: None }
    }

    /// The key that it is about.
    #[must_use]
    pub fn about(mut self, key: &[u8]) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The limit that was passed.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// As it is written.
    pub fn document(self) -> Document {
        let (status, _, title) = self.kind.parts();
        let Problem { kind, detail, key, limit } = self;
        Document { type_uri: kind.type_uri(), title: title.into(), status, detail, key, limit }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = Kind::from(error.kind());
        match kind {
            // They say how it stands with Redis, or how long a client was willing to wait: for every read anew.
            // Or are asked for again and again while writes are refused, which the log has said once.
            Kind::Unverified | Kind::NotReached | Kind::Maintenance => tracing::debug!(%error, "a request failed"),
            _ if kind.status() >= 500 => tracing::warn!(%error, "a request failed"),
            _ => {}
        }
        let limit = match error.kind() {
            ErrorKind::InvalidTtl => Some(larder::TTL_MAX.as_secs()),
            _ => None,
        };
        Problem { kind, detail: error.to_string(), key: error.key().map(Octets::from), limit }
    }
}

impl From<BadHeader> for Problem {
    fn from(bad: BadHeader) -> Self {
        Problem::new(Kind::InvalidHeader, bad.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let body = serde_json::to_vec(&self.document()).expect("a problem is strings and numbers");
        let status = StatusCode::from_u16(kind.status()).expect("the table of kinds has statuses only");
        // A cache on the way must not keep a miss that the next request may fill.
        let headers = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let mut response = (status, headers, body).into_response();
        response.extensions_mut().insert(kind);
        if matches!(
            kind,
            Kind::TooManyAttempts | Kind::TooManyRequests | Kind::Overloaded | Kind::Unrecorded | Kind::Draining | Kind::Unverified
        ) {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if kind == Kind::Maintenance {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_MAINTENANCE_SECONDS);
        }
        if kind == Kind::Unsigned {
            // HTTP wants every 401 to say what would be accepted.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Standard-Webhooks"));
        }
        if kind == Kind::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"larder\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_their_type() {
        let mut types: Vec<String> = Kind::ALL.iter().map(|kind| kind.type_uri()).collect();
        types.sort();
        types.dedup();
        assert_eq!(types.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| (400..600).contains(&kind.status())));
    }

    #[tokio::test]
    async fn an_error_of_the_library_keeps_its_key_and_words() {
        let larder = larder::Larder::builder().build().await.unwrap();
        let error = larder.raw().put("a:b", larder::Item::new(bytes::Bytes::new()).ttl(std::time::Duration::ZERO)).await.unwrap_err();
        let document = Problem::from(error).document();
        assert_eq!((document.status, document.type_uri.as_str()), (400, "urn:larder:problem:invalid-ttl"));
        assert_eq!(document.key, Some(Octets(b"a:b".into())));
        assert_eq!(document.limit, Some(larder::TTL_MAX.as_secs()));
        assert!(document.detail.starts_with("put \"a:b\": "), "{}", document.detail);
    }
}
