//! The seed of a randomised test: from `LARDER_SEED` when it is set, else new; printed, so that a failure can be repeated.

/// The seed, announced.
pub fn announced(test: &str) -> u64 {
    let seed = match std::env::var("LARDER_SEED") {
        Ok(text) => text.parse().expect("LARDER_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("{test}: LARDER_SEED={seed}");
    seed
}
