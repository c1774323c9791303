//! What became of events: a trace of each of the last ones, and those who watch as they come.
//!
//! ```text
//!   event ended -> number n -> | n-999 .. n-1 n |          the ring: the oldest goes
//!                                   ^      ^
//!                                   |      a watcher: the number that it wants next
//!                                   a slow one; once its number has left the ring it is told how many it missed
//! ```
//!
//! A watcher is a number and nothing else, so that one which does not read costs nothing. What is in a trace is bounded as well:
//! neither the data of the event nor more than a few of its names.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Emitted;
use super::event::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::position::Position;

/// Traces that are kept: some 2 MiB at most feeds, and what a person can look through.
pub const EVENT_TRACES_MAX: usize = 1_000;

/// Names that a trace keeps of each event. The rest is counted.
pub const TRACED_NAMES_MAX: usize = 16;

/// The longest reason that a trace keeps, in bytes.
const REASON_LEN_MAX: usize = 1_024;

/// After entries were counted, they are not again for so many times as long as that took: a tenth of one processor at most.
const REST: u32 = 9;

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventTrace {
    /// Its number, in the order in which events ended. It grows by one, and begins anew with each process.
    pub number: u64,
    /// When it came, in milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The door that it came through, such as `library` or `http`, or the name of a source.
    pub through: Cow<'static, str>,
    /// What its source calls it.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// Its type.
    pub kind: String,
    /// What it is about.
    pub subject: Option<String>,
    /// The rules whose conditions hold for it.
    pub rules: Vec<String>,
    /// The first [`TRACED_NAMES_MAX`] of the names that it invalidates.
    pub names: Vec<String>,
    /// How many there are.
    pub names_count: usize,
    /// How many of them were put off to the end of their window.
    pub conflated: usize,
    /// The last position at which something of it stands in the log.
    pub position: Option<Position>,
    /// Live entries in memory that it made stale, of the names that were not put off. `None` unless somebody
    /// [asks](crate::Larder::watch_events_and_entries), and for events that come faster than they can be counted.
    pub entries: Option<u64>,
    /// How many handlers managed it.
    pub handled: usize,
    /// Dead letters that came of it.
    pub dead: Vec<u64>,
    /// How long after it came all that it invalidates was stale. `None` where it invalidates nothing.
    pub applied_after: Option<Duration>,
    /// How long after it came it was done with, its handlers included.
    pub took: Duration,
    /// How it ended.
    pub outcome: EventOutcome,
}

/// How an event ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventOutcome {
    /// It took effect.
    Applied,
    /// It took effect with others: all of its names were put off to the end of a window.
    Conflated,
    /// It took effect here alone so far, and waits to be told to other instances.
    Queued,
    /// It had been carried out before; nothing was done.
    Duplicate,
    /// No rule and no handler was for it.
    Unmatched,
    /// It could not be carried out; nothing was invalidated.
    Refused(String),
    /// The log could not take it; part of it may have taken effect.
    Failed(String),
}

impl EventOutcome {
    /// In a word, without the reason.
    pub fn as_str(&self) -> &'static str {
        match self {
            EventOutcome::Applied => "applied",
            EventOutcome::Conflated => "conflated",
            EventOutcome::Queued => "queued",
            EventOutcome::Duplicate => "duplicate",
            EventOutcome::Unmatched => "unmatched",
            EventOutcome::Refused(_) => "refused",
            EventOutcome::Failed(_) => "failed",
        }
    }

    /// Why it was refused, or failed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            EventOutcome::Refused(reason) | EventOutcome::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    fn of(outcome: &Result<Emitted>) -> Self {
        match outcome {
            Err(error) if error.kind() == ErrorKind::InvalidEvent => EventOutcome::Refused(reason(error)),
            Err(error) => EventOutcome::Failed(reason(error)),
            Ok(Emitted { duplicate: true, .. }) => EventOutcome::Duplicate,
            Ok(Emitted { queued: true, .. }) => EventOutcome::Queued,
            Ok(emitted) if emitted.is_unmatched() => EventOutcome::Unmatched,
            Ok(emitted) if emitted.conflated > 0 && emitted.conflated == emitted.names.len() => EventOutcome::Conflated,
            Ok(_) => EventOutcome::Applied,
        }
    }
}

fn reason(error: &Error) -> String {
    shortened(error.message(), REASON_LEN_MAX).to_owned()
}

/// The beginning of a text, up to so many bytes.
pub(super) fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// What is noted while an event is carried out.
pub(super) struct Noted {
    received_ms: u64,
    began: Instant,
    through: Cow<'static, str>,
    applied_after: Option<Duration>,
    pub(super) entries: Option<u64>,
}

impl Noted {
    pub(super) fn begin(through: Cow<'static, str>, received_ms: u64) -> Self {
        Noted { received_ms, began: Instant::now(), through, applied_after: None, entries: None }
    }

    /// All that it invalidates is stale.
    pub(super) fn applied(&mut self) {
        self.applied_after = Some(self.began.elapsed());
    }
}

