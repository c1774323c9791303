//! The disk tier against a map: random operations under a clock driven by hand, with closing and reopening between.

#[path = "support/records.rs"]
mod records;
#[path = "support/seed.rs"]
mod seed;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::tier::disk::{DiskOptions, DiskTier};
use larder::tier::{Action, Outcome, Tier, TierState, Wait, Write};
use larder::{Clock, ErrorKind, Record};
use records::{put, record, remove, seq_of, store, write_durably};

const KEYS: u64 = 60;

/// What the tier should hold.
#[derive(Debug, Default)]
struct Model(BTreeMap<Vec<u8>, Record>);

impl Model {
    fn apply(&mut self, write: &Write, now: u64) {
        let Action::Store(record) = &write.action else {
            self.0.remove(&*write.key);
            return;
        };
        if self.get(&write.key, now).is_some_and(|old| old.outranks(record)) {
            return;
        }
        self.0.insert(write.key.to_vec(), (**record).clone());
    }

    fn get(&self, key: &[u8], now: u64) -> Option<&Record> {
        self.0.get(key).filter(|record| record.expires_at > now)
    }
}

fn any_key(random: &mut fastrand::Rng) -> Vec<u8> {
    let number = random.u64(0..KEYS);
    format!("{}:{number}", ["a", "b", "ab"][(number % 3) as usize]).into_bytes()
}

fn any_write(random: &mut fastrand::Rng, now: u64, seq: u64) -> Write {
    let key = any_key(random);
    if random.u8(..) < 50 {
        return remove(key);
    }
    let expires_at = if random.bool() { u64::MAX } else { now + random.u64(0..200) };
    store(key, record(seq, expires_at, random.usize(0..500)))
}

async fn check_all(tier: &DiskTier, model: &Model, now: u64) {
    let keys: Vec<Vec<u8>> = (0..KEYS).flat_map(|number| ["a", "b", "ab"].map(|name| format!("{name}:{number}").into_bytes())).collect();
    let found = tier.get_many(keys.iter().map(|key| key.as_slice().into()).collect()).await.unwrap();
    for (key, found) in keys.iter().zip(&found) {
        assert_eq!(found.as_ref(), model.get(key, now), "{}", key.escape_ascii());
    }
}

