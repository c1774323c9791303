//! Who may send events: the question that a sender of webhooks asks before it sends (the validation handshake), and the
//! signature on what it sends.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md>

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::extract::State;
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::problem::{Kind, Problem};
use crate::settings::Webhooks;
use crate::webhook::{Claims, ID, SIGNATURE, TIMESTAMP};

/// The methods of the route.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");

const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// Every sender, or every rate.
const ANY: &str = "*";

/// Who may send events, and how often somebody was refused.
pub struct Intake {
    webhooks: Webhooks,
    unsigned: AtomicU64,
}

impl Intake {
    /// As the configuration has it.
    pub fn new(webhooks: Webhooks) -> Self {
        Intake { webhooks, unsigned: AtomicU64::new(0) }
    }

    /// Requests that were refused because they were not signed as they should be.
    pub fn unsigned(&self) -> u64 {
        self.unsigned.load(Ordering::Relaxed)
    }

    /// Checks the signature of what brings events, where secrets are set.
    ///
    /// # Errors
    /// A problem that says which header is missing or wrong.
    pub fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        if self.webhooks.secrets.is_empty() {
            return Ok(());
        }
        let text = |name: &str| {
            // Two of them could be read as either by somebody else on the way.
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let claims = Claims { id: text(ID), timestamp: text(TIMESTAMP), signature: text(SIGNATURE) };
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let checked = claims.verify(&self.webhooks.secrets, body, now_s).and_then(|()| match headers.contains_key("ce-specversion") {
            // Or whoever catches one signed message could send its body again as an event of any type.
            true => {
                Err("ce-specversion: a signature does not cover headers, so an event is sent as one body: application/cloudevents+json"
                    .to_owned())
            }
            false => Ok(()),
        });
        checked.map_err(|why| {
            self.unsigned.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(why, "events were refused for want of a signature");
            Problem::new(Kind::Unsigned, why)
        })
    }

    /// Whether a request says that it is signed, where signatures count: whether it is, is [checked](Self::check) with its body.
    pub fn is_signed(&self, headers: &HeaderMap) -> bool {
        !self.webhooks.secrets.is_empty() && headers.contains_key(SIGNATURE)
    }

    /// The rate that a sender is told, if it asked for one or there is one to tell.
    fn rate(&self, asked: Option<u64>) -> String {
        match (asked, self.webhooks.rate) {
            (Some(asked), Some(most)) => asked.min(most).to_string(),
            (None, Some(most)) => most.to_string(),
            (_, None) => ANY.to_owned(),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        self.webhooks.origins.iter().any(|allowed| allowed == ANY || allowed.eq_ignore_ascii_case(origin))
    }
}

/// `OPTIONS /v1/events`: whether a sender may send here. An address to call back, which it may give
/// (`WebHook-Request-Callback`), is for receivers that have to ask somebody first. It is never called: what a stranger names may
/// be anything that this server reaches.
///
/// # Errors
/// [`Kind::OriginNotAllowed`] for a sender that the configuration does not name, [`Kind::InvalidHeader`] for a rate that is none.
pub async fn validate(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let Some(origin) = headers.get(REQUEST_ORIGIN) else {
        return Ok((StatusCode::NO_CONTENT, [(ALLOW, METHODS)]).into_response());
    };
    if !origin.to_str().is_ok_and(|name| app.intake.allows(name)) {
        let name = origin.as_bytes().escape_ascii();
        let detail =
            format!("events of \"{name}\" are not expected here; events.webhook_origins in the configuration names who may send them");
        return Err(Problem::new(Kind::OriginNotAllowed, detail));
    }
    let asked = headers.get(REQUEST_RATE).map(|value| {
        let rate = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|rate| *rate > 0);
        rate.ok_or_else(|| Problem::new(Kind::InvalidHeader, "WebHook-Request-Rate: expected requests a minute, as a whole number above 0"))
    });
    let rate = app.intake.rate(asked.transpose()?);
    let mut response = (StatusCode::NO_CONTENT, [(ALLOW, METHODS)]).into_response();
    response.headers_mut().insert(ALLOWED_ORIGIN, origin.clone());
    response.headers_mut().insert(ALLOWED_RATE, rate.parse().expect("a number or an asterisk is a header's value"));
    Ok(response)
}
