//! The shapes of JSON bodies, as the OpenAPI document has them. Each is a type of a module beside; which, says its name.

use serde_json::{Map, Value, json};

use crate::http::many::ENTRIES_MAX;
use crate::http::problem::Kind;

/// A reference to one of them.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// All of them.
pub fn all() -> Value {
    let mut all = own();
    all.as_object_mut().expect("it is an object").extend(
        super::content::schemas()
            .into_iter()
            .chain(super::history::schemas())
            .chain(super::jobs::schemas())
            .map(|(name, schema)| (name.to_owned(), schema)),
    );
    all
}

fn own() -> Value {
    json!({
        "Octets": octets(),
        "Position": { "type": "string", "pattern": "^[0-9a-f]{16}-[0-9]+$", "examples": ["6f1c0a52b7d3e984-1742"] },
        "FillToken": { "type": "string", "pattern": "^[0-9a-f]{16}-[0-9]+-[0-9a-f]{8}$" },
        "Problem": problem(),
        "ReadRequest": closed(&["keys"], json!({ "keys": list("Octets", Some(ENTRIES_MAX)) })),
        "ReadAnswer": open(&["entries"], json!({ "entries": list("Found", None) })),
        "Found": found(),
        "WriteRequest": closed(&["entries"], json!({ "entries": list("NewEntry", Some(ENTRIES_MAX)) })),
        "NewEntry": new_entry(),
        "WriteAnswer": open(&["position", "queued", "entries"], json!({
            "position": or_null(reference("Position"), "The last that was appended; null where all were fills."),
            "queued": queued(),
            "entries": list("Written", None),
        })),
        "Written": open(&["key", "stored"], json!({
            "key": reference("Octets"),
            "stored": { "type": "boolean" },
            "problem": reference("Problem"),
        })),
        "Invalidation": invalidation(),
        "Receipt": open(&["position", "names", "widened", "queued"], json!({
            "position": reference("Position"),
            "names": count("How many names were invalidated."),
            "widened": count("How many of them were widened to a broader one, for want of room in the index."),
            "queued": queued(),
            "spread": reference("Spread"),
        })),
        "Spread": spread(),
        "CloudEvent": cloud_event(),
        "EventOutcome": { "anyOf": [outcome(), open(&["events"], json!({ "events": { "type": "array", "items": { "anyOf": [
            outcome(),
            open(&["problem"], json!({ "problem": reference("Problem") })),
        ] } } }))] },
        "EventTraces": open(&["life", "events"], json!({
            "life": { "type": "string", "description": "Drawn when the server starts: the numbers of another life are other events." },
            "events": list("EventTrace", None),
        })),
        "EventTrace": trace(),
        "DeadLetters": open(&["dead_letters", "dropped"], json!({
            "dead_letters": { "type": "array", "items": dead_letter(false) },
            "dropped": count("How many were dropped since the start because there were too many."),
        })),
        "DeadLetter": dead_letter(true),
        "Replayed": open(&["dead_letter", "handled", "outcome"], json!({
            "dead_letter": count("What it was called."),
            "handled": count("How many handlers managed it now."),
            "outcome": or_null(outcome(), "Where it could not be carried out before; null where a handler did not manage it."),
        })),
        "Keys": open(&["keys", "next"], json!({
            "keys": list("Octets", None),
            "next": or_null(json!({ "type": "string" }), "The cursor of the next page; null at the end."),
        })),
        "Readiness": readiness(),
        "Health": health(),
        "Optimize": super::optimize::schema(),
        "Cleanup": super::cleanup::schema(),
        "Maintenance": super::maintenance::schema(),
        "MaintenanceRequest": super::maintenance::request(),
        "Backups": super::backups::schema("Backups"),
        "BackupRun": super::backups::schema("BackupRun"),
        "BackupAsk": super::backups::schema("BackupAsk"),
        "BackupManifest": super::backups::schema("BackupManifest"),
        "HealthDocument": health_document(),
        "Stats": stats(),
        "Window": window(),
        "Reset": open(&["ended"], json!({ "ended": reference("Window") })),
        "Namespace": namespace(),
        "Latency": latency(),
    })
}

