//! Events: what happened in the world, and what of the cache is no longer true because of it.
//!
//! ```text
//!   emit    1  took effect before?   by source and identifier, as the log has it: on with 5
//!           2  rules of its type     templates filled with what it says, or an error that names rule and field
//!           3  debounce              a name that just changed waits for the end of its window
//!           4  append                all other names at one position, and with the last of them the event's mark
//!           5  handlers              unless they are known to be done; side by side, each tried again; what one does not
//!                                    manage is a dead letter
//!           6  trace                 what became of it, for who watches
//! ```
//!
//! An event that `emit` returned for has taken effect, so a source may acknowledge it, unless it was only queued; one that failed
//! has to be delivered again. Delivering one twice does no harm: that it took effect is remembered in the very record of the log by
//! which it did, so that neither a crash nor another instance has it take effect twice. Handlers are told at least once: whether
//! they were done only the process knows that told them.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;
use tokio::time::Instant;
use tracing::Instrument;

use crate::cache::Larder;
use crate::error::{Error, ErrorKind, Result};
use crate::impact::Impact;
use crate::invalidations::InvalidationOrigin;
use crate::log::Mark;
use crate::mutation::Mutation;
use crate::name::Names;
use crate::position::{Epoch, Position, Receipt};
use crate::spans;

mod condition;
mod debounce;
mod effects;
mod event;
mod follow;
mod handlers;
mod letters;
mod path;
mod refresh;
mod rule;
mod seen;
pub mod source;
mod template;
mod trace;

pub use event::{ATTRIBUTE_LEN_MAX, Event};
pub use follow::{FollowOptions, Following, SourceStats};
pub use handlers::{Failure, Handler, Registration};
pub use letters::{DEAD_LETTERS_MAX, DeadLetter, Failing};
pub use refresh::Refresh;
pub use rule::Rule;
pub use trace::{EVENT_TRACES_MAX, EventOutcome, EventTrace, EventWatch, TRACED_NAMES_MAX, Watched};

use debounce::{Told, Turn, Windows};
use effects::Effects;
use handlers::Handlers;
use letters::Letters;
use rule::Rules;
use seen::Seen;
use template::Rendered;
use trace::{Noted, Traces};

/// What a cache knows of events.
pub(crate) struct Events {
    rules: Rules,
    handlers: Arc<Handlers>,
    letters: Letters,
    windows: Windows,
    seen: Seen,
    following: parking_lot::Mutex<Vec<Arc<follow::Progress>>>,
    effects: Effects,
    traces: Traces,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    received: AtomicU64,
    duplicates: AtomicU64,
    unmatched: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    conflated: AtomicU64,
    names: AtomicU64,
}

/// What events did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStats {
    /// Events that came.
    pub received: u64,
    /// Of these, how many had been carried out before.
    pub duplicates: u64,
    /// Events that no rule and no handler was for.
    pub unmatched: u64,
    /// Events that could not be understood, or whose values cannot stand in a name.
    pub refused: u64,
    /// Events that did not take effect, because the log could not take them.
    pub failed: u64,
    /// Names that were invalidated.
    pub names: u64,
    /// Names that were put off, so that one invalidation covers several.
    pub conflated: u64,
    /// Dead letters there are.
    pub dead: u64,
    /// Dead letters that were dropped because there were too many.
    pub dead_dropped: u64,
}

impl EventStats {
    /// What happened since `earlier`; the dead letters there are, are those of now.
    #[must_use]
    pub fn since(&self, earlier: &EventStats) -> EventStats {
        EventStats {
            received: self.received.saturating_sub(earlier.received),
            duplicates: self.duplicates.saturating_sub(earlier.duplicates),
            unmatched: self.unmatched.saturating_sub(earlier.unmatched),
            refused: self.refused.saturating_sub(earlier.refused),
            failed: self.failed.saturating_sub(earlier.failed),
            names: self.names.saturating_sub(earlier.names),
            conflated: self.conflated.saturating_sub(earlier.conflated),
            dead: self.dead,
            dead_dropped: self.dead_dropped.saturating_sub(earlier.dead_dropped),
        }
    }
}

