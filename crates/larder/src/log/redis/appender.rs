//! The appender: one script for all that callers append at the same time.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::Cmd;
use ::redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::encode::{Answer, Group, Judge, Terms};
use super::{Inner, Pending};
use crate::config::Mode;
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Index;
use crate::log::{Append, Appended};
use crate::mutation::Mutation;
use crate::name::Name;
use crate::position::{Epoch, Position, SEQ_MAX};
use crate::remote::link::{Server, failed};
use crate::remote::script;

/// What one script may take on: the server does nothing else while it runs.
const APPENDS_MAX: usize = 512;
pub(super) const NAMES_MAX: usize = 8_192;
pub(super) const WRITE_BYTES_MAX: usize = 4 << 20;

/// How long to wait for a server before looking again which appends are late, or may be queued by now.
const GATE_PAUSE: Duration = Duration::from_millis(5);

/// Groups on their way at the same time: while the server carries out one, the next is put together here. Whoever waits for an append
/// makes no other, so which of them the server does first does not matter.
pub(super) const FLYING_MAX: usize = 2;

/// What is to be appended, for all who append.
pub(super) struct Waiting {
    appends: mpsc::UnboundedReceiver<Pending>,
    /// The one that the last group had no room for.
    next: Option<Pending>,
}

impl Waiting {
    pub(super) fn new(appends: mpsc::UnboundedReceiver<Pending>) -> Arc<tokio::sync::Mutex<Self>> {
        Arc::new(tokio::sync::Mutex::new(Waiting { appends, next: None }))
    }

    /// All that waits and fits, once something does. `None`: nobody can append any more.
    async fn group(&mut self) -> Option<Vec<Pending>> {
        let first = match self.next.take() {
            Some(first) => first,
            None => self.appends.recv().await?,
        };
        let mut group = Load::default();
        group.add(first);
        while let Ok(more) = self.appends.try_recv() {
            if group.is_full_for(&more) {
                self.next = Some(more);
                break;
            }
            group.add(more);
        }
        Some(group.appends)
    }
}

/// Until the last handle is gone. There are [`FLYING_MAX`] of them.
pub(super) async fn run(weak: Weak<Inner>, waiting: Arc<tokio::sync::Mutex<Waiting>>) {
    loop {
        let group = waiting.lock().await.group().await;
        let (Some(group), Some(inner)) = (group, weak.upgrade()) else { return };
        inner.append_group(group).await;
        drop(inner);
        // Those who were just answered make the next group.
        tokio::task::yield_now().await;
    }
}

/// What a script answered, and how many replicas have it.
type Said = (Answer, usize);

/// A group as it was sent.
struct Sent {
    group: Vec<Pending>,
    call: Group,
    era: (u32, Epoch),
    server: Arc<Server>,
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
    /// Tries until every append has its answer, or its time is over. Not on the server that was tried in vain.
    async fn append_group(&self, mut group: Vec<Pending>) {
        let (mut tried, mut is_sent, mut is_behind, mut may_be_done) = (None, false, false, false);
        loop {
            let now = Instant::now();
            let (late, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|pending| pending.deadline <= now);
            group = if is_behind {
                let why = || if may_be_done { self.refused() } else { self.behind() };
                late.into_iter().for_each(|pending| drop(pending.reply.send(Err(why()))));
                Vec::new()
            } else {
                self.without_a_log(late, is_sent)
            };
            group.extend(rest);
            let Some(last) = group.iter().map(|pending| pending.deadline).max() else { return };
            let Some(server) = self.link.server().filter(|server| Some(server.number) != tried) else {
                let (available, strict) = group.into_iter().partition(|pending| pending.append.mode == Mode::Available);
                group = strict;
                group.extend(self.without_a_log(available, is_sent));
                // Either the keeper has closed the queue's gate in a moment, or there is a server.
                let pause = GATE_PAUSE.min(last.saturating_duration_since(now));
                drop(tokio::time::timeout(pause, self.link.other_than(tried)).await);
                continue;
            };
            let (era, mut call, deadline) = self.encode(&group);
            let terms = Terms { deadline, room: self.room.bytes_max(), instance: &self.instance, fence: server.fence };
            let command = call.call(&self.keys, &terms);
            let said = ask(server.append.clone(), command, self.link.options.replicas, self.link.options.operation_timeout / 2).await;
            is_sent = true;
            (is_behind, may_be_done) = (matches!(said, Ok((Answer::Behind, _))), may_be_done || said.is_err());
            match self.conclude(Sent { group, call, era, server }, said) {
                Some((left, number)) => (group, tried) = (left, number),
                None => return,
            }
            if is_behind {
                tokio::time::sleep(GATE_PAUSE).await;
            }
        }
    }

