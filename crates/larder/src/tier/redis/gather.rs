//! Reads of single keys that meet are asked for together.
//!
//! A command of its own costs several times what one more key of an `MGET` does: calls of the system, a timer, a reply to take apart. So
//! only a few reads are commands of their own and wait for nobody; where there are more, they wait while a batch is on its way, and are the
//! next one. The idea is that of group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ::redis::{Cmd, RedisResult, Value};
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::add_key;
use crate::freshness::Index;
use crate::remote::link::Link;
use crate::remote::reads::CONNECTIONS_MAX;

/// Reads that may be commands of their own at the same time; the batch has a connection, too. With one, two tasks on two cores would take
/// turns in batches of one; with four, as many on one core would each pay for its own calls of the system.
const ALONE_MAX: usize = CONNECTIONS_MAX - 1;

/// Keys of one batch, and about how many bytes its values may have: all of them must come within the time of one answer.
const KEYS_MAX: usize = 128;
const BYTES_MAX: usize = 256 << 10;

/// See the head of this file.
pub(super) struct Gather {
    alone: AtomicUsize,
    /// Whether a batch is on its way or being put together. Written once for many reads: a count of them would be a line that every core
    /// wants for itself.
    is_together: Arc<AtomicBool>,
    to_ask: mpsc::UnboundedSender<Asked>,
}

/// The other half: whoever [answers](answer_all) has it.
pub(super) struct ToAnswer {
    is_together: Arc<AtomicBool>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A key, and who waits for its value.
pub(super) struct Asked {
    /// One of common length takes no memory of its own, which would be given back by another thread.
    key: SmallVec<[u8; 48]>,
    reply: oneshot::Sender<RedisResult<Value>>,
}

/// Counted as long as it lives.
pub(super) struct Alone<'a>(&'a AtomicUsize);

impl Gather {
    pub(super) fn new() -> (Self, ToAnswer) {
        let (to_ask, asked) = mpsc::unbounded_channel();
        let is_together = Arc::<AtomicBool>::default();
        let to_answer = ToAnswer { is_together: is_together.clone(), asked };
        (Gather { alone: AtomicUsize::new(0), is_together, to_ask }, to_answer)
    }

    /// Whether a read is a command of its own; `None`: it is to [ask](Self::ask). While others ask together it is cheaper to
    /// join them, and the next batch does not take longer than this one.
    pub(super) fn alone(&self) -> Option<Alone<'_>> {
        if self.is_together.load(Ordering::Relaxed) {
            return None;
        }
        // Counted first, and out again if there is no room: a look before would let more in than there is room for.
        let others = self.alone.fetch_add(1, Ordering::Relaxed);
        let alone = Alone(&self.alone);
        (others < ALONE_MAX).then_some(alone)
    }

    /// Asks together with others. `None`: there is no server, or the tier is gone.
    pub(super) async fn ask(&self, key: &[u8]) -> Option<RedisResult<Value>> {
        let (reply, answer) = oneshot::channel();
        self.to_ask.send(Asked { key: key.into(), reply }).ok()?;
        answer.await.ok()
    }
}

impl ToAnswer {
    /// Some who ask, one at least; `None`: nobody can any more.
    async fn next_batch(&mut self, keys_max: usize) -> Option<Vec<Asked>> {
        let ToAnswer { is_together, asked } = self;
        // Readers that were woken together have yet to run: without this turn for them some would go alone again, and every other
        // batch would be of one.
        tokio::task::yield_now().await;
        let first = match asked.try_recv() {
            Ok(first) => first,
            Err(_) => {
                is_together.store(false, Ordering::Relaxed);
                let first = asked.recv().await?;
                is_together.store(true, Ordering::Relaxed);
                tokio::task::yield_now().await;
                first
            }
        };
        let mut batch = Vec::with_capacity(keys_max);
        batch.push(first);
        while batch.len() < keys_max
            && let Ok(more) = asked.try_recv()
        {
            batch.push(more);
        }
        // One that is left of many is to go alone again.
        is_together.store(batch.len() > 1, Ordering::Relaxed);
        Some(batch)
    }
}

