//! Restoring: verify, hold, judge and write, let go.
//!
//! ```text
//!   thread   manifest and chain -> verify all of it -> segments, newest backup first -> frames --channel of two-->
//!   task     records -> filters -> rename -> judge -> life -> what is there already -> batches to the tier, or into memory
//! ```
//!
//! Nothing of the cache is touched before all of the archive was read and found whole. It is read twice for that: a segment that changes
//! in between is found by its digest again, before any of it is used.
//!
//! Entries are written as any other writer's are, under their own stamps: the tier and memory refuse what is older than what they have,
//! whoever gets there first, so a put that runs meanwhile wins in every order.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use super::archive::{self, Kept};
use super::chain::Chain;
use super::frame::bad;
use super::judge::Judge;
use super::manifest::NAMESPACES_MAX;
use super::staging::{Holding, Of, Running, epoch_ended};
use super::{Place, Present, RestoreOptions, Ttl, Watch, blocking, cancelled, chain, source, verify};
use crate::cache::{Larder, Shared};
use crate::entry::Slot;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KEY_LEN_MAX, Tags, check_namespace, is_reserved, namespace_of};
use crate::metrics::Count;
use crate::origin::sources_of;
use crate::pattern::Pattern;
use crate::position::Stamp;
use crate::record::{Record, RestoreHold};
use crate::space::Space;
use crate::tier::memory::Inserted;
use crate::tier::{Action, Outcome, Tier, Wait, Write};

/// Frames under way between the thread that reads and the task that writes.
const UNDER_WAY: usize = 2;

/// Entries that are looked up and written together, at most, and bytes of theirs: values may be large.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// Keys of newer backups of a chain that are remembered, so that older ones do not restore them, too: 64 MB of hashes. Beyond, the older
/// version may come in its place, which is as fresh; only the counts are off then.
const REMEMBERED_MAX: usize = 8 << 20;

/// How long a restore waits to hear what others appended before it.
const CAUGHT_UP_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What became of the entries of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// The backup and those it stands on, the newest first.
    pub backups: Vec<String>,
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Entries that were written, or would be.
    pub restored: u64,
    /// Bytes of their keys and payloads.
    pub bytes: u64,
    /// Left alone: not in the namespaces that were asked for, or not matching the pattern.
    pub skipped_unasked: u64,
    /// Left alone: a newer backup of the chain has the key.
    pub skipped_superseded: u64,
    /// Left alone: what is there reflects more.
    pub skipped_newer: u64,
    /// Left alone: there is a live entry, and it was to be kept.
    pub skipped_present: u64,
    /// Left alone: larger than the namespace takes, or the key would be too long by its new name.
    pub skipped_too_large: u64,
    /// Not restored: something that they depend on was invalidated after they were stamped.
    pub dead_invalidated: u64,
    /// Not restored: their time is over.
    pub dead_expired: u64,
    /// The same by namespace, of what was restored or is dead, under the name it is restored as; the first 4,096.
    pub namespaces: BTreeMap<String, NamespaceRestored>,
}

/// What became of the entries of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct NamespaceRestored {
    /// Entries that were written, or would be.
    pub restored: u64,
    /// Entries that were left alone because of what is there, or because they are too large.
    pub skipped: u64,
    /// Entries that were invalidated, or whose time is over.
    pub dead: u64,
}

impl Restored {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Restored(bytes) => (self.restored, self.bytes) = (self.restored + 1, self.bytes + bytes),
            Fate::Newer => self.skipped_newer += 1,
            Fate::Present => self.skipped_present += 1,
            Fate::TooLarge => self.skipped_too_large += 1,
            Fate::Invalidated => self.dead_invalidated += 1,
            Fate::Expired => self.dead_expired += 1,
        }
    }
}

impl NamespaceRestored {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Restored(_) => self.restored += 1,
            Fate::Newer | Fate::Present | Fate::TooLarge => self.skipped += 1,
            Fate::Invalidated | Fate::Expired => self.dead += 1,
        }
    }
}

/// What became of one entry.
#[derive(Clone, Copy)]
enum Fate {
    Restored(u64),
    Newer,
    Present,
    TooLarge,
    Invalidated,
    Expired,
}