/// See the head of this file.
pub(super) struct Traces {
    ring: Arc<Mutex<Ring>>,
    /// The number of the last one. It ends with the cache, which is how watchers learn of that.
    last: watch::Sender<u64>,
    counting: Arc<AtomicUsize>,
    /// When entries may be counted again. Held while they are.
    rested: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Ring {
    traces: VecDeque<Arc<EventTrace>>,
    last: u64,
}

impl Traces {
    pub(super) fn new() -> Self {
        Traces { ring: Arc::default(), last: watch::Sender::new(0), counting: Arc::default(), rested: Mutex::new(None) }
    }

    /// An event ended.
    pub(super) fn add(&self, noted: Noted, event: &Event, outcome: &Result<Emitted>) {
        let nothing = Emitted::default();
        let emitted = outcome.as_ref().unwrap_or(&nothing);
        let mut trace = EventTrace {
            number: 0,
            received_ms: noted.received_ms,
            through: noted.through,
            id: event.id().to_owned(),
            source: event.source().to_owned(),
            kind: event.kind().to_owned(),
            subject: event.subject().map(str::to_owned),
            rules: emitted.rules.clone(),
            names: emitted.names.iter().take(TRACED_NAMES_MAX).cloned().collect(),
            names_count: emitted.names.len(),
            conflated: emitted.conflated,
            position: emitted.position,
            entries: noted.entries,
            handled: emitted.handled,
            dead: emitted.dead.clone(),
            applied_after: noted.applied_after.filter(|_| emitted.position.is_some()),
            took: noted.began.elapsed(),
            outcome: EventOutcome::of(outcome),
        };
        if trace.outcome.reason().is_some() {
            // An attribute that is too long is one of the reasons to refuse an event.
            [&mut trace.id, &mut trace.source, &mut trace.kind].into_iter().chain(&mut trace.subject).for_each(shorten);
        }
        let (gone, last) = {
            let mut ring = self.ring.lock();
            ring.last += 1;
            trace.number = ring.last;
            ring.traces.push_back(Arc::new(trace));
            ((ring.traces.len() > EVENT_TRACES_MAX).then(|| ring.traces.pop_front()), ring.last)
        };
        drop(gone);
        // Two that end at once may get here in the other order.
        self.last.send_if_modified(|known| {
            let is_later = *known < last;
            *known = (*known).max(last);
            is_later
        });
    }

    /// Up to so many of the last ones, the oldest first.
    pub(super) fn latest(&self, most: usize) -> Vec<Arc<EventTrace>> {
        let ring = self.ring.lock();
        ring.traces.iter().skip(ring.traces.len().saturating_sub(most)).cloned().collect()
    }

    pub(super) fn watch(&self) -> EventWatch {
        let last = self.last.subscribe();
        let seen = self.ring.lock().last;
        EventWatch { ring: self.ring.clone(), last, seen, _counting: None }
    }

    /// Has entries counted, where somebody wants to know and it was not just done.
    pub(super) async fn count<F: Future<Output = Option<u64>>>(&self, count: impl FnOnce() -> F) -> Option<u64> {
        if self.counting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let began = Instant::now();
        {
            let mut rested = self.rested.lock();
            if rested.is_some_and(|rested| began < rested) {
                return None;
            }
            // Until it is known how long it takes, nobody else counts.
            *rested = Some(began + Duration::from_secs(1));
        }
        let counted = count().await;
        *self.rested.lock() = Some(Instant::now() + began.elapsed() * REST);
        counted
    }
}

fn shorten(text: &mut String) {
    let len = shortened(text, super::ATTRIBUTE_LEN_MAX).len();
    text.truncate(len);
}

/// Somebody who watches events end. It keeps no more than its place: whoever is slow loses the oldest, and is told how many.
pub struct EventWatch {
    ring: Arc<Mutex<Ring>>,
    last: watch::Receiver<u64>,
    /// The number of the last one that was given, or missed.
    seen: u64,
    /// Held for as long as it watches.
    _counting: Option<Counting>,
}

/// What a watcher sees next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// An event ended.
    Event(Arc<EventTrace>),
    /// So many events ended that it was too slow for.
    Missed(u64),
}

