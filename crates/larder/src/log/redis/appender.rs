//! The appender: one script for all that callers append at the same time.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use ::redis::Cmd;
use ::redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::encode::{self, Answer, Group, Terms};
use super::place::{Ahead, At, Place};
use super::{Inner, Pending};
use crate::config::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Append, Appended};
use crate::mutation::Mutation;
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

/// Groups on their way at the same time: while the server carries out one, the next is put together here.
const FLYING_MAX: usize = 2;

/// Until the last handle is gone.
pub(super) async fn run(weak: Weak<Inner>, mut appends: mpsc::UnboundedReceiver<Pending>) {
    let (mut next, mut place, mut flying) = (None, Place::default(), VecDeque::with_capacity(FLYING_MAX));
    loop {
        let first = tokio::select! {
            // Answers first: those who wait for them make the next group.
            biased;
            answered = front(&mut flying) => {
                let Some(inner) = weak.upgrade() else { return };
                inner.land(answered, &mut flying, &mut place).await;
                continue;
            }
            first = first_of(&mut next, &mut appends), if flying.len() < FLYING_MAX => first,
        };
        let (Some(first), Some(inner)) = (first, weak.upgrade()) else { return };
        let mut group = Load::default();
        group.add(first);
        while let Ok(more) = appends.try_recv() {
            if group.is_full_for(&more) {
                next = Some(more);
                break;
            }
            group.add(more);
        }
        match inner.prepare(group.appends, &mut place, flying.back()) {
            Ok(mut ready) => {
                ready.depart().await;
                flying.push_back(ready);
            }
            Err(group) => {
                while !flying.is_empty() {
                    let answered = front(&mut flying).await;
                    inner.land(answered, &mut flying, &mut place).await;
                }
                inner.append_group(group, None, &mut place).await;
            }
        }
    }
}

async fn first_of(next: &mut Option<Pending>, appends: &mut mpsc::UnboundedReceiver<Pending>) -> Option<Pending> {
    match next.take() {
        Some(first) => Some(first),
        None => appends.recv().await,
    }
}

/// What the server said to the oldest group on its way. Never, where there is none.
async fn front(flying: &mut VecDeque<Flying>) -> Result<Said> {
    match flying.front_mut() {
        Some(front) => front.answer().await,
        None => std::future::pending().await,
    }
}

/// What a script answered, and how many replicas have it.
type Said = (Answer, usize);

/// A group that was sent to where it should stand, and is not answered yet.
struct Flying {
    sent: Sent,
    ahead: Ahead,
    answer: Pin<Box<dyn Future<Output = Result<Said>> + Send>>,
    /// One that came at once.
    answered: Option<Result<Said>>,
}

/// A group as it was sent.
struct Sent {
    group: Vec<Pending>,
    call: Group,
    era: (u32, Epoch),
    server: Arc<Server>,
}

