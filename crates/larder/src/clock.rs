//! The store's clock: milliseconds since the Unix epoch, never going back while the process lives.
//!
//! Reading the operating system's clock on every hit would cost more than the hit, so one thread of the process copies
//! it into an atomic every few milliseconds and hits read that. Times to live are therefore exact to about
//! [`TICK`], which is also what a paused process may be behind for, until its ticker runs again.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
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
    /// What is added to this machine's time: nothing, unless the clock follows a store's.
    ahead_ms: Arc<AtomicI64>,
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
        SYSTEM.get_or_init(|| Clock::start(0)).clone()
    }

    fn start(off_ms: i64) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let base = Base { wall_ms: (wall.as_millis() as u64).saturating_add_signed(off_ms), instant: Instant::now() };
        let clock = Clock { now_ms: Arc::new(AtomicU64::new(base.wall_ms)), base: Some(base), ahead_ms: Arc::default() };
        let (now_ms, ahead_ms) = (Arc::downgrade(&clock.now_ms), clock.ahead_ms.clone());
        // A daemon thread that ends with the last handle; the system's clock has one for the life of the process.
        std::thread::Builder::new()
            .name("larder-clock".into())
            .spawn(move || tick_until_unused(now_ms, base, ahead_ms))
            .expect("a process that cannot start one thread cannot run a cache");
        clock
    }

    /// A clock that follows a store's: two machines' wall clocks are never compared. It begins with this machine's time, and
    /// is set by [`follow`](Self::follow). `off_ms` is for tests: how wrong that time is.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a store that is shared has a clock of its own"))]
    pub(crate) fn following(off_ms: i64) -> Self {
        Clock::start(off_ms)
    }

    /// Sets the clock to a store's time, as of now. `anew` also sets it back, which is for the moment at which nothing that
    /// was timed by the old one may be served any more; otherwise it stands still until the store has caught up.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only a store that is shared has a clock of its own"))]
    pub(crate) fn follow(&self, store_ms: u64, anew: bool) {
        let Some(base) = self.base else { return };
        let own = base.wall_ms + base.instant.elapsed().as_millis() as u64;
        self.ahead_ms.store(store_ms as i64 - own as i64, Ordering::Release);
        if anew {
            self.now_ms.store(store_ms, Ordering::Release);
        }
    }

    /// A clock that only moves when it is told to. It starts at an arbitrary fixed moment.
    pub fn manual() -> Self {
        Clock { now_ms: Arc::new(AtomicU64::new(1_700_000_000_000)), base: None, ahead_ms: Arc::default() }
    }

    /// The time of the last tick: one relaxed load.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// The exact time, which also brings the shared clock up to date. For every path that is slower than a memory hit.
    pub fn refresh(&self) -> u64 {
        let Some(base) = self.base else { return self.now_ms() };
        base.advance(&self.now_ms, &self.ahead_ms)
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

impl Base {
    fn advance(self, now_ms: &AtomicU64, ahead_ms: &AtomicI64) -> u64 {
        loop {
            // In this order: a time that was made with an older offset must not come over one that was set anew.
            let seen = now_ms.load(Ordering::Acquire);
            let own = self.wall_ms + self.instant.elapsed().as_millis() as u64;
            let now = own.saturating_add_signed(ahead_ms.load(Ordering::Acquire));
            // Two refreshers may arrive out of order; the larger one stays.
            if now <= seen {
                return seen;
            }
            if now_ms.compare_exchange_weak(seen, now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return now;
            }
        }
    }
}

fn tick_until_unused(now_ms: Weak<AtomicU64>, base: Base, ahead_ms: Arc<AtomicI64>) {
    while let Some(now_ms) = now_ms.upgrade() {
        base.advance(&now_ms, &ahead_ms);
        drop(now_ms);
        std::thread::sleep(TICK);
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
    fn a_clock_that_follows_goes_back_only_when_it_is_set_anew() {
        let clock = Clock::following(0);
        let own = clock.refresh();
        clock.follow(own + 86_400_000, false);
        let ahead = clock.refresh();
        assert!(ahead >= own + 86_400_000);
        clock.follow(own, false);
        assert!(clock.refresh() >= ahead, "what was timed by the old one still lives");
        clock.follow(own, true);
        assert!(clock.refresh() < own + 60_000);
    }

    #[test]
    #[should_panic(expected = "cannot be moved")]
    fn the_system_clock_cannot_be_moved() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
