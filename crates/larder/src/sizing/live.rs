//! The reads of a running cache, run through caches in small: for each namespace as if it had memory of its own, and for all together as
//! if they shared it, at sixteen sizes up to all the memory that there is.
//!
//! Of one key in so many, whatever the size, since the rate is that at which reads are recorded. What is scaled up are the misses, by
//! that rate, beside the reads that were really counted: reads that were not recorded, because the key had just been, are hits so near
//! that every size has them.
//!
//! What was counted fades: at the end of each window it is halved, so that a curve is of the last few.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::miniature::Miniature;
use super::{Curve, Point};

/// Sizes that are run for each namespace.
const SIZES: usize = 16;

/// The smallest of them is this part of all memory.
const SMALLEST: u64 = 64;

/// Recorded reads without which nothing is said.
pub(crate) const ENOUGH: f64 = 512.0;

/// One thing that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) hash: u64,
    /// What the entry weighs; zero for a read that found none.
    pub(crate) weight: u32,
    pub(crate) group: u16,
    /// Whether it was read; or else it came into memory.
    pub(crate) is_read: bool,
}

/// Where threads that read leave what is recorded, until it is taken from there. Bounded: with more it says so and takes no more, and
/// fewer keys are recorded from then on.
pub(crate) struct Tap {
    /// Hashes up to here are recorded.
    up_to: AtomicU64,
    is_full: AtomicBool,
    waiting: Mutex<Vec<Recorded>>,
}

/// What may wait, of 24 bytes each.
const WAITING_MAX: usize = 16_384;

impl Tap {
    pub(crate) fn new(up_to: u64) -> Self {
        Tap { up_to: AtomicU64::new(up_to), is_full: AtomicBool::new(false), waiting: Mutex::default() }
    }

    #[inline]
    pub(crate) fn wants(&self, hash: u64) -> bool {
        hash <= self.up_to.load(Ordering::Relaxed)
    }

    /// A few nanoseconds under a lock that nobody holds for longer, for one key in many and at most once in a tick of the clock.
    pub(crate) fn record(&self, one: Recorded) {
        if self.is_full.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING_MAX {
            waiting.push(one);
        } else {
            self.is_full.store(true, Ordering::Relaxed);
        }
    }

    /// What was recorded, and whether some of it was lost.
    pub(crate) fn drain(&self) -> (Vec<Recorded>, bool) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        (waiting, self.is_full.swap(false, Ordering::Relaxed))
    }

    pub(crate) fn up_to(&self) -> u64 {
        self.up_to.load(Ordering::Relaxed)
    }

    /// Records fewer keys from now on.
    pub(crate) fn lower(&self, up_to: u64) {
        self.up_to.store(up_to, Ordering::Relaxed);
    }
}

/// See the head of this file.
pub(crate) struct Live {
    budget: u64,
    /// Hashes up to here are recorded.
    up_to: u64,
    /// By group; and all that share, behind them.
    groups: Vec<Group>,
    together: Group,
    /// Whether the caches have been filled for a window.
    is_warm: bool,
}

struct Group {
    caches: Vec<Miniature>,
    recorded: f64,
    /// Misses by size, in the number that they stand for.
    misses: Vec<f64>,
    /// The same by what they cost, in microseconds.
    missed_us: Vec<f64>,
    /// What all reads would have cost, had they missed.
    whole_us: f64,
    /// All reads that were counted, recorded or not.
    reads: f64,
    /// Whether it takes part in what is run together.
    shares: bool,
}

impl Group {
    fn new(budget: u64, rate: f64, shares: bool) -> Self {
        let size = |n: usize| (budget as f64 / (SMALLEST as f64).powf((SIZES - 1 - n) as f64 / (SIZES - 1) as f64)) as u64;
        let caches: Vec<_> = (0..SIZES).map(|n| Miniature::new(size(n).max(1), rate)).collect();
        let none = vec![0.0; caches.len()];
        Group { misses: none.clone(), missed_us: none, whole_us: 0.0, caches, recorded: 0.0, reads: 0.0, shares }
    }

