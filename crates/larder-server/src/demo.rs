//! `larder demo`: the cache's main job on real data, and the proof that it does it.

mod cache;
mod features;
mod histogram;
mod horizon;
mod keyspace;
mod market;
mod model;
mod naive;
mod source;
mod staleness;
mod workload;
mod world;

/// The seed of a randomised test: `LARDER_SEED` if it is set, else a new one. Tests say it when they fail.
#[cfg(test)]
fn seed() -> u64 {
    let seed = match std::env::var("LARDER_SEED") {
        Ok(text) => text.parse().expect("LARDER_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    // The harness shows this when the test fails, and only then.
    eprintln!("LARDER_SEED={seed}");
    seed
}

/// Property tests draw from the same seed, which repeats a failure, so that no file of failures is needed.
#[cfg(test)]
fn properties() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..Default::default()
    }
}
