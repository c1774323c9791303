//! The probe of the log. It appends nothing: a record that means nothing would be read by every instance, and by every start.

use std::sync::Arc;
use std::time::Duration;

use super::probes::{Confirmed, Finding, Found};
use crate::cache::Shared;
use crate::log::Log;
use crate::position::Position;
use crate::stats::SharedLogStats;

pub(super) fn begin(shared: &Arc<Shared>, limit: Duration) -> Finding {
    let position = || {
        let unknown = || Position { epoch: shared.index.epoch(), seq: 0 };
        shared.index.latest_position().unwrap_or_else(unknown)
    };
    if shared.log.is_shared() {
        let found = shared.log.stats().shared.map_or_else(Found::well, |stats| of_shared(&stats, position(), limit));
        return Box::pin(std::future::ready(found));
    }
    let confirmed = Confirmed { position: position(), behind: 0, unheard_for: None };
    #[cfg_attr(not(feature = "redis"), expect(irrefutable_let_patterns, reason = "there is another kind of log with Redis"))]
    let Log::Local(log) = &shared.log else { unreachable!("a log that is not shared is local") };
    let asked = log.confirm();
    Box::pin(async move {
        let found = match asked.await {
            Ok(Ok(())) => Found::well(),
            Ok(Err(error)) => Found::trouble(error.to_string(), "see to the disk that holds the data folder; it is tried again by itself"),
            Err(_) => Found::trouble("the log's thread has ended", "the cache was closed, or this is a fault of larder: restart it"),
        };
        Found { log: Some(confirmed), ..found }
    })
}

/// Its heartbeat asks the server which epoch is in force and how far it is, many times a second; what that found is looked at.
fn of_shared(stats: &SharedLogStats, position: Position, limit: Duration) -> Found {
    let confirmed = Confirmed { position, behind: stats.behind, unheard_for: Some(stats.unheard_for) };
    let queued = if stats.queued == 0 { String::new() } else { format!("; {} invalidations wait to be appended", stats.queued) };
    let found = if !stats.connected {
        let why = stats.trouble.as_deref().unwrap_or("not reached yet");
        Found::trouble(
            format!("Redis cannot be reached: {why}{queued}"),
            "see to Redis, its address and credentials; everything goes on by itself when it is back",
        )
    } else if stats.unheard_for > limit {
        let what = format!(
            "the log was not confirmed for {:.1} s, and this instance is {} positions behind{queued}",
            stats.unheard_for.as_secs_f64(),
            stats.behind
        );
        Found::trouble(what, "see whether Redis, its replicas and this machine are overloaded; reads may be unverified meanwhile")
    } else {
        Found::well()
    };
    Found { log: Some(confirmed), ..found }
}
