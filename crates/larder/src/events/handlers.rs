//! Handlers: code of the user's own that is told of events. One that fails or panics is tried again, and stops no other.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::event::Event;

/// How often a handler is tried, and the pause after the first failure; each further one is four times as long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// What a handler fails with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Is told of events. Every function from an event to a future of a result is one.
pub trait Handler: Send + Sync + 'static {
    /// Called once for each event, and again where that failed: it must bear being told twice.
    fn handle(&self, event: Arc<Event>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
}

impl<F, T, E> Handler for F
where
    F: Fn(Arc<Event>) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Failure>,
{
    fn handle(&self, event: Arc<Event>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> {
        let handling = self(event);
        Box::pin(async move { handling.await.map_err(Into::into) })
    }
}

/// A handler's place. It stays registered when this is dropped.
#[derive(Clone)]
pub struct Registration {
    handlers: Arc<Handlers>,
    kind: String,
    number: u64,
}

impl Registration {
    /// Puts another handler in its place. False if it was removed.
    pub fn replace(&self, handler: impl Handler) -> bool {
        let mut all = self.handlers.of_kind.lock();
        let place = all.get_mut(&self.kind).and_then(|of_kind| of_kind.iter_mut().find(|(number, _)| *number == self.number));
        place.map(|(_, there)| *there = Arc::new(handler)).is_some()
    }

    /// Removes it; what it was told already it still handles. False if it was removed before.
    pub fn remove(&self) -> bool {
        let mut all = self.handlers.of_kind.lock();
        let Some(of_kind) = all.get_mut(&self.kind) else { return false };
        let before = of_kind.len();
        of_kind.retain(|(number, _)| *number != self.number);
        let removed = of_kind.len() < before;
        if of_kind.is_empty() {
            all.remove(&self.kind);
        }
        removed
    }
}

/// A handler and its number.
type Numbered = (u64, Arc<dyn Handler>);

/// All handlers, by the type of their events.
#[derive(Default)]
pub(super) struct Handlers {
    of_kind: Mutex<HashMap<String, Vec<Numbered>>>,
    number: AtomicU64,
}

/// A handler that did not manage, and why.
pub(super) struct Failed {
    pub(super) handler: u64,
    pub(super) reason: String,
}

impl Handlers {
    /// Whether there are any for a type.
    pub(super) fn any_of(&self, kind: &str) -> bool {
        self.of_kind.lock().contains_key(kind)
    }

    pub(super) fn add(self: &Arc<Self>, kind: String, handler: impl Handler) -> Registration {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.of_kind.lock().entry(kind.clone()).or_default().push((number, Arc::new(handler)));
        Registration { handlers: self.clone(), kind, number }
    }

    fn of(&self, kind: &str) -> Vec<Numbered> {
        self.of_kind.lock().get(kind).cloned().unwrap_or_default()
    }

    /// Tells all handlers of an event side by side, as often as each needs. Returns how many managed, and who did not.
    pub(super) async fn tell(&self, event: &Arc<Event>, runtime: &Handle) -> (usize, Vec<Failed>) {
        let telling: Vec<_> = self
            .of(event.kind())
            .into_iter()
            .map(|(number, handler)| (number, runtime.spawn(tell_one(handler, event.clone(), runtime.clone()))))
            .collect();
        let (mut managed, mut failed) = (0, Vec::new());
        for (handler, told) in telling {
            match told.await.unwrap_or_else(|_| Err("the runtime was shut down".to_owned())) {
                Ok(()) => managed += 1,
                Err(reason) => failed.push(Failed { handler, reason }),
            }
        }
        (managed, failed)
    }

    /// Tells one handler once more. `None`: it is not there any more.
    pub(super) async fn tell_again(&self, number: u64, event: Arc<Event>, runtime: &Handle) -> Option<Result<(), String>> {
        let (_, handler) = self.of(event.kind()).into_iter().find(|(known, _)| *known == number)?;
        Some(once(handler, event, runtime).await)
    }
}

async fn tell_one(handler: Arc<dyn Handler>, event: Arc<Event>, runtime: Handle) -> Result<(), String> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match once(handler.clone(), event.clone(), &runtime).await {
            Ok(()) => return Ok(()),
            Err(reason) => tracing::debug!(event = event.id(), kind = event.kind(), reason, "a handler failed, and is told again"),
        }
        // Not all at the same moment, where one thing made many fail.
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause *= 4;
    }
    once(handler, event, &runtime).await
}

/// In a task of its own, so that a panic ends there.
async fn once(handler: Arc<dyn Handler>, event: Arc<Event>, runtime: &Handle) -> Result<(), String> {
    match runtime.spawn(async move { handler.handle(event).await }).await {
        Ok(outcome) => outcome.map_err(|failure| failure.to_string()),
        Err(error) if error.is_panic() => Err(format!("it panicked: {}", said(&*error.into_panic()))),
        Err(_) => Err("the runtime was shut down".to_owned()),
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
