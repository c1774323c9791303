//! Listing keys by pattern, a page at a time, in the order of their bytes.
//!
//! The cursor is the last key that was returned, so a page depends on nothing that must be remembered between calls, and a
//! key that is there all the while is returned exactly once, whatever comes and goes around it.

use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::{Operation, Principal, Target};
use crate::cache::Shared;
use crate::entry::Slot;
use crate::error::{Error, ErrorKind, Result};
use crate::key::is_reserved;
use crate::pattern::Pattern;
use crate::tier::{Keep, Tier};

/// The most keys a page holds.
pub const KEYS_PAGE_MAX: usize = 10_000;

/// Entries among which a look for some key begins, and how far it goes from there: a millisecond or so at most.
const RANDOM_AMONG: usize = 16_384;

/// Keys of the backing tier of which one is taken, where memory has none.
const RANDOM_OF_A_PAGE: usize = 64;

/// Records of the backing tier looked at in one step.
const STEP: usize = 512;

/// Where a listing goes on.
///
/// Its text is opaque and fits a URL; the empty text is the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Option<Box<[u8]>>);

impl Cursor {
    /// From the first key.
    pub fn start() -> Self {
        Cursor::default()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().flatten().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::InvalidKey, "a cursor is given back as it was got");
        if text.is_empty() {
            return Ok(Cursor::start());
        }
        if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || text.len() > 2 * crate::KEY_LEN_MAX {
            return Err(bad());
        }
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad());
        (0..text.len()).step_by(2).map(byte).collect::<Result<_>>().map(|key| Cursor(Some(key)))
    }
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The keys, in the order of their bytes.
    pub keys: Vec<Box<[u8]>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl Keys {
    pub(crate) fn without_prefix(mut self, prefix: &[u8]) -> Self {
        self.keys.iter_mut().for_each(|key| *key = key.strip_prefix(prefix).unwrap_or(key).into());
        self
    }
}

/// Which keys are to be found: those that match, and that the principal may read, if it is for one. What it may not read is as if it
/// were not there, so that no page and no cursor tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) pattern: Pattern,
    pub(crate) reader: Option<Principal>,
}

impl Wanted {
    fn has(&self, key: &[u8]) -> bool {
        self.pattern.matches(key) && self.reader.as_ref().is_none_or(|reader| reader.rights().allows(Operation::Read, Target::Key(key)))
    }
}

pub(crate) async fn page(shared: &Arc<Shared>, wanted: &Wanted, cursor: Cursor, limit: usize) -> Result<Keys> {
    let limit = limit.clamp(1, KEYS_PAGE_MAX);
    let mut found = in_memory(shared, wanted, &cursor, limit);
    if let Some(tier) = &shared.tier {
        found.extend(in_tier(shared, tier, wanted, &cursor, limit).await?);
    }
    let more = found.len() > limit;
    let keys: Vec<Box<[u8]>> = found.into_iter().take(limit).collect();
    let next = keys.last().filter(|_| more).map(|last| Cursor(Some(last.clone())));
    Ok(Keys { keys, next })
}

/// Some key that has a fresh entry.
pub(crate) async fn random(shared: &Arc<Shared>, reader: Option<&Principal>) -> Result<Option<Box<[u8]>>> {
    let wanted = Wanted { pattern: Pattern::new("**")?, reader: reader.cloned() };
    if let Some(key) = random_in_memory(shared, &wanted) {
        return Ok(Some(key));
    }
    // Where not all may be read, the look by chance may have met none of those that may.
    if shared.tier.is_none() && reader.is_none() {
        return Ok(None);
    }
    let keys = page(shared, &wanted, Cursor::start(), RANDOM_OF_A_PAGE).await?.keys;
    Ok(fastrand::choice(keys))
}

