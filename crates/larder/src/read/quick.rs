//! The future of a read that memory answers most of the time.
//!
//! An `async` block would do, and its states would cost a hit as much as finding the entry: one function polls hits and
//! misses alike, with a frame for both. Here everything but the look is a call away and in a box, so that the look is
//! compiled into the caller, and its answer moved once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Looks when it is first polled, and waits for what the look did not answer.
///
/// It is the poll that looks, not the call that makes the future: one that is made, kept, and polled after an invalidation
/// returned must not answer with what was there before (promise G1). So does an `async fn`.
pub(crate) struct QuickRead<K, Q, M, F>(State<K, Q, M, F>);

enum State<K, Q, M, F> {
    /// Not polled yet.
    Unasked {
        key: K,
        quick: Q,
        missed: M,
    },
    Missed(Pin<Box<F>>),
    Done,
}

// Nothing is pinned in place: the one part that needs it is in a box.
impl<K, Q, M, F> Unpin for QuickRead<K, Q, M, F> {}

impl<K, Q, M, F> QuickRead<K, Q, M, F>
where
    Q: FnOnce(&K) -> Option<F::Output>,
    M: FnOnce(K) -> F,
    F: Future,
{
    /// `quick` is the look; `missed` makes the future of everything else.
    #[inline]
    pub(crate) fn new(key: K, quick: Q, missed: M) -> Self {
        QuickRead(State::Unasked { key, quick, missed })
    }
}

impl<K, Q, M, F> Future for QuickRead<K, Q, M, F>
where
    Q: FnOnce(&K) -> Option<F::Output>,
    M: FnOnce(K) -> F,
    F: Future,
{
    type Output = F::Output;

    // Always: the compiler weighs the calls below without knowing how seldom they are made.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Done first, whatever comes of it: then the caller sees that a hit leaves nothing to be dropped.
        let mut slow = match std::mem::replace(&mut this.0, State::Done) {
            State::Unasked { key, quick, missed } => match quick(&key) {
                Some(answer) => return Poll::Ready(answer),
                None => boxed(key, missed),
            },
            State::Missed(slow) => slow,
            State::Done => panic!("a read is polled after it has answered"),
        };
        let polled = poll_slow(&mut slow, context);
        if polled.is_pending() {
            this.0 = State::Missed(slow);
        }
        polled
    }
}

#[cold]
#[inline(never)]
fn boxed<K, F>(key: K, missed: impl FnOnce(K) -> F) -> Pin<Box<F>> {
    Box::pin(missed(key))
}

#[cold]
#[inline(never)]
fn poll_slow<F: Future>(slow: &mut Pin<Box<F>>, context: &mut Context<'_>) -> Poll<F::Output> {
    slow.as_mut().poll(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::task::Waker;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn it_looks_when_it_is_polled_and_not_before() {
        let there = Cell::new(None);
        let mut read = QuickRead::new("key", |_| there.get(), |_| std::future::pending());
        there.set(Some(7));
        assert_eq!(poll(&mut read), Poll::Ready(7));
    }

    #[test]
    fn a_miss_gets_the_key_and_waits_without_looking_again() {
        let looks = Cell::new(0);
        let (send, receive) = tokio::sync::oneshot::channel();
        let quick = |_: &String| {
            looks.set(looks.get() + 1);
            None
        };
        let missed = |key: String| async move { (key, receive.await.expect("it is sent")) };
        let mut read = QuickRead::new("key".to_string(), quick, missed);
        assert_eq!(poll(&mut read), Poll::Pending);
        assert_eq!(poll(&mut read), Poll::Pending);
        send.send(7).expect("it is received");
        assert_eq!(poll(&mut read), Poll::Ready(("key".to_string(), 7)));
        assert_eq!(looks.get(), 1);
    }

    #[test]
    #[should_panic(expected = "after it has answered")]
    fn polled_again_it_says_what_is_wrong() {
        let mut read = QuickRead::new((), |()| Some(()), |()| std::future::pending());
        let _answered = poll(&mut read);
        let _again = poll(&mut read);
    }
}
