//! How memory is best given out: to all together, or to each namespace its own part.
//!
//! The parts are found by giving always to who gains most for a byte, looking ahead over every step and not only the next one, because a
//! loop gains nothing until it fits (the lookahead algorithm of Qureshi and Patt, "Utility-Based Cache Partitioning", MICRO 2006). A
//! pool that is shared is within a point or two of that for most, and better for some, so it is left only for a gain that the reckoning
//! can see.

use super::Curve;

/// Parts that memory is given out in.
const PARTS: u64 = 128;

/// One who is to get some.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) curve: Curve,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Claim {
    /// What it gains with so many bytes at least: seconds of loading.
    pub(crate) fn value(&self, bytes: u64) -> f64 {
        self.curve.at_least(bytes).saved_ratio * self.curve.load_seconds
    }

    /// What it would gain if every read hit.
    pub(crate) fn whole(&self) -> f64 {
        self.curve.load_seconds
    }
}

/// Gives out a budget: bytes for each, in their order. Everybody gets the least that is theirs, or in proportion where that is more than
/// there is; nobody more than the most; what nobody gains from goes to who is read most.
pub(crate) fn give_out(claims: &[Claim], budget: u64) -> Vec<u64> {
    let least = claims.iter().map(|claim| u128::from(claim.min)).sum::<u128>();
    let part = |min: u64| if least > budget.into() { (u128::from(min) * u128::from(budget) / least) as u64 } else { min };
    let mut given: Vec<u64> = claims.iter().map(|claim| part(claim.min)).collect();
    let mut left = budget.saturating_sub(given.iter().sum());
    let part = (budget / PARTS).max(1);
    while left > 0 {
        let steps = claims.iter().zip(&given).enumerate().filter_map(|(n, (claim, has))| {
            let most = left.min(claim.max.saturating_sub(*has));
            let (gain, step) = best_step(claim, *has, most, part)?;
            Some((gain, n, step))
        });
        let Some((_, n, step)) = steps.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
        given[n] += step;
        left -= step;
    }
    let mut by_reads: Vec<usize> = (0..claims.len()).collect();
    by_reads.sort_by_key(|n| std::cmp::Reverse(claims[*n].curve.reads));
    for n in by_reads {
        let more = left.min(claims[n].max.saturating_sub(given[n]));
        given[n] += more;
        left -= more;
    }
    given
}

/// The step up to `most` that gains most for a byte, if any gains.
fn best_step(claim: &Claim, has: u64, most: u64, part: u64) -> Option<(f64, u64)> {
    let before = claim.value(has);
    let steps = (1..=PARTS).map(|n| (n * part).min(most)).take_while({
        let mut ended = false;
        move |step| {
            let go_on = !ended && *step > 0;
            ended = *step == most;
            go_on
        }
    });
    let gains = steps.map(|step| ((claim.value(has + step) - before) / step as f64, step));
    gains.filter(|(gain, _)| *gain > 0.0).max_by(|a, b| a.0.total_cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::Point;

    fn claim(points: &[(u64, f64)], reads: u64) -> Claim {
        let points = points.iter().map(|(bytes, hit_ratio)| Point { bytes: *bytes, hit_ratio: *hit_ratio, saved_ratio: *hit_ratio });
        Claim { curve: Curve { points: points.collect(), reads, load_seconds: reads as f64, ..Curve::default() }, min: 10, max: u64::MAX }
    }

    #[test]
    fn a_loop_gets_all_that_it_needs_or_nothing_and_a_scan_the_least() {
        let a_loop = claim(&[(499, 0.0), (500, 1.0), (1_000, 1.0)], 100);
        let scan = claim(&[(1_000, 0.0)], 10_000);
        let hot = claim(&[(50, 0.4), (100, 0.5), (500, 0.6), (1_000, 0.65)], 100);
        let given = give_out(&[a_loop.clone(), scan.clone(), hot.clone()], 1_000);
        assert!(given[0] >= 500 && given[2] >= 100, "{given:?}");
        assert_eq!(given.iter().sum::<u64>(), 1_000);
        let small = give_out(&[a_loop, scan, hot], 300);
        assert!(small[0] <= 20 && small[2] >= 100, "it does not fit: {small:?}");
    }

    #[test]
    fn bounds_hold_and_worth_counts() {
        let points: Vec<(u64, f64)> = (1..=100).map(|n| (n * 10, n as f64 / 100.0)).collect();
        let mut cheap = claim(&points, 100);
        let mut dear = cheap.clone();
        dear.curve.load_seconds *= 50.0;
        assert!(give_out(&[cheap.clone(), dear.clone()], 1_000)[1] >= 980);
        dear.max = 300;
        cheap.min = 100;
        assert_eq!(give_out(&[cheap.clone(), dear.clone()], 1_000), [700, 300]);
        cheap.max = 200;
        assert_eq!(give_out(&[cheap.clone(), dear.clone()], 1_000), [200, 300], "what nobody may have is left");
        assert_eq!(give_out(&[cheap, dear], 55), [50, 5], "never more than there is");
        assert!(give_out(&[], 100).is_empty());
    }
}
