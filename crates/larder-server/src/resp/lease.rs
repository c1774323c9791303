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
//! One of which it is not known what became of it answers nothing, and is judged again when it comes again.
//!
//! What follows for a client is in the docs (`docs/resp.md`): a `SET` may be dropped, and the next `GET` misses again. That is always
//! safe, as a cache may forget; the other way round is what loses money.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use larder::{Change, FillToken, Item, Position, Receipt};
use parking_lot::Mutex;

use super::Resp;
use super::commands::Refusal;

/// Locks that the leases are spread over.
const SHARDS: usize = 16;

/// Leases of one key. More misses at once share the last one, which is then as strict as the first of them demands.
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
    evicted: AtomicU64,
    given: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<Box<[u8]>, Missed, RandomState>,
    /// By when keys were missed first, which is how they are forgotten. One whose turn is not its key's is of a life before.
    order: VecDeque<Turn>,
    turns: u64,
}

/// A key that was missed.
#[derive(Debug)]
struct Missed {
    leases: Vec<Lease>,
    turn: u64,
}

#[derive(Debug)]
struct Turn {
    key: Box<[u8]>,
    turn: u64,
    over_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// Whose; 0 where several share it.
    client: u64,
    token: FillToken,
    over_at: u64,
    /// How many misses it stands for.
    misses: u32,
}

impl Leases {
    /// Leases that last so long, in some namespaces otherwise, of so many keys at most.
    pub fn new(life: Duration, lives: HashMap<String, Duration>, keys_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Leases { shards, keys: 0.into(), life, lives, keys_max, dropped: 0.into(), evicted: 0.into(), given: 0.into() }
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
        self.forget_old(&mut shard, now, self.keys_max.div_ceil(SHARDS).max(1));
        let Shard { keys, order, turns } = &mut *shard;
        let leases = match keys.get_mut(key) {
            Some(missed) => &mut missed.leases,
            None => {
                self.keys.fetch_add(1, Relaxed);
                *turns += 1;
                order.push_back(Turn { key: key.into(), turn: *turns, over_at });
                &mut keys.entry(key.into()).or_insert(Missed { leases: Vec::new(), turn: *turns }).leases
            }
        };
        leases.retain(|lease| lease.over_at > now);
        let is_full = leases.len() >= OF_KEY_MAX;
        match leases.last_mut().filter(|_| is_full) {
            Some(last) => *last = Lease { client: 0, over_at, misses: last.misses.saturating_add(1), ..*last },
            None => leases.push(Lease { client, token, over_at, misses: 1 }),
        }
        self.given.fetch_add(1, Relaxed);
    }

    /// What a plain write of a key is judged by, if somebody missed the key.
    pub fn judge(&self, key: &[u8], now: u64) -> Option<FillToken> {
        if !self.are_there() {
            return None;
        }
        let shard = self.shard(key).lock();
        let live = shard.keys.get(key)?.leases.iter().find(|lease| lease.over_at > now);
        live.map(|lease| lease.token)
    }

    /// A write of a key over a connection has been stored, or dropped, and answers a miss: the latest of its own, or else, unless only
    /// its own count, the latest of all. The earliest position stays the longest.
    pub fn answered(&self, key: &[u8], client: u64, only_own: bool) {
        if !self.are_there() {
            return;
        }
        let mut shard = self.shard(key).lock();
        let Some(missed) = shard.keys.get_mut(key) else { return };
        let leases = &mut missed.leases;
        let own = leases.iter().rposition(|lease| lease.client == client);
        let Some(at) = own.or_else(|| leases.len().checked_sub(1).filter(|_| !only_own)) else { return };
        leases[at].misses -= 1;
        if leases[at].misses == 0 {
            leases.remove(at);
        }
        if leases.is_empty() {
            shard.keys.remove(key);
            self.keys.fetch_sub(1, Relaxed);
        }
    }

    /// Gives back the room of leases that are over.
    pub fn sweep(&self, now: u64) {
        self.shards.iter().for_each(|shard| self.forget_old(&mut shard.lock(), now, usize::MAX));
    }

    /// A write that was judged by a lease was stored at a position: nothing was invalidated up to there.
    pub fn stored(&self, key: &[u8], position: Position) {
        if let Some(missed) = self.shard(key).lock().keys.get_mut(key) {
            missed.leases.iter_mut().for_each(|lease| lease.token = FillToken::since(key, position));
        }
    }

    /// Gives back the room of those that are over, and of the oldest where there are too many.
    fn forget_old(&self, shard: &mut Shard, now: u64, most: usize) {
        while let Some(first) = shard.order.front()
            && (first.over_at <= now || shard.order.len() >= most)
        {
            let Some(Turn { key, turn, over_at }) = shard.order.pop_front() else { return };
            let Some(missed) = shard.keys.get_mut(&key).filter(|missed| missed.turn == turn) else { continue };
            missed.leases.retain(|lease| lease.over_at > now);
            match missed.leases.iter().map(|lease| lease.over_at).max() {
                // Others came since.
                Some(later) if over_at <= now => shard.order.push_back(Turn { key, turn, over_at: later }),
                still => {
                    self.evicted.fetch_add(still.is_some().into(), Relaxed);
                    shard.keys.remove(&key);
                    self.keys.fetch_sub(1, Relaxed);
                }
            }
        }
    }

    /// Leases given, writes dropped, and keys that lost their leases for want of room.
    pub fn counts(&self) -> [u64; 3] {
        [self.given.load(Relaxed), self.dropped.load(Relaxed), self.evicted.load(Relaxed)]
    }
}

