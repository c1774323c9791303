//! What a sample predicts, beside what following every key finds. What the pool itself does is compared in `tier/memory/predicted.rs`.

use super::*;

/// Ranks of a Zipf distribution, loops and scans in turns: what is hot, what fits or does not, and what never comes back.
fn mixed(reads: usize, seed: u64) -> Vec<Access> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=40_000)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let read = |n: usize| {
        let (id, cost) = match n % 4 {
            0 | 1 => (sums.partition_point(|sum| *sum < random.f64() * sums[sums.len() - 1]) as u64, 100),
            2 => (100_000 + (n as u64 / 4) % 8_000, 1_000),
            _ => (1_000_000 + n as u64, 10),
        };
        Access::numbered(id, 300 + (id % 5) as u32 * 200, cost)
    };
    (0..reads).map(read).collect()
}

fn curve_of(accesses: &[Access], sizes: &[u64], sample: f64) -> (Curve, usize) {
    let mut survey = Survey::default();
    accesses.iter().for_each(|access| survey.read(*access));
    let mut simulation = Simulation::new(&survey, sizes, sample);
    accesses.iter().for_each(|access| simulation.read(*access));
    (simulation.curve(), simulation.held())
}

#[test]
fn a_sample_of_a_twentieth_predicts_the_hits_of_all() {
    let accesses = mixed(200_000, 5);
    let (whole, _) = curve_of(&accesses, &sizes_of(60_000_000, 10), 1.0);
    let (sampled, _) = curve_of(&accesses, &sizes_of(60_000_000, 10), 0.05);
    let errors: Vec<f64> = whole.points.iter().zip(&sampled.points).map(|(a, b)| (a.hit_ratio - b.hit_ratio).abs()).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_eq!(errors.len(), 10);
    assert!(mean <= 0.01, "mean {mean}, {errors:?}");
    let saved = whole.points.iter().zip(&sampled.points).map(|(a, b)| (a.saved_ratio - b.saved_ratio).abs());
    assert!(saved.sum::<f64>() / 10.0 <= 0.03, "{whole:?}\n{sampled:?}");
    assert!(whole.points.windows(2).all(|two| two[0].hit_ratio <= two[1].hit_ratio + 0.01), "{whole:?}");
    assert!((sampled.sampled - 0.05).abs() < 1e-6 && whole.sampled == 1.0);
}

#[test]
fn what_is_dear_counts_for_more() {
    // Two keys in turns that do not both fit, of which one is loaded in a second.
    let accesses: Vec<Access> = (0..1_000).map(|n| Access::numbered(n % 2, 600, if n % 2 == 0 { 1_000_000 } else { 0 })).collect();
    let (curve, _) = curve_of(&accesses, &[1_200, 5_000], 1.0);
    assert_eq!(curve.load_seconds, 500.0);
    let all = curve.points[1];
    assert!((all.hit_ratio - 0.998).abs() < 1e-9 && (all.saved_ratio - 0.998).abs() < 1e-9, "{all:?}");
}

#[test]
fn memory_is_bounded_whatever_there_is() {
    let accesses: Vec<Access> = (0..400_000).map(|n| Access::numbered(n, 1_000, 0)).collect();
    let (curve, held) = curve_of(&accesses, &[100_000_000, 400_000_000], 0.9);
    assert!(held as u64 <= 2 * (ENTRIES_MAX + ENTRIES_MAX / 10), "{held}");
    assert!(curve.points.iter().all(|point| point.hit_ratio < 0.01), "{curve:?}");
    assert!((curve.keys as f64 / 400_000.0 - 1.0).abs() < 0.01, "{}", curve.keys);
}

#[test]
fn of_nothing_there_is_an_empty_curve() {
    let (curve, _) = curve_of(&[], &[0, 100, 100], 0.05);
    assert_eq!(curve, Curve::default());
    let (one, _) = curve_of(&[Access::numbered(1, 0, 0)], &[100], 0.05);
    assert_eq!((one.keys, one.bytes, one.points[0].hit_ratio), (1, 1, 0.0), "what weighs nothing weighs a byte");
}

#[test]
fn sizes_grow_by_one_factor_up_to_all() {
    let sizes = sizes_of(20_000_000, 10);
    assert_eq!((sizes.len(), sizes[0], sizes[9]), (10, 100_000, 20_000_000));
    assert!(sizes.windows(2).all(|two| two[0] < two[1]));
    assert_eq!(sizes_of(0, 0), [64 << 10, 128 << 10], "no pool is smaller");
}
