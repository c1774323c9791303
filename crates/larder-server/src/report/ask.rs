//! From the history to a report.

use std::fmt;

use jiff::ZonedDateTime;
use larder::analytics::Rollup;

use super::period::{Asked, Period, PeriodError, millis};
use super::{Recorded, Report, gather};
use crate::history::{Detail, History, HistoryError, Query, Step};

/// Reads the history and makes the report that is asked for, at a moment and in its time zone. It reads files: whoever may not block
/// calls it from a thread that may.
///
/// # Errors
/// When there is no such period, or the history cannot be read.
pub fn of_history(history: &History, asked: &Asked, now: &ZonedDateTime, namespace: Option<&str>) -> Result<Report, ReportError> {
    let frame = asked.frame(now)?;
    let query = |period: &Period, step: Step, detail: Detail| {
        let (from_ms, to_ms) = period.millis();
        let namespaces = namespace.map(str::to_owned).into_iter().collect();
        Query { from_ms, to_ms, step, namespaces, instances: Vec::new(), detail }
    };
    // Bucket by bucket, so that no more than those are held: all minutes of a day with all their histograms are hundreds of megabytes.
    let recorded = |period: &Period| -> Result<Vec<Rollup>, ReportError> {
        let edges: Vec<u64> = frame.edges(period)?.iter().map(millis).collect();
        let mut rollups = history.between(&edges, &query(period, Step::Whole, Detail::Latencies))?;
        rollups.retain(|rollup| rollup.samples > 0);
        Ok(rollups)
    };
    let keys = history.buckets(&query(&frame.period, Step::Whole, Detail::Sketches))?;
    let (from_ms, to_ms) = frame.period.millis();
    let mut instances: Vec<String> = history.coverage(from_ms, to_ms)?.into_iter().map(|covered| covered.instance).collect();
    instances.sort_unstable();
    instances.dedup();
    let recorded = Recorded {
        now: recorded(&frame.period)?,
        before: recorded(&frame.before)?,
        keys: keys.into_iter().next().unwrap_or_default(),
        instances,
    };
    Ok(gather(&frame, namespace, recorded)?)
}

/// Why there is no report.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReportError {
    /// There is no such period.
    Period(PeriodError),
    /// The history cannot be read.
    History(HistoryError),
}

impl From<PeriodError> for ReportError {
    fn from(error: PeriodError) -> Self {
        ReportError::Period(error)
    }
}

impl From<HistoryError> for ReportError {
    fn from(error: HistoryError) -> Self {
        ReportError::History(error)
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReportError::Period(error) => error.fmt(f),
            ReportError::History(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReportError::Period(error) => error.source(),
            ReportError::History(error) => error.source(),
        }
    }
}
