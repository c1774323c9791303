//! A backing tier for tests: it has nothing, and does what is planted.

use std::sync::atomic::{AtomicBool, Ordering};

use larder::Record;
use larder::tier::{Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};
use tokio::sync::Semaphore;

/// See the head of this file.
pub(crate) struct FakeTier {
    /// How many flushes come to their end; others hang.
    pub flushes: Semaphore,
    /// Reads wait while there is none of these.
    pub reads: Semaphore,
    /// Whether sweeping panics.
    pub sweep_panics: AtomicBool,
}

impl Default for FakeTier {
    fn default() -> Self {
        FakeTier { flushes: Semaphore::new(0), reads: Semaphore::new(1), sweep_panics: AtomicBool::new(false) }
    }
}

fn done<T: Send + 'static>(done: T) -> TierFuture<'static, T> {
    Box::pin(std::future::ready(Ok(done)))
}

impl Tier for FakeTier {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn get<'a>(&'a self, _key: &'a [u8]) -> TierFuture<'a, Option<Record>> {
        Box::pin(async {
            let _one = self.reads.acquire().await.expect("it is never closed");
            Ok(None)
        })
    }

    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>> {
        Box::pin(async move {
            let _one = self.reads.acquire().await.expect("it is never closed");
            Ok(keys.iter().map(|_| None).collect())
        })
    }

    fn write(&self, _writes: Vec<Write>, _wait: Wait) -> TierFuture<'_, Outcome> {
        done(Outcome::Accepted)
    }

    fn keys<'a>(&'a self, _prefix: &'a [u8], _from: Option<Box<[u8]>>, _limit: usize) -> TierFuture<'a, KeyPage> {
        done(KeyPage { keys: Vec::new(), next: None })
    }

    fn sweep(&self, _from: Option<Box<[u8]>>, _limit: usize, _keep: Keep) -> TierFuture<'_, SweepPage> {
        assert!(!self.sweep_panics.load(Ordering::Relaxed), "planted");
        done(SweepPage::default())
    }

    fn clear(&self) -> TierFuture<'_, ()> {
        done(())
    }

    fn flush(&self) -> TierFuture<'_, ()> {
        Box::pin(async {
            self.flushes.acquire().await.expect("it is never closed").forget();
            Ok(())
        })
    }

    fn state(&self) -> TierState {
        TierState::Healthy
    }

    fn stats(&self) -> TierStats {
        TierStats::default()
    }

    fn close(&self) -> TierFuture<'_, ()> {
        done(())
    }
}
