//! The OpenAPI document: what the routes take and give, for programs. Written by hand, because half of what is to be said
//! is in headers; a snapshot holds it still, and tests hold it against the table of routes and against real answers.

use axum::Json as Answer;
use serde_json::{Map, Value, json};

use super::door::Need;
use super::events::EVENTS_MAX;
use super::many::ENTRIES_MAX;
use super::metrics::encode::Format;
use super::problem::Kind;

mod access;
mod backups;
mod cleanup;
mod content;
mod history;
mod jobs;
mod maintenance;
mod optimize;
mod probes;
mod report;
mod schemas;

/// `GET /openapi.json`.
pub async fn show() -> Answer<Value> {
    Answer(document())
}

/// The document.
pub fn document() -> Value {
    let mut document = routes();
    document["paths"].as_object_mut().expect("it is an object").extend(jobs::paths());
    // More than one macro takes.
    for (path, operations) in backups::paths() {
        document["paths"][path] = operations;
    }
    // Each route says in the table what it needs, so what it answers without is said once.
    for endpoint in super::data_plane().into_iter().chain(super::about()).filter(|endpoint| !matches!(endpoint.need, Need::Nothing(_))) {
        let responses = &mut document["paths"][endpoint.path][endpoint.method.as_str().to_ascii_lowercase()]["responses"];
        for (status, kind) in [("401", Kind::Unauthenticated), ("403", Kind::Forbidden), ("429", Kind::TooManyRequests)] {
            if responses[status].is_null() {
                responses[status] = problem(&[kind]);
            }
        }
    }
    document
}

fn routes() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "larder",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": INTRODUCTION,
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "entries", "description": "Values under keys." },
            { "name": "invalidations", "description": "Taking out what the world has made wrong." },
            { "name": "events", "description": "What became of events." },
            { "name": "server", "description": "What the cache and its server say of themselves." },
            { "name": "jobs", "description": "What the server does by itself." },
            { "name": "backups", "description": "Keeping what the cache has, and bringing back what is still true." },
            { "name": "access", "description": "Who may do what, where access control is on." },
        ],
        "paths": {
            "/v1/entries/{key}": entry(),
            "/v1/entries/{key}/content": content::validate(),
            "/v1/entries/{key}/explanation": content::explain(),
            "/v1/sources/{name}": content::source(),
            "/v1/entries/get": { "post": read_many() },
            "/v1/entries/put": { "post": write_many() },
            "/v1/invalidations": { "post": invalidate() },
            "/v1/events": { "post": take_events(), "options": validate_webhook(), "get": list_events() },
            "/v1/events/tail": { "get": tail_events() },
            "/v1/dead-letters": { "get": list_dead_letters() },
            "/v1/dead-letters/{id}": dead_letter(),
            "/v1/dead-letters/{id}/replay": replay_dead_letter(),
            "/v1/keys": { "get": keys() },
            "/v1/stats": { "get": stats() },
            "/v1/stats/reset": { "post": reset_stats() },
            "/v1/reports/{kind}": { "get": report::show() },
            "/v1/history": { "get": history::show() },
            "/v1/health": { "get": health() },
            "/v1/access/session": access::session(),
            "/v1/access/principals": access::principals(),
            "/v1/access/principals/{name}": access::principal(),
            "/v1/access/tokens": access::tokens(),
            "/v1/access/tokens/{id}": access::token(),
            "/v1/access/tokens/{id}/rotate": access::rotation(),
            "/v1/access/explain": access::explanation(),
            "/v1/optimize": optimize::route(),
            "/v1/cleanup": cleanup::route(),
            "/v1/maintenance": maintenance::route(),
            "/livez": { "get": probes::livez() },
            "/readyz": { "get": probes::readyz() },
            "/startupz": { "get": probes::startupz() },
            "/health": { "get": probes::draft() },
            "/metrics": { "get": metrics() },
            "/openapi.json": { "get": openapi() },
        },
        "security": [{}, { "token": [] }, { "session": [] }],
        "components": {
            "schemas": schemas::all(),
            "headers": headers(),
            "parameters": parameters(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "ldr_ID_SECRET" },
                "session": { "type": "apiKey", "in": "cookie", "name": super::door::SESSION_COOKIE },
            },
        },
    })
}

