//! Tasks whose type is left behind: the runtime's part of one, some sixty functions, is then built once, and not for each future and each
//! type of value in every program.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Begins a task that goes on whether or not anybody waits for what it returns. That is an error if the task panicked, or the runtime was
/// shut down.
pub(crate) fn spawn<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> oneshot::Receiver<T> {
    let (done, outcome) = oneshot::channel();
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // Whoever began it may have stopped waiting.
        drop(done.send(work.await));
    });
    runtime.spawn(task);
    outcome
}

/// Waits for a future on this thread.
///
/// # Panics
/// On a thread of a runtime.
pub(crate) fn block_on<T>(runtime: &Handle, work: impl Future<Output = T>) -> T {
    let mut outcome = None;
    let waiting: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async {
        outcome = Some(work.await);
    });
    runtime.block_on(waiting);
    outcome.expect("it was waited for")
}
