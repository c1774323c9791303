//! The appender: one script for all that callers append at the same time.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::encode::{Answer, Group, Terms};
use super::place::Place;
use super::{Inner, Pending};
use crate::config::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Append, Appended};
use crate::name::Name;
use crate::pattern::Shape;
use crate::position::{Epoch, Position};
use crate::remote::link::{Server, failed};
use crate::remote::script;

/// What one script may take on: the server does nothing else while it runs.
const APPENDS_MAX: usize = 512;
pub(super) const NAMES_MAX: usize = 8_192;
pub(super) const WRITE_BYTES_MAX: usize = 4 << 20;

/// How long to wait for a server before looking again which appends are late, or may be queued by now.
const GATE_PAUSE: Duration = Duration::from_millis(5);

/// Until the last handle is gone.
pub(super) async fn run(weak: Weak<Inner>, mut appends: mpsc::UnboundedReceiver<Pending>) {
    let (mut next, mut place) = (None, Place::default());
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match appends.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let Some(inner) = weak.upgrade() else { return };
        let mut group = Load::default();
        group.add(first);
        while let Ok(more) = appends.try_recv() {
            if group.is_full_for(&more) {
                next = Some(more);
                break;
            }
            group.add(more);
        }
        inner.append_group(group.appends, &mut place).await;
    }
}

/// A group as it is put together.
#[derive(Default)]
struct Load {
    appends: Vec<Pending>,
    names: usize,
    write_bytes: usize,
}

impl Load {
    fn add(&mut self, pending: Pending) {
        self.names += pending.append.names.len();
        self.write_bytes += write_bytes(&pending.append);
        self.appends.push(pending);
    }

    fn is_full_for(&self, pending: &Pending) -> bool {
        self.appends.len() >= APPENDS_MAX
            || self.names + pending.append.names.len() > NAMES_MAX
            || self.write_bytes + write_bytes(&pending.append) > WRITE_BYTES_MAX
    }
}

pub(super) fn write_bytes(append: &Append) -> usize {
    append.writes.iter().filter_map(|write| write.record.as_ref()).map(|record| record.len()).sum()
}

impl Inner {
    /// Tries until every append has its answer, or its time is over.
    async fn append_group(&self, mut group: Vec<Pending>, place: &mut Place) {
        let mut tried = None;
        loop {
            let now = Instant::now();
            let (late, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|pending| pending.deadline <= now);
            group = self.without_a_log(late);
            group.extend(rest);
            let Some(last) = group.iter().map(|pending| pending.deadline).max() else { return };
            let Some(server) = self.link.server().filter(|server| Some(server.number) != tried) else {
                let (available, strict) = group.into_iter().partition(|pending| pending.append.mode == Mode::Available);
                group = strict;
                group.extend(self.without_a_log(available));
                // Either the keeper has closed the queue's gate in a moment, or there is a server.
                let pause = GATE_PAUSE.min(last.saturating_duration_since(now));
                drop(tokio::time::timeout(pause, self.link.other_than(tried)).await);
                continue;
            };
            tried = Some(server.number);
            match self.try_on(&server, &group, place).await {
                Ok(Tried::Done(answers)) => {
                    for (pending, answer) in group.into_iter().zip(answers) {
                        // A caller that stopped waiting has its change made all the same.
                        drop(pending.reply.send(answer));
                    }
                    return;
                }
                // The two clocks do not agree, or the way is too long: taking the log up again sets the one by the other.
                Ok(Tried::Late) => self.link.fail(&server, &"an append came too late"),
                Ok(Tried::OtherEpoch) => self.link.fail(&server, &"its log is not the one that was taken up"),
                Err(error) => self.link.fail(&server, &error),
            }
        }
    }

    /// Queues what may be queued and refuses the rest. What is left can be tried again, since a server was just taken up.
    fn without_a_log(&self, group: Vec<Pending>) -> Vec<Pending> {
        let mut left = Vec::new();
        for pending in group {
            let outcome = match pending.append.mode {
                Mode::Available => self.enqueue(&pending.append),
                Mode::Strict => Some(Err(self.refused())),
            };
            match outcome {
                Some(outcome) => drop(pending.reply.send(outcome)),
                None => left.push(pending),
            }
        }
        left
    }

    fn refused(&self) -> Error {
        self.counters.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let message = "Redis did not confirm the change in time: other instances may or may not see it; make it again";
        Error::new(ErrorKind::LogUnavailable, message)
    }

