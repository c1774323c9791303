//! Waiting for a condition, with a limit: what tests do instead of sleeping. It knows nothing of what is waited for.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long to leave the processor to others between two looks: short against what tests wait for (processes, elections),
/// long against a look.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until `condition` holds, for `limit` at most, and says whether it came to hold. It is asked at least once, and
/// once more when the limit has passed, so a thread that got no processor for long is not taken for a broken promise.
///
/// ```
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # use std::time::Duration;
/// # use larder_testkit::wait;
/// static DONE: AtomicBool = AtomicBool::new(false);
/// std::thread::spawn(|| DONE.store(true, Ordering::Release));
/// assert!(wait::until(Duration::from_secs(5), || DONE.load(Ordering::Acquire)), "it was never done");
/// ```
#[must_use = "the condition may not have come to hold"]
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    until_some(limit, || condition().then_some(())).is_some()
}

/// Waits until `look` finds something, for `limit` at most, and returns it.
pub fn until_some<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        // The clock is read before the look: see above.
        let was_last = began.elapsed() >= limit;
        let found = look();
        if found.is_some() || was_last {
            return found;
        }
        pause();
    }
}

/// Lets time pass in a task: a client that is not always at it, a source that takes its time. For whoever plays a part; a test that
/// waits for something waits for that.
pub async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

/// The same, but for no time at least a turn.
pub async fn dawdle(time: Duration) {
    if time.is_zero() { tokio::task::yield_now().await } else { pass(time).await }
}

/// Parking the thread would be simpler, but takes tokens that an executor on this thread may be waiting for.
fn pause() {
    let (nobody, never) = (Mutex::new(()), Condvar::new());
    let guard = nobody.lock().expect("nobody else has this lock");
    drop(never.wait_timeout(guard, PAUSE).expect("nobody else has this lock"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_the_condition_holds() {
        let mut asked = 0;
        assert!(until(Duration::from_secs(60), || {
            asked += 1;
            asked == 3
        }));
        assert_eq!(asked, 3);
    }

    #[test]
    fn it_gives_up_at_the_limit_but_has_asked() {
        let mut asked = 0;
        assert_eq!(
            until_some(Duration::ZERO, || -> Option<()> {
                asked += 1;
                None
            }),
            None
        );
        assert_eq!(asked, 1);
    }
}
