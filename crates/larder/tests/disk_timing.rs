//! What the disk tier costs. Not a check, so not run by default:
//! `cargo test -p larder --test disk_timing -- --ignored --nocapture`

#[path = "support/records.rs"]
mod records;

use std::fs;
use std::time::{Duration, Instant};

use larder::tier::disk::{DiskOptions, DiskTier};
use larder::tier::{Outcome, Tier, Wait, Write};
use records::{put, seq_of};

/// CPU that the threads of this name used so far.
fn cpu_of(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("a Linux system").flatten();
    let named = tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let spent = named.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(spent.sum())
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
}

async fn write_all(tier: &DiskTier, what: &str, keys: std::ops::Range<u64>) {
    let (count, since) = (keys.end - keys.start, Instant::now());
    let names = ["larder-disk-wri", "fjall:worker", "larder-disk-rec"];
    let before = names.map(cpu_of);
    for from in keys.step_by(100) {
        let writes: Vec<Write> = (from..from + 100).map(|number| put(key(number), 1, 1_000 - 92 - 20)).collect();
        assert_eq!(tier.write(writes, Wait::Accepted).await.expect("room in time"), Outcome::Accepted);
    }
    tier.flush().await.expect("a flush");
    let each = |index: usize| (cpu_of(names[index]) - before[index]).as_secs_f64() * 1e6 / count as f64;
    let wall = since.elapsed().as_secs_f64() * 1e6 / count as f64;
    let (writer, worker, reclaim) = (each(0), each(1), each(2));
    println!("{what:>24}: writer {writer:5.1} us, engine's worker {worker:5.1} us, reclaim {reclaim:4.1} us, wall {wall:5.1} us a record");
}

#[tokio::test]
#[ignore = "measures, checks nothing"]
async fn what_a_record_costs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = DiskOptions { room_wait: Duration::from_secs(60), ..DiskOptions::new(dir.path()) };
    let tier = DiskTier::open(options.clone()).expect("the tier opens");
    const RECORDS: u64 = 200_000;
    write_all(&tier, "new records", 0..RECORDS).await;
    write_all(&tier, "overwritten", 0..RECORDS).await;
    let since = Instant::now();
    for number in 0..20_000 {
        assert_eq!(seq_of(&tier, key(number * 7 % RECORDS)).await, Some(1));
    }
    println!("{:>24}: {:5.1} us", "get, one at a time", since.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    let since = Instant::now();
    for from in 0..200 {
        let keys = (0..100).map(|i| key((from * 100 + i) * 7 % RECORDS).into()).collect();
        assert!(tier.get_many(keys).await.expect("reads").iter().all(Option::is_some));
    }
    println!("{:>24}: {:5.1} us a key", "get, a hundred at a time", since.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    tier.close().await.expect("the tier closes");
    let since = Instant::now();
    let tier = DiskTier::open(DiskOptions { capacity_bytes: RECORDS * 1_000, ..options }).expect("the tier opens");
    println!("{:>24}: {:5.0} ms", "opening it again", since.elapsed().as_secs_f64() * 1e3);
    write_all(&tier, "new, evicting as many", RECORDS..2 * RECORDS).await;
    let stats = tier.stats();
    println!("{:>24}: {} bytes alive, {} on disk, {} evicted", "in the end", stats.bytes, stats.bytes_on_disk, stats.evicted);
    tier.close().await.expect("the tier closes");
}