pub(super) async fn restore(larder: &Larder, place: Arc<dyn Place>, options: &RestoreOptions, watch: Arc<dyn Watch>) -> Result<Restored> {
    let shared = &larder.0;
    let asked = Asked::of(options)?;
    let running = Running::begin(shared)?;
    let chain = {
        let (place, name, watch, opener) = (place.clone(), options.name.clone(), watch.clone(), options.opener.clone());
        blocking(move || {
            let chain = chain::load(&*place, &name, opener.as_deref())?;
            chain.check_open()?;
            verify::verify_chain(&*place, &chain, &*watch)?;
            Ok(Arc::new(chain))
        })
        .await?
    };
    if shared.log.is_shared() {
        shared.caught_up(CAUGHT_UP_WITHIN).await;
    }
    let judge = Judge::of(shared, place.clone(), &chain[0], options).await?;
    let of = Of::restore(options, &chain[0], judge.judged());
    let hold = if options.dry_run { None } else { Some(running.hold(asked.targets(&chain), of, options).await?) };
    let restored =
        Restored { backups: chain.iter().map(|manifest| manifest.name.clone()).collect(), dry_run: options.dry_run, ..Restored::default() };
    let (by_namespace, superseded) = (HashMap::default(), HashSet::default());
    let mut restoring = Restoring {
        shared: shared.clone(),
        options,
        asked,
        judge,
        hold,
        restored,
        by_namespace,
        superseded,
        space: None,
        batch: Batch::default(),
    };
    if let Err(error) = restoring.all(&running, place, &chain, &watch).await {
        if let Some(holding) = restoring.hold.filter(|holding| restoring.restored.restored == 0 && !holding.goes_on)
            && let Err(error) = running.let_go_unused(&holding).await
        {
            // Nothing was written, so there would be nothing to hold.
            tracing::warn!(%error, "a restore that wrote nothing is held all the same: run it again, or give it up");
        }
        return Err(error);
    }
    if let Some(holding) = restoring.hold {
        watch.at("letting it be seen", restoring.restored.restored, None);
        running.publish(holding, options.present == Present::Replace).await?;
    }
    let namespaces = restoring.by_namespace.iter().map(|(name, counts)| (name.escape_ascii().to_string(), *counts)).collect();
    Ok(Restored { namespaces, ..restoring.restored })
}

/// A namespace's name.
type Name = Box<[u8]>;

/// The filters, checked.
struct Asked {
    namespaces: Vec<Name>,
    pattern: Option<Pattern>,
    rename: Vec<(Name, Name)>,
}

impl Asked {
    fn of(options: &RestoreOptions) -> Result<Self> {
        let names = options.namespaces.iter().chain(options.rename.iter().flat_map(|(from, to)| [from, to]));
        names.into_iter().try_for_each(|name| check_namespace(name))?;
        for (at, (from, _)) in options.rename.iter().enumerate() {
            if options.rename[..at].iter().any(|(other, _)| other == from) {
                return Err(Error::new(ErrorKind::InvalidConfig, format!("the namespace \"{from}\" cannot get two names")));
            }
        }
        let bytes = |name: &String| -> Box<[u8]> { name.as_bytes().into() };
        Ok(Asked {
            namespaces: options.namespaces.iter().map(bytes).collect(),
            pattern: options.pattern.as_deref().map(Pattern::new).transpose()?,
            rename: options.rename.iter().map(|(from, to)| (bytes(from), bytes(to))).collect(),
        })
    }

