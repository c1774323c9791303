//! Cleaning up, as the document has it.

use serde_json::{Value, json};

use super::{json_answer, problem};

pub fn route() -> Value {
    let operation = |id: &str, summary: &str, status: &str, answer: &str| {
        json!({
            "operationId": id,
            "summary": summary,
            "tags": ["server"],
            "responses": { status: json_answer(answer, "Cleanup"), "default": problem(&[]) },
        })
    };
    json!({
        "get": operation("cleanup", "How far a clean-up is, and what the last one gave back.", "200", "How it stands."),
        "post": operation(
            "beginCleanup",
            "Begins a clean-up: what is expired, stale or kept no longer goes, in small steps. Where one is under way, it goes on.",
            "202",
            "It is under way.",
        ),
        "delete": operation("cancelCleanup", "Stops the clean-up that is under way, after its next step.", "202", "It stops, if there is one."),
    })
}

pub fn schema() -> Value {
    let whole = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let room = || object(&["entries", "bytes"], json!({ "entries": whole("How many."), "bytes": whole("Their bytes.") }));
    let tier = || {
        object(
            &["expired", "invalidated", "orphaned", "unreadable"],
            json!({ "expired": room(), "invalidated": room(), "orphaned": room(), "unreadable": room() }),
        )
    };
    let namespace = object(&["name", "memory", "backing"], json!({ "name": { "type": "string" }, "memory": tier(), "backing": tier() }));
    let swept = object(
        &["namespaces"],
        json!({
            "examined": whole("Entries of memory that were looked at."),
            "expired": whole("Entries that left memory because their time was over."),
            "invalidated": whole("Entries that left memory because they had been invalidated."),
            "memory_removed_bytes": whole("Bytes that left memory."),
            "backing_examined": whole("Records of the backing tier that were looked at."),
            "backing_removed": whole("Records that left it."),
            "backing_removed_bytes": whole("Bytes that left it."),
            "compacted_bytes": whole("Bytes of the disk that a compaction gave back."),
            "namespaces": { "type": "array", "items": namespace },
        }),
    );
    let failed = object(&["part", "why"], json!({ "part": { "type": "string" }, "why": { "type": "string" } }));
    let report = object(
        &["swept", "history", "dead_letters", "audit", "total", "took_ms", "cancelled", "failed"],
        json!({
            "swept": swept,
            "history": or_null(room()),
            "dead_letters": room(),
            "audit": or_null(room()),
            "total": room(),
            "took_ms": whole("How long it took, in milliseconds."),
            "cancelled": { "type": "boolean", "description": "Whether it was told to stop before its end." },
            "failed": { "type": "array", "items": failed },
        }),
    );
    let step = object(
        &["doing", "done", "of"],
        json!({
            "doing": { "type": "string" },
            "done": whole("How much is done, in whatever it counts."),
            "of": or_null(whole("How much there is, where that is known.")),
        }),
    );
    object(&["running", "last"], json!({ "running": or_null(step), "last": or_null(report) }))
}
