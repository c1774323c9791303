//! Miss leases: cache-aside made safe for clients that know nothing of it.
//!
//! ```text
//!   client A                  larder                       somebody
//!   GET k         ->  a miss: lease (k, position 7)
//!   reads its database                                     invalidates what k depends on: position 8
//!   SET k old     ->  stored only if nothing that k depends on was invalidated after 7: dropped
//! ```
//!
//! A lease belongs to the key, not to the connection: pools send the `SET` over another one. So a `SET` is judged by the *earliest* miss
//! of its key that is not answered yet, which is never later than its own, and answers one: the latest of its own connection, or of all.
//! As many as there were misses, so many `SET`s are judged, whatever order they come in, and the earliest position is the last to go.
//!
//! One that is stored has shown that nothing was invalidated up to its own position, so the others are judged from there on: of a herd
//! that missed together, each may store what it read. One that is dropped takes out what is there: it may be a newer value than that.
//!
//! What follows for a client is in the docs (`docs/resp.md`): a `SET` may be dropped, and the next `GET` misses again. That is always
//! safe, as a cache may forget; the other way round is what loses money.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use larder::{FillToken, Item, Position};
use parking_lot::Mutex;

use super::Resp;
use super::commands::Refusal;

/// Locks that the leases are spread over.
const SHARDS: usize = 16;

/// Leases of one key. Of more misses at once the earliest count.
const OF_KEY_MAX: usize = 16;

/// See the head of this file.
#[derive(Debug)]
pub struct Leases {
    shards: Box<[Mutex<Shard>]>,
    /// Keys with leases: while there is none, a `SET` looks no further.
    keys: AtomicUsize,
    /// How long a lease lasts where its namespace does not say otherwise; none where it is zero.
    life: Duration,
    lives: HashMap<String, Duration>,
    keys_max: usize,
    dropped: AtomicU64,
    given: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<Box<[u8]>, Vec<Lease>, RandomState>,
    /// By when they were given, which is how they are forgotten.
    order: VecDeque<(u64, Box<[u8]>)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    client: u64,
    token: FillToken,
    over_at: u64,
}

impl Leases {
    /// Leases that last so long, in some namespaces otherwise, of so many keys at most.
    pub fn new(life: Duration, lives: HashMap<String, Duration>, keys_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Leases { shards, keys: 0.into(), life, lives, keys_max, dropped: 0.into(), given: 0.into() }
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        use std::hash::BuildHasher;
        let hash = foldhash::fast::FixedState::with_seed(0x7ea5).hash_one(key);
        &self.shards[hash as usize % SHARDS]
    }

    fn life_of(&self, key: &[u8]) -> u64 {
        let named = || {
            let name = key.split(|byte| *byte == b':').next().and_then(|name| std::str::from_utf8(name).ok())?;
            self.lives.get(name)
        };
        let life = if self.lives.is_empty() { self.life } else { *named().unwrap_or(&self.life) };
        life.as_millis() as u64
    }

    /// Whether there is any.
    pub fn are_there(&self) -> bool {
        self.keys.load(Relaxed) > 0
    }

    /// A read of a key missed, and began when the token was taken.
    pub fn missed(&self, key: &[u8], client: u64, token: FillToken, now: u64) {
        let life = self.life_of(key);
        if life == 0 {
            return;
        }
        let over_at = now.saturating_add(life);
        let mut shard = self.shard(key).lock();
        self.forget_old(&mut shard, now);
        let leases = match shard.keys.get_mut(key) {
            Some(leases) => leases,
            None => {
                self.keys.fetch_add(1, Relaxed);
                shard.order.push_back((over_at, key.into()));
                shard.keys.entry(key.into()).or_default()
            }
        };
        leases.retain(|lease| lease.over_at > now);
        if leases.len() < OF_KEY_MAX {
            leases.push(Lease { client, token, over_at });
            self.given.fetch_add(1, Relaxed);
        } else if let Some(last) = leases.last_mut() {
            // The earlier ones are stricter; this one only has to last.
            last.over_at = over_at;
        }
    }

    /// A write of a key comes over a connection, and answers a miss. Returns what a plain one is judged by, if somebody missed the key.
    pub fn redeem(&self, key: &[u8], client: u64, now: u64) -> Option<FillToken> {
        if self.keys.load(Relaxed) == 0 {
            return None;
        }
        let mut shard = self.shard(key).lock();
        let leases = shard.keys.get_mut(key)?;
        leases.retain(|lease| lease.over_at > now);
        let token = leases.first().map(|lease| lease.token);
        if token.is_some() {
            let answered = leases.iter().rposition(|lease| lease.client == client).unwrap_or(leases.len() - 1);
            // The earliest position stays the longest, whoever had it.
            let tokens: Vec<FillToken> = leases.iter().map(|lease| lease.token).collect();
            leases.remove(answered);
            leases.iter_mut().zip(tokens).for_each(|(lease, token)| lease.token = token);
        }
        if leases.is_empty() {
            shard.keys.remove(key);
            self.keys.fetch_sub(1, Relaxed);
        }
        token
    }

    /// A write that was judged by a lease was stored at a position: nothing was invalidated up to there.
    pub fn stored(&self, key: &[u8], position: Position) {
        if let Some(leases) = self.shard(key).lock().keys.get_mut(key) {
            leases.iter_mut().for_each(|lease| lease.token = FillToken::since(key, position));
        }
    }

