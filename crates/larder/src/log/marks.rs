//! Marks: which events have taken effect, so that one that is delivered again does nothing.
//!
//! A mark is written in the same record of the log as the names that its event invalidates: that an event took effect and that
//! this is remembered is one durable write, and no crash comes between. What the log gives back (on opening, and from the tail of
//! one that is shared) fills the window that every instance keeps. Marks say nothing about freshness, and the index does not see
//! them; they outlive an epoch, since all that was cached before a new one is stale, whatever an event of the old one killed.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

/// Marks that are remembered: half a minute of a feed of 2,000 events a second, or hours of most. 3 MiB.
pub(crate) const MARKS_MAX: usize = 65_536;

/// Bytes of a mark in a record.
pub(crate) const MARK_BYTES: usize = 16;

/// An event, as the log remembers it: a hash of its source and identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(pub(crate) u128);

impl Mark {
    /// Appends marks to a record.
    pub(crate) fn encode_all(marks: &[Mark], out: &mut Vec<u8>) {
        marks.iter().for_each(|mark| out.extend_from_slice(&mark.0.to_le_bytes()));
    }

    /// Reads marks, as many as there are bytes for. `None` if the last one is cut short.
    pub(crate) fn decode_all(bytes: &[u8]) -> Option<Vec<Mark>> {
        let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
        rest.is_empty().then(|| marks.iter().map(|mark| Mark(u128::from_le_bytes(*mark))).collect())
    }
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Marks(Mutex<Window>);

#[derive(Default)]
struct Window {
    known: HashSet<Mark>,
    /// The oldest first.
    order: VecDeque<Mark>,
}

impl Marks {
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.0.lock().known.contains(&mark)
    }

    /// Adds marks in the order of the log. One that is known stays where it is.
    pub(crate) fn add(&self, marks: &[Mark]) {
        if marks.is_empty() {
            return;
        }
        let mut window = self.0.lock();
        for mark in marks {
            if window.known.insert(*mark) {
                window.order.push_back(*mark);
            }
            if window.order.len() > MARKS_MAX
                && let Some(oldest) = window.order.pop_front()
            {
                window.known.remove(&oldest);
            }
        }
    }

    /// Takes marks out of events that did take effect, and may be forgotten in a crash: so that they are carried out again.
    pub(crate) fn forget(&self, marks: &[Mark]) {
        let mut window = self.0.lock();
        let Window { known, order } = &mut *window;
        for mark in marks {
            known.remove(mark);
        }
        order.retain(|mark| known.contains(mark));
    }

    /// All of them, the oldest first.
    pub(crate) fn list(&self) -> Vec<Mark> {
        self.0.lock().order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_bounded_and_forgets_the_oldest() {
        let marks = Marks::default();
        (0..=MARKS_MAX as u128).for_each(|n| marks.add(&[Mark(n)]));
        marks.add(&[Mark(7)]);
        assert!(!marks.has(Mark(0)) && marks.has(Mark(1)) && marks.has(Mark(MARKS_MAX as u128)));
        assert_eq!((marks.list().len(), marks.list()[0]), (MARKS_MAX, Mark(1)));
        marks.forget(&[Mark(1), Mark(0)]);
        assert!(!marks.has(Mark(1)) && marks.list()[0] == Mark(2));
    }

    #[test]
    fn marks_survive_a_record() {
        let (marks, mut bytes) = ([Mark(1), Mark(u128::MAX)], Vec::new());
        Mark::encode_all(&marks, &mut bytes);
        assert_eq!(Mark::decode_all(&bytes).unwrap(), marks);
        assert!(Mark::decode_all(&bytes[1..]).is_none());
    }
}
