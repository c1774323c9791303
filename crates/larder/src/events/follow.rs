//! Following a source: what it delivers is carried out, and acknowledged when that is in the log.
//!
//! ```text
//!   source --fetch--> lanes: one of a partition at a time, so many side by side --emit--> log
//!      ^   <-----------------acknowledge, when the append is done------------------------'
//!      |
//!      '-- not asked for more while as many are under way as may be: that slows it, and drops nothing
//! ```
//!
//! An event that the log cannot take now is tried again until it can, and those behind it in its partition wait. One that cannot
//! be understood is a dead letter, and acknowledged. Where the source may have lost something, all that it covers is invalidated
//! before it goes on. One task does all this; it ends when it is stopped, with the cache, or with its last handle.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use super::event::{self, Event};
use super::source::{Delivery, Fetched, Source};
use crate::cache::{Larder, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::invalidations::InvalidationOrigin;
use crate::name::Names;
use lanes::{Lanes, Partition};

mod lanes;
#[cfg(test)]
mod tests;

/// Pauses after a failure: short at first, since most interruptions are.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long to wait for what others appended to a shared log before this instance took the source over. Without it an event that
/// they carried out may take effect twice.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// How a source is followed.
#[derive(Clone, Debug)]
#[must_use]
pub struct FollowOptions {
    covers: Names,
    queue: usize,
    parallel: usize,
}

impl Default for FollowOptions {
    fn default() -> Self {
        FollowOptions { covers: Names::new().everything(), queue: 1_024, parallel: 64 }
    }
}

impl FollowOptions {
    /// What is invalidated when the source may have lost events: all that its events could be about. Default: everything.
    pub fn covers(mut self, names: Names) -> Self {
        self.covers = names;
        self
    }

    /// How many events may be under way or wait here. The source is not asked for more. Default 1,024.
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events;
        self
    }

    /// How many partitions are served side by side. Default 64.
    pub fn parallel(mut self, partitions: usize) -> Self {
        self.parallel = partitions;
        self
    }

    /// Whether they make sense.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], or the error of a name, if not.
    pub fn check(&self) -> Result<()> {
        self.covers.clone().check()?;
        if self.covers.is_empty() || self.queue == 0 || self.parallel == 0 {
            let message = "a source covers something, and at least one event of it is under way at a time";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        Ok(())
    }
}

/// What a followed source did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStats {
    /// What it is called.
    pub name: String,
    /// Whether it answers.
    pub connected: bool,
    /// Whether another instance follows it, and this one would take its place.
    pub standby: bool,
    /// Whether following it has ended.
    pub ended: bool,
    /// Why it is not connected, or what keeps its events from taking effect.
    pub trouble: Option<String>,
    /// Events that it delivered.
    pub received: u64,
    /// Events that were acknowledged: they took effect, or are dead letters.
    pub acknowledged: u64,
    /// Of these, how many had taken effect before.
    pub duplicates: u64,
    /// Of these, how many could not be understood, and are dead letters.
    pub dead: u64,
    /// How often an event was tried again, because the log could not take it.
    pub retries: u64,
    /// How often all that it covers was invalidated, because events may have been lost. The first time that it is followed is one.
    pub gaps: u64,
    /// How often it was connected.
    pub connects: u64,
    /// Events that wait here, or are being carried out.
    pub under_way: u64,
}

/// A source that is being followed. It goes on when this is dropped.
#[derive(Clone)]
pub struct Following(Arc<Progress>);

