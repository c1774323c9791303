//! What other sizes of memory would do, and giving it out anew before its time.

use axum::Json as Answer;
use axum::extract::State;
use larder::{Larder, Sizing, SizingMode};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::problem::{Kind, Problem};

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Whether memory is looked at, and given out.
    pub mode: SizingMode,
    /// What was found; null where it is off.
    pub sizing: Option<Sizing>,
}

/// `GET /v1/optimize`: what was found up to now. It is off more often than not, which is an answer like others.
pub async fn show(State(app): State<Shared>) -> Result<Answer<Document>, Problem> {
    aside(app, |larder| larder.sizing()).await
}

/// `POST /v1/optimize`: ends the window of what is looked at, and acts on it where that was asked for.
pub async fn act(State(app): State<Shared>) -> Result<Answer<Document>, Problem> {
    // It errs where nothing is looked at, and then says so by having nothing.
    aside(app, |larder| larder.optimize().ok()).await
}

/// On a thread that may block: caches are simulated, and entries moved.
async fn aside(app: Shared, look: impl FnOnce(&Larder) -> Option<Sizing> + Send + 'static) -> Result<Answer<Document>, Problem> {
    let larder = app.larder.clone();
    let found = tokio::task::spawn_blocking(move || look(&larder)).await;
    let sizing = found.map_err(|_| Problem::new(Kind::Internal, "the sizing of memory could not be looked at"))?;
    Ok(Answer(Document { mode: sizing.as_ref().map_or(SizingMode::Off, |sizing| sizing.mode), sizing }))
}
