//! Whether a number really became another, or only looks so: what may be called a trend.
//!
//! Two periods are compared stretch by stretch (the same part of the day with the same part of the day), by Wilcoxon's signed-rank test
//! ("Individual comparisons by ranking methods", 1945), which supposes nothing about how the numbers are spread. Minutes that follow
//! each other resemble each other, and a test that took each for a witness of its own would see trends in noise; so they are first
//! gathered into about twelve stretches.

use serde::{Deserialize, Serialize};

/// Of so many findings of a trend where there is none, one is tolerated: a report has some ten numbers, and one in ten reports with
/// a trend out of nothing would be too many.
const SIGNIFICANT: f64 = 0.01;

/// With fewer pairs than this not even the clearest change is significant.
const PAIRS_MIN: usize = 8;

/// Stretches that a period is gathered into.
const STRETCHES: usize = 12;

/// With more pairs than this the normal distribution stands in for counting all the ways to give signs.
const EXACT_MAX: usize = 24;

/// What can be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// It went up.
    Rising,
    /// It went down.
    Falling,
    /// There are numbers enough, and no change that chance would not explain.
    Steady,
    /// There are too few numbers to tell.
    Unknown,
}

/// A trend, and how likely chance alone would have brought as large a change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What can be said.
    pub trend: Trend,
    /// The probability that chance alone would have done it; null where there is too little to tell.
    pub p: Option<f64>,
}

impl Change {
    const UNKNOWN: Change = Change { trend: Trend::Unknown, p: None };
}

/// How many neighbouring buckets of a period make one stretch.
pub fn stretch(buckets: usize) -> usize {
    (buckets / STRETCHES).max(1)
}

/// Compares two periods, pair by pair. `least` is the smallest change of the median that is worth being told, in the unit of the numbers:
/// with numbers enough, a difference that helps nobody becomes significant, too.
pub fn compare(pairs: &[(f64, f64)], least: f64) -> Change {
    let mut differences: Vec<f64> = pairs.iter().map(|(before, now)| now - before).collect();
    if differences.len() < PAIRS_MIN {
        return Change::UNKNOWN;
    }
    differences.sort_unstable_by(f64::total_cmp);
    let middle = differences.len() / 2;
    let median =
        if differences.len().is_multiple_of(2) { f64::midpoint(differences[middle - 1], differences[middle]) } else { differences[middle] };
    let p = signed_rank(differences);
    let trend = match median {
        _ if p > SIGNIFICANT || median.abs() < least => Trend::Steady,
        up if up > 0.0 => Trend::Rising,
        _ => Trend::Falling,
    };
    Change { trend, p: Some(p) }
}

/// The two-sided probability of ranks as uneven as these, if ups and downs were equally likely.
fn signed_rank(mut differences: Vec<f64>) -> f64 {
    differences.retain(|difference| *difference != 0.0);
    differences.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the rank, so that the mean rank of equals is a whole number, too.
    let mut ranks = Vec::with_capacity(differences.len());
    for equals in differences.chunk_by(|a, b| a.abs() == b.abs()) {
        let first = ranks.len();
        ranks.extend(std::iter::repeat_n(2 * first + equals.len() + 1, equals.len()));
    }
    let ups: usize = ranks.iter().zip(&differences).filter(|(_, difference)| **difference > 0.0).map(|(rank, _)| rank).sum();
    let all: usize = ranks.iter().sum();
    let fewer = ups.min(all - ups);
    let one_sided = if ranks.len() <= EXACT_MAX { exact(&ranks, fewer) } else { normal(&ranks, fewer) };
    (2.0 * one_sided).min(1.0)
}

/// The share of all ways to give signs to the ranks whose sum of ups is at most `sum`.
fn exact(ranks: &[usize], sum: usize) -> f64 {
    let all: usize = ranks.iter().sum();
    // ways[s]: the probability of ups that sum to s.
    let mut ways = vec![0.0; all + 1];
    ways[0] = 1.0;
    for rank in ranks {
        for sum in (0..=all).rev() {
            let with = if sum >= *rank { ways[sum - rank] } else { 0.0 };
            ways[sum] = f64::midpoint(ways[sum], with);
        }
    }
    ways[..=sum].iter().sum()
}