/// What the task and its handles share.
pub(super) struct Progress {
    name: String,
    connected: AtomicBool,
    standby: AtomicBool,
    trouble: parking_lot::Mutex<Option<String>>,
    received: AtomicU64,
    acknowledged: AtomicU64,
    duplicates: AtomicU64,
    dead: AtomicU64,
    retries: AtomicU64,
    gaps: AtomicU64,
    connects: AtomicU64,
    under_way: AtomicU64,
    stop: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl Following {
    /// Its state, and what it did so far.
    pub fn stats(&self) -> SourceStats {
        self.0.stats()
    }

    /// Stops following, and returns when that has ended. What was not acknowledged is delivered again to who follows the source
    /// next.
    pub async fn stop(&self) {
        self.0.stop().await;
    }
}

impl Progress {
    fn new(name: String) -> Self {
        Progress {
            name,
            connected: AtomicBool::new(false),
            standby: AtomicBool::new(false),
            trouble: parking_lot::Mutex::new(None),
            received: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            stop: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn stats(&self) -> SourceStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ended = *self.ended.borrow();
        SourceStats {
            name: self.name.clone(),
            connected: self.connected.load(Ordering::Relaxed) && !ended,
            standby: self.standby.load(Ordering::Relaxed) && !ended,
            ended,
            trouble: self.trouble.lock().clone(),
            received: count(&self.received),
            acknowledged: count(&self.acknowledged),
            duplicates: count(&self.duplicates),
            dead: count(&self.dead),
            retries: count(&self.retries),
            gaps: count(&self.gaps),
            connects: count(&self.connects),
            under_way: count(&self.under_way),
        }
    }

    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.subscribe();
        ended.wait_for(|ended| *ended).await.expect("the sender lives as long as this");
    }

    fn troubled(&self, why: &dyn std::fmt::Display) {
        *self.trouble.lock() = Some(why.to_string());
    }
}

impl Larder {
    /// Carries out the events of a source, from now on and whatever happens to it: each at least once, in order per partition. See
    /// [`FollowOptions`] for what it covers and how much is under way.
    ///
    /// # Panics
    /// Outside a tokio runtime, if the cache has none of its own.
    pub fn follow(&self, source: impl Source) -> Following {
        self.follow_as(source, FollowOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] or the error of a name, if they make no sense.
    pub fn follow_with(&self, source: impl Source, options: FollowOptions) -> Result<Following> {
        options.check()?;
        Ok(self.follow_as(source, options))
    }

    /// All sources that were followed, in that order.
    pub fn sources(&self) -> Vec<SourceStats> {
        self.0.events.following.lock().iter().map(|progress| progress.stats()).collect()
    }

    fn follow_as<S: Source>(&self, source: S, options: FollowOptions) -> Following {
        let progress = Arc::new(Progress::new(source.name()));
        self.0.events.following.lock().push(progress.clone());
        let follower = Follower {
            shared: Arc::downgrade(&self.0),
            source,
            lanes: Lanes::new(options.parallel),
            options,
            running: JoinSet::new(),
            done: Vec::new(),
            known: HashSet::new(),
            _ends: Ends(progress.clone()),
            progress: progress.clone(),
        };
        self.0.runtime.spawn(follower.run());
        Following(progress)
    }
}

/// The task that follows a source.
struct Follower<S: Source> {
    shared: Weak<Shared>,
    source: S,
    options: FollowOptions,
    lanes: Lanes<Work<S::Token>>,
    running: JoinSet<Carried<S::Token>>,
    /// What took effect and is not acknowledged yet.
    done: Vec<S::Token>,
    /// Delivered, and not acknowledged. What is delivered again meanwhile is here already.
    known: HashSet<S::Token>,
    progress: Arc<Progress>,
    /// Dropped with the task, also where that was never begun.
    _ends: Ends,
}

/// A delivery, and what it turned out to be.
struct Work<T> {
    token: T,
    text: Vec<u8>,
    event: Result<Event>,
}

/// A delivery that was carried out.
struct Carried<T> {
    partition: Partition,
    token: T,
    /// False: the cache is closed.
    done: bool,
}

/// Says that following has ended, however it did.
struct Ends(Arc<Progress>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
    }
}

async fn until_stopped(stop: &mut watch::Receiver<bool>) {
    // An error is the end of the sender, who lives as long as the task.
    drop(stop.wait_for(|stop| *stop).await);
}

impl<S: Source> Follower<S> {
    async fn run(mut self) {
        let mut stop = self.progress.stop.subscribe();
        let mut pause = Pause::default();
        loop {
            let error = tokio::select! {
                () = until_stopped(&mut stop) => None,
                outcome = self.follow(&mut pause) => match outcome {
                    Err(error) => Some(error).filter(|error| error.kind() != ErrorKind::Closed),
                    Ok(never) => match never {},
                },
            };
            let Some(error) = error else { return self.source.close().await };
            self.progress.connected.store(false, Ordering::Relaxed);
            self.progress.troubled(&error);
            tracing::debug!(source = self.progress.name, %error, "a source of events failed, and is opened again");
            tokio::select! {
                () = until_stopped(&mut stop) => return,
                () = pause.wait() => {}
            }
        }
    }

