//! Which keys were read lately: one bit a key, so that eviction can give what is in use a second chance.
//!
//! Two keys may share a bit, and all bits are forgotten once a quarter of them is set, so the answer is a hint and no
//! more. It costs a hash and one atomic a read, and no memory a key.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use xxhash_rust::xxh3::xxh3_64;

/// Bits kept for a store of this many bytes: about one for each 256 bytes, between 8 KiB and 1 MiB of memory.
fn bits_for(capacity_bytes: u64) -> usize {
    (capacity_bytes / 256).clamp(1 << 16, 1 << 23).next_power_of_two() as usize
}

#[derive(Debug)]
pub(super) struct Recent {
    words: Box<[AtomicU64]>,
    set: AtomicUsize,
}

impl Recent {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let words = (0..bits_for(capacity_bytes) / 64).map(|_| AtomicU64::new(0)).collect();
        Recent { words, set: AtomicUsize::new(0) }
    }

    /// Remembers that a key was read.
    pub(super) fn mark(&self, key: &[u8]) {
        let (word, bit) = self.place(key);
        // Most reads are of keys already marked: look before writing, so that readers do not fight for the line.
        if word.load(Ordering::Relaxed) & bit != 0 || word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return;
        }
        if self.set.fetch_add(1, Ordering::Relaxed) >= self.words.len() * 16 {
            self.forget_all();
        }
    }

    /// Whether a key was read since it was last asked for; asking uses the chance up.
    pub(super) fn take(&self, key: &[u8]) -> bool {
        let (word, bit) = self.place(key);
        word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    fn forget_all(&self) {
        self.set.store(0, Ordering::Relaxed);
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn place(&self, key: &[u8]) -> (&AtomicU64, u64) {
        let hash = xxh3_64(key) as usize;
        (&self.words[(hash >> 6) & (self.words.len() - 1)], 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_given_once() {
        let recent = Recent::new(0);
        assert!(!recent.take(b"a"));
        recent.mark(b"a");
        recent.mark(b"a");
        assert!(recent.take(b"a") && !recent.take(b"a"));
    }

    #[test]
    fn it_never_fills_up() {
        let recent = Recent::new(0);
        (0u32..100_000).for_each(|i| recent.mark(&i.to_le_bytes()));
        let unread = (100_000u32..110_000).filter(|i| recent.take(&i.to_le_bytes())).count();
        assert!(unread < 3_000, "{unread} of 10,000 unread keys look read");
    }
}