/// What became of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Emitted {
    /// Whether it had taken effect before. Then nothing was invalidated; handlers that may not have been told were.
    pub duplicate: bool,
    /// The rules whose conditions hold for it.
    pub rules: Vec<String>,
    /// The names that it invalidates, as rules write them.
    pub names: Vec<String>,
    /// How many of them were put off to the end of their window. They have taken effect, too.
    pub conflated: usize,
    /// The last position at which something of it stands in the log. `None`: it invalidated nothing.
    pub position: Option<Position>,
    /// Whether the change took effect here alone so far, and waits to be told to other instances. Then the event is not remembered:
    /// whoever can deliver it again should.
    pub queued: bool,
    /// How many handlers managed it.
    pub handled: usize,
    /// Dead letters that came of it.
    pub dead: Vec<u64>,
}

impl Events {
    pub(crate) fn new(rules: Vec<Rule>, folder: Option<std::path::PathBuf>) -> Result<Self> {
        Ok(Events {
            rules: Rules::with_built_ins(rules),
            handlers: Arc::default(),
            letters: Letters::open(folder)?,
            windows: Windows::default(),
            seen: Seen::default(),
            following: parking_lot::Mutex::default(),
            effects: Effects::default(),
            traces: Traces::new(),
            counters: Counters::default(),
        })
    }

    /// The rules that a position of the log came from, if an event of late was it.
    pub(crate) fn rules_at(&self, epoch: Epoch, seq: u64) -> Vec<Box<str>> {
        self.effects.rules_at(epoch, seq)
    }

    /// Stops following sources, and returns when that has ended.
    pub(crate) async fn stop_following(&self) {
        let following = self.following.lock().clone();
        for progress in following {
            progress.stop().await;
        }
    }

    pub(crate) fn stats(&self) -> EventStats {
        let Counters { received, duplicates, unmatched, refused, failed, conflated, names } = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EventStats {
            received: count(received),
            duplicates: count(duplicates),
            unmatched: count(unmatched),
            refused: count(refused),
            failed: count(failed),
            names: count(names),
            conflated: count(conflated),
            dead: self.letters.count(),
            dead_dropped: self.letters.dropped(),
        }
    }
}

impl Larder {
    /// Says that something happened, and invalidates what the [rules](crate::Builder::rule) for its type say. Returns once that
    /// has taken effect and every handler has managed the event or is in the dead letters.
    ///
    /// There are rules for three types from the start, which a rule of your own for that type takes the place of:
    /// `market_data_update` with a `symbol`, `model_update` with a `model_version` or `model_type`, and `system_maintenance`,
    /// with a `scope` for one namespace. They know tags (`symbol:AAPL`, `model_version:v17`) and keys in which the symbol is the
    /// second or third segment.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::events::Event;
    /// use serde_json::json;
    /// let larder = larder::Larder::builder().build().await?;
    /// let features = larder.namespace::<f64>("features")?;
    /// features.put("AAPL:5m", 0.7).await?;
    /// features.put("AAPLW:5m", 0.1).await?;
    /// larder.emit(Event::new("market_data_update", json!({ "symbol": "AAPL" }))).await?;
    /// assert!(features.get("AAPL:5m").await?.is_none());
    /// assert!(features.get("AAPLW:5m").await?.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEvent`] for one that cannot be understood, lacks a field that a rule needs, or has a value that cannot
    /// stand in a name: nothing was invalidated then. As [`invalidate`](Self::invalidate), if the log cannot take it.
    pub async fn emit(&self, event: Event) -> Result<Emitted> {
        self.emit_from(event, "library").await
    }

