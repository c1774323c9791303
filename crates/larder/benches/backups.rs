//! How much goes through a backup, its verification and a restore, in how much memory; and what reads feel of a backup.
//!
//! What goes through are entries that a tier makes up as it is gone through, so that nothing but the backup takes any memory. Figures are
//! of the processor's time, not the clock's: other things run beside. Reads are measured in rounds in which a backup is taken, against
//! those in between, which take turns, so that what else the machine does falls on both alike.
//!
//! `cargo bench -p larder --bench backups` takes some minutes. `BACKUPS_ENTRIES` is another number of entries than ten million;
//! `BACKUPS_ONLY=large`, `small` or `reads` is one part alone.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder::backup::{BackupOptions, FolderPlace, RestoreOptions, verify};
use larder::tier::{Keep, KeyPage, Outcome, SweepPage, Tier, TierFuture, TierState, TierStats, Wait, Write};
use larder::{Clock, Epoch, Item, Larder, Record};

/// What is asked of each step, in megabytes before compression for a second of the processor.
const RATE_MIN: f64 = 120.0;

/// How long a round of reads is, how many pairs there are, and what the ratio of the two may be.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 11;
const RATIO_MAX: f64 = 1.1;

/// Entries that are read, of a kibibyte each.
const READ: u64 = 200_000;

fn main() {
    let only = std::env::var("BACKUPS_ONLY").ok();
    let is_on = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let entries = std::env::var("BACKUPS_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    if is_on("large") {
        runtime.block_on(through(400_000, 2_000));
    }
    if is_on("small") {
        runtime.block_on(through(entries, 64));
    }
    if is_on("reads") {
        reads(&runtime);
    }
}

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
            held: Default::default(),
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
    let larder = builder.backing_tier(tier.clone()).build().await.expect("it opens");
    tier.epoch.set(larder.position().epoch()).expect("it was not set");
    let (folder, place) = {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Arc::new(FolderPlace::new(folder.path()));
        (folder, place)
    };
    let (mut told, mut is_slow) = (Vec::new(), false);
    // Making the entries up is the tier's work and not the backup's.
    let (before, _) = taken();
    (0..entries).for_each(|n| drop(std::hint::black_box(tier.record(n))));
    let made_up = taken().0 - before;
    let (before, _) = taken();
    let options = BackupOptions { pause: Duration::ZERO, ..BackupOptions::new("b") };
    let manifest = larder.backup(place.clone(), &options, Arc::new(())).await.expect("it is taken");
    assert_eq!(manifest.entries, entries);
    let mut step = |what: &str, seconds: f64| {
        let rate = manifest.bytes as f64 / 1e6 / seconds;
        is_slow |= rate < RATE_MIN;
        told.push(format!("{what} {seconds:.1} s, {rate:.0} MB/s a core; peak {} MiB", taken().1));
    };
    step("taken", taken().0 - before - made_up);
    let (before, _) = taken();
    assert_eq!(verify(&*place, "b", None, &()).expect("it is whole").entries, entries);
    step("verified", taken().0 - before);
    let (before, _) = taken();
    let restored = larder.restore(place, &RestoreOptions::new("b"), Arc::new(())).await.expect("it is restored");
    assert_eq!((restored.restored, tier.written.load(Ordering::Relaxed)), (entries, entries));
    step("restored", taken().0 - before);
    println!(
        "{entries} entries of {value_bytes} bytes, {} MB, {} MB kept: {}",
        manifest.bytes / 1_000_000,
        manifest.stored_bytes() / 1_000_000,
        told.join("; ")
    );
    if is_slow {
        println!("  below the {RATE_MIN} MB/s that are asked");
    }
    drop(folder);
}

/// What reads feel of backups that follow one another.
fn reads(runtime: &tokio::runtime::Runtime) {
    let larder = runtime.block_on(async {
        let larder = Larder::builder().memory(1 << 30).build().await.expect("it opens");
        let raw = larder.raw();
        for n in 0..READ {
            let (key, value) = (key_of(n), format!("{n:01000}"));
            assert!(raw.fill(&key, raw.begin_fill(&key), Item::new(value.into())).await.expect("it is filled"), "nothing is invalidated");
        }
        larder
    });
    let [held, is_over, is_idle] = [true, false, false].map(AtomicBool::new);
    let taken = AtomicU64::new(0);
    let rounds: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let backing_up = scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let folder = tempfile::tempdir().expect("a folder");
                let (place, watch) = (Arc::new(FolderPlace::new(folder.path())), Arc::new(()));
                // As it is taken by default, with its pauses.
                let manifest = runtime.block_on(larder.backup(place, &BackupOptions::new("b"), watch)).expect("it is taken");
                assert_eq!(manifest.entries, READ);
                taken.fetch_add(1, Ordering::Relaxed);
                while held.load(Ordering::Acquire) && !is_over.load(Ordering::Acquire) {
                    is_idle.store(true, Ordering::Release);
                    std::thread::park();
                }
                is_idle.store(false, Ordering::Release);
            }
        });
        let rounds = (0..ROUNDS)
            .map(|_| {
                held.store(true, Ordering::Release);
                // What was under way when it was held goes on to its end.
                while !is_idle.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                let without = p99_of_reads(&larder);
                held.store(false, Ordering::Release);
                backing_up.thread().unpark();
                (without, p99_of_reads(&larder))
            })
            .collect();
        is_over.store(true, Ordering::Release);
        backing_up.thread().unpark();
        rounds
    });
    let mut ratios: Vec<f64> = rounds.iter().map(|(without, with)| *with as f64 / *without as f64).collect();
    ratios.sort_by(f64::total_cmp);
    println!("p99 of reads without and with, in ns: {rounds:?}; {} backups of {READ} entries", taken.load(Ordering::Relaxed));
    let at = |share: usize| ratios[ratios.len() * share / 4];
    println!("ratio: median {:.3}, quartiles {:.3} and {:.3}; asked: {RATIO_MAX} at most", at(2), at(1), at(3));
}

fn key_of(n: u64) -> String {
    format!("n:{n}")
}

/// The time that 99 of 100 reads of fresh keys stayed below, in nanoseconds, over one round.
fn p99_of_reads(larder: &Larder) -> u64 {
    let (raw, mut random, began) = (larder.raw(), fastrand::Rng::new(), Instant::now());
    let mut times = Vec::with_capacity(4 << 20);
    while began.elapsed() < ROUND {
        for _ in 0..64 {
            let key = key_of(random.u64(..READ));
            let read = Instant::now();
            let hit = raw.quick(&key);
            times.push(u64::try_from(read.elapsed().as_nanos()).unwrap_or(u64::MAX));
            assert!(hit.is_some(), "it is fresh, and there");
        }
    }
    let at = times.len() / 100 * 99;
    *times.select_nth_unstable(at).1
}
