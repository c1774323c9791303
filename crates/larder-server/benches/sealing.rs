//! What encryption costs a backup: taken, verified and restored plain and sealed, in turns, in seconds of the processor; and what a
//! passphrase costs once for each backup. `cargo bench -p larder-server --bench sealing`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::Larder;
use larder::backup::{BackupOptions, FolderPlace, Opener, RestoreOptions, Sealer, verify};
use larder_server::backup::keys::{Keys, Passphrase, Recipient, SealBy};

const ENTRIES: usize = 60_000;
const VALUE_BYTES: usize = 2_000;
const ROUNDS: usize = 5;

/// A pair of keys that seals nothing else.
const SECRET: &str = "AGE-SECRET-KEY-1X9FQCKZU8DGGRDL9Z37HP8U7FRPN420S3ZPF292DS0ULFV9LD4SQE50JZ2";
const PUBLIC: &str = "age1uh4t8tnlvcyjtwz3eu3ev0t6pqy4ktyr40upljgn8jdh6qph3yzsw6zxrl";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(backups());
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let by = SealBy::Passphrase(Passphrase::to_seal_by("four words by chance".into()).expect("it is long enough"));
            drop(std::hint::black_box(by.sealer().expect("a key is sealed")));
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("a passphrase, once for each backup: {:.3} s", times[ROUNDS / 2].as_secs_f64());
}

/// Seconds of all processors that this process has taken.
fn taken() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum::<u64>() as f64 / 100.0
}

async fn backups() {
    let recipients = SealBy::Recipients(vec![PUBLIC.parse::<Recipient>().expect("it is one")]);
    let mut keys = Keys::default();
    keys.add_identities(SECRET).expect("it is one");
    let sealer = recipients.sealer().expect("it is one");
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    let larder = Larder::builder().memory(512 << 20).build().await.expect("it opens");
    for n in 0..ENTRIES {
        // As JSON of features is: much of it is in every value.
        let mut value = format!("{{\"symbol\":\"S{}\",\"n\":{n}", n % 1000).into_bytes();
        while value.len() < VALUE_BYTES {
            value
                .extend_from_slice(format!(",{{\"close\":{}.{:02},\"volume\":{}}}", 100 + n % 50, value.len() % 100, n % 9_000).as_bytes());
        }
        larder.raw().put(format!("features:S{}:{n}", n % 1000), larder::Item::new(value.into())).await.expect("it is put");
    }
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        plain.push(one(&larder, None, None, &mut bytes).await);
        sealed.push(one(&larder, Some(sealer.clone()), keys.opener(), &mut bytes).await);
    }
    println!("{ENTRIES} entries of {VALUE_BYTES} bytes, {} MB; seconds of a processor, median of {ROUNDS}:", bytes / 1_000_000);
    for (at, what) in ["taken", "verified", "restored"].into_iter().enumerate() {
        let median = |rounds: &[[f64; 3]]| {
            let mut all: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
            all.sort_by(f64::total_cmp);
            all[ROUNDS / 2]
        };
        let (plain, sealed) = (median(&plain), median(&sealed));
        let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
        println!(
            "  {what:<9} {plain:.2} plain ({:.0} MB/s), {sealed:.2} encrypted ({:.0} MB/s): {:.2} x",
            rate(plain),
            rate(sealed),
            sealed / plain
        );
    }
}

/// What it takes to take a backup, to verify it, and to restore it.
async fn one(larder: &Larder, sealer: Option<Arc<dyn Sealer>>, opener: Option<Arc<dyn Opener>>, bytes: &mut u64) -> [f64; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Arc::new(FolderPlace::new(folder.path()));
    let begun = taken();
    let options = BackupOptions { pause: Duration::ZERO, sealer, ..BackupOptions::new("b") };
    let manifest = larder.backup(place.clone(), &options, Arc::new(())).await.expect("it is taken");
    assert_eq!(manifest.entries, ENTRIES as u64);
    *bytes = manifest.bytes;
    let after_taking = taken();
    assert_eq!(verify(&*place, "b", opener.as_deref(), &()).expect("it is whole").entries, ENTRIES as u64);
    let after_verifying = taken();
    let options = RestoreOptions { opener, ..RestoreOptions::new("b") };
    let restored = larder.restore(place, &options, Arc::new(())).await.expect("it is restored");
    assert_eq!(restored.restored, ENTRIES as u64);
    [after_taking - begun, after_verifying - after_taking, taken() - after_verifying]
}