    fn take(&mut self, one: Recorded, cost_us: u32) {
        self.recorded += f64::from(u8::from(one.is_read));
        for cache in &mut self.caches {
            match (one.is_read, one.weight) {
                (true, 0) => cache.look(one.hash, cost_us),
                (true, weight) => drop(cache.read(one.hash, weight, cost_us)),
                (false, weight) => cache.put(one.hash, weight),
            }
        }
    }

    fn end_window(&mut self, stands_for: f64, (reads, whole_us): (f64, f64), keep: f64) {
        for ((misses, missed_us), cache) in self.misses.iter_mut().zip(&mut self.missed_us).zip(&mut self.caches) {
            *misses = *misses * keep + std::mem::take(&mut cache.misses) as f64 * stands_for;
            *missed_us = *missed_us * keep + std::mem::take(&mut cache.missed_us) as f64 * stands_for;
        }
        self.reads = self.reads * keep + reads;
        self.whole_us = self.whole_us * keep + whole_us;
    }

    fn curve(&self, rate: f64) -> Curve {
        let hits = |missed: f64, of: f64| if of > 0.0 { (1.0 - missed / of).clamp(0.0, 1.0) } else { 0.0 };
        let point = |(cache, (misses, missed_us)): (&Miniature, (&f64, &f64))| Point {
            bytes: cache.bytes,
            hit_ratio: hits(*misses, self.reads),
            saved_ratio: hits(*missed_us, self.whole_us),
        };
        Curve {
            points: self.caches.iter().zip(self.misses.iter().zip(&self.missed_us)).map(point).collect(),
            reads: self.reads as u64,
            load_seconds: self.whole_us / 1e6,
            sampled: rate,
            ..Curve::default()
        }
    }
}

impl Live {
    /// With this memory to be given out, for groups of which some share it; hashes up to `up_to` are recorded.
    pub(crate) fn new(budget: u64, up_to: u64, shares: &[bool]) -> Self {
        let rate = super::survey::share_up_to(up_to);
        let groups = shares.iter().map(|shares| Group::new(budget, rate, *shares)).collect();
        Live { budget, up_to, groups, together: Group::new(budget, rate, true), is_warm: false }
    }

    /// One more group, whose number is how many there were. With more memory to be given out all begins anew.
    pub(crate) fn add(&mut self, shares: bool, budget: u64) {
        let mut all: Vec<bool> = self.groups.iter().map(|group| group.shares).collect();
        all.push(shares);
        if budget == self.budget {
            self.groups.push(Group::new(self.budget, self.rate(), shares));
        } else {
            *self = Live::new(budget, self.up_to, &all);
        }
    }