    /// The group as it is sent, and until when the server may carry it out.
    ///
    /// A write that the server does long after its caller was told that it is queued would bring an old value back. The fence
    /// keeps out what was sent before the log was taken up again, the deadline what comes while it is not.
    fn encode(&self, group: &[Pending]) -> ((u32, Epoch), Group, u64) {
        let now = self.clock.refresh();
        let deadline = now + self.link.options.operation_timeout.as_millis() as u64;
        loop {
            let (generation, epoch) = self.index.era();
            // Before the index is asked, so that it has all up to there by then.
            let upto = match self.known.lock().upto(&self.index, generation) {
                _ if self.mutations.on(Mutation::GuardByOwnIndex) => SEQ_MAX,
                _ if self.mutations.on(Mutation::IndexUnasked) => 0,
                upto => upto,
            };
            let is_asked = !self.mutations.on(Mutation::IndexUnasked);
            let judge = Judge { index: &self.index, is_asked, generation, upto, shapes: self.index.shapes_in_use().collect() };
            let mut call = Group::new(epoch);
            group.iter().for_each(|pending| call.add(&pending.append, &judge, &self.keys.entries, now));
            // Read again at the end, as every check of the index does: what was judged while another epoch, or the same one anew, was
            // being adopted is of neither.
            if self.index.latest().generation() == generation {
                return ((generation, epoch), call, deadline);
            }
        }
    }

