//! The keeper: verifies a server and takes its log up, then follows it until something is wrong.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::redis::Value;
use ::redis::aio::MultiplexedConnection;

use super::encode::{self, Entry};
use super::{Inner, boot_ns, checkpoints, inbox};
use crate::backup::Told;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Snapshot;
use crate::mutation::Mutation;
use crate::position::{Epoch, Position, Stamp};
use crate::remote::link::{Opened, Server, failed};
use crate::remote::{fence_field, reply, script};

/// Pauses between tries to reach a server: short at first, since most interruptions are.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(1_000);

/// The connections that are not followed are asked so often at least whether they still lead anywhere: so they are never idle for long,
/// which something on the way might end, and a loss is seldom found by who needs one.
const WATCH_MAX: Duration = Duration::from_secs(2);

/// A link that lived for so long was a good one.
const LIVED: Duration = Duration::from_secs(1);

/// Rounds of taking the queue and the log up, after which new appends wait for the end of it: where invalidations never end,
/// neither would the rounds.
const ROUNDS_MAX: usize = 2;

/// Records of the stream that one read brings.
const READ_MAX: usize = 512;

/// A read that brought so many positions is one of many. The next one waits a moment, so that a server which is busy with appends is not
/// asked for each group of them by each instance.
const MANY: u64 = 64;
const MOMENT: Duration = Duration::from_millis(1);