    /// Until something is wrong.
    async fn follow(&mut self, pause: &mut Pause) -> Result<std::convert::Infallible> {
        self.source.open().await?;
        self.progress.connects.fetch_add(1, Ordering::Relaxed);
        self.progress.connected.store(true, Ordering::Relaxed);
        *self.progress.trouble.lock() = None;
        // Whether it may have more, and whether all is here that others carried out before this instance took it over.
        let (mut ask, mut caught_up) = (true, false);
        loop {
            while let Some(carried) = self.running.try_join_next() {
                self.note(carried)?;
            }
            if self.acknowledge().await? {
                *pause = Pause::default();
            }
            self.start();
            let room = self.options.queue.saturating_sub(self.lanes.len());
            if ask && room > 0 {
                match self.source.fetch(room).await? {
                    Fetched::Deliveries(deliveries) => {
                        *pause = Pause::default();
                        self.progress.standby.store(false, Ordering::Relaxed);
                        if !caught_up {
                            self.shared()?.0.caught_up(CATCH_UP_MAX).await;
                            caught_up = true;
                        }
                        ask = !deliveries.is_empty();
                        deliveries.into_iter().for_each(|delivery| self.take(delivery));
                    }
                    Fetched::Gap(why) => {
                        self.make_good(&why).await?;
                        self.source.resume().await?;
                    }
                    Fetched::Standby => {
                        self.progress.standby.store(true, Ordering::Relaxed);
                        (ask, caught_up) = (false, false);
                    }
                }
                continue;
            }
            self.shared()?;
            let Self { running, source, .. } = self;
            tokio::select! {
                Some(carried) = running.join_next(), if !running.is_empty() => self.note(carried)?,
                outcome = source.wait(), if !ask => {
                    outcome?;
                    ask = true;
                }
            }
        }
    }

    /// The cache, while anybody has it.
    fn shared(&self) -> Result<Larder> {
        self.shared.upgrade().map(Larder).ok_or_else(|| Error::new(ErrorKind::Closed, "the last handle of the cache is gone"))
    }

    fn take(&mut self, delivery: Delivery<S::Token>) {
        let Delivery { token, text, partition } = delivery;
        if !self.known.insert(token.clone()) {
            return;
        }
        self.progress.received.fetch_add(1, Ordering::Relaxed);
        let json = serde_json::from_slice::<Json>(&text).map_err(|error| event::invalid(format!("an event is JSON: {error}")));
        let event = json.and_then(Event::from_json);
        let partition = match (&partition, &event) {
            (Some(partition), _) => xxh3_64(partition.as_bytes()),
            // The length between them, so that no other pair reads the same.
            (None, Ok(event)) => {
                let length = (event.source().len() as u64).to_le_bytes();
                xxh3_64(&[&length, event.source().as_bytes(), event.subject().unwrap_or_default().as_bytes()].concat())
            }
            (None, Err(_)) => 0,
        };
        self.lanes.push(partition, Work { token, text, event });
    }

