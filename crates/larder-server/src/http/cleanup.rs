//! Cleaning up, on demand: begun, looked at, stopped. It takes as long as it takes, so nobody's request waits for it.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use crate::cleanup::cleaner::Standing;

/// `POST /v1/cleanup`: begins one, unless one is under way; 202 either way, since that one is what was asked for.
pub async fn begin(State(app): State<Shared>) -> (StatusCode, Answer<Standing>) {
    app.upkeep.cleaner.begin();
    (StatusCode::ACCEPTED, Answer(app.upkeep.cleaner.standing()))
}

/// `GET /v1/cleanup`: how far it is, and what the last one gave back.
pub async fn show(State(app): State<Shared>) -> Answer<Standing> {
    Answer(app.upkeep.cleaner.standing())
}

/// `DELETE /v1/cleanup`: stops the one that is under way after its next step, if there is one.
pub async fn cancel(State(app): State<Shared>) -> (StatusCode, Answer<Standing>) {
    app.upkeep.cleaner.cancel();
    (StatusCode::ACCEPTED, Answer(app.upkeep.cleaner.standing()))
}
