//! What the document says of who may do what.

use serde_json::{Value, json};

use super::{json_body_of, problem};
use crate::http::problem::Kind;

fn route(id: &str, summary: &str, (status, answer): (&str, Value), body: Option<Value>, problems: &[(&str, &[Kind])]) -> Value {
    let mut responses = json!({ status: answer, "default": problem(&[]) });
    for (status, kinds) in problems {
        responses[*status] = problem(kinds);
    }
    let mut route = json!({ "operationId": id, "summary": summary, "tags": ["access"], "responses": responses });
    if let Some(body) = body {
        route["requestBody"] = body;
    }
    route
}

fn told(about: &str) -> Value {
    json!({ "description": about, "content": { "application/json": { "schema": { "type": "object" } } } })
}

fn nothing(about: &str) -> Value {
    json!({ "description": about })
}

fn body(properties: Value, required: &[&str]) -> Option<Value> {
    let schema = json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required });
    Some(json_body_of(schema))
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn texts(about: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": about })
}

fn path(name: &str, about: &str) -> Value {
    json!([{ "name": name, "in": "path", "required": true, "description": about, "schema": { "type": "string" } }])
}

const REFUSED: (&str, &[Kind]) = ("401", &[Kind::Unauthenticated]);
const FORBIDDEN: (&str, &[Kind]) = ("403", &[Kind::Forbidden]);
const INVALID: (&str, &[Kind]) = ("400", &[Kind::InvalidRequest]);
const MISSING: (&str, &[Kind]) = ("404", &[Kind::NotFound]);

pub(super) fn session() -> Value {
    json!({
        "post": route(
            "beginSession",
            "Begins a person's session: a cookie, and the word that what changes something sends in the header larder-csrf.",
            ("200", told("Who it is, until when, and the word.")),
            body(json!({ "principal": text("Who."), "password": text("Their password.") }), &["principal", "password"]),
            &[REFUSED, INVALID],
        ),
        "get": route("readSession", "Says who asks.", ("200", told("Who asks, and how that was proven.")), None, &[REFUSED]),
        "delete": route("endSession", "Ends the session that asks.", ("204", nothing("It is over.")), None, &[REFUSED]),
    })
}

pub(super) fn principals() -> Value {
    json!({ "get": route("listPrincipals", "All principals, with their grants.", ("200", told("Each of them.")), None, &[REFUSED, FORBIDDEN]) })
}

pub(super) fn principal() -> Value {
    let roles = texts("The names of their roles.");
    let grants = texts("Grants of their own, such as \"deny write on features:live:**\".");
    json!({
        "parameters": path("name", "What they are called."),
        "put": route(
            "putPrincipal",
            "Adds a principal, or gives one other roles and grants; without a password the one before stays.",
            ("204", nothing("They are as you said.")),
            body(json!({ "roles": roles, "grants": grants, "password": text("10 to 256 bytes.") }), &[]),
            &[REFUSED, FORBIDDEN, INVALID, MISSING],
        ),
        "delete": route(
            "removePrincipal",
            "Takes a principal out, with their tokens and sessions.",
            ("204", nothing("They are not let in any more.")),
            None,
            &[REFUSED, FORBIDDEN, MISSING],
        ),
    })
}

pub(super) fn tokens() -> Value {
    let properties = json!({
        "principal": text("Whose it is."),
        "label": text("What it is for."),
        "expires_in": text("A time such as 90d; without it, until it is revoked."),
    });
    json!({
        "get": route("listTokens", "All tokens, without their secrets.", ("200", told("Each of them.")), None, &[REFUSED, FORBIDDEN]),
        "post": route(
            "createToken",
            "Makes a token, which is told here and never again.",
            ("201", told("Its id, and all of it.")),
            body(properties, &["principal"]),
            &[REFUSED, FORBIDDEN, INVALID, MISSING],
        ),
    })
}

pub(super) fn token() -> Value {
    json!({
        "parameters": path("id", "What it is called."),
        "delete": route(
            "revokeToken",
            "Takes a token back. What is open with it is closed within a second.",
            ("204", nothing("It is good for nothing.")),
            None,
            &[REFUSED, FORBIDDEN, MISSING],
        ),
    })
}

pub(super) fn rotation() -> Value {
    let properties = json!({
        "overlap": text("How long the secret before is good; a day unless it is said."),
        "expires_in": text("How long the new one is good; without it, until it is revoked."),
    });
    json!({
        "parameters": path("id", "What it is called."),
        "post": route(
            "rotateToken",
            "Gives a token another secret, which is told here and never again.",
            ("201", told("Its id, and all of it.")),
            body(properties, &[]),
            &[REFUSED, FORBIDDEN, INVALID, MISSING],
        ),
    })
}

pub(super) fn explanation() -> Value {
    let octets = || json!({ "$ref": "#/components/schemas/Octets" });
    let properties = json!({
        "principal": text("Who."),
        "operation": text("read, write, delete, invalidate, emit, admin or metrics."),
        "key": octets(), "tag": octets(), "pattern": octets(),
    });
    json!({
        "post": route(
            "explainAccess",
            "Says whether somebody may do something, and which grant decides.",
            ("200", told("Whether it is allowed, and the grant; null where none allows it.")),
            body(properties, &["principal", "operation"]),
            &[REFUSED, FORBIDDEN, INVALID, MISSING],
        ),
    })
}
