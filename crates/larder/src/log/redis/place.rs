//! Where the next group will stand, as far as this instance can know.
//!
//! The script that appends has to read a line of the table for each name to know where in it the name goes, and that is most
//! of what an append costs the server. But an instance that has everything up to the log's head in its own index has the
//! lines, too. So it says which head it takes for granted, and sends the lines as they become: if nobody else has appended
//! since, which the script checks, they only have to be written. Otherwise nothing is done, and the group is appended the
//! ordinary way. Where others append all the time that would be a call in vain each time, so it is then left for a while.
//!
//! A second group may be sent while the first is on its way, on top of what that one makes of the lines. It is signed, and the
//! second names the signature: that the head is where it should be does not say who brought it there.

use crate::freshness::{Images, Index};
use crate::position::{SEQ_MAX, Stamp};

/// Groups that go the ordinary way after a call in vain: the first time, and at most.
const PAUSE_MIN: u32 = 4;
const PAUSE_MAX: u32 = 256;

/// Where a group is to stand.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The position before its first.
    pub(super) head: u64,
    /// The group before it, if that is still on its way.
    pub(super) before: Option<&'a Ahead>,
    /// By which the one behind it will know it.
    pub(super) signature: &'a str,
}

/// A group on its way, as the one behind it knows it.
pub(super) struct Ahead {
    /// Its last position.
    pub(super) last: u64,
    pub(super) signature: String,
    pub(super) images: Images,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Place {
    generation: u32,
    /// Groups that were signed.
    signed: u64,
    /// The index has all positions of this generation up to here, own appends that the tail has not brought yet included.
    known: u64,
    /// Groups that still go the ordinary way.
    pause: u32,
    next_pause: u32,
}

impl Place {
    /// The head that the next group will find, behind the one that is on its way, if that is worth a try.
    pub(super) fn expected(&mut self, index: &Index, generation: u32, before: Option<&Ahead>) -> Option<u64> {
        self.catch_up(index, generation);
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        // With own appends beyond what is known, others' stand between; and made-up positions are no place in the log.
        let is_all = index.latest() == Stamp::new(generation, self.known) && !index.is_provisional();
        // The tail may have brought the one on its way before its answer came; what is past it is somebody else's.
        let head = before.map_or(self.known, |before| before.last);
        (is_all && self.known <= head && head < SEQ_MAX / 2).then_some(head)
    }

    /// Another signature: nobody else's, and of no other group.
    pub(super) fn sign(&mut self, fence: u64) -> String {
        self.signed += 1;
        format!("{fence}:{}", self.signed)
    }

    /// What was expected was so.
    pub(super) fn confirmed(&mut self) {
        self.next_pause = PAUSE_MIN;
    }

    /// It was not, or the table is of another size than the index.
    pub(super) fn refused(&mut self) {
        self.pause = self.next_pause.max(PAUSE_MIN);
        self.next_pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// A group was appended, at so many positions, and is in the index. Returns up to where the index has all.
    pub(super) fn appended(&mut self, index: &Index, generation: u32, first: u64, count: usize) -> Stamp {
        self.catch_up(index, generation);
        if first <= self.known + 1 {
            self.known = self.known.max(first - 1 + count as u64);
        }
        Stamp::new(generation, self.known)
    }

    fn catch_up(&mut self, index: &Index, generation: u32) {
        if self.generation != generation {
            *self = Place { generation, signed: self.signed, ..Place::default() };
        }
        let applied = index.applied();
        if applied.generation() == generation {
            self.known = self.known.max(applied.seq());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::Mutations;
    use crate::name::Name;
    use crate::position::{Epoch, Position};

    const GENERATION: u32 = 1;
    const EPOCH: Epoch = Epoch(7);

    fn index() -> Index {
        Index::new(1 << 12, EPOCH, Mutations::default())
    }

    fn own(index: &Index, place: &mut Place, first: u64, count: usize) {
        let mut entered = (first..).take(count).map(|seq| index.enter_own(&[Name::Tag(b"t"[..].into())], Position { epoch: EPOCH, seq }));
        assert!(entered.all(|stamp| stamp.is_some()));
        place.appended(index, GENERATION, first, count);
    }

    #[test]
    fn own_groups_follow_each_other_before_the_tail_brings_them() {
        let (index, mut place) = (index(), Place::default());
        assert_eq!(place.expected(&index, GENERATION, None), Some(0));
        own(&index, &mut place, 1, 5);
        assert_eq!(place.expected(&index, GENERATION, None), Some(5));
    }

    #[test]
    fn who_finds_others_before_it_waits_for_them_and_for_a_while() {
        let (index, mut place) = (index(), Place::default());
        assert_eq!(place.expected(&index, GENERATION, None), Some(0));
        // Somebody else's is at 1.
        place.refused();
        own(&index, &mut place, 2, 1);
        assert!((0..PAUSE_MIN).all(|_| place.expected(&index, GENERATION, None).is_none()));
        assert_eq!(place.expected(&index, GENERATION, None), None, "the first position is not here yet");
        (1..3).for_each(|seq| assert!(index.apply(&[Name::Everything], Stamp::new(GENERATION, seq))));
        assert_eq!(place.expected(&index, GENERATION, None), Some(2));
    }

    #[test]
    fn a_group_stands_behind_the_one_on_its_way_unless_others_came_between() {
        let (index, mut place) = (index(), Place::default());
        let ahead = Ahead { last: 3, signature: place.sign(7), images: Images::default() };
        assert_eq!(place.expected(&index, GENERATION, Some(&ahead)), Some(3));
        (1..4).for_each(|seq| assert!(index.apply(&[], Stamp::new(GENERATION, seq))));
        assert_eq!(place.expected(&index, GENERATION, Some(&ahead)), Some(3), "its tail came before its answer");
        assert!(index.apply(&[Name::Everything], Stamp::new(GENERATION, 4)));
        assert_eq!(place.expected(&index, GENERATION, Some(&ahead)), None);
        assert_ne!(place.sign(7), ahead.signature);
    }

    #[test]
    fn made_up_positions_are_no_place() {
        let (index, mut place) = (index(), Place::default());
        index.enter_provisionally(&[Name::Everything], || false);
        assert_eq!(place.expected(&index, GENERATION, None), None);
        assert_eq!(place.expected(&index, GENERATION + 1, None), None, "nor are those of another generation");
    }
}
