//! Taking a backup: the walk through memory and the backing tier, while both are used.
//!
//! ```text
//!   flush      what was accepted before is in the tier's store
//!   position   P := applied; the cut
//!   memory     entries that the tier does not have: of namespaces without it, shed ones, all where there is no tier
//!   tier       every record, page by page
//!   index      the snapshot, when all records are read
//!   manifest   the commit point
//! ```
//!
//! An entry is taken if it is fresh by the index *when it is looked at*, so nothing is taken that is known to be dead. If its stamp is
//! past P it may still be what was there at P: a read raises the stamp of what it found fresh. So it is judged as of P, too: if nothing
//! that it depends on was invalidated since P, it is what a cut at P has, and is stamped P. Otherwise it is a later version, and the cut
//! has none. A lower stamp claims less, and is always safe.
//!
//! P is taken before the walk and the index after it, so that the index knows everything that happened while we looked: an entry that
//! was invalidated after it was taken is dead by the archive's own index.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::archive;
use super::chain;
use super::frame::FRAME_BYTES_MAX;
use super::manifest::{FORMAT, FORMAT_SEALED, Manifest, Parent};
use super::place::{MANIFEST, check_backup_name};
use super::staging::{check_no_restore, restored_since};
use super::writer::{Filling, Segments, Tally, keep_index, keep_key};
use super::{BackupOptions, Place, Watch, blocking, cancelled, cannot_write};
use crate::cache::Shared;
use crate::entry::{Slot, Times, typed};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::Named;
use crate::key::{check_namespace, is_reserved, namespace_of};
use crate::origin::sources_of;
use crate::position::{Position, Stamp};
use crate::record::{Record, RestoreHold};
use crate::tier::{Keep, Tier};

/// Entries of memory looked at in one step, and of those the ones that the tier is asked about at once.
const MEMORY_STEP: usize = 64;

/// Records of the tier looked at in one step, at most. A step cannot be ended early, so it gets shorter where values are large: what
/// it holds is about [`STEP_BYTES`].
const TIER_STEP_MAX: usize = 512;
const STEP_BYTES: usize = 4 << 20;

/// How far before a parent an entry may have been made that came too late for it: it was made, and then stored.
const LATE_MS: u64 = 10_000;

/// What is taken, and what of it there is so far.
struct Cut {
    shared: Arc<Shared>,
    at: Position,
    stamp: Stamp,
    taken_at: u64,
    only: Vec<Box<[u8]>>,
    /// What is stamped after this, or was made after that, is taken; else everything.
    parent: Option<(Stamp, u64)>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    filling: Filling,
    full: Vec<Filling>,
    tally: Tally,
    entries: u64,
    bytes: u64,
    left_out: u64,
}

pub(super) async fn take(shared: &Arc<Shared>, place: Arc<dyn Place>, options: &BackupOptions, watch: Arc<dyn Watch>) -> Result<Manifest> {
    check_backup_name(&options.name)?;
    options.namespaces.iter().try_for_each(|name| check_namespace(name))?;
    let claim = {
        let (place, name) = (place.clone(), options.name.clone());
        blocking(move || place.begin(&name).map_err(|e| cannot_write(&*place, &name, "", e))).await?
    };
    let taking = take_claimed(shared, place.clone(), options, watch).await;
    if taking.is_err() {
        // Room given back early. If that fails it is swept when backups are pruned: without a manifest it is none.
        let name = options.name.clone();
        let removing = blocking(move || place.remove(&name).map_err(|e| cannot_write(&*place, &name, "", e))).await;
        if let Err(error) = removing {
            tracing::warn!(%error, "what was written of a backup that failed is left behind");
        }
    }
    drop(claim);
    taking
}

