//! Maintenance: for a while this server takes no writes, and comes back by itself.
//!
//! ```text
//!            begin: written down, writes refused │ those under way end, flushed, cleared if asked
//!   open ────────────────────────────────────────┴────────────────────────────────────> under maintenance
//!        <───────────────────────────────────────┴───────────────────────────────────── end, or the deadline
//! ```
//!
//! Beginning and ending take turns up to the line; what is behind it may wait for a disk or for Redis, and nobody who ends or looks waits
//! for that. Each part of it has a bound, and is left out where the maintenance it was for has ended meanwhile.
//!
//! It is of this server alone: others that share its Redis go on, so a fleet is asked one by one. Reads are answered and
//! invalidations taken all the while ([`Larder::close_writes`] has the particulars).
//!
//! The deadline is counted by a clock that nobody sets. A restart does not end the maintenance where there is a data folder: what is
//! written down there says how long it was to be and until when, and what is left by the wall clock, at most that long, is left. Without
//! a folder a restart ends it.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder::events::{Event, Registration};
use larder::{Larder, Names};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::config::units::{TIME_EXPECTED, parse_time, show_time};
use crate::history::wall_ms;
use file::Written;

mod file;

/// How long it lasts where nobody says.
pub const USUAL: Duration = Duration::from_secs(3_600);

/// The longest that can be asked for at once: who is away for longer asks again.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// How long writes under way are waited for.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long bringing to the disk what was written may take, and invalidating everything: a disk that hangs must not have whoever asked
/// wait for ever.
const CACHE_MAX: Duration = Duration::from_secs(30);

/// Events that are remembered: one that is delivered again comes soon, and is none of many.
const EVENTS_MAX: usize = 256;

/// Bytes of a reason.
const REASON_LEN_MAX: usize = 1_024;

/// The event that begins and ends it, where its data have a mode.
pub const EVENT: &str = "system_maintenance";

/// See the head of this file.
pub struct Maintenance {
    larder: Larder,
    file: Option<PathBuf>,
    /// Whoever has it begins or ends it, which is a matter of one file. Taken before `now` and `events`, which are taken one at a time.
    turn: tokio::sync::Mutex<u64>,
    /// How often somebody has ended it.
    ended: AtomicU64,
    now: Mutex<Option<Window>>,
    events: Mutex<VecDeque<Heard>>,
    timer: Mutex<Option<AbortHandle>>,
    handler: Mutex<Option<Registration>>,
}

/// A stretch of maintenance.
#[derive(Clone, Debug)]
struct Window {
    /// The how many-th it is. It stays when it is put off.
    stretch: u64,
    written: Written,
    until: Instant,
    cleared: bool,
    under_way: u64,
}

/// An event that was obeyed.
struct Heard {
    mark: String,
    /// The stretch for which not everything could be done yet.
    left_over: Option<u64>,
}

/// What there is to do about an event.
enum Hearing {
    New,
    /// It was obeyed, but for what is to be done behind the line for this stretch.
    LeftOver(u64),
    Done,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How long, up to [`LONGEST`].
    pub length: Duration,
    /// Whether everything is invalidated once no write is under way any more.
    pub clear: bool,
    /// Why, for who sees it.
    pub reason: String,
}

impl Default for Asked {
    fn default() -> Self {
        Asked { length: USUAL, clear: false, reason: String::new() }
    }
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether this server is under maintenance.
    pub on: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// When it comes back by itself.
    pub until_ms: Option<u64>,
    /// How long until then, in milliseconds, by a clock that nobody sets.
    pub left_ms: Option<u64>,
    /// Who asked for it; empty where nobody has to say who they are.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Whether everything was invalidated when it began.
    pub cleared: bool,
    /// Writes that were let in before, and have not ended.
    pub writes_under_way: u64,
}