/// An object of which more members may come.
fn open(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

/// An object that takes no other members.
fn closed(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn list(of: &str, most: Option<usize>) -> Value {
    let mut list = json!({ "type": "array", "items": reference(of) });
    if let Some(most) = most {
        list["maxItems"] = most.into();
    }
    list
}

fn or_null(schema: Value, description: &str) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }], "description": description })
}

fn count(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

/// An object of counts.
fn counts(names: &[&str]) -> Value {
    let properties: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({ "type": "integer", "minimum": 0 }))).collect();
    open(names, properties.into())
}

fn octets() -> Value {
    json!({
        "description": "A byte string: a string stands for its UTF-8 bytes; bytes that are no UTF-8 are base64 (RFC 4648, with padding).",
        "oneOf": [{ "type": "string" }, closed(&["base64"], json!({ "base64": { "type": "string", "contentEncoding": "base64" } }))],
        "examples": ["features:AAPL:5m", { "base64": "/wA=" }],
    })
}

fn problem() -> Value {
    let types: Vec<String> = Kind::ALL.iter().map(|kind| kind.type_uri()).collect();
    open(
        &["type", "title", "status", "detail"],
        json!({
            "type": { "type": "string", "enum": types },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What is wrong this time, for people." },
            "key": reference("Octets"),
            "limit": count("The limit that was passed."),
        }),
    )
}

fn found() -> Value {
    open(
        &["key", "outcome"],
        json!({
            "key": reference("Octets"),
            "outcome": {
                "type": "string", "enum": ["hit", "stale", "not_found", "miss"],
                "description": "A hit or a stale one has the value and what is known of it; a miss or a stale one has a token.",
            },
            "value": reference("Octets"),
            "media_type": or_null(json!({ "type": "string" }), "As it was given."),
            "tags": list("Octets", None),
            "etag": { "type": "string" },
            "tier": { "type": "string", "description": "memory, or the backing tier's name." },
            "age_ms": count("How long ago it was made."),
            "fresh_for_ms": or_null(json!({ "type": "integer" }), "How much longer it is fresh as far as time goes; null: for ever."),
            "position": or_null(reference("Position"), "What it reflects."),
            "unverified": { "type": "boolean", "description": "Whether it could not be verified, as Larder-Freshness says. Left out where \
                it could." },
            "fill": reference("FillToken"),
        }),
    )
}

fn new_entry() -> Value {
    closed(
        &["key", "value"],
        json!({
            "key": reference("Octets"),
            "value": reference("Octets"),
            "media_type": { "type": "string" },
            "tags": list("Octets", Some(larder::TAGS_MAX)),
            "ttl_ms": { "type": "integer", "minimum": 1 },
            "stale_while_revalidate_ms": { "type": "integer", "minimum": 0 },
            "stale_if_error_ms": { "type": "integer", "minimum": 0 },
            "fill": reference("FillToken"),
        }),
    )
}

fn invalidation() -> Value {
    let mut schema = closed(
        &[],
        json!({
            "keys": list("Octets", None),
            "tags": list("Octets", None),
            "patterns": list("Octets", None),
            "namespaces": { "type": "array", "items": { "type": "string" } },
            "everything": { "type": "boolean" },
        }),
    );
    schema["minProperties"] = 1.into();
    schema["description"] = format!("At most {} names, and at least one.", larder::NAMES_MAX).into();
    schema
}

fn cloud_event() -> Value {
    open(
        &["specversion", "id", "source", "type"],
        json!({
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "minLength": 1, "maxLength": larder::events::ATTRIBUTE_LEN_MAX, "description": "What its source calls it." },
            "source": { "type": "string", "minLength": 1, "maxLength": larder::events::ATTRIBUTE_LEN_MAX },
            "type": { "type": "string", "minLength": 1, "maxLength": larder::events::ATTRIBUTE_LEN_MAX, "description": "Which rules are for it." },
            "time": { "type": "string", "format": "date-time" },
            "subject": { "type": "string", "minLength": 1 },
            "data": { "description": "What happened; rules take names from its fields." },
        }),
    )
}

