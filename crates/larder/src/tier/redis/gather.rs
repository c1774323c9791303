//! Reads of single keys that meet are asked for together.
//!
//! To the client a command costs several times what one more key of an `MGET` does: a place in the connection's queue, a timer,
//! a reply to take apart. So only a few reads are commands of their own and wait for nobody; where there are more, they wait
//! while a batch is on its way, and are the next one. The idea is that of group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::redis::{RedisResult, Value, cmd};
use tokio::sync::{mpsc, oneshot};

use crate::remote::link::Link;

/// Reads that may be commands of their own at the same time.
const ALONE_MAX: usize = 4;

/// Keys of one batch, and about how many bytes its values may have: all of them must come within the time of one answer.
const KEYS_MAX: usize = 64;
const BYTES_MAX: usize = 256 << 10;

/// See the head of this file.
pub(super) struct Gather {
    alone: AtomicUsize,
    /// Reads that wait for a batch, or for its answer.
    together: AtomicUsize,
    to_ask: mpsc::UnboundedSender<Asked>,
}

/// A key as Redis knows it, and who waits for its value.
pub(super) struct Asked {
    key: Vec<u8>,
    reply: oneshot::Sender<RedisResult<Value>>,
}

/// Counted as long as it lives.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl Gather {
    /// Whoever [answers](answer_all) gets the other half.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (to_ask, asked) = mpsc::unbounded_channel();
        (Gather { alone: AtomicUsize::new(0), together: AtomicUsize::new(0), to_ask }, asked)
    }

    /// Whether a read is a command of its own; `None`: it is to [ask](Self::ask). While others ask together it is cheaper to
    /// join them, and the next batch does not take longer than this one.
    pub(super) fn alone(&self) -> Option<Counted<'_>> {
        if self.together.load(Ordering::Relaxed) > 0 {
            return None;
        }
        // Counted first, and out again if there is no room: a look before would let more in than there is room for.
        let (others, alone) = Counted::more(&self.alone);
        (others < ALONE_MAX).then_some(alone)
    }

    /// Asks together with others. `None`: there is no server, or the tier is gone.
    pub(super) async fn ask(&self, key: Vec<u8>) -> Option<RedisResult<Value>> {
        let (_, _together) = Counted::more(&self.together);
        let (reply, answer) = oneshot::channel();
        self.to_ask.send(Asked { key, reply }).ok()?;
        answer.await.ok()
    }
}

impl<'a> Counted<'a> {
    /// How many there were before, and one more.
    fn more(count: &'a AtomicUsize) -> (usize, Self) {
        (count.fetch_add(1, Ordering::Relaxed), Counted(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers those who ask, a batch at a time, until the tier is gone.
pub(super) async fn answer_all(link: Arc<Link>, mut asked: mpsc::UnboundedReceiver<Asked>) {
    let mut value_len = 0;
    while let Some(first) = asked.recv().await {
        // Readers that were woken together have yet to run: without this turn for them, every other batch would be of one.
        tokio::task::yield_now().await;
        let keys_max = (BYTES_MAX / usize::max(value_len, 1)).clamp(1, KEYS_MAX);
        let mut batch = Vec::with_capacity(keys_max);
        batch.push(first);
        while batch.len() < keys_max
            && let Ok(more) = asked.try_recv()
        {
            batch.push(more);
        }
        let asked_for = batch.len();
        match answer(&link, batch).await {
            Ok(bytes) => value_len = usize::midpoint(value_len, bytes / asked_for),
            // Nobody waits for more than the batch on its way and his own, so those who would be in a third hear it now.
            Err(error) => {
                while let Ok(waiting) = asked.try_recv() {
                    drop(waiting.reply.send(Err(error.clone())));
                }
            }
        }
    }
}

/// Returns how many bytes the values had, or why nobody has one.
async fn answer(link: &Link, mut batch: Vec<Asked>) -> RedisResult<usize> {
    // Not those who have stopped waiting.
    batch.retain(|asked| !asked.reply.is_closed());
    let Some(server) = link.server().filter(|_| !batch.is_empty()) else { return Ok(0) };
    let mut get = cmd("MGET");
    for asked in &batch {
        get.arg(asked.key.as_slice());
    }
    let values = match server.data.send(&get).await {
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
        let (gather, _asked) = Gather::new();
        let mut asking = Box::pin(gather.ask(b"k".to_vec()));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut asking).await.is_err());
        assert!(gather.alone().is_none());
        drop(asking);
        assert!(gather.alone().is_some(), "who stopped waiting does not count");
    }

    #[tokio::test]
    async fn who_asks_and_nobody_answers_is_told() {
        let (gather, asked) = Gather::new();
        drop(asked);
        assert!(gather.ask(b"k".to_vec()).await.is_none());
    }
}
