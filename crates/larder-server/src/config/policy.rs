//! From a namespace's settings to its policy. What larder itself finds wrong is told at the setting that it was the fault
//! of.

use larder::fingerprint::Hash;
use larder::{Codec, Compression, Mode, Policy};

use super::catalog::DEFAULT_NAMESPACE;
use super::document::Givens;
use super::fault::{Fault, Place};
use super::value::Value;

/// The policy of a section, and what is wrong with it. Settings are added one by one, and each that larder refuses is
/// told and left out, so that every bad one is found and the rest are judged on their own.
pub fn of(givens: &Givens, shown: &str, faults: &mut Vec<Fault>) -> Policy {
    let mut policy = Policy::default();
    for setting in DEFAULT_NAMESPACE.settings {
        let Some(given) = givens.get(setting.name) else { continue };
        let next = with(policy.clone(), setting.name, &given.value, givens);
        match next.check() {
            Ok(()) => policy = next,
            Err(error) => {
                let message = format!("{shown}.{}: found {}; {}", setting.name, given.value, error.message());
                faults.push(Fault::new(&given.place, message));
            }
        }
    }
    if let Some(above) = givens.get("compression.above").filter(|above| above.place != Place::Default)
        && !givens.contains_key("compression.codec")
    {
        let message = format!("{shown}.compression: found above = {} alone, expected codec = \"zstd\" or \"lz4\" beside it", above.value);
        faults.push(Fault::new(&above.place, message));
    }
    policy
}

fn with(policy: Policy, name: &str, value: &Value, givens: &Givens) -> Policy {
    match (name, value) {
        ("ttl", Value::Time(time)) => policy.ttl(*time),
        ("jitter", Value::Share(share)) => policy.jitter(*share),
        ("sliding", Value::Flag(flag)) => policy.sliding(*flag),
        ("stale_while_revalidate", Value::Time(time)) => policy.stale_while_revalidate(*time),
        ("stale_if_error", Value::Time(time)) => policy.stale_if_error(*time),
        ("refresh_ahead", Value::Share(share)) => policy.refresh_ahead(*share),
        ("negative_ttl", Value::Time(time)) => policy.negative_ttl(*time),
        ("load_soft_timeout", Value::Time(time)) => policy.load_soft_timeout(*time),
        ("load_timeout", Value::Time(time)) => policy.load_timeout(*time),
        ("loads_max", Value::Count(number)) => policy.loads_max(length(*number)),
        ("value_bytes_max", Value::Size(bytes)) => policy.value_bytes_max(length(*bytes)),
        ("codec", Value::Choice(word)) => policy.codec(codec(word)),
        ("fingerprint", Value::Choice(word)) => policy.fingerprint(hash(word)),
        ("compression.codec", Value::Choice(word)) => policy.compress(compression(word), above(givens)),
        // It goes with the codec, above.
        ("compression.above", _) => policy,
        ("tags", Value::Texts(tags)) => tags.iter().fold(policy, |policy, tag| policy.tag(tag)),
        ("memory", Value::Size(bytes)) => policy.own_memory(*bytes),
        ("memory_min", Value::Size(bytes)) => policy.own_memory_min(*bytes),
        ("memory_max", Value::Size(bytes)) => policy.own_memory_max(*bytes),
        ("backing", Value::Flag(flag)) => policy.backing(*flag),
        // The door's, not the cache's.
        ("miss_lease", _) => policy,
        ("mode", Value::Choice(word)) => policy.mode(mode(word)),
        ("max_staleness", Value::Time(time)) => policy.max_staleness(*time),
        ("one_load_in_fleet", Value::Time(time)) => policy.one_load_in_fleet(*time),
        (name, value) => unreachable!("{name} is not a setting of a namespace that could be {value}"),
    }
}

fn hash(word: &str) -> Hash {
    match word {
        "xxh3" => Hash::Xxh3,
        "blake3" => Hash::Blake3,
        other => unreachable!("the catalog has no fingerprint {other}"),
    }
}

fn codec(word: &str) -> Codec {
    match word {
        "json" => Codec::Json,
        "bytes" => Codec::Bytes,
        "postcard" => Codec::Postcard,
        "messagepack" => Codec::MessagePack,
        other => unreachable!("the catalog has no codec {other}"),
    }
}

fn compression(word: &str) -> Compression {
    match word {
        "zstd" => Compression::Zstd,
        "lz4" => Compression::Lz4,
        other => unreachable!("the catalog has no compression {other}"),
    }
}

/// The mode that a word of the catalog stands for.
pub fn mode(word: &str) -> Mode {
    match word {
        "available" => Mode::Available,
        "strict" => Mode::Strict,
        other => unreachable!("the catalog has no mode {other}"),
    }
}

fn above(givens: &Givens) -> usize {
    match givens.get("compression.above").map(|given| &given.value) {
        Some(Value::Size(bytes)) => length(*bytes),
        other => unreachable!("compression.above has a default that is a size, not {other:?}"),
    }
}

fn length(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
