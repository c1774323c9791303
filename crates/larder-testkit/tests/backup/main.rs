//! Backup and restore against an exact model: nothing lost, nothing resurrected, whatever happens before, during and after, in the same
//! epoch and across another; every flipped bit noticed; and a process that is killed at any moment.

mod damage;
mod fleet;
mod guards;
mod killed;
mod options;
mod proof;
mod redis;
mod world;

/// The seed of a randomised test: from `LARDER_SEED` when it is set, else new; printed, so that a failure can be repeated.
pub fn announced(test: &str) -> u64 {
    let seed = match std::env::var("LARDER_SEED") {
        Ok(text) => text.parse().expect("LARDER_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("{test}: LARDER_SEED={seed}");
    seed
}
