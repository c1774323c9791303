//! What happened, step by step, as JSON: what reports are made from, for who makes other ones.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::Uri;
use larder::NamespaceStats;
use larder::analytics::{Rollup, Window};
use serde::{Deserialize, Serialize};

use super::problem::{Kind, Problem};
use super::stats::Namespace;
use super::{Shared, percent};
use crate::history::{Covered, Detail, History, HistoryError, Query, Step, wall_ms, zone};

/// The most steps that an answer has: a day of minutes, or four years of days.
pub const STEPS_MAX: usize = 1_500;

/// The most namespaces that it has in all its steps together.
const WINDOWS_MAX: usize = 8_000;

/// What is answered about unless asked for otherwise: the last hour.
const DEFAULT_MS: u64 = 60 * 60 * 1_000;

/// The answer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// From this moment on, in milliseconds since 1970.
    pub from_ms: u64,
    /// Up to this one.
    pub to_ms: u64,
    /// In these steps.
    pub step: String,
    /// The finest level at which all of it is kept: `minute`, `hour`, `day` or `month`.
    pub finest: String,
    /// The stretches for which there is anything, by instance.
    pub covered: Vec<Stretch>,
    /// One for each step, in order, also where nothing is known.
    pub steps: Vec<Bucket>,
}

/// A stretch for which there are minutes of an instance.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The instance; empty where it has no name.
    pub instance: String,
    /// Its first moment.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
}

/// What happened within a step.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// When it begins.
    pub start_ms: u64,
    /// When it ends.
    pub end_ms: u64,
    /// How many of its minutes are known; none, where nothing is.
    pub minutes: u64,
    /// Each namespace in which anything happened or was held.
    pub namespaces: Vec<Namespace>,
    /// What happened in the cache as a whole, by name.
    pub measures: BTreeMap<String, u64>,
}

/// `GET /v1/history?from=&to=&step=&zone=&namespace=&instance=`.
///
/// # Errors
/// See [`Problem`].
pub async fn show(State(app): State<Shared>, uri: Uri) -> Result<Answer<Document>, Problem> {
    let history = app.history.clone();
    let history = history.ok_or_else(|| Problem::new(Kind::NoHistory, "this server keeps none; history.enabled says so"))?;
    let query = asked(uri.query().unwrap_or_default(), wall_ms())?;
    // It is read from a file.
    let answered = tokio::task::spawn_blocking(move || answer(&history, &query)).await;
    answered.map_err(|_| Problem::new(Kind::Internal, "the answer broke off"))?.map(Answer)
}

fn answer(history: &History, query: &Query) -> Result<Document, Problem> {
    let stretches = query.step.stretches(query.from_ms, query.to_ms).map_err(|error| refused(&error))?;
    let steps = stretches.len();
    if steps > STEPS_MAX {
        let detail = format!("that is {steps} steps; an answer has at most {STEPS_MAX}");
        return Err(Problem::new(Kind::AnswerTooLarge, detail).limit(STEPS_MAX as u64));
    }
    let known = history.namespaces().map_err(|error| refused(&error))?.len();
    let asked_for = if query.namespaces.is_empty() { known } else { query.namespaces.len() };
    if steps * asked_for > WINDOWS_MAX {
        let detail = format!("that is {steps} steps of {asked_for} namespaces; an answer has at most {WINDOWS_MAX} together");
        return Err(Problem::new(Kind::AnswerTooLarge, detail).limit(WINDOWS_MAX as u64));
    }
    let mut answered = Vec::with_capacity(steps);
    for (from_ms, to_ms) in stretches {
        // One by one: the histograms of a day of minutes are many times what is said of them.
        let step = Query { from_ms, to_ms, step: Step::Whole, ..query.clone() };
        answered.extend(history.buckets(&step).map_err(|error| refused(&error))?.iter().map(Bucket::from));
    }
    let covered = history.coverage(query.from_ms, query.to_ms).map_err(|error| refused(&error))?;
    Ok(Document {
        from_ms: query.from_ms,
        to_ms: query.to_ms,
        step: query.step.to_string(),
        finest: history.finest(query.from_ms).map_err(|error| refused(&error))?.to_string(),
        covered: covered.into_iter().map(Stretch::from).collect(),
        steps: answered,
    })
}

