//! Several instances over one Redis that breaks: no promise is broken with it. A run of seconds for each kind of Redis; `cargo
//! xtask chaos` does the same for as long as one likes.

mod mutations;
mod run;

use std::time::Duration;

use larder_testkit::chaos::Fault;
use larder_testkit::chaos::site::Topology;
use larder_testkit::redis::or_skip;
use run::{Plan, play};

fn seed() -> u64 {
    std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("LARDER_SEED is a number"))
}

/// A short run, with every promise kept.
fn keeps_its_promises(topology: Topology, length: Duration) {
    let seed = seed();
    println!("LARDER_SEED={seed}");
    let plan = Plan {
        topology,
        seed,
        clients: 12,
        pause: Duration::from_millis(8),
        length,
        faults: Fault::ALL.to_vec(),
        mutation: None,
        tells: false,
    };
    let Some(part) = or_skip(play(&plan)) else { return };
    assert!(part.violations.is_empty(), "LARDER_SEED={seed}: {}", part.violations.join("\n"));
    let (operations, faults) = (part.tally.total(), part.damage.faults.values().sum::<u64>());
    println!("{operations} operations, {} judged, {faults} faults", part.judged);
    assert!(part.judged > 1_000, "of {operations} operations only {} could be judged", part.judged);
    assert!(faults > 0 && part.quiet > 0);
}

#[test]
fn one_server_behind_a_bad_network() {
    keeps_its_promises(Topology::Single, Duration::from_secs(12));
}

#[test]
fn a_master_that_sentinels_replace() {
    keeps_its_promises(Topology::Sentinel, Duration::from_secs(12));
}

#[test]
fn a_cluster_whose_nodes_and_slots_move() {
    keeps_its_promises(Topology::Cluster, Duration::from_secs(12));
}
