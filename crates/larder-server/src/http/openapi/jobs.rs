//! What the document says of jobs.

use serde_json::{Map, Value, json};

use super::schemas::reference;
use super::{json_answer, problem};
use crate::http::problem::Kind;
use crate::jobs::Outcome;

/// The paths, each with what can be done there.
pub(super) fn paths() -> Map<String, Value> {
    let operation = |id: &str, summary: &str, (status, answer): (&str, Value), problems: &[Kind]| {
        let mut responses = json!({ "default": problem(&[]) });
        responses[status] = answer;
        for kind in problems {
            responses[kind.status().to_string()] = problem(&[*kind]);
        }
        json!({ "operationId": id, "summary": summary, "tags": ["jobs"], "responses": responses })
    };
    let job = || ("200", json_answer("How it stands.", "Job"));
    let away = [Kind::NotFound, Kind::LogUnavailable];
    let at = |rest: &str, method: &str, mut operation: Value| {
        let mut parameters = Vec::new();
        if rest.contains("{name}") {
            parameters
                .push(json!({ "name": "name", "in": "path", "required": true, "description": "The job.", "schema": { "type": "string" } }));
        }
        if rest.contains("{id}") {
            parameters.push(json!({ "name": "id", "in": "path", "required": true, "description": "The number of the run.", "schema": { "type": "integer" } }));
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        (format!("/v1/jobs{rest}"), json!({ method: operation }))
    };
    let begun = |description: &str| ("202", json_answer(description, "JobRunBegun"));
    [
        at(
            "",
            "get",
            operation(
                "listJobs",
                "What the server does by itself. Servers that share a cache all tell the same.",
                ("200", json_answer("All of them.", "Jobs")),
                &[],
            ),
        ),
        at("/{name}", "get", operation("readJob", "A job, its rules and its last runs.", job(), &[Kind::NotFound])),
        at(
            "/{name}/run",
            "post",
            operation(
                "runJob",
                "Runs a job now, whatever its schedule says.",
                begun("It has begun."),
                &[Kind::NotFound, Kind::JobBusy, Kind::LogUnavailable],
            ),
        ),
        at(
            "/{name}/pause",
            "post",
            operation("pauseJob", "Begins a job by schedule no more, on any server that shares the cache.", job(), &away),
        ),
        at(
            "/{name}/resume",
            "post",
            operation("resumeJob", "Begins a job by schedule again; what was due meanwhile is not made up for.", job(), &away),
        ),
        at(
            "/{name}/runs/{id}",
            "get",
            operation(
                "readJobRun",
                "A run of a job; how far it is, where it is under way on this server.",
                ("200", json_answer("The run.", "JobRunTold")),
                &[Kind::NotFound],
            ),
        ),
        at(
            "/{name}/runs/{id}/cancel",
            "post",
            operation("cancelJobRun", "Has a run stop at its next step, on whichever server it is.", begun("It was told to."), &away),
        ),
    ]
    .into_iter()
    .collect()
}

pub(super) fn schemas() -> [(&'static str, Value); 7] {
    let ms = |about: &str| json!({ "type": "integer", "minimum": 0, "description": format!("{about} In milliseconds since 1970.") });
    let time = |about: &str| json!({ "type": "integer", "minimum": 0, "description": format!("{about} In milliseconds.") });
    let text = |about: &str| json!({ "type": "string", "description": about });
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let outcomes: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    let number = json!({ "type": "integer", "minimum": 0, "description": "The number of the run, larger than that of every run of the job before." });
    let step = object(
        &["doing", "done", "of"],
        json!({
            "doing": text("What is being done."),
            "done": { "type": "integer", "minimum": 0 },
            "of": or_null(json!({ "type": "integer", "minimum": 0 })),
        }),
    );
    let run = object(
        &["id", "job", "due_ms", "scheduled", "by", "instance", "started_ms", "ended_ms", "attempts", "outcome", "error", "result", "log"],
        json!({
            "id": number,
            "job": text("The job."),
            "due_ms": ms("The instant at which it was due; of one that somebody asked for, when they did."),
            "scheduled": { "type": "boolean" },
            "by": or_null(text("Who asked for it.")),
            "instance": text("The server that it ran on."),
            "started_ms": ms("When it began."),
            "ended_ms": or_null(ms("When it ended.")),
            "attempts": { "type": "integer", "minimum": 0, "description": "How often it was tried." },
            "outcome": { "type": "string", "enum": outcomes },
            "error": or_null(text("Why it did not go well.")),
            "result": { "description": "What came of it, as the job has it." },
            "log": { "type": "array", "items": { "type": "string" }, "maxItems": crate::jobs::run::LOG_LINES_MAX },
        }),
    );
    let under = object(
        &["id", "due_ms", "scheduled", "instance", "since_ms", "progress"],
        json!({
            "id": number,
            "due_ms": ms("The instant that it is about."),
            "scheduled": { "type": "boolean" },
            "instance": text("The server that it is on."),
            "since_ms": ms("Since when."),
            "progress": or_null(reference("JobStep")),
        }),
    );
    let summary = json!({
        "name": text("What it is called."),
        "schedule": text("When it is due, as cron has it."),
        "zone": text("The time zone of that."),
        "paused": { "type": "boolean" },
        "running": or_null(under),
        "next_ms": { "type": "array", "items": ms("When it begins."), "maxItems": 5 },
        "last_ok_ms": or_null(ms("When it went well last.")),
        "last": or_null(reference("JobRun")),
        "trouble": or_null(text("Why all of this may be old.")),
    });
    let required = ["name", "schedule", "zone", "paused", "running", "next_ms", "last_ok_ms", "last", "trouble"];
    let mut whole = summary.clone();
    let rules = json!({
        "overlap": { "type": "string", "enum": ["skip", "queue"] },
        "missed": { "type": "string", "enum": ["skip", "once", "all"] },
        "start_deadline_ms": time("How late a run may begin and still be in time."),
        "jitter_ms": time("By how much a run is put off at most."),
        "timeout_ms": time("How long one attempt may take."),
        "retries": { "type": "integer", "minimum": 0 },
        "runs": { "type": "array", "items": reference("JobRun"), "description": "The last, the newest first." },
    });
    if let (Some(whole), Some(rules)) = (whole.as_object_mut(), rules.as_object()) {
        whole.extend(rules.clone());
    }
    let rules = ["overlap", "missed", "start_deadline_ms", "jitter_ms", "timeout_ms", "retries", "runs"];
    let mut told = run.clone();
    told["properties"]["progress"] = or_null(reference("JobStep"));
    [
        ("JobStep", step),
        ("JobRun", run),
        ("JobRunTold", told),
        ("JobSummary", object(&required, summary)),
        ("Job", object(&[&required[..], &rules].concat(), whole)),
        ("Jobs", object(&["jobs"], json!({ "jobs": { "type": "array", "items": reference("JobSummary") } }))),
        ("JobRunBegun", object(&["job", "run"], json!({ "job": text("The job."), "run": number }))),
    ]
}
