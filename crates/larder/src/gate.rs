//! The gate of writes: whether values may be put from outside. Closed for a while, it lets those under way end, and refuses new ones.
//!
//! ```text
//!   enter:  +1, then look:   open -> go on        closed -> -1, refused
//!   close:  closed;          drained: the counts are 0
//! ```
//!
//! Counted before it is looked, and closed before it is counted: of a writer and one who closes the gate at once, one sees the other. Each
//! thread counts in a place of its own: one count for all is a cache line that all writers take from each other twice a write.
//! Invalidations and removals never come through here: what is stale must be so at once, whatever else the cache is kept from. Reads do
//! not, either. Their loads are answered and kept in memory whatever the gate says; what they hand to the backing tier comes through
//! here, so that the tier is left as it is once those under way have ended.

use crate::bell::Bell;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{STRIPES, own_stripe};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// See the head of this file.
#[derive(Default)]
pub(crate) struct WriteGate {
    closed: AtomicBool,
    /// Writes under way, by the stripe of the thread that they came in by.
    under_way: [Stripe; STRIPES],
    /// Rung when the last write under way has ended.
    emptied: Bell,
}

/// A count, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// A write that was let in, until it is dropped, on whatever thread that is.
pub(crate) struct LetIn<'a> {
    gate: &'a WriteGate,
    stripe: &'a Stripe,
}

impl WriteGate {
    /// Lets a write in.
    ///
    /// # Errors
    /// [`ErrorKind::Maintenance`].
    #[inline]
    pub(crate) fn enter(&self) -> Result<LetIn<'_>> {
        let stripe = &self.under_way[own_stripe()];
        stripe.0.fetch_add(1, Ordering::SeqCst);
        // From here on it is counted, and counted out by being dropped.
        let let_in = LetIn { gate: self, stripe };
        if self.is_closed() { Err(refused()) } else { Ok(let_in) }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        // From here on those who leave do not ring, and others come in: who waits would wait for nothing.
        self.emptied.ring();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// How many writes are under way; while it is open, more or less.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.iter().map(|stripe| stripe.0.load(Ordering::SeqCst)).sum()
    }

    /// Waits until none is, or it is open.
    pub(crate) async fn drained(&self) {
        self.emptied.until(|| self.under_way() == 0 || !self.is_closed()).await;
    }
}

impl Drop for LetIn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.stripe.0.fetch_sub(1, Ordering::SeqCst);
        // Where the gate is open nobody waits for it to be empty. Whoever closes it from here on counts without this one.
        if self.gate.is_closed() {
            self.gate.emptied.ring();
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
