//! Positions: the numbers that order every change, and what carries them.
//!
//! The invalidation log hands out one position per append, growing, never reused within an *epoch* (one life of the
//! log). A position means nothing outside its epoch, so the public [`Position`] always carries both.
//!
//! Inside the process an epoch is replaced by a *generation*: how many epochs this instance has adopted. A [`Stamp`]
//! packs generation and sequence number into one word, so that "is this entry at least as new as the whole log?" is a
//! single comparison on the hot path, and every stamp of an older epoch is smaller than any of a newer one.

use std::fmt;
use std::str::FromStr;

/// Bits of a [`Stamp`] that hold the sequence number; the generation has the rest. The index packs sequence numbers in
/// as many bits, and a log that would pass them begins a new epoch.
pub(crate) const SEQ_BITS: u32 = 40;

/// The largest sequence number an epoch can hand out.
pub(crate) const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// One life of the invalidation log: a random number chosen when the log began.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub(crate) u64);

impl Epoch {
    /// A new epoch. Random, because two logs that never met must not share one.
    pub(crate) fn random() -> Self {
        // Zero is kept free so that a zeroed header is never a valid epoch.
        Epoch(fastrand::u64(1..))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// A place in the invalidation log, for comparing and for handing to other processes.
///
/// Written as `epoch-number`, for example `6f1c0a52b7d3e984-1742`; that text is what the HTTP headers
/// `Larder-Position` and `Larder-At-Least` carry, and [`FromStr`] reads it back.
///
/// Two positions of different epochs are not ordered: the log in between was lost.
///
/// ```
/// use larder::Position;
/// let position: Position = "6f1c0a52b7d3e984-1742".parse().unwrap();
/// assert_eq!(position.number(), 1742);
/// assert_eq!(position.to_string(), "6f1c0a52b7d3e984-1742");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
}

impl Position {
    /// The number within the epoch: how many appends the log had seen, this one included.
    pub fn number(&self) -> u64 {
        self.seq
    }

    /// The log's life that the number belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.epoch == other.epoch).then(|| self.seq.cmp(&other.seq))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

/// Why a text is not a [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError;

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position is written as 16 hexadecimal digits, a dash and a number, as in 6f1c0a52b7d3e984-1742")
    }
}

impl std::error::Error for ParsePositionError {}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (epoch, seq) = text.split_once('-').ok_or(ParsePositionError)?;
        let digits = |t: &str, radix| !t.is_empty() && t.chars().all(|c: char| c.is_digit(radix));
        if epoch.len() != 16 || !digits(epoch, 16) || !digits(seq, 10) {
            return Err(ParsePositionError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParsePositionError)?;
        let seq: u64 = seq.parse().map_err(|_| ParsePositionError)?;
        if epoch == 0 || seq > SEQ_MAX {
            return Err(ParsePositionError);
        }
        Ok(Position { epoch: Epoch(epoch), seq })
    }
}

/// What an entry's data is known to reflect: every change whose position is at most this one.
///
/// Generation in the high 24 bits, sequence number in the low 40.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    pub(crate) fn new(generation: u32, seq: u64) -> Self {
        debug_assert!(seq <= SEQ_MAX && generation < 1 << (64 - SEQ_BITS));
        Stamp(u64::from(generation) << SEQ_BITS | seq)
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SEQ_BITS) as u32
    }

    pub(crate) fn seq(self) -> u64 {
        self.0 & SEQ_MAX
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({}:{})", self.generation(), self.seq())
    }
}

/// The proof of a change: where in the log it stands.
///
/// A read on the same handle that begins after the receipt was returned never sees older data (promise G1). Hand the
/// [`position`](Receipt::position) to a reader on another machine, and its
/// [`at_least`](crate::Namespace::at_least) read sees the change too (promise G4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) position: Position,
    pub(crate) names: usize,
    pub(crate) widened: usize,
    pub(crate) queued: bool,
}

impl Receipt {
    /// Where the change stands in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many names were invalidated.
    pub fn names(&self) -> usize {
        self.names
    }

    /// Whether the change took effect on this instance alone so far, because the log that is shared with others cannot be
    /// reached. It is in a queue that is appended as soon as it can be; its position means nothing to other instances.
    pub fn is_queued(&self) -> bool {
        self.queued
    }

    /// How many of the names had to be widened to a broader one, because the index holds at most 64 pattern shapes and
    /// 1,024 globs. Widening makes more misses than were asked for, and never fewer.
    pub fn widened(&self) -> usize {
        self.widened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        let position = Position { epoch: Epoch(0x00ab), seq: 7 };
        assert_eq!(position.to_string(), "00000000000000ab-7");
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        let past = format!("00000000000000ab-{}", SEQ_MAX + 1);
        for text in ["", "7", "ab-7", "00000000000000ab-", "00000000000000ab-+7", "00000000000000gb-7", "0000000000000000-1", &past] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }

    #[test]
    fn positions_of_two_epochs_are_not_ordered() {
        let old = Position { epoch: Epoch(1), seq: 9 };
        let new = Position { epoch: Epoch(2), seq: 1 };
        assert_eq!(old.partial_cmp(&new), None);
        assert!(old < Position { epoch: Epoch(1), seq: 10 });
    }

    #[test]
    fn a_newer_generation_outranks_every_older_stamp() {
        assert!(Stamp::new(1, SEQ_MAX) < Stamp::new(2, 0));
        assert_eq!((Stamp::new(3, 5).generation(), Stamp::new(3, 5).seq()), (3, 5));
    }
}