    /// Gives back the room of those that are over, and of the oldest where there are too many.
    fn forget_old(&self, shard: &mut Shard, now: u64) {
        let most = self.keys_max.div_ceil(SHARDS);
        while let Some((over_at, _)) = shard.order.front()
            && (*over_at <= now || shard.order.len() >= most.max(1))
        {
            let Some((over_at, key)) = shard.order.pop_front() else { return };
            let Some(leases) = shard.keys.get_mut(&key) else { continue };
            leases.retain(|lease| lease.over_at > now);
            match leases.iter().map(|lease| lease.over_at).max() {
                // Others came since.
                Some(later) if over_at <= now => shard.order.push_back((later, key)),
                _ => {
                    shard.keys.remove(&key);
                    self.keys.fetch_sub(1, Relaxed);
                }
            }
        }
    }

    /// Leases given, and writes dropped.
    pub fn counts(&self) -> [u64; 2] {
        [self.given.load(Relaxed), self.dropped.load(Relaxed)]
    }
}

/// A plain write over a connection, judged by the earliest miss that is not answered, if there is one. Returns whether it was stored.
/// Nobody else on this server may change the key meanwhile.
pub async fn put(resp: &Resp, key: &[u8], client: u64, item: Item<Bytes>) -> Result<bool, Refusal> {
    let Some(token) = resp.leases.redeem(key, client, resp.now_ms()) else {
        resp.raw.put(key, item).await?;
        return Ok(true);
    };
    match resp.raw.put_since(key, token, item).await? {
        Some(receipt) => resp.leases.stored(key, receipt.position()),
        None => {
            resp.leases.dropped.fetch_add(1, Relaxed);
            resp.raw.remove([key]).await?;
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder::{Larder, Names};

    /// Tokens of one key at as many positions, each after an invalidation.
    async fn tokens<const N: usize>() -> [FillToken; N] {
        let larder = Larder::builder().build().await.unwrap();
        let mut tokens = Vec::new();
        for _ in 0..N {
            larder.invalidate(Names::new().tag("t")).await.unwrap();
            tokens.push(larder.raw().begin_fill("k"));
        }
        tokens.try_into().unwrap()
    }

    fn leases() -> Leases {
        Leases::new(Duration::from_millis(100), HashMap::new(), 1_000)
    }

    #[tokio::test]
    async fn the_earliest_miss_judges_and_goes_last() {
        let [first, second, third] = tokens().await;
        let leases = leases();
        assert_eq!(leases.redeem(b"k", 1, 0), None, "nobody missed it");
        leases.missed(b"k", 1, first, 0);
        leases.missed(b"k", 2, second, 1);
        leases.missed(b"k", 2, third, 2);
        assert_eq!(leases.redeem(b"k", 2, 3), Some(first));
        assert_eq!(leases.redeem(b"k", 2, 3), Some(first));
        assert_eq!(leases.redeem(b"k", 1, 3), Some(first));
        assert_eq!((leases.redeem(b"k", 1, 3), leases.keys.load(Relaxed)), (None, 0), "all are answered");
    }

    #[tokio::test]
    async fn a_write_over_another_connection_answers_the_latest() {
        let [first, second] = tokens().await;
        let leases = leases();
        leases.missed(b"k", 1, first, 0);
        leases.missed(b"k", 2, second, 0);
        assert_eq!(leases.redeem(b"other", 1, 1), None);
        assert_eq!(leases.redeem(b"k", 9, 1), Some(first));
        assert_eq!(leases.shard(b"k").lock().keys[b"k".as_slice()].len(), 1);
        assert_eq!(leases.redeem(b"k", 9, 100), None, "until the lease is over");
        assert_eq!(leases.keys.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_stored_shows_that_nothing_came_before() {
        let [first, stored] = tokens().await;
        let leases = leases();
        (1..=3).for_each(|client| leases.missed(b"k", client, first, 0));
        assert_eq!(leases.redeem(b"k", 1, 1), Some(first));
        leases.stored(b"k", stored.position());
        assert_eq!(leases.redeem(b"k", 2, 1), Some(stored));
        assert_eq!(leases.redeem(b"k", 3, 1), Some(stored));
    }

    #[tokio::test]
    async fn of_too_many_misses_the_earliest_are_kept() {
        let [first, second] = tokens().await;
        let leases = leases();
        leases.missed(b"k", 0, first, 0);
        (1..=2 * OF_KEY_MAX as u64).for_each(|client| leases.missed(b"k", client, second, client));
        assert_eq!(leases.shard(b"k").lock().keys[b"k".as_slice()].len(), OF_KEY_MAX);
        assert_eq!(leases.redeem(b"k", 99, 99), Some(first));
    }

    #[tokio::test]
    async fn keys_with_leases_have_a_bound_and_old_ones_go() {
        let [token] = tokens().await;
        let leases = Leases::new(Duration::from_millis(100), HashMap::new(), 10 * SHARDS);
        (0..1_000u32).for_each(|n| leases.missed(&n.to_be_bytes(), 1, token, n.into()));
        let held: usize = leases.shards.iter().map(|shard| shard.lock().keys.len()).sum();
        assert!(held <= 10 * SHARDS && held > 0, "{held}");
        assert_eq!(leases.keys.load(Relaxed), held);
        let queued: usize = leases.shards.iter().map(|shard| shard.lock().order.len()).sum();
        assert_eq!(queued, held);
    }

    #[tokio::test]
    async fn a_namespace_has_its_own_life_or_none() {
        let [token] = tokens().await;
        let lives = HashMap::from([("none".into(), Duration::ZERO), ("long".into(), Duration::from_secs(9))]);
        let leases = Leases::new(Duration::from_millis(100), lives, 100);
        for key in ["none:1", "long:1", "other:1"] {
            leases.missed(key.as_bytes(), 1, token, 0);
        }
        let left: Vec<bool> = ["none:1", "long:1", "other:1"].map(|key| leases.redeem(key.as_bytes(), 2, 200).is_some()).into();
        assert_eq!(left, [false, true, false]);
        assert_eq!(leases.counts(), [2, 0]);
    }
}