fn outcome() -> Value {
    let texts = |about: &str| json!({ "type": "array", "items": { "type": "string" }, "description": about });
    let dropped = counts(&["memory_entries", "memory_bytes", "backing_entries", "backing_bytes"]);
    open(
        &["id", "duplicate", "rules", "names", "conflated", "position", "queued"],
        json!({
            "id": { "type": "string" },
            "duplicate": { "type": "boolean", "description": "Whether it had been carried out before; then nothing was done." },
            "rules": texts("The rules that are for it."),
            "names": texts("The names that it invalidates."),
            "conflated": count("How many of them were put off to the end of their window."),
            "position": or_null(reference("Position"), "The last that was appended; null where nothing was."),
            "queued": queued(),
            "impact": { "type": "object", "additionalProperties": dropped, "description": "In a rehearsal: what it would drop, by namespace." },
        }),
    )
}

fn trace() -> Value {
    let text = || json!({ "type": "string" });
    let texts = |about: &str| json!({ "type": "array", "items": { "type": "string" }, "description": about });
    let names = ["number", "received_ms", "names_count", "conflated", "handled", "took_us"];
    let mut schema = counts(&names);
    for name in ["through", "id", "source", "type"] {
        schema["properties"][name] = text();
    }
    let more = json!({
        "subject": or_null(text(), "What it is about."),
        "outcome": {
            "type": "string", "enum": ["applied", "conflated", "queued", "duplicate", "unmatched", "refused", "failed"],
            "description": "Conflated: it took effect with others at the end of a window. Queued: here alone so far.",
        },
        "reason": or_null(text(), "Why it was refused, or failed."),
        "rules": texts("The rules that are for it."),
        "names": texts("The first of the names that it invalidates."),
        "position": or_null(reference("Position"), "Where the last of it stands in the log."),
        "entries": or_null(json!({ "type": "integer" }), "Live entries in memory that it made stale, where somebody asked."),
        "dead": { "type": "array", "items": { "type": "integer" }, "description": "Dead letters that came of it." },
        "applied_after_us": or_null(json!({ "type": "integer" }), "Microseconds until all of it was stale."),
    });
    for (name, property) in more.as_object().into_iter().flatten() {
        schema["properties"][name] = property.clone();
    }
    let all: Vec<&String> = schema["properties"].as_object().into_iter().flat_map(Map::keys).collect();
    schema["required"] = json!(all);
    schema
}

fn dead_letter(with_event: bool) -> Value {
    let text = || json!({ "type": "string" });
    let mut schema = open(
        &["id", "failed", "reason", "at_ms", "type", "source", "event_id"],
        json!({
            "id": count("What it is called here."),
            "failed": {
                "type": "string", "enum": ["handler", "event"],
                "description": "A handler that did not manage it; or the event itself, of which nothing took effect.",
            },
            "reason": { "type": "string", "description": "Why; it names the rule and the field where it is the event's fault." },
            "at_ms": count("When, in milliseconds since the Unix epoch."),
            "type": or_null(text(), "The event's."),
            "source": or_null(text(), "The event's."),
            "event_id": or_null(text(), "What its source calls it."),
        }),
    );
    if with_event {
        schema["properties"]["event"] = json!({ "description": "As it came." });
        schema["required"].as_array_mut().expect("it was made as one").push("event".into());
    }
    schema
}

fn readiness() -> Value {
    let check = open(
        &["name", "ok", "needed"],
        json!({
            "name": { "type": "string" },
            "ok": { "type": "boolean" },
            "needed": { "type": "boolean", "description": "Whether the server cannot be used without it." },
            "excluded": { "type": "boolean", "description": "Whether the request said that it does not count." },
            "message": { "type": "string" },
        }),
    );
    open(
        &["ready", "degraded", "checks"],
        json!({
            "ready": { "type": "boolean" },
            "degraded": { "type": "boolean", "description": "Whether any of the checks failed, needed or not." },
            "checks": { "type": "array", "items": check },
        }),
    )
}

fn health() -> Value {
    let finding = open(
        &["severity", "about", "what", "advice"],
        json!({
            "severity": {
                "type": "string", "enum": ["notice", "degraded", "failing"],
                "description": "A notice could hurt later; degraded works worse than it should; failing refuses changes.",
            },
            "about": { "type": "string", "description": "The part that it is about, such as log." },
            "what": { "type": "string" },
            "advice": { "type": "string", "description": "What to do about it." },
        }),
    );
    open(
        &["state", "findings"],
        json!({
            "state": { "type": "string", "enum": ["healthy", "degraded", "failing"], "description": "Healthy also with notices." },
            "findings": { "type": "array", "items": finding },
        }),
    )
}

