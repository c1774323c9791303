//! Lines of the table as they will be once names are raised in them: for a log whose authoritative table is elsewhere, worked
//! out here so that the other side has only to write them.
//!
//! Any line that is at least as cautious as the log may stand in that table. This index is, up to the position it has
//! applied; so its own lines do, whatever other places the names have there.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::*;

/// A line as it will be.
type Image = [u64; PAIRS + 1];

/// Lines as they will be, by their number.
pub(crate) type Images = HashMap<usize, Image, RandomState>;

/// See the head of this file.
pub(crate) struct Lines<'a> {
    index: &'a Index,
    /// Lines as they will be before these.
    before: Option<&'a Images>,
    images: Images,
}

impl<'a> Lines<'a> {
    /// For about so many names, and on top of lines that are on their way already.
    pub(crate) fn new(index: &'a Index, before: Option<&'a Images>, names: usize) -> Self {
        Lines { index, before, images: HashMap::with_capacity_and_hasher(names, RandomState::default()) }
    }

    /// Raises a name, by the rule of the table.
    pub(crate) fn raise(&mut self, hash: NameHash, seq: u64) {
        let at = hash.line(self.index.lines.len() - 1);
        let before = || match self.index.mutations.on(Mutation::LinesWithGaps) {
            false => self.before.and_then(|before| before.get(&at).copied()).unwrap_or_else(|| self.index.lines[at].image()),
            true => Image::default(),
        };
        let image = self.images.entry(at).or_insert_with(before);
        let (pairs, floor) = image.split_at_mut(PAIRS);
        let own = |pair: &u64| pair >> SEQ_BITS == hash.fingerprint() && pair & SEQ_MAX != 0;
        let oldest = || (0..PAIRS).min_by_key(|at| pairs[*at] & SEQ_MAX).expect("a line has pairs");
        let place = pairs.iter().position(own).unwrap_or_else(oldest);
        if !own(&pairs[place]) {
            floor[0] = floor[0].max(pairs[place] & SEQ_MAX);
        }
        pairs[place] = hash.fingerprint() << SEQ_BITS | seq;
    }

    /// How many lines there are in all.
    pub(crate) fn total(&self) -> usize {
        self.index.lines.len()
    }

    /// How many change.
    pub(crate) fn changed(&self) -> usize {
        self.images.len()
    }

    /// What changes: offsets in the table, and what comes there.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (usize, [u8; LINE_BYTES])> + '_ {
        self.images.iter().map(|(at, image)| {
            let mut bytes = [0; LINE_BYTES];
            for (bytes, word) in bytes.chunks_exact_mut(8).zip(image) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            (at * LINE_BYTES, bytes)
        })
    }
}

impl From<Lines<'_>> for Images {
    fn from(lines: Lines<'_>) -> Images {
        lines.images
    }
}

impl Line {
    /// As every reader sees it: the pairs first, then the floor that covers what was lost from them.
    fn image(&self) -> Image {
        let mut image = [0; PAIRS + 1];
        for (copy, word) in image.iter_mut().zip(self.pairs.iter().chain([&self.floor])) {
            *copy = word.load(Ordering::Acquire);
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::NameHasher;
    use super::*;

    /// Of four lines, so that they overflow all the time.
    #[test]
    fn they_become_what_the_index_becomes() {
        let index = Index::new(4 * LINE_BYTES, Epoch(7), Mutations::default());
        let hasher = NameHasher::of(Epoch(7));
        let mut rng = crate::freshness::tests::seeded("they_become_what_the_index_becomes");
        let (mut seq, mut table) = (0, vec![0; 4 * LINE_BYTES]);
        for _ in 0..500 {
            let names: Vec<Name> = (0..rng.usize(1..6)).map(|_| Name::Key(format!("k:{}", rng.u8(..60)).into_bytes().into())).collect();
            let mut lines = Lines::new(&index, None, names.len());
            for (name, seq) in names.iter().zip(seq + 1..) {
                let Name::Key(key) = name else { unreachable!("only keys are made here") };
                lines.raise(hasher.key(key), seq);
            }
            lines.writes().for_each(|(at, bytes)| table[at..at + LINE_BYTES].copy_from_slice(&bytes));
            for name in names {
                seq += 1;
                index.record(&[name], seq);
            }
            let expected = Snapshot::of_parts((Epoch(7), 0, 0), &table, &[], Vec::new()).expect("they fit");
            assert_eq!(index.snapshot(0), expected);
        }
    }
}
