//! What caches in small predict, beside what this pool really does with the same reads.

use std::sync::Arc;

use super::tests::entry;
use super::*;
use crate::entry::ENTRY_OVERHEAD;
use crate::sizing::{Access, Simulation, Survey, sizes_of};

/// Ranks of a Zipf distribution, a loop, and a scan, over entries of several sizes.
fn reads(count: u64) -> Vec<(u64, u32)> {
    let mut random = fastrand::Rng::with_seed(3);
    let read = |n: u64| match n % 4 {
        // The logarithm of what is even is as Zipf has it.
        0 | 1 => (20_000f64.powf(random.f64()) as u64, 200),
        2 => (100_000 + n / 4 % 4_000, 700),
        _ => (1_000_000 + n, 400),
    };
    (0..count).map(read).collect()
}

/// The hit ratio of a pool of this size.
fn measured(reads: &[(u64, u32)], capacity: u64) -> f64 {
    let (pool, metrics) = (Pool::new(capacity, Clock::manual(), Arc::default()), Arc::new(NamespaceMetrics::new(true)));
    let mut hits = 0;
    for (id, len) in reads {
        let key = id.to_le_bytes();
        let query = pool.query(&key);
        if pool.get(query).is_some() {
            hits += 1;
        } else {
            pool.insert(query, entry(1, *len, &metrics));
        }
    }
    f64::from(hits) / reads.len() as f64
}

#[test]
fn a_sample_of_a_twentieth_predicts_what_the_pool_does() {
    let reads = reads(120_000);
    // The test's entries have keys of one byte, as far as their weight goes.
    let accesses: Vec<Access> = reads.iter().map(|(id, len)| Access::new(&id.to_le_bytes(), 1 + len + ENTRY_OVERHEAD as u32, 0)).collect();
    let mut survey = Survey::default();
    accesses.iter().for_each(|access| survey.read(*access));
    let mut simulation = Simulation::new(&survey, &sizes_of(survey.bytes() as u64, 10), 0.05);
    accesses.iter().for_each(|access| simulation.read(*access));
    let curve = simulation.curve();
    let error = |point: &crate::sizing::Point| (point.hit_ratio - measured(&reads, point.bytes)).abs();
    let errors: Vec<f64> = curve.points.iter().map(error).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(errors.len() == 10 && mean <= 0.015, "mean {mean}, {errors:?}");
}