fn health_document() -> Value {
    let status = json!({ "type": "string", "enum": ["pass", "warn", "fail"] });
    let measurement = open(
        &["componentType", "status", "since", "time"],
        json!({
            "componentId": { "type": "string", "description": "Which one, where there are several." },
            "componentType": { "type": "string", "enum": ["component", "datastore", "system"] },
            "observedValue": { "description": "What was found; left out where nothing could be." },
            "observedUnit": { "type": "string" },
            "status": status.clone(),
            "since": { "type": "string", "format": "date-time", "description": "Since when it is so." },
            "time": { "type": "string", "format": "date-time", "description": "When it was looked at last." },
            "output": { "type": "string", "description": "What is wrong." },
            "advice": { "type": "string", "description": "What to do about it." },
        }),
    );
    open(
        &["status", "releaseId", "description", "checks"],
        json!({
            "status": status,
            "releaseId": { "type": "string", "description": "The version of larder." },
            "description": { "type": "string" },
            "notes": { "type": "array", "items": { "type": "string" }, "description": "What is wrong, in words." },
            "checks": {
                "type": "object", "additionalProperties": { "type": "array", "items": measurement },
                "description": "By component and measurement, as log:lag.",
            },
        }),
    )
}

fn queued() -> Value {
    json!({ "type": "boolean", "description": "Whether it took effect on this server alone so far, and waits to be told to the others." })
}

fn spread() -> Value {
    let lagging = open(
        &["instance", "behind", "unseen_for_ms"],
        json!({
            "instance": { "type": "string", "description": "What it is called." },
            "behind": or_null(json!({ "type": "integer" }), "How many positions; null where that cannot be said."),
            "unseen_for_ms": count("How long ago it was last heard of."),
        }),
    );
    let mut schema = open(
        &["instances", "lagging"],
        json!({
            "instances": or_null(json!({ "type": "integer" }), "Servers over the same Redis, this one included; null where that cannot be known."),
            "lagging": { "type": "array", "items": lagging, "description": "Those that did not obey when the time was over." },
            "problem": reference("Problem"),
        }),
    );
    schema["description"] =
        "Who obeys, where the request asked for it (applied_everywhere); with a problem where that cannot be known.".into();
    schema
}

fn stats() -> Value {
    let mut backing = counts(&[
        "entries",
        "bytes",
        "bytes_on_disk",
        "queued",
        "queued_bytes",
        "evicted",
        "expired",
        "shed",
        "outranked",
        "unreadable",
        "errors",
    ]);
    backing["properties"]["name"] = json!({ "type": "string" });
    backing["properties"]["degraded"] = or_null(json!({ "type": "string" }), "Why it cannot be used; null where it can.");
    backing["properties"]["breaker"] = json!({
        "type": "string", "enum": ["closed", "open", "half_open"],
        "description": "Whether it is asked: closed where it is, open where it failed too often, half_open while it is tried.",
    });
    let mut shared = counts(&[
        "unheard_for_ms",
        "behind",
        "queued",
        "queued_bytes",
        "refused",
        "connects",
        "epochs",
        "resyncs",
        "checkpoints",
        "inbox_taken",
        "inbox_rejected",
    ]);
    shared["properties"]["trouble"] = or_null(json!({ "type": "string" }), "Why it is not connected; null where it is.");
    shared["properties"]["instance"] = json!({ "type": "string", "description": "What this server is called." });
    shared["properties"]["connected"] = json!({ "type": "boolean" });
    let mut log = counts(&["appends", "syncs"]);
    log["properties"]["shared"] = or_null(shared, "The log in Redis; null where it is this server's own.");
    log["properties"]["position"] = reference("Position");
    log["properties"]["failed"] = or_null(json!({ "type": "string" }), "Why it takes no appends; null where it does.");
    let mut index = counts(&["bytes", "shapes", "globs", "widened"]);
    index["properties"]["false_miss_rate"] = json!({
        "type": "number", "minimum": 0, "maximum": 1, "description": "The estimated share of entries that miss for no reason.",
    });
    let mut events =
        counts(&["received", "duplicates", "unmatched", "refused", "failed", "names", "conflated", "dead", "dead_dropped", "unsigned"]);
    events["description"] = "Since the start; dead is how many dead letters there are now, and unsigned counts requests.".into();
    open(
        &["window", "total", "namespaces", "memory", "backing", "log", "index", "events", "invalidations", "needless", "server"],
        json!({
            "window": reference("Window"),
            "total": reference("Namespace"),
            "namespaces": list("Namespace", None),
            "memory": counts(&["capacity_bytes", "bytes", "entries"]),
            "backing": or_null(backing, "Null where there is none."),
            "log": log,
            "index": index,
            "events": events,
            "invalidations": {
                "type": "object",
                "additionalProperties": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
                "description": "Names that were invalidated, by kind and then by where that came from.",
            },
            "needless": needless(),
            "server": open(&["requests_under_way", "process"], json!({
                "requests_under_way": count("Requests behind the gate."),
                "process": process(),
            })),
        }),
    )
}

