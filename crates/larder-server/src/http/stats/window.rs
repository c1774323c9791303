//! The window that statistics are shown of: since the start, or since somebody asked for a new one. The counters go on, so that
//! whoever reads them all the time, as Prometheus does, does not notice.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::Uri;
use larder::{Larder, Stats};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::payload::Reached;
use super::super::problem::{Kind, Problem};
use super::super::{Shared, percent};

/// See the head of this file.
pub struct Windows {
    started_ms: u64,
    last: Mutex<Last>,
}

struct Last {
    began_ms: u64,
    /// What had been counted until then; nothing since the start.
    before: Option<Box<Stats>>,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// All there was.
    Start,
    /// What came after the last reset.
    Reset,
}

/// Of which stretch of time the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it is.
    pub length_ms: u64,
    /// Whether it began with a reset; otherwise with the server.
    pub reset: bool,
}

impl Windows {
    /// The first one begins now.
    pub fn begin(larder: &Larder) -> Self {
        let now = larder.clock().refresh();
        Windows { started_ms: now, last: Mutex::new(Last { began_ms: now, before: None }) }
    }

    /// What was counted in a window, and which that is.
    pub fn show(&self, larder: &Larder, since: Since) -> (Stats, Window) {
        let last = self.last.lock();
        let (stats, now) = (larder.stats(), larder.clock().refresh());
        let window = |began_ms: u64, reset| Window { began_ms, length_ms: now.saturating_sub(began_ms), reset };
        match &last.before {
            Some(before) if since == Since::Reset => (stats.since(before), window(last.began_ms, true)),
            _ => (stats, window(self.started_ms, false)),
        }
    }

    /// Begins a new one. Returns the one that ended.
    pub fn reset(&self, larder: &Larder) -> Window {
        let mut last = self.last.lock();
        let now = larder.clock().refresh();
        let ended = Window { began_ms: last.began_ms, length_ms: now.saturating_sub(last.began_ms), reset: last.before.is_some() };
        *last = Last { began_ms: now, before: Some(Box::new(larder.stats())) };
        ended
    }
}

/// What `?since=` asks for.
pub fn asked(uri: &Uri) -> Result<Since, Problem> {
    let bad = |_| Problem::new(Kind::InvalidRequest, "\"since\" is badly percent-encoded");
    match percent::query_value(uri.query().unwrap_or_default(), "since").map_err(bad)?.as_deref() {
        None | Some(b"reset") => Ok(Since::Reset),
        Some(b"start") => Ok(Since::Start),
        Some(_) => Err(Problem::new(Kind::InvalidRequest, "\"since\" is start or reset")),
    }
}

/// The answer to a reset.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reset {
    /// The window that ended.
    pub ended: Window,
}

/// `POST /v1/stats/reset`.
pub async fn reset(State(app): State<Shared>, _: Reached) -> Answer<Reset> {
    Answer(Reset { ended: app.windows.reset(&app.larder) })
}