async fn take_claimed(shared: &Arc<Shared>, place: Arc<dyn Place>, options: &BackupOptions, watch: Arc<dyn Watch>) -> Result<Manifest> {
    let parent = match &options.parent {
        Some(name) => Some(chain::sealed(&place, name).await?),
        None => None,
    };
    // Asked before anything is waited for, and again for the position that counts.
    position(shared)?;
    check_no_restore(shared)?;
    let fuzzy = shared.tier.as_ref().is_some_and(|tier| tier.is_shared());
    if let Some(tier) = &shared.tier {
        watch.at("writing what is queued", 0, None);
        tier.flush().await?;
    }
    let (at, stamp) = position(shared)?;
    // One that begins after this has its name after the position, by which whoever stands on this backup knows of it.
    check_no_restore(shared)?;
    if let Some((parent, _)) = &parent {
        check_parent(parent, at, options)?;
    }
    let stands_on = parent.as_ref().map(|(parent, _)| (Stamp::new(stamp.generation(), parent.position), parent.taken_at_ms));
    // A restore brings old stamps, of which some are below the parent's position and yet not in it. Then everything is what changed.
    let stands_on = stands_on.filter(|(since, _)| !restored_since(&shared.index, *since));
    let cut = Arc::new(Cut {
        shared: shared.clone(),
        at,
        stamp,
        taken_at: shared.clock.refresh(),
        only: options.namespaces.iter().map(|name| name.as_bytes().into()).collect(),
        parent: stands_on,
        taken: Mutex::default(),
    });
    let encryption = match &options.sealer {
        Some(sealer) => Some(keep_key(place.clone(), &options.name, sealer.clone()).await?),
        None => None,
    };
    let mut segments = Segments::begin(place.clone(), &options.name, options.sealer.clone());
    let walked = cut.walk(&mut segments, options, &*watch).await;
    // Also after a failure: who removes what was written must not meet who still writes it.
    let written = segments.finish().await;
    walked?;
    let segments = written?;
    let Taken { tally, entries, bytes, left_out, .. } = std::mem::take(&mut *cut.taken.lock());
    watch.at("keeping the index", entries, None);
    // Before the copy, which is at least as cautious as the index was here.
    let (_, head) = position(shared)?;
    let snapshot = shared.index.snapshot(head.seq());
    // What was made up here meanwhile means nothing to others, and must not be taken for the log's own positions.
    position(shared)?;
    if head.generation() != stamp.generation() || shared.index.position_of(stamp) != Some(at) {
        let message = "the log began another epoch while the backup was taken, so what is in it is stale; take another one";
        return Err(Error::new(ErrorKind::UnknownPosition, message));
    }
    let index = keep_index(place.clone(), &options.name, options.sealer.clone(), snapshot).await?;
    let depth = parent.as_ref().map_or(0, |(parent, _)| parent.depth + 1);
    let manifest = Manifest {
        format: if encryption.is_some() { FORMAT_SEALED } else { FORMAT },
        larder: env!("CARGO_PKG_VERSION").into(),
        name: options.name.clone(),
        epoch: at.epoch.to_string(),
        position: at.seq,
        taken_at_ms: cut.taken_at,
        finished_at_ms: shared.clock.refresh(),
        tier: shared.tier.as_ref().map(|tier| tier.name().to_owned()),
        fuzzy,
        only: options.namespaces.clone(),
        parent: parent.map(|(parent, blake3)| Parent { position: parent.position, name: parent.name, blake3 }),
        depth,
        entries,
        bytes,
        left_out,
        namespaces: tally.into_counts(),
        segments,
        index,
        encryption,
    };
    if watch.is_cancelled() {
        return Err(cancelled("backup"));
    }
    // What a reader would refuse is not written: a sealer may have made more of a file than it may.
    manifest.check(&options.name).map_err(|why| Error::new(ErrorKind::Backup, format!("the backup {} {why}", options.name)))?;
    let (encoded, _) = manifest.encode()?;
    let name = options.name.clone();
    blocking(move || place.put(&name, MANIFEST, &encoded).map_err(|e| cannot_write(&*place, &name, MANIFEST, e))).await?;
    Ok(manifest)
}

/// Where the cut is. Not at what was made up here while the log that is shared with others could not be reached.
fn position(shared: &Shared) -> Result<(Position, Stamp)> {
    let stamp = shared.index.applied();
    let unknown =
        || Error::new(ErrorKind::LogUnavailable, "the log that is shared with others cannot be reached now: what it has is not known");
    let position = shared.index.position_of(stamp).filter(|position| shared.index.has_applied(*position));
    Ok((position.ok_or_else(unknown)?, stamp))
}