const INTRODUCTION: &str = "A cache whose reads can say how fresh they are. An entry is served until its time is over or \
anything it depends on was invalidated: its key, one of its tags, a pattern over its key, its namespace, everything.\n\n\
To read through the cache: GET the entry; on a 404 keep its Larder-Fill header, read your source, and PUT what it says \
with that header. If anything the entry depends on was invalidated in between, the PUT answers 409 and nothing old is \
stored.\n\n\
To change: change your source first, then POST the invalidation, or PUT the new value. Give the Larder-Position of the \
answer to readers elsewhere, who send it as Larder-At-Least.\n\n\
Several servers over one Redis are one cache. Each obeys an invalidation at once where it was made, and within \
milliseconds elsewhere. While Redis cannot be heard, an available server answers from memory and says so \
(Larder-Freshness: unverified); it takes changes with 202: they took effect on it, and are told to the others as soon as \
can be, while the position in that answer means nothing to them. A strict server refuses what it cannot guarantee with 503 \
(unverified, log-unavailable).\n\n\
Every error is application/problem+json; its `type` says which. Any route may also answer 503 (overloaded, draining) and \
504 (timed-out).";

fn entry() -> Value {
    json!({
        "parameters": [{ "$ref": "#/components/parameters/Key" }],
        "get": read("readEntry", "Reads an entry.", true),
        "head": read("readEntryHead", "Reads an entry's headers.", false),
        "put": write(),
        "delete": remove(),
    })
}

fn read(id: &str, summary: &str, with_body: bool) -> Value {
    let headers = header_refs(&["CacheControl", "Age", "ETag", "CacheStatus", "Freshness", "CacheTag", "Position", "Fill"]);
    let mut found = json!({
        "description": "A fresh value; or, within its stale-while-revalidate window, one past its time. Then Cache-Status has a \
            negative ttl, and Larder-Fill is the right to store a new one.",
        "headers": headers,
    });
    if with_body {
        found["content"] = json!({ "*/*": { "schema": { "type": "string", "format": "binary" } } });
    }
    let mut miss = problem(&[Kind::Miss, Kind::NotFound]);
    miss["headers"] = header_refs(&["CacheStatus", "Position", "Fill"]);
    json!({
        "operationId": id,
        "summary": summary,
        "tags": ["entries"],
        "parameters": parameter_refs(&["IfNoneMatch", "AtLeast", "WaitMs"]),
        "responses": {
            "200": found,
            "304": { "description": "The client has it: If-None-Match names its entity tag.", "headers": headers },
            "400": problem(&[Kind::InvalidKey, Kind::InvalidHeader]),
            "404": miss,
            "412": problem(&[Kind::UnknownPosition]),
            "503": problem(&[Kind::Unverified, Kind::Overloaded, Kind::Draining]),
            "504": problem(&[Kind::NotReached, Kind::TimedOut]),
            "default": problem(&[]),
        },
    })
}