/// The engine's order is that of hashes, so where the look begins by chance is chance enough; how far it goes has a bound.
fn random_in_memory(shared: &Shared, wanted: &Wanted) -> Option<Box<[u8]>> {
    let now = shared.clock.refresh();
    let mut pools = shared.pools();
    fastrand::shuffle(&mut pools);
    pools.iter().find_map(|pool| {
        let fresh = |key: &[u8], slot: &dyn Slot| {
            let meta = slot.meta();
            let is_live = now < meta.times().fresh_until && !slot.is_negative();
            is_live && wanted.has(key) && shared.index.judge(meta.named(key), meta.stamp()).is_none()
        };
        let begin = fastrand::usize(..pool.len().clamp(1, RANDOM_AMONG));
        let from = |skipped| pool.iter().skip(skipped).take(RANDOM_AMONG).find(|(key, slot)| fresh(key.bytes(), slot.as_ref()));
        // Behind the place where it began there may be none.
        from(begin).or_else(|| from(0)).map(|(key, _)| key.bytes().into())
    })
}

/// The first keys behind the cursor, one more than asked for to know whether there are more.
fn in_memory(shared: &Shared, wanted: &Wanted, cursor: &Cursor, limit: usize) -> BTreeSet<Box<[u8]>> {
    let now = shared.clock.refresh();
    let mut first: BinaryHeap<Box<[u8]>> = BinaryHeap::new();
    for pool in shared.pools() {
        for (key, slot) in pool.iter() {
            let (key, meta) = (key.bytes(), slot.meta());
            let behind = cursor.0.as_deref().is_none_or(|cursor| key > cursor);
            let room = first.len() <= limit || first.peek().is_some_and(|largest| *key < **largest);
            let is_one = behind && room && now < meta.times().fresh_until && !slot.is_negative() && wanted.has(key);
            if is_one && shared.index.judge(meta.named(key), meta.stamp()).is_none() {
                first.push(key.into());
                if first.len() > limit + 1 {
                    first.pop();
                }
            }
        }
    }
    first.into_iter().collect()
}

async fn in_tier(shared: &Arc<Shared>, tier: &Arc<dyn Tier>, wanted: &Wanted, cursor: &Cursor, limit: usize) -> Result<Vec<Box<[u8]>>> {
    let prefix: Arc<[u8]> = wanted.pattern.prefix().into();
    let found = Arc::new(Mutex::new((Vec::new(), false)));
    let look: Keep = {
        let (shared, wanted, prefix, cursor, found) = (shared.clone(), wanted.clone(), prefix.clone(), cursor.clone(), found.clone());
        let now = shared.clock.now_ms();
        Arc::new(move |key, record| {
            let (keys, past) = &mut *found.lock();
            let behind = cursor.0.as_deref().is_none_or(|cursor| key > cursor) && !is_reserved(key);
            if behind && wanted.has(key) && now < record.fresh_until && !record.negative && shared.fresh_stamp(key, record).is_some() {
                keys.push(key.into());
            }
            *past |= key > &*prefix && !key.starts_with(&prefix);
            // Looking changes nothing; the sweeper will come for what is stale.
            true
        })
    };
    let start = cursor.0.clone().filter(|cursor| **cursor > *prefix).unwrap_or_else(|| prefix.as_ref().into());
    let ordered = tier.is_ordered();
    let mut from = ordered.then_some(start);
    loop {
        from = tier.sweep(from, STEP, look.clone()).await?.next;
        let (keys, past) = &mut *found.lock();
        if from.is_none() || (ordered && (*past || keys.len() > limit)) {
            return Ok(std::mem::take(keys));
        }
        if keys.len() > 4 * limit {
            // Where there is no order the whole tier is looked at, and only the first keys are kept.
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(limit + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor(Some(b"a:\x00\xff".as_slice().into()));
        assert_eq!(cursor.to_string(), "613a00ff");
        assert_eq!("613a00ff".parse::<Cursor>().unwrap(), cursor);
        assert_eq!("".parse::<Cursor>().unwrap(), Cursor::start());
        for bad in ["6", "zz", "\u{e4}\u{e4}", "+1"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