fn needless() -> Value {
    let by = |what: &str| json!({ "type": "object", "additionalProperties": { "type": "integer" }, "description": what });
    let mut needless = open(
        &["tags", "rules"],
        json!({ "tags": by("By the tag that was invalidated."), "rules": by("By the rule of the event that did it.") }),
    );
    needless["description"] = "How many entries were invalidated and then loaded again with the same content.".into();
    needless
}

fn window() -> Value {
    let mut window = counts(&["began_ms", "length_ms"]);
    window["properties"]["reset"] =
        json!({ "type": "boolean", "description": "Whether it began with a reset; otherwise with the server." });
    window["description"] = "The stretch of time in which things were counted; it began so many milliseconds after 1970.".into();
    window
}

fn namespace() -> Value {
    let latencies = ["total", "hit", "hit_memory", "hit_backing", "miss", "error", "load"];
    let properties: Map<String, Value> = latencies.iter().map(|name| ((*name).to_owned(), reference("Latency"))).collect();
    let mut schema = counts(&["requests", "hits", "misses", "errors", "entries", "bytes"]);
    let tier = counts(&["hits", "misses", "sets"]);
    schema["properties"]["tiers"] = open(&["memory", "backing"], json!({ "memory": tier.clone(), "backing": tier }));
    for (rate, description) in [("miss_rate", "Misses over requests."), ("error_rate", "Errors over requests.")] {
        schema["properties"][rate] = or_null(json!({ "type": "number" }), description);
    }
    schema["properties"]["name"] = json!({ "type": "string" });
    schema["properties"]["hit_rate"] = or_null(json!({ "type": "number" }), "Hits over requests; null before the first.");
    schema["properties"]["counts"] = json!({ "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } });
    schema["properties"]["latencies"] = open(&latencies, properties.into());
    schema
}

fn latency() -> Value {
    let times = ["mean_us", "p50_us", "p90_us", "p99_us", "p99_9_us"];
    let mut schema = counts(&["count"]);
    times.iter().for_each(|name| schema["properties"][*name] = json!({ "type": ["number", "null"] }));
    schema["description"] = "Microseconds; null where nothing was timed.".into();
    schema
}

fn process() -> Value {
    let mut process = counts(&["resident", "pools", "index", "queues", "rest"]);
    process["description"] = "The memory of the process in bytes, and what it may have.".into();
    process["properties"]["budget"] = or_null(count("Bytes."), "What it may have; null where nothing bounds it.");
    process["properties"]["group_limit"] = or_null(count("Bytes."), "What its control group may have.");
    let percent = || json!({ "type": "number" });
    process["properties"]["pressure_some"] = or_null(percent(), "How much somebody waits for memory, in percent of the last ten seconds.");
    process["properties"]["pressure_full"] = or_null(percent(), "How much everybody does.");
    process["properties"]["share"] = json!({ "type": "number", "description": "The share of their sizes that pools may use." });
    process["properties"]["why"] = json!({ "type": "string", "enum": ["calm", "large", "bounded", "pressed", "kept", "least"] });
    process
}
