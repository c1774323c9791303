//! What the document says of reports.

use serde_json::{Value, json};

use super::problem;
use crate::http::problem::Kind;

pub(super) fn show() -> Value {
    let query = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "query", "description": about, "schema": schema });
    let text = || json!({ "type": "string" });
    let any = json!({ "schema": { "type": "string" } });
    json!({
        "operationId": "readReport",
        "summary": "What the cache did in a period, against the period before, and what would make it better.",
        "description": "A trend is called one only where chance would not explain it. Findings have their evidence, their effect in numbers, and \
            the setting to change. Where nothing was recorded, the report says so.",
        "tags": ["server"],
        "parameters": [
            {
                "name": "kind", "in": "path", "required": true, "description": "How long a period.",
                "schema": { "type": "string", "enum": ["hourly", "daily", "weekly", "monthly"] },
            },
            query("from", "Where it begins (2026-11-26, 2026-11-26T14:30, or with an offset); its length before its end, if left out.", text()),
            query("to", "Where it ends; now, if left out.", text()),
            query("whole", "Whether it is the last whole hour, day, week or month of the calendar.", json!({ "type": "boolean", "default": false })),
            query("zone", "The time zone of all times, such as Europe/Berlin.", json!({ "type": "string", "default": "UTC" })),
            query("namespace", "This one alone.", text()),
            query("format", "How it is written; what Accept names first, if left out, and JSON where it names nothing that is known.", json!({
                "type": "string", "enum": ["text", "json", "csv", "html", "md"],
            })),
        ],
        "responses": {
            "200": {
                "description": "The report.",
                "content": {
                    "application/json": { "schema": { "type": "object", "description": "Numbers with their units in their names; null where there was no data." } },
                    "text/html": any, "text/plain": any, "text/markdown": any, "text/csv": any,
                },
            },
            "400": problem(&[Kind::InvalidRequest]),
            "404": problem(&[Kind::NoHistory]),
            "503": problem(&[Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}
