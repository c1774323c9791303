//! Everything the library promises, seen from outside: one module for each property. Times are driven by a manual clock,
//! time-outs by tokio's paused time; nothing here sleeps.

mod support;

mod bad_input;
mod blocking;
mod change;
mod content;
mod degradation;
mod events;
mod gathering;
mod joining;
mod keys;
mod lineage;
mod loading;
mod maintenance;
mod many;
mod notices;
mod pools;
mod positions;
mod probes;
mod quick;
mod reads;
mod reopening;
mod stale;
mod stats;
mod sweeping;
mod tags_and_patterns;
mod times;
mod types;
mod update;
mod warming;
