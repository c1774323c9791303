//! The spans of larder as they end: a layer of `tracing` that gives each its identity, and hands it to the exporter.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::SystemTime;

use serde_json::Value as Json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Message;

/// What larder's spans are known by.
const TARGET: &str = "larder::spans";

/// The longest text that a span tells; what came from outside may be longer.
const TEXT_MAX: usize = 256;

/// A span and the trace that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace_id: u128,
    pub span_id: u64,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub name: &'static str,
    pub place: Place,
    pub parent: Option<u64>,
    /// What it happened within, where it says to belong to another trace.
    pub link: Option<Place>,
    /// Whether whoever began the trace keeps it.
    pub is_sampled: bool,
    pub began: SystemTime,
    pub ended: SystemTime,
    pub fields: Vec<(&'static str, Json)>,
}

/// See the head of this file.
pub struct Spans {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Spans {
    pub(super) fn new(queue: SyncSender<Message>, dropped: Arc<AtomicU64>) -> Self {
        Spans { queue, dropped }
    }

    /// What it wants to hear of, whatever is logged.
    pub fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == TARGET && *metadata.level() <= Level::DEBUG
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // The nearest that is exported: others may stand between.
        let parent =
            span.scope().skip(1).find_map(|parent| parent.extensions().get::<Ended>().map(|parent| (parent.place, parent.is_sampled)));
        let (parent, is_sampled) = parent.map_or((None, true), |(place, is_sampled)| (Some(place), is_sampled));
        let trace_id = parent.map_or_else(|| fastrand::u128(1..), |parent| parent.trace_id);
        let now = SystemTime::now();
        let mut open = Ended {
            name: span.name(),
            place: Place { trace_id, span_id: fastrand::u64(1..) },
            parent: parent.map(|parent| parent.span_id),
            link: None,
            is_sampled,
            began: now,
            ended: now,
            fields: Vec::new(),
        };
        attributes.record(&mut Recording(&mut open));
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Ended>() {
            values.record(&mut Recording(open));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let ended = context.span(&id).and_then(|span| span.extensions_mut().remove::<Ended>());
        let Some(ended) = ended.filter(|ended| ended.is_sampled) else { return };
        let ended = Message::Span(Box::new(Ended { ended: SystemTime::now(), ..ended }));
        match self.queue.try_send(ended) {
            Err(TrySendError::Full(_)) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            // Whoever ends after the exporter did is not told of.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

struct Recording<'a>(&'a mut Ended);

impl Recording<'_> {
    fn put(&mut self, field: &Field, value: Json) {
        self.0.fields.push((field.name(), value));
    }
}

impl Visit for Recording<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "sampled" {
            self.0.is_sampled = value;
        } else {
            self.put(field, value.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.chars().take(TEXT_MAX).collect::<String>().into());
    }

    /// What `Display` gave comes here, too: that is how the two numbers come that place a span in a trace from elsewhere.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "trace_id" => {
                if let Ok(trace_id) = u128::from_str_radix(&text, 16) {
                    let span = &mut *self.0;
                    span.link = span.parent.map(|span_id| Place { trace_id: span.place.trace_id, span_id });
                    span.place.trace_id = trace_id;
                }
            }
            "parent_id" => self.0.parent = u64::from_str_radix(&text, 16).ok(),
            _ => self.record_str(field, &text),
        }
    }
}
