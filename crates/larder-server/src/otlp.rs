//! What the server counts and does, told to an OpenTelemetry collector: OTLP over HTTP, as JSON.
//!
//! ```text
//!   spans that end ──> queue, bounded ──┐
//!   counters, every so often ───────────┴─> one thread ──> POST /v1/traces, /v1/metrics
//! ```
//!
//! Nothing waits for the collector: what does not fit the queue is dropped and counted, as is what it does not take. The form is
//! that of the protocol's JSON encoding (OTLP 1.x), of which this writes what it needs: the crates for it would bring a
//! second HTTP framework and a code generator with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use larder::Larder;
use serde_json::Value as Json;

use crate::settings::Otlp;
use encode::Resource;
use spans::Ended;
pub use spans::Spans;

mod encode;
mod metrics;
mod spans;

/// Spans that wait; more are dropped.
const QUEUE_MAX: usize = 8_192;

/// Spans that one request brings.
const BATCH_MAX: usize = 512;

/// How long the collector may take. Nobody waits for it but the thread.
const TIMEOUT: Duration = Duration::from_secs(5);

enum Message {
    Span(Box<Ended>),
    Stop,
}

/// The thread that exports. Stopping it sends what is left.
pub struct Exporter {
    queue: SyncSender<Message>,
    larder: Arc<OnceLock<Larder>>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to export. The layer hears of spans; what is counted is exported once a cache is [given](Exporter::count).
///
/// # Errors
/// When no thread can be started.
pub fn start(settings: &Otlp) -> std::io::Result<(Spans, Exporter)> {
    let (queue, messages) = sync_channel(QUEUE_MAX);
    let (larder, dropped) = (Arc::<OnceLock<Larder>>::default(), Arc::<AtomicU64>::default());
    let spans = Spans::new(queue.clone(), dropped.clone());
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).proxy(None);
    let exporting = Exporting {
        agent: config.build().new_agent(),
        endpoint: settings.endpoint.trim_end_matches('/').to_owned(),
        every: settings.every,
        resource: Resource { instance: settings.instance.clone() },
        larder: larder.clone(),
        began: SystemTime::now(),
        dropped,
        is_well: true,
    };
    let thread = std::thread::Builder::new().name("larder-otlp".into()).spawn(move || exporting.run(&messages))?;
    Ok((spans, Exporter { queue, larder, thread: Some(thread) }))
}

impl Exporter {
    /// Exports what this cache counts, too.
    pub fn count(&self, larder: &Larder) {
        // A second one is not counted: the program has one.
        drop(self.larder.set(larder.clone()));
    }
}

impl Drop for Exporter {
    /// Waits for the last two requests, each of which has its time limit.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // It takes messages until it ends, so a queue that is full has room soon; and one that nobody reads is over.
        if self.queue.send(Message::Stop).is_ok() && thread.join().is_err() {
            tracing::error!("the thread that exports had panicked");
        }
    }
}

struct Exporting {
    agent: ureq::Agent,
    endpoint: String,
    every: Duration,
    resource: Resource,
    larder: Arc<OnceLock<Larder>>,
    /// Since when things are counted.
    began: SystemTime,
    dropped: Arc<AtomicU64>,
    /// Whether the last request was taken, so that an outage is told once.
    is_well: bool,
}

impl Exporting {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let is_last = self.gather(messages, Instant::now() + self.every);
            if let Some(larder) = self.larder.get() {
                let (counted, dropped) = (larder.stats(), self.dropped.load(Ordering::Relaxed));
                self.post("metrics", &metrics::request(&self.resource, &counted, dropped, (self.began, SystemTime::now())));
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends spans until the time has come, a batch at a time. Returns whether that was the end.
    fn gather(&mut self, messages: &Receiver<Message>, until: Instant) -> bool {
        let mut batch = Vec::new();
        let is_last = loop {
            match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Span(span)) => batch.push(*span),
                Err(RecvTimeoutError::Timeout) => break false,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break true,
            }
            if batch.len() >= BATCH_MAX {
                self.send(&mut batch);
            }
        };
        self.send(&mut batch);
        is_last
    }

    fn send(&mut self, batch: &mut Vec<Ended>) {
        if batch.is_empty() {
            return;
        }
        if !self.post("traces", &encode::traces(&self.resource, batch)) {
            self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        batch.clear();
    }

    /// Whether the collector took it.
    fn post(&mut self, signal: &str, body: &Json) -> bool {
        let request = self.agent.post(format!("{}/v1/{signal}", self.endpoint)).header("content-type", "application/json");
        let outcome = match request.send(body.to_string()) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(error) => Err(error.to_string()),
        };
        match (&outcome, self.is_well) {
            (Err(why), true) => {
                tracing::warn!(endpoint = self.endpoint, why, "the collector does not take what is exported; it is dropped")
            }
            (Ok(()), false) => tracing::info!(endpoint = self.endpoint, "the collector takes what is exported again"),
            _ => {}
        }
        self.is_well = outcome.is_ok();
        self.is_well
    }
}