fn write() -> Value {
    json!({
        "operationId": "writeEntry",
        "summary": "Writes an entry: with Larder-Fill a fill, which is kept only if it is sure to be current; without, a put.",
        "tags": ["entries"],
        "parameters": parameter_refs(&["Times", "Tags", "FillToken", "DependsOn", "Content", "IfChanged"]),
        "requestBody": {
            "required": true,
            "description": "The value. Its Content-Type is given back to readers.",
            "content": { "*/*": { "schema": { "type": "string", "format": "binary" } } },
        },
        "responses": {
            "202": queued("Stored here.", None),
            "204": { "description": "Stored, or the same is there already.", "headers": header_refs(&["Position", "Changed"]) },
            "400": problem(&[
                Kind::InvalidKey, Kind::InvalidTag, Kind::InvalidTtl, Kind::InvalidHeader, Kind::InvalidDependency, Kind::InvalidRequest,
            ]),
            "408": problem(&[Kind::BodyTimeout]),
            "409": problem(&[Kind::StaleFill, Kind::Outdated]),
            "412": problem(&[Kind::UnknownPosition]),
            "413": problem(&[Kind::BodyTooLarge, Kind::ValueTooLarge]),
            "503": problem(&[Kind::LogUnavailable, Kind::TierFailed, Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn remove() -> Value {
    json!({
        "operationId": "removeEntry",
        "summary": "Invalidates a key, whether there is an entry or not.",
        "tags": ["entries"],
        "responses": {
            "202": queued("No reader of this server gets it any more.", None),
            "204": { "description": "No reader gets it any more.", "headers": header_refs(&["Position"]) },
            "400": problem(&[Kind::InvalidKey]),
            "503": problem(&[Kind::LogUnavailable, Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn read_many() -> Value {
    json!({
        "operationId": "readEntries",
        "summary": format!("Reads up to {ENTRIES_MAX} entries."),
        "tags": ["entries"],
        "parameters": parameter_refs(&["AtLeast", "WaitMs"]),
        "requestBody": json_body("ReadRequest"),
        "responses": {
            "200": json_answer("One for each key, in their order.", "ReadAnswer"),
            "400": problem(&[Kind::InvalidRequest, Kind::InvalidKey, Kind::InvalidHeader]),
            "412": problem(&[Kind::UnknownPosition]),
            "413": problem(&[Kind::BodyTooLarge]),
            "415": problem(&[Kind::UnsupportedMediaType]),
            "422": problem(&[Kind::AnswerTooLarge]),
            "503": problem(&[Kind::Unverified, Kind::Overloaded, Kind::Draining]),
            "504": problem(&[Kind::NotReached, Kind::TimedOut]),
            "default": problem(&[]),
        },
    })
}

fn write_many() -> Value {
    json!({
        "operationId": "writeEntries",
        "summary": format!("Writes up to {ENTRIES_MAX} entries: puts first, then fills, each of which is kept or not."),
        "tags": ["entries"],
        "requestBody": json_body("WriteRequest"),
        "responses": {
            "200": json_answer("What became of each, in their order.", "WriteAnswer"),
            "202": queued("What became of each here, in their order.", Some("WriteAnswer")),
            "400": problem(&[Kind::InvalidRequest, Kind::InvalidKey, Kind::InvalidTag, Kind::InvalidTtl]),
            "413": problem(&[Kind::BodyTooLarge, Kind::ValueTooLarge]),
            "415": problem(&[Kind::UnsupportedMediaType]),
            "503": problem(&[Kind::LogUnavailable, Kind::TierFailed, Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn invalidate() -> Value {
    json!({
        "operationId": "invalidate",
        "summary": "Invalidates names, all at one position. When it answers, no reader gets what depends on them any more.",
        "tags": ["invalidations"],
        "parameters": parameter_refs(&["AppliedEverywhere"]),
        "requestBody": json_body("Invalidation"),
        "responses": {
            "200": json_answer("The receipt.", "Receipt"),
            "202": queued("The receipt; it took effect here.", Some("Receipt")),
            "400": problem(&[Kind::InvalidRequest, Kind::InvalidKey, Kind::InvalidTag, Kind::InvalidPattern]),
            "413": problem(&[Kind::BodyTooLarge]),
            "415": problem(&[Kind::UnsupportedMediaType]),
            "503": problem(&[Kind::LogUnavailable, Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn take_events() -> Value {
    let event = json!({ "schema": schemas::reference("CloudEvent") });
    let events = json!({ "schema": { "type": "array", "items": schemas::reference("CloudEvent"), "maxItems": EVENTS_MAX } });
    json!({
        "operationId": "takeEvents",
        "summary": "Carries out what the rules for an event say: when it answers, no reader gets what depends on it any more.",
        "description": format!("CloudEvents 1.0, in any mode of its HTTP binding: one event as JSON, up to {EVENTS_MAX} as a list, or \
            one with its attributes in headers (ce-specversion, ce-id, ce-source, ce-type) and its data as the body. The same id of \
            the same source is carried out once. A server with secrets takes only what is signed with one of them (Standard \
            Webhooks), and nothing whose attributes are in headers, which a signature does not cover."),
        "tags": ["invalidations"],
        "parameters": parameter_refs(&["DryRun", "WebhookId", "WebhookTimestamp", "WebhookSignature"]),
        "requestBody": {
            "required": true,
            "content": {
                "application/cloudevents+json": event,
                "application/cloudevents-batch+json": events,
                "application/json": { "schema": { "description": "The data of an event whose attributes are in headers." } },
            },
        },
        "responses": {
            "200": json_answer("What became of it, or of each in their order.", "EventOutcome"),
            "202": queued("What became of it; it took effect here.", Some("EventOutcome")),
            "400": {
                "description": format!("Of one event: `{}`, `{}`. Of several, what became of each; those that are wrong keep no other \
                    from being carried out.", Kind::InvalidEvent.type_uri(), Kind::InvalidRequest.type_uri()),
                "content": {
                    "application/problem+json": { "schema": schemas::reference("Problem") },
                    "application/json": { "schema": schemas::reference("EventOutcome") },
                },
            },
            "401": problem(&[Kind::Unsigned]),
            "413": problem(&[Kind::BodyTooLarge]),
            "415": problem(&[Kind::UnsupportedMediaType]),
            "503": problem(&[Kind::LogUnavailable, Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn validate_webhook() -> Value {
    json!({
        "operationId": "validateWebhook",
        "summary": "Whether a sender of webhooks may send events here, as it asks before it does (CloudEvents' validation handshake).",
        "tags": ["invalidations"],
        "parameters": parameter_refs(&["RequestOrigin", "RequestRate"]),
        "responses": {
            "204": {
                "description": "It may, if it asked and these headers are there; Allow lists the methods.",
                "headers": header_refs(&["AllowedOrigin", "AllowedRate"]),
            },
            "400": problem(&[Kind::InvalidHeader]),
            "403": problem(&[Kind::OriginNotAllowed]),
            "default": problem(&[]),
        },
    })
}

fn list_events() -> Value {
    json!({
        "operationId": "listEvents",
        "summary": "What became of the last events, the oldest first.",
        "tags": ["events"],
        "parameters": parameter_refs(&["EventsLimit", "EventType"]),
        "responses": {
            "200": json_answer("The last of them; a server keeps a thousand, and begins anew when it starts.", "EventTraces"),
            "400": problem(&[Kind::InvalidRequest]),
            "default": problem(&[]),
        },
    })
}

fn tail_events() -> Value {
    let schema = json!({ "type": "string", "description": "Server-sent events. Each is an EventTrace, with an id to go on from; an event \
        \"missed\" says how many the watcher was too slow for; a comment every ten seconds or sooner says that the server is there." });
    json!({
        "operationId": "tailEvents",
        "summary": "What becomes of events as they come, until the client leaves or the server is told to stop.",
        "tags": ["events"],
        "parameters": parameter_refs(&["EventType", "Entries", "Last", "LastEventId"]),
        "responses": {
            "200": { "description": "A stream.", "content": { "text/event-stream": { "schema": schema } } },
            "400": problem(&[Kind::InvalidRequest]),
            "503": problem(&[Kind::Overloaded, Kind::Draining]),
            "default": problem(&[]),
        },
    })
}

fn list_dead_letters() -> Value {
    json!({
        "operationId": "listDeadLetters",
        "summary": "Events that a source delivered and nobody managed, the oldest first.",
        "description": "An event that was sent over HTTP and refused is none of them: its sender was told.",
        "tags": ["events"],
        "responses": { "200": json_answer("All of them.", "DeadLetters"), "default": problem(&[]) },
    })
}

fn dead_letter() -> Value {
    json!({
        "parameters": [{ "$ref": "#/components/parameters/DeadLetterId" }],
        "get": {
            "operationId": "readDeadLetter",
            "summary": "A dead letter with its event.",
            "tags": ["events"],
            "responses": { "200": json_answer("It.", "DeadLetter"), "404": problem(&[Kind::NotFound]), "default": problem(&[]) },
        },
        "delete": {
            "operationId": "dropDeadLetter",
            "summary": "Forgets a dead letter.",
            "tags": ["events"],
            "responses": {
                "204": { "description": "It is gone." },
                "404": problem(&[Kind::NotFound]),
                "503": problem(&[Kind::TierFailed]),
                "default": problem(&[]),
            },
        },
    })
}

fn replay_dead_letter() -> Value {
    json!({
        "parameters": [{ "$ref": "#/components/parameters/DeadLetterId" }],
        "post": {
            "operationId": "replayDeadLetter",
            "summary": "Tries a dead letter once more, and forgets it if that went well.",
            "description": "One that a handler did not manage is told to that handler. One that could not be carried out is carried out \
                as if it came now, for instance after the rules were mended.",
            "tags": ["events"],
            "responses": {
                "200": json_answer("What became of it.", "Replayed"),
                "202": queued("What became of it; it took effect here.", Some("Replayed")),
                "404": problem(&[Kind::NotFound]),
                "409": problem(&[Kind::ReplayFailed]),
                "503": problem(&[Kind::LogUnavailable, Kind::TierFailed]),
                "default": problem(&[]),
            },
        },
    })
}

fn keys() -> Value {
    json!({
        "operationId": "listKeys",
        "summary": "Lists the keys of fresh entries, a page at a time, in the order of their bytes.",
        "tags": ["entries"],
        "parameters": parameter_refs(&["Pattern", "Cursor", "Limit", "AtLeast", "WaitMs"]),
        "responses": {
            "200": json_answer("A page.", "Keys"),
            "400": problem(&[Kind::InvalidPattern, Kind::InvalidRequest, Kind::InvalidHeader]),
            "412": problem(&[Kind::UnknownPosition]),
            "503": problem(&[Kind::TierFailed, Kind::Overloaded, Kind::Draining]),
            "504": problem(&[Kind::NotReached, Kind::TimedOut]),
            "default": problem(&[]),
        },
    })
}

fn stats() -> Value {
    json!({
        "operationId": "stats",
        "summary": "What the cache has counted, and how full it is: since the last reset, or with since=start since the server began.",
        "tags": ["server"],
        "parameters": parameter_refs(&["Since"]),
        "responses": {
            "200": json_answer("The numbers.", "Stats"),
            "400": problem(&[Kind::InvalidRequest]),
            "default": problem(&[]),
        },
    })
}

fn reset_stats() -> Value {
    json!({
        "operationId": "resetStats",
        "summary": "Begins a new window for /v1/stats. What /metrics has goes on.",
        "tags": ["server"],
        "responses": { "200": json_answer("The window that ended.", "Reset"), "default": problem(&[]) },
    })
}

fn health() -> Value {
    json!({
        "operationId": "health",
        "summary": "What deserves attention, and what to do about it. Whether requests should be sent here, /readyz says.",
        "tags": ["server"],
        "responses": { "200": json_answer("The report.", "Health"), "default": problem(&[]) },
    })
}

/// The answer to a change that is yet to be told to other servers.
fn queued(what: &str, schema: Option<&str>) -> Value {
    let description = format!(
        "{what} Redis cannot be reached: the change waits to be told to the other servers, and its position means \
        nothing to them."
    );
    match schema {
        Some(schema) => json_answer(&description, schema),
        None => json!({ "description": description, "headers": header_refs(&["Position"]) }),
    }
}

fn metrics() -> Value {
    let text = json!({ "schema": { "type": "string" } });
    json!({
        "operationId": "metrics",
        "summary": "Everything that is counted, for Prometheus: as OpenMetrics where Accept asks for that, else in its own text format.",
        "tags": ["server"],
        "responses": { "200": {
            "description": "The metrics.",
            "content": { (Format::Prometheus.media_type()): text.clone(), (Format::OpenMetrics.media_type()): text },
        } },
    })
}

fn openapi() -> Value {
    json!({
        "operationId": "openapi",
        "summary": "This document.",
        "tags": ["server"],
        "responses": { "200": { "description": "It.", "content": { "application/json": { "schema": { "type": "object" } } } } },
    })
}

fn text_answer(description: &str) -> Value {
    json!({ "description": description, "content": { "text/plain": { "schema": { "type": "string" } } } })
}

fn json_answer(description: &str, schema: &str) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schemas::reference(schema) } } })
}

fn json_body(schema: &str) -> Value {
    json_body_of(schemas::reference(schema))
}

fn json_body_of(schema: Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": schema } } })
}

/// An answer that is one of these problems; of any, where none is named.
fn problem(kinds: &[Kind]) -> Value {
    let types: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.type_uri())).collect();
    let description = if types.is_empty() { "Another problem.".to_owned() } else { types.join(", ") };
    json!({ "description": description, "content": { "application/problem+json": { "schema": schemas::reference("Problem") } } })
}

fn header_refs(names: &[&str]) -> Value {
    let all = HEADERS.iter().filter(|header| names.contains(&header.component));
    all.map(|header| (header.name.to_owned(), json!({ "$ref": format!("#/components/headers/{}", header.component) })))
        .collect::<Map<_, _>>()
        .into()
}

fn parameter_refs(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect()
}

/// A header of an answer.
struct Header {
    component: &'static str,
    name: &'static str,
    description: &'static str,
}

const HEADERS: [Header; 11] = [
    Header {
        component: "CacheControl",
        name: "Cache-Control",
        description: "max-age, less Age, is how much longer it is fresh as far as time goes; without it, until it is invalidated. \
            no-cache asks caches on the way to come back, since an invalidation cannot reach them.",
    },
    Header { component: "Age", name: "Age", description: "Seconds since the value was made." },
    Header { component: "ETag", name: "ETag", description: "The fingerprint of the value: equal ones are equal bytes." },
    Header {
        component: "CacheStatus",
        name: "Cache-Status",
        description: "How the answer was come by (RFC 9211): hit or fwd, the time left (below zero on a stale one), and in detail the \
            tier, or why there is none.",
    },
    Header {
        component: "Freshness",
        name: "Larder-Freshness",
        description: "unverified: the value is fresh as far as this server knows, but it has not heard of other servers' changes for \
            longer than max_staleness. On no other answer.",
    },
    Header { component: "CacheTag", name: "Cache-Tag", description: "The entry's tags, percent-encoded, separated by commas." },
    Header {
        component: "Position",
        name: "Larder-Position",
        description: "On a read, the position that the answer reflects; on a write, the one it is stored at.",
    },
    Header {
        component: "Changed",
        name: "Larder-Changed",
        description: "On the answer to a put with Larder-If-Changed: false where the same was there already, and lives on.",
    },
    Header {
        component: "Fill",
        name: "Larder-Fill",
        description: "The token to send with what the source says, as the same header of a PUT. On misses and stale answers.",
    },
    Header { component: "AllowedOrigin", name: "WebHook-Allowed-Origin", description: "The sender that may send, as it called itself." },
    Header {
        component: "AllowedRate",
        name: "WebHook-Allowed-Rate",
        description: "How many requests a minute it may send; * is as many as it likes.",
    },
];

fn headers() -> Value {
    let all = HEADERS.iter();
    all.map(|header| {
        (header.component.to_owned(), json!({ "description": header.description, "required": false, "schema": { "type": "string" } }))
    })
    .collect::<Map<_, _>>()
    .into()
}

fn parameters() -> Value {
    let header = |name: &str, description: &str| parameter("header", name, description, json!({ "type": "string" }));
    let query = |name: &str, description: &str, schema: Value| parameter("query", name, description, schema);
    json!({
        "Key": {
            "in": "path", "name": "key", "required": true, "schema": { "type": "string", "minLength": 1 },
            "description": format!("1 to {} bytes, percent-encoded as one segment; its own segments are joined by ':', the first is \
                its namespace.", larder::KEY_LEN_MAX),
        },
        "IfNoneMatch": header("If-None-Match", "Entity tags that the client has, or *."),
        "AtLeast": header("Larder-At-Least", "A position that the answer must reflect at least, as a write or a receipt of any server \
            over the same Redis gave it."),
        "AppliedEverywhere": query("applied_everywhere", "Also waits until every server over the same Redis obeys, or for this time at \
            most, such as 500ms; the answer then says who does not. At most half of what a request may take.", json!({ "type": "string" })),
        "DryRun": query("dry_run", "Only says what would be invalidated and how much that would drop, and changes nothing.",
            json!({ "type": "boolean", "default": false })),
        "WaitMs": parameter("header", "Larder-Wait-Ms", "How long to wait for that position, in milliseconds; 1,000 unless given, \
            and at most half of what a request may take.", json!({ "type": "integer", "minimum": 0 })),
        "Times": header("Cache-Control", "max-age, stale-while-revalidate and stale-if-error, in seconds; other directives are \
            ignored, but for no-store, which is refused. What is not given is the namespace's to say."),
        "Tags": header("Cache-Tag", "The entry's tags, percent-encoded, separated by commas."),
        "FillToken": header("Larder-Fill", "The token of the miss or stale answer that this fills."),
        "DependsOn": header("Larder-Depends-On", "What the value was computed from, such as bars:AAPL=17, separated by commas: names, \
            percent-encoded, with a version each, which is a number or a fingerprint. When a source moves or is invalidated, the entry \
            is stale."),
        "Content": header("Larder-Content", "The fingerprint of the content that the value stands for, for validations to come."),
        "IfChanged": parameter("header", "Larder-If-Changed", "Whether to append nothing, and keep all copies, if the same is there \
            already. Not with Larder-Fill.", json!({ "type": "boolean", "default": false })),
        "Renew": query("renew", "Whether an entry whose content is unchanged begins its life anew.",
            json!({ "type": "boolean", "default": false })),
        "Pattern": query("pattern", "Segments joined by ':'; * is any one, ** at the end any number. Unless given, all keys.",
            json!({ "type": "string", "default": "**" })),
        "Cursor": query("cursor", "Where to go on: the last page's next.", json!({ "type": "string" })),
        "Limit": query("limit", "Keys on the page.",
            json!({ "type": "integer", "minimum": 1, "maximum": larder::KEYS_PAGE_MAX, "default": 1000 })),
        "WebhookId": header("webhook-id", "Where events are signed: what the sender calls the message."),
        "WebhookTimestamp": header("webhook-timestamp", "Where events are signed: when it was sent, in seconds since the Unix epoch; at \
            most five minutes from this server's time."),
        "WebhookSignature": header("webhook-signature", "Where events are signed: v1, and the base64 of HMAC-SHA256 over \
            id.timestamp.body; several are separated by blanks."),
        "RequestOrigin": header("WebHook-Request-Origin", "What the sender calls itself: a name like that of a host."),
        "RequestRate": header("WebHook-Request-Rate", "How many requests a minute it would like to send."),
        "EventsLimit": query("limit", "How many events.",
            json!({ "type": "integer", "minimum": 1, "maximum": larder::events::EVENT_TRACES_MAX, "default": 100 })),
        "EventType": query("type", "Only events of this type.", json!({ "type": "string" })),
        "Entries": query("entries", "Also counts the live entries in memory that events make stale, in a tenth of the time at most: it \
            looks at every entry there is, before the event takes effect.", json!({ "type": "boolean", "default": false })),
        "Last": query("last", "Begins with so many that were before.",
            json!({ "type": "integer", "minimum": 0, "maximum": larder::events::EVENT_TRACES_MAX, "default": 0 })),
        "LastEventId": header("Last-Event-ID", "The id of the last event that was seen, to go on from there. After a restart of the \
            server that is its first."),
        "DeadLetterId": {
            "in": "path", "name": "id", "required": true, "schema": { "type": "integer", "minimum": 1 },
            "description": "What the dead letter is called here.",
        },
        "Since": query("since", "Whether to tell what was counted since the last reset (the default) or since the server began.",
            json!({ "type": "string", "enum": ["reset", "start"], "default": "reset" })),
        "Verbose": query("verbose", "Whether to tell each check: a line for each, or JSON where that is accepted. Why one is not in order is told to who may read /health.", json!({ "type": "string" })),
        "Exclude": query("exclude", "The names of checks that do not count, with commas between them; may be given several times.", json!({ "type": "string" })),
    })
}

fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({ "in": place, "name": name, "required": false, "description": description, "schema": schema })
}
