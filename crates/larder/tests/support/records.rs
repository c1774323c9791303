//! Records for tests of a tier: a number that says which write it was, in a payload of any length.

use larder::tier::{Action, Outcome, Tier, Wait, Write};
use larder::{Position, Record};

/// A record of version `seq`; `len` bytes of payload that do not compress.
pub fn record(seq: u64, expires_at: u64, len: usize) -> Record {
    let position: Position = "00000000000000ab-1".parse().expect("a position");
    let mut random = fastrand::Rng::with_seed(seq);
    let mut payload = vec![0; len];
    random.fill(&mut payload);
    Record {
        epoch: position.epoch(),
        seq,
        created_at: 0,
        fresh_until: expires_at,
        expires_at,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        load_cost_us: 0,
        fingerprint: u128::from(seq),
        codec: 0,
        compression: 0,
        negative: false,
        raw_len: len as u32,
        held: Default::default(),
        tags: Box::new([]),
        media: None,
        origin: None,
        payload: payload.into(),
    }
}

/// The write that stores a record which never expires.
pub fn put(key: impl AsRef<[u8]>, seq: u64, len: usize) -> Write {
    store(key, record(seq, u64::MAX, len))
}

/// The write that stores a record.
#[allow(dead_code, reason = "not every test uses it")]
pub fn store(key: impl AsRef<[u8]>, record: Record) -> Write {
    Write { key: key.as_ref().into(), action: Action::Store(record.into()) }
}

/// The write that removes a key.
#[allow(dead_code, reason = "not every test uses it")]
pub fn remove(key: impl AsRef<[u8]>) -> Write {
    Write { key: key.as_ref().into(), action: Action::Remove }
}

/// Which write a key shows.
#[allow(dead_code, reason = "not every test uses it")]
pub async fn seq_of(tier: &impl Tier, key: impl AsRef<[u8]>) -> Option<u64> {
    tier.get(key.as_ref()).await.expect("the tier reads").map(|record| record.seq)
}

/// Writes and waits for the disk.
#[allow(dead_code, reason = "not every test uses it")]
pub async fn write_durably(tier: &impl Tier, writes: Vec<Write>) {
    assert_eq!(tier.write(writes, Wait::Durable).await.expect("the tier writes"), Outcome::Durable);
}