    /// The same groups from the beginning, with another budget, or with hashes recorded up to another.
    pub(crate) fn anew(&self, budget: u64, up_to: u64) -> Self {
        Live::new(budget, up_to, &self.groups.iter().map(|group| group.shares).collect::<Vec<_>>())
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn rate(&self) -> f64 {
        super::survey::share_up_to(self.up_to)
    }

    /// Takes in what was recorded, and what a load of its namespace takes. Of groups that it does not know, nothing.
    pub(crate) fn take(&mut self, one: Recorded, cost_us: u32) {
        if one.hash > self.up_to {
            return;
        }
        let Some(group) = self.groups.get_mut(usize::from(one.group)) else { return };
        group.take(one, cost_us);
        if group.shares {
            self.together.take(one, cost_us);
        }
    }

    /// Ends a window in which each group was read so often, and a load took so many microseconds. Returns whether it says anything: the
    /// first fills the caches.
    pub(crate) fn end_window(&mut self, reads: &[(f64, u32)]) -> bool {
        let (was_warm, stands_for) = (self.is_warm, 1.0 / self.rate());
        let recorded: f64 = self.groups.iter().map(|group| group.recorded).sum();
        if recorded < ENOUGH {
            return false;
        }
        let keep = if was_warm { 0.5 } else { 0.0 };
        let (mut shared, mut any) = ((0.0, 0.0), reads.iter().copied());
        for group in &mut self.groups {
            let (reads, cost_us) = any.next().unwrap_or_default();
            let read = (reads, reads * f64::from(cost_us));
            if group.shares {
                shared = (shared.0 + read.0, shared.1 + read.1);
            }
            group.recorded = 0.0;
            group.end_window(stands_for, read, keep);
        }
        self.together.recorded = 0.0;
        self.together.end_window(stands_for, shared, keep);
        if !was_warm {
            self.groups.iter_mut().chain([&mut self.together]).for_each(|group| {
                group.misses.fill(0.0);
                group.missed_us.fill(0.0);
                (group.reads, group.whole_us) = (0.0, 0.0);
            });
        }
        self.is_warm = true;
        was_warm
    }

    /// How many reads were recorded in this window of those that share, and what they would have missed with all memory, in microseconds
    /// of loading.
    pub(crate) fn sharing_now(&self) -> (f64, f64) {
        let missed_us = self.together.caches.last().map_or(0, |cache| cache.missed_us);
        (self.together.recorded, missed_us as f64 / self.rate())
    }

    /// The curve of a group by itself.
    pub(crate) fn curve(&self, group: usize) -> Curve {
        self.groups.get(group).map_or_else(Curve::default, |one| one.curve(self.rate()))
    }

    /// The curve of all that share.
    pub(crate) fn together(&self) -> Curve {
        self.together.curve(self.rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_fits_hits_by_itself_and_not_beside_a_scan() {
        let mut live = Live::new(64_000, u64::MAX, &[true, true]);
        let hash = |n: u64| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes());
        for window in 0..6u64 {
            for n in 0..20_000 {
                // 40 entries of 1,000 bytes in a loop, and ten reads of new keys for each.
                let n = window * 20_000 + n;
                let (group, id) = if n % 11 == 0 { (0, n / 11 % 40) } else { (1, 1_000_000 + n) };
                live.take(Recorded { hash: hash(id), weight: 0, group, is_read: true }, 10);
                live.take(Recorded { hash: hash(id), weight: 1_000, group, is_read: false }, 10);
            }
            assert_eq!(live.end_window(&[(20_000.0 / 11.0, 10), (200_000.0 / 11.0, 10)]), window > 0, "the first fills the caches");
        }
        let (own, scan, both) = (live.curve(0), live.curve(1), live.together());
        assert!(own.at(60_000).hit_ratio > 0.99 && own.at(2_000).hit_ratio < 0.2, "{own:?}");
        assert!(scan.at(64_000).hit_ratio < 0.001, "{scan:?}");
        assert!(both.at(64_000).hit_ratio < 0.1, "{both:?}");
    }

    #[test]
    fn little_says_nothing_and_strangers_are_left_out() {
        let mut live = Live::new(1 << 20, u64::MAX / 2, &[false]);
        live.take(Recorded { hash: 7, weight: 1, group: 9, is_read: true }, 10);
        live.take(Recorded { hash: u64::MAX, weight: 1, group: 0, is_read: true }, 10);
        assert!(!live.end_window(&[(1e9, 1)]));
        live.add(true, 1 << 20);
        assert_eq!((live.groups(), live.curve(1).reads, live.curve(5).points.len()), (2, 0, 0));
        assert!((live.rate() - 0.5).abs() < 1e-9);
        live.add(false, 2 << 20);
        let anew = live.anew(4 << 20, u64::MAX);
        assert_eq!((live.groups(), anew.groups(), anew.rate()), (3, 3, 1.0));
        assert_eq!([live, anew].map(|live| live.curve(0).points[SIZES - 1].bytes >> 20), [2, 4]);
    }
}
