//! The future of a read that memory answers most of the time.
//!
//! An `async` block would do, and its states would cost a hit as much as finding the entry: one function polls hits and
//! misses alike, with a frame for both. Here everything but the look is a call away and in a box, so that the look is
//! compiled into the caller, its answer moved once, and a hit leaves nothing behind to be written or dropped.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Looks when it is first polled, and waits for what the look did not answer.
///
/// It is the poll that looks, not the call that makes the future: one that is made, kept, and polled after an invalidation
/// returned must not answer with what was there before (promise G1). So does an `async fn`. Polled again after a hit, which
/// nobody should, it looks again.
pub(crate) struct QuickRead<C, K, Q, M, F> {
    cache: C,
    /// Gone once the look has answered nothing.
    key: Option<K>,
    /// What goes on then. Dropped by hand, because a hit asks only whether there is one: the compiler's own drop is a call.
    slow: Option<Slow<F>>,
    quick: Q,
    missed: M,
}

type Slow<F> = ManuallyDrop<Pin<Box<F>>>;

// Nothing is pinned in place: the one part that needs it is in a box.
impl<C, K, Q, M, F> Unpin for QuickRead<C, K, Q, M, F> {}

impl<C, K, Q, M, F> QuickRead<C, K, Q, M, F>
where
    C: Copy,
    Q: Fn(C, &K) -> Option<F::Output>,
    M: Fn(C, K) -> F,
    F: Future,
{
    /// `quick` is the look; `missed` makes the future of everything else. They get `cache`, so that it is kept once.
    #[inline]
    pub(crate) fn new(cache: C, key: K, quick: Q, missed: M) -> Self {
        QuickRead { cache, key: Some(key), slow: None, quick, missed }
    }

    #[cold]
    #[inline(never)]
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(key) = self.key.take() {
            self.slow = Some(ManuallyDrop::new(Box::pin((self.missed)(self.cache, key))));
        }
        self.slow.as_mut().expect("the key is there until this is").as_mut().poll(context)
    }
}

impl<C, K, Q, M, F> Future for QuickRead<C, K, Q, M, F>
where
    C: Copy,
    Q: Fn(C, &K) -> Option<F::Output>,
    M: Fn(C, K) -> F,
    F: Future,
{
    type Output = F::Output;

    // Always: the compiler weighs the calls below without knowing how seldom they are made.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(key) = &self.key
            && let Some(answer) = (self.quick)(self.cache, key)
        {
            return Poll::Ready(answer);
        }
        self.poll_slow(context)
    }
}

impl<C, K, Q, M, F> Drop for QuickRead<C, K, Q, M, F> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.slow.is_some() {
            drop_slow(&mut self.slow);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_slow<F>(slow: &mut Option<Slow<F>>) {
    drop(slow.take().map(ManuallyDrop::into_inner));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::task::Waker;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn it_looks_when_it_is_polled_and_not_before() {
        let there = Cell::new(None);
        let mut read = QuickRead::new(&there, "key", |there, _| there.get(), |_, _| std::future::pending());
        there.set(Some(7));
        assert_eq!(poll(&mut read), Poll::Ready(7));
    }

    #[test]
    fn a_miss_gets_the_key_and_waits_without_looking_again() {
        let looks = Cell::new(0);
        let (send, receive) = tokio::sync::oneshot::channel();
        let receive = Cell::new(Some(receive));
        let quick = |looks: &Cell<u32>, _: &String| {
            looks.set(looks.get() + 1);
            None
        };
        let missed = |_, key: String| {
            let receive = receive.take().expect("one future is made");
            async move { (key, receive.await.expect("it is sent")) }
        };
        let mut read = QuickRead::new(&looks, "key".to_string(), quick, missed);
        assert_eq!(poll(&mut read), Poll::Pending);
        assert_eq!(poll(&mut read), Poll::Pending);
        send.send(7).expect("it is received");
        assert_eq!(poll(&mut read), Poll::Ready(("key".to_string(), 7)));
        assert_eq!(looks.get(), 1);
    }

    #[test]
    fn whatever_it_holds_is_dropped_with_it() {
        let held = Arc::new(());
        let key = held.clone();
        let never_polled = QuickRead::new((), key, |(), _| None, |(), _| std::future::pending::<()>());
        let mut waiting = QuickRead::new(
            (),
            held.clone(),
            |(), _| None,
            |(), key| async move {
                std::future::pending::<()>().await;
                drop(key);
            },
        );
        assert_eq!(poll(&mut waiting), Poll::Pending);
        assert_eq!(Arc::strong_count(&held), 3);
        drop(never_polled);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(waiting);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    #[should_panic(expected = "resumed after completion")]
    fn polled_again_after_a_miss_it_does_not_begin_anew() {
        let mut read = QuickRead::new((), (), |(), ()| None, |(), ()| async {});
        let _answered = poll(&mut read);
        let _again = poll(&mut read);
    }
}
