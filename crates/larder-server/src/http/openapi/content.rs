//! What the OpenAPI document says of content, sources and explanations.

use serde_json::{Value, json};

use super::schemas::reference;
use super::{json_answer, json_body, parameter_refs, problem, queued};
use crate::http::problem::Kind;

/// `/v1/entries/{key}/content`.
pub fn validate() -> Value {
    json!({
        "parameters": [{ "$ref": "#/components/parameters/Key" }],
        "post": {
            "operationId": "validateContent",
            "summary": "Compares content as it is now with what the entry was made from: changed, the entry is invalidated; unchanged, \
                it stays, and nothing is appended.",
            "tags": ["invalidations"],
            "parameters": parameter_refs(&["Renew"]),
            "requestBody": {
                "required": true,
                "description": "The content. JSON, by its Content-Type, is compared as JSON: the order of members and the form of numbers \
                    do not count. All else is compared as bytes.",
                "content": {
                    "application/json": { "schema": {} },
                    "*/*": { "schema": { "type": "string", "format": "binary" } },
                },
            },
            "responses": {
                "200": json_answer("What became of it.", "Validation"),
                "202": queued("The content changed, and no reader of this server gets the entry any more.", Some("Validation")),
                "400": problem(&[Kind::InvalidKey, Kind::InvalidRequest]),
                "413": problem(&[Kind::BodyTooLarge]),
                "503": problem(&[Kind::Unverified, Kind::LogUnavailable, Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
    })
}

/// `/v1/entries/{key}/explanation`.
pub fn explain() -> Value {
    json!({
        "parameters": [{ "$ref": "#/components/parameters/Key" }],
        "get": {
            "operationId": "explainEntry",
            "summary": "What each tier has of a key, and why a read would be answered with it or not.",
            "tags": ["server"],
            "responses": {
                "200": json_answer("The explanation.", "Explanation"),
                "400": problem(&[Kind::InvalidKey]),
                "default": problem(&[]),
            },
        },
    })
}

/// `/v1/sources/{name}`.
pub fn source() -> Value {
    json!({
        "parameters": [{
            "in": "path", "name": "name", "required": true, "schema": { "type": "string", "minLength": 1 },
            "description": "The source's name, percent-encoded as one segment.",
        }],
        "get": {
            "operationId": "readSource",
            "summary": "The version that a source is known to be at.",
            "tags": ["invalidations"],
            "responses": {
                "200": json_answer("What is known.", "Source"),
                "400": problem(&[Kind::InvalidKey]),
                "503": problem(&[Kind::TierFailed, Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
        "put": {
            "operationId": "moveSource",
            "summary": "Says that a source is at another version: when it answers, nobody gets what was computed from an older one.",
            "tags": ["invalidations"],
            "requestBody": json_body("SourceMove"),
            "responses": {
                "200": json_answer("Where that stands, or what was known already.", "Source"),
                "202": queued("It took effect here.", Some("Source")),
                "400": problem(&[Kind::InvalidKey, Kind::InvalidDependency, Kind::InvalidRequest]),
                "415": problem(&[Kind::UnsupportedMediaType]),
                "503": problem(&[Kind::LogUnavailable, Kind::TierFailed, Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
    })
}

/// The shapes of their bodies.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let version = json!({
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }],
        "description": "A number that grows with every change, or the 32 hexadecimal digits of a fingerprint.",
    });
    let octets = json!({ "type": "array", "items": reference("Octets") });
    vec![
        ("SourceVersion", version),
        (
            "SourceMove",
            json!({
                "type": "object", "required": ["version"], "additionalProperties": false,
                "properties": { "version": reference("SourceVersion") },
            }),
        ),
        (
            "Source",
            json!({
                "type": "object", "required": ["version"],
                "properties": {
                    "version": or_null(reference("SourceVersion")),
                    "before": reference("SourceVersion"),
                    "position": reference("Position"),
                    "queued": { "type": "boolean" },
                },
            }),
        ),
        (
            "Validation",
            json!({
                "type": "object", "required": ["outcome", "position", "queued"],
                "properties": {
                    "outcome": { "enum": ["unchanged", "changed", "first-sight", "absent"] },
                    "position": or_null(reference("Position")),
                    "queued": { "type": "boolean" },
                },
            }),
        ),
        (
            "Explanation",
            json!({
                "type": "object", "required": ["key", "found", "text"],
                "properties": {
                    "key": reference("Octets"),
                    "found": { "type": "array", "items": reference("FoundInTier") },
                    "backing_error": { "type": "string", "description": "Why the backing tier could not be asked." },
                    "text": { "type": "string", "description": "The same in words." },
                },
            }),
        ),
        (
            "FoundInTier",
            json!({
                "type": "object",
                "required": ["tier", "verdict", "negative", "age_ms", "fresh_for_ms", "position", "tags", "fingerprint", "content", "sources"],
                "properties": {
                    "tier": { "type": "string" },
                    "verdict": { "enum": ["fresh", "aged", "expired", "held", "invalidated", "unknown"] },
                    "invalidated": {
                        "type": "object", "required": ["what", "position", "chain", "rules"],
                        "properties": {
                            "what": { "type": "string" },
                            "position": or_null(reference("Position")),
                            "chain": octets,
                            "rules": { "type": "array", "items": { "type": "string" } },
                        },
                    },
                    "negative": { "type": "boolean", "description": "Whether it says that there is no such thing." },
                    "age_ms": { "type": "integer" },
                    "fresh_for_ms": or_null(json!({ "type": "integer" })),
                    "position": or_null(reference("Position")),
                    "tags": octets,
                    "fingerprint": { "type": "string" },
                    "content": or_null(json!({ "type": "string" })),
                    "sources": { "type": "array", "items": {
                        "type": "object", "required": ["name", "version", "through"],
                        "properties": {
                            "name": reference("Octets"),
                            "version": reference("SourceVersion"),
                            "through": or_null(json!({ "type": "integer" })),
                        },
                    } },
                },
            }),
        ),
    ]
}