/// Why it was not begun or ended as asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The time is none that can be asked for.
    Length(Duration),
    /// The reason is too long.
    Reason,
    /// What an event says is not understood.
    Event(String),
    /// It cannot be written down, so that a restart would not know of it. It was not begun; what was to be ended has ended.
    File(PathBuf, std::io::Error),
    /// It has begun, and what was written could not be brought to the disk, or not everything could be invalidated.
    Cache(larder::Error),
    /// The same, in the time that there is for it. It may still come to its end.
    Late(&'static str),
    /// It was ended before it had begun: writing it down took that long.
    Ended,
}

impl fmt::Display for MaintenanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaintenanceError::Length(length) => {
                write!(f, "maintenance lasts from a second to {}, not {}", show_time(LONGEST), show_time(*length))
            }
            MaintenanceError::Reason => write!(f, "the reason has at most {REASON_LEN_MAX} bytes, and no control characters"),
            MaintenanceError::Event(what) => write!(f, "the event {EVENT} cannot be carried out: {what}"),
            MaintenanceError::File(path, error) => write!(f, "maintenance cannot be written down in {}: {error}", path.display()),
            MaintenanceError::Cache(error) => {
                write!(f, "maintenance has begun, but not everything could be done for it: {error}")
            }
            MaintenanceError::Ended => write!(f, "maintenance was ended before it could be written down, and has not begun"),
            MaintenanceError::Late(what) => {
                write!(f, "maintenance has begun, but {what} took longer than {}, and may go on", show_time(CACHE_MAX))
            }
        }
    }
}

impl std::error::Error for MaintenanceError {}

impl Asked {
    fn check(&self) -> Result<(), MaintenanceError> {
        if self.length < Duration::from_secs(1) || self.length > LONGEST {
            return Err(MaintenanceError::Length(self.length));
        }
        if self.reason.len() > REASON_LEN_MAX || self.reason.chars().any(char::is_control) {
            return Err(MaintenanceError::Reason);
        }
        Ok(())
    }
}

/// What the data of an event ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing of this: it is for the rules alone.
    Nothing,
    /// To begin.
    On(Asked),
    /// To end.
    Off,
}

impl Told {
    /// Reads the data of an event of the type [`EVENT`].
    ///
    /// # Errors
    /// For a mode, time, or reason that is none.
    pub fn of(data: &Json) -> Result<Told, MaintenanceError> {
        let bad = |what: &str| MaintenanceError::Event(what.to_owned());
        match data.get("mode").map(|mode| mode.as_str()) {
            None => Ok(Told::Nothing),
            Some(Some("off")) => Ok(Told::Off),
            Some(Some("on")) => {
                let length = match data.get("for") {
                    None => USUAL,
                    Some(text) => text.as_str().and_then(parse_time).ok_or_else(|| bad(&format!("\"for\" is none of {TIME_EXPECTED}")))?,
                };
                let clear = data.get("clear").map_or(Some(false), Json::as_bool).ok_or_else(|| bad("\"clear\" is true or false"))?;
                let reason = data.get("reason").map_or(Some(""), Json::as_str).ok_or_else(|| bad("\"reason\" is a text"))?;
                // What is about one namespace is cleared by its rule; here everything would go.
                let clear = clear && data.get("scope").is_none();
                let asked = Asked { length, clear, reason: reason.to_owned() };
                asked.check().map(|()| Told::On(asked))
            }
            Some(_) => Err(bad("\"mode\" is \"on\" or \"off\"")),
        }
    }
}

impl Maintenance {
    /// Takes up what a server before this one left, and listens to events from here on.
    pub fn open(larder: &Larder, file: Option<PathBuf>) -> Arc<Self> {
        let maintenance = Arc::new(Maintenance {
            larder: larder.clone(),
            file,
            turn: tokio::sync::Mutex::default(),
            ended: AtomicU64::new(0),
            now: Mutex::default(),
            events: Mutex::default(),
            timer: Mutex::default(),
            handler: Mutex::default(),
        });
        if let Some(written) = maintenance.file.as_deref().and_then(file::left_behind) {
            let left = written.left(wall_ms());
            tracing::warn!(left = %show_time(left), reason = written.reason, "the server is still under maintenance, and takes no writes");
            // Whether everything was done for it is not known, so it is done once more if the event is delivered again.
            maintenance.events.lock().extend(written.event.clone().map(|mark| Heard { mark, left_over: Some(0) }));
            maintenance.set(Window { stretch: 0, written, until: Instant::now() + left, cleared: false, under_way: 0 });
        }
        let weak = Arc::downgrade(&maintenance);
        let registration = larder.on(EVENT, move |event: Arc<Event>| {
            let weak = weak.clone();
            async move { obey(&weak, &event).await }
        });
        *maintenance.handler.lock() = Some(registration);
        maintenance
    }

