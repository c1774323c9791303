//! How many keys one `MGET` asks for: all their values have to come within the time of one answer, and how large they are is known only
//! when they have come.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::redis::Value;

/// Keys that one asks for at most, and at first.
const KEYS_MAX: usize = 1_000;
const KEYS_FIRST: usize = 64;

/// About how many bytes an answer may have.
const BYTES_MAX: usize = 4 << 20;

/// What part of a piece that did not come is the next one.
const LATE: usize = 8;

/// See the head of this file.
pub(super) struct Pieces {
    /// Keys of the next one.
    keys: AtomicUsize,
    /// What values had on average, of late.
    value_len: AtomicUsize,
}

/// One that was asked for. Where its answer is not waited for to the end, or none comes, it was too large.
pub(super) struct Piece<'a> {
    of: &'a Pieces,
    pub(super) keys: usize,
    is_late: bool,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces { keys: AtomicUsize::new(KEYS_FIRST), value_len: AtomicUsize::new(0) }
    }
}

impl Pieces {
    /// The next piece of so many keys that are left.
    pub(super) fn next(&self, left: usize) -> Piece<'_> {
        Piece { of: self, keys: left.min(self.keys.load(Ordering::Relaxed)), is_late: true }
    }
}

impl Piece<'_> {
    /// Its answer came.
    pub(super) fn came(mut self, values: &[Value]) {
        self.is_late = false;
        let lens = values.iter().filter_map(|value| if let Value::BulkString(value) = value { Some(value.len()) } else { None });
        let (count, bytes) = lens.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len));
        // What is not there says nothing of what is.
        let Some(len) = bytes.checked_div(count) else { return };
        let known = self.of.value_len.load(Ordering::Relaxed);
        let len = usize::max(if known == 0 { len } else { usize::midpoint(known, len) }, 1);
        self.of.value_len.store(len, Ordering::Relaxed);
        let (most, keys) = ((BYTES_MAX / len).clamp(1, KEYS_MAX), self.of.keys.load(Ordering::Relaxed));
        // More than came lately only step by step: values of another kind may be next.
        let grown = if self.keys < keys { keys } else { keys * 2 };
        self.of.keys.store(grown.min(most), Ordering::Relaxed);
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        if self.is_late {
            self.of.keys.fetch_min(usize::max(self.keys / LATE, 1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(pieces: &Pieces, left: usize, len: usize) -> usize {
        let piece = pieces.next(left);
        let keys = piece.keys;
        piece.came(&vec![Value::BulkString(vec![0; len]); keys]);
        keys
    }

    #[test]
    fn an_answer_has_as_many_bytes_as_it_may_after_some_steps() {
        let pieces = Pieces::default();
        assert_eq!([(); 6].map(|()| come(&pieces, 5_000, 10)), [KEYS_FIRST, 128, 256, 512, KEYS_MAX, KEYS_MAX]);
        assert_eq!(come(&pieces, 3, 10), 3, "no more than there are");
        assert_eq!(pieces.next(5_000).keys, KEYS_MAX, "which says nothing of how many there may be");
        let pieces = Pieces::default();
        (0..20).for_each(|_| assert!(come(&pieces, 5_000, 16 << 10) > 0));
        assert_eq!(come(&pieces, 5_000, 16 << 10), BYTES_MAX / (16 << 10));
        (0..20).for_each(|_| assert_eq!(come(&pieces, 1, 2 * BYTES_MAX), 1));
        assert_eq!(pieces.next(5_000).keys, 1);
    }

    #[test]
    fn what_is_not_there_says_nothing_of_sizes() {
        let pieces = Pieces::default();
        for _ in 0..20 {
            let piece = pieces.next(5_000);
            let values = vec![Value::Nil; piece.keys];
            piece.came(&values);
        }
        assert_eq!(pieces.next(5_000).keys, KEYS_FIRST);
    }

    #[test]
    fn what_did_not_come_is_asked_for_in_smaller_pieces() {
        let pieces = Pieces::default();
        for expected in [KEYS_FIRST, KEYS_FIRST / LATE, 1, 1] {
            assert_eq!(pieces.next(5_000).keys, expected, "and the one before was given up");
        }
        assert_eq!([(); 4].map(|()| come(&pieces, 5_000, 10)), [1, 2, 4, 8]);
    }
}