    async fn try_on(&self, server: &Arc<Server>, group: &[Pending], place: &mut Place) -> Result<Tried> {
        let (generation, epoch) = self.index.era();
        let shapes: Vec<Shape> = self.index.shapes_in_use().collect();
        let now = self.clock.refresh();
        let mut call = Group::new(epoch);
        group.iter().for_each(|pending| call.add(&pending.append, &shapes, generation, &self.keys.entries, now));
        // A write that the server does long after its caller was told that it is queued would bring an old value back. The
        // fence keeps out what was sent before the log was taken up again, the deadline what comes while it is not.
        let deadline = now + self.link.options.operation_timeout.as_millis() as u64;
        let (answer, replicas) = self.call(server, &mut call, (generation, deadline), place).await?;
        Ok(match answer {
            Answer::Late => Tried::Late,
            Answer::OtherEpoch | Answer::Elsewhere => Tried::OtherEpoch,
            Answer::UsedUp => {
                self.leave_epoch(epoch);
                Tried::OtherEpoch
            }
            Answer::Appended { first, conflicts, widened } => {
                let enough = replicas >= self.link.options.replicas;
                let conflicts = conflicts.into_iter().chain(call.foreign()).collect();
                let settled = self.settle(group, (generation, epoch), first, (conflicts, widened), enough);
                let entered = place.appended(&self.index, generation, first, group.len());
                if !self.mutations.on(crate::Mutation::OwnAppendsLate) {
                    self.entered.store(entered.0, std::sync::atomic::Ordering::Release);
                }
                Tried::Done(settled)
            }
        })
    }

    async fn call(
        &self,
        server: &Server,
        group: &mut Group,
        (generation, deadline): (u32, u64),
        place: &mut Place,
    ) -> Result<(Answer, usize)> {
        let options = &self.link.options;
        let terms = Terms { deadline, stream_len: options.stream_len, instance: &self.instance, fence: server.fence };
        let mut connection = server.append.clone();
        let mut answer = Answer::Elsewhere;
        if let Some(call) = self.call_at_its_place(group, generation, &terms, place) {
            answer = Answer::of(script::run(&mut connection, &call).await.map_err(failed)?)?;
            match answer {
                Answer::Elsewhere => place.refused(),
                _ => place.confirmed(),
            }
        }
        if matches!(answer, Answer::Elsewhere) {
            let call = group.call(&self.keys, &terms);
            answer = Answer::of(script::run(&mut connection, &call).await.map_err(failed)?)?;
        }
        if options.replicas == 0 {
            return Ok((answer, 0));
        }
        let limit = (options.operation_timeout / 2).as_millis() as u64;
        let waited = crate::remote::link::query(&mut connection, ::redis::cmd("WAIT").arg(options.replicas).arg(limit)).await?;
        Ok((answer, crate::remote::reply::number(waited, "WAIT")? as usize))
    }

    /// The cheap call, where it can be tried: see `place.rs`.
    fn call_at_its_place(&self, group: &mut Group, generation: u32, terms: &Terms, place: &mut Place) -> Option<::redis::Cmd> {
        if !group.is_plain() {
            return None;
        }
        let head = place.expected(&self.index, generation)?;
        let call = group.call_at(head, &self.index, &self.keys, terms);
        // Read again at the end, as every check of the index does: lines that were read while another epoch, or the same one
        // anew, was being adopted are of neither; and a made-up position is for nobody else.
        (self.index.latest().generation() == generation && !self.index.is_provisional()).then_some(call)
    }

    /// Step 1: into the own index at once, then the callers are told.
    fn settle(
        &self,
        group: &[Pending],
        (generation, epoch): (u32, Epoch),
        first: u64,
        (conflicts, widened): (Vec<u16>, Vec<u16>),
        enough_replicas: bool,
    ) -> Vec<Result<Appended>> {
        let (conflicts, widened): (HashSet<u16>, HashSet<u16>) = (conflicts.into_iter().collect(), widened.into_iter().collect());
        self.counters.groups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.counters.appends.fetch_add(group.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let settled = group.iter().zip(first..).zip(0u16..).map(|((pending, seq), at)| {
            let mut stamp = super::stamp(generation, seq);
            if !self.mutations.on(crate::Mutation::OwnAppendsLate) {
                stamp = self.index.enter_own(&pending.append.names, Position { epoch, seq }).unwrap_or(stamp);
            }
            if pending.append.mode == Mode::Strict && !enough_replicas {
                return Err(self.refused());
            }
            let conflict = conflicts.contains(&at);
            Ok(Appended {
                stamp,
                position: Position { epoch, seq },
                widened: usize::from(widened.contains(&at)),
                conflict,
                queued: false,
                wrote_entries: !pending.append.writes.is_empty() && !conflict,
            })
        });
        let settled = settled.collect();
        self.told.notify_waiters();
        settled
    }

    /// Appends queued names, one position each thousand.
    pub(super) async fn append_queued(
        &self,
        server: &mut ::redis::aio::MultiplexedConnection,
        epoch: Epoch,
        names: &[Name],
    ) -> Result<bool> {
        for some in names.chunks(NAMES_MAX) {
            let mut group = Group::new(epoch);
            some.chunks(1_000).for_each(|names| group.add_names(names));
            let call = group.call(&self.keys, &Terms { deadline: 0, stream_len: self.link.options.stream_len, instance: "", fence: 0 });
            let value = script::run(server, &call).await.map_err(failed)?;
            if !matches!(Answer::of(value)?, Answer::Appended { .. }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What became of one try.
enum Tried {
    Done(Vec<Result<Appended>>),
    OtherEpoch,
    Late,
}