    /// Begins it, or goes on with it as is asked for now. Returns when no write is under way any more, or the time for them is over, and
    /// what was written is on the disk, and invalidated if that was asked for.
    ///
    /// # Errors
    /// See [`MaintenanceError`].
    pub async fn begin(self: &Arc<Self>, asked: Asked, by: &str) -> Result<Standing, MaintenanceError> {
        self.begin_for(asked, by, None).await
    }

    async fn begin_for(self: &Arc<Self>, asked: Asked, by: &str, event: Option<String>) -> Result<Standing, MaintenanceError> {
        asked.check()?;
        // In a task of its own: a client that goes away must not leave it half begun.
        let (own, by) = (self.clone(), by.to_owned());
        let begun = tokio::spawn(async move { own.begin_whole(asked, by, event).await }).await;
        begun.unwrap_or_else(|_| Err(MaintenanceError::Event("it panicked, which is a fault of larder".to_owned())))
    }

    async fn begin_whole(self: &Arc<Self>, asked: Asked, by: String, event: Option<String>) -> Result<Standing, MaintenanceError> {
        let clear = asked.clear;
        let Some(stretch) = self.refuse(asked, by, event.as_deref()).await? else { return Ok(self.standing()) };
        let flushed = self.bring_to_rest(stretch).await;
        let cleared = if clear && (self.is_on(stretch) || event.is_some()) { self.clear(stretch).await } else { Ok(()) };
        let Some(mark) = event else { return flushed.and(cleared).map(|()| self.standing()) };
        // Delivered again it is not begun again, but what it wants invalidated is, until that succeeded.
        let left_over = cleared.is_err().then_some(stretch);
        self.events.lock().iter_mut().filter(|heard| heard.mark == mark).for_each(|heard| heard.left_over = left_over);
        if let Err(error) = flushed {
            // It goes on by itself. The next event of the partition, which may be the one that ends all this, is not to wait for it again.
            tracing::warn!(%error, "maintenance was begun by an event");
        }
        cleared.map(|()| self.standing())
    }

    /// Up to the line. Nothing is left to do for an event that was obeyed.
    async fn refuse(self: &Arc<Self>, asked: Asked, by: String, event: Option<&str>) -> Result<Option<u64>, MaintenanceError> {
        let mut turn = self.turn.lock().await;
        match self.hear(event) {
            Hearing::New => {}
            Hearing::Done => return Ok(None),
            // Also where that is over: it was told that everything is to be invalidated, and nothing was.
            Hearing::LeftOver(stretch) => return Ok(Some(stretch)),
        }
        let ended = self.ended.load(SeqCst);
        let now_ms = wall_ms();
        let length_ms = u64::try_from(asked.length.as_millis()).unwrap_or(u64::MAX);
        let before = self.now.lock().clone();
        let since_ms = before.as_ref().map_or(now_ms, |window| window.written.since_ms);
        let event = event.map(str::to_owned);
        let begun_by = event.clone().or_else(|| before.as_ref().and_then(|window| window.written.event.clone()));
        let written = Written {
            version: file::VERSION,
            since_ms,
            until_ms: now_ms + length_ms,
            length_ms,
            by,
            reason: asked.reason,
            event: begun_by,
        };
        // First: what a restart would not know of has not begun.
        if let Err(error) = self.write(Some(&written)).await {
            // It may stand there all the same, if the disk failed late.
            if let Err(again) = self.write(before.as_ref().map(|window| &window.written)).await {
                tracing::error!(error = %again, "a restart may find the server under maintenance");
            }
            return Err(error);
        }
        if self.ended.load(SeqCst) != ended {
            // Somebody had waited for the disk to end it.
            self.write(None).await?;
            return Err(MaintenanceError::Ended);
        }
        tracing::warn!(by = written.by, reason = written.reason, until = %show_time(asked.length), "maintenance begins: writes are refused");
        let stretch = before.as_ref().map_or_else(|| *turn + 1, |window| window.stretch);
        *turn = stretch;
        let (cleared, under_way) = before.map_or((false, 0), |window| (window.cleared, window.under_way));
        self.set(Window { stretch, written, until: Instant::now() + asked.length, cleared, under_way });
        self.heard(event);
        Ok(Some(stretch))
    }