    /// The same for an event that came from outside; its [trace](Self::event_traces) says through which door.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub async fn emit_from(&self, event: Event, through: impl Into<Cow<'static, str>>) -> Result<Emitted> {
        let (larder, mut noted) = (self.clone(), Noted::begin(through.into(), self.0.clock.now_ms()));
        // In a task of its own: a caller that stops waiting must not leave others waiting for the end of a window.
        let span = spans::event(&event);
        let carrying_out = async move {
            let event = Arc::new(event);
            let outcome = larder.carry_out(&event, &mut noted).await;
            larder.0.events.traces.add(noted, &event, &outcome);
            outcome
                .inspect(|emitted| spans::outcome(if emitted.duplicate { "duplicate" } else { "carried out" }))
                .inspect_err(spans::failed)
        };
        let emitting = self.0.runtime.spawn(carrying_out.instrument(span));
        emitting.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime was shut down while an event was carried out")))
    }

    /// What [`emit`](Self::emit) would invalidate, and how much of the cache that would drop. Nothing is.
    ///
    /// # Errors
    /// As [`emit`](Self::emit) and [`impact`](Self::impact).
    pub async fn rehearse(&self, event: &Event) -> Result<(Emitted, Impact)> {
        event.check()?;
        let matched = self.0.events.rules.names(event)?;
        let all: Vec<Rendered> = matched.iter().flat_map(|matched| matched.names.clone()).collect();
        let emitted = Emitted {
            duplicate: self.took_effect(seen::mark_of(event)),
            rules: matched.iter().map(|matched| matched.rule.to_owned()).collect(),
            names: all.iter().map(ToString::to_string).collect(),
            ..Emitted::default()
        };
        let names = all.into_iter().fold(Names::new(), |names, name| name.add_to(names));
        let impact = if names.is_empty() { Impact::default() } else { self.impact(names).await? };
        Ok((emitted, impact))
    }

    /// Has a handler told of every event of a type, after what the rules say has taken effect. It is told at least once: where
    /// it fails or panics it is tried four times over some seconds, and then the event is a
    /// [dead letter](Self::dead_letters).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use std::sync::Arc;
    /// use larder::events::Event;
    /// let larder = larder::Larder::builder().build().await?;
    /// let registration = larder.on("deploy", |event: Arc<Event>| async move {
    ///     println!("deployed: {}", event.data());
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// assert_eq!(larder.emit(Event::new("deploy", serde_json::json!("v2"))).await?.handled, 1);
    /// registration.remove();
    /// # Ok(()) }
    /// ```
    pub fn on(&self, kind: impl Into<String>, handler: impl Handler) -> Registration {
        self.0.events.handlers.add(kind.into(), handler)
    }

    /// Events that were not managed, the oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.events.letters.list()
    }

    /// One of them.
    pub fn dead_letter(&self, id: u64) -> Option<DeadLetter> {
        self.0.events.letters.get(id)
    }

    /// Keeps an event that came from a source and cannot be carried out, so that the source can go on to the next: as it came,
    /// with the reason. Gives the letter's identifier. An event that somebody waits for an answer to needs none of this.
    pub async fn keep_dead_letter(&self, event: Json, reason: &str) -> u64 {
        let Events { letters, .. } = &self.0.events;
        letters.add(event, None, reason, self.0.clock.now_ms(), &self.0.runtime).await
    }

    /// Tries a dead letter once more, and forgets it if that went well; otherwise it stays. One that a handler did not manage is
    /// told to that handler, or to all handlers of its type where it was another process's: what the rules say has taken effect
    /// already. One that could not be carried out is [emitted](Self::emit) again, for instance after the rules were mended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such letter, or nobody to tell; [`ErrorKind::Load`] with what the handler said;
    /// as [`emit`](Self::emit).
    pub async fn replay_dead_letter(&self, id: u64) -> Result<Emitted> {
        let letter = self.dead_letter(id).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}")))?;
        let event = Event::from_json(letter.event.clone())?;
        let emitted = match letter.failed {
            Failing::Handler => Emitted { handled: self.tell_again(&letter, event).await?, ..Emitted::default() },
            Failing::Event => self.emit_from(event, "dead letter").await?,
        };
        self.drop_dead_letter(id).await?;
        Ok(emitted)
    }

    async fn tell_again(&self, letter: &DeadLetter, event: Event) -> Result<usize> {
        let Events { handlers, letters, .. } = &self.0.events;
        let event = Arc::new(event);
        let told = match letters.handler_of(letter) {
            Some(handler) => handlers.tell_again(handler, event.clone(), &self.0.runtime).await.map(|told| told.map(|()| 1)),
            None => match handlers.tell(&event, &self.0.runtime).await {
                (0, failed) if failed.is_empty() => None,
                (managed, mut failed) => Some(failed.pop().map_or(Ok(managed), |failed| Err(failed.reason))),
            },
        };
        match told {
            None => Err(Error::new(ErrorKind::NotFound, format!("no handler for \"{}\" is registered", event.kind().escape_debug()))),
            Some(told) => told.map_err(|reason| Error::new(ErrorKind::Load, format!("the handler failed again: {reason}"))),
        }
    }

    /// Forgets a dead letter. False if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Tier`] if its file cannot be removed.
    pub async fn drop_dead_letter(&self, id: u64) -> Result<bool> {
        self.0.events.letters.remove(id, &self.0.runtime).await
    }

    async fn carry_out(&self, event: &Arc<Event>, noted: &mut Noted) -> Result<Emitted> {
        let Events { handlers, letters, seen, counters, .. } = &self.0.events;
        count_one(&counters.received);
        event.check().inspect_err(|_| count_one(&counters.refused))?;
        let mark = seen::mark_of(event);
        let _alone = seen.alone(mark).await;
        let (took_effect, handled) = (self.took_effect(mark), seen.was_handled(mark));
        let mut emitted = Emitted { duplicate: took_effect, ..Emitted::default() };
        if took_effect {
            count_one(&counters.duplicates);
        } else {
            self.take_effect(event, mark, &mut emitted, noted).await?;
        }
        noted.applied();
        if handled || !handlers.any_of(event.kind()) {
            if emitted.is_unmatched() && !took_effect && !handled {
                count_one(&counters.unmatched);
            }
            return Ok(emitted);
        }
        let (managed, failures) = handlers.tell(event, &self.0.runtime).await;
        emitted.handled = managed;
        for failure in failures {
            tracing::warn!(event = event.id(), kind = event.kind(), reason = failure.reason, "a handler did not manage an event");
            let (handler, now_ms) = (Some(failure.handler), self.0.clock.now_ms());
            emitted.dead.push(letters.add(event.to_json(), handler, &failure.reason, now_ms, &self.0.runtime).await);
        }
        seen.handled(mark);
        Ok(emitted)
    }

    /// Whether the log says that an event took effect.
    fn took_effect(&self, mark: Mark) -> bool {
        self.0.log.marks().has(mark) && !self.0.mutations.on(Mutation::EventsForgotten)
    }

    /// Invalidates what the rules say, and has the log remember the event with the last name that takes effect.
    async fn take_effect(&self, event: &Event, mark: Mark, emitted: &mut Emitted, noted: &mut Noted) -> Result<()> {
        let Events { rules, handlers, effects, counters, .. } = &self.0.events;
        let matched = rules.names(event).inspect_err(|_| count_one(&counters.refused))?;
        emitted.rules = matched.iter().map(|matched| matched.rule.to_owned()).collect();
        let all: Vec<_> =
            matched.into_iter().flat_map(|matched| matched.names.into_iter().map(move |name| (name, matched.debounce))).collect();
        emitted.names = all.iter().map(|(name, _)| name.to_string()).collect();
        let whole = (all.len() == 1).then_some(mark);
        let (mut now, mut later, mut remembered) = (Vec::new(), Vec::new(), false);
        for (name, debounce) in all {
            match self.turn(&name, whole, debounce) {
                None => now.push(name),
                Some((told, with_it)) => {
                    later.push(told);
                    remembered |= with_it;
                }
            }
        }
        emitted.conflated = later.len();
        let failed = |_: &Error| count_one(&counters.failed);
        if !now.is_empty() {
            remembered |= later.is_empty();
            let marks = if later.is_empty() { vec![mark] } else { Vec::new() };
            noted.entries = self.0.events.traces.count(|| self.count_in_memory(now.clone())).await;
            let receipt = self.invalidate_all(now, marks).await.inspect_err(failed)?;
            effects.note(receipt.position(), &emitted.rules);
            emitted.note(&receipt);
        }
        for told in later {
            let closed = || Error::new(ErrorKind::Closed, "the runtime was shut down before a change that was put off was made");
            let receipt = told.await.unwrap_or_else(|_| Err(closed())).inspect_err(failed)?;
            effects.note(receipt.position(), &emitted.rules);
            emitted.note(&receipt);
        }
        // An event that matches nothing leaves nothing behind.
        let has_effect = !emitted.names.is_empty() || handlers.any_of(event.kind());
        if has_effect && !remembered && !emitted.queued {
            emitted.queued |=
                self.invalidate_for(Names::new(), vec![mark], InvalidationOrigin::Event).await.inspect_err(failed)?.is_queued();
        }
        tracing::debug!(event = event.id(), kind = event.kind(), names = ?emitted.names, position = ?emitted.position, "an event took effect");
        Ok(())
    }

    /// Whether a change of a name is made now (`None`), or what will be told when it was, and whether the event is remembered then.
    fn turn(&self, name: &Rendered, whole: Option<Mark>, time: std::time::Duration) -> Option<(Told, bool)> {
        if time.is_zero() {
            return None;
        }
        match self.0.events.windows.turn(name, whole, time, Instant::now()) {
            Turn::Now => None,
            Turn::Later { told, end, remembered } => {
                count_one(&self.0.events.counters.conflated);
                if let Some(end) = end {
                    let (larder, name) = (self.clone(), name.clone());
                    self.0.runtime.spawn(async move {
                        tokio::time::sleep_until(end).await;
                        let ended = larder.0.events.windows.end(&name, time, Instant::now());
                        let outcome = larder.invalidate_all(vec![name], ended.marks).await;
                        for told in ended.waiting {
                            // Who stopped waiting has his change made all the same.
                            drop(told.send(outcome.clone()));
                        }
                    });
                }
                Some((told, remembered))
            }
        }
    }

    /// How many live entries of memory these names would make stale. `None`: they are no names, which the log will say.
    async fn count_in_memory(&self, rendered: Vec<Rendered>) -> Option<u64> {
        let names = rendered.into_iter().fold(Names::new(), |names, name| name.add_to(names)).check().ok()?;
        let shared = self.0.clone();
        // It may look at millions of entries, for which a thread of the runtime must not be held up.
        self.0.runtime.spawn_blocking(move || shared.touched_in_memory(names)).await.ok()
    }

    async fn invalidate_all(&self, rendered: Vec<Rendered>, marks: Vec<Mark>) -> Result<Receipt> {
        let count = rendered.len() as u64;
        let names = rendered.into_iter().fold(Names::new(), |names, name| name.add_to(names));
        let receipt = self.invalidate_for(names, marks, InvalidationOrigin::Event).await?;
        self.0.events.counters.names.fetch_add(count, Ordering::Relaxed);
        Ok(receipt)
    }
}

fn count_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Emitted {
    /// Whether no rule and no handler was for it.
    fn is_unmatched(&self) -> bool {
        self.rules.is_empty() && self.handled == 0 && self.dead.is_empty()
    }

    fn note(&mut self, receipt: &Receipt) {
        let position = receipt.position();
        let is_later = self.position.is_none_or(|known| known.epoch() != position.epoch() || known.number() < position.number());
        if is_later {
            self.position = Some(position);
        }
        self.queued |= receipt.is_queued();
    }
}
