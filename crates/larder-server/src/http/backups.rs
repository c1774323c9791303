//! Backups over HTTP: which there are, and long work on them, which is begun, looked at and told to stop.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use larder::ErrorKind;
use larder::backup::read_manifest;
use serde_json::{Value as Json, json};

use super::Shared;
use super::payload::Json as Given;
use super::problem::{Kind, Problem};
use crate::backup::runs::{Ask, Backups, Told};
use crate::backup::{BackupError, aside, listing};

/// The last segment of the path.
pub struct Last(String);

impl FromRequestParts<Shared> for Last {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        // Names of backups and numbers of runs have nothing that would be encoded.
        Ok(Last(parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned()))
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Refused(why) => Problem::new(Kind::BackupFailed, why),
            BackupError::Failed(error) => error.into(),
        }
    }
}

fn backups(app: &Shared) -> Result<Arc<Backups>, Problem> {
    let none = || Problem::new(Kind::NoBackups, "this server has no place for backups: set backup.place");
    app.upkeep.backups.clone().ok_or_else(none)
}

/// `GET /v1/backups`.
///
/// # Errors
/// [`Kind::NoBackups`], [`Kind::BackupFailed`].
pub async fn list(State(app): State<Shared>) -> Result<Answer<Json>, Problem> {
    let place = backups(&app)?.settings().place(None)?;
    Ok(Answer(aside(move || listing(&*place)).await?))
}

/// `GET /v1/backups/{name}`: its manifest.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::BadArchive`], and as [`list`].
pub async fn show(State(app): State<Shared>, Last(name): Last) -> Result<Answer<Json>, Problem> {
    let place = backups(&app)?.settings().place(None)?;
    let manifest = aside(move || Ok(read_manifest(&*place, &name)?)).await.map_err(|error| match error {
        // What is no name is the name of nothing.
        BackupError::Failed(error) if error.kind() == ErrorKind::InvalidConfig => Problem::new(Kind::NotFound, error.to_string()),
        error => error.into(),
    })?;
    Ok(Answer(json!(manifest)))
}

/// `POST /v1/backup-runs`: begins something.
///
/// # Errors
/// [`Kind::Overloaded`] while something else is under way; [`Kind::NoBackups`].
pub async fn begin(State(app): State<Shared>, Given(ask): Given<Ask>) -> Result<(StatusCode, Answer<Told>), Problem> {
    let begun = backups(&app)?.begin(ask);
    let busy = || Problem::new(Kind::Overloaded, "other work on backups is under way; look at it in GET /v1/backup-runs/{run}");
    Ok((StatusCode::ACCEPTED, Answer(begun.ok_or_else(busy)?)))
}

fn run(app: &Shared, text: &str, of: impl FnOnce(&Backups, u64) -> Option<Told>) -> Result<Answer<Told>, Problem> {
    let backups = backups(app)?;
    let told = text.parse().ok().and_then(|number| of(&backups, number));
    told.map(Answer).ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no run {}", text.escape_debug())))
}

/// `GET /v1/backup-runs/{run}`.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::NoBackups`].
pub async fn look(State(app): State<Shared>, Last(number): Last) -> Result<Answer<Told>, Problem> {
    run(&app, &number, Backups::look)
}

/// `DELETE /v1/backup-runs/{run}`: tells it to stop.
///
/// # Errors
/// As [`look`].
pub async fn cancel(State(app): State<Shared>, Last(number): Last) -> Result<(StatusCode, Answer<Told>), Problem> {
    run(&app, &number, Backups::cancel).map(|told| (StatusCode::ACCEPTED, told))
}