    /// Behind the line, for as long as it is on.
    async fn bring_to_rest(&self, stretch: u64) -> Result<(), MaintenanceError> {
        if !self.is_on(stretch) {
            return Ok(());
        }
        let under_way = self.larder.writes_drained(DRAIN_MAX).await;
        if !self.change(stretch, |window| window.under_way = under_way) {
            return Ok(());
        }
        in_time("bringing what was written to the disk", self.larder.flush()).await
    }

    async fn clear(&self, stretch: u64) -> Result<(), MaintenanceError> {
        let cleared = in_time("invalidating everything", self.larder.invalidate(Names::new().everything())).await;
        self.change(stretch, |window| window.cleared |= cleared.is_ok());
        cleared
    }

    fn is_on(&self, stretch: u64) -> bool {
        self.now.lock().as_ref().is_some_and(|window| window.stretch == stretch)
    }

    /// Changes what is known of a stretch, if it is on.
    fn change(&self, stretch: u64, change: impl FnOnce(&mut Window)) -> bool {
        self.now.lock().as_mut().filter(|window| window.stretch == stretch).map(change).is_some()
    }

    fn hear(&self, event: Option<&str>) -> Hearing {
        let events = self.events.lock();
        match events.iter().find(|heard| Some(heard.mark.as_str()) == event) {
            None => Hearing::New,
            Some(Heard { left_over: Some(stretch), .. }) => Hearing::LeftOver(*stretch),
            Some(_) => Hearing::Done,
        }
    }

    /// Remembers an event that is obeyed. Only then: one that could not be is delivered again, and must be heard.
    fn heard(&self, event: Option<String>) {
        let mut events = self.events.lock();
        events.extend(event.map(|mark| Heard { mark, left_over: None }));
        while events.len() > EVENTS_MAX {
            events.pop_front();
        }
    }

    /// Ends it, if it is on.
    ///
    /// # Errors
    /// [`MaintenanceError::File`] where a restart would begin it anew; it has ended all the same.
    pub async fn end(self: &Arc<Self>) -> Result<Standing, MaintenanceError> {
        self.end_for(None).await
    }

    async fn end_for(self: &Arc<Self>, event: Option<String>) -> Result<Standing, MaintenanceError> {
        // In a task of its own, as its beginning.
        let own = self.clone();
        let ended = tokio::spawn(async move { own.end_whole(event).await }).await;
        ended.unwrap_or_else(|_| Err(MaintenanceError::Event("it panicked, which is a fault of larder".to_owned())))
    }

    async fn end_whole(&self, event: Option<String>) -> Result<Standing, MaintenanceError> {
        // Delivered again it must not end what began after it.
        if matches!(self.hear(event.as_deref()), Hearing::New) {
            // Before its turn: who has it may wait for a disk, and is not to begin when that comes back.
            self.ended.fetch_add(1, SeqCst);
            self.open_writes("as asked", |_| true);
            let _turn = self.turn.lock().await;
            // And with it: others may have had theirs before, who had asked before.
            self.open_writes("as asked", |_| true);
            self.heard(event);
            self.write(None).await?;
        } else {
            let _turn = self.turn.lock().await;
            // Removing what is written down may have failed.
            if self.now.lock().is_none() {
                self.write(None).await?;
            }
        }
        Ok(self.standing())
    }

