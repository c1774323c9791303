//! The gate of writes: whether values may be put from outside. Closed for a while, it lets those under way end, and refuses new ones.
//!
//! ```text
//!   state: 1 bit closed, the rest counts the writes under way
//!   enter:  +1, and look:  open -> go on        closed -> -1, refused
//!   close:  set the bit;   drained: the count is 0
//! ```
//!
//! Counted before it is looked, in one step: a write that was let in is seen by whoever closes the gate and then waits for the count.
//! Invalidations and removals never come through here: what is stale must be so at once, whatever else the cache is kept from. Reads do
//! not, either. Their loads are answered and kept in memory whatever the gate says; what they hand to the backing tier comes through
//! here, so that the tier is left as it is once those under way have ended.

use crate::bell::Bell;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct WriteGate {
    state: AtomicU64,
    /// Rung when the last write under way has ended.
    emptied: Bell,
}

/// A write that was let in, until it is dropped.
pub(crate) struct LetIn<'a>(&'a WriteGate);

impl WriteGate {
    /// Lets a write in.
    ///
    /// # Errors
    /// [`ErrorKind::Maintenance`].
    #[inline]
    pub(crate) fn enter(&self) -> Result<LetIn<'_>> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        // From here on it is counted, and counted out by being dropped.
        let let_in = LetIn(self);
        if before & CLOSED == 0 { Ok(let_in) } else { Err(refused()) }
    }

    pub(crate) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(crate) fn open(&self) {
        self.state.fetch_and(!CLOSED, Ordering::AcqRel);
        // From here on those who leave do not ring, and others come in: who waits would wait for nothing.
        self.emptied.ring();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many writes are under way.
    pub(crate) fn under_way(&self) -> u64 {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    /// Waits until none is, or it is open.
    pub(crate) async fn drained(&self) {
        self.emptied.until(|| self.under_way() == 0 || !self.is_closed()).await;
    }
}

impl Drop for LetIn<'_> {
    #[inline]
    fn drop(&mut self) {
        // Where the gate is open nobody waits for it to be empty.
        if self.0.state.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.0.emptied.ring();
        }
    }
}

#[cold]
fn refused() -> Error {
    let message = "the cache is under maintenance and takes no writes for a while; nothing was changed, and it may be tried again later";
    Error::new(ErrorKind::Maintenance, message)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_under_way_end_and_new_ones_are_refused() {
        let gate = std::sync::Arc::new(WriteGate::default());
        let first = gate.enter().expect("it is open");
        gate.close();
        assert_eq!(gate.enter().map(drop).unwrap_err().kind(), ErrorKind::Maintenance);
        assert_eq!((gate.is_closed(), gate.under_way()), (true, 1));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained().await }
        });
        while gate.emptied.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        waiting.await.expect("the last one out rings");
        gate.open();
        let second = gate.enter().expect("it is open again");
        gate.close();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained().await }
        });
        while gate.emptied.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        gate.open();
        waiting.await.expect("who opens it ends the wait");
        drop(second);
        assert_eq!((gate.is_closed(), gate.under_way()), (false, 0));
    }
}
