//! What sets two backups apart, by what is in them and not by their names.
//!
//! Keys are remembered as hashes with what their entries are, both as 64 bits: 16 bytes an entry of the first backup. So it is for
//! people who look at backups, and says itself when there is too much to compare.

use std::collections::HashMap;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::archive::{self, Kept};
use super::chain::Chain;
use super::frame::bad;
use super::seal::Opener;
use super::{Place, Watch, cancelled, chain, source};
use crate::error::{Error, ErrorKind, Result};

/// The most entries of a backup that are compared: half a gigabyte of hashes.
const COMPARED_MAX: usize = 32 << 20;

/// Keys that are given as examples, of each kind.
const EXAMPLES: usize = 20;

/// What sets two backups apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// Entries that both have, with the same content and tags.
    pub same: u64,
    /// Entries that both have and whose content or tags differ.
    pub changed: u64,
    /// Entries that only the second has.
    pub added: u64,
    /// Entries that only the first has.
    pub removed: u64,
    /// Some keys that changed, escaped.
    pub changed_keys: Vec<String>,
    /// Some keys that came, escaped.
    pub added_keys: Vec<String>,
}

/// Compares two backups, each with those that it stands on: what is in the second against the first. Blocks.
///
/// # Errors
/// As [`verify`](super::verify()); [`ErrorKind::Sealed`] also without an opener where one is encrypted;
/// [`ErrorKind::Overloaded`] for more than 33 million entries.
pub fn diff(place: &dyn Place, first: &str, second: &str, opener: Option<&dyn Opener>, watch: &dyn Watch) -> Result<Difference> {
    let (first, second) = (chain::load(place, first, opener)?, chain::load(place, second, opener)?);
    first.check_open().and_then(|()| second.check_open())?;
    let mut known: HashMap<u64, (u64, bool), foldhash::fast::RandomState> = HashMap::default();
    each(place, &first, watch, &mut |kept| {
        // The newest backup comes first, and what it has of a key is what counts.
        known.entry(xxh3_64(kept.key)).or_insert((digest(&kept), false));
        if known.len() > COMPARED_MAX {
            return Err(Error::new(ErrorKind::Overloaded, format!("more than {COMPARED_MAX} entries are too many to compare")));
        }
        Ok(())
    })?;
    let mut difference = Difference::default();
    let mut seen: HashMap<u64, (), foldhash::fast::RandomState> = HashMap::default();
    let is_chain = second.len() > 1;
    each(place, &second, watch, &mut |kept| {
        let hash = xxh3_64(kept.key);
        if is_chain && seen.insert(hash, ()).is_some() {
            return Ok(());
        }
        if seen.len() > COMPARED_MAX {
            return Err(Error::new(ErrorKind::Overloaded, format!("more than {COMPARED_MAX} entries are too many to compare")));
        }
        let example = |keys: &mut Vec<String>| {
            if keys.len() < EXAMPLES {
                keys.push(kept.key.escape_ascii().to_string());
            }
        };
        match known.get_mut(&hash) {
            Some((before, met)) => {
                *met = true;
                if *before == digest(&kept) {
                    difference.same += 1;
                } else {
                    difference.changed += 1;
                    example(&mut difference.changed_keys);
                }
            }
            None => {
                difference.added += 1;
                example(&mut difference.added_keys);
            }
        }
        Ok(())
    })?;
    difference.removed = known.values().filter(|(_, met)| !met).count() as u64;
    Ok(difference)
}

/// What an entry is, apart from its stamp and its life.
fn digest(kept: &Kept<'_>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&kept.fingerprint.to_le_bytes());
    hash.update(&[kept.codec]);
    for tag in kept.tags() {
        hash.update(&(tag.len() as u32).to_le_bytes());
        hash.update(tag);
    }
    hash.digest()
}

fn each(place: &dyn Place, chain: &Chain, watch: &dyn Watch, look: &mut dyn FnMut(Kept<'_>) -> Result<()>) -> Result<()> {
    let of: u64 = chain.iter().map(|manifest| manifest.entries).sum();
    let mut done = 0;
    for manifest in chain.iter() {
        for number in 1..=manifest.segments.len() {
            source::segment(place, manifest, number, &mut |file, at, frame| {
                let mut frame = &*frame;
                while !frame.is_empty() {
                    look(archive::take(&mut frame, manifest.position).map_err(|why| bad(file, at, why))?)?;
                    done += 1;
                }
                Ok(())
            })?;
            watch.at("comparing", done, Some(of));
            if watch.is_cancelled() {
                return Err(cancelled("comparison"));
            }
        }
    }
    Ok(())
}