    /// Writes are taken again, if what is on is over; whatever a disk says of what is written down.
    fn open_writes(&self, why: &str, is_over: impl FnOnce(&Window) -> bool) {
        let mut now = self.now.lock();
        if now.take_if(|window| is_over(window)).is_some() {
            // Under the lock: what begins at once is not to be opened.
            self.larder.open_writes();
            tracing::warn!(why, "maintenance ends: writes are taken again");
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let Some(Window { written, until, cleared, under_way, .. }) = self.now.lock().clone() else { return Standing::default() };
        let left = until.saturating_duration_since(Instant::now());
        Standing {
            on: true,
            since_ms: Some(written.since_ms),
            until_ms: Some(written.until_ms),
            left_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            by: Some(written.by),
            reason: Some(written.reason),
            cleared,
            writes_under_way: under_way.min(self.larder.writes_under_way()),
        }
    }

    /// Has it stand so, until its deadline.
    fn set(self: &Arc<Self>, window: Window) {
        let (until, weak) = (window.until, Arc::downgrade(self));
        {
            let mut now = self.now.lock();
            *now = Some(window);
            self.larder.refuse_writes();
        }
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            let Some(maintenance) = weak.upgrade() else { return };
            // Somebody may have put it off; who has the turn may wait for a disk for longer than this is to last.
            maintenance.open_writes("its time is over", |window| window.until <= Instant::now());
            let _turn = maintenance.turn.lock().await;
            let is_on = maintenance.now.lock().is_some();
            if !is_on && let Err(error) = maintenance.write(None).await {
                tracing::error!(%error, "a restart may find the server under maintenance");
            }
        });
        if let Some(before) = self.timer.lock().replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// On a thread that may wait for the disk.
    async fn write(&self, written: Option<&Written>) -> Result<(), MaintenanceError> {
        let Some(path) = self.file.clone() else { return Ok(()) };
        let written = written.cloned();
        let writing = tokio::task::spawn_blocking(move || {
            let outcome = written.map_or_else(|| file::remove(&path), |written| file::replace(&path, &written));
            outcome.map_err(|error| MaintenanceError::File(path, error))
        });
        writing.await.unwrap_or_else(|_| Err(MaintenanceError::Event("the runtime was shut down before it was written down".to_owned())))
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.get_mut().take() {
            timer.abort();
        }
        if let Some(handler) = self.handler.get_mut().take() {
            handler.remove();
        }
    }
}

/// Behind the line: what it does, for [`CACHE_MAX`] at most.
async fn in_time<T>(what: &'static str, doing: impl Future<Output = larder::Result<T>>) -> Result<(), MaintenanceError> {
    match timeout(CACHE_MAX, doing).await {
        Ok(done) => done.map(drop).map_err(MaintenanceError::Cache),
        Err(_) => Err(MaintenanceError::Late(what)),
    }
}

/// Whether an event would have the server begin or end maintenance, rightly put or not.
pub fn is_command(event: &Event) -> bool {
    event.kind() == EVENT && event.data().get("mode").is_some()
}

/// What an event says. Its right to say so was looked at where it came in.
async fn obey(weak: &Weak<Maintenance>, event: &Event) -> Result<(), MaintenanceError> {
    let Some(maintenance) = weak.upgrade() else { return Ok(()) };
    // What an event is known by, as CloudEvents has it. A source is a URI, and has no space.
    let mark = Some(format!("{} {}", event.source(), event.id()));
    match Told::of(event.data())? {
        Told::Nothing => Ok(()),
        Told::On(asked) => maintenance.begin_for(asked, event.source(), mark).await.map(drop),
        Told::Off => maintenance.end_for(mark).await.map(drop),
    }
}

#[cfg(test)]
mod tests;
