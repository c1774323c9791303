//! The probes, as the document has them: what asks about the server rather than the cache, and waits for nothing.

use serde_json::{Value, json};

use super::{json_answer, parameter_refs, problem, schemas, text_answer};
use crate::http::problem::Kind;

pub fn livez() -> Value {
    json!({
        "operationId": "livez",
        "summary": "Answers while the process lives, whatever else is wrong.",
        "tags": ["server"],
        "responses": { "200": text_answer("Alive.") },
    })
}

pub fn readyz() -> Value {
    json!({
        "operationId": "readyz",
        "summary": "Whether requests should be sent here, going by what was found last.",
        "tags": ["server"],
        "parameters": parameter_refs(&["Verbose", "Exclude"]),
        "responses": {
            "200": readiness("They should; also where something that is not needed is not in order (degraded), such as Redis."),
            "400": problem(&[Kind::InvalidRequest]),
            "503": readiness("They should not: the server is starting or shutting down, or memory or its log is out of order, or it is strict and Redis away."),
        },
    })
}

fn readiness(description: &str) -> Value {
    let mut answer = json_answer(description, "Readiness");
    answer["content"]["text/plain"] = json!({ "schema": { "type": "string" } });
    answer
}

pub fn startupz() -> Value {
    json!({
        "operationId": "startupz",
        "summary": "Whether the server has started: each part of the cache was probed, and the log caught up with, or found away by a server that goes on without it.",
        "tags": ["server"],
        "responses": { "200": text_answer("It has."), "503": text_answer("Not yet.") },
    })
}

pub fn draft() -> Value {
    let answer = |description: &str| {
        let content = json!({ "application/health+json": { "schema": schemas::reference("HealthDocument") } });
        json!({ "description": description, "content": content })
    };
    json!({
        "operationId": "healthDocument",
        "summary": "How the server and what it stands on are, with the numbers, as draft-inadarei-api-health-check has it; found last, in the background.",
        "tags": ["server"],
        "responses": {
            "200": answer("Pass, or warn where something works worse than it should."),
            "503": answer("Fail: somebody should come."),
        },
    })
}
