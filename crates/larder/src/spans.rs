//! The spans that the library tells `tracing` of: one for each load, append, call of the backing tier, and event. None of them
//! is on the way of a memory hit.
//!
//! A span says where and how much: the namespace, what came of it, bytes, a position. It never has the value; keys, which may
//! name people, only where somebody listens to `larder::keys`, too.
//!
//! Those that may come a million times a second are of the level of debugging: a subscriber that writes lines formats every field
//! of every span that it hears of, which takes as long as an append in memory. Whoever does not listen pays one load.

use tracing::field::{Empty, display};
use tracing::{Level, Span, debug_span, enabled, info_span};

use crate::error::{Error, Result};
use crate::events::Event;
use crate::log::Appended;
use crate::position::Position;
use crate::record::Record;
use crate::trace_parent::TraceParent;

/// What listeners know all of them by.
const TARGET: &str = "larder::spans";

/// Who listens to this at the level of debugging gets keys.
const KEYS: &str = "larder::keys";

/// Begun where the caller is, so that the load, which has a task of its own, is known to be his.
pub(crate) fn load(namespace: &str, key: &[u8]) -> Span {
    let span = debug_span!(target: TARGET, "larder.load", namespace, key = Empty, outcome = Empty, bytes = Empty, position = Empty);
    with_key(&span, key);
    span
}

/// One call of a loader for many keys.
pub(crate) fn load_many(namespace: &str) -> Span {
    debug_span!(target: TARGET, "larder.load_many", namespace, outcome = Empty, keys = Empty)
}

pub(crate) fn append(names: usize) -> Span {
    debug_span!(target: TARGET, "larder.append", names, outcome = Empty, position = Empty)
}

pub(crate) fn tier(operation: &'static str, tier: &'static str, namespace: &str) -> Span {
    debug_span!(target: TARGET, "larder.tier", operation, tier, namespace, key = Empty, keys = Empty, outcome = Empty, bytes = Empty)
}

/// An event that says what trace it belongs to is a part of that.
pub(crate) fn event(event: &Event) -> Span {
    let kind = event.kind();
    let span = info_span!(target: TARGET, "larder.event", kind, trace_id = Empty, parent_id = Empty, sampled = Empty, outcome = Empty);
    let parent = event.attribute("traceparent").and_then(|value| value.as_str()).and_then(|text| text.parse::<TraceParent>().ok());
    if let Some(TraceParent { trace_id, span_id, is_sampled }) = parent {
        span.record("trace_id", display(format_args!("{trace_id:032x}"))).record("parent_id", display(format_args!("{span_id:016x}")));
        span.record("sampled", is_sampled);
    }
    span
}

pub(crate) fn with_key(span: &Span, key: &[u8]) {
    if !span.is_none() && enabled!(target: KEYS, Level::DEBUG) {
        span.record("key", display(key.escape_ascii()));
    }
}

/// What came of the current one.
pub(crate) fn outcome(what: &str) {
    Span::current().record("outcome", what);
}

/// That it failed, if it did, and how.
pub(crate) fn failed(error: &Error) {
    Span::current().record("outcome", display(format_args!("error: {:?}", error.kind())));
}

/// A load: how much it brought, and what that is stamped with.
pub(crate) fn loaded(bytes: Option<u32>, position: Option<Position>) {
    let span = Span::current();
    span.record("outcome", if bytes.is_some() { "loaded" } else { "nothing" });
    bytes.map(|bytes| span.record("bytes", bytes));
    position.map(|position| span.record("position", display(position)));
}

pub(crate) fn appended(outcome: &Result<Appended>) {
    match outcome {
        Ok(appended) => {
            let what = match (appended.queued, appended.conflict) {
                (true, _) => "queued",
                (false, true) => "conflict",
                (false, false) => "appended",
            };
            Span::current().record("outcome", what).record("position", display(appended.position));
        }
        Err(error) => failed(error),
    }
}

pub(crate) fn read(outcome: &Result<Option<Record>>) {
    match outcome {
        Ok(Some(record)) => {
            Span::current().record("outcome", "found").record("bytes", record.payload.len());
        }
        Ok(None) => self::outcome("absent"),
        Err(error) => failed(error),
    }
}
