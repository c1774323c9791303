//! Maintenance, as the document has it.

use serde_json::{Value, json};

use super::{json_answer, problem};

pub fn route() -> Value {
    let operation = |id: &str, summary: &str, answer: &str| {
        json!({
            "operationId": id,
            "summary": summary,
            "tags": ["server"],
            "responses": { "200": json_answer(answer, "Maintenance"), "default": problem(&[]) },
        })
    };
    let mut begin = operation(
        "beginMaintenance",
        "This server takes no writes for a while: they are answered 503 (maintenance). Reads and invalidations go on. It comes back by itself.",
        "It is under maintenance; the answer tells of writes that have not ended yet.",
    );
    begin["requestBody"] = json!({
        "required": true,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/MaintenanceRequest" } } },
    });
    json!({
        "get": operation("maintenance", "Whether this server is under maintenance, why, and until when.", "How it stands."),
        "post": begin,
        "delete": operation("endMaintenance", "This server takes writes again.", "How it stands."),
    })
}

pub fn request() -> Value {
    json!({
        "type": "object",
        "properties": {
            "for": { "type": "string", "description": "How long, as 30m; an hour unless said, and seven days at most." },
            "clear": { "type": "boolean", "description": "Whether everything is invalidated once no write is under way any more." },
            "reason": { "type": "string", "maxLength": 1024, "description": "Why, for who sees it." },
        },
        "additionalProperties": false,
    })
}

pub fn schema() -> Value {
    let whole =
        |description: &str| json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "null" }], "description": description });
    let text = |description: &str| json!({ "anyOf": [{ "type": "string" }, { "type": "null" }], "description": description });
    json!({
        "type": "object",
        "required": ["on", "since_ms", "until_ms", "left_ms", "by", "reason", "cleared", "writes_under_way"],
        "properties": {
            "on": { "type": "boolean", "description": "Whether this server is under maintenance." },
            "since_ms": whole("Since when, in milliseconds since 1970."),
            "until_ms": whole("When it comes back by itself."),
            "left_ms": whole("How long until then, by a clock that nobody sets."),
            "by": text("Who asked for it; empty where nobody has to say who they are."),
            "reason": text("Why."),
            "cleared": { "type": "boolean", "description": "Whether everything was invalidated when it began." },
            "writes_under_way": { "type": "integer", "minimum": 0, "description": "Writes that were let in before, and have not ended." },
        },
    })
}
