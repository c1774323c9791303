//! Which delivery may be carried out now: one of each partition at a time, in order, and so many partitions side by side.

use std::collections::{HashMap, VecDeque};

/// A partition, as a hash: two that share one wait for each other, and nothing else comes of it.
pub(super) type Partition = u64;

/// See the head of this file.
pub(super) struct Lanes<W> {
    /// What waits behind what is being carried out, or will be next. A partition that has neither is not there.
    waiting: HashMap<Partition, VecDeque<W>>,
    /// Partitions of which none is being carried out, in the order in which they came to have something.
    ready: VecDeque<Partition>,
    busy: usize,
    len: usize,
    parallel: usize,
}

impl<W> Lanes<W> {
    pub(super) fn new(parallel: usize) -> Self {
        Lanes { waiting: HashMap::new(), ready: VecDeque::new(), busy: 0, len: 0, parallel }
    }

    /// All that was pushed and is not finished.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, partition: Partition, work: W) {
        self.len += 1;
        let lane = self.waiting.entry(partition).or_insert_with(|| {
            self.ready.push_back(partition);
            VecDeque::new()
        });
        lane.push_back(work);
    }

    /// The next to be carried out, if there is room for it.
    pub(super) fn start(&mut self) -> Option<(Partition, W)> {
        if self.busy >= self.parallel {
            return None;
        }
        let partition = self.ready.pop_front()?;
        let work = self.waiting.get_mut(&partition).and_then(VecDeque::pop_front).expect("a ready partition has something");
        self.busy += 1;
        Some((partition, work))
    }

    /// What was started of a partition is done.
    pub(super) fn finish(&mut self, partition: Partition) {
        (self.busy, self.len) = (self.busy - 1, self.len - 1);
        if self.waiting.get(&partition).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&partition);
        } else {
            self.ready.push_back(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_partition_at_a_time_and_so_many_side_by_side() {
        let mut lanes = Lanes::new(2);
        [(1, 'a'), (1, 'b'), (2, 'c'), (3, 'd')].into_iter().for_each(|(partition, work)| lanes.push(partition, work));
        assert_eq!((lanes.start(), lanes.start(), lanes.start()), (Some((1, 'a')), Some((2, 'c')), None));
        lanes.finish(1);
        assert_eq!(lanes.start(), Some((3, 'd')), "who waits longer comes first");
        lanes.finish(2);
        assert_eq!((lanes.start(), lanes.start()), (Some((1, 'b')), None));
        lanes.finish(1);
        lanes.finish(3);
        assert!(lanes.len() == 0 && lanes.waiting.is_empty() && lanes.ready.is_empty());
    }
}
