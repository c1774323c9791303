//! How many keys one `MGET` asks for: all their values have to come within the time of one answer, and how large they are is known only
//! when they have come.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::redis::Value;

/// Keys that one asks for at most, and before anything is known of values.
const KEYS_MAX: usize = 1_000;
const KEYS_FIRST: usize = 64;

/// About how many bytes an answer may have.
const BYTES_MAX: usize = 4 << 20;

/// By how much a piece that came too late was too large, at a guess.
const LATE: usize = 8;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Pieces {
    /// What values have on average, of late; 0 before the first.
    value_len: AtomicUsize,
}

impl Pieces {
    pub(super) fn keys_max(&self) -> usize {
        match self.value_len.load(Ordering::Relaxed) {
            0 => KEYS_FIRST,
            len => (BYTES_MAX / len).clamp(1, KEYS_MAX),
        }
    }

    /// An answer came, with one value at least.
    pub(super) fn came(&self, values: &[Value]) {
        let bytes = values.iter().map(|value| if let Value::BulkString(value) = value { value.len() } else { 0 }).sum::<usize>();
        let len = usize::max(bytes / values.len(), 1);
        let known = self.value_len.load(Ordering::Relaxed);
        self.value_len.store(if known == 0 { len } else { usize::midpoint(known, len) }, Ordering::Relaxed);
    }

    /// The answer for so many keys did not come in time.
    pub(super) fn late(&self, keys: usize) {
        let len = (BYTES_MAX / keys).saturating_mul(LATE);
        self.value_len.fetch_max(len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(len: usize, count: usize) -> Vec<Value> {
        vec![Value::BulkString(vec![0; len]); count]
    }

    #[test]
    fn an_answer_has_about_as_many_bytes_as_it_may() {
        let pieces = Pieces::default();
        assert_eq!(pieces.keys_max(), KEYS_FIRST, "nothing is known");
        pieces.came(&of(64 << 10, 10));
        assert_eq!(pieces.keys_max(), BYTES_MAX / (64 << 10));
        (0..64).for_each(|_| pieces.came(&of(10, 10)));
        assert_eq!(pieces.keys_max(), KEYS_MAX);
        (0..64).for_each(|_| pieces.came(&of(2 * BYTES_MAX, 1)));
        assert_eq!(pieces.keys_max(), 1);
        (0..64).for_each(|_| pieces.came(&vec![Value::Nil; 5]));
        assert_eq!(pieces.keys_max(), KEYS_MAX);
    }

    #[test]
    fn what_came_too_late_is_asked_for_in_smaller_pieces() {
        let pieces = Pieces::default();
        for expected in [KEYS_FIRST / LATE, KEYS_FIRST / LATE / LATE, 1, 1] {
            pieces.late(pieces.keys_max());
            assert_eq!(pieces.keys_max(), expected);
        }
    }
}
