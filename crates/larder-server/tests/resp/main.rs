//! The Redis protocol as clients meet it: larder held against a real Redis, against clients that mean no good, and driven by the clients
//! that people use.
//!
//! - `access`: who guesses, who asks too much, and who may do less than a moment ago.
//! - `random`: commands at random, to both servers, replies compared byte for byte.
//! - `scripted`: the corners that chance does not find, written down in `scripts/`.
//! - `bytes`: what is no command: inline, broken, half.
//! - `tracking`: clients that keep what they read, and are told.
//! - `pubsub`: replies that nobody asked for.
//! - `intended`: where larder differs on purpose, and the proof that it does.
//! - `lease`: a value that was read before an invalidation is not stored after it.
//! - `hostile`: clients that send too much, too slowly, or do not read.
//! - `parser`, `execution`: any bytes, read and carried out, for as long as one likes.
//! - `real`: redis-py, ioredis, node-redis, the `redis` crate, `redis-cli`, `redis-benchmark`.

mod access;
mod bytes;
mod compare;
mod conversation;
mod differential;
mod execution;
mod generate;
mod hostile;
mod intended;
mod lease;
mod parser;
mod program;
mod pubsub;
mod random;
mod real;
mod scripted;
mod sides;
mod tracking;
mod wire;

fn seed() -> u64 {
    std::env::var("LARDER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("LARDER_SEED is a number"))
}
