//! One change of a key at a time on this server: locks shared by keys that hash alike.
//!
//! What makes a change right is the log, which refuses one that somebody overtook, wherever they are. The stripes spare changes of this
//! server being refused by each other, and hold off single changes while a transaction of several is carried out.

use std::sync::Arc;

use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// A power of two. Two keys out of many share one seldom.
const STRIPES: usize = 1_024;

/// See the head of this file.
#[derive(Debug)]
pub struct Stripes(Box<[Arc<Mutex<()>>]>);

/// Keys that nobody else changes for now.
#[derive(Debug)]
pub struct Held {
    _guards: Vec<OwnedMutexGuard<()>>,
}

impl Default for Stripes {
    fn default() -> Self {
        Stripes((0..STRIPES).map(|_| Arc::default()).collect())
    }
}

impl Stripes {
    /// Waits until nobody else changes a key.
    pub async fn hold(&self, key: &[u8]) -> tokio::sync::MutexGuard<'_, ()> {
        let stripe = &self.0[place(key)];
        match stripe.try_lock() {
            Ok(held) => held,
            Err(_) => stripe.lock().await,
        }
    }

    /// The same for many keys. Always in the same order, so that two who want the same keys cannot wait for each other.
    pub async fn hold_all<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Held {
        let mut places: Vec<usize> = keys.map(place).collect();
        places.sort_unstable();
        places.dedup();
        let mut guards = Vec::with_capacity(places.len());
        for place in places {
            guards.push(self.0[place].clone().lock_owned().await);
        }
        Held { _guards: guards }
    }
}

fn place(key: &[u8]) -> usize {
    FixedState::with_seed(0x1a2d).hash_one(key) as usize % STRIPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_holds_several_keys_holds_off_who_wants_one() {
        let stripes = Stripes::default();
        let keys = [b"a".as_slice(), b"b", b"a"];
        let held = stripes.hold_all(keys.into_iter()).await;
        assert!(stripes.0[place(b"a")].try_lock().is_err() && stripes.0[place(b"b")].try_lock().is_err());
        drop(held);
        drop(stripes.hold(b"b").await);
        assert!(stripes.0.iter().all(|stripe| stripe.try_lock().is_ok()));
    }
}
