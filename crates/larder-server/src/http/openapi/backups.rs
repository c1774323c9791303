//! Backups, as the document has them.

use serde_json::{Value, json};

use super::super::problem::Kind;
use super::{json_answer, problem};

/// The paths, and what can be done there.
pub fn paths() -> [(&'static str, Value); 4] {
    [("/v1/backups", list()), ("/v1/backups/{name}", show()), ("/v1/backup-runs", begin()), ("/v1/backup-runs/{run}", run())]
}

fn list() -> Value {
    json!({
        "get": {
            "operationId": "backups",
            "summary": "The backups in the configured place, the oldest first.",
            "tags": ["backups"],
            "responses": {
                "200": json_answer("The backups.", "Backups"),
                "404": problem(&[Kind::NoBackups]),
                "503": problem(&[Kind::BackupFailed, Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
    })
}

fn show() -> Value {
    json!({
        "parameters": [parameter("name", json!({ "type": "string", "maxLength": 64 }), "The name of a backup.")],
        "get": {
            "operationId": "backup",
            "summary": "What a backup says of itself: its manifest, as docs/backup-format.md describes it.",
            "tags": ["backups"],
            "responses": {
                "200": json_answer("The manifest.", "BackupManifest"),
                "404": problem(&[Kind::NotFound, Kind::NoBackups]),
                "422": problem(&[Kind::BadArchive]),
                "503": problem(&[Kind::BackupFailed, Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
    })
}

fn begin() -> Value {
    json!({
        "post": {
            "operationId": "beginBackupRun",
            "summary": "Begins long work on backups: to create, verify, restore, prune or diff, or to abandon a restore. One at a time.",
            "tags": ["backups"],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/BackupAsk" } } },
            },
            "responses": {
                "202": json_answer("It has begun; look at it by its number.", "BackupRun"),
                "400": problem(&[Kind::InvalidRequest]),
                "404": problem(&[Kind::NoBackups]),
                "503": problem(&[Kind::Overloaded, Kind::Draining]),
                "default": problem(&[]),
            },
        },
    })
}

fn run() -> Value {
    let operation = |id: &str, status: &str, summary: &str| {
        json!({
            "operationId": id,
            "summary": summary,
            "tags": ["backups"],
            "responses": {
                status: json_answer("How far it is, or what came of it.", "BackupRun"),
                "404": problem(&[Kind::NotFound, Kind::NoBackups]),
                "default": problem(&[]),
            },
        })
    };
    json!({
        "parameters": [parameter("run", json!({ "type": "integer", "minimum": 1 }), "The number of a run; the last sixteen are remembered.")],
        "get": operation("backupRun", "200", "Looks at a run."),
        "delete": operation("cancelBackupRun", "202", "Tells a run to stop. It ends at its next step."),
    })
}

fn parameter(name: &str, schema: Value, description: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": schema, "description": description })
}

/// A schema by its name.
pub fn schema(name: &str) -> Value {
    schemas().into_iter().find(|(known, _)| *known == name).map(|(_, schema)| schema).expect("only those that there are, are asked for")
}

fn schemas() -> [(&'static str, Value); 4] {
    let whole = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let text = |description: &str| json!({ "type": "string", "description": description });
    let secret = |description: &str| json!({ "type": "string", "writeOnly": true, "description": description });
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let backups = object(
        &["place", "backups", "unreadable"],
        json!({
            "place": text("Where they are."),
            "backups": { "type": "array", "items": object(&["name", "taken_at_ms", "position", "entries"], json!({
                "name": text("Its name."),
                "taken_at_ms": whole("When it was taken, in milliseconds since the Unix epoch."),
                "position": text("The position at which it is a cut."),
                "fuzzy": { "type": "boolean", "description": "Whether others wrote meanwhile, so that it is a scan." },
                "parent": or_null(text("What it stands on.")),
                "entries": whole("Entries in it."),
                "bytes": whole("Their bytes before compression."),
                "stored_bytes": whole("The bytes of its files."),
                "encryption": or_null(object(&["scheme", "recipients", "key"], json!({
                    "scheme": text("How: age."),
                    "recipients": { "type": "array", "items": text("A public key that it is encrypted to.") },
                    "key": or_null(json!({ "type": "object", "description": "Its own key, which lies in it, sealed by a passphrase." })),
                }))),
            })) },
            "unreadable": { "type": "array", "items": object(&["name", "error"], json!({
                "name": text("Its name."),
                "error": text("What is wrong with it."),
            })) },
        }),
    );
    let run = object(
        &["run", "do", "state", "doing", "done", "of", "result", "error", "error_kind"],
        json!({
            "run": whole("Its number."),
            "do": text("What it does."),
            "state": { "type": "string", "enum": ["running", "done", "failed"] },
            "doing": text("What is being done, or was last."),
            "done": whole("How much of it."),
            "of": or_null(whole("Of how much; null where that is not known.")),
            "result": { "description": "What came of it; null while it runs, or where it failed." },
            "error": or_null(text("Why it failed.")),
            "error_kind": or_null(text("The same in one word: bad-archive, not-found, sealed, unknown-invalidations, cancelled, refused, failed.")),
        }),
    );
    let names = |description: &str| json!({ "type": "array", "items": { "type": "string" }, "description": description });
    let ask = object(
        &["do"],
        json!({
            "do": { "type": "string", "enum": ["create", "verify", "restore", "prune", "diff", "abandon"] },
            "name": text("create: its name, by the clock without one. verify, restore: which."),
            "place": text("Where, if not in the configured place: one of backup.more_places."),
            "namespaces": names("create, restore: which; all without any."),
            "parent": text("create: a backup to stand on, so that only what changed since is taken."),
            "encrypt_to": names("create: public keys of age (age1...) to encrypt it to, in the place of what is configured."),
            "passphrase": secret("create: encrypts it by this, of 12 characters or more. verify, restore, diff: opens what was."),
            "identities": { "type": "array", "items": secret("verify, restore, diff: a file of secret keys of age, beside those configured.") },
            "pattern": text("restore: which keys."),
            "rename": { "type": "array", "items": { "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 } },
            "present": { "type": "string", "enum": ["if-newer", "replace", "missing-only"] },
            "ttl": { "type": "string", "enum": ["keep", "shift", "ignore"] },
            "dry_run": { "type": "boolean", "description": "restore, prune: only counts." },
            "log_of_then": text("restore: the folder, on the server's machine, of the log of the epoch in which the backup was taken."),
            "accept_unknown_invalidations": { "type": "boolean" },
            "keep": object(&[], json!({
                "last": whole("The last so many."),
                "daily": whole("The newest of so many days."),
                "weekly": whole("The newest of so many weeks."),
                "monthly": whole("The newest of so many months."),
            })),
            "first": text("diff: the first."),
            "second": text("diff: the second."),
        }),
    );
    let manifest =
        json!({ "type": "object", "description": "See docs/backup-format.md.", "required": ["format", "name", "epoch", "position"] });
    [("Backups", backups), ("BackupRun", run), ("BackupAsk", ask), ("BackupManifest", manifest)]
}
