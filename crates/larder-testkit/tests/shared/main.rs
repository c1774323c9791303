//! Several instances over one Redis, named by what they promise each other. Each test has a server of its own, and skips,
//! saying so, where `redis-server` is not installed.

mod basics;
mod change;
mod checkpoints;
mod connections;
mod election;
mod entries;
mod events;
mod inbox;
mod loss;
mod notices;
mod outage;
mod strict;
mod support;
mod topologies;
