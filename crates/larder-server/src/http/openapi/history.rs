//! What the document says of the history.

use serde_json::{Value, json};

use super::schemas::reference;
use super::{json_answer, problem};
use crate::http::history::STEPS_MAX;
use crate::http::problem::Kind;

fn query(name: &str, about: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

pub(super) fn show() -> Value {
    let moment = |name: &str, about: &str| {
        query(name, &format!("{about} As RFC 3339 (2026-06-01T00:00:00Z), or in milliseconds since 1970."), json!({ "type": "string" }))
    };
    json!({
        "operationId": "readHistory",
        "summary": "What happened, step by step, as far back as it is kept. Servers that share a cache tell each other: any of them has all of it, \
            a minute or two late.",
        "tags": ["server"],
        "parameters": [
            moment("from", "From when on. Unless given, for an hour."),
            moment("to", "Up to when. Unless given, until now."),
            query("step", "How long each step is; from a day on by the calendar of the zone.", json!({
                "type": "string", "enum": ["minute", "hour", "day", "week", "month", "year", "whole"], "default": "minute",
            })),
            query("zone", "A time zone such as Europe/Berlin, or system for the server's.", json!({ "type": "string", "default": "UTC" })),
            query("namespace", "This one alone.", json!({ "type": "string" })),
            query("instance", "This one alone.", json!({ "type": "string" })),
        ],
        "responses": {
            "200": json_answer("What happened.", "History"),
            "400": problem(&[Kind::InvalidRequest]),
            "404": problem(&[Kind::NoHistory]),
            "422": problem(&[Kind::AnswerTooLarge]),
            "503": problem(&[Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

pub(super) fn schemas() -> [(&'static str, Value); 2] {
    let ms = json!({ "type": "integer", "minimum": 0, "description": "Milliseconds since 1970." });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let stretch = object(&["instance", "from_ms", "to_ms"], json!({ "instance": { "type": "string" }, "from_ms": ms, "to_ms": ms }));
    let history = object(
        &["from_ms", "to_ms", "step", "finest", "covered", "steps"],
        json!({
            "from_ms": ms,
            "to_ms": ms,
            "step": { "type": "string" },
            "finest": {
                "type": "string",
                "enum": ["minute", "hour", "day", "month"],
                "description": "The finest level at which all of it is kept. What a shorter step cuts counts for the one its middle is in.",
            },
            "covered": { "type": "array", "items": stretch, "description": "For which stretches there is anything." },
            "steps": { "type": "array", "items": reference("HistoryStep"), "maxItems": STEPS_MAX },
        }),
    );
    let step = object(
        &["start_ms", "end_ms", "minutes", "namespaces", "measures"],
        json!({
            "start_ms": ms,
            "end_ms": ms,
            "minutes": { "type": "integer", "minimum": 0, "description": "How many of its minutes are known; 0 where nothing is." },
            "namespaces": { "type": "array", "items": reference("Namespace") },
            "measures": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
        }),
    );
    [("History", history), ("HistoryStep", step)]
}
