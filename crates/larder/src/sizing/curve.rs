//! What a cache would do at each size, and what to ask of that.

use serde::{Deserialize, Serialize};

/// One size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The size, in bytes.
    pub bytes: u64,
    /// The share of reads that it answers, from 0 to 1.
    pub hit_ratio: f64,
    /// The share of all load time that it saves, from 0 to 1; the hit ratio where no load was timed.
    pub saved_ratio: f64,
}

/// What a step from one size to another does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The size after it, in bytes.
    pub bytes: u64,
    /// By how much the hit ratio changes.
    pub hit_ratio: f64,
    /// By how much the share of load time that is saved changes.
    pub saved_ratio: f64,
    /// How many seconds of loading it saves in as many reads as the curve was made from; negative for what it costs.
    pub load_seconds: f64,
}

/// Hit ratios by size: a miss-ratio curve, upside down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// By size, the smallest first.
    pub points: Vec<Point>,
    /// The reads that it was made from.
    pub reads: u64,
    /// How many keys they were of.
    pub keys: u64,
    /// What all of these weigh together: a cache of that size has room for all.
    pub bytes: u64,
    /// How long loading would have taken had every read missed, in seconds; zero where no load was timed.
    pub load_seconds: f64,
    /// The share of keys that were followed for the largest size. For smaller ones it is that or more.
    pub sampled: f64,
}

impl Curve {
    /// What a cache of this size does: between two sizes that were run on the line between them, and beyond the largest as that.
    pub fn at(&self, bytes: u64) -> Point {
        let mut below = Point { bytes: 0, hit_ratio: 0.0, saved_ratio: 0.0 };
        for point in &self.points {
            if point.bytes >= bytes {
                let part = (bytes - below.bytes) as f64 / (point.bytes - below.bytes).max(1) as f64;
                let between = |low: f64, high: f64| low + part * (high - low);
                return Point {
                    bytes,
                    hit_ratio: between(below.hit_ratio, point.hit_ratio),
                    saved_ratio: between(below.saved_ratio, point.saved_ratio),
                };
            }
            below = *point;
        }
        Point { bytes, ..below }
    }

    /// What a cache of this size does at least: as the largest that was run and is no larger. Between two sizes a line is a guess, and
    /// where hits begin at a certain size it promises some of them too early.
    pub fn at_least(&self, bytes: u64) -> Point {
        let below = self.points.iter().rev().find(|point| point.bytes <= bytes);
        Point { bytes, ..below.copied().unwrap_or(Point { bytes, hit_ratio: 0.0, saved_ratio: 0.0 }) }
    }

    /// The smallest size with this hit ratio. `None` where no size that was run has it.
    pub fn size_for(&self, hit_ratio: f64) -> Option<u64> {
        let mut below = (0, 0.0);
        for point in &self.points {
            if point.hit_ratio >= hit_ratio {
                let part = (hit_ratio - below.1) / (point.hit_ratio - below.1).max(f64::EPSILON);
                return Some(below.0 + (part.clamp(0.0, 1.0) * (point.bytes - below.0) as f64).round() as u64);
            }
            below = (point.bytes, point.hit_ratio);
        }
        None
    }

    /// What another size would do beside this one.
    pub fn step(&self, from: u64, to: u64) -> Step {
        let (before, after) = (self.at(from), self.at(to));
        let saved_ratio = after.saved_ratio - before.saved_ratio;
        Step { bytes: to, hit_ratio: after.hit_ratio - before.hit_ratio, saved_ratio, load_seconds: saved_ratio * self.load_seconds }
    }

    /// What a tenth more of a size would bring.
    pub fn gain(&self, bytes: u64) -> Step {
        self.step(bytes, bytes.saturating_add(bytes / 10))
    }

    /// What a tenth less of it would cost.
    pub fn loss(&self, bytes: u64) -> Step {
        self.step(bytes, bytes - bytes / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        let point = |bytes, hit_ratio| Point { bytes, hit_ratio, saved_ratio: hit_ratio / 2.0 };
        Curve { points: vec![point(100, 0.2), point(200, 0.6), point(400, 0.7)], load_seconds: 100.0, ..Curve::default() }
    }

    #[test]
    fn between_sizes_it_is_a_line_and_beyond_the_last_it_is_flat() {
        let at = [0, 50, 100, 150, 300, 400, 4_000].map(|bytes| (curve().at(bytes).hit_ratio * 1_000.0).round() / 1_000.0);
        assert_eq!(at, [0.0, 0.1, 0.2, 0.4, 0.65, 0.7, 0.7]);
        let at_least = [50, 100, 199, 200, 4_000].map(|bytes| curve().at_least(bytes).hit_ratio);
        assert_eq!(at_least, [0.0, 0.2, 0.2, 0.6, 0.7]);
        assert_eq!(Curve::default().at(7).hit_ratio, 0.0, "of nothing, nothing is known");
    }

    #[test]
    fn the_size_for_a_hit_ratio_is_the_smallest_that_has_it() {
        let sizes = [0.0, 0.1, 0.2, 0.4, 0.7, 0.71].map(|target| curve().size_for(target));
        assert_eq!(sizes, [Some(0), Some(50), Some(100), Some(150), Some(400), None]);
    }

    #[test]
    fn a_step_tells_hits_and_time() {
        let (gain, loss) = (curve().gain(200), curve().loss(200));
        assert!((gain.hit_ratio - 0.01).abs() < 1e-9 && (gain.load_seconds - 0.5).abs() < 1e-9, "{gain:?}");
        assert!((loss.hit_ratio + 0.08).abs() < 1e-9 && (loss.load_seconds + 4.0).abs() < 1e-9, "{loss:?}");
        assert_eq!((gain.bytes, loss.bytes), (220, 180));
    }
}