/// Counts for as long as it is there.
struct Counting(Arc<AtomicUsize>);

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventWatch {
    /// Begins behind this number, in the place of the event that ends next: 0 is all that are still known.
    #[must_use]
    pub fn after(self, number: u64) -> Self {
        EventWatch { seen: number, ..self }
    }

    /// The number that it is behind: of the last event that it was given, or missed.
    pub fn number(&self) -> u64 {
        self.seen
    }

    /// What comes next; waits for it. `None`: the cache is gone.
    pub async fn next(&mut self) -> Option<Watched> {
        loop {
            // Marked before the look, so that what ends in between wakes it.
            self.last.mark_unchanged();
            if let Some(watched) = self.look() {
                return Some(watched);
            }
            self.last.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<Watched> {
        let ring = self.ring.lock();
        let first = ring.traces.front()?.number;
        if self.seen + 1 < first {
            let missed = first - 1 - self.seen;
            self.seen = first - 1;
            return Some(Watched::Missed(missed));
        }
        let trace = ring.traces.get(usize::try_from(self.seen + 1 - first).ok()?)?;
        self.seen = trace.number;
        Some(Watched::Event(trace.clone()))
    }
}

impl super::Larder {
    /// What became of up to so many of the last events, the oldest first; the last [`EVENT_TRACES_MAX`] are known.
    pub fn event_traces(&self, most: usize) -> Vec<Arc<EventTrace>> {
        self.0.events.traces.latest(most)
    }

    /// Watches events end, from now on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::events::{Event, EventOutcome, Watched};
    /// let larder = larder::Larder::builder().build().await?;
    /// let mut watch = larder.watch_events();
    /// larder.emit(Event::new("market_data_update", serde_json::json!({ "symbol": "AAPL" }))).await?;
    /// let Some(Watched::Event(trace)) = watch.next().await else { panic!("it was not too slow") };
    /// assert_eq!((trace.kind.as_str(), &trace.outcome), ("market_data_update", &EventOutcome::Applied));
    /// assert!(trace.applied_after.is_some() && trace.names.contains(&"tag:symbol:AAPL".to_owned()));
    /// # Ok(()) }
    /// ```
    pub fn watch_events(&self) -> EventWatch {
        self.0.events.traces.watch()
    }

    /// The same, and has counted how many live entries in memory each event makes stale. To count them is to look at every
    /// entry there is, before the event takes effect: it is done in a tenth of the time at most, and events that come in
    /// between are not counted.
    pub fn watch_events_and_entries(&self) -> EventWatch {
        let counting = self.0.events.traces.counting.clone();
        counting.fetch_add(1, Ordering::Relaxed);
        EventWatch { _counting: Some(Counting(counting)), ..self.watch_events() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn end(traces: &Traces, id: &str) {
        let event = Event::new("t", Json::Null).with_id(id);
        traces.add(Noted::begin("test".into(), 7), &event, &Ok(Emitted::default()));
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_the_oldest_and_is_told_how_many() {
        let traces = Traces::new();
        let (mut slow, mut quick) = (traces.watch(), traces.watch());
        end(&traces, "first");
        let Some(Watched::Event(first)) = quick.next().await else { panic!("it was not missed") };
        assert_eq!((first.number, first.id.as_str()), (1, "first"));
        (0..EVENT_TRACES_MAX + 5).for_each(|n| end(&traces, &n.to_string()));
        assert_eq!(slow.next().await, Some(Watched::Missed(6)));
        for number in 7.. {
            let Some(Watched::Event(trace)) = slow.next().await else { panic!("it caught up") };
            assert_eq!(trace.number, number);
            if number == EVENT_TRACES_MAX as u64 + 6 {
                break;
            }
        }
        assert_eq!(traces.latest(2).iter().map(|trace| trace.number).collect::<Vec<_>>(), [1_005, 1_006]);
        assert_eq!(traces.latest(5_000).len(), EVENT_TRACES_MAX);
        assert_eq!(traces.watch().after(0).next().await, Some(Watched::Missed(6)));
        drop(traces);
        assert_eq!(slow.next().await, None, "the cache is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn entries_are_counted_for_who_asks_and_in_a_tenth_of_the_time() {
        let traces = Traces::new();
        let count = async || {
            let slowly = || async {
                tokio::time::advance(Duration::from_millis(10)).await;
                Some(3)
            };
            traces.count(slowly).await
        };
        assert_eq!(count().await, None, "nobody asks");
        let counting = Counting(traces.counting.clone());
        traces.counting.fetch_add(1, Ordering::Relaxed);
        assert_eq!(count().await, Some(3));
        assert_eq!(count().await, None);
        tokio::time::advance(Duration::from_millis(89)).await;
        assert_eq!(count().await, None);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(count().await, Some(3));
        drop(counting);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(count().await, None);
    }

    #[test]
    fn what_is_kept_of_an_event_is_bounded() {
        let traces = Traces::new();
        let event = Event::new("t".repeat(5_000), Json::Null);
        let emitted = Emitted { names: vec!["tag:a".to_owned(); 100], ..Emitted::default() };
        traces.add(Noted::begin("test".into(), 7), &event, &Ok(emitted));
        traces.add(Noted::begin("test".into(), 7), &event, &Err(super::super::event::invalid("\u{e4}".repeat(5_000))));
        let kept = traces.latest(2);
        assert_eq!((kept[0].names.len(), kept[0].names_count), (TRACED_NAMES_MAX, 100));
        assert_eq!(kept[1].kind.len(), super::super::ATTRIBUTE_LEN_MAX);
        assert_eq!(kept[1].outcome.reason().map(str::len), Some(REASON_LEN_MAX));
    }
}