fn check_parent(parent: &Manifest, at: Position, options: &BackupOptions) -> Result<()> {
    if parent.epoch() != at.epoch {
        let message =
            format!("the backup \"{}\" is of another epoch of the log, so what changed since is not known: take a full one", parent.name);
        return Err(Error::new(ErrorKind::UnknownPosition, message));
    }
    if parent.position > at.seq {
        let message = format!(
            "the backup \"{}\" knows position {} of this log, which has only got to {}: take a full one",
            parent.name, parent.position, at.seq
        );
        return Err(Error::new(ErrorKind::UnknownPosition, message));
    }
    if parent.depth >= super::manifest::CHAIN_MAX {
        let message = format!("\"{}\" stands on {} others, which is the most there can be: take a full one", parent.name, parent.depth);
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    if parent.only != options.namespaces {
        let message = format!("the backup \"{}\" has other namespaces, and only the same ones can stand on it", parent.name);
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(())
}

impl Cut {
    async fn walk(self: &Arc<Self>, segments: &mut Segments, options: &BackupOptions, watch: &dyn Watch) -> Result<()> {
        self.walk_memory(segments, options, watch).await?;
        if let Some(tier) = &self.shared.tier {
            self.walk_tier(tier, segments, options, watch).await?;
        }
        let last = std::mem::take(&mut self.taken.lock().filling);
        segments.send(last).await
    }

    async fn walk_memory(&self, segments: &mut Segments, options: &BackupOptions, watch: &dyn Watch) -> Result<()> {
        let of = self.shared.entries_in_memory();
        let mut seen = 0;
        for pool in self.shared.pools() {
            let mut entries = pool.iter();
            loop {
                let mut asked: Vec<(Box<[u8]>, Record, Stamp)> = Vec::new();
                let mut left = MEMORY_STEP;
                for (key, slot) in entries.by_ref().take(MEMORY_STEP) {
                    left -= 1;
                    let key = key.bytes();
                    let Some((record, stamp)) = self.record_of(key, &slot) else { continue };
                    if self.is_backed(key) { asked.push((key.into(), record, stamp)) } else { self.keep(key, &record, stamp) }
                }
                self.keep_what_the_tier_lacks(asked).await?;
                seen += (MEMORY_STEP - left) as u64;
                watch.at("memory", seen, Some(of.max(seen)));
                self.after_a_step(segments, options, watch).await?;
                if left > 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the entries of a key's namespace are in the tier, too. One that is shared is what they all have: there, memory's are copies.
    fn is_backed(&self, key: &[u8]) -> bool {
        self.shared.tier.is_some() && self.shared.space_of(key).policy.backing
    }

    async fn keep_what_the_tier_lacks(&self, asked: Vec<(Box<[u8]>, Record, Stamp)>) -> Result<()> {
        let Some(tier) = self.shared.tier.as_ref().filter(|tier| !asked.is_empty() && !tier.is_shared()) else { return Ok(()) };
        let found = tier.get_many(asked.iter().map(|(key, ..)| key.clone()).collect()).await?;
        for ((key, record, stamp), there) in asked.into_iter().zip(found) {
            let has_it = there.is_some_and(|there| {
                (there.fingerprint, there.created_at) == (record.fingerprint, record.created_at)
                    && self.shared.fresh_for_good(&key, &there).is_some()
            });
            if !has_it {
                self.keep(&key, &record, stamp);
            }
        }
        Ok(())
    }

    async fn walk_tier(
        self: &Arc<Self>,
        tier: &Arc<dyn Tier>,
        segments: &mut Segments,
        options: &BackupOptions,
        watch: &dyn Watch,
    ) -> Result<()> {
        let look: Keep = {
            let cut = self.clone();
            Arc::new(move |key, record| {
                let is_seen = !record.negative && !record.is_held();
                if is_seen && cut.is_wanted(key) && cut.shared.clock.now_ms() < record.expires_at {
                    // One of another epoch is stale, and has no stamp.
                    if let Some(stamp) = cut.shared.index.stamp_of_record(Position { epoch: record.epoch, seq: record.seq }) {
                        cut.keep(key, record, stamp);
                    }
                }
                true
            })
        };
        let of = tier.stats().entries;
        let (mut from, mut seen, mut step) = (None, 0, 16);
        loop {
            let before = self.taken.lock().bytes;
            let page = tier.sweep(from, step, look.clone()).await?;
            let bytes = self.taken.lock().bytes - before;
            step = if bytes > STEP_BYTES as u64 { (step / 2).max(1) } else { (step * 2).min(TIER_STEP_MAX) };
            seen += page.examined;
            watch.at("the backing tier", seen, (of > 0).then(|| of.max(seen)));
            self.after_a_step(segments, options, watch).await?;
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Hands over what is full, and lets others work.
    async fn after_a_step(&self, segments: &mut Segments, options: &BackupOptions, watch: &dyn Watch) -> Result<()> {
        if watch.is_cancelled() {
            return Err(cancelled("backup"));
        }
        let full = std::mem::take(&mut self.taken.lock().full);
        if full.is_empty() {
            tokio::task::yield_now().await;
        }
        for frame in full {
            segments.send(frame).await?;
            tokio::time::sleep(options.pause).await;
        }
        Ok(())
    }

    fn is_wanted(&self, key: &[u8]) -> bool {
        !is_reserved(key) && (self.only.is_empty() || self.only.iter().any(|only| **only == *namespace_of(key)))
    }

    /// An entry of memory as a record, if it is one to look closer at.
    fn record_of(&self, key: &[u8], slot: &Arc<dyn Slot>) -> Option<(Record, Stamp)> {
        let (meta, stamp) = (slot.meta(), slot.meta().stamp());
        let Times { created_at, fresh_until, expires_at } = meta.times();
        if slot.is_negative()
            || !self.is_wanted(key)
            || self.shared.clock.now_ms() >= expires_at
            || stamp.generation() != self.stamp.generation()
        {
            return None;
        }
        let (payload, codec) = match typed::<Bytes>(slot.clone()) {
            Some(entry) => (entry.value.clone(), meta.codec),
            None => match self.shared.space_of(key).encode(slot)? {
                Ok((bytes, codec)) => (bytes, codec as u8),
                Err(error) => {
                    tracing::warn!(key = %key.escape_ascii(), %error, "an entry cannot be encoded and is left out of the backup");
                    self.taken.lock().left_out += 1;
                    return None;
                }
            },
        };
        let record = Record {
            epoch: self.at.epoch,
            seq: stamp.seq(),
            created_at,
            fresh_until,
            expires_at,
            stale_while_revalidate: meta.life.stale_while_revalidate,
            stale_if_error: meta.life.stale_if_error,
            load_cost_us: meta.load_cost_us,
            fingerprint: slot.fingerprint(),
            codec,
            compression: 0,
            negative: false,
            raw_len: payload.len() as u32,
            held: Default::default(),
            tags: meta.tags.clone(),
            media: meta.media.clone(),
            origin: meta.origin_now(),
            payload,
        };
        Some((record, stamp))
    }

    /// Takes an entry, if it belongs to the cut.
    fn keep(&self, key: &[u8], record: &Record, stamp: Stamp) {
        let Some(seq) = self.seq_in_cut(key, record, stamp) else { return };
        let len = archive::encoded_len(key, record);
        let mut taken = self.taken.lock();
        if len > FRAME_BYTES_MAX / 2 {
            tracing::warn!(key = %key.escape_ascii(), len, "an entry is too large for a backup and is left out");
            taken.left_out += 1;
            return;
        }
        archive::encode(key, record, seq, self.taken_at, &mut taken.filling.bytes);
        taken.filling.entries += 1;
        taken.entries += 1;
        taken.bytes += len as u64;
        taken.tally.add(namespace_of(key), len as u64);
        if taken.filling.is_full() {
            let full = std::mem::take(&mut taken.filling);
            taken.full.push(full);
        }
    }

    /// With which stamp an entry is in the cut, if it is.
    fn seq_in_cut(&self, key: &[u8], record: &Record, stamp: Stamp) -> Option<u64> {
        let index = &self.shared.index;
        let sources = sources_of(record.origin.as_deref());
        let hashes = index.hashes_from(key, &record.tags, sources);
        let fresh = |stamp| index.judge_for_good(Named { key, hashes: &hashes, sources }, stamp).is_none();
        if !fresh(stamp) || (stamp > self.stamp && !fresh(self.stamp)) {
            return None;
        }
        // What a restore brought came with an old stamp, perhaps while the parent was taken.
        let is_restored = record.held == RestoreHold::Over;
        let changed =
            |(since, taken_at): (Stamp, u64)| is_restored || record.created_at.saturating_add(LATE_MS) >= taken_at || !fresh(since);
        self.parent.is_none_or(changed).then(|| stamp.min(self.stamp).seq())
    }
}