    fn has(&self, key: &[u8]) -> bool {
        let of_namespace = self.namespaces.is_empty() || self.namespaces.iter().any(|name| **name == *namespace_of(key));
        of_namespace && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(key)) && !is_reserved(key)
    }

    fn renamed<'a>(&'a self, namespace: &'a [u8]) -> &'a [u8] {
        self.rename.iter().find(|(from, _)| **from == *namespace).map_or(namespace, |(_, to)| to)
    }

    /// A key by its new name, where it gets one. `None`: it would be too long.
    fn target<'a>(&self, key: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if self.rename.is_empty() {
            return Some(Cow::Borrowed(key));
        }
        let namespace = namespace_of(key);
        let target = [self.renamed(namespace), &key[namespace.len()..]].concat();
        (target.len() <= KEY_LEN_MAX).then_some(Cow::Owned(target))
    }

    /// The namespaces that may be written to; `None`: any.
    fn targets(&self, chain: &Chain) -> Option<Vec<Box<[u8]>>> {
        let mut names: Vec<Box<[u8]>> = if self.namespaces.is_empty() {
            // One that has more than it can name may have any.
            let of_each: Option<Vec<_>> = chain.iter().map(|manifest| manifest.all_namespaces()).collect();
            of_each?.into_iter().flatten().collect()
        } else {
            self.namespaces.clone()
        };
        names.iter_mut().for_each(|name| *name = self.renamed(name).into());
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

/// A restore under way.
struct Restoring<'a> {
    shared: Arc<Shared>,
    options: &'a RestoreOptions,
    asked: Asked,
    judge: Judge,
    /// `None`: nothing is written.
    hold: Option<Holding>,
    restored: Restored,
    by_namespace: HashMap<Name, NamespaceRestored, foldhash::fast::RandomState>,
    superseded: HashSet<u64, foldhash::fast::RandomState>,
    /// Of the entry before, with its name.
    space: Option<(Name, Arc<Space>)>,
    batch: Batch,
}

