//! Jobs over HTTP: how they stand, what came of their runs, and running, pausing and stopping them.

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::audited::Facts;
use super::door::Who;
use super::problem::{Kind, Problem};
use crate::audit::Name;
use crate::jobs::{Jobs, Refused, Run, View};
use crate::progress::Step;

/// The next instants that are told of a job.
const NEXT_SHOWN: usize = 5;

/// The last runs that are.
const RUNS_SHOWN: usize = 20;

/// All jobs.
#[derive(Debug, Serialize, Deserialize)]
pub struct All {
    /// In the order in which they are configured.
    pub jobs: Vec<Summary>,
}

/// How a job stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// What it is called.
    pub name: String,
    /// When it is due, as cron has it.
    pub schedule: String,
    /// The time zone of that.
    pub zone: String,
    /// Whether nothing is begun by schedule.
    pub paused: bool,
    /// The run that is under way, on whichever instance.
    pub running: Option<Under>,
    /// When it begins next, in milliseconds since 1970; at most five instants, none while it is paused.
    pub next_ms: Vec<u64>,
    /// When it went well last.
    pub last_ok_ms: Option<u64>,
    /// The last run, or that nothing was done for what was due.
    pub last: Option<Run>,
    /// Why all of this may be old; null where it is not.
    pub trouble: Option<String>,
}

/// A run that is under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Under {
    /// Its number.
    pub id: u64,
    /// The instant that it is about, in milliseconds since 1970.
    pub due_ms: u64,
    /// Whether it is by schedule.
    pub scheduled: bool,
    /// The instance that it is on.
    pub instance: String,
    /// Since when.
    pub since_ms: u64,
    /// How far it is; null where it is on another instance.
    pub progress: Option<Step>,
}

/// A job, with its rules and its runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// How it stands.
    #[serde(flatten)]
    pub summary: Summary,
    /// What becomes of what is due while it runs: `skip` or `queue`.
    pub overlap: String,
    /// What becomes of what nobody began in time: `skip`, `once` or `all`.
    pub missed: String,
    /// How late a run may begin and still be in time.
    pub start_deadline_ms: u64,
    /// By how much a run is put off at most.
    pub jitter_ms: u64,
    /// How long one attempt may take.
    pub timeout_ms: u64,
    /// How often it is tried again.
    pub retries: u32,
    /// The last runs, the newest first.
    pub runs: Vec<Run>,
}

/// A run, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// What is recorded of it.
    #[serde(flatten)]
    pub run: Run,
    /// How far it is, where it is under way on this instance.
    pub progress: Option<Step>,
}

/// A run that was begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    /// The job.
    pub job: String,
    /// The run's number.
    pub run: u64,
}

impl From<View> for Summary {
    fn from(view: View) -> Self {
        let under = |under: crate::jobs::Under| Under {
            id: under.id,
            due_ms: under.due_ms,
            scheduled: under.scheduled,
            instance: under.instance,
            since_ms: under.since_ms,
            progress: under.step,
        };
        Summary {
            name: view.definition.name,
            schedule: view.definition.schedule.expression().to_owned(),
            zone: view.definition.schedule.zone_name().to_owned(),
            paused: view.paused,
            running: view.running.map(under),
            next_ms: view.next_ms,
            last_ok_ms: view.last_ok_ms,
            last: view.last,
            trouble: view.trouble,
        }
    }
}

fn jobs(app: &Shared) -> Result<&Jobs, Problem> {
    app.jobs.as_ref().ok_or_else(|| Problem::new(Kind::NotFound, "this server has no jobs"))
}

fn problem(name: &str, refused: Refused) -> Problem {
    let name = name.escape_debug();
    match refused {
        Refused::Unknown => Problem::new(Kind::NotFound, format!("there is no job \"{name}\", or it is off")),
        Refused::Busy => {
            Problem::new(Kind::JobBusy, format!("a run of {name} is under way; its end is to be waited for, or it is to be stopped"))
        }
        Refused::Closing => Problem::new(Kind::Draining, "the server begins nothing any more"),
        Refused::Larder(error) => error.into(),
        Refused::Store(error) => Problem::new(Kind::Internal, error.to_string()),
    }
}

