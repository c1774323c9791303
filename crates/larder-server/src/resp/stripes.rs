//! One change of a key at a time on this server: locks shared by keys that hash alike.
//!
//! What makes a change right is the log, which refuses one that somebody overtook, wherever they are. The stripes spare changes of this
//! server being refused by each other, and hold off single changes while a transaction of several is carried out.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

use super::commands::Refusal;

/// A power of two. Two keys out of many share one seldom.
const STRIPES: usize = 1_024;

/// How long a change waits for its turn. Others hold it up only while a log or a tier is slow.
const WAIT_MAX: Duration = Duration::from_secs(5);

const BUSY: Refusal = Refusal::new("UNAVAILABLE other changes of the key take too long; nothing was done");

/// See the head of this file.
#[derive(Debug)]
pub struct Stripes(Box<[RwLock<()>]>);

/// Keys that nobody else changes for now.
#[derive(Debug)]
pub struct Held<'a> {
    _guards: Vec<RwLockWriteGuard<'a, ()>>,
}

impl Default for Stripes {
    fn default() -> Self {
        Stripes((0..STRIPES).map(|_| RwLock::default()).collect())
    }
}

impl Stripes {
    /// Waits until nobody else changes a key.
    pub async fn hold(&self, key: &[u8]) -> Result<RwLockWriteGuard<'_, ()>, Refusal> {
        let stripe = &self.0[place(key)];
        match stripe.try_write() {
            Ok(held) => Ok(held),
            Err(_) => timeout(WAIT_MAX, stripe.write()).await.map_err(|_| BUSY),
        }
    }

    /// The same as [`share`](Self::share), if it is to be had at once.
    #[inline]
    pub fn try_share(&self, key: &[u8]) -> Option<RwLockReadGuard<'_, ()>> {
        self.0[place(key)].try_read().ok()
    }

    /// Waits until nobody [holds](Self::hold) a key: for writes that do not mind each other.
    pub async fn share(&self, key: &[u8]) -> Result<RwLockReadGuard<'_, ()>, Refusal> {
        let stripe = &self.0[place(key)];
        match stripe.try_read() {
            Ok(shared) => Ok(shared),
            Err(_) => timeout(WAIT_MAX, stripe.read()).await.map_err(|_| BUSY),
        }
    }

    /// Waits until nobody else changes any of many keys. Always in the same order, so that two who want the same keys cannot wait for
    /// each other.
    pub async fn hold_all<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Result<Held<'_>, Refusal> {
        let mut places: Vec<usize> = keys.map(place).collect();
        places.sort_unstable();
        places.dedup();
        let holding = async {
            let mut guards = Vec::with_capacity(places.len());
            for place in places {
                guards.push(self.0[place].write().await);
            }
            Held { _guards: guards }
        };
        timeout(WAIT_MAX, holding).await.map_err(|_| BUSY)
    }
}

fn place(key: &[u8]) -> usize {
    FixedState::with_seed(0x1a2d).hash_one(key) as usize % STRIPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told() {
        let stripes = Stripes::default();
        let _held = stripes.hold(b"a").await.unwrap();
        assert_eq!(stripes.hold(b"a").await.map(drop), Err(BUSY));
        assert_eq!(stripes.share(b"a").await.map(drop), Err(BUSY));
        assert_eq!(stripes.hold_all([b"a".as_slice()].into_iter()).await.map(drop), Err(BUSY));
    }

    #[tokio::test]
    async fn who_holds_several_keys_holds_off_who_wants_one() {
        let stripes = Stripes::default();
        let keys = [b"a".as_slice(), b"b", b"a"];
        let held = stripes.hold_all(keys.into_iter()).await.unwrap();
        assert!(stripes.0[place(b"a")].try_read().is_err() && stripes.0[place(b"b")].try_read().is_err());
        drop(held);
        let (one, other) = (stripes.share(b"b").await.unwrap(), stripes.share(b"b").await.unwrap());
        assert!(stripes.0[place(b"b")].try_write().is_err());
        drop((one, other));
        drop(stripes.hold(b"b").await.unwrap());
        assert!(stripes.0.iter().all(|stripe| stripe.try_write().is_ok()));
    }
}