/// What is written next.
#[derive(Default)]
struct Batch {
    ready: Vec<Ready>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, ready: Ready) {
        self.bytes += ready.key.len() + ready.record.payload.len();
        self.ready.push(ready);
    }

    fn is_full(&self) -> bool {
        self.ready.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// An entry that is to be written.
struct Ready {
    key: Box<[u8]>,
    record: Record,
    stamp: Stamp,
    /// When its value was made, which a new life does not change.
    made_at: u64,
    is_backed: bool,
}

impl Ready {
    /// Whether what is there is to stay: it reflects more; or as much, and was made later.
    fn is_older(&self, stamp: Stamp, created_at: u64) -> bool {
        (stamp, created_at) > (self.stamp, self.made_at)
    }
}

impl Restoring<'_> {
    async fn all(&mut self, running: &Running, place: Arc<dyn Place>, chain: &Arc<Chain>, watch: &Arc<dyn Watch>) -> Result<()> {
        let of: u64 = chain.iter().map(|manifest| manifest.entries).sum();
        let mut done = 0;
        for at in 0..chain.len() {
            let remember = at + 1 < chain.len();
            let (frames, mut coming) = mpsc::channel::<(String, u64, Bytes)>(UNDER_WAY);
            let (place, reading) = (place.clone(), chain.clone());
            let thread = tokio::task::spawn_blocking(move || {
                let manifest = &reading[at];
                (1..=manifest.segments.len()).try_for_each(|number| {
                    source::segment(&*place, manifest, number, &mut |file, offset, frame| {
                        // Nobody waits for more only when the restore failed, which says why.
                        frames.blocking_send((file.to_owned(), offset, frame)).map_err(|_| cancelled("restore"))
                    })
                })
            });
            while let Some((file, offset, frame)) = coming.recv().await {
                let mut frame = &*frame;
                while !frame.is_empty() {
                    let kept = archive::take(&mut frame, chain[at].position).map_err(|why| bad(&file, offset, why))?;
                    done += 1;
                    self.one(kept, chain[at].taken_at_ms, remember);
                    if self.batch.is_full() {
                        self.write(running).await?;
                    }
                }
                watch.at(if self.hold.is_some() { "restoring" } else { "counting" }, done, Some(of));
                if watch.is_cancelled() {
                    return Err(cancelled("restore"));
                }
                tokio::task::yield_now().await;
            }
            let ended = |e| Err(Error::new(ErrorKind::Closed, "the runtime was shut down while a backup was restored").with_source(e));
            thread.await.unwrap_or_else(ended)?;
            self.write(running).await?;
        }
        if self.shared.index.latest().generation() != self.judge.generation() {
            return Err(epoch_ended());
        }
        if let Some(holding) = &self.hold {
            watch.at("making it durable", self.restored.restored, None);
            running.complete(holding).await?;
        }
        Ok(())
    }

    /// Decides about one entry, as far as that can be done without looking at what is there.
    fn one(&mut self, kept: Kept<'_>, taken_at: u64, remember: bool) {
        if self.is_superseded(kept.key, remember) {
            self.restored.skipped_superseded += 1;
            return;
        }
        if !self.asked.has(kept.key) {
            self.restored.skipped_unasked += 1;
            return;
        }
        let Some(key) = self.asked.target(kept.key) else { return self.count(kept.key, Fate::TooLarge) };
        let tags: Tags = kept.tags().map(Box::from).collect();
        let Some(stamp) = self.judge.stamp(&kept, &tags, &key) else { return self.count(&key, Fate::Invalidated) };
        // Only an epoch that ended has no position, and then everything is stale.
        let Some(position) = self.judge.position_of(stamp) else { return self.count(&key, Fate::Invalidated) };
        let space = self.space_of(&key);
        if kept.raw_len as usize > space.policy.value_bytes_max {
            return self.count(&key, Fate::TooLarge);
        }
        let Some((created_at, fresh_until, expires_at)) = self.times(&kept, taken_at, &space.policy) else {
            return self.count(&key, Fate::Expired);
        };
        let is_backed = self.shared.tier.is_some() && space.policy.backing;
        let made_at = taken_at.saturating_sub(kept.age);
        // A small payload must not keep the mebibyte alive that it was read from.
        let payload = Bytes::copy_from_slice(kept.payload);
        let key = key.as_ref().into();
        let record = Record {
            epoch: position.epoch,
            seq: position.seq,
            created_at,
            fresh_until,
            expires_at,
            stale_while_revalidate: kept.stale_while_revalidate,
            stale_if_error: kept.stale_if_error,
            load_cost_us: kept.load_cost_us,
            fingerprint: kept.fingerprint,
            codec: kept.codec,
            compression: kept.compression,
            negative: false,
            raw_len: kept.raw_len,
            held: Default::default(),
            tags,
            media: kept.media,
            origin: kept.origin,
            payload,
        };
        self.batch.push(Ready { key, record, stamp, made_at, is_backed });
    }

    /// Whether a newer backup of the chain had the key. Those that are to be remembered are.
    fn is_superseded(&mut self, key: &[u8], remember: bool) -> bool {
        if !remember && self.superseded.is_empty() {
            return false;
        }
        let hash = xxh3_64(key);
        let is_known = self.superseded.contains(&hash);
        if remember && self.superseded.len() < REMEMBERED_MAX {
            self.superseded.insert(hash);
        }
        is_known
    }

    /// The space of a key: mostly that of the one before.
    fn space_of(&mut self, key: &[u8]) -> Arc<Space> {
        let name = namespace_of(key);
        match &self.space {
            Some((last, space)) if **last == *name => space.clone(),
            _ => {
                let space = self.shared.space_of(key);
                self.space = Some((name.into(), space.clone()));
                space
            }
        }
    }

    /// When an entry was made, stops being fresh, and ends. `None`: that is over.
    fn times(&self, kept: &Kept<'_>, taken_at: u64, policy: &crate::config::Policy) -> Option<(u64, u64, u64)> {
        let now = self.shared.clock.now_ms();
        // Where this clock is behind the one of then, the time in between is not known, and life does not get longer by it.
        let then = taken_at.min(now);
        let (fresh_until, expires_at) = match self.options.ttl {
            Ttl::Ignore => policy.life(&Default::default(), now).ok()?.times(now),
            Ttl::Keep => ends_from(kept, then),
            Ttl::Shift => ends_from(kept, now),
        };
        // A longer life makes nothing younger: another restore must still find which of two values was made later.
        let created_at = then.saturating_sub(kept.age);
        (now < expires_at).then_some((created_at, fresh_until, expires_at))
    }

    fn count(&mut self, key: &[u8], fate: Fate) {
        self.restored.add(fate);
        let name = namespace_of(key);
        if let Some(counts) = self.by_namespace.get_mut(name) {
            counts.add(fate);
        } else if self.by_namespace.len() < NAMESPACES_MAX {
            self.by_namespace.entry(name.into()).or_default().add(fate);
        }
    }

    /// Writes what is ready.
    async fn write(&mut self, running: &Running) -> Result<()> {
        if let Some(holding) = &self.hold {
            running.check_held(holding).await?;
        }
        let batch = std::mem::take(&mut self.batch);
        let (backed, in_memory): (Vec<Ready>, Vec<Ready>) = batch.ready.into_iter().partition(|ready| ready.is_backed);
        for ready in in_memory {
            let (key, fate) = (ready.key.clone(), self.write_to_memory(ready));
            self.count(&key, fate);
        }
        if let Some(tier) = self.shared.tier.clone().filter(|_| !backed.is_empty()) {
            self.write_to_tier(&*tier, backed).await?;
        }
        Ok(())
    }

    async fn write_to_tier(&mut self, tier: &dyn Tier, batch: Vec<Ready>) -> Result<()> {
        let there = tier.get_many(batch.iter().map(|ready| ready.key.clone()).collect()).await?;
        let mut writes = Vec::with_capacity(batch.len());
        for (ready, there) in batch.into_iter().zip(there) {
            let (now, key) = (self.shared.clock.now_ms(), &ready.key);
            let live = there
                .as_ref()
                .is_some_and(|there| !there.negative && now < there.expires_at && self.shared.fresh_for_good(key, there).is_some());
            let as_new = |there: &Record| live && is_newer(there, &ready);
            let fate = match self.options.present {
                Present::KeepPresent if live || self.is_live_in_memory(key) => Fate::Present,
                Present::KeepNewer if there.as_ref().is_some_and(|there| there.outranks(&ready.record) || as_new(there)) => Fate::Newer,
                // Not the same one, whose stamp there a read may have raised: the tier may lack it.
                Present::KeepNewer if self.is_newer_in_memory(&ready, true) => Fate::Newer,
                _ => Fate::Restored((key.len() + ready.record.payload.len()) as u64),
            };
            self.count(key, fate);
            // The very same, which readers see already, stays in sight.
            let is_seen = live && there.as_ref().is_some_and(|there| is_same(there, &ready));
            let Ready { key, mut record, stamp, .. } = ready;
            if let (Fate::Restored(_), Some(Holding { below, position, shared: hold, .. })) = (fate, &self.hold) {
                let (below, position) = (*below, *position);
                record.held = hold.as_ref().filter(|_| !is_seen).map_or(RestoreHold::None, |hold| RestoreHold::By(hold.number));
                let replaces = self.options.present == Present::Replace;
                // What memory has would be found first. Not what is newer than the restore.
                let space = self.shared.space_of(&key);
                let upto = if replaces { below } else { stamp };
                space.pool().remove_up_to(space.pool().query(&key), upto, Count::Replaced);
                if replaces {
                    writes.push(Write { key: key.clone(), action: Action::RemoveUpTo(position) });
                }
                writes.push(Write { key, action: Action::Store(Arc::new(record)) });
            }
        }
        self.hand_over(tier, writes).await
    }

    async fn hand_over(&self, tier: &dyn Tier, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let outcome = match tier.write(writes.clone(), Wait::Accepted).await {
            // Its queue stayed full. Nobody is in a hurry here: it is written out, and then there is room.
            Err(error) if error.kind() == ErrorKind::Overloaded => {
                tier.flush().await?;
                tier.write(writes, Wait::Accepted).await
            }
            outcome => outcome,
        };
        match outcome? {
            Outcome::Accepted | Outcome::Durable => Ok(()),
            Outcome::Shed => Err(Error::new(ErrorKind::Tier, "the backing tier takes no writes now; run the restore again when it does")),
        }
    }

    /// Whether memory has one that is live, and newer; `another`: and was made later.
    fn is_newer_in_memory(&self, ready: &Ready, another: bool) -> bool {
        self.live_in_memory(&ready.key).is_some_and(|slot| {
            let (stamp, created_at) = (slot.meta().stamp(), slot.meta().times().created_at);
            ready.is_older(stamp, created_at) && (!another || created_at > ready.made_at)
        })
    }

    fn is_live_in_memory(&self, key: &[u8]) -> bool {
        self.live_in_memory(key).is_some()
    }

    /// What memory has of a key, if that may be served.
    fn live_in_memory(&self, key: &[u8]) -> Option<Arc<dyn Slot>> {
        let space = self.shared.space_of(key);
        let there = space.pool().peek(space.pool().query(key));
        there.filter(|slot| {
            let meta = slot.meta();
            let in_time = self.shared.clock.now_ms() < meta.times().expires_at && !slot.is_negative();
            in_time && self.shared.index.judge_for_good(meta.named(key), meta.stamp()).is_none()
        })
    }

    /// Where there is no tier behind the namespace.
    fn write_to_memory(&self, ready: Ready) -> Fate {
        let newer = self.options.present == Present::KeepNewer && self.is_newer_in_memory(&ready, false);
        let Ready { key, record, stamp, .. } = ready;
        let bytes = (key.len() + record.payload.len()) as u64;
        let view = self.shared.raw_view(&key);
        let pool = view.space.pool();
        let query = pool.query(&key);
        if self.options.present == Present::KeepPresent && self.is_live_in_memory(&key) {
            return Fate::Present;
        }
        if newer {
            return Fate::Newer;
        }
        // Without a hold it is only counted.
        let Some(below) = self.hold.as_ref().map(|hold| hold.below) else { return Fate::Restored(bytes) };
        // Its hashes are of the names' seed in force, and so is its stamp: one that is of an epoch that ended is stale by itself.
        let hashes = self.shared.index.hashes_from(&key, &record.tags, sources_of(record.origin.as_deref()));
        let entry = match view.entry_of(&key, record, stamp, hashes) {
            Ok(entry) => entry,
            Err(error) => {
                view.could_not_read(&key, &error);
                return Fate::TooLarge;
            }
        };
        // What is stale is in nobody's way, whatever its stamp.
        if self.options.present == Present::Replace || !self.is_live_in_memory(&key) {
            pool.remove_up_to(query, below, Count::Replaced);
        }
        match pool.insert(query, entry) {
            Inserted::Yes => Fate::Restored(bytes),
            Inserted::Outranked => Fate::Newer,
            Inserted::TooLarge => Fate::TooLarge,
        }
    }
}