async fn check_keys(tier: &DiskTier, model: &Model, now: u64, prefix: &[u8], page_size: usize) {
    tier.flush().await.unwrap();
    let (mut listed, mut from) = (Vec::new(), None);
    loop {
        let page = tier.keys(prefix, from, page_size).await.unwrap();
        assert!(page.keys.len() <= page_size);
        listed.extend(page.keys.into_iter().map(Vec::from));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let expected = model.0.keys().filter(|key| key.starts_with(prefix) && model.get(key, now).is_some());
    assert!(listed.iter().eq(expected), "{listed:?}");
}

fn by_hand(path: &Path, clock: &Clock) -> DiskOptions {
    let (memtable_bytes, upkeep_interval) = (16 << 10, Duration::from_secs(3_600));
    DiskOptions { clock: clock.clone(), memtable_bytes, upkeep_interval, ..DiskOptions::new(path) }
}

#[tokio::test]
async fn it_is_a_map() {
    let mut random = fastrand::Rng::with_seed(seed::announced("it_is_a_map"));
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let mut tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    let mut model = Model::default();
    for step in 1_000..4_000 {
        let now = clock.now_ms();
        match random.u32(0..1_000) {
            0..550 => {
                // Mostly newer than all before; some as an old load that comes late.
                let late = random.u8(..) < 50;
                if late {
                    // What is queued refuses a late one even if its own time is over; what is stored does not.
                    tier.flush().await.unwrap();
                }
                let seq = if late { random.u64(0..step) } else { step };
                let writes: Vec<_> = (0..random.usize(1..8)).map(|_| any_write(&mut random, now, seq)).collect();
                writes.iter().for_each(|write| model.apply(write, now));
                let wait = [Wait::No, Wait::Accepted, Wait::Accepted, Wait::Durable][random.usize(0..4)];
                let expected = if wait == Wait::Durable { Outcome::Durable } else { Outcome::Accepted };
                assert_eq!(tier.write(writes, wait).await.unwrap(), expected);
                if late {
                    // An older write may be shown until the store finds it outranked; from then on it is not.
                    tier.flush().await.unwrap();
                }
            }
            550..900 => {
                let key = any_key(&mut random);
                assert_eq!(tier.get(&key).await.unwrap().as_ref(), model.get(&key, now), "{}", key.escape_ascii());
            }
            900..950 => clock.advance(Duration::from_millis(random.u64(1..50))),
            950..970 => tier.upkeep().await.unwrap(),
            970..985 => {
                check_keys(&tier, &model, now, [&b""[..], b"a", b"a:", b"ab:", b"c"][random.usize(0..5)], random.usize(1..40)).await
            }
            985..988 => {
                tier.clear().await.unwrap();
                model.0.clear();
            }
            988..994 => check_all(&tier, &model, now).await,
            _ => {
                tier.close().await.unwrap();
                tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
            }
        }
    }
    check_all(&tier, &model, clock.now_ms()).await;
    tier.upkeep().await.unwrap();
    let now = clock.now_ms();
    let live = model.0.iter().filter(|(_, record)| record.expires_at > now);
    let (entries, bytes) = live.fold((0, 0), |(entries, bytes), (key, record)| (entries + 1, bytes + key.len() + record.encoded_len()));
    assert_eq!((tier.stats().entries, tier.stats().bytes), (entries, bytes as u64));
    assert_eq!((tier.stats().errors, tier.stats().unreadable, tier.stats().shed), (0, 0, 0));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_tier_says_so_and_gives_its_folder_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    assert_eq!(DiskTier::open(by_hand(dir.path(), &clock)).err().map(|error| error.kind()), Some(ErrorKind::Locked));
    assert_eq!(tier.write(vec![put("k", 1, 10)], Wait::No).await.unwrap(), Outcome::Accepted);
    tier.close().await.unwrap();
    tier.close().await.unwrap();
    for error in [
        tier.get(b"k").await.unwrap_err(),
        tier.get_many(vec![]).await.unwrap_err(),
        tier.write(vec![put("k", 1, 1)], Wait::Accepted).await.unwrap_err(),
        tier.keys(b"", None, 1).await.unwrap_err(),
        tier.clear().await.unwrap_err(),
        tier.flush().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    assert_eq!(seq_of(&tier, "k").await, Some(1), "closing stores what is queued");
}

#[tokio::test]
async fn a_dropped_tier_stores_what_it_accepted_and_ends_its_threads() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    for round in 0..3 {
        let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
        let writes = (0..100).map(|number| put(format!("{round}:{number}"), 1, 1_000)).collect();
        assert_eq!(tier.write(writes, Wait::Accepted).await.unwrap(), Outcome::Accepted);
        drop(tier);
    }
    let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    assert_eq!(tier.stats().entries, 300);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_miss() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    write_durably(&tier, vec![put("good", 1, 10), put("bad", 1, 10)]).await;
    tier.close().await.unwrap();
    {
        let database = fjall::Database::builder(dir.path().join("store")).open().unwrap();
        let entries = database.keyspace("entries-0", || unreachable!("it exists")).unwrap();
        let mut value = entries.get("rbad").unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        entries.insert("rbad", value).unwrap();
    }
    let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
    assert_eq!((seq_of(&tier, "bad").await, seq_of(&tier, "good").await, tier.stats().unreadable), (None, Some(1), 1));
    let page = tier.sweep(None, 10, std::sync::Arc::new(|_, _| true)).await.unwrap();
    assert_eq!((page.examined, page.removed, tier.stats().entries), (2, 1, 1));
    tier.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_cannot_be_read_back_is_begun_anew() {
    let damages: [fn(&Path); 3] = [
        |store| fs::write(store.join("keyspaces/1/current"), b"nonsense").unwrap(),
        |store| fs::remove_file(store.join("version")).unwrap(),
        |store| fs::remove_dir_all(store.join("keyspaces/0")).unwrap(),
    ];
    for damage in damages {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
        write_durably(&tier, vec![put("k", 1, 10)]).await;
        tier.close().await.unwrap();
        damage(&dir.path().join("store"));
        let tier = DiskTier::open(by_hand(dir.path(), &clock)).unwrap();
        assert_eq!((tier.stats().entries, tier.stats().errors, tier.state()), (0, 1, TierState::Healthy));
        write_durably(&tier, vec![put("k", 2, 10)]).await;
        assert_eq!(seq_of(&tier, "k").await, Some(2));
        tier.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_a_tier_is_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    fs::write(dir.path().join("FORMAT"), "larder disk tier\nversion 99\n").unwrap();
    let error = DiskTier::open(by_hand(dir.path(), &clock)).err().expect("an unknown version is refused");
    assert_eq!(error.kind(), ErrorKind::UnknownFormat);
    assert!(error.to_string().contains("version 99") && error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let no_room = DiskOptions { queue_bytes: 0, ..by_hand(&dir.path().join("new"), &clock) };
    assert_eq!(DiskTier::open(no_room).err().map(|error| error.kind()), Some(ErrorKind::InvalidConfig));
    assert!(!dir.path().join("new").exists());
}