fn normal(ranks: &[usize], sum: usize) -> f64 {
    let mean = ranks.iter().sum::<usize>() as f64 / 2.0;
    let variance = ranks.iter().map(|rank| (rank * rank) as f64).sum::<f64>() / 4.0;
    // Half a step is added because ranks, which are doubled here, move by whole steps of two.
    let z = (sum as f64 + 1.0 - mean) / variance.sqrt();
    lower_tail(z.min(0.0))
}

/// The standard normal distribution below `z`, for a `z` that is not positive: Abramowitz and Stegun, formula 26.2.17, which errs by
/// less than 7.5e-8.
fn lower_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 - 0.231_641_9 * z);
    let sum = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530].into_iter().fold(0.0, |sum, c| (sum + c) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(before: impl Fn(usize) -> f64, now: impl Fn(usize) -> f64, n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|at| (before(at), now(at))).collect()
    }

    #[test]
    fn two_points_of_noise_are_no_trend() {
        assert_eq!(compare(&[(0.8, 0.9), (0.8, 0.95)], 0.0).trend, Trend::Unknown);
        assert_eq!(compare(&pairs(|_| 1.0, |_| 9.0, PAIRS_MIN - 1), 0.0), Change::UNKNOWN);
        assert_eq!(compare(&pairs(|_| 1.0, |_| 9.0, PAIRS_MIN), 0.0).trend, Trend::Rising);
        assert_eq!(compare(&pairs(|_| 1.0, |_| 1.0, 12), 0.0).trend, Trend::Steady);
    }

    #[test]
    fn a_change_under_a_daily_cycle_is_seen_and_a_small_one_is_not_told() {
        let day = |at: usize| 100.0 + 80.0 * (at as f64 / 12.0 * std::f64::consts::TAU).sin();
        let change = compare(&pairs(day, |at| day(at) * 0.9, 12), 1.0);
        assert_eq!(change.trend, Trend::Falling);
        assert!(change.p.is_some_and(|p| p < 0.001));
        assert_eq!(compare(&pairs(day, |at| day(at) + 0.1, 12), 1.0).trend, Trend::Steady);
    }

    #[test]
    fn the_probabilities_are_those_of_the_tables() {
        // Wilcoxon's table: for ten pairs a sum of 8 is the last that is under 5 % on both sides, 3 under 1 %.
        let ranks: Vec<usize> = (1..=10).map(|rank| 2 * rank).collect();
        let two_sided = |sum: usize| 2.0 * exact(&ranks, 2 * sum);
        assert!(two_sided(8) <= 0.05 && two_sided(9) > 0.05);
        assert!(two_sided(3) <= 0.01 && two_sided(4) > 0.01);
        for (z, p) in [(-1.0, 0.158_655_25), (-1.959_963_98, 0.025), (-3.0, 0.001_349_9), (0.0, 0.5)] {
            assert!((lower_tail(z) - p).abs() < 1e-6, "{z}: {}", lower_tail(z));
        }
        let many: Vec<usize> = (1..=EXACT_MAX).map(|rank| 2 * rank).collect();
        for sum in [40, 80, 120, 150] {
            assert!((exact(&many, 2 * sum) - normal(&many, 2 * sum)).abs() < 0.006, "{sum}");
        }
    }

    #[test]
    fn noise_is_seldom_called_a_trend() {
        let seed = 20_261_126;
        let mut random = fastrand::Rng::with_seed(seed);
        for (n, memory) in [(12, 0.0), (15, 0.0), (30, 0.0), (12, 0.4)] {
            // A number that remembers the one before, as load does.
            let mut last = 0.0;
            let mut next = |fresh: bool| {
                let step = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                last = if fresh { step } else { memory * last + step };
                last
            };
            let mut trends = 0;
            for _ in 0..2_000 {
                let now: Vec<f64> = (0..n).map(|at| next(at == 0)).collect();
                let pairs: Vec<(f64, f64)> = now.into_iter().enumerate().map(|(at, now)| (next(at == 0), now)).collect();
                trends += usize::from(compare(&pairs, 0.0).trend != Trend::Steady);
            }
            let allowed = if memory == 0.0 { 30 } else { 160 };
            assert!(trends <= allowed, "seed {seed}: {trends} of 2,000 with {n} pairs and memory {memory}");
        }
    }
}