/// A plain write over a connection, judged by the earliest miss that is not answered, if there is one. Returns where it stands, if it was
/// stored. In a transaction, which `holds` the key, nobody else on this server changes it; otherwise that is seen to here.
pub async fn put(resp: &Resp, key: &[u8], client: u64, item: Item<Bytes>, holds: bool) -> Result<Option<Receipt>, Refusal> {
    // When it came, and not when it had its turn: a lease that lasts up to now concerns it.
    let now = resp.now_ms();
    if resp.leases.judge(key, now).is_none() {
        // Beside other writes, since the log orders them.
        let _shared = if holds { None } else { Some(resp.stripes.share(key).await?) };
        return Ok(Some(resp.raw.put(key, item).await?));
    }
    // One at a time, so that of a herd each finds where the one before it stands.
    let _held = if holds { None } else { Some(resp.stripes.hold(key).await?) };
    let Some(token) = resp.leases.judge(key, now) else { return Ok(Some(resp.raw.put(key, item).await?)) };
    let stored = resp.raw.put_since(key, token, item).await?;
    match &stored {
        Some(receipt) => resp.leases.stored(key, receipt.position()),
        None => {
            // Where nothing is, nothing is appended: that would be one more change for those who have just missed it.
            resp.raw.change(key, |_| (Change::Remove, ())).await?;
            resp.leases.dropped.fetch_add(1, Relaxed);
        }
    }
    resp.leases.answered(key, client, false);
    Ok(stored)
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

    /// Judges a write at a time, and takes it as stored or dropped.
    fn redeem(leases: &Leases, key: &[u8], client: u64, now: u64) -> Option<FillToken> {
        let token = leases.judge(key, now);
        leases.answered(key, client, false);
        token
    }

    #[tokio::test]
    async fn the_earliest_miss_judges_and_goes_last() {
        let [first, second, third] = tokens().await;
        let leases = leases();
        assert_eq!(redeem(&leases, b"k", 1, 0), None, "nobody missed it");
        leases.missed(b"k", 1, first, 0);
        leases.missed(b"k", 2, second, 1);
        leases.missed(b"k", 2, third, 2);
        assert_eq!(redeem(&leases, b"k", 2, 3), Some(first));
        assert_eq!(redeem(&leases, b"k", 9, 3), Some(first), "over another connection it answers the latest");
        assert_eq!(redeem(&leases, b"k", 1, 3), Some(first));
        assert_eq!((leases.judge(b"k", 3), leases.keys.load(Relaxed)), (None, 0), "all are answered");
    }

    #[tokio::test]
    async fn an_answer_of_ones_own_leaves_the_later_misses_of_others() {
        let [first, second] = tokens().await;
        let leases = leases();
        leases.missed(b"k", 1, first, 0);
        leases.missed(b"k", 2, second, 10);
        leases.answered(b"k", 3, true);
        assert_eq!(redeem(&leases, b"k", 1, 11), Some(first));
        assert_eq!(leases.judge(b"k", 11), Some(second), "which is judged by where it stood");
        assert_eq!((leases.judge(b"k", 110), leases.judge(b"other", 11)), (None, None), "until it is over");
    }

    #[tokio::test]
    async fn what_is_stored_shows_that_nothing_came_before() {
        let [first, stored] = tokens().await;
        let leases = leases();
        (1..=3).for_each(|client| leases.missed(b"k", client, first, 0));
        assert_eq!(redeem(&leases, b"k", 1, 1), Some(first));
        leases.stored(b"k", stored.position());
        assert_eq!(redeem(&leases, b"k", 2, 1), Some(stored));
        assert_eq!(redeem(&leases, b"k", 3, 1), Some(stored));
    }

    #[tokio::test]
    async fn of_a_large_herd_every_write_is_judged() {
        let [first, second] = tokens().await;
        let leases = leases();
        let herd = 4 * OF_KEY_MAX as u64;
        leases.missed(b"k", 1, first, 0);
        (2..=herd).for_each(|client| leases.missed(b"k", client, second, 1));
        assert_eq!(leases.shard(b"k").lock().keys[b"k".as_slice()].leases.len(), OF_KEY_MAX);
        assert!((1..=herd).rev().all(|client| redeem(&leases, b"k", client, 50).is_some()));
        assert_eq!((leases.judge(b"k", 50), leases.keys.load(Relaxed)), (None, 0));
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
        assert!(leases.counts()[2] > 0, "those that had to go before their time are counted");
    }

    #[tokio::test]
    async fn a_life_before_does_not_end_the_next_one() {
        let [token] = tokens().await;
        let leases = Leases::new(Duration::from_millis(100), HashMap::new(), 2 * SHARDS);
        leases.missed(b"k", 1, token, 0);
        assert!(redeem(&leases, b"k", 1, 0).is_some());
        leases.missed(b"k", 1, token, 1);
        // Another key of the same shard, for which what is oldest has to go.
        let other = (0..1_000u32).map(u32::to_be_bytes).find(|key| std::ptr::eq(leases.shard(key), leases.shard(b"k"))).unwrap();
        leases.missed(&other, 1, token, 2);
        assert!(leases.judge(b"k", 3).is_some() && leases.judge(&other, 3).is_some());
    }

    #[tokio::test]
    async fn a_namespace_has_its_own_life_or_none() {
        let [token] = tokens().await;
        let lives = HashMap::from([("none".into(), Duration::ZERO), ("long".into(), Duration::from_secs(9))]);
        let leases = Leases::new(Duration::from_millis(100), lives, 100);
        for key in ["none:1", "long:1", "other:1"] {
            leases.missed(key.as_bytes(), 1, token, 0);
        }
        let left: Vec<bool> = ["none:1", "long:1", "other:1"].map(|key| leases.judge(key.as_bytes(), 200).is_some()).into();
        assert_eq!(left, [false, true, false]);
        assert_eq!(leases.counts(), [2, 0, 0]);
    }
}
