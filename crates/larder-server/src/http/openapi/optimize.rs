//! The sizing of memory, as the document has it.

use serde_json::{Value, json};

use super::{json_answer, problem};

pub fn route() -> Value {
    let operation = |id: &str, summary: &str| {
        json!({
            "operationId": id,
            "summary": summary,
            "tags": ["server"],
            "responses": { "200": json_answer("What was found; no sizing where it is off.", "Optimize"), "default": problem(&[]) },
        })
    };
    json!({
        "get": operation("optimize", "What other sizes of memory would do, for each namespace and for all together."),
        "post": operation("optimizeNow", "The same, from the reads up to now; with sizing = \"auto\" it is acted on at once."),
    })
}

pub fn schema() -> Value {
    let whole = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let number = |description: &str| json!({ "type": "number", "description": description });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let curve = object(
        &["points", "reads", "sampled"],
        json!({
            "points": list(object(&["bytes", "hit_ratio", "saved_ratio"], json!({
                "bytes": whole("The size."),
                "hit_ratio": number("The share of reads that it answers."),
                "saved_ratio": number("The share of load time that it saves."),
            }))),
            "reads": whole("The reads that it was made from."),
            "load_seconds": number("How long loading would have taken had every read missed."),
            "sampled": number("The share of keys that was followed."),
        }),
    );
    let step = object(
        &["bytes", "hit_ratio", "saved_ratio", "load_seconds"],
        json!({
            "bytes": whole("The size after it."),
            "hit_ratio": number("By how much the hit ratio changes."),
            "saved_ratio": number("By how much the share of load time that is saved changes."),
            "load_seconds": number("The same in seconds of loading."),
        }),
    );
    let ttl = object(
        &["reason", "ttl_ms", "advised_ms"],
        json!({
            "reason": { "type": "string", "enum": ["reloaded_unchanged", "reloaded_changed", "never_read_again"] },
            "ttl_ms": whole("The time to live now."),
            "advised_ms": whole("The one that is advised."),
            "unchanged": number("The share of what was loaded again after it expired that was the same."),
            "unread": number("The share of what expired that was not loaded again."),
            "loads_saved": number("Loads that would have been saved."),
            "held_less": number("By which share entries would have been held for a shorter time."),
        }),
    );
    let namespace = object(
        &["name", "own_bytes", "bytes", "advised_bytes", "curve", "gain", "loss", "ttl"],
        json!({
            "name": { "type": "string" },
            "own_bytes": or_null(whole("The size of its own pool.")),
            "bytes": whole("That, or what its entries take of the shared one."),
            "advised_bytes": whole("What it would get if each had its own."),
            "curve": curve.clone(),
            "gain": step.clone(),
            "loss": step,
            "ttl": or_null(ttl),
        }),
    );
    let decision = object(
        &["at_ms", "what", "predicted", "measured", "undone"],
        json!({
            "at_ms": whole("When, in milliseconds since 1970."),
            "what": { "type": "string" },
            "predicted": number("By how much the share of hits was to rise."),
            "measured": or_null(number("By how much it did.")),
            "undone": or_null(json!({ "type": "string", "description": "Why it was undone." })),
        }),
    );
    let mode = json!({ "type": "string", "enum": ["off", "observe", "auto"] });
    let sizing = object(
        &["mode", "budget", "sampled", "is_apart", "shared_bytes", "together", "apart_gain", "advises_apart", "namespaces", "decisions"],
        json!({
            "mode": mode.clone(),
            "budget": whole("All memory that is given out."),
            "sampled": number("The share of keys that is followed."),
            "is_apart": { "type": "boolean" },
            "shared_bytes": whole("The size of the shared pool."),
            "together": curve,
            "apart_gain": number("By how much hits would rise with a pool for each namespace."),
            "advises_apart": { "type": "boolean" },
            "namespaces": list(namespace),
            "decisions": list(decision),
        }),
    );
    object(&["mode", "sizing"], json!({ "mode": mode, "sizing": or_null(sizing) }))
}
