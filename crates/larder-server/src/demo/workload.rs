//! Which key is read next: a few are hot, most are cold, as in real traffic.

use super::keyspace::{KeyId, Keyspace};

/// How steeply popularity falls with rank; 0.99 is what cache benchmarks customarily use.
pub const EXPONENT: f64 = 0.99;

/// Draws ranks `0..n` with a probability proportional to `1 / (rank + 1)^exponent`, in constant time.
///
/// It is Walker's alias table: `n` equal columns, each shared by at most two ranks, so that one draw picks a column and
/// then one of its two ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The share of column `i` that belongs to rank `i`.
    own: Vec<f64>,
    /// The rank to which the rest of the column belongs.
    other: Vec<u32>,
}

impl Zipf {
    /// A table for `ranks` ranks.
    ///
    /// # Panics
    /// If there is no rank to draw.
    pub fn new(ranks: u32, exponent: f64) -> Self {
        assert!(ranks > 0, "there is a rank to draw");
        let weights: Vec<f64> = (1..=ranks).map(|rank| f64::from(rank).powf(-exponent)).collect();
        let mean = weights.iter().sum::<f64>() / f64::from(ranks);
        // In units of a column's height: below 1 a rank leaves room in its column, above 1 it needs room elsewhere.
        let mut own: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut other: Vec<u32> = (0..ranks).collect();
        let (mut roomy, mut needy): (Vec<u32>, Vec<u32>) = (0..ranks).partition(|&rank| own[rank as usize] < 1.0);
        while let (Some(&giver), Some(room)) = (needy.last(), roomy.pop()) {
            other[room as usize] = giver;
            own[giver as usize] -= 1.0 - own[room as usize];
            if own[giver as usize] < 1.0 {
                needy.pop();
                roomy.push(giver);
            }
        }
        Self { own, other }
    }

    /// Draws a rank.
    pub fn draw(&self, random: &mut fastrand::Rng) -> u32 {
        let column = random.usize(..self.own.len());
        // What rounding left over in a full column goes to the column's own rank, as `other` starts out as it.
        if random.f64() < self.own[column] { column as u32 } else { self.other[column] }
    }
}

/// Draws keys; which of them are hot is shuffled, so that heat falls on all symbols, horizons and kinds.
#[derive(Clone, Debug)]
pub struct Workload {
    zipf: Zipf,
    by_rank: Vec<KeyId>,
}

impl Workload {
    /// A workload over all keys; the seed decides which are hot.
    pub fn over(keyspace: &Keyspace, seed: u64) -> Self {
        let mut by_rank: Vec<KeyId> = keyspace.keys().iter().map(|key| key.id).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut by_rank);
        let ranks = u32::try_from(by_rank.len()).expect("keys are numbered with u32");
        Self { zipf: Zipf::new(ranks, EXPONENT), by_rank }
    }

    /// The next key to read.
    pub fn draw(&self, random: &mut fastrand::Rng) -> KeyId {
        self.by_rank[self.zipf.draw(random) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::market::Market;
    use super::super::seed;
    use super::*;

    /// The probability that the table gives each rank, summed exactly over its columns.
    fn probabilities(zipf: &Zipf) -> Vec<f64> {
        let mut probabilities = vec![0.0; zipf.own.len()];
        for (column, &own) in zipf.own.iter().enumerate() {
            probabilities[column] += own.min(1.0);
            probabilities[zipf.other[column] as usize] += 1.0 - own.min(1.0);
        }
        probabilities.iter().map(|share| share / zipf.own.len() as f64).collect()
    }

    #[test]
    fn the_table_holds_the_distribution_exactly() {
        for ranks in [1, 2, 7, 770, 10_000] {
            let sum: f64 = (1..=ranks).map(|rank| f64::from(rank).powf(-EXPONENT)).sum();
            let found = probabilities(&Zipf::new(ranks, EXPONENT));
            for (rank, probability) in (1..=ranks).zip(found) {
                let expected = f64::from(rank).powf(-EXPONENT) / sum;
                assert!((probability - expected).abs() < 1e-9, "rank {rank} of {ranks}: {probability} for {expected}");
            }
        }
    }

    #[test]
    fn draws_follow_the_table() {
        let seed = seed();
        let (ranks, draws) = (100, 1_000_000_u32);
        let zipf = Zipf::new(ranks, EXPONENT);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut counts = vec![0_u32; ranks as usize];
        for _ in 0..draws {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        // Chi-squared with 99 degrees of freedom: mean 99, deviation 14. A fair sampler passes 200 about once in a
        // hundred million seeds.
        let chi_squared: f64 = probabilities(&zipf)
            .iter()
            .zip(&counts)
            .map(|(probability, &count)| {
                let expected = probability * f64::from(draws);
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_squared < 200.0, "chi squared {chi_squared}");
    }

    #[test]
    fn the_same_seed_gives_the_same_reads_over_every_kind_of_key() {
        let market = Market::bundled().expect("the bundled files parse");
        let keyspace = Keyspace::of(&market);
        let seed = seed();
        let draw = |workload: &Workload| -> Vec<KeyId> {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..20_000).map(|_| workload.draw(&mut random)).collect()
        };
        let drawn = draw(&Workload::over(&keyspace, 1));
        assert_eq!(drawn, draw(&Workload::over(&keyspace, 1)));
        assert_ne!(drawn, draw(&Workload::over(&keyspace, 2)));
        let symbols: HashSet<_> = drawn.iter().map(|&key| keyspace.key(key).symbol).collect();
        assert_eq!(symbols.len(), market.symbols().len());
    }
}