/// Until the last handle is gone.
pub(super) async fn run(weak: Weak<Inner>) {
    let mut pause = PAUSE_MIN;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let why = match inner.take_up().await {
            Ok((server, tail, inbox)) => {
                let began = Instant::now();
                let _inbox = Ends(tokio::spawn(inbox::run(weak.clone(), inbox.clone())).abort_handle());
                // Ends by itself, and not in the middle of one: what there is of it would be left behind.
                tokio::spawn(checkpoints::run(weak.clone(), server.clone()));
                let why = inner.follow(&server, tail, inbox).await;
                // The link first: where the gate is closed nothing may still be appended.
                inner.link.fail(&server, &why);
                // A server that is lost as soon as it is found must not be asked thirty times a second.
                if began.elapsed() > LIVED {
                    pause = PAUSE_MIN;
                }
                why
            }
            Err(error) => error,
        };
        inner.close_gate();
        tracing::debug!(error = %why, "the log in Redis cannot be followed now; it will be taken up anew");
        *inner.trouble.lock() = Some(why.to_string());
        drop(inner);
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Inner {
    /// From here on, what cannot wait is queued.
    fn close_gate(&self) {
        let mut queue = self.queue.lock();
        queue.open = false;
        queue.epoch = Epoch::random();
    }

    /// Steps 11 and 10, in the order that keeps anybody from reading what the queue has made stale: verify, append the queue,
    /// take up the log, and only then let the others in.
    async fn take_up(&self) -> Result<(Arc<Server>, MultiplexedConnection, MultiplexedConnection)> {
        let mut opened = self.link.open().await?;
        let fence = fastrand::u64(1..);
        let epoch = self.ensure(&mut opened, fence).await?;
        // In the list of members before it can serve anything: who waits for all must wait for this one, too.
        let joining = self.beat(epoch, super::stamp(0, 0));
        joining.query_async::<Vec<Value>>(&mut opened.tail).await.map_err(failed)?;
        for round in 1.. {
            if round > ROUNDS_MAX {
                self.queue.lock().open = true;
            }
            self.append_queue(&mut opened.append, epoch).await?;
            let asked_ns = boot_ns();
            let same = epoch == self.index.epoch() && self.adopted.load(Ordering::Acquire);
            let snapshot = if same && !self.index.is_provisional() { None } else { Some(self.copy(&opened.tail, epoch).await?) };
            if snapshot.is_some() {
                self.read_marks(&opened.tail).await?;
            }
            let mut queue = self.queue.lock();
            if !queue.names.is_empty() || (snapshot.is_none() && self.index.is_provisional()) {
                continue;
            }
            if let Some(snapshot) = snapshot {
                self.adopt(&snapshot);
                // All that the log had then is here; whether replicas agree is for the tail to find out.
                if self.link.options.replicas == 0 {
                    self.heard_at(asked_ns);
                }
            }
            queue.open = true;
            let (tail, inbox) = (opened.tail.clone(), opened.inbox.clone());
            let server = self.link.publish(opened, epoch, fence);
            drop(queue);
            self.counters.connects.fetch_add(1, Ordering::Relaxed);
            self.told.ring();
            return Ok((server, tail, inbox));
        }
        unreachable!("the rounds only end by taking the log up, or failing to")
    }

    fn adopt(&self, snapshot: &Snapshot) {
        if self.mutations.on(Mutation::EpochNotAdopted) && self.adopted.load(Ordering::Acquire) {
            self.index.relabel(snapshot.epoch);
            return;
        }
        if self.adopted.load(Ordering::Acquire) && self.index.epoch() != snapshot.epoch {
            self.leave_epoch(self.index.epoch());
        }
        self.index.adopt(snapshot);
        self.adopted.store(true, Ordering::Release);
        self.counters.epochs.fetch_add(1, Ordering::Relaxed);
    }

    /// The epoch in force, or a new one where the log was lost or is in doubt.
    async fn ensure(&self, opened: &mut Opened, fence: u64) -> Result<Epoch> {
        let (known_epoch, known_head) = self.known_head();
        let adopted = self.adopted.load(Ordering::Acquire);
        let known = if adopted { known_epoch.0.to_le_bytes().to_vec() } else { Vec::new() };
        let left: Vec<u8> = self.left.lock().iter().flat_map(|epoch| epoch.0.to_le_bytes()).collect();
        let begin = if self.mutations.on(Mutation::LossUnnoticed) && adopted { known_epoch } else { Epoch::random() };
        let known_head = if self.mutations.on(Mutation::LossUnnoticed) { 0 } else { known_head };
        let keys = &self.keys;
        let mut call = script::call(&script::ENSURE, 5);
        call.arg(&keys.meta).arg(&keys.checkpoint).arg(&keys.unfinished).arg(&keys.stream).arg(&keys.members);
        call.arg(&opened.about.identity).arg(&begin.0.to_le_bytes());
        call.arg(known).arg(known_head).arg(left).arg(script::LAYOUT).arg(fence_field(&self.instance)).arg(fence);
        let value = script::run(&mut opened.append, &call).await.map_err(failed)?;
        let mut parts = reply::list(value, "the log")?.into_iter();
        let mut next = || parts.next().ok_or_else(|| reply::unexpected("the log"));
        let outcome = reply::text(next()?, "the log")?;
        if outcome == "version" {
            let message = format!(
                "the log in Redis was written by another version of larder (layout {}); nothing was touched",
                reply::text(next()?, "a version")?
            );
            return Err(Error::new(ErrorKind::UnknownFormat, message));
        }
        let epoch = encode::epoch_of(&reply::bytes(next()?, "an epoch")?).ok_or_else(|| reply::unexpected("an epoch"))?;
        if outcome == "begun" {
            tracing::info!(%epoch, server = %opened.about.version, "a new epoch of the log begins: all entries of older ones are stale");
        }
        // What was timed by another server's clock is of another epoch, too, and stale.
        self.follow_clock(opened, epoch != known_epoch).await?;
        Ok(epoch)
    }

    async fn follow_clock(&self, opened: &mut Opened, anew: bool) -> Result<()> {
        let asked = Instant::now();
        let time = crate::remote::link::query(&mut opened.append, &::redis::cmd("TIME")).await?;
        let ms = reply::time_ms(time)?;
        self.clock.follow(ms + asked.elapsed().as_millis() as u64 / 2, anew);
        Ok(())
    }

    /// What is queued, into the log; as often as there is more.
    async fn append_queue(&self, connection: &mut MultiplexedConnection, epoch: Epoch) -> Result<()> {
        loop {
            let (upto, names) = self.queue.lock().waiting();
            if names.is_empty() {
                return Ok(());
            }
            if !self.append_queued(connection, epoch, &names).await? {
                return Err(Error::of_tier("the log changed while it was taken up"));
            }
            self.queue.lock().remove_up_to(upto);
        }
    }

    /// The events that took effect up to the snapshot that was read before; the tail brings those behind it.
    async fn read_marks(&self, connection: &MultiplexedConnection) -> Result<()> {
        let window = crate::remote::link::query(&mut connection.clone(), ::redis::cmd("GET").arg(&self.keys.marks)).await?;
        self.marks.add(&encode::marks(window));
        Ok(())
    }

    /// Step 2, until something is wrong, here or on another connection. Returns what.
    async fn follow(&self, server: &Arc<Server>, mut tail: MultiplexedConnection, inbox: MultiplexedConnection) -> Error {
        let following = async {
            loop {
                let before = self.index.applied();
                if let Err(error) = self.read_on(&mut tail).await {
                    return error;
                }
                if self.index.applied().seq().saturating_sub(before.seq()) >= MANY {
                    tokio::time::sleep(MOMENT).await;
                }
            }
        };
        tokio::select! {
            error = following => error,
            error = server.until_lost(inbox, WATCH_MAX.min(self.link.options.heartbeat * 10)) => error,
            () = server.until_failed() => Error::of_tier("the server could not be relied on any more"),
        }
    }

    /// Says what was applied, hears what is in force, and waits a heartbeat for more.
    async fn read_on(&self, tail: &mut MultiplexedConnection) -> Result<()> {
        let (generation, epoch) = self.index.era();
        let applied = self.index.applied();
        let (asked_ns, asked) = (boot_ns(), Instant::now());
        let mut both = self.beat(epoch, applied);
        let heartbeat = self.link.options.heartbeat.as_millis() as u64;
        both.cmd("XREAD").arg("COUNT").arg(READ_MAX).arg("BLOCK").arg(heartbeat).arg("STREAMS").arg(&self.keys.stream);
        both.arg(format!("{}-0", applied.seq()));
        let answers: Vec<Value> = match both.query_async(tail).await {
            Err(error) if script::is_unknown(&error) => return script::load(tail).await.map_err(failed),
            answers => answers.map_err(failed)?,
        };
        let mut answers = answers.into_iter();
        let mut next = || answers.next().ok_or_else(|| reply::unexpected("the heartbeat"));
        let [in_force, head, ms, hold, unsaid] = reply::exactly(next()?, "the heartbeat")?;
        let replicas = if self.link.options.replicas > 0 { reply::number(next()?, "WAIT")? as usize } else { 0 };
        let (head, ms) = (reply::number(head, "the log's head")?, reply::number(ms, "TIME")?);
        if encode::epoch_of(&reply::bytes(in_force, "an epoch")?) != Some(epoch) {
            return Err(Error::of_tier("another epoch of the log is in force"));
        }
        self.clock.follow(ms + asked.elapsed().as_millis() as u64, false);
        self.is_held.store(reply::number(hold, "a hold")? != 0, Ordering::Relaxed);
        if reply::number(unsaid, "whether it was noted")? != 0 {
            self.unsaid.store(asked_ns, Ordering::Relaxed);
        }
        let entries = encode::entries(next()?)?;
        self.apply(tail, generation, epoch, entries, head).await?;
        if self.index.applied().seq() >= head && replicas >= self.link.options.replicas {
            self.heard_at(asked_ns);
        }
        self.told.ring();
        Ok(())
    }

    fn beat(&self, epoch: Epoch, applied: Stamp) -> ::redis::Pipeline {
        let mut pipeline = ::redis::pipe();
        let mut beat = script::call(&script::BEAT, 4);
        beat.arg(&self.keys.meta).arg(&self.keys.checkpoint).arg(&self.keys.stream).arg(&self.keys.members).arg(&self.instance);
        beat.arg(epoch.to_string()).arg(applied.seq());
        pipeline.add_command(beat);
        if self.link.options.replicas > 0 {
            // A replica that was promoted follows this server no more, so that a server that was deposed is not believed.
            pipeline.cmd("WAIT").arg(self.link.options.replicas).arg(self.link.options.heartbeat.as_millis() as u64);
        }
        pipeline
    }

    /// Enters what came, in order. Where something between is missing, the stream was trimmed past us: a snapshot has it.
    async fn apply(&self, tail: &mut MultiplexedConnection, generation: u32, epoch: Epoch, entries: Vec<Entry>, head: u64) -> Result<()> {
        let now = Instant::now();
        self.peers.settle(now);
        for entry in entries {
            let next = self.index.applied().seq() + 1;
            if entry.first > next {
                return self.resync(tail, epoch).await;
            }
            // Own appends that nobody's stood before are in the index already.
            if self.known.lock().has(generation, entry.last) && self.index.apply(&[], super::stamp(generation, entry.last)) {
                continue;
            }
            for (seq, names) in (entry.first..).zip(entry.appends()?).filter(|(seq, _)| *seq >= next) {
                if !self.index.apply(&names, super::stamp(generation, seq)) {
                    return Err(Error::of_tier("positions were made up here meanwhile"));
                }
                for told in names.iter().filter_map(Told::by) {
                    match told {
                        Told::Seen => self.index.notices.lost(),
                        Told::Replaced => self.replaced.notify_one(),
                    }
                }
                if !self.peers.brought(generation, seq, &names, now) {
                    self.index.notices.tell(&names, || Some(Position { epoch, seq }), None);
                }
            }
            self.marks.add(&entry.marks);
        }
        if self.index.applied().seq() < head { self.resync_if_missing(tail, epoch, head).await } else { Ok(()) }
    }

    /// The log was further than what came: either there is more to read, or it is not in the stream.
    async fn resync_if_missing(&self, tail: &mut MultiplexedConnection, epoch: Epoch, head: u64) -> Result<()> {
        let applied = self.index.applied().seq();
        let mut range = ::redis::cmd("XRANGE");
        range.arg(&self.keys.stream).arg(format!("{}-0", applied + 1)).arg(format!("{head}-0")).arg("COUNT").arg(1);
        let next = reply::list(crate::remote::link::query(tail, &range).await?, "the stream")?;
        if next.is_empty() { self.resync(tail, epoch).await } else { Ok(()) }
    }

    async fn resync(&self, tail: &MultiplexedConnection, epoch: Epoch) -> Result<()> {
        self.counters.resyncs.fetch_add(1, Ordering::Relaxed);
        let snapshot = self.copy(tail, epoch).await?;
        if !self.index.merge(&snapshot) {
            return Err(Error::of_tier("the epoch was left while a snapshot was read"));
        }
        self.read_marks(tail).await
    }
}

/// A task that ends with its owner, however that ends.
struct Ends(tokio::task::AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}