/// Whether a record reflects as much as what is to be restored, and was made later.
fn is_newer(there: &Record, ready: &Ready) -> bool {
    (there.epoch, there.seq) == (ready.record.epoch, ready.record.seq) && there.created_at > ready.made_at
}

/// Whether a record is what is to be restored, and no restore holds it.
fn is_same(there: &Record, ready: &Ready) -> bool {
    let same = (there.epoch, there.seq, there.fingerprint) == (ready.record.epoch, ready.record.seq, ready.record.fingerprint);
    same && !there.is_held() && there.created_at == ready.made_at
}

/// When an entry stops being fresh, and ends, whose spans of time are reckoned from a moment.
fn ends_from(kept: &Kept<'_>, from: u64) -> (u64, u64) {
    (from.saturating_add(kept.fresh_for), from.saturating_add(kept.lives_for))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_by_entries_or_by_bytes() {
        let ready = |bytes: usize| {
            let record = Record {
                epoch: crate::position::Epoch(7),
                seq: 1,
                created_at: 5,
                fresh_until: u64::MAX,
                expires_at: u64::MAX,
                stale_while_revalidate: 0,
                stale_if_error: 0,
                load_cost_us: 0,
                fingerprint: 0,
                codec: 0,
                compression: 0,
                negative: false,
                raw_len: bytes as u32,
                held: Default::default(),
                tags: Box::default(),
                media: None,
                origin: None,
                payload: vec![0; bytes].into(),
            };
            Ready { key: b"a:1".as_slice().into(), record, stamp: Stamp::new(1, 1), made_at: 5, is_backed: true }
        };
        let full_after = |bytes: usize| {
            let mut batch = Batch::default();
            (1..).find(|_| {
                batch.push(ready(bytes));
                batch.is_full()
            })
        };
        assert_eq!((full_after(1), full_after(1 << 20), full_after(64 << 20)), (Some(BATCH), Some(4), Some(1)));
        let of = ready(1);
        assert!(of.is_older(Stamp::new(1, 2), 0) && of.is_older(Stamp::new(1, 1), 6));
        assert!(!of.is_older(Stamp::new(1, 1), 5) && !of.is_older(Stamp::new(1, 0), 9), "the same stays as it comes");
    }
}
