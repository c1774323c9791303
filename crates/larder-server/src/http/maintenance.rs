//! Maintenance over HTTP: begun, looked at, ended.

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::door::Who;
use super::payload::Json;
use super::problem::{Kind, Problem};
use crate::config::units::{TIME_EXPECTED, parse_time};
use crate::maintenance::{Asked, MaintenanceError, Standing, USUAL};

/// What is asked for. Unknown members are refused.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// How long, as `30m`. Default an hour, and at most seven days.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
    /// Whether everything is invalidated once no write is under way any more.
    pub clear: bool,
    /// Why, for who sees it.
    pub reason: String,
}

impl From<MaintenanceError> for Problem {
    fn from(error: MaintenanceError) -> Self {
        let kind = match &error {
            MaintenanceError::Length(_) | MaintenanceError::Reason | MaintenanceError::Event(_) => Kind::InvalidRequest,
            MaintenanceError::File(..) | MaintenanceError::Late(_) | MaintenanceError::Ended => Kind::TierFailed,
            MaintenanceError::Cache(error) => Kind::from(error.kind()),
        };
        Problem::new(kind, error.to_string())
    }
}

/// `POST /v1/maintenance`: writes are refused from now on, and those under way have ended or are told of in the answer.
///
/// # Errors
/// [`Kind::InvalidRequest`] for a time or reason that is none; as an invalidation, if everything was to be invalidated.
pub async fn begin(State(app): State<Shared>, who: Who, Json(asked): Json<Request>) -> Result<Answer<Standing>, Problem> {
    let bad =
        |text: &str| Problem::new(Kind::InvalidRequest, format!("\"for\": found \"{}\", expected {TIME_EXPECTED}", text.escape_debug()));
    let length = asked.length.map_or(Ok(USUAL), |text| parse_time(&text).ok_or_else(|| bad(&text)))?;
    let by = who.identity().map_or_else(String::new, |identity| identity.principal.name().to_owned());
    let asked = Asked { length, clear: asked.clear, reason: asked.reason };
    Ok(Answer(app.upkeep.maintenance.begin(asked, &by).await?))
}

/// `GET /v1/maintenance`: how it stands.
pub async fn show(State(app): State<Shared>) -> Answer<Standing> {
    Answer(app.upkeep.maintenance.standing())
}

/// `DELETE /v1/maintenance`: writes are taken again.
///
/// # Errors
/// [`Kind::TierFailed`] where a restart would begin it anew, because what was written down cannot be removed.
pub async fn end(State(app): State<Shared>) -> Result<Answer<Standing>, Problem> {
    Ok(Answer(app.upkeep.maintenance.end().await?))
}