    /// Tells the callers of a group that was appended. Otherwise gives it back, to be tried again: on this server if it only has to wait
    /// for a checkpoint, else on another one.
    fn conclude(&self, sent: Sent, said: Result<Said>) -> Option<(Vec<Pending>, Option<u64>)> {
        let Sent { group, call, era, server } = sent;
        let why = match said {
            Ok((Answer::Appended { first, conflicts, bytes, records }, replicas)) => {
                let enough = replicas >= self.link.options.replicas;
                let conflicts = conflicts.into_iter().chain(call.conflicts()).collect();
                let settled = self.settle((&group, &call), era, first, &conflicts, enough);
                if !self.mutations.on(Mutation::OwnAppendsLate) {
                    self.known.lock().appended(&self.index, era.0, first, group.len());
                }
                if self.room.is_due(bytes, records) {
                    self.checkpoint_due.notify_one();
                }
                for (pending, answer) in group.into_iter().zip(settled) {
                    // A caller that stopped waiting has its change made all the same.
                    drop(pending.reply.send(answer));
                }
                return None;
            }
            Ok((Answer::Behind, _)) => {
                // No fault of the server: taking the log up anew would only disturb whoever writes the checkpoint.
                self.checkpoint_due.notify_one();
                return Some((group, None));
            }
            // The two clocks do not agree, or the way is too long: taking the log up again sets the one by the other.
            Ok((Answer::Late, _)) => Error::of_tier("an append came too late"),
            Ok((Answer::Fenced, _)) => Error::of_tier("its log was taken up anew under this instance's name, or has forgotten it"),
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
    fn without_a_log(&self, group: Vec<Pending>, is_sent: bool) -> Vec<Pending> {
        let mut left = Vec::new();
        for pending in group {
            let outcome = match pending.append.mode {
                Mode::Available => self.enqueue(&pending.append),
                Mode::Strict if is_sent => Some(Err(self.refused())),
                Mode::Strict => Some(Err(self.unsent())),
            };
            match outcome {
                Some(outcome) => drop(pending.reply.send(outcome)),
                None => left.push(pending),
            }
        }
        left
    }

    fn behind(&self) -> Error {
        self.refused_since(
            "the log in Redis takes no more until a checkpoint of it is written, which no instance has done in time; nothing was changed",
        )
    }

    fn unsent(&self) -> Error {
        self.refused_since("the change could not be sent to Redis in time; nothing was changed")
    }

    fn refused(&self) -> Error {
        self.refused_since("Redis did not confirm the change in time: other instances may or may not see it; make it again")
    }

    fn refused_since(&self, why: &'static str) -> Error {
        self.counters.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Error::new(ErrorKind::LogUnavailable, why)
    }

    /// Step 1: into the own index at once, then the callers are told.
    fn settle(
        &self,
        (group, call): (&[Pending], &Group),
        (generation, epoch): (u32, Epoch),
        first: u64,
        conflicts: &HashSet<u16>,
        enough_replicas: bool,
    ) -> Vec<Result<Appended>> {
        self.counters.groups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.counters.appends.fetch_add(group.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let was_brought = self.peers.own(generation, first, group.len() as u64);
        let is_refused = |at: u16| conflicts.contains(&at) && group[usize::from(at)].append.refuses();
        let entered = (!self.mutations.on(Mutation::OwnAppendsLate)).then(|| {
            let at = |at: u16| first + u64::from(at);
            let singles = call.singles().filter(|(append, _)| !is_refused(*append)).map(|(append, hash)| (hash, at(append)));
            let others = call.with_patterns().filter(|append| !is_refused(*append));
            let others = others.map(|append| (&group[usize::from(append)].append.names[..], at(append)));
            self.index.enter_own(epoch, singles, others, first + group.len() as u64 - 1)
        });
        let (generation, widened) = entered.flatten().unwrap_or((generation, Vec::new()));
        let settled = group.iter().zip(first..).zip(0u16..).map(|((pending, seq), at)| {
            let refused = is_refused(at);
            if !refused && !was_brought.contains(&seq) {
                self.index.notices.tell(&pending.append.names, || Some(Position { epoch, seq }), Some(pending.append.is_put));
            }
            if pending.append.mode == Mode::Strict && !enough_replicas {
                // Its events are not remembered: whoever delivers them is told to do so again.
                return Err(self.refused());
            }
            if !refused {
                self.marks.add(&pending.append.marks);
            }
            let conflict = conflicts.contains(&at);
            Ok(Appended {
                stamp: super::stamp(generation, seq),
                position: Position { epoch, seq },
                widened: widened.iter().find(|(at, _)| *at == seq).map_or(0, |(_, count)| *count),
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
            // Without an end of room: who takes the log up cannot write a checkpoint yet, and there may be nobody else.
            let call = group.call(&self.keys, &Terms { deadline: 0, room: 0, instance: "", fence: 0 });
            let value = script::run(server, &call).await.map_err(failed)?;
            let Answer::Appended { first, .. } = Answer::of(value)? else { return Ok(false) };
            // The tail brings them, unless a snapshot does, with which another generation begins.
            let generation = self.index.era().0;
            self.peers.own(generation, first, some.chunks(1_000).len() as u64);
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

/// Up to where the index has all positions of a generation, own appends that the tail has not brought yet included.
#[derive(Debug, Default)]
pub(super) struct Known {
    generation: u32,
    seq: u64,
}

impl Known {
    fn upto(&mut self, index: &Index, generation: u32) -> u64 {
        if self.generation != generation {
            *self = Known { generation, seq: 0 };
        }
        let applied = index.applied();
        // Asked after: made-up positions raise it only once the index says that there are some. What others appended there was not heard.
        if applied.generation() == generation && !index.is_provisional() {
            self.seq = self.seq.max(applied.seq());
        }
        self.seq
    }

    /// A group was appended, at so many positions, and is in the index.
    fn appended(&mut self, index: &Index, generation: u32, first: u64, count: usize) {
        if first <= self.upto(index, generation) + 1 {
            self.seq = self.seq.max(first - 1 + count as u64);
        }
    }

    /// Whether the index has all up to a position, as far as those who append know.
    pub(super) fn has(&self, generation: u32, seq: u64) -> bool {
        self.generation == generation && seq <= self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::Mutations;
    use crate::position::Stamp;

    const EPOCH: Epoch = Epoch(7);

    /// Found by reading: what others had appended where positions were made up here was taken for known.
    #[test]
    fn what_is_known_ends_where_positions_are_made_up() {
        let index = Index::new(1 << 12, EPOCH, Mutations::default());
        let name = [Name::Tag(b"t"[..].into())];
        let mut known = Known::default();
        assert!((1..=10).all(|seq| index.apply(&name, Stamp::new(1, seq))));
        assert_eq!(known.upto(&index, 1), 10);
        known.appended(&index, 1, 11, 3);
        assert_eq!(known.upto(&index, 1), 13, "own ones follow");
        known.appended(&index, 1, 15, 1);
        assert_eq!(known.upto(&index, 1), 13, "14 is somebody else's");
        assert!(known.has(1, 13) && !known.has(1, 14) && !known.has(2, 1));
        index.enter_provisionally(&name, || false);
        index.enter_provisionally(&name, || false);
        assert_eq!(known.upto(&index, 1), 13);
        let mut anew = Known::default();
        assert_eq!((anew.upto(&index, 1), anew.upto(&index, 2)), (0, 0), "nor is it another generation's");
    }
}
