//! Waking those who wait for something to become true, for next to nothing where nobody waits.
//!
//! Tokio's `Notify` takes a lock whenever all are woken, since one who begins to wait at that moment must not be missed. Changes that
//! somebody waits for once in a thousand times should not pay for that: here whoever waits says so first.

use std::sync::atomic::fence;

use tokio::sync::Notify;

use crate::sync::{AtomicUsize, Ordering};

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Bell {
    waiting: AtomicUsize,
    rung: Notify,
}

impl Bell {
    /// After a change that somebody may wait for.
    #[inline]
    pub(crate) fn ring(&self) {
        // The change before the look, and the other way round where one waits: either the waiter sees the change, or this sees the waiter.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.rung.notify_waiters();
        }
    }

    /// Waits until something holds, looking whenever the bell is rung.
    pub(crate) async fn until(&self, mut holds: impl FnMut() -> bool) {
        if holds() {
            return;
        }
        let _waiting = Waiting::begin(&self.waiting);
        loop {
            // Listening begins before the look, so that a change in between is not missed.
            let mut rung = std::pin::pin!(self.rung.notified());
            rung.as_mut().enable();
            if holds() {
                return;
            }
            rung.await;
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Counts one who waits, for as long as he does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