impl Drop for ToAnswer {
    fn drop(&mut self) {
        // Nobody answers any more: those who ask are to find that out by themselves.
        self.is_together.store(false, Ordering::Relaxed);
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers those who ask, a batch at a time, until the tier is gone. `prefix` is what the key of every entry begins with.
pub(super) async fn answer_all(link: Arc<Link>, index: Arc<Index>, prefix: Vec<u8>, mut to_answer: ToAnswer) {
    let mut value_len = 0;
    while let Some(batch) = to_answer.next_batch((BYTES_MAX / usize::max(value_len, 1)).clamp(1, KEYS_MAX)).await {
        let asked_for = batch.len();
        match answer(&link, &index, &prefix, batch).await {
            Ok(bytes) => value_len = usize::midpoint(value_len, bytes / asked_for),
            // Nobody waits for more than the batch on its way and his own, so those who would be in a third hear it now.
            Err(error) => {
                while let Ok(waiting) = to_answer.asked.try_recv() {
                    drop(waiting.reply.send(Err(error.clone())));
                }
            }
        }
    }
}

/// Returns how many bytes the values had, or why nobody has one.
async fn answer(link: &Link, index: &Index, prefix: &[u8], mut batch: Vec<Asked>) -> RedisResult<usize> {
    // Not those who have stopped waiting.
    batch.retain(|asked| !asked.reply.is_closed());
    let Some(server) = link.server().filter(|_| !batch.is_empty()) else { return Ok(0) };
    let bytes = batch.iter().map(|asked| prefix.len() + asked.key.len()).sum::<usize>();
    let mut get = Cmd::with_capacity(1 + batch.len(), 4 + bytes);
    get.arg("MGET");
    batch.iter().for_each(|asked| add_key(&mut get, prefix, &asked.key));
    // What the records will be judged by comes from the index meanwhile, for many at once: one after the other, as each is judged, the
    // waits for it were a tenth of all that a read takes.
    let fetching = async { batch.iter().for_each(|asked| index.fetch_key(&asked.key)) };
    let asking = async { tokio::join!(server.read(&get), fetching).0 };
    let answered = tokio::select! {
        answered = asking => answered,
        // Those who wait behind it are not to wait for a connection that was given up.
        () = link.until_left(server.number) => Err((::redis::ErrorKind::Io, "the connection was given up").into()),
    };
    let values = match answered {
        Ok(Value::Array(values)) if values.len() == batch.len() => values.into_iter().map(Ok).collect(),
        // No list of so many: to each it is what a single read of another type would be, which the tier does not know.
        Ok(other) => vec![Ok(other); batch.len()],
        Err(error) => {
            for asked in batch {
                drop(asked.reply.send(Err(error.clone())));
            }
            return Err(error);
        }
    };
    let mut bytes = 0;
    for (asked, value) in batch.into_iter().zip(values) {
        if let Ok(Value::BulkString(value)) = &value {
            bytes += value.len();
        }
        // A reader that stopped waiting needs no answer.
        drop(asked.reply.send(value));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn only_so_many_go_alone_and_their_places_come_back() {
        let (gather, _asked) = Gather::new();
        let alone: Vec<_> = std::iter::from_fn(|| gather.alone()).collect();
        assert_eq!(alone.len(), ALONE_MAX);
        assert!(gather.alone().is_none());
        drop(alone);
        assert!(gather.alone().is_some());
    }

    #[tokio::test]
    async fn nobody_goes_alone_while_others_go_together() {
        let (gather, mut to_answer) = Gather::new();
        let mut asking: Vec<_> = [b"0", b"1", b"2", b"3", b"4"].map(|key| Box::pin(gather.ask(key))).into();
        for ask in &mut asking {
            assert!(is_pending(ask));
        }
        let batch = to_answer.next_batch(2).await.unwrap();
        assert_eq!(batch.iter().map(|asked| asked.key[0]).collect::<Vec<_>>(), *b"01");
        assert!(gather.alone().is_none(), "a batch is on its way");
        let batch = to_answer.next_batch(2).await.unwrap();
        assert_eq!(batch.iter().map(|asked| asked.key[0]).collect::<Vec<_>>(), *b"23");
        assert!(gather.alone().is_none(), "the next one is");
        assert_eq!(to_answer.next_batch(2).await.unwrap().len(), 1);
        assert!(gather.alone().is_some(), "nobody is left to be together with");
        drop(asking);
        drop(to_answer);
        assert!(gather.ask(b"5").await.is_none() && gather.alone().is_some());
    }

    #[tokio::test]
    async fn who_asks_and_nobody_answers_is_told() {
        let (gather, asked) = Gather::new();
        drop(asked);
        assert!(gather.ask(b"k").await.is_none());
    }
}
