//! What sharing a cache over Redis costs, beside the bare client and the bare server: the numbers that the project promises.
//!
//! - `reads`: a hit in the backing tier, beside a `GET` of the same bytes by the same client.
//! - `appends`: changes through group commit, beside pipelined `SET`s.
//! - `propagation`: how long until an invalidation is obeyed elsewhere.
//! - `outage`: memory, misses and the return while the server is gone.
//!
//! Both sides of a ratio run in one process against one server, in alternating rounds, and medians of the rounds are
//! reported. CPU time is this process's: the server is another one.
//!
//! `cargo bench -p larder-testkit --bench redis -- [SECTION]`

mod appends;
mod measure;
mod outage;
mod propagation;
mod reads;

use larder_testkit::redis::{Server, ServerOptions, or_skip};

/// A name and what runs under it, with a server of its own.
type Section = (&'static str, fn(&Server));

const SECTIONS: [Section; 4] =
    [("reads", reads::run), ("appends", appends::run), ("propagation", propagation::run), ("outage", outage::run)];

fn main() {
    // Cargo adds flags of its own.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, run) in SECTIONS.iter().filter(|(name, _)| name.contains(&filter)) {
        let Some(server) = or_skip(Server::start(ServerOptions::default())) else { return };
        println!("\n{name}");
        run(&server);
    }
}