/// `GET /v1/jobs`.
pub async fn list(State(app): State<Shared>) -> Result<Answer<All>, Problem> {
    let Some(jobs) = &app.jobs else { return Ok(Answer(All { jobs: Vec::new() })) };
    let mut all = Vec::new();
    for name in jobs.names() {
        all.push(jobs.view(name, NEXT_SHOWN).await.map_err(|refused| problem(name, refused))?.into());
    }
    Ok(Answer(All { jobs: all }))
}

/// `GET /v1/jobs/{name}`.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn show(State(app): State<Shared>, Path(name): Path<String>) -> Result<Answer<Job>, Problem> {
    told(&app, &name).await.map(Answer)
}

async fn told(app: &Shared, name: &str) -> Result<Job, Problem> {
    let jobs = jobs(app)?;
    let view = jobs.view(name, NEXT_SHOWN).await.map_err(|refused| problem(name, refused))?;
    let runs = jobs.runs(name, RUNS_SHOWN).await.map_err(|refused| problem(name, refused))?;
    let definition = view.definition.clone();
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Job {
        summary: view.into(),
        overlap: definition.overlap.name().to_owned(),
        missed: definition.missed.name().to_owned(),
        start_deadline_ms: ms(definition.start_deadline),
        jitter_ms: ms(definition.jitter),
        timeout_ms: ms(definition.timeout),
        retries: definition.retries,
        runs,
    })
}

/// `POST /v1/jobs/{name}/run`.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::JobBusy`] where a run is under way on any instance; [`Kind::LogUnavailable`] where that cannot be known.
pub async fn run(State(app): State<Shared>, who: Who, facts: Facts, Path(name): Path<String>) -> Result<Response, Problem> {
    let by = who.identity().map(|identity| identity.principal.name().to_owned());
    let id = jobs(&app)?.run_now(&name, by).await.map_err(|refused| problem(&name, refused))?;
    facts.about(|| [Name::new("job", name.as_str())]);
    Ok((StatusCode::ACCEPTED, Answer(Begun { job: name, run: id })).into_response())
}

/// `POST /v1/jobs/{name}/pause`: nothing is begun by schedule any more, on any instance.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::LogUnavailable`].
pub async fn pause(State(app): State<Shared>, facts: Facts, Path(name): Path<String>) -> Result<Answer<Job>, Problem> {
    set_paused(&app, &facts, &name, true).await
}

/// `POST /v1/jobs/{name}/resume`: it goes on; what was due meanwhile is not made up for.
///
/// # Errors
/// As [`pause`].
pub async fn resume(State(app): State<Shared>, facts: Facts, Path(name): Path<String>) -> Result<Answer<Job>, Problem> {
    set_paused(&app, &facts, &name, false).await
}

async fn set_paused(app: &Shared, facts: &Facts, name: &str, paused: bool) -> Result<Answer<Job>, Problem> {
    jobs(app)?.pause(name, paused).await.map_err(|refused| problem(name, refused))?;
    facts.about(|| [Name::new("job", name)]);
    told(app, name).await.map(Answer)
}

fn number(name: &str, id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| no_run(name, id))
}

fn no_run(name: &str, id: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no run {} of {}", id.escape_debug(), name.escape_debug()))
}

/// `GET /v1/jobs/{name}/runs/{id}`.
///
/// # Errors
/// [`Kind::NotFound`].
pub async fn show_run(State(app): State<Shared>, Path((name, id)): Path<(String, String)>) -> Result<Answer<Told>, Problem> {
    let found = jobs(&app)?.run(&name, number(&name, &id)?).await.map_err(|refused| problem(&name, refused))?;
    let (run, progress) = found.ok_or_else(|| no_run(&name, &id))?;
    Ok(Answer(Told { run, progress }))
}

/// `POST /v1/jobs/{name}/runs/{id}/cancel`: it stops at its next step, on whichever instance it is.
///
/// # Errors
/// [`Kind::NotFound`] where it is not under way.
pub async fn cancel(
    State(app): State<Shared>,
    facts: Facts,
    Path((name, id)): Path<(String, String)>,
) -> Result<(StatusCode, Answer<Begun>), Problem> {
    let run = number(&name, &id)?;
    if !jobs(&app)?.cancel(&name, run).await.map_err(|refused| problem(&name, refused))? {
        return Err(Problem::new(Kind::NotFound, format!("run {run} of {} is not under way", name.escape_debug())));
    }
    facts.about(|| [Name::new("job", name.as_str())]);
    Ok((StatusCode::ACCEPTED, Answer(Begun { job: name, run })))
}
