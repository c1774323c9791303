//! Spans as the JSON encoding of OTLP has them: identities in hexadecimal digits, numbers of 64 bits as texts.

use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::spans::Ended;

/// Who exports.
#[derive(Clone, Debug)]
pub struct Resource {
    /// What the instance is called, if it has a name.
    pub instance: Option<String>,
}

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_SERVER`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

impl Resource {
    pub fn json(&self) -> Json {
        let own = [("service.name", json!("larder")), ("service.version", json!(env!("CARGO_PKG_VERSION")))];
        let instance = self.instance.iter().map(|instance| ("service.instance.id", json!(instance)));
        json!({ "attributes": own.into_iter().chain(instance).map(|(key, value)| attribute(key, &value)).collect::<Vec<_>>() })
    }
}

pub fn scope() -> Json {
    json!({ "name": "larder", "version": env!("CARGO_PKG_VERSION") })
}

/// A request to `/v1/traces`.
pub fn traces(resource: &Resource, spans: &[Ended]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{ "resource": resource.json(), "scopeSpans": [{ "scope": scope(), "spans": spans }] }] })
}

fn span(span: &Ended) -> Json {
    let mut told = json!({
        "traceId": format!("{:032x}", span.place.trace_id),
        "spanId": format!("{:016x}", span.place.span_id),
        "name": span.name,
        "kind": if span.name == "larder.request" { SERVER } else { INTERNAL },
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": span.fields.iter().map(|(name, value)| attribute(key(name), value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        told["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(link) = span.link {
        told["links"] = json!([{ "traceId": format!("{:032x}", link.trace_id), "spanId": format!("{:016x}", link.span_id) }]);
    }
    let failed = span.fields.iter().find_map(|(name, value)| match (*name, value) {
        ("outcome", Json::String(outcome)) => outcome.strip_prefix("error: ").map(str::to_owned),
        ("status", Json::Number(status)) => status.as_u64().filter(|status| *status >= 500).map(|status| format!("status {status}")),
        _ => None,
    });
    if let Some(message) = failed {
        told["status"] = json!({ "code": ERROR, "message": message });
    }
    told
}

/// What OpenTelemetry's conventions call it; what they do not know is larder's.
fn key(name: &str) -> &str {
    match name {
        "method" => "http.request.method",
        "route" => "http.route",
        "status" => "http.response.status_code",
        "namespace" => "larder.namespace",
        "outcome" => "larder.outcome",
        "position" => "larder.position",
        "tier" => "larder.tier",
        "key" => "larder.key",
        "kind" => "cloudevents.event_type",
        other => other,
    }
}

pub fn attribute(key: &str, value: &Json) -> Json {
    let value = match value {
        Json::Number(number) => json!({ "intValue": number.to_string() }),
        Json::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": key, "value": value })
}

pub fn nanos(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}