/// The text of a name in a query.
pub(super) fn query_text(query: &str, name: &str) -> Result<Option<String>, Problem> {
    let bytes = percent::query_value(query, name).map_err(|_| bad(format!("\"{name}\" is badly percent-encoded")))?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| bad(format!("\"{name}\" is no text")))).transpose()
}

fn asked(query: &str, now_ms: u64) -> Result<Query, Problem> {
    let text = |name: &str| query_text(query, name);
    let moment = |name: &str| {
        text(name)?
            .map(|text| {
                moment(&text).ok_or_else(|| {
                    bad(format!("\"{name}\" is a moment such as 2026-06-01T00:00:00Z, or milliseconds since 1970, not {text:?}"))
                })
            })
            .transpose()
    };
    let to_ms = moment("to")?.unwrap_or(now_ms);
    let from_ms = moment("from")?.unwrap_or(to_ms.saturating_sub(DEFAULT_MS));
    if from_ms > to_ms {
        return Err(bad("\"from\" is after \"to\"".into()));
    }
    let zone = zone(&text("zone")?.unwrap_or_else(|| "UTC".into())).map_err(|error| refused(&error))?;
    let step = text("step")?.unwrap_or_else(|| "minute".into());
    let step =
        Step::parse(&step, &zone).ok_or_else(|| bad(format!("\"step\" is minute, hour, day, week, month, year or whole, not {step:?}")))?;
    Ok(Query {
        from_ms,
        to_ms,
        step,
        namespaces: text("namespace")?.into_iter().collect(),
        instances: text("instance")?.into_iter().collect(),
        detail: Detail::Latencies,
    })
}

fn moment(text: &str) -> Option<u64> {
    let of_calendar = || text.parse::<jiff::Timestamp>().ok().and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    text.parse().ok().or_else(of_calendar)
}

fn bad(detail: String) -> Problem {
    Problem::new(Kind::InvalidRequest, detail)
}

pub(super) fn refused(error: &HistoryError) -> Problem {
    match error {
        HistoryError::TooMany { most } => Problem::new(Kind::AnswerTooLarge, error.to_string()).limit((*most).min(STEPS_MAX) as u64),
        HistoryError::Calendar | HistoryError::UnknownZone(_) => bad(error.to_string()),
        _ => {
            tracing::error!(%error, "the history could not be read");
            Problem::new(Kind::Internal, "the history could not be read; the server's log says why")
        }
    }
}

impl From<Covered> for Stretch {
    fn from(Covered { instance, from_ms, to_ms }: Covered) -> Self {
        Stretch { instance, from_ms, to_ms }
    }
}

impl From<&Rollup> for Bucket {
    fn from(rollup: &Rollup) -> Self {
        Bucket {
            start_ms: rollup.start_ms,
            end_ms: rollup.end_ms,
            minutes: rollup.samples,
            namespaces: rollup.namespaces.iter().map(|(name, window)| (&stats(name, window)).into()).collect(),
            measures: rollup.measures.clone(),
        }
    }
}

/// As `/v1/stats` has it, so that both are read alike.
fn stats(name: &str, window: &Window) -> NamespaceStats {
    let mut stats = NamespaceStats::default();
    stats.name = name.into();
    stats.counts = window.counts.clone();
    (stats.entries, stats.bytes) = (window.entries, window.bytes);
    (stats.hit_memory, stats.hit_backing) = (window.hit_memory.clone(), window.hit_backing.clone());
    (stats.miss, stats.load) = (window.miss.clone(), window.load.clone());
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wrong_with_it() {
        let asked = |query: &str| asked(query, 7_200_000).map_err(|problem| problem.document().detail);
        let found = asked("").expect("it has defaults");
        assert_eq!((found.from_ms, found.to_ms, found.step), (3_600_000, 7_200_000, Step::Minute));
        let found = asked("from=1970-01-01T01:00:00%2B01:00&to=60000&namespace=bars&step=whole").expect("it is right");
        assert_eq!((found.from_ms, found.to_ms, found.namespaces), (0, 60_000, vec!["bars".to_owned()]));
        for (query, word) in [
            ("from=yesterday", "\"from\" is a moment"),
            ("from=2&to=1", "\"from\" is after"),
            ("step=fortnight", "\"step\" is minute"),
            ("zone=Atlantis", "Atlantis"),
            ("from=%f", "percent-encoded"),
        ] {
            let detail = asked(query).expect_err("it is wrong");
            assert!(detail.contains(word), "{detail}");
        }
    }
}
