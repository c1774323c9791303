//! The store's clock: milliseconds since the Unix epoch, never going back while the process lives.
//!
//! Reading the operating system's clock on every hit would cost more than the hit, so one thread of the process copies
//! it into an atomic every few milliseconds and hits read that. Times to live are therefore exact to about
//! [`TICK`], which is also what a paused process may be behind for, until its ticker runs again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// How often the shared clock is brought up to date: 250 wake-ups a second cost under 0.1 % of a core.
pub const TICK: Duration = Duration::from_millis(4);

/// A moment, in milliseconds since the Unix epoch.
pub(crate) type Millis = u64;

/// Where the cache reads the time: the system's, or one that a test drives by hand.
///
/// ```
/// use std::time::Duration;
/// use larder::Clock;
/// let clock = Clock::manual();
/// let before = clock.now_ms();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now_ms(), before + 60_000);
/// ```
#[derive(Clone, Debug)]
pub struct Clock {
    now_ms: Arc<AtomicU64>,
    base: Option<Base>,
}

/// What the system clock is counted from: wall time once, monotonic time after.
#[derive(Clone, Copy, Debug)]
struct Base {
    wall_ms: u64,
    instant: Instant,
}

impl Clock {
    /// The system's time. The first call of a process starts the thread that keeps it.
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Clock> = OnceLock::new();
        SYSTEM.get_or_init(Clock::start).clone()
    }

    fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let base = Base { wall_ms: wall.as_millis() as u64, instant: Instant::now() };
        let clock = Clock { now_ms: Arc::new(AtomicU64::new(base.wall_ms)), base: Some(base) };
        let ticking = clock.clone();
        let ticker = move || {
            loop {
                std::thread::sleep(TICK);
                ticking.refresh();
            }
        };
        // One daemon thread for the life of the process, shared by every cache in it.
        std::thread::Builder::new()
            .name("larder-clock".into())
            .spawn(ticker)
            .expect("a process that cannot start one thread cannot run a cache");
        clock
    }

    /// A clock that only moves when it is told to. It starts at an arbitrary fixed moment.
    pub fn manual() -> Self {
        Clock { now_ms: Arc::new(AtomicU64::new(1_700_000_000_000)), base: None }
    }

    /// The time of the last tick: one relaxed load.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// The exact time, which also brings the shared clock up to date. For every path that is slower than a memory hit.
    pub fn refresh(&self) -> u64 {
        let Some(base) = self.base else { return self.now_ms() };
        let now = base.wall_ms + base.instant.elapsed().as_millis() as u64;
        // Two refreshers may arrive out of order; the larger one stays.
        self.now_ms.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// If this is the system's clock.
    pub fn advance(&self, by: Duration) {
        assert!(self.base.is_none(), "the system's clock cannot be moved");
        self.now_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = Clock::system();
        let mut last = clock.refresh();
        for _ in 0..10_000 {
            let now = clock.refresh();
            assert!(now >= last);
            assert!(clock.now_ms() >= last);
            last = now;
        }
    }

    #[test]
    #[should_panic(expected = "cannot be moved")]
    fn the_system_clock_cannot_be_moved() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