    fn start(&mut self) {
        while let Some((partition, work)) = self.lanes.start() {
            let (weak, progress) = (self.shared.clone(), self.progress.clone());
            self.running.spawn(async move {
                let done = carry_out(&weak, &work.event, &work.text, &progress).await;
                Carried { partition, token: work.token, done }
            });
        }
        self.progress.under_way.store(self.lanes.len() as u64, Ordering::Relaxed);
    }

    fn note(&mut self, carried: std::result::Result<Carried<S::Token>, tokio::task::JoinError>) -> Result<()> {
        let closed = || Error::new(ErrorKind::Closed, "the cache was closed");
        let carried = carried.ok().filter(|carried| carried.done).ok_or_else(closed)?;
        self.lanes.finish(carried.partition);
        self.done.push(carried.token);
        Ok(())
    }

    /// False if there was nothing to acknowledge.
    async fn acknowledge(&mut self) -> Result<bool> {
        let any = !self.done.is_empty();
        if any {
            self.source.acknowledge(&self.done).await?;
            self.progress.acknowledged.fetch_add(self.done.len() as u64, Ordering::Relaxed);
            for token in self.done.drain(..) {
                self.known.remove(&token);
            }
        }
        Ok(any)
    }

    /// Events may have been lost: whatever they were about is invalidated.
    async fn make_good(&mut self, why: &str) -> Result<()> {
        tracing::warn!(source = self.progress.name, why, "events may have been lost: all that their source covers is invalidated");
        let mut pause = Pause::default();
        loop {
            match self.shared()?.invalidate_for(self.options.covers.clone(), Vec::new(), InvalidationOrigin::Event).await {
                Ok(receipt) if !receipt.is_queued() => break,
                Ok(_) => self.progress.troubled(&"the log cannot be reached to invalidate what a source covers"),
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => self.progress.troubled(&error),
            }
            pause.wait().await;
        }
        *self.progress.trouble.lock() = None;
        self.progress.gaps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Until it took effect, and is more than queued. False, if the cache is closed before.
async fn carry_out(weak: &Weak<Shared>, event: &Result<Event>, text: &[u8], progress: &Progress) -> bool {
    let (mut pause, mut tried_again) = (Pause::default(), false);
    loop {
        let Some(larder) = weak.upgrade().map(Larder) else { return false };
        let outcome = match event {
            Ok(event) => larder.emit_from(event.clone(), progress.name.clone()).await,
            Err(error) => Err(error.clone()),
        };
        let why = match outcome {
            Ok(emitted) if !emitted.queued => {
                progress.duplicates.fetch_add(u64::from(emitted.duplicate), Ordering::Relaxed);
                if tried_again {
                    *progress.trouble.lock() = None;
                }
                return true;
            }
            Ok(_) => "the log cannot be reached; what its events change takes effect here alone".to_owned(),
            Err(error) if is_the_events_fault(&error) => {
                // As it came, where it is no event.
                let json = event.as_ref().map_or_else(|_| String::from_utf8_lossy(text).into_owned().into(), Event::to_json);
                larder.keep_dead_letter(json, &error.to_string()).await;
                progress.dead.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Closed => return false,
            Err(error) => error.to_string(),
        };
        progress.troubled(&why);
        progress.retries.fetch_add(1, Ordering::Relaxed);
        tried_again = true;
        drop(larder);
        pause.wait().await;
    }
}

/// Whether it will be the same however often it is tried.
fn is_the_events_fault(error: &Error) -> bool {
    use ErrorKind::{InvalidConfig, InvalidEvent, InvalidKey, InvalidPattern, InvalidTag};
    matches!(error.kind(), InvalidEvent | InvalidKey | InvalidTag | InvalidPattern | InvalidConfig)
}

/// Pauses that grow.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(PAUSE_MIN)
    }
}

impl Pause {
    async fn wait(&mut self) {
        // Not all at the same moment, where one thing made many fail.
        tokio::time::sleep(self.0.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}