impl Flying {
    /// A first look at the answer is what sends a group, so that they arrive in their order.
    async fn depart(&mut self) {
        let answer = &mut self.answer;
        let first_look = std::future::poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => Poll::Ready(None),
        });
        self.answered = first_look.await;
    }

    async fn answer(&mut self) -> Result<Said> {
        match self.answered.take() {
            Some(answered) => answered,
            None => self.answer.as_mut().await,
        }
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
    /// A group made ready for where it should stand, where that can be tried (see `place.rs`).
    fn prepare(&self, group: Vec<Pending>, place: &mut Place, before: Option<&Flying>) -> Result<Flying, Vec<Pending>> {
        let now = Instant::now();
        let is_plain = |pending: &Pending| pending.deadline > now && encode::is_plain(&pending.append);
        let Some(server) = self.link.server().filter(|_| group.iter().all(is_plain)) else { return Err(group) };
        let era = self.index.era();
        if before.is_some_and(|before| before.sent.era != era || before.sent.server.number != server.number) {
            return Err(group);
        }
        let before = before.map(|before| &before.ahead);
        let Some(head) = place.expected(&self.index, era.0, before) else { return Err(group) };
        let (mut call, deadline) = self.encode(&group, era);
        let signature = place.sign(server.fence);
        let at = At { head, before, signature: &signature };
        let (command, images) = call.call_at(&at, &self.index, &self.keys, &self.terms(&server, deadline));
        // Read again at the end, as every check of the index does: lines that were read while another epoch, or the same one
        // anew, was being adopted are of neither; and a made-up position is for nobody else.
        if self.index.latest().generation() != era.0 || self.index.is_provisional() {
            return Err(group);
        }
        let ahead = Ahead { last: head + group.len() as u64, signature, images };
        let (connection, replicas, limit) = (server.append.clone(), self.link.options.replicas, self.replicas_limit());
        let answer = Box::pin(ask(connection, command, replicas, limit));
        Ok(Flying { sent: Sent { group, call, era, server }, ahead, answer, answered: None })
    }

    /// The oldest group on its way was answered. What did not come to stand where it should goes the ordinary way, once it is
    /// known what became of those behind it.
    async fn land(&self, answered: Result<Said>, flying: &mut VecDeque<Flying>, place: &mut Place) {
        let Some(front) = flying.pop_front() else { return };
        match &answered {
            Ok((Answer::Elsewhere, _)) => place.refused(),
            Ok((Answer::Appended { .. }, _)) => place.confirmed(),
            _ => {}
        }
        let mut grounded: Vec<_> = self.conclude(front.sent, answered, place).into_iter().collect();
        while !grounded.is_empty()
            && let Some(mut next) = flying.pop_front()
        {
            let answered = next.answer().await;
            grounded.extend(self.conclude(next.sent, answered, place));
        }
        for (group, tried) in grounded {
            self.append_group(group, tried, place).await;
        }
    }

    /// Tries until every append has its answer, or its time is over. Not on the server that was tried in vain.
    async fn append_group(&self, mut group: Vec<Pending>, mut tried: Option<u64>, place: &mut Place) {
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
            let era = self.index.era();
            let (call, deadline) = self.encode(&group, era);
            let command = call.call(&self.keys, &self.terms(&server, deadline));
            let said = ask(server.append.clone(), command, self.link.options.replicas, self.replicas_limit()).await;
            match self.conclude(Sent { group, call, era, server }, said, place) {
                Some((left, number)) => (group, tried) = (left, number),
                None => return,
            }
        }
    }

    /// The group as it is sent, and until when the server may carry it out.
    ///
    /// A write that the server does long after its caller was told that it is queued would bring an old value back. The fence
    /// keeps out what was sent before the log was taken up again, the deadline what comes while it is not.
    fn encode(&self, group: &[Pending], (generation, epoch): (u32, Epoch)) -> (Group, u64) {
        let shapes: Vec<Shape> = self.index.shapes_in_use().collect();
        let now = self.clock.refresh();
        let mut call = Group::new(epoch);
        group.iter().for_each(|pending| call.add(&pending.append, &shapes, generation, &self.keys.entries, now));
        (call, now + self.link.options.operation_timeout.as_millis() as u64)
    }

    fn terms<'a>(&'a self, server: &Server, deadline: u64) -> Terms<'a> {
        Terms { deadline, stream_len: self.link.options.stream_len, instance: &self.instance, fence: server.fence }
    }

    /// How long to wait for replicas.
    fn replicas_limit(&self) -> Duration {
        self.link.options.operation_timeout / 2
    }

    /// Tells the callers of a group that was appended. Otherwise gives it back, to be tried again: on this server if it only did
    /// not stand where it should, else on another one.
    fn conclude(&self, sent: Sent, said: Result<Said>, place: &mut Place) -> Option<(Vec<Pending>, Option<u64>)> {
        let Sent { group, call, era, server } = sent;
        let why = match said {
            Ok((Answer::Appended { first, conflicts, widened }, replicas)) => {
                let enough = replicas >= self.link.options.replicas;
                let conflicts = conflicts.into_iter().chain(call.foreign()).collect();
                let settled = self.settle(&group, era, first, (conflicts, widened), enough);
                let entered = place.appended(&self.index, era.0, first, group.len());
                if !self.mutations.on(Mutation::OwnAppendsLate) {
                    self.entered.store(entered.0, std::sync::atomic::Ordering::Release);
                }
                for (pending, answer) in group.into_iter().zip(settled) {
                    // A caller that stopped waiting has its change made all the same.
                    drop(pending.reply.send(answer));
                }
                return None;
            }
            Ok((Answer::Elsewhere, _)) => return Some((group, None)),
            // The two clocks do not agree, or the way is too long: taking the log up again sets the one by the other.
            Ok((Answer::Late, _)) => Error::of_tier("an append came too late"),
            Ok((Answer::OtherEpoch, _)) => Error::of_tier("its log is not the one that was taken up"),
            Ok((Answer::UsedUp, _)) => {
                self.leave_epoch(era.1);
                Error::of_tier("the epoch of its log has no more positions")
            }
            Err(error) => {
                // It may have been carried out. Tried again, one that refuses would then conflict with itself, and its caller, who
                // sees his own change, would make it twice.
                let (refusing, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|pending| pending.append.refuses());
                refusing.into_iter().for_each(|pending| drop(pending.reply.send(Err(self.refused()))));
                self.link.fail(&server, &error);
                return (!rest.is_empty()).then_some((rest, Some(server.number)));
            }
        };
        self.link.fail(&server, &why);
        Some((group, Some(server.number)))
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
            let was_brought = self.peers.own(generation, seq);
            let conflict = conflicts.contains(&at);
            let refused = conflict && pending.append.refuses();
            if !refused && !self.mutations.on(Mutation::OwnAppendsLate) {
                stamp = self.index.enter_own(&pending.append.names, Position { epoch, seq }).unwrap_or(stamp);
            }
            if !refused && !was_brought {
                self.index.notices.tell(&pending.append.names, || Some(Position { epoch, seq }), Some(pending.append.is_put));
            }
            if pending.append.mode == Mode::Strict && !enough_replicas {
                // Its events are not remembered: whoever delivers them is told to do so again.
                return Err(self.refused());
            }
            if !refused {
                self.marks.add(&pending.append.marks);
            }
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
        self.told.ring();
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
            let Answer::Appended { first, .. } = Answer::of(value)? else { return Ok(false) };
            // The tail brings them, unless a snapshot does, with which another generation begins.
            let generation = self.index.era().0;
            some.chunks(1_000).zip(first..).for_each(|(_, seq)| {
                self.peers.own(generation, seq);
            });
        }
        Ok(true)
    }
}

/// Runs a script, and waits for as many replicas, so long.
async fn ask(mut connection: MultiplexedConnection, command: Cmd, replicas: usize, limit: Duration) -> Result<Said> {
    let answer = Answer::of(script::run(&mut connection, &command).await.map_err(failed)?)?;
    if replicas == 0 {
        return Ok((answer, 0));
    }
    let mut wait = ::redis::cmd("WAIT");
    wait.arg(replicas).arg(limit.as_millis() as u64);
    let waited = crate::remote::link::query(&mut connection, &wait).await?;
    Ok((answer, crate::remote::reply::number(waited, "WAIT")? as usize))
}
