//! What an invalidation would drop, counted without dropping it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::{Operation, Principal, Target};
use crate::cache::{Larder, Shared};
use crate::error::Result;
use crate::key::{check_namespace, is_reserved, namespace_of};
use crate::name::{Name, Names};
use crate::origin::{Dependency, sources_of};
use crate::pattern::Pattern;
use crate::tier::{Keep, Tier};

/// Records of the backing tier looked at in one step.
const STEP: usize = 512;

/// What names touch, by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impact {
    /// Each namespace that has something, by name.
    pub namespaces: BTreeMap<String, Touched>,
}

impl Impact {
    /// Leaves out the namespaces in which somebody may not read all there is: a number would tell of the rest.
    pub fn permitted_to(&mut self, who: &Principal) {
        self.namespaces.retain(|name, _| {
            // A key need not have a namespace that can be a name; only who may read all is told of those.
            let all = check_namespace(name).map(|()| Pattern::namespace(name));
            let rights = who.rights();
            rights.allows_everywhere(Operation::Read) || all.is_ok_and(|all| rights.allows(Operation::Read, Target::Pattern(&all)))
        });
    }
}

/// What names touch in one namespace. An entry may be in both places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touched {
    /// Live entries in memory.
    pub memory_entries: u64,
    /// Their bytes, keys and bookkeeping included.
    pub memory_bytes: u64,
    /// Live entries in the backing tier.
    pub backing_entries: u64,
    /// Bytes of their keys and records.
    pub backing_bytes: u64,
}

impl Larder {
    /// How many live entries and bytes [`invalidate`](Self::invalidate) would drop for these names, by namespace. It looks at
    /// every entry of every tier, and changes nothing.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate) for names; [`ErrorKind::Tier`](crate::ErrorKind::Tier) where the backing tier cannot
    /// be read.
    pub async fn impact(&self, names: Names) -> Result<Impact> {
        let targets = Arc::new(Targets::of(names.check()?));
        let mut impact = in_memory(&self.0, &targets);
        if let Some(tier) = &self.0.tier {
            in_tier(&self.0, tier, targets, &mut impact).await?;
        }
        Ok(impact)
    }
}

impl Shared {
    /// How many live entries of memory these names touch.
    pub(crate) fn touched_in_memory(&self, names: Vec<Name>) -> u64 {
        in_memory(self, &Targets::of(names)).namespaces.values().map(|touched| touched.memory_entries).sum()
    }
}

/// Names, ready to be asked about many entries.
struct Targets {
    keys: HashSet<Box<[u8]>>,
    tags: HashSet<Box<[u8]>>,
    patterns: Vec<Pattern>,
    everything: bool,
}

impl Targets {
    fn of(names: Vec<Name>) -> Self {
        let mut targets = Targets { keys: HashSet::new(), tags: HashSet::new(), patterns: Vec::new(), everything: false };
        for name in names {
            match name {
                Name::Key(key) => drop(targets.keys.insert(key)),
                Name::Tag(tag) => drop(targets.tags.insert(tag)),
                Name::Pattern(pattern) => targets.patterns.push(pattern),
                Name::Everything => targets.everything = true,
            }
        }
        targets
    }

    fn touch(&self, key: &[u8], tags: &[Box<[u8]>], sources: &[Dependency]) -> bool {
        self.everything || self.touch_one(key, tags) || sources.iter().any(|source| self.touch_one(&source.name, &source.tags))
    }

    fn touch_one(&self, key: &[u8], tags: &[Box<[u8]>]) -> bool {
        self.keys.contains(key)
            || tags.iter().any(|tag| self.tags.contains(tag))
            || self.patterns.iter().any(|pattern| pattern.matches(key))
    }
}

fn namespace(key: &[u8]) -> String {
    String::from_utf8_lossy(namespace_of(key)).into_owned()
}

fn in_memory(shared: &Shared, targets: &Targets) -> Impact {
    let now = shared.clock.refresh();
    let mut impact = Impact::default();
    for pool in shared.pools() {
        for (key, slot) in pool.iter() {
            let (key, meta) = (key.bytes(), slot.meta());
            let is_live = now < meta.times().expires_at && !slot.is_negative();
            if is_live && targets.touch(key, &meta.tags, meta.sources()) && shared.index.judge(meta.named(key), meta.stamp()).is_none() {
                let touched = impact.namespaces.entry(namespace(key)).or_default();
                touched.memory_entries += 1;
                touched.memory_bytes += u64::from(meta.weight);
            }
        }
    }
    impact
}

async fn in_tier(shared: &Arc<Shared>, tier: &Arc<dyn Tier>, targets: Arc<Targets>, impact: &mut Impact) -> Result<()> {
    let found: Arc<Mutex<BTreeMap<String, Touched>>> = Arc::default();
    let look: Keep = {
        let (shared, found, now) = (shared.clone(), found.clone(), shared.clock.now_ms());
        Arc::new(move |key, record| {
            let is_live = now < record.expires_at && !record.negative && !is_reserved(key);
            let sources = sources_of(record.origin.as_deref());
            if is_live && targets.touch(key, &record.tags, sources) && shared.fresh_stamp(key, record).is_some() {
                let mut found = found.lock();
                let touched = found.entry(namespace(key)).or_default();
                touched.backing_entries += 1;
                touched.backing_bytes += (key.len() + record.encoded_len()) as u64;
            }
            // Looking changes nothing.
            true
        })
    };
    let mut from = None;
    loop {
        from = tier.sweep(from, STEP, look.clone()).await?.next;
        if from.is_none() {
            break;
        }
    }
    for (name, there) in std::mem::take(&mut *found.lock()) {
        let touched = impact.namespaces.entry(name).or_default();
        (touched.backing_entries, touched.backing_bytes) = (there.backing_entries, there.backing_bytes);
    }
    Ok(())
}
