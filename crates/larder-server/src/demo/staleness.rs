//! The verdict on each read, and its tally.
//!
//! Every reader has a tally of its own and they are merged at the end, so that judging a fresh read costs a comparison
//! and an addition, and no reader disturbs another.

use std::time::Duration;

use tokio::time::Instant;

use super::keyspace::{Key, Kind};
use super::world::{AsOf, World};

/// How many reads were checked, how many were stale, and how badly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    /// Reads judged.
    pub reads_checked: u64,
    /// Those that returned what the cache had been told is superseded.
    pub stale_reads: u64,
    /// Of these, the ones made from a superseded bar.
    pub stale_by_bar: u64,
    /// Of these, the ones made by a superseded release. A read can be both.
    pub stale_by_release: u64,
    /// The most bars that a read was behind.
    pub worst_lag_bars: u64,
    /// The most releases that a read was behind.
    pub worst_lag_releases: u64,
    /// The longest that a value which was served had been known to be superseded when the read began.
    pub worst_superseded: Duration,
}

impl Staleness {
    /// Judges one read: `expected` is what the cache had acknowledged before the read began, at `began`, and `found`
    /// is what the returned value was made from.
    pub fn check(&mut self, world: &World, key: &Key, expected: AsOf, began: Instant, found: AsOf) {
        self.reads_checked += 1;
        let bars = expected.bar.saturating_sub(found.bar);
        // A prediction that names no release can not be shown to be fresh, so it is held to be older than any.
        let releases = expected.release.map_or(0, |expected| expected.saturating_sub(found.release.unwrap_or(0)));
        if bars == 0 && releases == 0 {
            return;
        }
        self.stale_reads += 1;
        if bars > 0 {
            self.stale_by_bar += 1;
            self.worst_lag_bars = self.worst_lag_bars.max(bars);
            let superseded = world.bar_superseded_for(key.symbol, found.bar, began);
            self.worst_superseded = self.worst_superseded.max(superseded);
        }
        if let (Kind::Prediction(model), 1..) = (key.kind, releases) {
            self.stale_by_release += 1;
            self.worst_lag_releases = self.worst_lag_releases.max(releases);
            let superseded = world.release_superseded_for(model, found.release.unwrap_or(0), began);
            self.worst_superseded = self.worst_superseded.max(superseded);
        }
    }

    /// Adds another reader's tally.
    pub fn merge(&mut self, other: &Self) {
        self.reads_checked += other.reads_checked;
        self.stale_reads += other.stale_reads;
        self.stale_by_bar += other.stale_by_bar;
        self.stale_by_release += other.stale_by_release;
        self.worst_lag_bars = self.worst_lag_bars.max(other.worst_lag_bars);
        self.worst_lag_releases = self.worst_lag_releases.max(other.worst_lag_releases);
        self.worst_superseded = self.worst_superseded.max(other.worst_superseded);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::keyspace::Keyspace;
    use super::super::market::Market;
    use super::*;

    /// The canary: a checker that cannot see these would prove nothing by seeing none.
    #[test]
    fn superseded_values_are_reported() {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let keyspace = Keyspace::of(&market);
        let began = Instant::now();
        let world = World::starting_at(Arc::clone(&market), market.place_after_days(10), began);
        let key = &keyspace.keys()[1];
        let Kind::Prediction(model) = key.kind else { panic!("the second key is a prediction") };
        let cached = world.current(key);
        let mut tally = Staleness::default();

        tally.check(&world, key, world.acknowledged(key), began, cached);
        assert_eq!((tally.reads_checked, tally.stale_reads), (1, 0));

        // A bar that arrived but is not acknowledged is not held against the cache.
        let bar = world.bar_arrived(key.symbol);
        tally.check(&world, key, world.acknowledged(key), began, cached);
        assert_eq!((tally.reads_checked, tally.stale_reads), (2, 0));

        let expected_before = world.acknowledged(key);
        world.bar_acknowledged(key.symbol, bar, began + Duration::from_millis(5));
        let later = began + Duration::from_millis(12);
        tally.check(&world, key, world.acknowledged(key), later, cached);
        assert_eq!((tally.stale_reads, tally.stale_by_bar, tally.worst_lag_bars), (1, 1, 1));
        assert_eq!(tally.worst_superseded, Duration::from_millis(7));

        // A read that began before the acknowledgement may still return the old value.
        tally.check(&world, key, expected_before, began, cached);
        assert_eq!((tally.reads_checked, tally.stale_reads), (4, 1));

        // The right bar, but by a superseded release.
        let release = world.model_released(model);
        world.model_acknowledged(model, release, later);
        tally.check(&world, key, world.acknowledged(key), later, AsOf { bar, release: Some(release - 1) });
        assert_eq!((tally.stale_reads, tally.stale_by_bar, tally.stale_by_release), (2, 1, 1));

        // A prediction without a release is not taken on trust.
        tally.check(&world, key, world.acknowledged(key), later, AsOf { bar, release: None });
        assert_eq!((tally.stale_reads, tally.worst_lag_releases), (3, 2));

        tally.check(&world, key, world.acknowledged(key), later, world.current(key));
        assert_eq!((tally.reads_checked, tally.stale_reads), (7, 3));
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_worst() {
        let one = Staleness {
            reads_checked: 10,
            stale_reads: 3,
            stale_by_bar: 2,
            stale_by_release: 1,
            worst_lag_bars: 7,
            worst_lag_releases: 1,
            worst_superseded: Duration::from_secs(1),
        };
        let other = Staleness { worst_lag_bars: 2, worst_superseded: Duration::from_secs(4), ..one.clone() };
        let mut both = one.clone();
        both.merge(&other);
        let expected = Staleness {
            reads_checked: 20,
            stale_reads: 6,
            stale_by_bar: 4,
            stale_by_release: 2,
            worst_lag_bars: 7,
            worst_lag_releases: 1,
            worst_superseded: Duration::from_secs(4),
        };
        assert_eq!(both, expected);
    }
}
