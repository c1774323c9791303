//! How much goes through, and in how much memory: entries that a tier makes up as it is gone through, so that nothing but the backup takes
//! any. Figures are of the processor's time, not the clock's: other things run beside. Run by hand:
//! `cargo test --release -p larder-testkit --test backup -- --ignored --nocapture throughput`.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use larder::backup::{BackupOptions, FolderPlace, RestoreOptions, verify};
use larder::tier::{Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};
use larder::{Clock, Epoch, Larder, Record};

/// So many entries of so many bytes, which are nowhere until they are asked for.
struct MadeUp {
    entries: u64,
    value_bytes: usize,
    epoch: OnceLock<Epoch>,
    written: AtomicU64,
}

impl MadeUp {
    fn record(&self, n: u64) -> (Vec<u8>, Record) {
        // As JSON of features is: much of it is in every value.
        let value = format!(
            "{{\"symbol\":\"S{}\",\"n\":{n},\"rsi\":{}.{:02},\"window\":\"5m\",\"source\":\"bars\"}}",
            n % 1000,
            n % 100,
            n * 7 % 100
        );
        let mut payload = value.into_bytes();
        while payload.len() < self.value_bytes {
            payload.extend_from_slice(
                format!(",{{\"close\":{}.{:02},\"volume\":{}}}", 100 + n % 50, payload.len() % 100, n % 9_000).as_bytes(),
            );
        }
        payload.truncate(self.value_bytes);
        let record = Record {
            epoch: *self.epoch.get().expect("it is set before it is asked"),
            seq: 0,
            created_at: 0,
            fresh_until: u64::MAX,
            expires_at: u64::MAX,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            load_cost_us: 0,
            fingerprint: u128::from(n),
            codec: 0,
            compression: 0,
            negative: false,
            raw_len: payload.len() as u32,
            tags: Box::new([Box::from(format!("symbol:S{}", n % 1000).as_bytes())]),
            media: None,
            origin: None,
            payload: payload.into(),
        };
        (format!("features:S{}:{n}", n % 1000).into_bytes(), record)
    }
}

fn done<T: Send + 'static>(value: T) -> TierFuture<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Tier for MadeUp {
    fn name(&self) -> &'static str {
        "made up"
    }

    fn get<'a>(&'a self, _key: &'a [u8]) -> TierFuture<'a, Option<Record>> {
        done(None)
    }

    fn get_many(&self, keys: Vec<Box<[u8]>>) -> TierFuture<'_, Vec<Option<Record>>> {
        done(keys.iter().map(|_| None).collect())
    }

    fn write(&self, writes: Vec<Write>, _wait: Wait) -> TierFuture<'_, Outcome> {
        self.written.fetch_add(writes.len() as u64, Ordering::Relaxed);
        done(Outcome::Accepted)
    }

    fn keys<'a>(&'a self, _prefix: &'a [u8], _from: Option<Box<[u8]>>, _limit: usize) -> TierFuture<'a, KeyPage> {
        done(KeyPage::default())
    }

    fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> TierFuture<'_, SweepPage> {
        let from = from.map_or(0, |from| u64::from_le_bytes(from[..].try_into().expect("it is one of ours")));
        let to = (from + limit as u64).min(self.entries);
        for n in from..to {
            let (key, record) = self.record(n);
            assert!(keep(&key, &record), "a backup keeps all");
        }
        let next = (to < self.entries).then(|| to.to_le_bytes().as_slice().into());
        done(SweepPage { next, examined: to - from, ..SweepPage::default() })
    }

    fn clear(&self) -> TierFuture<'_, ()> {
        done(())
    }

    fn flush(&self) -> TierFuture<'_, ()> {
        done(())
    }

    fn state(&self) -> TierState {
        TierState::Healthy
    }

    fn stats(&self) -> TierStats {
        TierStats { entries: self.entries, ..TierStats::default() }
    }

    fn close(&self) -> TierFuture<'_, ()> {
        done(())
    }
}

/// Seconds of all processors that this process has taken, and the most memory it ever had, in MiB.
fn taken() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    (ticks as f64 / 100.0, peak.split_whitespace().next().expect("a number").parse::<u64>().expect("a number") / 1024)
}

async fn through(entries: u64, value_bytes: usize) {
    let tier = Arc::new(MadeUp { entries, value_bytes, epoch: OnceLock::new(), written: AtomicU64::new(0) });
    let builder = Larder::builder().memory(1 << 20).index_bytes(1 << 20).clock(Clock::system());
    let larder = builder.backing_tier(tier.clone()).build().await.unwrap();
    tier.epoch.set(larder.position().epoch()).expect("it was not set");
    let (folder, place) = {
        let folder = tempfile::tempdir().unwrap();
        let place = Arc::new(FolderPlace::new(folder.path()));
        (folder, place)
    };
    let mut told = Vec::new();
    // Making the entries up is the tier's work and not the backup's.
    let (before, _) = taken();
    (0..entries).for_each(|n| drop(std::hint::black_box(tier.record(n))));
    let made_up = taken().0 - before;
    let (before, _) = taken();
    let options = BackupOptions { pause: std::time::Duration::ZERO, ..BackupOptions::new("b") };
    let manifest = larder.backup(place.clone(), &options, Arc::new(())).await.unwrap();
    assert_eq!(manifest.entries, entries);
    let mut step = |what: &str, seconds: f64| {
        let rate = manifest.bytes as f64 / 1e6 / seconds;
        told.push(format!("{what} {seconds:.1} s, {rate:.0} MB/s a core; peak {} MiB", taken().1));
    };
    step("taken", taken().0 - before - made_up);
    let (before, _) = taken();
    assert_eq!(verify(&*place, "b", &()).unwrap().entries, entries);
    step("verified", taken().0 - before);
    let (before, _) = taken();
    let restored = larder.restore(place, &RestoreOptions::new("b"), Arc::new(())).await.unwrap();
    assert_eq!((restored.restored, tier.written.load(Ordering::Relaxed)), (entries, entries));
    step("restored", taken().0 - before);
    println!(
        "{entries} entries of {value_bytes} bytes, {} MB, {} MB kept: {}",
        manifest.bytes / 1_000_000,
        manifest.stored_bytes() / 1_000_000,
        told.join("; ")
    );
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, of minutes"]
async fn throughput_of_ten_million_entries_and_of_larger_ones() {
    through(400_000, 2_000).await;
    through(10_000_000, 64).await;
}
