//! Who is changing which key in this process: what a read-modify-write needs to know beside the log.
//!
//! A put appends its key and then stores the value, and in between the key is stale and its new value nowhere: whoever looks then
//! finds nothing, at a position that has the put already, and the log sees no conflict in what he makes of it. So puts say when
//! they are on their way, at the price of two atomic additions, and [changes](crate::Raw::change) wait until those that came before
//! them have arrived. Where the log writes entries itself, in one step with the append, the wait is for nothing and does no harm.
//!
//! Changes of one key go one after the other, since all but one of those that went at once would have to begin again.

use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use crate::bell::Bell;
use crate::sync::{AtomicUsize, Ordering};

/// Keys that share one wait for each other now and then, which costs time and nothing else.
const STRIPES: usize = 1024;

/// See the head of this file.
pub(crate) struct Turns {
    stripes: Box<[Stripe]>,
    /// Rung for changes that wait for puts.
    arrived: Bell,
}

#[derive(Default)]
struct Stripe {
    changing: Mutex<()>,
    putting: AtomicUsize,
}

/// A put on its way.
pub(crate) struct Putting<'a> {
    turns: &'a Turns,
    stripe: &'a Stripe,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Turns { stripes: (0..STRIPES).map(|_| Stripe::default()).collect(), arrived: Bell::default() }
    }

    fn stripe(&self, key: &[u8]) -> &Stripe {
        &self.stripes[xxh3_64(key) as usize % STRIPES]
    }

    /// Before the append of a put, and until its value is where readers find it.
    pub(crate) fn putting(&self, key: &[u8]) -> Putting<'_> {
        let stripe = self.stripe(key);
        stripe.putting.fetch_add(1, Ordering::SeqCst);
        Putting { turns: self, stripe }
    }

    /// The turn to change a key.
    pub(crate) async fn change(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        self.stripe(key).changing.lock().await
    }

    /// Waits until no put of a key is on its way. All that were appended before this was called have arrived then.
    pub(crate) async fn arrived(&self, key: &[u8]) {
        let stripe = self.stripe(key);
        self.arrived.until(|| stripe.putting.load(Ordering::SeqCst) == 0).await;
    }
}

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        if self.stripe.putting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.turns.arrived.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_change_waits_for_the_puts_that_are_on_their_way() {
        let turns = Turns::new();
        assert!(poll(pin!(turns.arrived(b"k"))).is_ready());
        let (first, second) = (turns.putting(b"k"), turns.putting(b"k"));
        let mut arrived = pin!(turns.arrived(b"k"));
        assert!(poll(arrived.as_mut()).is_pending());
        drop(first);
        assert!(poll(arrived.as_mut()).is_pending(), "one is still on its way");
        drop(second);
        assert!(poll(arrived.as_mut()).is_ready());
        assert_eq!(turns.arrived.waiting(), 0, "it waits no more");
    }

    #[test]
    fn changes_of_a_key_take_turns_and_those_of_another_do_not_wait() {
        let turns = Turns::new();
        let other = (0..100u8).find(|n| !std::ptr::eq(turns.stripe(&[*n]), turns.stripe(b"k"))).expect("there are many stripes");
        let Poll::Ready(first) = poll(pin!(turns.change(b"k"))) else { panic!("nobody else is there") };
        assert!(poll(pin!(turns.change(&[other]))).is_ready());
        let mut second = pin!(turns.change(b"k"));
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
    }
}
